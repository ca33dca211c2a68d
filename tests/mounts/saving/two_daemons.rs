//! Two daemons on one vault, as two laptops have: in turn and at once. What comes of it is whole, and nobody's version
//! is gone without a word.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use scaup_rig::{Mount, Sshd, eventually, need, within};

use crate::support::{Drive, PATIENCE, noise, scaup};

/// How often each of two writers saves while the other does.
const ROUNDS: usize = 25;

/// Two mounts of the same directory on a server.
struct Two {
    first: Drive,
    second: Mount,
}

impl Two {
    fn mounted() -> Self {
        let first = Drive::mounted_with(&["--attr-timeout", "0"]);
        let second = first.mounted_again(&["--attr-timeout", "0"]);
        Self { first, second }
    }

    /// A vault and a plain directory, each as both see it.
    fn places(&self) -> [[PathBuf; 2]; 2] {
        ["Vault", "plain"].map(|name| [self.first.mount.join(name), self.second.join(name)])
    }

    /// Messages of conflicts in the status of either.
    fn conflicts(&self) -> Vec<String> {
        let status = self.first.scaup.status();
        let mounts = status["mounts"].as_array().unwrap();
        let errors = mounts.iter().flat_map(|mount| mount["errors"].as_array().unwrap());
        let conflicts = errors.filter(|error| error["kind"] == "conflict");
        conflicts.map(|error| error["message"].as_str().unwrap().to_owned()).collect()
    }

    fn wait_until_saved(&self) {
        eventually("everything is saved", PATIENCE, || {
            let status = self.first.scaup.status();
            let mounts = status["mounts"].as_array().unwrap();
            assert_eq!(mounts.len(), 2);
            mounts.iter().all(|mount| mount["unsaved"]["files"] == 0)
        });
    }

    fn unmount(self) {
        self.second.unmount(&self.first.scaup);
        self.first.unmount();
    }
}

/// What the `n`-th save of a writer holds: no two have the same length.
fn version(writer: usize, n: usize) -> Vec<u8> {
    noise((writer * 1000 + n) as u64, 40_000 + 2 * n + writer)
}

/// A way to save a file.
type Save = fn(&Path, &[u8]) -> std::io::Result<()>;

const WAYS: [Save; 2] = [
    |path, content| {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    },
    |path, content| {
        let beside = path.with_extension(format!("{}.new", content.len() % 2));
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(beside, path)
    },
];

