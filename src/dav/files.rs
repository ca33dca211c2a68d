//! A user's files: folders are made, listed, moved and removed, and what the server stored is compared.

use std::fmt;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};

use super::client::{BY_SCRIPT, Client, Content, LONG_PATIENCE, Request};
use super::error::DavError;
use super::multistatus::{self, Listed};

/// What is written as it is in a path (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) const DAV: &str = "DAV:";
const OC: &str = "http://owncloud.org/ns";
const NC: &str = "http://nextcloud.org/ns";

const LIST: &str = r#"<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><d:resourcetype/><d:getlastmodified/><d:getcontentlength/><oc:fileid/></d:prop></d:propfind>"#;
const CHECKSUMS: &str = r#"<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><oc:checksums/></d:prop></d:propfind>"#;
const LIST_TRASH: &str = r#"<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:nc="http://nextcloud.org/ns"><d:prop><nc:trashbin-original-location/></d:prop></d:propfind>"#;

/// The path of a file from the user's root, without a slash at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePath(String);

impl FilePath {
    /// Creates the path of a name in the user's root, or of a path there. Slashes at the ends do not count.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self(path.trim_matches('/').to_owned())
    }

    /// Returns the path of a name in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        Self(if self.0.is_empty() { name.to_owned() } else { format!("{}/{name}", self.0) })
    }

    /// Returns whether this is `folder`, or below it.
    #[must_use]
    pub fn is_in(&self, folder: &Self) -> bool {
        self == folder || self.below(folder).is_some()
    }

    /// Returns the path of what is below `folder`, from there.
    #[must_use]
    pub fn below(&self, folder: &Self) -> Option<&str> {
        if folder.0.is_empty() { Some(&self.0) } else { self.0.strip_prefix(&folder.0)?.strip_prefix('/') }
    }

    /// Returns the path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn encoded(&self) -> String {
        self.0.split('/').map(encoded).collect::<Vec<_>>().join("/")
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, ENCODED).to_string()
}

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path from the user's root.
    pub path: FilePath,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its length, bytes; 0 for a folder.
    pub len: u64,
    /// The number by which the server knows it, whatever its name.
    pub id: Option<u64>,
    /// When it was last modified, in whole seconds.
    pub modified: Option<Timestamp>,
}

/// How deep a list goes (RFC 4918, section 10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What is named alone.
    Itself,
    /// And all below it.
    All,
}

/// The files of one user, reached with their login.
#[derive(Debug, Clone)]
pub struct Home {
    pub(super) client: Client,
    user: String,
}

impl Home {
    /// Returns the files of the user with this id.
    #[must_use]
    pub fn of(client: &Client, user: &str) -> Self {
        Self { client: client.clone(), user: encoded(user) }
    }

    fn files(&self) -> String {
        format!("remote.php/dav/files/{}/", self.user)
    }

    pub(super) fn at(&self, path: &FilePath) -> String {
        self.files() + &path.encoded()
    }

    /// Returns the path of the upload with this name, or of a part of it.
    pub(super) fn upload(&self, name: &str) -> String {
        format!("remote.php/dav/uploads/{}/{name}", self.user)
    }

    /// Returns the header that names where something shall go.
    pub(super) fn destination(&self, path: &FilePath) -> Result<HeaderValue, DavError> {
        let not_understood = || self.client.not_understood("destination");
        let url = self.client.address().at(&self.at(path)).map_err(|_| not_understood())?;
        HeaderValue::from_str(url.as_str()).map_err(|_| not_understood())
    }

    /// Makes a folder. Returns whether it was made; else there is one.
    ///
    /// # Errors
    ///
    /// If the server refuses, or there is a file.
    pub async fn make_folder(&self, path: &FilePath) -> Result<bool, DavError> {
        let request = Request::new(method("MKCOL")?, self.at(path), "making a folder");
        match self.client.require(&request, &[StatusCode::CREATED]).await {
            Err(error) if error.status() == Some(405) => Ok(false),
            made => made.map(|_| true),
        }
    }

