//! Reads lists of files (`207 Multi-Status`, RFC 4918 section 13), within bounds: a server may send anything.

use quick_xml::events::Event;
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;
use scaup_sftp::text::Line;

/// The most entries of a list.
const ENTRIES_MAX: usize = 50_000;
/// The deepest nesting.
const DEPTH_MAX: usize = 32;
/// The longest text of one property, bytes.
const TEXT_LEN_MAX: usize = 16 << 10;
/// The most properties of one entry.
const PROPERTIES_MAX: usize = 64;

const DAV: &str = "DAV:";

/// Why a list can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MultistatusError {
    /// It is no XML.
    #[error(transparent)]
    Xml(#[from] quick_xml::Error),
    /// It is larger than any real one.
    #[error("it is too large")]
    TooLarge,
    /// It has no end.
    #[error("its end is missing")]
    CutOff,
}

/// A property of a file, which is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    namespace: String,
    name: String,
    /// Its text. That of a type is the name of the element in it.
    text: String,
}

/// One entry of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// The path on the server, percent-encoded.
    pub(super) href: String,
    pub(super) properties: Vec<Property>,
}

impl Listed {
    pub(super) fn property(&self, namespace: &str, name: &str) -> Option<&str> {
        let is = |property: &&Property| property.namespace == namespace && property.name == name;
        self.properties.iter().find(is).map(|property| property.text.as_str())
    }
}

/// Reads a list.
pub(super) fn read(xml: &[u8]) -> Result<Vec<Listed>, MultistatusError> {
    let mut reader = NsReader::from_reader(xml);
    let mut read = Reading::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_resolved_event_into(&mut buffer)? {
            (namespace, Event::Start(element)) => {
                read.begin(namespace_of(&namespace), element.local_name().as_ref())?;
            }
            (namespace, Event::Empty(element)) => {
                read.begin(namespace_of(&namespace), element.local_name().as_ref())?;
                read.end();
            }
            (_, Event::End(_)) => read.end(),
            (_, Event::Text(text)) => read.text(&text)?,
            (_, Event::CData(text)) => read.text(&text)?,
            (_, Event::GeneralRef(reference)) => {
                let name = &*reference;
                // Only the five of XML itself; anything else is dropped.
                let text = match reference.resolve_char_ref()? {
                    Some(c) => c.to_string(),
                    None => quick_xml::escape::resolve_xml_entity(name).unwrap_or_default().to_owned(),
                };
                read.text(&text)?;
            }
            (_, Event::Eof) => {
                return if read.path.is_empty() { Ok(read.list) } else { Err(MultistatusError::CutOff) };
            }
            _ => {}
        }
    }
}

fn namespace_of(namespace: &ResolveResult<'_>) -> String {
    match namespace {
        ResolveResult::Bound(Namespace(name)) => (*name).to_owned(),
        ResolveResult::Unbound | ResolveResult::Unknown(_) => String::new(),
    }
}

#[derive(Default)]
struct Reading {
    list: Vec<Listed>,
    /// The elements around, from the outermost.
    path: Vec<(String, String)>,
    /// The properties of the current `propstat`, which count only if their status is 200.
    properties: Vec<Property>,
    status: String,
}

impl Reading {
    fn is_at(&self, names: &[&str]) -> bool {
        let dav = |(namespace, name): &(String, String), wanted: &&str| namespace == DAV && name == wanted;
        self.path.len() == names.len() && self.path.iter().zip(names).all(|(at, wanted)| dav(at, wanted))
    }

    /// Returns whether the current element lies this many levels below `prop`.
    fn is_below_prop(&self, levels: usize) -> bool {
        let Some(depth) = self.path.len().checked_sub(levels) else { return false };
        depth == 4 && self.path.get(3).is_some_and(|(namespace, name)| namespace == DAV && name == "prop")
    }

