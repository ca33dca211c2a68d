//! An adversary that plays against the drive in memory: at each step of random everyday work on an unlocked vault it
//! exchanges, hides, links, swaps and replays what lies on the server, while a watch looks for a canary in all that
//! reaches the server.
//!
//! `ADVERSARY_SEED` and `ADVERSARY_STEPS` ask for other games, or longer ones.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use scaup::config::parts::OptionalPart;
use scaup::drive::{DriveOptions, VaultError, VaultState};
use scaup::remote::RemoteError;
use scaup::vault::VaultSecret;
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer};
use scaup_fuse::filesystem::RenameMode;

use super::attacker::{Aim, Attacker, ends, kind, path, relocate};
use super::programs::{
    CANARY, DIRECTORIES, Programs, SPARED, SPARED_IN_DIRECTORY, Worked, content, is_closed, is_told, kept,
};
use crate::kernel::{self, Kernel, PASSWORD, Place, runtime};
use scaup_rig::dice::{Dice, from_environment};

/// Steps of one game: a vault, an attacker, a way to mount.
const GAME: u64 = 200;
/// How long a program may wait, in the time that passes only while everybody waits.
const PATIENCE: Duration = Duration::from_secs(600);
/// A time that names and attributes may be believed, short enough to end in the middle of a game.
const A_MOMENT: Duration = Duration::from_millis(3);
/// Longer than what goes on behind a program's back takes.
const SETTLED: Duration = Duration::from_secs(1);
/// Longer than between two looks at a displaced vault.
const A_LOOK: Duration = Duration::from_secs(3);

/// The last things that happened, told if a game fails.
pub(crate) struct Trace {
    head: String,
    began: Instant,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(head: String) -> Self {
        Self { head, began: Instant::now(), lines: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, line: String) {
        /// Lines that are kept.
        const LINES_MAX: usize = 60;
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:.1?} {line}", self.began.elapsed()));
    }
}

impl Drop for Trace {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
            eprintln!("{}\n{}", self.head, lines.join("\n"));
        }
    }
}

thread_local! {
    /// What panicked on this thread: tasks that nobody waits for are dropped without a word.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
}

/// What a file may hold; `None`: it is not there.
type Possible = BTreeMap<String, BTreeSet<Option<Vec<u8>>>>;

/// How programs fared with paths in the vault.
#[derive(Debug, Default)]
struct Tally {
    /// They had what they asked for.
    done: u64,
    /// Of a vault that was not in its place they were told so.
    closed: u64,
    /// All.
    asked: u64,
}

struct Game {
    dice: Dice,
    trace: Trace,
    aim: Aim,
    server: MemoryServer,
    attacker: Attacker,
    options: DriveOptions,
    delay: Option<Delay>,
    kernel: Option<Kernel>,
    programs: Programs,
    /// Where the mount has the vault.
    vault: String,
    id: Option<String>,
    is_unlocked: bool,
    /// Whether no message is under way that was sent before the attacker's last deed.
    is_settled: bool,
    /// Whether this mount renamed what may have been something else in the vault's place.
    was_renamed_under_attack: bool,
    tally: Tally,
    possible: Possible,
    spared: Vec<u8>,
}

impl Game {
    async fn start(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let place = dice.pick(&[Place::Gcm, Place::Ctrmac]);
        let aim = dice.pick(&[Aim::Places, Aim::Copies, Aim::Everything]);
        let vault = dice.pick(&["Vault", "A/Vault", "A/B/Vault"]).to_owned();
        let options = DriveOptions {
            attr_timeout: dice.pick(&[Duration::ZERO, Duration::ZERO, A_MOMENT, Duration::from_secs(3600)]),
            sync_on_close: dice.one_in(2),
            without: OptionalPart::ALL.into_iter().filter(|_| dice.one_in(5)).collect(),
            ..kernel::options()
        };
        let delay = [None, Some(0), Some(80)].map(|spread| {
            let spread: u64 = spread?;
            let least = Duration::from_millis(20);
            Some(Delay { least, most: least + Duration::from_millis(spread), seed })
        });
        let delay = dice.pick(&delay);
        let server = place.server();
        if vault != "Vault" {
            relocate(MemoryRemote::connect(&server).as_ref(), "Vault", &vault).await.unwrap();
        }
        server.watch_for(CANARY.as_bytes());
        let other = if place == Place::Gcm { Place::Ctrmac } else { Place::Gcm };
        let (remote, other) = (MemoryRemote::connect(&server), MemoryRemote::connect(&other.server()));
        let attacker = Attacker::new(remote, other, aim, &vault).await;
        let head = format!(
            "ADVERSARY_SEED={seed} ADVERSARY_STEPS={GAME}: {place:?}, {aim:?}, {vault}, {delay:?}, {options:?}"
        );
        let spared = content(seed, &mut dice);
        let mut game = Self {
            dice,
            trace: Trace::new(head),
            aim,
            server,
            attacker,
            options,
            delay,
            kernel: None,
            programs: Programs::default(),
            vault,
            id: None,
            is_unlocked: false,
            is_settled: true,
            was_renamed_under_attack: false,
            tally: Tally::default(),
            possible: BTreeMap::new(),
            spared,
        };
        game.mount().await;
        game.kernel().mkdir("plain", 0o755).await.unwrap();
        assert!(game.unlock().await);
        game.kernel().save(&game.in_vault(SPARED), &game.spared).await.unwrap();
        let (above, _) = SPARED_IN_DIRECTORY.split_once('/').unwrap();
        game.kernel().mkdir(&game.in_vault(above), 0o755).await.unwrap();
        game.kernel().save(&game.in_vault(SPARED_IN_DIRECTORY), &game.spared).await.unwrap();
        assert_eq!(game.kernel().drive.save_all().await.files, 0);
        game.attacker.spare(&game.vault).await;
        for directory in DIRECTORIES {
            game.kernel().mkdir(&game.in_vault(directory), 0o755).await.unwrap();
        }
        game.remember();
        game
    }

