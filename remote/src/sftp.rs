//! An SSH server as a [`Remote`].
//!
//! `connection` is one login with its lanes, `link` the current connection and reconnecting, `retry` repeats an
//! operation across connections, `file` is an open file that outlives connections, `identity` recognizes it again,
//! `behaviour` knows how the server behaves where servers differ, `conversions` turns its errors and attributes into
//! ours, `reasons` finds out why an operation failed.

mod behaviour;
mod connection;
mod conversions;
mod file;
mod identity;
mod link;
mod logins;
mod reasons;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use scaup_sftp::client::{NameEntry, OpenMode, SftpError, SftpSetAttributes, StatusCode};
use scaup_sftp::ssh::Session;
use tokio::sync::watch;

use super::{
    NamesBudget, Reachability, Refusal, Remote, RemoteAttributes, RemoteCounters, RemoteEntry, RemoteError,
    RemoteFile, RemoteKind, RemoteListing, RemoteName, RemoteOpen, RemotePath, RemoteSetAttributes,
    RemoteStatistics, RenameHow, Room, SET_GID, ServerFacts,
};
use behaviour::is_refused;
use connection::{Connection, MountedDirectory};
use conversions::{from_wire, plain, to_wire, with_mode};
use file::OpenFiles;
use link::Link;
use reasons::{
    exists, parent, why_not_linked, why_not_listed, why_not_made, why_not_removed, why_not_renamed,
};
use retry::retry;

pub use link::{ConnectFailure, Connector};
pub use logins::LoginAllowance;

/// A directory on an SSH server.
pub struct SftpRemote {
    link: Arc<Link>,
    files: OpenFiles,
    names: NamesBudget,
}

impl SftpRemote {
    /// Opens `directory` (empty: the login directory) on a server with this login. Each request waits at most `timeout`
    /// for its reply, and as long for a lost connection, which `connector` re-establishes. Reads begun before
    /// [`Self::ready`] returns save a round trip.
    ///
    /// # Errors
    ///
    /// If the server has no SFTP.
    pub async fn open(
        session: Session,
        directory: &[u8],
        connector: Arc<dyn Connector>,
        timeout: Duration,
    ) -> Result<Self, RemoteError> {
        let directory = Bytes::copy_from_slice(directory);
        let names = NamesBudget::default();
        let mounted =
            MountedDirectory { directory, timeout, names: names.clone(), behaviour: Arc::default() };
        let first = Connection::open(session.clone(), mounted.clone(), 0).await?;
        let link = Link::start(first, session, mounted, connector);
        Ok(Self { link, files: OpenFiles::default(), names })
    }

    /// Waits until the server has greeted, and has shown that the directory is a directory.
    ///
    /// # Errors
    ///
    /// If it is not, or the server has no SFTP after all: then all requests fail.
    pub async fn ready(&self) -> Result<(), RemoteError> {
        self.link.ready().await
    }

    /// Returns whether the server is reachable, and every change of that.
    #[must_use]
    pub fn reachability(&self) -> watch::Receiver<Reachability> {
        self.link.reachability()
    }

    /// Retries a lost connection now, even if the last attempt was refused.
    pub fn hurry(&self) {
        self.link.hurry();
    }

    /// Checks the road after an event that may have changed it. A live connection is closed unless the server shows a
    /// sign of life within `patience`; a lost one is retried now, unless it waits for a person.
    pub fn doubt(&self, patience: Duration) {
        self.link.doubt(patience);
    }
}

#[async_trait]
impl Remote for SftpRemote {
    async fn stat(&self, path: &RemotePath) -> Result<RemoteAttributes, RemoteError> {
        retry(&self.link, "stat", |connection, _| {
            Box::pin(async move {
                let attributes = connection.names.lstat(&connection.whole_path(path)).await;
                attributes.map(|attributes| from_wire(&attributes)).map_err(plain)
            })
        })
        .await
    }

    async fn list(&self, path: &RemotePath) -> Result<Vec<RemoteEntry>, RemoteError> {
        Ok(self.list_packed(path, usize::MAX, &self.names).await?.into_entries().collect())
    }

