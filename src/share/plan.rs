//! Everything that is known before a file is shared, for a person to agree to.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use scaup_sftp::text::Line;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::day::{Calendar, End, LastDay};
use super::error::ShareError;
use super::file_name;
use super::origin::{Origin, origin_of};
use super::password;
use super::source::{PlainSource, encrypted_len};
use crate::account::Session;
use crate::dav::Source;

/// The end of the name of a file that is encrypted.
const ENCRYPTED_END: &str = ".age";
/// How much the clocks may differ, seconds.
const CLOCK_TOLERANCE: i64 = 3600;

/// A file that a person has chosen to share.
#[derive(Debug)]
pub struct Chosen {
    origin: Origin,
    path: PathBuf,
    source: PlainSource,
}

impl Chosen {
    /// Looks at the file. No server is needed for it.
    ///
    /// # Errors
    ///
    /// If it can't be read, is no file, or lies in a vault that is locked.
    pub fn look(path: &Path) -> Result<Self, ShareError> {
        let origin = origin_of(path)?;
        Ok(Self { origin, path: path.to_owned(), source: PlainSource::open(path)? })
    }

    fn name(&self) -> Result<String, ShareError> {
        let name = self.path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        name.ok_or_else(|| ShareError::Name {
            name: Line::of(&self.path.to_string_lossy()),
            why: "it is not UTF-8".to_owned(),
        })
    }
}

/// How a person wants the file to be shared.
#[derive(Debug)]
pub struct Wish {
    /// When the link ends.
    pub end: End,
    /// The name for the receiver, if not the file's own.
    pub name: Option<String>,
    /// What the receiver reads beside the file.
    pub note: Option<String>,
    /// Whether the file is encrypted with a passphrase, so that the server can't read it.
    pub end_to_end: bool,
    /// The user's own secret for the second way: the password of the link, or with `end_to_end` the passphrase.
    pub own_secret: Option<Zeroizing<String>>,
}

/// What will be done. Nothing has happened yet.
pub struct Plan<'a> {
    pub(super) session: &'a Session,
    pub(super) source: PlainSource,
    pub(super) calendar: Calendar,
    pub(super) last_day: LastDay,
    pub(super) password: Zeroizing<String>,
    pub(super) passphrase: Option<Zeroizing<String>>,
    pub(super) note: Option<String>,
    /// Where the file comes from.
    pub origin: Origin,
    /// The file's name here, to be shown.
    pub name_here: Line,
    /// The name for the receiver.
    pub name: String,
    /// The file's length, bytes.
    pub len: u64,
    /// How much will be uploaded, bytes.
    pub len_sent: u64,
}

impl<'a> Plan<'a> {
    /// Makes a plan. What the server would refuse is refused here, before the upload.
    ///
    /// # Errors
    ///
    /// If the server permits no such link, has no room, or would not accept the name or the password.
    pub async fn make(session: &'a Session, chosen: Chosen, wish: Wish) -> Result<Self, ShareError> {
        let name_here = Line::of(&chosen.path.file_name().unwrap_or_default().to_string_lossy());
        let name = wish.name.map_or_else(|| chosen.name(), Ok)?;
        let Chosen { origin, source, .. } = chosen;
        let host = session.client.address().host();
        let capabilities = &session.capabilities;
        if !capabilities.links.are_allowed {
            return Err(ShareError::LinksForbidden { host });
        }
        if let Some(ahead) = session.client.clock_ahead().filter(|ahead| ahead.abs() > CLOCK_TOLERANCE) {
            return Err(ShareError::Clock { host, hours: ahead.abs() / 3600 });
        }
        let calendar = Calendar::of(session);
        let last_day = calendar.last_day(wish.end)?;
        // As the server stores it.
        let mut name: String = name.nfc().collect();
        if wish.end_to_end {
            name.push_str(ENCRYPTED_END);
        }
        file_name::check(&name, &capabilities.names)?;
        let len = source.len();
        let len_sent = if wish.end_to_end { encrypted_len(len)? } else { len };
        if let Some(free) = session.user.room().filter(|&free| free < len_sent) {
            return Err(ShareError::NoRoom { host, free, needed: len_sent });
        }
        let (own_password, passphrase) = match (wish.end_to_end, wish.own_secret) {
            (_, Some(own)) if own.is_empty() => return Err(ShareError::EmptySecret),
            (true, own) => (None, Some(own.map_or_else(password::passphrase, Ok)?)),
            (false, own) => (own, None),
        };
        let password = session.link_password(own_password).await?;
        Ok(Self {
            session,
            source,
            calendar,
            last_day,
            password,
            passphrase,
            note: wish.note,
            origin,
            name_here,
            name,
            len,
            len_sent,
        })
    }

    /// Returns the last whole day on which the link shall work.
    #[must_use]
    pub fn works_until(&self) -> Date {
        self.last_day.works_until
    }

    /// Returns the server's host.
    #[must_use]
    pub fn host(&self) -> String {
        self.session.client.address().host()
    }

    /// Returns whether the file is encrypted with a passphrase.
    #[must_use]
    pub fn is_end_to_end(&self) -> bool {
        self.passphrase.is_some()
    }
}
