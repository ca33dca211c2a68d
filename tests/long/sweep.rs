//! Every way to save, make, move and remove on a real server, ended after every single SFTP message: by a cut
//! connection, and by a daemon that is killed. What is then on the server is read by pycryptomator and looked over by
//! our own check: every file is old or new, whole, and nothing else changed. After a cut, all that programs were told
//! is done is there in the end; after a kill, all that `fsync` answered for.
//!
//! A run tries a sample: `SWEEP=NUMBER` repeats the one that printed the number, `SWEEP=all` tries every message of
//! every deed, `SWEEP='append, twice'` every message of that one.

mod deeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deeds::{DEEDS, Deed, prepare};
use rustix::process::Signal;
use scaup::check::{self, CheckOptions, CheckProgress, FindingKind, Severity};
use scaup::remote::RemotePath;
use scaup::remote::local::LocalRemote;
use scaup_crypto::Cryptor;
use scaup_rig::{Answers, Fixture, Gate, Held, Mount, Scaup, Sshd, eventually, run, within};

use crate::reader::{Node, Reader, Tree, local};
use crate::support::{PASSWORD, PATIENCE, scaup, signal};

/// How a deed is ended in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The connection is cut, and a new one made.
    Cut,
    /// The daemon is killed.
    Kill,
}

/// Deeds of a sample.
const SAMPLE_DEEDS: usize = 8;
/// Messages at which each deed of a sample is ended.
const SAMPLE_MESSAGES: u64 = 2;

/// How long a new mount may take to clear away what it met.
const CLEARED: Duration = Duration::from_secs(20);

/// More messages than any deed takes.
const MANY: u64 = 10_000;

/// Which messages are tried.
enum Sweep {
    All,
    One(&'static Deed),
    Sample(u64),
}

impl Sweep {
    #[allow(clippy::print_stderr)]
    fn chosen() -> Self {
        let seed = match std::env::var("SWEEP").as_deref() {
            Ok("all") => return Self::All,
            Ok(wanted) => match deeds::named(wanted) {
                Some(deed) => return Self::One(deed),
                None => wanted.parse().expect("SWEEP is `all`, a number, or a deed's name"),
            },
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                u64::from(now.subsec_nanos()) ^ u64::from(std::process::id())
            }
        };
        eprintln!("to try the same again: SWEEP={seed}");
        Self::Sample(seed)
    }

    fn deeds(&self) -> Vec<&'static Deed> {
        let seed = match *self {
            Self::All => return DEEDS.iter().collect(),
            Self::One(deed) => return vec![deed],
            Self::Sample(seed) => seed,
        };
        let mut deeds: Vec<_> = DEEDS.iter().collect();
        deeds.sort_by_key(|deed| random(seed, deed.name, 0));
        deeds.truncate(SAMPLE_DEEDS);
        deeds
    }

    /// After which of its `count` messages a deed is ended.
    fn messages(&self, deed: &Deed, count: u64) -> Vec<u64> {
        match *self {
            Self::All | Self::One(_) => (1..=count).collect(),
            Self::Sample(seed) => {
                (1..=SAMPLE_MESSAGES).map(|n| 1 + random(seed, deed.name, n) % count).collect()
            }
        }
    }
}

/// A number that follows from all of these.
fn random(seed: u64, name: &str, n: u64) -> u64 {
    name.bytes().chain(n.to_le_bytes()).chain(seed.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        let hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        hash ^ (hash >> 29)
    })
}

/// A vault on a server behind a gate, and everything that looks at it.
struct Stage {
    scaup: Scaup,
    mount: Option<Mount>,
    sshd: Sshd,
    gate: Gate,
    reader: Reader,
    cryptor: Arc<Cryptor>,
    runtime: tokio::runtime::Runtime,
    /// What has been seen in the vault and is not to change.
    rest: Tree,
    rounds: u32,
}

/// A deed that goes on beside.
struct Doing {
    steps: Arc<AtomicUsize>,
    thread: thread::JoinHandle<std::io::Result<()>>,
}