fn files(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What torn content is made of.
fn likeness(seen: &[u8], known: &BTreeSet<Vec<u8>>) -> String {
    let same = |other: &Vec<u8>| seen.iter().zip(other).take_while(|(seen, other)| seen == other).count();
    let most = known.iter().max_by_key(|other| same(other)).unwrap();
    format!("{} bytes, of which {} begin one of {} bytes", seen.len(), same(most), most.len())
}

/// Runs both at once.
fn at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> [T; 2] {
    thread::scope(|scope| {
        let work = &work;
        let second = scope.spawn(move || work(1));
        [work(0), second.join().unwrap()]
    })
}

#[test]
fn in_turn_each_sees_what_the_other_saved() {
    let two = Two::mounted();
    for place in two.places() {
        for n in 0..ROUNDS {
            let (writer, other) = (n % 2, 1 - n % 2);
            WAYS[n / 2 % 2](&place[writer].join("letter"), &version(writer, n)).unwrap();
            assert!(fs::read(place[other].join("letter")).unwrap() == version(writer, n), "round {n}");
        }
        let file = OpenOptions::new().write(true).open(place[0].join("letter")).unwrap();
        file.write_all_at(b"in place", 30_000).unwrap();
        // What keeps its length is noticed only in another second.
        file.write_all_at(b"and longer", 60_000).unwrap();
        file.sync_all().unwrap();
        let seen = fs::read(place[1].join("letter")).unwrap();
        assert_eq!((&seen[30_000..30_008], &seen[60_000..]), (&b"in place"[..], &b"and longer"[..]));
        fs::rename(place[1].join("letter"), place[1].join("renamed")).unwrap();
        assert_eq!(files(&place[0]), BTreeSet::from(["renamed".to_owned()]));
    }
    assert_eq!(two.conflicts(), Vec::<String>::new());
    two.unmount();
}

#[test]
fn saves_that_overlap_are_both_kept_and_the_conflict_is_named() {
    let two = Two::mounted();
    for place in two.places() {
        for (way, truncates) in [("all", true), ("in place", false)] {
            let name = format!("{way}.txt");
            WAYS[0](&place[0].join(&name), &version(0, 0)).unwrap();
            let open = |at: &PathBuf| {
                let file = OpenOptions::new().write(true).truncate(truncates).open(at.join(&name));
                file.unwrap()
            };
            let [mine, theirs] = [open(&place[0]), open(&place[1])];
            let ends = [version(0, 1), version(1, 2)].map(|content| content[..].to_vec());
            for (file, content) in [(&mine, &ends[0]), (&theirs, &ends[1])] {
                file.write_all_at(content, 0).unwrap();
            }
            mine.sync_all().unwrap();
            drop(mine);
            theirs.sync_all().unwrap();
            drop(theirs);
            let there: Vec<String> =
                files(&place[0]).into_iter().filter(|name| name.starts_with(way)).collect();
            assert_eq!(there.len(), 2, "{there:?}");
            let copy = there.iter().find(|name| name.contains("(conflicted copy ")).unwrap();
            assert!(two.conflicts().iter().any(|message| message.contains(copy)), "{copy} is named");
            let kept: Vec<_> = there.iter().map(|name| fs::read(place[1].join(name)).unwrap()).collect();
            for (writer, content) in ends.iter().enumerate() {
                assert!(kept.contains(content), "{way}: the version of writer {writer} is kept");
            }
        }
    }
    two.unmount();
}

#[test]
fn one_file_saved_by_both_at_once_is_always_whole() {
    let two = Two::mounted();
    let known: BTreeSet<Vec<u8>> =
        (0..2).flat_map(|writer| (0..ROUNDS).map(move |n| version(writer, n))).collect();
    for place in two.places() {
        for save in WAYS {
            fs::create_dir(place[0].join("both")).unwrap();
            let directories = [place[0].join("both"), place[1].join("both")];
            let letter = |writer: usize| directories[writer].join("letter");
            save(&letter(0), &version(0, 0)).unwrap();
            at_once(|writer| {
                for n in 0..ROUNDS {
                    save(&letter(writer), &version(writer, n)).unwrap();
                    let seen = fs::read(letter(writer)).unwrap();
                    assert!(known.contains(&seen), "it is torn in round {n}: {}", likeness(&seen, &known));
                }
            });
            two.wait_until_saved();
            let [seen, seen_by_other] = [files(&directories[0]), files(&directories[1])];
            assert_eq!(seen, seen_by_other);
            assert!(seen.contains("letter"));
            for name in &seen {
                let content = fs::read(directories[0].join(name)).unwrap();
                assert!(known.contains(&content), "{name} is none of what was saved");
                assert!(content == fs::read(directories[1].join(name)).unwrap(), "both see the same {name}");
                if name != "letter" {
                    assert!(two.conflicts().iter().any(|message| message.contains(name)), "{name} is named");
                }
            }
            let last = fs::read(letter(0)).unwrap();
            assert!((0..2).any(|writer| last == version(writer, ROUNDS - 1)) || seen.len() > 1);
            fs::remove_dir_all(&directories[0]).unwrap();
            eventually("it is gone for both", PATIENCE, || !directories[1].exists());
        }
    }
    two.unmount();
}

#[test]
fn both_make_and_remove_in_one_directory_at_once() {
    let two = Two::mounted();
    for place in two.places() {
        at_once(|writer| {
            for n in 0..ROUNDS {
                let name = place[writer].join(format!("{n} of {writer}"));
                WAYS[0](&name, &version(writer, n)).unwrap();
                if n % 3 == 0 {
                    fs::remove_file(name).unwrap();
                }
                // The same name by both: one of them makes it.
                if let Err(error) = fs::create_dir(place[writer].join(format!("directory {n}"))) {
                    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{n}");
                }
            }
            File::open(&place[writer]).unwrap().sync_all().unwrap();
        });
        let wanted: BTreeSet<String> = (0..ROUNDS)
            .flat_map(|n| {
                let files = (0..2).filter(move |_| n % 3 != 0).map(move |writer| format!("{n} of {writer}"));
                files.chain([format!("directory {n}")])
            })
            .collect();
        for at in &place {
            assert_eq!(files(at), wanted);
            for n in (0..ROUNDS).filter(|n| n % 3 != 0) {
                for writer in 0..2 {
                    let content = fs::read(at.join(format!("{n} of {writer}"))).unwrap();
                    assert!(content == version(writer, n), "{n} of {writer}");
                }
            }
        }
    }
    two.unmount();
}

#[test]
fn what_is_written_while_the_other_renames_is_kept_under_one_of_the_names() {
    let two = Two::mounted();
    for place in two.places() {
        for n in 0..ROUNDS {
            let names = [format!("old {n}"), format!("new {n}")];
            WAYS[0](&place[0].join(&names[0]), &version(0, n)).unwrap();
            let written = version(1, n);
            at_once(|writer| match writer {
                0 => fs::rename(place[0].join(&names[0]), place[0].join(&names[1])).unwrap(),
                _ => {
                    // Opening and emptying are two steps: where the name goes between them, an error says so, and
                    // nothing is written yet.
                    let mut file = File::create(place[1].join(&names[0]))
                        .or_else(|_| File::create(place[1].join(&names[0])))
                        .unwrap();
                    thread::sleep(Duration::from_millis(n as u64 % 5));
                    file.write_all(&written).unwrap();
                    file.sync_all().unwrap();
                }
            });
            let seen: Vec<String> =
                files(&place[0]).into_iter().filter(|name| name.contains(&format!(" {n}"))).collect();
            let contents: Vec<_> = seen.iter().map(|name| fs::read(place[1].join(name)).unwrap()).collect();
            assert!(contents.contains(&written), "round {n}: what was written is in one of {seen:?}");
            for content in &contents {
                assert!(*content == written || *content == version(0, n), "round {n}: {seen:?} are whole");
            }
            seen.iter().for_each(|name| fs::remove_file(place[0].join(name)).unwrap());
        }
    }
    two.unmount();
}

#[test]
fn what_a_process_that_can_not_be_seen_from_here_is_just_saving_is_left_alone() {
    need(&[("unshare", "util-linux")]);
    let (inside, outside, sshd) = (scaup(), scaup(), Sshd::key_only().start());
    let content = noise(1, 3_000_000);
    fs::write(inside.home().join("content"), &content).unwrap();
    // As in a container that has its host's `/etc/machine-id`.
    let script = r#"
        most=$(cat /proc/sys/kernel/pid_max)
        # Out here nobody has such a number.
        echo $((most - 1000)) > /proc/sys/kernel/ns_last_pid
        "$0" mount -p "$1" -i "$2" -o UserKnownHostsFile="$3" "$4" "$HOME/mnt" < /dev/null
        cat "$HOME/content" - > "$HOME/mnt/file"
        "$0" unmount "$HOME/mnt""#;
    let scaup = inside.command();
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-euc", script])
        .arg(env!("CARGO_BIN_EXE_scaup"))
        .arg(sshd.port().to_string())
        .arg(sshd.key().path())
        .arg(sshd.known_hosts_file())
        .arg(format!("{}@{}", sshd.user(), sshd.host()))
        .envs(scaup.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let unfinished = || {
        let names = fs::read_dir(sshd.home()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.as_bytes().starts_with(b".scaup-")).count()
    };
    eventually("it is on its way", PATIENCE, || unfinished() == 1);
    let mount = outside.mount_on(&sshd, "").start();
    fs::read_dir(mount.path()).unwrap();
    // What is debris is removed behind the listing.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(unfinished(), 1);
    drop(child.stdin.take());
    assert!(within(PATIENCE, move || child.wait().unwrap()).success());
    assert!(fs::read(sshd.home().join("file")).unwrap() == content);
    mount.unmount(&outside);
}
