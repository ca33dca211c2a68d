//! `vault.cryptomator`: the signed vault config, a JSON Web Token (section 3).

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Sha256, Sha384, Sha512};

use crate::stack::wiped_after;
use crate::{CipherCombo, Masterkey};

/// The format this crate speaks that has a vault config.
const FORMAT: u32 = 8;

/// What a key id begins with when the key lies in a file of the vault.
const MASTERKEY_FILE_SCHEME: &str = "masterkeyfile:";

/// Sane shortening thresholds, in characters: a ciphertext name can't be shorter, and no file system's names are
/// longer.
const THRESHOLDS: std::ops::RangeInclusive<usize> = 28..=10_240;

#[derive(Deserialize)]
struct Header {
    kid: String,
    alg: String,
}

/// The one claim that every format has: what the others mean depends on it.
#[derive(Deserialize)]
struct FormatClaim {
    format: u32,
}

#[derive(Deserialize)]
struct IdClaim {
    jti: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    cipher_combo: String,
    shortening_threshold: usize,
}

/// A vault's config, verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultConfig {
    /// The vault format: 8, or 7 for vaults without a config file.
    pub format: u32,
    /// The ciphers.
    pub cipher_combo: CipherCombo,
    /// Ciphertext names longer than this many characters, `.c9r` included, are shortened.
    pub shortening_threshold: usize,
}

/// Why a vault config can't be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON Web Token of the expected form.
    #[error("damaged ({0}); restore it from vault.cryptomator.*.bkup")]
    Malformed(String),
    /// The keys come from a Cryptomator Hub.
    #[error("its keys are kept by a Cryptomator Hub, which Scaup does not ask; its recovery key opens it")]
    Hub,
    /// The key id names something else than a file of the vault.
    #[error("its key id {0:?} is not a file name in the vault; the config is not trustworthy")]
    ForeignKeyId(String),
    /// The token is signed in a way that is not accepted, or not at all.
    #[error("signature algorithm {0:?} is not accepted; the config is not trustworthy")]
    Algorithm(String),
    /// The signature was not made with this vault's keys.
    #[error(
        "its signature does not match: the masterkey does not belong to this vault, or the config was changed"
    )]
    WrongKey,
    /// A format from the future.
    #[error("created by a newer Cryptomator (vault format {0}); update Scaup")]
    NewerFormat(u32),
    /// A format that has no config file.
    #[error("vault format {0} can't have a config file; the config is invalid")]
    InvalidFormat(u32),
    /// A claim is missing or holds what is not known.
    #[error("{0}")]
    Claim(String),
}

/// A vault config whose signature was not checked: only good for finding the key, and for showing.
#[derive(Debug, Clone)]
pub struct UnverifiedConfig {
    signed: String,
    signature: Vec<u8>,
    algorithm: String,
    key_id: String,
    payload: Vec<u8>,
}

