//! Links of files, as Nextcloud's own interface has them.
//!
//! The server's reply holds the hash of the password up to version 32, so nothing of it is kept but what stands here.

use jiff::civil::DateTime;
use reqwest::{Method, Url};
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::account::Session;
use crate::dav::{DavError, FilePath, Ocs, ServerAddress};

const SHARES: &str = "apps/files_sharing/api/v1/shares";
/// The kind of share that is a link.
const LINK: u32 = 3;
/// The right to read. Others are shown with it, such as to share again.
const READ: u32 = 1;
/// The rights to change something.
const CHANGES: u32 = 2 | 4 | 8;

/// A link, as the server describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    #[serde(deserialize_with = "number")]
    pub(super) id: u64,
    share_type: u32,
    permissions: u32,
    /// `None` if the server does not know any more what it leads to.
    path: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
    /// Present if there is a password: up to version 32 with its hash, which is dropped at once.
    #[serde(default)]
    password: Option<IgnoredAny>,
    url: Option<String>,
}

impl Link {
    pub(super) fn path(&self) -> Option<FilePath> {
        self.path.as_deref().map(FilePath::new)
    }

    pub(super) fn is_in(&self, folder: &FilePath) -> bool {
        self.path().is_some_and(|path| path.is_in(folder))
    }

    pub(super) fn is_link(&self) -> bool {
        self.share_type == LINK
    }

    /// Returns whether whoever opens the link may read the file, and not change it.
    pub(super) fn only_reads(&self) -> bool {
        self.permissions & READ != 0 && self.permissions & CHANGES == 0
    }

    pub(super) fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Returns when it ends, on the server's clock.
    pub(super) fn ends(&self) -> Option<DateTime> {
        self.expiration.as_deref()?.trim().parse().ok()
    }

    /// Returns the address for the receiver, and whether the server believes that it has another one.
    pub(super) fn url(&self, address: &ServerAddress) -> Option<(Url, bool)> {
        if let Some(url) = self.url.as_deref().and_then(|url| Url::parse(url).ok())
            && address.includes(&url)
        {
            return Some((url, false));
        }
        // This form works whatever the server's configuration.
        Some((address.at(&format!("index.php/s/{}", self.token()?)).ok()?, true))
    }

    /// Returns the random part of the address.
    pub(super) fn token(&self) -> Option<&str> {
        let token = self.token.as_deref()?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (!token.is_empty() && token.chars().all(is_plain)).then_some(token)
    }
}

/// A link to make.
pub(super) struct NewLink<'a> {
    pub(super) file: &'a FilePath,
    pub(super) password: &'a Zeroizing<String>,
    /// The day, as the server takes it.
    pub(super) ends: String,
    /// What the receiver reads beside the file.
    pub(super) note: Option<&'a str>,
}

impl Session {
    /// Makes a link in one request, with all that protects it.
    pub(super) async fn make_link(&self, link: &NewLink<'_>) -> Result<Link, DavError> {
        let path = format!("/{}", link.file);
        let mut fields = vec![
            ("path", path.as_str()),
            ("shareType", "3"),
            ("permissions", "1"),
            ("expireDate", link.ends.as_str()),
            ("password", link.password.as_str()),
        ];
        fields.extend(link.note.map(|note| ("note", note)));
        let ocs = Ocs::new(Method::POST, SHARES, &fields, "making the link").once();
        self.client.ocs(ocs).await
    }

    /// Returns all that this user shares, also in other ways than by links.
    pub(super) async fn links(&self) -> Result<Vec<Link>, DavError> {
        self.links_by(&[]).await
    }

    /// Returns in which ways one file is shared.
    pub(super) async fn links_of(&self, file: &FilePath) -> Result<Vec<Link>, DavError> {
        let path = format!("/{file}");
        match self.links_by(&[("path", &path)]).await {
            // There is no such file.
            Err(error) if error.is_missing() => Ok(Vec::new()),
            links => links,
        }
    }

    async fn links_by(&self, fields: &[(&str, &str)]) -> Result<Vec<Link>, DavError> {
        let ocs = Ocs::new(Method::GET, SHARES, fields, "listing links");
        self.client.ocs(ocs).await
    }

    /// Reads a link; `None` if there is none.
    pub(super) async fn link(&self, id: u64) -> Result<Option<Link>, DavError> {
        let path = shares_of(id);
        let ocs = Ocs::new(Method::GET, &path, &[], "reading the link");
        match self.client.ocs::<Vec<Link>>(ocs).await {
            Err(error) if error.is_missing() => Ok(None),
            links => Ok(links?.into_iter().next()),
        }
    }

    /// Changes the day on which a link ends.
    pub(super) async fn change_end(&self, id: u64, ends: &str) -> Result<(), DavError> {
        let (path, fields) = (shares_of(id), [("expireDate", ends)]);
        let ocs = Ocs::new(Method::PUT, &path, &fields, "changing the day");
        self.client.ocs::<IgnoredAny>(ocs).await.map(drop)
    }

    /// Removes a link. Returns whether it was there.
    pub(super) async fn remove_link(&self, id: u64) -> Result<bool, DavError> {
        let path = shares_of(id);
        let ocs = Ocs::new(Method::DELETE, &path, &[], "removing the link");
        match self.client.ocs::<IgnoredAny>(ocs).await {
            Err(error) if error.is_missing() => Ok(false),
            removed => removed.map(|_| true),
        }
    }
}

fn shares_of(id: u64) -> String {
    format!("{SHARES}/{id}")
}

/// Reads a number, which servers send as a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| D::Error::custom("an id is a number"))
}
