//! The receiver's side of a link: the page, its password, and the file.

use std::sync::Arc;

use super::http::{Answer, Call, not_found};
use super::login::{basic, blocked, count_wrong};
use super::propfind;
use super::shares::Link;
use super::tree::{Blob, State};

/// A link that is alive, whether or not its file is there. One that is over goes at this look.
fn link(state: &mut State, token: &str) -> Option<Link> {
    if !state.settings.sharing_enabled || !state.settings.links_allowed {
        return None;
    }
    let at = state.links.iter().position(|link| link.token == token && link.kind != 0)?;
    if state.links[at].is_over(state) {
        state.links.remove(at);
        return None;
    }
    Some(state.links[at].clone())
}

/// What is below `/s/` and `/public.php/`.
pub(super) fn answer(state: &mut State, call: &Call, path: &str) -> Answer {
    if let Some(rest) = path.strip_prefix("/s/") {
        return page(state, call, rest);
    }
    if let Some(rest) = path.strip_prefix("/public.php/dav/files/") {
        if !state.personality().public_dav {
            return Answer::empty(404);
        }
        let (token, below) = rest.split_once('/').unwrap_or((rest, ""));
        let base = format!("/public.php/dav/files/{token}/");
        return dav(state, call, token, below, &base, basic(call).map(|(_, password)| password));
    }
    if let Some(below) = path.strip_prefix("/public.php/webdav") {
        let Some((token, password)) = basic(call) else { return wrong(state, 1) };
        return dav(state, call, &token, below.trim_matches('/'), "/public.php/webdav/", Some(password));
    }
    Answer::empty(404)
}

fn wrong(state: &mut State, times: usize) -> Answer {
    count_wrong(state, times);
    Answer::dav(401, "Sabre\\DAV\\Exception\\NotAuthenticated", "Username or password was incorrect")
        .with("www-authenticate", "Basic realm=\"Nextcloud\", charset=\"UTF-8\"")
}

/// The file or folder over WebDAV, with the link's password.
fn dav(
    state: &mut State,
    call: &Call,
    token: &str,
    below: &str,
    base: &str,
    password: Option<String>,
) -> Answer {
    if blocked(state) {
        return Answer::dav(429, "OCA\\DAV\\Connector\\Sabre\\Exception\\TooManyRequests", "");
    }
    let Some(link) = link(state, token) else {
        return wrong(state, 1);
    };
    if let Some(right) = &link.password {
        match password {
            // Asking without a password is a wrong login, and from 32 on two.
            None => {
                let times = state.personality().wrong_attempts_without_credentials;
                return wrong(state, times);
            }
            Some(given) if given != *right => return wrong(state, 1),
            Some(_) => {}
        }
    }
    let Some(top) = state.path_of(&link.owner, link.file) else { return not_found(token) };
    let path = super::dav::tidy(&format!("{top}/{below}"));
    let Some(node) = state.node(&link.owner, &path).cloned() else { return not_found(below) };
    match call.method.as_str() {
        "PROPFIND" if node.is_folder() => {
            let base = format!("{base}{}", if below.is_empty() { "" } else { "/" });
            let mut answer = propfind::list(state, call, &link.owner, &path, &base);
            answer.headers.retain(|(name, _)| name != "x-nc-paginate-token");
            answer
        }
        "PROPFIND" => {
            let names = propfind::asked(call, false).unwrap_or_default();
            let value = |name: &propfind::Name| match name.1.as_str() {
                "resourcetype" => Some(String::new()),
                "getlastmodified" => Some(propfind::http_date(node.mtime)),
                "getcontentlength" | "size" => Some(node.size().to_string()),
                "getetag" => Some(format!("&quot;{}&quot;", node.etag)),
                "getcontenttype" => Some(propfind::mime(&path).to_owned()),
                "fileid" => Some(node.id.to_string()),
                "permissions" => Some("R".to_owned()),
                _ => None,
            };
            let properties: Vec<propfind::Property> =
                names.iter().map(|name| (name.clone(), value(name))).collect();
            let slash = state.personality().public_file_ends_in_slash;
            let href = if slash { base } else { base.trim_end_matches('/') };
            let response = propfind::response(href, &properties, propfind::minimal(call));
            propfind::multistatus(state, &[response])
        }
        "GET" | "HEAD" => {
            let Some(blob) = &node.blob else { return Answer::empty(405) };
            if !link.downloadable() {
                return Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", "Downloading is not allowed");
            }
            let answer = super::dav::content(call, blob, &node.etag, node.mtime, &path);
            if call.method == "GET" && answer.status < 300 {
                downloaded(state, token);
            }
            answer
        }
        _ => Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", ""),
    }
}

