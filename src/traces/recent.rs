//! Lists of files opened last: that of GTK and newer KDE (`recently-used.xbel`, Desktop Bookmark Specification), and
//! the directory of links of older KDE.

use std::io;
use std::ops::Range;

use super::files::Found;
use super::places::Places;
use super::xml;

/// Longest link that is read, bytes.
const LINK_LEN_MAX: u64 = 1 << 16;

/// Returns the bookmarks of the places.
pub(super) fn bookmarks(text: &[u8], places: &Places) -> Vec<Range<usize>> {
    let elements = xml::elements(text, "bookmark").into_iter();
    let own = elements
        .filter(|element| xml::attribute(element.tag, "href").is_some_and(|href| places.hold_uri(&href)));
    own.map(|element| element.span).collect()
}

/// Returns whether a file is a link to a file of the places. KDE writes the home directory as `$HOME`.
pub(super) fn is_link(found: &Found<'_>, places: &Places) -> io::Result<bool> {
    let text = found.begin(LINK_LEN_MAX)?;
    let mut urls = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let (key, url) = line.split_at_checked(line.iter().position(|&byte| byte == b'=')?)?;
        (key == b"URL" || key == b"URL[$e]").then(|| url.get(1..).unwrap_or_default().trim_ascii())
    });
    Ok(urls.any(|url| {
        let below_home =
            [b"file:$HOME".as_slice(), b"file://$HOME"].into_iter().find_map(|it| url.strip_prefix(it));
        match below_home {
            Some(below) => places.hold_uri(&[b"file:", places.home(), below].concat()),
            None => places.hold_uri(url),
        }
    }))
}