impl UnverifiedConfig {
    /// Takes the token apart.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Malformed`].
    pub fn parse(token: &[u8]) -> Result<Self, ConfigError> {
        let malformed = |what: &str| ConfigError::Malformed(what.to_owned());
        let token = std::str::from_utf8(token).map_err(|_| malformed("not text"))?;
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("not a token of three parts"));
        };
        // Some writers pad the parts.
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.trim_end_matches('=').as_bytes());
        let (Ok(header_json), Ok(payload_json), Ok(signature)) =
            (decode(header), decode(payload), decode(signature))
        else {
            return Err(malformed("not base64url"));
        };
        let Header { kid, alg } = serde_json::from_slice(&header_json)
            .map_err(|error| ConfigError::Malformed(format!("header: {error}")))?;
        Ok(Self {
            signed: format!("{header}.{payload}"),
            signature,
            algorithm: alg,
            key_id: kid,
            payload: payload_json,
        })
    }

    /// The name of the masterkey file in the vault's directory.
    ///
    /// # Errors
    ///
    /// If the key id leads anywhere else: to a Hub, or out of the directory (CVE-2026-32310).
    pub fn masterkey_file_name(&self) -> Result<&str, ConfigError> {
        if self.key_id.starts_with("hub+") {
            return Err(ConfigError::Hub);
        }
        let foreign = || ConfigError::ForeignKeyId(self.key_id.clone());
        let name = self.key_id.strip_prefix(MASTERKEY_FILE_SCHEME).ok_or_else(foreign)?;
        let plain = !name.is_empty()
            && name.len() <= 255
            && name != "."
            && name != ".."
            && !name.contains(['/', '\\', '\0', '%']);
        if plain { Ok(name) } else { Err(foreign()) }
    }

    /// The format it claims to be.
    #[must_use]
    pub fn claimed_format(&self) -> Option<u32> {
        self.claims().ok().map(|FormatClaim { format }| format)
    }

    /// The cipher combo it claims to have.
    #[must_use]
    pub fn claimed_cipher_combo(&self) -> Option<String> {
        self.claims().ok().map(|claims: Claims| claims.cipher_combo)
    }

    /// The id that the vault claims to have (`jti`): Cryptomator makes a new one for each vault.
    #[must_use]
    pub fn claimed_id(&self) -> Option<String> {
        self.claims().ok().map(|IdClaim { jti }| jti)
    }

    fn claims<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_json::from_slice(&self.payload).map_err(|error| ConfigError::Claim(error.to_string()))
    }

    /// Checks the signature over the received text, and only then reads the claims.
    ///
    /// # Errors
    ///
    /// [`ConfigError::WrongKey`] and the rest, see there.
    pub fn verify(self, masterkey: &Masterkey) -> Result<VaultConfig, ConfigError> {
        let (key, text) = (masterkey.raw(), self.signed.as_bytes());
        let authentic = match self.algorithm.as_str() {
            "HS256" => verify_with::<Hmac<Sha256>>(key, text, &self.signature),
            "HS384" => verify_with::<Hmac<Sha384>>(key, text, &self.signature),
            "HS512" => verify_with::<Hmac<Sha512>>(key, text, &self.signature),
            other => return Err(ConfigError::Algorithm(other.to_owned())),
        };
        if !authentic {
            return Err(ConfigError::WrongKey);
        }
        let FormatClaim { format } = self.claims()?;
        match format {
            FORMAT => {}
            newer if newer > FORMAT => return Err(ConfigError::NewerFormat(newer)),
            older => return Err(ConfigError::InvalidFormat(older)),
        }
        let Claims { cipher_combo, shortening_threshold } = self.claims()?;
        let cipher_combo = cipher_combo.parse().map_err(|error: crate::UnknownCipherCombo| {
            ConfigError::Claim(format!("{error}; update Scaup"))
        })?;
        if !THRESHOLDS.contains(&shortening_threshold) {
            return Err(ConfigError::Claim(format!(
                "shortening threshold {shortening_threshold} is not valid"
            )));
        }
        Ok(VaultConfig { format, cipher_combo, shortening_threshold })
    }
}

fn verify_with<M: Mac + hmac::KeyInit>(key: &[u8], text: &[u8], signature: &[u8]) -> bool {
    wiped_after(|| {
        <M as hmac::KeyInit>::new_from_slice(key).is_ok_and(|mut mac| {
            mac.update(text);
            mac.verify_slice(signature).is_ok()
        })
    })
}

impl VaultConfig {
    /// What format 7 means (section 16): it has no config file.
    #[must_use]
    pub const fn format7() -> Self {
        Self { format: 7, cipher_combo: CipherCombo::SivCtrMac, shortening_threshold: 220 }
    }

    /// The signed token for a vault whose masterkey lies in the file `masterkey_file` beside it, with a fresh token id.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Claim`] if a value is out of range.
    pub fn encode(&self, masterkey: &Masterkey, masterkey_file: &str) -> Result<String, ConfigError> {
        let token_id = uuid::Uuid::new_v4().to_string();
        wiped_after(|| self.encode_with_id(masterkey, masterkey_file, &token_id))
    }

