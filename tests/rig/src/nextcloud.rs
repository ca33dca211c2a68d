//! A stand-in for a Nextcloud server: what a client that shares files by link meets, in the versions
//! recorded.
//!
//! It listens on the loopback only, keeps contents in a temporary directory, and has the users alice,
//! bob and carol, whose account password is `correct horse`.
//! Each of its answers is modelled on a recorded exchange of a real server.

mod bulk;
mod dav;
mod faults;
mod flow;
mod http;
mod login;
mod ocs;
mod propfind;
mod public;
mod settings;
mod shares;
mod tls;
mod trash;
mod tree;
mod uploads;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_rustls::TlsAcceptor;

pub use faults::{Fault, Request, What};
pub use settings::{Policy, Settings, Version};
use tree::State;

/// Why the state can be locked: a thread that panicked with it has failed its test already.
const UNBROKEN: &str = "no other thread failed";
/// Why a content can be read: nothing removes it while the server lives.
const STORED: &str = "what was stored is there";

/// The user that all shortcuts are about.
const ALICE: &str = "alice";

/// A share as its owner sees it, the password in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its number.
    pub id: String,
    /// What its link ends with.
    pub token: String,
    /// Where the file lies; None while it is in the trash or gone.
    pub path: Option<String>,
    /// What was set, in the clear.
    pub password: Option<String>,
    /// The expiry as answers tell it.
    pub expiration: Option<String>,
    /// Bits; a link has 16 more than was asked for.
    pub permissions: u32,
    /// Shown to the receiver.
    pub note: String,
    /// Shown to the receiver as the title.
    pub label: String,
}

/// A server, stopped when dropped.
pub struct Nextcloud {
    state: Arc<Mutex<State>>,
    url: String,
    runtime: Option<tokio::runtime::Runtime>,
    _directory: tempfile::TempDir,
}

impl Nextcloud {
    /// Starts one on `http://127.0.0.1:PORT`.
    pub fn start(version: Version) -> Nextcloud {
        Nextcloud::run(version, "", None)
    }

    /// Starts one on `https://localhost:PORT`, and writes the certificate of its own authority to `ca_file`.
    pub fn start_with_tls(version: Version, ca_file: &Path) -> Nextcloud {
        Nextcloud::run(version, "", Some(tls::acceptor(ca_file)))
    }

    /// Starts one that is installed below a path of its host, as `/nextcloud`.
    pub fn start_below(version: Version, prefix: &str) -> Nextcloud {
        Nextcloud::run(version, prefix, None)
    }

    fn run(version: Version, prefix: &str, tls: Option<TlsAcceptor>) -> Nextcloud {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("a socket can be");
        let port = listener.local_addr().expect("it is bound").port();
        let url = match &tls {
            None => format!("http://127.0.0.1:{port}{prefix}"),
            Some(_) => format!("https://localhost:{port}{prefix}"),
        };
        let directory = tempfile::tempdir().expect("a directory can be made");
        let state = State::new(version, url.clone(), prefix.to_owned(), directory.path().to_owned());
        let state = Arc::new(Mutex::new(state));
        // Threads of its own, so that tests may block.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads can be started");
        runtime.spawn(http::listen(listener, tls, state.clone()));
        Nextcloud { state, url, runtime: Some(runtime), _directory: directory }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNBROKEN)
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// A fresh app password of alice.
    pub fn app_password(&self) -> String {
        self.app_password_of(ALICE)
    }

    /// A fresh app password of another user.
    pub fn app_password_of(&self, user: &str) -> String {
        login::new_device(&mut self.state(), user, "test")
    }

    /// How many app passwords of alice are valid.
    pub fn app_passwords(&self) -> usize {
        self.devices().len()
    }

    /// What alice's app passwords are called: the user agents of the programs that got them.
    pub fn devices(&self) -> Vec<String> {
        let state = self.state();
        let of_alice = state.app_passwords.iter().filter(|device| device.user == ALICE);
        of_alice.map(|device| device.device.clone()).collect()
    }

