//! Looking for content that no mount shows, since a sync client has changed the name of its directory in `d`. This
//! takes a request for each directory in `d`, up to 1024, so it waits until nobody else needs the server, and sends one
//! at a time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::remote::{Remote, RemoteCounters, RemoteEntry, RemoteError, RemoteKind, RemotePath};
use crate::vault::data_entries::{DataEntry, DataLevel};
use crate::vault::entry_kinds::Stray;
use crate::vault::{Markers, UnlockedVault, part};

/// How long nothing has to be sent to the server before it is asked.
const QUIET: Duration = Duration::from_secs(3);

/// Why a look ended early.
enum Ended {
    /// The vault was locked, or the mount has ended.
    Locked,
    Remote(RemoteError),
}

/// A look through the `d` of a vault that was unlocked.
struct Look {
    drive: Weak<Drive>,
    vault: Weak<UnlockedVault>,
    /// The counters after the last request of this look.
    seen: Option<RemoteCounters>,
}

impl Drive {
    /// Looks, in the background, for content directories whose names were changed, and tells of the first.
    pub(super) fn look_for_renamed_content(
        &self,
        inode: Inode,
        vault: &Arc<UnlockedVault>,
        root: &RemotePath,
    ) {
        let mut look = Look { drive: self.me.clone(), vault: Arc::downgrade(vault), seen: None };
        let data = root.join(&part(Markers::DATA));
        tokio::spawn(async move {
            match look.first_in(&data).await {
                Ok(Some(found)) => {
                    if let Some(drive) = look.drive.upgrade() {
                        drive.tell_renamed_content(inode, &found);
                    }
                }
                Ok(None) | Err(Ended::Locked) => {}
                Err(Ended::Remote(error)) => tracing::debug!(%error, "renamed content was not looked for"),
            }
        });
    }
}

impl Look {
    /// Returns the path of the first renamed directory that holds something.
    async fn first_in(&mut self, data: &RemotePath) -> Result<Option<RemotePath>, Ended> {
        for entry in self.list(data).await? {
            let path = data.join(&entry.name);
            match DataEntry::of(DataLevel::FanOut, &entry) {
                DataEntry::Directory => {
                    for entry in self.list(&path).await? {
                        let path = path.join(&entry.name);
                        if DataEntry::of(DataLevel::Content, &entry) == DataEntry::Renamed
                            && self.holds_content(&path).await?
                        {
                            return Ok(Some(path));
                        }
                    }
                }
                DataEntry::Renamed => {
                    for entry in self.list(&path).await? {
                        let path = path.join(&entry.name);
                        if entry.attributes.kind == RemoteKind::Directory && self.holds_content(&path).await?
                        {
                            return Ok(Some(path));
                        }
                    }
                }
                DataEntry::Stray(_) => {}
            }
        }
        Ok(None)
    }

    /// Whether a content directory holds more than what can be made again.
    async fn holds_content(&mut self, path: &RemotePath) -> Result<bool, Ended> {
        let entries = self.list(path).await?;
        Ok(entries.iter().map(|entry| entry.name.as_bytes()).any(|name| Stray::of(name).is_kept(name)))
    }

    /// Lists a directory when the server has nothing else to do. One that is gone is empty.
    async fn list(&mut self, path: &RemotePath) -> Result<Vec<RemoteEntry>, Ended> {
        let remote = self.quiet_remote().await?;
        let listed = match remote.list(path).await {
            Ok(entries) => entries,
            Err(RemoteError::NotFound) => Vec::new(),
            Err(error) => return Err(Ended::Remote(error)),
        };
        self.seen = Some(remote.counters());
        Ok(listed)
    }

    /// Waits until nothing was sent for a while but the requests of this look.
    async fn quiet_remote(&mut self) -> Result<Arc<dyn Remote>, Ended> {
        loop {
            let remote = {
                let drive = self.drive.upgrade().ok_or(Ended::Locked)?;
                let vault = self.vault.upgrade().ok_or(Ended::Locked)?;
                vault.cryptor().map_err(|_| Ended::Locked)?;
                Arc::clone(&drive.remote)
            };
            let counted = remote.counters();
            if self.seen == Some(counted) && remote.is_reachable() {
                return Ok(remote);
            }
            self.seen = Some(counted);
            drop(remote);
            tokio::time::sleep(QUIET).await;
        }
    }
}
