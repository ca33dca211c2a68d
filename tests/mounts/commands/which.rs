//! `scaup which`: from what a mount shows to the file on the server, and back.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::thread;

use scaup_rig::{Answers, Fixture, Mount, Scaup, Sshd};

use crate::support::{PASSWORD, said, scaup, shell};

/// A server with a plain file, a vault that is unlocked, and one that is not, mounted.
struct Place {
    mount: Mount,
    scaup: Scaup,
    sshd: Sshd,
}

impl Place {
    fn with(fixture: &str) -> Self {
        let (scaup, sshd) = (scaup(), Sshd::key_only().start());
        Fixture::unpack(fixture).copy_vault_to(&sshd.home().join("Open"));
        Fixture::unpack("gcm8").copy_vault_to(&sshd.home().join("Shut"));
        fs::create_dir(sshd.home().join("plain")).unwrap();
        fs::write(sshd.home().join("plain/notes.txt"), "notes").unwrap();
        sshd.give(&sshd.home());
        let home = sshd.home();
        let mount =
            scaup.mount_on(&sshd, home.to_str().unwrap()).answering(&Answers::default().vault(PASSWORD));
        let mount = mount.args(["--vault", "Open", "--follow-outside"]).start();
        fs::read_dir(mount.path()).unwrap().for_each(drop);
        fs::read_dir(mount.join("Shut")).unwrap().for_each(drop);
        Self { mount, scaup, sshd }
    }

