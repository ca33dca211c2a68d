//! Stands before OpenSSH's `sftp-server` and lets messages pass only while a [`scaup_rig::Gate`] is open:
//! `gated-sftp-server DIRECTORY [ARGUMENT …]`, as sshd's `Subsystem sftp`, with arguments for `sftp-server`.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use scaup_rig::{Gatekeeper, Passage};

const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// How often a closed gate is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().ok_or("usage: gated-sftp-server DIRECTORY [ARGUMENT …]")?;
    let gate = Arc::new(Gatekeeper::at(directory.into()));
    let mut server = Command::new(SFTP_SERVER);
    let mut server = server.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut requests = server.stdin.take().ok_or("sftp-server has no standard input")?;
    let answers = server.stdout.take().ok_or("sftp-server has no standard output")?;
    let done = Arc::new(AtomicU64::new(0));
    pass_answers(answers, Arc::clone(&done), Arc::clone(&gate));

    let mut asked = 0;
    while let Some(request) = message(&mut io::stdin())? {
        let passage = loop {
            match gate.ask()? {
                Passage::Closed => {
                    // The client may be gone: then it never got the reply.
                    if hung_up()? {
                        server.kill()?;
                        return Ok(());
                    }
                }
                passage => break passage,
            }
        };
        requests.write_all(&request)?;
        asked += 1;
        if passage == Passage::Last {
            // Each request has one answer (draft-ietf-secsh-filexfer-02, section 3).
            while done.load(Ordering::SeqCst) < asked {
                thread::sleep(LOOK_EVERY);
            }
            gate.note_closed()?;
        }
    }
    drop(requests);
    server.wait()?;
    Ok(())
}

/// Passes replies on while the gate lets them; counts them before.
fn pass_answers(mut answers: impl Read + Send + 'static, done: Arc<AtomicU64>, gate: Arc<Gatekeeper>) {
    let (queue, waiting) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(Some(answer)) = message(&mut answers) {
            if queue.send(answer).is_err() {
                return;
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
    });
    thread::spawn(move || {
        for answer in waiting {
            while !gate.lets_answers_pass().unwrap_or(true) {
                thread::sleep(LOOK_EVERY);
            }
            if io::stdout().write_all(&answer).and_then(|()| io::stdout().flush()).is_err() {
                return;
            }
        }
    });
}

/// The next message, its length before it; `None` at the end.
fn message(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let mut message = length.to_vec();
    let rest = u64::from(u32::from_be_bytes(length));
    stream.take(rest).read_to_end(&mut message)?;
    Ok(Some(message))
}

/// Waits a moment; returns whether the client is gone by then.
fn hung_up() -> io::Result<bool> {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    let mut asked = [PollFd::new(&stdin, PollFlags::empty())];
    let moment = Timespec::try_from(LOOK_EVERY).map_err(io::Error::other)?;
    poll(&mut asked, Some(&moment))?;
    Ok(asked.iter().any(|asked| asked.revents().intersects(PollFlags::HUP | PollFlags::ERR)))
}
