//! Why a file can't be shared, or a share can't be changed.

use std::path::PathBuf;

use scaup_sftp::text::Line;

use crate::config::size;
use crate::dav::DavError;

/// Why a file can't be shared, or a share can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The file can't be opened.
    #[error("{}: {source}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is a directory, a device, or something else without content of its own.
    #[error("{} is not a file: only a single file can be shared", .0.display())]
    NotAFile(PathBuf),
    /// The file lies in a vault that is locked.
    #[error("the vault {vault} of {mount} is locked: unlock it with `scaup unlock {mount} {vault}`")]
    Locked {
        /// The vault's path in the mount.
        vault: Line,
        /// The mount's name.
        mount: String,
    },
    /// Nobody says what is mounted there: the file may lie in a vault that is locked.
    #[error(
        "no process says what is in the mount {} ({kind}), and the file may be in a vault that is locked: run this as the user who mounted it, in the same session (XDG_RUNTIME_DIR); if the mount is another program's, such as sshfs, share a copy of the file",
        .place.display()
    )]
    UnknownMount {
        /// Where it is mounted.
        place: PathBuf,
        /// Its type.
        kind: String,
    },
    /// The server has no links.
    #[error("{host} permits no links: its administrator has switched them off")]
    LinksForbidden {
        /// Its host.
        host: String,
    },
    /// The link would last too long.
    #[error("the server permits links for {days} days at most: use --days {days} or fewer")]
    TooManyDays {
        /// The longest time, days.
        days: i32,
    },
    /// The link would end before it begins.
    #[error("the link would end before anybody can use it: it lasts one day at least")]
    EndsBeforeItBegins,
    /// No calendar has that day.
    #[error("no calendar has a day that far away")]
    NoSuchDay,
    /// The clocks differ so much that the end would be wrong.
    #[error(
        "the clock of {host} and the one of this machine differ by {hours} hours, so the link would end at a wrong time: set this machine's clock, or tell the server's administrator"
    )]
    Clock {
        /// Its host.
        host: String,
        /// By how much they differ.
        hours: i64,
    },
    /// The server would refuse the file's name.
    #[error("the server does not accept the name {name} ({why}): give it another one with --as NAME")]
    Name {
        /// The name.
        name: Line,
        /// Why.
        why: String,
    },
    /// The user's own password or passphrase is empty.
    #[error("the command of --password-command printed nothing: leave it out, and Scaup makes a password")]
    EmptySecret,
    /// The server would refuse the user's own password.
    #[error(
        "the server does not accept the password: {0}; choose another one, or leave --password-command out: Scaup makes one that fits"
    )]
    OwnPassword(Line),
    /// The server would refuse all passwords that Scaup makes.
    #[error(
        "the server accepts no password that Scaup makes ({0}): give one of your own with --password-command CMD"
    )]
    MadePassword(Line),
    /// There is not enough room.
    #[error(
        "there is no room for it on {host}: {} are free, the file needs {}; free some of the quota, for example by `scaup share prune`, ask for more, or share by another account (--account NAME)",
        size::show(*.free),
        size::show(*.needed)
    )]
    NoRoom {
        /// Its host.
        host: String,
        /// How much is free, bytes.
        free: u64,
        /// How much it needs, bytes.
        needed: u64,
    },
    /// The server makes no more links for a while.
    #[error(
        "{host} makes no more than 20 links in ten minutes (or has seen too many wrong logins from this network): try again in ten minutes"
    )]
    TooManyLinks {
        /// Its host.
        host: String,
    },
    /// The server made no link.
    #[error(
        "{host} made no link ({status}{}): its administrator may have forbidden links for you; ask them",
        .message.as_ref().map_or_else(String::new, |message| format!(", {message}"))
    )]
    LinkRefused {
        /// Its host.
        host: String,
        /// The HTTP status (RFC 9110).
        status: u16,
        /// The server's own words.
        message: Option<Line>,
    },
    /// The server made the link differently.
    #[error(
        "the server made a link that is not what was asked for: {0}; it was not kept: tell the server's administrator"
    )]
    NotAsAsked(String),
    /// The encryption failed.
    #[error("the file can't be encrypted: {0}")]
    Encryption(#[from] scaup_crypto::age::AgeError),
    /// The system gives no random numbers.
    #[error("this system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// There is no such share.
    #[error("no share {0}; `scaup share list` shows them")]
    NoSuchShare(String),
    /// The folder of a share holds what Scaup did not put there.
    #[error("the folder {0} holds other files, too: it is left; look at it in the web interface")]
    Foreign(Line),
    /// A copy could not be removed from the trash.
    #[error(
        "the link and the file are gone, but a copy may be left in the trash there: {0}; empty it in the web interface"
    )]
    InTrash(#[source] DavError),
    /// The server keeps another day than it was asked for.
    #[error("the server keeps another day than it was asked for: the link ends {0}")]
    OtherDay(String),
    /// The share has no link any more.
    #[error("share {0} has no link any more: share the file again")]
    NoLink(String),
    /// The server refused, or can't be reached.
    #[error(transparent)]
    Dav(#[from] DavError),
    /// A share could not be removed to its end.
    #[error(
        "{cause}\nshare {id} is not removed: on {host} there may still be {left}\ngo on with: scaup share revoke {id} --account {account}"
    )]
    NotRemoved {
        /// Why it stopped.
        cause: Box<ShareError>,
        /// Its id.
        id: String,
        /// The server's host.
        host: String,
        /// What may be left.
        left: &'static str,
        /// The account's name.
        account: String,
    },
    /// Something was left on the server.
    #[error("{cause}\nthis could not be undone: on {host} there may be {}\nremove it with: {command}", .left.join(" and "))]
    LeftBehind {
        /// Why the work failed.
        cause: Box<ShareError>,
        /// The server's host.
        host: String,
        /// What is left.
        left: Vec<&'static str>,
        /// What removes it.
        command: String,
    },
}
