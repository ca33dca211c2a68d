//! As much of XML as it takes to cut elements out of a text and to leave the rest as it is.

use std::ops::Range;

/// An element of a text.
pub(super) struct Element<'a> {
    /// Where it stands, with the white space in front of it.
    pub(super) span: Range<usize>,
    /// Its start tag.
    pub(super) tag: &'a [u8],
    /// What lies between its tags.
    pub(super) inner: &'a [u8],
}

fn find(text: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let at = text.get(from..)?.windows(wanted.len()).position(|window| window == wanted)?;
    Some(from + at)
}

/// Returns where the tags of a text stand, up to the first that does not end.
fn tags(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = find(text, at, b"<")?;
            let rest = text.get(start..)?;
            let skipped = [(b"<!--".as_slice(), b"-->".as_slice()), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
            if let Some((begin, end)) = skipped.into_iter().find(|(begin, _)| rest.starts_with(begin)) {
                at = find(text, start + begin.len(), end)? + end.len();
                continue;
            }
            let mut quote = None;
            let end = rest.iter().position(|&byte| match quote {
                Some(open) => {
                    if byte == open {
                        quote = None;
                    }
                    false
                }
                None => {
                    if matches!(byte, b'"' | b'\'') {
                        quote = Some(byte);
                    }
                    byte == b'>'
                }
            })?;
            at = start + end + 1;
            return Some(start..at);
        }
    })
}

fn is_named(tag: &[u8], begin: &str, name: &str) -> bool {
    let rest = tag.strip_prefix(begin.as_bytes()).and_then(|rest| rest.strip_prefix(name.as_bytes()));
    rest.and_then(|rest| rest.first())
        .is_some_and(|&byte| byte.is_ascii_whitespace() || b"/>".contains(&byte))
}

/// Returns the start tags of this name.
pub(super) fn start_tags<'a>(text: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    tags(text).filter_map(|tag| text.get(tag)).filter(move |tag| is_named(tag, "<", name))
}

/// Returns the elements of this name. Those within others of the same name, and those that do not end, are left out.
pub(super) fn elements<'a>(text: &'a [u8], name: &str) -> Vec<Element<'a>> {
    let mut elements = Vec::new();
    let mut open: Option<(Range<usize>, u32)> = None;
    for tag in tags(text) {
        let bytes = text.get(tag.clone()).unwrap_or_default();
        let begins = is_named(bytes, "<", name) && !bytes.ends_with(b"/>");
        let ends = is_named(bytes, "</", name);
        match &mut open {
            Some((_, depth)) if begins => *depth += 1,
            Some((_, depth)) if ends && *depth > 0 => *depth -= 1,
            Some((first, _)) if ends => {
                elements.push(element(text, first.clone(), first.end..tag.start, tag.end));
                open = None;
            }
            Some(_) => {}
            None if begins => open = Some((tag, 0)),
            None if is_named(bytes, "<", name) => {
                elements.push(element(text, tag.clone(), tag.end..tag.end, tag.end))
            }
            None => {}
        }
    }
    elements
}

fn element(text: &[u8], tag: Range<usize>, inner: Range<usize>, end: usize) -> Element<'_> {
    let start = text.get(..tag.start).unwrap_or_default().trim_ascii_end().len();
    Element {
        span: start..end,
        tag: text.get(tag).unwrap_or_default(),
        inner: text.get(inner).unwrap_or_default(),
    }
}

/// Returns the value of an attribute of a start tag.
pub(super) fn attribute(tag: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut rest = tag.strip_prefix(b"<")?;
    rest = rest.get(rest.iter().position(u8::is_ascii_whitespace)?..)?;
    loop {
        rest = rest.trim_ascii_start();
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        let (key, value) = rest.split_at_checked(equals)?;
        let value = value.get(1..)?.trim_ascii_start();
        let (&quote, value) = value.split_first().filter(|(quote, _)| b"\"'".contains(quote))?;
        let end = value.iter().position(|&byte| byte == quote)?;
        if key.trim_ascii_end() == name.as_bytes() {
            return value.get(..end).map(unescape);
        }
        rest = value.get(end + 1..)?;
    }
}

/// Returns a text with its references to characters replaced.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        let reference = (byte == b'&').then(|| reference(behind)).flatten();
        rest = match reference {
            Some((c, behind)) => {
                plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                behind
            }
            None => {
                plain.push(byte);
                behind
            }
        };
    }
    plain
}

/// Returns the character that a reference behind `&` means, and what follows.
fn reference(text: &[u8]) -> Option<(char, &[u8])> {
    let end = text.iter().take(10).position(|&byte| byte == b';')?;
    let (name, behind) = (std::str::from_utf8(text.get(..end)?).ok()?, text.get(end + 1..)?);
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((c, behind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spans(text: &str) -> Vec<&str> {
        elements(text.as_bytes(), "b").into_iter().map(|element| &text[element.span]).collect()
    }

    #[test]
    fn elements_are_cut_where_they_stand() {
        assert_eq!(
            spans("<a>\n <b x='>'>1</b>\n <b/>\n <bb></bb><b y=\"</b>\"><c/></b ></a>"),
            ["\n <b x='>'>1</b>", "\n <b/>", "<b y=\"</b>\"><c/></b >"]
        );
        assert_eq!(
            spans("<!-- <b></b> --><![CDATA[<b></b>]]><?b <b></b> ?><b>1<b>2</b>3</b>"),
            ["<b>1<b>2</b>3</b>"]
        );
    }

    #[test]
    fn a_text_that_is_no_xml_has_no_elements() {
        for text in
            ["<b", "<b>", "</b>", "<b x=\">", "<b></b", "<!-- <b></b>", "<", "", "b>", "<![CDATA[<b></b>"]
        {
            assert_eq!(spans(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn attributes_are_read_as_they_are_meant() {
        let tag = b"<b one = 'a&amp;b' two=\"&#228;&#xe4;&lt;&nope;&\"three='x'/>";
        assert_eq!(attribute(tag, "one").unwrap(), b"a&b");
        assert_eq!(attribute(tag, "two").unwrap(), "ää<&nope;&".as_bytes());
        assert_eq!(attribute(tag, "three").unwrap(), b"x");
        for tag in ["<b", "<b one", "<b one=", "<b one=x>", "<b one='x>", "<b x='one'>"] {
            assert_eq!(attribute(tag.as_bytes(), "one"), None, "{tag}");
        }
    }
}
