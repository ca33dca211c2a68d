//! What a server does not do, or does in a way of its own, and what that means to the person whose files lie there.

use std::sync::atomic::{AtomicU16, Ordering};

/// One weakness of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// It does not offer `posix-rename@openssh.com`.
    ReplacesInSteps,
    /// It does not offer `fsync@openssh.com`.
    ConfirmsNothing,
    /// It does not offer `limits@openssh.com`.
    SmallRequests,
    /// It does not offer `statvfs@openssh.com`.
    CountsNoSpace,
    /// It does not offer `hardlink@openssh.com`.
    NoHardLinks,
    /// It does not offer `lsetstat@openssh.com`.
    NoLinkAttributes,
    /// It does not offer `fstatvfs@openssh.com`, as all do that read by handles which also write.
    SeparateReading,
    /// It was seen to empty a file that is opened for writing (`rclone serve sftp`).
    EmptiesFiles,
    /// It was seen to carry out requests in another order than that in which they were sent (Go's `pkg/sftp`).
    Reorders,
    /// Its handles go by the names of files (the request server of Go's `pkg/sftp`, paramiko's example).
    LosesRenamedFiles,
    /// It was seen to refuse FSETSTAT.
    NoOpenAttributes,
    /// It was seen to refuse SETSTAT as well.
    NoAttributes,
    /// A file was seen to have another time than the one that was set.
    ChangesTimes,
    /// No link was seen to be made as it was asked for (proftpd has them lead to an absolute path).
    NoLinks,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ReplacesInSteps,
        Self::ConfirmsNothing,
        Self::SmallRequests,
        Self::CountsNoSpace,
        Self::NoHardLinks,
        Self::NoLinkAttributes,
        Self::SeparateReading,
        Self::EmptiesFiles,
        Self::Reorders,
        Self::LosesRenamedFiles,
        Self::NoOpenAttributes,
        Self::NoAttributes,
        Self::ChangesTimes,
        Self::NoLinks,
    ];

    /// Returns what the server does and what that means, as a sentence that begins with "the server".
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ReplacesInSteps => {
                "the server replaces a file in several steps: a lost connection can leave its content under another name"
            }
            Self::ConfirmsNothing => {
                "the server does not confirm that content is on its disk: a power cut there can lose what counts as saved"
            }
            Self::SmallRequests => "the server reads and writes content in small pieces, which is slower",
            Self::CountsNoSpace => "the server does not say how much space is free",
            Self::NoHardLinks => "the server does not make hard links",
            Self::NoLinkAttributes => "the server does not change times and owners of links",
            Self::SeparateReading => {
                "the server is not known to read and write by one open file: opening one for both takes a round trip more"
            }
            Self::EmptiesFiles => {
                "the server empties a file that is opened for writing: a change inside a file saves all of it anew"
            }
            Self::Reorders => {
                "the server carries out requests in another order than they are sent: a save takes one round trip more"
            }
            Self::LosesRenamedFiles => {
                "the server loses open files that are renamed: they are opened again by their new names"
            }
            Self::NoOpenAttributes => {
                "the server does not change attributes of open files: a save takes two round trips more"
            }
            Self::NoAttributes => "the server does not change modes and times of files",
            Self::ChangesTimes => "the server does not keep times as they are set",
            Self::NoLinks => {
                "the server does not make symbolic links as they are asked for: outside vaults there are none"
            }
        }
    }

    /// Whether what counts as saved can be lost.
    #[must_use]
    pub const fn endangers_data(self) -> bool {
        matches!(self, Self::ReplacesInSteps | Self::ConfirmsNothing)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The weaknesses that were seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU16);

impl Seen {
    pub(crate) fn has(&self, weakness: Weakness) -> bool {
        self.0.load(Ordering::Relaxed) & weakness.bit() != 0
    }

    /// Records a weakness; the first time, the log says so.
    pub(crate) fn record(&self, weakness: Weakness) {
        if self.0.fetch_or(weakness.bit(), Ordering::Relaxed) & weakness.bit() == 0 {
            tracing::info!("{}", weakness.sentence());
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Weakness> {
        Weakness::ALL.into_iter().filter(|weakness| self.has(*weakness))
    }
}