/// Counts a download where that works; the last one allowed takes the share with it.
fn downloaded(state: &mut State, token: &str) {
    if !state.personality().download_limit_counts {
        return;
    }
    for link in state.links.iter_mut().filter(|link| link.token == token) {
        if let Some((_, count)) = &mut link.limit {
            *count += 1;
        }
    }
    state.links.retain(|link| link.token != token || link.limit.is_none_or(|(limit, count)| count < limit));
}

/// The pages a browser sees.
fn page(state: &mut State, call: &Call, rest: &str) -> Answer {
    let (token, action) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(link) = link(state, token) else {
        return Answer::page(404, "Not found", "<h2>Share not found</h2>");
    };
    let session = call.cookie(&state.instance).unwrap_or_default();
    let known = state.sessions.get(&session).is_some_and(|session| session.links.contains(&token.to_owned()));
    let open = link.password.is_none() || known;
    let action = action.to_lowercase();
    let form = format!(
        "<h2>This share is password-protected</h2>\
         <form method=\"post\" action=\"/s/{token}/authenticate/showShare\">\
         <input type=\"password\" name=\"password\"><input type=\"submit\" value=\"Submit\"></form>"
    );
    if action == "authenticate/showshare" {
        if call.method != "POST" {
            return Answer::page(200, "Password", &form);
        }
        let fields = call.fields();
        let given = fields.iter().find(|(name, _)| name == "password").map(|(_, value)| value.as_str());
        if given != link.password.as_deref() {
            count_wrong(state, 1);
            return Answer::page(200, "Password", &format!("{form}<p>The password is wrong or expired.</p>"));
        }
        let id = super::flow::session(state, call);
        state.sessions.get_mut(&id).expect("it was made above").links.push(token.to_owned());
        let cookie = format!("{}={id}; path=/; HttpOnly; SameSite=Lax", state.instance);
        return Answer::see(&format!("/s/{token}")).with("set-cookie", &cookie);
    }
    if !open {
        // From 29 on the last word is in lower case.
        let last = if state.version.major() >= 29 { "showshare" } else { "showShare" };
        return Answer::see(&format!("/s/{token}/authenticate/{last}"));
    }
    let Some(path) = state.path_of(&link.owner, link.file) else {
        return Answer::page(404, "Not found", "<h2>Share not found</h2>");
    };
    let node = state.node(&link.owner, &path).cloned().expect("the link leads to it");
    if action == "download" {
        let Some(blob) = node.blob.as_ref().filter(|_| link.downloadable()) else {
            return Answer::empty(403);
        };
        downloaded(state, token);
        return super::dav::content(call, blob, &node.etag, node.mtime, &path);
    }
    let name = propfind::escape(path.rsplit('/').next().unwrap_or_default());
    let (label, note) = (propfind::escape(&link.label), propfind::escape(&link.note));
    let body =
        format!("<h1>{label}</h1><h2>{name}</h2><p>{note}</p><a href=\"/s/{token}/download\">Download</a>");
    Answer::page(200, &name, &body)
}

/// What a receiver gets by a link and a password.
pub(super) fn open(state: &mut State, token: &str, password: Option<&str>) -> Option<Arc<Blob>> {
    let link = link(state, token)?;
    if link.password.is_some() && link.password.as_deref() != password {
        return None;
    }
    let path = state.path_of(&link.owner, link.file)?;
    state.node(&link.owner, &path)?.blob.clone()
}
