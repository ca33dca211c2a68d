//! An unlocked vault and its keys.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::SystemTime;

use scaup_crypto::{Cryptor, DirectoryId};

use super::error::NodeError;
use super::format::part;
use super::known_names::KnownNames;
use super::last_use::LastUse;
use super::markers::Markers;
use super::unfinished::Unfinished;
use crate::remote::{Remote, RemoteError, RemotePath};

/// An unlocked vault. Its keys are dropped when it is locked, even if the value is still held.
pub(crate) struct UnlockedVault {
    cryptor: RwLock<Option<Arc<Cryptor>>>,
    /// The attributes of the files that it was unlocked with, when they were last known.
    marker_files: Mutex<Option<MarkerFiles>>,
    pub(crate) unfinished: Unfinished,
    pub(crate) last_use: LastUse,
    pub(super) known_names: KnownNames,
    /// The directories in which an entry was moved aside: what lay in it has another place since.
    asides: Mutex<HashSet<DirectoryId>>,
}

impl UnlockedVault {
    pub(crate) fn new(cryptor: impl Into<Arc<Cryptor>>, unfinished: Unfinished) -> Arc<Self> {
        let cryptor = RwLock::new(Some(cryptor.into()));
        Arc::new(Self {
            cryptor,
            marker_files: Mutex::default(),
            unfinished,
            last_use: LastUse::now(),
            known_names: KnownNames::default(),
            asides: Mutex::default(),
        })
    }

    pub(crate) fn marker_files(&self) -> Option<MarkerFiles> {
        *self.marker_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record_marker_files(&self, looked: MarkerFiles) {
        *self.marker_files.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked);
    }

    pub(super) fn record_aside(&self, directory: &DirectoryId) {
        self.asides.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.clone());
    }

    /// Whether an entry of a directory was moved aside since this was last asked.
    pub(crate) fn takes_aside(&self, directory: &DirectoryId) -> bool {
        self.asides.lock().unwrap_or_else(PoisonError::into_inner).remove(directory)
    }

    /// Returns the vault's keys, while it is unlocked.
    pub(crate) fn cryptor(&self) -> Result<Arc<Cryptor>, NodeError> {
        self.cryptor.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(NodeError::Locked)
    }

    /// Drops the keys. Requests under way keep them to their end, which the result tells.
    pub(crate) fn forget_keys(&self) -> Weak<Cryptor> {
        let cryptor = self.cryptor.write().unwrap_or_else(PoisonError::into_inner).take();
        cryptor.map(|cryptor| Arc::downgrade(&cryptor)).unwrap_or_default()
    }
}

/// The attributes of a vault's config and masterkey file: lengths and times. `None` for a missing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkerFiles {
    config: Option<(u64, SystemTime)>,
    masterkey: Option<(u64, SystemTime)>,
}

impl MarkerFiles {
    pub(crate) async fn look(remote: &dyn Remote, vault: &RemotePath) -> Result<Self, RemoteError> {
        let look = async |name| match remote.stat(&vault.join(&part(name))).await {
            Ok(attributes) => Ok(Some((attributes.size, attributes.modified))),
            Err(RemoteError::NotFound) => Ok(None),
            Err(error) => Err(error),
        };
        let (config, masterkey) = futures::try_join!(look(Markers::CONFIG), look(Markers::MASTERKEY))?;
        Ok(Self { config, masterkey })
    }
}
