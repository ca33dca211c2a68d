//! The vaults of a mount: found by their marker files, unlocked, locked, inspected, created.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use scaup_crypto::{
    CipherCombo, ConfigError, Cryptor, DirectoryId, Masterkey, MasterkeyFile, UnlockError, UnverifiedConfig,
    VaultConfig,
};
use scaup_fuse::filesystem::Inode;

use super::bindings::Displacement;
use super::found::{Directory, Place};
use super::listings::Purpose;
use super::locking::nobody_has;
use super::marker_files::MarkerFiles;
use super::status::Unsaved;
use super::vault::{UnlockedVault, VaultDirectory, content_path, write_small};
use super::{Drive, DriveError};
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath};

/// Longest config or masterkey file that is read, bytes: Cryptomator's are below 1 KiB.
const MARKER_FILE_MAX: usize = 64 * 1024;

/// How long locking and unlocking wait until the kernel has dropped what it holds.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);

/// Whether a vault's content can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultState {
    /// Its decrypted content is shown.
    Unlocked,
    /// Its encrypted content is shown, read-only.
    Locked,
    /// It can't be opened by this program, with the reason and the way out.
    Unsupported(String),
}

/// A vault that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultStatus {
    /// Its directory.
    pub path: RemotePath,
    /// Whether its content can be seen.
    pub state: VaultState,
    /// The vault format (7 or 8 where supported), once known.
    pub format: Option<u32>,
    /// `SIV_GCM` or `SIV_CTRMAC`, once known.
    pub cipher_combo: Option<String>,
    /// Its id, once known; formats before 8 have none.
    pub id: Option<String>,
    /// What the server shows in its place.
    pub displaced: Option<Displacement>,
}

/// Why a vault can't be unlocked, locked, inspected or created.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The password is wrong; worth asking again.
    #[error("wrong password for vault {0:?}")]
    WrongPassword(RemotePath),
    /// There is no vault at this path.
    #[error(
        "no vault at {0:?}: there is no vault.cryptomator or masterkey.cryptomator beside a directory named d"
    )]
    NotAVault(RemotePath),
    /// It can't be opened, with the reason and the way out.
    #[error("vault {path:?}: {reason}")]
    Refused {
        /// Its directory.
        path: RemotePath,
        /// Why, and what to do about it.
        reason: String,
    },
    /// A vault is expected there, and the server shows something else.
    #[error("vault {path:?}: {shown}")]
    Displaced {
        /// Its directory.
        path: RemotePath,
        /// What the server shows.
        #[source]
        shown: Displacement,
    },
    /// Some content is not on the server yet.
    #[error("{} files are not saved on the server yet", .0.files)]
    Unsaved(Unsaved),
    /// The server failed meanwhile.
    #[error("vault {path:?}: {source}")]
    Remote {
        /// Its directory.
        path: RemotePath,
        /// What the server said.
        source: RemoteError,
    },
}

/// Which of the files that make a vault are there (`vault-format` section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Markers {
    config: bool,
    masterkey: bool,
    uvf: bool,
    data: bool,
}

impl Markers {
    pub(crate) const CONFIG: &'static str = "vault.cryptomator";
    pub(crate) const MASTERKEY: &'static str = "masterkey.cryptomator";
    /// The marker of the newer Universal Vault Format.
    pub(super) const UVF: &'static str = "vault.uvf";
    pub(crate) const DATA: &'static str = "d";

    pub(super) fn from_kinds(
        config: Option<RemoteKind>,
        masterkey: Option<RemoteKind>,
        uvf: Option<RemoteKind>,
        data: Option<RemoteKind>,
    ) -> Self {
        let is_file = |kind| kind == Some(RemoteKind::File);
        Self {
            config: is_file(config),
            masterkey: is_file(masterkey),
            uvf: is_file(uvf),
            data: data == Some(RemoteKind::Directory),
        }
    }

    pub(super) fn are_a_vault(self) -> bool {
        self.data && (self.config || self.masterkey || self.uvf)
    }
}

/// A vault that this drive met.
pub(super) struct KnownVault {
    inode: Inode,
    /// Why it can't be opened.
    unsupported: Option<String>,
    format: Option<u32>,
    cipher_combo: Option<String>,
    id: Option<String>,
}

