//! `scaup share`: what the server gets, what the receiver sees, and what a person is asked and told.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use scaup_rig::nextcloud::{Fault, Nextcloud, Version, What};
use scaup_rig::{eventually, need};

use super::cloud::{Cloud, FOLDER};
use crate::support::terminal::Terminal;
use crate::support::{Drive, ends_with, noise, said, scaup, signal};

/// The path of the only file that is shared.
fn only_file(cloud: &Cloud) -> String {
    let files = cloud.server.files();
    let mut files = files.iter().filter(|file| file.starts_with(FOLDER) && !file.ends_with('/'));
    let only = files.next().expect("a file is there").clone();
    assert_eq!(files.next(), None);
    only
}

#[test]
fn the_receiver_gets_the_file_by_link_and_password_on_every_version() {
    for version in Version::ALL {
        let cloud = Cloud::of(version);
        for (name, len) in [
            ("empty", 0),
            ("Offer.pdf", 100_000),
            ("Übersicht #1 50%.ods", 1),
            ("نامه\u{200c}ها 👩\u{200d}💻.txt", 5),
            ("big", 40_000_000),
        ] {
            let content = noise(1, len);
            cloud.file(name, &content);
            let shared = cloud.shared(name, &["--days", "3", "--note", "as agreed"]);
            let (link, password) = (shared["link"].as_str().unwrap(), shared["password"].as_str().unwrap());
            assert_eq!((shared["name"].as_str(), shared["size"].as_u64()), (Some(name), Some(len as u64)));
            assert_eq!(shared["end_to_end"].as_bool(), Some(false));
            let token = link.strip_prefix(&format!("{}/s/", cloud.server.url())).unwrap();
            assert_eq!(
                cloud.server.open_link(token, Some(password)).as_ref(),
                Some(&content),
                "{version:?} {name}"
            );
            assert_eq!(cloud.server.open_link(token, None), None);
            assert_eq!(cloud.server.open_link(token, Some("another")), None);
            let of_server = cloud.server.shares().pop().unwrap();
            assert!(of_server.path.unwrap().ends_with(&format!("/{name}")), "the very name");
            assert_eq!(
                (of_server.permissions & 15, of_server.note.as_str(), of_server.label.as_str()),
                (1, "as agreed", "")
            );
            let ends = of_server.expiration.unwrap();
            assert!(
                ends.starts_with(shared["expires"].as_str().unwrap()),
                "the server's word counts: {ends}"
            );
            // Three whole days, whatever the server makes of its day.
            cloud.server.advance_days(3);
            assert!(cloud.server.open_link(token, Some(password)).is_some(), "{version:?}");
            cloud.server.advance_days(1);
            assert_eq!(cloud.server.open_link(token, Some(password)), None, "{version:?}");
            cloud.server.advance_days(-4);
            let id = shared["id"].as_str().unwrap();
            ends_with(&cloud.scaup, 0, ["share", "revoke", id]);
            assert!(cloud.is_clean(), "{version:?} {name}: {}", cloud.state());
        }
    }
}

#[test]
fn a_file_is_shared_out_of_a_vault_with_what_is_not_saved_yet_and_a_locked_one_is_refused() {
    let drive = Drive::mounted();
    let server = Nextcloud::start(Version::V32);
    super::cloud::add_account(&server, &drive.scaup);
    let file = drive.vault().join("Offer.pdf");
    fs::write(&file, b"old").unwrap();
    let mut open = fs::File::create(&file).unwrap();
    std::io::Write::write_all(&mut open, b"new and not closed").unwrap();
    let said_there =
        ends_with(&drive.scaup, 0, ["share", file.to_str().unwrap(), "--yes", "--json", "--print-both"]);
    assert!(said_there.contains("leaves the vault Vault of "), "{said_there}");
    let share = server.shares().pop().unwrap();
    let content = server.open_link(&share.token, share.password.as_deref()).unwrap();
    assert_eq!(content, b"new and not closed");
    drop(open);
    let before = server.requests().len();
    ends_with(&drive.scaup, 0, ["lock"]);
    let refused = ends_with(&drive.scaup, 5, ["share", file.to_str().unwrap(), "--yes", "--print-both"]);
    assert!(refused.contains("is locked") && refused.contains("scaup unlock"), "{refused}");
    // What the locked vault shows is no file of anybody.
    let encrypted = drive.vault().join("vault.cryptomator");
    ends_with(&drive.scaup, 5, ["share", encrypted.to_str().unwrap(), "--yes", "--print-both"]);
    assert_eq!(server.requests().len(), before, "nobody was asked");
    let plain = drive.plain().join("list.txt");
    fs::write(&plain, b"plain").unwrap();
    let said_there = ends_with(&drive.scaup, 0, ["share", plain.to_str().unwrap(), "--yes", "--print-both"]);
    assert!(said_there.contains("is copied to") && !said_there.contains("leaves the vault"), "{said_there}");
}

