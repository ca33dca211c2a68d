//! The one-time codes that were sent by any process of the user: a server accepts a code once (RFC 6238, section 5.2),
//! counts a second use as a failed login, and a code that one server has seen must not go to another.
//!
//! The codes themselves are not kept. The directory for sockets, in memory on most systems, holds a hash of each, and
//! nothing of where it was sent. A reader of the file who tries all million codes (half a day, by the cost of a hash)
//! learns a code that was used.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::paths;
use crate::config::private_directory::PrivateDirectory;

/// How long a code stays the same (RFC 6238's default), seconds.
const STEP: u64 = 30;

/// The name of the file.
const NAME: &str = "codes-sent";

/// Longest part of the file that is read, bytes: more than it ever has.
const LEN_MAX: u64 = 256 * 1024;

/// Most codes that are remembered.
const CODES_MAX: usize = 256;

/// How long codes are remembered, seconds. After that no server accepts them.
const REMEMBERED: u64 = 24 * 60 * 60;

/// The cost of a hash (RFC 7914): 16 MiB, and some 40 ms.
const SCRYPT: (u8, u32, u32) = (14, 8, 1);

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
struct Sent {
    salt: String,
    codes: Vec<SentCode>,
}

/// A code that was sent.
#[derive(Serialize, Deserialize)]
struct SentCode {
    /// Since 1970, seconds.
    at: u64,
    hash: String,
}

/// The codes that were sent.
#[derive(Clone)]
pub(super) struct CodeLedger {
    directory: Arc<PrivateDirectory>,
}

impl CodeLedger {
    /// Returns the ledger that all processes of the user share.
    pub(super) fn of_user() -> io::Result<Self> {
        Ok(Self { directory: Arc::new(paths::runtime()?) })
    }

    /// Marks a code that is about to be sent; returns `false` if it was marked before, and must not be sent.
    ///
    /// Checking and marking are one step: of two processes that were given the same code at once, only one sends it.
    pub(super) async fn mark(&self, code: Zeroizing<String>) -> io::Result<bool> {
        self.look(code, true).await
    }

    /// Returns whether a code was sent.
    pub(super) async fn was_sent(&self, code: Zeroizing<String>) -> io::Result<bool> {
        self.look(code, false).await.map(|is_new| !is_new)
    }

    async fn look(&self, code: Zeroizing<String>, mark: bool) -> io::Result<bool> {
        let ledger = self.clone();
        tokio::task::spawn_blocking(move || ledger.look_now(&code, mark)).await.map_err(io::Error::other)?
    }

    /// Returns whether a code is new, and with `mark` marks it.
    fn look_now(&self, code: &str, mark: bool) -> io::Result<bool> {
        let mut file = self.open()?;
        file.lock()?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(LEN_MAX).read_to_end(&mut bytes)?;
        // A damaged file is replaced by a new one.
        let mut sent: Sent = serde_json::from_slice(&bytes).unwrap_or_default();
        if sent.salt.is_empty() {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(io::Error::other)?;
            sent = Sent { salt: HEXLOWER.encode(&salt), codes: Vec::new() };
        }
        let (hash, now) = (hash(code, &sent.salt)?, now().as_secs());
        // Setting the clock back does not make a code younger.
        sent.codes.retain(|code| now.saturating_sub(code.at) < REMEMBERED);
        if sent.codes.iter().any(|code| code.hash == hash) {
            return Ok(false);
        }
        if !mark {
            return Ok(true);
        }
        let too_many = (sent.codes.len() + 1).saturating_sub(CODES_MAX);
        sent.codes.drain(..too_many);
        sent.codes.push(SentCode { at: now, hash });
        let bytes = serde_json::to_vec(&sent)?;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&bytes)?;
        Ok(true)
    }

    fn open(&self) -> io::Result<File> {
        self.directory.open(NAME, OFlags::RDWR | OFlags::CREATE)
    }
}

fn hash(code: &str, salt: &str) -> io::Result<String> {
    let (log_n, r, p) = SCRYPT;
    let cost = scrypt::Params::new(log_n, r, p).map_err(io::Error::other)?;
    let mut hash = [0; 16];
    scrypt::scrypt(code.as_bytes(), salt.as_bytes(), &cost, &mut hash).map_err(io::Error::other)?;
    Ok(HEXLOWER.encode(&hash))
}

/// Returns how long it takes until codes change.
pub(super) fn until_next() -> Duration {
    Duration::from_secs(STEP - now().as_secs() % STEP)
}

/// Returns the time since 1970.
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    /// Returns a ledger in this directory.
    pub(crate) fn ledger(directory: &Path) -> CodeLedger {
        CodeLedger { directory: Arc::new(PrivateDirectory::at(directory).unwrap()) }
    }

    #[test]
    fn a_code_is_marked_once_by_whomever_and_is_not_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (ledger(directory.path()), ledger(directory.path()));
        assert!(first.look_now("123456", true).unwrap());
        assert!(!first.look_now("123456", true).unwrap());
        assert!(!second.look_now("123456", true).unwrap());
        // A lookup marks nothing.
        assert!(second.look_now("654321", false).unwrap() && !second.look_now("123456", false).unwrap());
        assert!(second.look_now("654321", true).unwrap());
        assert!(!first.look_now("654321", true).unwrap());
        let kept = std::fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert!(!kept.contains("123456") && !kept.contains("654321"), "{kept}");
        // A hash is of no use in another directory, and can't be made from the code alone.
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(ledger(elsewhere.path()).look_now("123456", true).unwrap());
        let other = std::fs::read_to_string(elsewhere.path().join(NAME)).unwrap();
        let hash = |text: &str| serde_json::from_str::<Sent>(text).unwrap().codes[0].hash.clone();
        assert_ne!(hash(&kept), hash(&other));
    }

    #[test]
    fn of_all_who_mark_a_code_at_once_one_may_send_it() {
        let directory = tempfile::tempdir().unwrap();
        let marked: Vec<bool> = std::thread::scope(|scope| {
            let marking: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| ledger(directory.path()).look_now("123456", true).unwrap()))
                .collect();
            marking.into_iter().map(|marking| marking.join().unwrap()).collect()
        });
        assert_eq!(marked.iter().filter(|marked| **marked).count(), 1);
    }

    #[test]
    fn codes_are_forgotten_when_they_are_old_or_many_and_a_damaged_file_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (ledger, file) = (ledger(directory.path()), directory.path().join(NAME));
        assert!(ledger.look_now("123456", true).unwrap());
        let mut sent: Sent = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        sent.codes[0].at -= REMEMBERED;
        sent.codes.extend((0..2 * CODES_MAX).map(|n| SentCode { at: now().as_secs(), hash: n.to_string() }));
        std::fs::write(&file, serde_json::to_vec(&sent).unwrap()).unwrap();
        assert!(ledger.look_now("123456", true).unwrap());
        let sent: Sent = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(sent.codes.len(), CODES_MAX);
        std::fs::write(&file, "{").unwrap();
        assert!(ledger.look_now("123456", true).unwrap() && !ledger.look_now("123456", true).unwrap());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::os::unix::fs::symlink(&target, directory.path().join(NAME)).unwrap();
        assert!(ledger(directory.path()).look_now("123456", true).is_err());
        assert!(!target.exists());
    }
}
