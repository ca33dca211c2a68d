//! The vaults that were unlocked on this machine, remembered across mounts: for each its server and user, its path
//! there, and its id. If a mount does not find one of them in its place, it does not show what is there instead, since
//! programs would save in clear what used to be encrypted.

use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use scaup_sftp::ssh::Destination;
use serde::{Deserialize, Serialize};

use super::secret_names::{LOCAL, SecretName};
use crate::config::records::{self, RecordError, Records};
use crate::remote::{RemoteName, RemotePath};

/// Bytes that are encoded in a path: all that are not printable ASCII, and the percent sign itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// One vault, as its file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// `user@host:port`, or `local`.
    server: String,
    /// The vault's directory as it was mounted, percent-encoded: absolute, or relative to the login directory.
    path: String,
    /// The id in its config; vaults before format 8 have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// A vault that is expected in a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// Its path below the mounted directory.
    pub(super) path: RemotePath,
    /// The id in its config.
    pub(super) id: Option<String>,
}

impl records::Record for Record {
    /// A vault keeps its place whatever its id.
    fn key(&self) -> Vec<&str> {
        vec![&self.server, &self.path]
    }
}

/// The vaults below one directory of one server.
#[derive(Debug, Clone)]
pub struct RememberedVaults {
    server: String,
    /// The mounted directory, without empty and `.` parts.
    directory: Vec<u8>,
}

impl RememberedVaults {
    /// Returns the vaults below a directory of a server.
    #[must_use]
    pub fn of_server(destination: &Destination, directory: &str) -> Self {
        let server = format!("{}@{}:{}", destination.user, destination.host, destination.port);
        Self { server, directory: plain(directory.as_bytes()) }
    }

    /// Returns the vaults below a directory of this machine.
    #[must_use]
    pub fn of_local(directory: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Self { server: LOCAL.to_owned(), directory: plain(directory.as_os_str().as_bytes()) }
    }

    /// Returns the vaults that were unlocked in this directory or below it.
    pub(super) fn expected(&self) -> Result<Vec<Expected>, RecordError> {
        let expected = records().all::<Record>()?.into_iter().filter_map(|record| {
            let path = self.path_below(&record)?;
            Some(Expected { path, id: record.id })
        });
        Ok(expected.collect())
    }

    /// Remembers a vault.
    pub(super) fn remember(&self, path: &RemotePath, id: Option<String>) -> Result<(), RecordError> {
        let path = percent_encode(&self.full(path), ENCODED).to_string();
        records().write(&Record { server: self.server.clone(), path, id })
    }

    /// Forgets a vault.
    pub(super) fn forget(&self, path: &RemotePath) -> Result<(), RecordError> {
        let path = percent_encode(&self.full(path), ENCODED).to_string();
        records().remove(&[&self.server, &path])
    }

    /// Forgets all vaults in this directory and below it. Returns their paths on the server.
    ///
    /// # Errors
    ///
    /// If the files can't be read or removed.
    pub fn forget_below(&self) -> Result<Vec<String>, RecordError> {
        forget(|record| self.path_below(record).is_some())
    }

    /// Returns whether a vault of this server, whose path is percent-encoded, is in this directory or below it.
    pub(super) fn includes(&self, server: &str, path: &str) -> bool {
        self.path_below(&Record { server: server.to_owned(), path: path.to_owned(), id: None }).is_some()
    }

    /// Returns what a vault's password is remembered as.
    pub(super) fn password_of(&self, path: &RemotePath) -> SecretName {
        SecretName::vault(self.server.clone(), percent_encode(&self.full(path), ENCODED).to_string())
    }

    /// Returns a vault's whole path, in the form of the mounted directory.
    fn full(&self, path: &RemotePath) -> Vec<u8> {
        let slash: &[u8] =
            if self.directory.is_empty() || self.directory.ends_with(b"/") { b"" } else { b"/" };
        match path.as_bytes() {
            b"" => self.directory.clone(),
            below => [self.directory.as_slice(), slash, below].concat(),
        }
    }

