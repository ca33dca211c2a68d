//! Shares a file: the steps, what is compared after each, and how they are undone.

use jiff::civil::DateTime;
use reqwest::Url;
use scaup_sftp::text::Line;
use zeroize::Zeroizing;

use super::day::{LastDay, is_as_asked};
use super::entry_name::{EntryName, Id};
use super::error::ShareError;
use super::links::{Link, NewLink};
use super::plan::Plan;
use super::receiver::try_link;
use super::source::EncryptedSource;
use crate::account::Session;
use crate::dav::{Cancel, DavError, Depth, FilePath, Home, Progress, Source, Upload};

/// How many ids are tried: each of them is free unless a server is played with.
const IDS_TRIED: usize = 3;
/// The first version on which nothing that Scaup removes goes to the trash.
const SKIPS_TRASH_SINCE: u32 = 31;
/// The first version that makes a bounded number of links in ten minutes.
const COUNTS_LINKS_SINCE: u32 = 32;

/// A file that is shared.
pub struct Shared {
    /// The id of the share.
    pub id: Id,
    /// The account's name.
    pub account: String,
    /// The link.
    pub link: Url,
    /// Whether the server believes that it has another address than the one by which it is reached.
    pub is_corrected: bool,
    /// The link's password.
    pub password: Zeroizing<String>,
    /// What decrypts the file, if it is encrypted.
    pub passphrase: Option<Zeroizing<String>>,
    /// When the link ends, as the server keeps it, on its clock.
    pub ends: DateTime,
    /// Whether it ends earlier than was asked for: where the server is, that day was beyond the longest it permits.
    pub is_shortened: bool,
    /// The name for the receiver.
    pub name: String,
    /// How much was uploaded, bytes.
    pub len: u64,
}

/// What may be on the server, since it was asked for.
struct Made {
    id: Id,
    folder: FilePath,
    file: FilePath,
    has_parts: bool,
    has_link: bool,
}

impl Made {
    fn upload_name(&self) -> String {
        upload_name(&self.id)
    }
}

/// Returns the name of the upload of a share.
pub(super) fn upload_name(id: &Id) -> String {
    format!("scaup-{id}")
}