    /// Asks for all `paths`, one of which may hold a line's end, and returns what is said of each.
    fn which(&self, paths: &[PathBuf], arguments: &[&str]) -> Vec<PathBuf> {
        let mut input = Vec::new();
        for path in paths {
            input.extend([path.as_os_str().as_bytes(), b"\0"].concat());
        }
        let output = self.which_of(input, &[&["-0", "-"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let end = output.stdout.strip_suffix(b"\0").unwrap();
        let found = end.split(|&byte| byte == 0).map(|path| Path::new(std::ffi::OsStr::from_bytes(path)));
        found.map(Path::to_path_buf).collect()
    }

    fn which_of(&self, input: Vec<u8>, arguments: &[&str]) -> Output {
        let mut command = self.scaup.command();
        command
            .arg("which")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let written = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        let _ = written.join().unwrap();
        output
    }

    fn ends_with(&self, code: i32, arguments: &[&str]) -> Output {
        let output = self.scaup.run([&["which"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        output
    }
}

/// Everything that a mount shows below a directory.
fn all_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let below =
                if entry.file_type().unwrap().is_dir() { all_below(&entry.path()) } else { Vec::new() };
            [vec![entry.path()], below].concat()
        })
        .collect()
}

#[test]
fn both_ways_are_each_others_inverse_for_all_that_a_vault_shows() {
    for fixture in ["gcm8", "ctrmac8", "format7", "short36-gcm"] {
        let place = Place::with(fixture);
        let mut shown = all_below(&place.mount.join("Open"));
        shown.extend(["", "Open", "plain", "plain/notes.txt"].map(|path| place.mount.join(path)));
        let stored = place.which(&shown, &[]);
        let content = place.which(&shown, &["--content"]);
        for ((shown, stored), content) in shown.iter().zip(&stored).zip(&content) {
            let kind = fs::symlink_metadata(shown).unwrap().file_type();
            let there = fs::symlink_metadata(stored).unwrap_or_else(|error| panic!("{stored:?}: {error}"));
            assert_eq!(there.is_dir(), kind.is_dir(), "{shown:?} {stored:?}");
            assert!(stored.starts_with(place.sshd.home()), "{stored:?}");
            assert_eq!(
                stored == content,
                !kind.is_dir() || !shown.starts_with(place.mount.join("Open")),
                "{shown:?}"
            );
        }
        assert_eq!(place.which(&stored, &[]), shown, "{fixture}");
        assert_eq!(place.which(&content, &[]), shown, "{fixture}");
        // Below the mounted directory, and with another directory before it, as in a backup.
        let home = place.sshd.home();
        let (vault, stored): (Vec<PathBuf>, Vec<PathBuf>) = shown
            .iter()
            .zip(&stored)
            .filter(|(shown, _)| {
                shown.starts_with(place.mount.join("Open")) && **shown != place.mount.join("Open")
            })
            .map(|(shown, stored)| (shown.clone(), stored.strip_prefix(&home).unwrap().to_path_buf()))
            .unzip();
        assert_eq!(place.which(&stored, &[]), vault, "{fixture}");
        let elsewhere: Vec<PathBuf> = stored
            .iter()
            .map(|path| Path::new("/backup/of yesterday").join(path.strip_prefix("Open").unwrap()))
            .collect();
        assert_eq!(place.which(&elsewhere, &[]), vault, "{fixture}");
        place.mount.unmount(&place.scaup);
    }
}

#[test]
fn what_was_removed_or_copied_is_known_by_its_place() {
    let place = Place::with("gcm8");
    let open = place.mount.join("Open");
    fs::create_dir(open.join("of mine")).unwrap();
    fs::write(open.join("of mine/report.odt"), "report").unwrap();
    shell(&open, "sync of?mine/report.odt");
    let shown = vec![open.join("of mine/report.odt")];
    let [stored] = <[PathBuf; 1]>::try_from(place.which(&shown, &[])).unwrap();
    fs::remove_file(&shown[0]).unwrap();
    let name = stored.file_name().unwrap().to_str().unwrap();
    let stem = name.strip_suffix(".c9r").unwrap();
    let around = stored.parent().unwrap();
    let asked = [
        stored.clone(),
        around.join(format!("{name}.d1690000000")),
        PathBuf::from(format!("files_trashbin/files/{name}.d1690000000")),
    ];
    assert_eq!(place.which(&asked, &[]), [(); 3].map(|()| shown[0].clone()));
    let copies =
        [around.join(format!("{stem} (conflicted copy 2024-01-02 123456).c9r")), around.join("dirid.c9r")];
    let of_copies =
        [open.join("of mine/report (conflicted copy 2024-01-02 123456).odt"), open.join("of mine")];
    assert_eq!(place.which(&copies, &[]), of_copies);
    let [node] = <[PathBuf; 1]>::try_from(place.which(&[open.join("of mine")], &[])).unwrap();
    assert_eq!(place.which(&[node.join("dir.c9r")], &[]), [open.join("of mine")]);
    place.mount.unmount(&place.scaup);
}

#[test]
fn what_is_nowhere_leaves_an_empty_line_and_the_others_are_printed() {
    let place = Place::with("gcm8");
    let notes = place.sshd.home().join("plain/notes.txt");
    let shown = place.mount.join("plain/notes.txt");
    let missing = place.mount.join("Open/is not there");
    let nowhere = format!("d/AB/{}/x.c9r", "C".repeat(30));
    let input = format!("{}\n{}\n{nowhere}\n\n{}\n", missing.display(), shown.display(), notes.display());
    // The vault that is locked may hold what the other one does not.
    let output = place.which_of(input.clone().into_bytes(), &["-"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let password = place.scaup.command_answering(PASSWORD);
    let unlock = ["unlock", "127.0.0.1", "Shut", "--vault-password-command", &password];
    assert!(place.scaup.run(unlock).status.success());
    let output = place.which_of(input.into_bytes(), &["-"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let expected = format!("\n{}\n\n{}\n", notes.display(), shown.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("is not there") && errors.contains(&nowhere), "{errors}");
    assert_eq!(
        place.ends_with(0, &[shown.to_str().unwrap()]).stdout,
        format!("{}\n", notes.display()).as_bytes()
    );
    place.mount.unmount(&place.scaup);
}

#[test]
fn a_locked_vault_tells_nothing() {
    let place = Place::with("gcm8");
    let shut = place.mount.join("Shut/d");
    let on_server = place.sshd.home().join(format!("Shut/d/AB/{}/x.c9r", "C".repeat(30)));
    for path in [&shut, &on_server] {
        let output = place.ends_with(5, &[path.to_str().unwrap()]);
        assert!(said(&output).contains("the vault Shut of 127.0.0.1 is locked"), "{}", said(&output));
    }
    place.mount.unmount(&place.scaup);
}

#[test]
fn every_version_that_a_sync_client_kept_has_its_own_file() {
    let place = Place::with("conflicts");
    let shown = all_below(&place.mount.join("Open"));
    let stored = place.which(&shown, &[]);
    // A directory that is shown under two names leads back to one of them.
    assert_eq!(place.which(&place.which(&stored, &[]), &[]), stored);
    assert!(stored.iter().all(|path| fs::symlink_metadata(path).is_ok()), "{stored:?}");
    place.mount.unmount(&place.scaup);
}
