//! Everyday work on servers with other ways than OpenSSH's: what programs hear and what is there afterwards are as on a
//! local disk, in plain directories and in vaults.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use scaup::remote::{EXTENSIONS, Weakness};
use scaup_rig::{Fixture, MountCommand, OtherServer, RealServer, Scaup, Way, need};

use crate::support::{PASSWORD, noise, scaup, sha256};

/// What a server can't do, so that programs may hear a refusal, and find something else than on a local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Nothing,
    /// The times of links.
    LinkTimes,
    /// Links, outside vaults.
    Links,
    /// Modes, times and owners.
    Attributes,
}

/// Times before this one were set by a deed (2015).
const SET_BEFORE: i64 = 1_420_000_000;
const LARGE: usize = 1_500_000;

fn succeeds(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

fn touch(path: &Path, seconds: i64) -> io::Result<()> {
    succeeds(Command::new("touch").args(["-h", "-d", &format!("@{seconds}")]).arg(path))
}

/// A tree with all that `cp -a` and `rsync -a` carry along.
fn make_source(at: &Path) {
    fs::create_dir_all(at.join("below/further")).unwrap();
    for (name, length) in [("small", 10), ("below/middle", 70_000), ("below/further/large", LARGE)] {
        fs::write(at.join(name), noise(length as u64, length)).unwrap();
    }
    fs::set_permissions(at.join("small"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(at.join("below"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("small", at.join("link")).unwrap();
    symlink("nowhere", at.join("below/dangling")).unwrap();
    let paths =
        ["small", "link", "below/middle", "below/dangling", "below/further/large", "below/further", "below"];
    for (path, seconds) in paths.into_iter().zip(1_000_000_000..) {
        touch(&at.join(path), seconds).unwrap();
    }
}

type Deed = (&'static str, fn(&Path, &Path) -> io::Result<()>);

/// What people and programs do all day, each in a directory of its own. The second path leads to the tree of
/// [`make_source`].
const DEEDS: [Deed; 17] = [
    ("append", |at, _| {
        fs::write(at.join("app"), "one\n")?;
        (0..3).try_for_each(|_| append(&at.join("app"), "more\n"))
    }),
    ("write, fsync and write on", |at, _| {
        let mut file = File::create(at.join("kept"))?;
        for piece in ["before", " between", " after"] {
            file.write_all(piece.as_bytes())?;
            file.sync_all()?;
        }
        Ok(())
    }),
    ("write much", |at, _| {
        let mut file = File::create(at.join("large"))?;
        for piece in noise(1, LARGE).chunks(100_000) {
            file.write_all(piece)?;
        }
        file.sync_all()?;
        file.write_all_at(b"changed", 700_000)
    }),
    ("cut what was saved", |at, _| {
        fs::write(at.join("cut"), noise(2, 400_000))?;
        OpenOptions::new().write(true).open(at.join("cut"))?.set_len(1000)
    }),
    ("extend what was saved", |at, _| {
        fs::write(at.join("longer"), "short")?;
        let file = OpenOptions::new().write(true).open(at.join("longer"))?;
        file.set_len(70_000)?;
        file.write_all_at(b"far", 200_000)
    }),
    ("save by a rename", |at, _| {
        fs::write(at.join("letter"), "old")?;
        for version in ["second", "third"] {
            let mut new = File::create(at.join("letter.new"))?;
            new.write_all(version.as_bytes())?;
            new.sync_all()?;
            fs::rename(at.join("letter.new"), at.join("letter"))?;
        }
        Ok(())
    }),
    ("rename an open file", |at, _| {
        let mut file = File::create(at.join("before"))?;
        file.write_all(b"begun")?;
        file.sync_all()?;
        fs::rename(at.join("before"), at.join("after"))?;
        file.write_all(b" and done, all of it")?;
        file.sync_all()?;
        file.set_len(14)
    }),
    ("give a renamed file's name to another", |at, _| {
        let first = File::create(at.join("name"))?;
        first.write_all_at(b"the first file", 0)?;
        first.sync_all()?;
        fs::rename(at.join("name"), at.join("renamed"))?;
        fs::write(at.join("name"), "the second file")?;
        first.set_len(9)?;
        first.sync_all()
    }),
    ("move a directory around an open file", |at, _| {
        fs::create_dir(at.join("here"))?;
        let mut file = File::create(at.join("here/file"))?;
        file.write_all(b"in the directory")?;
        file.sync_all()?;
        fs::rename(at.join("here"), at.join("there"))?;
        file.set_len(6)?;
        file.sync_all()
    }),
    ("go on with a removed file", |at, _| {
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(at.join("gone"))?;
        file.write_all(b"temporary")?;
        file.sync_all()?;
        fs::remove_file(at.join("gone"))?;
        fs::write(at.join("gone"), "another file of that name")?;
        file.rewind()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if text == "temporary" { Ok(()) } else { Err(io::Error::other(text)) }
    }),
    ("link", |at, _| {
        fs::create_dir(at.join("sub"))?;
        fs::write(at.join("sub/target"), "T")?;
        symlink("target", at.join("sub/link"))?;
        symlink("sub/target", at.join("down"))?;
        symlink("nowhere", at.join("dangling"))?;
        if fs::read_to_string(at.join("sub/link"))? == "T" {
            Ok(())
        } else {
            Err(io::Error::other("elsewhere"))
        }
    }),
    ("set times", |at, _| {
        fs::write(at.join("dated"), "D")?;
        fs::create_dir(at.join("directory"))?;
        touch(&at.join("dated"), 1_100_000_000)?;
        touch(&at.join("directory"), 1_100_000_001)
    }),
    ("set times while it is written", |at, _| {
        let mut file = File::create(at.join("written"))?;
        file.write_all(&noise(3, 300_000))?;
        touch(&at.join("written"), 1_100_000_002)
    }),
    ("set modes", |at, _| {
        fs::write(at.join("program"), "#!/bin/sh")?;
        fs::create_dir(at.join("private"))?;
        succeeds(Command::new("mkdir").args(["-m", "750"]).arg(at.join("private/shared")))?;
        fs::set_permissions(at.join("private"), fs::Permissions::from_mode(0o700))?;
        fs::set_permissions(at.join("program"), fs::Permissions::from_mode(0o755))
    }),
    ("cp -a", |at, source| succeeds(Command::new("cp").arg("-a").arg(source).arg(at.join("copy")))),
    ("rsync -a, twice", |at, source| {
        let rsync = || {
            let mut command = Command::new("rsync");
            command.args(["-a", "--no-owner", "--no-group", "--itemize-changes"]).arg(source).arg(at);
            command.output()
        };
        let first = rsync()?;
        if !first.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&first.stderr).into_owned()));
        }
        let again = String::from_utf8_lossy(&rsync()?.stdout).into_owned();
        if again.is_empty() { Ok(()) } else { Err(io::Error::other(again)) }
    }),
    ("sqlite", |at, _| {
        let sql = "create table t (x); insert into t values (1); insert into t select x + 1 from t; \
                   begin; insert into t select x + 2 from t; rollback; insert into t select x + 2 from t; \
                   pragma integrity_check;";
        succeeds(Command::new("sqlite3").arg("-bail").arg(at.join("db.sqlite")).arg(sql))?;
        // Its own number changes with each version of the program.
        let dump = Command::new("sqlite3").arg(at.join("db.sqlite")).arg(".dump").output()?;
        fs::write(at.join("dump.sql"), dump.stdout)?;
        fs::remove_file(at.join("db.sqlite"))
    }),
];

/// One entry as programs see it.
fn entry(path: &Path, lacks: Lacks) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        let target = fs::read_link(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        target.display().to_string()
    } else if kind.is_file() {
        sha256(&fs::read(path).unwrap())
    } else {
        String::new()
    };
    let length = if kind.is_file() { metadata.len() } else { 0 };
    let mut attributes = String::new();
    if lacks != Lacks::Attributes {
        let mode = if kind.is_symlink() { 0 } else { metadata.mode() & 0o777 };
        let is_told = metadata.mtime() < SET_BEFORE && !(kind.is_symlink() && lacks == Lacks::LinkTimes);
        attributes = format!("{mode:o} {}", if is_told { metadata.mtime() } else { 0 });
    }
    format!("{kind:?} {length} {content} {attributes}")
}

fn tree(at: &Path, lacks: Lacks) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut below = vec![at.to_path_buf()];
    while let Some(directory) = below.pop() {
        for name in fs::read_dir(&directory).unwrap() {
            let path = name.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                below.push(path.clone());
            } else if kind.is_symlink() && lacks == Lacks::Links {
                continue;
            }
            found.insert(path.strip_prefix(at).unwrap().to_path_buf(), entry(&path, lacks));
        }
    }
    found
}

