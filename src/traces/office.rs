//! LibreOffice's history of documents, which lies in its settings, and what Okular notes about each document.

use std::io;
use std::ops::Range;

use super::files::Found;
use super::places::Places;
use super::xml;

/// How much of a note is read, bytes: the document is named at its begin.
const NOTE_LEN_MAX: u64 = 1 << 16;

/// Returns the items of LibreOffice's history that name a document of the places.
pub(super) fn history(text: &[u8], places: &Places) -> Vec<Range<usize>> {
    items(text, places, b"/org.openoffice.Office.Histories/")
}

/// Returns the items about documents of the places that LibreOffice wants to recover.
pub(super) fn recovery(text: &[u8], places: &Places) -> Vec<Range<usize>> {
    items(text, places, b"/org.openoffice.Office.Recovery/")
}

fn items(text: &[u8], places: &Places, group: &[u8]) -> Vec<Range<usize>> {
    let items = xml::elements(text, "item").into_iter().filter(|item| {
        let Some(path) = xml::attribute(item.tag, "oor:path").filter(|path| path.starts_with(group)) else {
            return false;
        };
        // A document is named in the path of an item, as a node's name, or as a value.
        let path = String::from_utf8_lossy(&path).into_owned();
        let in_path = path.split("['").skip(1).filter_map(|part| part.split_once("']"));
        let mut in_path = in_path.map(|(name, _)| name.as_bytes());
        let mut nodes = xml::start_tags(item.inner, "node");
        let mut values = xml::elements(item.inner, "value").into_iter();
        in_path.any(|name| places.hold_uri(name))
            || nodes.any(|node| xml::attribute(node, "oor:name").is_some_and(|name| places.hold_uri(&name)))
            || values.any(|value| places.hold_uri(&xml::unescape(value.inner.trim_ascii())))
    });
    items.map(|item| item.span).collect()
}

/// Returns whether a note of Okular is about a document of the places.
pub(super) fn is_of_okular(found: &Found<'_>, places: &Places) -> io::Result<bool> {
    let text = found.begin(NOTE_LEN_MAX)?;
    let documents = xml::start_tags(&text, "documentInfo");
    let mut urls = documents.filter_map(|tag| xml::attribute(tag, "url"));
    Ok(urls.any(|url| places.hold(&url) || places.hold_uri(&url)))
}
