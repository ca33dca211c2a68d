//! Removing debris of dead processes of this machine in the background: where a program lists a directory, and, when a
//! vault is unlocked, where such a process has begun something. Its two files are copied to backups then, too.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use scaup_crypto::{CleartextName, DirectoryId};
use scaup_fuse::filesystem::Inode;
use tokio::sync::watch;

use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::places::directory::Directory;
use crate::drive::status::Unsaved;
use crate::remote::{RemoteName, RemotePath};
use crate::vault::unfinished::{Begun, Left};
use crate::vault::{UnlockedVault, VaultDirectory, back_up, sweep_plain};

/// Directories that are checked at the same time.
const PARALLEL: usize = 16;

/// How long saving waits for the tidying. The next mount does the rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many tidying tasks are under way.
#[derive(Default)]
pub(in crate::drive) struct Tidying(watch::Sender<usize>);

/// One tidying task, counted until this is dropped, even if it panics.
struct UnderWay(Arc<Drive>);

impl UnderWay {
    fn begin(drive: Arc<Drive>) -> Self {
        drive.tidying.0.send_modify(|count| *count += 1);
        Self(drive)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.tidying.0.send_modify(|count| *count -= 1);
    }
}

impl Drive {
    /// Runs `what` in the background.
    fn tidy<T: Future<Output = ()> + Send + 'static>(&self, what: impl FnOnce(Arc<Self>) -> T) {
        let Some(drive) = self.me.upgrade() else { return };
        if self.options.read_only {
            return;
        }
        let under_way = UnderWay::begin(Arc::clone(&drive));
        let work = what(drive);
        tokio::spawn(async move {
            work.await;
            drop(under_way);
        });
    }

    /// Waits for all tidying, if the server is reachable.
    pub(in crate::drive) async fn tidied(&self) {
        let mut under_way = self.tidying.0.subscribe();
        let done = async { under_way.wait_for(|count| *count == 0).await.map(drop) };
        if self.remote.is_reachable() && tokio::time::timeout(PATIENCE, done).await.is_err() {
            tracing::warn!("what an earlier mount left is not all removed yet");
        }
    }

    /// Removes debris that was seen in a directory.
    pub(in crate::drive) fn sweep(&self, inode: Inode, directory: Directory, debris: Vec<RemoteName>) {
        if debris.is_empty() {
            return;
        }
        self.tidy(|drive| async move {
            match directory {
                Directory::Plain(path) => sweep_plain(drive.remote.as_ref(), &path, &debris).await,
                Directory::Vault(directory) => match directory.sweep(drive.remote.as_ref(), &debris).await {
                    Ok(shown) => drive.report_shown_again(inode, &shown),
                    Err(error) => {
                        tracing::debug!(error = %error.kind(), "something unfinished is not removed yet");
                    }
                },
            }
        });
    }

    /// Checks the places where dead processes have begun something in a vault that is being unlocked.
    pub(super) fn tidy_vault(&self, inode: Inode, vault: &Arc<UnlockedVault>, root: &RemotePath) {
        let (Some(kept), Ok(cryptor)) = (self.options.unfinished.clone(), vault.cryptor()) else { return };
        let left = match Left::in_vault(&kept, &cryptor) {
            Ok(left) => left,
            Err(error) => return tracing::warn!(%error, "what an earlier mount has begun can't be read"),
        };
        let (vault, root) = (Arc::clone(vault), root.clone());
        for left in left {
            let (vault, root) = (Arc::clone(&vault), root.clone());
            self.tidy(|drive| async move {
                let looks = stream::iter(left.begun.clone()).map(|begun| {
                    let (drive, vault, root) = (Arc::clone(&drive), Arc::clone(&vault), root.clone());
                    async move { drive.finish(inode, &vault, &root, &begun).await }
                });
                let looked: Vec<Result<(), DriveError>> = looks.buffer_unordered(PARALLEL).collect().await;
                match looked.into_iter().find_map(Result::err) {
                    None => left.forget(),
                    // It is checked again when the vault is next unlocked.
                    Some(error) => tracing::debug!(error = %error.kind(), "an earlier mount left something"),
                }
            });
        }
    }

    /// Copies the config and masterkey file of a vault that was unlocked, unless there are such backups. What goes
    /// wrong with that is of no concern to whoever uses the vault.
    pub(super) fn back_up_vault(&self, path: &RemotePath) {
        if !self.options.backs_up {
            return;
        }
        let path = path.clone();
        self.tidy(|drive| async move {
            if let Err(error) = back_up(drive.remote.as_ref(), &path).await {
                let why = drive.options.log_names.then(|| error.to_string());
                tracing::debug!(why, "no backup of a vault's config or masterkey file was made");
            }
        });
    }

    /// Finishes or undoes what was begun in the vault whose own directory is `inode`.
    async fn finish(
        &self,
        inode: Inode,
        vault: &Arc<UnlockedVault>,
        root: &RemotePath,
        begun: &Begun,
    ) -> Result<(), DriveError> {
        let directory = |id: &DirectoryId| {
            let (vault, root, id) = (Arc::clone(vault), root.clone(), id.clone());
            Ok::<_, DriveError>(VaultDirectory { cryptor: vault.cryptor()?, vault, root, id })
        };
        let remote = self.remote.as_ref();
        match begun {
            Begun::In(id) => {
                let shown = directory(id)?.sweep_all(remote).await?;
                self.report_shown_again(inode, &shown);
            }
            Begun::Emptying(id, name) => directory(id)?.clear_left(remote, name).await?,
            Begun::Move { from: (from, entry), to: (to, to_entry) } => {
                let (from, to) = (directory(from)?, directory(to)?);
                if from.finish_move(remote, entry, (&to, to_entry)).await? {
                    self.doubt_all_names();
                }
            }
        }
        Ok(())
    }

    /// Removes the journals after the mount has ended well: nothing that it has begun in vaults has to be looked for.
    pub fn forget_unfinished(&self) {
        if self.unsaved() == Unsaved::default() {
            self.tree.lock().bindings().all_unlocked().for_each(|vault| vault.unfinished.forget());
        }
    }

    /// Reports directories that are shown again in `inode`, or somewhere in the vault that it is.
    fn report_shown_again(&self, inode: Inode, shown: &[CleartextName]) {
        if shown.is_empty() {
            return;
        }
        self.doubt_all_names();
        for name in shown {
            self.record(
                inode,
                "not_removed",
                format!(
                    "a mount that ended was removing a directory while somebody created something in it; the directory is there again as {:?}",
                    name.as_str()
                ),
            );
        }
    }

    /// Distrusts all names: some were changed without a request of a program here.
    fn doubt_all_names(&self) {
        self.tree.lock().nodes_mut().values_mut().for_each(|node| node.names.doubt());
        self.listings.clear();
    }
}
