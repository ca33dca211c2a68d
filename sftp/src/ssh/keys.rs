//! Identities: key files, and keys in the agent.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pkcs8::der::{self, Reader as _, SecretDocument, SliceReader};
use pkcs8::pkcs5::pbes2::PBES2_OID;
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::credential::Credential;
use super::destination::{Agent, Destination};
use super::error::ConnectError;
use super::interaction::{Cancelled, Interaction, Progress, Question};
use super::secret_key::{SecretKey, wiped_after};

/// The longest key file that is read, bytes.
const KEY_FILE_MAX: u64 = 1024 * 1024;

/// The agent's protocol over any stream that leads to it.
pub(super) type AnyAgent = AgentClient<Box<dyn AgentStream + Send + Unpin>>;

/// An identity to offer.
#[derive(Clone)]
pub(super) enum Identity {
    /// A key file, with a certificate of its key if there is one to show instead.
    File { path: PathBuf, certificate: Option<Box<Certificate>> },
    /// A key in the agent.
    Agent(Box<AgentIdentity>),
}

impl Identity {
    /// Returns whether it can be shown to a server without asking a person anything.
    pub(super) fn can_be_shown(&self) -> bool {
        match self {
            Self::Agent(_) | Self::File { certificate: Some(_), .. } => true,
            Self::File { path, certificate: None } => {
                matches!(read(path), Ok(KeyFile::Open(_) | KeyFile::Locked { public: Some(_), .. }))
            }
        }
    }
}

/// A key file that was read.
pub(super) enum KeyFile {
    /// A key without a passphrase.
    Open(Arc<SecretKey>),
    /// A key that needs a passphrase.
    Locked {
        /// The file's content.
        text: Zeroizing<String>,
        /// The public half, if it is readable without the passphrase.
        public: Option<PublicKey>,
    },
}

/// Why a key file is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileProblem {
    /// It can't be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is a private key that others may read or change.
    #[error(
        "{path}: a private key that others may read or change (mode {mode:04o}) is not used; chmod 600 {path}",
        path = .path.display()
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is encrypted in the way of RFC 1421, by which OpenSSL encrypted before PKCS#8: with MD5, and nothing that
    /// tells a wrong passphrase.
    #[error(
        "{path}: a private key that is encrypted in the old PEM format is not used; \
         `ssh-keygen -p -f {path}` writes it in OpenSSH's own",
        path = .path.display()
    )]
    OldPem {
        /// The file.
        path: PathBuf,
    },
    /// It is encrypted in a way that no library here decrypts.
    #[error(
        "{path}: a private key that is encrypted in a way that is not known here ({encryption}); \
         `ssh-keygen -p -f {path}` writes it in OpenSSH's own",
        path = .path.display()
    )]
    UnknownEncryption {
        /// The file.
        path: PathBuf,
        /// The library's words for it.
        encryption: String,
    },
    /// It is a public key.
    #[error("{}: a public key, and no agent holds its private half", .path.display())]
    PublicOnly {
        /// The file.
        path: PathBuf,
    },
    /// It is no private key of a known form.
    #[error("{}: not a private key that can be read ({source})", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// The library's error.
        source: russh::keys::Error,
    },
}

/// What is known of a private key without its passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its type, such as `ssh-ed25519`; `None` if the passphrase is needed to tell.
    pub algorithm: Option<String>,
    /// The length of an RSA key, bits.
    pub rsa_bits: Option<u32>,
    /// Whether it has a passphrase.
    pub is_encrypted: bool,
}

/// Reads what is known of the private key in a file without asking for its passphrase.
///
/// # Errors
///
/// Why it is not used.
pub fn key_facts(path: &Path) -> Result<KeyFacts, KeyFileProblem> {
    let facts = |public: Option<&PublicKey>, is_encrypted| KeyFacts {
        algorithm: public.map(|public| public.algorithm().to_string()),
        rsa_bits: public.and_then(|public| public.key_data().rsa().map(|key| key.key_size())),
        is_encrypted,
    };
    Ok(match read(path)? {
        KeyFile::Open(key) => facts(Some(key.public()), false),
        KeyFile::Locked { public, .. } => facts(public.as_ref(), true),
    })
}

