//! `masterkey.cryptomator`: the masterkey, wrapped by a password (section 2).

use aes_kw::{KeyInit, KwAes256};
use data_encoding::BASE64;
use hmac::{Hmac, Mac};
use scrypt::Params;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::masterkey::{KEY_LEN, Key, LockedKeys, Masterkey};
use crate::stack::wiped_after;
use crate::{RandomError, fill_random};

/// Most that scrypt's N times r may be for a vault: 8 times the work of Cryptomator's own parameters, and as much of
/// their memory, which is 128 bytes for each.
const SCRYPT_COST_MAX: u64 = 8 * SCRYPT_N as u64 * SCRYPT_R as u64;
/// Largest block size r, since scrypt needs some memory that depends on it alone.
const SCRYPT_R_MAX: u32 = 1024;

/// Cost parameter N that new masterkey files get, and its logarithm.
const SCRYPT_N: u32 = 1 << SCRYPT_LOG_N;
const SCRYPT_LOG_N: u8 = 15;
/// Block size r that new masterkey files get.
const SCRYPT_R: u32 = 8;
/// Logarithm of the largest cost parameter N that is allowed with this block size.
const SCRYPT_LOG_N_MAX: u8 = SCRYPT_LOG_N + 3;

/// A wrapped key: RFC 3394 adds 8 bytes.
const WRAPPED_KEY_LEN: usize = KEY_LEN + 8;

/// The last format that keeps its version here rather than in the vault config; only up to it `versionMac` means
/// anything.
const LAST_FORMAT_WITH_VERSION: u32 = 7;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    version: u32,
    scrypt_salt: String,
    scrypt_cost_param: u32,
    scrypt_block_size: u32,
    primary_master_key: String,
    hmac_master_key: String,
    version_mac: String,
}

/// A parsed masterkey file. Nothing in it is believed until it was unlocked, but what unlocking costs is bounded.
#[derive(Debug, Clone)]
pub struct MasterkeyFile {
    version: u32,
    salt: Vec<u8>,
    params: Params,
    encryption_key: [u8; WRAPPED_KEY_LEN],
    mac_key: [u8; WRAPPED_KEY_LEN],
    version_mac: Vec<u8>,
}

/// Why a masterkey file can't be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterkeyFileError {
    /// Not JSON, or a member is missing or of the wrong type.
    #[error("the masterkey file is damaged ({0}); restore it from its .bkup copy")]
    Malformed(String),
    /// A member holds no base64, or bytes of the wrong number.
    #[error("the masterkey file is damaged ({0} has the wrong form); restore it from its .bkup copy")]
    BadMember(&'static str),
    /// The file asks for an absurd amount of work.
    #[error(
        "the masterkey file asks for scrypt parameters that are far too large or not valid (N = {cost}, r = {block_size}); restore it from its .bkup copy"
    )]
    TooCostly {
        /// Cost parameter N.
        cost: u32,
        /// Block size r.
        block_size: u32,
    },
}

/// Why a masterkey file can't be unlocked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// The password is wrong, or the wrapped keys are damaged: the two look the same.
    #[error("wrong password")]
    WrongPassword,
    /// The version number was changed by somebody who does not know the password.
    #[error("the masterkey file's version number is not authentic; restore it from its .bkup copy")]
    VersionNotAuthentic,
}

impl MasterkeyFile {
    /// The version that files of format 8 have; it means nothing.
    pub const VERSION_OF_FORMAT_8: u32 = 999;