/// A bind mount, until it is dropped.
struct Bound(PathBuf);

impl Bound {
    fn new(what: &Path, place: PathBuf) -> Self {
        fs::create_dir(&place).unwrap();
        let bound = Command::new("mount").arg("--bind").arg(what).arg(&place).status().unwrap();
        assert!(bound.success());
        Self(place)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_file_of_a_mount_is_known_by_any_path_and_refused_where_nobody_says_what_is_mounted() {
    let drive = Drive::mounted();
    let server = Nextcloud::start(Version::V32);
    super::cloud::add_account(&server, &drive.scaup);
    fs::write(drive.vault().join("Offer.pdf"), b"content").unwrap();
    fs::write(drive.plain().join("list.txt"), b"plain").unwrap();
    let outside = drive.scaup.home().join("outside.txt");
    fs::write(&outside, b"outside").unwrap();
    let other = drive.scaup.home().join("run2");
    fs::DirBuilder::new().mode(0o700).create(&other).unwrap();
    // Without the daemon's socket, as in another session.
    let elsewhere = |path: &Path| {
        let mut command = drive.scaup.command();
        command.env("XDG_RUNTIME_DIR", &other).arg("share").arg(path).args(["--yes", "--print-both"]);
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    };
    let here = |code: i32, path: &Path| {
        ends_with(&drive.scaup, code, ["share", path.to_str().unwrap(), "--yes", "--print-both"])
    };
    let mut bound = Vec::new();
    if rustix::process::geteuid().is_root() {
        for (name, what) in
            [("all", drive.mount.path()), ("vault", &drive.vault()), ("plain", &drive.plain())]
        {
            bound.push(Bound::new(what, drive.scaup.home().join(name)));
        }
    }
    let in_vault: Vec<PathBuf> = [drive.vault()]
        .into_iter()
        .chain(bound.iter().take(2).map(|bound| match bound.0.ends_with("all") {
            true => bound.0.join("Vault"),
            false => bound.0.clone(),
        }))
        .collect();
    let plain: Vec<PathBuf> = [drive.plain()]
        .into_iter()
        .chain(bound.iter().skip(2).map(|bound| bound.0.clone()))
        .map(|folder| folder.join("list.txt"))
        .collect();
    for vault in &in_vault {
        let said = here(0, &vault.join("Offer.pdf"));
        assert!(said.contains("leaves the vault Vault of "), "{said}");
    }
    for path in &plain {
        assert!(here(0, path).contains("is copied to"));
    }
    let before = server.requests().len();
    for path in in_vault.iter().map(|vault| vault.join("Offer.pdf")).chain(plain) {
        let (code, said) = elsewhere(&path);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("no process says") && said.contains("XDG_RUNTIME_DIR"), "{said}");
    }
    ends_with(&drive.scaup, 0, ["lock"]);
    for vault in &in_vault {
        for name in ["Offer.pdf", "vault.cryptomator"] {
            let said = here(5, &vault.join(name));
            assert!(said.contains("is locked"), "{said}");
            assert_eq!(elsewhere(&vault.join(name)).0, Some(5));
        }
    }
    // A daemon that is dead says nothing either.
    signal(drive.mount.daemon(), Signal::KILL);
    for vault in &in_vault {
        here(5, &vault.join("vault.cryptomator"));
    }
    assert_eq!(server.requests().len(), before, "nobody was asked");
    assert_eq!(elsewhere(&outside).0, Some(0), "what is in no mount is shared as ever");
}

#[test]
fn what_is_encrypted_end_to_end_opens_with_age_and_the_passphrase_alone() {
    need(&[("age", "age")]);
    let cloud = Cloud::of(Version::V34);
    let mut passphrases = Vec::new();
    for len in [0, 1, 65_536, 65_537, 30_000_000] {
        let content = noise(2, len);
        cloud.file("Offer.pdf", &content);
        let shared = cloud.shared("Offer.pdf", &["--end-to-end"]);
        let (password, passphrase) =
            (shared["password"].as_str().unwrap(), shared["passphrase"].as_str().unwrap());
        assert_eq!(
            (shared["name"].as_str(), shared["end_to_end"].as_bool()),
            (Some("Offer.pdf.age"), Some(true))
        );
        let token = shared["link"].as_str().unwrap().rsplit('/').next().unwrap();
        let received = cloud.server.open_link(token, Some(password)).unwrap();
        assert_eq!(shared["size"].as_u64(), Some(received.len() as u64));
        assert!(len < 16 || !received.windows(16).any(|piece| piece == &content[..16]), "it is encrypted");
        cloud.file("received.age", &received);
        let mut age = Terminal::run(&cloud.scaup, "cd \"$HOME\" && age -d received.age > received");
        age.answer("Enter passphrase: ", &format!("{passphrase}\n"));
        let (status, screen) = age.end();
        assert!(status.success(), "{screen}");
        assert!(fs::read(cloud.scaup.home().join("received")).unwrap() == content, "{len}");
        let mut age = Terminal::run(&cloud.scaup, "cd \"$HOME\" && age -d received.age > received");
        age.answer("Enter passphrase: ", &format!("{password}\n"));
        assert!(!age.end().0.success(), "the link's password opens nothing");
        assert_eq!(passphrase.split('-').count(), 6, "{passphrase}");
        passphrases.push(passphrase.to_owned());
        ends_with(&cloud.scaup, 0, ["share", "revoke", shared["id"].as_str().unwrap()]);
    }
    // Nobody but the receiver ever saw the passphrase.
    for request in cloud.server.requests() {
        assert!(!passphrases.iter().any(|passphrase| request.target.contains(passphrase)), "{request:?}");
    }
}

/// A share at a terminal, whose settings are shown at the end; and the number of its process.
fn at_terminal(cloud: &Cloud, words: &str) -> Terminal {
    let command = format!(
        "sh -c 'echo $$ > \"$HOME/pid\"; exec {} share \"$HOME/Offer.pdf\" {words}'; code=$?; stty -a; exit $code",
        env!("CARGO_BIN_EXE_scaup")
    );
    Terminal::run(&cloud.scaup, &command)
}

fn process(cloud: &Cloud) -> u32 {
    fs::read_to_string(cloud.scaup.home().join("pid")).unwrap().trim().parse().unwrap()
}

fn shows(terminal: &Terminal, text: &str) {
    eventually(text, Duration::from_secs(20), || terminal.screen().contains(text));
}

/// Control characters work again, and what is typed is shown.
fn is_restored(screen: &str) -> bool {
    let settings: Vec<&str> = screen.split_whitespace().collect();
    settings.contains(&"isig") && settings.contains(&"echo") && screen.contains("eol = <undef>")
}

const SHARE_IT: &str = "Share it (yes/no)? ";
const ENTER: &str = "Send the link, then press Enter for the password";

#[test]
fn a_signal_at_a_question_ends_the_command_and_leaves_the_terminal_as_it_was() {
    for how in [Signal::TERM, Signal::HUP, Signal::INT] {
        let cloud = Cloud::of(Version::V34);
        cloud.file("Offer.pdf", b"content");
        let terminal = at_terminal(&cloud, "");
        shows(&terminal, SHARE_IT);
        signal(process(&cloud), how);
        let (status, screen) = terminal.end();
        assert_eq!(status.code(), Some(1), "{how:?}: {screen}");
        assert!(screen.contains("it was cancelled") && is_restored(&screen), "{how:?}: {screen}");
        assert!(cloud.is_clean(), "{how:?}: {}", cloud.state());
        let terminal = at_terminal(&cloud, "--yes");
        shows(&terminal, ENTER);
        signal(process(&cloud), how);
        let (status, screen) = terminal.end();
        assert_eq!(status.code(), Some(9), "{how:?}: {screen}");
        assert!(is_restored(&screen), "{how:?}: {screen}");
        let password = cloud.server.shares().pop().unwrap().password.unwrap();
        assert!(screen.contains("was not shown") && !screen.contains(&password), "{how:?}: {screen}");
        let command = screen.split("`scaup ").nth(1).expect(&screen).split('`').next().unwrap();
        ends_with(&cloud.scaup, 0, command.split_whitespace().filter(|word| *word != ">"));
        assert!(cloud.is_clean(), "{how:?}: {}", cloud.state());
    }
}

#[test]
fn a_second_signal_ends_the_command_at_once() {
    let cloud = Cloud::of(Version::V34);
    cloud.file("Offer.pdf", b"content");
    // The clean-up takes long.
    cloud.server.fail(Fault::once("PATCH", "", What::Slow(Duration::from_secs(1))));
    cloud.server.fail(Fault::once("DELETE", "", What::Slow(Duration::from_secs(60))));
    let terminal = at_terminal(&cloud, "--yes");
    eventually("the upload", Duration::from_secs(20), || {
        cloud.requests_since(0).iter().any(|request| request.starts_with("PATCH"))
    });
    signal(process(&cloud), Signal::TERM);
    shows(&terminal, "cancelled: cleaning up");
    signal(process(&cloud), Signal::TERM);
    let (status, screen) = terminal.end();
    assert_eq!(status.code(), Some(9), "{screen}");
    assert!(screen.contains("ended at once") && is_restored(&screen), "{screen}");
}

#[test]
fn what_can_not_be_shown_is_named_with_what_removes_it() {
    for arguments in [&["--json", "--print-both"][..], &["--print-both"]] {
        let cloud = Cloud::of(Version::V32);
        let file = cloud.file("Offer.pdf", b"content");
        let mut command = cloud.scaup.command();
        command.arg("share").arg(file).arg("--yes").args(arguments);
        command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
        let output = command.output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(9), "{text}");
        assert!(text.contains("was not shown"), "{text}");
        let command = text.split("`scaup ").nth(1).expect(&text).split('`').next().unwrap();
        ends_with(&cloud.scaup, 0, command.split(' '));
        assert!(cloud.is_clean(), "{}", cloud.state());
    }
}

