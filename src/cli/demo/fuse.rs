//! The requirements of mounting on this machine: checked before anything begins, and installed where the person wants
//! that.

use std::fmt::Display;
use std::fs;
use std::io::{self, IsTerminal};
use std::process::Command;

use scaup_fuse::MountError;

use super::said::say;
use crate::cli::error::CliError;
use crate::cli::prompt;
use crate::daemon::protocol::FailureKind;

/// The program that mounts for ordinary users. Root needs none.
const HELPER: &str = "fusermount3";
/// The command that installs it on Debian and its derivatives.
const INSTALL: [&str; 5] = ["sudo", "apt-get", "install", "-y", "fuse3"];

/// Fails early where mounting would fail, with a remedy; offers to carry it out at a terminal.
pub(super) fn prepare() -> Result<(), CliError> {
    let is_missing = || !rustix::process::geteuid().is_root() && !is_there(HELPER);
    if is_missing() && is_there("sudo") && is_there("apt-get") && io::stdin().is_terminal() {
        offer_to_install()?;
    }
    if is_missing() {
        return Err(failure(MountError::NoFusermount));
    }
    match fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) => Err(failure(MountError::NoDevice(error))),
    }
}

fn offer_to_install() -> Result<(), CliError> {
    let command = INSTALL.join(" ");
    say(&format!("Mounting needs {HELPER}, which is missing here."))?;
    // A person who can't be asked has not agreed.
    let answer = prompt::ask(&format!("Install it now, by `{command}` (yes/no)? "), true);
    if !answer.is_ok_and(|answer| matches!(answer.trim(), "yes" | "y")) {
        return Ok(());
    }
    let [program, arguments @ ..] = INSTALL;
    let status = Command::new(program).args(arguments).status()?;
    if status.success() {
        return Ok(());
    }
    let hint = "on a new machine, run `sudo apt-get update` first";
    Err(failure(format!("`{command}` ended with {status}; {hint}")))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

fn failure(reason: impl Display) -> CliError {
    CliError::new(FailureKind::Fuse, reason)
}
