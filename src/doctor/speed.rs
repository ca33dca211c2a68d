//! How fast content comes from a server and goes there.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::server::shortest_round_trip;
use super::{Check, Group};
use crate::config::size;
use crate::remote::{Remote, RemoteAttributes, RemoteError, RemoteKind, RemoteOpen, RemotePath};
use crate::vault::temporary;

const GROUP: Group = Group::Server;

/// How much is read and written, bytes.
const SAMPLE: usize = 8 * 1024 * 1024;
/// The smallest file that tells something, bytes.
const SAMPLE_MIN: u64 = 1024 * 1024;
/// Most directories that are searched for a large file.
const SEARCHED_MAX: usize = 64;
/// A transfer that takes less than so many round trips mostly waits for them.
const ROUND_TRIPS_MIN: u32 = 5;
/// How wrong the server's clock may be: more, and it may refuse codes.
const CLOCK_MAX: Duration = Duration::from_secs(10);

/// Measures the speed. With `may_write`, a file is made for it in the target's directory, and removed again.
pub async fn checks(remote: &dyn Remote, may_write: bool) -> Vec<Check> {
    let round_trip = match shortest_round_trip(remote).await {
        Ok(took) => took,
        Err(error) => return vec![failed("speed", &error)],
    };
    let mut checks = vec![down(remote, round_trip).await];
    if may_write {
        checks.extend(up(remote, round_trip).await);
    } else {
        checks.push(GROUP.ok("speed up", "not measured: nothing may be written there"));
    }
    checks
}

fn failed(name: &'static str, error: &RemoteError) -> Check {
    GROUP.warning(
        name,
        format!("not measured: {error}"),
        "try again, or compare with `sftp` to the same server",
    )
}

async fn down(remote: &dyn Remote, round_trip: Duration) -> Check {
    let name = "speed down";
    let measured = async {
        let Some((path, length)) = large_file(remote).await else { return Ok(None) };
        let file = remote.open(&path, RemoteOpen::Read).await?;
        let begun = Instant::now();
        let read = file.read_at(0, length).await?;
        Ok(Some((read.len(), begun.elapsed())))
    };
    match measured.await {
        Ok(Some((length, took))) => GROUP.ok(name, rate(length, took, round_trip)),
        Ok(None) => {
            let least = size::show(SAMPLE_MIN);
            GROUP.ok(
                name,
                format!("not measured: no file of at least {least} was found in {SEARCHED_MAX} directories"),
            )
        }
        Err(error) => failed(name, &error),
    }
}

/// Returns the first file found that is as long as the sample, or else the longest one, and how much of it to read.
async fn large_file(remote: &dyn Remote) -> Option<(RemotePath, usize)> {
    let mut left = vec![RemotePath::root()];
    let mut longest: Option<(RemotePath, u64)> = None;
    for _ in 0..SEARCHED_MAX {
        let Some(directory) = left.pop() else { break };
        // What can't be listed holds no file that can be read.
        for entry in remote.list(&directory).await.unwrap_or_default() {
            let RemoteAttributes { kind, size, .. } = entry.attributes;
            match kind {
                RemoteKind::Directory => left.push(directory.join(&entry.name)),
                RemoteKind::File if longest.as_ref().is_none_or(|(_, length)| size > *length) => {
                    longest = Some((directory.join(&entry.name), size));
                }
                _ => {}
            }
        }
        if longest.as_ref().is_some_and(|(_, length)| *length >= SAMPLE as u64) {
            break;
        }
    }
    let (path, length) = longest.filter(|(_, length)| *length >= SAMPLE_MIN)?;
    Some((path, usize::try_from(length).unwrap_or(SAMPLE).min(SAMPLE)))
}

/// Writes a file under a temporary name and removes it. If this process is killed meanwhile, the next mount of the
/// directory removes it.
async fn up(remote: &dyn Remote, round_trip: Duration) -> Vec<Check> {
    let name = "speed up";
    let path = match temporary::name() {
        Ok(name) => RemotePath::root().join(&name),
        Err(error) => return vec![GROUP.warning(name, error.to_string(), "try again")],
    };
    // Content that a server's disk can't shorten.
    let mut content = vec![0; SAMPLE];
    if let Err(error) = getrandom::fill(&mut content) {
        return vec![GROUP.warning(name, format!("there are no random numbers: {error}"), "try again")];
    }
    // Ctrl-C ends the writing, and not the removal.
    let written = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => None,
        written = write(remote, &path, content.into()) => Some(written),
    };
    let removed = match remote.remove(&path).await {
        Ok(()) | Err(RemoteError::NotFound) => None,
        Err(error) => {
            let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
            let found = format!("{path} could not be removed from the target's directory: {error}");
            Some(GROUP.failed(name, found, format!("remove {path} from the target's directory")))
        }
    };
    let checks = match written {
        None => vec![GROUP.warning(name, "not measured: interrupted", "try again")],
        Some(Err(RemoteError::PermissionDenied | RemoteError::ReadOnly)) => {
            vec![GROUP.ok(name, "not measured: you may not write to the target's directory")]
        }
        Some(Err(error)) => vec![failed(name, &error)],
        Some(Ok(written)) => {
            vec![GROUP.ok(name, rate(SAMPLE, written.took, round_trip)), clock(&written)]
        }
    };
    checks.into_iter().chain(removed).collect()
}

