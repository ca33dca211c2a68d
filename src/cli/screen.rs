//! The output of the commands. Much of it contains names chosen by others and a server's messages, so all of it goes
//! through here: no other module of `cli` can print, but for `progress`, which shows numbers only.
//!
//! A line stays one line, without characters that control a terminal. On a terminal, a line wider than the screen is
//! continued in lines that are marked: otherwise a text of the right length could have its end on a line of its own,
//! and look like one of Scaup's.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;
use scaup_sftp::text::{is_visible, visible};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::error::CliError;
use crate::daemon::protocol::FailureKind;

/// Marks a line that continues the one before it.
const GOES_ON: &str = "  > ";

/// The narrowest terminal for which lines are broken.
const WIDTH_MIN: usize = 16;

/// Prints a line of the requested output.
pub(super) fn out(line: &str) {
    print(&fitting(line, io::stdout()));
}

/// Prints a line of the requested output, in columns with tabs between them.
pub(super) fn out_columns(columns: &[&str]) {
    let columns: Vec<String> = columns.iter().map(|column| visible(column)).collect();
    print(&columns.join("\t"));
}

/// Prints the requested output for programs: exactly, with every invisible character escaped.
pub(super) fn out_json(value: &impl Serialize) -> Result<(), CliError> {
    print(&json(value)?);
    Ok(())
}

fn json(value: &impl Serialize) -> Result<String, CliError> {
    let mut text = Vec::new();
    let formatter = Escaping(PrettyFormatter::new());
    value.serialize(&mut Serializer::with_formatter(&mut text, formatter)).map_err(CliError::other)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Prints a line of output that is told only once. An error says that nobody may have got it.
pub(super) fn deliver(line: &str) -> Result<(), CliError> {
    delivered(&fitting(line, io::stdout()))
}

/// The same for a line that is to be copied: the terminal may wrap it, but nothing marks where it does.
pub(super) fn deliver_unbroken(line: &str) -> Result<(), CliError> {
    delivered(&visible(line))
}

/// Prints output for programs that is told only once. An error says that nobody may have got it.
pub(super) fn deliver_json(value: &impl Serialize) -> Result<(), CliError> {
    delivered(&json(value)?)
}

fn delivered(text: &str) -> Result<(), CliError> {
    writeln!(io::stdout(), "{text}")
        .map_err(|error| CliError::other(format!("the output can't be written: {error}")))
}

/// Prints a script as it is: Scaup's own text.
pub(super) fn out_script(script: &str) {
    print(script.trim_end_matches('\n'));
}

/// Prints a script as it is beside the requested output: Scaup's own text.
pub(super) fn tell_script(script: &str) {
    // As for `tell`.
    let _ = writeln!(io::stderr(), "{}", script.trim_end_matches('\n'));
}

/// A reader that has gone, such as `head`, wants no more of it, and what the command does goes on.
fn print(text: &str) {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("the output can't be written: {error}"));
            std::process::exit(FailureKind::Other.exit_code().into());
        }
        _ => {}
    }
}

/// Prints a message beside the requested output.
pub(super) fn tell(line: &str) {
    // Where nobody can read it any more, what is done goes on: it may have to clean up.
    let _ = writeln!(io::stderr(), "{}", fitting(line, io::stderr()));
}

/// Prints a failure. If it takes several lines, only the first begins as a message does.
pub(super) fn fail(message: &str) {
    let mut lines = message.lines();
    tell(&format!("scaup: {}", lines.next().unwrap_or_default()));
    for line in lines {
        let indent = if line.starts_with(' ') { "" } else { "  " };
        tell(&format!("{indent}{line}"));
    }
}

/// Ends the current line.
pub(super) fn end_line() {
    let _ = writeln!(io::stderr());
}

/// Returns a text, broken to fit the terminal where it is shown.
pub(super) fn fitting(text: &str, on: impl AsFd) -> String {
    let text = visible(text);
    // A file or pipe has no width, and a terminal that does not know its width says zero.
    match tcgetwinsize(on).map(|size| usize::from(size.ws_col)) {
        Ok(width) if width >= WIDTH_MIN => broken(&text, width),
        _ => text,
    }
}

/// Breaks a line so that no part of it is wider than `width`: behind a space, where there is one.
fn broken(text: &str, width: usize) -> String {
    let mut broken = String::with_capacity(text.len());
    let (mut rest, mut room) = (text, width);
    loop {
        let mut taken = 0;
        let mut end = None;
        for (at, c) in rest.char_indices() {
            taken += width_of(c);
            if taken > room {
                end = Some(at);
                break;
            }
        }
        let Some(end) = end else { return broken + rest };
        let line = rest.get(..end).unwrap_or_default();
        let indent = line.len() - line.trim_start().len();
        let end = line.rfind(' ').filter(|&space| space >= indent).map_or(end, |space| space + 1);
        let (line, next) = rest.split_at(end);
        broken.push_str(line);
        broken.push('\n');
        broken.push_str(GOES_ON);
        rest = next;
        room = width - GOES_ON.len();
    }
}

/// Returns how many columns a character takes, at most: terminals do not agree about some.
fn width_of(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

/// Formats JSON with every invisible character escaped (RFC 8259, section 7).
struct Escaping<'a>(PrettyFormatter<'a>);

impl Formatter for Escaping<'_> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut units = [0; 2];
        for c in fragment.chars() {
            if is_visible(c) {
                write!(writer, "{c}")?;
            } else {
                c.encode_utf16(&mut units).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_part_of_a_long_line_begins_like_a_line() {
        let long = format!("(a@b) {} Password for vault Vault: ", ".".repeat(73));
        assert_eq!(broken(&long, 80), format!("(a@b) {} \n  > Password for vault Vault: ", ".".repeat(73)));
        assert_eq!(broken("two words", 16), "two words");
        assert_eq!(broken("ends at the edge", 16), "ends at the edge");
        assert_eq!(broken("goes beyond the edge: ", 16), "goes beyond the \n  > edge: ");
        assert_eq!(
            broken(&"x".repeat(40), 16),
            format!("{}\n  > {}\n  > {}", "x".repeat(16), "x".repeat(12), "x".repeat(12))
        );
        // The width of these varies, so they count as wide.
        assert!(broken(&"日".repeat(100), 20).lines().all(|line| line.chars().count() <= 12));
        // A line is not broken in its indentation.
        assert_eq!(
            broken(&format!("  {}", "x".repeat(20)), 16),
            format!("  {}\n  > {}", "x".repeat(14), "x".repeat(6))
        );
    }

    #[test]
    fn json_holds_the_very_text_in_what_can_be_seen() {
        let text = "a\n\u{1b}[2J \u{9b}31m \u{202e}gnp \u{2028} \u{200b} \u{e0041} \"ä日\\";
        let mut json = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut json, Escaping(PrettyFormatter::new()));
        serde_json::json!({ "name": text, "list": [1, []] }).serialize(&mut serializer).unwrap();
        let json = String::from_utf8(json).unwrap();
        assert!(json.chars().all(|c| c == '\n' || is_visible(c)), "{json}");
        assert!(
            json.contains("\\u202e") && json.contains("\\udb40\\udc41") && json.contains("ä日"),
            "{json}"
        );
        assert!(json.starts_with("{\n  "), "as before, it is easy to read: {json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read, serde_json::json!({ "name": text, "list": [1, []] }));
    }
}
