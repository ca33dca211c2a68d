//! Shares by link: made, read, listed, changed and taken back.

use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::http::{Answer, Call};
use super::tree::{State, random};
use super::{ocs, propfind};

/// Why a day can be counted.
const A_DAY: &str = "a test stays in the calendar";

/// The type of a share by link.
const LINK: &str = "3";
/// To a user, which are made and forgotten, and by mail, of which only the link is kept.
const OTHERS: [&str; 3] = ["0", "4", "6"];

/// A share as the server keeps it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) kind: u32,
    pub(super) owner: String,
    /// By id: it follows renames, and comes back with the file from the trash.
    pub(super) file: u64,
    pub(super) file_target: String,
    pub(super) token: String,
    pub(super) with: Option<String>,
    pub(super) password: Option<String>,
    pub(super) expires: Option<Date>,
    pub(super) permissions: u32,
    pub(super) note: String,
    pub(super) label: String,
    pub(super) attributes: Option<String>,
    pub(super) hide_download: bool,
    pub(super) made: i64,
    pub(super) limit: Option<(u32, u32)>,
    salt: String,
}

impl Link {
    /// The expiry as the answers tell it.
    pub(super) fn expiration(&self, state: &State) -> Option<String> {
        let time = if state.personality().expires_at_end_of_day { "23:59:59" } else { "00:00:00" };
        self.expires.map(|day| format!("{day} {time}"))
    }

    /// Up to 32 it is over when its day begins, on 34 when it ends.
    pub(super) fn is_over(&self, state: &State) -> bool {
        let today = state.today();
        let last = state.personality().expires_at_end_of_day;
        self.expires.is_some_and(|day| if last { today > day } else { today >= day })
    }

    /// Whether the file may be had as it is.
    pub(super) fn downloadable(&self) -> bool {
        let forbidden = |text: &String| {
            let all: Value = serde_json::from_str(text).unwrap_or_default();
            let mut all = all.as_array().into_iter().flatten();
            all.any(|each| {
                each["key"] == "download" && each.get("value").or(each.get("enabled")) != Some(&json!(true))
            })
        };
        !self.attributes.as_ref().is_some_and(forbidden)
    }
}

/// A refusal, ready to be sent.
type Refusal = (u16, String);

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A request about shares; `rest` is empty or `/ID`.
pub(super) fn answer(state: &mut State, call: &Call, user: &str, rest: &str) -> Answer {
    if !state.settings.sharing_enabled {
        return ocs::refuse(call, 404, "Share API is disabled");
    }
    let id = rest.trim_matches('/');
    if id.is_empty() {
        return match call.method.as_str() {
            "GET" => list(state, call, user),
            "POST" => create(state, call, user),
            _ => ocs::refuse(call, 405, ""),
        };
    }
    let at = state.links.iter().position(|link| link.id.to_string() == id && link.owner == user);
    let unknown = || ocs::refuse(call, 404, "Wrong share ID, share does not exist");
    let Some(at) = at else { return unknown() };
    if state.links[at].is_over(state) {
        state.links.remove(at);
        return unknown();
    }
    if state.path_of(user, state.links[at].file).is_none() {
        if call.method == "DELETE" && state.personality().share_of_lost_file_deletable {
            state.links.remove(at);
            return ocs::ok(call, json!([]));
        }
        return unknown();
    }
    match call.method.as_str() {
        "GET" => {
            let link = described(state, &state.links[at], false);
            ocs::ok(call, json!([link]))
        }
        "DELETE" => {
            state.links.remove(at);
            ocs::ok(call, json!([]))
        }
        "PUT" => match update(state, call, at) {
            Ok(()) => ocs::ok(call, described(state, &state.links[at], false)),
            Err((status, message)) => ocs::refuse(call, status, &message),
        },
        _ => ocs::refuse(call, 405, ""),
    }
}