impl KnownVault {
    fn opened(inode: Inode, opening: &Opening) -> Self {
        Self {
            inode,
            unsupported: None,
            format: opening.format(),
            cipher_combo: opening.cipher_combo(),
            id: opening.id(),
        }
    }

    /// One that was not met yet in this mount.
    fn expected(inode: Inode) -> Self {
        Self { inode, unsupported: None, format: None, cipher_combo: None, id: None }
    }

    fn unsupported(inode: Inode, reason: String) -> Self {
        Self { inode, unsupported: Some(reason), format: None, cipher_combo: None, id: None }
    }
}

/// What a vault's two files say before the password is known.
pub(super) struct Opening {
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
}

impl Opening {
    /// The id that the config claims; one that no vault has is none.
    pub(super) fn id(&self) -> Option<String> {
        /// Longest id that is remembered, bytes; Cryptomator's have 36.
        const ID_MAX: usize = 128;
        self.config.as_ref()?.claimed_id().filter(|id| id.len() <= ID_MAX)
    }

    /// Checks that these are the files of the vault that was unlocked with `cryptor`, as far as can be told without the password.
    pub(super) fn belongs_to(self, cryptor: &Cryptor) -> Result<(), String> {
        match self.config {
            Some(config) => cryptor.verify(config).map(drop).map_err(|error| config_reason(&error)),
            None => Ok(()),
        }
    }
}

fn refused(path: &RemotePath, reason: impl std::fmt::Display) -> VaultError {
    VaultError::Refused { path: path.clone(), reason: reason.to_string() }
}

fn failed(path: &RemotePath) -> impl Fn(RemoteError) -> VaultError + '_ {
    |source| VaultError::Remote { path: path.clone(), source }
}

fn child(path: &RemotePath, name: &str) -> Option<RemotePath> {
    RemoteName::parse(name.as_bytes()).map(|name| path.join(&name))
}

