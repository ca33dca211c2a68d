//! An SSH server that turns on who connects to it: it keeps silent in a login, sends without end, and opens channels of
//! its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Response, Session};
use russh::{Channel, MethodKind, MethodSet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use scaup_rig::{Key, KeyKind, eventually};
use scaup_sftp::ssh::{
    self, AddressFamily, Agent, Algorithms, Cancelled, ConnectError, Destination, Interaction, Method,
    Progress, Question, Rekeying, StrictHostKeyChecking,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

/// Longer than anything takes that is not meant to wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a login stops being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silent {
    /// Nowhere: every client is let in.
    Never,
    None,
    KeyOffered,
    PromptsWanted,
    PromptsAnswered,
    Password,
    /// Channels are not opened.
    Channels,
}

struct Server {
    address: SocketAddr,
    /// All that ever connected.
    sockets: Arc<Mutex<Vec<OwnedFd>>>,
    /// Logins that have come to where nothing is answered any more.
    reached: Arc<AtomicUsize>,
    /// The last one that was let in.
    client: Arc<Mutex<Option<Handle>>>,
    // In threads of its own: a test may hold the clock of its own runtime.
    runtime: Option<Runtime>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Waiting for its threads is nothing that a runtime lets be done inside it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Connection {
    silent: Silent,
    reached: Arc<AtomicUsize>,
    client: Arc<Mutex<Option<Handle>>>,
}

impl Connection {
    async fn at(&self, stage: Silent) -> Result<(), russh::Error> {
        if self.silent == stage {
            self.reached.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// What is wanted, so that the login comes to where this server keeps silent.
    fn wants(&self) -> Auth {
        let method = match self.silent {
            Silent::Never | Silent::Channels => return Auth::Accept,
            Silent::None | Silent::KeyOffered => MethodKind::PublicKey,
            Silent::PromptsWanted | Silent::PromptsAnswered => MethodKind::KeyboardInteractive,
            Silent::Password => MethodKind::Password,
        };
        Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[method][..])), partial_success: false }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        self.at(Silent::None).await?;
        Ok(self.wants())
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        _offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        self.at(Silent::KeyOffered).await?;
        Ok(self.wants())
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: russh::server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.at(Silent::KeyOffered).await?;
        Ok(self.wants())
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let is_answered = response.is_some();
        self.at(if is_answered { Silent::PromptsAnswered } else { Silent::PromptsWanted }).await?;
        let prompts = vec![("Code: ".into(), false)].into();
        Ok(Auth::Partial { name: "".into(), instructions: "".into(), prompts })
    }

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, Self::Error> {
        self.at(Silent::Password).await?;
        Ok(self.wants())
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        *self.client.lock().unwrap() = Some(session.handle());
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.at(Silent::Channels).await?;
        reply.accept().await;
        Ok(())
    }
}

impl Server {
    fn start(silent: Silent) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, reached, client) =
            (Arc::<Mutex<Vec<OwnedFd>>>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let config = Arc::new(Config { keys: vec![key], inactivity_timeout: None, ..Config::default() });
        runtime.spawn({
            let (sockets, reached, client) =
                (Arc::clone(&sockets), Arc::clone(&reached), Arc::clone(&client));
            async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    sockets.lock().unwrap().push(stream.as_fd().try_clone_to_owned().unwrap());
                    let connection =
                        Connection { silent, reached: Arc::clone(&reached), client: Arc::clone(&client) };
                    let config = Arc::clone(&config);
                    tokio::spawn(async move {
                        if let Ok(session) = russh::server::run_stream(config, stream, connection).await {
                            drop(session.await);
                        }
                    });
                }
            }
        });
        Self { address, sockets, reached, client, runtime: Some(runtime) }
    }

    /// Whether all who connected have hung up.
    fn is_left(&self) -> bool {
        self.sockets.lock().unwrap().iter().all(|socket| {
            let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
            poll(&mut asked, Some(&Timespec::default())).unwrap();
            asked[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
        })
    }

    fn client(&self) -> Handle {
        self.client.lock().unwrap().clone().expect("somebody was let in")
    }
}

/// A person who answers every question.
struct Anybody;

