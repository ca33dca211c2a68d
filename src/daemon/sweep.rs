//! Removes what the desktop notes by itself about a vault's files, as soon as the vault is locked or unmounted
//! ([`crate::traces`]). It is done as well as it can be within a moment: nothing about it makes a lock or an end fail.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::life::Daemon;
use crate::config::paths::{self, UserDirectories};
use crate::remote::RemotePath;
use crate::traces::{self, Places, Removal};

/// How long a sweep may delay a lock or the end of a mount.
const MOST: Duration = Duration::from_millis(1500);

/// How much of that is for looking at files. The rest is for the last of them.
const LOOKING: Duration = Duration::from_secs(1);

/// Clocks of file systems are coarse, and a clock may be set back a little.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

impl Daemon {
    /// Removes previews made during this mount, recent files, and notes of gvfs about these vaults.
    pub(super) async fn sweep(&self, vaults: impl IntoIterator<Item = RemotePath>) {
        if self.request.settings.no_sweep {
            return;
        }
        let shown_at = |vault: RemotePath| self.request.mountpoint.join(OsStr::from_bytes(vault.as_bytes()));
        let vaults: Vec<PathBuf> = vaults.into_iter().map(shown_at).collect();
        if vaults.is_empty() {
            return;
        }
        let directories = paths::user_directories();
        let places = Places::new(&directories.home, &vaults);
        let since = self.began.checked_sub(CLOCKS_DIFFER).unwrap_or(SystemTime::UNIX_EPOCH);
        let files = {
            let (directories, places) = (directories.clone(), places.clone());
            tokio::task::spawn_blocking(move || traces::sweep(&directories, &places, since, LOOKING))
        };
        let all = async { tokio::join!(files, remove_metadata(directories, places)) };
        match tokio::time::timeout(MOST, all).await {
            Ok((Ok(removal), ())) => self.log_sweep(&removal),
            Ok((Err(error), ())) => tracing::error!(%error, "traces in other programs were not removed"),
            Err(_) => tracing::warn!("there was no time to remove all traces in other programs"),
        }
    }

    /// The log holds no names unless the user wants them.
    fn log_sweep(&self, removal: &Removal) {
        tracing::debug!(removed = removal.count, "traces in other programs are removed");
        if let Some(first) = removal.failures.first() {
            let names = self.request.settings.log_names.then(|| first.path.display());
            let (failures, why) = (removal.failures.len(), first.source.kind());
            tracing::warn!(failures, %why, path = names.map(tracing::field::display), "traces in other programs were not removed");
        }
    }
}

async fn remove_metadata(directories: UserDirectories, places: Places) {
    if let Err(error) = traces::remove_gvfs_metadata(&directories, &places).await {
        tracing::warn!(%error, "traces in gvfs were not removed");
    }
}
