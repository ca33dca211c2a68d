//! Why a file can't be shared, or a share can't be changed.

use std::path::PathBuf;

use scaup_sftp::text::Line;

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
    /// The server would refuse the password.
    #[error("the server does not accept the password: {0}")]
    Password(Line),
    /// There is not enough room.
    #[error("there is no room for it on {host}: {free} bytes are free, the file needs {needed}")]
    NoRoom {
        /// Its host.
        host: String,
        /// How much is free, bytes.
        free: u64,
        /// How much it needs, bytes.
        needed: u64,
    },
    /// The server makes no more links for a while.
    #[error("{host} makes no more than 20 links in ten minutes: try again a little later")]
    TooManyLinks {
        /// Its host.
        host: String,
    },
    /// The server made the link differently.
    #[error("the server made a link that is not what was asked for: {0}")]
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
