//! `scaup vault check --fix`.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use scaup_sftp::text::Line;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::check::{self, CheckArguments, Opened, UNCHANGED, counted, show_finding, verdict};
use super::converse;
use super::error::CliError;
use super::progress::ProgressLine;
use super::screen;
use super::vault_work::{agree, until_interrupted};
use crate::check::{CheckOptions, Examination, Finding, Summary};
use crate::daemon::protocol::FailureKind;
use crate::mend::{Became, Fix, MendError, MendProgress, Plan};
use crate::remote::RemoteName;
use crate::vault::inspect_vault;

/// How long nothing may have changed in a vault before it is mended: somebody may be at work.
const QUIET: Duration = Duration::from_secs(60);
/// How a vault is whose mending was ended.
const EACH_WHOLE: &str = "the mends that were done are whole: run this again for the rest";

/// How often the progress is updated.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// How often what was found only after a mend is mended, too: without a directory's id, nothing was known of the names
/// in it.
const ROUNDS_MAX: usize = 4;

/// What was found, and what became of each finding.
struct Round {
    examined: Examination,
    fixes: Vec<Fix>,
}

/// One finding, and what became of it.
#[derive(Serialize)]
struct Mended<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    fix: &'a Fix,
}

/// What `--json` prints.
#[derive(Serialize)]
struct MendReport<'a> {
    /// What was checked and found before.
    summary: &'a Summary,
    findings: Vec<Mended<'a>>,
    /// What was found after it was mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a Summary>,
}

pub(super) fn run(runtime: &Runtime, arguments: &CheckArguments) -> Result<(), CliError> {
    let options = CheckOptions { content: arguments.content };
    let opened = until_interrupted(runtime, UNCHANGED, check::open(&arguments.location, &arguments.secret))?;
    let examined = until_interrupted(runtime, UNCHANGED, opened.examine(options))?;
    let kinds = arguments.fix.as_deref().unwrap_or_default();
    let planning = Plan::of(&examined, kinds, opened.remote.as_ref(), &opened.vault, &opened.cryptor);
    let plan = until_interrupted(runtime, UNCHANGED, async { planning.await.map_err(failed) })?;
    if arguments.dry_run || plan.is_empty() {
        return tell(arguments, &[Round { fixes: plan.intended(), examined }], None);
    }
    let path = &arguments.location.path;
    refuse_in_use(runtime, path, &opened, &examined)?;
    if !arguments.yes {
        let fixes = plan.intended();
        let findings = examined.report.findings.iter().zip(&fixes);
        show(&findings.map(|(finding, fix)| Mended { finding, fix }).collect::<Vec<_>>());
        let question = match plan.len() {
            1 => "Do this mend".to_owned(),
            count => format!("Do these {count} mends"),
        };
        agree(&question, false)?;
    }
    let mut rounds = Vec::new();
    let (mut examined, mut plan) = (examined, plan);
    loop {
        let (fixes, is_interrupted) = runtime.block_on(carry_out(&plan, &opened))?;
        if is_interrupted {
            return Err(CliError::other(format!("interrupted; {EACH_WHOLE}")));
        }
        let is_done = rounds.len() >= ROUNDS_MAX || !fixes.iter().any(|fix| fix.state == Became::Mended);
        rounds.push(Round { examined, fixes });
        examined = until_interrupted(runtime, EACH_WHOLE, opened.examine(options))?;
        let planning = Plan::of(&examined, kinds, opened.remote.as_ref(), &opened.vault, &opened.cryptor);
        plan = until_interrupted(runtime, EACH_WHOLE, async { planning.await.map_err(failed) })?;
        if is_done || plan.is_empty() {
            return tell(arguments, &rounds, Some(&examined));
        }
    }
}

/// Fails while the vault is mounted by this machine, or somebody has changed it just now.
fn refuse_in_use(
    runtime: &Runtime,
    path: &str,
    opened: &Opened,
    examined: &Examination,
) -> Result<(), CliError> {
    let inspected = runtime.block_on(inspect_vault(opened.remote.as_ref(), &opened.vault));
    let id = inspected.map_err(|error| CliError::new(FailureKind::Vault, error))?.id;
    let mounts = converse::all()?;
    for (_, mount) in &mounts.replying {
        // Vaults of format 7 have no id: each may be this one.
        if mount.vaults.iter().any(|vault| vault.id == id) {
            return Err(CliError::other(format!(
                "{path} is mounted at {}: unmount it first, or what the mount has not saved yet may come in \
                 between",
                mount.mountpoint.display()
            )));
        }
    }
    if let Some((name, _)) = mounts.of_other_versions.first() {
        return Err(CliError::other(format!(
            "the mount {name} is of another version of Scaup, and may be one of {path}: unmount it first"
        )));
    }
    let since = SystemTime::now().duration_since(examined.changed).unwrap_or_default();
    if since < QUIET {
        return Err(CliError::other(format!(
            "{path} was changed {} seconds ago: somebody may be at work in it; try again when it has been left \
             alone for a minute",
            since.as_secs()
        )));
    }
    Ok(())
}

