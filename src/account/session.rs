//! An account that is logged in.

use std::path::Path;

use scaup_sftp::text::Line;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::files::{self, Account, AccountError, AppPassword};
use super::login::{BrowserLogin, LoginError, user_agent};
use crate::daemon::answer_programs::AnswerCommand;
use crate::daemon::keyring::{Found, Keyring, KeyringError, Life};
use crate::dav::{AddressError, Cancel, Capabilities, Client, DavError, Home, Login, ServerAddress, User};

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
    /// Somebody else logged in.
    #[error(
        "{actual} logged in, but account {name} is for {expected}: log in as {expected}, or add another account"
    )]
    OtherUser {
        /// The account's name.
        name: String,
        /// Its user.
        expected: String,
        /// Who logged in.
        actual: Line,
    },
    /// The app password that was made for this login may still be valid.
    #[error(
        "{}the app password of this login may still be valid ({error}): revoke \"{}\" on {host}, under Settings, Security",
        .cause.as_ref().map_or_else(String::new, |cause| format!("{cause}\n")),
        user_agent()
    )]
    AppPasswordLeft {
        /// Why the login ended, if it was no success.
        cause: Option<Box<SessionError>>,
        /// Why the app password was not deleted.
        error: DavError,
        /// The server's host.
        host: String,
    },
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

fn client(url: &str, ca: Option<&Path>) -> Result<Client, SessionError> {
    Ok(Client::new(ServerAddress::parse(url)?, ca, &user_agent())?)
}

/// Logs in by the browser. Whoever gets this client has to delete its app password, or to keep it.
async fn log_in_by(browser: &dyn Browser, client: &Client, cancel: &Cancel) -> Result<Client, SessionError> {
    let login = cancel.or(BrowserLogin::begin(client)).await?;
    browser.open(login.page());
    let granted = login.granted(cancel).await?;
    let client = client.with_login(granted.login);
    match granted.other {
        None => Ok(client),
        Some(other) => Err(give_up(&client, other.into()).await),
    }
}

/// Deletes an app password that is not going to be used.
async fn give_up(client: &Client, cause: SessionError) -> SessionError {
    match client.delete_app_password().await {
        Ok(()) => cause,
        Err(error) => SessionError::AppPasswordLeft {
            cause: Some(Box::new(cause)),
            error,
            host: client.address().host(),
        },
    }
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
    pub async fn begin(
        name: String,
        account: Account,
        browser: &dyn Browser,
        cancel: &Cancel,
    ) -> Result<Self, SessionError> {
        let client = client(&account.url, account.ca.as_deref())?;
        let password = match &account.app_password {
            AppPassword::Keyring(id) => match Box::pin(from_keyring(*id)).await? {
                Some(password) => password,
                None => return Err(SessionError::Gone(name)),
            },
            AppPassword::Command(command) => printed_by(command, &name)?,
            AppPassword::AskEveryTime => {
                let client = log_in_by(browser, &client, cancel).await?;
                return match Self::with(name, account, client.clone(), cancel).await {
                    Ok(session) => Ok(session),
                    Err(error) => Err(give_up(&client, error).await),
                };
            }
        };
        let login = Login { name: account.login.clone(), password };
        Self::with(name, account, client.with_login(login), cancel).await
    }

    async fn with(
        name: String,
        account: Account,
        client: Client,
        cancel: &Cancel,
    ) -> Result<Self, SessionError> {
        let user = cancel.or(client.user()).await?;
        // A new account has none yet.
        if !account.user.is_empty() && account.user != user.id {
            return Err(SessionError::OtherUser { name, expected: account.user, actual: Line::of(&user.id) });
        }
        let capabilities = cancel.or(client.capabilities()).await?;
        let home = Home::of(&client, &user.id);
        Ok(Self { name, account, client, home, capabilities, user })
    }

    /// Ends the session. An app password that was made for it is deleted on the server.
    ///
    /// # Errors
    ///
    /// [`SessionError::AppPasswordLeft`].
    pub async fn end(&self) -> Result<(), SessionError> {
        match self.account.app_password {
            AppPassword::AskEveryTime => self.client.delete_app_password().await.map_err(|error| {
                SessionError::AppPasswordLeft { cause: None, error, host: self.client.address().host() }
            }),
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

/// Adds an account under a name that is free. The login and user that it has are ignored, but for an app password that
/// a command prints, which belongs to this login. The session that is returned has to be ended.
///
/// # Errors
///
/// If the server refuses, or the app password can't be kept: then it is deleted on the server again.
pub async fn add(
    name: &str,
    mut account: Account,
    browser: &dyn Browser,
    cancel: &Cancel,
) -> Result<Session, SessionError> {
    files::check_free(name)?;
    account.folder = files::checked_folder(&account.folder)?;
    let client = client(&account.url, account.ca.as_deref())?;
    account.url = client.address().to_string();
    let status = cancel.or(client.status()).await?;
    if status.major() < MAJOR_MIN {
        let version = status.version().to_string();
        return Err(SessionError::TooOld { host: client.address().host(), version });
    }
    if let AppPassword::Keyring(_) = account.app_password {
        // Before the login: where there is none, the app password could not be kept.
        Box::pin(Keyring::connect()).await?;
    }
    if let AppPassword::Command(command) = &account.app_password {
        let login = Login { name: account.login.clone(), password: printed_by(command, name)? };
        return kept(name, account, client.with_login(login), cancel).await;
    }
    let client = log_in_by(browser, &client, cancel).await?;
    match kept(name, account, client.clone(), cancel).await {
        Ok(session) => Ok(session),
        Err(error) => Err(give_up(&client, error).await),
    }
}

/// Writes an account that is logged in, and keeps its app password where it belongs.
async fn kept(
    name: &str,
    account: Account,
    client: Client,
    cancel: &Cancel,
) -> Result<Session, SessionError> {
    let mut session = Session::with(name.to_owned(), account, client, cancel).await?;
    let Some(login) = session.client.login() else { return Ok(session) };
    session.account.login.clone_from(&login.name);
    session.account.user.clone_from(&session.user.id);
    if let AppPassword::Keyring(id) = session.account.app_password {
        let label =
            format!("Scaup: the app password of {} at {}", session.account.login, session.account.url);
        let keyring = Box::pin(Keyring::connect()).await?;
        keyring.keep(&id.to_string(), &label, &login.password, Life::Computer).await?;
    }
    if let Err(error) = session.account.create(name) {
        if let AppPassword::Keyring(id) = session.account.app_password {
            Box::pin(Keyring::connect()).await?.remove(&id.to_string(), true).await?;
        }
        return Err(error.into());
    }
    Ok(session)
}

/// Removes an account: its app password on the server and in the keyring, and its file. Returns whether the app
/// password was deleted on the server, unless there is none of ours.
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
