//! Many small files in one request, which sync clients send.

use serde_json::json;

use super::http::{Answer, Call};
use super::tree::{Node, State, parent};

/// Each part has a path, perhaps a time, and a length; MD5 sums are not looked at.
pub(super) fn answer(state: &mut State, call: &Call, user: &str) -> Answer {
    let boundary =
        call.header("content-type").and_then(|of| of.split_once("boundary=")).map(|(_, word)| word);
    let Some(boundary) = boundary.filter(|_| call.method == "POST") else { return Answer::empty(400) };
    let boundary = format!("--{}", boundary.split(';').next().unwrap_or_default().trim_matches('"'));
    let mut stored = serde_json::Map::new();
    let mut rest = call.body.as_slice();
    while let Some(at) = find(rest, boundary.as_bytes()) {
        rest = &rest[at + boundary.len()..];
        let Some(end) = find(rest, b"\r\n\r\n") else { break };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let value = |name: &str| {
            let mut pairs = head.lines().filter_map(|line| line.split_once(':'));
            pairs
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        rest = &rest[end + 4..];
        let Some(path) = value("x-file-path") else { break };
        let length =
            value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0).min(rest.len());
        let path = super::dav::tidy(&format!("/{}", path.trim_matches('/')));
        let time = value("x-file-mtime").and_then(|time| time.parse().ok());
        let answer = if state.node(user, parent(&path).unwrap_or_default()).is_some_and(Node::is_folder) {
            let blob = state.blob_of(&rest[..length]);
            let node = state.store(user, &path, blob, time, None);
            let id = state.file_id(node.id);
            json!({ "error": false, "etag": node.etag, "fileid": id, "permissions": "RGDNVW" })
        } else {
            json!({ "error": true, "message": "The folder is not there" })
        };
        stored.insert(path, answer);
        rest = &rest[length..];
    }
    Answer::json(200, &stored.into())
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}
