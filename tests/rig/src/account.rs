//! Accounts that tests log in to.
//!
//! A test server needs a user, a home, a PAM service and a copy of sshd that are its own. Accounts `scaup-test0`,
//! `scaup-test1`… are made as needed and stay; a rig holds one by a file lock, so tests in many processes never share
//! one.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{STATE, lock, need_root};
use crate::process::{descendants, kill, run, runs};

/// More servers than any test run needs at once.
const ACCOUNTS: u32 = 64;

/// An account held until this is dropped.
pub(crate) struct Account {
    name: String,
    directory: PathBuf,
    uid: u32,
    gid: u32,
    _held: File,
}

impl Account {
    /// Takes a free account, with an empty directory and an empty home.
    pub(crate) fn take() -> Self {
        need_root();
        fs::create_dir_all(STATE).expect("the rig's state directory can be made");
        let (number, held) = (0..ACCOUNTS)
            .find_map(|number| {
                let file = File::create(Path::new(STATE).join(format!("{number}.lock")))
                    .expect("the lock file can be made");
                match file.try_lock() {
                    Ok(()) => Some((number, file)),
                    Err(TryLockError::WouldBlock) => None,
                    Err(TryLockError::Error(error)) => panic!("locking a test account: {error}"),
                }
            })
            .unwrap_or_else(|| panic!("all {ACCOUNTS} test accounts are in use"));
        let name = format!("scaup-test{number}");
        let directory = Path::new(STATE).join(number.to_string());
        let (uid, gid) = ids(&name).unwrap_or_else(|| {
            // useradd gives up when another process edits the account files.
            let _one_at_a_time = lock("accounts.lock");
            let home = directory.join("home");
            run(Command::new("useradd")
                .args(["--no-create-home", "--shell", "/bin/sh", "--user-group", "--home-dir"])
                .arg(home)
                .arg(&name));
            ids(&name).expect("useradd made the account")
        });
        let account = Self { name, directory, uid, gid, _held: held };
        account.end_leftovers();
        account.clear();
        fs::create_dir(&account.directory).expect("the account's directory can be made");
        fs::create_dir(account.home()).expect("the home can be made");
        account.give(&account.home());
        account
    }

    /// The user's name; also that of the PAM service and of the copy of sshd.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The rig's own directory, of root; the home lies in it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The user's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// The copy of sshd: its name is what sshd takes for its PAM service.
    pub(crate) fn sshd(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Where the running sshd's process id stands.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join("sshd.pid")
    }

    /// Gives `path` to the user.
    pub(crate) fn give(&self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid)).expect("root may give files away");
    }

    /// Ends a server that a killed test process left behind.
    fn end_leftovers(&self) {
        let Some(pid) = fs::read_to_string(self.pid_file()).ok().and_then(|text| text.trim().parse().ok())
        else {
            return;
        };
        if runs(pid, &self.sshd()) {
            let mut family = descendants(pid);
            family.insert(0, pid);
            kill(&family);
        }
    }

    fn clear(&self) {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("clearing {}: {error}", self.directory.display())
            }
            _ => {}
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // A test that fails should show its own reason, not that its files could not be removed; the next holder clears
        // them.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// User and group number of an account, if it exists.
fn ids(name: &str) -> Option<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let account = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))?;
    Some((account.get(2)?.parse().ok()?, account.get(3)?.parse().ok()?))
}