/// The error that an agent can't be used, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AgentError(String);

/// Returns how many keys an agent holds; `None` if no agent is to be used. Nothing is signed, so nobody is asked.
///
/// # Errors
///
/// If the agent can't be reached, or does not reply as specified.
pub async fn keys_in(agent: &Agent) -> Result<Option<usize>, AgentError> {
    let Some(mut agent) = connect_agent(agent).await.map_err(|error| AgentError(error.to_string()))? else {
        return Ok(None);
    };
    let held = agent.request_identities().await.map_err(|error| AgentError(error.to_string()))?;
    Ok(Some(held.len()))
}

async fn connect_agent(agent: &Agent) -> Result<Option<AnyAgent>, russh::keys::Error> {
    let connected = match agent {
        Agent::None => return Ok(None),
        Agent::FromEnvironment => AgentClient::connect_env().await?,
        Agent::Socket(path) => AgentClient::connect_uds(path).await?,
    };
    Ok(Some(connected.dynamic()))
}

/// Connects to the agent, if there is one.
pub(super) async fn agent(destination: &Destination) -> Option<AnyAgent> {
    connect_agent(&destination.agent).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "no agent");
        None
    })
}

/// Returns the identities to offer, in order: the named ones first, from the agent where it holds them, then the
/// agent's other keys, then the default files.
pub(super) async fn identities(destination: &Destination, agent: Option<&mut AnyAgent>) -> Vec<Identity> {
    let mut held = match agent {
        Some(agent) => agent.request_identities().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let mut identities = Vec::new();
    for path in &destination.identities {
        let public = public_half(path);
        let in_agent = public.and_then(|public| {
            let at = held.iter().position(|held| held_key(held).key_data() == public.key_data())?;
            Some(held.remove(at))
        });
        match in_agent {
            Some(held) => identities.push(Identity::Agent(Box::new(held))),
            None => identities.extend(of_file(destination, path)),
        }
    }
    if !destination.identities_only {
        identities.extend(held.into_iter().map(|held| Identity::Agent(Box::new(held))));
    }
    if destination.identities.is_empty() {
        let files = destination.default_identities.iter().filter(|path| path.is_file());
        identities.extend(files.flat_map(|path| of_file(destination, path)));
    }
    identities
}

/// Returns the identities of a key file: its certificates first, then the plain key.
fn of_file(destination: &Destination, path: &Path) -> Vec<Identity> {
    let public = public_half(path);
    let certificates = certificates(destination, path).into_iter().filter(|certificate| {
        public.as_ref().is_none_or(|public| public.key_data() == certificate.public_key())
    });
    certificates
        .map(|certificate| Some(Box::new(certificate)))
        .chain([None])
        .map(|certificate| Identity::File { path: path.to_owned(), certificate })
        .collect()
}

fn held_key(held: &AgentIdentity) -> PublicKey {
    match held {
        AgentIdentity::PublicKey { key, .. } => key.clone(),
        AgentIdentity::Certificate { certificate, .. } => certificate.public_key().clone().into(),
    }
}

/// Returns the public key in or beside a key file; or the file itself is a public key, which then names a key in the
/// agent.
fn public_half(path: &Path) -> Option<PublicKey> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let read = |path: &Path| read_text(path).ok().map(|(text, _)| text);
    // A key without a passphrase is read whole.
    let inside = || {
        let text = read(path)?;
        Some(PrivateKey::from_openssh(text.as_bytes()).ok()?.public_key().clone())
    };
    wiped_after(inside).or_else(|| {
        [Path::new(&beside), path].iter().find_map(|path| PublicKey::from_openssh(read(path)?.trim()).ok())
    })
}

/// Returns the certificates that may belong to a key file: those the user named, and the one beside it.
fn certificates(destination: &Destination, path: &Path) -> Vec<Certificate> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("-cert.pub");
    destination
        .certificates
        .iter()
        .chain(&[PathBuf::from(beside)])
        .filter_map(|path| russh::keys::load_openssh_certificate(path).ok())
        .collect()
}

