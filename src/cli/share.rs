//! `scaup share`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::{Date, DateTime};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use scaup_sftp::text::Line;
use serde::Serialize;
use tokio::time::interval;
use zeroize::Zeroizing;

use super::account_session::{ask, both, in_session, kind_of, run_cancellable, with_session};
use super::error::CliError;
use super::progress::ProgressLine;
use super::{prompt, screen};
use crate::account::Session;
use crate::config::size;
use crate::daemon::answer_programs::AnswerCommand;
use crate::daemon::protocol::FailureKind;
use crate::dav::{Cancel, Progress};
use crate::share::{
    Chosen, End, Ends, Id, Ledger, Origin, Plan, Share, ShareError, Shared, State, Wish, prune,
};

/// How long a link lasts if nothing else is said, days.
const DAYS: i32 = 7;
/// The shortest passphrase that is accepted without a warning, characters.
const PASSPHRASE_LEN_MIN: usize = 12;
/// How often the progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// Share one file by a link, with a password and an end.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "The file is uploaded to your account on a Nextcloud server (`scaup account add`) and gets a link with a password and a last day. \
    There it lies readable for the server, unless you share it with --end-to-end: then it is encrypted with a passphrase by the format of \
    age, and the receiver opens it with any program that knows that format. Send the link one way (mail), and the password or passphrase another \
    (telephone). `scaup share prune` removes files whose links have ended.\n\n\
    Examples:\n  \
    scaup share ~/Scaup/hq/Vault/Offer.pdf\n  \
    scaup share --end-to-end --days 3 ~/Scaup/hq/Vault/Offer.pdf\n  \
    scaup share list\n  \
    scaup share revoke k7m2qx"
)]
pub(super) struct ShareArguments {
    #[command(subcommand)]
    command: Option<ShareCommand>,
    #[command(flatten)]
    file: FileArguments,
}

