//! The program under test, with a home of its own, and mounts that no test leaves behind.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::install::need;
use crate::process::kill;
use crate::proxy::Proxy;
use crate::sshd::Sshd;
use crate::within::{eventually, within};

/// How long any one call of the program may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program `scaup` with a home, configuration and runtime directory of its own.
pub struct Scaup {
    program: PathBuf,
    home: TempDir,
    numbers: AtomicU32,
}

/// What the prompts are answered with; `None` cancels.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// `Passphrase for key PATH: `.
    pub passphrase: Option<String>,
    /// A shell command that prints the code for the server's own prompts ([`Sshd::totp_command`]).
    pub otp_command: Option<String>,
    /// `Password for vault PATH: `.
    pub vault_password: Option<String>,
}

impl Answers {
    /// The right ones for `sshd`'s login.
    #[must_use]
    pub fn login(sshd: &Sshd) -> Self {
        Self {
            passphrase: Some(sshd.key().passphrase().to_owned()),
            otp_command: Some(sshd.totp_command()),
            vault_password: None,
        }
    }

    /// These and a vault password.
    #[must_use]
    pub fn vault(mut self, password: &str) -> Self {
        self.vault_password = Some(password.to_owned());
        self
    }
}

impl Drop for Scaup {
    /// Shows the end of the daemons' logs beside a test's failure.
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let logs = fs::read_dir(self.home.path().join("state/scaup")).into_iter().flatten().flatten();
        for log in
            logs.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        {
            let log = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n");
            eprintln!("--- the daemon's last lines:\n{end}");
        }
    }
}