/// Does all deeds. Returns what the program heard of each.
fn work(at: &Path, source: &Path) -> Vec<(&'static str, Result<(), String>)> {
    let done = DEEDS.iter().map(|(name, deed)| {
        let directory = at.join(name.replace([' ', ','], "-"));
        fs::create_dir(&directory).unwrap();
        (*name, deed(&directory, source).map_err(|error| error.to_string()))
    });
    done.collect()
}

/// What `status` says that the server does not do.
fn weaknesses(scaup: &Scaup) -> Vec<String> {
    serde_json::from_value(scaup.status()["mounts"][0]["weaknesses"].clone()).unwrap()
}

/// A server on which the deeds are done.
trait Server {
    /// Where its files lie on this machine.
    fn files(&self) -> PathBuf;

    /// Prepares to mount them.
    fn mount<'a>(&self, scaup: &'a Scaup) -> MountCommand<'a>;

    /// Makes a tree the property of the user who logs in.
    fn give(&self, path: &Path);
}

impl Server for OtherServer {
    fn files(&self) -> PathBuf {
        self.sshd().files()
    }

    fn mount<'a>(&self, scaup: &'a Scaup) -> MountCommand<'a> {
        scaup.mount_on(self.sshd(), "")
    }

    fn give(&self, path: &Path) {
        self.sshd().give(path);
    }
}

