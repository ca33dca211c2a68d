//! What a walk through a tree costs: round trips and requests, at three sizes, in two shapes, with other directories
//! beside it. What counts is how they grow with the tree.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use scaup_rig::{Mount, Proxy, Scaup, Sshd};

use crate::support::{FORGIVEN, PASSWORD, round_trips, scaup, server_with_vault};

/// Files in each directory.
const FILES: u64 = 2;
/// Directories beside the tree, each with as many in it.
const BESIDE: usize = 10;
const IN_EACH: usize = 20;

/// A tree: so many directories in one, or in ten.
#[derive(Clone, Copy, Debug)]
struct Tree {
    directories: u64,
    in_ten: bool,
}

impl Tree {
    const ALL: [Self; 4] = [
        Self { directories: 40, in_ten: false },
        Self { directories: 80, in_ten: false },
        Self { directories: 160, in_ten: false },
        Self { directories: 160, in_ten: true },
    ];

    fn name(self) -> String {
        format!("tree-{}-{}", self.directories, if self.in_ten { "ten" } else { "one" })
    }

    /// Levels of directories, with the tree's own.
    fn levels(self) -> u64 {
        if self.in_ten { 3 } else { 2 }
    }

    /// All directories, with the tree's own.
    fn all_directories(self) -> u64 {
        1 + self.directories + if self.in_ten { 10 } else { 0 }
    }

    fn make(self, below: &Path) {
        for number in 0..self.directories {
            let within = if self.in_ten { format!("part {}", number % 10) } else { String::new() };
            let directory = below.join(self.name()).join(within).join(format!("directory {number}"));
            fs::create_dir_all(&directory).unwrap();
            for file in 0..FILES {
                fs::write(directory.join(format!("file {file}")), "").unwrap();
            }
        }
    }
}

/// A server with all trees and what lies beside them, in its vault and plain.
fn filled(scaup: &Scaup) -> Sshd {
    let sshd = server_with_vault();
    let fill = |root: &Path| {
        for tree in Tree::ALL {
            tree.make(root);
        }
        for beside in 0..BESIDE {
            for number in 0..IN_EACH {
                fs::create_dir_all(root.join(format!("beside {beside}/{number}"))).unwrap();
            }
        }
    };
    let filling = scaup.mount_on(&sshd, "Vault").args(options(scaup, "5")).start();
    fill(filling.path());
    filling.unmount(scaup);
    fill(&sshd.home().join("plain"));
    sshd.give(&sshd.home().join("plain"));
    sshd
}

fn options(scaup: &Scaup, believed: &str) -> [String; 6] {
    let password = scaup.command_answering(PASSWORD);
    ["--vault", ".", "--vault-password-command", &password, "--attr-timeout", believed].map(str::to_owned)
}

/// Runs a program that walks `tree`.
fn run(program: &[&str], tree: &Path) {
    let status = Command::new(program[0]).args(&program[1..]).arg(tree).stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "{program:?}");
}

fn requests(scaup: &Scaup) -> u64 {
    scaup.status().pointer("/mounts/0/counters/sftp_requests").and_then(serde_json::Value::as_u64).unwrap()
}

/// What `work` costs on a mount: round trips, and requests.
fn cost(scaup: &Scaup, proxy: &Proxy, mount: &Mount, work: impl FnOnce(&Path)) -> (u64, u64) {
    // What a mount does at first has to be over.
    std::thread::sleep(Duration::from_millis(300));
    let before = requests(scaup);
    let (taken, ()) = round_trips(proxy, || work(mount.path()));
    (taken, requests(scaup) - before)
}

/// The programs that walk a tree.
const PROGRAMS: [&[&str]; 3] = [&["find"], &["du", "-s"], &["ls", "-lR"]];

/// The most requests that a walk may take: for each directory what a listing and the look at its node take, and what
/// comes with looking the tree up.
fn most_requests(place: &str, tree: Tree) -> u64 {
    if place == "Vault" { 14 * tree.all_directories() + 250 } else { 5 * tree.all_directories() + 50 }
}

#[test]
fn a_walk_costs_what_is_walked() {
    let scaup = scaup();
    let sshd = filled(&scaup);
    for (place, unlock) in [("Vault", true), ("plain", false)] {
        for tree in Tree::ALL {
            let programs = if tree.directories == 40 { &PROGRAMS[..] } else { &PROGRAMS[..1] };
            for program in programs {
                let proxy = Proxy::start(sshd.host(), sshd.port());
                // As both sides are slowed down, what is known grows old sooner than on a real road.
                let arguments = options(&scaup, "60");
                let arguments = if unlock { &arguments[..] } else { &arguments[4..] };
                let mount = scaup.mount_through(&proxy, &sshd, place).args(arguments).start();
                let (taken, requests) =
                    cost(&scaup, &proxy, &mount, |root| run(program, &root.join(tree.name())));
                let walk = format!("{place} {tree:?} {program:?}: {taken} round trips, {requests} requests");
                let for_each = if unlock { 4 } else { 2 };
                // 128 requests are on their way at a time.
                let most = for_each * tree.levels() + requests / 128 + 8 + FORGIVEN;
                assert!(taken <= most, "{walk}, not {most}");
                let most = most_requests(place, tree);
                assert!(requests <= most, "{walk}, not {most}");
                let (again, ()) = round_trips(&proxy, || run(program, &mount.path().join(tree.name())));
                assert!(again <= FORGIVEN, "{walk}, and {again} for what was just seen");
                mount.unmount(&scaup);
            }
        }
    }
}

#[test]
fn a_walk_that_takes_longer_than_names_are_believed_does_not_begin_again_and_again() {
    let scaup = scaup();
    let sshd = filled(&scaup);
    for (place, unlock) in [("Vault", true), ("plain", false)] {
        let tree = Tree::ALL[3];
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let arguments = options(&scaup, "2");
        let arguments = if unlock { &arguments[..] } else { &arguments[4..] };
        let mount = scaup.mount_through(&proxy, &sshd, place).args(arguments).start();
        proxy.delay(Duration::from_millis(80));
        let (before, began) = (requests(&scaup), Instant::now());
        run(PROGRAMS[0], &mount.path().join(tree.name()));
        let took = began.elapsed();
        assert!(took > Duration::from_secs(2), "{took:?}: the road is too short");
        let taken = requests(&scaup) - before;
        // A part of it grows old on a busy machine before the program comes there.
        let most = 2 * most_requests(place, tree);
        assert!(taken <= most, "{place} {tree:?}: {taken} requests in {took:?}, not {most}");
        proxy.delay(Duration::ZERO);
        mount.unmount(&scaup);
    }
}
