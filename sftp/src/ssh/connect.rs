//! From a destination to a session: the socket, the key exchange, the server's key, the login; through jump hosts if
//! necessary.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, Config, Handle, Handler, Msg};
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, Limits, Preferred, compression};
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::bounds::Allowance;
use super::destination::{AddressFamily, Destination, Rekeying, StrictHostKeyChecking};
use super::error::{ConnectError, HostKeyProblem};
use super::held_keys::HeldKeys;
use super::interaction::{Cancelled, Interaction, Progress, Question};
use super::keys::is_too_short;
use super::known_hosts::{CertificateVerdict, KnownHost, Verdict, record};
use super::login::log_in;
use super::patience::Words;
use super::revoked::RevokedKeys;
use super::segments;
use super::session::{Session, Way};
use crate::pace::Pace;
use crate::text::Line;

/// The channel window: the library tops it up when half is used, so an 80 ms road carries 400 MB/s.
const WINDOW: u32 = 64 * 1024 * 1024;
/// The longest packet that the library accepts.
const PACKET_MAX: u32 = 65_535;
/// How long sent bytes may stay unacknowledged before the system closes the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(12);
/// How long the key exchange may take.
const KEY_EXCHANGE_MAX: Duration = Duration::from_secs(30);
/// The same where large packets are known to vanish: the server's packets may still vanish.
const KEY_EXCHANGE_MAX_IN_DOUBT: Duration = Duration::from_secs(8);
/// Most banners of a server that are shown in one login: a server may send any number (RFC 4252, section 5.4).
const BANNERS_MAX: usize = 5;
/// Bytes that are read from the socket at a time: the library asks for four, then for the rest of a packet.
const READ_BUFFER: usize = 256 * 1024;

/// Connects and logs in. Keys that are decrypted on the way are held in `held`, and those held there need no
/// passphrase.
///
/// # Errors
///
/// See [`ConnectError`].
pub async fn connect(
    destination: &Destination,
    interaction: &Arc<dyn Interaction>,
    held: Option<&HeldKeys>,
) -> Result<Session, ConnectError> {
    let mut through = None;
    for jump in &destination.jumps {
        through = Some(Arc::new(connect_one(jump, interaction, held, through).await?));
    }
    connect_one(destination, interaction, held, through).await
}

async fn connect_one(
    destination: &Destination,
    interaction: &Arc<dyn Interaction>,
    held: Option<&HeldKeys>,
    through: Option<Arc<Session>>,
) -> Result<Session, ConnectError> {
    interaction.progress(Progress::Connecting(destination.shown()));
    let mut confirmed: Option<PublicKey> = None;
    let revoked = RevokedKeys::load(destination)
        .map_err(|problem| ConnectError::HostKey { host: destination.known_host_name(), problem })?;
    loop {
        let known = KnownHost::load(destination);
        let seen = Arc::new(Mutex::new(None));
        let words = Arc::new(Words::new());
        let client = Client {
            destination: destination.clone(),
            known: known.clone(),
            revoked: revoked.clone(),
            confirmed: confirmed.clone(),
            seen: Arc::clone(&seen),
            words: Arc::clone(&words),
            interaction: Arc::clone(interaction),
            banners: 0,
        };
        let config = Arc::new(config(destination, &known));
        let segment_max = segments::segment_max(destination);
        let allowance = Allowance::default();
        let (connected, way, pace) = match &through {
            None => {
                let (stream, socket) = tcp(destination).await?;
                let socket = Arc::new(socket);
                let pace = Pace::new(Some(Arc::clone(&socket)));
                let peer = stream.peer_addr().map_err(|error| unreachable(destination, error.to_string()))?;
                let weak = Arc::downgrade(&socket);
                tokio::spawn(segments::watch(destination.clone(), peer, weak, Arc::clone(&pace)));
                let stream = allowance.bounds(stream, Some(Arc::clone(&pace)));
                let within = if segment_max.is_some() { KEY_EXCHANGE_MAX_IN_DOUBT } else { KEY_EXCHANGE_MAX };
                let connected = key_exchange(config, stream, client, within).await;
                if segment_max.is_some() && matches!(connected, Err(russh::Error::ConnectionTimeout)) {
                    segments::shorten_further(destination);
                }
                (connected, Way::Socket(socket), pace)
            }
            Some(session) => {
                // The tunnel's traffic goes over the first server's socket, and is paced there.
                let stream = allowance.bounds(session.tunnel(destination).await?, None);
                let way = Way::Through(Arc::clone(session));
                (key_exchange(config, stream, client, KEY_EXCHANGE_MAX).await, way, session.pace())
            }
        };
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (connected, seen) {
            (Ok(mut handle), _) => {
                if let Some(key) = confirmed {
                    let file = keep(destination, &key)?;
                    let host = destination.known_host_name();
                    interaction.progress(Progress::HostKeyRecorded { host, file });
                }
                let logged_in =
                    log_in(&mut handle, &way, destination, interaction.as_ref(), &words, held).await;
                if let Err(error) = logged_in {
                    // The library goes on reading for as long as the server sends.
                    way.abort();
                    return Err(allowance.refused(destination).unwrap_or(error));
                }
                allowance.lift();
                return Ok(Session::new(handle, way, pace));
            }
            (Err(_), Some(Seen::Refused(problem))) => {
                way.abort();
                return Err(ConnectError::HostKey { host: destination.known_host_name(), problem });
            }
            // No connection is open while the person decides; then Scaup connects again, with exactly this key.
            (Err(_), Some(Seen::Unknown(key))) if confirmed.is_none() => {
                confirm(destination, &key, interaction.as_ref()).await?;
                confirmed = Some(*key);
            }
            // The connection was closed because of long segments. They can become shorter only a few times.
            (Err(_), _) if through.is_none() && segments::segment_max(destination) != segment_max => {
                way.abort();
            }
            (Err(error), _) => {
                way.abort();
                let protocol =
                    ConnectError::Protocol { destination: destination.shown(), reason: error.to_string() };
                return Err(allowance.refused(destination).unwrap_or(protocol));
            }
        }
    }
}

