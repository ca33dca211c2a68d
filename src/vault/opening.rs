//! Opening a vault: its marker files, and its keys (`docs/vault-format.md` sections 1 to 3).

use bytes::Bytes;
use scaup_crypto::{ConfigError, Cryptor, MasterkeyFile, UnlockError, UnverifiedConfig, VaultConfig};

use super::copies_beside::CopiesBeside;
use super::error::OpenError;
use super::format::part;
use super::markers::{MARKER_FILE_MAX, Markers};
use super::secret::VaultSecret;
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath};

/// The content of a vault's two files before its keys are known.
#[derive(Clone)]
pub(crate) struct Opening {
    masterkey: Result<FoundMasterkey, NoPassword>,
    /// `None` for format 7, which has no config file.
    config: Option<UnverifiedConfig>,
}

/// A masterkey file as it lies in a vault.
#[derive(Clone)]
pub(super) struct FoundMasterkey {
    pub(super) name: RemoteName,
    pub(super) content: Bytes,
    pub(super) file: MasterkeyFile,
}

/// Why no password opens a vault, but its recovery key does.
#[derive(Clone)]
enum NoPassword {
    /// Its keys are kept by a Cryptomator Hub.
    Hub(String),
    /// Its masterkey file is missing or damaged.
    Damaged(String),
}

impl NoPassword {
    fn reason(&self) -> &str {
        match self {
            Self::Hub(reason) | Self::Damaged(reason) => reason,
        }
    }
}

impl Opening {
    fn format(&self) -> Option<u32> {
        match &self.config {
            Some(config) => config.claimed_format(),
            None => Some(VaultConfig::format7().format),
        }
    }

    /// Returns the masterkey file, or the error for a vault that no password opens.
    pub(super) fn masterkey(&self, path: &RemotePath) -> Result<&FoundMasterkey, OpenError> {
        self.masterkey.as_ref().map_err(|no_password| OpenError::refused(path, no_password.reason()))
    }

    /// Whether there is a config file, which formats before 8 do not have.
    pub(super) fn has_config(&self) -> bool {
        self.config.is_some()
    }

    fn cipher_combo(&self) -> Option<String> {
        match &self.config {
            Some(config) => config.claimed_cipher_combo(),
            None => Some(VaultConfig::format7().cipher_combo.to_string()),
        }
    }

    /// Returns the id that the config claims; `None` for one longer than any vault's.
    pub(crate) fn id(&self) -> Option<String> {
        /// Longest id that is remembered, bytes; Cryptomator's have 36.
        const ID_MAX: usize = 128;
        self.config.as_ref()?.claimed_id().filter(|id| id.len() <= ID_MAX)
    }

    /// Checks that these are the files of the vault that was unlocked with `cryptor`, as far as can be told without the
    /// password.
    pub(crate) fn belongs_to(&self, cryptor: &Cryptor) -> Result<(), String> {
        if let Err(NoPassword::Damaged(reason)) = &self.masterkey {
            return Err(reason.clone());
        }
        match &self.config {
            Some(config) => cryptor.verify(config.clone()).map(drop).map_err(|error| config_reason(&error)),
            None => Ok(()),
        }
    }
}

pub(super) async fn read_marker(
    remote: &dyn Remote,
    path: &RemotePath,
    name: &RemoteName,
) -> Result<Option<Bytes>, OpenError> {
    match remote.read_small(&path.join(name), MARKER_FILE_MAX).await {
        Ok(content) => Ok(Some(content)),
        Err(RemoteError::NotFound | RemoteError::IsADirectory) => Ok(None),
        Err(RemoteError::TooLong { .. }) => {
            let name = String::from_utf8_lossy(name.as_bytes());
            Err(OpenError::refused(path, format_args!("{name} is too long to be valid")))
        }
        Err(error) => Err(OpenError::of(path)(error)),
    }
}

