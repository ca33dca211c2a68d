//! Recorded exchanges of real servers, sent again.

use std::path::Path;
use std::process::Command;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::super::{Nextcloud, Version};
use super::compare::{differences, etags};
use super::{Reply, basic, send};

/// The day the recordings were made.
const RECORDED: Date = date(2026, 11, 28);

/// The password of the links in the recordings.
const PASSWORD: &str = "maple-otter-cobalt-42";

/// Exchanges that a client which shares files by link never has, and why they need no equal.
const SKIPPED: [(&str, &str); 13] = [
    ("create: by mail (type 4)", "shares of other kinds than links"),
    ("create: federated (type 6)", "shares of other kinds than links"),
    ("create: user (type 0)", "shares of other kinds than links"),
    ("versions of the file", "old versions are not looked at"),
    ("search all files below", "SEARCH is not used"),
    ("tar of a folder", "archives are not used"),
    ("tar of two files of a folder", "archives are not used"),
    ("get while somebody writes it", "no two writers here; a fault gives the 423"),
    ("put while somebody writes it", "no two writers here; a fault gives the 423"),
    ("totp: create", "the second factor is a setting here"),
    ("totp: confirm", "the second factor is a setting here"),
    ("lock with X-User-Lock", "locks of users are not used"),
    ("unlock with X-User-Lock", "locks of users are not used"),
];

/// A recorded exchange.
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) method: String,
    /// Sent with the cookies of the answers before.
    pub(super) by_browser: bool,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    pub(super) status: u16,
    pub(super) reply_headers: Vec<(String, String)>,
    pub(super) reply: String,
}

