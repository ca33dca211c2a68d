//! Chunked uploads: a folder of parts, which at the end become one file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::STORED;
use super::dav::{self, bad_name, if_header, stored, taken, target_of, too_much, wanted_time};
use super::http::{Answer, Call, decode, not_found};
use super::propfind::{self, DAV, Property};
use super::tree::{Blob, Node, Part, State, Upload};

/// Unfinished ones are gone after a day.
const LIFETIME: i64 = 24 * 60 * 60;

/// A request about `/ID` or `/ID/PART`.
pub(super) fn answer(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    let now = state.now();
    state.user_mut(user).uploads.retain(|_, upload| now - upload.begun < LIFETIME);
    let path = path.trim_matches('/');
    let (id, part) = path.split_once('/').unwrap_or((path, ""));
    let known = state.user(user).uploads.contains_key(id);
    if call.method == "MKCOL" && part.is_empty() && !id.is_empty() {
        if known {
            let message = "The resource you tried to create already exists";
            return Answer::dav(405, "Sabre\\DAV\\Exception\\MethodNotAllowed", message);
        }
        state.user_mut(user).uploads.insert(id.to_owned(), Upload { begun: now, parts: BTreeMap::new() });
        return Answer::empty(201);
    }
    if !known {
        return not_found(id);
    }
    match (call.method.as_str(), part) {
        ("PROPFIND", "") => list(state, call, user, id),
        ("DELETE", "") => {
            state.user_mut(user).uploads.remove(id);
            Answer::empty(204)
        }
        ("MOVE", ".file") => end(state, call, user, id),
        ("PUT", part) => put(state, call, user, id, part),
        (method, part) => {
            let upload = state.user_mut(user).uploads.get_mut(id).expect("the upload was begun");
            let Some(found) = upload.parts.get(part) else { return not_found(part) };
            match method {
                "DELETE" => {
                    upload.parts.remove(part);
                    Answer::empty(204)
                }
                "GET" | "HEAD" => {
                    let found = (found.blob.clone(), found.etag.clone(), found.mtime);
                    if !state.personality().parts_readable {
                        let message = "Reading intermediate uploads is not allowed";
                        return Answer::dav(405, "Sabre\\DAV\\Exception\\MethodNotAllowed", message);
                    }
                    dav::content(call, &found.0, &found.1, found.2, part)
                }
                _ => Answer::empty(405),
            }
        }
    }
}

/// Upload and part that an address means.
pub(super) fn part_of(address: &str, user: &str) -> Option<(String, String)> {
    let address = decode(address);
    let (_, inside) = address.split_once(&format!("/remote.php/dav/uploads/{user}/"))?;
    let (id, part) = inside.split_once('/')?;
    Some((id.to_owned(), part.to_owned()))
}

/// A whole file that is there already becomes a part.
pub(super) fn copy_in(state: &mut State, user: &str, (id, part): &(String, String), node: &Node) -> Answer {
    let Some(blob) = node.blob.clone() else { return Answer::empty(403) };
    if !state.user(user).uploads.contains_key(id) {
        return Answer::dav(409, "Sabre\\DAV\\Exception\\Conflict", "The destination node is not found");
    }
    let new = insert(state, user, id, part, blob).1;
    Answer::empty(if new { 201 } else { 204 })
}

fn insert(state: &mut State, user: &str, id: &str, part: &str, blob: Arc<Blob>) -> (String, bool) {
    let number = state.next();
    let mtime = state.now();
    let etag = state.file_etag(number, mtime, blob.size);
    let upload = state.user_mut(user).uploads.get_mut(id).expect("the upload was begun");
    let old = upload.parts.insert(part.to_owned(), Part { blob, mtime, etag: etag.clone() });
    (etag, old.is_none())
}

fn put(state: &mut State, call: &Call, user: &str, id: &str, part: &str) -> Answer {
    let Some(received) = &call.upload else { return Answer::empty(400) };
    let size = received.blob.size;
    if size > state.settings.chunk_max_size {
        return Answer::empty(413);
    }
    // Without a destination it is the older kind of upload, whose parts may have other names.
    let numbered = part.parse::<u32>().is_ok_and(|number| (1..=10_000).contains(&number));
    if part.is_empty() || (!numbered && call.header("destination").is_some()) {
        return not_found(part);
    }
    let total = call.header("oc-total-length").and_then(|total| total.parse().ok());
    if state.personality().total_checked_early
        && let Some(refused) = total.and_then(|total| too_much(state, user, "", total))
    {
        return refused;
    }
    match insert(state, user, id, part, received.blob.clone()) {
        (_, true) => Answer::empty(201),
        (etag, false) => {
            let etag = format!("\"{etag}\"");
            Answer::empty(204).with("etag", &etag).with("oc-etag", &etag)
        }
    }
}

