//! What a daemon and its front ends say to each other: one JSON object a line, over a Unix socket.

use std::path::PathBuf;

use scaup_sftp::text::Line;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::mount_options::SortedOptions;
use crate::config::target::Target;

/// Told before a person is asked for the password of a vault on a server: from here on, what is typed is for this machine alone.
pub const LOGIN_HAS_ENDED: &str = "the login has ended: what is asked for next is not sent to the server";

/// The question for the password of a vault.
#[must_use]
pub fn password_question(vault: &str) -> String {
    format!("Password for vault {}: ", Line::of(vault))
}

/// The question for the password of a vault that is being made.
#[must_use]
pub fn new_password_question(vault: &str) -> String {
    format!("New password for vault {}: ", Line::of(vault))
}

/// Longest request through the control socket, as a line, bytes: a path or a secret has room, and any number of front ends cost little.
pub const REQUEST_LEN_MAX: usize = 8 * 1024;

/// Longest request of the process that started the daemon, as a line, bytes: all of a command line has room.
pub const MOUNT_REQUEST_LEN_MAX: usize = 1024 * 1024;

/// What a front end asks for, or answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Connect and mount. Only from the process that started the daemon.
    Mount(Box<MountRequest>),
    /// Say how things are.
    Status,
    /// Save everything and end; with `force` even if something can't be saved. One that does not stand yet is given up.
    Unmount {
        /// Lose what can't be saved, and let go even while something is open.
        force: bool,
        /// How long saving is tried, seconds; once if `None`.
        #[serde(default)]
        wait: Option<u64>,
    },
    /// Unlock a vault, by its path below the mount; the only locked one if none is named. Its password is asked for.
    Unlock {
        /// The vault's path.
        vault: Option<String>,
        /// Whether this front end is asked even if the mount has a command that prints the password.
        #[serde(default)]
        asks_front_end: bool,
    },
    /// Log in again now, asking this front end, if the connection is lost.
    Login,
    /// Lock a vault; the only unlocked one if none is named.
    Lock {
        /// The vault's path.
        vault: Option<String>,
    },
    /// The answer to a [`Event::Prompt`], or why there is none.
    Answer {
        /// The prompt's number.
        id: u64,
        /// What was typed.
        answer: Result<Secret, String>,
    },
}

/// A secret on its way: wiped when dropped, and not printed.
#[derive(Serialize, Deserialize)]
pub struct Secret(pub Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// What a daemon tells a front end.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// Something that went well, in a few words.
    Progress(String),
    /// What is left to be saved, again and again until nothing is.
    Saving(UnsavedEntry),
    /// A question for a person.
    Prompt(Prompt),
    /// The mount point answers.
    Mounted {
        /// The mount's name.
        name: String,
        /// Where.
        mountpoint: PathBuf,
    },
    /// How things are.
    Status(Box<MountStatus>),
    /// What was asked for is done.
    Done,
    /// What was asked for failed.
    Failed(Failure),
}

/// A question for a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prompt {
    /// Its number, to be repeated in the answer.
    pub id: u64,
    /// Its text, word for word.
    pub text: String,
    /// Whether what is typed may be shown.
    pub echo: bool,
    /// The vault whose password is asked for, by its path below the mount; `None` if something else is.
    pub vault: Option<String>,
}

/// A failure, and with which code the command that asked ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// Its class.
    pub kind: FailureKind,
    /// What failed, on what, and what to try.
    pub message: String,
}

