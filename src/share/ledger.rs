//! All shares of an account: the folder on its server, with one folder for each of them, joined with the server's list
//! of links.
//!
//! Only a folder whose name is Scaup's, with one file in it, is ever removed; anything else is left and named.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use scaup_sftp::text::Line;

use super::day::{self, End};
use super::entry_name::{EntryName, Id};
use super::error::ShareError;
use super::links::Link;
use super::steps::{keeps_trash, upload_name};
use crate::account::Session;
use crate::dav::{DavError, Depth, Entry, FilePath};

/// How long an upload may take before what it left counts as abandoned, seconds after its folder last changed.
const UPLOAD_PATIENCE: i64 = 3600;
/// The end of the names of files that are encrypted.
const ENCRYPTED_END: &str = ".age";

/// What has become of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its link works.
    Works,
    /// Its link works, and nobody is asked for a password.
    Unprotected,
    /// Its day has passed.
    Expired,
    /// Its link is gone before its day.
    LinkGone,
    /// It has no link yet: it is being made, or that was cut off.
    Unfinished,
}

/// A share.
#[derive(Debug)]
pub struct Share {
    /// Its id.
    pub id: Id,
    /// The name of its file; `None` if the file is gone, or was moved away.
    pub name: Option<Line>,
    /// The length of its file, bytes.
    pub len: u64,
    /// The day for which it was asked.
    pub day: Date,
    /// When its link ends, as the server keeps it.
    pub ends: Option<DateTime>,
    /// What has become of it.
    pub state: State,
    folder: FilePath,
    links: Vec<Link>,
}

impl Share {
    /// Returns whether its file is encrypted with a passphrase.
    #[must_use]
    pub fn is_end_to_end(&self) -> bool {
        self.name.as_ref().is_some_and(|name| name.as_str().ends_with(ENCRYPTED_END))
    }

    /// Returns whether nothing is lost if it is removed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Expired | State::LinkGone)
    }
}

/// All shares of an account.
pub struct Ledger<'a> {
    session: &'a Session,
    /// The shares, by the day on which they end.
    pub shares: Vec<Share>,
    /// What else is in the folder: none of it is touched.
    pub foreign: Vec<Line>,
}

impl<'a> Ledger<'a> {
    /// Reads the folder and the links.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn read(session: &'a Session) -> Result<Self, ShareError> {
        let all = FilePath::new(&session.account.folder);
        let mut ledger = Self { session, shares: Vec::new(), foreign: Vec::new() };
        let entries = match session.home.list(&all, Depth::All).await {
            // Nothing was shared yet.
            Err(error) if error.is_missing() => return Ok(ledger),
            entries => entries?,
        };
        let mut links = session.links().await?;
        let mut folders: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            let Some(below) = entry.path.below(&all) else { continue };
            let name = below.split('/').next().unwrap_or_default().to_owned();
            folders.entry(name).or_default().push(entry);
        }
        for (name, entries) in folders {
            let folder = all.join(&name);
            let share = EntryName::parse(&name).and_then(|name| share(name, &folder, &entries, &mut links));
            match share {
                Some(share) => ledger.shares.push(share),
                None => ledger.foreign.push(Line::of(&name)),
            }
        }
        Ok(ledger)
    }

    /// Returns the share with this id.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn share(&self, id: &str) -> Result<&Share, ShareError> {
        let missing = || ShareError::NoSuchShare(Line::of(id).to_string());
        self.shares.iter().find(|share| share.id.to_string() == id).ok_or_else(missing)
    }

    /// Removes a share: its link first, since it would live on with a copy of the file, then the file, then what of it is
    /// in the trash.
    ///
    /// # Errors
    ///
    /// If the server refuses a step; those before it are done.
    pub async fn remove(&self, share: &Share) -> Result<(), ShareError> {
        let Session { home, .. } = self.session;
        for link in &share.links {
            self.session.remove_link(&link.id).await?;
        }
        // It was read some time ago: what is not Scaup's must not go with it.
        let entries = match home.list(&share.folder, Depth::All).await {
            Err(error) if error.is_missing() => Vec::new(),
            entries => entries?,
        };
        let files = entries.iter().skip(1);
        if files.clone().count() > 1 || files.clone().any(|file| file.is_folder) {
            return Err(ShareError::Foreign(Line::of(share.folder.as_str())));
        }
        for file in files {
            home.remove(&file.path).await?;
        }
        if entries.is_empty() || home.list(&share.folder, Depth::All).await?.len() == 1 {
            home.remove(&share.folder).await?;
        } else {
            return Err(ShareError::Foreign(Line::of(share.folder.as_str())));
        }
        home.remove_upload(&upload_name(&share.id)).await?;
        // Somebody may have removed the file in the web interface.
        if keeps_trash(self.session) || share.name.is_none() {
            home.empty_trash_of(&share.folder).await?;
        }
        Ok(())
    }

    /// Lets the link of a share last longer, or shorter. Returns when it ends then.
    ///
    /// # Errors
    ///
    /// If it has no link any more, or the server refuses.
    pub async fn extend(&self, share: &Share, end: End) -> Result<DateTime, ShareError> {
        let no_link = || ShareError::NoLink(share.id.to_string());
        let capabilities = &self.session.capabilities;
        let link = share.links.first().ok_or_else(no_link)?;
        let last = day::last_day(end, day::today(), capabilities.major, capabilities.links.days_max)?;
        self.session.change_end(&link.id, &last.asked.to_string()).await?;
        let changed = self.session.link(&link.id).await?.ok_or_else(no_link)?;
        let ends = changed.ends();
        let ends = ends.filter(|ends| last.asked.tomorrow().is_ok_and(|latest| ends.date() <= latest));
        let ends =
            ends.ok_or_else(|| ShareError::NotAsAsked("its day is not the one asked for".to_owned()))?;
        // The link counts, not the folder's name, while there is one.
        let name = EntryName { day: last.asked, id: share.id.clone() }.to_string();
        let folder = FilePath::new(&self.session.account.folder).join(&name);
        if folder != share.folder {
            self.session.home.rename(&share.folder, &folder).await?;
        }
        Ok(ends)
    }
}