    fn begin(&mut self, namespace: String, name: &str) -> Result<(), MultistatusError> {
        let name = name.to_owned();
        self.path.push((namespace.clone(), name.clone()));
        if self.path.len() > DEPTH_MAX || self.list.len() > ENTRIES_MAX {
            return Err(MultistatusError::TooLarge);
        }
        if self.is_at(&["multistatus", "response"]) {
            self.list.push(Listed::default());
        } else if self.is_at(&["multistatus", "response", "propstat"]) {
            self.properties.clear();
            self.status.clear();
        } else if self.is_below_prop(1) {
            if self.properties.len() >= PROPERTIES_MAX {
                return Err(MultistatusError::TooLarge);
            }
            self.properties.push(Property { namespace, name, text: String::new() });
        } else if self.is_below_prop(2)
            && let Some(property) = self.properties.last_mut()
            && property.name == "resourcetype"
        {
            property.text = name;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), MultistatusError> {
        let into = if self.is_at(&["multistatus", "response", "href"]) {
            self.list.last_mut().map(|listed| &mut listed.href)
        } else if self.is_at(&["multistatus", "response", "propstat", "status"]) {
            Some(&mut self.status)
        } else if self.is_below_prop(1) || self.is_below_prop(2) {
            self.properties.last_mut().map(|property| &mut property.text)
        } else {
            None
        };
        let Some(into) = into else { return Ok(()) };
        if into.len() + text.len() > TEXT_LEN_MAX {
            return Err(MultistatusError::TooLarge);
        }
        into.push_str(text);
        Ok(())
    }

    fn end(&mut self) {
        if self.is_at(&["multistatus", "response", "propstat"])
            && self.status.split(' ').nth(1) == Some("200")
            && let Some(listed) = self.list.last_mut()
        {
            listed.properties.append(&mut self.properties);
        }
        self.path.pop();
    }
}

/// Returns the server's own words about why it refused: the text of the element `message`.
pub(super) fn message(xml: &[u8]) -> Option<Line> {
    let mut reader = NsReader::from_reader(xml);
    let mut buffer = Vec::new();
    let mut is_inside = false;
    // A page of a browser has no such element, and is not always XML.
    for _ in 0..1000 {
        buffer.clear();
        match reader.read_event_into(&mut buffer).ok()? {
            Event::Start(element) => is_inside = element.local_name().as_ref() == "message",
            Event::Text(text) if is_inside => {
                return Some(Line::of(text.trim())).filter(|line| !line.as_str().is_empty());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIST: &str = r#"<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:response><d:href>/remote.php/dav/files/alice/a%20b/</d:href>
<d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype><oc:fileid>12</oc:fileid></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
<d:propstat><d:prop><d:getcontentlength/><oc:checksums>x</oc:checksums></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
</d:response><d:response><d:href>/remote.php/dav/files/alice/a%20b/c&amp;d</d:href><d:propstat><d:prop><d:resourcetype/>
<d:getcontentlength>7</d:getcontentlength><d:getetag>&quot;e&#x41;&quot;</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>"#;

    #[test]
    fn a_list_gives_each_entry_with_the_properties_that_it_has() {
        let list = read(LIST.as_bytes()).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].href, "/remote.php/dav/files/alice/a%20b/");
        assert_eq!(list[0].property("DAV:", "resourcetype"), Some("collection"));
        assert_eq!(list[0].property("http://owncloud.org/ns", "fileid"), Some("12"));
        assert_eq!(list[0].property("http://owncloud.org/ns", "checksums"), None);
        assert_eq!(list[1].href, "/remote.php/dav/files/alice/a%20b/c&d");
        assert_eq!(list[1].property("DAV:", "resourcetype"), Some(""));
        assert_eq!(list[1].property("DAV:", "getcontentlength"), Some("7"));
        assert_eq!(list[1].property("DAV:", "getetag"), Some("\"eA\""));
    }

    #[test]
    fn what_is_no_list_or_too_large_is_refused() {
        assert!(read(LIST.get(..500).unwrap().as_bytes()).is_err());
        assert!(matches!(read("<a>".repeat(100).as_bytes()), Err(MultistatusError::TooLarge)));
        let long = LIST.replace("a%20b", &"x".repeat(TEXT_LEN_MAX));
        assert!(matches!(read(long.as_bytes()), Err(MultistatusError::TooLarge)));
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">]><d:multistatus xmlns:d="DAV:"><d:response><d:href>&b;</d:href></d:response></d:multistatus>"#;
        assert_eq!(read(bomb.as_bytes()).unwrap()[0].href, "", "no entity of its own");
        assert_eq!(read(b"not xml at all").unwrap(), Vec::new());
    }

    #[test]
    fn the_servers_words_are_found_in_an_error() {
        let error = r#"<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns"><s:exception>A\B</s:exception><s:message>File is locked</s:message></d:error>"#;
        assert_eq!(message(error.as_bytes()).unwrap().as_str(), "File is locked");
        assert_eq!(message(b"<!DOCTYPE html><html><p>hello"), None);
        assert_eq!(message(b""), None);
    }
}