impl Failure {
    /// A failure of a class, from anything that can be shown.
    pub fn new(kind: FailureKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

/// Classes of failures: each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Anything else.
    Other,
    /// Wrong use of the command line.
    Usage,
    /// The login was refused.
    Login,
    /// The server's host key.
    HostKey,
    /// A vault.
    Vault,
    /// The server can't be reached.
    Unreachable,
    /// The FUSE mount.
    Fuse,
    /// Something is not on the server.
    Unsaved,
}

/// Everything a daemon needs to know. No secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountRequest {
    /// The mount's name.
    pub name: String,
    /// What to mount.
    pub target: Target,
    /// Where.
    pub mountpoint: PathBuf,
    /// Where the user is: commands run there, and paths that are not absolute begin there.
    pub directory: PathBuf,
    /// The identity file named by the user.
    pub identity: Option<PathBuf>,
    /// Instead of `~/.ssh/config`.
    pub ssh_config: Option<PathBuf>,
    /// What `-o` said.
    pub options: SortedOptions,
    /// Nothing is ever changed on the server.
    pub read_only: bool,
    /// Vaults to unlock, by their paths below the target.
    pub vaults: Vec<String>,
    /// Never look for vaults.
    pub no_vaults: bool,
    /// Whether the key's passphrase is asked for at every login, and not only at the first.
    pub forget_key: bool,
    /// Prints the passphrase of the key.
    pub passphrase_command: Option<String>,
    /// Prints the one-time code.
    pub otp_command: Option<String>,
    /// Prints the password of a vault.
    pub vault_password_command: Option<String>,
    /// The memory budget, bytes.
    pub memory: u64,
    /// How long names and attributes are believed, seconds.
    pub attr_timeout: u64,
    /// How long an operation waits for a lost server, seconds.
    pub timeout: u64,
    /// Whether closing a file waits for the server.
    pub sync_on_close: bool,
    /// Whether links in vaults may lead anywhere.
    pub follow_outside: bool,
    /// Whether the log may hold clear names.
    pub log_names: bool,
    /// Whether a person can be asked: without one, vaults that nobody named are left locked.
    pub interactive: bool,
    /// Whether that person sits at a terminal.
    pub terminal: bool,
    /// Whether the mount ends with the front end that asked for it.
    pub foreground: bool,
}

/// What the daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountState {
    /// On the way to the server.
    Connecting,
    /// The server answers.
    Connected,
    /// The server is lost, and being looked for.
    Reconnecting,
    /// A person has to answer.
    WaitingForAnswer,
    /// Ending.
    Unmounting,
}

/// One mount, as `status --json` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountStatus {
    /// The mount's name.
    pub name: String,
    /// What is mounted.
    pub target: String,
    /// Where.
    pub mountpoint: PathBuf,
    /// The daemon's process.
    pub pid: u32,
    /// What it is doing.
    pub state: MountState,
    /// Since when, RFC 3339.
    pub since: String,
    /// What it waits for, or why it has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The vaults that were met.
    pub vaults: Vec<VaultEntry>,
    /// What is not on the server.
    pub unsaved: UnsavedEntry,
    /// What went wrong, newest first.
    pub errors: Vec<ErrorEntry>,
    /// What was done so far.
    pub counters: CounterEntry,
}

/// A vault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VaultEntry {
    /// Its path below the mount; `.` for the mount itself.
    pub path: String,
    /// `unlocked`, `locked` or `unsupported`.
    pub state: String,
    /// Why it is unsupported, or what the server shows in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The vault format.
    pub format: Option<u32>,
    /// `SIV_GCM` or `SIV_CTRMAC`.
    pub cipher_combo: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde asks for it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is not on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsavedEntry {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Removals that programs were told of and the server has not done. Left out where there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removals: u64,
}

/// Something that went wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// When, RFC 3339.
    pub time: String,
    /// A short word for its kind.
    pub kind: String,
    /// One sentence.
    pub message: String,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CounterEntry {
    /// SFTP requests.
    pub sftp_requests: u64,
    /// Bytes from the server.
    pub bytes_received: u64,
    /// Bytes to the server.
    pub bytes_sent: u64,
    /// Chunks decrypted.
    pub chunks_decrypted: u64,
    /// Chunks encrypted.
    pub chunks_encrypted: u64,
    /// Chunks answered from memory.
    pub cache_hits: u64,
    /// Times the connection was made anew.
    pub reconnects: u64,
}
