//! Names for unfinished content, and which of them are debris.
//!
//! A temporary name is `.scaup-MACHINE-PID.~RANDOM`: Cryptomator and the Nextcloud client ignore names that begin with
//! `.` and hold `.~`, so nobody sees or syncs half a file. Machine and process tell the owner: debris is what a process
//! of this machine and user that is not alive any more has left, and what this process abandoned and could not remove.
//!
//! The node of a vault's directory that is being made is called `.scaup-MACHINE-PID.~RANDOM-ID`, with the
//! directory's id in hexadecimal digits: the content goes with it. The node of one that is being removed is called
//! `.scaup-MACHINE-PID.~RANDOM~ID`: the content goes with it once the node lies there. If the directory keeps another
//! name, as in a move, the node is called `.scaup-MACHINE-PID.~RANDOM=ID`. (The id is no secret of the vault: the
//! server has it in `dir.c9r`.)

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use data_encoding::HEXLOWER;
use scaup_crypto::DirectoryId;
use sha2::{Digest, Sha256};

use super::error::NodeError;
use crate::remote::{RemoteListing, RemoteName, RemotePath};

const PREFIX: &str = ".scaup-";
/// Bytes that tell a machine, user and process namespace from all others: they decide what is deleted.
const MACHINE_LEN: usize = 8;
/// Most names that are remembered as abandoned: any others are debris only when this process has ended.
const ABANDONED_MAX: usize = 10_000;

/// Longest directory id that fits into a name, bytes. Cryptomator's and ours have 36.
const ID_MAX: usize = 64;

/// What happens to a node that is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The node is removed. The content of a directory has another name, and stays.
    Alone,
    /// The node is removed, and with it the content of a directory.
    WithContent,
    /// The same once the node lies under the temporary name. Until then the directory has its own name.
    Emptied,
}

/// Returns a fresh temporary name.
pub(crate) fn name() -> Result<RemoteName, NodeError> {
    name_of("")
}

/// Whether the node of a directory tells by its temporary name which directory it is.
pub(crate) fn has_room_for(id: &DirectoryId) -> bool {
    id.as_bytes().len() <= ID_MAX
}

/// Returns a fresh temporary name for the node of a directory.
pub(crate) fn directory_name(id: &DirectoryId, fate: Fate) -> Result<RemoteName, NodeError> {
    if !has_room_for(id) {
        return name();
    }
    let mark = match fate {
        Fate::WithContent => '-',
        Fate::Emptied => '~',
        Fate::Alone => '=',
    };
    name_of(&format!("{mark}{}", HEXLOWER.encode(id.as_bytes())))
}

fn name_of(suffix: &str) -> Result<RemoteName, NodeError> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(NodeError::random)?;
    let name = format!("{PREFIX}{}.~{}{suffix}", process(), HEXLOWER.encode(&random));
    RemoteName::parse(name.as_bytes()).ok_or(NodeError::InvalidName)
}

/// Returns the directory whose node has this temporary name, and what becomes of its content.
pub(crate) fn directory_of(name: &[u8]) -> Option<(DirectoryId, Fate)> {
    let (_, random) = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?.split_once(".~")?;
    let fates = [('-', Fate::WithContent), ('~', Fate::Emptied), ('=', Fate::Alone)];
    let (id, fate) =
        fates.into_iter().find_map(|(mark, fate)| random.split_once(mark).map(|(_, id)| (id, fate)))?;
    let id = HEXLOWER.decode(id.as_bytes()).ok().filter(|id| id.len() <= ID_MAX)?;
    Some((DirectoryId::parse(&id).ok()?, fate))
}

/// Returns `MACHINE-PID` of this process.
pub(crate) fn process() -> String {
    format!("{}-{}", machine(), std::process::id())
}

/// Whether `MACHINE-PID` is a process of this machine and user that has ended.
pub(crate) fn has_ended(process: &str) -> bool {
    parse_process(process).is_some_and(|(of, pid)| of == machine() && !is_alive(pid))
}

fn parse_process(process: &str) -> Option<(&str, u32)> {
    let (machine, pid) = process.split_once('-')?;
    Some((machine, pid.parse().ok()?))
}

