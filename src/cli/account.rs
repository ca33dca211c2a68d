//! `scaup account`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::account_session::{Terminal, run_cancellable};
use super::error::CliError;
use super::screen;
use crate::account::files::{FOLDER, names};
use crate::account::{self, Account, AppPassword, Session};
use crate::daemon::protocol::FailureKind;
use crate::dav::ServerAddress;

/// Manage accounts on Nextcloud servers, for `scaup share`.
#[derive(Subcommand)]
pub(super) enum AccountCommand {
    Add(AddArguments),
    /// List the accounts.
    List,
    /// Remove an account, and its app password on the server.
    Remove {
        /// The account's name
        name: String,
    },
}

/// Add an account: log in by the browser.
#[derive(Args)]
#[command(
    after_help = "The browser logs in, so that any second factor works. Scaup gets an app password from the server: it opens the account's \
    files without a second factor, and can be revoked there under Settings, Security. It is kept in the desktop's keyring, or with \
    --app-password-command printed by a command of yours. With --ask-every-time, it is deleted after each command, and no secret stays.\n\n\
    Examples:\n  \
    scaup account add https://cloud.example\n  \
    scaup account add https://cloud.example --ask-every-time\n  \
    scaup account add https://cloud.example --user alice --app-password-command 'pass show cloud.example'"
)]
pub(super) struct AddArguments {
    /// The server's address, such as https://cloud.example
    url: String,
    /// The account's name here [default: the server's host]
    #[arg(long)]
    name: Option<String>,
    /// Trust the authorities whose certificates this file holds (PEM), too
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The folder on the server for what is shared [default: "Scaup shares.~", which sync clients skip]
    #[arg(long, value_name = "PATH")]
    folder: Option<String>,
    /// A command that prints an app password, which you have made on the server
    #[arg(long, value_name = "CMD", requires = "user", conflicts_with = "ask_every_time")]
    app_password_command: Option<String>,
    /// The name to log in with, for --app-password-command
    #[arg(long, value_name = "NAME", requires = "app_password_command")]
    user: Option<String>,
    /// Log in by the browser each time, and keep no app password
    #[arg(long)]
    ask_every_time: bool,
}

pub(super) fn run(command: AccountCommand) -> Result<(), CliError> {
    match command {
        AccountCommand::Add(arguments) => add(arguments),
        AccountCommand::List => list(),
        AccountCommand::Remove { name } => remove(&name),
    }
}

fn add(arguments: AddArguments) -> Result<(), CliError> {
    let AddArguments { url, name, ca, folder, app_password_command, user, ask_every_time } = arguments;
    let address = ServerAddress::parse(&url).map_err(CliError::usage)?;
    let host = address.host();
    // An address of numbers in brackets makes no name.
    let name =
        name.unwrap_or_else(|| host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host).to_owned());
    let app_password = match app_password_command {
        Some(command) => AppPassword::Command(command),
        None if ask_every_time => AppPassword::AskEveryTime,
        None => AppPassword::Keyring(Uuid::new_v4()),
    };
    let account = Account {
        url,
        login: user.unwrap_or_default(),
        user: String::new(),
        folder: folder.unwrap_or_else(|| FOLDER.to_owned()),
        ca: ca.map(std::path::absolute).transpose()?,
        app_password,
    };
    let (session, ended) = run_cancellable(async |cancel| {
        let session = account::add(&name, account, &Terminal, cancel).await?;
        let ended = session.end().await;
        Ok((session, ended))
    })?;
    let Session { account, capabilities, user, .. } = session;
    let shown = if user.display_name.is_empty() { &user.id } else { &user.display_name };
    screen::out(&format!("logged in as {} ({shown})", account.login));
    let mut links = vec![if capabilities.links.are_allowed {
        "links allowed".to_owned()
    } else {
        "links are NOT allowed, so nothing can be shared".to_owned()
    }];
    if capabilities.links.need_password {
        links.push("password required".to_owned());
    }
    links.extend(capabilities.links.days_max.map(|days| format!("at most {days} days")));
    let links = links.join(", ");
    screen::out(&format!("Nextcloud {}; {links}", capabilities.version));
    screen::out(&match account.app_password {
        AppPassword::Keyring(_) => format!(
            "the app password is in your keyring; on the server it is called \"{}\"",
            account::user_agent()
        ),
        AppPassword::Command(_) => "the app password is printed by your command each time".to_owned(),
        AppPassword::AskEveryTime => {
            "the app password was deleted again; each command asks the browser".to_owned()
        }
    });
    screen::out(&format!("account {name} is ready"));
    Ok(ended?)
}

fn list() -> Result<(), CliError> {
    let names = names()?;
    if names.is_empty() {
        screen::tell("there is no account yet: add one with `scaup account add https://…`");
    }
    for name in names {
        match Account::load(&name) {
            Ok(account) => screen::out_columns(&[&name, &account.login, &account.url]),
            Err(error) => screen::fail(&error.to_string()),
        }
    }
    Ok(())
}

fn remove(name: &str) -> Result<(), CliError> {
    let deleted = run_cancellable(async |_| Ok(account::remove(name).await?))?;
    let result = match deleted {
        Some(Ok(())) => {
            screen::out("the app password was deleted on the server");
            Ok(())
        }
        Some(Err(error)) => Err(CliError::new(
            FailureKind::LeftBehind,
            format!(
                "the app password is still valid on the server ({error}): revoke it there, under Settings, Security"
            ),
        )),
        None => Ok(()),
    };
    screen::out(&format!("account {name} is removed"));
    result
}
