//! Logging in with a browser, and the login flow that gives a program its app password.

use serde_json::json;

use super::http::{Answer, Call, encode};
use super::login::{self, ACCOUNT_PASSWORD};
use super::propfind::escape;
use super::tree::{State, random};

/// Seconds until a flow is forgotten.
const LIFETIME: i64 = 20 * 60;

/// The code that every second factor takes.
const CODE: &str = "123456";

/// A program waiting for its app password.
pub(super) struct Flow {
    poll: String,
    login: String,
    state: String,
    device: String,
    begun: i64,
    granted: Option<String>,
}

/// A browser.
#[derive(Default)]
pub(super) struct Session {
    /// Logged in, second factor included.
    user: Option<String>,
    /// Password given, second factor not yet.
    half: Option<String>,
    /// Of the flow whose address was opened.
    state: String,
    /// Links whose password was given.
    pub(super) links: Vec<String>,
}

/// The browser's session, a new one if there is none.
pub(super) fn session(state: &mut State, call: &Call) -> String {
    let id = call.cookie(&state.instance).filter(|id| state.sessions.contains_key(id));
    id.unwrap_or_else(|| {
        let id = random(26);
        state.sessions.insert(id.clone(), Session::default());
        id
    })
}

/// Everything that is no API: pages, and the two calls of the flow.
pub(super) fn answer(state: &mut State, call: &Call, path: &str) -> Answer {
    match (call.method.as_str(), path) {
        ("POST", "/login/v2") => return begin(state, call),
        ("POST", "/login/v2/poll") => return poll(state, call),
        _ => {}
    }
    let id = session(state, call);
    let answer = page(state, call, path, &id);
    let cookie = format!("{}={id}; path=/; HttpOnly; SameSite=Lax", state.instance);
    answer.with("set-cookie", &cookie)
}

fn begin(state: &mut State, call: &Call) -> Answer {
    let granted = state.grant_at_once.then(|| "alice".to_owned());
    let flow = Flow {
        poll: random(128),
        login: random(128),
        state: random(64),
        device: call.header("user-agent").unwrap_or_default().to_owned(),
        begun: state.now(),
        granted,
    };
    let base = state.believed_url();
    let begun = json!({
        "poll": { "token": flow.poll, "endpoint": format!("{base}/login/v2/poll") },
        "login": format!("{base}/login/v2/flow/{}", flow.login),
    });
    state.flows.push(flow);
    Answer::json(200, &begun)
}

fn poll(state: &mut State, call: &Call) -> Answer {
    let now = state.now();
    state.flows.retain(|flow| now - flow.begun < LIFETIME);
    let fields = call.fields();
    let token = fields.iter().find(|(name, _)| name == "token").map_or("", |(_, value)| value);
    let grant = state.grant_at_once;
    let found = state.flows.iter().position(|flow| flow.poll == token && (grant || flow.granted.is_some()));
    let Some(at) = found else { return Answer::json(404, &json!([])) };
    let flow = state.flows.remove(at);
    let user = flow.granted.unwrap_or_else(|| "alice".to_owned());
    let password = login::new_device(state, &user, &flow.device);
    let name = state.settings.login_name.clone().filter(|_| user == "alice").unwrap_or(user);
    Answer::json(200, &json!({ "server": state.believed_url(), "loginName": name, "appPassword": password }))
}

fn form(action: &str, fields: &str, button: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{}\">{fields}<input type=\"submit\" value=\"{button}\"></form>",
        escape(action)
    )
}

