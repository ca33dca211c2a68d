//! Previews (Thumbnail Managing Standard): PNG files whose text `Thumb::URI` names the file that they show. Those that
//! could not be made have such a file, too.

use std::fs::File;
use std::io::{self, BufReader, Read};

use super::files::Found;
use super::places::Places;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const KEYWORD: &[u8] = b"Thumb::URI\0";

/// Longest text that is read, bytes. A URI is at most three times as long as the longest path.
const TEXT_LEN_MAX: u32 = 1 << 14;

/// Most chunks that are looked at: each has a header of 12 bytes.
const CHUNKS_MAX: u32 = 1 << 12;

/// Returns whether a preview shows a file of the places.
pub(super) fn is_of(found: &Found<'_>, places: &Places) -> io::Result<bool> {
    match uri(&found.file) {
        Ok(uri) => Ok(uri.is_some_and(|uri| places.hold_uri(&uri))),
        // It is damaged, or is being written just now.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn uri(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut file = BufReader::with_capacity(1 << 12, file);
    let mut signature = [0; 8];
    file.read_exact(&mut signature)?;
    if signature != SIGNATURE {
        return Ok(None);
    }
    for _ in 0..CHUNKS_MAX {
        let (mut len, mut kind) = ([0; 4], [0; 4]);
        file.read_exact(&mut len)?;
        file.read_exact(&mut kind)?;
        let len = u32::from_be_bytes(len);
        let mut unread = i64::from(len) + 4;
        if [b"tEXt", b"iTXt"].contains(&&kind) && len <= TEXT_LEN_MAX {
            let mut data = vec![0; usize::try_from(len).unwrap_or_default()];
            file.read_exact(&mut data)?;
            unread = 4;
            if let Some(text) = data.strip_prefix(KEYWORD) {
                let text = if kind == *b"tEXt" { Some(text) } else { international(text) };
                return Ok(text.map(<[u8]>::to_vec));
            }
        }
        if kind == *b"IEND" {
            return Ok(None);
        }
        file.seek_relative(unread)?;
    }
    Ok(None)
}

/// Returns the text of an `iTXt` chunk: behind two bytes that say whether it is compressed, which no program does with
/// URIs, a language and a translated keyword.
fn international(data: &[u8]) -> Option<&[u8]> {
    let mut parts = data.strip_prefix(b"\0")?.get(1..)?.splitn(3, |&byte| byte == 0);
    parts.nth(2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsStr;

    use super::super::files::Folder;
    use super::*;

    fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
        [&u32::try_from(data.len()).unwrap().to_be_bytes(), kind, data, b"crc!"].concat()
    }

    fn text(kind: &[u8], begin: &[u8]) -> Vec<u8> {
        chunk(kind, &[begin, b"file:///home/a/Vault/x.png"].concat())
    }

    fn is_found(parts: &[&[u8]]) -> bool {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("x.png"), parts.concat()).unwrap();
        let folder = Folder::at(home.path()).unwrap().unwrap();
        let found = folder.open(OsStr::new("x.png").to_owned()).unwrap().unwrap();
        is_of(&found, &Places::new("/home/a".as_ref(), &["/home/a/Vault".into()])).unwrap()
    }

    #[test]
    fn the_text_is_found_wherever_it_stands_in_a_picture() {
        let head = [SIGNATURE, &chunk(b"IHDR", &[0; 13])].concat();
        let (end, pixels) = (chunk(b"IEND", b""), chunk(b"IDAT", &[7; 100_000]));
        for text in [text(b"tEXt", b"Thumb::URI\0"), text(b"iTXt", b"Thumb::URI\0\0\0de\0Adresse\0")] {
            assert!(is_found(&[&head, &text, &pixels, &end]));
            assert!(is_found(&[&head, &pixels, &text, &end]));
            assert!(is_found(&[&head, &chunk(b"tEXt", b"Software\0x"), &text, &end]));
            assert!(!is_found(&[&head, &pixels, &end, &text]), "that is not of the picture");
        }
        assert!(!is_found(&[&head, &text(b"tEXt", b"Thumb::URI2\0"), &end]));
        assert!(!is_found(&[&head, &text(b"iTXt", b"Thumb::URI\0\x01\0\0\0"), &end]));
    }

    #[test]
    fn a_damaged_picture_does_no_harm() {
        let whole = [SIGNATURE, &chunk(b"IHDR", &[0; 13]), &text(b"tEXt", b"Thumb::URI\0")].concat();
        for len in 0..whole.len() - 4 {
            assert!(!is_found(&[&whole[..len]]), "{len}");
        }
        let huge =
            [SIGNATURE, &u32::MAX.to_be_bytes(), b"tEXt", b"Thumb::URI\0file:///home/a/Vault/x"].concat();
        assert!(!is_found(&[&huge]));
        let many = [SIGNATURE, &chunk(b"tEXt", b"").repeat(100_000)].concat();
        assert!(!is_found(&[&many]));
    }
}
