//! The settings of a mount. Each is written once: as a field here it is an option of the command line, a key of
//! bookmarks and a part of the request to the daemon. The texts of the fields are the help of the commands.
//!
//! A field that is not set was not given. What the command line gives counts before what the bookmark has (`over`),
//! and that before the default, which the function that reads the field returns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::lock_on::LockOn;
use super::mount_options::Options;
use super::paths;
use super::size::Size;
use super::ssh_config::Wanted;
use super::target::ServerTarget;

/// The default budget for cached and unsent content.
const MEMORY: Size = Size(128 << 20);
/// How long cached names and attributes are used by default, seconds.
const ATTR_TIMEOUT: u64 = 5;
/// How long an operation waits for a lost server by default, seconds.
const TIMEOUT: u64 = 60;

/// When a passphrase or password that a person typed is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Remember {
    /// A person is asked for how long.
    Ask,
    /// Nothing is remembered.
    Never,
    /// Until the user logs out.
    Session,
    /// On this computer.
    Always,
}

/// How a server is logged in to: all that a command needs that works without a mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct LoginSettings {
    /// The server's port
    #[arg(short)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The identity file: a private key
    #[arg(short, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
    /// Read this file instead of ~/.ssh/config (`none`: no file)
    #[arg(short = 'F', value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_config: Option<PathBuf>,
    /// What `-o` gives: those of the mount stand in the same list.
    #[command(flatten)]
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// Do not keep the key in locked memory; ask for its passphrase again when the connection was lost
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forget_key: bool,
    /// A command that prints the passphrase of the key
    #[arg(long, value_name = "CMD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_command: Option<String>,
    /// A command that prints the one-time code; it answers only prompts that ask for a code and nothing else (see the
    /// help of `scaup mount`)
    #[arg(long, value_name = "CMD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otp_command: Option<String>,
    /// Remember a passphrase or password that was typed, in the desktop's keyring: `ask` a person at the end, `never`,
    /// `session` until you log out, `always` on this computer [default: ask at a terminal, else never]
    #[arg(long, value_name = "WHEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remember: Option<Remember>,
    /// How long an operation waits for the server after the connection was lost, before it fails [default: 60]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl LoginSettings {
    /// Returns these settings, and from `below` what they do not give.
    ///
    /// # Errors
    ///
    /// If the options of both do not go together.
    pub fn over(self, below: Self) -> Result<Self, String> {
        Ok(Self {
            port: self.port.or(below.port),
            identity: self.identity.or(below.identity),
            ssh_config: self.ssh_config.or(below.ssh_config),
            options: self.options.over(below.options)?,
            forget_key: self.forget_key || below.forget_key,
            passphrase_command: self.passphrase_command.or(below.passphrase_command),
            otp_command: self.otp_command.or(below.otp_command),
            remember: self.remember.or(below.remember),
            timeout: self.timeout.or(below.timeout),
        })
    }

    /// Returns what `ssh_config` is asked about a server. Relative paths begin in `directory`.
    #[must_use]
    pub fn wanted(&self, server: &ServerTarget, directory: &Path) -> Wanted {
        let absolute =
            |path: &PathBuf| directory.join(paths::expand_home(path.clone())).components().collect();
        // `none` is not a file: as in ssh, it means that none is read.
        let is_none = self.ssh_config.as_ref().is_some_and(|path| path.as_os_str() == "none");
        Wanted {
            host: server.host.clone(),
            user: server.user.clone(),
            port: self.port.or(server.port),
            identity: self.identity.as_ref().map(absolute),
            config_file: if is_none {
                self.ssh_config.clone()
            } else {
                self.ssh_config.as_ref().map(absolute)
            },
            options: self.options.ssh.clone(),
            otp_for: self.options.otp_for.clone(),
            directory: directory.to_owned(),
        }
    }

    /// Returns when a typed secret is remembered. With `forget_key`, no secret is to stay anywhere.
    #[must_use]
    pub fn remember(&self) -> Remember {
        self.remember.filter(|_| !self.forget_key).unwrap_or(Remember::Never)
    }

    /// Returns how long an operation waits for a lost server.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(TIMEOUT).max(1))
    }
}

/// A command that prints what opens a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretCommand {
    /// Its password.
    Password(String),
    /// Its recovery key.
    RecoveryKey(String),
}

impl SecretCommand {
    /// Returns the command that was given. Of two, the one for the recovery key counts, which opens more.
    #[must_use]
    pub fn of(password: Option<String>, recovery_key: Option<String>) -> Option<Self> {
        recovery_key.map(Self::RecoveryKey).or(password.map(Self::Password))
    }
}

/// What is mounted, and how it behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct MountSettings {
    /// Never change anything on the server
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Unlock the vault at this path, relative to the target's directory (`.` is the directory itself); may be repeated
    #[arg(long = "vault", value_name = "PATH")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vaults: Vec<String>,
    /// Never look for vaults
    #[arg(long, conflicts_with = "vaults")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_vaults: bool,
    /// A command that prints the password of the vault named by $SCAUP_VAULT
    #[arg(long, value_name = "CMD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_password_command: Option<String>,
    /// A command that prints the recovery key of that vault, which opens it in place of its password
    #[arg(long, value_name = "CMD", conflicts_with = "vault_password_command")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_key_command: Option<String>,
    /// How much memory cached and unsent content may use together [default: 128M]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// How long names and attributes are cached before the server is asked again [default: 5]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attr_timeout: Option<u64>,
    /// Make closing a file wait until it is on the server's disk, and removing one until it is removed on the server
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sync_on_close: bool,
    /// Follow links in vaults that lead out of their vault; without this option they are refused
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow_outside: bool,
    /// Lock the vaults by themselves: when the machine goes to `sleep`, when the `screen` is locked or your session
    /// ends, after 15 minutes without use (`idle=15m`). Several are separated by commas; `never` locks them on request
    /// only [default: sleep]
    #[arg(long, value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_on: Option<LockOn>,
    /// Leave what other programs noted about a vault's files (previews, recent files, notes of file managers) where it
    /// is when the vault is locked or unmounted
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_sweep: bool,
    /// Make no backups of a vault's config and masterkey file; without this option each is copied beside itself when
    /// the vault is unlocked, unless there is such a backup, as Cryptomator does
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_backup: bool,
    /// Write cleartext names to the log, and the lines of libraries that SCAUP_LOG selects
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log_names: bool,
}