    /// Parses the file's bytes.
    ///
    /// # Errors
    ///
    /// If it is not what Cryptomator writes, or would take too long to unlock. Unknown members are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, MasterkeyFileError> {
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| MasterkeyFileError::Malformed(error.to_string()))?;
        let decode = |text: &str, name| {
            BASE64.decode(text.as_bytes()).map_err(|_| MasterkeyFileError::BadMember(name))
        };
        let key = |text: &str, name| {
            decode(text, name)?.try_into().map_err(|_| MasterkeyFileError::BadMember(name))
        };
        if json.version == 0 {
            return Err(MasterkeyFileError::BadMember("version"));
        }
        Ok(Self {
            version: json.version,
            salt: decode(&json.scrypt_salt, "scryptSalt")?,
            params: bounded_params(json.scrypt_cost_param, json.scrypt_block_size)?,
            encryption_key: key(&json.primary_master_key, "primaryMasterKey")?,
            mac_key: key(&json.hmac_master_key, "hmacMasterKey")?,
            version_mac: decode(&json.version_mac, "versionMac")?,
        })
    }

    /// The vault format for formats up to 7, and a number without meaning (999, 8) for format 8. Not authentic yet.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Derives the key from `password`, in any Unicode form, and unwraps the masterkey. Takes about a tenth of a second
    /// of CPU.
    ///
    /// # Errors
    ///
    /// [`UnlockError::WrongPassword`] is worth another try, the others are not.
    pub fn unlock(&self, password: &str) -> Result<Masterkey, UnlockError> {
        wiped_after(|| self.unwrap(password))
    }

    fn unwrap(&self, password: &str) -> Result<Masterkey, UnlockError> {
        let kek = KwAes256::new((&*derive_kek(password, &self.salt, &self.params)).into());
        let mut keys = LockedKeys::zeros();
        let [encryption_key, mac_key] = &mut *keys;
        kek.unwrap_key(&self.encryption_key, encryption_key).map_err(|_| UnlockError::WrongPassword)?;
        kek.unwrap_key(&self.mac_key, mac_key).map_err(|_| UnlockError::WrongPassword)?;
        let masterkey = Masterkey::from_keys(keys);
        if self.version <= LAST_FORMAT_WITH_VERSION && !self.is_authentic(&masterkey) {
            return Err(UnlockError::VersionNotAuthentic);
        }
        Ok(masterkey)
    }

    /// Whether the file's version number was authenticated with these keys: tells for formats up to 7 whether they are
    /// the vault's, without a password.
    #[must_use]
    pub fn is_authentic(&self, masterkey: &Masterkey) -> bool {
        wiped_after(|| version_mac(masterkey, self.version).ct_eq(&self.version_mac).into())
    }

    /// Wraps `masterkey` with `password` and gives the bytes of a new file, as Cryptomator writes it.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness for the salt.
    pub fn create(masterkey: &Masterkey, password: &str, version: u32) -> Result<Vec<u8>, RandomError> {
        Self::wrap(masterkey, password, version, SCRYPT_LOG_N)
    }

    /// Wraps `masterkey` with a `password` and gives the bytes of the file of this `version` that takes this one's
    /// place: with at least its cost parameter N as far as new files may have it.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness for the salt.
    pub fn rewrap(
        &self,
        masterkey: &Masterkey,
        password: &str,
        version: u32,
    ) -> Result<Vec<u8>, RandomError> {
        let log_n = self.params.log_n().clamp(SCRYPT_LOG_N, SCRYPT_LOG_N_MAX);
        Self::wrap(masterkey, password, version, log_n)
    }

    fn wrap(masterkey: &Masterkey, password: &str, version: u32, log_n: u8) -> Result<Vec<u8>, RandomError> {
        let mut salt = [0; 8];
        fill_random(&mut salt)?;
        Ok(wiped_after(|| Self::wrap_with_salt(masterkey, password, version, log_n, &salt)))
    }

    fn wrap_with_salt(
        masterkey: &Masterkey,
        password: &str,
        version: u32,
        log_n: u8,
        salt: &[u8],
    ) -> Vec<u8> {
        let params = Params::new(log_n, SCRYPT_R, 1)
            .unwrap_or_else(|error| unreachable!("parameters that files may have: {error}"));
        let kek = KwAes256::new((&*derive_kek(password, salt, &params)).into());
        let wrap = |key: &Key| {
            let mut wrapped = [0; WRAPPED_KEY_LEN];
            kek.wrap_key(key, &mut wrapped)
                .unwrap_or_else(|error| unreachable!("a key of the right length: {error}"));
            BASE64.encode(&wrapped)
        };
        let json = Json {
            version,
            scrypt_salt: BASE64.encode(salt),
            scrypt_cost_param: 1 << log_n,
            scrypt_block_size: SCRYPT_R,
            primary_master_key: wrap(masterkey.encryption_key()),
            hmac_master_key: wrap(masterkey.mac_key()),
            version_mac: BASE64.encode(&version_mac(masterkey, version)),
        };
        serde_json::to_vec_pretty(&json)
            .unwrap_or_else(|error| unreachable!("numbers and text are always JSON: {error}"))
    }
}

/// Parameters that take neither too much memory nor too much time, checked before any of it is spent.
fn bounded_params(cost: u32, block_size: u32) -> Result<Params, MasterkeyFileError> {
    let too_costly = MasterkeyFileError::TooCostly { cost, block_size };
    let sane = cost > 1
        && cost.is_power_of_two()
        && (1..=SCRYPT_R_MAX).contains(&block_size)
        && u64::from(cost) * u64::from(block_size) <= SCRYPT_COST_MAX;
    match u8::try_from(cost.trailing_zeros()) {
        Ok(log_n) if sane => Params::new(log_n, block_size, 1).map_err(|_| too_costly),
        _ => Err(too_costly),
    }
}

/// The key that wraps the masterkey: scrypt over the NFC form of the password.
fn derive_kek(password: &str, salt: &[u8], params: &Params) -> Zeroizing<Key> {
    // NFC makes UTF-8 at most three times as long. A string that had to grow would leave a copy behind.
    let mut normalised = Zeroizing::new(String::with_capacity(3 * password.len()));
    normalised.extend(password.nfc());
    let mut kek = Zeroizing::new([0; KEY_LEN]);
    scrypt::scrypt(normalised.as_bytes(), salt, params, kek.as_mut_slice())
        .unwrap_or_else(|error| unreachable!("an output length that scrypt always allows: {error}"));
    kek
}

