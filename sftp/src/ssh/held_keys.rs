//! Keys whose passphrase was given once, held for the next login.

use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::secret_key::SecretKey;

/// Most keys that are held: a login has few, and key files may change over time.
const KEYS_MAX: usize = 16;

/// Decrypted keys, so that a login after a lost connection asks for no passphrase.
#[derive(Default)]
pub struct HeldKeys(Mutex<Vec<HeldKey>>);

struct HeldKey {
    /// The content of the key file, encrypted: another content is another key.
    file: Zeroizing<String>,
    key: Arc<SecretKey>,
}

impl HeldKeys {
    /// Returns the key of a key file with this content, if it was decrypted before.
    pub(super) fn get(&self, file: &str) -> Option<Arc<SecretKey>> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|held| held.file.as_str() == file).map(|held| Arc::clone(&held.key))
    }

    /// Holds the key of a key file with this content.
    pub(super) fn hold(&self, file: &Zeroizing<String>, key: &Arc<SecretKey>) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() == KEYS_MAX {
            keys.remove(0);
        }
        keys.push(HeldKey { file: file.clone(), key: Arc::clone(key) });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use scaup_rig::{Key, KeyKind};

    use super::*;

    #[test]
    fn keys_of_every_kind_come_back_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let held = HeldKeys::default();
        for (number, kind) in KeyKind::ALL.into_iter().enumerate() {
            let made = Key::generate(&directory.path().join(number.to_string()), kind, "");
            let file = Zeroizing::new(std::fs::read_to_string(made.path()).unwrap());
            let key = SecretKey::decode(&file, None).unwrap();
            assert!(held.get(&file).is_none(), "it is not there yet");
            held.hold(&file, &key);
            assert!(Arc::ptr_eq(&held.get(&file).unwrap(), &key));
            assert!(held.get(&file.replacen('A', "B", 1)).is_none(), "another file has another key");
        }
    }

    #[test]
    fn keys_are_held_in_locked_memory() {
        let directory = tempfile::tempdir().unwrap();
        let made = Key::generate(&directory.path().join("key"), KeyKind::Ed25519, "");
        let key = SecretKey::decode(&std::fs::read_to_string(made.path()).unwrap(), None).unwrap();
        let held = HeldKeys::default();
        held.hold(&Zeroizing::new(String::new()), &key);
        // proc(5)
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        assert_ne!(locked.trim(), "0 kB");
    }

    #[test]
    fn no_more_than_a_few_are_held() {
        let held = HeldKeys::default();
        let directory = tempfile::tempdir().unwrap();
        let made = Key::generate(&directory.path().join("key"), KeyKind::Ed25519, "");
        let key = SecretKey::decode(&std::fs::read_to_string(made.path()).unwrap(), None).unwrap();
        for number in 0..=KEYS_MAX {
            held.hold(&Zeroizing::new(number.to_string()), &key);
        }
        assert!(held.get("0").is_none());
        assert!(held.get("1").is_some() && held.get(&KEYS_MAX.to_string()).is_some());
    }
}