#[test]
fn standard_output_has_the_link_alone_whatever_else_is_shown() {
    let cloud = Cloud::of(Version::V32);
    let file = cloud.file("Offer.pdf", b"content");
    let file = file.to_str().unwrap();
    for more in [&["--qr", "password"][..], &["--qr", "link"], &["--qr", "password", "--end-to-end"]] {
        let first = ["share", file, "--yes", "--print-both"];
        let output = cloud.scaup.run(first.iter().chain(more));
        let share = cloud.server.shares().pop().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(out, format!("{}/s/{}\n", cloud.server.url(), share.token), "{more:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains('█'), "{more:?}: {}", said(&output));
    }
    let refused = ends_with(&cloud.scaup, 2, ["share", file, "--yes", "--json", "--qr", "link"]);
    assert!(refused.contains("--qr"), "{refused}");
}

/// The lines that stay on the screen, each whole, without those that are empty. What is shown for a moment is
/// overwritten.
fn lasting(screen: &str) -> Vec<String> {
    let lines = screen.replace("\n  > ", "");
    let lines = lines.lines().map(|line| line.rsplit(['\r', '\u{1b}']).next().unwrap());
    lines.map(|line| line.trim_start_matches("[2K").to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Replaces what differs each time.
fn masked(screen: &str, words: &[(&str, &str)]) -> String {
    let mut masked = screen.replace("\r\n", "\n");
    for (word, name) in words {
        masked = masked.replace(word, name);
    }
    masked
}

#[test]
fn the_dialogues_are_these() {
    let cloud = Cloud::of(Version::V34);
    let host = cloud.server.url().replace("http://", "");
    cloud.file("Offer.pdf", &noise(3, 1_300_000));
    let mut terminal =
        Terminal::run(&cloud.scaup, &format!("{} share \"$HOME/Offer.pdf\"", env!("CARGO_BIN_EXE_scaup")));
    terminal.answer("Share it (yes/no)? ", "yes\n");
    let enter = "Send the link, then press Enter for the password, and send that another way.";
    terminal.answer(enter, "\n");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    let share = cloud.server.shares().pop().unwrap();
    let (password, ends) = (share.password.unwrap(), share.expiration.unwrap());
    let words =
        [(host.as_str(), "HOST"), (&share.token, "TOKEN"), (&password, "PASSWORD"), (&ends[..10], "DAY")];
    let shown = masked(&screen, &words);
    assert_eq!(
        lasting(&shown),
        [
            "Offer.pdf (1.2 MiB) is copied to HOST: there it lies readable for that server and whoever administers it,",
            "until it is revoked or pruned. The link works until DAY; the receiver needs it and the password.",
            "Share it (yes/no)? yes",
            "uploaded, and the server's copy compared",
            "link:     http://HOST/s/TOKEN",
            "expires:  DAY 23:59 (as the server keeps it)",
            enter,
            "password: PASSWORD",
        ]
    );
    let (link_at, password_at) = (screen.find(&share.token).unwrap(), screen.find(&password).unwrap());
    assert!(link_at < screen.find(enter).unwrap() && screen.find(enter).unwrap() < password_at);

    // What stays encrypted is not asked about. A code shows what a camera is to read.
    let words = "share \"$HOME/Offer.pdf\" --end-to-end --qr password";
    let mut terminal = Terminal::run(&cloud.scaup, &format!("{} {words}", env!("CARGO_BIN_EXE_scaup")));
    let enter = "Send the link, then press Enter for the passphrase, and send that another way.";
    terminal.answer(enter, "\n");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    let share = cloud.server.shares().pop().unwrap();
    let shown = screen.replace("\r\n", "\n");
    let (before, after) = shown.split_once(enter).unwrap();
    let passphrase = after.split_once("passphrase: ").unwrap().1.lines().next().unwrap();
    let password = share.password.unwrap();
    let words = [
        (host.as_str(), "HOST"),
        (&share.token, "TOKEN"),
        (&password, "PASSWORD"),
        (passphrase, "PASSPHRASE"),
        (&ends[..10], "DAY"),
    ];
    let text = lasting(&masked(&screen, &words));
    let is_code = |line: &String| line.chars().all(|c| " ▀▄█".contains(c));
    assert_eq!(
        text.iter().filter(|line| !is_code(line)).collect::<Vec<_>>(),
        [
            "Offer.pdf stays end-to-end encrypted: HOST gets Offer.pdf.age, which opens with the passphrase only (age -d Offer.pdf.age > Offer.pdf).",
            "The link works until DAY; the receiver needs it, its password, and the passphrase.",
            "uploaded, and the server's copy compared",
            "link:       http://HOST/s/TOKEN   (its password, to be sent with it: PASSWORD)",
            "expires:    DAY 23:59 (as the server keeps it)",
            enter,
            "passphrase: PASSPHRASE",
        ]
    );
    assert_eq!(passphrase.split('-').count(), 6, "{passphrase}");
    assert!(!before.contains(passphrase) && !before.contains('█') && after.contains('█'), "{shown}");

    // A no shares nothing, and asks the server for nothing but what it permits.
    let before = cloud.server.requests().len();
    let mut terminal =
        Terminal::run(&cloud.scaup, &format!("{} share \"$HOME/Offer.pdf\"", env!("CARGO_BIN_EXE_scaup")));
    terminal.answer("Share it (yes/no)? ", "no\n");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    assert_eq!(
        lasting(&masked(&screen, &words)),
        [
            "Offer.pdf (1.2 MiB) is copied to HOST: there it lies readable for that server and whoever administers it,",
            "until it is revoked or pruned. The link works until DAY; the receiver needs it and the password.",
            "Share it (yes/no)? no",
            "nothing was shared",
        ]
    );
    let asked = cloud.requests_since(before);
    assert!(
        asked.iter().all(|request| request.starts_with("GET ") || request.contains("validate")),
        "{asked:?}"
    );
}

#[test]
fn without_a_terminal_it_must_be_said_what_is_printed() {
    let cloud = Cloud::of(Version::V32);
    let file = cloud.file("Offer.pdf", b"x");
    let file = file.to_str().unwrap();
    for arguments in [&["share", file][..], &["share", file, "--yes"], &["share", file, "--print-both"]] {
        let refused = ends_with(&cloud.scaup, 2, arguments);
        assert!(refused.contains("--print-both"), "{refused}");
    }
    assert!(cloud.is_clean());
    let output = cloud.scaup.run(["share", file, "--yes", "--print-both"]);
    let share = cloud.server.shares().pop().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let password = share.password.unwrap();
    assert_eq!(out.trim(), format!("{}/s/{}", cloud.server.url(), share.token));
    assert!(err.contains(&format!("password: {password}")), "{err}");
    // A program that asks for the link alone gets no password.
    let output = cloud.scaup.run(["share", file, "--yes", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let shares = cloud.server.shares();
    assert!(shares.iter().all(|share| !said(&output).contains(share.password.as_deref().unwrap())));
    // And with a password of one's own, nobody but the server learns it.
    let own = cloud.scaup.command_answering("Own-secret-of-mine-77");
    let shared = cloud.shared("Offer.pdf", &["--password-command", &own, "--as", "For you.pdf"]);
    assert_eq!(shared["name"].as_str(), Some("For you.pdf"));
    let last = cloud.server.shares().pop().unwrap();
    assert_eq!(last.password.as_deref(), Some("Own-secret-of-mine-77"));
    assert!(last.path.unwrap().ends_with("/For you.pdf"));
}

#[test]
fn a_large_file_takes_no_more_memory_and_leaves_nothing_on_this_machine() {
    let cloud = Cloud::of(Version::V31);
    let path = cloud.scaup.home().join("disk image");
    // A sparse file: what is read is as long.
    fs::File::create(&path).unwrap().set_len(2 << 30).unwrap();
    let mut command = cloud.scaup.command();
    command.args(["share", path.to_str().unwrap(), "--yes", "--json", "--print-both"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let peak = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(kib) = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
            else {
                break;
            };
            peak = peak.max(kib);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        peak
    });
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let peak = peak.join().unwrap();
    assert!((1..130 << 10).contains(&peak), "{peak} KiB");
    assert!(only_file(&cloud).ends_with("/disk image"));
}

/// All text below a directory that holds one of these, but for the file itself.
fn holding(directory: &Path, canaries: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(holding(&path, canaries));
        } else if let Ok(content) = fs::read(&path) {
            let text = String::from_utf8_lossy(&content);
            let named = |canary: &&&str| text.contains(**canary) || path.to_string_lossy().contains(**canary);
            found.extend(canaries.iter().filter(named).map(|canary| format!("{}: {canary}", path.display())));
        }
    }
    found
}

#[test]
fn neither_name_nor_content_nor_a_password_stays_here_or_in_an_address() {
    let cloud = Cloud::of(Version::V28);
    let outside = scaup();
    let file = outside.home().join("Canary-name.txt");
    fs::write(&file, "Canary-content").unwrap();
    let file = file.to_str().unwrap();
    let plain = ends_with(&cloud.scaup, 0, ["share", file, "--yes", "--json", "--print-both"]);
    let encrypted =
        ends_with(&cloud.scaup, 0, ["share", file, "--yes", "--json", "--print-both", "--end-to-end"]);
    let id = |text: &str| text.split("\"id\": \"").nth(1).unwrap()[..6].to_owned();
    ends_with(&cloud.scaup, 0, ["share", "extend", &id(&plain), "--days", "9"]);
    let secrets: Vec<String> =
        cloud.server.shares().iter().map(|share| share.password.clone().unwrap()).collect();
    let passphrase =
        encrypted.split("\"passphrase\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mut canaries = vec!["Canary-name", "Canary-content", &passphrase];
    canaries.extend(secrets.iter().map(String::as_str));
    assert_eq!(holding(cloud.scaup.home(), &canaries), Vec::<String>::new());
    for request in cloud.server.requests() {
        let target = request.target;
        let is_secret = |canary: &&&str| **canary != "Canary-name" && target.contains(**canary);
        assert_eq!(canaries.iter().find(is_secret), None, "{target}");
    }
}
