//! A session after the login: one connection, and channels on it.

use std::net::Shutdown;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::{Channel, ChannelStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::bounds::{ANSWER_MAX, answered};
use super::destination::Destination;
use super::error::ConnectError;
use super::handler::{Agreed, Client};
use crate::pace::Pace;

/// A connection on which the user is logged in. Clones share it; it ends with the last.
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle<Client>>,
    transport: Transport,
    pace: Arc<Pace>,
    agreed: Arc<OnceLock<Agreed>>,
}

/// The transport of a session's bytes.
#[derive(Clone)]
pub(super) enum Transport {
    /// A socket of this machine.
    Socket(Arc<Socket>),
    /// Another session.
    Through(Arc<Session>),
}

impl Transport {
    /// Returns whether the other side has ended it, even if that was not read yet.
    pub(super) fn is_hung_up(&self) -> bool {
        match self {
            Self::Socket(socket) => {
                let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
                let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
                poll(&mut asked, Some(&Timespec::default())).is_ok()
                    && asked.iter().any(|asked| asked.revents().intersects(ended))
            }
            Self::Through(session) => session.transport.is_hung_up(),
        }
    }

    /// Closes it, and with it everything else that goes over it.
    pub(super) fn abort(&self) {
        match self {
            // It fails only for a connection that is broken already.
            Self::Socket(socket) => drop(socket.shutdown(Shutdown::Both)),
            Self::Through(session) => session.abort(),
        }
    }
}

/// The error that the server opens no more channels, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server opens no more channels: {0}")]
pub struct ChannelError(String);

impl Session {
    pub(super) fn new(
        handle: Handle<Client>,
        transport: Transport,
        pace: Arc<Pace>,
        agreed: Arc<OnceLock<Agreed>>,
    ) -> Self {
        Self { handle: Arc::new(handle), transport, pace, agreed }
    }

    /// Returns how the connection is secured.
    #[must_use]
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.get()
    }

    /// Returns the pace at which content may be handed over.
    #[must_use]
    pub fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// Returns whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Closes the connection at once, without telling the server: callers that wait for a reply fail now, and not when
    /// the system gives up a dead road.
    pub fn abort(&self) {
        self.transport.abort();
    }

    /// Returns whether the server replies to a request of SSH itself within `patience`: then the connection lives,
    /// whatever its channels do.
    pub async fn is_answering(&self, patience: Duration) -> bool {
        matches!(tokio::time::timeout(patience, self.handle.send_ping()).await, Ok(Ok(())) if !self.is_closed())
    }

    /// Opens a channel to the server's SFTP subsystem. The channel's first message tells whether there is one; requests
    /// sent meanwhile leave as soon as the server opens its window (OpenSSH: with that message).
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

    /// Opens a stream through this server to another.
    pub(super) async fn tunnel(&self, to: &Destination) -> Result<ChannelStream<Msg>, ConnectError> {
        let opening =
            self.handle.channel_open_direct_tcpip(to.host.clone(), u32::from(to.port), "127.0.0.1", 0);
        let reason = match answered(to.connect_timeout.unwrap_or(ANSWER_MAX), opening).await {
            Ok(Ok(channel)) => return Ok(channel.into_stream()),
            Ok(Err(error)) => error.to_string(),
            Err(silent) => silent.to_string(),
        };
        let reason = format!("the jump host before it does not connect to it: {reason}");
        Err(ConnectError::Unreachable { host: to.host.clone(), port: to.port, reason })
    }
}