impl MountSettings {
    /// Returns these settings, and from `below` what they do not give.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        // The two are one setting: which vaults are looked for.
        let (vaults, no_vaults) = if self.no_vaults || !self.vaults.is_empty() {
            (self.vaults, self.no_vaults)
        } else {
            (below.vaults, below.no_vaults)
        };
        // These, too: what opens the vaults.
        let (vault_password_command, recovery_key_command) =
            match (self.vault_password_command, self.recovery_key_command) {
                (None, None) => (below.vault_password_command, below.recovery_key_command),
                given => given,
            };
        Self {
            read_only: self.read_only || below.read_only,
            vaults,
            no_vaults,
            vault_password_command,
            recovery_key_command,
            memory: self.memory.or(below.memory),
            attr_timeout: self.attr_timeout.or(below.attr_timeout),
            sync_on_close: self.sync_on_close || below.sync_on_close,
            follow_outside: self.follow_outside || below.follow_outside,
            lock_on: self.lock_on.or(below.lock_on),
            no_sweep: self.no_sweep || below.no_sweep,
            no_backup: self.no_backup || below.no_backup,
            log_names: self.log_names || below.log_names,
        }
    }

    /// Returns the command that prints what opens the vaults, if there is one.
    #[must_use]
    pub fn secret_command(&self) -> Option<SecretCommand> {
        SecretCommand::of(self.vault_password_command.clone(), self.recovery_key_command.clone())
    }

    /// Returns the budget for cached and unsent content, bytes.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.memory.unwrap_or(MEMORY).0
    }

    /// Returns what locks the vaults by itself.
    #[must_use]
    pub fn lock_on(&self) -> LockOn {
        self.lock_on.unwrap_or(LockOn::DEFAULT)
    }

    /// Returns how long names and attributes are believed.
    #[must_use]
    pub fn belief(&self) -> Duration {
        Duration::from_secs(self.attr_timeout.unwrap_or(ATTR_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_given_counts_before_what_lies_below_and_that_before_the_default() {
        let given = |timeout, options: &[&str]| LoginSettings {
            timeout,
            options: options.iter().map(|&it| it.to_owned()).collect::<Vec<_>>().try_into().unwrap(),
            ..LoginSettings::default()
        };
        let merged = given(Some(1), &["uid=1"]).over(given(Some(2), &["uid=2", "gid=2"])).unwrap();
        assert_eq!((merged.timeout, merged.options.uid, merged.options.gid), (Some(1), Some(1), Some(2)));
        assert_eq!(given(None, &[]).over(given(Some(2), &[])).unwrap().patience().as_secs(), 2);
        assert_eq!(LoginSettings::default().patience().as_secs(), TIMEOUT);

        let vaults = |vaults: &[&str], no_vaults| MountSettings {
            vaults: vaults.iter().map(|&it| it.to_owned()).collect(),
            no_vaults,
            ..MountSettings::default()
        };
        assert_eq!(vaults(&[], true).over(vaults(&["A"], false)), vaults(&[], true));
        assert_eq!(vaults(&["A"], false).over(vaults(&[], true)), vaults(&["A"], false));
        assert_eq!(vaults(&["A"], false).over(vaults(&["B"], false)), vaults(&["A"], false));
        assert_eq!(vaults(&[], false).over(vaults(&["B"], false)), vaults(&["B"], false));

        let command = |password: Option<&str>, key: Option<&str>| MountSettings {
            vault_password_command: password.map(str::to_owned),
            recovery_key_command: key.map(str::to_owned),
            ..MountSettings::default()
        };
        let password = Some(SecretCommand::Password("p".to_owned()));
        let key = Some(SecretCommand::RecoveryKey("k".to_owned()));
        assert_eq!(command(Some("p"), None).over(command(None, Some("k"))).secret_command(), password);
        assert_eq!(command(None, Some("k")).over(command(Some("p"), None)).secret_command(), key);
        assert_eq!(command(None, None).over(command(None, Some("k"))).secret_command(), key);
    }

    #[test]
    fn paths_begin_in_the_directory_of_the_command_or_at_home() {
        let server =
            ServerTarget { user: None, host: "host".into(), port: Some(1), directory: String::new() };
        let settings = LoginSettings {
            identity: Some("~/key".into()),
            ssh_config: Some("./config".into()),
            ..LoginSettings::default()
        };
        let wanted = settings.wanted(&server, Path::new("/somewhere"));
        assert_eq!(wanted.identity, Some(paths::home().join("key")));
        assert_eq!(wanted.config_file.as_deref(), Some(Path::new("/somewhere/config")));
        assert_eq!(wanted.port, Some(1));
        let settings =
            LoginSettings { ssh_config: Some("none".into()), port: Some(2), ..LoginSettings::default() };
        let wanted = settings.wanted(&server, Path::new("/somewhere"));
        assert_eq!((wanted.config_file, wanted.port), (Some("none".into()), Some(2)));
    }
}