fn page(state: &mut State, call: &Call, path: &str, id: &str) -> Answer {
    let fields = call.fields();
    let given = |name: &str| {
        let mut all = fields.iter().chain(&call.query);
        all.find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let home = "/settings/user/security".to_owned();
    let next = Some(given("redirect_url")).filter(|next| next.starts_with('/')).unwrap_or(home);
    let user = state.sessions[id].user.clone();
    if let Some(token) = path.strip_prefix("/login/v2/flow/") {
        let Some(flow) = state.flows.iter().find(|flow| flow.login == token) else {
            return Answer::page(
                403,
                "Access forbidden",
                "<h2>Your login token is invalid or has expired</h2>",
            );
        };
        let wanted = flow.state.clone();
        state.sessions.get_mut(id).expect("it was looked up above").state = wanted;
        return Answer::see(&format!("{}/login/v2/flow?user=&direct=0", state.url));
    }
    match (call.method.as_str(), path) {
        ("GET", "/login/v2/flow") => {
            let token = state.sessions[id].state.clone();
            let Some(flow) = state.flows.iter().find(|flow| flow.state == token) else {
                return Answer::page(403, "Access forbidden", "<h2>State token missing</h2>");
            };
            let agents =
                state.settings.login_agent.as_ref().filter(|_| state.personality().checks_login_agents);
            if agents.is_some_and(|agent| *agent != flow.device) {
                return Answer::page(403, "Access forbidden", "<h2>Please use original client</h2>");
            }
            let body = format!(
                "<h1>Connect to your account</h1><p>Grant <b>{}</b> access to your account.</p>\
                 <a href=\"/index.php/login/v2/grant?stateToken={token}\">Log in</a>",
                escape(&flow.device)
            );
            Answer::page(200, "Connect to your account", &body)
        }
        ("GET", "/login/v2/grant") => {
            let token = given("stateToken");
            let address = format!("/index.php/login/v2/grant?stateToken={token}");
            let Some(user) = user else {
                return Answer::see(&format!("/login?redirect_url={}", encode(&address)));
            };
            let Some(flow) = state.flows.iter().find(|flow| flow.state == token) else {
                return Answer::page(403, "Access forbidden", "<h2>State token does not match</h2>");
            };
            let hidden = format!("<input type=\"hidden\" name=\"stateToken\" value=\"{}\">", escape(&token));
            let body = format!(
                "<h1>Account access</h1><p>You are logged in as {}. Grant <b>{}</b> access?</p>{}",
                escape(&user),
                escape(&flow.device),
                form("/index.php/login/v2/grant", &hidden, "Grant access")
            );
            Answer::page(200, "Account access", &body)
        }
        ("POST", "/login/v2/grant") => {
            let token = given("stateToken");
            let flow = state.flows.iter_mut().find(|flow| flow.state == token);
            let (Some(flow), Some(user)) = (flow, user) else {
                return Answer::page(403, "Access forbidden", "<h2>State token does not match</h2>");
            };
            flow.granted = Some(user);
            Answer::page(
                200,
                "Account connected",
                "<h1>Account connected</h1><p>You can close this window.</p>",
            )
        }
        ("GET", "/login") => login_page(&given("redirect_url"), ""),
        ("POST", "/login") => {
            let name = state.user_called(&given("user"));
            if !state.users.contains_key(&name) || given("password") != ACCOUNT_PASSWORD {
                login::count_wrong(state, 1);
                return login_page(&given("redirect_url"), "<p>Wrong login or password.</p>");
            }
            let second_factor = state.settings.second_factor;
            let session = state.sessions.get_mut(id).expect("it was looked up above");
            if second_factor {
                session.half = Some(name);
                return Answer::see(&format!("/login/challenge/totp?redirect_url={}", encode(&next)));
            }
            session.user = Some(name);
            Answer::see(&format!("{}{next}", state.url))
        }
        ("GET", "/login/challenge/totp") => {
            let address = format!("/index.php/login/challenge/totp?redirect_url={}", encode(&next));
            let field = "<label>Authentication code <input name=\"challenge\" autocomplete=\"off\"></label>";
            Answer::page(200, "Two-factor authentication", &form(&address, field, "Submit"))
        }
        ("POST", "/login/challenge/totp") => {
            let right = given("challenge") == CODE;
            let session = state.sessions.get_mut(id).expect("it was looked up above");
            match session.half.take() {
                Some(name) if right => {
                    session.user = Some(name);
                    Answer::see(&format!("{}{next}", state.url))
                }
                half => {
                    session.half = half;
                    Answer::see(&format!("/login/challenge/totp?redirect_url={}", encode(&next)))
                }
            }
        }
        ("GET", "/" | "/settings/user/security" | "/apps/dashboard/" | "/apps/files/") => match user {
            None => Answer::see(&format!("/login?redirect_url={}", encode(&call.path))),
            Some(user) => Answer::page(200, "Nextcloud", &format!("<h1>Good day, {}</h1>", escape(&user))),
        },
        _ => Answer::page(404, "Not found", "<h2>Page not found</h2>"),
    }
}

fn login_page(next: &str, complaint: &str) -> Answer {
    let fields = format!(
        "<label>Account name <input name=\"user\"></label>\
         <label>Password <input type=\"password\" name=\"password\"></label>\
         <input type=\"hidden\" name=\"redirect_url\" value=\"{}\">",
        escape(next)
    );
    let body = format!("<h1>Log in</h1>{complaint}{}", form("/index.php/login", &fields, "Log in"));
    Answer::page(200, "Login", &body)
}
