//! Copies of a vault's two files: from sync clients, when the password was changed on one side, and from Cryptomator,
//! which keeps backups. When the vault can't be opened, they are named, and tried with the password. The vault is never
//! opened with them: which password counts, and for whom, is for people to decide.

use std::fmt;

use bytes::Bytes;
use scaup_crypto::{Masterkey, MasterkeyFile, UnverifiedConfig};

use super::markers::{MARKER_FILE_MAX, Markers};
use crate::remote::{Remote, RemoteError, RemoteName, RemotePath};

/// Most masterkey files that are tried with a password: each takes as long as unlocking the vault.
const TRIED_MAX: usize = 4;
/// Most copies of each of the two files that are read and named.
const COPIES_MAX: usize = 16;

/// The copies of a vault's two files that lie beside them, and which of them the password fits. Its text continues that
/// of an error; it is empty if there is nothing to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopiesBeside {
    names: Vec<RemoteName>,
    left_out: usize,
    trial: Option<Trial>,
}

/// What trying the copies with a password gave.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trial {
    Fits { masterkey: Option<RemoteName>, config: Option<RemoteName> },
    FitsNone { masterkeys: usize, untried: usize },
}

/// Whether a name is that of a copy of the file `marker`, whoever made it: `masterkey (conflicted copy).cryptomator`,
/// `masterkey.cryptomator..path1`, `Copy of masterkey.cryptomator`, `masterkey.cryptomator.1A2B3C4D.bkup`.
pub(crate) fn is_copy_of(name: &[u8], marker: &str) -> bool {
    let Some((stem, extension)) = marker.split_once('.') else { return false };
    let text = String::from_utf8_lossy(name).to_ascii_lowercase();
    let is_hidden = text.starts_with('.');
    let found = text.find(stem).and_then(|at| text.get(at + stem.len()..));
    !is_hidden
        && name != marker.as_bytes()
        && found.is_some_and(|behind| behind.contains(&format!(".{extension}")))
}

/// Whether a name is that of a backup by Cryptomator, which lies beside every vault.
pub(crate) fn is_backup(name: &[u8]) -> bool {
    name.ends_with(b".bkup")
}

/// One of the vault's two files, or a copy of it.
struct Copy {
    /// `None` for the file itself.
    name: Option<RemoteName>,
    content: Bytes,
}

/// A vault's two files, each with its copies.
struct Copies {
    masterkeys: Vec<Copy>,
    configs: Vec<Copy>,
}

impl CopiesBeside {
    /// Lists the vault's directory, and tries what it finds with the `password`, if there is one. Failures of the
    /// server count as absence: there is another error already.
    pub(super) async fn look(remote: &dyn Remote, path: &RemotePath, password: Option<&str>) -> Self {
        Self::find(remote, path, password, true).await
    }

    /// As [`look`](Self::look) after the `password` was found wrong for the masterkey file itself, which is not tried
    /// again.
    pub(super) async fn look_for(remote: &dyn Remote, path: &RemotePath, password: &str) -> Self {
        let mut beside = Self::find(remote, path, Some(password), false).await;
        // They lie beside every vault, and say nothing about a wrong password unless it fits one.
        if !matches!(beside.trial, Some(Trial::Fits { .. })) {
            beside.names.retain(|name| !is_backup(name.as_bytes()));
        }
        beside
    }

    async fn find(
        remote: &dyn Remote,
        path: &RemotePath,
        password: Option<&str>,
        tries_itself: bool,
    ) -> Self {
        let entries = remote.list(path).await.unwrap_or_default();
        let mut listed: Vec<RemoteName> = entries.into_iter().map(|entry| entry.name).collect();
        // Those of sync clients first: backups are everywhere.
        listed.sort_by_key(|name| (is_backup(name.as_bytes()), name.as_bytes().to_vec()));
        let copies_of = |marker| {
            let all: Vec<RemoteName> =
                listed.iter().filter(|name| is_copy_of(name.as_bytes(), marker)).cloned().collect();
            let left_out = all.len().saturating_sub(COPIES_MAX);
            (all.into_iter().take(COPIES_MAX).collect::<Vec<_>>(), left_out)
        };
        let (masterkeys, masterkeys_left) = copies_of(Markers::MASTERKEY);
        let (configs, configs_left) = copies_of(Markers::CONFIG);
        let names: Vec<RemoteName> = masterkeys.iter().chain(&configs).cloned().collect();
        let trial = match password {
            Some(password) if !names.is_empty() => {
                let copies = Copies {
                    masterkeys: read(remote, path, Markers::MASTERKEY, masterkeys).await,
                    configs: read(remote, path, Markers::CONFIG, configs).await,
                };
                let password = zeroize::Zeroizing::new(password.to_owned());
                tokio::task::spawn_blocking(move || copies.try_with(&password, tries_itself)).await.ok()
            }
            _ => None,
        };
        Self { names, left_out: masterkeys_left + configs_left, trial }
    }