/// A share as the API tells it.
fn described(state: &State, link: &Link, new: bool) -> Value {
    let path = state.path_of(&link.owner, link.file).unwrap_or_default();
    let node = state.node(&link.owner, &path).expect("the link leads to it");
    let above = state
        .node(&link.owner, super::tree::parent(&path).unwrap_or_default())
        .expect("a file lies in a folder");
    let name = &state.user(&link.owner).display_name;
    // Looks like a hash; nothing can be guessed from it.
    let hash = |_: &String| match state.personality().password_redacted {
        true => "redacted".to_owned(),
        false => format!("3|$argon2id$v=19$m=65536,t=4,p=1${}", link.salt),
    };
    let password = link.password.as_ref().map(hash);
    let is_link = link.kind == 3;
    let mut told = json!({
        "id": link.id.to_string(),
        "share_type": link.kind,
        "uid_owner": link.owner,
        "displayname_owner": name,
        "permissions": link.permissions,
        "can_edit": true,
        "can_delete": true,
        "stime": link.made,
        "parent": null,
        "expiration": link.expiration(state),
        "token": link.token,
        "uid_file_owner": link.owner,
        "note": link.note,
        "label": link.label,
        "displayname_file_owner": name,
        "path": path,
        "item_type": if node.is_folder() { "folder" } else { "file" },
        "item_permissions": if node.is_folder() { 31 } else { 27 },
        "mimetype": if node.is_folder() { "httpd/unix-directory" } else { propfind::mime(&path) },
        "has_preview": propfind::preview_of(state, &link.owner, &path),
        "storage_id": format!("home::{}", link.owner),
        "storage": 2,
        "item_source": node.id,
        "file_source": node.id,
        "file_parent": above.id,
        "file_target": link.file_target,
        "item_size": state.size_of(&link.owner, &path),
        "item_mtime": node.mtime,
        "share_with": if is_link { password.clone() } else { link.with.clone() },
        "share_with_displayname": if is_link { Some("(Shared link)".to_owned()) } else { link.with.clone() },
        "password": password,
        "send_password_by_talk": false,
        "url": format!("{}/s/{}", state.believed_url(), link.token),
        "mail_send": u8::from(new),
        "hide_download": u8::from(link.hide_download),
        "attributes": link.attributes,
    });
    if state.version.major() >= 31 {
        told["is-mount-root"] = json!(false);
        told["mount-type"] = json!("");
    }
    told
}

/// All of mine, those of one file, or those of a folder's direct children. Those that are over go now.
fn list(state: &mut State, call: &Call, user: &str) -> Answer {
    let over: Vec<u64> = state.links.iter().filter(|link| link.is_over(state)).map(|link| link.id).collect();
    state.links.retain(|link| link.owner != user || !over.contains(&link.id));
    let asked = call.asked("path").map(|path| format!("/{}", path.trim_matches('/')));
    let asked = asked.map(|path| if path == "/" { String::new() } else { path });
    if let Some(path) = &asked
        && state.node(user, path).is_none()
    {
        return ocs::refuse(call, 404, "Wrong path, file/folder does not exist");
    }
    let children = call.asked("subfiles") == Some("true");
    let mut found = Vec::new();
    for link in state.links.iter().filter(|link| link.owner == user) {
        let Some(path) = state.path_of(user, link.file) else { continue };
        let wanted = match &asked {
            None => true,
            Some(folder) if children => super::tree::parent(&path) == Some(folder),
            Some(file) => path == *file,
        };
        if wanted {
            found.push(described(state, link, false));
        }
    }
    ocs::ok(call, Value::Array(found))
}

fn create(state: &mut State, call: &Call, user: &str) -> Answer {
    // Each attempt counts, not only those that succeed.
    let now = state.now();
    state.shares_made.retain(|time| *time > now - 600);
    if state.settings.shares_per_10_minutes.is_some_and(|most| state.shares_made.len() >= most as usize) {
        return Answer::empty(429);
    }
    state.shares_made.push(now);
    match made(state, user, &call.fields()) {
        Ok(link) => {
            let answer = ocs::ok(call, described(state, &link, true));
            state.links.push(link);
            answer
        }
        Err((status, message)) => ocs::refuse(call, status, &message),
    }
}