/// A file that was written.
struct Written {
    took: Duration,
    /// When this machine began and ended to write it.
    between: (SystemTime, SystemTime),
    /// When it was written by the server's clock.
    modified: SystemTime,
}

async fn write(remote: &dyn Remote, path: &RemotePath, content: Bytes) -> Result<Written, RemoteError> {
    let file = remote.open(path, RemoteOpen::CreateNew(0o600)).await?;
    let (start, begun) = (SystemTime::now(), Instant::now());
    file.write_at(0, content).await?;
    match file.fsync().await {
        Ok(()) | Err(RemoteError::Unsupported(_)) => {}
        Err(error) => return Err(error),
    }
    let took = begun.elapsed();
    let modified = file.stat().await?.modified;
    file.close().await?;
    Ok(Written { took, between: (start, SystemTime::now()), modified })
}

/// Compares the server's clock with the one here.
fn clock(written: &Written) -> Check {
    let (start, end) = written.between;
    let behind = start.duration_since(written.modified).unwrap_or_default();
    let ahead = written.modified.duration_since(end).unwrap_or_default();
    let wrong = behind.max(ahead);
    if wrong <= CLOCK_MAX {
        return GROUP.ok("server's clock", "it agrees with the one here");
    }
    let side = if ahead > behind { "ahead of" } else { "behind" };
    GROUP.warning(
        "server's clock",
        format!("it is {} s {side} the one here; one-time codes may be refused", wrong.as_secs()),
        "let time servers set both clocks (here: timedatectl set-ntp true)",
    )
}

fn rate(length: usize, took: Duration, round_trip: Duration) -> String {
    let seconds = took.as_secs_f64().max(f64::EPSILON);
    #[allow(clippy::cast_precision_loss)]
    let megabytes = length as f64 / seconds / 1e6;
    let bound = if took < round_trip * ROUND_TRIPS_MIN {
        "mostly waiting for the round trip: more at a time goes faster"
    } else {
        "the line or the server bounds it, not the round trip"
    };
    format!("{megabytes:.1} MB/s over {} ({bound})", size::show(length as u64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::Verdict;
    use crate::remote::local::LocalRemote;

    #[tokio::test]
    async fn the_speed_is_measured_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let remote = LocalRemote::open(place.path()).unwrap();
        let found = checks(&remote, true).await;
        let names: Vec<&str> = found.iter().map(|check| check.name).collect();
        assert_eq!(names, ["speed down", "speed up", "server's clock"]);
        assert!(found[0].found.starts_with("not measured: no file"), "{found:?}");
        assert!(found[1].found.contains("MB/s"), "{found:?}");
        assert!(found.iter().all(|check| check.verdict == Verdict::Ok), "{found:?}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);

        std::fs::create_dir_all(place.path().join("a/b")).unwrap();
        std::fs::write(place.path().join("a/b/large"), vec![7; 2 << 20]).unwrap();
        let found = checks(&remote, false).await;
        assert!(found[0].found.contains("MB/s over 2"), "{found:?}");
        assert!(found[1].found.contains("nothing may be written"), "{found:?}");
    }

    #[test]
    fn a_clock_that_is_wrong_by_more_than_some_seconds_is_named() {
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        for (modified, words) in [
            (now, "agrees"),
            (now - 10 * second, "agrees"),
            (now + 15 * second, "agrees"),
            (now - 60 * second, "60 s behind"),
            (now + 65 * second, "60 s ahead"),
        ] {
            let written = Written { took: second, between: (now, now + 5 * second), modified };
            assert!(clock(&written).found.contains(words), "{words}: {:?}", clock(&written));
        }
    }

    #[test]
    fn a_short_transfer_says_that_it_waited_for_the_round_trip() {
        let milliseconds = Duration::from_millis;
        assert!(rate(SAMPLE, milliseconds(200), milliseconds(80)).contains("waiting"));
        assert!(rate(SAMPLE, milliseconds(2000), milliseconds(80)).contains("4.2 MB/s"));
        assert!(!rate(SAMPLE, milliseconds(2000), milliseconds(80)).contains("waiting"));
        rate(0, Duration::ZERO, Duration::ZERO);
    }
}