fn tell(arguments: &CheckArguments, rounds: &[Round], after: Option<&Examination>) -> Result<(), CliError> {
    let Some(first) = rounds.first() else { return Ok(()) };
    // What a later round leaves is what the first one left.
    let later = rounds.iter().skip(1).flat_map(Round::findings);
    let later = later.filter(|mended| mended.fix.state != Became::Left);
    let findings: Vec<Mended<'_>> = first.findings().chain(later).collect();
    let last = after.unwrap_or(&first.examined);
    if arguments.json {
        let (summary, after) = (&first.examined.report.summary, after.map(|after| &after.report.summary));
        screen::out_json(&MendReport { summary, findings, after })?;
    } else {
        show(&findings);
        let count = |state| findings.iter().filter(|mended| mended.fix.state == state).count();
        let (all, failed) = (findings.len(), count(Became::Failed));
        screen::out(&match after {
            None => format!("{} of {all} findings can be mended.", count(Became::Planned)),
            Some(after) => {
                let Summary { critical, warning, info, .. } = after.report.summary;
                let left = match (critical, warning) {
                    (0, 0) => format!("nothing is wrong any more, with {info} hints"),
                    _ => format!("left are {}", counted(critical, warning)),
                };
                let failed = match failed {
                    0 => String::new(),
                    failed => format!(", {failed} could not be mended"),
                };
                format!("{} of {all} findings were mended{failed}; {left}.", count(Became::Mended))
            }
        });
    }
    verdict(&arguments.location.path, &last.report)
}

impl Round {
    fn findings(&self) -> impl Iterator<Item = Mended<'_>> {
        self.examined.report.findings.iter().zip(&self.fixes).map(|(finding, fix)| Mended { finding, fix })
    }
}

fn failed(error: MendError) -> CliError {
    let kind = if error.is_unanswered() { FailureKind::Unreachable } else { FailureKind::Vault };
    CliError::new(kind, error)
}

/// Does the mends. Ctrl-C ends it between two of them: the result says so.
async fn carry_out(plan: &Plan, opened: &Opened) -> Result<(Vec<Fix>, bool), CliError> {
    let progress = MendProgress::default();
    let aside = jiff::Zoned::now().strftime(".scaup-repair-%Y%m%d-%H%M%S").to_string();
    let aside =
        RemoteName::parse(aside.as_bytes()).ok_or_else(|| CliError::other("no name for a directory"))?;
    let remote = opened.remote.as_ref();
    let mending = plan.carry_out(remote, &opened.vault, &opened.cryptor, &aside, &progress);
    let mut mending = std::pin::pin!(mending);
    let line = ProgressLine::new();
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => {
                progress.stop.store(true, Ordering::Relaxed);
            }
            done = &mut mending => {
                drop(line);
                let fixes = done.map_err(failed)?;
                return Ok((fixes, progress.stop.load(Ordering::Relaxed)));
            }
            () = tokio::time::sleep(SHOW_EVERY) => {
                line.show(format!("{} of {} mends", progress.done.load(Ordering::Relaxed), plan.len()));
            }
        }
    }
}

/// Shows the findings with what became of them: first what is or was mended, then what is left.
fn show(findings: &[Mended<'_>]) {
    let (left, mended): (Vec<_>, Vec<_>) =
        findings.iter().partition(|mended| mended.fix.state == Became::Left);
    for Mended { finding, fix } in mended.into_iter().chain(left) {
        show_finding(finding, &format!("{}: {}", word(fix.state), Line::of(&fix.what)));
    }
    if !findings.is_empty() {
        screen::out("");
    }
}

fn word(state: Became) -> &'static str {
    match state {
        Became::Planned => "to do",
        Became::Mended => "mended",
        Became::Left => "left",
        Became::Failed => "FAILED",
    }
}