/// Returns a second temporary path that always belongs to the first one, in the same directory.
pub(crate) fn beside(temporary: &RemotePath) -> Option<RemotePath> {
    let (directory, name) = temporary.split()?;
    Some(directory.join(&RemoteName::parse(&[name.as_bytes(), b"+"].concat())?))
}

/// Whether `name` is a temporary name of any Scaup, which is not shown.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    owner(name).is_some()
}

/// Returns some of the debris in a listing: the next listing finds the rest.
pub(crate) fn debris_in(listed: &RemoteListing) -> Vec<RemoteName> {
    /// Names that are removed at a time: a server can make up any number of such names.
    const AT_ONCE: usize = 256;
    let debris = listed.records().filter(|record| is_debris(record.name));
    debris.filter_map(|record| RemoteName::parse(record.name)).take(AT_ONCE).collect()
}

/// Notes that abandoned content could not be removed: from now on it is debris.
pub(crate) fn abandon(path: &RemotePath, error: impl Into<NodeError>) {
    let error = error.into();
    if error.is_not_found() {
        return;
    }
    tracing::debug!(error = error.kind(), "left something unfinished behind");
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

/// Whether this process abandoned something that it could not remove.
pub(crate) fn has_abandoned() -> bool {
    !abandoned().is_empty()
}

/// Whether nobody needs `name` any more: an ended process of this machine left it, or this one abandoned it.
pub(crate) fn is_debris(name: &[u8]) -> bool {
    owner(name).is_some_and(has_ended) || abandoned().contains(name)
}

/// Returns the process that made a temporary name.
fn owner(name: &[u8]) -> Option<&str> {
    let rest = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    let (owner, _random) = rest.split_once(".~")?;
    parse_process(owner).map(|_| owner)
}

/// Whether a process is alive. One that has ended may still be listed, until its parent has waited for it (`Z` or `X`
/// in proc_pid_stat(5)).
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    // The state follows the program's name, which may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Returns sixteen hexadecimal digits for the processes that can be told dead or alive from here (`machine-id(5)` asks
/// not to show the id itself), or random ones for this process if they can't be, so that no name is ever taken for ours
/// by mistake.
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

/// Returns four hexadecimal digits that distinguish this machine's names from those that others make in the same
/// second.
pub(crate) fn machine_mark() -> &'static str {
    machine().get(..4).unwrap_or_default()
}

/// Returns what distinguishes this machine, user and process namespace from others. The machine's id alone does not:
/// machines are made from one image, containers have their host's, and `/proc` may hide other users' processes
/// (`hidepid`).
fn seen_from_here() -> Option<Vec<u8>> {
    // Otherwise `/proc` numbers processes as another namespace does.
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

/// Returns the beginning of SHA-256: long enough that no two machines have the same by chance, since one would delete
/// what the other still needs.
fn digest(bytes: &[u8]) -> [u8; MACHINE_LEN] {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    std::array::from_fn(|at| whole[at])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::remote::RemoteError;

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
        abandon(&path, RemoteError::NotFound);
        assert!(!is_debris(ours.as_bytes()));
        abandon(&path, RemoteError::Disconnected("cut".to_owned()));
        assert!(is_debris(ours.as_bytes()));
    }

    #[test]
    fn the_name_of_a_directorys_node_tells_which_directory_it_is() {
        let id = DirectoryId::random().unwrap();
        for fate in [Fate::WithContent, Fate::Emptied, Fate::Alone] {
            let name = directory_name(&id, fate).unwrap();
            assert!(is_temporary(name.as_bytes()));
            assert_eq!(directory_of(name.as_bytes()), Some((id.clone(), fate)));
        }
        assert_eq!(directory_of(super::name().unwrap().as_bytes()), None);
        let beside = beside(&RemotePath::root().join(&super::name().unwrap())).unwrap();
        assert_eq!(directory_of(beside.as_bytes()), None);
        // An id that does not fit into a name is left out.
        let long = DirectoryId::parse(&[b'a'; 1000]).unwrap();
        assert_eq!(directory_of(directory_name(&long, Fate::WithContent).unwrap().as_bytes()), None);
    }

    #[test]
    fn a_process_that_has_ended_is_dead_though_nobody_asked_how() {
        let mut child =
            std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let name = format!(".scaup-{}-{}.~00", machine(), child.id());
        // The process's output ends with it.
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
