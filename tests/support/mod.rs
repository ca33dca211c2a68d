//! What several test files need of a mount and of the server's files.

// Each test file uses a part of it.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod front_end;
pub(crate) mod terminal;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use scaup_rig::{Answers, Fixture, Mount, Proxy, Scaup, Sshd, within};
use sha2::{Digest, Sha256};

/// How long work on a mount may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// The password of all fixtures.
pub(crate) const PASSWORD: &str = "correct horse battery stäple";

/// The error that a system call failed with.
pub(crate) fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    let error = result.unwrap_err();
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or_else(|| panic!("{error}")))
}

/// The program under test.
pub(crate) fn scaup() -> Scaup {
    Scaup::new(env!("CARGO_BIN_EXE_scaup"))
}

/// The names in a directory, sorted.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A server that lets the key in, with an empty vault in `Vault` of its files.
pub(crate) fn server_with_vault() -> Sshd {
    let sshd = Sshd::key_only().start();
    let vault = sshd.files().join("Vault");
    Fixture::unpack("empty-gcm").copy_vault_to(&vault);
    sshd.give(&vault);
    sshd
}

/// Longer than the pauses between messages that don't wait for each other.
const QUIET: Duration = Duration::from_millis(150);

/// The round trips that `work` takes on the road through `proxy`.
pub(crate) fn round_trips<T>(proxy: &Proxy, work: impl FnOnce() -> T) -> (u64, T) {
    proxy.lockstep(Some(QUIET));
    let before = proxy.round_trips();
    let done = work();
    let after = proxy.round_trips();
    proxy.lockstep(None);
    (after - before, done)
}

/// Pauses of a busy machine, and keepalives, count as round trips: so many are forgiven.
pub(crate) const FORGIVEN: u64 = 4;

/// SHA-256 in lower case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All that the program said.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs the program, which must end with `code`; returns all it said.
pub(crate) fn ends_with<A: AsRef<OsStr>>(
    scaup: &Scaup,
    code: i32,
    arguments: impl IntoIterator<Item = A>,
) -> String {
    let output = scaup.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    said(&output)
}

/// `length` bytes that no compression or block of zeros hides, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes a file that is on the server when this returns. (`syncfs` does not reach a FUSE daemon.)
pub(crate) fn write_synced(path: &Path, content: impl AsRef<[u8]>) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(content.as_ref()).unwrap();
    file.sync_all().unwrap();
}

/// A server with an empty vault made by Cryptomator in `Vault` and an empty directory `plain`, both mounted.
pub(crate) struct Drive {
    pub(crate) mount: Mount,
    pub(crate) scaup: Scaup,
    pub(crate) sshd: Sshd,
}

impl Drive {
    /// Mounts it, the vault unlocked.
    pub(crate) fn mounted() -> Self {
        Self::mounted_with(&[])
    }

    /// Mounts it with further arguments for `mount`.
    pub(crate) fn mounted_with(arguments: &[&str]) -> Self {
        Self::holding("empty-gcm", arguments)
    }

    /// Mounts it with another of Cryptomator's vaults in place of the empty one.
    pub(crate) fn holding(fixture: &str, arguments: &[&str]) -> Self {
        let sshd = Sshd::key_only().start();
        Fixture::unpack(fixture).copy_vault_to(&sshd.home().join("Vault"));
        fs::create_dir(sshd.home().join("plain")).unwrap();
        sshd.give(&sshd.home());
        let scaup = scaup();
        let mount = mount(&scaup, &sshd, arguments);
        Self { mount, scaup, sshd }
    }

    /// A mount of a server with a vault in `Vault`, whose password nobody but a front end knows.
    pub(crate) fn locked() -> Self {
        let sshd = Sshd::key_only().start();
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let scaup = scaup();
        let (askpass, _) = scaup.askpass(&Answers::default());
        let mount = scaup.mount_on(&sshd, "").askpass(&askpass).start();
        Self { mount, scaup, sshd }
    }

    /// Unmounts, and mounts again: what is read then comes from the server.
    pub(crate) fn remounted(self) -> Self {
        self.remounted_with(&[])
    }

    /// The same with further arguments for `mount`.
    pub(crate) fn remounted_with(self, arguments: &[&str]) -> Self {
        let Self { mount: old, scaup, sshd } = self;
        old.unmount(&scaup);
        let mount = mount(&scaup, &sshd, arguments);
        Self { mount, scaup, sshd }
    }

    /// A second mount of the same directory, as another client of the server would have.
    pub(crate) fn mounted_again(&self, arguments: &[&str]) -> Mount {
        mount(&self.scaup, &self.sshd, arguments)
    }

    /// The vault, decrypted.
    pub(crate) fn vault(&self) -> PathBuf {
        self.mount.join("Vault")
    }

    /// The directory beside it.
    pub(crate) fn plain(&self) -> PathBuf {
        self.mount.join("plain")
    }

    /// A path in the directory that is mounted, as the server has it.
    pub(crate) fn on_server(&self, path: &str) -> PathBuf {
        self.sshd.home().join(path)
    }

    /// The vault's only file, as the server has it.
    pub(crate) fn stored(&self) -> PathBuf {
        let found = shell(&self.on_server("Vault"), "find \"$PWD/d\" -type f ! -name dirid.c9r");
        assert_eq!(found.lines().count(), 1, "{found}");
        PathBuf::from(found.trim_end())
    }