async fn key_exchange(
    config: Arc<Config>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client,
    within: Duration,
) -> Result<Handle<Client>, russh::Error> {
    let stream = tokio::io::BufStream::with_capacity(READ_BUFFER, READ_BUFFER, stream);
    match tokio::time::timeout(within, client::connect_stream(config, stream, client)).await {
        Ok(connected) => connected,
        Err(_) => Err(russh::Error::ConnectionTimeout),
    }
}

/// Connects, and returns the connection with another reference to its socket.
async fn tcp(destination: &Destination) -> Result<(TcpStream, Socket), ConnectError> {
    let unreachable = |reason: String| unreachable(destination, reason);
    let addresses = tokio::net::lookup_host((destination.host.as_str(), destination.port))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let mut last = "the host name has no address".to_owned();
    for address in addresses.filter(|address| is_of_family(*address, destination.address_family)) {
        let connecting = connect_to(address, segments::segment_max(destination));
        let connected = match destination.connect_timeout {
            Some(limit) => tokio::time::timeout(limit, connecting)
                .await
                .unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {} s", limit.as_secs())))),
            None => connecting.await,
        };
        match connected {
            Ok(stream) => return prepare(stream).map_err(|error| unreachable(error.to_string())),
            Err(error) => last = error.to_string(),
        }
    }
    Err(unreachable(last))
}

fn unreachable(destination: &Destination, reason: String) -> ConnectError {
    ConnectError::Unreachable { host: destination.host.clone(), port: destination.port, reason }
}

/// Connects, with segments of at most that many bytes in both directions.
async fn connect_to(address: SocketAddr, segment_max: Option<u32>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(segment_max) = segment_max {
        // A failure means only that large packets vanish again.
        let _ = socket2::SockRef::from(&socket).set_tcp_mss(segment_max);
    }
    socket.connect(address).await
}

fn is_of_family(address: SocketAddr, family: AddressFamily) -> bool {
    match family {
        AddressFamily::Any => true,
        AddressFamily::Inet => address.is_ipv4(),
        AddressFamily::Inet6 => address.is_ipv6(),
    }
}

/// Makes small packets leave at once, and a dead road noticeable even during an upload.
fn prepare(stream: TcpStream) -> io::Result<(TcpStream, Socket)> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream).try_clone()?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_keepalive(true)?;
    Ok((stream, socket))
}

