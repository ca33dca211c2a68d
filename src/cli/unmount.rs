//! `scaup unmount`, and Ctrl-C for a mount in the foreground.

use clap::Args;

use super::converse::{self, Mounts};
use super::error::CliError;
use super::screen;
use crate::daemon::client::Conversation;
use crate::daemon::protocol::{FailureKind, Request};

/// Save everything and unmount.
#[derive(Args)]
#[command(
    after_help = "Waits until everything is on the server. If something can't be saved, the command says what and why, exits with \
    code 8, and the mount stays. Ctrl-C cancels at any time; the mount stays then, too. If files are in use, the command \
    names the programs that use them."
)]
pub(super) struct UnmountArguments {
    /// The mount's name or mount point
    #[arg(required_unless_present = "all", value_name = "NAME|MOUNTPOINT")]
    mount: Option<String>,
    /// All mounts
    #[arg(long, conflicts_with = "mount")]
    all: bool,
    /// How long to wait for content that can't be saved at once [default: the mount's --timeout]
    #[arg(long, value_name = "SECONDS", conflicts_with = "force")]
    wait: Option<u64>,
    /// Discard content that can't be saved within seconds, and unmount even if files are open
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &UnmountArguments) -> Result<(), CliError> {
    let request = Request::Unmount { force: arguments.force, wait: arguments.wait };
    let _listening = if arguments.force { None } else { Some(leave_on_interrupt()?) };
    if !arguments.all {
        let mount = arguments.mount.as_deref().unwrap_or_default();
        return match converse::find(Some(mount)) {
            Ok((mut conversation, _)) => unmount(&mut conversation, &request),
            // A dead process leaves a mount on which every access fails.
            Err(error) => match scaup_fuse::clear_stale(std::path::Path::new(mount)) {
                Ok(true) => Ok(()),
                _ => Err(error),
            },
        };
    }
    let mut failed = None;
    let Mounts { replying, of_other_versions } = converse::all()?;
    for (_, error) in of_other_versions {
        screen::fail(&error.message);
        failed = Some(error);
    }
    for (mut conversation, status) in replying {
        if let Err(error) = unmount(&mut conversation, &request) {
            screen::fail(&format!("{}: {}", status.name, error.message));
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Unmounts, and returns when the daemon has ended: then its name and mount point are free again.
fn unmount(conversation: &mut Conversation, request: &Request) -> Result<(), CliError> {
    converse::ask(conversation, request, false)?;
    converse::until_the_end(conversation);
    Ok(())
}

/// Makes Ctrl-C leave the mount in place: the daemon gives up an unmount that no front end waits for.
fn leave_on_interrupt() -> Result<tokio::runtime::Runtime, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(guard);
    runtime.spawn(async move {
        if interrupt.recv().await.is_some() {
            screen::end_line();
            screen::tell("cancelled: the mount stays, and saving goes on; `scaup status` shows what is left");
            std::process::exit(FailureKind::Unsaved.exit_code().into());
        }
    });
    Ok(runtime)
}

/// Passes SIGINT, SIGTERM and SIGHUP on to the daemon, which saves and unmounts on the first, and ends on the second,
/// unless that is SIGHUP.
pub(super) fn forward_signals(pid: u32) -> Result<tokio::runtime::Runtime, CliError> {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let daemon = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    runtime.spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => {
                    screen::end_line();
                    screen::tell("saving and unmounting; press Ctrl-C again to end at once and lose what is not saved");
                    Signal::INT
                }
                _ = terminate.recv() => Signal::TERM,
                _ = hangup.recv() => Signal::HUP,
            };
            if let Some(daemon) = daemon {
                let _ = kill_process(daemon, signal);
            }
        }
    });
    drop(_guard);
    Ok(runtime)
}