impl Server for RealServer {
    fn files(&self) -> PathBuf {
        RealServer::files(self)
    }

    fn mount<'a>(&self, scaup: &'a Scaup) -> MountCommand<'a> {
        let (target, options) = self.target();
        scaup.mount(target).args(options)
    }

    // Root logs in.
    fn give(&self, _: &Path) {}
}

/// Does the deeds on a server, and on the local disk beside it. `status` has to name these weaknesses then.
fn is_as_on_a_disk<S: Server>(start: impl Fn() -> S, lacks: Lacks, known: &[Weakness]) {
    need(&[("rsync", "rsync"), ("sqlite3", "sqlite3")]);
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    make_source(&source);
    let disk = local.path().join("disk");
    fs::create_dir(&disk).unwrap();
    for (name, heard) in work(&disk, &source) {
        assert_eq!(heard, Ok(()), "{name}, on the local disk");
    }
    let expected = tree(&disk, lacks);
    for place in ["in a plain directory", "in a vault"] {
        let in_vault = place == "in a vault";
        let server = start();
        let vault = server.files().join("Vault");
        Fixture::unpack("empty-gcm").copy_vault_to(&vault);
        server.give(&vault);
        let scaup = scaup();
        let password = scaup.command_answering(PASSWORD);
        let mounted = || {
            let command = server.mount(&scaup);
            let options = ["--vault", "Vault", "--vault-password-command", &password];
            let mount = if in_vault { command.args(options) } else { command.args(["--no-vaults"]) }.start();
            let at = mount.path().join(if in_vault { "Vault" } else { "plain" });
            (mount, at)
        };
        let (mount, at) = mounted();
        if !in_vault {
            fs::create_dir(&at).unwrap();
        }
        for (name, heard) in work(&at, &source) {
            if lacks == Lacks::Nothing {
                assert_eq!(heard, Ok(()), "{name}, {place}: {}", scaup.status());
            }
        }
        let mut known: Vec<&str> = known.iter().map(|weakness| weakness.sentence()).collect();
        // In a vault, links are files.
        known.extend((lacks == Lacks::Links && !in_vault).then(|| Weakness::NoLinks.sentence()));
        assert_eq!(weaknesses(&scaup), known, "{place}");
        let shown = tree(&at, lacks);
        assert_eq!(differences(&expected, &shown), [""; 0], "shown {place}");
        mount.unmount(&scaup);
        let (mount, at) = mounted();
        let stored = tree(&at, lacks);
        mount.unmount(&scaup);
        assert_eq!(differences(&expected, &stored), [""; 0], "in a new mount, {place}");
        if !in_vault {
            let plain = tree(&server.files().join("plain"), Lacks::Attributes);
            let left: Vec<_> =
                plain.keys().filter(|path| path.display().to_string().contains("scaup")).collect();
            assert_eq!(left, Vec::<&PathBuf>::new());
        }
    }
}

fn differences(expected: &BTreeMap<PathBuf, String>, found: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let paths = expected.keys().chain(found.keys().filter(|path| !expected.contains_key(*path)));
    let differing = paths.filter(|path| expected.get(*path) != found.get(*path));
    differing
        .map(|path| format!("{}: {:?}, not {:?}", path.display(), found.get(path), expected.get(path)))
        .collect()
}

#[test]
fn with_openssh() {
    is_as_on_a_disk(|| OtherServer::start(&[]), Lacks::Nothing, &[]);
}

#[test]
fn where_workers_write() {
    is_as_on_a_disk(|| OtherServer::start(&[Way::Workers]), Lacks::Nothing, &[Weakness::Reorders]);
}

