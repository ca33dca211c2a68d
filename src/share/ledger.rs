//! All shares of an account: the folder on its server, with one folder for each of them, joined with the server's list
//! of links.
//!
//! Only a folder whose name is Scaup's, with one file in it, is ever removed; anything else is left and named.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use scaup_sftp::text::Line;

use super::day::{Calendar, End, is_as_asked};
use super::entry_name::{EntryName, Id};
use super::error::ShareError;
use super::links::Link;
use super::steps::upload_name;
use crate::account::Session;
use crate::dav::{Cancel, DavError, Depth, Entry, FilePath};

/// How old a share without a link may be that is still being made, seconds.
const MAKING_PATIENCE: i64 = 3600;
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
    /// Its link works, and somebody has put other files into its folder.
    Mixed,
    /// It has no link, and its file is shared in another way.
    SharedOtherwise,
    /// It was revoked: its link is gone, and not all else could be removed.
    Revoked,
}

/// When the links of a share end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// There is none.
    NoLink,
    /// At this time, on the server's clock.
    At(DateTime),
    /// One has no end: somebody made or changed it in the web interface.
    Never,
}

/// A share.
#[derive(Debug)]
pub struct Share {
    /// Its id.
    pub id: Id,
    /// The name of its file; `None` if the file is gone, was moved away, or is one of several.
    pub name: Option<String>,
    /// The length of its file, bytes.
    pub len: u64,
    /// The day for which it was asked.
    pub day: Date,
    /// When the last of its links ends, as the server keeps it.
    pub ends: Ends,
    /// What has become of it.
    pub state: State,
    folder: FilePath,
    links: Vec<Link>,
}

impl Share {
    /// Returns whether its file is encrypted with a passphrase.
    #[must_use]
    pub fn is_end_to_end(&self) -> bool {
        self.name.as_ref().is_some_and(|name| name.ends_with(ENCRYPTED_END))
    }

    /// Returns whether it has a link.
    #[must_use]
    pub fn has_link(&self) -> bool {
        self.links.iter().any(Link::is_link)
    }

