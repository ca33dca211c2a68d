//! The open handles of the kernel: files, each with its own read-ahead, and directories, each with the names it had
//! when opened.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scaup_fuse::filesystem::{Handle, OpenFlags};

use super::ahead::open_file::OpenFile;
use super::content::file::File;
use super::error::DriveError;
use super::moment::Moment;
use super::names::trash::is_trash;
use super::places::listed_names::Names;
use super::places::place::Found;
use crate::remote::HeldNames;
use crate::vault::UnlockedVault;

/// An open directory.
pub(super) struct OpenDirectory {
    names: Arc<Names>,
    /// The numbers of the entries that are shown as they were listed.
    listed: Vec<u32>,
    /// The entries that are shown after those.
    others: Vec<Found>,
    _held: HeldNames,
    /// The vault that the directory was in.
    pub(super) vault: Option<Arc<UnlockedVault>>,
    /// When the server was asked for the names.
    pub(super) asked: Moment,
    /// When the directory was opened.
    pub(super) opened: Moment,
}

impl OpenDirectory {
    /// Returns the bytes that it takes besides the names.
    pub(super) fn bytes_for(names: &Names) -> u64 {
        (names.len() * size_of::<u32>()) as u64
    }

    /// Creates a directory with these `names`, except [trash](is_trash) where that is hidden, and with the `unsaved`
    /// entries in place of listed ones of the same name.
    pub(super) fn new(
        names: Arc<Names>,
        vault: Option<Arc<UnlockedVault>>,
        hides_trash: bool,
        unsaved: HashMap<OsString, Found>,
        asked: Moment,
        held: HeldNames,
    ) -> Self {
        let is_hidden = |found: &Found| hides_trash && is_trash(&found.name);
        let is_as_listed = |found: &Found| !is_hidden(found) && !unsaved.contains_key(&found.name);
        let all_are = !hides_trash && unsaved.is_empty();
        let mut listed = Vec::with_capacity(names.len());
        listed.extend(
            names
                .unchanged()
                .filter(|&number| all_are || names.listed(number).is_some_and(|found| is_as_listed(&found))),
        );
        let mut others: Vec<Found> = names.changed().filter(|found| is_as_listed(found)).cloned().collect();
        others.extend(unsaved.into_values().filter(|found| !is_hidden(found)));
        others.sort_by(|a, b| a.name.cmp(&b.name));
        Self { names, listed, others, vault, asked, opened: Moment::now(), _held: held }
    }

    /// Returns the entries from a position on.
    pub(super) fn from(&self, at: usize) -> impl Iterator<Item = Found> {
        let listed = self.listed.iter().skip(at).filter_map(|&number| self.names.listed(number));
        listed.chain(self.others.iter().skip(at.saturating_sub(self.listed.len())).cloned())
    }
}

/// All handles.
#[derive(Default)]
pub(super) struct Handles {
    files: Mutex<HashMap<Handle, Arc<OpenFile>>>,
    /// `None` if the vault was locked since: the names are gone, and the program still has the directory open.
    directories: Mutex<HashMap<Handle, Option<Arc<OpenDirectory>>>>,
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handles {
    fn number(&self) -> Handle {
        Handle(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn add_file(&self, file: Arc<File>, flags: OpenFlags) -> Handle {
        let handle = self.number();
        let open = OpenFile { file, flags, ahead: Mutex::default() };
        lock(&self.files).insert(handle, Arc::new(open));
        handle
    }

    pub(super) fn file(&self, handle: Handle) -> Result<Arc<OpenFile>, DriveError> {
        lock(&self.files).get(&handle).cloned().ok_or(DriveError::Stale)
    }

    pub(super) fn remove_file(&self, handle: Handle) -> Option<Arc<OpenFile>> {
        lock(&self.files).remove(&handle)
    }

    /// Adds a directory. Fails if the vault was locked since the names were requested.
    pub(super) fn add_directory(&self, open: OpenDirectory) -> Result<Handle, DriveError> {
        let handle = self.number();
        let mut directories = lock(&self.directories);
        // Checked with the handles locked: `forget_directories_of` comes after the keys are gone.
        if let Some(vault) = &open.vault {
            vault.cryptor()?;
        }
        directories.insert(handle, Some(Arc::new(open)));
        Ok(handle)
    }

    pub(super) fn directory(&self, handle: Handle) -> Result<Arc<OpenDirectory>, DriveError> {
        lock(&self.directories).get(&handle).ok_or(DriveError::Stale)?.clone().ok_or(DriveError::Locked)
    }

    /// Forgets the names in all open directories of a vault that was locked.
    pub(super) fn forget_directories_of(&self, vault: &Arc<UnlockedVault>) {
        let is_in = |open: &OpenDirectory| open.vault.as_ref().is_some_and(|other| Arc::ptr_eq(other, vault));
        for open in lock(&self.directories).values_mut() {
            if open.as_deref().is_some_and(is_in) {
                *open = None;
            }
        }
    }

    pub(super) fn remove_directory(&self, handle: Handle) {
        lock(&self.directories).remove(&handle);
    }
}
