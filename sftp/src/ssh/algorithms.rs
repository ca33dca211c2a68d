//! The algorithms to offer: the usual ones of a kind, as changed by a list of `ssh_config(5)` (`Ciphers`,
//! `KexAlgorithms`, …).

use std::marker::PhantomData;
use std::str::FromStr;

use russh::keys::{Algorithm, HashAlg};
use russh::{cipher, kex, mac};

use super::pattern::matches_pattern;

/// A kind of algorithm, of which one is agreed on.
pub trait AlgorithmKind {
    /// The names offered unless a list says otherwise, the preferred first.
    const USUAL: &'static [&'static str];
    /// The names that are offered only if a list contains them.
    const ON_REQUEST: &'static [&'static str] = &[];
}

/// The algorithms of one kind to offer, the preferred first. At least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<K> {
    names: Vec<&'static str>,
    in_users_order: bool,
    kind: PhantomData<K>,
}

/// The error that a list leaves no algorithm that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no algorithm of the list is known")]
pub struct NoneKnown;

impl<K> Offer<K> {
    /// Returns the names, the preferred first.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Returns whether an algorithm of this name is offered.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// Returns whether the user chose the order.
    pub(super) fn is_in_users_order(&self) -> bool {
        self.in_users_order
    }

    /// Returns the names in the library's own type.
    fn typed<T>(&self, parse: impl Fn(&'static str) -> Option<T>) -> Vec<T> {
        self.names.iter().filter_map(|name| parse(name)).collect()
    }
}

impl<K: AlgorithmKind> Default for Offer<K> {
    fn default() -> Self {
        Self { names: K::USUAL.to_vec(), in_users_order: false, kind: PhantomData }
    }
}

impl<K: AlgorithmKind> FromStr for Offer<K> {
    type Err = NoneKnown;

    /// `+` in front adds to the offered algorithms, `-` removes from them, `^` prefers; unknown names are skipped, so
    /// that they are not offered.
    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let how = list.chars().next().filter(|how| ['+', '-', '^'].contains(how));
        let patterns = how.map_or(list, |how| list.strip_prefix(how).unwrap_or(list));
        let known = || K::USUAL.iter().chain(K::ON_REQUEST).copied();
        let mut named: Vec<&'static str> = Vec::new();
        for pattern in patterns.split(',') {
            let meant: Vec<_> =
                known().filter(|name| matches_pattern(name, pattern) && !named.contains(name)).collect();
            named.extend(meant);
        }
        let others = || K::USUAL.iter().copied().filter(|name| !named.contains(name));
        let names: Vec<&'static str> = match how {
            Some('+') => {
                let added = named.iter().copied().filter(|name| !K::USUAL.contains(name));
                K::USUAL.iter().copied().chain(added).collect()
            }
            Some('-') => others().collect(),
            Some(_) => named.iter().copied().chain(others()).collect(),
            None => named,
        };
        if names.is_empty() {
            return Err(NoneKnown);
        }
        Ok(Self { names, in_users_order: matches!(how, None | Some('^')), kind: PhantomData })
    }
}

/// Declares kinds of algorithms.
macro_rules! kinds {
    ($($(#[$documentation:meta])* $kind:ident: $usual:expr $(, on request $on_request:expr)?;)*) => {$(
        $(#[$documentation])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $kind {}

        impl AlgorithmKind for $kind {
            const USUAL: &'static [&'static str] = &$usual;
            $(const ON_REQUEST: &'static [&'static str] = &$on_request;)?
        }
    )*};
}

kinds! {
    /// Key exchange algorithms (`KexAlgorithms`).
    Kex: [
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "diffie-hellman-group-exchange-sha256",
        "diffie-hellman-group18-sha512",
        "diffie-hellman-group17-sha512",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group15-sha512",
        "diffie-hellman-group14-sha256",
    ], on request ["ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"];

    /// Ciphers (`Ciphers`). Authenticated ones come first: they are fast everywhere and free of the Terrapin weakness
    /// (CVE-2023-48795), which the strict key exchange also closes for the third.
    Cipher: [
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes256-ctr",
        "aes128-ctr",
    ], on request ["aes192-ctr"];

    /// Message authentication codes (`MACs`), for ciphers that do not authenticate.
    MessageCode: [
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512",
        "hmac-sha2-256",
    ];

    /// Keys and certificates of hosts (`HostKeyAlgorithms`).
    HostKey: [
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ];

    /// Signatures of authorities under certificates of hosts (`CASignatureAlgorithms`).
    AuthoritySignature: [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ];

    /// The user's own keys and certificates (`PubkeyAcceptedAlgorithms`).
    UserKey: [
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ];
}

/// The algorithms of every kind to offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Algorithms {
    /// `KexAlgorithms`.
    pub kex: Offer<Kex>,
    /// `Ciphers`.
    pub ciphers: Offer<Cipher>,
    /// `MACs`.
    pub message_codes: Offer<MessageCode>,
    /// `HostKeyAlgorithms`.
    pub host_keys: Offer<HostKey>,
    /// `CASignatureAlgorithms`.
    pub authority_signatures: Offer<AuthoritySignature>,
    /// `PubkeyAcceptedAlgorithms`.
    pub user_keys: Offer<UserKey>,
}