    /// Saves a new file in the vault; returns where the server has it.
    pub(crate) fn store(&self, name: &str, content: &[u8]) -> PathBuf {
        let stored = || shell(&self.on_server("Vault"), "find \"$PWD/d\" -type f ! -name 'dir*.c9r'");
        let before = stored();
        fs::write(self.vault().join(name), content).unwrap();
        fs::File::open(self.vault().join(name)).unwrap().sync_all().unwrap();
        let after = stored();
        let mut new = after.lines().filter(|path| !before.lines().any(|known| known == *path));
        PathBuf::from(new.next().expect("it is on the server"))
    }

    /// What a server can do: makes a file of the vault a link to where the content of another says.
    pub(crate) fn make_link_of(&self, file: &Path, other: &Path) {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
        fs::copy(other, file.join("symlink.c9r")).unwrap();
        self.sshd.give(file);
    }

    /// Unmounts and does something with the server's files before they go.
    pub(crate) fn unmount_but(self, then: impl FnOnce()) {
        let Self { mount, scaup, sshd } = self;
        mount.unmount(&scaup);
        then();
        drop(sshd);
    }

    /// Unmounts; fails if something is left behind.
    pub(crate) fn unmount(self) {
        self.mount.unmount(&self.scaup);
    }
}

fn mount(scaup: &Scaup, sshd: &Sshd, arguments: &[&str]) -> Mount {
    scaup
        .mount_on(sshd, "")
        .answering(&Answers::default().vault(PASSWORD))
        .args(["--vault", "Vault"])
        .args(arguments)
        .start()
}

/// A directory of every kind of thing that a vault can hold.
pub(crate) fn fill(directory: &Path) {
    fs::create_dir_all(directory.join("a/b/c")).unwrap();
    fs::create_dir(directory.join("empty")).unwrap();
    for length in [0, 1, 32_767, 32_768, 32_769, 65_536, 1_000_000] {
        fs::write(directory.join(format!("{length} bytes")), noise(length as u64, length)).unwrap();
    }
    fs::write(directory.join("a/Grüße aus Köln.txt"), "Hallo").unwrap();
    fs::write(directory.join("a/b").join("long ".repeat(40)), "a shortened name").unwrap();
    fs::create_dir(directory.join("d".repeat(200))).unwrap();
    fs::write(directory.join("d".repeat(200)).join("in it"), "x").unwrap();
    fs::write(directory.join("run.sh"), "#!/bin/sh\necho it runs\n").unwrap();
    fs::set_permissions(directory.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.join("a/b/c/private"), "secret").unwrap();
    fs::set_permissions(directory.join("a/b/c/private"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../run.sh", directory.join("a/link")).unwrap();
    symlink("nowhere", directory.join("dangling")).unwrap();
}

/// Runs a shell script with `sh -eu` in `directory` with `HOME` there too; panics with all it said if it fails.
pub(crate) fn shell(directory: &Path, script: &str) -> String {
    let output = shell_output(directory, script);
    assert!(output.status.success(), "{script}\nended with {}: {}", output.status, said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Like [`shell`], but failing is an answer too.
pub(crate) fn shell_output(directory: &Path, script: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(directory).env("LC_ALL", "C.UTF-8");
    within(PATIENCE, move || command.output().unwrap())
}

/// Everything below `directory`: mode, time of change, and content of each place. Links are not followed.
pub(crate) fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(at) = waiting.pop() {
        let metadata = fs::symlink_metadata(&at).unwrap();
        let content = if metadata.is_dir() {
            waiting.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if metadata.is_symlink() {
            sha256(fs::read_link(&at).unwrap().as_os_str().as_bytes())
        } else {
            sha256(&fs::read(&at).unwrap())
        };
        let relative = at.strip_prefix(directory).unwrap().to_path_buf();
        found.insert(
            relative,
            format!("{:o} {}.{:09} {content}", metadata.mode(), metadata.mtime(), metadata.mtime_nsec()),
        );
    }
    found
}

/// One member of the only mount's status.
pub(crate) fn status(scaup: &Scaup, pointer: &str) -> serde_json::Value {
    scaup.status().pointer(&format!("/mounts/0{pointer}")).expect("status has it").clone()
}

/// A number that the kernel says of a process (proc_pid_status(5)): of memory, KiB.
pub(crate) fn of_process(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// A tool that `cargo install` puts in place (`tests/run tools`).
pub(crate) fn tool(name: &str) -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cargo"),
        PathBuf::from,
    );
    let path = home.join("bin").join(name);
    assert!(path.is_file(), "{} is missing; please run: tests/run tools", path.display());
    path
}

/// So many reads, writes, truncations and mappings at random places, each compared with what must be there.
pub(crate) fn fsx(directory: &Path, operations: u32) {
    let mut command = Command::new(tool("fsx"));
    command.args(["-N", &operations.to_string(), "-S", "42"]).arg(directory.join("fsx"));
    let patience = PATIENCE + Duration::from_millis(50) * operations;
    let output = within(patience, move || command.output().unwrap());
    assert!(output.status.success(), "fsx ended with {}: {}", output.status, said(&output));
}
