//! Sessions of accounts at the terminal: the page of a login is shown there, and Ctrl-C ends them in good order.

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::error::CliError;
use super::{prompt, screen};
use crate::account::files::AccountError;
use crate::account::login::LoginError;
use crate::account::{self, Account, Browser, Session, SessionError};
use crate::daemon::protocol::FailureKind;
use crate::dav::{Cancel, DavError};

/// Shows the page of a login at the terminal, and opens it where there is a desktop.
pub(super) struct Terminal;

impl Browser for Terminal {
    fn open(&self, page: &str) {
        screen::tell("Open this page, log in and grant access (it waits 20 minutes; Ctrl-C gives up):");
        screen::tell(&format!("  {page}"));
        let has_desktop = ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
        if has_desktop && prompt::is_at_terminal() {
            let opened = Command::new("xdg-open")
                .arg(page)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            // The page stands there, too.
            drop(opened);
        }
    }
}

/// Runs work with what ends it: Ctrl-C, SIGTERM, or the end of the terminal. Then it cleans up; a second time ends this
/// process at once.
pub(super) fn run_cancellable<T>(
    work: impl AsyncFnOnce(&Cancel) -> Result<T, CliError>,
) -> Result<T, CliError> {
    // With a thread of its own, signals are heard while a command of the user's is waited for.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let cancel = Cancel::default();
    runtime.block_on(async {
        let mut signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        let on_signal = cancel.clone();
        tokio::spawn(async move {
            let [interrupt, terminate, hangup] = &mut signals;
            for is_first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                on_signal.cancel();
                screen::end_line();
                if is_first {
                    screen::tell("cancelled: cleaning up (again, it ends at once, and something may be left on the server)");
                    continue;
                }
                screen::fail(&format!(
                    "ended at once: `scaup share list` shows what is left on the server, and `scaup share revoke ID` removes it; an account that logs in each time may have left an app password called \"{}\"",
                    account::user_agent()
                ));
                prompt::restore_terminal();
                std::process::exit(FailureKind::LeftBehind.exit_code().into());
            }
        });
        work(&cancel).await
    })
}

/// Asks a person. The wish to end the work ends the question, too, and leaves the terminal as it was before.
pub(super) async fn ask(cancel: &Cancel, text: &str, echo: bool) -> Result<Zeroizing<String>, CliError> {
    let (open, other_end) = UnixStream::pair()?;
    let text = text.to_owned();
    let mut asking = spawn_blocking(move || prompt::ask_while(&text, echo, Some(&open)));
    let answer = tokio::select! {
        answer = &mut asking => answer,
        () = cancel.wished() => {
            drop(other_end);
            asking.await
        }
    };
    answer.map_err(CliError::other)?.map_err(CliError::other)
}

/// Works with the account that is meant, and ends the session, whatever the work comes to. Returns the result of the
/// work, and how the session ended.
pub(super) async fn in_session<T>(
    name: Option<&str>,
    cancel: &Cancel,
    work: impl AsyncFnOnce(&Session, &Cancel) -> Result<T, CliError>,
) -> Result<(T, Result<(), CliError>), CliError> {
    let (name, account) = Account::meant(name)?;
    let session = Session::begin(name, account, &Terminal, cancel).await?;
    let done = work(&session, cancel).await;
    let ended = session.end().await.map_err(CliError::from);
    match done {
        Ok(done) => Ok((done, ended)),
        Err(error) => both(Err(error), ended),
    }
}

/// Works with the account that is meant, and ends the session, whatever the work comes to.
pub(super) fn with_session<T>(
    name: Option<&str>,
    work: impl AsyncFnOnce(&Session, &Cancel) -> Result<T, CliError>,
) -> Result<T, CliError> {
    run_cancellable(async |cancel| {
        let (done, ended) = in_session(name, cancel, work).await?;
        both(Ok(done), ended)
    })
}

/// Returns what was done, unless that or the end of the session failed. If both did, the error tells both.
pub(super) fn both<T>(done: Result<T, CliError>, ended: Result<(), CliError>) -> Result<T, CliError> {
    match (done, ended) {
        (Err(done), Err(CliError { kind, message })) => {
            Err(CliError::new(kind, format!("{}\n{message}", done.message)))
        }
        (done, ended) => ended.and(done),
    }
}

/// Returns the class of a server's failure.
pub(super) fn kind_of(error: &DavError) -> FailureKind {
    match error {
        DavError::LoginRefused { .. } | DavError::TooMany { .. } => FailureKind::Login,
        DavError::Unreachable { .. } | DavError::NotTrusted { .. } | DavError::Maintenance { .. } => {
            FailureKind::Unreachable
        }
        _ => FailureKind::Other,
    }
}

impl From<AccountError> for CliError {
    fn from(error: AccountError) -> Self {
        let kind = match error {
            AccountError::Name(_)
            | AccountError::Folder(_)
            | AccountError::None
            | AccountError::Several(_) => FailureKind::Usage,
            _ => FailureKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<SessionError> for CliError {
    fn from(error: SessionError) -> Self {
        let kind = match error {
            SessionError::Account(error) => return error.into(),
            SessionError::Address(_) => FailureKind::Usage,
            SessionError::Dav(ref error) | SessionError::Login(LoginError::Dav(ref error)) => kind_of(error),
            SessionError::Command(_) | SessionError::Gone(_) | SessionError::OtherUser { .. } => {
                FailureKind::Login
            }
            SessionError::AppPasswordLeft { .. } | SessionError::Login(LoginError::ReplyLost { .. }) => {
                FailureKind::LeftBehind
            }
            SessionError::Login(_) | SessionError::TooOld { .. } | SessionError::Keyring(_) => {
                FailureKind::Other
            }
        };
        Self::new(kind, error)
    }
}
