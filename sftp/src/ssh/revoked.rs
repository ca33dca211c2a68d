//! Keys that are revoked for all hosts (`RevokedHostKeys`): a file of public keys, one in a line.

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PublicKey};

use super::destination::Destination;
use super::error::HostKeyProblem;

/// The magic bytes of a key revocation list in OpenSSH's binary format (PROTOCOL.krl).
const KRL_MAGIC: &[u8] = b"SSHKRL\n\0";

/// The keys, each with its line.
#[derive(Debug, Clone, Default)]
pub(super) struct RevokedKeys {
    file: PathBuf,
    keys: Vec<(usize, KeyData)>,
}

impl RevokedKeys {
    /// Reads the destination's list. As in `ssh`, no host is trusted if it can't be read.
    pub(super) fn load(destination: &Destination) -> Result<Self, HostKeyProblem> {
        let Some(file) = &destination.revoked_host_keys else { return Ok(Self::default()) };
        let unreadable =
            |reason: String| HostKeyProblem::RevocationsUnreadable { file: file.clone(), reason };
        let content = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
        let way_out =
            "a binary key revocation list is not supported; name a file with one public key in each line";
        Self::of_content(file, &content).map_err(|BinaryList| unreadable(way_out.to_owned()))
    }

    /// Reads a list of this content.
    pub(super) fn of_content(file: &Path, content: &[u8]) -> Result<Self, BinaryList> {
        Ok(Self { file: file.to_owned(), keys: parse(content)? })
    }

    /// Returns the place where one of these keys is revoked: a host's, or that of the authority that signed for it.
    pub(super) fn problem<'a>(&self, shown: impl IntoIterator<Item = &'a KeyData>) -> Option<HostKeyProblem> {
        let find = |shown| self.keys.iter().find(|(_, revoked)| revoked == shown);
        let (line, _) = shown.into_iter().find_map(find)?;
        Some(HostKeyProblem::Revoked { file: self.file.clone(), line: *line })
    }
}

/// Parses the keys of a list. Lines without a key are skipped, as in `ssh`: no host could have an unreadable key.
fn parse(content: &[u8]) -> Result<Vec<(usize, KeyData)>, BinaryList> {
    if content.starts_with(KRL_MAGIC) {
        return Err(BinaryList);
    }
    let text = String::from_utf8_lossy(content);
    Ok(text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, key(line)?))).collect())
}

/// The error that the list is in OpenSSH's binary format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BinaryList;

/// Returns the key of a line, or the one that a certificate in it is for.
fn key(line: &str) -> Option<KeyData> {
    let mut words = line.split_ascii_whitespace();
    let line = format!("{} {}", words.next()?, words.next()?);
    let plain = PublicKey::from_openssh(&line).map(|key| key.key_data().clone());
    plain
        .or_else(|_| Certificate::from_openssh(&line).map(|certificate| certificate.public_key().clone()))
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    #[test]
    fn keys_are_found_in_whatever_stands_around_them() {
        let data = |text: &str| PublicKey::from_openssh(text).unwrap().key_data().clone();
        let list = format!("# {TWO}\n\nnonsense\n\t {}  a comment\r\nssh-dss AAAA\n", ONE.replace(' ', "\t"));
        assert_eq!(parse(list.as_bytes()).unwrap(), [(4, data(ONE))]);
    }

    #[test]
    fn a_binary_list_is_not_taken_for_an_empty_one() {
        assert_eq!(parse(b"SSHKRL\n\0\0\0\0\x01").unwrap_err(), BinaryList);
    }
}
