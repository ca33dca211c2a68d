//! What this mount has found out of how a server behaves where servers differ, for all connections to it.
//!
//! A server's name tells little: programs that serve SFTP are put behind any SSH server. So each fact is found out by
//! what the server does, once, and until then the way is taken that is safe on all of them.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use scaup_sftp::client::{Lane, LinkOrder, OpenMode, Order, SftpError, SftpSetAttributes, Written};
use tokio::sync::OnceCell;

use super::conversions::{plain, with_mode};
use crate::weakness::{Seen, Weakness};

/// Extensions that only OpenSSH's own program offers together, from version 8.7 on. It carries out the requests of a
/// lane in their order.
const OPENSSHS_OWN: [&[u8]; 2] = [b"lsetstat@openssh.com", b"expand-path@openssh.com"];

/// What the requests about an open file go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handles {
    /// The file, whatever name it has by now.
    File,
    /// The name that it was opened by (the request server of Go's `pkg/sftp`, paramiko's example).
    Name,
}

#[derive(Default)]
pub(super) struct Behaviour {
    pub(super) seen: Seen,
    handles: OnceLock<Handles>,
    /// Whether a file keeps its content when it is opened for writing.
    keeps_content: OnceCell<bool>,
    /// `None` if it makes none as it is asked to.
    links: OnceCell<Option<LinkOrder>>,
}

impl Behaviour {
    /// Returns how requests that depend on each other may be sent.
    pub(super) fn order(&self, lane: &Lane) -> Order {
        let keeps = OPENSSHS_OWN.iter().all(|extension| lane.offers(extension));
        if keeps && !self.seen.has(Weakness::Reorders) { Order::AtOnce } else { Order::Waiting }
    }

    /// Returns whether a file of at least `length` bytes is as if its content was written before the attributes were
    /// set and read.
    pub(super) fn is_in_order(&self, written: &Written, length: usize, set: &SftpSetAttributes) -> bool {
        let has_all = written.attributes.size.is_some_and(|size| size >= length as u64);
        let looks = written.refused.is_none() && !self.seen.has(Weakness::ChangesTimes);
        let wanted = set.times.map(|(_, modified)| modified).filter(|_| looks);
        let modified = written.attributes.times.map(|(_, modified)| modified);
        has_all && wanted.is_none_or(|wanted| modified == Some(wanted))
    }

    /// Records what a file shows that was out of order, and was settled again: whether it is in order now, or has all
    /// of its `length` bytes, and another time nevertheless.
    pub(super) fn record_settled_again(&self, written: &Written, length: usize, set: &SftpSetAttributes) {
        if self.is_in_order(written, length, set) {
            self.seen.record(Weakness::Reorders);
        } else if written.attributes.size.is_some_and(|size| size >= length as u64) {
            self.seen.record(Weakness::ChangesTimes);
        }
    }

    pub(super) fn handles(&self) -> Option<Handles> {
        self.handles.get().copied()
    }

    /// Records what handles go by.
    pub(super) fn record_handles(&self, handles: Handles) {
        if self.handles.set(handles).is_ok() && handles == Handles::Name {
            self.seen.record(Weakness::LosesRenamedFiles);
        }
    }

    /// Returns whether a file keeps its content when it is opened for writing. It is found out with a new file in
    /// `around`, unless the server is known.
    ///
    /// # Errors
    ///
    /// If nothing can be made in `around`.
    pub(super) async fn keeps_content(&self, lane: &Lane, around: &[u8]) -> Result<bool, SftpError> {
        if lane.reads_while_writing().await? {
            return Ok(true);
        }
        let find_out = || async {
            let path = trial(around);
            let keeps = try_writing(lane, &path).await;
            let removed = lane.remove(&path).await;
            let keeps = keeps?;
            removed?;
            if !keeps {
                self.seen.record(Weakness::EmptiesFiles);
            }
            Ok::<_, SftpError>(keeps)
        };
        self.keeps_content.get_or_try_init(find_out).await.copied()
    }

    /// Returns whether a file that was renamed since it was opened can be written to: its handle is sound, or it can be
    /// opened again.
    pub(super) fn writes_after_rename(&self, lane: &Lane) -> bool {
        lane.is_known_to_read_while_writing()
            || self.handles() == Some(Handles::File)
            || self.keeps_content.get() == Some(&true)
    }

    /// Returns which argument of SYMLINK is the new link. It is found out with two names in a new directory in
    /// `around`: a link that is made the wrong way round lies there, too, and nowhere else.
    ///
    /// # Errors
    ///
    /// If nothing can be made in `around`, or the server makes no links, or makes other ones: proftpd has them lead to
    /// an absolute path.
    pub(super) async fn link_order(&self, names: &Lane, around: &[u8]) -> Result<LinkOrder, SftpError> {
        const ONLY_OWNER: u16 = 0o700;
        let find_out = || async {
            let directory = trial(around);
            names.mkdir(&directory, &with_mode(ONLY_OWNER)).await?;
            let order = try_links(names, &directory).await;
            let removed = names.rmdir(&directory).await;
            let order = order?;
            removed?;
            if order.is_none() {
                self.seen.record(Weakness::NoLinks);
            }
            Ok::<_, SftpError>(order)
        };
        let order = self.links.get_or_try_init(find_out).await?;
        order.ok_or(SftpError::NotOffered("symbolic links"))
    }
}

/// Returns a new name in a directory.
fn trial(around: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    [around, format!("/.scaup-trial.~{:x}-{now:x}", std::process::id()).as_bytes()].concat()
}

/// Makes a file, and opens it for writing; returns whether its content is still there.
async fn try_writing(lane: &Lane, path: &[u8]) -> Result<bool, SftpError> {
    const ONLY_OWNER: u16 = 0o600;
    let new = lane.open_file(path, OpenMode::CreateNew, &with_mode(ONLY_OWNER)).await?;
    lane.write_at(&new, 0, &Bytes::from_static(b"?")).await?;
    lane.close(&new).await?;
    let again = lane.open_file(path, OpenMode::Write, &SftpSetAttributes::default()).await?;
    // Some empty it only then.
    lane.close(&again).await?;
    Ok(lane.lstat(path).await?.size == Some(1))
}

/// Makes links in a directory, and removes them. Returns which argument of SYMLINK is the new link; `None` if no link
/// is made as it is asked for.
async fn try_links(names: &Lane, directory: &[u8]) -> Result<Option<LinkOrder>, SftpError> {
    let at = |name: &[u8]| [directory, b"/", name].concat();
    let (first, second) = (at(b"a"), at(b"b"));
    let made = names.symlink(&first, &second, LinkOrder::TargetFirst).await;
    let (at_first, at_second) = futures::join!(names.remove(&first), names.remove(&second));
    made?;
    let order = match (at_first, at_second) {
        (Err(_), Ok(())) => LinkOrder::TargetFirst,
        (Ok(()), Err(_)) => LinkOrder::PathFirst,
        _ => return Ok(None),
    };
    names.symlink(b"b", &first, order).await?;
    let target = names.readlink(&first).await;
    names.remove(&first).await?;
    Ok(Some(order).filter(|_| target.is_ok_and(|target| target.as_ref() == b"b")))
}

/// Whether a server said that it does not do this at all, or not for this user.
pub(super) fn is_refused(error: &SftpError) -> bool {
    plain(error.clone()).is_refusal()
}
