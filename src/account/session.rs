//! An account that is logged in.

use std::path::Path;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::files::{self, Account, AccountError, AppPassword};
use super::login::{BrowserLogin, LoginError};
use crate::daemon::answer_programs::AnswerCommand;
use crate::daemon::keyring::{Found, Keyring, KeyringError, Life};
use crate::dav::{AddressError, Capabilities, Client, DavError, Home, Login, ServerAddress, User};

/// The oldest version that links are made on.
const MAJOR_MIN: u32 = 28;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The account's file can't be used.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The server's address can't be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The server refused, or can't be reached.
    #[error(transparent)]
    Dav(#[from] DavError),
    /// The login in the browser failed.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The server is too old.
    #[error("{host} runs Nextcloud {version}; Scaup needs version 28 or newer")]
    TooOld {
        /// Its host.
        host: String,
        /// Its version.
        version: String,
    },
    /// The command that prints the app password failed.
    #[error("no app password: {0}")]
    Command(String),
    /// The app password is not in the keyring any more.
    #[error(
        "the app password of {0} is not in the keyring any more: remove the account with `scaup account remove {0}`, and add it again"
    )]
    Gone(String),
    /// The keyring can't be used.
    #[error(
        "{0}; without a keyring, use --app-password-command CMD --user NAME, or --ask-every-time, which logs in by the browser each time and keeps no secret"
    )]
    Keyring(#[from] KeyringError),
}

/// How a person is told about a page that they have to open.
pub trait Browser {
    /// Shows the page, and opens it if that is possible. It is used while this process waits.
    fn open(&self, page: &str);
}

/// An account that is logged in.
pub struct Session {
    /// The account's name.
    pub name: String,
    /// The account.
    pub account: Account,
    /// Sends requests with its login.
    pub client: Client,
    /// Its files.
    pub home: Home,
    /// What its server can do.
    pub capabilities: Capabilities,
    /// Its user.
    pub user: User,
}

/// Returns the name by which the server calls what this machine does there.
#[must_use]
pub fn user_agent() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
    format!("Scaup {} ({host})", env!("CARGO_PKG_VERSION"))
}

fn client(url: &str, ca: Option<&Path>) -> Result<Client, SessionError> {
    Ok(Client::new(ServerAddress::parse(url)?, ca, &user_agent())?)
}

async fn log_in_by(browser: &dyn Browser, client: &Client) -> Result<Login, LoginError> {
    let login = BrowserLogin::begin(client).await?;
    browser.open(login.page());
    login.granted().await
}

fn printed_by(command: &str, account: &str) -> Result<Zeroizing<String>, SessionError> {
    let prompt = format!("App password for {account}: ");
    let directory = std::env::current_dir().unwrap_or_default();
    AnswerCommand { command, directory: &directory, prompt: &prompt, vault: None }
        .run_at_terminal()
        .map_err(SessionError::Command)
}

impl Session {
    /// Logs in.
    ///
    /// # Errors
    ///
    /// If there is no app password, or the server refuses it.
    pub async fn begin(name: String, account: Account, browser: &dyn Browser) -> Result<Self, SessionError> {
        let client = client(&account.url, account.ca.as_deref())?;
        let password = match &account.app_password {
            AppPassword::Keyring(id) => match Box::pin(from_keyring(*id)).await? {
                Some(password) => password,
                None => return Err(SessionError::Gone(name)),
            },
            AppPassword::Command(command) => printed_by(command, &name)?,
            AppPassword::AskEveryTime => {
                let login = log_in_by(browser, &client).await?;
                return Self::with(name, account, client.with_login(login)).await;
            }
        };
        let login = Login { name: account.login.clone(), password };
        Self::with(name, account, client.with_login(login)).await
    }

