//! `scaup vault check`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use scaup_sftp::text::Line;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::progress::ProgressLine;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::{self, SecretArguments, Sources};
use crate::check::{self, CheckError, CheckOptions, CheckProgress, Finding, Report, Severity, Summary};
use crate::config::size;
use crate::daemon::protocol::FailureKind;
use crate::remote::RemoteError;

/// How often the progress is updated.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Check the health of a vault; nothing is written.
///
/// Reads the whole structure of the vault and says what is wrong, where, and what to do about it. Paths are relative to
/// the vault's directory, followed by the decrypted path where it is known.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 no problem was found (hints at most), 5 warnings or worse, or the vault can't be opened; \
    for other codes see `scaup --help`."
)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    location: VaultLocation,
    #[command(flatten)]
    secret: SecretArguments,
    /// Also read all file content, and authenticate every chunk
    #[arg(long)]
    content: bool,
    /// Print one JSON object, with `summary` and `findings`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(runtime: &Runtime, arguments: &CheckArguments) -> Result<(), CliError> {
    let options = CheckOptions { content: arguments.content };
    let report = report(runtime, &arguments.location, &arguments.secret, options)?;
    if arguments.json {
        screen::out_json(&report)?;
    } else {
        show(&report);
    }
    match report.severity() {
        Severity::Good | Severity::Info => Ok(()),
        Severity::Warning | Severity::Critical => {
            let Summary { critical, warning, .. } = report.summary;
            let found = format!("{}: {}", arguments.location.path, counted(critical, warning));
            Err(CliError::new(FailureKind::Vault, found))
        }
    }
}

/// Checks a vault, and shows how far that is.
pub(super) fn report(
    runtime: &Runtime,
    location: &VaultLocation,
    secret: &SecretArguments,
    options: CheckOptions,
) -> Result<Report, CliError> {
    runtime.block_on(async {
        tokio::select! {
            // Ctrl-C is listened for before anything else begins.
            biased;
            _ = tokio::signal::ctrl_c() => {
                Err(CliError::other("interrupted; nothing was changed on the server"))
            }
            report = check(location, secret, options) => report,
        }
    })
}

async fn check(
    location: &VaultLocation,
    secret: &SecretArguments,
    options: CheckOptions,
) -> Result<Report, CliError> {
    let (remote, vault) = location.open().await?;
    let command = secret.command();
    let opened = vault_secret::open(location, command.as_ref(), Sources::All, remote.as_ref(), &vault).await;
    let cryptor = Arc::new(opened?.0);
    let progress = CheckProgress::default();
    let mut check = std::pin::pin!(check::run(remote.as_ref(), &vault, &cryptor, options, &progress));
    let line = ProgressLine::new();
    loop {
        tokio::select! {
            done = &mut check => {
                drop(line);
                return done.map_err(|error| CliError::new(kind_of(&error), error));
            }
            () = tokio::time::sleep(SHOW_EVERY) => line.show(so_far(&progress)),
        }
    }
}

fn kind_of(error: &CheckError) -> FailureKind {
    match error {
        CheckError::Remote { source: RemoteError::Timeout(_) | RemoteError::Disconnected(_), .. } => {
            FailureKind::Unreachable
        }
        CheckError::Remote { .. } | CheckError::TooManyDirectories => FailureKind::Vault,
        CheckError::Interrupted { .. } => FailureKind::Other,
    }
}

/// Returns how far the check is.
fn so_far(progress: &CheckProgress) -> String {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (done, found) = (get(&progress.directories), get(&progress.directories_found));
    let bytes = match get(&progress.bytes) {
        0 => String::new(),
        bytes => format!(", {} read", size::show(bytes)),
    };
    let files = get(&progress.files);
    format!("{done} of {found} directories, {files} files{bytes}")
}

fn show(report: &Report) {
    for finding in &report.findings {
        show_finding(finding);
    }
    let Summary { directories, files, links, bytes, content, info, warning, critical, left_out } =
        report.summary;
    if !report.findings.is_empty() {
        screen::out("");
    }
    if left_out > 0 {
        screen::out(&format!("{left_out} more findings are not listed."));
    }
    screen::out(&format!(
        "Checked {}, {} ({}) and {}.",
        number(directories, "directory", "directories"),
        number(files, "file", "files"),
        size::show(bytes),
        number(links, "link", "links")
    ));
    if content {
        screen::out("All content was read.");
    } else {
        screen::out("File content was not read; with --content it is checked, too.");
    }
    let hints = match info {
        0 => String::new(),
        info => format!(" Besides, {}.", number(info, "hint", "hints")),
    };
    match (critical, warning) {
        (0, 0) => screen::out(&format!("Nothing is wrong.{hints}")),
        _ => screen::out(&format!("Found {}.{hints}", counted(critical, warning))),
    }
}

fn show_finding(finding: &Finding) {
    let severity = match finding.severity {
        Severity::Good => "good",
        Severity::Info => "hint",
        Severity::Warning => "warning",
        Severity::Critical => "CRITICAL",
    };
    screen::out(&format!("{severity}: {}", Line::of(&finding.what)));
    let path = Line::of(&finding.path);
    match &finding.cleartext {
        Some(cleartext) => screen::out(&format!("    {} ({path})", Line::of(cleartext))),
        None => screen::out(&format!("    {path}")),
    }
    screen::out(&format!("    {}", finding.advice));
}

fn counted(critical: u64, warning: u64) -> String {
    let critical_text = number(critical, "critical finding", "critical findings");
    let warning_text = number(warning, "warning", "warnings");
    match (critical, warning) {
        (_, 0) => critical_text,
        (0, _) => warning_text,
        _ => format!("{critical_text} and {warning_text}"),
    }
}

fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
