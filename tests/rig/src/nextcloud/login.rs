//! Who somebody is: account and app passwords, and what happens to those who try.

use serde_json::json;

use super::http::{Answer, Call};
use super::ocs;
use super::settings::RefusalFormat;
use super::tree::{AppPassword, State, random};

/// The password of every account.
pub(super) const ACCOUNT_PASSWORD: &str = "correct horse";

/// So many wrong logins within half an hour are borne with.
const MOST_WRONG: usize = 10;

/// Who sent a request.
pub(super) enum Login {
    /// No `Authorization` at all.
    Nobody,
    /// With an app password.
    Device(AppPassword),
    /// With the account's own password.
    Account(String),
    /// With the account's own password, where that is not enough.
    SecondFactorMissing,
    /// Neither is right.
    Wrong,
    /// Too many wrong ones, whatever this one is.
    Blocked,
}

/// User and password of the `Authorization` header.
pub(super) fn basic(call: &Call) -> Option<(String, String)> {
    let value = call.header("authorization")?.strip_prefix("Basic ")?;
    let decoded = data_encoding::BASE64.decode(value.trim().as_bytes()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Wrong logins that still count.
pub(super) fn recent_failures(state: &mut State) -> usize {
    let since = state.now() - 30 * 60;
    state.wrong_logins.retain(|time| *time > since);
    state.wrong_logins.len()
}

/// Whether this address must wait.
pub(super) fn blocked(state: &mut State) -> bool {
    state.settings.brute_force_protection && recent_failures(state) > MOST_WRONG
}

/// Notes wrong logins.
pub(super) fn count_wrong(state: &mut State, times: usize) {
    let now = state.now();
    state.wrong_logins.extend(std::iter::repeat_n(now, times));
}

/// Looks who it is, and counts the wrong ones.
pub(super) fn of(state: &mut State, call: &Call) -> Login {
    if call.header("authorization").is_none() {
        return Login::Nobody;
    }
    if blocked(state) {
        return Login::Blocked;
    }
    if let Some((name, password)) = basic(call) {
        let user = state.user_called(&name);
        let mut devices = state.app_passwords.iter();
        if let Some(device) = devices.find(|each| each.user == user && each.secret == password) {
            return Login::Device(device.clone());
        }
        if state.users.contains_key(&user) && password == ACCOUNT_PASSWORD {
            return if state.settings.second_factor {
                Login::SecondFactorMissing
            } else {
                Login::Account(user)
            };
        }
    }
    count_wrong(state, 1);
    Login::Wrong
}

/// The user of a WebDAV request, or the refusal.
pub(super) fn of_dav(state: &mut State, call: &Call) -> Result<String, Box<Answer>> {
    let refusal = match of(state, call) {
        Login::Device(AppPassword { user, .. }) | Login::Account(user) => {
            let agent = call.header("user-agent").unwrap_or_default();
            // Clients that call themselves very old are sent away; others are not looked at.
            if agent.contains("mirall/1.") || agent.contains("mirall/0.") {
                let message = "This version of the client is unsupported.";
                Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", message)
            } else {
                return Ok(user);
            }
        }
        Login::Blocked => Answer::dav(429, "OCA\\DAV\\Connector\\Sabre\\Exception\\TooManyRequests", ""),
        Login::SecondFactorMissing => {
            Answer::dav(401, "OCA\\DAV\\Connector\\Sabre\\Exception\\PasswordLoginForbidden", "")
        }
        Login::Nobody | Login::Wrong => {
            let message = "No public access to this resource., Username or password was incorrect";
            Answer::dav(401, "Sabre\\DAV\\Exception\\NotAuthenticated", message)
                .with("www-authenticate", "Basic realm=\"Nextcloud\", charset=\"UTF-8\"")
        }
    };
    Err(Box::new(refusal))
}

/// The user of an OCS request, or the refusal.
pub(super) fn of_ocs(state: &mut State, call: &Call, login: &Login) -> Result<String, Box<Answer>> {
    match login {
        Login::Device(AppPassword { user, .. }) | Login::Account(user) => Ok(user.clone()),
        Login::Blocked => Err(Box::new(early(state, call, 429, 429, "Reached maximum delay"))),
        Login::Wrong => {
            let answer = early(state, call, 401, 997, "Unauthorised");
            Err(Box::new(answer.with("www-authenticate", "Basic realm=\"Authorisation Required\"")))
        }
        Login::Nobody | Login::SecondFactorMissing => {
            let answer = ocs::envelope(call, 401, 997, "Current user is not logged in", json!([]));
            Err(Box::new(answer))
        }
    }
}

/// Refusals before anything is routed: older versions tell them in XML, whatever is asked.
fn early(state: &State, call: &Call, status: u16, code: u16, message: &str) -> Answer {
    let json = match state.personality().refusal_as_json {
        RefusalFormat::Xml => false,
        RefusalFormat::ByQuery => call.asked("format") == Some("json"),
        RefusalFormat::AsAsked => ocs::wants_json(call),
    };
    ocs::envelope_as(json, status, code, message, json!([]))
}

/// All but `status.php` while the server is worked on.
pub(super) fn maintenance(state: &State, call: &Call, path: &str) -> Answer {
    if path.starts_with("/ocs/") {
        return early(state, call, 503, 503, "Service unavailable").with("x-nextcloud-maintenance-mode", "1");
    }
    if path.starts_with("/remote.php") || path.starts_with("/public.php") {
        let exception = "OCA\\DAV\\Exception\\ServerMaintenanceMode";
        return Answer::dav(503, exception, "System is in maintenance mode.");
    }
    Answer::page(503, "Nextcloud", "This Nextcloud instance is currently in maintenance mode.")
        .with("x-nextcloud-maintenance-mode", "1")
}

/// Makes an app password.
pub(super) fn new_device(state: &mut State, user: &str, device: &str) -> String {
    let secret = random(72);
    let (user, device) = (user.to_owned(), device.to_owned());
    state.app_passwords.push(AppPassword { user, secret: secret.clone(), device });
    secret
}

/// `/core/getapppassword` and `/core/apppassword`.
pub(super) fn app_password(state: &mut State, call: &Call, path: &str, login: &Login) -> Answer {
    let device = if let Login::Device(device) = login { Some(device.clone()) } else { None };
    match (call.method.as_str(), path, device) {
        ("GET", "/core/getapppassword", None) => {
            let Login::Account(user) = login else { return Answer::empty(500) };
            let agent = call.header("user-agent").unwrap_or_default().to_owned();
            let secret = new_device(state, user, &agent);
            ocs::ok(call, json!({ "apppassword": secret }))
        }
        ("GET", "/core/getapppassword", Some(_)) => {
            ocs::refuse(call, 403, "You cannot request an new apppassword with an apppassword")
        }
        ("DELETE" | "POST", _, None) => ocs::refuse(call, 403, "no app password in use"),
        ("DELETE", "/core/apppassword", Some(device)) => {
            state.app_passwords.retain(|each| each.secret != device.secret);
            ocs::ok(call, json!([]))
        }
        ("POST", "/core/apppassword/rotate", Some(device)) => {
            state.app_passwords.retain(|each| each.secret != device.secret);
            let secret = new_device(state, &device.user, &device.device);
            ocs::ok(call, json!({ "apppassword": secret }))
        }
        _ => ocs::refuse(call, 405, ""),
    }
}
