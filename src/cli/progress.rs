//! Progress on standard error: lines of a daemon's, and one that changes in place on a terminal while a command waits.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen;
use crate::config::size;
use crate::daemon::protocol::UnsavedEntry;

/// How often the line that changes in place is redrawn, times a second.
const DRAWN_PER_SECOND: u8 = 5;

/// A line that changes in place, on a terminal; elsewhere it is never seen. Dropping it clears it.
pub(super) struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// Creates the line, which is seen from the first text on.
    pub(super) fn new() -> Self {
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND));
        // No wider than the terminal: what is wider could not be cleared.
        let style = ProgressStyle::with_template("{wide_msg}");
        Self(line.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner())))
    }

    /// Returns whether standard error is a terminal where a line can change in place.
    pub(super) fn is_seen(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Shows a text in place of the one before.
    pub(super) fn show(&self, text: String) {
        self.0.set_message(text);
    }
}

/// The progress that a daemon reports.
pub(super) struct DaemonProgress {
    quiet: bool,
    /// What is left to be saved, while something is.
    saving: Option<ProgressLine>,
}

impl DaemonProgress {
    /// Creates the display, which shows nothing if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, saving: None }
    }

    /// Shows a step that went well.
    pub(super) fn tell(&mut self, text: &str) {
        self.clear();
        if !self.quiet {
            text.lines().for_each(screen::tell);
        }
    }

    /// Shows what is left to be saved. It is called repeatedly; where lines can't change in place, only the first call
    /// shows a line.
    pub(super) fn saving(&mut self, left: UnsavedEntry) {
        if self.quiet {
            return;
        }
        let files = if left.files == 1 { "file" } else { "files" };
        let (what, left) = match left.files {
            0 => ("removing", left.removals.to_string()),
            _ => ("saving", format!("{} {files}, {}", left.files, size::show(left.bytes))),
        };
        let is_first = self.saving.is_none();
        let line = self.saving.get_or_insert_with(ProgressLine::new);
        if line.is_seen() {
            line.show(format!("{what}: {left} left"));
        } else if is_first {
            screen::tell(&format!("{what} {left}"));
        }
    }

    /// Makes room for a question: the next output begins on an empty line.
    pub(super) fn clear(&mut self) {
        self.saving = None;
    }
}