    /// Whether nothing lies beside the vault's files.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Reads one of the vault's files and its copies. What can't be read is left out.
async fn read(remote: &dyn Remote, path: &RemotePath, marker: &str, names: Vec<RemoteName>) -> Vec<Copy> {
    let itself = RemoteName::parse(marker.as_bytes()).map(|name| (None, name));
    let copies = names.into_iter().map(|name| (Some(name.clone()), name));
    let reads = itself.into_iter().chain(copies).map(async |(name, on_server)| {
        let content: Result<Bytes, RemoteError> =
            remote.read_small(&path.join(&on_server), MARKER_FILE_MAX).await;
        content.ok().map(|content| Copy { name, content })
    });
    futures::future::join_all(reads).await.into_iter().flatten().collect()
}

impl Copies {
    /// Looks for a masterkey file that the password fits, and a config that was signed with its key. What lies there
    /// under its right name comes first.
    fn try_with(&self, password: &str, tries_itself: bool) -> Trial {
        let parsed = self.masterkeys.iter().filter_map(|copy| {
            MasterkeyFile::parse(&copy.content).ok().map(|masterkey| (copy.name.clone(), masterkey))
        });
        let (itself, copies): (Vec<_>, Vec<_>) = parsed.partition(|(name, _)| name.is_none());
        let (masterkeys, untried) = (copies.len(), copies.len().saturating_sub(TRIED_MAX));
        let itself = itself.into_iter().filter(|_| tries_itself);
        for (name, file) in itself.chain(copies.into_iter().take(TRIED_MAX)) {
            let Ok(key) = file.unlock(password) else { continue };
            if let Some(config) = self.config_of(&key, file.version()) {
                return Trial::Fits { masterkey: name, config };
            }
        }
        Trial::FitsNone { masterkeys, untried }
    }

    /// Finds the config that was signed with this key; vaults of format 7 need none.
    fn config_of(&self, key: &Masterkey, version: u32) -> Option<Option<RemoteName>> {
        if self.configs.is_empty() && version == 7 {
            return Some(None);
        }
        let signed = |copy: &&Copy| {
            UnverifiedConfig::parse(&copy.content).is_ok_and(|config| config.verify(key).is_ok())
        };
        self.configs.iter().find(signed).map(|copy| copy.name.clone())
    }
}

impl fmt::Display for CopiesBeside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.names.first() else { return Ok(()) };
        match &self.trial {
            Some(Trial::Fits { masterkey: Some(masterkey), config }) => {
                write!(formatter, ". The password fits {}", Quoted(masterkey))?;
                if let Some(config) = config {
                    write!(formatter, " together with {}", Quoted(config))?;
                }
                let whence = if is_backup(masterkey.as_bytes()) {
                    "a backup from before a change"
                } else {
                    "it was changed on another machine"
                };
                let name = Markers::MASTERKEY;
                write!(
                    formatter,
                    ": {whence}; rename it to {name} on the server if that password is wanted"
                )?;
                if config.is_some() {
                    write!(formatter, ", and the other to {}", Markers::CONFIG)?;
                }
                return formatter.write_str(" (and keep what has the name now under another one)");
            }
            Some(Trial::Fits { masterkey: None, config: Some(config) }) => {
                return write!(
                    formatter,
                    ". The password is right, and {} belongs to it; rename that to {} on the server (and keep what has \
                     the name now under another one)",
                    Quoted(config),
                    Markers::CONFIG
                );
            }
            // The files have changed since: another try opens the vault.
            Some(Trial::Fits { masterkey: None, config: None }) => return Ok(()),
            Some(Trial::FitsNone { .. }) | None => {}
        }
        write!(formatter, ". Beside it on the server lies {}", Quoted(first))?;
        for name in self.names.iter().skip(1) {
            write!(formatter, ", {}", Quoted(name))?;
        }
        if self.left_out > 0 {
            write!(formatter, " and {} more", self.left_out)?;
        }
        match self.trial {
            Some(Trial::FitsNone { masterkeys, untried }) if untried > 0 => {
                let tried = masterkeys - untried;
                write!(
                    formatter,
                    "; the password fits none of the {tried} masterkey files of these that were tried"
                )
            }
            Some(Trial::FitsNone { .. }) => formatter.write_str("; the password fits none of these"),
            _ => Ok(()),
        }
    }
}