    /// Lists a file or folder, which comes first, and what is below it.
    ///
    /// # Errors
    ///
    /// A status of 404 if it is not there.
    pub async fn list(&self, path: &FilePath, depth: Depth) -> Result<Vec<Entry>, DavError> {
        let (what, root) = ("listing files", self.files());
        let depth = match depth {
            Depth::Itself => "0",
            Depth::All => "infinity",
        };
        let list = listed(&self.client, &propfind(self.at(path), depth, LIST, what)?).await?;
        let entries = list.iter().map(|listed| {
            let decoded = percent_decode_str(listed.href.trim_end_matches('/')).decode_utf8().ok()?;
            // The address may have a path of its own before it, and the id need not be encoded as here.
            let user = percent_decode_str(&root).decode_utf8().ok()?.into_owned();
            let whole = format!("{decoded}/");
            let below = whole.split_once(user.as_str())?.1;
            let number = |namespace, name| listed.property(namespace, name)?.trim().parse().ok();
            let modified = listed.property(DAV, "getlastmodified");
            Some(Entry {
                path: FilePath::new(below),
                is_folder: listed.property(DAV, "resourcetype") == Some("collection"),
                len: number(DAV, "getcontentlength").unwrap_or(0),
                id: number(OC, "fileid"),
                modified: modified
                    .and_then(|text| jiff::fmt::rfc2822::parse(text).ok())
                    .map(|time| time.timestamp()),
            })
        });
        let entries: Option<Vec<Entry>> = entries.collect();
        let is_it = |entries: &Vec<Entry>| entries.first().is_some_and(|first| first.path == *path);
        entries.filter(is_it).ok_or_else(|| self.client.not_understood(what))
    }

    /// Gives a file or folder another path, at which nothing may be.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn rename(&self, from: &FilePath, to: &FilePath) -> Result<(), DavError> {
        let request = Request::new(method("MOVE")?, self.at(from), "renaming")
            .with("destination", self.destination(to)?)
            .with_text("overwrite", "F");
        match self.client.require(&request, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await {
            // It was sent twice, and done at the first time.
            Err(error) if error.is_missing() && self.list(to, Depth::Itself).await.is_ok() => Ok(()),
            renamed => renamed.map(drop),
        }
    }

    /// Removes a file, or a folder with all in it. From version 31 on, nothing of it goes to the trash. Returns whether
    /// it was there.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn remove(&self, path: &FilePath) -> Result<bool, DavError> {
        let request =
            Request::new(Method::DELETE, self.at(path), "removing").with_text("x-nc-skip-trashbin", "true");
        was_there(self.client.require(&request, &[StatusCode::NO_CONTENT]).await)
    }

    /// Removes from the trash what was where `is_meant` says, which gets paths from the user's root. Returns how many
    /// there were.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn empty_trash_of(&self, is_meant: impl Fn(&FilePath) -> bool) -> Result<usize, DavError> {
        let trash = format!("remote.php/dav/trashbin/{}/trash", self.user);
        let request = propfind(trash.clone(), "1", LIST_TRASH, "listing the trash")?;
        let list = listed(&self.client, &request).await?;
        let mut count = 0;
        for listed in list {
            let Some(original) = listed.property(NC, "trashbin-original-location") else { continue };
            if !is_meant(&FilePath::new(original)) {
                continue;
            }
            let name = listed.href.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let decoded = percent_decode_str(name).decode_utf8_lossy();
            if matches!(&*decoded, "" | "." | "..") || decoded.contains('/') || name.contains(['?', '#']) {
                continue;
            }
            let request = Request::new(Method::DELETE, format!("{trash}/{name}"), "emptying the trash");
            was_there(self.client.require(&request, &[StatusCode::NO_CONTENT]).await)?;
            count += 1;
        }
        Ok(count)
    }

    /// Has the server read what it stored. Returns its SHA-256 in lower-case hexadecimal.
    ///
    /// # Errors
    ///
    /// If the server refuses, or does not know this.
    pub async fn hash(&self, path: &FilePath) -> Result<String, DavError> {
        let what = "comparing what was stored";
        let mut request =
            Request::new(Method::PATCH, self.at(path), what).with_text("x-recalculate-hash", "sha256");
        // It reads the whole file.
        request.patience = LONG_PATIENCE;
        request.may_be_late = true;
        let reply = self.client.require(&request, &[StatusCode::NO_CONTENT, StatusCode::OK]).await?;
        reply.header("oc-checksum").and_then(sha256_of).ok_or_else(|| self.client.not_understood(what))
    }

    /// Returns the SHA-256 that the server keeps with a file, in lower-case hexadecimal: the one that it was last asked
    /// to compute, if it has done that by now.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn kept_hash(&self, path: &FilePath) -> Result<Option<String>, DavError> {
        let request = propfind(self.at(path), "0", CHECKSUMS, "comparing what was stored")?;
        let list = listed(&self.client, &request).await?;
        Ok(list.first().and_then(|seen| sha256_of(seen.property(OC, "checksums")?)))
    }
}