    /// Returns a vault's path below this directory; `None` if it is not below.
    fn path_below(&self, record: &Record) -> Option<RemotePath> {
        if record.server != self.server {
            return None;
        }
        let path: Vec<u8> = percent_decode_str(&record.path).collect();
        let rest = path.strip_prefix(self.directory.as_slice())?;
        let is_absolute = path.starts_with(b"/");
        let is_below = match (self.directory.as_slice(), rest) {
            (b"", _) => !is_absolute,
            (directory, rest) => rest.is_empty() || directory.ends_with(b"/") || rest.starts_with(b"/"),
        };
        let names = rest.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let path =
            names.map(RemoteName::parse).try_fold(RemotePath::root(), |at, name| Some(at.join(&name?)));
        path.filter(|_| is_below)
    }
}

/// Forgets every vault. Returns their servers and paths.
///
/// # Errors
///
/// If the files can't be read or removed.
pub fn forget_all() -> Result<Vec<String>, RecordError> {
    // Files that can't be read are removed, too.
    records().remove_damaged::<Record>()?;
    forget(|_| true)
}

fn forget(is_meant: impl Fn(&Record) -> bool) -> Result<Vec<String>, RecordError> {
    let mut forgotten = Vec::new();
    for record in records().all::<Record>()?.into_iter().filter(is_meant) {
        records().remove(&[&record.server, &record.path])?;
        let path = percent_decode_str(&record.path).decode_utf8_lossy().into_owned();
        forgotten.push(format!("{} of {}", path, record.server));
    }
    Ok(forgotten)
}

fn records() -> Records {
    Records::called("vaults")
}

/// Returns a path without empty and `.` parts, so that one directory has one spelling.
fn plain(path: &[u8]) -> Vec<u8> {
    let root: &[u8] = if path.starts_with(b"/") { b"/" } else { b"" };
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    [root, &parts.collect::<Vec<_>>().join(&b'/')].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn vaults_in(directory: &str) -> RememberedVaults {
        RememberedVaults { server: "alice@hq:22".to_owned(), directory: plain(directory.as_bytes()) }
    }

    fn path(path: &str) -> RemotePath {
        RemotePath::parse(path.as_bytes()).unwrap()
    }

    fn record(directory: &str, vault: &str) -> Record {
        let vaults = vaults_in(directory);
        let path = percent_encode(&vaults.full(&path(vault)), ENCODED).to_string();
        Record { server: vaults.server, path, id: None }
    }

    #[test]
    fn a_vault_is_expected_from_whichever_directory_above_it_is_mounted() {
        let vault = record("/srv/nextcloud/", "Ärzte 100%/Vault");
        for (directory, below) in [
            ("/srv/nextcloud", Some("Ärzte 100%/Vault")),
            ("/srv//./nextcloud/", Some("Ärzte 100%/Vault")),
            ("/", Some("srv/nextcloud/Ärzte 100%/Vault")),
            ("/srv/nextcloud/Ärzte 100%/Vault", Some("")),
            ("/srv/nextcloud/Ärzte 100%/Vault/d", None),
            ("/srv/next", None),
            ("srv/nextcloud", None),
            ("", None),
        ] {
            assert_eq!(vaults_in(directory).path_below(&vault), below.map(path), "{directory}");
        }
    }

    #[test]
    fn what_lies_in_the_login_directory_is_expected_there() {
        assert_eq!(vaults_in("").path_below(&record("", "Vault")), Some(path("Vault")));
        assert_eq!(vaults_in("files").path_below(&record("", "files/Vault")), Some(path("Vault")));
        assert_eq!(vaults_in("").path_below(&record("files", "Vault")), Some(path("files/Vault")));
        assert_eq!(vaults_in("").path_below(&record("", "")), Some(RemotePath::root()));
    }

    #[test]
    fn another_user_or_server_has_other_vaults() {
        let mut vault = record("/srv", "Vault");
        vault.server = "bob@hq:22".to_owned();
        assert_eq!(vaults_in("/srv").path_below(&vault), None);
    }
}