    async fn with(name: String, account: Account, client: Client) -> Result<Self, SessionError> {
        let begun = async {
            let user = client.user().await?;
            Ok::<_, DavError>((user, client.capabilities().await?))
        };
        let (user, capabilities) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                if account.app_password == AppPassword::AskEveryTime {
                    let _ = client.delete_app_password().await;
                }
                return Err(error.into());
            }
        };
        let home = Home::of(&client, &user.id);
        Ok(Self { name, account, client, home, capabilities, user })
    }

    /// Ends the session. An app password that was made for it is deleted on the server.
    ///
    /// # Errors
    ///
    /// If the server does not delete it.
    pub async fn end(&self) -> Result<(), DavError> {
        match self.account.app_password {
            AppPassword::AskEveryTime => self.client.delete_app_password().await,
            AppPassword::Keyring(_) | AppPassword::Command(_) => Ok(()),
        }
    }
}

async fn from_keyring(id: Uuid) -> Result<Option<Zeroizing<String>>, KeyringError> {
    match Keyring::connect().await?.find(&id.to_string(), true).await? {
        Found::Secret(password) => Ok(Some(password)),
        Found::Locked => Err(KeyringError::Locked),
        Found::Nothing => Ok(None),
    }
}

/// Adds an account under a name that is free. The login and user that it has are ignored, but for an app password that a
/// command prints, which belongs to this login.
///
/// # Errors
///
/// If the server refuses, or the app password can't be kept: then it is deleted on the server again.
pub async fn add(name: &str, mut account: Account, browser: &dyn Browser) -> Result<Session, SessionError> {
    files::check_free(name)?;
    let client = client(&account.url, account.ca.as_deref())?;
    account.url = client.address().to_string();
    let status = client.status().await?;
    if status.major() < MAJOR_MIN {
        let version = status.version().to_string();
        return Err(SessionError::TooOld { host: client.address().host(), version });
    }
    if let AppPassword::Keyring(_) = account.app_password {
        // Before the login: where there is none, the app password could not be kept.
        Box::pin(Keyring::connect()).await?;
    }
    let login = match &account.app_password {
        AppPassword::Command(command) => {
            Login { name: account.login.clone(), password: printed_by(command, name)? }
        }
        AppPassword::Keyring(_) | AppPassword::AskEveryTime => log_in_by(browser, &client).await?,
    };
    account.login.clone_from(&login.name);
    let password = login.password.clone();
    let mut session = Session::with(name.to_owned(), account, client.with_login(login)).await?;
    session.account.user.clone_from(&session.user.id);
    let kept = async {
        if let AppPassword::Keyring(id) = session.account.app_password {
            let label =
                format!("Scaup: the app password of {} at {}", session.account.login, session.account.url);
            let keyring = Box::pin(Keyring::connect()).await?;
            keyring.keep(&id.to_string(), &label, &password, Life::Computer).await?;
        }
        session.account.create(name).map_err(SessionError::from)
    };
    if let Err(error) = kept.await {
        if !matches!(session.account.app_password, AppPassword::Command(_)) {
            let _ = session.client.delete_app_password().await;
        }
        return Err(error);
    }
    session.end().await?;
    Ok(session)
}

/// Removes an account: its app password on the server and in the keyring, and its file. Returns whether the app password
/// was deleted on the server, unless there is none of ours.
///
/// # Errors
///
/// If the keyring or the file system refuses. Why the server did not delete it is in the result.
pub async fn remove(name: &str) -> Result<Option<Result<(), SessionError>>, SessionError> {
    let account = Account::load(name)?;
    let AppPassword::Keyring(id) = account.app_password else {
        files::remove_file(name)?;
        return Ok(None);
    };
    let deleted = async {
        let Some(password) = Box::pin(from_keyring(id)).await? else {
            return Err(SessionError::Gone(name.to_owned()));
        };
        let login = Login { name: account.login.clone(), password };
        Ok(client(&account.url, account.ca.as_deref())?.with_login(login).delete_app_password().await?)
    };
    let deleted = deleted.await;
    match Box::pin(Keyring::connect()).await {
        Ok(keyring) => keyring.remove(&id.to_string(), true).await?,
        // There is nothing to remove where there is no keyring.
        Err(error) => tracing::debug!(%error, "the app password is not removed from the keyring"),
    }
    files::remove_file(name)?;
    Ok(Some(deleted))
}
