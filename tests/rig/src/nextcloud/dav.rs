//! Files and folders of an account over WebDAV.

use super::STORED;
use super::http::{Answer, Call, decode, not_found};
use super::tree::{Blob, Node, State, parent};
use super::{propfind, uploads};

/// The longest name of a folder, and of the target of a MOVE.
const LONGEST_NAME: usize = 250;

/// A request about `owner`'s files, sent by `user`. `base` is what hrefs begin with.
pub(super) fn answer(
    state: &mut State,
    call: &Call,
    user: &str,
    owner: &str,
    path: &str,
    base: &str,
) -> Answer {
    let path = tidy(path);
    if owner != user {
        return somebody_else(state, call, base);
    }
    if path.chars().any(char::is_control) {
        return not_found(&path);
    }
    match call.method.as_str() {
        "PROPFIND" => propfind::list(state, call, user, &path, base),
        "PROPPATCH" => propfind::patch(state, call, user, &path, base),
        "GET" | "HEAD" => get(state, call, user, &path),
        "PUT" => put(state, call, user, &path),
        "PATCH" => rehash(state, call, user, &path),
        "MKCOL" => make_folder(state, call, user, &path),
        "DELETE" => delete(state, call, user, &path),
        "MOVE" | "COPY" => carry(state, call, user, &path),
        "LOCK" | "UNLOCK" => lock(state, call, user, &path),
        "OPTIONS" => Answer::empty(200)
            .with("allow", &allowed(state))
            .with("dav", &propfind::features(state))
            .with("ms-author-via", "DAV")
            .with("accept-ranges", "bytes"),
        method => {
            let message =
                format!("There was no plugin in the system that was willing to handle this {method} method.");
            Answer::dav(501, "Sabre\\DAV\\Exception\\NotImplemented", &message)
        }
    }
}

/// Without the slash at the end, and composed: decomposed letters name the same file.
pub(super) fn tidy(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let mut composed = String::new();
    for next in path.chars() {
        match composed.chars().last().and_then(|last| compose(last, next)) {
            Some(both) => {
                composed.pop();
                composed.push(both);
            }
            None => composed.push(next),
        }
    }
    composed
}

/// A letter and the mark after it as one, for those of Western Europe.
fn compose(letter: char, mark: char) -> Option<char> {
    let (letters, together) = match mark {
        '\u{300}' => ("aeiouAEIOU", "àèìòùÀÈÌÒÙ"),
        '\u{301}' => ("aeiouyAEIOUY", "áéíóúýÁÉÍÓÚÝ"),
        '\u{302}' => ("aeiouAEIOU", "âêîôûÂÊÎÔÛ"),
        '\u{303}' => ("anoANO", "ãñõÃÑÕ"),
        '\u{308}' => ("aeiouyAEIOU", "äëïöüÿÄËÏÖÜ"),
        '\u{30a}' => ("aA", "åÅ"),
        '\u{327}' => ("cC", "çÇ"),
        _ => return None,
    };
    together.chars().nth(letters.chars().position(|each| each == letter)?)
}

/// Another's home is there, but empty of everything.
fn somebody_else(state: &State, call: &Call, base: &str) -> Answer {
    if call.method != "PROPFIND" {
        return Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", "");
    }
    let names = propfind::asked(call, true).unwrap_or_default();
    let there = |name: &propfind::Name| name.1 == "resourcetype";
    let properties: Vec<propfind::Property> = names
        .into_iter()
        .map(|name| (name.clone(), there(&name).then(|| "<d:collection/>".to_owned())))
        .collect();
    propfind::multistatus(state, &[propfind::response(base, &properties, propfind::minimal(call))])
}

fn allowed(state: &State) -> String {
    let locks = if state.personality().locks { ", LOCK, UNLOCK" } else { "" };
    format!("OPTIONS, GET, HEAD, DELETE, PROPFIND, PUT, PROPPATCH, COPY, MOVE, REPORT{locks}")
}

/// A file, or one range of it.
fn get(state: &State, call: &Call, user: &str, path: &str) -> Answer {
    let Some(node) = state.node(user, path) else {
        let message = format!("File with name /{path} could not be located");
        return Answer::dav(404, "Sabre\\DAV\\Exception\\NotFound", &message);
    };
    let Some(blob) = &node.blob else {
        return Answer::dav(405, "Sabre\\DAV\\Exception\\MethodNotAllowed", "This is a folder");
    };
    let mut answer = content(call, blob, &node.etag, node.mtime, path);
    if let Some(checksum) = &node.checksum
        && answer.status < 300
    {
        answer = answer.with("oc-checksum", checksum);
    }
    answer
}