/// Returns the text of a key file, and its attributes. A longer file is not read, nor what is no file: its end may
/// never come.
fn read_text(path: &Path) -> io::Result<(Zeroizing<String>, Metadata)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > KEY_FILE_MAX {
        return Err(io::Error::other(format!("more than {KEY_FILE_MAX} bytes")));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_MAX).read_to_string(&mut text)?;
    Ok((text, metadata))
}

/// Reads a key file.
///
/// # Errors
///
/// Why it is not used.
pub(super) fn read(path: &Path) -> Result<KeyFile, KeyFileProblem> {
    let (text, metadata) =
        read_text(path).map_err(|source| KeyFileProblem::Io { path: path.to_owned(), source })?;
    // As in `ssh` (sshkey_perm_ok), the mode of a file that belongs to another user, such as root's keys for a group,
    // is that user's responsibility.
    let is_ours = metadata.uid() == rustix::process::getuid().as_raw();
    let is_open_to_others = is_ours && metadata.mode() & 0o077 != 0;
    if is_open_to_others && PublicKey::from_openssh(text.trim()).is_err() {
        return Err(KeyFileProblem::OpenToOthers { path: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    if text.lines().any(|line| line.starts_with("DEK-Info:")) {
        return Err(KeyFileProblem::OldPem { path: path.to_owned() });
    }
    match SecretKey::decode(&text, None) {
        Ok(key) => return Ok(KeyFile::Open(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => {}
        Err(_) if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
            if let Some(encryption) = unknown_encryption(&text) {
                return Err(KeyFileProblem::UnknownEncryption { path: path.to_owned(), encryption });
            }
        }
        Err(_) if PublicKey::from_openssh(text.trim()).is_ok() => {
            return Err(KeyFileProblem::PublicOnly { path: path.to_owned() });
        }
        Err(source) => return Err(KeyFileProblem::NotAKey { path: path.to_owned(), source }),
    }
    Ok(KeyFile::Locked { public: public_half(path), text })
}

/// Returns what encrypts a key in the format of PKCS#8 if it can't be decrypted here, whatever the passphrase.
fn unknown_encryption(text: &str) -> Option<String> {
    let document = match SecretDocument::from_pem(text) {
        Ok((_, document)) => document,
        Err(error) => return Some(error.to_string()),
    };
    let scheme = match scheme(&document) {
        Ok(scheme) => scheme,
        Err(error) => return Some(error.to_string()),
    };
    if scheme != PBES2_OID {
        return Some(scheme.to_string());
    }
    document.decode_msg::<EncryptedPrivateKeyInfoRef<'_>>().err().map(|error| error.to_string())
}

/// Returns the number of the scheme that encrypts a key in the format of PKCS#8.
fn scheme(document: &SecretDocument) -> Result<ObjectIdentifier, der::Error> {
    SliceReader::new(document.as_bytes())?.sequence(|key| {
        let algorithm: AlgorithmIdentifierRef<'_> = key.decode()?;
        key.drain(key.remaining_len())?;
        Ok(algorithm.oid)
    })
}

/// Returns the length of an RSA key that is too short, bits.
pub(super) fn is_too_short(key: &KeyData, bits_min: u32) -> Option<u32> {
    key.rsa().map(|key| key.key_size()).filter(|bits| *bits < bits_min)
}

/// Asks for the passphrase of a key file until it is right, or all attempts are used.
pub(super) async fn unlock(
    path: &Path,
    text: &Zeroizing<String>,
    destination: &Destination,
    interaction: &dyn Interaction,
) -> Result<Arc<SecretKey>, ConnectError> {
    for attempt in 1..=destination.attempts {
        let question = Question::Passphrase { path: path.to_owned() };
        let text_of_question = question.text();
        let passphrase =
            interaction.ask(question).await.map_err(|Cancelled(reason)| ConnectError::Cancelled {
                destination: destination.user_at_host(),
                question: text_of_question,
                reason,
            })?;
        // Deriving the key takes a moment of CPU.
        let text = text.clone();
        let decoded = tokio::task::spawn_blocking(move || SecretKey::decode(&text, Some(&passphrase))).await;
        // Whether the passphrase was wrong shows only by nonsense coming out.
        if let Ok(Ok(key)) = decoded {
            return Ok(key);
        }
        if attempt < destination.attempts {
            interaction.progress(Progress::Wrong(vec![Credential::Passphrase]));
        }
    }
    let reason = format!("wrong passphrase for key {}{}", path.display(), destination.times());
    Err(ConnectError::Refused { destination: destination.user_at_host(), reason })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    const PASSPHRASE: &str = "correct horse";

    fn runs(program: &str, arguments: &[&str]) -> bool {
        Command::new(program).args(arguments).output().unwrap().status.success()
    }

    /// A key that this `openssl pkcs8` has encrypted.
    fn pkcs8(directory: &Path, options: &[&str]) -> PathBuf {
        let (plain, path) = (directory.join("plain"), directory.join("key"));
        let pass = format!("pass:{PASSPHRASE}");
        assert!(runs("openssl", &["genrsa", "-out", plain.to_str().unwrap(), "2048"]));
        let files = ["-in", plain.to_str().unwrap(), "-out", path.to_str().unwrap(), "-passout", &pass];
        assert!(runs("openssl", &[&["pkcs8", "-topk8"], options, &files[..]].concat()), "{options:?}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A key that `ssh-keygen` has encrypted.
    fn openssh(directory: &Path, cipher: &str) -> PathBuf {
        let path = directory.join("key");
        let file = ["-f", path.to_str().unwrap()];
        assert!(runs(
            "ssh-keygen",
            &[&["-q", "-t", "ed25519", "-N", PASSPHRASE, "-Z", cipher], &file[..]].concat()
        ));
        path
    }

    fn is_unlocked(path: &Path, what: &str) {
        let Ok(KeyFile::Locked { text, .. }) = read(path) else { panic!("{what}") };
        SecretKey::decode(&text, Some(PASSPHRASE))
            .map(drop)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(SecretKey::decode(&text, Some("wrong")).is_err(), "{what}");
    }

    #[test]
    fn every_encryption_that_ssh_keygen_reads_is_decrypted_or_refused_by_its_name() {
        scaup_rig::need(&[
            ("ssh-keygen", "openssh-client"),
            ("ssh", "openssh-client"),
            ("openssl", "openssl"),
        ]);
        let ciphers = Command::new("ssh").args(["-Q", "cipher"]).output().unwrap().stdout;
        for cipher in String::from_utf8(ciphers).unwrap().lines() {
            is_unlocked(&openssh(tempfile::tempdir().unwrap().path(), cipher), cipher);
        }
        for options in [
            &["-v2", "aes128", "-v2prf", "hmacWithSHA1"][..],
            &["-v2", "aes192", "-v2prf", "hmacWithSHA224"],
            &["-v2", "aes256", "-v2prf", "hmacWithSHA512"],
            &["-v2", "des3"],
            &["-v2", "des3", "-v2prf", "hmacWithSHA1"],
            &["-scrypt"],
        ] {
            is_unlocked(&pkcs8(tempfile::tempdir().unwrap().path(), options), &options.join(" "));
        }
        for (options, name) in [
            (&["-v1", "PBE-SHA1-3DES"][..], "1.2.840.113549.1.12.1.3"),
            (&["-v2", "camellia256"], "1.2.392.200011.61.1.1.1.4"),
            (&["-v2", "aria256"], "1.2.410.200046.1.1.12"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = pkcs8(directory.path(), options);
            assert!(
                runs("ssh-keygen", &["-y", "-P", PASSPHRASE, "-f", path.to_str().unwrap()]),
                "{options:?}"
            );
            let Err(problem) = read(&path) else { panic!("{options:?}") };
            let said = problem.to_string();
            assert!(said.contains(name) && said.contains("ssh-keygen -p -f"), "{said}");
        }
    }
}