#[async_trait]
impl Interaction for Anybody {
    async fn ask(&self, _question: Question) -> Result<Zeroizing<String>, Cancelled> {
        Ok(Zeroizing::new("answer".to_owned()))
    }

    fn progress(&self, _progress: Progress) {}
}

/// The way to a server, with a key and a place for its own.
struct Way {
    destination: Destination,
    _files: TempDir,
}

fn way_to(address: SocketAddr) -> Way {
    let files = tempfile::tempdir().unwrap();
    let key = Key::generate(&files.path().join("key"), KeyKind::Ed25519, "");
    let destination = Destination {
        host: address.ip().to_string(),
        port: address.port(),
        address_family: AddressFamily::Any,
        user: "alice".to_owned(),
        host_key_alias: None,
        user_known_hosts: vec![files.path().join("known_hosts")],
        global_known_hosts: Vec::new(),
        revoked_host_keys: None,
        rsa_bits_min: 1024,
        strict_host_key_checking: StrictHostKeyChecking::No,
        hash_known_hosts: false,
        methods: Method::ALL.to_vec(),
        attempts: 3,
        batch_mode: false,
        unattended_codes: true,
        kbd_interactive_devices: None,
        algorithms: Algorithms::default(),
        rekeying: Rekeying::default(),
        identities: Vec::new(),
        default_identities: vec![key.path().to_owned()],
        certificates: Vec::new(),
        identities_only: false,
        agent: Agent::None,
        server_alive_interval: Duration::from_secs(15),
        server_alive_count_max: 3,
        connect_timeout: Some(Duration::from_secs(5)),
        jumps: Vec::new(),
    };
    Way { destination, _files: files }
}

async fn connect(destination: &Destination) -> Result<ssh::Session, ConnectError> {
    let anybody: Arc<dyn Interaction> = Arc::new(Anybody);
    ssh::connect(destination, &anybody, None).await
}

/// What is waited for passes at once from when `reached` says so, and not before.
async fn hurry_once<T>(reached: impl Fn() -> bool, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    while !reached() {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    tokio::time::pause();
    let done = work.await;
    tokio::time::resume();
    done
}

#[tokio::test]
async fn a_login_that_is_not_answered_is_given_up_wherever_that_is() {
    for silent in
        [Silent::None, Silent::KeyOffered, Silent::PromptsWanted, Silent::PromptsAnswered, Silent::Password]
    {
        let (server, began) = (Server::start(silent), tokio::time::Instant::now());
        let way = way_to(server.address);
        let reached = || server.reached.load(Ordering::SeqCst) > 0;
        let refused =
            tokio::time::timeout(Duration::from_secs(100), hurry_once(reached, connect(&way.destination)));
        let Err(error) = Box::pin(refused).await.unwrap_or_else(|_| panic!("{silent:?}: it waits for ever"))
        else {
            panic!("{silent:?}: nobody was to be let in")
        };
        // Such a failure is tried again by itself.
        assert!(matches!(error, ConnectError::Protocol { .. }), "{silent:?}: {error:?}");
        assert!(error.to_string().contains("the server did not answer within"), "{silent:?}: {error}");
        assert!(began.elapsed() >= Duration::from_secs(30), "{silent:?}: a slow server has its time");
        // The library would go on reading what the server sends.
        eventually("the connection is broken off", PATIENCE, || server.is_left());
    }
}

#[tokio::test]
async fn a_channel_that_is_not_opened_is_given_up() {
    let server = Server::start(Silent::Channels);
    let session = connect(&way_to(server.address).destination).await.unwrap();
    let reached = || server.reached.load(Ordering::SeqCst) > 0;
    let opened =
        tokio::time::timeout(Duration::from_secs(100), hurry_once(reached, session.open_sftp_channel()));
    let error = opened.await.expect("it waits for ever").map(drop).unwrap_err();
    assert!(error.to_string().contains("the server did not answer within"), "{error}");
}

#[tokio::test]
async fn whatever_channel_a_server_opens_is_refused() {
    let server = Server::start(Silent::Never);
    let session = connect(&way_to(server.address).destination).await.unwrap();
    eventually("it is let in", PATIENCE, || server.client.lock().unwrap().is_some());
    let client = server.client();
    let opens = server.runtime.as_ref().unwrap().spawn(async move {
        for _ in 0..100 {
            let opened = [
                ("session", client.channel_open_session().await),
                ("forwarded-tcpip", client.channel_open_forwarded_tcpip("x", 1, "y", 2).await),
                ("direct-tcpip", client.channel_open_direct_tcpip("x", 1, "y", 2).await),
                ("forwarded-streamlocal", client.channel_open_forwarded_streamlocal("/x").await),
                ("direct-streamlocal", client.channel_open_direct_streamlocal("/x").await),
                ("x11", client.channel_open_x11("y", 2).await),
                ("auth-agent", client.channel_open_agent().await),
            ];
            for (kind, opened) in opened {
                assert!(matches!(opened, Err(russh::Error::ChannelOpenFailure(_))), "{kind}: {opened:?}");
            }
        }
        // Requests that ask this side to listen, or not to any more.
        assert!(client.forward_tcpip("x".to_owned(), 1).await.is_err());
        assert!(client.cancel_forward_tcpip("x".to_owned(), 1).await.is_err());
    });
    tokio::time::timeout(PATIENCE, opens).await.expect("each is answered").unwrap();
    assert!(session.is_answering(PATIENCE).await, "the connection goes on");
}

/// A server of bytes: `serve` says them, once somebody is there.
async fn raw<S: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(TcpStream) -> S + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    address
}

