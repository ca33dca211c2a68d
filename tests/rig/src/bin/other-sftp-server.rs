//! OpenSSH's `sftp-server` with the ways of others: `other-sftp-server WAY… [-- ARGUMENT …]`, as sshd's `Subsystem
//! sftp`, with arguments for `sftp-server`. The ways are those of [`scaup_rig::Way`].

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use scaup_rig::{SftpPacket, Way};

const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// How long a worker takes for a WRITE: longer than what overtakes it.
const WORK: Duration = Duration::from_millis(20);
/// The request types that only this program changes.
const SETSTAT: u8 = 9;
const MKDIR: u8 = 14;
const STAT: u8 = 17;
const SYMLINK: u8 = 20;
/// `SSH_FXF_WRITE`, a flag of OPEN.
const WRITES: u32 = 2;
/// `SSH_FXF_TRUNC`
const EMPTIES: u32 = 0x10;
/// `SSH_FX_PERMISSION_DENIED`
const PERMISSION_DENIED: u32 = 3;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a file was opened.
struct Opened {
    path: Vec<u8>,
    writes: bool,
}

/// What the threads share.
struct Server {
    ways: Vec<Way>,
    requests: Mutex<ChildStdin>,
    /// Names that are being opened, by the request, and those of open handles.
    opening: Mutex<HashMap<u32, Opened>>,
    open: Mutex<HashMap<Vec<u8>, Opened>>,
    /// WRITEs with the workers.
    working: Mutex<usize>,
    done: Condvar,
    /// WRITEs that wait for the next request that does not overtake them.
    held_back: Mutex<Vec<SftpPacket>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (ways, arguments) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (&arguments[..], &[][..]),
    };
    let ways = ways.iter().map(|way| Way::named(way).ok_or(format!("no way is called {way}")));
    let ways = ways.collect::<Result<Vec<_>, _>>()?;
    let mut child =
        Command::new(SFTP_SERVER).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let requests = child.stdin.take().ok_or("sftp-server has no standard input")?;
    let answers = child.stdout.take().ok_or("sftp-server has no standard output")?;
    let server = Arc::new(Server {
        ways,
        requests: Mutex::new(requests),
        opening: Mutex::default(),
        open: Mutex::default(),
        working: Mutex::default(),
        done: Condvar::new(),
        held_back: Mutex::default(),
    });
    thread::spawn({
        let server = Arc::clone(&server);
        move || server.pass_answers(answers)
    });
    while let Some(request) = packet(&mut io::stdin())? {
        server.take(request)?;
    }
    // The child ends with its input, which the threads hold.
    child.kill()?;
    Ok(())
}

impl Server {
    fn has(&self, way: Way) -> bool {
        self.ways.contains(&way)
    }

    fn pass(&self, request: &SftpPacket) -> io::Result<()> {
        let mut requests = lock(&self.requests);
        requests.write_all(&request.bytes())?;
        requests.flush()
    }

    fn take(self: &Arc<Self>, request: SftpPacket) -> io::Result<()> {
        if request.kind == SftpPacket::OPEN {
            let (path, rest) = string(&request.body);
            let flags = rest.first_chunk().map_or(0, |flags| u32::from_be_bytes(*flags));
            let opened = Opened { path: path.to_vec(), writes: flags & WRITES != 0 };
            lock(&self.opening).insert(request.id, opened);
        }
        if self.has(Way::Overtakes) && self.holds_back(&request)? {
            return Ok(());
        }
        if self.has(Way::Workers) {
            match request.kind {
                SftpPacket::WRITE => {
                    *lock(&self.working) += 1;
                    let server = Arc::clone(self);
                    thread::spawn(move || {
                        thread::sleep(WORK);
                        let passed = server.pass(&request);
                        *lock(&server.working) -= 1;
                        server.done.notify_all();
                        passed
                    });
                    return Ok(());
                }
                SftpPacket::CLOSE | SftpPacket::READ => {
                    let working = lock(&self.working);
                    drop(self.done.wait_while(working, |working| *working > 0));
                }
                _ => {}
            }
        }
        if self.is_refused(&request) {
            let refusal = SftpPacket::new(SftpPacket::STATUS, request.id).u32(PERMISSION_DENIED);
            return say(&refusal.string(b"Permission denied").string(b"").bytes());
        }
        self.pass(&self.changed(request))
    }

