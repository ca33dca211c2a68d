//! What stands after a login: one connection, and channels on it.

use std::net::Shutdown;
use std::sync::Arc;

use russh::client::{Handle, Msg};
use russh::{Channel, ChannelStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::connect::Client;
use super::destination::Destination;
use super::error::ConnectError;

/// A connection that the user is logged in on. Clones share it; it ends with the last.
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle<Client>>,
    way: Way,
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
}

/// The server opens no more channels: why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server opens no more channels: {0}")]
pub struct ChannelError(String);

impl Session {
    pub(super) fn new(handle: Handle<Client>, way: Way) -> Self {
        Self { handle: Arc::new(handle), way }
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Breaks the connection off at once, without a word to the server: whoever waits for an answer hears of it now, and not when the system
    /// gives a dead road up.
    pub fn abort(&self) {
        match &self.way {
            // It fails only for a connection that is broken already.
            Way::Socket(socket) => drop(socket.shutdown(Shutdown::Both)),
            Way::Through(session) => session.abort(),
        }
    }

    /// Opens a channel that leads to the server's SFTP subsystem. Whether there is one comes as the channel's first message; what is sent
    /// meanwhile leaves as soon as the server opens its window (OpenSSH: with that message).
    ///
    /// # Errors
    ///
    /// See [`ChannelError`].
    pub async fn open_sftp_channel(&self) -> Result<Channel<Msg>, ChannelError> {
        let not_opened = |error: russh::Error| ChannelError(error.to_string());
        let channel = self.handle.channel_open_session().await.map_err(not_opened)?;
        channel.request_subsystem(true, "sftp").await.map_err(not_opened)?;
        Ok(channel)
    }

    /// A stream through this server to another.
    pub(super) async fn tunnel(&self, to: &Destination) -> Result<ChannelStream<Msg>, ConnectError> {
        let channel = self
            .handle
            .channel_open_direct_tcpip(to.host.clone(), u32::from(to.port), "127.0.0.1", 0)
            .await
            .map_err(|error| ConnectError::Unreachable {
                host: to.host.clone(),
                port: to.port,
                reason: format!("the server before it does not connect there: {error}"),
            })?;
        Ok(channel.into_stream())
    }
}
