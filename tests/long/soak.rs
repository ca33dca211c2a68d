//! Long runs over a bad road: `fsx`, and everyday work. A test run does a little of each; `FSX_OPERATIONS=100000` and
//! `SOAK_SECONDS=1800` ask for more.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use scaup_rig::{Answers, Direction, Fixture, Mount, Proxy, Scaup, Sshd, eventually, run};

use crate::reader::{Reader, file};
use crate::support::{PASSWORD, PATIENCE, fsx, noise, of_process, scaup, status};

/// What `--memory` allows, MiB.
const MEMORY: u64 = 32;
/// What the daemon may need beside, MiB.
const BESIDE: u64 = 40;
/// Bytes of the file that is read again and again.
const BIG: usize = 24 << 20;
/// How long one round of work lasts.
const ROUND: Duration = Duration::from_secs(9);

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// A server with a vault, behind a road that breaks.
struct BadRoad {
    mount: Mount,
    scaup: Scaup,
    proxy: Proxy,
    sshd: Sshd,
}

/// How a road breaks.
#[derive(Clone, Copy)]
enum Breaks {
    /// It is cut, or ends after some bytes.
    Cuts,
    /// It also stands still for a while, as for a machine that sleeps.
    CutsAndSleeps,
}

impl BadRoad {
    fn mounted() -> Self {
        let sshd = Sshd::key_only().start();
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        run(std::process::Command::new("chown").args(["-R", sshd.user()]).arg(sshd.home()));
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let scaup = scaup();
        let answers = Answers::login(&sshd).vault(PASSWORD);
        let mount = scaup.mount_through(&proxy, &sshd, "").answering(&answers);
        let mount =
            mount.args(["--log-names", "--vault", "Vault", "--memory", &format!("{MEMORY}M")]).start();
        Self { mount, scaup, proxy, sshd }
    }

    fn vault(&self) -> PathBuf {
        self.mount.join("Vault")
    }

    /// Breaks the road at random while `work` is done.
    fn breaking(&self, breaks: Breaks, seed: u64, work: impl FnOnce()) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let chosen = noise(seed, 1 << 16);
                for chosen in chosen.chunks_exact(4).cycle() {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let moment = Duration::from_millis(100 + u64::from(chosen[0]) * 4);
                    let bytes = u64::from(u16::from_le_bytes([chosen[1], chosen[2]]));
                    match (chosen[3] % 4, breaks) {
                        (0, _) => self.proxy.cut(),
                        (1, _) => self.proxy.reset_after(Direction::ToServer, bytes),
                        (2, Breaks::CutsAndSleeps) => {
                            self.proxy.freeze();
                            thread::sleep(moment * 2);
                            self.proxy.thaw();
                        }
                        _ => self.proxy.reset_after(Direction::ToClient, bytes),
                    }
                    thread::sleep(moment);
                }
                self.proxy.reset_never();
            });
            // The other thread ends even if the work fails.
            let _over = Over(&over);
            work();
        });
    }

    /// Waits until everything is with the server, and it holds no file open for us.
    fn rest(&self) {
        eventually("everything is saved, and nothing open", PATIENCE, || {
            let unsaved = &status(&self.scaup, "/unsaved");
            let waits = ["files", "bytes", "removals"].iter().any(|what| unsaved[what].as_u64() > Some(0));
            !waits && self.open_at_server().is_empty()
        });
    }

    /// What the server's processes have open of the vault.
    fn open_at_server(&self) -> Vec<PathBuf> {
        let vault = self.sshd.home();
        let open = self.sshd.connections().into_iter().flat_map(open_files);
        open.filter(|path| path.starts_with(&vault)).collect()
    }

    fn unmount(self, then: impl FnOnce(&Path)) {
        let Self { mount, scaup, proxy, sshd } = self;
        mount.unmount(&scaup);
        eventually("no connection is left", PATIENCE, || sshd.connections().is_empty());
        then(&sshd.home().join("Vault"));
        drop(proxy);
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn open_files(pid: u32) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// What a process has of what is scarce.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    /// KiB.
    resident: u64,
    files: usize,
    threads: u64,
}

fn footprint(pid: u32) -> Footprint {
    Footprint {
        resident: of_process(pid, "VmRSS"),
        files: open_files(pid).len(),
        threads: of_process(pid, "Threads"),
    }
}

#[test]
fn fsx_finds_nothing_lost_or_wrong_while_the_connection_is_cut_again_and_again() {
    let road = BadRoad::mounted();
    let operations = from_environment("FSX_OPERATIONS", 5000);
    road.breaking(Breaks::Cuts, operations, || fsx(&road.vault(), u32::try_from(operations).unwrap()));
    road.rest();
    let cuts = status(&road.scaup, "/counters/reconnects").as_u64().unwrap();
    assert!(cuts > 3, "it was cut {cuts} times");
    road.unmount(|_| {});
}

