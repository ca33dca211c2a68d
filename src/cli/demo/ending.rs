//! The end of the demo: by Ctrl-C at any moment, by an unmount from elsewhere, or because the mount's process died.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::error::CliError;
use crate::cli::screen;
use crate::daemon::client;
use crate::daemon::protocol::FailureKind;
use crate::daemon::remembered::RememberedVaults;

/// How long the mount's process may take to end when the demo failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ctrl-C, SIGTERM, and the closing of the terminal: counted, and passed on to the mount's process.
#[derive(Clone, Default)]
pub(super) struct Interrupts(Arc<State>);

#[derive(Default)]
struct State {
    count: AtomicU32,
    expected: AtomicBool,
    late: AtomicBool,
    daemon: Mutex<Option<Pid>>,
}

impl Interrupts {
    /// Watches the signals, which no longer end this process from here on.
    pub(super) fn watch(runtime: &tokio::runtime::Runtime) -> io::Result<Self> {
        let interrupts = Self::default();
        let _inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let watching = interrupts.clone();
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                watching.receive();
            }
        });
        Ok(interrupts)
    }

    fn receive(&self) {
        let count = self.0.count.fetch_add(1, Ordering::AcqRel) + 1;
        if count == 1 {
            self.0.late.store(self.0.expected.load(Ordering::Acquire), Ordering::Release);
            // The terminal shows ^C at the cursor.
            let _ = super::said::say("\nsaving and unmounting; press Ctrl-C again to end at once");
        }
        self.pass_on(count);
    }

    /// Passes a signal on: the first asks the daemon to save and unmount, the second not to save; further ones have no
    /// effect.
    fn pass_on(&self, count: u32) {
        let daemon = self.0.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *daemon {
            let _ = kill_process(pid, if count > 2 { Signal::KILL } else { Signal::TERM });
        }
    }

    /// Returns whether there was one.
    pub(super) fn came(&self) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
    }

    /// Marks that everything is shown: from here on an interrupt is the expected end of the demo.
    pub(super) fn expect(&self) {
        self.0.expected.store(true, Ordering::Release);
    }

    /// Returns whether the first one came when it was expected.
    pub(super) fn came_late(&self) -> bool {
        self.0.late.load(Ordering::Acquire)
    }

    fn set_daemon(&self, pid: Option<Pid>) {
        *self.0.daemon.lock().unwrap_or_else(PoisonError::into_inner) = pid;
        let count = self.0.count.load(Ordering::Acquire);
        if count > 0 {
            self.pass_on(count);
        }
    }
}

/// The mount's process. Dropping it ends it, and leaves nothing of the mount.
pub(super) struct MountProcess {
    child: Child,
    name: String,
    /// The directories created only for the mount, innermost first.
    made: Vec<PathBuf>,
    mountpoint: PathBuf,
    /// The vault is forgotten: it is removed with the demo.
    remembered: RememberedVaults,
    interrupts: Interrupts,
}

impl MountProcess {
    /// Creates it before the daemon is told to mount.
    pub(super) fn new(
        child: Child,
        name: &str,
        mountpoint: &Path,
        remembered: RememberedVaults,
        interrupts: &Interrupts,
    ) -> Self {
        interrupts.set_daemon(Some(Pid::from_child(&child)));
        // A dead mount fails with another error than "not found".
        let missing = |path: &&Path| {
            fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        Self {
            child,
            name: name.to_owned(),
            made: mountpoint.ancestors().take_while(missing).map(Path::to_owned).collect(),
            mountpoint: mountpoint.to_owned(),
            remembered,
            interrupts: interrupts.clone(),
        }
    }

    /// Waits until the process ends.
    pub(super) fn wait(&mut self) -> Result<(), CliError> {
        let status: ExitStatus = self.child.wait()?;
        self.interrupts.set_daemon(None);
        match status.code() {
            Some(0) => Ok(()),
            code if code == Some(FailureKind::Unsaved.exit_code().into()) => Err(CliError::new(
                FailureKind::Unsaved,
                "some content was not saved; all of it is removed anyway",
            )),
            _ => Err(CliError::other(format!(
                "the mount's process ended unexpectedly ({status}); everything is removed anyway"
            ))),
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn end(&mut self) {
        if self.has_ended() {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for MountProcess {
    fn drop(&mut self) {
        self.end();
        self.interrupts.set_daemon(None);
        if let Err(error) = scaup_fuse::clear_stale(&self.mountpoint) {
            screen::fail(&error.to_string());
        }
        for directory in &self.made {
            match fs::remove_dir(directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => screen::fail(&format!("left {}: {error}", directory.display())),
            }
        }
        if let Err(error) = self.remembered.forget_below() {
            screen::fail(&error.to_string());
        }
        // A killed process leaves its socket; connecting removes it.
        drop(client::is_mounted(&self.name));
    }
}
