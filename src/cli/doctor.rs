//! `scaup doctor`.

mod traces;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use scaup_sftp::text::Line;
use serde::Serialize;

use super::error::CliError;
use super::mount::looked_up;
use super::prompt;
use super::screen;
use crate::config::bookmark::Bookmark;
use crate::config::settings::LoginSettings;
use crate::config::target::Target;
use crate::daemon::protocol::{FailureKind, LoginRequest};
use crate::doctor::{self, Check, Group, Subject, Verdict};
use crate::remote::Remote;

/// Find out what keeps Scaup from working, or from working safely.
///
/// Examines this machine and the bookmarks; with a target, also the server and its vaults. Each finding comes with what
/// to do about it. Nothing is changed, and the keyring is not opened. Only with a target does it connect, log in, and
/// ask what a login needs; passwords of vaults are not needed.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
        scaup doctor                 this machine, and all bookmarks\n  \
        scaup doctor hq              besides, the server of a bookmark, and its vaults\n  \
        scaup doctor hq --speed      besides, how fast 8 MiB come and go\n  \
        scaup doctor --traces        what other programs keep of files in mounts: previews, recent files, trash, histories\n  \
        scaup doctor --traces ~/Scaup/hq --remove      removes it, after a question for each kind\n\n\
        For --speed, a file with a name of .scaup-… is made in the target's directory and removed again; its time also tells whether the \
        server's clock is right. The bookmark's read_only keeps this from being done.\n\n\
        Exit codes: 0 all is well, 1 warnings, 2 something will not work (or wrong use of this command).")]
pub(super) struct DoctorArguments {
    /// A bookmark, [user@]host[:dir], sftp://[user@]host[:port]/dir, or a local directory that begins with /, ./ or ../
    target: Option<String>,
    #[command(flatten)]
    login: LoginSettings,
    /// Measure how fast content comes from the server and goes there
    #[arg(long, requires = "target")]
    speed: bool,
    /// Find what other programs keep of files below PATH, and nothing else: previews, lists of recent files, trash,
    /// swap files, histories [default: all mounts, and ~/Scaup]
    #[arg(long, value_name = "PATH", num_args = 0..=1, conflicts_with_all = ["target", "speed"])]
    traces: Option<Option<PathBuf>>,
    /// Remove these traces, after a question for each kind
    #[arg(long, requires = "traces", conflicts_with = "json")]
    remove: bool,
    /// Print one JSON object, with `checks`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: DoctorArguments) -> Result<ExitCode, CliError> {
    let DoctorArguments { target, login, speed, traces, remove, json } = arguments;
    if let Some(path) = traces {
        return traces::run(path.as_deref(), remove, json);
    }
    let (bookmarks, unreadable) = doctor::bookmarks();
    let named = target.map(|target| Named::of(target, login)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report { json, checks: Vec::new() };
    runtime.block_on(async {
        report.add(doctor::machine_checks(&bookmarks).await);
        match &named {
            None => {
                report.add(unreadable);
                report.add(of_bookmarks(&bookmarks).await);
                report.add(vec![traces::check(&bookmarks)]);
            }
            Some(named) => {
                report.add(named.login_checks(&bookmarks).await);
                report.add_target(named, speed).await;
            }
        }
    });
    // A mount that hangs may have a thread of this in its hands.
    runtime.shutdown_background();
    report.end()
}

/// Examines all bookmarks.
async fn of_bookmarks(bookmarks: &[(String, Bookmark)]) -> Vec<Check> {
    let mut checks: Vec<Check> =
        bookmarks.iter().flat_map(|(name, it)| doctor::place_checks(name, it, bookmarks)).collect();
    let subjects = bookmarks.iter().filter_map(|(name, it)| Subject::of_bookmark(name, it, here()).ok());
    checks.extend(doctor::login_checks(&subjects.collect::<Vec<_>>()).await);
    checks
}

fn here() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| "/".into())
}

/// The target that is named on the command line.
struct Named {
    name: String,
    login: LoginRequest,
    bookmark: Option<Bookmark>,
}

impl Named {
    fn of(name: String, settings: LoginSettings) -> Result<Self, CliError> {
        let (login, bookmark) = looked_up(&name, settings)?;
        Ok(Self { name, login, bookmark })
    }

