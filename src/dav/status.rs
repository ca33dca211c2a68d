//! What a server says of itself to everybody.

use scaup_sftp::text::Line;
use serde::Deserialize;

/// What a server says to everybody.
#[derive(Debug, Deserialize)]
pub struct ServerStatus {
    pub(super) installed: bool,
    pub(super) maintenance: bool,
    version: String,
    versionstring: String,
}

impl ServerStatus {
    /// Returns the major version, such as 32.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    /// Returns the version, for people.
    #[must_use]
    pub fn version(&self) -> Line {
        Line::of(&self.versionstring)
    }
}

/// Returns whether a reply says that the server is in maintenance.
pub(super) fn says_maintenance(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|status: ServerStatus| status.maintenance)
}
