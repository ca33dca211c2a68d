//! The trusted keys of servers: the files of known hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
//!
//! Lines that are not understood are skipped: one bad line must not make a known host unknown.

use std::io::Write;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use hmac::{Hmac, Mac};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use sha1::Sha1;

use super::algorithms::{AuthoritySignature, Offer};
use super::destination::Destination;
use super::pattern::matches_pattern;

/// The marker of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    CertAuthority,
    Revoked,
}

/// A line about the host.
#[derive(Debug, Clone)]
struct HostLine {
    file: PathBuf,
    number: usize,
    marker: Marker,
    key: PublicKey,
}

/// Everything known of one host.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownHost {
    lines: Vec<HostLine>,
}

/// The verdict on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyVerdict {
    /// It is the host's key.
    Known,
    /// The host is not known at all.
    Unknown,
    /// The host has another key, recorded in this file.
    Changed { file: PathBuf, line: usize },
    /// It is revoked in this file.
    Revoked { file: PathBuf, line: usize },
}

/// The verdict on a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CertificateVerdict {
    /// Signed for this host by an authority that is trusted for it, and valid now.
    Valid,
    /// It must not be trusted, for this reason.
    Invalid(String),
    /// Signed by an authority that is not on record.
    Untrusted,
}

impl KnownHost {
    /// Reads the destination's files. Files that can't be read count as empty.
    pub(super) fn load(destination: &Destination) -> Self {
        let name = destination.known_host_name();
        let files = destination.user_known_hosts.iter().chain(&destination.global_known_hosts);
        let mut lines = Vec::new();
        for file in files {
            let Ok(text) = std::fs::read(file) else { continue };
            lines.extend(lines_of(file, &String::from_utf8_lossy(&text), &name));
        }
        Self { lines }
    }

    /// Reads the lines of one file about the host called `name`.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of_text(text: &str, name: &str) -> Self {
        Self { lines: lines_of(Path::new("known_hosts"), text, name).collect() }
    }

    /// Returns the types of the keys on record: they are requested first, as a server with several keys would otherwise
    /// show one that is not known.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        self.lines
            .iter()
            .filter(|line| line.marker == Marker::None)
            .map(|line| line.key.algorithm())
            .collect()
    }

    /// Returns whether certificates can be judged.
    pub(super) fn has_authorities(&self) -> bool {
        self.lines.iter().any(|line| line.marker == Marker::CertAuthority)
    }

    /// Judges a plain key.
    pub(super) fn judge(&self, key: &PublicKey) -> KeyVerdict {
        let same = |line: &&HostLine| line.key.key_data() == key.key_data();
        let of = |marker| self.lines.iter().filter(move |line| line.marker == marker);
        if let Some(line) = of(Marker::Revoked).find(same) {
            return KeyVerdict::Revoked { file: line.file.clone(), line: line.number };
        }
        if of(Marker::None).any(|line| same(&line)) {
            return KeyVerdict::Known;
        }
        match of(Marker::None).next() {
            Some(line) => KeyVerdict::Changed { file: line.file.clone(), line: line.number },
            None => KeyVerdict::Unknown,
        }
    }

    /// Judges a certificate, for the host called `host` (without a port), given the algorithms with which an authority
    /// may sign.
    pub(super) fn judge_certificate(
        &self,
        certificate: &Certificate,
        host: &str,
        signatures: &Offer<AuthoritySignature>,
    ) -> CertificateVerdict {
        let of = |marker| self.lines.iter().filter(move |line| line.marker == marker);
        let is_revoked = of(Marker::Revoked).any(|line| {
            line.key.key_data() == certificate.signature_key()
                || line.key.key_data() == certificate.public_key()
        });
        let invalid = |reason: &str| CertificateVerdict::Invalid(reason.to_owned());
        if is_revoked {
            return invalid("it, or the authority that signed it, is revoked");
        }
        if !of(Marker::CertAuthority).any(|line| line.key.key_data() == certificate.signature_key()) {
            return CertificateVerdict::Untrusted;
        }
        let signature = certificate.signature().algorithm();
        if !signatures.contains(signature.as_str()) {
            let reason = format!("it is signed with {signature}, which is not among CASignatureAlgorithms");
            return CertificateVerdict::Invalid(reason);
        }
        if !certificate.cert_type().is_host() {
            return invalid("it is not a certificate of a host");
        }
        // No critical options are defined for hosts, so none may be ignored.
        if !certificate.critical_options().is_empty() {
            return invalid("it has critical options that are not understood");
        }
        let named = certificate.valid_principals();
        if !named.is_empty() && !named.iter().any(|name| matches_pattern(host, &name.to_lowercase())) {
            return CertificateVerdict::Invalid(format!("it is for {}", named.join(", ")));
        }
        let trusted: Vec<_> =
            of(Marker::CertAuthority).map(|line| line.key.fingerprint(HashAlg::Sha256)).collect();
        match certificate.validate(trusted.iter()) {
            Ok(()) => CertificateVerdict::Valid,
            Err(_) => invalid("it has expired, is not valid yet, or its signature is wrong"),
        }
    }
}

/// Returns the lines of a file about the host called `name`.
fn lines_of(file: &Path, text: &str, name: &str) -> impl Iterator<Item = HostLine> {
    text.lines().enumerate().filter_map(move |(index, line)| {
        let (marker, key) = parse(line, name)?;
        Some(HostLine { file: file.to_owned(), number: index + 1, marker, key })
    })
}

