//! Notifies the user on a desktop where nothing of Scaup is open: of a login that needs an answer (the notification's
//! action asks the questions), and of what became of vaults.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::Stdio;

use futures::StreamExt;
use tokio::process::Command;
use tokio::sync::watch;

use super::buses::session_bus;
use super::lock_causes::LockCause;
use crate::remote::Reachability;

/// Programs that ask for a secret in a window, where the system packages put them: OpenSSH's own default, which the
/// `ssh-askpass` packages of all desktops provide.
const ASKPASS_PROGRAMS: &[&str] =
    &["/usr/bin/ssh-askpass", "/usr/libexec/openssh/ssh-askpass", "/usr/lib/ssh/ssh-askpass"];

/// Terminals, and the arguments before the command that is to run in them: the desktop's choice first.
const TERMINALS: &[(&str, &[&str])] = &[
    ("xdg-terminal-exec", &[]),
    ("x-terminal-emulator", &["-e"]),
    ("gnome-terminal", &["--"]),
    ("konsole", &["-e"]),
    ("xterm", &["-e"]),
];

/// The desktop's notifications (freedesktop.org's Desktop Notifications Specification 1.2).
#[zbus::proxy(
    interface = "org.freedesktop.Notifications",
    default_service = "org.freedesktop.Notifications",
    default_path = "/org/freedesktop/Notifications"
)]
trait Notifications {
    #[allow(clippy::too_many_arguments)]
    fn notify(
        &self,
        app_name: &str,
        replaces_id: u32,
        app_icon: &str,
        summary: &str,
        body: &str,
        actions: &[&str],
        hints: HashMap<&str, zbus::zvariant::Value<'_>>,
        expire_timeout: i32,
    ) -> zbus::Result<u32>;

    fn close_notification(&self, id: u32) -> zbus::Result<()>;

    #[zbus(signal)]
    fn action_invoked(&self, id: u32, action_key: String) -> zbus::Result<()>;
}

/// Shows that the mount of this name waits for a login, until that changes. Without a desktop it does nothing.
pub(super) async fn login_needed(name: String, reachability: watch::Receiver<Reachability>) {
    if let Err(error) = notify(&name, reachability).await {
        tracing::debug!(%error, "the user could not be notified");
    }
}

/// Notifies the user that the server shows something else where a vault was unlocked. Without a desktop it does
/// nothing.
pub(super) async fn vault_displaced(name: String, vault: String) {
    let text = format!(
        "The server shows something else in the place of vault {vault}. Reads and writes there fail until the vault is back."
    );
    show(&format!("{name}: a vault is not in its place"), &text, Urgency::Critical).await;
}

/// Notifies the user that vaults were locked without a request. Without a desktop it does nothing.
pub(super) async fn vaults_locked(name: String, cause: LockCause) {
    // It may be seen on a locked screen: it names no vault.
    let text = format!("They were {cause}. `scaup unlock` opens them again.");
    show(&format!("The vaults of {name} are locked"), &text, Urgency::Normal).await;
}

/// Notifies the user that vaults should have been locked and are not. Without a desktop it does nothing.
pub(super) async fn vaults_stay_unlocked(name: String) {
    let text = "Something in a vault can't be saved anywhere any more, so the vault was not locked: its keys stay in memory.";
    show(&format!("A vault of {name} stays unlocked"), text, Urgency::Critical).await;
}

/// The levels of the specification that are used.
#[derive(Clone, Copy)]
enum Urgency {
    Normal = 1,
    Critical = 2,
}

/// Shows a notification without actions.
async fn show(title: &str, text: &str, urgency: Urgency) {
    let shown = async {
        let notifications = NotificationsProxy::new(&session_bus().await?).await?;
        let urgency = HashMap::from([("urgency", zbus::zvariant::Value::U8(urgency as u8))]);
        notifications.notify("Scaup", 0, "network-server", title, text, &[], urgency, 0).await
    };
    if let Err(error) = shown.await {
        tracing::debug!(%error, "the user could not be notified");
    }
}

async fn notify(name: &str, mut reachability: watch::Receiver<Reachability>) -> zbus::Result<()> {
    let notifications = NotificationsProxy::new(&session_bus().await?).await?;
    let mut actions = notifications.receive_action_invoked().await?;
    // The notification may be seen on a locked screen: it contains no file names, and nothing of the question.
    let (title, text) = (
        format!("{name} needs you to log in"),
        "The connection was lost, and the server asks something that only you can answer. No data is lost in the meantime.",
    );
    let urgent = HashMap::from([
        ("urgency", zbus::zvariant::Value::U8(2)),
        ("resident", zbus::zvariant::Value::Bool(true)),
    ]);
    let log_in = ["default", "Log in", "login", "Log in"];
    let id = notifications.notify("Scaup", 0, "network-server", &title, text, &log_in, urgent, 0).await?;
    let asked = async {
        while let Some(signal) = actions.next().await {
            if signal.args().is_ok_and(|args| args.id == id)
                && let Err(error) = ask_here(name).await
            {
                tracing::warn!(%error, "no program was found that can ask the person");
            }
        }
    };
    tokio::select! {
        () = asked => {}
        _ = reachability.changed() => {}
    }
    notifications.close_notification(id).await
}

/// Runs `scaup login` where the user sees its questions, until it ends.
async fn ask_here(name: &str) -> io::Result<()> {
    let login = std::env::current_exe()?;
    let is_set = std::env::var_os("SSH_ASKPASS").is_some_and(|program| !program.is_empty());
    let askpass = ASKPASS_PROGRAMS.iter().find(|program| Path::new(program).exists());
    let mut command = Command::new(&login);
    command.args(["login", name]).env("SSH_ASKPASS_REQUIRE", "force");
    match askpass {
        _ if is_set => wait_for(command).await,
        Some(askpass) => {
            command.env("SSH_ASKPASS", askpass);
            wait_for(command).await
        }
        None => in_terminal(&login, name).await,
    }
}

async fn in_terminal(login: &Path, name: &str) -> io::Result<()> {
    for (terminal, before) in TERMINALS {
        let mut command = Command::new(terminal);
        command.args(*before).arg(login).args(["login", name]);
        match wait_for(command).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "SSH_ASKPASS is not set, and no known terminal program was found",
    ))
}

async fn wait_for(mut command: Command) -> io::Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
    tracing::debug!(%status, "the login that the notification began ended");
    Ok(())
}
