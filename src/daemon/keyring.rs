//! The user's keyring: the Secret Service of the desktop (`org.freedesktop.secrets`), which GNOME Keyring, KWallet and
//! KeePassXC provide.
//!
//! Whoever reads the keyring's file sees the attributes of its items, so these are random numbers; what each belongs
//! to is known to `kept_secrets` alone. A locked keyring asks for its password in a window of its own, so it is asked
//! to unlock only for a person who waits for it. Such a window is left alone when nobody answers: gnome-keyring ends if
//! a program closes it (seen with 42.1 and 48.0).

use std::collections::HashMap;
use std::time::Duration;

use scaup_sftp::text::Line;
use secret_service::{Collection, EncryptionType, Item, SecretService};
use serde::{Deserialize, Serialize};
use zbus::connection::Builder;
use zeroize::Zeroizing;

/// How long the keyring may take for what needs nobody. Meanwhile a person waits for the next question.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a person may take to unlock the keyring, or to make one.
const PERSON_PATIENCE: Duration = Duration::from_secs(60);
/// The longest secret that is taken from the keyring, bytes: what a terminal accepts as one line.
const SECRET_LEN_MAX: usize = 4096;
/// What all items have.
const APPLICATION: [(&str, &str); 2] = [("application", "scaup"), ("xdg:schema", "io.github.scaup.Scaup")];

/// How long a secret is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// Until the user logs out: in memory only.
    Session,
    /// On this computer, encrypted with the keyring's password.
    Computer,
}

/// Why the keyring can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is none, or it refused.
    #[error("the keyring can't be used: {0}")]
    Refused(#[from] secret_service::Error),
    /// It did not reply in time.
    #[error("the keyring does not reply")]
    Silent,
    /// It is locked, and nobody is there who could unlock it.
    #[error("the keyring is locked")]
    Locked,
}

impl From<zbus::Error> for KeyringError {
    fn from(error: zbus::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// What the keyring has of a secret.
pub enum Found {
    /// The secret.
    Secret(Zeroizing<String>),
    /// It is there, but the keyring is locked.
    Locked,
    /// It is not there.
    Nothing,
}

/// The attributes of the item with this id.
fn attributes(id: &str) -> HashMap<&str, &str> {
    APPLICATION.into_iter().chain([("id", id)]).collect()
}

/// The keyring of this session.
pub struct Keyring(SecretService<'static>);

impl Keyring {
    /// Connects to the keyring.
    pub async fn connect() -> Result<Self, KeyringError> {
        within(PATIENCE, async {
            let bus = Builder::session()?.method_timeout(PATIENCE).build().await?;
            Ok(Self(SecretService::connect_with_existing(EncryptionType::Dh, bus).await?))
        })
        .await
    }

    /// Looks for the secret with this id. If a person waits, they may unlock the keyring for it.
    pub async fn find(&self, id: &str, is_attended: bool) -> Result<Found, KeyringError> {
        self.find_by(attributes(id), is_attended).await
    }

    /// Looks for the passphrase that the user's SSH agent has put there for a key file (GNOME's does).
    pub async fn find_of_agent(&self, key_file: &str) -> Result<Found, KeyringError> {
        let unique = format!("ssh-store:{key_file}");
        self.find_by(HashMap::from([("unique", unique.as_str())]), false).await
    }

    async fn find_by(&self, by: HashMap<&str, &str>, is_attended: bool) -> Result<Found, KeyringError> {
        let found = within(PATIENCE, async { Ok(self.0.search_items(by).await?) }).await?;
        let item = match (found.unlocked.first(), found.locked.first()) {
            (Some(item), _) => item,
            (None, Some(_)) if !is_attended => return Ok(Found::Locked),
            (None, Some(item)) => {
                within(PERSON_PATIENCE, async { Ok(item.unlock().await?) }).await?;
                item
            }
            (None, None) => return Ok(Found::Nothing),
        };
        let secret = within(PATIENCE, async { Ok(item.get_secret().await?) }).await?;
        let text = Some(secret).filter(|secret| secret.len() <= SECRET_LEN_MAX).map(String::from_utf8);
        Ok(text.and_then(Result::ok).map_or(Found::Nothing, |text| Found::Secret(Zeroizing::new(text))))
    }

    /// Puts a secret there, in the place of one with the same id. A person has to be waiting, who may unlock the
    /// keyring. The label is what programs that show keyrings call it.
    pub async fn keep(&self, id: &str, label: &str, secret: &str, life: Life) -> Result<(), KeyringError> {
        let collection = within(PATIENCE, self.collection(life)).await?;
        within(PERSON_PATIENCE, async {
            if collection.is_locked().await? {
                collection.unlock().await?;
            }
            let (label, text) = (Line::of(label), "text/plain; charset=utf8");
            let attributes = attributes(id);
            collection.create_item(label.as_str(), attributes, secret.as_bytes(), true, text).await?;
            Ok(())
        })
        .await
    }

    async fn collection(&self, life: Life) -> Result<Collection<'_>, KeyringError> {
        match life {
            Life::Session => Ok(self.0.get_collection_by_alias("session").await?),
            Life::Computer => match self.0.get_collection_by_alias("default").await {
                // Some desktops have one that they unlock at login, and no default.
                Err(secret_service::Error::NoResult) => Ok(self.0.get_collection_by_alias("login").await?),
                found => Ok(found?),
            },
        }
    }

    /// Removes the secret with this id, if it is there.
    pub async fn remove(&self, id: &str, is_attended: bool) -> Result<(), KeyringError> {
        let found = within(PATIENCE, async { Ok(self.0.search_items(attributes(id)).await?) }).await?;
        if !found.locked.is_empty() && !is_attended {
            return Err(KeyringError::Locked);
        }
        for item in found.locked.iter().chain(&found.unlocked) {
            within(PERSON_PATIENCE, remove(item)).await?;
        }
        Ok(())
    }
}

async fn remove(item: &Item<'_>) -> Result<(), KeyringError> {
    if item.is_locked().await? {
        item.unlock().await?;
    }
    Ok(item.delete().await?)
}

async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, KeyringError>>,
) -> Result<T, KeyringError> {
    tokio::time::timeout(time, work).await.unwrap_or(Err(KeyringError::Silent))
}
