//! The SSH side: who gets in, and which channels are answered.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use scaup_remote::Remote;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::credentials::Credentials;
use super::sftp::SftpSession;

/// A refusal takes as long as this, whatever its reason.
const REFUSAL_TIME: Duration = Duration::from_millis(200);

/// An SSH server on loopback that serves SFTP to who has key and code. Dropping it stops taking connections; those that
/// stand end with the runtime.
pub struct Server {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Starts one on a free port, over `files`. Must be called inside a `tokio` runtime.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub async fn start(files: Arc<dyn Remote>, credentials: Arc<Credentials>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let config = Arc::new(Config {
            keys: vec![credentials.host_key().clone()],
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            auth_rejection_time: REFUSAL_TIME,
            auth_rejection_time_initial: Some(Duration::ZERO),
            // A mount that nobody uses stays.
            inactivity_timeout: None,
            ..Config::default()
        });
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((socket, _)) => {
                        if let Err(error) = socket.set_nodelay(true) {
                            tracing::debug!(%error, "a connection keeps its delay");
                        }
                        let connection = Connection {
                            credentials: Arc::clone(&credentials),
                            files: Arc::clone(&files),
                            has_key: false,
                            channels: HashMap::new(),
                        };
                        let config = Arc::clone(&config);
                        tokio::spawn(async move {
                            match russh::server::run_stream(config, socket, connection).await {
                                Ok(session) => drop(session.await),
                                Err(error) => tracing::debug!(%error, "a connection did not come about"),
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be taken");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self { port, accepting })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// One connection.
struct Connection {
    credentials: Arc<Credentials>,
    files: Arc<dyn Remote>,
    /// Whether the key was right: the code is asked for after it.
    has_key: bool,
    /// Channels that did not say yet what they are for.
    channels: HashMap<ChannelId, Channel<Msg>>,
}

/// "No", and what may be tried next.
fn refuse(next: MethodKind, partial_success: bool) -> Auth {
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[next][..])), partial_success }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let right =
            user == Credentials::USER && key.public_key.key_data() == self.credentials.user_key().key_data();
        if !right {
            return Ok(refuse(MethodKind::PublicKey, false));
        }
        self.has_key = true;
        Ok(refuse(MethodKind::KeyboardInteractive, true))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        if !self.has_key || user != Credentials::USER {
            return Ok(refuse(MethodKind::PublicKey, false));
        }
        let Some(mut answers) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Verification code: ".into(), false)].into(),
            });
        };
        let answer = answers.next().unwrap_or_default();
        match std::str::from_utf8(&answer) {
            Ok(code) if self.credentials.accepts(code) => Ok(Auth::Accept),
            _ => Ok(refuse(MethodKind::KeyboardInteractive, false)),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.close(channel)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.channels.remove(&id) {
            Some(channel) if name == "sftp" => {
                session.channel_success(id)?;
                let sftp = SftpSession::new(Arc::clone(&self.files));
                russh_sftp::server::run(channel.into_stream(), sftp).await;
                Ok(())
            }
            _ => session.channel_failure(id),
        }
    }
}
