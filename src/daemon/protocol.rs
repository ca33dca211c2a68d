//! The protocol between a daemon and its front ends: one JSON object a line, over a Unix socket
//! (docs/control-protocol.md).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use scaup_sftp::text::Line;
use serde::de::{IntoDeserializer, value};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::lock_on::LockOn;
use crate::config::settings::{LoginSettings, MountSettings};
use crate::config::target::Target;

/// Shown before a person is asked for the password of a vault on a server: what is typed from here on stays on this
/// machine.
pub const LOGIN_HAS_ENDED: &str = "the login has ended: what is asked for next is not sent to the server";

/// The question for the password of a vault.
#[must_use]
pub fn password_question(vault: &str) -> String {
    format!("Password for vault {}: ", Line::of(vault))
}

/// The question for the recovery key of a vault.
#[must_use]
pub fn recovery_key_question(vault: &str) -> String {
    format!("Recovery key for vault {}: ", Line::of(vault))
}

/// The question for the new password of a vault that is being created, or gets another one.
#[must_use]
pub fn new_password_question(vault: &str) -> String {
    format!("New password for vault {}: ", Line::of(vault))
}

/// Longest request through the control socket, as a line, bytes: enough for a path or a secret, and little for each of
/// many front ends.
pub const REQUEST_LEN_MAX: usize = 8 * 1024;

/// Longest request of the process that started the daemon, as a line, bytes: enough for a whole command line.
pub const MOUNT_REQUEST_LEN_MAX: usize = 1024 * 1024;

/// A version of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Two sides that differ in it can't talk to each other.
    pub major: u32,
    /// It grows when requests, events or fields are added.
    pub minor: u32,
}

impl Version {
    /// The version that this program speaks.
    pub const OWN: Self = Self { major: 1, minor: 2 };
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// A request of a front end, or its answer to a prompt.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The version that the front end speaks: what each conversation begins with. The daemon returns its own, and ends
    /// the conversation if the major versions differ.
    Hello(Version),
    /// Connect and mount. Only from the process that started the daemon.
    Mount(Box<MountRequest>),
    /// Report the state of the mount.
    Status,
    /// Report the state of the mount now and after each change, at most four times a second, until the front end
    /// leaves. The conversation is for nothing else from then on.
    Watch,
    /// Save everything and end; with `force` even if something can't be saved. A mount that is still being set up is
    /// given up.
    Unmount {
        /// Lose changes that can't be saved, and unmount even while something is open.
        force: bool,
        /// How long saving is tried, seconds; once if `None`.
        #[serde(default)]
        wait: Option<u64>,
    },
    /// Unlock a vault, by its path below the mount; the only locked one if none is named. The daemon asks for its
    /// password.
    Unlock {
        /// The vault's path.
        vault: Option<String>,
        /// Whether this front end is asked for it even if the mount has a command that prints the password.
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
    /// Find out where paths are.
    Which {
        /// What the paths are, and which ones are wanted for them.
        of: WhichOf,
        /// The paths: below the mount, or of the server, whole or below the mounted directory.
        paths: Vec<String>,
    },
    /// The answer to an [`Event::Prompt`], or the reason why there is none.
    Answer {
        /// The prompt's number.
        id: u64,
        /// The typed text.
        answer: Result<Secret, String>,
    },
}

/// A secret on its way: wiped when dropped, and never printed.
#[derive(Serialize, Deserialize)]
pub struct Secret(pub Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// A message of the daemon to a front end.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// The version that the daemon speaks: its reply to [`Request::Hello`].
    Hello(Version),
    /// A step that went well, in a few words.
    Progress(String),
    /// The changes left to be saved, repeated until there are none.
    Saving(UnsavedEntry),
    /// A question for a person.
    Prompt(Prompt),
    /// The mount is ready.
    Mounted {
        /// The mount's name.
        name: String,
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// The state of the mount.
    Status(Box<MountStatus>),
    /// Where the paths of a [`Request::Which`] are, in their order.
    Which(Vec<WhichEntry>),
    /// The request is done.
    Done,
    /// The request failed.
    Failed(Failure),
}

/// What a [`Request::Which`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhichOf {
    /// For paths below the mount, those of the server; of a directory in a vault, its node.
    Node,
    /// The same; of a directory in a vault, the directory with its content.
    Content,
    /// For paths of the server, those below the mount.
    Shown,
}

/// Where a path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhichEntry {
    /// At this path: of the server, or below the mount.
    At(String),
    /// In this vault, which is locked, or perhaps in it.
    Locked(String),
    /// Nowhere, as far as is known.
    Nowhere {
        /// Whether it may lie in a directory that can't be read.
        is_partial: bool,
    },
}