/// Saves files in all ways, and looks at what comes back.
fn edit(directory: &Path, until: Instant, round: u64) {
    let mut n = 0;
    while Instant::now() < until {
        n += 1;
        let content = noise(round * 10_000 + n, 1000 + (n as usize * 7919) % 200_000);
        let (path, beside) = (directory.join(format!("{}", n % 7)), directory.join("beside"));
        match n % 4 {
            0 => fs::write(&path, &content).unwrap(),
            1 => {
                let mut file = File::create(&beside).unwrap();
                file.write_all(&content).unwrap();
                file.sync_all().unwrap();
                fs::rename(&beside, &path).unwrap();
            }
            2 => {
                let file = File::options().write(true).create(true).truncate(false).open(&path).unwrap();
                file.write_all_at(&content, 0).unwrap();
                file.set_len(content.len() as u64).unwrap();
                file.sync_all().unwrap();
            }
            _ => {
                let _ = fs::remove_file(&path);
                fs::write(&path, &content).unwrap();
            }
        }
        assert!(fs::read(&path).unwrap() == content, "save {n} of round {round}");
    }
}

/// Makes trees and removes them.
fn plant(directory: &Path, until: Instant) {
    while Instant::now() < until {
        let tree = directory.join("tree");
        for branch in 0..3 {
            let branch = tree.join(format!("branch {branch}")).join("long ".repeat(35));
            fs::create_dir_all(&branch).unwrap();
            (0..5).for_each(|leaf| fs::write(branch.join(leaf.to_string()), noise(leaf, 3000)).unwrap());
        }
        assert_eq!(fs::read_dir(&tree).unwrap().count(), 3);
        fs::remove_dir_all(&tree).unwrap();
    }
}

/// Reads at random places of a file that holds `content`, and all of it from time to time.
fn look(path: &Path, content: &[u8], until: Instant) {
    let places = noise(9, 1 << 14);
    for (n, place) in places.chunks_exact(4).cycle().enumerate() {
        if Instant::now() >= until {
            return;
        }
        let at = u32::from_le_bytes(place.try_into().unwrap()) as usize % (content.len() - 5000);
        let mut read = vec![0; 5000];
        File::open(path).unwrap().read_exact_at(&mut read, at as u64).unwrap();
        assert!(read == content[at..at + 5000], "5000 bytes at {at}");
        if n % 500 == 499 {
            assert!(fs::read(path).unwrap() == content, "all of it");
        }
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn everyday_work_over_a_bad_road_leaves_nothing_behind_and_needs_no_more_in_the_end() {
    let road = BadRoad::mounted();
    let big = noise(7, BIG);
    fs::write(road.vault().join("big"), &big).unwrap();
    for directory in ["edited", "planted"] {
        fs::create_dir(road.vault().join(directory)).unwrap();
    }
    let rounds = (from_environment("SOAK_SECONDS", 45) / ROUND.as_secs()).max(5);
    let mut seen: Vec<Footprint> = Vec::new();
    for round in 0..rounds {
        let until = Instant::now() + ROUND;
        road.breaking(Breaks::CutsAndSleeps, round, || {
            thread::scope(|scope| {
                scope.spawn(|| edit(&road.vault().join("edited"), until, round));
                scope.spawn(|| plant(&road.vault().join("planted"), until));
                scope.spawn(|| look(&road.vault().join("big"), &big, until));
            });
        });
        road.rest();
        let now = footprint(road.mount.daemon());
        eprintln!("round {round}: {now:?}, {} reconnects", status(&road.scaup, "/counters/reconnects"));
        assert!(now.resident < (MEMORY + BESIDE) << 10, "{now:?}");
        seen.push(now);
    }
    // The first round fills caches and pools.
    let (early, late) = seen[1..].split_at((seen.len() - 1) / 2);
    let most = |of: &[Footprint], what: fn(&Footprint) -> u64| of.iter().map(what).max().unwrap();
    for (name, what, slack) in [
        ("KiB", (|now| now.resident) as fn(&Footprint) -> u64, 6 << 10),
        ("open files", |now| now.files as u64, 1),
        ("threads", |now| now.threads, 2),
    ] {
        let (early, late) = (most(early, what), most(late, what));
        assert!(late <= early + slack, "{name} grow from {early} to {late}: {seen:#?}");
    }
    let edited = road.vault().join("edited");
    let kept: Vec<_> = fs::read_dir(&edited)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (format!("edited/{}", path.file_name().unwrap().to_str().unwrap()), fs::read(&path).unwrap())
        })
        .collect();
    road.unmount(|vault| {
        let tree = Reader::start().read(vault, PASSWORD).unwrap();
        assert_eq!(tree["big"], file(0o644, &big));
        for (path, content) in kept {
            assert_eq!(tree[&path], file(0o644, &content), "{path}");
        }
        assert!(
            !tree.keys().any(|path| path.contains("tree") || path.contains("conflicted")),
            "{:?}",
            tree.keys()
        );
    });
}
