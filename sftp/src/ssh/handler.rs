//! What the library tells of a connection: the server's key, its banners, and its attempts to open channels.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use russh::client::{self, ChannelOpenHandle, Handler, Msg};
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, Names};

use super::destination::Destination;
use super::error::HostKeyProblem;
use super::interaction::{Interaction, Progress};
use super::keys::is_too_short;
use super::known_hosts::{CertificateVerdict, KeyVerdict, KnownHost};
use super::patience::Words;
use super::revoked::RevokedKeys;
use crate::text::Line;

/// Most banners of a server that are shown in one login: a server may send any number (RFC 4252, section 5.4).
const BANNERS_MAX: usize = 5;

/// The problem found with the server's key when it was not accepted.
pub(super) enum Seen {
    Unknown(Box<PublicKey>),
    Refused(HostKeyProblem),
}

/// How a connection is secured, by the names of the algorithms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The key exchange.
    pub kex: String,
    /// The cipher.
    pub cipher: String,
    /// The message authentication code, which ciphers with one of their own do not use.
    pub message_code: String,
    /// The type of the server's key.
    pub host_key: String,
    /// Whether packets can't be removed unnoticed at the beginning (OpenSSH's strict key exchange, CVE-2023-48795).
    pub is_strict: bool,
}

/// The library's callbacks for one connection.
pub(super) struct Client {
    pub(super) destination: Destination,
    pub(super) known: KnownHost,
    pub(super) revoked: RevokedKeys,
    pub(super) confirmed: Option<PublicKey>,
    pub(super) seen: Arc<Mutex<Option<Seen>>>,
    pub(super) words: Arc<Words>,
    pub(super) interaction: Arc<dyn Interaction>,
    /// Number of banners shown.
    pub(super) banners: usize,
    /// What the first key exchange agreed on.
    pub(super) agreed: Arc<OnceLock<Agreed>>,
}

impl Client {
    pub(super) fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), Seen> {
        let (key, authority) = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => (key.key_data(), None),
            PublicKeyOrCertificate::Certificate(shown) => (shown.public_key(), Some(shown.signature_key())),
        };
        if let Some(bits) = is_too_short(key, self.destination.rsa_bits_min) {
            let bits_min = self.destination.rsa_bits_min;
            return Err(Seen::Refused(HostKeyProblem::ShortRsaKey { bits, bits_min }));
        }
        if let Some(problem) = self.revoked.problem(std::iter::once(key).chain(authority)) {
            return Err(Seen::Refused(problem));
        }
        let key = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            PublicKeyOrCertificate::Certificate(certificate) => {
                let signatures = &self.destination.algorithms.authority_signatures;
                let name = self.destination.host_key_alias.as_ref().unwrap_or(&self.destination.host);
                match self.known.judge_certificate(certificate, &name.to_lowercase(), signatures) {
                    CertificateVerdict::Valid => return Ok(()),
                    CertificateVerdict::Invalid(reason) => {
                        return Err(Seen::Refused(HostKeyProblem::Certificate(reason)));
                    }
                    // The authority is not trusted: the certificate counts as the plain key in it (as for OpenSSH).
                    CertificateVerdict::Untrusted => &PublicKey::from(certificate.public_key().clone()),
                }
            }
        };
        let fingerprint = || key.fingerprint(HashAlg::Sha256).to_string();
        match self.known.judge(key) {
            KeyVerdict::Known => Ok(()),
            KeyVerdict::Revoked { file, line } => Err(Seen::Refused(HostKeyProblem::Revoked { file, line })),
            KeyVerdict::Changed { file, line } => {
                Err(Seen::Refused(HostKeyProblem::Changed { fingerprint: fingerprint(), file, line }))
            }
            KeyVerdict::Unknown
                if self.confirmed.as_ref().is_some_and(|ok| ok.key_data() == key.key_data()) =>
            {
                Ok(())
            }
            KeyVerdict::Unknown => Err(Seen::Unknown(Box::new(key.clone()))),
        }
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &Names,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.agreed.get_or_init(|| Agreed {
            kex: names.kex.as_ref().to_owned(),
            cipher: names.cipher.as_ref().to_owned(),
            message_code: names.client_mac.as_ref().to_owned(),
            host_key: names.key.to_string(),
            is_strict: names.strict_kex(),
        });
        Ok(())
    }

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        match self.judge(shown) {
            Ok(()) => Ok(true),
            Err(seen) => {
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                Ok(false)
            }
        }
    }

    async fn auth_banner(&mut self, banner: &str, _session: &mut client::Session) -> Result<(), Self::Error> {
        // Endless banners would keep a connection alive in which nothing happens.
        if self.words.said(banner.len()).is_err() {
            return Err(russh::Error::Disconnect);
        }
        if self.banners < BANNERS_MAX {
            self.banners += 1;
            for line in Line::each_of(banner) {
                self.interaction
                    .progress(Progress::Said { destination: self.destination.user_at_host(), line });
            }
        }
        Ok(())
    }

    // A server has no reason to open a channel: nothing is ever forwarded from it. The library would accept any channel
    // that is not refused here; it refuses unknown kinds by itself.

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply)
    }
}

/// Refuses a channel that a server opens: dropping the unanswered request makes the library refuse.
fn refuse(reply: ChannelOpenHandle) -> Result<(), russh::Error> {
    drop(reply);
    Ok(())
}
