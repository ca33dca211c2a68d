//! From a destination to a session: the socket, the key exchange, the server's key, the login; through jump hosts if
//! necessary.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use russh::client::{self, Config, Handle};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::{Limits, Preferred, compression};
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::bounds::Allowance;
use super::destination::{AddressFamily, Destination, Rekeying, StrictHostKeyChecking};
use super::error::{ConnectError, HostKeyProblem};
use super::handler::{Agreed, Client, Seen};
use super::held_keys::HeldKeys;
use super::interaction::{Cancelled, Interaction, Progress, Question};
use super::known_hosts::{KnownHost, record};
use super::login::log_in;
use super::patience::Words;
use super::revoked::RevokedKeys;
use super::segments;
use super::session::{Session, Transport};
use crate::pace::Pace;

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
    interaction.progress(Progress::Connecting(destination.user_at_host()));
    let mut confirmed: Option<PublicKey> = None;
    let revoked = RevokedKeys::load(destination)
        .map_err(|problem| ConnectError::HostKey { host: destination.known_host_name(), problem })?;
    loop {
        let known = KnownHost::load(destination);
        let seen = Arc::new(Mutex::new(None));
        let words = Arc::new(Words::new());
        let agreed = Arc::<OnceLock<Agreed>>::default();
        let client = Client {
            destination: destination.clone(),
            known: known.clone(),
            revoked: revoked.clone(),
            confirmed: confirmed.clone(),
            seen: Arc::clone(&seen),
            words: Arc::clone(&words),
            interaction: Arc::clone(interaction),
            banners: 0,
            agreed: Arc::clone(&agreed),
        };
        let config = Arc::new(config(destination, &known));
        let segment_max = segments::segment_max(destination);
        let allowance = Allowance::default();
        let (connected, transport, pace) = match &through {
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
                (connected, Transport::Socket(socket), pace)
            }
            Some(session) => {
                // The tunnel's traffic goes over the first server's socket, and is paced there.
                let stream = allowance.bounds(session.tunnel(destination).await?, None);
                let transport = Transport::Through(Arc::clone(session));
                (key_exchange(config, stream, client, KEY_EXCHANGE_MAX).await, transport, session.pace())
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
                    log_in(&mut handle, &transport, destination, interaction.as_ref(), &words, held).await;
                if let Err(error) = logged_in {
                    // The library goes on reading for as long as the server sends.
                    transport.abort();
                    return Err(allowance.refused(destination).unwrap_or(error));
                }
                allowance.lift();
                return Ok(Session::new(handle, transport, pace, agreed));
            }
            (Err(_), Some(Seen::Refused(problem))) => {
                transport.abort();
                return Err(ConnectError::HostKey { host: destination.known_host_name(), problem });
            }
            // No connection is open while the person decides; then Scaup connects again, with exactly this key.
            (Err(_), Some(Seen::Unknown(key))) if confirmed.is_none() => {
                confirm(destination, &key, interaction.as_ref()).await?;
                confirmed = Some(*key);
            }
            // The connection was closed because of long segments. They can become shorter only a few times.
            (Err(_), _) if through.is_none() && segments::segment_max(destination) != segment_max => {
                transport.abort();
            }
            (Err(error), _) => {
                transport.abort();
                let protocol = ConnectError::Protocol {
                    destination: destination.user_at_host(),
                    reason: error.to_string(),
                };
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