/// Content with its headers; conditions and ranges are honoured.
pub(super) fn content(call: &Call, blob: &Blob, etag: &str, mtime: i64, path: &str) -> Answer {
    let quoted = format!("\"{etag}\"");
    if call.header("if-match").is_some_and(|tag| tag != "*" && !tag.contains(&quoted)) {
        return unmatched(&quoted);
    }
    if call.header("if-none-match").is_some_and(|tag| tag == "*" || tag.contains(&quoted)) {
        return Answer::empty(304).with("etag", &quoted);
    }
    let mut range = call.header("range").and_then(|range| single_range(range, blob.size));
    if blob.size == 0 || call.header("if-range").is_some_and(|tag| tag != quoted) {
        range = None;
    }
    let modified = propfind::http_date(mtime);
    let answer = match range {
        Some(None) => {
            let message = format!("The start offset exceeded the size of the entity ({})", blob.size);
            let exception = "Sabre\\DAV\\Exception\\RequestedRangeNotSatisfiable";
            return Answer::dav(416, exception, &message).with("etag", &quoted);
        }
        Some(Some((from, to))) => Answer::file(206, blob, from, to - from + 1)
            .with("content-range", &format!("bytes {from}-{to}/{}", blob.size)),
        None => Answer::file(200, blob, 0, blob.size),
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    let encoded = super::http::encode(name);
    let disposition = format!("attachment; filename*=UTF-8''{encoded}; filename=\"{encoded}\"");
    let mime = propfind::mime(path);
    let charset = if mime.starts_with("text/") { ";charset=UTF-8" } else { "" };
    answer
        .with("content-type", &format!("{mime}{charset}"))
        .with("last-modified", &modified)
        .with("etag", &quoted)
        .with("oc-etag", &quoted)
        .with("content-disposition", &disposition)
}

/// First and last byte of `bytes=a-b`; Some(None) if it lies beyond the end, None if it is to be overlooked.
fn single_range(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last = size.saturating_sub(1);
    if from.is_empty() {
        let length: u64 = to.parse().ok()?;
        return Some((length > 0).then(|| (size.saturating_sub(length), last)));
    }
    let from: u64 = from.parse().ok()?;
    let to = if to.is_empty() { last } else { to.parse::<u64>().ok()?.min(last) };
    Some((from < size && from <= to).then_some((from, to)))
}

fn unmatched(etag: &str) -> Answer {
    let message = "An If-Match header was specified, but none of the specified ETags matched.";
    let answer = Answer::dav(412, "Sabre\\DAV\\Exception\\PreconditionFailed", message);
    if etag.is_empty() { answer } else { answer.with("etag", etag) }
}

/// `If-Match`, `If-None-Match` and `If` about what is at the path of the request.
fn precondition(state: &State, call: &Call, user: &str, path: &str) -> Option<Answer> {
    let node = state.node(user, path);
    if let Some(asked) = call.header("if-match") {
        match node {
            Some(node)
                if asked == "*" || asked.contains(&format!("\"{}\"", node.etag)) && !node.is_folder() => {}
            Some(node) => return Some(unmatched(&format!("\"{}\"", node.etag))),
            None => return Some(unmatched("")),
        }
    }
    if let Some(asked) = call.header("if-none-match")
        && node.is_some_and(|node| asked == "*" || asked.contains(&format!("\"{}\"", node.etag)))
    {
        return Some(taken());
    }
    if_header(state, call, user, path)
}

/// Something is there that should not be.
pub(super) fn taken() -> Answer {
    let message = "An If-None-Match header was specified, but the ETag matched (or * was specified).";
    Answer::dav(412, "Sabre\\DAV\\Exception\\PreconditionFailed", message)
}

/// The header `If`: `(["etag"])`, or `<address> (["etag"])` about another path than the request's.
pub(super) fn if_header(state: &State, call: &Call, user: &str, path: &str) -> Option<Answer> {
    let mut rest = call.header("if")?;
    let mut about = path.to_owned();
    let mut fulfilled = false;
    while let Some(at) = rest.find(['<', '(']) {
        if rest[at..].starts_with('<') {
            let end = at + rest[at..].find('>').unwrap_or(rest.len() - at - 1);
            about = target_of(&rest[at + 1..end], user).unwrap_or_default();
            rest = &rest[end + 1..];
            continue;
        }
        let end = at + rest[at..].find(')').unwrap_or(rest.len() - at - 1);
        let list = &rest[at + 1..end];
        let holds = state.node(user, &about).is_some_and(|node| match (list.find('['), &node.lock) {
            (Some(_), _) => !node.is_folder() && list.contains(&format!("[\"{}\"]", node.etag)),
            (None, Some(token)) => list.contains(token.as_str()),
            (None, None) => false,
        });
        fulfilled |= holds;
        rest = &rest[end + 1..];
    }
    if fulfilled {
        return None;
    }
    let message = format!("Failed to find a valid token/etag combination for files/{user}{path}");
    Some(Answer::dav(412, "Sabre\\DAV\\Exception\\PreconditionFailed", &message))
}

/// 423, if it is locked and the request has not the token.
fn locked(state: &State, call: &Call, user: &str, path: &str) -> Option<Answer> {
    let token = state.node(user, path)?.lock.as_ref()?;
    let shown = call.header("if").is_some_and(|list| list.contains(token.as_str()));
    (!shown).then(|| Answer::dav(423, "Sabre\\DAV\\Exception\\Locked", ""))
}

/// Why a name is refused.
pub(super) fn bad_name(state: &State, path: &str, longest: usize) -> Option<Answer> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let (personality, settings) = (state.personality(), &state.settings);
    let invalid = |status, message: &str| {
        let exception = match status {
            400 => "OCA\\DAV\\Connector\\Sabre\\Exception\\InvalidPath",
            423 => "OCA\\DAV\\Connector\\Sabre\\Exception\\FileLocked",
            500 => "OCP\\Files\\ForbiddenException",
            _ => "Sabre\\DAV\\Exception\\Forbidden",
        };
        Some(Answer::dav(status, exception, message))
    };
    let lower = name.to_lowercase();
    if name.is_empty() || name == "." || name == ".." {
        return invalid(400, "File name is a reserved word");
    }
    if name.contains('\\') || name.contains(&settings.forbidden_characters[..]) {
        return invalid(400, "A character is not allowed inside a file or folder name.");
    }
    if lower == ".htaccess" {
        return invalid(personality.htaccess_refusal, "Filename is a reserved word");
    }
    if lower.ends_with(".part") || lower.ends_with(".filepart") {
        return invalid(personality.partial_name_refusal, "\".part\" is a forbidden file type.");
    }
    let basename = lower.split('.').next().unwrap_or_default();
    if settings.forbidden_basenames.iter().any(|each| each.to_lowercase() == basename) {
        return invalid(400, "Filename is a reserved word");
    }
    if settings.forbidden_extensions.iter().any(|each| lower.ends_with(&each.to_lowercase())) {
        return invalid(400, "This is a forbidden file type.");
    }
    if name.len() > LONGEST_NAME {
        return invalid(400, "Filename is too long");
    }
    if name.len() > longest {
        let message = "Error while copying file to target location";
        return Some(Answer::dav(500, "Sabre\\DAV\\Exception", message));
    }
    None
}

