//! The bytes of one lane: reassembles whole packets from the transport's pieces of any length.
//!
//! An SSH channel delivers its messages as they came, so a packet is copied once, into its own memory. Any other stream
//! (a server over a pipe) is first read in pieces.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::SftpError;
use super::packet::PACKET_MAX;
use crate::text::Line;

/// Bytes that are read from a stream at a time.
const PIECE: usize = 64 * 1024;
/// Characters that are shown of what is no SFTP.
const TEXT_SHOWN: usize = 60;

/// The source of the bytes.
pub(super) enum Incoming {
    /// An SSH channel.
    Channel(ChannelReadHalf),
    /// Any stream.
    Stream(Box<dyn AsyncRead + Send + Unpin>),
}

/// The sink for the bytes.
pub(super) enum Outgoing {
    /// An SSH channel; it waits for the server's window by itself.
    Channel(ChannelWriteHalf<Msg>),
    /// Any stream.
    Stream(Box<dyn AsyncWrite + Send + Unpin>),
}

/// Splits a channel.
pub(super) fn of_channel(channel: Channel<Msg>) -> (Packets, Outgoing) {
    let (read, write) = channel.split();
    (Packets::new(Incoming::Channel(read)), Outgoing::Channel(write))
}

/// Splits a stream.
pub(super) fn of_stream(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> (Packets, Outgoing) {
    let (read, write) = tokio::io::split(stream);
    let (read, write) = (Box::new(read), Box::new(write));
    (Packets::new(Incoming::Stream(read)), Outgoing::Stream(write))
}

fn lost(error: impl std::fmt::Display) -> SftpError {
    SftpError::Disconnected(error.to_string())
}

impl Incoming {
    /// Returns the next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, SftpError> {
        match self {
            Self::Channel(channel) => loop {
                match channel.wait().await {
                    Some(ChannelMsg::Data { data }) => return Ok(Some(data)),
                    Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return Ok(None),
                    // The reply to the only request that a channel makes.
                    Some(ChannelMsg::Failure) => return Err(SftpError::NoSftp),
                    // Window adjustments, the server's exit status, and what it writes to its standard error.
                    Some(_) => {}
                }
            },
            Self::Stream(stream) => {
                let mut piece = BytesMut::with_capacity(PIECE);
                let count = stream.read_buf(&mut piece).await.map_err(lost)?;
                Ok((count > 0).then(|| piece.freeze()))
            }
        }
    }
}

impl Outgoing {
    /// Sends all of `packet`.
    pub(super) async fn send(&mut self, packet: Bytes) -> Result<(), SftpError> {
        match self {
            Self::Channel(channel) => channel.data_bytes(packet).await.map_err(lost),
            Self::Stream(stream) => {
                stream.write_all(&packet).await.map_err(lost)?;
                stream.flush().await.map_err(lost)
            }
        }
    }

    /// Returns how many bytes can be sent now, in one message, without waiting for the server's window.
    pub(super) async fn window(&mut self) -> usize {
        match self {
            Self::Channel(channel) => channel.writable_packet_size().await,
            Self::Stream(_) => usize::MAX,
        }
    }

    /// Tells the server that nothing more comes.
    pub(super) async fn end(mut self) {
        // The lane is closed: it does not matter whether the server is told.
        let _ = match &mut self {
            Self::Channel(channel) => channel.close().await.map_err(lost),
            Self::Stream(stream) => stream.shutdown().await.map_err(lost),
        };
    }
}

/// When bytes last came from the server.
#[derive(Debug)]
pub(super) struct Heard(Mutex<Instant>);

impl Heard {
    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Returns the beginning of the first line of what is text; `None` if it is something else.
fn text_in(bytes: &[u8]) -> Option<Line> {
    let text = String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next()?);
    let first_line = text.trim_start().lines().next()?;
    first_line.starts_with(|c: char| c.is_ascii_graphic() || c.is_alphanumeric()).then_some(())?;
    Some(Line::of(&first_line.chars().take(TEXT_SHOWN).collect::<String>()))
}

/// Reassembles whole packets from pieces.
pub(super) struct Packets {
    incoming: Incoming,
    rest: Bytes,
    /// Whether a whole packet came: the first bytes may be a shell's.
    has_begun: bool,
    heard: Arc<Heard>,
}

impl Packets {
    fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
            rest: Bytes::new(),
            has_begun: false,
            heard: Arc::new(Heard(Mutex::new(Instant::now()))),
        }
    }

    /// Returns when bytes last came, to be read while a caller waits for packets.
    pub(super) fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }

    /// Returns the next packet, without its length.
    pub(super) async fn next(&mut self) -> Result<Bytes, SftpError> {
        let mut start = self.take(4, "the server closed the channel").await?;
        let length = start.clone().get_u32() as usize;
        if length == 0 || length > PACKET_MAX {
            start = [start, std::mem::take(&mut self.rest)].concat().into();
            return Err(match text_in(&start) {
                Some(text) if !self.has_begun => SftpError::Text(text),
                _ => SftpError::Protocol(format!("a packet of {length} bytes")),
            });
        }
        let packet = self.take(length, "the server closed the channel inside a packet").await?;
        self.has_begun = true;
        Ok(packet)
    }

    /// Returns exactly `length` bytes.
    async fn take(&mut self, length: usize, otherwise: &str) -> Result<Bytes, SftpError> {
        if self.rest.len() >= length {
            return Ok(self.rest.split_to(length));
        }
        let mut whole = BytesMut::with_capacity(length);
        whole.extend_from_slice(&std::mem::take(&mut self.rest));
        loop {
            let Some(mut piece) = self.incoming.next().await? else {
                return Err(SftpError::Disconnected(otherwise.to_owned()));
            };
            self.heard.record_now();
            let missing = length - whole.len();
            if piece.len() >= missing {
                whole.extend_from_slice(&piece.split_to(missing));
                self.rest = piece;
                return Ok(whole.freeze());
            }
            whole.extend_from_slice(&piece);
        }
    }
}
