//! What a daemon tells while it works: lines on standard error, and one that changes in place on a terminal.

use std::io::IsTerminal;

use super::screen;
use crate::config::size;
use crate::daemon::protocol::UnsavedEntry;

/// Shows progress.
pub(super) struct Progress {
    quiet: bool,
    in_place: bool,
    /// Whether something was shown of the saving that goes on.
    saving: bool,
}

impl Progress {
    /// Nothing is shown if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, in_place: std::io::stderr().is_terminal(), saving: false }
    }

    /// Something that went well.
    pub(super) fn tell(&mut self, text: &str) {
        self.end_line();
        if !self.quiet {
            text.lines().for_each(screen::tell);
        }
    }

    /// What is left to be saved. It is told again and again; where lines can't change in place, the first time counts.
    pub(super) fn saving(&mut self, left: UnsavedEntry) {
        if self.quiet || (self.saving && !self.in_place) {
            return;
        }
        let files = if left.files == 1 { "file" } else { "files" };
        let (what, left) = match left.files {
            0 => ("removing", left.removals.to_string()),
            _ => ("saving", format!("{} {files}, {}", left.files, size::show(left.bytes))),
        };
        if self.in_place {
            screen::write_over(&format!("{what}: {left} left"));
        } else {
            screen::tell(&format!("{what} {left}"));
        }
        self.saving = true;
    }

    /// What comes next begins on a line of its own.
    pub(super) fn end_line(&mut self) {
        if self.saving && self.in_place {
            screen::end_line();
        }
        self.saving = false;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end_line();
    }
}