/// Returns the marker and key of a line about the host called `name`.
fn parse(line: &str, name: &str) -> Option<(Marker, PublicKey)> {
    let mut words = line.split_ascii_whitespace();
    let mut first = words.next().filter(|word| !word.starts_with('#'))?;
    let marker = match first {
        "@cert-authority" => Marker::CertAuthority,
        "@revoked" => Marker::Revoked,
        _ => Marker::None,
    };
    if marker != Marker::None {
        first = words.next()?;
    }
    if !matches_hosts(name, first) {
        return None;
    }
    let key = format!("{} {}", words.next()?, words.next()?);
    Some((marker, PublicKey::from_openssh(&key).ok()?))
}

/// Returns whether the hosts' field of a line matches the name: hashed, or as a list of patterns in which no negated
/// one matches.
fn matches_hosts(name: &str, field: &str) -> bool {
    if let Some(hashed) = field.strip_prefix("|1|") {
        let parts = hashed
            .split_once('|')
            .map(|(salt, hash)| (BASE64.decode(salt.as_bytes()), BASE64.decode(hash.as_bytes())));
        return match parts {
            Some((Ok(salt), Ok(hash))) => hash_name(name, &salt).is_some_and(|mac| mac == hash),
            _ => false,
        };
    }
    let mut found = false;
    for pattern in field.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if matches_pattern(name, &negated.to_lowercase()) => return false,
            Some(_) => {}
            None => found |= matches_pattern(name, &pattern.to_lowercase()),
        }
    }
    found
}

fn hash_name(name: &str, salt: &[u8]) -> Option<Vec<u8>> {
    let mut mac = <Hmac<Sha1> as hmac::KeyInit>::new_from_slice(salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

/// Records a key in the user's first file, and returns its path; `None` if the user wants none.
pub(super) fn record(
    destination: &Destination,
    key: &PublicKey,
) -> Result<Option<PathBuf>, (PathBuf, String)> {
    // Keys recorded in the null device are meant to be forgotten.
    let Some(file) = destination.user_known_hosts.first().filter(|file| *file != Path::new("/dev/null"))
    else {
        return Ok(None);
    };
    append(file, destination, key).map_err(|error| (file.clone(), error.to_string()))?;
    Ok(Some(file.clone()))
}

fn append(file: &Path, destination: &Destination, key: &PublicKey) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(directory) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut name = destination.known_host_name();
    if destination.hash_known_hosts {
        let mut salt = [0; 20];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut salt))?;
        if let Some(hash) = hash_name(&name, &salt) {
            name = format!("|1|{}|{}", BASE64.encode(&salt), BASE64.encode(&hash));
        }
    }
    let key = key.to_openssh().map_err(std::io::Error::other)?;
    let key: Vec<&str> = key.split(' ').take(2).collect();
    // If the last line of the file is not terminated, the new one must not be appended to it.
    let ends_open = std::fs::read(file).is_ok_and(|text| text.last().is_some_and(|&last| last != b'\n'));
    let start = if ends_open { "\n" } else { "" };
    let mut open = std::fs::File::options().create(true).append(true).mode(0o600).open(file)?;
    open.write_all(format!("{start}{name} {}\n", key.join(" ")).as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[test]
    fn lines_are_found_by_every_way_of_naming_a_host() {
        for (field, name, found) in [
            ("host", "host", true),
            ("HOST", "host", true),
            ("a,host,b", "host", true),
            ("*.example.org", "www.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org,!www.example.org", "www.example.org", false),
            ("h?st", "host", true),
            ("[host]:2222", "[host]:2222", true),
            ("host", "[host]:2222", false),
            ("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=", "host", false),
        ] {
            let known = KnownHost::of_text(&format!("{field}\t {ONE} a comment"), name);
            assert_eq!(known.judge(&key(ONE)) == KeyVerdict::Known, found, "{field} {name}");
        }
    }

    #[test]
    fn a_hashed_name_that_was_recorded_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut destination = crate::ssh::destination::tests::destination("Host", 2222);
        destination.user_known_hosts = vec![directory.path().join("new/known_hosts")];
        destination.hash_known_hosts = true;
        assert_eq!(KnownHost::load(&destination).judge(&key(ONE)), KeyVerdict::Unknown);
        record(&destination, &key(ONE)).unwrap();
        assert!(
            !std::fs::read_to_string(&destination.user_known_hosts[0])
                .unwrap()
                .to_lowercase()
                .contains("host")
        );
        assert_eq!(KnownHost::load(&destination).judge(&key(ONE)), KeyVerdict::Known);
        assert!(matches!(
            KnownHost::load(&destination).judge(&key(TWO)),
            KeyVerdict::Changed { line: 1, .. }
        ));
        destination.host = "other".to_owned();
        assert_eq!(KnownHost::load(&destination).judge(&key(ONE)), KeyVerdict::Unknown);
    }

    #[test]
    fn a_revoked_key_is_refused_even_where_it_is_known() {
        let known = KnownHost::of_text(&format!("host {ONE}\n@revoked * {ONE}"), "host");
        assert!(matches!(known.judge(&key(ONE)), KeyVerdict::Revoked { line: 2, .. }));
    }

    #[test]
    fn one_of_several_keys_is_enough_and_bad_lines_do_no_harm() {
        let known = KnownHost::of_text(
            &format!("host garbage\n|1|x|y {ONE}\n\n# {ONE}\nhost {TWO}\nhost {ONE}"),
            "host",
        );
        assert_eq!(known.judge(&key(ONE)), KeyVerdict::Known);
    }

    #[test]
    fn authorities_are_no_host_keys() {
        let known = KnownHost::of_text(&format!("@cert-authority host {ONE}"), "host");
        assert_eq!(known.judge(&key(ONE)), KeyVerdict::Unknown);
        assert!(known.has_authorities());
    }
}
