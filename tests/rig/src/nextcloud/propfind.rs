//! The XML of WebDAV: what is asked for, and the answer with its two groups of properties.

use jiff::Timestamp;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use super::http::{Answer, Call, encode};
use super::tree::{Node, State};

pub(super) const DAV: &str = "DAV:";
const OC: &str = "http://owncloud.org/ns";
const NC: &str = "http://nextcloud.org/ns";

/// Namespace and local name.
pub(super) type Name = (String, String);

/// A property of the answer: its name, and its content unless it is not there.
pub(super) type Property = (Name, Option<String>);

/// What is asked for without a body: a file's, then a folder's.
const USUAL_OF_FILES: [&str; 5] =
    ["getlastmodified", "getcontentlength", "resourcetype", "getetag", "getcontenttype"];
const USUAL_OF_FOLDERS: [&str; 5] =
    ["getlastmodified", "resourcetype", "quota-used-bytes", "quota-available-bytes", "getetag"];

/// Text as it may stand in XML.
pub(super) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

/// A time as HTTP writes it.
pub(super) fn http_date(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The elements inside `prop`, with their texts; of a PROPPATCH those to be set. None: not well-formed.
pub(super) fn properties(body: &[u8]) -> Option<Vec<(Name, String)>> {
    let mut reader = NsReader::from_reader(body);
    let mut found: Vec<(Name, String)> = Vec::new();
    let (mut depth, mut inside) = (0, None);
    loop {
        let (namespace, event) = reader.read_resolved_event().ok()?;
        let namespace = match namespace {
            ResolveResult::Bound(bound) => bound.into_inner().to_owned(),
            _ => String::new(),
        };
        match event {
            Event::Start(start) => {
                depth += 1;
                let name = start.local_name().as_ref().to_owned();
                match inside {
                    None if name == "prop" => inside = Some(depth),
                    Some(at) if depth == at + 1 => found.push(((namespace, name), String::new())),
                    _ => {}
                }
            }
            Event::Empty(empty) => {
                let name = empty.local_name().as_ref().to_owned();
                if inside.is_some_and(|at| depth == at) {
                    found.push(((namespace, name), String::new()));
                }
            }
            Event::Text(text) => {
                if let (Some(at), Some(last)) = (inside, found.last_mut())
                    && depth > at
                {
                    last.1.push_str(&text);
                }
            }
            Event::End(_) => {
                if inside == Some(depth) {
                    inside = None;
                }
                depth -= 1;
            }
            Event::Eof => return (depth == 0).then_some(found),
            _ => {}
        }
    }
}

/// How deep a listing goes; none asked for means 1.
pub(super) fn depth(call: &Call) -> usize {
    match call.header("depth") {
        Some("infinity") => usize::MAX,
        Some(depth) => depth.parse().unwrap_or(1),
        None => 1,
    }
}

/// What is asked for; the usual for an empty body.
pub(super) fn asked(call: &Call, folder: bool) -> Option<Vec<Name>> {
    let named = if call.body.is_empty() { Vec::new() } else { properties(&call.body)? };
    if named.is_empty() {
        let usual = if folder { USUAL_OF_FOLDERS } else { USUAL_OF_FILES };
        return Some(usual.iter().map(|name| (DAV.to_owned(), (*name).to_owned())).collect());
    }
    Some(named.into_iter().map(|(name, _)| name).collect())
}

/// One `response` of a listing.
pub(super) fn response(href: &str, properties: &[Property], minimal: bool) -> String {
    let mut text = format!("<d:response><d:href>{}</d:href>", escape(&encode(href)));
    let (there, missing): (Vec<&Property>, Vec<&Property>) =
        properties.iter().partition(|(_, content)| content.is_some());
    group(&mut text, &there, "200 OK");
    if !minimal {
        group(&mut text, &missing, "404 Not Found");
    }
    if there.is_empty() && (minimal || missing.is_empty()) {
        text.push_str("<d:propstat><d:prop/><d:status>HTTP/1.1 200 OK</d:status></d:propstat>");
    }
    text.push_str("</d:response>");
    text
}

fn group(text: &mut String, properties: &[&Property], status: &str) {
    if properties.is_empty() {
        return;
    }
    text.push_str("<d:propstat><d:prop>");
    for ((namespace, name), content) in properties {
        let (tag, bound) = match namespace.as_str() {
            DAV => (format!("d:{name}"), String::new()),
            OC => (format!("oc:{name}"), String::new()),
            NC => (format!("nc:{name}"), String::new()),
            other => (format!("x1:{name}"), format!(" xmlns:x1=\"{}\"", escape(other))),
        };
        match content.as_deref() {
            None => text.push_str(&format!("<{tag}{bound}/>")),
            Some(content) => text.push_str(&format!("<{tag}{bound}>{content}</{tag}>")),
        }
    }
    text.push_str(&format!("</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>"));
}

/// 207 with all responses.
pub(super) fn multistatus(state: &State, responses: &[String]) -> Answer {
    let text = format!(
        "<?xml version=\"1.0\"?>\n<d:multistatus xmlns:d=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\" \
         xmlns:oc=\"{OC}\" xmlns:nc=\"{NC}\">{}</d:multistatus>",
        responses.concat()
    );
    Answer::text(207, "application/xml; charset=utf-8", text)
        .with("vary", "Brief,Prefer")
        .with("dav", &features(state))
}

/// The header `DAV`.
pub(super) fn features(state: &State) -> String {
    let paginate = if state.personality().paginates { "nc-paginate, " } else { "" };
    let locks = if state.personality().locks { ", 2" } else { "" };
    format!(
        "1, 3, extended-mkcol, access-control, calendarserver-principal-property-search, \
         {paginate}nextcloud-checksum-update, nc-calendar-search, nc-enable-birthday-calendar{locks}"
    )
}

/// Whether missing properties are left out.
pub(super) fn minimal(call: &Call) -> bool {
    call.header("prefer").is_some_and(|prefer| prefer.contains("return=minimal"))
}

/// Lists a file or folder of `owner`, with hrefs below `base`.
pub(super) fn list(state: &State, call: &Call, owner: &str, path: &str, base: &str) -> Answer {
    let Some(node) = state.node(owner, path) else {
        let message = format!("File with name /{} could not be located", path.trim_start_matches('/'));
        return Answer::dav(404, "Sabre\\DAV\\Exception\\NotFound", &message);
    };
    let depth = depth(call);
    let mut found = vec![(path.to_owned(), node)];
    if node.is_folder() {
        let levels = |each: &str| each[path.len()..].matches('/').count();
        let below = state.below(owner, path).filter(|(each, _)| levels(each) <= depth);
        found.extend(below.map(|(each, node)| (each.clone(), node)));
    }
    let total = found.len();
    let paged = state.personality().paginates && call.header("x-nc-paginate") == Some("true");
    if paged {
        let number = |name, or: usize| call.header(name).and_then(|text| text.parse().ok()).unwrap_or(or);
        let skipped = number("x-nc-paginate-offset", 0).min(total);
        found = found.into_iter().skip(skipped).take(number("x-nc-paginate-count", 100)).collect();
    }
    let mut responses = Vec::new();
    for (each, node) in found {
        let Some(names) = asked(call, node.is_folder()) else {
            return Answer::dav(400, "Sabre\\DAV\\Exception\\BadRequest", "This is not XML");
        };
        let top = each == path && depth == 0;
        let properties: Vec<Property> = names
            .into_iter()
            .map(|name| (name.clone(), content(state, owner, &each, node, &name, top)))
            .collect();
        let slash = if node.is_folder() && !each.is_empty() { "/" } else { "" };
        let href = format!("{base}{}{slash}", each.trim_start_matches('/'));
        responses.push(response(&href, &properties, minimal(call)));
    }
    let answer = multistatus(state, &responses);
    if paged {
        return answer
            .with("x-nc-paginate", "true")
            .with("x-nc-paginate-token", &super::tree::random(32))
            .with("x-nc-paginate-total", &total.to_string());
    }
    answer
}

/// A property's content as XML; None where it is not there.
fn content(state: &State, user: &str, path: &str, node: &Node, name: &Name, top: bool) -> Option<String> {
    let folder = node.is_folder();
    let of_folder = |text: String| folder.then_some(text);
    let of_file = |text: String| (!folder).then_some(text);
    match (name.0.as_str(), name.1.as_str()) {
        (DAV, "resourcetype") => Some(if folder { "<d:collection/>" } else { "" }.to_owned()),
        (DAV, "getlastmodified") => Some(http_date(node.mtime)),
        (DAV, "getetag") => Some(format!("&quot;{}&quot;", node.etag)),
        (DAV, "getcontentlength") => of_file(node.size().to_string()),
        (DAV, "getcontenttype") => of_file(mime(path).to_owned()),
        (DAV, "displayname") => Some(escape(path.rsplit('/').next().unwrap_or_default())),
        (DAV, "quota-used-bytes") => of_folder(state.size_of(user, path).to_string()),
        (DAV, "quota-available-bytes") => {
            of_folder(state.room(user).map_or_else(|| "-3".to_owned(), |room| room.to_string()))
        }
        (DAV, "creationdate") => Some("1970-01-01T00:00:00+00:00".to_owned()),
        (OC, "id") => Some(state.file_id(node.id)),
        (OC, "fileid") => Some(node.id.to_string()),
        (OC, "permissions") => Some(if folder { "RGDNVCK" } else { "RGDNVW" }.to_owned()),
        (OC, "size") => Some(state.size_of(user, path).to_string()),
        (OC, "checksums") => {
            let checksum = node.checksum.as_ref()?;
            Some(format!("<oc:checksum>{}</oc:checksum>", escape(checksum)))
        }
        (OC, "share-types") => {
            let shared = state.links.iter().any(|link| link.owner == user && link.file == node.id);
            Some(if shared { "<oc:share-type>3</oc:share-type>" } else { "" }.to_owned())
        }
        (OC, "owner-id") => Some(user.to_owned()),
        (OC, "owner-display-name") => Some(escape(&state.user(user).display_name)),
        (OC, "favorite") | (NC, "creation_time") => Some("0".to_owned()),
        (NC, "upload_time") => of_file(node.upload_time.to_string()),
        (NC, "mount-type") => Some(String::new()),
        (NC, "is-encrypted") if state.personality().is_encrypted_of_folders => of_folder("0".to_owned()),
        (NC, "has-preview") => Some(has_preview(path, node).to_string()),
        (NC, "contained-file-count") => {
            let direct = |each: &str| !each[path.len() + 1..].contains('/');
            let files = state.below(user, path).filter(|(each, node)| !node.is_folder() && direct(each));
            of_folder(files.count().to_string())
        }
        // Of a folder that is listed with others it is not told.
        (NC, "lock") if state.personality().locks && (!folder || top) => {
            Some(if node.lock.is_some() { "1" } else { "" }.to_owned())
        }
        _ => node.properties.get(name).map(|text| escape(text)),
    }
}

fn has_preview(path: &str, node: &Node) -> bool {
    !node.is_folder() && (mime(path).starts_with("text/") || mime(path).starts_with("image/"))
}

/// What kind of content a name promises.
pub(super) fn mime(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("txt") => "text/plain",
        Some("md") => "text/markdown",
        Some("pdf") => "application/pdf",
        Some("png") => "image/png",
        Some("jpg") => "image/jpeg",
        Some("bin") => "application/x-bin",
        Some("odt") => "application/vnd.oasis.opendocument.text",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}

/// `share_types` and previews are also told by the sharing API.
pub(super) fn preview_of(state: &State, user: &str, path: &str) -> bool {
    state.node(user, path).is_some_and(|node| has_preview(path, node))
}

/// PROPPATCH: the time, and properties of one's own; what the server itself makes is refused.
pub(super) fn patch(state: &mut State, call: &Call, user: &str, path: &str, base: &str) -> Answer {
    let Some(changes) = properties(&call.body) else {
        return Answer::dav(400, "Sabre\\DAV\\Exception\\BadRequest", "This is not XML");
    };
    let Some(node) = state.node(user, path).cloned() else { return super::http::not_found(path) };
    let mut changed = node.clone();
    let mut groups = String::new();
    for (name, text) in changes {
        let taken = match (name.0.as_str(), name.1.as_str()) {
            (DAV, "lastmodified") => text.trim().parse().is_ok_and(|time| {
                changed.mtime = time;
                true
            }),
            (DAV, _) => false,
            (OC, "favorite") => true,
            (OC | NC, _) => false,
            _ => {
                changed.properties.insert(name.clone(), text);
                true
            }
        };
        let status = if taken { "200 OK" } else { "403 Forbidden" };
        group(&mut groups, &[&(name, None)], status);
    }
    if changed.mtime != node.mtime && !node.is_folder() {
        changed.etag = state.file_etag(node.id, changed.mtime, node.size());
        state.touch_above(user, path);
    }
    let slash = if node.is_folder() { "/" } else { "" };
    state.user_mut(user).tree.insert(path.to_owned(), changed);
    let href = encode(&format!("{base}{}{slash}", path.trim_start_matches('/')));
    multistatus(state, &[format!("<d:response><d:href>{href}</d:href>{groups}</d:response>")])
}
