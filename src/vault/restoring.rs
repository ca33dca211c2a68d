//! Bringing back the two files of a vault: from a backup that verifies, or made anew from what proves to be the vault's
//! key.
//!
//! A key is the vault's if the content of the root directory lies where the key says, or if the key signed the config.
//! What is there is never replaced without a backup of it.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use scaup_crypto::{
    ConfigError, Cryptor, DirectoryId, Masterkey, MasterkeyFile, UnverifiedConfig, VaultConfig,
};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::copies_beside::{CopiesBeside, is_backup, is_copy_of};
use super::error::OpenError;
use super::format::{content_path, part};
use super::inferred_config::{InferredConfig, infer};
use super::markers::{MARKER_FILE_MAX, Markers};
use super::opening::{open_files, read_marker};
use super::password::proved;
use super::replacement::{VaultFile, put_new};
use super::secret::VaultSecret;
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath};

/// Most backups of each file that are tried, the newest first.
const BACKUPS_MAX: usize = 16;

/// The two files of a vault as they are, whole or not, and their backups.
pub struct FoundFiles {
    vault: RemotePath,
    masterkey: FoundFile,
    config: FoundFile,
}

struct FoundFile {
    name: RemoteName,
    content: Option<Bytes>,
    /// The newest first.
    backups: Vec<(RemoteName, Bytes)>,
}

/// What is to be done with one of the two files.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name.
    pub name: RemoteName,
    /// Why.
    pub why: Why,
    /// What it is made of.
    pub source: Source,
    /// What is there.
    old: Option<Bytes>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is not there.
    Missing,
    /// It is of no use, for this reason.
    Damaged(String),
    /// It says that a Cryptomator Hub keeps the keys.
    Hub,
}

/// What a file is made of.
#[derive(Debug, Clone)]
pub enum Source {
    /// Of the backup of this name.
    Backup(RemoteName, Bytes),
    /// Of the recovery key and a new password.
    NewPassword,
    /// Of what the vault's content tells.
    Inferred(InferredConfig),
    /// Of what the config said that was signed with the vault's key.
    SameConfig(VaultConfig),
}

/// How a vault's files are brought back.
pub struct Restoration {
    vault: RemotePath,
    masterkey: Masterkey,
    masterkey_name: RemoteName,
    steps: Vec<Step>,
}

impl FoundFiles {
    /// Reads the two files of the vault at `path`, and their backups.
    ///
    /// # Errors
    ///
    /// If this can't be a vault, or is none that is restored here, or the server fails.
    pub async fn read(remote: &dyn Remote, path: &RemotePath) -> Result<Self, OpenError> {
        let failed = OpenError::of(path);
        match open_files(remote, path).await {
            Ok(_) | Err(OpenError::Refused { is_damage: true, .. }) => {}
            Err(error @ OpenError::NotAVault(_)) => {
                match remote.stat(&path.join(&part(Markers::DATA))).await {
                    Ok(attributes) if attributes.kind == RemoteKind::Directory => {}
                    Ok(_) | Err(RemoteError::NotFound | RemoteError::NotADirectory) => return Err(error),
                    Err(error) => return Err(failed(error)),
                }
            }
            Err(error) => return Err(error),
        }
        let mut listed = remote.list(path).await.map_err(&failed)?;
        listed.sort_by_key(|entry| std::cmp::Reverse(entry.attributes.modified));
        let read = async |name: RemoteName| {
            let content = read_marker(remote, path, &name).await?;
            let marker = String::from_utf8_lossy(name.as_bytes()).into_owned();
            let is_its = |other: &[u8]| is_backup(other) && is_copy_of(other, &marker);
            let mut backups = Vec::new();
            let names = listed.iter().map(|entry| &entry.name).filter(|other| is_its(other.as_bytes()));
            for other in names.take(BACKUPS_MAX) {
                match remote.read_small(&path.join(other), MARKER_FILE_MAX).await {
                    Ok(backup) => backups.push((other.clone(), backup)),
                    Err(error) if error.is_unanswered() => return Err(failed(error)),
                    // Another may be whole.
                    Err(_) => {}
                }
            }
            backups.retain(|(_, backup)| Some(backup) != content.as_ref());
            Ok(FoundFile { name, content, backups })
        };
        let config = read(part(Markers::CONFIG)).await?;
        let claimed = config.content.as_ref().and_then(|content| UnverifiedConfig::parse(content).ok());
        let claimed =
            claimed.and_then(|config| RemoteName::parse(config.masterkey_file_name().ok()?.as_bytes()));
        let masterkey = read(claimed.unwrap_or_else(|| part(Markers::MASTERKEY))).await?;
        Ok(Self { vault: path.clone(), masterkey, config })
    }

    /// Whether nothing seems to be wrong, as far as can be told without a key.
    #[must_use]
    pub fn seem_whole(&self) -> bool {
        let Some(Ok(masterkey)) = self.masterkey.content.as_deref().map(MasterkeyFile::parse) else {
            return false;
        };
        match self.config.content.as_deref().map(UnverifiedConfig::parse) {
            Some(config) => config.is_ok_and(|config| config.masterkey_file_name().is_ok()),
            None => masterkey.version() == VaultConfig::format7().format,
        }
    }