    fn kernel(&self) -> &Kernel {
        self.kernel.as_ref().unwrap()
    }

    fn in_vault(&self, name: &str) -> String {
        format!("{}/{name}", self.vault)
    }

    fn remember(&mut self) {
        self.attacker.remember(MemoryRemote::connect(&self.server.fork()));
    }

    async fn mount(&mut self) {
        let remote = MemoryRemote::connect(&self.server);
        remote.set_delay(self.delay);
        let kernel = Kernel::mount(remote, Place::Plain, self.options.clone()).await;
        if let Some(id) = &self.id {
            kernel.drive.expect_vault(&path(&self.vault), Some(id.clone())).unwrap();
        }
        self.kernel = Some(kernel);
        self.is_unlocked = false;
    }

    /// Ends the mount: what can't be saved is given up.
    async fn unmount(&mut self) {
        let kernel = self.kernel.take().unwrap();
        self.programs.end(&kernel).await;
        kernel.drive.save_all().await;
        let drive = Arc::downgrade(&kernel.drive);
        drop(kernel);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(drive.strong_count(), 0, "the drive goes when its mount does");
    }

    async fn unlock(&mut self) -> bool {
        let at = path(&self.vault);
        let done = self.kernel().drive.unlock(&at, &VaultSecret::password(PASSWORD)).await;
        self.trace.add(format!("unlocks {}: {done:?}", self.vault));
        if done.is_ok() {
            self.is_unlocked = true;
            let vaults = self.kernel().drive.vaults();
            let vault =
                vaults.into_iter().find(|vault| vault.path == at).expect("an unlocked vault is listed");
            assert!(self.id.is_none() || self.id == vault.id, "another vault was unlocked");
            self.id = vault.id;
        }
        done.is_ok()
    }

    async fn lock(&mut self) {
        let at = path(&self.vault);
        let done = self.kernel().drive.lock(&at).await;
        self.trace.add(format!("locks {}: {done:?}", self.vault));
        match done {
            Ok(()) => {
                self.is_unlocked = false;
                let readable = self.programs.can_read(self.kernel.as_ref().unwrap(), &self.vault).await;
                assert!(readable.is_empty(), "readable after lock: {readable:?}");
                self.programs.end(self.kernel.as_ref().unwrap()).await;
            }
            Err(VaultError::Unsaved(unsaved)) => assert!(unsaved.files > 0),
            Err(error) => assert!(!self.is_unlocked, "an unlocked vault can't be locked: {error}"),
        }
    }

    /// Whether the drive says that the server shows something else in the vault's place.
    fn is_displaced(&self) -> bool {
        let vaults = self.kernel().drive.vaults();
        vaults.iter().any(|vault| vault.path == path(&self.vault) && vault.displaced.is_some())
    }