impl Client {
    /// Returns the length of the file at a path below the server's address, without reading it.
    ///
    /// # Errors
    ///
    /// If the login does not lead there.
    pub async fn len_at(&self, path: &str) -> Result<u64, DavError> {
        let what = "looking at a file";
        // Where the server shares nothing with other servers, it wants this of everybody who looks at a link.
        let request = propfind(path.to_owned(), "0", LIST, what)?.with_text("x-requested-with", BY_SCRIPT);
        let list = listed(self, &request).await?;
        let len = list.first().and_then(|seen| seen.property(DAV, "getcontentlength")?.trim().parse().ok());
        len.ok_or_else(|| self.not_understood(what))
    }
}

/// Returns the SHA-256 among the checksums that a server names, each with its kind, in lower-case hexadecimal.
fn sha256_of(checksums: &str) -> Option<String> {
    let mut checksums = checksums.split_ascii_whitespace();
    checksums.find_map(|checksum| checksum.strip_prefix("SHA256:")).map(str::to_ascii_lowercase)
}

fn propfind(
    path: String,
    depth: &'static str,
    properties: &str,
    what: &'static str,
) -> Result<Request, DavError> {
    let mut request = Request::new(method("PROPFIND")?, path, what).with_text("depth", depth);
    request.content = Content::Text("application/xml", properties.to_owned().into());
    Ok(request)
}

async fn listed(client: &Client, request: &Request) -> Result<Vec<Listed>, DavError> {
    let reply = client.require(request, &[StatusCode::MULTI_STATUS]).await?;
    multistatus::read(&reply.body).map_err(|source| DavError::List { host: client.host(), source })
}

pub(super) fn was_there<T>(result: Result<T, DavError>) -> Result<bool, DavError> {
    match result {
        Err(error) if error.is_missing() => Ok(false),
        there => there.map(|_| true),
    }
}

/// Returns a method of WebDAV.
pub(super) fn method(name: &'static str) -> Result<Method, DavError> {
    Method::from_bytes(name.as_bytes())
        .map_err(|_| DavError::NotUnderstood { host: String::new(), what: name })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_encoded_name_by_name() {
        let path = FilePath::new("/Scaup shares.~/2026-12-05-k7m2qx").join("Übersicht #1 50%.pdf");
        assert_eq!(path.encoded(), "Scaup%20shares.~/2026-12-05-k7m2qx/%C3%9Cbersicht%20%231%2050%25.pdf");
        assert_eq!(
            path.below(&FilePath::new("Scaup shares.~")),
            Some("2026-12-05-k7m2qx/Übersicht #1 50%.pdf")
        );
        assert_eq!(path.below(&FilePath::new("Scaup")), None);
        assert_eq!(path.below(&path), None);
    }
}
