//! `scaup demo` as a user runs it, and its server as OpenSSH's own client meets it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scaup::remote::local::LocalRemote;
use scaup_demo::{Credentials, Server, content};
use scaup_rig::{Scaup, eventually, need};

use crate::support::terminal::Terminal;

/// How long the demo may take to stand, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the demo says last when it stands.
const STANDS: &str = "Ctrl-C unmounts, and removes all of it.";

/// A demo that runs, with a home and a directory for temporary files of its own.
struct Demo {
    scaup: Scaup,
    child: Child,
    lines: Receiver<String>,
    /// Standard error, once it ends.
    errors: Arc<Mutex<String>>,
    daemon: Option<Pid>,
}

impl Demo {
    /// Starts it, and waits for a line that begins with `until`; returns all lines up to it.
    fn start(arguments: &[&OsStr], until: &str) -> (Self, Vec<String>) {
        let scaup = Scaup::new(env!("CARGO_BIN_EXE_scaup"));
        let temporary = scaup.home().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let mut command = scaup.command();
        command.arg("demo").args(arguments).env("TMPDIR", temporary);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| said.send(line).is_ok());
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let (mut output, kept) = (child.stderr.take().unwrap(), Arc::clone(&errors));
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            *kept.lock().unwrap() = text;
        });
        let demo = Self { scaup, child, lines, errors, daemon: None };
        let mut heard = Vec::new();
        loop {
            let line = demo.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| {
                panic!("{error}: {heard:#?} {}", demo.errors.lock().unwrap());
            });
            heard.push(line);
            if heard.last().is_some_and(|line| line.starts_with(until)) {
                return (demo, heard);
            }
        }
    }

    /// Starts it, and waits until it stands.
    fn stand(arguments: &[&OsStr]) -> (Self, Vec<String>) {
        let (mut demo, lines) = Self::start(arguments, STANDS);
        let status = demo.scaup.status();
        let pid = status["mounts"][0]["pid"].as_i64().unwrap();
        demo.daemon = Pid::from_raw(i32::try_from(pid).unwrap());
        (demo, lines)
    }

    fn mountpoint(&self) -> PathBuf {
        self.scaup.home().join("Scaup/demo")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and returns with what it ended and what it said on standard error.
    fn end(&mut self) -> (ExitStatus, String) {
        let mut status = None;
        eventually("the demo ends", PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let errors = Arc::clone(&self.errors);
        eventually("its standard error ends", PATIENCE, || Arc::strong_count(&errors) == 2);
        let errors = errors.lock().unwrap().clone();
        (status.unwrap(), errors)
    }

    /// Neither a mount, nor a process, nor a directory is left.
    fn assert_nothing_is_left(&self) {
        let home = self.scaup.home();
        assert!(!is_mounted(home), "{}", home.display());
        if let Some(pid) = self.daemon {
            let directory = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
            eventually("the daemon is gone", PATIENCE, || !directory.exists());
        }
        for directory in ["tmp", "run/scaup", "state/scaup/vaults"] {
            let Ok(left) = fs::read_dir(home.join(directory)) else { continue };
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            // That a code was sent has to be known for longer than a server lives.
            let left: Vec<_> = left.into_iter().filter(|name| name != "codes-sent").collect();
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
        assert!(!home.join("Scaup").exists());
    }
}

impl Drop for Demo {
    /// After a test that failed: nothing is left, whatever the demo thinks.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if is_mounted(&self.mountpoint()) {
            let _ = Command::new("umount").arg("-l").arg(self.mountpoint()).stderr(Stdio::null()).status();
        }
        // The process id may be somebody else's by now, unless it is still this demo's.
        let Some(pid) = self.daemon else { return };
        let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        if command.ends_with(b"\0daemon\0") {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Whether something is mounted at `path` or below it, by the kernel's table: asking the path itself could hang.
fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(path.to_str().unwrap())
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// No name and no content of the vault is to be found in what the server holds.
fn assert_only_ciphertext(vault: &Path) {
    let clear = content::small_files();
    for path in files_below(vault) {
        let name = path.strip_prefix(vault).unwrap().to_str().unwrap();
        for word in ["Documents", "Pictures", "Recordings", "Letter", "Dusk", ".txt", ".wav"] {
            assert!(!name.contains(word), "{name}");
        }
        let held = fs::read(&path).unwrap();
        if held.len() > 1024 * 1024 {
            // Half of the recording is silence: zeros. In ciphertext they are one byte of 256.
            let zeros = held.iter().filter(|&&byte| byte == 0).count();
            assert!(zeros * 200 < held.len(), "{zeros} zeros in {}", held.len());
            continue;
        }
        for (of, content) in &clear {
            assert!(!contains(&held, &content[..content.len().min(40)]), "{of} is readable in {name}");
        }
    }
}

#[test]
fn the_demo_shows_its_vault_and_ctrl_c_removes_everything() {
    let (mut demo, lines) = Demo::stand(&[]);
    let text = lines.join("\n");
    let mountpoint = demo.mountpoint();
    assert!(text.contains(&format!("demo is mounted at {}", mountpoint.display())), "{text}");
    for step in ["key accepted", "code accepted", "vault Vault unlocked", "What the server holds"] {
        assert!(text.contains(step), "{step}: {text}");
    }
    let held = lines.iter().find_map(|line| line.trim().strip_prefix("find ")?.strip_suffix(" -type f"));
    let held = PathBuf::from(held.unwrap());

    let (plain, said) = content::PLAIN;
    assert_eq!(fs::read_to_string(mountpoint.join(plain)).unwrap(), said);
    assert_eq!(fs::read_to_string(held.join(plain)).unwrap(), said);
    let vault = mountpoint.join(content::VAULT);
    for (name, expected) in content::small_files() {
        assert!(fs::read(vault.join(name)).unwrap() == *expected, "{name}");
        // Every program that shows pictures looks for these bytes first.
        assert_eq!(name.ends_with(".png"), expected.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
    }
    let mut recording = Vec::new();
    content::write_recording(&mut recording, || true).unwrap();
    assert!(fs::read(vault.join(content::RECORDING)).unwrap() == recording);
    assert_only_ciphertext(&held.join(content::VAULT));

    let before = files_below(&held).len();
    let mut new = fs::File::create_new(vault.join("Documents/Reply.txt")).unwrap();
    new.write_all(b"Dear Alice").unwrap();
    new.sync_all().unwrap();
    drop(new);
    assert_eq!(files_below(&held).len(), before + 1);

    demo.signal(Signal::INT);
    let (status, errors) = demo.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    demo.assert_nothing_is_left();
}

#[test]
fn ctrl_c_while_it_is_being_filled_leaves_nothing() {
    let (mut demo, _) = Demo::start(&[], "writing 64 MiB");
    demo.signal(Signal::INT);
    let (status, errors) = demo.end();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("interrupted"), "{errors}");
    demo.assert_nothing_is_left();
}

#[test]
fn ctrl_c_twice_and_something_open_in_the_mount_leaves_nothing() {
    let (mut demo, _) = Demo::stand(&[]);
    let open = fs::File::open(demo.mountpoint().join(content::VAULT).join(content::RECORDING)).unwrap();
    demo.signal(Signal::INT);
    demo.signal(Signal::INT);
    let (status, errors) = demo.end();
    assert!(status.code().is_some(), "{errors}");
    demo.assert_nothing_is_left();
    drop(open);
}

#[test]
fn a_closed_terminal_ends_it_as_well() {
    let (mut demo, _) = Demo::stand(&[]);
    demo.signal(Signal::HUP);
    let (status, errors) = demo.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    demo.assert_nothing_is_left();
}

#[test]
fn a_mount_whose_process_is_killed_is_cleared_away() {
    let (mut demo, _) = Demo::stand(&[]);
    kill_process(demo.daemon.unwrap(), Signal::KILL).unwrap();
    let (status, errors) = demo.end();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("ended unexpectedly"), "{errors}");
    demo.assert_nothing_is_left();
}

#[test]
fn a_demo_that_is_killed_takes_its_mount_along() {
    let (mut demo, _) = Demo::stand(&[]);
    demo.signal(Signal::KILL);
    demo.end();
    eventually("the mount is gone", PATIENCE, || !is_mounted(demo.scaup.home()));
    let daemon = PathBuf::from(format!("/proc/{}", demo.daemon.unwrap().as_raw_nonzero()));
    eventually("its process is gone", PATIENCE, || !daemon.exists());
}

#[test]
fn unmounting_it_from_elsewhere_ends_it_and_a_mount_point_of_the_users_stays() {
    let kept = tempfile::tempdir().unwrap();
    let (mut demo, lines) = Demo::stand(&["--mountpoint".as_ref(), kept.path().as_os_str()]);
    assert!(kept.path().join(content::VAULT).join("Documents/Letter.txt").exists(), "{lines:?}");
    let output = demo.scaup.run(["unmount", "demo"]);
    assert!(output.status.success(), "{output:?}");
    let (status, errors) = demo.end();
    assert_eq!(status.code(), Some(0), "{errors}");
    demo.assert_nothing_is_left();
    assert_eq!(fs::read_dir(kept.path()).unwrap().count(), 0);
}

/// A machine without FUSE's helper, as somebody sees it who is not root: programs that note how `sudo` is called.
struct Bare {
    place: tempfile::TempDir,
}

impl Bare {
    /// `sudo` does this, in the directory of the programs.
    fn new(sudo: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
        // Nobody may be let into the directory that it was built in.
        fs::copy(env!("CARGO_BIN_EXE_scaup"), place.path().join("scaup")).unwrap();
        let noting = format!("cd '{}'; echo \"$@\" >> noted; {sudo}", place.path().display());
        for (name, does) in [("sudo", noting.as_str()), ("apt-get", "exit 1")] {
            let path = place.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { place }
    }

    fn demo(&self) -> String {
        format!(
            "exec setpriv --reuid=65534 --regid=65534 --clear-groups env PATH='{0}' '{0}/scaup' demo",
            self.place.path().display(),
        )
    }

    /// How `sudo` was called.
    fn noted(&self) -> String {
        fs::read_to_string(self.place.path().join("noted")).unwrap_or_default()
    }
}

#[test]
fn a_missing_helper_is_installed_only_with_consent() {
    need(&[("setpriv", "util-linux")]);
    let scaup = Scaup::new(env!("CARGO_BIN_EXE_scaup"));
    let question = "Install it now, by `sudo apt-get install -y fuse3` (yes/no)? ";
    // The helper that comes mounts nothing, and nobody has no home: the demo ends soon in any case.
    let comes = "printf '#!/bin/sh\\nexit 1\\n' > fusermount3; /bin/chmod 755 fusermount3";
    for (sudo, answer, noted, words) in [
        ("exit 0", "no\n", "", "fusermount3 is missing; install the package `fuse3`"),
        ("exit 0", "\u{3}", "", "fusermount3 is missing; install the package `fuse3`"),
        ("exit 0", "yes\n", "apt-get install -y fuse3\n", "fusermount3 is missing"),
        ("exit 100", "yes\n", "apt-get install -y fuse3\n", "ended with exit status: 100"),
        (comes, "y\n", "apt-get install -y fuse3\n", ""),
    ] {
        let bare = Bare::new(sudo);
        let mut terminal = Terminal::run(&scaup, &bare.demo());
        terminal.answer(question, answer);
        let (status, screen) = terminal.end();
        assert!(status.code() == Some(7) || (sudo == comes && !status.success()), "{screen}");
        assert_eq!(bare.noted(), noted, "{screen}");
        assert!(screen.contains(words), "{screen}");
        assert_eq!(screen.contains("fusermount3 is missing;"), sudo == "exit 0", "{screen}");
    }
    // With nobody to agree, nothing is done.
    let bare = Bare::new(comes);
    let output =
        Command::new("setsid").args(["sh", "-c", &bare.demo()]).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{errors}");
    assert!(errors.contains("fusermount3 is missing; install the package `fuse3`"), "{errors}");
    assert_eq!(bare.noted(), "");
}

/// The demo's server without the demo, for OpenSSH's `sftp`.
struct Served {
    _runtime: tokio::runtime::Runtime,
    place: tempfile::TempDir,
    credentials: Arc<Credentials>,
    config: PathBuf,
    _server: Server,
}

impl Served {
    fn start() -> Self {
        need(&[("sftp", "openssh-client")]);
        let place = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let credentials = Arc::new(Credentials::generate().unwrap());
        fs::create_dir(place.path().join("server")).unwrap();
        let files = Arc::new(LocalRemote::open(&place.path().join("server")).unwrap());
        let server = runtime.block_on(Server::start(files, Arc::clone(&credentials))).unwrap();
        let config = credentials.write_ssh_config(place.path(), server.port()).unwrap();
        Self { _runtime: runtime, place, credentials, config, _server: server }
    }

    fn held(&self) -> PathBuf {
        self.place.path().join("server")
    }

    /// Runs `sftp` with `script` as its input; `code` answers all prompts but the one for the passphrase.
    fn sftp(&self, code: &str, script: &str) -> Output {
        let file = |name: &str, text: &str, mode: u32| {
            let path = self.place.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let answers = format!(
            "#!/bin/sh\ncase \"$1\" in Enter\\ passphrase*) echo '{}' ;; *) echo '{code}' ;; esac\n",
            self.credentials.passphrase()
        );
        let askpass = file("askpass", &answers, 0o700);
        let input = file("script", script, 0o600);
        Command::new("sftp")
            .arg("-F")
            .arg(&self.config)
            .arg(Credentials::HOST)
            .current_dir(self.place.path())
            .env("SSH_ASKPASS", askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(fs::File::open(input).unwrap())
            .output()
            .unwrap()
    }
}

#[test]
fn the_server_demands_key_and_code_and_takes_each_code_once() {
    let served = Served::start();
    let refused = served.sftp("000000", "pwd\n");
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    let code = served.credentials.new_code();
    let output = served.sftp(&code, "pwd\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains("directory: /"), "{output:?}");
    let again = served.sftp(&code, "pwd\n");
    assert!(!again.status.success() && again.stdout.is_empty(), "{again:?}");
}

#[test]
fn the_server_serves_openssh_and_nothing_outside_its_directory() {
    let served = Served::start();
    let outside = served.place.path().join("outside");
    fs::write(&outside, "not yours").unwrap();
    fs::create_dir(served.place.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(&outside, served.held().join("way-out")).unwrap();
    std::os::unix::fs::symlink(served.place.path(), served.held().join("way-up")).unwrap();
    let long: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    fs::write(served.place.path().join("long"), &long).unwrap();
    let script = "mkdir a\nput long a/long\nchmod 600 a/long\nrename a/long a/moved\nln -s moved a/link\nln a/moved a/hard\n\
        get a/moved back\nls -l a\n-get ../outside stolen-by-name\n-get way-out stolen-by-link\n-get way-up/outside stolen-by-directory\n\
        -put long ../elsewhere/long\n-put long way-up/elsewhere/long\nmkdir b\nrmdir b\nrm a/hard\ndf\n";
    let output = served.sftp(&served.credentials.new_code(), script);
    let said = format!("{output:?}");
    assert!(fs::read(served.place.path().join("back")).unwrap() == long, "{said}");
    let moved = served.held().join("a/moved");
    assert!(fs::read(&moved).unwrap() == long, "{said}");
    assert_eq!(fs::metadata(&moved).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_link(served.held().join("a/link")).unwrap(), Path::new("moved"));
    assert!(!served.held().join("b").exists() && !served.held().join("a/hard").exists(), "{said}");
    for stolen in ["stolen-by-name", "stolen-by-link", "stolen-by-directory"] {
        let taken = fs::read_to_string(served.place.path().join(stolen)).unwrap_or_default();
        assert_eq!(taken, "", "{stolen}");
    }
    assert_eq!(fs::read_dir(served.place.path().join("elsewhere")).unwrap().count(), 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("moved"), "{said}");
}