/// 507 if so much does not fit.
pub(super) fn too_much(state: &State, user: &str, path: &str, size: u64) -> Option<Answer> {
    let room = state.room(user)?;
    (size > room).then(|| {
        let message = format!("Insufficient space in {path}, {size} required, {room} available");
        Answer::dav(507, "Sabre\\DAV\\Exception\\InsufficientStorage", &message)
    })
}

/// The time a client wants a file to have.
pub(super) fn wanted_time(call: &Call) -> Option<i64> {
    call.header("x-oc-mtime")?.parse().ok()
}

/// What all that store answer.
pub(super) fn stored(state: &State, call: &Call, node: &Node, new: bool) -> Answer {
    let etag = format!("\"{}\"", node.etag);
    let mut answer = Answer::empty(if new { 201 } else { 204 });
    if wanted_time(call).is_some() {
        answer = answer.with("x-oc-mtime", "accepted");
    }
    answer.with("oc-fileid", &state.file_id(node.id)).with("etag", &etag).with("oc-etag", &etag)
}

fn put(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    let Some(received) = &call.upload else { return Answer::empty(400) };
    if call.header("content-range").is_some() {
        let message = "Content-Range on PUT requests are forbidden.";
        return Answer::dav(400, "Sabre\\DAV\\Exception\\BadRequest", message);
    }
    let above = parent(path).unwrap_or_default();
    match state.node(user, above) {
        None => return not_found(above),
        Some(node) if !node.is_folder() => {
            return Answer::dav(409, "Sabre\\DAV\\Exception\\Conflict", "Files can't be put into a file");
        }
        Some(_) => {}
    }
    if state.node(user, path).is_some_and(Node::is_folder) {
        return Answer::dav(409, "Sabre\\DAV\\Exception\\Conflict", "PUT is not allowed on non-files.");
    }
    let refused = precondition(state, call, user, path)
        .or_else(|| bad_name(state, path, state.personality().longest_put_name))
        .or_else(|| locked(state, call, user, path))
        .or_else(|| too_much(state, user, path, received.blob.size));
    if let Some(refused) = refused {
        return refused;
    }
    let new = state.node(user, path).is_none();
    let checksum = call.header("oc-checksum").map(str::to_owned);
    let node = state.store(user, path, received.blob.clone(), wanted_time(call), checksum);
    let answer = stored(state, call, &node, new);
    let asked = call.header("x-hash").unwrap_or_default().to_lowercase();
    match &received.sha256 {
        Some(hash) if asked == "sha256" || asked == "all" => answer.with("x-hash-sha256", hash),
        _ => answer,
    }
}