    /// Changes what an administrator can set.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// Moves the server's clock by days.
    pub fn advance_days(&self, days: i32) {
        self.state().days += days;
    }

    /// Lets requests go wrong.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Lets everything go right again.
    pub fn stop_failing(&self) {
        self.state().faults.clear();
    }

    /// The access log, in the order requests came in.
    pub fn requests(&self) -> Vec<Request> {
        self.state().log.clone()
    }

    /// All paths of alice's files; folders end in a slash.
    pub fn files(&self) -> Vec<String> {
        let state = self.state();
        let all = state.user(ALICE).tree.iter().filter(|(path, _)| !path.is_empty());
        all.map(|(path, node)| format!("{path}{}", if node.is_folder() { "/" } else { "" })).collect()
    }

    /// What is in a file.
    pub fn content(&self, path: &str) -> Vec<u8> {
        let state = self.state();
        let node = state.node(ALICE, path).unwrap_or_else(|| panic!("{path} is not there"));
        let blob = node.blob.clone().unwrap_or_else(|| panic!("{path} is a folder"));
        std::fs::read(&blob.path).expect(STORED)
    }

    /// Stores a file as the user does in the web interface; makes the folders above it.
    pub fn put(&self, path: &str, content: &[u8]) {
        let mut state = self.state();
        let above = tree::parent(path).unwrap_or_default();
        for (at, _) in above.match_indices('/').skip(1).chain([(above.len(), "")]) {
            if state.node(ALICE, &above[..at]).is_none() {
                state.make_folder(ALICE, &above[..at]);
            }
        }
        let blob = state.blob_of(content);
        state.store(ALICE, path, blob, None, None);
    }

    /// Deletes a file or folder as the user does in the web interface: to the trash.
    pub fn remove(&self, path: &str) {
        let mut state = self.state();
        assert!(state.node(ALICE, path).is_some(), "{path} is not there");
        state.throw_away(ALICE, path);
    }

    /// Renames a file or folder as the user does in the web interface.
    pub fn rename(&self, from: &str, to: &str) {
        let mut state = self.state();
        let nodes = state.take(ALICE, from);
        state.give(ALICE, to, nodes);
    }

    /// Restores what was last deleted from that path.
    pub fn restore(&self, path: &str) {
        let mut state = self.state();
        let original = path.trim_start_matches('/');
        let at = state.user(ALICE).trash.iter().rposition(|each| each.original == original);
        let at = at.unwrap_or_else(|| panic!("{path} is not in the trash"));
        trash::restore(&mut state, ALICE, at);
    }

    /// Where the things in the trash were.
    pub fn trash(&self) -> Vec<String> {
        self.state().user(ALICE).trash.iter().map(|each| format!("/{}", each.original)).collect()
    }

    /// Unfinished chunked uploads.
    pub fn uploads(&self) -> Vec<String> {
        self.state().user(ALICE).uploads.keys().cloned().collect()
    }

    /// All shares that the server still has, those included that are over and were not looked at since.
    pub fn shares(&self) -> Vec<Share> {
        let state = self.state();
        let share = |link: &shares::Link| Share {
            id: link.id.to_string(),
            token: link.token.clone(),
            path: state.path_of(&link.owner, link.file),
            password: link.password.clone(),
            expiration: link.expiration(&state),
            permissions: link.permissions,
            note: link.note.clone(),
            label: link.label.clone(),
        };
        state.links.iter().map(share).collect()
    }

    /// What a receiver gets by a link and a password; None if it does not open.
    pub fn open_link(&self, token: &str, password: Option<&str>) -> Option<Vec<u8>> {
        let blob = public::open(&mut self.state(), token, password)?;
        Some(std::fs::read(&blob.path).expect(STORED))
    }

    /// Forgets wrong logins, as an administrator can let it.
    pub fn forget_wrong_logins(&self) {
        self.state().wrong_logins.clear();
    }

    /// Whether login flows are granted at once, by alice and without a browser.
    pub fn grant_logins(&self, grant: bool) {
        self.state().grant_at_once = grant;
    }
}

impl Drop for Nextcloud {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