#[derive(Subcommand)]
enum ShareCommand {
    List(ListArguments),
    /// Remove links and their files, from the server's trash, too.
    Revoke {
        /// The ids, as `scaup share list` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// The account, if there are several
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Remove the files whose links are gone or have ended.
    Prune {
        /// The account, if there are several
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Let a link last longer, or shorter, counted from today.
    Extend {
        /// The id, as `scaup share list` shows it
        id: String,
        /// For how many days from now
        #[arg(long, value_name = "N")]
        days: i32,
        /// The account, if there are several
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
}

/// List what is shared, from whichever machine.
#[derive(Args)]
struct ListArguments {
    /// For programs
    #[arg(long)]
    json: bool,
    /// The account, if there are several
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

#[derive(Args)]
struct FileArguments {
    /// The file; one called `list`, `revoke`, `prune` or `extend` as ./list
    #[arg(required = true)]
    file: Option<PathBuf>,
    /// For how many days the link works [default: 7]
    #[arg(long, value_name = "N", conflicts_with = "until")]
    days: Option<i32>,
    /// The last day on which the link works, such as 2026-12-05
    #[arg(long, value_name = "DATE")]
    until: Option<Date>,
    /// The name for the receiver, if not the file's own
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// A note that the receiver reads beside the file
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Encrypt the file with a passphrase, so that the server can't read it
    #[arg(long)]
    end_to_end: bool,
    /// The account, if there are several
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Do not ask whether to share it
    #[arg(long)]
    yes: bool,
    /// A command that prints the password of your own, or with --end-to-end the passphrase
    #[arg(long, value_name = "CMD")]
    password_command: Option<String>,
    /// Print the link, and the password on standard error, without waiting in between
    #[arg(long)]
    print_both: bool,
    /// Show this as a QR code, too; with --print-both on standard error
    #[arg(long, value_name = "WHAT", conflicts_with = "json")]
    qr: Option<Qr>,
    /// For programs; with the password only if --print-both is there, too
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Qr {
    /// The link.
    Link,
    /// The password, or with --end-to-end the passphrase.
    Password,
}

pub(super) fn run(arguments: ShareArguments) -> Result<(), CliError> {
    match arguments.command {
        None => share(arguments.file),
        Some(ShareCommand::List(ListArguments { json, account })) => list(json, account.as_deref()),
        Some(ShareCommand::Revoke { ids, account }) => revoke(&ids, account.as_deref()),
        Some(ShareCommand::Prune { account }) => prune_all(account.as_deref()),
        Some(ShareCommand::Extend { id, days, account }) => extend(&id, days, account.as_deref()),
    }
}

fn share(arguments: FileArguments) -> Result<(), CliError> {
    let is_attended = prompt::is_at_terminal();
    if !is_attended && !(arguments.yes && (arguments.print_both || arguments.json)) {
        return Err(CliError::usage(
            "there is no terminal: use --yes, and --print-both or --json to say what is printed",
        ));
    }
    let path = arguments.file.clone().unwrap_or_default();
    let chosen = Chosen::look(&path)?;
    let own_secret = arguments.password_command.as_deref().map(own_secret).transpose()?;
    run_cancellable(async |cancel| {
        let work = async |session: &Session, cancel: &Cancel| {
            upload(session, cancel, chosen, own_secret, &arguments).await
        };
        let (shared, ended) = in_session(arguments.account.as_deref(), cancel, work).await?;
        let shown = match shared {
            Some(shared) => show(&shared, &arguments, cancel).await,
            None => Ok(()),
        };
        both(shown, ended)
    })
}

fn own_secret(command: &str) -> Result<Zeroizing<String>, CliError> {
    let directory = std::env::current_dir().unwrap_or_default();
    AnswerCommand { command, directory: &directory, prompt: "Password for the link: ", vault: None }
        .run_at_terminal()
        .map_err(CliError::other)
}

/// Shares the file, if the person agrees.
async fn upload(
    session: &Session,
    cancel: &Cancel,
    chosen: Chosen,
    own_secret: Option<Zeroizing<String>>,
    arguments: &FileArguments,
) -> Result<Option<Shared>, CliError> {
    let wish = Wish {
        end: arguments.until.map_or(End::AfterDays(arguments.days.unwrap_or(DAYS)), End::On),
        name: arguments.name.clone(),
        note: arguments.note.clone(),
        end_to_end: arguments.end_to_end,
        own_secret,
    };
    let is_short = |secret: &Zeroizing<String>| secret.chars().count() < PASSPHRASE_LEN_MIN;
    if wish.end_to_end && wish.own_secret.as_ref().is_some_and(is_short) {
        screen::tell(
            "this passphrase is short: whoever has the file can try all of that length; let Scaup make one",
        );
    }
    let plan = cancel.or(Plan::make(session, chosen, wish)).await?;
    explain(&plan);
    // What stays encrypted needs no second thought.
    if !arguments.yes && !plan.is_end_to_end() {
        let answer = ask(cancel, "Share it (yes/no)? ", true).await?;
        if !answer.trim().eq_ignore_ascii_case("yes") {
            screen::tell("nothing was shared");
            return Ok(None);
        }
    }
    let sent = Progress::default();
    let mut work = std::pin::pin!(plan.execute(&sent, cancel));
    let line = ProgressLine::new();
    let mut shown = interval(SHOWN_EVERY);
    let shared = loop {
        tokio::select! {
            shared = &mut work => break shared?,
            _ = shown.tick() => line.show(in_progress(&sent, plan.len_sent, cancel)),
        }
    };
    drop(line);
    screen::tell("uploaded, and the server's copy compared");
    Ok(Some(shared))
}

fn in_progress(progress: &Progress, all: u64, cancel: &Cancel) -> String {
    let sent = progress.sent();
    if cancel.check().is_err() {
        "removing what was uploaded".to_owned()
    } else if sent < all {
        format!("sending: {} of {}", size::show(sent), size::show(all))
    } else if progress.is_late() {
        "waiting for the server, which still works on the file".to_owned()
    } else {
        "making the link, and trying it".to_owned()
    }
}

fn explain(plan: &Plan<'_>) {
    let (name, host, day) = (&plan.name_here, plan.host(), plan.works_until());
    if plan.is_end_to_end() {
        let encrypted = &plan.name;
        let clear = quoted(encrypted.strip_suffix(".age").unwrap_or(encrypted));
        let to_open = quoted(encrypted);
        screen::tell(&format!(
            "{name} stays end-to-end encrypted: {host} gets {encrypted}, which opens with the passphrase only (age -d {to_open} > {clear})."
        ));
        screen::tell(&format!(
            "The link works until {day}; the receiver needs it, its password, and the passphrase."
        ));
        return;
    }
    let len = size::show(plan.len);
    let shown = Line::of(&plan.name);
    let as_name = if shown == *name { String::new() } else { format!(" as {shown}") };
    match &plan.origin {
        Origin::Vault { vault, mount } => screen::tell(&format!(
            "{name} ({len}) leaves the vault {vault} of {mount}: on {host} it lies{as_name} readable for that server and whoever administers it,"
        )),
        Origin::Plain => screen::tell(&format!(
            "{name} ({len}) is copied to {host}: there it lies{as_name} readable for that server and whoever administers it,"
        )),
    }
    screen::tell(&format!(
        "until it is revoked or pruned. The link works until {day}; the receiver needs it and the password."
    ));
}

/// Returns a name as a person can paste it into a shell.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-+,:@%".contains(c);
    // What begins with a dash is an option.
    let name = if name.starts_with('-') { format!("./{name}") } else { name.to_owned() };
    if name.trim_start_matches("./").chars().all(is_plain) {
        return name;
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

#[derive(Serialize)]
struct SharedEntry<'a> {
    id: String,
    link: &'a str,
    password: Option<&'a str>,
    passphrase: Option<&'a str>,
    expires: String,
    name: &'a str,
    size: u64,
    end_to_end: bool,
}

/// Shows what only this process knows. If that fails, the share is of no use to anybody.
async fn show(shared: &Shared, arguments: &FileArguments, cancel: &Cancel) -> Result<(), CliError> {
    show_once(shared, arguments, cancel).await.map_err(|error| {
        let Shared { id, account, .. } = shared;
        let text = format!(
            "{}: the link or what opens it was not shown; remove it with `scaup share revoke {id} --account {account}`",
            error.message
        );
        CliError::new(FailureKind::LeftBehind, text)
    })
}

async fn show_once(shared: &Shared, arguments: &FileArguments, cancel: &Cancel) -> Result<(), CliError> {
    tell_shortened(shared.is_shortened);
    if shared.is_corrected {
        screen::tell(
            "the server believes that it has another address, so the link is made from your account's: tell its administrator (overwrite.cli.url, trusted_proxies)",
        );
    }
    if arguments.json {
        let is_shown = arguments.print_both;
        if !is_shown {
            screen::tell(
                "the password is left out, and nothing can show it again: --print-both prints it, too",
            );
        }
        return screen::deliver_json(&SharedEntry {
            id: shared.id.to_string(),
            link: shared.link.as_str(),
            password: is_shown.then_some(shared.password.as_str()),
            passphrase: shared.passphrase.as_ref().filter(|_| is_shown).map(|passphrase| passphrase.as_str()),
            expires: shown_time(shared.ends),
            name: &shared.name,
            size: shared.len,
            end_to_end: shared.passphrase.is_some(),
        });
    }
    if arguments.print_both {
        screen::deliver(shared.link.as_str())?;
        screen::tell(&format!("expires: {} (as the server keeps it)", shown_time(shared.ends)));
        screen::tell(&format!("password: {}", *shared.password));
        if let Some(passphrase) = &shared.passphrase {
            screen::tell(&format!("passphrase: {}", **passphrase));
        }
        // Standard output has the link and nothing else.
        match arguments.qr {
            Some(Qr::Link) => screen::tell_script(&qr_code(shared.link.as_str())?),
            Some(Qr::Password) => {
                screen::tell_script(&qr_code(shared.passphrase.as_ref().unwrap_or(&shared.password))?);
            }
            None => {}
        }
        return Ok(());
    }
    let (second, secret, width) = match &shared.passphrase {
        None => ("password", &shared.password, 9),
        Some(passphrase) => ("passphrase", passphrase, 11),
    };
    let label = |text: &str| format!("{:width$} ", format!("{text}:"));
    let with_it = match &shared.passphrase {
        None => String::new(),
        Some(_) => format!("   (its password, to be sent with it: {})", *shared.password),
    };
    screen::deliver(&format!("{}{}{with_it}", label("link"), shared.link))?;
    screen::deliver(&format!("{}{} (as the server keeps it)", label("expires"), shown_time(shared.ends)))?;
    if arguments.qr == Some(Qr::Link) {
        screen::out_script(&qr_code(shared.link.as_str())?);
    }
    let text = format!("Send the link, then press Enter for the {second}, and send that another way.");
    ask(cancel, &text, false).await?;
    screen::deliver(&format!("{}{}", label(second), **secret))?;
    if arguments.qr == Some(Qr::Password) {
        screen::out_script(&qr_code(secret)?);
    }
    Ok(())
}

fn tell_shortened(is_shortened: bool) {
    if is_shortened {
        screen::tell(
            "by the server's own calendar, the day that was asked for is beyond the longest that it permits: the link ends earlier",
        );
    }
}

fn qr_code(text: &str) -> Result<String, CliError> {
    Ok(QrCode::new(text).map_err(CliError::other)?.render::<Dense1x2>().build())
}

/// Formats a time of the server's clock.
fn shown_time(time: DateTime) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

#[derive(Serialize)]
struct ListedEntry {
    id: String,
    name: Option<String>,
    size: u64,
    expires: String,
    state: &'static str,
    end_to_end: bool,
}

fn list(json: bool, account: Option<&str>) -> Result<(), CliError> {
    with_session(account, async |session, cancel| {
        let ledger = cancel.or(Ledger::read(session)).await?;
        let expires = |share: &Share| match share.ends {
            Ends::NoLink if share.state == State::Revoked => "revoked".to_owned(),
            Ends::NoLink => share.day.to_string(),
            Ends::At(time) => shown_time(time),
            Ends::Never => "never".to_owned(),
        };
        if json {
            let entries = ledger.shares.iter().map(|share| ListedEntry {
                id: share.id.to_string(),
                name: share.name.clone(),
                size: share.len,
                expires: expires(share),
                state: match share.state {
                    State::Works => "works",
                    State::Unprotected => "unprotected",
                    State::Expired => "expired",
                    State::LinkGone => "link_gone",
                    State::Unfinished => "unfinished",
                    State::Mixed => "mixed",
                    State::SharedOtherwise => "shared_otherwise",
                    State::Revoked => "revoked",
                },
                end_to_end: share.is_end_to_end(),
            });
            return screen::out_json(&entries.collect::<Vec<_>>());
        }
        if ledger.shares.is_empty() {
            screen::tell("nothing is shared");
        } else {
            let name = |share: &Share| share.name.as_deref().unwrap_or("(no file)").to_owned();
            let width =
                ledger.shares.iter().map(|share| name(share).chars().count()).max().unwrap_or(0).max(4);
            screen::out(&format!("{:6}  {:width$}  {:16}  STATE", "ID", "FILE", "EXPIRES"));
            for share in &ledger.shares {
                let (id, name, expires, state) =
                    (share.id.to_string(), name(share), expires(share), in_words(share, account));
                screen::out(&format!("{id:6}  {name:width$}  {expires:16}  {state}"));
            }
        }
        for name in &ledger.foreign {
            screen::tell(&format!(
                "{name} in the folder {} was not put there by Scaup: it is left alone",
                session.account.folder
            ));
        }
        Ok(())
    })
}

fn in_words(share: &Share, account: Option<&str>) -> String {
    let of = account.map_or_else(String::new, |account| format!(" --account {account}"));
    let id = format!("{}{of}", share.id);
    let text = match share.state {
        State::Works => "link works, password set".to_owned(),
        State::Unprotected => format!("link works WITHOUT A PASSWORD: scaup share revoke {id}"),
        State::Expired => format!("expired; the file is still on the server: scaup share prune{of}"),
        State::LinkGone => {
            format!("the link is gone; the file is still on the server: scaup share prune{of}")
        }
        State::Revoked => {
            format!("the link is gone; not all else could be removed: scaup share prune{of}")
        }
        State::Unfinished => format!("no link yet: being made, or cut off: scaup share revoke {id}"),
        State::Mixed => "link works, password set; its folder holds other files, too".to_owned(),
        State::SharedOtherwise => {
            "no link; its file is shared in another way: look in the web interface".to_owned()
        }
    };
    if share.is_end_to_end() { format!("{text}, end-to-end") } else { text }
}

fn revoke(ids: &[String], account: Option<&str>) -> Result<(), CliError> {
    with_session(account, async |session, cancel| {
        let ledger = cancel.or(Ledger::read(session)).await?;
        let mut failed = None;
        for id in ids {
            if let Err(error) = revoke_one(&ledger, id, cancel).await {
                // The others are not kept waiting for it.
                if let Some(before) = failed.replace(error) {
                    screen::fail(&before.to_string());
                }
            }
            if cancel.check().is_err() {
                break;
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(cancel.check().map_err(ShareError::from)?),
        }
    })
}

async fn revoke_one(ledger: &Ledger<'_>, id: &str, cancel: &Cancel) -> Result<(), ShareError> {
    let share = match ledger.share(id) {
        Ok(share) => share,
        Err(unknown) => {
            let known = Id::parse(id);
            let Some(id) = known else { return Err(unknown) };
            if !cancel.or(ledger.remove_remains(&id)).await? {
                return Err(unknown);
            }
            screen::out(&format!("what was left of share {id} was removed"));
            return Ok(());
        }
    };
    ledger.remove(share, cancel).await?;
    let name = share.name.as_deref().unwrap_or("the file");
    screen::out(&match (&share.name, share.state) {
        _ if share.has_link() => format!("the link is gone; {name} was deleted, from the trash too"),
        (Some(_), _) => format!("{name} was deleted, from the trash too; it had no link"),
        (None, State::Unfinished) => format!("share {id} was removed; it had no file and no link"),
        (None, _) => format!(
            "share {id} was removed; it had no file any more: if you moved that in the web interface, its link went with it; look there"
        ),
    });
    Ok(())
}

fn prune_all(account: Option<&str>) -> Result<(), CliError> {
    with_session(account, async |session, cancel| {
        let pruned = prune(session, cancel).await?;
        // What was removed before is told, also if the rest was cancelled.
        let cancelled = cancel.check();
        if pruned.is_empty() && cancelled.is_ok() {
            screen::out("nothing to prune");
        }
        let mut failed = None;
        for pruned in pruned {
            let name = pruned.share.name.clone().unwrap_or_else(|| pruned.share.id.to_string());
            let what = match pruned.share.state {
                State::Expired => format!("expired {}", pruned.share.day),
                State::Revoked => "revoked".to_owned(),
                _ => "its link is gone".to_owned(),
            };
            match pruned.result {
                Ok(()) => screen::out(&format!("{name} ({what}) was deleted, from the trash too")),
                Err(error) => {
                    screen::fail(&format!("{name} ({what}): {error}"));
                    failed = Some(error);
                }
            }
        }
        // Each was told of.
        match failed {
            Some(error) => Err(CliError { message: "not all could be removed".to_owned(), ..error.into() }),
            None => Ok(cancelled.map_err(ShareError::from)?),
        }
    })
}

fn extend(id: &str, days: i32, account: Option<&str>) -> Result<(), CliError> {
    with_session(account, async |session, cancel| {
        let ledger = cancel.or(Ledger::read(session)).await?;
        let (ends, is_shortened) = cancel.or(ledger.extend(ledger.share(id)?, End::AfterDays(days))).await?;
        tell_shortened(is_shortened);
        screen::out(&format!("{id}: the link works until {} (as the server keeps it)", shown_time(ends)));
        Ok(())
    })
}

impl From<ShareError> for CliError {
    fn from(error: ShareError) -> Self {
        let kind = match &error {
            ShareError::Locked { .. } | ShareError::UnknownMount { .. } => FailureKind::Vault,
            ShareError::TooManyDays { .. } | ShareError::EndsBeforeItBegins | ShareError::NoSuchDay => {
                FailureKind::Usage
            }
            ShareError::Dav(error) => kind_of(error),
            ShareError::LeftBehind { .. } | ShareError::NotRemoved { .. } | ShareError::InTrash(_) => {
                FailureKind::LeftBehind
            }
            ShareError::TooManyLinks { .. } => FailureKind::Login,
            _ => FailureKind::Other,
        };
        Self::new(kind, error)
    }
}
