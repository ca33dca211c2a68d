//! One login, and its lanes: one for names and attributes, one for content, and up to seven more for uploads, since the
//! server's own window limits the upload rate of one lane (OpenSSH's is 2 MiB: 26 MB/s over 80 ms).

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use scaup_sftp::client::{Lane, LaneCounters, Road, SftpError};
use scaup_sftp::ssh::Session;
use tokio::sync::OnceCell;

use super::behaviour::Behaviour;
use super::conversions::{from_wire, plain};
use crate::{EXTENSIONS, NamesBudget, RemoteError, RemoteKind, RemotePath, ServerFacts};

/// Lanes for uploads beside the one for content. With the two others they stay within OpenSSH's `MaxSessions 10`.
const UPLOAD_LANES_MAX: usize = 7;

/// On a shorter round trip one window carries 400 MB/s.
const ONE_LANE_IS_ENOUGH: Duration = Duration::from_millis(5);

/// How long the server may take to reply to a request of SSH itself.
pub(super) const SSH_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The mounted directory and its settings, for any connection.
#[derive(Clone)]
pub(super) struct MountedDirectory {
    /// The mounted directory as the user named it; empty: the login directory.
    pub(super) directory: Bytes,
    /// How long each request waits for its reply.
    pub(super) timeout: Duration,
    /// The memory budget for names.
    pub(super) names: NamesBudget,
    /// How the server behaves.
    pub(super) behaviour: Arc<Behaviour>,
}

/// One connection.
pub(super) struct Connection {
    /// The number of this connection, from 0.
    pub(super) generation: u64,
    pub(super) names: Lane,
    pub(super) content: Lane,
    mounted: MountedDirectory,
    /// The directory's absolute path, without a trailing slash, once the server has told it.
    root: OnceLock<Bytes>,
    road: Arc<Road>,
    uploads: OnceCell<Vec<Lane>>,
    /// Permission bits that the server's umask is known to keep in new directories.
    kept_bits: AtomicU16,
    session: Session,
}

fn no_channel(error: impl std::fmt::Display) -> RemoteError {
    RemoteError::Failure(format!("SFTP: {error}"))
}

impl Connection {
    /// Opens the lanes on a server with this login, for the directory `mounted`. Requests may be sent at once,
    /// together with the greeting; [`Self::ready`] tells whether the connection works.
    pub(super) async fn open(
        session: Session,
        mounted: MountedDirectory,
        generation: u64,
    ) -> Result<Self, RemoteError> {
        let (road, timeout) = (Arc::new(Road::new(mounted.names.clone(), session.pace())), mounted.timeout);
        let lane = async || {
            let channel = session.open_sftp_channel().await.map_err(no_channel)?;
            Ok::<_, RemoteError>(Lane::on_channel(channel, Arc::clone(&road), timeout))
        };
        let (names, content) = futures::join!(lane(), lane());
        let names = names?;
        // A server that allows only one channel (`MaxSessions 1`) has one lane for both.
        let content = content.unwrap_or_else(|error| {
            tracing::info!(%error, "the server allows one channel only");
            names.clone()
        });
        Ok(Self {
            generation,
            names,
            content,
            mounted,
            root: OnceLock::new(),
            road,
            uploads: OnceCell::new(),
            kept_bits: AtomicU16::new(0),
            session,
        })
    }

    /// Waits until the server has greeted, and has shown that the directory is a directory.
    pub(super) async fn ready(&self) -> Result<(), RemoteError> {
        let inside = self.whole_path(&RemotePath::root());
        let names = &self.names;
        let (greeted, path, attributes) =
            futures::join!(names.greeted(), names.realpath(&inside), names.lstat(&inside));
        greeted.map_err(plain)?;
        match attributes {
            Ok(attributes) if from_wire(&attributes).kind == RemoteKind::Directory => {}
            Ok(_) => return Err(RemoteError::NotADirectory),
            Err(error) => {
                // A file can't be looked into: each server has its own error for that.
                let is_there = names.lstat(&self.mounted.directory).await.is_ok();
                return Err(if is_there { RemoteError::NotADirectory } else { plain(error) });
            }
        }
        let path = path.map_err(plain)?;
        self.root.get_or_init(|| if path.as_ref() == b"/" { Bytes::new() } else { path });
        Ok(())
    }

    /// Returns the path of a node in the mounted directory: absolute, as soon as the server has told the directory's
    /// path.
    pub(super) fn whole_path(&self, path: &RemotePath) -> Vec<u8> {
        let Some(root) = self.root.get() else {
            let directory =
                if self.mounted.directory.is_empty() { &b"."[..] } else { &self.mounted.directory };
            // The directory's content is wanted, so a link in the last place is followed.
            let inside = if path.is_root() { &b"."[..] } else { path.as_bytes() };
            return [directory, b"/", inside].concat();
        };
        let mut whole = root.to_vec();
        if !path.is_root() || whole.is_empty() {
            whole.push(b'/');
        }
        whole.extend_from_slice(path.as_bytes());
        whole
    }

    /// Returns what is known of how the server behaves.
    pub(super) fn behaviour(&self) -> &Arc<Behaviour> {
        &self.mounted.behaviour
    }

    /// Returns whether the server's umask may clear bits of a new directory's `mode`: then the mode has to be set
    /// again.
    pub(super) fn may_take_bits(&self, mode: u16) -> bool {
        mode & !self.kept_bits.load(Ordering::Relaxed) != 0
    }

