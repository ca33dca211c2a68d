//! `scaup vault check`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use scaup_crypto::Cryptor;
use scaup_sftp::text::Line;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::progress::ProgressLine;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::{self, SecretArguments, Sources};
use super::vault_work::until_interrupted;
use crate::check::{
    self, CheckError, CheckOptions, CheckProgress, Examination, Finding, FindingKind, Report, Severity,
    Summary,
};
use crate::config::size;
use crate::daemon::protocol::FailureKind;
use crate::mend::MENDED;
use crate::remote::{Remote, RemoteError, RemotePath};

/// How a vault is that was only read.
pub(super) const UNCHANGED: &str = "nothing was changed on the server";

/// How often the progress is updated.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Check the health of a vault, and mend it with --fix; without, nothing is written.
///
/// Reads the whole structure of the vault and says what is wrong, where, and what to do about it. Paths are relative to
/// the vault's directory, followed by the decrypted path where it is known.
///
/// --fix mends what needs no choice: missing and wrong dirid.c9r, missing content directories, content that no
/// directory leads to and directories that hold each other (they come to /LOST+FOUND), lost, wrong and uncanonical
/// names, and what is empty or of no kind. It shows what it will do and asks once. What it replaces or removes is kept,
/// in ciphertext, in .scaup-repair-DATE beside the vault's d. It refuses while the vault is mounted by this machine or
/// was changed within the last minute.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 no problem was found (hints at most) or what was is mended, 5 warnings or worse, or the vault can't be opened; \
    for other codes see `scaup --help`."
)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    pub(super) location: VaultLocation,
    #[command(flatten)]
    pub(super) secret: SecretArguments,
    /// Also read all file content, and authenticate every chunk
    #[arg(long)]
    pub(super) content: bool,
    /// Mend what needs no choice, or only findings of these kinds, named as --json does
    #[arg(long, value_name = "KIND", num_args = 0.., require_equals = true, value_delimiter = ',', value_parser = kind)]
    pub(super) fix: Option<Vec<FindingKind>>,
    /// Show what --fix would do; nothing is written
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Mend without asking
    #[arg(long, requires = "fix")]
    pub(super) yes: bool,
    /// Print one JSON object, with `summary` and `findings`; with --fix each finding has `fix`
    #[arg(long)]
    pub(super) json: bool,
}

/// Parses the name of a kind of findings that can be mended, as `--json` prints it.
fn kind(name: &str) -> Result<FindingKind, String> {
    let of = |kind: &FindingKind| serde_json::to_value(kind).is_ok_and(|known| known == name);
    MENDED.into_iter().find(of).ok_or_else(|| {
        let names = MENDED.iter().filter_map(|kind| serde_json::to_value(kind).ok());
        let names: Vec<String> = names.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        format!("only these kinds can be mended: {}", names.join(", "))
    })
}

pub(super) fn run(runtime: &Runtime, arguments: &CheckArguments) -> Result<(), CliError> {
    let options = CheckOptions { content: arguments.content };
    let report = report(runtime, &arguments.location, &arguments.secret, options)?;
    if arguments.json {
        screen::out_json(&report)?;
    } else {
        show(&report);
    }
    verdict(&arguments.location.path, &report)
}

/// Fails if something is wrong with the vault at `path`.
pub(super) fn verdict(path: &str, report: &Report) -> Result<(), CliError> {
    match report.severity() {
        Severity::Good | Severity::Info => Ok(()),
        Severity::Warning | Severity::Critical => {
            let Summary { critical, warning, .. } = report.summary;
            Err(CliError::new(FailureKind::Vault, format!("{path}: {}", counted(critical, warning))))
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
    until_interrupted(runtime, UNCHANGED, async {
        Ok(open(location, secret).await?.examine(options).await?.report)
    })
}

/// A vault whose keys are known.
pub(super) struct Opened {
    pub(super) remote: Arc<dyn Remote>,
    pub(super) vault: RemotePath,
    pub(super) cryptor: Arc<Cryptor>,
}

/// Connects, and unlocks a vault.
pub(super) async fn open(location: &VaultLocation, secret: &SecretArguments) -> Result<Opened, CliError> {
    let (remote, vault) = location.open().await?;
    let command = secret.command();
    let opened = vault_secret::open(location, command.as_ref(), Sources::All, remote.as_ref(), &vault).await;
    let cryptor = Arc::new(opened?.0);
    Ok(Opened { remote, vault, cryptor })
}

impl Opened {
    /// Checks the vault, and shows how far that is.
    pub(super) async fn examine(&self, options: CheckOptions) -> Result<Examination, CliError> {
        let progress = CheckProgress::default();
        let checking = check::examine(self.remote.as_ref(), &self.vault, &self.cryptor, options, &progress);
        let mut checking = std::pin::pin!(checking);
        let line = ProgressLine::new();
        loop {
            tokio::select! {
                done = &mut checking => {
                    drop(line);
                    return done.map_err(|error| CliError::new(kind_of(&error), error));
                }
                () = tokio::time::sleep(SHOW_EVERY) => line.show(so_far(&progress)),
            }
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
        show_finding(finding, finding.advice);
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

/// Shows a finding, and a line about what to do or what was done.
pub(super) fn show_finding(finding: &Finding, about: &str) {
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
    screen::out(&format!("    {about}"));
}

pub(super) fn counted(critical: u64, warning: u64) -> String {
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