impl Stage {
    fn set() -> Self {
        let gate = Gate::new();
        let sshd = Sshd::key_only().subsystem(&gate.subsystem()).start();
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        run(std::process::Command::new("chown").args(["-R", sshd.user()]).arg(sshd.home()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let remote = LocalRemote::open(&sshd.home().join("Vault")).unwrap();
        let root = RemotePath::root();
        let opened = runtime.block_on(scaup::vault::open_vault(
            &remote,
            &root,
            &scaup::vault::VaultSecret::password(PASSWORD),
        ));
        let cryptor = Arc::new(opened.unwrap());
        let mut stage = Self {
            scaup: scaup(),
            mount: None,
            sshd,
            gate,
            reader: Reader::start(),
            cryptor,
            runtime,
            rest: Tree::new(),
            rounds: 0,
        };
        stage.mount();
        stage
    }

    fn mount(&mut self) {
        let answers = Answers::login(&self.sshd).vault(PASSWORD);
        let mount = self.scaup.mount_on(&self.sshd, "").answering(&answers).args(["--vault", "Vault"]);
        self.mount = Some(mount.start());
    }

    fn vault(&self) -> PathBuf {
        self.mount.as_ref().unwrap().join("Vault")
    }

    /// Whether everything is on the server.
    fn is_saved(&self) -> bool {
        let status = self.scaup.status();
        let unsaved = &status["mounts"][0]["unsaved"];
        unsaved["files"].as_u64().expect("the mount has a status") == 0
            && unsaved["removals"].as_u64().is_none_or(|n| n == 0)
    }

    fn wait_until_saved(&self) {
        eventually("everything is saved", PATIENCE, || self.is_saved());
    }

    /// Prepares a directory for a deed: its name, and what is in it after each step.
    fn set_up(&mut self, deed: &Deed) -> (String, Vec<Tree>) {
        self.rounds += 1;
        let name = format!("round {}", self.rounds);
        let oracle = tempfile::tempdir().unwrap();
        let mut trees = Vec::new();
        prepare(oracle.path()).unwrap();
        trees.push(local(oracle.path()));
        for step in deed.steps {
            (step.work)(oracle.path()).unwrap();
            trees.push(local(oracle.path()));
        }
        let place = self.vault().join(&name);
        within(PATIENCE, move || {
            fs::create_dir(&place).unwrap();
            prepare(&place).unwrap();
        });
        self.wait_until_saved();
        (name, trees)
    }

    fn begin(&self, deed: &'static Deed, name: &str) -> Doing {
        let steps = Arc::new(AtomicUsize::new(0));
        let (place, done) = (self.vault().join(name), Arc::clone(&steps));
        let thread = thread::spawn(move || {
            for step in deed.steps {
                (step.work)(&place)?;
                done.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        Doing { steps, thread }
    }

    /// How many messages a deed takes.
    fn count(&mut self, deed: &'static Deed) -> u64 {
        let (name, trees) = self.set_up(deed);
        self.gate.close_after(MANY, Held::Requests);
        let doing = self.begin(deed, &name);
        within(PATIENCE, || doing.thread.join().unwrap()).unwrap();
        self.wait_until_saved();
        let left = self.gate.left();
        self.gate.open();
        self.is_exactly(deed, "undisturbed", &name, &trees[deed.steps.len()]);
        self.keep(&name, &trees[deed.steps.len()]);
        MANY - left
    }

    /// What the independent reader finds, apart from the rest, which has to be as it was.
    fn read(&mut self, what: &str, name: &str) -> Tree {
        let vault = self.sshd.home().join("Vault");
        let mut seen = self
            .reader
            .read(&vault, PASSWORD)
            .unwrap_or_else(|error| panic!("{what}: pycryptomator: {error}"));
        assert_eq!(seen.remove(name), Some(Node::Directory {}), "{what}");
        let within = format!("{name}/");
        let (here, rest): (Tree, Tree) = seen.into_iter().partition(|(path, _)| path.starts_with(&within));
        assert_eq!(rest, self.rest, "{what}: something else has changed");
        here.into_iter().map(|(path, node)| (path[within.len()..].to_owned(), node)).collect()
    }

    /// From now on this is not to change.
    fn keep(&mut self, name: &str, seen: &Tree) {
        self.rest.insert(name.to_owned(), Node::Directory {});
        self.rest.extend(seen.iter().map(|(path, node)| (format!("{name}/{path}"), node.clone())));
    }

    /// Makes room for the next round.
    fn clear(&self, name: &str) {
        let place = self.vault().join(name);
        within(PATIENCE, move || fs::remove_dir_all(place)).unwrap();
    }

    fn is_exactly(&mut self, deed: &Deed, what: &str, name: &str, wanted: &Tree) {
        let what = format!("{}: {what}", deed.name);
        let seen = self.read(&what, name);
        assert_eq!(&seen, wanted, "{what}");
        self.is_healthy(&what, &[]);
    }

    fn is_healthy(&self, what: &str, but: &[FindingKind]) {
        let remote = LocalRemote::open(&self.sshd.home().join("Vault")).unwrap();
        let (root, progress) = (RemotePath::root(), CheckProgress::default());
        let checked = check::run(&remote, &root, &self.cryptor, CheckOptions { content: true }, &progress);
        let report = self.runtime.block_on(checked).unwrap();
        let found: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.kind.severity() > Severity::Info && !but.contains(&finding.kind))
            .collect();
        assert!(found.is_empty(), "{what}: {found:#?}");
    }

    /// Ends a deed after one of its messages; `false` if it takes fewer.
    fn try_at(&mut self, end: End, deed: &'static Deed, n: u64, held: Held) -> bool {
        let what = format!("{end:?} after message {n}, {held:?} held");
        let (name, trees) = self.set_up(deed);
        self.gate.close_after(n, held);
        let doing = self.begin(deed, &name);
        let started = Instant::now();
        while !self.gate.is_closed() {
            if doing.thread.is_finished() && self.is_saved() && !self.gate.is_closed() {
                self.gate.open();
                doing.thread.join().unwrap().unwrap();
                self.is_exactly(deed, &what, &name, &trees[deed.steps.len()]);
                self.clear(&name);
                return false;
            }
            assert!(started.elapsed() < PATIENCE, "{}: {what}: it goes on and on", deed.name);
            thread::sleep(Duration::from_millis(1));
        }
        match end {
            End::Cut => {
                let steps = doing.steps.load(Ordering::SeqCst);
                self.sshd.cut_connections();
                let what = format!("{what}, in step {}", steps + 1);
                let seen = self.read(&format!("{}: {what}", deed.name), &name);
                deed.check(&what, &seen, &trees, steps, false);
                self.is_healthy(&format!("{}: {what}", deed.name), deed.in_between());
                self.gate.open();
                let done = within(PATIENCE, || doing.thread.join().unwrap());
                assert!(done.is_ok(), "{}: {what}: {done:?}\n{:#}", deed.name, self.scaup.status());
                self.wait_until_saved();
                self.is_exactly(deed, &format!("{what}, later"), &name, &trees[deed.steps.len()]);
            }
            End::Kill => {
                self.kill();
                let done = within(PATIENCE, || doing.thread.join().unwrap());
                let steps = doing.steps.load(Ordering::SeqCst);
                let what = format!("{what}, in step {}, {done:?}", steps + 1);
                let seen = self.read(&format!("{}: {what}", deed.name), &name);
                deed.check(&what, &seen, &trees, steps, true);
                self.is_healthy(&format!("{}: {what}", deed.name), deed.in_between());
                self.gate.open();
                self.mount();
                let seen = self.is_seen_alike(&format!("{}: {what}", deed.name), &name);
                deed.check(&what, &seen, &trees, steps, true);
                let place = self.vault().join(&name);
                within(PATIENCE, move || deed.finish(&place, &seen)).unwrap();
            }
        }
        self.clear(&name);
        true
    }

    /// Kills the daemon, and waits until the server has noticed.
    fn kill(&mut self) {
        let mount = self.mount.take().unwrap();
        signal(mount.daemon(), Signal::KILL);
        let _ = std::process::Command::new("fusermount3").arg("-uz").arg(mount.path()).output();
        drop(mount);
        eventually("nothing of the dead daemon is left at the server", PATIENCE, || self.gate.is_deserted());
    }

    /// Waits until a new mount has cleared away what was not finished, and sees what the independent reader sees.
    /// Returns that.
    fn is_seen_alike(&mut self, what: &str, name: &str) -> Tree {
        let deadline = Instant::now() + CLEARED;
        let left = || [temporary(&self.sshd.home().join("Vault")), self.begun_by_the_dead()].concat();
        while let unfinished @ [_, ..] = left().as_slice() {
            assert!(Instant::now() < deadline, "{what}: not cleared away: {unfinished:?}");
            thread::sleep(Duration::from_millis(20));
        }
        loop {
            let place = self.vault().join(name);
            let (own, there) = (within(PATIENCE, move || local(&place)), self.read(what, name));
            if own == there {
                return own;
            }
            assert!(Instant::now() < deadline, "{what}: seen by a new mount: {own:?}, there is {there:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Where daemons that were killed have begun something, as they kept it on this machine.
    fn begun_by_the_dead(&self) -> Vec<PathBuf> {
        let living = format!("-{}", self.mount.as_ref().unwrap().daemon());
        let kept = std::fs::read_dir(self.scaup.home().join("state/scaup/unfinished")).unwrap();
        let kept = kept.map(|entry| entry.unwrap().path());
        kept.filter(|path| !path.to_str().unwrap().ends_with(&living)).collect()
    }

    fn strike(mut self) {
        self.mount.take().unwrap().unmount(&self.scaup);
        assert_eq!(temporary(&self.sshd.home().join("Vault")), Vec::<PathBuf>::new());
    }
}

/// What is not finished, below a directory on the server.
fn temporary(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(at) = waiting.pop() {
        // It may just be cleared away.
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".scaup-") {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    found
}

#[allow(clippy::print_stderr)]
fn sweep(end: End, sweep: &Sweep) {
    let mut tried = 0;
    for deed in sweep.deeds() {
        let started = Instant::now();
        let mut stage = Stage::set();
        let count = stage.count(deed);
        assert!(count > 0, "{}: nothing was sent", deed.name);
        for n in sweep.messages(deed, count) {
            for held in [Held::Requests, Held::Answers] {
                tried += u32::from(stage.try_at(end, deed, n, held));
            }
        }
        stage.strike();
        eprintln!("{:>4} s  {}: {count} messages", started.elapsed().as_secs(), deed.name);
    }
    eprintln!("{tried} times ended by {end:?}");
    assert!(tried > 0);
}

#[test]
fn a_cut_connection_leaves_old_or_new_and_then_goes_on() {
    sweep(End::Cut, &Sweep::chosen());
}

#[test]
fn a_killed_daemon_leaves_old_or_new_and_what_was_synced() {
    sweep(End::Kill, &Sweep::chosen());
}

/// What was hidden of the file that is replaced has to go, too: the directory around it could not be removed.
#[test]
fn after_a_cut_nothing_that_is_not_finished_keeps_a_directory_from_being_removed() {
    sweep(End::Cut, &Sweep::One(deeds::named("rename a link over a file").unwrap()));
}
