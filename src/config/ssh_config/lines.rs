//! The lines of a configuration file: a keyword, and its words.

/// A line that is neither empty nor a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigLine<'text> {
    /// Its number, from 1.
    pub(super) number: usize,
    /// The keyword, as written.
    pub(super) keyword: &'text str,
    /// The rest of the line, without blanks around it.
    pub(super) value: &'text str,
}

/// Returns the lines of a file that are neither empty nor comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = ConfigLine<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        // The keyword and the value are separated by blanks, or by one `=`.
        let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(line.len());
        let (keyword, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let value = rest.strip_prefix('=').unwrap_or(rest).trim();
        Some(ConfigLine { number: index + 1, keyword, value })
    })
}

/// Splits a value into words, up to a comment: separated by blanks that are neither in quotes nor behind a backslash.
/// Returns `None` if a quote is not closed.
pub(super) fn words(value: &str) -> Option<Vec<String>> {
    let is_blank = |c: char| c.is_ascii_whitespace();
    let mut words = Vec::new();
    let mut rest = value.trim_start_matches(is_blank);
    while !rest.is_empty() && !rest.starts_with('#') {
        let (mut word, mut quote) = (String::new(), None);
        let mut characters = rest.char_indices().peekable();
        let mut end = rest.len();
        while let Some((at, c)) = characters.next() {
            match (c, quote) {
                ('\\', _) => {
                    let is_escaped =
                        |c: char| matches!(c, '\'' | '"' | '\\') || (c == ' ' && quote.is_none());
                    let escaped = characters.next_if(|(_, next)| is_escaped(*next));
                    word.push(escaped.map_or(c, |(_, escaped)| escaped));
                }
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, None) if is_blank(c) => {
                    end = at;
                    break;
                }
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
        rest = rest.split_at(end).1.trim_start_matches(is_blank);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_ssh_does() {
        for (value, expected) in [
            ("a  b\tc", Some(&["a", "b", "c"][..])),
            ("\"a b\" 'c d'", Some(&["a b", "c d"])),
            ("a\"b c\"d", Some(&["ab cd"])),
            (r#"a\ b "c\"d" 'e\'f' \g"#, Some(&["a b", "c\"d", "e'f", "\\g"])),
            ("a # b", Some(&["a"])),
            ("a#b", Some(&["a#b"])),
            ("\"\"", Some(&[""])),
            ("", Some(&[])),
            ("\"a", None),
            ("a 'b", None),
        ] {
            assert_eq!(
                words(value).as_deref(),
                expected
                    .map(<[_]>::to_vec)
                    .as_deref()
                    .map(|words| { words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>() })
                    .as_deref(),
                "{value}"
            );
        }
    }

    #[test]
    fn a_keyword_stands_before_blanks_or_an_equals_sign() {
        let found: Vec<_> = lines("# x\n\n Port=22\r\nUser  =  a b \nHost\n").collect();
        let line = |number, keyword, value| ConfigLine { number, keyword, value };
        assert_eq!(found, [line(3, "Port", "22"), line(4, "User", "a b"), line(5, "Host", "")]);
    }
}