/// A packet before any key is there (RFC 4253, section 6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (5 + payload.len()) % 8 + 8;
    let length = u32::try_from(1 + payload.len() + padding).unwrap();
    let padded = u8::try_from(padding).unwrap();
    [&length.to_be_bytes()[..], &[padded], payload, &vec![0; padding]].concat()
}

#[tokio::test]
async fn a_server_that_sends_without_end_before_the_login_is_left() {
    const SSH_MSG_IGNORE: u8 = 2;
    let line = b"Welcome, whoever you are!\r\n".repeat(1000);
    let ignored = packet(&[&[SSH_MSG_IGNORE][..], &20_000_u32.to_be_bytes(), &[7; 20_000]].concat());
    for (what, greeting, endless) in
        [("lines", &b""[..], line), ("packets", &b"SSH-2.0-endless\r\n"[..], ignored.repeat(4))]
    {
        let (sent, count) = (Arc::<AtomicUsize>::default(), endless.len());
        let counted = Arc::clone(&sent);
        let address = raw(async move |mut stream: TcpStream| {
            let _ = stream.write_all(greeting).await;
            while stream.write_all(&endless).await.is_ok() {
                counted.fetch_add(count, Ordering::SeqCst);
            }
        })
        .await;
        let connected = tokio::time::timeout(PATIENCE, connect(&way_to(address).destination)).await;
        let error = connected.expect("it is left").map(drop).unwrap_err();
        assert!(matches!(error, ConnectError::Protocol { .. }), "{what}: {error:?}");
        // What lies in the system's buffers was sent, too.
        assert!(sent.load(Ordering::SeqCst) < 16 * 1024 * 1024, "{what}: {sent:?} bytes");
    }
}

/// The name-lists of a KEXINIT (RFC 4253, section 7.1), which begin behind the type and the cookie.
fn name_lists(mut payload: &[u8]) -> Vec<String> {
    payload = &payload[17..];
    let lists = (0..10).map(|_| {
        let (length, rest) = payload.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let (list, rest) = rest.split_at(length);
        payload = rest;
        String::from_utf8(list.to_vec()).unwrap()
    });
    lists.collect()
}

#[tokio::test]
async fn no_compression_is_offered() {
    let (tell, offered) = tokio::sync::oneshot::channel();
    let address = raw(async move |mut stream: TcpStream| {
        stream.write_all(b"SSH-2.0-looks\r\n").await.unwrap();
        while stream.read_u8().await.unwrap() != b'\n' {}
        let length = stream.read_u32().await.unwrap();
        let mut packet = vec![0; length as usize];
        stream.read_exact(&mut packet).await.unwrap();
        tell.send(name_lists(&packet[1..])).unwrap();
    })
    .await;
    let _ = tokio::time::timeout(PATIENCE, connect(&way_to(address).destination)).await;
    let offered = offered.await.unwrap();
    assert_eq!(offered[6..8], ["none", "none"], "{offered:?}");
}
