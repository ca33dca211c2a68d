//! The desktop's services that Scaup uses, if there is a desktop.

use super::{GROUP, bus};
use crate::doctor::Check;

const NOTIFICATIONS: &str = "org.freedesktop.Notifications";
const SECRETS: &str = "org.freedesktop.secrets";

pub(super) async fn checks() -> Vec<Check> {
    let mut checks = session_checks(has_desktop()).await;
    checks.push(sleep().await);
    checks
}

fn has_desktop() -> bool {
    ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty()))
}

/// Without a desktop, nothing is missed.
async fn session_checks(has_desktop: bool) -> Vec<Check> {
    let missing = |name, found: String, advice: &str| {
        if has_desktop { GROUP.warning(name, found, advice) } else { GROUP.ok(name, found) }
    };
    let bus = match bus::session().await {
        Ok(bus) => bus,
        Err(error) => {
            let found = format!("there is none, so no notifications and no keyring ({error})");
            let advice = "log in to the desktop by its display manager, or start this from within it";
            return vec![missing("session bus", found, advice)];
        }
    };
    let mut checks = vec![GROUP.ok("session bus", "it replies")];
    for (check, name, there, gone, advice) in [
        (
            "notifications",
            NOTIFICATIONS,
            "they can be shown",
            "no program shows them, so a mount that waits for a login can't say so",
            "install a notification daemon, such as dunst or mako",
        ),
        (
            "keyring",
            SECRETS,
            "there is one (it was not opened)",
            "there is none, so no password can be remembered in it",
            "install gnome-keyring, or switch on the Secret Service of KWallet or KeePassXC",
        ),
    ] {
        checks.push(match bus::is_there(&bus, name).await {
            Ok(true) => GROUP.ok(check, there),
            Ok(false) => missing(check, gone.to_owned(), advice),
            Err(error) => missing(check, format!("the session bus does not say: {error}"), advice),
        });
    }
    checks
}

async fn sleep() -> Check {
    let name = "sleep";
    match bus::sleep_delay().await {
        Ok(delay) => {
            GROUP.ok(name, format!("logind lets mounts save for up to {} s before it", delay.as_secs()))
        }
        Err(_) => GROUP.ok(name, "without logind, mounts notice it only afterwards"),
    }
}