/// A question for a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prompt {
    /// Its number, to be repeated in the answer.
    pub id: u64,
    /// The question.
    #[serde(flatten)]
    pub question: UserQuestion,
}

/// What a person is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserQuestion {
    /// What is asked for.
    pub kind: PromptKind,
    /// What the answer is for: `user@host` for a server's questions, the host for its key, the file for the passphrase
    /// of a key, the vault's path below the mount for anything about a vault; empty for what was typed in all.
    pub destination: String,
    /// How many times this question was asked, with this time: in one login, or for one unlocking.
    pub attempt: u32,
    /// The text, word for word.
    pub text: String,
    /// Whether the typed text may be shown.
    pub echo: bool,
}

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// The passphrase of a key file.
    Passphrase,
    /// A one-time code.
    Code,
    /// The user's password on the server.
    Password,
    /// The password of a vault. `r` for an answer asks for its recovery key instead.
    VaultPassword,
    /// The recovery key of a vault.
    RecoveryKey,
    /// Whether an unknown server is the right one: `yes`, or anything else.
    HostKey,
    /// Anything else; for a server's own words, they say what.
    Other,
}

/// A failure, whose kind gives the exit code of the command that asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// Its class.
    pub kind: FailureKind,
    /// A message: the failure, its object, and a remedy to try.
    pub message: String,
}

impl Failure {
    /// Creates a failure of a class, from anything that can be displayed.
    pub fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

/// Classes of failures: each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Any other failure.
    Other,
    /// Wrong use of the command line.
    Usage,
    /// The login was refused.
    Login,
    /// A failure with the server's host key.
    HostKey,
    /// A failure with a vault.
    Vault,
    /// The server can't be reached.
    Unreachable,
    /// The FUSE mount failed.
    Fuse,
    /// Some changes are not on the server.
    Unsaved,
    /// Something was left on a server that should not be there.
    LeftBehind,
}

impl FailureKind {
    /// Returns the exit code of commands and of a mount's process, on which scripts rely.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Login => 3,
            Self::HostKey => 4,
            Self::Vault => 5,
            Self::Unreachable => 6,
            Self::Fuse => 7,
            Self::Unsaved => 8,
            Self::LeftBehind => 9,
        }
    }
}

/// Everything that is needed to reach a target. It holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// The target.
    pub target: Target,
    /// The user's working directory: commands run there, and relative paths begin there.
    pub directory: PathBuf,
    /// How the server is logged in to.
    pub settings: LoginSettings,
}

/// Everything that a daemon needs to know to mount. It holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// The mount's name.
    pub name: String,
    /// How its target is reached.
    pub login: LoginRequest,
    /// What is mounted, and how it behaves.
    pub settings: MountSettings,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// Whether a person can be asked: without one, vaults that were not named stay locked.
    pub interactive: bool,
    /// Whether that person sits at a terminal.
    pub terminal: bool,
    /// Whether the mount ends with the front end that asked for it.
    pub foreground: bool,
}

/// The activity of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountState {
    /// The connection to the server is being established.
    Connecting,
    /// The server is connected and replies.
    Connected,
    /// The connection is lost and being re-established.
    Reconnecting,
    /// The daemon waits for an answer from a person.
    WaitingForAnswer,
    /// The daemon is ending.
    Unmounting,
}

/// One mount, as `status --json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStatus {
    /// The mount's name.
    pub name: String,
    /// The mounted target.
    pub target: String,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The daemon's process.
    pub pid: u32,
    /// The daemon's activity.
    pub state: MountState,
    /// When this state began, RFC 3339.
    pub since: String,
    /// The reason for this state: what the daemon waits for, or why it has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the server does not do, as far as that is known by now, in sentences.
    #[serde(default)]
    pub weaknesses: Vec<String>,
    /// What locks the vaults by itself.
    #[serde(default = "LockOn::never")]
    pub lock_on: LockOn,
    /// The vaults that were found.
    pub vaults: Vec<VaultEntry>,
    /// The changes that are not on the server.
    pub unsaved: UnsavedEntry,
    /// Recent errors, newest first.
    pub errors: Vec<ErrorEntry>,
    /// Latencies of the kernel's requests, by operation. Operations that were never requested are left out.
    #[serde(default)]
    pub latencies: BTreeMap<String, LatencyEntry>,
    /// Requests of the kernel that have no reply yet, the oldest first.
    #[serde(default)]
    pub in_flight: Vec<InFlightEntry>,
    /// Counters of the work done so far.
    pub counters: CounterEntry,
}