async fn read_marker(
    remote: &dyn Remote,
    path: &RemotePath,
    name: &str,
) -> Result<Option<Bytes>, VaultError> {
    let Some(file) = child(path, name) else { return Ok(None) };
    match remote.read_small(&file, MARKER_FILE_MAX).await {
        Ok(content) => Ok(Some(content)),
        Err(RemoteError::NotFound | RemoteError::IsADirectory) => Ok(None),
        Err(RemoteError::Protocol(_)) => Err(refused(path, format_args!("{name} is far too long to be one"))),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Decides what a vault is (`vault-format` section 1), before a password is asked for.
pub(super) async fn open_files(remote: &dyn Remote, path: &RemotePath) -> Result<Opening, VaultError> {
    let data = async {
        match child(path, Markers::DATA) {
            Some(data) => remote.stat(&data).await,
            None => Err(RemoteError::NotFound),
        }
    };
    let (config, masterkey, uvf, data) = futures::join!(
        read_marker(remote, path, Markers::CONFIG),
        read_marker(remote, path, Markers::MASTERKEY),
        read_marker(remote, path, Markers::UVF),
        data
    );
    let (config, masterkey, uvf) = (config?, masterkey?, uvf?);
    match data {
        Ok(attributes) if attributes.kind == RemoteKind::Directory => {}
        Ok(_) | Err(RemoteError::NotFound | RemoteError::NotADirectory) => {
            return Err(VaultError::NotAVault(path.clone()));
        }
        Err(error) => return Err(failed(path)(error)),
    }
    match (config, masterkey) {
        (Some(config), masterkey) => {
            let config =
                UnverifiedConfig::parse(&config).map_err(|error| refused(path, config_reason(&error)))?;
            let name = config.masterkey_file_name().map_err(|error| refused(path, config_reason(&error)))?;
            let masterkey =
                if name == Markers::MASTERKEY { masterkey } else { read_marker(remote, path, name).await? };
            let masterkey = masterkey.ok_or_else(|| {
                refused(
                    path,
                    format_args!(
                        "{name} is missing; restore it from {name}.*.bkup, or with Cryptomator's recovery key"
                    ),
                )
            })?;
            let masterkey = MasterkeyFile::parse(&masterkey).map_err(|error| refused(path, error))?;
            Ok(Opening { masterkey, config: Some(config) })
        }
        (None, Some(masterkey)) => {
            let masterkey = MasterkeyFile::parse(&masterkey).map_err(|error| refused(path, error))?;
            let reason = match masterkey.version() {
                7 => return Ok(Opening { masterkey, config: None }),
                version @ (5 | 6) => format!(
                    "its format is {version}; unlock it once with a current Cryptomator desktop, which upgrades it"
                ),
                version @ 1..=4 => format!(
                    "its format is {version}, too old even for current Cryptomator; upgrade it with Cryptomator 1.4, or copy the files out with it"
                ),
                _ => "vault.cryptomator is missing; restore it from vault.cryptomator.*.bkup".to_owned(),
            };
            Err(refused(path, reason))
        }
        (None, None) if uvf.is_some() => {
            Err(refused(path, "it is in the Universal Vault Format, which Scaup does not support yet"))
        }
        (None, None) => Err(VaultError::NotAVault(path.clone())),
    }
}

fn config_reason(error: &ConfigError) -> String {
    format!("vault.cryptomator: {error}")
}

/// Checks the password, then the config's signature, and only then believes the config.
fn unlock_with(path: &RemotePath, opening: Opening, password: &str) -> Result<Cryptor, VaultError> {
    let masterkey = opening.masterkey.unlock(password).map_err(|error| match error {
        UnlockError::WrongPassword => VaultError::WrongPassword(path.clone()),
        error => refused(path, error),
    })?;
    let config = match opening.config {
        Some(config) => config.verify(&masterkey).map_err(|error| refused(path, config_reason(&error)))?,
        None => VaultConfig::format7(),
    };
    Ok(Cryptor::new(masterkey, config))
}

/// [`unlock_with`] on a thread of its own: the key derivation takes a while.
async fn unlock_aside(path: &RemotePath, opening: Opening, password: &str) -> Result<Cryptor, VaultError> {
    let (owned_path, password) = (path.clone(), zeroize::Zeroizing::new(password.to_owned()));
    tokio::task::spawn_blocking(move || unlock_with(&owned_path, opening, &password))
        .await
        .map_err(|error| refused(path, error))?
}

impl Drive {
    fn lock_vaults(&self) -> MutexGuard<'_, Vec<KnownVault>> {
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a vault that was met on the way.
    pub(super) async fn meet_vault(&self, inode: Inode, path: &RemotePath) {
        let known = match open_files(self.remote.as_ref(), path).await {
            Ok(opening) => {
                let mut nodes = self.tree.lock();
                if nodes.is_another(inode, &opening) {
                    nodes.displace(inode, Displacement::OtherVault);
                }
                KnownVault::opened(inode, &opening)
            }
            Err(VaultError::Refused { reason, .. }) => KnownVault::unsupported(inode, reason),
            Err(error) => KnownVault::unsupported(inode, error.to_string()),
        };
        let mut vaults = self.lock_vaults();
        vaults.retain(|vault| vault.inode != inode);
        vaults.push(known);
    }

    /// The directories of all vaults that were met so far or are expected.
    pub(super) fn met_vaults(&self) -> Vec<Inode> {
        let mut vaults: Vec<Inode> = self.lock_vaults().iter().map(|vault| vault.inode).collect();
        vaults.extend(self.tree.lock().bound_below(Inode::ROOT));
        vaults
    }

    /// Why a vault can't be unlocked any more, or that it can again.
    pub(super) fn note_unsupported(&self, inode: Inode, unsupported: Option<String>) {
        if let Some(known) = self.lock_vaults().iter_mut().find(|vault| vault.inode == inode) {
            known.unsupported = unsupported;
        }
    }

    /// All vaults met so far.
    #[must_use]
    pub fn vaults(&self) -> Vec<VaultStatus> {
        let met = self.lock_vaults();
        let nodes = self.tree.lock();
        let is_met = |bound: &Inode| met.iter().any(|vault| vault.inode == *bound);
        let expected = nodes.bound_below(Inode::ROOT).into_iter().filter(|bound| !is_met(bound));
        let expected: Vec<KnownVault> = expected.map(KnownVault::expected).collect();
        met.iter()
            .chain(&expected)
            .filter_map(|vault| {
                let path = nodes.path_of(vault.inode).ok()?;
                let state = match (nodes.bindings().unlocked(vault.inode), &vault.unsupported) {
                    (Some(_), _) => VaultState::Unlocked,
                    (None, Some(reason)) => VaultState::Unsupported(reason.clone()),
                    (None, None) => VaultState::Locked,
                };
                Some(VaultStatus {
                    path,
                    state,
                    format: vault.format,
                    cipher_combo: vault.cipher_combo.clone(),
                    id: vault.id.clone(),
                    displaced: nodes.displacement_of(vault.inode).cloned(),
                })
            })
            .collect()
    }

    /// The vaults at the mounted directory itself or directly in it.
    ///
    /// # Errors
    ///
    /// If the mounted directory can't be listed.
    pub async fn find_vaults(&self) -> Result<Vec<VaultStatus>, VaultError> {
        let root = RemotePath::root();
        let directories: Vec<std::ffi::OsString> = {
            let _paths = self.hold_paths([Inode::ROOT]).await;
            let (_, names) = self.names(Inode::ROOT).await.map_err(|error| drive_failed(&root, error))?;
            let directories = names.kinds().filter(|&(_, kind)| kind == RemoteKind::Directory);
            directories.map(|(name, _)| name.to_owned()).collect()
        };
        /// Directories that are looked into at the same time.
        const LOOKS_AT_ONCE: usize = 128;
        // A vault's own directories are no vaults.
        if self.lock_vaults().is_empty() {
            let looks = directories.iter().map(|name| async move {
                let _paths = self.hold_name(Inode::ROOT, name).await;
                match self.find(Inode::ROOT, name).await {
                    Ok(Some(inode)) => self.directory(inode).await.map(|_| ()),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                }
            });
            // A server can make up any number of directories.
            let mut looks = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
            while let Some(look) = looks.next().await {
                if let Err(error) = look {
                    tracing::debug!(errno = error.errno(), "could not look into a directory for a vault");
                }
            }
        }
        Ok(self.vaults())
    }

    /// The node of a directory, looked up from the root.
    async fn directory_at(&self, path: &RemotePath) -> Result<Inode, VaultError> {
        let mut at = Inode::ROOT;
        for name in path.as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
            let _paths = self.hold_name(at, name).await;
            let found = match self.find(at, name).await {
                Ok(None) => {
                    // Somebody may have made it just now.
                    self.forget_names(at);
                    self.find(at, name).await
                }
                found => found,
            };
            at = match found {
                Ok(Some(inode)) => inode,
                Ok(None) => return Err(VaultError::NotAVault(path.clone())),
                Err(error) => return Err(drive_failed(path, error)),
            };
        }
        let nodes = self.tree.lock();
        match nodes.get(at) {
            Ok(node)
                if matches!(node.place, Place::Plain) && node.attributes.kind == RemoteKind::Directory =>
            {
                Ok(at)
            }
            _ => Err(VaultError::NotAVault(path.clone())),
        }
    }

    /// Looks whether there is a vault at `path`, and which.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotAVault`], or what the server says.
    pub async fn inspect(&self, path: &RemotePath) -> Result<VaultStatus, VaultError> {
        inspect_vault(self.remote.as_ref(), path).await
    }

    /// Unlocks the vault at `path`, which need not have been met before. Unlocking an unlocked vault does nothing.
    ///
    /// # Errors
    ///
    /// [`VaultError::WrongPassword`] is worth another try; everything else says why the vault can't be opened.
    pub async fn unlock(&self, path: &RemotePath, password: &str) -> Result<(), VaultError> {
        let inode = self.directory_at(path).await?;
        {
            let nodes = self.tree.lock();
            if nodes.bindings().unlocked(inode).is_some() {
                return Ok(());
            }
            // Its decrypted content would hide the other one.
            if nodes.bound_below(inode).into_iter().any(|bound| bound != inode) {
                return Err(refused(path, "another vault that was unlocked lies in its directory"));
            }
        }
        let opening = open_files(self.remote.as_ref(), path).await?;
        if self.tree.lock().is_another(inode, &opening) {
            return Err(VaultError::Displaced { path: path.clone(), shown: Displacement::OtherVault });
        }
        let (known, id) = (KnownVault::opened(inode, &opening), opening.id());
        let cryptor = unlock_aside(path, opening, password).await?;
        let vault = UnlockedVault::new(cryptor);
        let unlocked = Instant::now();
        self.begin_with(path, &vault).await?;
        let gone = {
            let mut vaults = self.lock_vaults();
            vaults.retain(|vault| vault.inode != inode);
            vaults.push(known);
            drop(vaults);
            let mut nodes = self.tree.lock();
            let gone = nodes.detach_below(inode, unlocked);
            nodes.bind_unlocked(inode, vault, id).map_err(|error| drive_failed(path, error))?;
            gone
        };
        self.drop_from_kernel(inode, gone).await;
        Ok(())
    }

    /// Looks whether an unlocked vault's root has content, and has it listed meanwhile: that is what everybody asks for first.
    async fn begin_with(&self, path: &RemotePath, vault: &Arc<UnlockedVault>) -> Result<(), VaultError> {
        let cryptor = vault.cryptor().map_err(|error| drive_failed(path, error))?;
        let id = DirectoryId::root();
        let root = VaultDirectory { vault: Arc::clone(vault), cryptor, root: path.clone(), id };
        let content = root.content();
        let began = self.listings.begin(&self.remote, &Directory::Vault(root), Purpose::Names);
        began.map_err(|error| drive_failed(path, error))?;
        let (looked, root) =
            futures::join!(MarkerFiles::look(self.remote.as_ref(), path), self.remote.stat(&content));
        if let Ok(looked) = looked {
            vault.note_marker_files(looked);
        }
        let reason = match root {
            Ok(attributes) if attributes.kind == RemoteKind::Directory => return Ok(()),
            Ok(_) | Err(RemoteError::NotFound) => refused(
                path,
                "the content of its root directory is missing; restore the vault's d directory from a backup",
            ),
            Err(error) => failed(path)(error),
        };
        self.listings.forget(&content);
        Err(reason)
    }

    /// Saves what is unsaved in the vault, and drops its keys, its names and its content, whoever still has something of it open, and what the
    /// kernel holds of it. Content of files that were removed, and that programs still have open, is nowhere then.
    ///
    /// # Errors
    ///
    /// [`VaultError::Unsaved`] if something can't be saved: the vault stays unlocked then.
    pub async fn lock(&self, path: &RemotePath) -> Result<(), VaultError> {
        // Where its keys are does not depend on what the server shows.
        let bound = {
            let nodes = self.tree.lock();
            let inode = nodes.bound_at(path);
            inode.and_then(|inode| Some((inode, nodes.bindings().unlocked(inode).cloned()?)))
        };
        let Some((inode, vault)) = bound else {
            return self.directory_at(path).await.map(drop);
        };
        self.save_all().await;
        let keys = self.forget_content_of(&vault).await?;
        let gone = {
            let mut nodes = self.tree.lock();
            let gone = nodes.detach_below(inode, Instant::now());
            nodes.lock_bound(inode);
            gone
        };
        self.forget_names_of(&vault);
        futures::join!(self.drop_from_kernel(inode, gone), nobody_has(&keys));
        // What was on its way when the keys were taken has been decrypted since.
        self.cache.clear();
        Ok(())
    }

    /// Has the kernel drop what it holds below a directory, and waits for that: until then those names and pages are readable.
    async fn drop_from_kernel(&self, inode: Inode, gone: Vec<(Inode, std::ffi::OsString, Inode)>) {
        let Some(invalidate) = self.invalidate.get() else { return };
        for (parent, name, child) in gone.iter().rev() {
            invalidate.inode(*child);
            invalidate.entry(*parent, name);
        }
        invalidate.inode(inode);
        // Forgetting the directory's own entry forgets the names below it that were looked for and not found.
        let entry = self.tree.lock().get(inode).ok().map(|node| (node.parent, node.name.clone()));
        if let Some((parent, name)) = entry.filter(|(parent, _)| *parent != inode) {
            invalidate.entry(parent, &name);
        }
        // It waits for whoever is just looking one up.
        if tokio::time::timeout(KERNEL_PATIENCE, invalidate.settled()).await.is_err() {
            tracing::warn!("the kernel has not dropped all names of a vault yet");
        }
    }
}

fn drive_failed(path: &RemotePath, error: DriveError) -> VaultError {
    match error {
        DriveError::Remote(source) => VaultError::Remote { path: path.clone(), source },
        DriveError::Displaced(shown) => VaultError::Displaced { path: path.clone(), shown },
        error => refused(path, error),
    }
}

/// What can be said of the vault at `path` without its password.
///
/// # Errors
///
/// [`VaultError::NotAVault`], or what the server said. A vault that can't be opened is an answer, not an error.
pub async fn inspect_vault(remote: &dyn Remote, path: &RemotePath) -> Result<VaultStatus, VaultError> {
    let status = |state, known: KnownVault| VaultStatus {
        path: path.clone(),
        state,
        format: known.format,
        cipher_combo: known.cipher_combo,
        id: known.id,
        displaced: None,
    };
    match open_files(remote, path).await {
        Ok(opening) => Ok(status(VaultState::Locked, KnownVault::opened(Inode::ROOT, &opening))),
        Err(VaultError::Refused { reason, .. }) => {
            let known = KnownVault::unsupported(Inode::ROOT, reason.clone());
            Ok(status(VaultState::Unsupported(reason), known))
        }
        Err(error) => Err(error),
    }
}

/// The keys and the config of the vault at `path`, without a look at its content.
///
/// # Errors
///
/// [`VaultError::WrongPassword`] is worth another try; everything else says why the vault can't be opened.
pub async fn open_vault(
    remote: &dyn Remote,
    path: &RemotePath,
    password: &str,
) -> Result<Cryptor, VaultError> {
    let opening = open_files(remote, path).await?;
    unlock_aside(path, opening, password).await
}

/// Checks that a vault can be made at `path`: nothing is there, or an empty directory. Answers whether the directory is.
///
/// # Errors
///
/// If anything else is there, or the server can't tell.
pub async fn check_place_for_vault(remote: &dyn Remote, path: &RemotePath) -> Result<bool, VaultError> {
    match remote.list(path).await {
        Ok(entries) if entries.is_empty() => Ok(true),
        Ok(_) => Err(refused(path, "the directory is not empty; name a new one")),
        Err(RemoteError::NotFound) => Ok(false),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Makes a vault in `path`, which must be missing or empty.
///
/// The marker files come last, so that a cut leaves no vault rather than half of one.
///
/// # Errors
///
/// [`VaultError::Refused`] if something is there already; what the server said.
pub async fn create_vault(
    remote: &dyn Remote,
    path: &RemotePath,
    password: &str,
    cipher_combo: CipherCombo,
    shortening_threshold: u32,
) -> Result<(), VaultError> {
    if !check_place_for_vault(remote, path).await? {
        remote.mkdir_by_umask(path).await.map_err(failed(path))?;
    }
    let config = VaultConfig {
        format: 8,
        cipher_combo,
        shortening_threshold: usize::try_from(shortening_threshold).unwrap_or(usize::MAX),
    };
    let password = zeroize::Zeroizing::new(password.to_owned());
    let made = tokio::task::spawn_blocking(move || {
        let masterkey = Masterkey::generate().map_err(|error| error.to_string())?;
        let file = MasterkeyFile::create(&masterkey, &password, 999).map_err(|error| error.to_string())?;
        let token = config.encode(&masterkey).map_err(|error| error.to_string())?;
        let cryptor = Cryptor::new(masterkey, config);
        let root_id = DirectoryId::root();
        let backup = cryptor.encrypt_small(root_id.as_bytes()).map_err(|error| error.to_string())?;
        Ok::<_, String>((file, token, cryptor, backup))
    });
    let (masterkey_file, token, cryptor, backup) =
        made.await.map_err(|error| refused(path, error))?.map_err(|error| refused(path, error))?;
    let content = content_path(path, &cryptor, &DirectoryId::root());
    let mut levels = Vec::new();
    let mut at = content.clone();
    while at != *path {
        levels.push(at.clone());
        match at.split() {
            Some((parent, _)) => at = parent,
            None => break,
        }
    }
    for level in levels.iter().rev() {
        remote.mkdir_by_umask(level).await.map_err(failed(path))?;
    }
    let files: [(RemotePath, &str, &[u8]); 3] = [
        (content, "dirid.c9r", &backup),
        (path.clone(), Markers::MASTERKEY, &masterkey_file),
        (path.clone(), Markers::CONFIG, token.as_bytes()),
    ];
    for (directory, name, bytes) in files {
        let Some(file) = child(&directory, name) else { continue };
        write_small(remote, &file, bytes).await.map_err(failed(path))?;
    }
    Ok(())
}