    /// Whether a password may open the masterkey file or a backup of it.
    #[must_use]
    pub fn may_have_password(&self) -> bool {
        self.masterkey_files().next().is_some()
    }

    /// The masterkey file, by no name, and its backups, as far as they can be read.
    fn masterkey_files(&self) -> impl Iterator<Item = (Option<(&RemoteName, &Bytes)>, MasterkeyFile)> {
        let itself = self.masterkey.content.iter().map(|content| (None, content));
        let backups = self.masterkey.backups.iter().map(|(name, content)| (Some((name, content)), content));
        itself
            .chain(backups)
            .filter_map(|(backup, content)| Some((backup, MasterkeyFile::parse(content).ok()?)))
    }

    /// Decides what is done to bring the files back. `directories` counts what was looked at, if the whole vault has to
    /// be.
    ///
    /// # Errors
    ///
    /// What [may be tried again](OpenError::is_wrong_secret) needs another secret.
    pub async fn plan(
        &self,
        remote: &dyn Remote,
        secret: &VaultSecret,
        directories: &AtomicU64,
    ) -> Result<Restoration, OpenError> {
        let (masterkey, file) = match secret {
            VaultSecret::Password(password) => self.by_password(remote, password).await?,
            VaultSecret::RecoveryKey(masterkey) if self.is_vaults(remote, masterkey).await? => {
                (masterkey.clone(), self.by_recovery_key(masterkey))
            }
            VaultSecret::RecoveryKey(_) => return Err(OpenError::ForeignKey(self.vault.clone())),
        };
        let config = self.config_step(remote, &masterkey, file.as_ref(), directories).await?;
        // The masterkey file first: a Hub's config does not name it, and without a config it is of no use yet.
        let steps = file.into_iter().chain(config).collect();
        let (vault, masterkey_name) = (self.vault.clone(), self.masterkey.name.clone());
        Ok(Restoration { vault, masterkey, masterkey_name, steps })
    }

    /// Whether a key is the vault's.
    async fn is_vaults(&self, remote: &dyn Remote, masterkey: &Masterkey) -> Result<bool, OpenError> {
        let config = self.config.content.as_deref().map(UnverifiedConfig::parse);
        if config.is_some_and(|config| config.is_ok_and(|config| config.verify(masterkey).is_ok())) {
            return Ok(true);
        }
        let cryptor = Cryptor::new(masterkey.clone(), VaultConfig::format7());
        match remote.stat(&content_path(&self.vault, &cryptor, &DirectoryId::root())).await {
            Ok(attributes) => Ok(attributes.kind == RemoteKind::Directory),
            Err(RemoteError::NotFound | RemoteError::NotADirectory) => Ok(false),
            Err(error) => Err(OpenError::of(&self.vault)(error)),
        }
    }

    /// Finds the masterkey file that the password opens and that has the vault's keys: itself, or the newest backup.
    async fn by_password(
        &self,
        remote: &dyn Remote,
        password: &Zeroizing<String>,
    ) -> Result<(Masterkey, Option<Step>), OpenError> {
        let vault = &self.vault;
        if !self.may_have_password() {
            return Err(OpenError::damaged(
                vault,
                "no masterkey file and no backup of one can be read; only the recovery key brings it back",
            ));
        }
        let mut is_foreign = false;
        for (backup, file) in self.masterkey_files() {
            let password = password.clone();
            let opened = spawn_blocking(move || file.unlock(&password)).await;
            let Ok(masterkey) = opened.map_err(|error| OpenError::refused(vault, error))? else { continue };
            if !self.is_vaults(remote, &masterkey).await? {
                is_foreign = true;
                continue;
            }
            let Some((name, content)) = backup else { return Ok((masterkey, None)) };
            let why = match self.masterkey.content.as_deref().map(MasterkeyFile::parse) {
                None => Why::Missing,
                Some(Err(error)) => Why::Damaged(error.to_string()),
                Some(Ok(_)) if is_foreign => Why::Damaged("it has the keys of another vault".to_owned()),
                Some(Ok(_)) => {
                    Why::Damaged("the password does not open it; maybe it was changed since".to_owned())
                }
            };
            let source = Source::Backup(name.clone(), content.clone());
            return Ok((masterkey, Some(self.masterkey.step(why, source))));
        }
        if is_foreign {
            return Err(OpenError::damaged(
                vault,
                "the password opens only masterkey files that have the keys of another vault; only the recovery key \
                 brings this one's back",
            ));
        }
        Err(OpenError::WrongPassword { path: vault.clone(), beside: CopiesBeside::default() })
    }

    /// Says what is done with the masterkey file where only the key is known.
    fn by_recovery_key(&self, masterkey: &Masterkey) -> Option<Step> {
        let last_with_version = VaultConfig::format7().format;
        let why = match self.masterkey.content.as_deref().map(MasterkeyFile::parse) {
            None => Why::Missing,
            Some(Err(error)) => Why::Damaged(error.to_string()),
            Some(Ok(file)) if file.version() <= last_with_version && !file.is_authentic(masterkey) => {
                Why::Damaged("it has the keys of another vault".to_owned())
            }
            Some(Ok(_)) if self.is_hubs() => {
                Why::Damaged("it is from before the vault was given to a Cryptomator Hub".to_owned())
            }
            Some(Ok(_)) => return None,
        };
        Some(self.masterkey.step(why, Source::NewPassword))
    }

