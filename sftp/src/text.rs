//! Makes foreign text fit to be shown: a server's messages, and names chosen by others.
//!
//! The author of such a text must not be able to control a terminal, to begin a new line, to reverse the order of the
//! letters, to hide some, or to fill the screen. So the text stays on one line, holds only visible characters, and is
//! limited in length.

use std::fmt;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, VariationSelector};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Longest text that is shown, characters. A question with a menu in it (a second factor's) has half of that.
const CHARACTERS_MAX: usize = 512;

/// Characters kept of the end of a longer text: a question ends with the wanted item, a path with the file's name.
const END_KEPT: usize = 128;

/// Most marks shown on one letter: no script needs more, and piled up they cover the lines above.
const MARKS_MAX: usize = 4;

/// Most lines shown of a server's text.
const LINES_MAX: usize = 40;

/// Replaces a character that is not shown.
const NOT_SHOWN: char = char::REPLACEMENT_CHARACTER;

/// Foreign text on one line, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Line(String);

impl Line {
    /// Puts the text on one line: breaks and tabs become spaces, characters that are invisible or control a terminal
    /// are replaced, and the middle of a long text is left out.
    #[must_use]
    pub fn of(text: &str) -> Self {
        // Only this much can be shown: a server's text may have megabytes.
        let length = text.chars().count();
        if length <= CHARACTERS_MAX {
            return Self(visible(text));
        }
        let begin: String = text.chars().take(CHARACTERS_MAX - END_KEPT - 1).collect();
        let end: String = text.chars().skip(length - END_KEPT).collect();
        Self(format!("{}…{}", visible(&begin), visible(&end)))
    }

    /// Returns each line of the text that is not empty, and a last one that says so if there are more than can be
    /// shown.
    pub fn each_of(text: &str) -> impl Iterator<Item = Self> {
        let mut lines = text.split(breaks_line).map(str::trim).filter(|line| !line.is_empty());
        let mut shown = 0;
        std::iter::from_fn(move || {
            let line = lines.next()?;
            shown += 1;
            match shown {
                ..=LINES_MAX => Some(Self::of(line)),
                _ if shown == LINES_MAX + 1 => Some(Self("…".to_owned())),
                _ => None,
            }
        })
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<Line> for String {
    fn from(line: Line) -> Self {
        line.0
    }
}

/// Puts the text on one line, with every character replaced that is invisible or controls a terminal, however long it
/// is: for lines put together from parts that are each limited.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut marks = MARKS_MAX;
    let mut replaced = None;
    for c in text.chars() {
        let replacement = match kind(c) {
            Kind::Seen => {
                marks = 0;
                None
            }
            // A mark without a letter before it would change the character in front of the text.
            Kind::Mark if marks < MARKS_MAX => {
                marks += 1;
                None
            }
            Kind::Break => Some(' '),
            Kind::Mark | Kind::Unseen => Some(NOT_SHOWN),
        };
        match replacement {
            None => shown.push(c),
            // A run of them is replaced by one.
            Some(replacement) => {
                marks = MARKS_MAX;
                if replaced != Some(replacement) {
                    shown.push(replacement);
                }
            }
        }
        replaced = replacement;
    }
    shown
}

/// Returns whether a character shows itself and nothing else.
#[must_use]
pub fn is_visible(c: char) -> bool {
    matches!(kind(c), Kind::Seen | Kind::Mark)
}

enum Kind {
    Seen,
    /// It changes how the letter before it looks.
    Mark,
    /// It ends a line, or leaves room in it.
    Break,
    /// It is invisible, or visible only by its effect on others.
    Unseen,
}

fn kind(c: char) -> Kind {
    if c == ' ' || c.is_ascii_graphic() {
        return Kind::Seen;
    }
    if c == '\t' || breaks_line(c) {
        return Kind::Break;
    }
    if CodePointSetData::new::<VariationSelector>().contains(c) {
        return Kind::Mark;
    }
    if CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c) {
        return Kind::Unseen;
    }
    match CodePointMapData::<GeneralCategory>::new().get(c) {
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::Surrogate
        | GeneralCategory::PrivateUse
        | GeneralCategory::Unassigned
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => Kind::Unseen,
        GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark | GeneralCategory::SpacingMark => {
            Kind::Mark
        }
        _ => Kind::Seen,
    }
}

/// Returns whether a character ends a line (Unicode Standard Annex 14: BK, CR, LF, NL).
fn breaks_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Unicode's classes of characters that can mislead a reader, written out once more, without the tables of the
    /// library.
    fn plays(c: char) -> bool {
        c.is_control()
            || matches!(
                c,
                '\u{ad}'
                    | '\u{34f}'
                    | '\u{600}'..='\u{605}'
                    | '\u{61c}'
                    | '\u{6dd}'
                    | '\u{70f}'
                    | '\u{890}'..='\u{891}'
                    | '\u{8e2}'
                    | '\u{115f}'..='\u{1160}'
                    | '\u{180e}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{3164}'
                    | '\u{feff}'
                    | '\u{ffa0}'
                    | '\u{fff0}'..='\u{fffb}'
                    | '\u{1d173}'..='\u{1d17a}'
                    | '\u{e0000}'..='\u{e007f}'
            )
    }

    fn any_text() -> impl Strategy<Value = String> {
        let playful = prop_oneof![
            any::<char>(),
            prop::char::range('\0', '\u{9f}'),
            prop::char::range('\u{300}', '\u{36f}'),
            prop::char::range('\u{2000}', '\u{206f}'),
            prop::char::range('\u{e0000}', '\u{e007f}'),
            Just(' '),
            Just('a'),
        ];
        prop::collection::vec(playful, 0..1200).prop_map(|text| text.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_is_one_short_line_that_is_seen_as_it_is(text in any_text()) {
            let line = Line::of(&text);
            prop_assert!(line.as_str().chars().count() <= CHARACTERS_MAX);
            prop_assert!(!line.as_str().chars().any(plays), "{line:?}");
            let mut marks = MARKS_MAX;
            for c in line.as_str().chars() {
                marks = if unicode_mark(c) { marks + 1 } else { 0 };
                prop_assert!(marks <= MARKS_MAX, "{line:?}");
            }
            prop_assert_eq!(&Line::of(line.as_str()), &line, "what is fit to be shown stays as it is");
            prop_assert_eq!(visible(&text).chars().find(|&c| plays(c)), None);
            prop_assert!(Line::each_of(&text).count() <= LINES_MAX + 1);
            for line in Line::each_of(&text) {
                prop_assert!(!line.as_str().chars().any(plays), "{line:?}");
            }
        }

        #[test]
        fn what_is_seen_as_it_is_stays_so(text in "[a-zA-Z0-9äöüß€ 日本語кириллица(){}:/.~@>?\"'-]{0,512}") {
            let line = Line::of(&text);
            prop_assert_eq!(line.as_str(), text.as_str());
        }
    }

    /// The marks that [`any_text`] makes on purpose.
    fn unicode_mark(c: char) -> bool {
        matches!(c, '\u{300}'..='\u{34e}' | '\u{350}'..='\u{36f}')
    }

    #[test]
    fn breaks_become_spaces_and_tricks_are_seen_as_such() {
        for (text, shown) in [
            ("\nPassword for vault Vault: ", " Password for vault Vault: "),
            ("Choose:\r\n\r\n 1. Push\n 2. Code\n> ", "Choose:  1. Push  2. Code > "),
            ("a\tb\u{2028}c\u{2029}d\u{85}e\u{b}f\u{c}g", "a b c d e f g"),
            ("x\u{8}\u{8}\u{7f}\0y", "x\u{fffd}y"),
            ("\u{1b}[2J\u{9b}31mred\u{1b}]0;t\u{7}", "\u{fffd}[2J\u{fffd}31mred\u{fffd}]0;t\u{fffd}"),
            ("\u{202e}gnp.exe\u{2066}\u{200b}", "\u{fffd}gnp.exe\u{fffd}"),
            ("tag\u{e0041}\u{e007f}", "tag\u{fffd}"),
            // A mark is not moved to the letter before it, and marks do not pile up.
            (
                "\u{338}a\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}b",
                "\u{fffd}a\u{301}\u{302}\u{303}\u{304}\u{fffd}b",
            ),
            // Letters that are written in parts, and pictures that ask to be in colour.
            (
                "한글 \u{1112}\u{1161}\u{11ab} กี่ हिन्दी e\u{301} ❤\u{fe0f}",
                "한글 \u{1112}\u{1161}\u{11ab} กี่ हिन्दी e\u{301} ❤\u{fe0f}",
            ),
        ] {
            assert_eq!(Line::of(text).as_str(), shown, "{text:?}");
        }
    }

    #[test]
    fn of_what_is_too_long_both_ends_are_shown() {
        let long = format!("begin{}end: ", "é".repeat(100_000));
        let line = Line::of(&long);
        assert_eq!(line.as_str().chars().count(), CHARACTERS_MAX);
        assert!(line.as_str().starts_with("beginé") && line.as_str().ends_with("éend: "), "{line}");
        assert!(line.as_str().contains("é…é"), "{line}");
    }

    #[test]
    fn lines_are_told_apart_and_have_an_end() {
        let said = |text: &str| Line::each_of(text).map(String::from).collect::<Vec<_>>();
        assert_eq!(said("\r\n one \r\n\n\u{2028}two\n"), ["one", "two"]);
        let many = said(&"word\n".repeat(1000));
        assert_eq!((many.len(), many.last().map(String::as_str)), (LINES_MAX + 1, Some("…")));
    }
}
