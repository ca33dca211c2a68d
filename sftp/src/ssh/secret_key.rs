//! Private keys: each in one piece of locked memory, taken out only to sign.
//!
//! The libraries that read keys and sign with them move keys about on the stack, and wipe their heap only. So a key is read, and a signature
//! made, in one call whose stack is wiped afterwards ([`wiped_after`]), and the SSH library is given the signature, never the key.

use std::ptr::NonNull;
use std::sync::Arc;

use russh::AgentAuthError;
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Error, HashAlg, PrivateKey, PublicKey};
use zeroize::{Zeroizing, zeroize_stack};

/// More stack than reading a key or signing with it needs, bytes: RSA with long numbers takes most.
const STACK_USED: usize = 256 * 1024;

/// Does `work`, and wipes the stack that it used. What it returns is moved through that stack and the caller's, so it must be a pointer to a
/// secret, never the secret.
pub(super) fn wiped_after<T>(work: impl FnOnce() -> T) -> T {
    let done = deeper(work);
    zeroize_stack::<STACK_USED>();
    done
}

/// Only what a call of its own used lies below the caller's.
#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    work()
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
    /// What is wrong with the file, or with the passphrase.
    pub(super) fn decode(text: &str, passphrase: Option<&str>) -> Result<Arc<Self>, Error> {
        wiped_after(|| {
            let key = russh::keys::decode_secret_key(text, passphrase)?;
            let secret = key.to_bytes()?;
            lock_memory(&secret);
            Ok(Arc::new(Self { public: key.public_key().clone(), secret }))
        })
    }

    /// The public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of `message`, in the form that the SSH protocol has for it (RFC 4253, section 6.6). `hash` is heeded by RSA keys only.
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

/// What signs with a [`SecretKey`] where the library wants a signature.
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

/// Keeps the pages of `bytes` out of swap. Best effort: a small `RLIMIT_MEMLOCK` is no reason not to log in. They are never unlocked, since
/// other keys may share them.
#[allow(unsafe_code)]
fn lock_memory(bytes: &[u8]) {
    let start = NonNull::from(bytes).cast::<std::ffi::c_void>();
    // SAFETY: the range is a live allocation, and locking it does not change its content.
    let _ = unsafe { rustix::mm::mlock(start.as_ptr(), bytes.len()) };
}