    /// Returns whether nothing is lost if it is removed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Expired | State::LinkGone | State::Revoked)
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
        let (now, today) = (session.client.server_time(), Calendar::of(session).today);
        for (name, entries) in folders {
            let folder = all.join(&name);
            let share = EntryName::parse(&name)
                .and_then(|name| share(name, &folder, &entries, &mut links, (now, today)));
            match share {
                Some(mut share) => {
                    // The folder's time says nothing about an upload, which may take long.
                    let is_over = share.is_over() && share.state != State::Revoked;
                    if is_over && session.home.has_upload(&upload_name(&share.id)).await? {
                        share.state = State::Unfinished;
                    }
                    ledger.shares.push(share);
                }
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

    /// Removes a share: its link first, since it would live on with a copy of the file, then the file, then what of it
    /// is in the trash.
    ///
    /// # Errors
    ///
    /// [`ShareError::NotRemoved`] if the server refuses a step, or the work is cancelled.
    pub async fn remove(&self, share: &Share, cancel: &Cancel) -> Result<(), ShareError> {
        let mut left = "its link and its file";
        let removed = cancel.or(self.remove_steps(share, &mut left)).await;
        removed.map_err(|cause| match cause {
            ShareError::Foreign(_) | ShareError::InTrash(_) => cause,
            cause => ShareError::NotRemoved {
                cause: Box::new(cause),
                id: share.id.to_string(),
                host: self.session.client.address().host(),
                left,
                account: self.session.name.clone(),
            },
        })
    }

    /// Removes a share. `left` says what may still be there.
    async fn remove_steps(&self, share: &Share, left: &mut &'static str) -> Result<(), ShareError> {
        let Session { home, .. } = self.session;
        for link in &share.links {
            self.session.remove_link(link.id).await?;
        }
        *left = "its file";
        let mut folder = share.folder.clone();
        // A file without a link may be one that is just being shared. This name says that it is not, whatever comes.
        if share.has_link() && share.name.is_some() {
            let revoked =
                FilePath::new(&self.session.account.folder).join(&EntryName::revoked(&share.id).to_string());
            match home.rename(&folder, &revoked).await {
                Ok(()) => folder = revoked,
                // Then the file goes under its old name.
                Err(error) => tracing::debug!(%error, "a revoked share keeps its name"),
            }
        }
        // It was read some time ago: what is not Scaup's must not go with it.
        let entries = match home.list(&folder, Depth::All).await {
            Err(error) if error.is_missing() => {
                // Another machine may have extended it meanwhile, which renames its folder.
                if let Ok(renamed) = Self::read(self.session).await?.share(&share.id.to_string())
                    && renamed.folder != folder
                {
                    return Box::pin(self.remove_steps(renamed, left)).await;
                }
                Vec::new()
            }
            entries => entries?,
        };
        let files = entries.iter().skip(1);
        if files.clone().count() > 1 || files.clone().any(|file| file.is_folder) {
            return Err(ShareError::Foreign(Line::of(folder.as_str())));
        }
        for file in files {
            home.remove(&file.path).await?;
        }
        if !entries.is_empty() {
            let others = match home.list(&folder, Depth::All).await {
                // Another machine removes it, too.
                Err(error) if error.is_missing() => 0,
                others => others?.len(),
            };
            match others {
                0 => {}
                1 => drop(home.remove(&folder).await?),
                _ => return Err(ShareError::Foreign(Line::of(folder.as_str()))),
            }
        }
        home.remove_upload(&upload_name(&share.id)).await?;
        // Somebody may have removed the file in the web interface: restored, it would have its link again.
        *left = "a copy of its file in the trash";
        home.empty_trash_of(|path| self.is_of(path, &share.id)).await.map_err(ShareError::InTrash)?;
        Ok(())
    }

    /// Removes what may be left of a share whose folder is gone: parts of its upload, and what of it is in the trash.
    /// Returns whether there was anything.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn remove_remains(&self, id: &Id) -> Result<bool, ShareError> {
        let Session { home, .. } = self.session;
        let is_of_it = |path: &FilePath| self.is_of(path, id);
        let mut found = home.remove_upload(&upload_name(id)).await?;
        for link in self.session.links().await? {
            if link.path().is_some_and(|path| is_of_it(&path)) {
                found |= self.session.remove_link(link.id).await?;
            }
        }
        found |= home.empty_trash_of(is_of_it).await? > 0;
        Ok(found)
    }

    /// Returns whether a path is that of a share's folder, whatever its day, or below it.
    fn is_of(&self, path: &FilePath, id: &Id) -> bool {
        let all = FilePath::new(&self.session.account.folder);
        let name = path.below(&all).and_then(|below| below.split('/').next()).and_then(EntryName::parse);
        name.is_some_and(|name| name.id == *id)
    }

    /// Lets the link of a share last longer, or shorter. Returns when it ends then, and whether that is earlier than
    /// was asked for, since the server, where it is, does not permit so long.
    ///
    /// # Errors
    ///
    /// If it has no link any more, or the server refuses.
    pub async fn extend(&self, share: &Share, end: End) -> Result<(DateTime, bool), ShareError> {
        let no_link = || ShareError::NoLink(share.id.to_string());
        let calendar = Calendar::of(self.session);
        let wanted = calendar.last_day(end)?;
        let mut last = wanted;
        let mut latest = None;
        // Somebody may have made another one in the web interface.
        for link in share.links.iter().filter(|link| link.is_link()) {
            while let Err(error) = self.session.change_end(link.id, &last.asked.to_string()).await {
                let shorter = calendar.shortened(last).filter(|_| error.is_missing());
                last = shorter.ok_or(error)?;
            }
            let changed = self.session.link(link.id).await?.ok_or_else(no_link)?;
            let ends = changed.ends().ok_or_else(|| ShareError::OtherDay("never".to_owned()))?;
            if !is_as_asked(ends, last.asked) {
                return Err(ShareError::OtherDay(ends.to_string()));
            }
            latest = latest.max(Some(ends));
        }
        let ends = latest.ok_or_else(no_link)?;
        // The link counts, not the folder's name, while there is one.
        let name = EntryName { day: last.asked, id: share.id.clone() }.to_string();
        let folder = FilePath::new(&self.session.account.folder).join(&name);
        if folder != share.folder {
            self.session.home.rename(&share.folder, &folder).await?;
        }
        Ok((ends, last != wanted))
    }
}

/// Returns the share that a folder holds; `None` if Scaup did not make it so. Its links are taken from `links`.
fn share(
    name: EntryName,
    folder: &FilePath,
    entries: &[Entry],
    links: &mut Vec<Link>,
    (now, today): (Timestamp, Date),
) -> Option<Share> {
    let itself = entries.iter().find(|entry| entry.path == *folder && entry.is_folder)?;
    let files: Vec<&Entry> = entries.iter().filter(|entry| entry.path != *folder).collect();
    let mine: Vec<Link> = links.extract_if(.., |link| link.is_in(folder)).collect();
    let only = match files.as_slice() {
        [] => None,
        [only] if !only.is_folder => Some(*only),
        _ if mine.is_empty() => return None,
        _ => None,
    };
    let is_young = itself.modified.is_none_or(|made| (now.as_second() - made.as_second()) < MAKING_PATIENCE);
    let of_links: Vec<&Link> = mine.iter().filter(|link| link.is_link()).collect();
    let is_over = name.day <= today;
    let state = match (of_links.first(), mine.first()) {
        (Some(_), _) if of_links.iter().any(|link| !link.has_password()) => State::Unprotected,
        (Some(_), _) if only.is_none() => State::Mixed,
        (Some(_), _) => State::Works,
        (None, Some(_)) => State::SharedOtherwise,
        (None, None) if name.is_revoked() => State::Revoked,
        (None, None) if is_young => State::Unfinished,
        (None, None) if is_over => State::Expired,
        (None, None) => State::LinkGone,
    };
    Some(Share {
        id: name.id,
        name: only.and_then(|file| file.path.below(folder)).map(str::to_owned),
        len: only.map_or(0, |file| file.len),
        day: name.day,
        ends: match of_links.iter().map(|link| link.ends()).collect::<Option<Vec<_>>>() {
            None => Ends::Never,
            Some(ends) => ends.into_iter().max().map_or(Ends::NoLink, Ends::At),
        },
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

/// Removes all shares whose links are gone, or whose day has passed. If that is cancelled, the rest is left.
///
/// # Errors
///
/// If the folder can't be read. What happened to each share is in the result.
pub async fn prune(session: &Session, cancel: &Cancel) -> Result<Vec<Pruned>, ShareError> {
    let mut ledger = cancel.or(Ledger::read(session)).await?;
    let over: Vec<Share> = ledger.shares.extract_if(.., |share| share.is_over()).collect();
    let mut pruned = Vec::new();
    for share in over {
        if cancel.check().is_err() {
            break;
        }
        let result = ledger.remove(&share, cancel).await;
        let is_refused = matches!(&result, Err(ShareError::NotRemoved { cause, .. })
            if matches!(**cause, ShareError::Dav(DavError::LoginRefused { .. })));
        pruned.push(Pruned { share, result });
        if is_refused {
            break;
        }
    }
    Ok(pruned)
}
