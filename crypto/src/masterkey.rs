//! Keys, in memory that is not swapped out or dumped.

use std::ops::{Deref, DerefMut};

use scaup_memory::keep_out_of_swap;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::{RandomError, fill_random};

/// Bytes of every key of the format: the two of a vault, and the content key of a file.
pub(crate) const KEY_LEN: usize = 32;

/// One key.
pub(crate) type Key = [u8; KEY_LEN];

/// `N` keys in a place of their own on the heap: moving their owner leaves no copy behind. Locked into memory as far as
/// the system allows, and wiped on drop.
pub(crate) struct LockedKeys<const N: usize>(Box<[Key; N]>);

impl<const N: usize> LockedKeys<N> {
    /// Locked memory, to be filled in place so that no copy of the keys stays elsewhere.
    pub(crate) fn zeros() -> Self {
        let keys = Box::new([[0; KEY_LEN]; N]);
        keep_out_of_swap(keys.as_flattened());
        Self(keys)
    }

    /// Fresh random keys.
    pub(crate) fn random() -> Result<Self, RandomError> {
        let mut keys = Self::zeros();
        fill_random(keys.as_flattened_mut())?;
        Ok(keys)
    }
}

impl<const N: usize> Deref for LockedKeys<N> {
    type Target = [Key; N];

    fn deref(&self) -> &[Key; N] {
        &self.0
    }
}

impl<const N: usize> DerefMut for LockedKeys<N> {
    fn deref_mut(&mut self) -> &mut [Key; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for LockedKeys<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The two keys of a vault: one encrypts, one authenticates. Locked into memory, and wiped on drop.
pub struct Masterkey {
    /// The encryption key, then the MAC key.
    keys: LockedKeys<2>,
}

impl Masterkey {
    /// Fresh random keys.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self, RandomError> {
        Ok(Self { keys: LockedKeys::random()? })
    }

    /// The encryption key, then the MAC key.
    pub(crate) fn from_keys(keys: LockedKeys<2>) -> Self {
        Self { keys }
    }

    /// Whether these are the same keys.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.raw().ct_eq(other.raw()).into()
    }

    /// All 64 bytes, `encKey || macKey`: what signs the vault config (section 3).
    pub(crate) fn raw(&self) -> &[u8] {
        self.keys.as_flattened()
    }

    /// The key that encrypts file headers (and half of the AES-SIV key).
    pub(crate) fn encryption_key(&self) -> &Key {
        let [encryption_key, _] = &*self.keys;
        encryption_key
    }

    /// The key that authenticates (and the other half of the AES-SIV key).
    pub(crate) fn mac_key(&self) -> &Key {
        let [_, mac_key] = &*self.keys;
        mac_key
    }
}

impl Clone for Masterkey {
    fn clone(&self) -> Self {
        let mut keys = LockedKeys::zeros();
        keys.as_flattened_mut().copy_from_slice(self.raw());
        Self { keys }
    }
}

impl std::fmt::Debug for Masterkey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Masterkey(..)")
    }
}

#[cfg(test)]
mod tests {
    use aes_gcm::Aes256Gcm;
    use aes_kw::KwAes256;
    use aes_siv::siv::Aes256Siv;
    use ctr::Ctr128BE;
    use sha2::{Sha256, Sha384, Sha512};
    use zeroize::ZeroizeOnDrop;

    use super::*;

    /// Each cipher keeps a copy of its key, or what the key can be computed from.
    #[test]
    fn every_cipher_wipes_its_key() {
        fn wipes<T: ZeroizeOnDrop>() {}
        wipes::<Aes256Gcm>();
        wipes::<Aes256Siv>();
        wipes::<KwAes256>();
        wipes::<Ctr128BE<aes::Aes256>>();
        // HMAC keeps its key only as states of its hash.
        wipes::<Sha256>();
        wipes::<Sha384>();
        wipes::<Sha512>();
    }

    #[test]
    fn keys_are_locked_into_memory() {
        let locked = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap_or_default().to_owned();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok())
        };
        let key = LockedKeys::<1>::zeros();
        assert!(locked() > Some(0), "no locked memory");
        drop(key);
    }
}
