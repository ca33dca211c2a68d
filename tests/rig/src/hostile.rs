//! An SFTP server that lies: OpenSSH's own `sftp-server`, and between it and the client somebody who changes what it
//! says.
//!
//! It speaks over a stream in this process. So a test states only the lie, and all around it is as real servers have
//! it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::runtime::Runtime;

use crate::install::need;
use crate::sshd::Sshd;

/// Bytes that lie in the stream at most before its other end reads them.
const STREAM: usize = 256 * 1024;

/// One packet, of either side (draft-ietf-secsh-filexfer-02, section 3). INIT and VERSION have no id; theirs is 0 here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPacket {
    /// Its type, `SSH_FXP_…`.
    pub kind: u8,
    /// The request's id.
    pub id: u32,
    /// What follows.
    pub body: Vec<u8>,
}

/// What the client gets to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// The real server's answer.
    Truth,
    /// These bytes instead: any number of packets, or none and so no answer, or something else.
    Bytes(Vec<u8>),
    /// These bytes, and then the end of the stream.
    End(Vec<u8>),
    /// These bytes, after a while.
    Late(Duration, Vec<u8>),
}

impl SftpPacket {
    /// The client's greeting.
    pub const INIT: u8 = 1;
    /// The server's greeting.
    pub const VERSION: u8 = 2;
    /// Opens a file.
    pub const OPEN: u8 = 3;
    /// Closes a handle.
    pub const CLOSE: u8 = 4;
    /// Asks for content.
    pub const READ: u8 = 5;
    /// Sends content.
    pub const WRITE: u8 = 6;
    /// Asks for the attributes of a name.
    pub const LSTAT: u8 = 7;
    /// Asks for the attributes of an open file.
    pub const FSTAT: u8 = 8;
    /// Sets the attributes of an open file.
    pub const FSETSTAT: u8 = 10;
    /// Opens a directory.
    pub const OPENDIR: u8 = 11;
    /// Asks for names.
    pub const READDIR: u8 = 12;
    /// Asks for the absolute form of a path.
    pub const REALPATH: u8 = 16;
    /// Asks for a link's target.
    pub const READLINK: u8 = 19;
    /// How it went.
    pub const STATUS: u8 = 101;
    /// A handle.
    pub const HANDLE: u8 = 102;
    /// Content.
    pub const DATA: u8 = 103;
    /// Names.
    pub const NAME: u8 = 104;
    /// Attributes.
    pub const ATTRS: u8 = 105;
    /// A request of an extension.
    pub const EXTENDED: u8 = 200;
    /// The answer of an extension.
    pub const EXTENDED_REPLY: u8 = 201;

    /// A packet with an empty body, to be filled.
    #[must_use]
    pub fn new(kind: u8, id: u32) -> Self {
        Self { kind, id, body: Vec::new() }
    }

    /// Adds a number of 32 bits.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.body.extend(value.to_be_bytes());
        self
    }

    /// Adds a number of 64 bits.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.body.extend(value.to_be_bytes());
        self
    }

    /// Adds a string with its length.
    #[must_use]
    pub fn string(mut self, value: &[u8]) -> Self {
        self.body.extend(u32::try_from(value.len()).expect("a test's string is short").to_be_bytes());
        self.body.extend(value);
        self
    }

    /// The bytes on the wire, with the length that they really have.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut packet = vec![self.kind];
        if !self.has_no_id() {
            packet.extend(self.id.to_be_bytes());
        }
        packet.extend(&self.body);
        let length = u32::try_from(packet.len()).expect("a test's packet is short");
        [&length.to_be_bytes()[..], &packet].concat()
    }

    /// This packet as what the client gets to hear.
    #[must_use]
    pub fn lie(&self) -> Lie {
        Lie::Bytes(self.bytes())
    }

    fn has_no_id(&self) -> bool {
        matches!(self.kind, Self::INIT | Self::VERSION)
    }

    /// The next packet of an honest side; `None` at its end.
    async fn receive(from: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let length = from.read_u32().await.ok()?;
        let mut packet = vec![0; length as usize];
        from.read_exact(&mut packet).await.ok()?;
        Self::parse(&packet)
    }

    /// Reads a packet without its length; `None` if it is cut short.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let mut packet = Self { kind: *kind, id: 0, body: rest.to_vec() };
        if !packet.has_no_id() {
            let (id, body) = rest.split_first_chunk()?;
            (packet.id, packet.body) = (u32::from_be_bytes(*id), body.to_vec());
        }
        Some(packet)
    }
}