    async fn login_checks(&self, bookmarks: &[(String, Bookmark)]) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut secret_command = None;
        if let Some(bookmark) = &self.bookmark {
            checks.extend(doctor::place_checks(&self.name, bookmark, bookmarks));
            secret_command = bookmark.mount.secret_command();
        }
        let subject = Subject { name: self.name.clone(), login: self.login.clone(), secret_command };
        checks.extend(doctor::login_checks(&[subject]).await);
        checks
    }

    fn may_be_written_to(&self) -> bool {
        let bookmark_forbids = self.bookmark.as_ref().is_some_and(|bookmark| bookmark.mount.read_only);
        !bookmark_forbids && !self.login.settings.options.read_only
    }

    /// Connects as `mount` does.
    async fn connect(&self) -> Result<Arc<dyn Remote>, Check> {
        // Neither read nor changed: the keyring is not examined.
        let connecting = crate::daemon::connect_here(&self.login, prompt::ask, prompt::tell, None);
        connecting.await.map_err(|failure| {
            let advice = match failure.kind {
                FailureKind::Login => "ask the server's owner whether this key and user may log in",
                FailureKind::HostKey => "compare the key's fingerprint with what the server's owner says",
                FailureKind::Unreachable => "connect to the server's network, or correct the target",
                _ => "correct the target or its settings",
            };
            Group::Server.failed("login", failure.message, advice)
        })
    }
}

/// What was found, printed as it comes for people, and at the end for programs.
#[derive(Serialize)]
struct Report {
    #[serde(skip)]
    json: bool,
    checks: Vec<Check>,
}

impl Report {
    fn add(&mut self, checks: Vec<Check>) {
        if !self.json {
            let mut last = self.checks.last().map(|check| check.group);
            for check in &checks {
                if last != Some(check.group) {
                    if last.is_some() {
                        screen::out("");
                    }
                    screen::out(check.group.name());
                    last = Some(check.group);
                }
                show(check);
            }
        }
        self.checks.extend(checks);
    }

    /// Examines the target and its vaults, as far as it can be reached.
    async fn add_target(&mut self, named: &Named, speed: bool) {
        let reachable = doctor::reachable(&named.login).await;
        let is_reached = reachable.iter().all(|check| !matches!(check.verdict, Verdict::Failed { .. }));
        self.add(reachable);
        if !is_reached {
            return;
        }
        let remote = match named.connect().await {
            Ok(remote) => remote,
            Err(failed) => return self.add(vec![failed]),
        };
        let target = Line::of(&named.login.target.to_string());
        let is_server = matches!(named.login.target, Target::Server(_));
        let found = if is_server { format!("{target}: it works") } else { format!("{target} can be read") };
        self.add(vec![Group::Server.ok("login", found)]);
        self.add(doctor::server_checks(remote.as_ref()).await);
        if speed {
            self.add(doctor::speed_checks(remote.as_ref(), named.may_be_written_to()).await);
        }
        let vaults = named.bookmark.as_ref().map_or(&[][..], |bookmark| &bookmark.mount.vaults);
        self.add(doctor::vault_checks(remote.as_ref(), vaults).await);
    }

    fn end(self) -> Result<ExitCode, CliError> {
        let count = |is_meant: fn(&Verdict) -> bool| {
            self.checks.iter().filter(|check| is_meant(&check.verdict)).count()
        };
        let problems = count(|verdict| matches!(verdict, Verdict::Failed { .. }));
        let warnings = count(|verdict| matches!(verdict, Verdict::Warning { .. }));
        if self.json {
            screen::out_json(&self)?;
        } else {
            screen::out("");
            screen::out(&format!(
                "{problems} {}, {warnings} {}",
                if problems == 1 { "problem" } else { "problems" },
                if warnings == 1 { "warning" } else { "warnings" }
            ));
        }
        Ok(ExitCode::from(match (problems, warnings) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }))
    }
}

fn show(check: &Check) {
    let mark = match check.verdict {
        Verdict::Ok => '✓',
        Verdict::Warning { .. } => '!',
        Verdict::Failed { .. } => '✗',
    };
    // An error about a file may show the place in it, in several lines.
    let mut lines = check.found.lines();
    screen::out(&format!("  {mark} {}: {}", check.name, lines.next().unwrap_or_default()));
    lines.for_each(|line| screen::out(&format!("      {line}")));
    if let Some(advice) = check.verdict.advice() {
        screen::out(&format!("      {advice}"));
    }
}