    fn is_hubs(&self) -> bool {
        let config = self.config.content.as_deref().map(UnverifiedConfig::parse);
        config.is_some_and(|config| {
            config.is_ok_and(|config| config.masterkey_file_name() == Err(ConfigError::Hub))
        })
    }

    async fn config_step(
        &self,
        remote: &dyn Remote,
        masterkey: &Masterkey,
        file: Option<&Step>,
        directories: &AtomicU64,
    ) -> Result<Option<Step>, OpenError> {
        let why = match self.config.content.as_deref().map(UnverifiedConfig::parse) {
            None => Why::Missing,
            Some(Err(error)) => Why::Damaged(error.to_string()),
            Some(Ok(config)) => match config.verify(masterkey) {
                Ok(config) if self.is_hubs() => {
                    return Ok(Some(self.config.step(Why::Hub, Source::SameConfig(config))));
                }
                Ok(_) => return Ok(None),
                Err(error @ (ConfigError::WrongKey | ConfigError::Algorithm(_))) => {
                    Why::Damaged(error.to_string())
                }
                Err(error) => return Err(OpenError::refused(&self.vault, error)),
            },
        };
        let fits = |content: &Bytes| {
            let Ok(config) = UnverifiedConfig::parse(content) else { return false };
            let names_file =
                config.masterkey_file_name().map(str::as_bytes) == Ok(self.masterkey.name.as_bytes());
            names_file && config.verify(masterkey).is_ok()
        };
        if let Some((name, content)) = self.config.backups.iter().find(|(_, content)| fits(content)) {
            return Ok(Some(self.config.step(why, Source::Backup(name.clone(), content.clone()))));
        }
        let masterkey_file = match file.map(|step| &step.source) {
            None => self.masterkey.content.as_ref(),
            Some(Source::Backup(_, content)) => Some(content),
            Some(_) => None,
        };
        let is_format7 = |file: MasterkeyFile| {
            file.version() == VaultConfig::format7().format && file.is_authentic(masterkey)
        };
        let masterkey_file = masterkey_file.and_then(|content| MasterkeyFile::parse(content).ok());
        if why == Why::Missing && masterkey_file.is_some_and(is_format7) {
            return Ok(None);
        }
        let inferred = infer(remote, &self.vault, masterkey, directories).await?;
        Ok(Some(self.config.step(why, Source::Inferred(inferred))))
    }
}

impl FoundFile {
    fn step(&self, why: Why, source: Source) -> Step {
        Step { name: self.name.clone(), why, source, old: self.content.clone() }
    }
}

impl Restoration {
    /// Returns what is done, in this order. Nothing if both files are whole.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether a new password is needed.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.source, Source::NewPassword))
    }

    /// Brings the files back. Returns the names of the backups of what was replaced.
    ///
    /// # Errors
    ///
    /// What was there is there still, under its name or that of a backup. Some of the files may be restored.
    pub async fn carry_out(
        self,
        remote: &dyn Remote,
        new_password: Option<&str>,
    ) -> Result<Vec<RemoteName>, OpenError> {
        let Self { vault, masterkey, masterkey_name, steps } = self;
        let mut backups = Vec::new();
        for Step { name, source, old, .. } in steps {
            let content = content_of(&vault, (&masterkey_name, &masterkey), source, new_password).await?;
            match old {
                Some(old) => {
                    let old = VaultFile::read(remote, &vault, name, old).await?;
                    backups.push(old.replace(remote, &content).await?);
                }
                None => put_new(remote, &vault, &name, &content).await?,
            }
        }
        Ok(backups)
    }
}

async fn content_of(
    vault: &RemotePath,
    (masterkey_name, masterkey): (&RemoteName, &Masterkey),
    source: Source,
    new_password: Option<&str>,
) -> Result<Bytes, OpenError> {
    let config = match source {
        Source::Backup(_, content) => return Ok(content),
        Source::NewPassword => {
            let password = Zeroizing::new(new_password.unwrap_or_default().to_owned());
            let masterkey = masterkey.clone();
            let wrapped = spawn_blocking(move || {
                let file = MasterkeyFile::create(&masterkey, &password, MasterkeyFile::VERSION_OF_FORMAT_8);
                proved(file.map_err(|error| error.to_string())?, &masterkey, &password)
            });
            let wrapped = wrapped.await.map_err(|error| OpenError::refused(vault, error))?;
            return wrapped.map(Bytes::from).map_err(|reason| OpenError::refused(vault, reason));
        }
        Source::Inferred(InferredConfig { config, .. }) | Source::SameConfig(config) => config,
    };
    let name = String::from_utf8_lossy(masterkey_name.as_bytes());
    let config = config.encode(masterkey, &name).map_err(|error| OpenError::refused(vault, error))?;
    Ok(Bytes::from(config))
}
