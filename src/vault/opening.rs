//! Opening a vault: its marker files, and its keys (`docs/vault-format.md` sections 1 to 3).

use bytes::Bytes;
use scaup_crypto::{ConfigError, Cryptor, MasterkeyFile, UnlockError, UnverifiedConfig, VaultConfig};

use super::copies_beside::CopiesBeside;
use super::error::OpenError;
use super::format::part;
use super::markers::{MARKER_FILE_MAX, Markers};
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath};

/// The content of a vault's two files before the password is known.
pub(crate) struct Opening {
    masterkey: MasterkeyFile,
    /// `None` for format 7, which has no config file.
    config: Option<UnverifiedConfig>,
}

impl Opening {
    fn format(&self) -> Option<u32> {
        match &self.config {
            Some(config) => config.claimed_format(),
            None => Some(self.masterkey.version()),
        }
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
    pub(crate) fn belongs_to(self, cryptor: &Cryptor) -> Result<(), String> {
        match self.config {
            Some(config) => cryptor.verify(config).map(drop).map_err(|error| config_reason(&error)),
            None => Ok(()),
        }
    }
}

async fn read_marker(
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
            let name = config
                .masterkey_file_name()
                .map_err(|error| OpenError::refused(path, config_reason(&error)))?;
            let masterkey = if name == Markers::MASTERKEY {
                masterkey
            } else {
                let no_name =
                    || OpenError::refused(path, "vault.cryptomator names a masterkey file that can't exist");
                read_marker(remote, path, &RemoteName::parse(name.as_bytes()).ok_or_else(no_name)?).await?
            };
            let masterkey = masterkey.ok_or_else(|| {
                OpenError::damaged(
                    path,
                    format_args!(
                        "{name} is missing; restore it from {name}.*.bkup, or with Cryptomator's recovery key"
                    ),
                )
            })?;
            let masterkey =
                MasterkeyFile::parse(&masterkey).map_err(|error| OpenError::damaged(path, error))?;
            Ok(Opening { masterkey, config: Some(config) })
        }
        (None, Some(masterkey)) => {
            let masterkey =
                MasterkeyFile::parse(&masterkey).map_err(|error| OpenError::damaged(path, error))?;
            let reason = match masterkey.version() {
                7 => return Ok(Opening { masterkey, config: None }),
                version @ (5 | 6) => format!(
                    "its format is {version}; unlock it once with a current Cryptomator desktop, which upgrades it"
                ),
                version @ 1..=4 => format!(
                    "its format is {version}, too old even for current Cryptomator; upgrade it with Cryptomator 1.4, or copy the files out with it"
                ),
                _ => {
                    let reason = "vault.cryptomator is missing; restore it from vault.cryptomator.*.bkup";
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

/// Checks the password, then the config's signature, and only then believes the config.
fn unlock_with(path: &RemotePath, opening: Opening, password: &str) -> Result<Cryptor, OpenError> {
    let masterkey = opening.masterkey.unlock(password).map_err(|error| match error {
        UnlockError::WrongPassword => {
            OpenError::WrongPassword { path: path.clone(), beside: CopiesBeside::default() }
        }
        error => OpenError::damaged(path, error),
    })?;
    let config = match opening.config {
        Some(config) => config.verify(&masterkey).map_err(|error| match error {
            ConfigError::WrongKey => OpenError::damaged(path, config_reason(&error)),
            error => OpenError::refused(path, config_reason(&error)),
        })?,
        None => VaultConfig::format7(),
    };
    Ok(Cryptor::new(masterkey, config))
}

/// Returns the vault's keys. They are derived on a thread of its own: that takes a while.
pub(crate) async fn cryptor_of(
    remote: &dyn Remote,
    path: &RemotePath,
    opening: Opening,
    password: &str,
) -> Result<Cryptor, OpenError> {
    let (at, typed) = (path.clone(), zeroize::Zeroizing::new(password.to_owned()));
    let unlocked = tokio::task::spawn_blocking(move || unlock_with(&at, opening, &typed))
        .await
        .map_err(|error| OpenError::refused(path, error))?;
    match unlocked {
        Ok(cryptor) => Ok(cryptor),
        Err(OpenError::WrongPassword { path, .. }) => {
            let beside = Box::pin(CopiesBeside::look_for(remote, &path, password)).await;
            Err(OpenError::WrongPassword { path, beside })
        }
        Err(error) => Err(Box::pin(with_copies(remote, error, Some(password))).await),
    }
}

/// As [`open_files`] for a vault that a person wants to open: the error names copies of its files that lie beside them,
/// and says which of them the password fits if there is one already.
pub(crate) async fn find_files(
    remote: &dyn Remote,
    path: &RemotePath,
    password: Option<&str>,
) -> Result<Opening, OpenError> {
    // In a box, as what follows an error is: their futures would make those of all callers large.
    match Box::pin(open_files(remote, path)).await {
        Ok(opening) => Ok(opening),
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
    /// Why it can't be opened by this program, and what to do about it.
    pub unsupported: Option<String>,
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
        let (format, cipher_combo, id) = (opening.format(), opening.cipher_combo(), opening.id());
        Self { unsupported: None, format, cipher_combo, id }
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
/// [`OpenError::WrongPassword`] is worth another try; everything else says why the vault can't be opened.
pub async fn open_vault(
    remote: &dyn Remote,
    path: &RemotePath,
    password: &str,
) -> Result<Cryptor, OpenError> {
    let opening = find_files(remote, path, Some(password)).await?;
    cryptor_of(remote, path, opening, password).await
}
