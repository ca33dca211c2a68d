//! What opens a vault.

use scaup_crypto::{Masterkey, RecoveryKeyError};
use zeroize::Zeroizing;

/// What opens a vault.
#[derive(Clone)]
pub enum VaultSecret {
    /// The password of its masterkey file.
    Password(Zeroizing<String>),
    /// Its recovery key, which needs no masterkey file. That the vault has these keys is to be proved.
    RecoveryKey(Masterkey),
}

impl VaultSecret {
    /// Takes a text as a password.
    #[must_use]
    pub fn password(text: &str) -> Self {
        Self::Password(Zeroizing::new(text.to_owned()))
    }

    /// Reads a recovery key.
    ///
    /// # Errors
    ///
    /// If the text can't be one.
    pub fn recovery_key(text: &str) -> Result<Self, RecoveryKeyError> {
        Masterkey::from_recovery_key(text).map(Self::RecoveryKey)
    }

    /// Takes what was given where a password is asked for: a whole recovery key, which nobody has as a password, or a
    /// password.
    #[must_use]
    pub fn password_or_recovery_key(text: &str) -> Self {
        Self::recovery_key(text).unwrap_or_else(|_| Self::password(text))
    }

    /// Returns the password, if it is one.
    #[must_use]
    pub fn as_password(&self) -> Option<&str> {
        match self {
            Self::Password(password) => Some(password),
            Self::RecoveryKey(_) => None,
        }
    }
}

impl std::fmt::Debug for VaultSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("VaultSecret(..)")
    }
}
