//! What must be equal in a recorded answer and in ours.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde_json::Value;

use super::Reply;
use super::replay::{Exchange, relative};

/// Headers that must be in both or in none.
const PRESENT: [&str; 10] = [
    "etag",
    "oc-etag",
    "oc-fileid",
    "x-oc-mtime",
    "x-hash-sha256",
    "oc-checksum",
    "location",
    "content-disposition",
    "www-authenticate",
    "x-nc-paginate-total",
];

/// Headers that must be the same, too.
const SAME: [&str; 3] = ["x-oc-mtime", "content-range", "x-nc-paginate-total"];

/// All that differs, in words.
pub(super) fn differences(exchange: &Exchange, reply: &Reply) -> Vec<String> {
    let mut found = Vec::new();
    if exchange.status != reply.status {
        let text: String = reply.text().chars().take(300).collect();
        found.push(format!("status {}, not {}: {text}", reply.status, exchange.status));
        return found;
    }
    let page = exchange.reply_header("content-type").is_some_and(|of| of.starts_with("text/html"));
    let refused = exchange.status >= 400;
    for name in PRESENT {
        let (recorded, ours) = (exchange.reply_header(name), reply.header(name));
        // An OCS answer's ETag means nothing to a client; a refusal's is a courtesy.
        if name == "etag" && (refused || exchange.reply.starts_with("{\"ocs\"")) {
            continue;
        }
        // The word for a refused login varies with the way in.
        if name == "www-authenticate" && exchange.reply_header(name).is_none_or(|of| of.contains("Dummy")) {
            continue;
        }
        if recorded.is_some() != ours.is_some() {
            found.push(format!("header {name}: {ours:?}, not {recorded:?}"));
        }
        if SAME.contains(&name) && recorded != ours {
            found.push(format!("header {name}: {ours:?}, not {recorded:?}"));
        }
    }
    if !exchange.by_browser {
        let recorded = exchange.reply_header("set-cookie").unwrap_or_default();
        let ours: Vec<&String> =
            reply.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value).collect();
        for name in ["oc_sessionPassphrase", "nc_sameSiteCookielax", "nc_sameSiteCookiestrict"] {
            if recorded.contains(name) != ours.iter().any(|cookie| cookie.starts_with(name)) {
                found.push(format!("cookies {ours:?}, not {recorded}"));
            }
        }
    }
    if reply.header("oc-fileid").is_some_and(|id| id.len() != 20 || !id.is_ascii()) {
        found.push(format!("OC-FileId {:?}", reply.header("oc-fileid")));
    }
    if exchange.status == 207 {
        let (recorded, ours) = (multistatus(&exchange.reply), multistatus(&reply.text()));
        if recorded != ours {
            found.push(format!("listing\n  ours {ours:?}\n  not  {recorded:?}"));
        }
    }
    if !page && let Ok(recorded) = serde_json::from_str::<Value>(&exchange.reply) {
        match serde_json::from_slice::<Value>(&reply.body) {
            Ok(ours) => json(&recorded, &ours, &mut found),
            Err(error) => found.push(format!("no JSON: {error}")),
        }
    }
    found
}