/// Latency of the requests of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyEntry {
    /// How many requests got a reply.
    pub count: u64,
    /// Median latency, microseconds, to 10 %.
    pub median_us: u64,
    /// 95th percentile of the latency, microseconds, to 10 %.
    pub p95_us: u64,
}

/// A request of the kernel that has no reply yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightEntry {
    /// The requested operation.
    pub operation: String,
    /// When the request came, RFC 3339, to the millisecond.
    pub since: String,
}

/// A vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultEntry {
    /// Its path below the mount; `.` for the mount itself.
    pub path: String,
    /// Whether it is open.
    pub state: VaultEntryState,
    /// The reason why it is unsupported, or what locked it by itself, or the object that the server shows in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its id, which a copy of it shares; formats before 8 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The vault format.
    pub format: Option<u32>,
    /// `SIV_GCM` or `SIV_CTRMAC`.
    pub cipher_combo: Option<String>,
}

/// Whether a vault is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultEntryState {
    /// Its content is shown.
    Unlocked,
    /// A password would open it.
    Locked,
    /// Scaup can't open it.
    Unsupported,
}

impl fmt::Display for VaultEntryState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde asks for it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The changes that are not on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsavedEntry {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Removals that were confirmed to programs but not yet carried out by the server. Left out where there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removals: u64,
}

/// An error that occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// When it occurred, RFC 3339.
    pub time: String,
    /// The kind of error.
    pub kind: ErrorEntryKind,
    /// The error in one sentence.
    pub message: String,
}

/// The kind of an error that occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorEntryKind {
    /// Others changed a file that was changed here.
    Conflict,
    /// Something on the server is not as its vault's format says.
    Damaged,
    /// Large packets do not get through to the server.
    #[serde(rename = "large-packets")]
    LargePackets,
    /// A link was not followed.
    Link,
    /// A directory that was removed on the server was made again for what is in it.
    MadeAgain,
    /// Something was not moved.
    NotMoved,
    /// Something was not removed.
    NotRemoved,
    /// The server failed.
    Server,
    /// A file could not be saved.
    Unsaved,
    /// A vault is not as it was.
    Vault,
    /// A kind that a later version added.
    #[serde(untagged)]
    Other(String),
}

impl From<&str> for ErrorEntryKind {
    fn from(word: &str) -> Self {
        let known: Result<_, value::Error> = Self::deserialize(word.into_deserializer());
        known.unwrap_or_else(|_| Self::Other(word.to_owned()))
    }
}

impl fmt::Display for ErrorEntryKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// Counters of the work done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Chunks served from the cache.
    pub cache_hits: u64,
    /// Number of reconnects.
    pub reconnects: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_kind_of_error_is_one_word_in_both_directions() {
        let words = [
            ("conflict", ErrorEntryKind::Conflict),
            ("damaged", ErrorEntryKind::Damaged),
            ("large-packets", ErrorEntryKind::LargePackets),
            ("link", ErrorEntryKind::Link),
            ("made_again", ErrorEntryKind::MadeAgain),
            ("not_moved", ErrorEntryKind::NotMoved),
            ("not_removed", ErrorEntryKind::NotRemoved),
            ("server", ErrorEntryKind::Server),
            ("unsaved", ErrorEntryKind::Unsaved),
            ("vault", ErrorEntryKind::Vault),
            ("of tomorrow", ErrorEntryKind::Other("of tomorrow".to_owned())),
        ];
        for (word, kind) in words {
            assert_eq!(ErrorEntryKind::from(word), kind);
            assert_eq!(kind.to_string(), word);
            assert_eq!(serde_json::to_value(&kind).unwrap(), word);
            assert_eq!(serde_json::from_value::<ErrorEntryKind>(word.into()).unwrap(), kind);
        }
    }
}
