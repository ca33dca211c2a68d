//! Vaults that Cryptomator's own libraries wrote, with what must be found in them (`tests/fixtures/README.md`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tempfile::TempDir;

use crate::process::run;

/// One vault and its manifest.
#[derive(Debug)]
pub struct Fixture {
    /// What stands in the vault, or why it must be refused.
    pub manifest: Manifest,
    directory: PathBuf,
    _unpacked: TempDir,
}

/// What is known of a fixture.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs)]
pub struct Manifest {
    pub name: String,
    pub password: String,
    #[serde(rename = "wrong_password")]
    pub wrong_password: String,
    /// `good`, `config`, `legacy`, `damage`, `hostile`, `conflicts`, `extra-files`.
    pub kind: String,
    pub open: Open,
    /// Why it must be refused, or is odd.
    pub reason: Option<String>,
    pub format: Option<u32>,
    #[serde(rename = "cipherCombo")]
    pub cipher_combo: Option<String>,
    #[serde(rename = "shorteningThreshold")]
    pub shortening_threshold: Option<u32>,
    /// Everything in the vault; of `conflicts` it is in `originals`.
    #[serde(default, alias = "originals")]
    pub entries: Vec<Entry>,
    /// Damaged and hostile places.
    #[serde(default)]
    pub special: Vec<Special>,
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
}

/// Whether a vault opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Open {
    /// It opens with its password.
    Ok,
    /// It must be refused, whatever the password.
    Refuse,
    /// Either is right (format 7).
    Either,
}

impl From<String> for Open {
    fn from(word: String) -> Self {
        match word.as_str() {
            "ok" => Self::Ok,
            "refuse" => Self::Refuse,
            _ => Self::Either,
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum EntryKind {
    File,
    Dir,
    Symlink,
}

/// Whether an entry's content can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readable {
    /// All of it.
    #[default]
    Ok,
    /// Nothing may come but an error.
    Error,
    /// The good prefix, then an error.
    Partial,
    /// Both are right.
    Either,
}

/// One entry of a vault.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// Cleartext path from the vault's root, beginning with `/`.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// Cleartext length, bytes.
    pub size: Option<u64>,
    /// SHA-256 of the cleartext, lower case hexadecimal.
    pub sha256: Option<String>,
    /// Where a link points.
    pub target: Option<String>,
    /// Whether its content can be read.
    #[serde(default)]
    pub read: Readable,
    /// Why not.
    pub why: Option<String>,
    /// Of [`Readable::Partial`]: how many bytes can be read before the error.
    pub good_prefix: Option<u64>,
    /// Of [`Readable::Either`]: SHA-256 of what may be read.
    pub good_sha256: Option<String>,
}

/// A damaged or hostile place in a vault.
#[derive(Debug, Clone, Deserialize)]
pub struct Special {
    /// Cleartext path, or `hostile:…` where the name itself is bad.
    pub path: String,
    /// `ok`, `absent`, `hidden-or-error`, `listed-or-hidden`, `never-as-path`, `any`.
    pub list: String,
    /// `error`, `readlink-error`, `any`; `None` where access is fine.
    pub access: Option<String>,
    /// What it is, where known.
    #[serde(rename = "type")]
    pub kind: Option<EntryKind>,
    /// Length of a file.
    pub size: Option<u64>,
    /// SHA-256 of a file.
    pub sha256: Option<String>,
    /// Where a link points.
    pub target: Option<String>,
    /// All names in a directory.
    pub children: Option<Vec<String>>,
    /// Another directory with the same content.
    pub same_as: Option<String>,
    /// The decrypted name's bytes in hexadecimal.
    pub raw_hex: Option<String>,
    /// The reason.
    pub why: Option<String>,
    #[serde(flatten)]
    _rest: std::collections::HashMap<String, IgnoredAny>,
}

/// A copy that some sync client made of an encrypted entry.
#[derive(Debug, Clone, Deserialize)]
pub struct Conflict {
    /// Cleartext path of the entry it is a copy of.
    pub original: String,
    /// Its name on disk; `%` stands for the original's. `None` for a copy inside an entry's own directory.
    pub cipher_pattern: Option<String>,
    /// SHA-256 of its cleartext, which must be reachable under some name; `None` where the note says more.
    pub sha256: Option<String>,
    /// What is special.
    pub note: Option<String>,
}

impl Fixture {
    /// Unpacks the fixture `name`.
    #[must_use]
    pub fn unpack(name: &str) -> Self {
        let unpacked = tempfile::tempdir().expect("a temporary directory can be made");
        run(Command::new("tar")
            .arg("-xzf")
            .arg(archive())
            .arg("-C")
            .arg(unpacked.path())
            .arg(format!("dev/{name}")));
        let directory = unpacked.path().join("dev").join(name);
        let manifest = fs::read(directory.join("manifest.json")).expect("the manifest is readable");
        let manifest =
            serde_json::from_slice(&manifest).unwrap_or_else(|error| panic!("manifest of {name}: {error}"));
        Self { manifest, directory, _unpacked: unpacked }
    }

    /// The names of all fixtures.
    #[must_use]
    pub fn names() -> Vec<String> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let index = run(Command::new("tar").arg("-xzOf").arg(archive()).arg("dev/index.json")).stdout;
        let index: Vec<Named> = serde_json::from_slice(&index).expect("the index is a list of names");
        index.into_iter().map(|named| named.name).collect()
    }

    /// The vault's directory, a copy of this test's own.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.directory.join("vault")
    }

    /// The directory that holds the vault as `vault` (and, for `jwt-kid-traversal`, what lies beside it).
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Copies the vault to `target`, which must not exist yet, empty directories and all.
    pub fn copy_vault_to(&self, target: &Path) {
        run(Command::new("cp").args(["-a", "--no-preserve=ownership"]).arg(self.vault()).arg(target));
    }
}

fn archive() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/vaults.tar.gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixture_unpacks_and_its_manifest_says_what_to_expect() {
        let names = Fixture::names();
        assert_eq!(names.len(), 49);
        for name in names {
            let fixture = Fixture::unpack(&name);
            assert_eq!(fixture.manifest.name, name);
            assert!(fixture.vault().is_dir(), "{name}");
            assert_ne!(fixture.manifest.password, fixture.manifest.wrong_password);
            if fixture.manifest.open == Open::Refuse {
                assert!(fixture.manifest.reason.is_some(), "{name} must say why it is refused");
            } else if name != "empty-gcm" {
                assert!(!fixture.manifest.entries.is_empty(), "{name} must say what is in it");
            }
        }
    }
}
