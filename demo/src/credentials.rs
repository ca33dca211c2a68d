//! What the server demands of its one user, all generated and good for one run.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE32_NOPAD;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{Cipher, Kdf, LineEnding};
use russh::keys::{PrivateKey, PublicKey};
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

/// Bytes of a one-time code's secret: what RFC 4226 recommends (section 4, R6).
const SECRET_LEN: usize = 20;
/// How long a code stays the same, seconds (RFC 6238).
const STEP: u64 = 30;
/// Work for a guess at the passphrase: OpenSSH's own default is 24 (ssh-keygen(1), `-a`).
const BCRYPT_ROUNDS: u32 = 24;

/// Keys, passphrase and one-time code of the server and its user.
pub struct Credentials {
    host_key: PrivateKey,
    user_key: PrivateKey,
    passphrase: Zeroizing<String>,
    code_secret: Zeroizing<String>,
    totp: Totp,
    /// Step of the last code that was accepted: none is accepted twice (RFC 6238, section 5.2).
    accepted: Mutex<Option<u64>>,
    /// Step of the last code that was made here.
    made: Mutex<Option<u64>>,
}

fn random<const N: usize>() -> io::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut()).map_err(io::Error::other)?;
    Ok(bytes)
}

/// A password that nobody guesses: 80 bits, in letters and digits.
///
/// # Errors
///
/// If the system has no random numbers.
pub fn random_password() -> io::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(BASE32_NOPAD.encode(random::<10>()?.as_ref()).to_lowercase()))
}

fn random_key() -> io::Result<PrivateKey> {
    PrivateKey::new(Ed25519Keypair::from_seed(&*random()?).into(), "scaup demo").map_err(io::Error::other)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

impl Credentials {
    /// The one user.
    pub const USER: &str = "alice";
    /// The name that the configuration of [`write_ssh_config`](Self::write_ssh_config) gives the server.
    pub const HOST: &str = "demo";

    /// New ones.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn generate() -> io::Result<Self> {
        let secret = random::<SECRET_LEN>()?;
        let totp = Builder::new().with_secret(secret.as_slice()).build().map_err(io::Error::other)?;
        Ok(Self {
            host_key: random_key()?,
            user_key: random_key()?,
            passphrase: random_password()?,
            code_secret: Zeroizing::new(BASE32_NOPAD.encode(secret.as_ref())),
            totp,
            accepted: Mutex::default(),
            made: Mutex::default(),
        })
    }

    pub(crate) fn host_key(&self) -> &PrivateKey {
        &self.host_key
    }

    pub(crate) fn user_key(&self) -> &PublicKey {
        self.user_key.public_key()
    }

    /// The passphrase of the user's key.
    #[must_use]
    pub fn passphrase(&self) -> &str {
        &self.passphrase
    }

    /// The secret behind the codes, in base 32, as an authenticator takes it.
    #[must_use]
    pub fn code_secret(&self) -> &str {
        &self.code_secret
    }

    /// A code that was not made before: waits for up to half a minute, if need be.
    #[must_use]
    pub fn new_code(&self) -> Zeroizing<String> {
        loop {
            let now = seconds();
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            if made.is_none_or(|made| made < now / STEP) {
                *made = Some(now / STEP);
                return Zeroizing::new(self.totp.generate(now).to_string());
            }
            drop(made);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether a code is right, and was not used before.
    pub(crate) fn accepts(&self, code: &str) -> bool {
        let Some(step) = self.totp.check(code.trim(), seconds()) else { return false };
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = accepted.is_none_or(|accepted| accepted < step);
        if fresh {
            *accepted = Some(step);
        }
        fresh
    }

    /// Writes the user's key (encrypted), the server's line of `known_hosts`, and a configuration that names both into
    /// `directory`, for the user alone. `ssh`, `sftp` and Scaup take it by `-F`; its path is answered.
    ///
    /// # Errors
    ///
    /// If a file can't be written, or is there already.
    pub fn write_ssh_config(&self, directory: &Path, port: u16) -> io::Result<PathBuf> {
        let kdf = Kdf::Bcrypt { salt: random::<16>()?.to_vec(), rounds: BCRYPT_ROUNDS };
        let check = u32::from_be_bytes(*random()?);
        let encrypted = self
            .user_key
            .encrypt_with(Cipher::Aes256Ctr, kdf, check, self.passphrase.as_bytes())
            .and_then(|key| key.to_openssh(LineEnding::LF))
            .map_err(io::Error::other)?;
        let host_key = self.host_key.public_key().to_openssh().map_err(io::Error::other)?;
        let address = Ipv4Addr::LOCALHOST;
        write_private(&directory.join("id_ed25519"), &encrypted)?;
        write_private(&directory.join("known_hosts"), &format!("[{address}]:{port} {host_key}\n"))?;
        let config = directory.join("ssh_config");
        let lines = format!(
            "Host {host}\n    HostName {address}\n    Port {port}\n    User {user}\n    IdentityFile {key}\n    \
             IdentitiesOnly yes\n    IdentityAgent none\n    UserKnownHostsFile {known}\n    StrictHostKeyChecking yes\n",
            host = Self::HOST,
            user = Self::USER,
            key = directory.join("id_ed25519").display(),
            known = directory.join("known_hosts").display(),
        );
        write_private(&config, &lines)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_code_is_accepted_once() {
        let credentials = Credentials::generate().unwrap();
        let code = credentials.new_code();
        assert!(credentials.accepts(&code));
        assert!(!credentials.accepts(&code));
        assert!(!credentials.accepts("000000") || code.as_str() == "000000");
    }

    #[test]
    fn the_key_on_disk_needs_the_passphrase() {
        let credentials = Credentials::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        credentials.write_ssh_config(directory.path(), 22).unwrap();
        let text = std::fs::read_to_string(directory.path().join("id_ed25519")).unwrap();
        assert!(russh::keys::decode_secret_key(&text, Some("wrong")).is_err());
        let key = russh::keys::decode_secret_key(&text, Some(credentials.passphrase())).unwrap();
        assert_eq!(key.public_key().key_data(), credentials.user_key().key_data());
    }
}
