//! The trash: what is in it, deleting it for good, and back again.

use super::http::{Answer, Call, not_found};
use super::propfind::{self, Property};
use super::tree::{Node, State, Trashed, parent};

/// A request about `/trash` or `/trash/NAME.dSECONDS`.
pub(super) fn answer(state: &mut State, call: &Call, user: &str, path: &str) -> Answer {
    let path = path.trim_matches('/');
    let name = match path.strip_prefix("trash") {
        Some(name) => name.trim_start_matches('/').to_owned(),
        None => return not_found(path),
    };
    let at = state.user(user).trash.iter().position(|each| each.name == name);
    match (call.method.as_str(), at) {
        ("PROPFIND", _) if name.is_empty() => list(state, call, user),
        ("DELETE", _) if !state.settings.delete_from_trash => {
            let message = "Deleting items from the trash is disabled";
            Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", message)
        }
        ("DELETE", _) if name.is_empty() => {
            state.user_mut(user).trash.clear();
            Answer::empty(204)
        }
        ("DELETE", Some(at)) => {
            state.user_mut(user).trash.remove(at);
            Answer::empty(204)
        }
        ("MOVE", Some(at)) => {
            let to = call.header("destination").unwrap_or_default();
            if !to.contains(&format!("/trashbin/{user}/restore/")) {
                return Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", "");
            }
            restore(state, user, at);
            Answer::empty(201)
        }
        ("PROPFIND", Some(at)) => {
            let response = one(call, user, &state.user(user).trash[at]);
            propfind::multistatus(state, &[response])
        }
        _ => not_found(&name),
    }
}

/// Back to where it was, or to the root if the folder is gone.
pub(super) fn restore(state: &mut State, user: &str, at: usize) {
    let trashed = state.user_mut(user).trash.remove(at);
    let mut path = format!("/{}", trashed.original);
    if !state.node(user, parent(&path).unwrap_or_default()).is_some_and(Node::is_folder) {
        path = format!("/{}", trashed.original.rsplit('/').next().unwrap_or_default());
    }
    if state.node(user, &path).is_some() {
        path.push_str(" (restored)");
    }
    state.give(user, &path, trashed.nodes);
}

fn list(state: &State, call: &Call, user: &str) -> Answer {
    let names = propfind::asked(call, false).unwrap_or_default();
    let root = |name: &propfind::Name| (name.1 == "resourcetype").then(|| "<d:collection/>".to_owned());
    let properties: Vec<Property> = names.iter().map(|name| (name.clone(), root(name))).collect();
    let minimal = propfind::minimal(call) || call.body.is_empty();
    let href = format!("/remote.php/dav/trashbin/{user}/trash/");
    let mut responses = vec![propfind::response(&href, &properties, minimal)];
    if propfind::depth(call) > 0 {
        responses.extend(state.user(user).trash.iter().map(|each| one(call, user, each)));
    }
    propfind::multistatus(state, &responses)
}

fn one(call: &Call, user: &str, trashed: &Trashed) -> String {
    let names = propfind::asked(call, false).unwrap_or_default();
    let top = &trashed.nodes[""];
    let size: u64 = trashed.nodes.values().map(Node::size).sum();
    let original = trashed.original.rsplit('/').next().unwrap_or_default();
    let value = |(_, name): &propfind::Name| match name.as_str() {
        "trashbin-filename" => Some(propfind::escape(original)),
        "trashbin-original-location" => Some(propfind::escape(&trashed.original)),
        "trashbin-deletion-time" => Some(trashed.deleted.to_string()),
        "getcontentlength" | "size" => Some(size.to_string()),
        "fileid" => Some(top.id.to_string()),
        "getlastmodified" => Some(propfind::http_date(trashed.deleted)),
        "resourcetype" => Some(if top.is_folder() { "<d:collection/>" } else { "" }.to_owned()),
        "getetag" => Some(String::new()),
        "getcontenttype" if !top.is_folder() => Some(propfind::mime(original).to_owned()),
        _ => None,
    };
    let properties: Vec<Property> = names.iter().map(|name| (name.clone(), value(name))).collect();
    let slash = if top.is_folder() { "/" } else { "" };
    let href = format!("/remote.php/dav/trashbin/{user}/trash/{}{slash}", trashed.name);
    propfind::response(&href, &properties, propfind::minimal(call))
}