/// Returns the share that a folder holds; `None` if Scaup did not make it so. Its links are taken from `links`.
fn share(name: EntryName, folder: &FilePath, entries: &[Entry], links: &mut Vec<Link>) -> Option<Share> {
    let itself = entries.iter().find(|entry| entry.path == *folder && entry.is_folder)?;
    let mut files = entries.iter().filter(|entry| entry.path != *folder);
    let file = files.next();
    if files.next().is_some() || file.is_some_and(|file| file.is_folder) {
        return None;
    }
    let mine = links.extract_if(.., |link| link.path() == *folder || link.path().below(folder).is_some());
    let mine: Vec<Link> = mine.collect();
    let age = itself.modified.map(|modified| Timestamp::now().as_second() - modified.as_second());
    let state = match mine.first() {
        Some(_) if mine.iter().all(Link::has_password) => State::Works,
        Some(_) => State::Unprotected,
        None if age.is_none_or(|age| age < UPLOAD_PATIENCE) => State::Unfinished,
        None if name.day <= day::today() => State::Expired,
        None => State::LinkGone,
    };
    Some(Share {
        id: name.id,
        name: file.and_then(|file| file.path.below(folder)).map(Line::of),
        len: file.map_or(0, |file| file.len),
        day: name.day,
        ends: mine.first().and_then(Link::ends),
        state,
        folder: folder.clone(),
        links: mine,
    })
}

/// What was removed by [`prune`].
pub struct Pruned {
    /// The share.
    pub share: Share,
    /// Whether it is gone.
    pub result: Result<(), ShareError>,
}

/// Removes all shares whose links are gone, or whose day has passed.
///
/// # Errors
///
/// If the folder can't be read. What happened to each share is in the result.
pub async fn prune(session: &Session) -> Result<Vec<Pruned>, ShareError> {
    let mut ledger = Ledger::read(session).await?;
    let over: Vec<Share> = ledger.shares.extract_if(.., |share| share.is_over()).collect();
    let mut pruned = Vec::new();
    for share in over {
        let result = ledger.remove(&share).await;
        let goes_on = !matches!(&result, Err(ShareError::Dav(DavError::LoginRefused { .. })));
        pruned.push(Pruned { share, result });
        if !goes_on {
            break;
        }
    }
    Ok(pruned)
}