/// Determines the kind of a vault (`docs/vault-format.md` section 1), before a password is asked for.
pub(crate) async fn open_files(remote: &dyn Remote, path: &RemotePath) -> Result<Opening, OpenError> {
    let [config, masterkey, uvf, data] =
        [Markers::CONFIG, Markers::MASTERKEY, Markers::UVF, Markers::DATA].map(part);
    let data = path.join(&data);
    let (config, masterkey, uvf, data) = futures::join!(
        read_marker(remote, path, &config),
        read_marker(remote, path, &masterkey),
        read_marker(remote, path, &uvf),
        remote.stat(&data)
    );
    let (config, masterkey, uvf) = (config?, masterkey?, uvf?);
    match data {
        Ok(attributes) if attributes.kind == RemoteKind::Directory => {}
        Ok(_) | Err(RemoteError::NotFound | RemoteError::NotADirectory) => {
            return Err(OpenError::NotAVault(path.clone()));
        }
        Err(error) => return Err(OpenError::of(path)(error)),
    }
    match (config, masterkey) {
        (Some(config), masterkey) => {
            let config = UnverifiedConfig::parse(&config)
                .map_err(|error| OpenError::damaged(path, config_reason(&error)))?;
            let name = match config.masterkey_file_name() {
                Ok(name) => name,
                Err(error @ ConfigError::Hub) => {
                    let masterkey = Err(NoPassword::Hub(config_reason(&error)));
                    return Ok(Opening { masterkey, config: Some(config) });
                }
                Err(error) => return Err(OpenError::refused(path, config_reason(&error))),
            };
            let no_name =
                || OpenError::refused(path, "vault.cryptomator names a masterkey file that can't exist");
            let name = RemoteName::parse(name.as_bytes()).ok_or_else(no_name)?;
            let content = match name.as_bytes() == Markers::MASTERKEY.as_bytes() {
                true => masterkey,
                false => read_marker(remote, path, &name).await?,
            };
            Ok(Opening { masterkey: found_masterkey(name, content), config: Some(config) })
        }
        (None, Some(masterkey)) => {
            let file = MasterkeyFile::parse(&masterkey).map_err(|error| OpenError::damaged(path, error))?;
            let reason = match file.version() {
                7 => {
                    let (name, content) = (part(Markers::MASTERKEY), masterkey);
                    return Ok(Opening {
                        masterkey: Ok(FoundMasterkey { name, content, file }),
                        config: None,
                    });
                }
                version @ (5 | 6) => format!(
                    "its format is {version}; unlock it once with a current Cryptomator desktop, which upgrades it to format 8"
                ),
                version @ 1..=4 => format!(
                    "its format is {version}, too old even for current Cryptomator; upgrade it with Cryptomator 1.4, or copy the files out with it"
                ),
                _ => {
                    let reason = "vault.cryptomator is missing; scaup vault restore brings it back";
                    return Err(OpenError::damaged(path, reason));
                }
            };
            Err(OpenError::refused(path, reason))
        }
        (None, None) if uvf.is_some() => Err(OpenError::refused(
            path,
            "it is in the Universal Vault Format, which Scaup does not support yet",
        )),
        (None, None) => Err(OpenError::NotAVault(path.clone())),
    }
}

fn config_reason(error: &ConfigError) -> String {
    format!("vault.cryptomator: {error}")
}

fn found_masterkey(name: RemoteName, content: Option<Bytes>) -> Result<FoundMasterkey, NoPassword> {
    let without = "or open the vault with its recovery key, which needs no such file";
    let content = content.ok_or_else(|| {
        let name = String::from_utf8_lossy(name.as_bytes());
        NoPassword::Damaged(format!("{name} is missing; scaup vault restore brings it back, {without}"))
    })?;
    match MasterkeyFile::parse(&content) {
        Ok(file) => Ok(FoundMasterkey { name, content, file }),
        Err(error) => Err(NoPassword::Damaged(format!("{error}, {without}"))),
    }
}

/// Takes the keys that the password gives or the recovery key is, checks with them that the config is signed (or a
/// format before 8 authenticated), and only then believes it.
fn unlock_with(path: &RemotePath, opening: Opening, secret: &VaultSecret) -> Result<Cryptor, OpenError> {
    let masterkey = match secret {
        VaultSecret::Password(password) => {
            opening.masterkey(path)?.file.unlock(password).map_err(|error| match error {
                UnlockError::WrongPassword => {
                    OpenError::WrongPassword { path: path.clone(), beside: CopiesBeside::default() }
                }
                error => OpenError::damaged(path, error),
            })?
        }
        VaultSecret::RecoveryKey(masterkey) => masterkey.clone(),
    };
    let foreign = || OpenError::ForeignKey(path.clone());
    let config = match opening.config {
        Some(config) => config.verify(&masterkey).map_err(|error| match (error, secret) {
            (ConfigError::WrongKey, VaultSecret::RecoveryKey(_)) => foreign(),
            (error @ ConfigError::WrongKey, VaultSecret::Password(_)) => {
                OpenError::damaged(path, config_reason(&error))
            }
            (error, _) => OpenError::refused(path, config_reason(&error)),
        })?,
        None if opening.masterkey(path)?.file.is_authentic(&masterkey) => VaultConfig::format7(),
        None => return Err(foreign()),
    };
    Ok(Cryptor::new(masterkey, config))
}

/// Returns the vault's keys, without a request to the server. They are derived on a thread of its own: that takes a
/// while.
pub(crate) async fn keys_of(
    path: &RemotePath,
    opening: Opening,
    secret: &VaultSecret,
) -> Result<Cryptor, OpenError> {
    let (at, given) = (path.clone(), secret.clone());
    tokio::task::spawn_blocking(move || unlock_with(&at, opening, &given))
        .await
        .map_err(|error| OpenError::refused(path, error))?
}