fn json(recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    let (Some(recorded), Some(ours)) = (recorded.get("ocs"), ours.get("ocs")) else {
        if keys(recorded) != keys(ours) {
            found.push(format!("fields {:?}, not {:?}", keys(ours), keys(recorded)));
        }
        return;
    };
    if recorded["meta"]["statuscode"] != ours["meta"]["statuscode"] {
        found.push(format!("statuscode {}", ours["meta"]["statuscode"]));
    }
    let (recorded, ours) = (&recorded["data"], &ours["data"]);
    match (recorded, ours) {
        (Value::Array(recorded), Value::Array(ours)) => {
            if recorded.len() != ours.len() {
                found.push(format!("{} items, not {}", ours.len(), recorded.len()));
            }
            recorded.iter().zip(ours).for_each(|(recorded, ours)| share(recorded, ours, found));
        }
        _ if recorded.get("share_type").is_some() => share(recorded, ours, found),
        _ if recorded.get("capabilities").is_some() => {
            capabilities(&recorded["capabilities"], &ours["capabilities"], found);
        }
        // The user has many fields about a profile.
        _ if recorded.get("quota").is_some() => {
            if recorded["id"] != ours["id"] || keys(&recorded["quota"]) != keys(&ours["quota"]) {
                found.push(format!("user {ours}, not {recorded}"));
            }
        }
        _ => {
            let password = |value: &Value| value.get("password").or(value.get("apppassword")).is_some();
            if keys(recorded) != keys(ours) || (!password(recorded) && recorded != ours) {
                found.push(format!("data {ours}, not {recorded}"));
            }
        }
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

fn share(recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    let (theirs, mine) = (keys(recorded), keys(ours));
    if theirs != mine {
        found.push(format!("fields {:?}", theirs.symmetric_difference(&mine).collect::<Vec<_>>()));
    }
    let same = [
        "share_type",
        "permissions",
        "path",
        "file_target",
        "item_type",
        "item_permissions",
        "mimetype",
        "has_preview",
        "note",
        "label",
        "attributes",
        "hide_download",
        "mail_send",
        "can_edit",
        "can_delete",
        "share_with_displayname",
        "storage_id",
        "uid_owner",
    ];
    for name in same {
        if recorded[name] != ours[name] {
            found.push(format!("{name} {}, not {}", ours[name], recorded[name]));
        }
    }
    for name in ["password", "share_with"] {
        let kind = |value: &Value| match value.as_str() {
            None => "none",
            Some("redacted") => "redacted",
            Some(hash) if hash.starts_with("3|$argon2id$v=19$") => "hash",
            Some(_) => "text",
        };
        if kind(&recorded[name]) != kind(&ours[name]) {
            found.push(format!("{name} {}", ours[name]));
        }
    }
    let moved = |value: &Value| {
        let (day, time) = value.as_str()?.split_once(' ')?;
        Some(format!("{} {time}", relative(day.parse::<Date>().ok()?)))
    };
    if moved(&recorded["expiration"]).as_deref() != ours["expiration"].as_str() {
        found.push(format!("expiration {}, not {}", ours["expiration"], recorded["expiration"]));
    }
}

fn capabilities(recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    // The same to the last value: what decides about sharing.
    for name in ["files_sharing", "downloadlimit", "dav"] {
        if recorded.get(name) != ours.get(name) {
            found.push(format!("{name}\n  ours {:?}\n  not  {:?}", ours.get(name), recorded.get(name)));
        }
    }
    for name in ["core", "files", "password_policy", "bruteforce"] {
        let (recorded, ours) = (&recorded[name], &ours[name]);
        let simple = |value: &Value| -> BTreeMap<String, Value> {
            let object = value.as_object().cloned().unwrap_or_default();
            // Addresses and comments are each server's own.
            let kept = object.into_iter().filter(|(key, value)| {
                !matches!(key.as_str(), "$comment" | "reference-regex" | "api" | "directEditing")
                    || !(value.is_string() || value.is_object())
            });
            kept.collect()
        };
        if keys(recorded) != keys(ours) || simple(recorded) != simple(ours) {
            found.push(format!("{name}\n  ours {ours}\n  not  {recorded}"));
        }
    }
}

/// ETags of an answer, in order.
pub(super) fn etags(text: &str, header: Option<&str>) -> Vec<String> {
    let quoted = header.map(|tag| tag.trim_matches('"').to_owned());
    let listed = text.split("getetag>&quot;").skip(1).filter_map(|rest| rest.split("&quot;").next());
    quoted.into_iter().chain(listed.map(str::to_owned)).collect()
}

/// By href: the properties that are there, and those that are not.
type Listing = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn multistatus(text: &str) -> Listing {
    let between = |text: &str, from: &str, to: &str| -> String {
        let rest = text.split_once(from).map_or("", |(_, rest)| rest);
        rest.split(to).next().unwrap_or_default().to_owned()
    };
    let mut listing = Listing::new();
    for response in text.split("<d:response>").skip(1) {
        let mut href = between(response, "<d:href>", "</d:href>");
        if let Some(at) = href.find("/trash/").and_then(|_| href.rfind(".d")) {
            href.truncate(at);
        }
        if let Some(rest) = href.strip_prefix("/public.php/dav/files/") {
            href = format!("/public.php/dav/files/TOKEN{}", &rest[15..]);
        }
        let mut groups = (BTreeSet::new(), BTreeSet::new());
        for propstat in response.split("<d:propstat>").skip(1) {
            let names = top_level(&between(propstat, "<d:prop>", "</d:prop>"));
            let group = match between(propstat, "<d:status>HTTP/1.1 ", "<").as_str() {
                "200 OK" => &mut groups.0,
                _ => &mut groups.1,
            };
            group.extend(names);
        }
        listing.insert(href, groups);
    }
    listing
}

fn top_level(text: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut depth, mut names) = (0, Vec::new());
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Start(start) => {
                if depth == 0 {
                    names.push(start.name().as_ref().to_owned());
                }
                depth += 1;
            }
            quick_xml::events::Event::Empty(empty) if depth == 0 => {
                names.push(empty.name().as_ref().to_owned());
            }
            quick_xml::events::Event::End(_) => depth -= 1,
            quick_xml::events::Event::Eof => return names,
            _ => {}
        }
    }
}