/// A name that the server gave, as a person can write it.
struct Quoted<'a>(&'a RemoteName);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", String::from_utf8_lossy(self.0.as_bytes()).escape_debug())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use scaup_crypto::CipherCombo;
    use scaup_fakes::{MemoryRemote, MemoryServer};

    use super::super::small_file::write_small;
    use super::super::{OpenError, VaultSecret, create_vault, inspect_vault, open_vault};
    use super::*;
    use crate::remote::RenameHow;

    const SYNCTHING: &str = "masterkey.sync-conflict-20260102-123456-ABCDEFG.cryptomator";
    const BACKUP: &str = "masterkey.cryptomator.1A2B3C4D.bkup";

    fn at(name: &str) -> RemotePath {
        RemotePath::root().join(&RemoteName::parse(name.as_bytes()).unwrap())
    }

    /// A new vault whose password is `old`, and its server.
    async fn vault() -> Arc<MemoryRemote> {
        let remote = MemoryRemote::connect(&MemoryServer::default());
        create_vault(remote.as_ref(), &RemotePath::root(), "old", CipherCombo::SivGcm, 220).await.unwrap();
        remote
    }

    async fn key(remote: &MemoryRemote) -> Masterkey {
        let file = remote.read_small(&at(Markers::MASTERKEY), MARKER_FILE_MAX).await.unwrap();
        MasterkeyFile::parse(&file).unwrap().unlock("old").unwrap()
    }

    async fn put(remote: &MemoryRemote, name: &str, content: &[u8]) {
        write_small(remote, &at(name), content).await.unwrap();
    }

    /// Puts the vault's key under another password, in a file of this name.
    async fn change_password(remote: &MemoryRemote, name: &str, password: &str) {
        let file = MasterkeyFile::create(&key(remote).await, password, 999).unwrap();
        put(remote, name, &file).await;
    }

    async fn open(remote: &MemoryRemote, password: &str) -> String {
        open_vault(remote, &RemotePath::root(), &VaultSecret::password(password))
            .await
            .unwrap_err()
            .to_string()
    }

    fn holds(text: &str, words: &[&str]) {
        for word in words {
            assert!(text.contains(word), "{word:?} in {text}");
        }
    }

    #[tokio::test]
    async fn a_password_that_was_changed_on_another_machine_is_told_from_a_wrong_one() {
        let remote = vault().await;
        change_password(&remote, SYNCTHING, "new").await;
        change_password(&remote, BACKUP, "older").await;
        open_vault(remote.as_ref(), &RemotePath::root(), &VaultSecret::password("old")).await.unwrap();
        let fits =
            format!("The password fits `{SYNCTHING}`: it was changed on another machine; rename it to");
        holds(&open(&remote, "new").await, &["wrong password", &fits]);
        holds(
            &open(&remote, "older").await,
            &["wrong password", "fits `masterkey.cryptomator.1A2B3C4D.bkup`", "backup"],
        );
        let none = open(&remote, "none").await;
        holds(&none, &["wrong password", SYNCTHING, "the password fits none of these"]);
        // Backups lie beside every vault.
        assert!(!none.contains("bkup"), "{none}");
        let error = open_vault(remote.as_ref(), &RemotePath::root(), &VaultSecret::password("new"))
            .await
            .unwrap_err();
        assert!(matches!(error, OpenError::WrongPassword { .. }), "worth another try: {error}");
    }

    #[tokio::test]
    async fn nothing_is_added_to_a_wrong_password_where_nothing_lies_beside() {
        let remote = vault().await;
        change_password(&remote, BACKUP, "older").await;
        assert_eq!(open(&remote, "none").await, "wrong password for vault \"\"");
    }

    #[tokio::test]
    async fn a_client_that_renamed_both_versions_leaves_files_that_are_named() {
        let remote = vault().await;
        change_password(&remote, "masterkey.cryptomator..path2", "new").await;
        let (from, to) = (at(Markers::MASTERKEY), at("masterkey.cryptomator..path1"));
        remote.rename(&from, &to, RenameHow::New).await.unwrap();
        holds(
            &open(&remote, "old").await,
            &["masterkey.cryptomator is missing", "fits `masterkey.cryptomator..path1`"],
        );
        holds(
            &open(&remote, "new").await,
            &["masterkey.cryptomator is missing", "fits `masterkey.cryptomator..path2`"],
        );
        holds(&open(&remote, "none").await, &["..path1`", "..path2`", "fits none of these"]);
        // Without a password they are named.
        let info = inspect_vault(remote.as_ref(), &RemotePath::root()).await.unwrap();
        holds(
            &info.unsupported.unwrap(),
            &["is missing", "`masterkey.cryptomator..path1`, `masterkey.cryptomator..path2`"],
        );
        // The config, too: then nothing is left that makes a vault.
        remote.rename(&at(Markers::CONFIG), &at("vault-LAPTOP.cryptomator"), RenameHow::New).await.unwrap();
        let both = ["fits `masterkey.cryptomator..path2` together with `vault-LAPTOP.cryptomator`"];
        holds(&open(&remote, "new").await, &both);
        for copy in
            ["masterkey.cryptomator..path1", "masterkey.cryptomator..path2", "vault-LAPTOP.cryptomator"]
        {
            remote.remove(&at(copy)).await.unwrap();
        }
        let error = open_vault(remote.as_ref(), &RemotePath::root(), &VaultSecret::password("new"))
            .await
            .unwrap_err();
        assert!(matches!(error, OpenError::NotAVault(_)), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_file_is_told_of_with_the_copy_that_helps() {
        let remote = vault().await;
        let config = remote.read_small(&at(Markers::CONFIG), MARKER_FILE_MAX).await.unwrap();
        let key = key(&remote).await;
        put(&remote, "vault (conflicted copy 2024-01-02 123456).cryptomator", &config).await;
        let config_fits = "`vault (conflicted copy 2024-01-02 123456).cryptomator` belongs to it";
        // Half a file, and that of another vault.
        let other = vault().await.read_small(&at(Markers::CONFIG), MARKER_FILE_MAX).await.unwrap();
        for wrong in [&config[..40], &other[..]] {
            remote.remove(&at(Markers::CONFIG)).await.unwrap();
            put(&remote, Markers::CONFIG, wrong).await;
            holds(&open(&remote, "old").await, &["vault.cryptomator", "The password is right", config_fits]);
        }
        // The masterkey file, too.
        remote.remove(&at(Markers::MASTERKEY)).await.unwrap();
        put(&remote, Markers::MASTERKEY, b"{").await;
        put(&remote, SYNCTHING, &MasterkeyFile::create(&key, "new", 999).unwrap()).await;
        let both = format!(
            "fits `{SYNCTHING}` together with `vault (conflicted copy 2024-01-02 123456).cryptomator`"
        );
        holds(&open(&remote, "new").await, &[&both]);
    }

    #[tokio::test]
    async fn a_masterkey_file_of_another_vault_does_not_fit() {
        let (remote, other) = (vault().await, vault().await);
        let file = MasterkeyFile::create(&key(&other).await, "new", 999).unwrap();
        put(&remote, SYNCTHING, &file).await;
        holds(&open(&remote, "new").await, &["wrong password", SYNCTHING, "fits none of these"]);
    }

    #[tokio::test]
    async fn a_vault_of_another_format_is_not_to_be_replaced_by_a_backup() {
        let remote = vault().await;
        let older = MasterkeyFile::create(&key(&remote).await, "old", 6).unwrap();
        for (marker, backup) in
            [(Markers::CONFIG, "vault.cryptomator.1A2B3C4D.bkup"), (Markers::MASTERKEY, BACKUP)]
        {
            remote.rename(&at(marker), &at(backup), RenameHow::New).await.unwrap();
        }
        put(&remote, Markers::MASTERKEY, &older).await;
        let said = open(&remote, "old").await;
        assert!(said.contains("its format is 6") && !said.contains("bkup"), "{said}");
    }

    #[tokio::test]
    async fn few_of_many_copies_are_tried_and_that_is_said() {
        let remote = vault().await;
        for number in 1..=6 {
            change_password(&remote, &format!("masterkey ({number}).cryptomator"), &format!("new{number}"))
                .await;
        }
        holds(&open(&remote, "new4").await, &["fits `masterkey (4).cryptomator`"]);
        holds(
            &open(&remote, "new5").await,
            &["`masterkey (6).cryptomator`", "fits none of the 4 masterkey files"],
        );
    }

    #[test]
    fn copies_are_known_whoever_made_them() {
        for copy in [
            "masterkey (conflicted copy 2024-01-02 123456).cryptomator",
            "masterkey.sync-conflict-20240102-123456-ABCDEFG.cryptomator",
            "masterkey-LAPTOP.cryptomator",
            "masterkey.cryptomator..path1",
            "masterkey.cryptomator (1)",
            "Copy of masterkey.cryptomator",
            "MASTERKEY.CRYPTOMATOR",
            "masterkey.cryptomator.1A2B3C4D.bkup",
        ] {
            assert!(is_copy_of(copy.as_bytes(), Markers::MASTERKEY), "{copy}");
            assert!(!is_copy_of(copy.as_bytes(), Markers::CONFIG), "{copy}");
        }
        assert!(is_copy_of(b"vault-LAPTOP.cryptomator", Markers::CONFIG));
        for other in [
            "masterkey.cryptomator",
            ".masterkey.cryptomator.AbCdEf",
            "masterkey.txt",
            "key.cryptomator",
            "d",
            "",
        ] {
            assert!(!is_copy_of(other.as_bytes(), Markers::MASTERKEY), "{other}");
        }
    }
}