impl Scaup {
    /// Tests pass `env!("CARGO_BIN_EXE_scaup")`.
    #[must_use]
    pub fn new(program: impl AsRef<Path>) -> Self {
        need(&[("fusermount3", "fuse3"), ("setsid", "util-linux")]);
        let home = tempfile::Builder::new()
            .prefix("scaup-home")
            .tempdir()
            .expect("a temporary directory can be made");
        for directory in ["config", "state", "run", "mnt", "answers"] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(home.path().join(directory))
                .expect("the home can be filled");
        }
        Self { program: program.as_ref().to_path_buf(), home, numbers: AtomicU32::new(0) }
    }

    /// The home directory it runs with.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The program, without a terminal and with nothing of the test's own environment.
    #[must_use]
    pub fn command(&self) -> Command {
        // Without a session of its own it would find the terminal that the tests are run from.
        let mut command = Command::new("setsid");
        command
            .arg(&self.program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("SCAUP_LOG", "scaup=debug")
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end and returns all it said; panics after two minutes.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        let mut command = self.command();
        command.args(arguments);
        finish(command)
    }

    /// Prepares to mount `target` (a local directory or `user@host:dir`).
    #[must_use]
    pub fn mount(&self, target: impl AsRef<OsStr>) -> MountCommand<'_> {
        let mountpoint = self.home.path().join("mnt").join(self.number().to_string());
        let mut command = self.command();
        command.arg("mount").arg(target).arg(&mountpoint);
        MountCommand { scaup: self, command, mountpoint }
    }

    /// Prepares to mount `directory` (empty: the login directory) on `sshd`, whose host key is known.
    #[must_use]
    pub fn mount_on(&self, sshd: &Sshd, directory: &str) -> MountCommand<'_> {
        self.mount_at(sshd, sshd.port(), directory)
    }

    /// As [`Self::mount_on`], over a proxy that leads to `sshd`.
    #[must_use]
    pub fn mount_through(&self, proxy: &Proxy, sshd: &Sshd, directory: &str) -> MountCommand<'_> {
        self.mount_at(sshd, proxy.port(), directory)
    }

    fn mount_at(&self, sshd: &Sshd, port: u16, directory: &str) -> MountCommand<'_> {
        let colon = if directory.is_empty() { "" } else { ":" };
        self.mount(format!("{}@{}{colon}{directory}", sshd.user(), sshd.host()))
            .args(["-p", &port.to_string(), "-i"])
            .args([sshd.key().path()])
            .args([
                "-o".to_owned(),
                format!("UserKnownHostsFile={}", sshd.known_hosts_file_at(port).display()),
            ])
    }

    /// What `status --json` says.
    #[must_use]
    pub fn status(&self) -> Value {
        let output = self.run(["status", "--json"]);
        assert!(output.status.success(), "status: {}", said(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("status --json: {error}: {}", said(&output)))
    }

    /// A shell command that prints `answer`, which stands in a file and not in the command.
    #[must_use]
    pub fn command_answering(&self, answer: &str) -> String {
        let file = self.private_file(&format!("{answer}\n"), 0o600);
        format!("cat '{}'", file.display())
    }

    /// A shell command that prints another code each time, none of which is right.
    #[must_use]
    pub fn command_giving_wrong_codes(&self) -> String {
        let last = self.private_file("0\n", 0o600);
        format!("read n < '{0}'; n=$((n + 1)); echo $n > '{0}'; printf '%06d\\n' $n", last.display())
    }

    /// Forgets which codes were sent, so that one may be sent again at once.
    pub fn forget_codes(&self) {
        fs::remove_file(self.home.path().join("run/scaup/codes-sent")).expect("a code was sent");
    }

    /// A program for `SSH_ASKPASS` that gives `answers`, and the file in which it notes each prompt, one a line.
    #[must_use]
    pub fn askpass(&self, answers: &Answers) -> (PathBuf, PathBuf) {
        let answer = |answer: Option<String>| answer.unwrap_or_else(|| "exit 1".to_owned());
        let text = |text: &Option<String>| text.as_ref().map(|text| self.command_answering(text));
        let prompts = self.private_file("", 0o600);
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$1\" >> '{}'\ncase \"$1\" in\n'Passphrase for key '*) {} ;;\n'Password for vault '*) {} ;;\n*) {} ;;\nesac\n",
            prompts.display(),
            answer(text(&answers.passphrase)),
            answer(text(&answers.vault_password)),
            answer(answers.otp_command.clone()),
        );
        (self.private_file(&script, 0o700), prompts)
    }

    fn private_file(&self, content: &str, mode: u32) -> PathBuf {
        let path = self.home.path().join("answers").join(self.number().to_string());
        fs::write(&path, content).expect("the answer can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .expect("the answer can be given its mode");
        path
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The process id of the daemon behind `mountpoint`, if `status` names one.
    fn daemon(&self, mountpoint: &Path) -> Option<u32> {
        let output = self.run(["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let mounts = status.get("mounts")?.as_array()?;
        let mount = mounts
            .iter()
            .find(|mount| mount.get("mountpoint").and_then(Value::as_str) == mountpoint.to_str())?;
        u32::try_from(mount.get("pid")?.as_u64()?).ok()
    }
}

/// A `scaup mount` not yet run.
pub struct MountCommand<'scaup> {
    scaup: &'scaup Scaup,
    command: Command,
    mountpoint: PathBuf,
}

impl MountCommand<'_> {
    /// Further arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// A variable in the program's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Answers prompts by `--passphrase-command`, `--otp-command` and `--vault-password-command`.
    #[must_use]
    pub fn answering(mut self, answers: &Answers) -> Self {
        if let Some(passphrase) = &answers.passphrase {
            self.command.args(["--passphrase-command", &self.scaup.command_answering(passphrase)]);
        }
        if let Some(command) = &answers.otp_command {
            self.command.args(["--otp-command", command]);
        }
        if let Some(password) = &answers.vault_password {
            self.command.args(["--vault-password-command", &self.scaup.command_answering(password)]);
        }
        self
    }

    /// Answers prompts by an `SSH_ASKPASS` program ([`Scaup::askpass`]).
    #[must_use]
    pub fn askpass(self, program: &Path) -> Self {
        self.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force")
    }

    /// The mount point, which does not exist yet unless the test makes it.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Mounts; panics with what the program said if that fails.
    #[must_use]
    pub fn start(self) -> Mount {
        let Self { scaup, command, mountpoint } = self;
        // From here on the mount may exist, whatever the program returns.
        let mut mount = Mount { mountpoint, unmount: scaup.command(), daemon: None, said: String::new() };
        mount.unmount.args(["unmount", "--force"]).arg(&mount.mountpoint);
        let output = finish(command);
        assert!(output.status.success(), "scaup mount ended with {}: {}", output.status, said(&output));
        assert!(
            is_mounted(&mount.mountpoint),
            "scaup mount returned 0 but nothing is mounted: {}",
            said(&output)
        );
        mount.daemon = scaup.daemon(&mount.mountpoint);
        mount.said = said(&output);
        mount
    }

    /// Runs it where it must fail, and returns what it said. Nothing may be left mounted.
    pub fn refused(self) -> Output {
        let Self { scaup, command, mountpoint } = self;
        let mut unmount = scaup.command();
        unmount.args(["unmount", "--force"]).arg(&mountpoint);
        let _mount = Mount { mountpoint: mountpoint.clone(), unmount, daemon: None, said: String::new() };
        let output = finish(command);
        assert!(!output.status.success(), "scaup mount should have failed: {}", said(&output));
        assert!(!is_mounted(&mountpoint), "scaup mount failed but left a mount behind: {}", said(&output));
        output
    }
}

/// A mount that stands. Dropping it unmounts, if need be by force and lazily, and ends the daemon.
pub struct Mount {
    mountpoint: PathBuf,
    unmount: Command,
    daemon: Option<u32>,
    said: String,
}

impl Mount {
    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// The path of `name` in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(name)
    }

    /// What `scaup mount` said on the way.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }

    /// The daemon's process id.
    #[must_use]
    pub fn daemon(&self) -> u32 {
        self.daemon.expect("status names the daemon of a mount that stands")
    }

    /// `scaup unmount`; panics unless it succeeds, the mount is gone, and so is the daemon.
    pub fn unmount(self, scaup: &Scaup) {
        let output = scaup.run([OsStr::new("unmount"), self.mountpoint.as_os_str()]);
        assert!(output.status.success(), "scaup unmount ended with {}: {}", output.status, said(&output));
        assert!(!is_mounted(&self.mountpoint), "scaup unmount returned 0 but the mount stands");
        if let Some(pid) = self.daemon {
            eventually("the daemon ends", Duration::from_secs(10), || !is_alive(pid));
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if is_mounted(&self.mountpoint) {
            let mut unmount = std::mem::replace(&mut self.unmount, Command::new("true"));
            if let Ok(mut child) = unmount.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
                for _ in 0..100 {
                    if !matches!(child.try_wait(), Ok(None)) || !is_mounted(&self.mountpoint) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if is_mounted(&self.mountpoint) {
            let _ = Command::new("umount").arg("-l").arg(&self.mountpoint).stderr(Stdio::null()).status();
        }
        if let Some(pid) = self.daemon.filter(|pid| is_alive(*pid)) {
            kill(&[pid]);
        }
    }
}

/// Whether something is mounted at `path`, by the kernel's table: asking the path itself could hang.
fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is readable");
    // proc(5): the fifth field is the mount point, with blanks and the like as octal escapes, which no test's path
    // needs.
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// Whether the process is there and not a zombie.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

fn finish(mut command: Command) -> Output {
    within(PATIENCE, move || command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