fn version_mac(masterkey: &Masterkey, version: u32) -> Vec<u8> {
    let mut mac = hmac(masterkey.mac_key());
    mac.update(&version.to_be_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// HMAC-SHA256.
pub(crate) fn hmac(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::content::tests::{vector, vector_bytes, vector_masterkey};

    #[test]
    fn the_vector_unlocks_and_is_written_the_same() {
        let file = vector("masterkey.json");
        let unlocked = MasterkeyFile::parse(file.as_bytes()).unwrap().unlock(&vector("password")).unwrap();
        assert_eq!(unlocked.raw(), vector_masterkey().raw());
        let written = MasterkeyFile::wrap_with_salt(
            &vector_masterkey(),
            &vector("password"),
            999,
            SCRYPT_LOG_N,
            &vector_bytes("scrypt.salt"),
        );
        assert_eq!(String::from_utf8(written).unwrap(), file);
    }

    #[test]
    fn the_kek_matches_the_vector() {
        let params = bounded_params(SCRYPT_N, SCRYPT_R).unwrap();
        let kek = derive_kek(&vector("password"), &vector_bytes("scrypt.salt"), &params);
        assert_eq!(kek.as_slice(), vector_bytes("scrypt.kek"));
    }

    #[test]
    fn the_password_may_come_in_any_unicode_form() {
        let file = MasterkeyFile::parse(vector("masterkey.json").as_bytes()).unwrap();
        let nfd: String = vector("password").nfd().collect();
        assert_ne!(nfd, vector("password"));
        file.unlock(&nfd).unwrap();
    }

    #[test]
    fn a_wrong_password_is_told_from_a_broken_file() {
        let file = vector("masterkey.json");
        let parsed = MasterkeyFile::parse(file.as_bytes()).unwrap();
        assert_eq!(parsed.unlock("wrong").unwrap_err(), UnlockError::WrongPassword);
        assert!(matches!(
            MasterkeyFile::parse(&file.as_bytes()[..60]),
            Err(MasterkeyFileError::Malformed(_))
        ));
    }

    #[test]
    fn absurd_costs_are_refused_before_a_password_is_asked_for() {
        let with = |cost: u32, block_size: u32| {
            let file = vector("masterkey.json")
                .replace("32768", &cost.to_string())
                .replace("\"scryptBlockSize\": 8", &format!("\"scryptBlockSize\": {block_size}"));
            MasterkeyFile::parse(file.as_bytes())
        };
        for (cost, block_size) in
            [(1 << 30, 8), (1 << 19, 8), (32767, 8), (0, 8), (1, 8), (32768, 0), (2, 1 << 30), (2, 1025)]
        {
            let error = with(cost, block_size).unwrap_err();
            assert_eq!(error, MasterkeyFileError::TooCostly { cost, block_size });
        }
        for (cost, block_size) in [(2, 1), (1 << 18, 8), (2, 1024)] {
            with(cost, block_size).unwrap();
        }
    }

    #[test]
    fn a_new_password_leaves_the_version_and_makes_nothing_cheaper() {
        let masterkey = vector_masterkey();
        for (log_n, kept, version) in [(10, 15, 7), (15, 15, 8), (16, 16, 999)] {
            let old = MasterkeyFile::wrap(&masterkey, "old", version, log_n).unwrap();
            let old = MasterkeyFile::parse(&old).unwrap();
            let new = MasterkeyFile::parse(&old.rewrap(&masterkey, "new", version).unwrap()).unwrap();
            assert_eq!((new.version(), new.params.log_n(), new.params.r()), (version, kept, 8));
            assert_ne!(new.salt, old.salt);
            assert_eq!(new.unlock("new").unwrap().raw(), masterkey.raw());
            assert_eq!(new.unlock("old").unwrap_err(), UnlockError::WrongPassword);
        }
        let largest = |r| bounded_params(1 << SCRYPT_LOG_N_MAX, r);
        assert!(largest(SCRYPT_R).is_ok() && largest(SCRYPT_R + 1).is_err());
        assert_eq!(bounded_params(1 << 21, 1).unwrap().log_n().clamp(SCRYPT_LOG_N, SCRYPT_LOG_N_MAX), 18);
    }

    #[test]
    fn up_to_format_7_the_version_must_be_authentic() {
        let masterkey = vector_masterkey();
        let seven = String::from_utf8(MasterkeyFile::create(&masterkey, "pass", 7).unwrap()).unwrap();
        MasterkeyFile::parse(seven.as_bytes()).unwrap().unlock("pass").unwrap();
        let six = seven.replace("\"version\": 7", "\"version\": 6");
        let error = MasterkeyFile::parse(six.as_bytes()).unwrap().unlock("pass").unwrap_err();
        assert_eq!(error, UnlockError::VersionNotAuthentic);
    }
}