    /// Records that a directory created with the bits `asked` has the bits `found`.
    pub(super) fn record_kept_bits(&self, asked: u16, found: u16) {
        self.kept_bits.fetch_or(asked & found, Ordering::Relaxed);
    }

    /// Returns what is known of the server.
    pub(super) fn server(&self) -> ServerFacts {
        let (offered, lacking): (Vec<_>, Vec<_>) =
            EXTENSIONS.into_iter().partition(|(extension, _)| self.names.offers(extension.as_bytes()));
        let lacking = lacking.into_iter().map(|(_, weakness)| weakness);
        ServerFacts {
            agreed: self.session.agreed().cloned(),
            extensions: offered.into_iter().map(|(extension, _)| extension).collect(),
            read_len_max: self.names.read_len_max(),
            weaknesses: lacking.chain(self.behaviour().seen.all()).collect(),
        }
    }

    /// Returns whether content fills a slow line.
    pub(super) fn is_filled(&self) -> bool {
        self.session.pace().is_filled()
    }

    /// Waits until a lane that is needed is gone.
    pub(super) async fn lost(&self) -> SftpError {
        tokio::select! {
            why = self.names.ended() => why,
            why = self.content.ended() => why,
        }
    }

    /// Closes all lanes if the SFTP session no longer replies although the connection lives, after a request timed out:
    /// then the link opens new ones. A dead road is not detected here: that is left to the timeouts of the system and
    /// of SSH, since another login may cost a code.
    pub(super) async fn ends_if_mute(&self) -> bool {
        let is_mute = || self.lanes().any(Lane::is_mute);
        if is_mute() && self.session.is_answering(SSH_ANSWERS_WITHIN).await && is_mute() {
            tracing::info!("the SFTP session does not reply any more");
            self.end("the SFTP session does not reply any more");
        }
        // Another operation may have noticed it, and closed them.
        self.names.has_ended() || self.content.has_ended()
    }

    /// Closes all lanes. They go together: a file's handles may be on any of them.
    pub(super) fn end(&self, why: &str) {
        self.lanes().for_each(|lane| lane.give_up(why));
    }

    /// Returns whether the server shows a sign of life within `patience`: the reply to a small request, or else
    /// anything received from it, since a reply may have to queue behind much content.
    pub(super) async fn is_alive(&self, patience: Duration) -> bool {
        let directory = self.whole_path(&RemotePath::root());
        let answer = self.names.lstat(&directory);
        tokio::pin!(answer);
        loop {
            let received = self.counters().bytes_received;
            match tokio::time::timeout(patience, &mut answer).await {
                // A refusal is a reply.
                Ok(Ok(_) | Err(SftpError::Status { .. })) => return true,
                Ok(Err(_)) => return false,
                Err(_) if self.counters().bytes_received == received => return false,
                Err(_) => {}
            }
        }
    }

    /// Returns the lanes for uploads, opened all at once when they are first needed: as many as the server allows. None
    /// on a road so short that one window is enough.
    pub(super) async fn upload_lanes(&self) -> &[Lane] {
        if self.road.round_trip().is_none_or(|round_trip| round_trip < ONE_LANE_IS_ENOUGH) {
            return &[];
        }
        let open = || async {
            let lanes = (0..UPLOAD_LANES_MAX).map(|_| async {
                let channel = self.session.open_sftp_channel().await.map_err(no_channel)?;
                let lane = Lane::on_channel(channel, Arc::clone(&self.road), self.mounted.timeout);
                lane.greeted().await.map_err(plain)?;
                Ok::<_, RemoteError>(lane)
            });
            let lanes = futures::future::join_all(lanes).await;
            lanes
                .into_iter()
                .filter_map(|lane| {
                    lane.inspect_err(|error| tracing::debug!(%error, "the server opens no more channels"))
                        .ok()
                })
                .collect()
        };
        self.uploads.get_or_init(open).await
    }

    /// Returns all existing lanes, each once.
    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let uploads = self.uploads.get().map_or(&[][..], Vec::as_slice);
        let same = self.names.is_same(&self.content);
        [&self.names].into_iter().chain((!same).then_some(&self.content)).chain(uploads)
    }

    /// Returns the counters of all lanes.
    pub(super) fn counters(&self) -> LaneCounters {
        self.lanes().map(Lane::counters).fold(LaneCounters::default(), |sum, lane| LaneCounters {
            requests: sum.requests + lane.requests,
            bytes_received: sum.bytes_received + lane.bytes_received,
            bytes_sent: sum.bytes_sent + lane.bytes_sent,
        })
    }
}

/// Adds up the traffic of former connections.
#[derive(Default)]
pub(super) struct PastTraffic {
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl PastTraffic {
    pub(super) fn add(&self, counters: LaneCounters) {
        self.requests.fetch_add(counters.requests, Ordering::Relaxed);
        self.received.fetch_add(counters.bytes_received, Ordering::Relaxed);
        self.sent.fetch_add(counters.bytes_sent, Ordering::Relaxed);
    }

    pub(super) fn with(&self, counters: LaneCounters) -> LaneCounters {
        LaneCounters {
            requests: counters.requests + self.requests.load(Ordering::Relaxed),
            bytes_received: counters.bytes_received + self.received.load(Ordering::Relaxed),
            bytes_sent: counters.bytes_sent + self.sent.load(Ordering::Relaxed),
        }
    }
}
