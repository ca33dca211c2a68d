//! Sync clients that run when they are told to: Unison and rclone.

use std::path::{Path, PathBuf};
use std::process::Command;

use scaup_rig::{need, run};

/// A sync client between two directories.
pub(super) trait SyncClient {
    /// From here on, it knows of no change until [`Self::sync`].
    fn pause(&self) {}
    /// Carries what was changed at either end to the other, until nothing is left to do.
    fn sync(&self);
}

/// How often a client is run after changes: what it does at first may be something for it to do next.
const RUNS: usize = 2;

pub(super) struct Unison {
    ends: [PathBuf; 2],
    home: PathBuf,
}

impl Unison {
    /// Makes the second directory like the first.
    pub(super) fn start(ends: &[PathBuf; 2], home: &Path) -> Self {
        need(&[("unison", "unison")]);
        let unison = Self { ends: ends.clone(), home: home.to_path_buf() };
        unison.run();
        unison
    }

    fn run(&self) {
        // Without a preference, or without copies, it leaves alone what is in conflict.
        run(Command::new("unison").args(&self.ends).env("HOME", &self.home).env("UNISON", &self.home).args(
            ["-batch", "-auto", "-silent", "-confirmbigdel=false", "-prefer=newer", "-copyonconflict"],
        ));
    }
}

impl SyncClient for Unison {
    fn sync(&self) {
        (0..RUNS).for_each(|_| self.run());
    }
}

pub(super) struct Rclone {
    ends: [PathBuf; 2],
    home: PathBuf,
}

impl Rclone {
    /// Makes the second directory like the first.
    pub(super) fn start(ends: &[PathBuf; 2], home: &Path) -> Self {
        need(&[("rclone", "rclone")]);
        let rclone = Self { ends: ends.clone(), home: home.to_path_buf() };
        rclone.run(&["--resync"]);
        rclone
    }

    fn run(&self, arguments: &[&str]) {
        run(Command::new("rclone")
            .env("HOME", &self.home)
            .arg("--config")
            .arg(self.home.join("rclone.conf"))
            .arg("bisync")
            .args(&self.ends)
            .arg("--workdir")
            .arg(self.home.join("bisync"))
            // It would refuse to remove more than half of the files.
            .arg("--force")
            .args(arguments));
    }
}

impl SyncClient for Rclone {
    fn sync(&self) {
        (0..RUNS).for_each(|_| self.run(&[]));
    }
}