fn config(destination: &Destination, known: &KnownHost) -> Config {
    let alive = Some(destination.server_alive_interval).filter(|interval| !interval.is_zero());
    let offered = &destination.algorithms;
    let mut algorithms = offered.host_keys.keys();
    let recorded = known.algorithms();
    let is_recorded = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rsa { .. } => recorded.iter().any(|recorded| matches!(recorded, Algorithm::Rsa { .. })),
        other => recorded.contains(other),
    };
    // The types on record come first: a server with several keys would otherwise show one that is not known.
    if !offered.host_keys.is_in_users_order() {
        algorithms.sort_by_key(|algorithm| !is_recorded(algorithm));
    }
    let certificates = if known.has_authorities() { offered.host_keys.certificates() } else { Vec::new() };
    Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET_MAX,
        keepalive_interval: alive,
        keepalive_max: destination.server_alive_count_max,
        limits: limits(destination.rekeying),
        preferred: Preferred {
            key: Cow::Owned(algorithms),
            host_key_certificates: Cow::Owned(certificates),
            kex: Cow::Owned(offered.kex.for_library()),
            cipher: Cow::Owned(offered.ciphers.for_library()),
            mac: Cow::Owned(offered.message_codes.for_library()),
            // Encrypted content can't be compressed, and a small packet could expand to a large one here.
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        nodelay: true,
        ..Config::default()
    }
}

/// Returns the limits for new keys: at most the library's own limit of bytes, which its ciphers need.
fn limits(rekeying: Rekeying) -> Limits {
    let usual = Limits::default();
    let bytes = rekeying.bytes.unwrap_or(usual.rekey_write_limit).min(usual.rekey_write_limit);
    Limits::new(bytes, bytes, rekeying.time.unwrap_or(usual.rekey_time_limit))
}

/// The problem found with the server's key when it was not accepted.
pub(super) enum Seen {
    Unknown(Box<PublicKey>),
    Refused(HostKeyProblem),
}

/// The library's callbacks for one connection.
pub(super) struct Client {
    pub(super) destination: Destination,
    pub(super) known: KnownHost,
    pub(super) revoked: RevokedKeys,
    pub(super) confirmed: Option<PublicKey>,
    pub(super) seen: Arc<Mutex<Option<Seen>>>,
    pub(super) words: Arc<Words>,
    pub(super) interaction: Arc<dyn Interaction>,
    /// Number of banners shown.
    pub(super) banners: usize,
}

impl Client {
    pub(super) fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), Seen> {
        let (key, authority) = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => (key.key_data(), None),
            PublicKeyOrCertificate::Certificate(shown) => (shown.public_key(), Some(shown.signature_key())),
        };
        if let Some(bits) = is_too_short(key, self.destination.rsa_bits_min) {
            let bits_min = self.destination.rsa_bits_min;
            return Err(Seen::Refused(HostKeyProblem::ShortRsaKey { bits, bits_min }));
        }
        if let Some(problem) = self.revoked.problem(std::iter::once(key).chain(authority)) {
            return Err(Seen::Refused(problem));
        }
        let key = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            PublicKeyOrCertificate::Certificate(certificate) => {
                let signatures = &self.destination.algorithms.authority_signatures;
                let name = self.destination.host_key_alias.as_ref().unwrap_or(&self.destination.host);
                match self.known.judge_certificate(certificate, &name.to_lowercase(), signatures) {
                    CertificateVerdict::Valid => return Ok(()),
                    CertificateVerdict::Invalid(reason) => {
                        return Err(Seen::Refused(HostKeyProblem::Certificate(reason)));
                    }
                    // The authority is not trusted: the certificate counts as the plain key in it (as for OpenSSH).
                    CertificateVerdict::Untrusted => &PublicKey::from(certificate.public_key().clone()),
                }
            }
        };
        let fingerprint = || key.fingerprint(HashAlg::Sha256).to_string();
        match self.known.judge(key) {
            Verdict::Known => Ok(()),
            Verdict::Revoked { file, line } => Err(Seen::Refused(HostKeyProblem::Revoked { file, line })),
            Verdict::Changed { file, line } => {
                Err(Seen::Refused(HostKeyProblem::Changed { fingerprint: fingerprint(), file, line }))
            }
            Verdict::Unknown if self.confirmed.as_ref().is_some_and(|ok| ok.key_data() == key.key_data()) => {
                Ok(())
            }
            Verdict::Unknown => Err(Seen::Unknown(Box::new(key.clone()))),
        }
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        match self.judge(shown) {
            Ok(()) => Ok(true),
            Err(seen) => {
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                Ok(false)
            }
        }
    }

    async fn auth_banner(&mut self, banner: &str, _session: &mut client::Session) -> Result<(), Self::Error> {
        // Endless banners would keep a connection alive in which nothing happens.
        if self.words.said(banner.len()).is_err() {
            return Err(russh::Error::Disconnect);
        }
        if self.banners < BANNERS_MAX {
            self.banners += 1;
            for line in Line::each_of(banner) {
                self.interaction.progress(Progress::Said { destination: self.destination.shown(), line });
            }
        }
        Ok(())
    }

    // A server has no reason to open a channel: nothing is ever forwarded from it. The library would accept any channel
    // that is not refused here; it refuses unknown kinds by itself.

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }
}

