//! What keeps Scaup from working, or from working safely: on this machine, at the login, on a server and in its vaults.
//!
//! Each check is a small function that looks at one thing and returns a [`Check`]. Checks change nothing, ask nobody,
//! and never call the keyring; only what `server` and `vaults` examine needs a connection, which their caller makes.

mod bookmark;
mod commands;
mod login;
mod machine;
mod server;
mod speed;
mod vaults;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

pub use bookmark::{all as bookmarks, checks as bookmark_checks, place_checks};
pub use login::{Subject, checks as login_checks};
pub use machine::checks as machine_checks;
pub use server::{checks as server_checks, reachable};
pub use speed::checks as speed_checks;
pub use vaults::checks as vault_checks;

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// This machine.
    Machine,
    /// The login: keys, the agent, the configuration, bookmarks.
    Login,
    /// The target: a server or a directory of this machine.
    Server,
    /// The vaults in the target.
    Vaults,
    /// What other programs keep of mounts.
    Traces,
}

impl Group {
    /// Its name, as people and programs read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Login => "login",
            Self::Server => "server",
            Self::Vaults => "vaults",
            Self::Traces => "traces",
        }
    }

    pub(crate) fn ok(self, name: &'static str, found: impl Into<String>) -> Check {
        Check { group: self, name, found: found.into(), verdict: Verdict::Ok }
    }

    pub(crate) fn warning(
        self,
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Check {
        Check { group: self, name, found: found.into(), verdict: Verdict::Warning { advice: advice.into() } }
    }

    pub(crate) fn failed(
        self,
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Check {
        Check { group: self, name, found: found.into(), verdict: Verdict::Failed { advice: advice.into() } }
    }
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, but not as well or as safely as it could.
    Warning {
        /// What to do: one command or sentence.
        advice: String,
    },
    /// Something does not work.
    Failed {
        /// What to do: one command or sentence.
        advice: String,
    },
}

impl Verdict {
    /// Returns what to do.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Warning { advice } | Self::Failed { advice } => Some(advice),
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub group: Group,
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// How it ended.
    pub verdict: Verdict,
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let state = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning { .. } => "warning",
            Verdict::Failed { .. } => "failed",
        };
        let mut check = serializer.serialize_struct("Check", 5)?;
        check.serialize_field("group", &self.group)?;
        check.serialize_field("check", self.name)?;
        check.serialize_field("state", state)?;
        check.serialize_field("found", &self.found)?;
        check.serialize_field("advice", &self.verdict.advice())?;
        check.end()
    }
}