impl Exchange {
    fn read(file: &Path) -> Exchange {
        let bytes = std::fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, request) = text.split_once("\n\n").unwrap();
        let name = head.lines().next().unwrap().trim_start_matches("# ");
        let name = name.trim_end_matches(" (what the browser does)").to_owned();
        let at = request.find("\nHTTP/1.1 ").unwrap();
        let (request, reply) = (&request[..at], &request[at + 1..]);
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let mut lines = head.lines();
        let mut words = lines.next().unwrap().split(' ');
        let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let headers: Vec<_> = lines.filter_map(pair).collect();
        let length = headers.iter().find(|(name, _)| name == "Content-Length");
        let length = length.map_or(body.trim_end().len(), |(_, value)| value.parse().unwrap());
        let mut body = body.as_bytes().to_vec();
        if body.starts_with(b"<") && body.ends_with(b"bytes of binary>\n") || body.len() > length + 2 {
            body = vec![b'?'; length];
        }
        // What stands for a secret has another length than the secret had.
        if String::from_utf8_lossy(&body).contains("ACCOUNT-PASSWORD")
            || body.starts_with(b"token=POLL-TOKEN")
        {
            body.truncate(body.trim_ascii_end().len());
        } else {
            body.resize(length, b'\n');
        }
        let (head, reply) = reply.split_once("\n\n").unwrap_or((reply, ""));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let reply_headers = lines.filter_map(pair).collect();
        let by_browser = file.to_string_lossy().contains("-browser-");
        Exchange {
            name,
            method,
            by_browser,
            target,
            headers,
            body,
            status,
            reply_headers,
            reply: reply.to_owned(),
        }
    }

    pub(super) fn reply_header(&self, name: &str) -> Option<&str> {
        let mut all = self.reply_headers.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

fn pair(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(": ")?;
    Some((name.to_owned(), value.to_owned()))
}

/// What has other names here than in the recording.
struct Names {
    /// Recorded and ours: tokens, ETags, numbers with what stands before them.
    known: Vec<(String, String)>,
    /// Of the flow begun last.
    poll: String,
    login: String,
    state: String,
    /// The first link's, which is what the old public address wants as a user.
    token: String,
    cookie: Option<String>,
    app_password: String,
}

impl Names {
    fn ours(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (recorded, ours) in &self.known {
            text = text.replace(recorded, ours);
        }
        text = text.replace("LOGIN-TOKEN", &self.login).replace("POLL-TOKEN", &self.poll);
        text = text.replace("ACCOUNT-PASSWORD", "correct%20horse");
        for mark in ["stateToken=", "stateToken%3D"] {
            if let Some(at) = text.find(mark).map(|at| at + mark.len()) {
                let end =
                    text[at..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |end| at + end);
                text.replace_range(at..end, &self.state);
            }
        }
        if let Some(at) = text.find("challenge=").filter(|_| text.starts_with("challenge=")) {
            text.replace_range(at + 10..at + 16, "123456");
        }
        dates(&text)
    }

    /// Learns from a pair of answers.
    fn learn(&mut self, exchange: &Exchange, reply: &Reply) {
        let text = reply.text();
        let recorded_tags = etags(&exchange.reply, exchange.reply_header("etag"));
        for (recorded, ours) in recorded_tags.into_iter().zip(etags(&text, reply.header("etag"))) {
            self.known.retain(|(known, _)| *known != recorded);
            self.known.push((recorded, ours));
        }
        for (recorded, ours) in trashed(&exchange.reply).into_iter().zip(trashed(&text)) {
            self.known.push((recorded, ours));
        }
        if let Some(at) = text.find("stateToken=") {
            self.state = text[at + 11..].chars().take_while(char::is_ascii_alphanumeric).collect();
        }
        if let Some(cookie) = reply.headers.iter().rev().find(|(name, _)| name == "set-cookie") {
            self.cookie = cookie.1.split(';').next().map(str::to_owned);
        }
        let parsed = serde_json::from_str::<serde_json::Value>(&exchange.reply);
        let (Ok(recorded), Ok(ours)) = (parsed, serde_json::from_str::<serde_json::Value>(&text)) else {
            return;
        };
        if let Some(poll) = ours["poll"]["token"].as_str() {
            poll.clone_into(&mut self.poll);
            let last = |value: &serde_json::Value| {
                value["login"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
            };
            self.login = last(&ours);
            self.known.push((last(&recorded), last(&ours)));
        }
        if let Some(password) = ours["appPassword"].as_str() {
            password.clone_into(&mut self.app_password);
        }
        let (recorded, ours) = (&recorded["ocs"]["data"], &ours["ocs"]["data"]);
        if let (Some(recorded_id), Some(id)) = (recorded["id"].as_str(), ours["id"].as_str())
            && let (Some(recorded), Some(token)) = (recorded["token"].as_str(), ours["token"].as_str())
        {
            self.known.push((format!("/shares/{recorded_id}"), format!("/shares/{id}")));
            self.known.push((recorded.to_owned(), token.to_owned()));
            if self.token.is_empty() {
                token.clone_into(&mut self.token);
            }
        }
    }
}

/// Days of the recording as far from today as they were.
fn dates(text: &str) -> String {
    let mut moved = text.to_owned();
    for at in 0..text.len().saturating_sub(9) {
        let Some(Ok(day)) = text.get(at..at + 10).map(str::parse::<Date>) else { continue };
        if (day - RECORDED).get_days().abs() < 60 {
            moved.replace_range(at..at + 10, &relative(day).to_string());
        }
    }
    moved
}

/// A day as far from today as it was.
pub(super) fn relative(day: Date) -> Date {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    today.checked_add((day - RECORDED).get_days().days()).unwrap()
}

fn trashed(text: &str) -> Vec<String> {
    let parts = text.split("/trashbin/alice/trash/").skip(1).filter_map(|rest| rest.split('<').next());
    parts.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Who sends it: the recordings do not tell.
fn login(exchange: &Exchange, set: &str, names: &Names, alice: &str, bob: &str) -> Option<(String, String)> {
    exchange.headers.iter().find(|(name, _)| name == "Authorization")?;
    let name = exchange.name.as_str();
    if name.contains("old public webdav") {
        return Some(basic(&names.token, if name.contains("wrong") { "wrong" } else { PASSWORD }));
    }
    if exchange.target.starts_with("/public.php/") {
        let password = if name.contains("wrong password") { "wrong" } else { PASSWORD };
        return Some(basic("anonymous", password));
    }
    let second_factor = name.starts_with("second factor on");
    Some(match name {
        _ if name.contains("wrong app password") => basic("alice", "wrong"),
        _ if name.contains("another user") => basic("bob", bob),
        _ if second_factor => basic("carol", "correct horse"),
        _ if set.ends_with("login") => basic("carol", &names.app_password),
        _ if name.contains("account password") => basic("alice", "correct horse"),
        _ => basic("alice", alice),
    })
}

/// What an administrator did before this exchange.
fn administer(server: &Nextcloud, name: &str) {
    server.change(|settings| match name {
        "enforced: capabilities" => {
            settings.password_enforced = true;
            settings.default_days = Some(7);
            settings.days_given = Some(5);
            settings.days_enforced = true;
        }
        "links forbidden: capabilities" => settings.links_allowed = false,
        "sharing off: capabilities" => {
            settings.links_allowed = true;
            settings.sharing_enabled = false;
        }
        "policy: generate" => {
            settings.sharing_enabled = true;
            settings.password_enforced = false;
            settings.default_days = None;
            settings.days_enforced = false;
        }
        "policy strict: capabilities" => {
            settings.policy.min_length = 12;
            settings.policy.numeric = true;
            settings.policy.special = true;
            settings.policy.upper_lower = true;
        }
        "create one to be orphaned" => {
            settings.policy.min_length = 10;
            settings.policy.numeric = false;
            settings.policy.special = false;
            settings.policy.upper_lower = false;
        }
        "maintenance: status" => settings.maintenance = true,
        "delete app password using the account password" => settings.maintenance = false,
        "quota: propfind" => settings.quota = Some(1 << 20),
        "get while somebody writes it" => settings.quota = None,
        "totp: confirm" => settings.second_factor = true,
        "begin where only some user agents are allowed" => settings.login_agent = Some("Other".to_owned()),
        _ => {}
    });
    if name == "enforced: capabilities" {
        // The recorded server had no wrong logins in mind any more.
        server.forget_wrong_logins();
    }
    if name == "expired: list" {
        server.advance_days(8);
    }
}

/// Requests between the recorded ones, which were sent but not kept.
fn prepare(server: &Nextcloud, alice: &str, name: &str) {
    let upload = "/remote.php/dav/uploads/alice/scaup-11111111";
    let send = |method: &str, target: &str, headers: &[(String, String)]| {
        let mut all = vec![basic("alice", alice), ("Content-Length".to_owned(), "1".to_owned())];
        all.extend_from_slice(headers);
        send(&server.url(), method, target, &all, b"x").unwrap()
    };
    let wrong = |times| {
        for _ in 0..times {
            let headers = [basic("alice", "wrong")];
            super::send(&server.url(), "PROPFIND", "/remote.php/dav/files/alice/", &headers, b"").unwrap();
        }
    };
    match name {
        "propfind, paginated" => (0..5).for_each(|number| server.put(&format!("/T/f{number}.txt"), b"x")),
        "move a directory onto a full one, Overwrite F" => {
            server.put("/T/d1/x", b"");
            server.put("/T/d2/x", b"x");
            send("DELETE", "/remote.php/dav/files/alice/T/d1/x", &[]);
        }
        "delete a full directory" => server.put("/T/d2/x", b"x"),
        "afterwards" => server.put("/T/race.bin", b"x"),
        "create" => server.put("/exp.txt", b"x"),
        "create share 1" => server.put("/limit.txt", b"x"),
        "create share 21" => {
            let body = format!("path=/limit.txt&shareType=3&password={PASSWORD}");
            for _ in 2..=20 {
                let headers = [
                    basic("alice", alice),
                    ("OCS-APIRequest".to_owned(), "true".to_owned()),
                    ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
                    ("Content-Length".to_owned(), body.len().to_string()),
                ];
                let target = "/ocs/v2.php/apps/files_sharing/api/v1/shares?format=json";
                let reply = super::send(&server.url(), "POST", target, &headers, body.as_bytes()).unwrap();
                assert_eq!(reply.status, 200);
            }
        }
        "capabilities after 5 failures" => wrong(3),
        "wrong app password 11" => wrong(5),
        "copy a file into the upload folder as a part" => {
            send("DELETE", upload, &[]);
            send("MKCOL", upload, &[]);
        }
        _ if name.starts_with("chunked: end ") && !name.contains("part missing") => {
            send("MKCOL", upload, &[]);
            send("PUT", &format!("{upload}/00001"), &[]);
        }
        _ => {}
    }
}

/// One set on a fresh server; (compared, skipped, what differs).
fn replay(version: Version, folder: &Path) -> (usize, usize, Vec<String>) {
    let set = folder.file_name().unwrap().to_str().unwrap();
    let server = Nextcloud::start(version);
    // As the recorded servers.
    server.change(|settings| settings.time_zone = Some("UTC".to_owned()));
    if !set.ends_with("limits") {
        server.change(|settings| settings.shares_per_10_minutes = None);
    }
    let (alice, bob) = (server.app_password(), server.app_password_of("bob"));
    let mut names = Names {
        known: Vec::new(),
        poll: String::new(),
        login: String::new(),
        state: String::new(),
        token: String::new(),
        cookie: None,
        app_password: String::new(),
    };
    let (mut compared, mut skipped, mut different) = (0, 0, Vec::new());
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    for file in index.lines().skip(1).filter_map(|line| line.split('\t').next()) {
        let exchange = Exchange::read(&folder.join(file));
        administer(&server, &exchange.name);
        if SKIPPED.iter().any(|(name, _)| *name == exchange.name) {
            skipped += 1;
            if exchange.name == "unlock with X-User-Lock" {
                unlock(&server, &alice);
            }
            continue;
        }
        prepare(&server, &alice, &exchange.name);
        if exchange.name.contains("the login address") {
            // Another browser than before, which is not logged in.
            names.cookie = None;
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        let body = match String::from_utf8(exchange.body.clone()) {
            Ok(text) => names.ours(&text).into_bytes(),
            Err(_) => exchange.body.clone(),
        };
        for (name, value) in &exchange.headers {
            match name.as_str() {
                "Host" | "Authorization" | "Connection" | "Content-Length" => {}
                _ => headers.push((name.clone(), names.ours(value))),
            }
        }
        if exchange.headers.iter().any(|(name, _)| name == "Content-Length") || !body.is_empty() {
            headers.push(("Content-Length".to_owned(), body.len().to_string()));
        } else if exchange.method == "PUT" {
            headers.push(("Content-Length".to_owned(), "0".to_owned()));
        }
        headers.extend(login(&exchange, set, &names, &alice, &bob));
        if exchange.by_browser
            && let Some(cookie) = &names.cookie
        {
            headers.push(("Cookie".to_owned(), cookie.clone()));
        }
        let target = names.ours(&exchange.target);
        let reply = send(&server.url(), &exchange.method, &target, &headers, &body)
            .unwrap_or_else(|| panic!("{set}/{file}: no answer"));
        names.learn(&exchange, &reply);
        compared += 1;
        different
            .extend(differences(&exchange, &reply).into_iter().map(|what| format!("{set}/{file}: {what}")));
    }
    (compared, skipped, different)
}

/// Takes the lock away that an unlocking program would.
fn unlock(server: &Nextcloud, alice: &str) {
    let headers = [basic("alice", alice)];
    send(&server.url(), "UNLOCK", "/remote.php/dav/files/alice/T/a.bin", &headers, b"").unwrap();
}

#[test]
#[allow(clippy::print_stdout)]
fn a_recorded_exchange_is_answered_as_by_the_real_server() {
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/nextcloud-recordings.tar.gz");
    let directory = tempfile::tempdir().unwrap();
    let unpacked =
        Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(directory.path()).status().unwrap();
    assert!(unpacked.success(), "{archive}");
    let mut all = Vec::new();
    for version in Version::ALL {
        let (mut compared, mut skipped) = (0, 0);
        for set in ["", "-dav", "-limits", "-expired", "-login", "-sse"] {
            let name = format!("v{}{set}", version.major());
            let folder = directory.path().join("transcripts").join(&name);
            if !folder.is_dir() {
                continue;
            }
            let (more, fewer, different) = replay(version, &folder);
            compared += more;
            skipped += fewer;
            all.extend(different);
        }
        println!("{}: {compared} compared, {skipped} skipped", version.name());
        assert!(compared > 100, "{}", version.name());
    }
    for (name, reason) in SKIPPED {
        println!("skipped: {name} ({reason})");
    }
    assert!(all.is_empty(), "{} differences:\n{}", all.len(), all.join("\n"));
}
