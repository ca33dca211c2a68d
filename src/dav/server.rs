//! What a server says of itself, and of the user who is logged in.

use jiff::tz::TimeZone;
use reqwest::{Method, StatusCode};
use scaup_sftp::text::Line;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::client::{Client, Request};
use super::error::DavError;
use super::ocs::Ocs;
use super::status::ServerStatus;

/// The smallest part that every server accepts, bytes.
const PART_LEN_MIN: u64 = 5 << 20;

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
    /// The time zone of the user, by which days are counted; `None` where the server does not say.
    pub time_zone: Option<TimeZone>,
    /// Whether a user may remove what is in the trash.
    pub can_empty_trash: bool,
}

/// Whether files can have links, and what these need.
#[derive(Debug, Default)]
pub struct Links {
    /// Whether there are links at all.
    pub are_allowed: bool,
    /// Whether each needs a password.
    pub need_password: bool,
    /// The longest time that a link may last, days, if there is such a bound.
    pub days_max: Option<i32>,
}

/// What passwords have to be.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PasswordPolicy {
    /// The shortest, characters, if the server says so.
    #[serde(deserialize_with = "number")]
    pub min_length: Option<i64>,
}

/// Names that files may not have on the server.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct ForbiddenNames {
    /// Characters that may not be in a name.
    #[serde(rename = "forbidden_filename_characters", deserialize_with = "texts")]
    pub characters: Vec<String>,
    /// Whole names.
    #[serde(rename = "forbidden_filenames", deserialize_with = "texts")]
    pub names: Vec<String>,
    /// Names up to the first dot.
    #[serde(rename = "forbidden_filename_basenames", deserialize_with = "texts")]
    pub stems: Vec<String>,
    /// Ends of names, with their dot.
    #[serde(rename = "forbidden_filename_extensions", deserialize_with = "texts")]
    pub ends: Vec<String>,
    /// Whole names, as versions up to 29 call them.
    #[serde(rename = "blacklisted_files", deserialize_with = "texts")]
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
    #[serde(deserialize_with = "or_default")]
    core: Core,
    #[serde(deserialize_with = "or_default")]
    files_sharing: Sharing,
    #[serde(deserialize_with = "or_default")]
    password_policy: Option<Policies>,
    #[serde(deserialize_with = "or_default")]
    files: Files,
}

/// Reads a value; what is of another kind counts as not said. An empty map of PHP is an empty list.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: DeserializeOwned + Default,
    D: Deserializer<'de>,
{
    let value = Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).unwrap_or_default())
}

/// Reads a list of texts, which PHP sends as a map if one was taken out of it.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let values: Vec<Value> = match Value::deserialize(deserializer)? {
        Value::Array(values) => values,
        Value::Object(values) => values.into_iter().map(|(_, value)| value).collect(),
        _ => Vec::new(),
    };
    Ok(values.into_iter().filter_map(|value| value.as_str().map(str::to_owned)).collect())
}

/// Reads a number, which some versions send as a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        #[expect(clippy::cast_possible_truncation, reason = "what is too large for it is large enough")]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Core {
    #[serde(deserialize_with = "or_default")]
    user: Place,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Place {
    timezone: Option<String>,
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
    #[serde(deserialize_with = "or_default")]
    password: LinkPassword,
    #[serde(deserialize_with = "or_default")]
    expire_date: ExpireDate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LinkPassword {
    enforced: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExpireDate {
    enforced: bool,
    #[serde(deserialize_with = "number")]
    days: Option<i64>,
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
    #[serde(deserialize_with = "or_default")]
    chunked_upload: Chunks,
    #[serde(flatten)]
    names: ForbiddenNames,
    delete_from_trash: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunks {
    #[serde(deserialize_with = "number")]
    max_size: Option<i64>,
}

/// The user who is logged in.
#[derive(Debug, Deserialize)]
pub struct User {
    /// The id, which paths have. It may differ from the name of the login.
    pub id: String,
    /// The name for people.
    #[serde(default, rename = "display-name")]
    pub display_name: String,
    #[serde(default, deserialize_with = "or_default")]
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
    #[serde(default, deserialize_with = "number")]
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
        let Groups { core, files_sharing, password_policy, files } = said.capabilities;
        let time_zone = core.user.timezone.and_then(|zone| TimeZone::get(&zone).ok());
        let Public { enabled, password, expire_date } = files_sharing.public;
        let days_max = expire_date.days.filter(|&days| days > 0 && expire_date.enforced);
        let part_len_max = files.chunked_upload.max_size.and_then(|max| u64::try_from(max).ok());
        Ok(Capabilities {
            major: said.version.major,
            version: Line::of(&said.version.string),
            links: Links {
                are_allowed: files_sharing.api_enabled && enabled,
                need_password: password.enforced,
                days_max: days_max.map(|days| i32::try_from(days).unwrap_or(i32::MAX)),
            },
            password_policy: password_policy
                .map(|Policies { account, policies }| policies.sharing.unwrap_or(account)),
            part_len_max: part_len_max.map(|max| max.max(PART_LEN_MIN)),
            names: files.names,
            time_zone,
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

    async fn look<T: DeserializeOwned>(&self, path: &str, what: &'static str) -> Result<T, DavError> {
        self.ocs(Ocs::new(Method::GET, path, &[], what)).await
    }
}