fn made(state: &mut State, user: &str, fields: &[(String, String)]) -> Result<Link, Refusal> {
    let personality = state.personality();
    let refuse = |status, message: &str| Err((status, message.to_owned()));
    let Some(path) = field(fields, "path") else {
        return refuse(404, "Please specify a file or folder path");
    };
    let path = super::dav::tidy(&format!("/{}", path.trim_matches('/')));
    let Some(node) = state.node(user, &path).cloned() else {
        return refuse(404, "Wrong path, file/folder does not exist");
    };
    let kind = field(fields, "shareType").unwrap_or("-1");
    if kind != LINK && !OTHERS.contains(&kind) {
        return refuse(400, "Unknown share type");
    }
    if path.is_empty() {
        return refuse(
            403,
            if personality.reason_when_enforced {
                "You cannot share your root folder"
            } else {
                "Failed to create share."
            },
        );
    }
    if kind == LINK && !state.settings.links_allowed {
        return refuse(404, "Public link sharing is disabled by the administrator");
    }
    if kind == "6" {
        return refuse(if state.version.major() == 28 { 500 } else { 403 }, "Failed to create share.");
    }
    let mut permissions = permissions(&personality, node.is_folder(), kind, fields)?;
    if kind != "0" {
        permissions |= 16;
    }
    let label = field(fields, "label").unwrap_or_default();
    if personality.label_bounded && label.chars().count() > 255 {
        return refuse(400, "Maximum label length is 255");
    }
    if field(fields, "sendPasswordByTalk") == Some("true") {
        return refuse(
            403,
            "Sending the password by Nextcloud Talk failed because Nextcloud Talk is not enabled",
        );
    }
    let asked = field(fields, "expireDate").map(parse_date).transpose();
    let Ok(asked) = asked else { return refuse(404, "Invalid date. Format must be YYYY-MM-DD") };
    let password = field(fields, "password").filter(|password| !password.is_empty()).map(str::to_owned);
    if kind != "0" {
        check_password(state, password.as_deref(), 403)?;
    }
    let expires = if kind == "0" { None } else { expiry(state, asked)? };
    let id = state.next();
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(Link {
        id,
        kind: kind.parse().unwrap_or_default(),
        owner: user.to_owned(),
        file: node.id,
        file_target: format!("/{name}"),
        token: random(15),
        with: field(fields, "shareWith").map(str::to_owned),
        password,
        expires,
        permissions,
        note: field(fields, "note").unwrap_or_default().to_owned(),
        label: label.to_owned(),
        attributes: field(fields, "attributes").and_then(|text| attributes(&personality, text)),
        hide_download: false,
        made: state.now(),
        limit: None,
        salt: format!("{}${}", random(22), random(43)),
    })
}

/// As they are kept: up to 29 by another word, and what came by the new one is lost.
fn attributes(personality: &super::settings::Personality, text: &str) -> Option<String> {
    if !personality.attributes_by_enabled || text.is_empty() {
        return (!text.is_empty()).then(|| text.to_owned());
    }
    let all: Value = serde_json::from_str(text).ok()?;
    let kept: Vec<String> = all
        .as_array()?
        .iter()
        .map(|each| {
            let (scope, key, enabled) = (&each["scope"], &each["key"], &each["enabled"]);
            format!("{{\"scope\":{scope},\"key\":{key},\"enabled\":{enabled}}}")
        })
        .collect();
    Some(format!("[{}]", kept.join(",")))
}

fn permissions(
    personality: &super::settings::Personality,
    folder: bool,
    kind: &str,
    fields: &[(String, String)],
) -> Result<u32, Refusal> {
    if field(fields, "publicUpload") == Some("true") {
        if !folder {
            let message = "Public upload is only possible for publicly shared folders";
            return Err((personality.public_upload_refusal, message.to_owned()));
        }
        return Ok(15);
    }
    let asked = field(fields, "permissions").and_then(|text| text.parse::<u32>().ok());
    let asked = asked.unwrap_or(if kind == "0" { 27 } else { 1 });
    if folder {
        return Ok(asked & 31);
    }
    // Nothing can be put into a file, and it can't be deleted through its link.
    match asked & 3 {
        0 if personality.create_only_files_refused => {
            Err((400, "Share must at least have READ or CREATE permissions".to_owned()))
        }
        bits => Ok(bits | 1),
    }
}

/// Whether links may have this password, or none.
fn check_password(state: &State, password: Option<&str>, enforced: u16) -> Result<(), Refusal> {
    let personality = state.personality();
    let Some(password) = password else {
        if !state.settings.password_enforced {
            return Ok(());
        }
        let reason = if enforced == 403 && personality.reason_when_enforced {
            "Passwords are enforced for link and mail shares"
        } else if enforced == 403 {
            "Failed to create share."
        } else {
            "Failed to update share."
        };
        return Err((enforced, reason.to_owned()));
    };
    if !state.settings.policy_app {
        return Ok(());
    }
    match state.settings.policy.refusal(state.version, password) {
        None => Ok(()),
        Some(reason) => Err((personality.policy_refusal, reason)),
    }
}

/// The day of `YYYY-MM-DD`, whatever follows it; None for an empty text.
fn parse_date(text: &str) -> Result<Option<Date>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    let day = text.get(..10).ok_or(())?;
    day.parse().map(Some).map_err(|_| ())
}

