//! What Vim and Emacs keep outside the directory of a file: swap, undo and backup files, and their histories.
//!
//! Many of these files are named by the whole path of the file, with another character for each slash. A path that has
//! that character itself can't be told apart from another one; both lie below the same directories, unless those have
//! it in their own names.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use super::files::Found;
use super::places::Places;

/// Where a swap file of Vim has the name of its file, and how long that is (`memline.c`, `struct block0`).
const SWAP_NAME: Range<usize> = 108..1008;

/// Returns whether a file is Vim's swap file for a file of the places.
pub(super) fn is_swap(found: &Found<'_>, places: &Places) -> io::Result<bool> {
    let head = found.begin(SWAP_NAME.end as u64)?;
    if !head.starts_with(b"b0VIM") {
        return Ok(false);
    }
    let name = head.get(SWAP_NAME).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(places.hold_abbreviated(name) || is_named(&found.name, b'%', places))
}

/// Returns whether a file is named like Vim's undo file for a file of the places.
pub(super) fn is_named_by_percent(found: &Found<'_>, places: &Places) -> io::Result<bool> {
    Ok(is_named(&found.name, b'%', places))
}

/// Returns whether a file is named like the backup (`!path~`) or the unsaved content (`#!path#`) of a file of the
/// places in Emacs.
pub(super) fn is_named_by_exclamation(found: &Found<'_>, places: &Places) -> io::Result<bool> {
    let name = found.name.as_bytes();
    Ok(is_named(OsStr::from_bytes(name.strip_prefix(b"#").unwrap_or(name)), b'!', places))
}

fn is_named(name: &OsStr, slash: u8, places: &Places) -> bool {
    let path: Vec<u8> = name.as_bytes().iter().map(|&byte| if byte == slash { b'/' } else { byte }).collect();
    // Something is added behind the name, which must not make another directory look like one of the places.
    places.hold(&path)
}

/// Returns the lines of a text, each with its end.
fn lines(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    text.split_inclusive(|&byte| byte == b'\n').map(move |line| {
        let start = at;
        at += line.len();
        start..at
    })
}

fn lines_that(text: &[u8], mut is_meant: impl FnMut(&[u8]) -> bool) -> Vec<Range<usize>> {
    lines(text).filter(|line| is_meant(text.get(line.clone()).unwrap_or_default().trim_ascii_end())).collect()
}

/// Returns the lines of a `.viminfo` that are about files of the places: marks, and commands that name them.
pub(super) fn in_viminfo(text: &[u8], places: &Places) -> Vec<Range<usize>> {
    // The marks in a file are a block: `> FILE`, and lines that begin with a tab.
    let mut in_block = false;
    lines_that(text, |line| {
        in_block = match line.strip_prefix(b"> ") {
            Some(file) => places.hold_abbreviated(file),
            None => in_block && line.starts_with(b"\t"),
        };
        let is_own = match line.split_first() {
            Some((b'\'' | b'-', _)) => mark(line).is_some_and(|file| places.hold_abbreviated(file)),
            Some((b':', command)) => names_one(command, places),
            Some((b'|', item)) => is_own_item(item, places),
            _ => false,
        };
        in_block || is_own
    })
}

/// Returns the file of a mark: `'A  LINE  COLUMN  FILE`.
fn mark(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line;
    for _ in 0..3 {
        rest = rest.get(rest.iter().position(|&byte| byte == b' ')?..)?.trim_ascii_start();
    }
    Some(rest)
}

/// Returns whether an item in Vim's newer notation is about a file of the places: a mark
/// (`4,NAME,LINE,COLUMN,TIME,"FILE"`) or a command (`2,0,TIME,,"COMMAND"`).
fn is_own_item(item: &[u8], places: &Places) -> bool {
    let Some(quote) = item.iter().position(|&byte| byte == b'"') else { return false };
    let text = item.get(quote + 1..).unwrap_or_default();
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    let plain = without_escapes(text);
    match item.first() {
        Some(b'4') => places.hold_abbreviated(&plain),
        Some(b'2') => names_one(&plain, places),
        _ => false,
    }
}

/// Returns whether a command names a file of the places. The name may have spaces in it.
fn names_one(command: &[u8], places: &Places) -> bool {
    let command = without_escapes(command);
    let is_start = |&at: &usize| at == 0 || command.get(at - 1).is_some_and(u8::is_ascii_whitespace);
    (0..command.len()).filter(is_start).any(|start| {
        let rest = command.get(start..).unwrap_or_default();
        let word = rest.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        places.hold_abbreviated(rest) || places.hold_abbreviated(word)
    })
}

/// Returns a text without the backslashes that escape a character.
fn without_escapes(text: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let is_kept = |&byte: &u8| {
        escaped = byte == b'\\' && !escaped;
        !escaped
    };
    text.iter().copied().filter(is_kept).collect()
}

/// Returns the lines of an Emacs' list of unsaved files that name files of the places.
pub(super) fn in_auto_save_list(text: &[u8], places: &Places) -> Vec<Range<usize>> {
    lines_that(text, |line| places.hold_abbreviated(line))
}

/// Returns the lines of Emacs' list of recent files that name files of the places. Each is a string of its own.
pub(super) fn in_recentf(text: &[u8], places: &Places) -> Vec<Range<usize>> {
    lines_that(text, |line| {
        let string = line.trim_ascii_start().strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\""));
        // The quote at the end could be one that belongs to the name.
        string.is_some_and(|file| !file.ends_with(b"\\") && places.hold_abbreviated(file))
    })
}
