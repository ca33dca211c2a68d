//! A program that talks to a mount's daemon through its control socket, as a window or a tray would.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use scaup_rig::Scaup;
use serde_json::{Value, json};

/// The control socket of the only mount.
pub(crate) fn socket(scaup: &Scaup) -> PathBuf {
    let sockets = fs::read_dir(scaup.home().join("run/scaup")).unwrap().map(|entry| entry.unwrap().path());
    let mut sockets = sockets.filter(|path| path.extension().is_some_and(|extension| extension == "sock"));
    sockets.next().expect("there is a socket")
}

/// The front end's side of one conversation.
pub(crate) struct FrontEnd(BufReader<UnixStream>);

impl FrontEnd {
    /// Connects, and says nothing yet.
    pub(crate) fn silent(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        Self(BufReader::new(stream))
    }

    /// Connects, and exchanges versions.
    pub(crate) fn connect(socket: &Path) -> Self {
        let mut front_end = Self::silent(socket);
        front_end.ask(&json!({ "Hello": { "major": 1, "minor": 0 } }));
        let reply = front_end.hear().expect("the daemon replies");
        assert_eq!(reply["Hello"]["major"], 1, "{reply}");
        front_end
    }

    /// Says something, which need be no whole line; whether it was taken.
    pub(crate) fn say(&self, bytes: &[u8]) -> bool {
        self.0.get_ref().write_all(bytes).is_ok()
    }

    /// Says nothing more.
    pub(crate) fn ends_speaking(&self) {
        self.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub(crate) fn ask(&self, request: &Value) {
        assert!(self.say(format!("{request}\n").as_bytes()), "{request}");
    }

    /// Answers the question with this number.
    pub(crate) fn answer(&self, prompt: &Value, text: &str) {
        self.ask(&json!({ "Answer": { "id": prompt["id"], "answer": { "Ok": text } } }));
    }

    /// What the daemon says next; `None` if it hung up.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            // Hung up with something unread is a reset.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            heard => {
                heard.unwrap();
                Some(serde_json::from_str(&line).unwrap())
            }
        }
    }

    /// What the daemon says next that is no progress.
    pub(crate) fn hear_behind_progress(&mut self) -> Value {
        loop {
            let heard = self.hear().expect("the daemon goes on");
            if heard.get("Progress").is_none() {
                return heard;
            }
        }
    }

    /// How many messages come within this time.
    pub(crate) fn heard_within(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut heard = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.0.get_ref().set_read_timeout(Some(left)).unwrap();
            if self.0.fill_buf().is_err() || Instant::now() > end {
                break;
            }
            self.0.get_ref().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            self.hear().expect("the daemon goes on");
            heard += 1;
        }
        self.0.get_ref().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        heard
    }

    /// Waits until the daemon hangs up.
    pub(crate) fn hears_the_end(mut self) -> bool {
        while self.hear().is_some() {}
        true
    }
}