    async fn list_packed(
        &self,
        path: &RemotePath,
        most: usize,
        budget: &NamesBudget,
    ) -> Result<RemoteListing, RemoteError> {
        retry(&self.link, "list", |connection, _| {
            Box::pin(async move {
                let path = connection.whole_path(path);
                let mut listing = RemoteListing::new(budget);
                let mut take = |NameEntry { name, attributes }: NameEntry| {
                    let Some(name) = RemoteName::parse(&name) else { return Ok(()) };
                    listing.push(name.as_bytes(), &from_wire(&attributes), &[])
                };
                match connection.names.list_each(&path, most, &mut take).await {
                    Ok(()) => Ok(listing),
                    Err(error) => Err(why_not_listed(&self.link, &path, error).await),
                }
            })
        })
        .await
    }

    fn names_budget(&self) -> &NamesBudget {
        &self.names
    }

    async fn open(&self, path: &RemotePath, how: RemoteOpen) -> Result<Arc<dyn RemoteFile>, RemoteError> {
        Ok(file::open(&self.link, &self.files, path, how).await?)
    }

    async fn read_small(&self, path: &RemotePath, limit: usize) -> Result<Bytes, RemoteError> {
        retry(&self.link, "read_small", |connection, _| {
            Box::pin(async move { file::read_small(&self.link, &connection, path, limit).await })
        })
        .await
    }

    async fn set_attributes(&self, path: &RemotePath, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        self.files.setting(path, &set);
        let set = to_wire(&set);
        retry(&self.link, "set_attributes", |connection, _| {
            Box::pin(async move {
                let path = connection.whole_path(path);
                connection.names.set_attributes(&path, &set).await.map_err(plain)
            })
        })
        .await
    }

    async fn mkdir(&self, path: &RemotePath, mode: u16) -> Result<(), RemoteError> {
        retry(&self.link, "mkdir", |connection, again| {
            Box::pin(async move {
                let path = connection.whole_path(path);
                make_directory(&self.link, &connection, &path, &with_mode(mode), again).await?;
                if connection.may_take_bits(mode) {
                    let made = from_wire(&connection.names.lstat(&path).await.map_err(plain)?).mode;
                    connection.record_kept_bits(mode, made);
                    let wanted = mode | made & SET_GID;
                    if made != wanted {
                        let set = connection.names.set_attributes(&path, &with_mode(wanted)).await;
                        match set {
                            // What is narrower than wanted does no harm.
                            Err(error) if is_refused(&error) && made & !wanted == 0 => {}
                            Err(error) => {
                                let _ = connection.names.rmdir(&path).await;
                                return Err(plain(error));
                            }
                            Ok(()) => {}
                        }
                    }
                }
                Ok(())
            })
        })
        .await
    }

    async fn mkdir_by_umask(&self, path: &RemotePath) -> Result<(), RemoteError> {
        retry(&self.link, "mkdir_by_umask", |connection, again| {
            Box::pin(async move {
                let path = connection.whole_path(path);
                make_directory(&self.link, &connection, &path, &SftpSetAttributes::default(), again).await
            })
        })
        .await
    }

    async fn rmdir(&self, path: &RemotePath) -> Result<(), RemoteError> {
        self.remove_name(path, true).await
    }

    async fn remove(&self, path: &RemotePath) -> Result<(), RemoteError> {
        self.remove_name(path, false).await?;
        self.files.removed(path);
        Ok(())
    }

    async fn rename(&self, from: &RemotePath, to: &RemotePath, how: RenameHow) -> Result<(), RemoteError> {
        retry(&self.link, "rename", |connection, again| {
            Box::pin(async move {
                let (from, to) = (connection.whole_path(from), connection.whole_path(to));
                if how == RenameHow::New {
                    return rename_to_new(&self.link, &connection, &from, &to, again).await;
                }
                match connection.names.posix_rename(&from, &to).await {
                    Ok(()) => Ok(()),
                    Err(SftpError::NotOffered(_)) => {
                        rename_without_replacing(&self.link, &connection, &from, &to, again).await
                    }
                    Err(error) => {
                        let why = why_not_renamed(&self.link, &from, &to, error).await;
                        // The interrupted attempt may have done it: then the old name is gone and the new one exists.
                        let done =
                            again && why == RemoteError::NotFound && exists(&self.link, &to).await.is_some();
                        if done { Ok(()) } else { Err(why) }
                    }
                }
            })
        })
        .await?;
        self.files.renamed(from, to);
        Ok(())
    }