    async fn step(&mut self, number: u64) {
        if self.dice.one_in(2) {
            // A moment passes: a vault that is back is noticed.
            let moment = Duration::from_millis(self.dice.below(1500) as u64);
            tokio::time::sleep(moment).await;
            self.is_settled |= moment >= SETTLED;
        }
        // It gives back what it took, or nothing more would be done that it could see.
        if self.dice.one_in(if self.attacker.has_taken() { 3 } else { 8 }) {
            let deed = self.attacker.act(&mut self.dice, &self.vault).await;
            self.trace.add(format!("{number}: the attacker {deed}"));
            self.is_settled = self.delay.is_none();
        }
        if self.dice.one_in(20) {
            self.remember();
        }
        let fault = self.dice.one_in(25);
        if fault {
            let n = self.dice.below(12);
            let applied = self.dice.one_in(2);
            let fault = match self.dice.below(4) {
                0 => Fault::Cut { applied },
                1 => Fault::Answer { error: RemoteError::PermissionDenied, applied },
                2 => Fault::Answer { error: RemoteError::NotFound, applied: false },
                _ => Fault::Answer { error: RemoteError::Failure("Failure".to_owned()), applied },
            };
            self.trace.add(format!("{number}: the {n}th message from now: {fault:?}"));
            self.kernel().remote.fault_at(n, fault);
        }
        match self.dice.below(44) {
            0 => self.lock().await,
            1..16 if !self.is_unlocked => {
                self.unlock().await;
            }
            1 => {
                self.unmount().await;
                self.mount().await;
                self.trace.add(format!("{number}: mounts anew"));
                if self.dice.one_in(2) {
                    self.unlock().await;
                }
            }
            2 => self.rename_above(number).await,
            3..6 => {
                let kernel = self.kernel.as_ref().unwrap();
                let done = Programs::work_in_plain(kernel, &self.vault, &mut self.dice).await;
                self.trace.add(format!("{number}: {done}"));
            }
            6..10 => self.keep(number, fault).await,
            10 => {
                let time = Duration::from_secs(self.dice.pick(&[1, 7, 40]));
                tokio::time::sleep(time).await;
                self.server.pass(time);
            }
            11 => self.programs.forget(self.kernel.as_ref().unwrap()),
            12 => {
                let unsaved = self.kernel().drive.save_all().await;
                self.trace.add(format!("{number}: saves all but {}", unsaved.files));
            }
            _ => self.work(number, fault).await,
        }
        let remote = &self.kernel().remote;
        remote.clear_faults();
        if remote.is_cut() {
            if self.dice.one_in(2) {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            self.kernel().remote.reconnect();
        }
        self.check();
    }

    /// A program works, and the attacker may act before it has ended.
    async fn work(&mut self, number: u64, is_faulty: bool) {
        let strikes = self.delay.is_some() && self.dice.one_in(8);
        let (was_displaced, was_settled) = (self.is_displaced(), self.is_settled);
        let wait = Duration::from_millis(self.dice.below(300) as u64);
        let (kernel, vault) = (self.kernel.as_ref().unwrap(), self.vault.as_str());
        let mut own = Dice::new(number ^ self.dice.below(usize::MAX >> 20) as u64);
        let work = self.programs.work(kernel, vault, number, &mut own);
        let (attacker, dice) = (&mut self.attacker, &mut self.dice);
        let strike = async {
            tokio::time::sleep(wait).await;
            attacker.act(dice, vault).await
        };
        let both = async {
            if strikes {
                let (worked, deed) = futures::join!(work, strike);
                (worked, Some(deed))
            } else {
                (work.await, None)
            }
        };
        let (worked, deed) = tokio::time::timeout(PATIENCE, both).await.expect("every program ends");
        let Worked { what, by_path, done } = worked;
        if let Some(deed) = &deed {
            self.trace.add(format!("{number}: meanwhile the attacker {deed}"));
            self.is_settled = false;
        }
        self.trace.add(format!("{number}: a program {what}: {done:?}"));
        if by_path {
            self.tally.asked += 1;
            self.tally.done += u64::from(done.is_ok());
            self.tally.closed += u64::from(is_closed(done) && was_displaced);
        }
        // A locked vault is shown encrypted as far as it is one.
        if !by_path || strikes || !self.is_unlocked || !self.attacker.is_closed(&self.vault).await {
            return;
        }
        if is_faulty {
            assert!(done.is_err() || !was_displaced, "a displaced vault is closed");
        } else if was_displaced {
            assert!(is_closed(done), "a displaced vault is closed");
        } else if self.options.attr_timeout.is_zero() && was_settled {
            assert!(!is_told(done), "nothing is taken from another place for the vault");
        }
    }

    /// A file is replaced or removed whose content is looked at in the end.
    async fn keep(&mut self, number: u64, is_faulty: bool) {
        let name = kept(self.dice.below(3));
        let at = self.in_vault(&name);
        let wanted = (!self.dice.one_in(4)).then(|| content(number, &mut self.dice));
        let kernel = self.kernel.as_ref().unwrap();
        let done = match &wanted {
            Some(content) => kernel.save(&at, content).await,
            None => kernel.unlink(&at).await,
        };
        let is_known = if self.dice.one_in(2) { kernel.drive.save_all().await.files == 0 } else { false };
        self.trace.add(format!("{number}: a program keeps {name}: {done:?}, {is_known}"));
        let possible = self.possible.entry(name).or_insert_with(|| BTreeSet::from([None]));
        if done.is_ok() && is_known && !self.attacker.has_taken() && !is_faulty {
            possible.clear();
        }
        possible.insert(wanted);
    }

    /// This mount renames the vault or a directory above it.
    async fn rename_above(&mut self, number: u64) {
        let end = self.dice.pick(&ends(&self.vault));
        let from = self.vault[..end].to_owned();
        let to = format!("{}{}", from.trim_end_matches('\''), "'".repeat(1 + self.dice.below(2)));
        let remote = MemoryRemote::connect(&self.server);
        if from == to || kind(remote.as_ref(), &to).await.is_some() {
            return;
        }
        let done = self.kernel().rename(&from, &to, RenameMode::NoReplace).await;
        self.trace.add(format!("{number}: a program renames {from} to {to}: {done:?}"));
        if done.is_ok() {
            self.was_renamed_under_attack |= self.attacker.has_taken();
            self.vault = format!("{to}{}", &self.vault[end..]);
            self.attacker.note_renamed(&from, &to);
        } else if kind(remote.as_ref(), &to).await.is_some() {
            // Only the answer was lost: somebody takes it back.
            relocate(remote.as_ref(), &to, &from).await.unwrap();
        }
    }

    fn check(&self) {
        let seen = self.server.seen();
        assert!(seen.is_empty(), "in clear on the server: {seen:#?}");
        if self.is_unlocked {
            let vaults = self.kernel().drive.vaults();
            let vault = vaults.iter().find(|vault| vault.path == path(&self.vault));
            let vault = vault.unwrap_or_else(|| panic!("{} is not listed: {vaults:?}", self.vault));
            assert_eq!(vault.state, VaultState::Unlocked);
        }
        PANICS.with_borrow(|panics| assert!(panics.is_empty(), "{panics:?}"));
    }

    /// The attacker puts everything back: the vault works again, and holds what is known to be there.
    async fn end(&mut self) {
        self.attacker.put_all_back().await;
        // What is believed for a moment is so by the machine's clock, which nobody can pause.
        std::thread::sleep(A_MOMENT);
        tokio::time::sleep(A_LOOK).await;
        if self.attacker.is_closed(&self.vault).await {
            // A copy was renamed in its stead.
            assert!(self.was_renamed_under_attack, "everything is in its place");
            self.unmount().await;
            return self.check_all();
        }
        if !self.is_unlocked {
            assert!(self.unlock().await, "the vault is back");
        }
        assert!(!self.is_displaced(), "the vault is back: {:?}", self.kernel().drive.vaults());
        // What the attacker showed in the vault's own content may be believed for as long as was asked for.
        if self.options.attr_timeout <= A_MOMENT {
            assert_eq!(self.kernel().content(&self.in_vault(SPARED)).await, Ok(self.spared.clone().into()));
        }
        let after = self.in_vault("~Qx7~z");
        self.kernel().save(&after, b"~Qx7~ after").await.unwrap();
        self.unmount().await;
        self.mount().await;
        assert!(self.unlock().await, "the vault is there");
        for file in [SPARED, SPARED_IN_DIRECTORY] {
            assert_eq!(self.kernel().content(&self.in_vault(file)).await, Ok(self.spared.clone().into()));
        }
        assert!(self.kernel().content(&after).await.is_ok());
        if self.aim == Aim::Places {
            for (name, possible) in &self.possible {
                let there = match self.kernel().content(&self.in_vault(name)).await {
                    Ok(content) => Some(content.to_vec()),
                    Err(kernel::ENOENT) => None,
                    Err(errno) => panic!("{name}: {errno}"),
                };
                assert!(possible.contains(&there), "{name}: {there:?}, not one of {possible:?}");
            }
        }
        self.lock().await;
        assert!(!self.is_unlocked, "all is saved");
        self.unmount().await;
        self.check_all();
    }

    /// Looks at everything that lies on the server.
    fn check_all(&self) {
        assert!(!self.server.holds(CANARY.as_bytes()), "in clear on the server");
        let seen = self.server.seen();
        assert!(seen.is_empty(), "in clear on the server: {seen:#?}");
    }
}

#[test]
fn an_adversary_never_gets_anything_in_clear() {
    note_panics();
    let first = from_environment("ADVERSARY_SEED", 1);
    let games = from_environment("ADVERSARY_STEPS", 10_000).div_ceil(GAME);
    let mut tally = Tally::default();
    for seed in first..first + games {
        runtime().block_on(async {
            let mut game = Game::start(seed).await;
            for number in 0..GAME {
                game.step(number).await;
                if number % 50 == 0 {
                    game.check_all();
                }
            }
            game.end().await;
            tally.done += game.tally.done;
            tally.closed += game.tally.closed;
            tally.asked += game.tally.asked;
        });
    }
    // Where nothing works nothing leaks, either.
    assert!(tally.asked < 8 * tally.done && tally.asked < 8 * tally.closed || games < 10, "{tally:?}");
}
