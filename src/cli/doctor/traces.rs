//! `scaup doctor --traces`.

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use scaup_sftp::text::Line;
use serde::Serialize;

use crate::cli::converse::{self, Mounts};
use crate::cli::error::CliError;
use crate::cli::{prompt, screen};
use crate::config::bookmark::Bookmark;
use crate::config::paths::{self, UserDirectories};
use crate::doctor::{Check, Group};
use crate::traces::{self, Failure, Kind, Places, Remedy, Removal, Search, Trace};

/// Most files of a kind that are listed for people.
const LISTED_MAX: usize = 20;

/// Where there may be traces that Scaup does not find.
const NOT_SEEN: [&str; 6] = [
    "files that programs keep beside a file are in the vault itself",
    "copies elsewhere: what was saved, exported or sent from a program, in the clipboard, or attached to a mail",
    "what editors and office programs keep in other directories than usual, and what was copied in Vim (its registers)",
    "programs in a Flatpak or Snap, except Firefox",
    "what a backup, a cloud client or a snapshot of the file system has copied of the files above, or of removed ones",
    "the memory of programs, swap, core dumps and the journal of the system: look with coredumpctl and journalctl",
];

/// A trace, as `--json` shows it.
#[derive(Serialize)]
struct TraceEntry {
    kind: Kind,
    path: String,
    count: u64,
    removable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

impl From<&Trace> for TraceEntry {
    fn from(trace: &Trace) -> Self {
        let (removable, advice) = match trace.kind.remedy() {
            Remedy::Remove => (true, None),
            Remedy::RemoveAndLose(lost) => (true, Some(lost)),
            Remedy::Advice(advice) => (false, Some(advice)),
        };
        let path = trace.path.to_string_lossy().into_owned();
        Self { kind: trace.kind, path, count: trace.count, removable, advice }
    }
}

/// What `--json` prints: the checks of the doctor, and each file.
#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
    traces: Vec<TraceEntry>,
}

/// Looks for traces of what is mounted at the usual places. The mounts themselves are not asked, since that would
/// remove the sockets of dead ones.
pub(super) fn check(bookmarks: &[(String, Bookmark)]) -> Check {
    const NAME: &str = "other programs";
    let directories = paths::user_directories();
    let mountpoints = bookmarks.iter().filter_map(|(_, bookmark)| bookmark.mountpoint.clone());
    let places: Vec<PathBuf> = mountpoints.map(paths::expand_home).chain([paths::mounts()]).collect();
    let search = traces::find(&directories, &Places::new(&directories.home, &places));
    match entries(&search.traces) {
        0 => Group::Traces.ok(NAME, "they keep nothing of files in mounts where Scaup looks"),
        count => {
            let found = format!("{count} {} of files in mounts", traces_in_words(count));
            Group::Traces.warning(NAME, found, "scaup doctor --traces")
        }
    }
}

/// Returns what the doctor says of traces.
fn checks(search: &Search) -> Vec<Check> {
    let mut checks: Vec<Check> = search
        .traces
        .chunk_by(|one, other| one.kind == other.kind)
        .filter_map(|of_kind| {
            let first = of_kind.first()?;
            let found = format!("{} in {}", entries(of_kind), Line::of(&first.path.to_string_lossy()));
            let advice = match first.kind.remedy() {
                Remedy::Remove | Remedy::RemoveAndLose(_) => "scaup doctor --traces --remove",
                Remedy::Advice(advice) => advice,
            };
            Some(Group::Traces.warning(first.kind.name(), found, advice))
        })
        .collect();
    let unseen = |failure: &Failure| {
        Group::Traces.warning("not looked at", failure.to_string(), "look at this file yourself")
    };
    checks.extend(search.failures.iter().map(unseen));
    if checks.is_empty() {
        checks.push(Group::Traces.ok("other programs", "none was found"));
    }
    checks
}

