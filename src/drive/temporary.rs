//! Names for what is not finished yet, and which of them are debris.
//!
//! A temporary name is `.scaup-MACHINE-PID.~RANDOM`: Cryptomator and the Nextcloud client ignore names that
//! begin with `.` and hold `.~`, so nobody sees or syncs half a file. Machine and process tell whose it is:
//! debris is what a process of this machine and user left that is not alive any more, and what this process gave up and could not remove.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::error::DriveError;
use crate::remote::{RemoteError, RemoteListing, RemoteName, RemotePath};

const PREFIX: &str = ".scaup-";
/// Bytes that tell a machine, user and process namespace from all others: what they decide is deleted.
const MACHINE_LEN: usize = 8;
/// Most names that are remembered as abandoned: more are debris only when this process has ended.
const ABANDONED_MAX: usize = 10_000;

/// A fresh temporary name.
pub(super) fn name() -> Result<RemoteName, DriveError> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| DriveError::Random(error.to_string()))?;
    let name = format!("{PREFIX}{}-{}.~{}", machine(), std::process::id(), HEXLOWER.encode(&random));
    RemoteName::parse(name.as_bytes()).ok_or(DriveError::Invalid)
}

/// A second temporary path that always belongs to the first one, in the same directory.
pub(super) fn beside(temporary: &RemotePath) -> Option<RemotePath> {
    let (directory, name) = temporary.split()?;
    Some(directory.join(&RemoteName::parse(&[name.as_bytes(), b"+"].concat())?))
}

/// Whether `name` is a temporary name of any Scaup: not to be shown.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    owner(name).is_some()
}

/// Debris among what was listed, some of it: the next listing finds the rest.
pub(super) fn debris_in(listed: &RemoteListing) -> Vec<RemoteName> {
    /// So much is removed at a time: a server can make up any number of such names.
    const AT_ONCE: usize = 256;
    let debris = listed.records().filter(|record| is_debris(record.name));
    debris.filter_map(|record| RemoteName::parse(record.name)).take(AT_ONCE).collect()
}

/// What has been given up could not be removed: from now on it is debris.
pub(super) fn abandon(path: &RemotePath, error: &RemoteError) {
    if *error == RemoteError::NotFound {
        return;
    }
    tracing::debug!(errno = DriveError::from(error.clone()).errno(), "left something unfinished behind");
    let mut abandoned = abandoned();
    if let Some((_, name)) = path.split()
        && is_temporary(name.as_bytes())
        && abandoned.len() < ABANDONED_MAX
    {
        abandoned.insert(name.as_bytes().to_vec());
    }
}

fn abandoned() -> MutexGuard<'static, BTreeSet<Vec<u8>>> {
    static ABANDONED: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nobody needs `name` any more: a process of this machine left it that is gone, or this one abandoned it.
pub(super) fn is_debris(name: &[u8]) -> bool {
    owner(name).is_some_and(|(machine_of, pid)| machine_of == machine() && !is_alive(pid))
        || abandoned().contains(name)
}

fn owner(name: &[u8]) -> Option<(&str, u32)> {
    let rest = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    let (owner, _random) = rest.split_once(".~")?;
    let (machine, pid) = owner.split_once('-')?;
    Some((machine, pid.parse().ok()?))
}

/// A process that has ended may still be listed, as long as its parent has not asked how (`Z` or `X` in proc_pid_stat(5)).
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    // Behind the program's name, which may hold anything, stands the state.
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Sixteen hexadecimal digits for the processes that can be told dead or alive from here (`machine-id(5)` asks not to
/// show the id itself), or random ones for this process where they can't be, so that nothing is ever taken for ours by
/// mistake.
fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let mut bytes = [0; MACHINE_LEN];
        match seen_from_here() {
            Some(here) => bytes = digest(&here),
            // Without randomness the digits are zeros, and `name` fails by itself.
            None => drop(getrandom::fill(&mut bytes)),
        }
        HEXLOWER.encode(&bytes)
    })
}

/// Four hexadecimal digits that tell this machine's names from those of others that make names in the same second.
pub(super) fn machine_mark() -> &'static str {
    machine().get(..4).unwrap_or_default()
}

/// What tells this machine, user and process namespace from others. The machine's id alone does not: machines are made from one image,
/// containers have their host's, and `/proc` may hide what other users run (`hidepid`).
fn seen_from_here() -> Option<Vec<u8>> {
    // Else `/proc` numbers processes as another namespace does.
    let own = std::fs::read_link("/proc/self").ok()?;
    if own.as_os_str() != std::process::id().to_string().as_str() {
        return None;
    }
    let id = std::fs::read("/etc/machine-id").ok().filter(|id| id.len() >= 32)?;
    let host = std::fs::read("/proc/sys/kernel/hostname").ok()?;
    let processes = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let user = rustix::process::getuid().as_raw().to_string();
    Some([id.as_slice(), &host, processes.as_os_str().as_bytes(), user.as_bytes()].join(&0))
}

/// The beginning of SHA-256: long enough that no two machines have the same by chance, since one would delete what the
/// other still needs.
fn digest(bytes: &[u8]) -> [u8; MACHINE_LEN] {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    std::array::from_fn(|at| whole[at])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ours_are_hidden_but_no_debris_while_we_live() {
        let ours = name().unwrap();
        assert!(is_temporary(ours.as_bytes()));
        assert!(!is_debris(ours.as_bytes()));
    }

    #[test]
    fn the_digest_is_the_beginning_of_sha_256() {
        // FIPS 180-4, the example "abc".
        assert_eq!(HEXLOWER.encode(&digest(b"abc")), "ba7816bf8f01cfea");
        assert_eq!(HEXLOWER.encode(&digest(b"")), "e3b0c44298fc1c14");
    }

    #[test]
    fn this_machine_is_the_same_for_every_process_of_its_user() {
        assert_eq!(seen_from_here().unwrap(), seen_from_here().unwrap());
        assert_eq!(machine(), HEXLOWER.encode(&digest(&seen_from_here().unwrap())));
    }

    #[test]
    fn what_was_abandoned_is_debris_while_we_live() {
        let ours = name().unwrap();
        let path = RemotePath::root().join(&ours);
        abandon(&path, &RemoteError::NotFound);
        assert!(!is_debris(ours.as_bytes()));
        abandon(&path, &RemoteError::Disconnected("cut".to_owned()));
        assert!(is_debris(ours.as_bytes()));
    }

    #[test]
    fn a_process_that_has_ended_is_dead_though_nobody_asked_how() {
        let mut child =
            std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let name = format!(".scaup-{}-{}.~00", machine(), child.id());
        // Its output ends with it.
        std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        while !is_debris(name.as_bytes()) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_dead_process_of_this_machine_leaves_debris_and_other_machines_do_not() {
        assert!(is_debris(format!(".scaup-{}-4294967294.~00", machine()).as_bytes()));
        assert!(!is_debris(b".scaup-zzzzzzzz-4294967294.~00"));
        assert!(!is_temporary(b".document.odt.~1f2e3d"));
        assert!(!is_temporary(b"scaup-notes.txt"));
    }
}
