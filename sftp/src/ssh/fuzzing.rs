//! Entry points for fuzz targets, which can't reach code that only a login calls.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PublicKey, PublicKeyOrCertificate};
use zeroize::Zeroizing;

use super::destination::Destination;
use super::handler::{Client, Seen};
use super::interaction::{Cancelled, Interaction, Progress, Question};
use super::known_hosts::KnownHost;
use super::patience::Words;
use super::revoked::RevokedKeys;

/// The verdict on a key or certificate that a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The login goes on.
    Trusted,
    /// A person is asked.
    Unknown,
    /// The login ends.
    Refused,
}

/// A key or certificate shown by a server, as it comes in a packet.
pub struct Shown(PublicKeyOrCertificate);

impl Shown {
    /// Decodes a key, or else a certificate.
    #[must_use]
    pub fn read(blob: &[u8]) -> Option<Self> {
        let key =
            PublicKey::from_bytes(blob).map(|key| PublicKeyOrCertificate::PublicKey { key, hash_alg: None });
        let shown = key.or_else(|_| Certificate::from_bytes(blob).map(PublicKeyOrCertificate::Certificate));
        shown.ok().map(Self)
    }

    /// Returns the key, or that of the certificate, in the form of files; `None` for a kind that no file and no login
    /// can have.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        let key: KeyData = match &self.0 {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data().clone(),
            PublicKeyOrCertificate::Certificate(certificate) => certificate.public_key().clone(),
        };
        let text = PublicKey::from(key.clone()).to_openssh().ok()?;
        PublicKey::from_openssh(&text).is_ok_and(|read| *read.key_data() == key).then_some(text)
    }

    /// Returns whether it is a certificate.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(self.0, PublicKeyOrCertificate::Certificate(_))
    }

    /// Judges it by a file of known hosts, and a list of revoked keys.
    #[must_use]
    pub fn judge(&self, destination: &Destination, known_hosts: &str, revoked: &[u8]) -> Judgement {
        let Ok(revoked) = RevokedKeys::of_content(Path::new("revoked"), revoked) else {
            return Judgement::Refused;
        };
        let known = KnownHost::of_text(known_hosts, &destination.known_host_name());
        // The offered algorithms are chosen from the same file.
        let _ = (known.algorithms(), known.has_authorities());
        let client = Client {
            destination: destination.clone(),
            known,
            revoked,
            confirmed: None,
            seen: Arc::new(Mutex::new(None)),
            words: Arc::new(Words::new()),
            interaction: Arc::new(Nobody),
            banners: 0,
            agreed: Arc::default(),
        };
        match client.judge(&self.0) {
            Ok(()) => Judgement::Trusted,
            Err(Seen::Unknown(_)) => Judgement::Unknown,
            Err(Seen::Refused(_)) => Judgement::Refused,
        }
    }
}

/// An interaction with nobody to ask.
struct Nobody;

#[async_trait]
impl Interaction for Nobody {
    async fn ask(&self, _question: Question) -> Result<Zeroizing<String>, Cancelled> {
        Err(Cancelled("nobody is there".to_owned()))
    }

    fn progress(&self, _progress: Progress) {}
}