/// Shows the traces of a directory, or of all mounts, and removes them if that is wanted. Returns 1 if some are left.
pub(super) fn run(path: Option<&Path>, remove: bool, json: bool) -> Result<ExitCode, CliError> {
    if remove && !prompt::is_at_terminal() {
        return Err(CliError::usage("--remove asks for each kind of traces, so it needs a terminal"));
    }
    let directories = paths::user_directories();
    let places = Places::new(&directories.home, &looked_for(path)?);
    let mut search = traces::find(&directories, &places);
    if json {
        let traces = search.traces.iter().map(TraceEntry::from).collect();
        screen::out_json(&Report { checks: checks(&search), traces })?;
    } else {
        for of_kind in search.traces.chunk_by(|one, other| one.kind == other.kind) {
            show(of_kind, remove);
            if remove && let Some(first) = of_kind.first() {
                remove_if_wanted(first.kind, &directories, &places)?;
            }
        }
        if remove {
            search = traces::find(&directories, &places);
        }
        screen::out(&match entries(&search.traces) {
            0 => "No traces were found.".to_owned(),
            count => format!("{count} {} {}.", traces_in_words(count), if remove { "left" } else { "found" }),
        });
        screen::out("Scaup does not find:");
        NOT_SEEN.iter().for_each(|place| screen::out(&format!("    {place}")));
    }
    let Search { traces, failures } = search;
    tell_failures(&failures);
    Ok(ExitCode::from(u8::from(!traces.is_empty() || !failures.is_empty())))
}

fn entries(traces: &[Trace]) -> u64 {
    traces.iter().map(|trace| trace.count).sum()
}

fn traces_in_words(count: u64) -> &'static str {
    if count == 1 { "trace" } else { "traces" }
}

/// Returns the directories whose traces are meant.
fn looked_for(path: Option<&Path>) -> Result<Vec<PathBuf>, CliError> {
    let Some(path) = path else {
        let Mounts { replying, of_other_versions } = converse::all()?;
        of_other_versions.iter().for_each(|(_, error)| screen::tell(&error.message));
        let mountpoints = replying.into_iter().map(|(_, status)| status.mountpoint);
        return Ok(mountpoints.chain([paths::mounts()]).collect());
    };
    // The directory is not looked at: the mount may hang, or be gone.
    let absolute = std::path::absolute(path)?;
    if absolute.components().any(|component| component == Component::ParentDir) {
        return Err(CliError::usage(format!("{}: give the path without `..`", path.display())));
    }
    if paths::home().starts_with(&absolute) {
        let text = format!("{}: name a mount or a vault; all files lie below this directory", path.display());
        return Err(CliError::usage(text));
    }
    Ok(vec![absolute])
}

/// Shows the traces of one kind.
fn show(traces: &[Trace], remove: bool) {
    let Some(Trace { kind, .. }) = traces.first() else { return };
    screen::out(&format!("{}: {}", kind.name(), entries(traces)));
    for Trace { path, count, .. } in traces.iter().take(LISTED_MAX) {
        let path = path.to_string_lossy();
        let count = if *count == 1 { String::new() } else { format!(" ({count} entries)") };
        screen::out(&format!("    {}{count}", Line::of(&path)));
    }
    if traces.len() > LISTED_MAX {
        screen::out(&format!("    and {} more files; --json lists all", traces.len() - LISTED_MAX));
    }
    match kind.remedy() {
        Remedy::Advice(advice) => screen::out(&format!("    Scaup can't remove them: {advice}")),
        Remedy::RemoveAndLose(lost) if !remove => {
            screen::out(&format!("    --remove removes them, after a question; then {lost}"));
        }
        Remedy::Remove if !remove => screen::out("    --remove removes them, after a question"),
        Remedy::Remove | Remedy::RemoveAndLose(_) => {}
    }
}

fn remove_if_wanted(kind: Kind, directories: &UserDirectories, places: &Places) -> Result<(), CliError> {
    let question = match kind.remedy() {
        Remedy::Advice(_) => return Ok(()),
        Remedy::Remove => format!("Remove them ({})? [y/N] ", kind.name()),
        Remedy::RemoveAndLose(lost) => format!("Remove them ({})? Then {lost}. [y/N] ", kind.name()),
    };
    let answer = prompt::ask(&question, true).map_err(|reason| {
        CliError::other(format!("no answer was given ({reason}); nothing more is removed"))
    })?;
    if !["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let count = if kind == Kind::GvfsMetadata {
        remove_gvfs_metadata(directories, places)?
    } else {
        let Removal { count, failures } = traces::remove(kind, directories, places);
        tell_failures(&failures);
        count
    };
    screen::out(&format!("    removed: {count}"));
    Ok(())
}

fn remove_gvfs_metadata(directories: &UserDirectories, places: &Places) -> Result<u64, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(traces::remove_gvfs_metadata(directories, places)) {
        Ok(count) => {
            screen::out("    gvfs takes them out of its files within a minute, while it runs");
            Ok(count)
        }
        Err(error) => {
            screen::tell(&error.to_string());
            Ok(0)
        }
    }
}

fn tell_failures(failures: &[Failure]) {
    for failure in failures {
        screen::tell(&failure.to_string());
    }
}
