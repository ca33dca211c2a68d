//! The raw masterkey, in memory that is not swapped out or dumped.

use std::ptr::NonNull;

use zeroize::Zeroize;

use crate::{RandomError, fill_random};

/// Bytes of each of the two keys.
pub(crate) const KEY_LEN: usize = 32;

/// The two keys of a vault: one encrypts, one authenticates.
///
/// Kept in one place on the heap, locked into memory as far as the system allows, and wiped on drop.
pub struct Masterkey {
    bytes: Box<[u8; 2 * KEY_LEN]>,
}

impl Masterkey {
    /// Fresh random keys.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self, RandomError> {
        let mut key = Self::zeros();
        fill_random(&mut *key.bytes)?;
        Ok(key)
    }

    /// Locked memory, to be filled in place so that no copy of the keys stays elsewhere.
    pub(crate) fn zeros() -> Self {
        let bytes = Box::new([0; 2 * KEY_LEN]);
        lock_memory(bytes.as_slice());
        Self { bytes }
    }

    /// Raw keys, the encryption key first.
    pub(crate) fn halves_mut(&mut self) -> (&mut [u8], &mut [u8]) {
        self.bytes.split_at_mut(KEY_LEN)
    }

    /// All 64 bytes, `encKey || macKey`: what signs the vault config (section 3).
    pub(crate) fn raw(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The key that encrypts file headers (and half of the AES-SIV key).
    pub(crate) fn encryption_key(&self) -> &[u8] {
        self.bytes.split_at(KEY_LEN).0
    }

    /// The key that authenticates (and the other half of the AES-SIV key).
    pub(crate) fn mac_key(&self) -> &[u8] {
        self.bytes.split_at(KEY_LEN).1
    }
}

impl Drop for Masterkey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::fmt::Debug for Masterkey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Masterkey(..)")
    }
}

/// Keeps the page of `bytes` out of swap. Best effort: a small `RLIMIT_MEMLOCK` is no reason not to open a vault, and core dumps
/// are switched off for the whole process elsewhere. The page is never unlocked, since other keys may share it.
#[allow(unsafe_code)]
fn lock_memory(bytes: &[u8]) {
    let start = NonNull::from(bytes).cast::<std::ffi::c_void>();
    // SAFETY: the range is a live allocation, and locking it does not change its content.
    let _ = unsafe { rustix::mm::mlock(start.as_ptr(), bytes.len()) };
}