    fn encode_with_id(
        &self,
        masterkey: &Masterkey,
        masterkey_file: &str,
        token_id: &str,
    ) -> Result<String, ConfigError> {
        if !THRESHOLDS.contains(&self.shortening_threshold) {
            let threshold = self.shortening_threshold;
            return Err(ConfigError::Claim(format!("shortening threshold {threshold} is not valid")));
        }
        let key_id = serde_json::json!(format!("{MASTERKEY_FILE_SCHEME}{masterkey_file}"));
        let header = format!(r#"{{"kid":{key_id},"alg":"HS256","typ":"JWT"}}"#);
        let payload = format!(
            r#"{{"jti":"{token_id}","format":{FORMAT},"cipherCombo":"{}","shorteningThreshold":{}}}"#,
            self.cipher_combo, self.shortening_threshold
        );
        let encode = |part: &[u8]| BASE64URL_NOPAD.encode(part);
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let mut mac = crate::masterkey_file::hmac(masterkey.raw());
        mac.update(signed.as_bytes());
        Ok(format!("{signed}.{}", encode(&mac.finalize().into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::content::tests::{vector, vector_masterkey};

    #[test]
    fn the_vector_is_written_the_same() {
        let config = VaultConfig { format: 8, cipher_combo: CipherCombo::SivGcm, shortening_threshold: 220 };
        let written = config.encode_with_id(
            &vector_masterkey(),
            "masterkey.cryptomator",
            "5415fc6d-073b-4c34-89b7-bc301b58f617",
        );
        assert_eq!(written.unwrap(), vector("jwt"));
    }

    /// A token with these claims, signed with the keys of the vectors.
    fn signed(claims: &str) -> UnverifiedConfig {
        let encode = |part: &[u8]| BASE64URL_NOPAD.encode(part);
        let header = encode(br#"{"kid":"masterkeyfile:masterkey.cryptomator","alg":"HS256"}"#);
        let signed = format!("{header}.{}", encode(claims.as_bytes()));
        let mut mac = crate::masterkey_file::hmac(vector_masterkey().raw());
        mac.update(signed.as_bytes());
        let token = format!("{signed}.{}", encode(&mac.finalize().into_bytes()));
        UnverifiedConfig::parse(token.as_bytes()).unwrap()
    }

    #[test]
    fn what_the_claims_must_say() {
        let verify = |claims: &str| signed(claims).verify(&vector_masterkey());
        let good = r#"{"format":8,"cipherCombo":"SIV_GCM","shorteningThreshold":220,"more":[]}"#;
        assert!(verify(good).is_ok());
        // A newer format is named as such even if it does without the claims of this one.
        assert_eq!(verify(r#"{"format":9}"#), Err(ConfigError::NewerFormat(9)));
        assert_eq!(signed(r#"{"format":9}"#).claimed_format(), Some(9));
        assert_eq!(verify(&good.replace('8', "7")), Err(ConfigError::InvalidFormat(7)));
        for (from, to) in [
            ("SIV_GCM", "siv_gcm"),
            ("SIV_GCM", "UVF_GCM"),
            ("220", "27"),
            ("220", "10241"),
            ("220", "-1"),
            ("220", "\"220\""),
            ("8,", "\"8\","),
            ("shorteningThreshold", "threshold"),
            ("cipherCombo", "combo"),
            ("format", "version"),
        ] {
            assert!(matches!(verify(&good.replace(from, to)), Err(ConfigError::Claim(_))), "{from} {to}");
        }
    }

    #[test]
    fn only_hmac_with_sha2_is_a_signature() {
        for algorithm in ["none", "RS256", "hs256", ""] {
            let header = format!(r#"{{"kid":"masterkeyfile:masterkey.cryptomator","alg":"{algorithm}"}}"#);
            let token = format!("{}.e30.", BASE64URL_NOPAD.encode(header.as_bytes()));
            let error =
                UnverifiedConfig::parse(token.as_bytes()).unwrap().verify(&vector_masterkey()).unwrap_err();
            assert_eq!(error, ConfigError::Algorithm(algorithm.to_owned()));
        }
    }

    #[test]
    fn key_ids_that_lead_elsewhere_are_refused() {
        for kid in [
            "masterkeyfile:../x",
            "masterkeyfile:a/b",
            "masterkeyfile:",
            "file:///etc/passwd",
            "masterkeyfile:%2e%2e",
        ] {
            let header = BASE64URL_NOPAD.encode(format!(r#"{{"kid":"{kid}","alg":"HS256"}}"#).as_bytes());
            let config = UnverifiedConfig::parse(format!("{header}.e30.AA").as_bytes()).unwrap();
            assert_eq!(config.masterkey_file_name(), Err(ConfigError::ForeignKeyId(kid.to_owned())));
        }
    }
}
