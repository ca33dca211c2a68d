//! What the content of files needs of the drive around it.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use async_trait::async_trait;
use scaup_crypto::CleartextLen;
use scaup_fuse::filesystem::Inode;

use super::chunks::{ChunkCache, ContentId};
use super::counters::Counters;
use super::location::Location;
use super::unsent::Unsent;
use crate::drive::error::DriveError;
use crate::drive::places::place::Place;
use crate::remote::{Remote, RemoteAttributes, RemotePath};

/// What the content of all files shares.
pub(in crate::drive) struct Resources {
    pub(in crate::drive) remote: Arc<dyn Remote>,
    pub(in crate::drive) cache: Arc<ChunkCache>,
    pub(in crate::drive) counters: Arc<Counters>,
    pub(in crate::drive) unsent: Arc<Unsent>,
}

/// A promise that a path stays as it is, for as long as the value lives.
pub(in crate::drive) type Hold<'a> = Box<dyn Send + 'a>;

/// Knows where the file of an inode lies and what it is called, and is told what became of its content. Errors are
/// those of the node (it has lost its name, its vault was locked), or of the server.
#[async_trait]
pub(in crate::drive) trait Home: Send + Sync {
    /// Returns what the content of all files shares.
    fn resources(&self) -> &Resources;

    /// Returns where the content of a file lies now.
    fn location(&self, inode: Inode) -> Result<Location, DriveError>;

    /// Returns the name of a file, as shown.
    fn name_of(&self, inode: Inode) -> Result<OsString, DriveError>;

    /// Returns the permission bits of a file.
    fn mode_of(&self, inode: Inode) -> Result<u16, DriveError>;

    /// Whether a program has the file open.
    fn is_open(&self, inode: Inode) -> bool;

    /// Keeps the path of a file unchanged until the result is dropped.
    async fn hold_path(&self, inode: Inode) -> Hold<'_>;

    /// Fails if the server has less room than `needed` bytes around a file. A small need is not looked at.
    async fn check_room(&self, inode: Inode, needed: u64) -> Result<(), DriveError>;

    /// The names in a directory of the server are about to change: it may have them only in its memory afterwards.
    fn names_change(&self, directory: RemotePath);

    /// New content got its name on the server.
    fn published(&self, inode: Inode);

    /// All of a file's content, `length` bytes, is on the server, whose file has these attributes now.
    fn saved(&self, inode: Inode, attributes: RemoteAttributes, length: CleartextLen, content: ContentId);

    /// Our version of a file became a conflicting copy: the file goes on under that name, at that place.
    fn conflicted(&self, inode: Inode, copy: &OsStr, place: Place);

    /// All of a file's content is on the server, whose vault was locked before.
    fn sealed_saved(&self, inode: Inode);

    /// Our version of a file whose vault, with this directory, was locked became a conflicting copy.
    fn sealed_conflicted(&self, vault: &RemotePath);

    /// Makes the directories again that lead to a file and are missing on the server.
    async fn make_way_again(&self, inode: Inode) -> Result<(), DriveError>;

    /// Waits until the names that lead to a file are on the server's disk.
    async fn put_way_on_disk(&self, inode: Inode) -> Result<(), DriveError>;
}
