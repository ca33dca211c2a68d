//! Saving everything before a mount ends, while somebody watches, and saying what can't be saved.

use std::time::Duration;

use scaup_sftp::text::{Line, visible};
use tokio::time::Instant;

use super::link::Link;
use super::protocol::Event;
use crate::config::size;
use crate::drive::{Drive, Unsaved};

/// How long all of ending may take before what can't be saved is given up, when nobody can be asked: systemd kills what has not ended after 90 s
/// (`TimeoutStopSec`).
pub(super) const LAST_TRIES: Duration = Duration::from_secs(75);

/// How long saving may take where the user wants the end in any case.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How often whoever watches is told how much is left.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Files that are named when they can't be saved.
const NAMED_MAX: usize = 20;

/// Tries once to save everything, telling how much is left; answers what could not be saved.
pub(super) async fn save(drive: &Drive, link: &Link) -> Unsaved {
    let mut told = Unsaved::default();
    let saving = drive.save_all();
    tokio::pin!(saving);
    loop {
        let left = drive.unsaved();
        if left.files + left.removals > 0 && left != told {
            link.tell(Event::Saving(left.into()));
            told = left;
        }
        if let Ok(unsaved) = tokio::time::timeout(TELL_EVERY, &mut saving).await {
            return unsaved;
        }
    }
}

/// Tries to save everything before a mount ends by force, and no longer than that takes from a server that is there.
pub(super) async fn save_at_once(drive: &Drive, link: &Link) -> Unsaved {
    let saved = tokio::time::timeout(AT_ONCE, save(drive, link)).await;
    saved.unwrap_or_else(|_| drive.unsaved())
}

/// Saves everything, trying again until `deadline`; answers what could not be saved.
pub(super) async fn save_until(deadline: Instant, drive: &Drive, link: &Link) -> Unsaved {
    let tries = async {
        while !save(drive, link).await.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let _ = tokio::time::timeout_at(deadline, tries).await;
    drive.unsaved()
}

/// What is not saved, for people.
pub(super) fn shown(unsaved: Unsaved) -> String {
    let files = if unsaved.files == 1 { "file" } else { "files" };
    format!("{} {files}, {}", unsaved.files, size::show(unsaved.bytes))
}

/// The files that are not saved, one a line, and why, where that is known.
pub(super) fn named(drive: &Drive) -> String {
    let errors = drive.errors();
    let paths = drive.unsaved_paths();
    let mut lines: String = paths
        .iter()
        .take(NAMED_MAX)
        .map(|path| {
            let path = path.display().to_string();
            let why = errors
                .iter()
                .filter(|error| error.kind == "unsaved")
                .find_map(|error| error.message.strip_prefix(&path).filter(|why| why.starts_with(':')));
            format!("\n  {}{}", Line::of(&path), visible(why.unwrap_or_default()))
        })
        .collect();
    if paths.len() > NAMED_MAX {
        lines.push_str(&format!("\n  and {} more", paths.len() - NAMED_MAX));
    }
    lines
}
