//! What a server says of itself, and of the user who is logged in.

use reqwest::{Method, StatusCode};
use scaup_sftp::text::Line;
use serde::Deserialize;

use super::client::{Client, Request};
use super::error::DavError;
use super::ocs::Ocs;

/// What a server says to everybody.
#[derive(Debug, Deserialize)]
pub struct ServerStatus {
    installed: bool,
    maintenance: bool,
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

pub(super) fn says_maintenance(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|status: ServerStatus| status.maintenance)
}

/// What a server can do, and what its administrator permits.
#[derive(Debug, Default)]
pub struct Capabilities {
    /// The major version, such as 32.
    pub major: u32,
    /// The version, for people.
    pub version: Line,
    /// Links to files.
    pub links: Links,
    /// What passwords have to be; `None` where the server does not say.
    pub password_policy: Option<PasswordPolicy>,
    /// The largest part of an upload, bytes, if it says so.
    pub part_len_max: Option<u64>,
    /// Which names files may not have.
    pub names: ForbiddenNames,
    /// Whether a user may remove what is in the trash.
    pub can_empty_trash: bool,
}

/// Whether files can have links, and what these need.
#[derive(Debug, Default)]
pub struct Links {
    /// Whether there are links at all.
    pub are_allowed: bool,
    /// The longest time that a link may last, days, if there is such a bound.
    pub days_max: Option<i32>,
}

/// What passwords have to be.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PasswordPolicy {
    /// The shortest, characters.
    pub min_length: usize,
}

/// Names that files may not have on the server.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct ForbiddenNames {
    /// Characters that may not be in a name.
    #[serde(rename = "forbidden_filename_characters")]
    pub characters: Vec<String>,
    /// Whole names.
    #[serde(rename = "forbidden_filenames")]
    pub names: Vec<String>,
    /// Names up to the first dot.
    #[serde(rename = "forbidden_filename_basenames")]
    pub stems: Vec<String>,
    /// Ends of names, with their dot.
    #[serde(rename = "forbidden_filename_extensions")]
    pub ends: Vec<String>,
    /// Whole names, as versions up to 29 call them.
    #[serde(rename = "blacklisted_files")]
    pub old_names: Vec<String>,
}

#[derive(Deserialize)]
struct Said {
    version: Version,
    capabilities: Groups,
}

#[derive(Deserialize)]
struct Version {
    major: u32,
    string: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Groups {
    files_sharing: Sharing,
    password_policy: Option<Policies>,
    files: Files,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sharing {
    api_enabled: bool,
    public: Public,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Public {
    enabled: bool,
    expire_date: ExpireDate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExpireDate {
    enforced: bool,
    days: Option<Number>,
}

/// A number, which some versions send as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(i32),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<i32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Policies {
    #[serde(flatten)]
    account: PasswordPolicy,
    policies: Purposes,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Purposes {
    sharing: Option<PasswordPolicy>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Files {
    chunked_upload: Chunks,
    #[serde(flatten)]
    names: ForbiddenNames,
    delete_from_trash: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunks {
    max_size: Option<u64>,
}

/// The user who is logged in.
#[derive(Debug, Deserialize)]
pub struct User {
    /// The id, which paths have. It may differ from the name of the login.
    pub id: String,
    /// The name for people.
    #[serde(default, rename = "display-name")]
    pub display_name: String,
    #[serde(default)]
    quota: Quota,
}

impl User {
    /// Returns how much room is left, bytes, if there is a bound that is known.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        // Below zero it means that there is no bound, or that it is not known.
        self.quota.free.and_then(|free| u64::try_from(free).ok())
    }
}

#[derive(Debug, Default, Deserialize)]
struct Quota {
    free: Option<i64>,
}

impl Client {
    /// Asks which server this is. It needs no login.
    ///
    /// # Errors
    ///
    /// If it is none of Nextcloud's, or is in maintenance.
    pub async fn status(&self) -> Result<ServerStatus, DavError> {
        let what = "status";
        let request = Request::new(Method::GET, "status.php".to_owned(), what);
        let reply = self.send(&request).await?;
        let status: ServerStatus = match reply.status {
            StatusCode::OK => serde_json::from_slice(&reply.body).map_err(|_| self.not_understood(what))?,
            _ => return Err(self.not_understood(what)),
        };
        if status.maintenance {
            return Err(DavError::Maintenance { host: self.host() });
        }
        if status.installed { Ok(status) } else { Err(self.not_understood(what)) }
    }

    /// Asks what the server can do.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn capabilities(&self) -> Result<Capabilities, DavError> {
        let said: Said = self.look("cloud/capabilities", "capabilities").await?;
        let Groups { files_sharing, password_policy, files } = said.capabilities;
        let Public { enabled, expire_date } = files_sharing.public;
        let days_max = expire_date.days.and_then(|days| days.value()).filter(|_| expire_date.enforced);
        Ok(Capabilities {
            major: said.version.major,
            version: Line::of(&said.version.string),
            links: Links { are_allowed: files_sharing.api_enabled && enabled, days_max },
            password_policy: password_policy
                .map(|Policies { account, policies }| policies.sharing.unwrap_or(account)),
            part_len_max: files.chunked_upload.max_size.filter(|&max| max > 0),
            names: files.names,
            can_empty_trash: files.delete_from_trash.unwrap_or(true),
        })
    }

    /// Asks who is logged in.
    ///
    /// # Errors
    ///
    /// If the login is refused.
    pub async fn user(&self) -> Result<User, DavError> {
        self.look("cloud/user", "the user").await
    }

    async fn look<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
    ) -> Result<T, DavError> {
        self.ocs(Ocs { method: Method::GET, path, fields: &[], what, is_repeatable: true }).await
    }
}