/// As [`keys_of`]: the error names copies of the vault's files that lie beside them.
pub(crate) async fn cryptor_of(
    remote: &dyn Remote,
    path: &RemotePath,
    opening: Opening,
    secret: &VaultSecret,
) -> Result<Cryptor, OpenError> {
    match (keys_of(path, opening, secret).await, secret.as_password()) {
        (Err(OpenError::WrongPassword { path, .. }), Some(password)) => {
            let beside = Box::pin(CopiesBeside::look_for(remote, &path, password)).await;
            Err(OpenError::WrongPassword { path, beside })
        }
        (Err(error), password) => Err(Box::pin(with_copies(remote, error, password)).await),
        (unlocked, _) => unlocked,
    }
}

/// As [`open_files`] for a vault that a person wants to open: the error, or the reason why no password opens it, names
/// copies of its files that lie beside them, and says which of them the password fits if there is one already.
pub(crate) async fn find_files(
    remote: &dyn Remote,
    path: &RemotePath,
    secret: Option<&VaultSecret>,
) -> Result<Opening, OpenError> {
    let password = secret.and_then(VaultSecret::as_password);
    // In a box, as what follows an error is: their futures would make those of all callers large.
    match Box::pin(open_files(remote, path)).await {
        Ok(mut opening) => {
            if let Err(NoPassword::Damaged(reason)) = &mut opening.masterkey
                && !matches!(secret, Some(VaultSecret::RecoveryKey(_)))
            {
                let beside = Box::pin(CopiesBeside::look(remote, path, password)).await;
                reason.push_str(&beside.to_string());
            }
            Ok(opening)
        }
        Err(error) => Err(Box::pin(with_copies(remote, error, password)).await),
    }
}

/// Adds to the error for a damaged or missing file what lies beside.
async fn with_copies(remote: &dyn Remote, error: OpenError, password: Option<&str>) -> OpenError {
    match error {
        OpenError::Refused { path, reason, is_damage: true } => {
            let beside = CopiesBeside::look(remote, &path, password).await;
            OpenError::damaged(&path, format_args!("{reason}{beside}"))
        }
        OpenError::NotAVault(path) if remote.stat(&path.join(&part(Markers::DATA))).await.is_ok() => {
            let beside = CopiesBeside::look(remote, &path, password).await;
            if beside.is_empty() {
                return OpenError::NotAVault(path);
            }
            let reason = "vault.cryptomator and masterkey.cryptomator are missing";
            OpenError::damaged(&path, format_args!("{reason}{beside}"))
        }
        error => error,
    }
}

/// What is known of a vault without its password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VaultInfo {
    /// Why no password opens it by this program, and what to do about it.
    pub unsupported: Option<String>,
    /// Whether its recovery key opens it, as far as can be told.
    pub by_recovery_key: bool,
    /// The vault format (7 or 8 where supported), once known.
    pub format: Option<u32>,
    /// `SIV_GCM` or `SIV_CTRMAC`, once known.
    pub cipher_combo: Option<String>,
    /// Its id, once known; formats before 8 have none.
    pub id: Option<String>,
}

impl VaultInfo {
    /// Creates the info of a vault that can't be opened.
    pub(crate) fn unsupported(reason: String) -> Self {
        Self { unsupported: Some(reason), ..Self::default() }
    }
}

impl From<&Opening> for VaultInfo {
    fn from(opening: &Opening) -> Self {
        let unsupported = opening.masterkey.as_ref().err().map(|no_password| no_password.reason().to_owned());
        let (format, cipher_combo, id) = (opening.format(), opening.cipher_combo(), opening.id());
        Self { unsupported, by_recovery_key: true, format, cipher_combo, id }
    }
}

/// Returns what is known of the vault at `path` without its password.
///
/// # Errors
///
/// [`OpenError::NotAVault`], or the server's error. A vault that can't be opened is no error: the result says so.
pub async fn inspect_vault(remote: &dyn Remote, path: &RemotePath) -> Result<VaultInfo, OpenError> {
    match find_files(remote, path, None).await {
        Ok(opening) => Ok(VaultInfo::from(&opening)),
        Err(OpenError::Refused { reason, .. }) => Ok(VaultInfo::unsupported(reason)),
        Err(error) => Err(error),
    }
}

/// Returns the keys and the config of the vault at `path`, without checking its content.
///
/// # Errors
///
/// What [may be tried again](OpenError::is_wrong_secret) needs another secret; everything else says why the vault can't
/// be opened.
pub async fn open_vault(
    remote: &dyn Remote,
    path: &RemotePath,
    secret: &VaultSecret,
) -> Result<Cryptor, OpenError> {
    let opening = find_files(remote, path, Some(secret)).await?;
    cryptor_of(remote, path, opening, secret).await
}