/// PATCH does one thing only: hash what is stored.
fn rehash(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    let Some(node) = state.node(user, path) else { return not_found(path) };
    let Some(blob) = &node.blob else { return Answer::empty(405) };
    if call.header("x-recalculate-hash").map(str::to_lowercase).as_deref() != Some("sha256") {
        let message = "hash_file(): Argument #1 ($algo) must be a valid hashing algorithm";
        return Answer::dav(500, "ValueError", message);
    }
    let mut hash = <sha2::Sha256 as sha2::Digest>::new();
    let mut file = std::fs::File::open(&blob.path).expect(STORED);
    let mut piece = vec![0; 1 << 18];
    loop {
        let read = std::io::Read::read(&mut file, &mut piece).expect(STORED);
        if read == 0 {
            break;
        }
        sha2::Digest::update(&mut hash, &piece[..read]);
    }
    let hash = data_encoding::HEXLOWER.encode(&sha2::Digest::finalize(hash));
    let checksum = format!("SHA256:{hash}");
    if let Some(node) = state.user_mut(user).tree.get_mut(path) {
        node.checksum = Some(checksum.clone());
    }
    Answer::empty(204).with("oc-checksum", &checksum)
}

fn make_folder(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    if state.node(user, path).is_some() {
        let message = "The resource you tried to create already exists";
        return Answer::dav(405, "Sabre\\DAV\\Exception\\MethodNotAllowed", message)
            .with("allow", &allowed(state));
    }
    let above = parent(path).unwrap_or_default();
    if !state.node(user, above).is_some_and(Node::is_folder) {
        return Answer::dav(409, "Sabre\\DAV\\Exception\\Conflict", "Parent node does not exist");
    }
    if let Some(refused) = bad_name(state, path, LONGEST_NAME) {
        return refused;
    }
    let id = state.make_folder(user, path);
    if let (Some(time), Some(node)) = (wanted_time(call), state.user_mut(user).tree.get_mut(path)) {
        node.mtime = time;
    }
    Answer::empty(201).with("oc-fileid", &state.file_id(id))
}

fn delete(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    if path.is_empty() {
        return Answer::dav(
            403,
            "Sabre\\DAV\\Exception\\Forbidden",
            "Permission denied to delete home folder",
        );
    }
    if state.node(user, path).is_none() {
        return not_found(path);
    }
    let refused = precondition(state, call, user, path).or_else(|| locked(state, call, user, path));
    if let Some(refused) = refused {
        return refused;
    }
    if state.personality().skip_trashbin && call.header("x-nc-skip-trashbin") == Some("true") {
        state.take(user, path);
    } else {
        state.throw_away(user, path);
    }
    Answer::empty(204)
}