    async fn sync_directory(&self, path: &RemotePath) -> Result<(), RemoteError> {
        retry(&self.link, "sync_directory", |connection, _| {
            Box::pin(async move {
                let (names, path) = (&connection.names, connection.whole_path(path));
                let sync = async {
                    // OpenSSH opens directories like files.
                    let handle =
                        names.open_file(&path, OpenMode::Read, &SftpSetAttributes::default()).await?;
                    names.fsync(&handle).await
                };
                match sync.await {
                    Ok(()) => Ok(()),
                    Err(error) if error.code().is_none() && !matches!(error, SftpError::NotOffered(_)) => {
                        Err(plain(error))
                    }
                    // Other servers do not open directories, and some file systems have no fsync for them.
                    Err(error) => {
                        tracing::debug!(error = plain(error).kind(), "the server does not sync a directory");
                        Ok(())
                    }
                }
            })
        })
        .await
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8]) -> Result<(), RemoteError> {
        retry(&self.link, "symlink", |connection, again| {
            Box::pin(async move {
                let path = connection.whole_path(path);
                let made = async {
                    let order = connection.behaviour().link_order(&connection.names, parent(&path)).await?;
                    connection.names.symlink(target, &path, order).await
                };
                let Err(error) = made.await else { return Ok(()) };
                let why = why_not_made(&self.link, &path, error).await;
                let is_ours = again
                    && why == RemoteError::Exists
                    && connection.names.readlink(&path).await.is_ok_and(|found| found == target);
                if is_ours { Ok(()) } else { Err(why) }
            })
        })
        .await
    }

    async fn readlink(&self, path: &RemotePath) -> Result<Bytes, RemoteError> {
        retry(&self.link, "readlink", |connection, _| {
            Box::pin(
                async move { connection.names.readlink(&connection.whole_path(path)).await.map_err(plain) },
            )
        })
        .await
    }

    async fn hard_link(&self, existing: &RemotePath, new: &RemotePath) -> Result<(), RemoteError> {
        retry(&self.link, "hard_link", |connection, again| {
            Box::pin(async move {
                let (existing, new) = (connection.whole_path(existing), connection.whole_path(new));
                let Err(error) = connection.names.hard_link(&existing, &new).await else { return Ok(()) };
                let why = why_not_linked(&self.link, &existing, &new, error).await;
                if again && why == RemoteError::Exists { Ok(()) } else { Err(why) }
            })
        })
        .await
    }

    async fn room_ahead(&self, length: usize) -> Result<Room, RemoteError> {
        let connection = self.link.connection().await?;
        Ok(Room::new(connection.content.room_ahead(length).await.map_err(plain)?))
    }

    async fn statistics(&self, path: &RemotePath) -> Result<RemoteStatistics, RemoteError> {
        let s = retry(&self.link, "statistics", |connection, _| {
            Box::pin(
                async move { connection.names.statistics(&connection.whole_path(path)).await.map_err(plain) },
            )
        })
        .await?;
        Ok(RemoteStatistics {
            block_size: s.block_size,
            blocks: s.blocks,
            blocks_free: s.blocks_free,
            blocks_available: s.blocks_available,
            files: s.files,
            files_free: s.files_free,
            name_max: s.name_max,
        })
    }

    fn server(&self) -> Option<ServerFacts> {
        Some(self.link.present()?.server())
    }

    fn counters(&self) -> RemoteCounters {
        let lanes = self.link.counters();
        RemoteCounters {
            requests: lanes.requests,
            bytes_received: lanes.bytes_received,
            bytes_sent: lanes.bytes_sent,
            reconnects: self.link.reconnects(),
        }
    }

    fn is_reachable(&self) -> bool {
        self.link.present().is_some()
    }

    fn refuse_requests(&self) -> Refusal {
        self.link.refusals.begin()
    }

    fn is_filled(&self) -> bool {
        self.link.present().is_some_and(|connection| connection.is_filled())
    }
}