/// The parts, and the file they will be.
fn list(state: &State, call: &Call, user: &str, id: &str) -> Answer {
    let upload = &state.user(user).uploads[id];
    let total = upload.parts.values().map(|part| part.blob.size).sum();
    let base = format!("/remote.php/dav/uploads/{user}/{id}/");
    let mut entries = vec![(base.clone(), None)];
    if propfind::depth(call) > 0 {
        entries.push((format!("{base}.file"), Some((total, state.now(), "6b0a7bb874376".to_owned()))));
        for (name, part) in &upload.parts {
            entries.push((format!("{base}{name}"), Some((part.blob.size, part.mtime, part.etag.clone()))));
        }
    }
    let mut responses = Vec::new();
    for (href, file) in entries {
        let names = propfind::asked(call, false).unwrap_or_default();
        let value = |(namespace, name): &propfind::Name| {
            if namespace != DAV {
                return None;
            }
            match (name.as_str(), &file) {
                ("resourcetype", None) => Some("<d:collection/>".to_owned()),
                ("resourcetype", Some(_)) => Some(String::new()),
                ("getlastmodified", None) => Some(propfind::http_date(upload.begun)),
                ("getlastmodified", Some((_, time, _))) => Some(propfind::http_date(*time)),
                ("getcontentlength", Some((size, _, _))) => Some(size.to_string()),
                ("getetag", Some((_, _, etag))) => Some(format!("&quot;{etag}&quot;")),
                ("getcontenttype", Some(_)) => Some("application/octet-stream".to_owned()),
                _ => None,
            }
        };
        let properties: Vec<Property> = names.iter().map(|name| (name.clone(), value(name))).collect();
        let minimal = propfind::minimal(call) || call.body.is_empty();
        responses.push(propfind::response(&href, &properties, minimal));
    }
    propfind::multistatus(state, &responses)
}

/// The end: the parts become a file.
fn end(state: &mut State, call: &Call, user: &str, id: &str) -> Answer {
    if call.header("if-match").is_some() {
        // It would be about the upload itself, whose ETag nobody knows.
        let message = "An If-Match header was specified, but none of the specified ETags matched.";
        return Answer::dav(412, "Sabre\\DAV\\Exception\\PreconditionFailed", message)
            .with("etag", "\"6b0a7bbd9ea93\"");
    }
    let Some(target) = call.header("destination").and_then(|address| target_of(address, user)) else {
        return Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", "The destination is elsewhere");
    };
    if let Some(refused) = if_header(state, call, user, &target) {
        return refused;
    }
    let there = state.node(user, &target).is_some();
    if there && call.header("if-none-match") == Some("*") {
        return taken();
    }
    if there && call.header("overwrite") == Some("F") {
        let message = "The destination node already exists, and the overwrite header is set to false";
        return Answer::dav(412, "Sabre\\DAV\\Exception\\PreconditionFailed", message);
    }
    let above = super::tree::parent(&target).unwrap_or_default();
    if !state.node(user, above).is_some_and(Node::is_folder) {
        return Answer::dav(409, "Sabre\\DAV\\Exception\\Conflict", "The destination node is not found");
    }
    let mut parts: Vec<(u64, Arc<Blob>)> = Vec::new();
    for (name, part) in &state.user(user).uploads[id].parts {
        parts.push((name.parse().unwrap_or_default(), part.blob.clone()));
    }
    parts.sort_by_key(|(number, _)| *number);
    let sum = parts.iter().map(|(_, blob)| blob.size).sum();
    let total = call.header("oc-total-length").and_then(|total| total.parse::<u64>().ok());
    if let Some(total) = total.filter(|total| *total != sum) {
        let message = format!("Chunks on server do not sum up to {total} but to {sum} bytes");
        return Answer::dav(400, "Sabre\\DAV\\Exception\\BadRequest", &message);
    }
    let refused = bad_name(state, &target, state.personality().longest_put_name)
        .or_else(|| too_much(state, user, &target, sum));
    if let Some(refused) = refused {
        return refused;
    }
    let path = state.blob_path();
    let mut whole = std::fs::File::create(&path).expect("content can be stored");
    for (_, blob) in &parts {
        std::io::copy(&mut std::fs::File::open(&blob.path).expect(STORED), &mut whole)
            .expect("content can be stored");
    }
    if call.damage {
        super::tree::damage(&path);
    }
    let checksum = call.header("oc-checksum").map(str::to_owned);
    let blob = Arc::new(Blob { path, size: sum });
    let node = state.store(user, &target, blob, wanted_time(call), checksum);
    state.user_mut(user).uploads.remove(id);
    stored(state, call, &node, !there)
}