/// Starts a server whose login directory is `home`, and returns the stream that leads to it.
///
/// `lie` sees each request with the real server's answer. The real server does all that it is asked, whatever the
/// client hears of it, and ends with the stream. Must be called inside a tokio runtime.
pub fn hostile_sftp(
    home: &Path,
    lie: impl FnMut(&SftpPacket, &SftpPacket) -> Lie + Send + 'static,
) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(STREAM);
    tokio::spawn(stand_between(theirs, real_server(home), lie));
    ours
}

/// What a [`HostileServer`] sends instead of its replies.
type Lying = Box<dyn FnMut(&SftpPacket, &SftpPacket) -> Lie + Send>;

/// A liar behind a real login: sshd's SFTP program leads to it. It tells the truth at first.
pub struct HostileServer {
    sshd: Sshd,
    lying: Arc<Mutex<Lying>>,
    /// SFTP sessions before this one answer nothing.
    first_heard: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
    _program: TempDir,
    _runtime: Runtime,
}

impl HostileServer {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("threads can be started");
        let listener =
            runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let program = way_to(address);
        let sshd = Sshd::key_only().subsystem(&program.path().join("sftp").display().to_string()).start();
        let lying: Arc<Mutex<Lying>> = Arc::new(Mutex::new(Box::new(|_, _| Lie::Truth)));
        let (first_heard, begun) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        runtime.spawn({
            let (home, lying) = (sshd.home(), Arc::clone(&lying));
            let (first_heard, begun) = (Arc::clone(&first_heard), Arc::clone(&begun));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (lying, first_heard) = (Arc::clone(&lying), Arc::clone(&first_heard));
                    let number = begun.fetch_add(1, Ordering::SeqCst);
                    let lie = move |request: &SftpPacket, answer: &SftpPacket| {
                        if number < first_heard.load(Ordering::SeqCst) {
                            return Lie::Bytes(Vec::new());
                        }
                        (lying.lock().unwrap_or_else(PoisonError::into_inner))(request, answer)
                    };
                    tokio::spawn(stand_between(client, real_server(&home), lie));
                }
            }
        });
        Self { sshd, lying, first_heard, begun, _program: program, _runtime: runtime }
    }

    /// Where to log in.
    #[must_use]
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    /// All SFTP sessions that stand answer nothing any more, for ever, while their connection lives; those that are
    /// begun from now on are as they should be.
    pub fn mute_sessions(&self) {
        self.first_heard.store(self.begun.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// From now on `lie` sees each request with the real server's answer.
    pub fn lie(&self, lie: impl FnMut(&SftpPacket, &SftpPacket) -> Lie + Send + 'static) {
        *self.lying.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(lie);
    }
}

/// A program that leads from its input and to its output over a socket.
fn way_to(address: SocketAddr) -> TempDir {
    need(&[("bash", "bash")]);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let script = format!(
        "#!/bin/bash\nexec 3<>/dev/tcp/{}/{} 4<&0\ncat <&4 >&3 &\ncat <&3\nkill $!\n",
        address.ip(),
        address.port()
    );
    let program = directory.path().join("sftp");
    std::fs::write(&program, script).expect("the program can be written");
    for path in [directory.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .expect("the program can be made executable");
    }
    directory
}

/// OpenSSH's program in `home`, as its owner.
fn real_server(home: &Path) -> tokio::process::Child {
    need(&[("/usr/lib/openssh/sftp-server", "openssh-sftp-server")]);
    let owner = std::fs::metadata(home).expect("the home is there");
    Command::new("/usr/lib/openssh/sftp-server")
        .current_dir(home)
        .uid(owner.uid())
        .gid(owner.gid())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("sftp-server runs")
}

/// Carries one request after the other, until somebody has enough.
async fn stand_between(
    client: impl AsyncRead + AsyncWrite,
    mut server: tokio::process::Child,
    mut lie: impl FnMut(&SftpPacket, &SftpPacket) -> Lie,
) {
    let mut to_server = server.stdin.take().expect("its input is a pipe");
    let mut from_server = server.stdout.take().expect("its output is a pipe");
    let (mut from_client, mut to_client) = tokio::io::split(client);
    while let Some(request) = SftpPacket::receive(&mut from_client).await {
        if to_server.write_all(&request.bytes()).await.is_err() || to_server.flush().await.is_err() {
            return;
        }
        let Some(answer) = SftpPacket::receive(&mut from_server).await else { return };
        let (bytes, ends) = match lie(&request, &answer) {
            Lie::Truth => (answer.bytes(), false),
            Lie::Bytes(bytes) => (bytes, false),
            Lie::End(bytes) => (bytes, true),
            Lie::Late(pause, bytes) => {
                tokio::time::sleep(pause).await;
                (bytes, false)
            }
        };
        if to_client.write_all(&bytes).await.is_err() || ends {
            return;
        }
    }
}