impl Offer<Kex> {
    /// Returns the names with the extensions that this side supports, which are negotiated in the same list.
    pub(super) fn for_library(&self) -> Vec<kex::Name> {
        let mut names = self.typed(|name| kex::Name::try_from(name).ok());
        names.extend([kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT]);
        names
    }
}

impl Offer<Cipher> {
    pub(super) fn for_library(&self) -> Vec<cipher::Name> {
        self.typed(|name| cipher::Name::try_from(name).ok())
    }
}

impl Offer<MessageCode> {
    pub(super) fn for_library(&self) -> Vec<mac::Name> {
        self.typed(|name| mac::Name::try_from(name).ok())
    }
}

impl Offer<HostKey> {
    /// Returns the algorithms of plain keys.
    pub(super) fn keys(&self) -> Vec<Algorithm> {
        self.typed(|name| name.parse().ok().filter(is_known))
    }

    /// Returns the algorithms of certificates.
    pub(super) fn certificates(&self) -> Vec<Algorithm> {
        let plain = Self::default().keys();
        self.typed(|name| plain.iter().find(|plain| plain.to_certificate_type() == name).cloned())
    }
}

/// Returns whether the library knows the algorithm: otherwise it would accept any.
fn is_known(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Other(_))
}

impl Offer<UserKey> {
    /// Returns the algorithm to offer a key with, or its certificate: `None` if the list has none for it. For RSA the
    /// server's choice is taken, if the list has it; `Some(None)` is for keys with only one algorithm.
    pub(super) fn hash(
        &self,
        algorithm: &Algorithm,
        is_certificate: bool,
        servers_choice: Option<HashAlg>,
    ) -> Option<Option<HashAlg>> {
        let is_offered = |algorithm: &Algorithm| {
            if is_certificate {
                self.contains(&algorithm.to_certificate_type())
            } else {
                self.contains(algorithm.as_str())
            }
        };
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return is_offered(algorithm).then_some(None);
        }
        // SHA-1 is never used.
        let hashes = servers_choice.into_iter().chain([HashAlg::Sha256, HashAlg::Sha512]);
        hashes.map(Some).find(|hash| is_offered(&Algorithm::Rsa { hash: *hash }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_are_read_as_ssh_config_has_them() {
        let all = Cipher::USUAL.to_vec();
        let (gcm, ctr) = (["aes256-gcm@openssh.com", "aes128-gcm@openssh.com"], ["aes256-ctr", "aes128-ctr"]);
        let chacha = "chacha20-poly1305@openssh.com";
        for (list, offered) in [
            ("aes128-ctr", Some(vec!["aes128-ctr"])),
            ("3des-cbc,aes128-ctr,aes256-gcm@openssh.com", Some(vec!["aes128-ctr", gcm[0]])),
            ("aes192-ctr", Some(vec!["aes192-ctr"])),
            ("+3des-cbc", Some(all.clone())),
            ("+aes192-ctr", Some([&all[..], &["aes192-ctr"]].concat())),
            ("-aes*", Some(vec![chacha])),
            ("^aes128-ctr,aes256-ctr", Some(vec![ctr[1], ctr[0], gcm[0], gcm[1], chacha])),
            ("-*", None),
            ("3des-cbc", None),
            ("+-aes*", Some(all)),
            ("", None),
        ] {
            assert_eq!(list.parse().ok().map(|offer: Offer<Cipher>| offer.names), offered, "{list}");
        }
    }

    #[test]
    fn the_library_knows_every_name() {
        fn all<K: AlgorithmKind>() -> Offer<K> {
            let all: Vec<_> = K::USUAL.iter().chain(K::ON_REQUEST).copied().collect();
            all.join(",").parse().unwrap()
        }
        assert_eq!(all::<Kex>().for_library().len(), all::<Kex>().names.len() + 2);
        assert_eq!(all::<Cipher>().for_library().len(), all::<Cipher>().names.len());
        assert_eq!(all::<MessageCode>().for_library().len(), all::<MessageCode>().names.len());
        let host = all::<HostKey>();
        assert_eq!(host.keys().len(), host.certificates().len());
        assert_eq!(host.keys().len() + host.certificates().len(), host.names.len());
    }

    #[test]
    fn a_key_is_only_offered_as_the_list_has_it() {
        let list = |list: &str| list.parse::<Offer<UserKey>>().unwrap();
        let (rsa, ed25519) = (Algorithm::Rsa { hash: None }, Algorithm::Ed25519);
        let (sha256, sha512) = (Some(HashAlg::Sha256), Some(HashAlg::Sha512));
        assert_eq!(Offer::<UserKey>::default().hash(&rsa, false, sha512), Some(sha512));
        assert_eq!(Offer::<UserKey>::default().hash(&rsa, false, None), Some(sha256));
        assert_eq!(list("rsa-sha2-256").hash(&rsa, false, sha512), Some(sha256));
        assert_eq!(list("rsa-sha2-256").hash(&rsa, true, sha512), None);
        assert_eq!(list("rsa-sha2-256").hash(&ed25519, false, None), None);
        assert_eq!(list("-ssh-ed25519").hash(&ed25519, false, None), None);
        assert_eq!(list("-ssh-ed25519").hash(&ed25519, true, None), Some(None));
    }
}
