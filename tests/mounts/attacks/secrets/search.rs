//! Searching files and memory for what must not be there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use aes_kw::KeyInit;
use sha2::Digest;

use crate::support::PASSWORD;

/// The canaries that `bytes` hold.
pub(crate) fn found<'a>(bytes: &[u8], canaries: &[(&'a str, &[u8])]) -> Vec<&'a str> {
    let mut begins = [false; 256];
    for (_, canary) in canaries {
        begins[usize::from(canary[0])] = true;
    }
    let mut found = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if begins[usize::from(*byte)] {
            let here = canaries.iter().filter(|(_, canary)| bytes[at..].starts_with(canary));
            found.extend(here.map(|(name, _)| *name));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// All files below `directory` whose name or content holds one of the canaries. What is mounted there is left out.
pub(crate) fn files_with(directory: &Path, canaries: &[(&str, &[u8])]) -> Vec<String> {
    let device = fs::metadata(directory).unwrap().dev();
    let (mut with, mut waiting) = (Vec::new(), vec![directory.to_path_buf()]);
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.dev() != device {
                continue;
            }
            let mut bytes = path.file_name().unwrap().as_bytes().to_vec();
            if metadata.is_dir() {
                waiting.push(path.clone());
            } else if metadata.is_file() {
                bytes.extend(fs::read(&path).unwrap());
            }
            with.extend(
                found(&bytes, canaries).into_iter().map(|name| format!("{name} in {}", path.display())),
            );
        }
    }
    with
}

/// The mappings of a process (proc(5)) that can be read: where, and what the kernel says of them.
fn mappings(pid: u32) -> Vec<(std::ops::Range<u64>, String)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines()
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let range = u64::from_str_radix(start, 16).unwrap()..u64::from_str_radix(end, 16).unwrap();
            (rest.starts_with('r') && !rest.ends_with("[vvar]") && !rest.ends_with("[vsyscall]"))
                .then(|| (range, rest.split_whitespace().skip(4).collect::<Vec<_>>().join(" ")))
        })
        .collect()
}

/// The canaries in a process's memory, each with the mappings that hold it.
pub(crate) fn in_memory(pid: u32, canaries: &[(&str, &[u8])]) -> BTreeMap<String, Vec<String>> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (range, what) in mappings(pid) {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        // A mapping may be gone by now.
        if memory.read_exact_at(&mut bytes, range.start).is_err() {
            continue;
        }
        for name in found(&bytes, canaries) {
            all.entry(name.to_owned()).or_default().push(format!("{range:x?} {what}"));
        }
    }
    all
}

/// The keys of a vault.
pub(crate) struct Keys {
    /// What wraps the masterkey.
    pub(crate) wrapping: [u8; 32],
    /// The encryption key, then the MAC key.
    pub(crate) master: [u8; 64],
}

/// The keys of a vault whose password is [`PASSWORD`], by nothing but the format.
pub(crate) fn raw_keys(vault: &Path) -> Keys {
    let file = fs::read(vault.join("masterkey.cryptomator")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let decoded = |name: &str| data_encoding::BASE64.decode(file[name].as_str().unwrap().as_bytes()).unwrap();
    let cost = file["scryptCostParam"].as_u64().unwrap().ilog2();
    let block = u32::try_from(file["scryptBlockSize"].as_u64().unwrap()).unwrap();
    let params = scrypt::Params::new(u8::try_from(cost).unwrap(), block, 1).unwrap();
    let mut wrapping = [0; 32];
    scrypt::scrypt(PASSWORD.as_bytes(), &decoded("scryptSalt"), &params, &mut wrapping).unwrap();
    let kek = aes_kw::KwAes256::new(&wrapping.into());
    let mut master = [0; 64];
    kek.unwrap_key(&decoded("primaryMasterKey"), &mut master[..32]).unwrap();
    kek.unwrap_key(&decoded("hmacMasterKey"), &mut master[32..]).unwrap();
    Keys { wrapping, master }
}

/// Takes a field with its length before it (RFC 4251, section 5).
fn field<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (length, after) = rest.split_first_chunk().unwrap();
    let (field, after) = after.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
    *rest = after;
    field
}

/// What tells the private half of an SSH key: pieces of its numbers as they are written in the key's file, and the
/// other way round, as arithmetic has them. The file must not be encrypted.
pub(crate) fn numbers_of(file: &Path) -> Vec<Vec<u8>> {
    const PIECE: usize = 24;
    let text = fs::read_to_string(file).unwrap();
    let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let bytes = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    // PROTOCOL.key of OpenSSH: the names of cipher and KDF, its options, the count of keys, the public half, the
    // private one.
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0").unwrap();
    for _ in 0..3 {
        field(&mut rest);
    }
    rest = &rest[4..];
    field(&mut rest);
    // Behind two check numbers stand the kind, and the numbers of both halves.
    let mut rest = &field(&mut rest)[8..];
    let (public, private) = match field(&mut rest) {
        b"ssh-ed25519" => (1, 1),
        b"ssh-rsa" => (2, 4),
        _ => (2, 1),
    };
    for _ in 0..public {
        field(&mut rest);
    }
    let mut numbers: Vec<Vec<u8>> = (0..private).map(|_| field(&mut rest).to_vec()).collect();
    if public == 1 {
        // The seed; and what signs, which is made of it (RFC 8032, section 5.1.5).
        numbers[0].truncate(32);
        let mut expanded = sha2::Sha512::digest(&numbers[0]).to_vec();
        expanded[0] &= 248;
        numbers.extend([expanded[..PIECE].to_vec(), expanded[32..].to_vec()]);
    }
    let pieces = numbers.iter().flat_map(|number| {
        // A piece of a scalar may begin with a zero of its own.
        let number = number.strip_prefix(&[0]).filter(|number| number.len() >= PIECE).unwrap_or(number);
        [&number[..PIECE], &number[number.len() - PIECE..]]
    });
    pieces.flat_map(|piece| [piece.to_vec(), piece.iter().rev().copied().collect()]).collect()
}

/// Whether the mapping of a process that holds this address is locked into memory.
pub(crate) fn is_locked(pid: u32, address: u64) -> bool {
    // proc(5): each mapping is a line as in `maps`, then lines of its own.
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut here = false;
    for line in smaps.lines() {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        if let Some((Ok(start), Ok(end))) =
            range.map(|(start, end)| (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16)))
        {
            here = (start..end).contains(&address);
        } else if here && let Some(flags) = line.strip_prefix("VmFlags:") {
            return flags.split_whitespace().any(|flag| flag == "lo");
        }
    }
    false
}

/// The addresses at which a process's memory holds `wanted`.
pub(crate) fn addresses_of(pid: u32, wanted: &[u8]) -> Vec<u64> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut addresses = Vec::new();
    for (range, _) in mappings(pid) {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        if memory.read_exact_at(&mut bytes, range.start).is_ok() {
            let here =
                (0..bytes.len()).filter(|&at| bytes[at] == wanted[0] && bytes[at..].starts_with(wanted));
            addresses.extend(here.map(|at| range.start + at as u64));
        }
    }
    addresses
}
