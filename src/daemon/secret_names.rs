//! What a remembered secret opens.

use std::fmt;
use std::path::Path;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The server's name in what belongs to a directory of this machine.
pub(super) const LOCAL: &str = "local";

/// What kind of secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SecretKind {
    KeyPassphrase,
    ServerPassword,
    VaultPassword,
    /// What one-time codes are made of: an `otpauth` address.
    Codes,
}

/// What a secret opens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct SecretName {
    pub(super) kind: SecretKind,
    /// `user@host`, with the port for a vault; empty for a key, which opens many servers.
    pub(super) server: String,
    /// The key's file, the words of the server's question, or the vault's path on the server; percent-encoded; empty
    /// for codes.
    pub(super) name: String,
}

impl SecretName {
    pub(super) fn key(path: &Path) -> Self {
        let name = path.to_string_lossy().into_owned();
        Self { kind: SecretKind::KeyPassphrase, server: String::new(), name }
    }

    pub(super) fn password(server: &str, question: &str) -> Self {
        let name = question.trim_end().to_owned();
        Self { kind: SecretKind::ServerPassword, server: server.to_owned(), name }
    }

    pub(super) fn vault(server: String, path: String) -> Self {
        Self { kind: SecretKind::VaultPassword, server, name: path }
    }

    pub(super) fn codes(server: &str) -> Self {
        Self { kind: SecretKind::Codes, server: server.to_owned(), name: String::new() }
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            SecretKind::KeyPassphrase => "key_passphrase",
            SecretKind::ServerPassword => "server_password",
            SecretKind::VaultPassword => "vault_password",
            SecretKind::Codes => "codes",
        }
    }

    /// Returns what tells it from others.
    pub(super) fn parts(&self) -> Vec<&str> {
        vec![self.kind_name(), &self.server, &self.name]
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, server, name } = self;
        match kind {
            SecretKind::KeyPassphrase => write!(formatter, "the passphrase of key {name}"),
            SecretKind::ServerPassword => write!(formatter, "the answer to \"{name}\""),
            SecretKind::VaultPassword => {
                let path = percent_decode_str(name).decode_utf8_lossy();
                match server.as_str() {
                    LOCAL => write!(formatter, "the password of vault {path}"),
                    server => write!(formatter, "the password of vault {path} of {server}"),
                }
            }
            SecretKind::Codes => write!(formatter, "the codes for {server}"),
        }
    }
}