impl SftpRemote {
    async fn remove_name(&self, path: &RemotePath, directory: bool) -> Result<(), RemoteError> {
        retry(&self.link, if directory { "rmdir" } else { "remove" }, |connection, again| {
            Box::pin(async move {
                let path = connection.whole_path(path);
                let removed = if directory {
                    connection.names.rmdir(&path).await
                } else {
                    connection.names.remove(&path).await
                };
                let Err(error) = removed else { return Ok(()) };
                let why = why_not_removed(&self.link, &path, error, directory).await;
                // The interrupted attempt may have removed it. But OpenSSH also says "not found" when a file is not a
                // directory.
                let done = again && why == RemoteError::NotFound && exists(&self.link, &path).await.is_none();
                if done { Ok(()) } else { Err(why) }
            })
        })
        .await
    }
}

async fn make_directory(
    link: &Link,
    connection: &Connection,
    path: &[u8],
    attributes: &SftpSetAttributes,
    again: bool,
) -> Result<(), RemoteError> {
    let Err(error) = connection.names.mkdir(path, attributes).await else { return Ok(()) };
    let why = why_not_made(link, path, error).await;
    // The interrupted attempt may have created it.
    if again && why == RemoteError::Exists { Ok(()) } else { Err(why) }
}

/// Renames to a name that is not taken. A server whose file system has no hard links may refuse RENAME for that: if the
/// name is free, it is then renamed with the call that replaces.
async fn rename_to_new(
    link: &Link,
    connection: &Connection,
    from: &[u8],
    to: &[u8],
    again: bool,
) -> Result<(), RemoteError> {
    let Err(error) = connection.names.rename(from, to).await else { return Ok(()) };
    if error.code().is_none() {
        return Err(plain(error));
    }
    match (exists(link, from).await, connection.names.lstat(to).await) {
        // The interrupted attempt did it.
        (None, Ok(_)) if again => return Ok(()),
        (Some(_), Ok(_)) => return Err(RemoteError::Exists),
        (Some(_), Err(looked))
            if looked.code() == Some(StatusCode::NoSuchFile)
                && connection.names.posix_rename(from, to).await.is_ok() =>
        {
            return Ok(());
        }
        _ => {}
    }
    Err(why_not_renamed(link, from, to, error).await)
}

/// Renames on a server of plain version 3, whose RENAME can't replace: the old target is renamed aside, comes back if
/// the move fails, and is removed after it. A cut in between leaves the old content under a name that neither
/// Cryptomator nor the Nextcloud client takes for a file of theirs; the next attempt finishes. An empty directory has
/// no content to keep: it is removed.
async fn rename_without_replacing(
    link: &Link,
    connection: &Connection,
    from: &[u8],
    to: &[u8],
    again: bool,
) -> Result<(), RemoteError> {
    let names = &connection.names;
    let aside = [to, b".scaup-aside.~0"].concat();
    let Err(error) = names.rename(from, to).await else {
        if again {
            // The interrupted attempt may have got as far as renaming the target aside.
            let _ = names.remove(&aside).await;
        }
        return Ok(());
    };
    match (exists(link, from).await, exists(link, to).await) {
        (Some(RemoteKind::File | RemoteKind::Symlink), Some(RemoteKind::File | RemoteKind::Symlink)) => {}
        (Some(RemoteKind::Directory), Some(RemoteKind::Directory)) => {
            if let Err(error) = names.rmdir(to).await {
                return Err(why_not_renamed(link, from, to, error).await);
            }
            return names.rename(from, to).await.map_err(plain);
        }
        // The interrupted attempt did all but the last step.
        (None, Some(_)) if again => {
            let _ = names.remove(&aside).await;
            return Ok(());
        }
        _ => return Err(why_not_renamed(link, from, to, error).await),
    }
    if let Err(error) = names.rename(to, &aside).await {
        // An unfinished attempt may have left its file there; the file that has the name now is newer.
        if names.remove(&aside).await.is_err() {
            return Err(plain(error));
        }
        names.rename(to, &aside).await.map_err(plain)?;
    }
    if let Err(error) = names.rename(from, to).await {
        names.rename(&aside, to).await.map_err(plain)?;
        return Err(plain(error));
    }
    names.remove(&aside).await.map_err(plain)
}