#[test]
fn where_attributes_overtake_content() {
    is_as_on_a_disk(|| OtherServer::start(&[Way::Overtakes]), Lacks::Nothing, &[Weakness::Reorders]);
}

#[test]
fn where_handles_are_names() {
    is_as_on_a_disk(
        || OtherServer::start(&[Way::HandlesAreNames]),
        Lacks::Nothing,
        &[Weakness::LosesRenamedFiles],
    );
}

#[test]
fn where_links_come_first() {
    is_as_on_a_disk(|| OtherServer::start(&[Way::LinkFirst]), Lacks::Nothing, &[]);
}

#[test]
fn where_new_directories_have_no_mode() {
    is_as_on_a_disk(|| OtherServer::start(&[Way::NoModes]), Lacks::Nothing, &[]);
}

#[test]
fn where_open_files_have_no_attributes() {
    is_as_on_a_disk(
        || OtherServer::start(&[Way::NoOpenAttributes]),
        Lacks::Nothing,
        &[Weakness::NoOpenAttributes],
    );
}

#[test]
fn where_attributes_are_refused() {
    is_as_on_a_disk(
        || OtherServer::start(&[Way::NoAttributes]),
        Lacks::Attributes,
        &[Weakness::NoOpenAttributes, Weakness::NoAttributes],
    );
}

#[test]
fn where_nothing_but_version_3_is_spoken() {
    is_as_on_a_disk(
        || OtherServer::start(&[Way::NoExtensions]),
        Lacks::LinkTimes,
        &EXTENSIONS.map(|(_, weakness)| weakness),
    );
}

#[test]
fn where_gos_library_serves() {
    let ways = [
        Way::ReadsAreWrites,
        Way::Workers,
        Way::HandlesAreNames,
        Way::LinkFirst,
        Way::NoModes,
        Way::FewExtensions,
    ];
    let weaknesses = [
        Weakness::ConfirmsNothing,
        Weakness::SmallRequests,
        Weakness::CountsNoSpace,
        Weakness::NoLinkAttributes,
        Weakness::SeparateReading,
        Weakness::LosesRenamedFiles,
    ];
    is_as_on_a_disk(|| OtherServer::start(&ways), Lacks::LinkTimes, &weaknesses);
}

#[test]
fn where_files_that_are_opened_for_writing_are_emptied() {
    let ways = [Way::Empties, Way::ReadsAreWrites, Way::HandlesAreNames, Way::NoExtensions];
    let mut weaknesses: Vec<_> = EXTENSIONS.map(|(_, weakness)| weakness).to_vec();
    weaknesses.extend([Weakness::EmptiesFiles, Weakness::LosesRenamedFiles]);
    is_as_on_a_disk(|| OtherServer::start(&ways), Lacks::LinkTimes, &weaknesses);
}

#[test]
fn on_proftpd() {
    let weaknesses = [Weakness::SmallRequests, Weakness::NoLinkAttributes];
    is_as_on_a_disk(RealServer::proftpd, Lacks::Links, &weaknesses);
}

#[test]
fn on_asyncssh() {
    is_as_on_a_disk(RealServer::asyncssh, Lacks::Nothing, &[]);
}

#[test]
fn what_endangers_data_is_said_at_mount() {
    for (ways, is_said) in [(&[][..], false), (&[Way::FewExtensions], true)] {
        let server = OtherServer::start(ways);
        let scaup = scaup();
        let mount = scaup.mount_on(server.sshd(), "").args(["--no-vaults"]).start();
        let said = mount.said().contains(Weakness::ConfirmsNothing.sentence());
        assert_eq!(said, is_said, "{}", mount.said());
        assert!(!mount.said().contains(Weakness::CountsNoSpace.sentence()), "{}", mount.said());
        let mut status = scaup.command();
        let output = status.arg("status").output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(shown.contains(Weakness::CountsNoSpace.sentence()), is_said, "{shown}");
        let room = rustix::fs::statvfs(mount.path()).unwrap();
        assert_eq!((room.f_blocks, room.f_bavail) == (0, 0), is_said, "{}", room.f_blocks);
        mount.unmount(&scaup);
    }
}

#[test]
fn the_page_has_every_weakness_in_its_order() {
    let page = include_str!("../../../docs/servers.md");
    let listed = page.lines().filter_map(|line| line.strip_prefix("- "));
    let known = Weakness::ALL.map(Weakness::sentence);
    assert_eq!(listed.collect::<Vec<_>>(), known);
    let endangering = Weakness::ALL.into_iter().filter(|weakness| weakness.endangers_data());
    assert_eq!(endangering.collect::<Vec<_>>(), Weakness::ALL[..2]);
}
