//! `scaup vault conflicts`.

use clap::Args;
use scaup_crypto::ClientMark;
use scaup_sftp::text::Line;
use tokio::runtime::Runtime;

use super::check;
use super::error::CliError;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::SecretArguments;
use crate::check::{CheckOptions, Conflict};
use crate::config::size;

/// List what sync clients left in a vault for a person to decide; nothing is written.
///
/// Two people change a file while their machines can't see each other, and the sync client keeps both versions. Each
/// version beside another is listed with its path in a mount and on the server, its size and time, and what the
/// client's name for it tells about the other machine; so is what no mount shows and may be somebody's. Compare the
/// versions in a mount, keep one, and remove or rename the other there.
#[derive(Args)]
pub(super) struct ConflictsArguments {
    #[command(flatten)]
    location: VaultLocation,
    #[command(flatten)]
    secret: SecretArguments,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(runtime: &Runtime, arguments: &ConflictsArguments) -> Result<(), CliError> {
    let options = CheckOptions { content: false };
    let conflicts = check::report(runtime, &arguments.location, &arguments.secret, options)?.conflicts;
    if arguments.json {
        return screen::out_json(&conflicts);
    }
    conflicts.iter().for_each(show);
    match conflicts.len() {
        0 => screen::out("There is nothing to decide: no sync client has left a second version."),
        1 => screen::out("\n1 version waits for a decision."),
        count => screen::out(&format!("\n{count} versions wait for a decision.")),
    }
    Ok(())
}

fn show(conflict: &Conflict) {
    let path = Line::of(&conflict.path);
    match &conflict.cleartext {
        Some(cleartext) => screen::out(&format!("{}", Line::of(cleartext))),
        None => screen::out(&format!("({path})")),
    }
    screen::out(&format!("    {}", Line::of(&conflict.what)));
    if let Some(beside) = &conflict.beside {
        screen::out(&format!("    beside:    {}", Line::of(beside)));
    }
    screen::out(&format!("    on server: {path}"));
    let saved =
        conflict.modified.and_then(|seconds| jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
    let saved = saved
        .map(|saved| saved.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string());
    let size = conflict.size.map(size::show);
    let facts: Vec<String> = size.into_iter().chain(saved.map(|saved| format!("saved {saved}"))).collect();
    if !facts.is_empty() {
        screen::out(&format!("    {}", facts.join(", ")));
    }
    if let Some(mark) = &conflict.made_by {
        screen::out(&format!("    {}", Line::of(&told_by(mark))));
    }
}

/// Returns in words what a client's name for a version tells.
fn told_by(mark: &ClientMark) -> String {
    let ClientMark { client, machine, person, when } = mark;
    let mut words = format!("kept by {client}");
    for (word, what) in [("machine", machine), ("person", person), ("at", when)] {
        if let Some(what) = what {
            words.push_str(&format!(", {word} {what}"));
        }
    }
    words
}