/// The path in `user`'s files that an address means; the host is not looked at.
pub(super) fn target_of(address: &str, user: &str) -> Option<String> {
    let path = match address.find("://") {
        Some(at) => &address[at + 3 + address[at + 3..].find('/')?..],
        None => address,
    };
    let path = decode(path);
    let files = format!("/remote.php/dav/files/{user}");
    let path = &path[path.find("/remote.php/")?..];
    let inside = path.strip_prefix(&files).or_else(|| path.strip_prefix("/remote.php/webdav"))?;
    Some(tidy(inside))
}

/// MOVE and COPY.
fn carry(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    let copy = call.method == "COPY";
    let destination = call.header("destination").unwrap_or_default();
    let Some(node) = state.node(user, path).cloned() else {
        let message = format!("File with name {path} could not be located");
        return Answer::dav(404, "Sabre\\DAV\\Exception\\NotFound", &message);
    };
    if let Some(part) = uploads::part_of(destination, user) {
        return uploads::copy_in(state, user, &part, &node);
    }
    let Some(target) = target_of(destination, user) else {
        return Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", "The destination is elsewhere");
    };
    if target == path || path.is_empty() {
        let message = "Source and destination uri are identical.";
        return Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", message);
    }
    let above = parent(&target).unwrap_or_default();
    if !state.node(user, above).is_some_and(Node::is_folder) || target.starts_with(&format!("{path}/")) {
        return Answer::dav(409, "Sabre\\DAV\\Exception\\Conflict", "The destination node is not found");
    }
    let there = state.node(user, &target).is_some();
    if there && call.header("overwrite") == Some("F") {
        let message = "The destination node already exists, and the overwrite header is set to false";
        return Answer::dav(412, "Sabre\\DAV\\Exception\\PreconditionFailed", message);
    }
    let refused = precondition(state, call, user, path)
        .or_else(|| bad_name(state, &target, LONGEST_NAME))
        .or_else(|| locked(state, call, user, path))
        .or_else(|| if copy { too_much(state, user, &target, state.size_of(user, path)) } else { None });
    if let Some(refused) = refused {
        return refused;
    }
    if there {
        state.throw_away(user, &target);
    }
    let mut nodes;
    if copy {
        nodes = state
            .below(user, path)
            .map(|(each, node)| (each[path.len()..].to_owned(), node.clone()))
            .collect();
        let nodes: &mut std::collections::BTreeMap<String, Node> = &mut nodes;
        nodes.insert(String::new(), node.clone());
        for node in nodes.values_mut() {
            node.id = state.next();
            node.lock = None;
            if !node.is_folder() {
                node.etag = state.file_etag(node.id, node.mtime, node.size());
            }
        }
    } else {
        nodes = state.take(user, path);
    }
    let moved = nodes[""].clone();
    state.give(user, &target, nodes);
    let answer = Answer::empty(if there { 204 } else { 201 });
    let answer = if copy || moved.is_folder() {
        answer
    } else {
        let etag = format!("\"{}\"", moved.etag);
        answer.with("oc-etag", &etag).with("etag", &etag)
    };
    answer.with("oc-fileid", &state.file_id(moved.id))
}

/// Locks, which there are from 34 on.
fn lock(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    if !state.personality().locks {
        let message = format!(
            "There was no plugin in the system that was willing to handle this {} method.",
            call.method
        );
        return Answer::dav(501, "Sabre\\DAV\\Exception\\NotImplemented", &message);
    }
    let token = format!("opaquelocktoken:{}", super::tree::random(32));
    let Some(node) = state.user_mut(user).tree.get_mut(path) else { return not_found(path) };
    let description = "<?xml version=\"1.0\"?>\n<d:prop xmlns:d=\"DAV:\"/>\n".to_owned();
    match (call.method.as_str(), &node.lock) {
        ("LOCK", Some(_)) => Answer::text(423, "application/xml; charset=utf-8", description),
        ("LOCK", None) => {
            node.lock = Some(token.clone());
            Answer::text(200, "application/xml; charset=utf-8", description)
                .with("lock-token", &format!("<{token}>"))
        }
        _ => {
            node.lock = None;
            Answer::text(200, "application/xml; charset=utf-8", description)
        }
    }
}