/// The expiry of a new share: `None` not asked for, `Some(None)` explicitly none.
fn expiry(state: &State, asked: Option<Option<Date>>) -> Result<Option<Date>, Refusal> {
    let settings = &state.settings;
    let today = state.today();
    match asked {
        Some(Some(day)) => check_day(state, day).map(Some),
        Some(None) if !settings.days_enforced && !state.personality().empty_date_means_default => Ok(None),
        _ => Ok(settings.default_days.map(|days| {
            let days = settings.days_given.map_or(days, |given| given.min(days));
            today.checked_add(i64::from(days).days()).expect(A_DAY)
        })),
    }
}

fn check_day(state: &State, day: Date) -> Result<Date, Refusal> {
    let today = state.today();
    let first = if state.personality().today_is_taken { today } else { today.tomorrow().expect(A_DAY) };
    if day < first {
        return Err((404, "Expiration date is in the past".to_owned()));
    }
    if let (true, Some(days)) = (state.settings.days_enforced, state.settings.default_days)
        && day > today.checked_add(i64::from(days).days()).expect(A_DAY)
    {
        return Err((404, format!("Cannot set expiration date more than {days} days in the future")));
    }
    Ok(day)
}

/// PUT: several fields at once work.
fn update(state: &mut State, call: &Call, at: usize) -> Result<(), Refusal> {
    let fields = call.fields();
    let mut link = state.links[at].clone();
    let personality = state.personality();
    let refuse = |status, message: &str| Err((status, message.to_owned()));
    let mut any = false;
    for (name, value) in &fields {
        any = true;
        match name.as_str() {
            "password" => {
                let password = (!value.is_empty()).then_some(value.as_str());
                check_password(state, password, 400)?;
                link.password = password.map(str::to_owned);
                link.salt = format!("{}${}", random(22), random(43));
            }
            "expireDate" => match parse_date(value) {
                Err(()) => return refuse(400, "Invalid date. Format must be YYYY-MM-DD"),
                Ok(None) if state.settings.days_enforced => return refuse(400, "Failed to update share."),
                Ok(None) => link.expires = None,
                Ok(Some(day)) => link.expires = Some(check_day(state, day)?),
            },
            "permissions" => link.permissions = value.parse().unwrap_or(1) & 31 | 16,
            "note" => link.note.clone_from(value),
            "label" if personality.label_bounded && value.chars().count() > 255 => {
                return refuse(400, "Maximum label length is 255");
            }
            "label" => link.label.clone_from(value),
            "hideDownload" => link.hide_download = value == "true",
            "attributes" => link.attributes = attributes(&personality, value),
            "token" if personality.custom_tokens => {
                return refuse(403, "Custom share link tokens have been disabled by the administrator");
            }
            _ => any = fields.len() > 1,
        }
    }
    if personality.attributes_follow_hiding {
        let hidden = fields.iter().any(|(name, _)| name == "hideDownload");
        let word =
            format!("[{{\"scope\":\"permissions\",\"key\":\"download\",\"value\":{}}}]", !link.hide_download);
        link.attributes = if hidden { Some(word) } else { link.attributes.or(Some("[]".to_owned())) };
    }
    if !any {
        return refuse(400, "Wrong or no update parameter given");
    }
    state.links[at] = link;
    Ok(())
}

/// `TOKEN/limit` of the app that counts downloads.
pub(super) fn download_limit(state: &mut State, call: &Call, user: &str, rest: &str) -> Answer {
    let personality = state.personality();
    let token = rest.trim_end_matches("/limit");
    let found = state.links.iter_mut().find(|link| link.token == token && link.owner == user);
    let Some(link) = found.filter(|_| personality.download_limit) else {
        return ocs::refuse(call, 404, "Unknown share");
    };
    match call.method.as_str() {
        "GET" => {
            let (limit, count) = link.limit.unzip();
            ocs::ok(call, json!({ "limit": limit, "count": count }))
        }
        "PUT" => {
            let fields = call.fields();
            match field(&fields, "limit").and_then(|text| text.parse().ok()) {
                Some(limit) if limit > 0 => {
                    link.limit = Some((limit, 0));
                    ocs::ok(call, json!([]))
                }
                _ if personality.zero_limit_refusal == 500 => {
                    ocs::envelope(call, 500, 996, "Internal Server Error", json!([]))
                }
                _ => ocs::refuse(call, 400, "Limit needs to be greater or equal than 1"),
            }
        }
        "DELETE" => {
            link.limit = None;
            ocs::ok(call, json!([]))
        }
        _ => ocs::refuse(call, 405, ""),
    }
}
