//! Private keys: each in one piece of locked memory, taken out only to sign.
//!
//! The libraries that read keys and sign with them copy keys on the stack, and wipe their heap only. So a key is read,
//! and a signature made, in one call whose stack is wiped afterwards ([`wiped_after`]), and the SSH library gets the
//! signature, never the key.

use std::sync::Arc;

use russh::AgentAuthError;
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Error, HashAlg, PrivateKey, PublicKey};
use scaup_memory::keep_out_of_swap;
use zeroize::Zeroizing;

/// More stack than reading a key or signing with it needs, bytes: RSA with long numbers takes most.
const STACK_USED: usize = 256 * 1024;

/// Runs `work`, and wipes the stack that it used.
pub(super) fn wiped_after<T>(work: impl FnOnce() -> T) -> T {
    scaup_memory::wiped_after::<STACK_USED, T>(work)
}

/// A private key.
pub(super) struct SecretKey {
    public: PublicKey,
    /// The key in OpenSSH's binary format, in locked memory.
    secret: Zeroizing<Vec<u8>>,
}

impl SecretKey {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// A description of the problem with the file, or with the passphrase.
    pub(super) fn decode(text: &str, passphrase: Option<&str>) -> Result<Arc<Self>, Error> {
        wiped_after(|| {
            let key = russh::keys::decode_secret_key(text, passphrase)?;
            let secret = key.to_bytes()?;
            keep_out_of_swap(&secret);
            Ok(Arc::new(Self { public: key.public_key().clone(), secret }))
        })
    }

    /// Returns the public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Returns the signature of `message`, in the format of the SSH protocol (RFC 4253, section 6.6). Only RSA keys use
    /// `hash`.
    fn sign(&self, hash: Option<HashAlg>, message: &[u8]) -> Result<Vec<u8>, Error> {
        use russh::keys::signature::Signer;
        wiped_after(|| {
            let key = PrivateKey::from_bytes(&self.secret)?;
            let signed: Result<Signature, _> = match key.key_data() {
                KeypairData::Rsa(pair) => (pair, hash).try_sign(message),
                pair => pair.try_sign(message),
            };
            let signature: Vec<u8> = signed.map_err(russh::keys::ssh_key::Error::from)?.try_into()?;
            Ok(signature)
        })
    }
}

/// Signs with a [`SecretKey`] where the library needs a signature.
pub(super) struct KeySigner(pub(super) Arc<SecretKey>);

impl russh::Signer for KeySigner {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        _identity: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        let signature = self.0.sign(hash, &to_sign)?;
        signature.encode(&mut to_sign).map_err(Error::from)?;
        Ok(to_sign)
    }
}