/// Refuses a channel that a server opens: dropping the unanswered request makes the library refuse.
fn refuse(reply: ChannelOpenHandle) -> Result<(), russh::Error> {
    drop(reply);
    Ok(())
}

/// Decides about an unknown key.
async fn confirm(
    destination: &Destination,
    key: &PublicKey,
    interaction: &dyn Interaction,
) -> Result<(), ConnectError> {
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let refused = |problem| ConnectError::HostKey { host: destination.known_host_name(), problem };
    match destination.strict_host_key_checking {
        StrictHostKeyChecking::No | StrictHostKeyChecking::AcceptNew => Ok(()),
        StrictHostKeyChecking::Yes => Err(refused(HostKeyProblem::Unknown { fingerprint })),
        StrictHostKeyChecking::Ask => {
            let question = Question::UnknownHost {
                host: destination.known_host_name(),
                key_type: key.algorithm().to_string(),
                fingerprint: fingerprint.clone(),
            };
            match interaction.ask(question).await {
                // As in ssh, the fingerprint itself is also accepted as the answer.
                Ok(answer) if answer.trim().eq_ignore_ascii_case("yes") || answer.trim() == fingerprint => {
                    Ok(())
                }
                Ok(_) => {
                    let reason = "the answer was neither yes nor the fingerprint".to_owned();
                    Err(refused(HostKeyProblem::NotConfirmed { fingerprint, reason }))
                }
                Err(Cancelled(reason)) => Err(refused(HostKeyProblem::NotConfirmed { fingerprint, reason })),
            }
        }
    }
}

fn keep(destination: &Destination, key: &PublicKey) -> Result<Option<PathBuf>, ConnectError> {
    record(destination, key).map_err(|(file, reason)| ConnectError::HostKey {
        host: destination.known_host_name(),
        problem: HostKeyProblem::NotRecorded { file, reason },
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ssh::{Agent, Algorithms, Method};

    /// Returns a destination with only a host and a port.
    pub(crate) fn destination(host: &str, port: u16) -> Destination {
        Destination {
            host: host.to_owned(),
            port,
            address_family: AddressFamily::Any,
            user: "alice".to_owned(),
            host_key_alias: None,
            user_known_hosts: Vec::new(),
            global_known_hosts: Vec::new(),
            revoked_host_keys: None,
            rsa_bits_min: 1024,
            strict_host_key_checking: StrictHostKeyChecking::Ask,
            hash_known_hosts: false,
            methods: Method::ALL.to_vec(),
            attempts: 3,
            batch_mode: false,
            unattended_codes: true,
            kbd_interactive_devices: None,
            algorithms: Algorithms::default(),
            rekeying: Rekeying::default(),
            identities: Vec::new(),
            default_identities: Vec::new(),
            certificates: Vec::new(),
            identities_only: false,
            agent: Agent::None,
            server_alive_interval: Duration::from_secs(15),
            server_alive_count_max: 3,
            connect_timeout: Some(Duration::from_secs(5)),
            jumps: Vec::new(),
        }
    }
}
