//! Saves everything before a mount ends, reports progress, and names what can't be saved.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use scaup_sftp::text::{Line, visible};
use tokio::sync::watch;
use tokio::time::Instant;

use super::front_end::FrontEnd;
use super::protocol::Event;
use crate::config::size;
use crate::drive::{Drive, Unsaved, UnsavedFile};
use crate::remote::Reachability;

/// How long all of ending may take before unsaved content is given up when no person can be asked: systemd kills a
/// process that has not ended after 90 s (`TimeoutStopSec`).
pub(super) const LAST_TRIES: Duration = Duration::from_secs(75);

/// How long saving may take where the user wants the end in any case.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Half of the time after which a waiting person is told that the server is silent.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// How often a waiting person is told how much is left.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Most files that are named when they can't be saved.
const NAMED_MAX: usize = 20;

/// Tries once to save everything, telling how much is left; returns what could not be saved.
pub(super) async fn save(drive: &Drive, front_end: &FrontEnd) -> Unsaved {
    let mut told = Unsaved::default();
    let saving = drive.save_all();
    tokio::pin!(saving);
    loop {
        let left = drive.unsaved();
        if left.files + left.removals > 0 && left != told {
            front_end.tell(Event::Saving(left.into()));
            told = left;
        }
        if let Ok(unsaved) = tokio::time::timeout(TELL_EVERY, &mut saving).await {
            return unsaved;
        }
    }
}

/// Saves like [`save`], but waits no longer than `most`. Saving goes on after that, or when no caller waits any more.
pub(super) async fn save_within(most: Duration, drive: Arc<Drive>, front_end: &FrontEnd) -> Unsaved {
    let saving = tokio::spawn({
        let (drive, front_end) = (Arc::clone(&drive), front_end.clone());
        async move { save(&drive, &front_end).await }
    });
    match tokio::time::timeout(most, saving).await {
        Ok(Ok(unsaved)) => unsaved,
        Ok(Err(_)) | Err(_) => drive.left_to_save(),
    }
}

/// Repeats [`save_within`] until everything is saved or `most` has passed.
pub(super) async fn save_again_within(most: Duration, drive: Arc<Drive>, front_end: &FrontEnd) -> Unsaved {
    let end = Instant::now() + most;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let unsaved = save_within(left, Arc::clone(&drive), front_end).await;
        if unsaved.is_none() || end <= Instant::now() {
            return unsaved;
        }
        tokio::time::sleep(Duration::from_secs(1).min(end.saturating_duration_since(Instant::now()))).await;
    }
}

/// Tells at once what is not saved if the server is out of reach, or as soon as it is; and after a while that the
/// server is silent.
pub(super) async fn tell_what_is_missing(
    drive: &Drive,
    reachability: Option<watch::Receiver<Reachability>>,
    front_end: &FrontEnd,
) -> Infallible {
    let Some(mut reachability) = reachability else { return std::future::pending().await };
    let tell = |why: &str| {
        let unsaved = drive.unsaved();
        if unsaved.files > 0 {
            let (unsaved, named) = (count_and_size(unsaved), named(drive));
            front_end.tell(Event::Progress(format!(
                "not saved yet: {unsaved}; {why}; waiting (after Ctrl-C it stays mounted){named}"
            )));
        }
    };
    let is_lost = |now: &Reachability| !matches!(now, Reachability::Connected);
    let lost = async { reachability.wait_for(is_lost).await.map(|lost| lost.clone()) };
    match tokio::time::timeout(SILENT_AFTER, lost).await {
        Ok(Ok(Reachability::Reconnecting(why) | Reachability::Waiting(why))) => {
            tell(&format!("the server can't be reached: {why}"));
        }
        Ok(_) => {}
        Err(_) => {
            let before = (drive.unsaved().bytes, drive.counters().remote.bytes_sent);
            tokio::time::sleep(SILENT_AFTER).await;
            if before == (drive.unsaved().bytes, drive.counters().remote.bytes_sent) {
                tell("the server does not answer");
            }
        }
    }
    std::future::pending().await
}

/// Tries to save everything before a mount ends by force, for no longer than a reachable server needs.
pub(super) async fn save_at_once(drive: &Drive, front_end: &FrontEnd) -> Unsaved {
    let saved = tokio::time::timeout(AT_ONCE, save(drive, front_end)).await;
    saved.unwrap_or_else(|_| drive.left_to_save())
}

/// Saves everything, trying again until `deadline`; returns what could not be saved.
pub(super) async fn save_until(deadline: Instant, drive: &Drive, front_end: &FrontEnd) -> Unsaved {
    let tries = async {
        while !save(drive, front_end).await.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let _ = tokio::time::timeout_at(deadline, tries).await;
    drive.left_to_save()
}

/// Describes what is not saved, for people.
pub(super) fn count_and_size(unsaved: Unsaved) -> String {
    let files = if unsaved.files == 1 { "file" } else { "files" };
    format!("{} {files}, {}", unsaved.files, size::show(unsaved.bytes))
}

/// Lists the files that are not saved, one a line, with the reason where it is known.
pub(super) fn named(drive: &Drive) -> String {
    let files = drive.unsaved_files();
    let mut lines: String = files
        .iter()
        .take(NAMED_MAX)
        .map(|UnsavedFile { path, why }| {
            let path = path.display().to_string();
            let why = why.as_ref().map_or_else(String::new, |why| format!(": {}", visible(why)));
            format!("\n  {}{why}", Line::of(&path))
        })
        .collect();
    if files.len() > NAMED_MAX {
        lines.push_str(&format!("\n  and {} more", files.len() - NAMED_MAX));
    }
    lines
}
