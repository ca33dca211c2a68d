//! Why a configuration can't be used, and where it says so.

use std::path::PathBuf;
use std::{fmt, io};

/// Longest chain of jump hosts.
pub(super) const JUMPS_MAX: usize = 8;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    CommandLine,
    /// This line of a file.
    Line(PathBuf, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => formatter.write_str("option"),
            Self::Line(file, line) => write!(formatter, "{}:{line}:", file.display()),
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SshConfigError {
    /// A file that was named can't be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users may write to a file.
    #[error(
        "{path}: others may write to it (mode {mode:04o}), so it is not trusted; chmod 600 {path}",
        path = .path.display()
    )]
    OpenFile {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file belongs to another user.
    #[error(
        "{path}: it belongs to the user {owner}, who may change it, so it is not trusted; make a copy of your own, and chmod 600 {path}",
        path = .path.display()
    )]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// The number of its owner.
        owner: u32,
    },
    /// Files include each other in a circle, or too many others.
    #[error("{}: too many files are included", .path.display())]
    TooManyIncludes {
        /// The file that is one too many.
        path: PathBuf,
    },
    /// An option that neither Scaup nor `ssh` knows.
    #[error(
        "{origin} {keyword} is not known; correct it, or name it with IgnoreUnknown if another program wants it"
    )]
    Unknown {
        /// The place of the option.
        origin: Origin,
        /// The option.
        keyword: String,
    },
    /// A value does not have the required form.
    #[error("{origin} {keyword} {value:?} is not valid")]
    Value {
        /// The place of the option.
        origin: Origin,
        /// The option.
        keyword: &'static str,
        /// The value.
        value: String,
    },
    /// An option that, if ignored, would change the destination or the trusted keys.
    #[error("{origin} {keyword} {value:?} is not supported: {way_out}")]
    Unsupported {
        /// The place of the option.
        origin: Origin,
        /// The option.
        keyword: &'static str,
        /// The value.
        value: String,
        /// A remedy.
        way_out: &'static str,
    },
    /// A value with a token, a variable or a home directory that is not known.
    #[error("{origin} {keyword} {value:?}: {source}")]
    Expansion {
        /// The place of the option.
        origin: Origin,
        /// The option.
        keyword: &'static str,
        /// The value.
        value: String,
        /// What is not known.
        source: ExpansionError,
    },
    /// The command of a condition gave no result.
    #[error("{origin} Match exec {command:?}: {source}")]
    Command {
        /// The place of the condition.
        origin: Origin,
        /// The command.
        command: String,
        /// The system's error.
        source: io::Error,
    },
    /// A condition that Scaup can't evaluate.
    #[error(
        "{origin} Match {criterion} is not supported: put the options for this host into a Host block before it, or name another file with -F"
    )]
    Match {
        /// The place of the option.
        origin: Origin,
        /// The condition.
        criterion: String,
    },
    /// Jump hosts form a circle, or too long a chain.
    #[error("more than {JUMPS_MAX} jump hosts")]
    TooManyJumps,
}

/// Why a value can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpansionError {
    /// A percent sign that begins no token.
    #[error("%{0} stands for nothing here; a percent sign is written %%")]
    Token(String),
    /// A variable that is not set.
    #[error("the environment variable {0} is not set")]
    Variable(String),
    /// A variable whose name does not end.
    #[error("${{ without }}")]
    Open,
    /// The home directory of somebody else.
    #[error("only ~/ is known; write the directory in full")]
    OtherHome,
}