impl Plan<'_> {
    /// Shares the file, and tells how far it is. If anything goes wrong, or the work
    /// is cancelled, all of it is undone. It has to run to its end: what is dropped half-way is not undone.
    ///
    /// # Errors
    ///
    /// If the server refuses, made something else, or can't be reached; [`ShareError::LeftBehind`] if something is left
    /// there that could not be removed.
    pub async fn execute(&self, progress: &Progress, cancel: &Cancel) -> Result<Shared, ShareError> {
        let mut made = None;
        match self.share(&mut made, progress, cancel).await {
            Ok(shared) => Ok(shared),
            Err(cause) => Err(match made {
                None => cause,
                Some(made) => undo(self.session, &made, cause).await,
            }),
        }
    }

    async fn share(
        &self,
        made: &mut Option<Made>,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Shared, ShareError> {
        let (session, home) = (self.session, &self.session.home);
        cancel.check()?;
        // Before anything is on the server: this takes a second.
        let mut source: Box<dyn Source> = match &self.passphrase {
            None => Box::new(self.source.clone()),
            Some(passphrase) => {
                Box::new(EncryptedSource::new(self.source.clone(), passphrase.clone()).await?)
            }
        };
        let all = FilePath::new(&session.account.folder);
        make_folders(home, &all).await?;
        let made = self.make_entry(&all, made).await?;
        cancel.check()?;
        made.has_parts = Upload::takes_parts(self.len_sent);
        let upload = Upload {
            home,
            path: &made.file,
            name: &made.upload_name(),
            part_len_max: session.capabilities.part_len_max,
            progress,
            cancel,
        };
        upload.run(source.as_mut()).await.map_err(|error| self.about_name(error))?;
        cancel.check()?;
        let (link, day) = self.make_link_in_time(made).await?;
        cancel.check()?;
        let (id, link) = (link.id, cancel.or(session.link(link.id)).await?);
        let link = link.ok_or_else(|| ShareError::NotAsAsked(format!("link {id} is not there")))?;
        let ends = compare(&link, &made.file, day)?;
        let address = session.client.address();
        let (url, is_corrected) =
            link.url(address).ok_or_else(|| ShareError::NotAsAsked("it has no address".to_owned()))?;
        let token = link.token().ok_or_else(|| ShareError::NotAsAsked("it has no address".to_owned()))?;
        cancel.or(try_link(session, &url, token, &self.password, self.len_sent)).await?;
        cancel.check()?;
        Ok(Shared {
            id: made.id.clone(),
            account: session.name.clone(),
            link: url,
            is_corrected,
            password: self.password.clone(),
            passphrase: self.passphrase.clone(),
            ends,
            is_shortened: day != self.last_day,
            name: self.name.clone(),
            len: self.len_sent,
        })
    }

    /// Makes the folder of this share.
    async fn make_entry<'m>(
        &self,
        all: &FilePath,
        made: &'m mut Option<Made>,
    ) -> Result<&'m mut Made, ShareError> {
        let home = &self.session.home;
        for _ in 0..IDS_TRIED {
            let id = Id::random()?;
            let folder = all.join(&EntryName { day: self.last_day.asked, id: id.clone() }.to_string());
            let file = folder.join(&self.name);
            let this = made.insert(Made { id, folder, file, has_parts: false, has_link: false });
            let is_free = match home.make_folder(&this.folder).await {
                Ok(true) => Ok(true),
                // It may be one that was made at the first try, whose reply was lost: then nothing is in it.
                Ok(false) => Ok(home.list(&this.folder, Depth::All).await?.len() == 1),
                Err(error) => Err(error),
            };
            match is_free {
                Ok(true) => break,
                Ok(false) => *made = None,
                Err(error) => {
                    if !error.may_be_done() {
                        *made = None;
                    }
                    return Err(error.into());
                }
            }
        }
        made.as_mut().ok_or_else(|| ShareError::NotAsAsked("no folder is free".to_owned()))
    }

    /// Makes the link, with the day on which it ends. What is refused because of the server's time zone, which it did
    /// not say, is asked for again with the day before.
    async fn make_link_in_time(&self, made: &mut Made) -> Result<(Link, LastDay), ShareError> {
        let mut day = self.last_day;
        loop {
            match self.make_link(made, day).await {
                Ok(link) => return Ok((link, day)),
                Err(ShareError::Dav(error)) if error.is_missing() => match self.calendar.shortened(day) {
                    Some(shorter) => day = shorter,
                    None => return Err(self.about_link(day, error).await),
                },
                Err(ShareError::Dav(error)) => return Err(self.about_link(day, error).await),
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the link. If nobody knows whether it was made, it is looked for, since a second one would need a password
    /// of its own.
    async fn make_link(&self, made: &mut Made, day: LastDay) -> Result<Link, ShareError> {
        let file = &made.file;
        let new = NewLink {
            file,
            password: &self.password,
            ends: day.asked.to_string(),
            note: self.note.as_deref(),
        };
        let mut link = self.session.make_link(&new).await;
        made.has_link = link.as_ref().err().is_none_or(DavError::may_be_done);
        if link.as_ref().is_err_and(DavError::may_be_done) {
            link = match self.session.links_of(file).await?.pop() {
                Some(link) => Ok(link),
                None => self.session.make_link(&new).await,
            };
        }
        Ok(link?)
    }

    /// Returns why the server made no link: what it permits may have changed during the upload.
    async fn about_link(&self, day: LastDay, error: DavError) -> ShareError {
        let (host, status, message) = match error {
            DavError::TooMany { host, .. } if self.session.capabilities.major >= COUNTS_LINKS_SINCE => {
                return ShareError::TooManyLinks { host };
            }
            DavError::Refused { host, status: status @ 400..500, message, .. } => (host, status, message),
            error => return error.into(),
        };
        match self.session.client.capabilities().await {
            Ok(now) if !now.links.are_allowed => return ShareError::LinksForbidden { host },
            Ok(now) if now.links.days_max != self.session.capabilities.links.days_max => {
                if let Some(days) = now.links.days_max {
                    return ShareError::TooManyDays { days };
                }
            }
            // The refusal is told without it.
            Ok(_) | Err(_) => {}
        }
        if status == 404 && self.calendar.may_be_over(day) {
            return ShareError::EndsBeforeItBegins;
        }
        ShareError::LinkRefused { host, status, message }
    }

    /// Returns what a refused upload says about the file's name: not all that a server refuses is known before.
    fn about_name(&self, error: DavError) -> ShareError {
        match error {
            DavError::Refused { status: status @ (400 | 403), message, .. } => ShareError::Name {
                name: Line::of(&self.name),
                why: message.map_or_else(|| status.to_string(), |message| message.to_string()),
            },
            error => error.into(),
        }
    }
}

/// Makes sure that the server made the link that was asked for. Returns when it ends.
fn compare(link: &Link, file: &FilePath, day: LastDay) -> Result<DateTime, ShareError> {
    let wrong = |why: &str| ShareError::NotAsAsked(why.to_owned());
    if !link.is_link() || !link.only_reads() {
        return Err(wrong("whoever opens it could change something"));
    }
    if !link.has_password() {
        return Err(wrong("it has no password"));
    }
    if link.path().as_ref() != Some(file) {
        return Err(wrong("it leads to another file"));
    }
    let ends = link.ends().ok_or_else(|| wrong("it does not end"))?;
    if is_as_asked(ends, day.asked) { Ok(ends) } else { Err(wrong("it ends on another day")) }
}

async fn make_folders(home: &Home, path: &FilePath) -> Result<(), DavError> {
    let mut whole = FilePath::new("");
    for name in path.as_str().split('/') {
        whole = whole.join(name);
        home.make_folder(&whole).await?;
    }
    Ok(())
}

/// Returns whether a copy of what is removed has to be looked for in the trash.
fn keeps_trash(session: &Session) -> bool {
    session.capabilities.major < SKIPS_TRASH_SINCE || !session.capabilities.can_empty_trash
}

/// Undoes what was made. The link goes first: once its file is in the trash, the server does not show it any more, and
/// it would live again with the file. What can't be removed is left with its folder, by which it can be found.
async fn undo(session: &Session, made: &Made, cause: ShareError) -> ShareError {
    let left = match remove_made(session, made).await {
        Ok(()) => return cause,
        Err(left) => left,
    };
    let host = session.client.address().host();
    let command = format!("scaup share revoke {} --account {}", made.id, session.name);
    ShareError::LeftBehind { cause: Box::new(cause), host, left, command }
}

/// Removes what was made, step by step; an error names what may still be there.
async fn remove_made(session: &Session, made: &Made) -> Result<(), Vec<&'static str>> {
    let home = &session.home;
    if made.has_link && remove_links(session, &made.file).await.is_err() {
        return Err(vec!["a link to the file", "the file"]);
    }
    if made.has_parts && home.remove_upload(&made.upload_name()).await.is_err() {
        return Err(vec!["parts of the file", "its folder"]);
    }
    if home.remove(&made.folder).await.is_err() {
        return Err(vec!["the file"]);
    }
    if keeps_trash(session) && home.empty_trash_of(|path| path.is_in(&made.folder)).await.is_err() {
        return Err(vec!["a copy of the file in the trash"]);
    }
    Ok(())
}

async fn remove_links(session: &Session, file: &FilePath) -> Result<(), DavError> {
    for link in session.links_of(file).await? {
        session.remove_link(link.id).await?;
    }
    Ok(())
}
