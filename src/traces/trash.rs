//! The trash of the home directory (FreeDesktop.org Trash Specification): `info/NAME.trashinfo` says where the deleted
//! file `files/NAME` was. Some file managers copy what is deleted from another file system.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use percent_encoding::percent_decode;

use super::files::Found;
use super::places::Places;

/// Longest description that is read, bytes.
const INFO_LEN_MAX: u64 = 1 << 16;

/// Returns whether a deleted file was in one of the places.
pub(super) fn is_of(info: &Found<'_>, places: &Places) -> io::Result<bool> {
    let text = info.begin(INFO_LEN_MAX)?;
    let mut lines = text.split(|&byte| byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"Path="));
    Ok(path.is_some_and(|path| places.hold(&percent_decode(path.trim_ascii()).collect::<Vec<u8>>())))
}

/// Removes a deleted file and its description, in this order: without the description, nothing would say any more where
/// the file came from. Returns whether the description is gone.
pub(super) fn remove(info: &Found<'_>) -> io::Result<bool> {
    let Some(name) = info.name.as_bytes().strip_suffix(b".trashinfo") else { return Ok(false) };
    let trash = info.folder.below(OsStr::new(".."))?;
    let files = trash.map(|trash| trash.below(OsStr::new("files"))).transpose()?.flatten();
    match files {
        // These names would lead out of the directory.
        Some(_) if matches!(name, b"" | b"." | b"..") => return Ok(false),
        Some(files) => files.remove_tree(OsStr::from_bytes(name))?,
        None => {}
    }
    info.remove()
}