    /// Holds a WRITE back for a moment, or until a request comes that does not overtake it. Returns whether the request
    /// was taken.
    fn holds_back(self: &Arc<Self>, request: &SftpPacket) -> io::Result<bool> {
        match request.kind {
            SftpPacket::WRITE => {
                lock(&self.held_back).push(request.clone());
                let server = Arc::clone(self);
                thread::spawn(move || {
                    thread::sleep(WORK);
                    server.let_go()
                });
                Ok(true)
            }
            SftpPacket::FSETSTAT => {
                self.pass(&self.changed(request.clone()))?;
                self.let_go()?;
                Ok(true)
            }
            _ => {
                self.let_go()?;
                Ok(false)
            }
        }
    }

    fn let_go(&self) -> io::Result<()> {
        let mut held_back = lock(&self.held_back);
        held_back.drain(..).try_for_each(|write| self.pass(&write))
    }

    fn is_refused(&self, request: &SftpPacket) -> bool {
        let sets_link =
            || request.kind == SftpPacket::EXTENDED && string(&request.body).0.starts_with(b"lsetstat");
        match request.kind {
            SftpPacket::FSETSTAT => self.has(Way::NoOpenAttributes) || self.has(Way::NoAttributes),
            SETSTAT => self.has(Way::NoAttributes),
            _ => self.has(Way::NoAttributes) && sets_link(),
        }
    }

    fn changed(&self, mut request: SftpPacket) -> SftpPacket {
        match request.kind {
            SftpPacket::FSTAT | SftpPacket::FSETSTAT if self.has(Way::HandlesAreNames) => {
                let (handle, rest) = string(&request.body);
                if let Some(Opened { path, .. }) = lock(&self.open).get(handle) {
                    let kind = if request.kind == SftpPacket::FSTAT { STAT } else { SETSTAT };
                    let mut by_name = SftpPacket::new(kind, request.id).string(path);
                    by_name.body.extend(rest);
                    return by_name;
                }
            }
            SftpPacket::OPEN if self.has(Way::Empties) => {
                let (path, rest) = string(&request.body);
                if let Some((flags, rest)) = rest.split_first_chunk()
                    && u32::from_be_bytes(*flags) & WRITES != 0
                {
                    let flags = u32::from_be_bytes(*flags) | EMPTIES;
                    let mut emptying = SftpPacket::new(SftpPacket::OPEN, request.id).string(path).u32(flags);
                    emptying.body.extend(rest);
                    return emptying;
                }
            }
            SftpPacket::READ if self.has(Way::ReadsAreWrites) => {
                let (handle, rest) = string(&request.body);
                if lock(&self.open).get(handle).is_some_and(|opened| opened.writes)
                    && let Some((offset, length)) = rest.split_first_chunk::<8>()
                    && let Some(length) = length.first_chunk()
                {
                    let zeros = vec![0; u32::from_be_bytes(*length) as usize];
                    let mut write = SftpPacket::new(SftpPacket::WRITE, request.id).string(handle);
                    write.body.extend(offset);
                    return write.string(&zeros);
                }
            }
            SYMLINK if self.has(Way::LinkFirst) => {
                let (first, rest) = string(&request.body);
                let (second, _) = string(rest);
                return SftpPacket::new(SYMLINK, request.id).string(second).string(first);
            }
            MKDIR if self.has(Way::NoModes) => {
                let path = string(&request.body).0.to_vec();
                return SftpPacket::new(MKDIR, request.id).string(&path).u32(0);
            }
            _ => {}
        }
        request.body.shrink_to_fit();
        request
    }

    fn pass_answers(&self, mut answers: impl Read) -> io::Result<()> {
        while let Some(mut answer) = packet(&mut answers)? {
            if answer.kind == SftpPacket::VERSION {
                if self.has(Way::NoExtensions) {
                    answer.body.truncate(4);
                } else if self.has(Way::FewExtensions) {
                    answer.body.truncate(4);
                    for name in ["hardlink@openssh.com", "posix-rename@openssh.com"] {
                        answer = answer.string(name.as_bytes()).string(b"1");
                    }
                }
            }
            if answer.kind == SftpPacket::HANDLE
                && let Some(opened) = lock(&self.opening).remove(&answer.id)
            {
                lock(&self.open).insert(string(&answer.body).0.to_vec(), opened);
            }
            say(&answer.bytes())?;
        }
        // The client hears that the server is gone.
        std::process::exit(0);
    }
}

fn say(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// The first string of a body, and what follows it.
fn string(body: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = body.split_first_chunk().unwrap_or((&[0; 4], &[]));
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).unwrap_or((rest, &[]))
}

/// The next packet; `None` at the end.
fn packet(stream: &mut impl Read) -> io::Result<Option<SftpPacket>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let mut bytes = Vec::new();
    stream.take(u64::from(u32::from_be_bytes(length))).read_to_end(&mut bytes)?;
    Ok(SftpPacket::parse(&bytes))
}
