//! What stands after a login: one connection, and channels on it.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::{Channel, ChannelStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::bounds::{ANSWER_MAX, answered};
use super::connect::Client;
use super::destination::Destination;
use super::error::ConnectError;
use crate::pace::Pace;

/// A connection that the user is logged in on. Clones share it; it ends with the last.
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle<Client>>,
    way: Way,
    pace: Arc<Pace>,
}

/// What a session's bytes go over.
#[derive(Clone)]
pub(super) enum Way {
    /// A connection of this machine's own.
    Socket(Arc<Socket>),
    /// Another session.
    Through(Arc<Session>),
}

impl Way {
    /// Whether the other side has ended it, even if nobody has read that yet.
    pub(super) fn is_hung_up(&self) -> bool {
        match self {
            Self::Socket(socket) => {
                let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
                let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
                poll(&mut asked, Some(&Timespec::default())).is_ok()
                    && asked.iter().any(|asked| asked.revents().intersects(ended))
            }
            Self::Through(session) => session.way.is_hung_up(),
        }
    }

    /// Breaks it off, and with it whatever else goes over it.
    pub(super) fn abort(&self) {
        match self {
            // It fails only for a connection that is broken already.
            Self::Socket(socket) => drop(socket.shutdown(Shutdown::Both)),
            Self::Through(session) => session.abort(),
        }
    }
}

/// The server opens no more channels: why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server opens no more channels: {0}")]
pub struct ChannelError(String);

impl Session {
    pub(super) fn new(handle: Handle<Client>, way: Way, pace: Arc<Pace>) -> Self {
        Self { handle: Arc::new(handle), way, pace }
    }

    /// How fast content may be handed over.
    #[must_use]
    pub fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Breaks the connection off at once, without a word to the server: whoever waits for an answer hears of it now, and not when the system
    /// gives a dead road up.
    pub fn abort(&self) {
        self.way.abort();
    }

    /// Whether the server answers a question of SSH itself within `patience`: then the connection lives, whatever its channels do.
    pub async fn is_answering(&self, patience: Duration) -> bool {
        matches!(tokio::time::timeout(patience, self.handle.send_ping()).await, Ok(Ok(())) if !self.is_closed())
    }

    /// Opens a channel that leads to the server's SFTP subsystem. Whether there is one comes as the channel's first message; what is sent
    /// meanwhile leaves as soon as the server opens its window (OpenSSH: with that message).
    ///
    /// # Errors
    ///
    /// See [`ChannelError`].
    pub async fn open_sftp_channel(&self) -> Result<Channel<Msg>, ChannelError> {
        let opened = answered(ANSWER_MAX, async {
            let channel = self.handle.channel_open_session().await?;
            channel.request_subsystem(true, "sftp").await?;
            Ok::<_, russh::Error>(channel)
        });
        match opened.await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(ChannelError(error.to_string())),
            Err(silent) => Err(ChannelError(silent.to_string())),
        }
    }

    /// A stream through this server to another.
    pub(super) async fn tunnel(&self, to: &Destination) -> Result<ChannelStream<Msg>, ConnectError> {
        let opening =
            self.handle.channel_open_direct_tcpip(to.host.clone(), u32::from(to.port), "127.0.0.1", 0);
        let reason = match answered(to.connect_timeout.unwrap_or(ANSWER_MAX), opening).await {
            Ok(Ok(channel)) => return Ok(channel.into_stream()),
            Ok(Err(error)) => error.to_string(),
            Err(silent) => silent.to_string(),
        };
        let reason = format!("the server before it does not connect there: {reason}");
        Err(ConnectError::Unreachable { host: to.host.clone(), port: to.port, reason })
    }
}
