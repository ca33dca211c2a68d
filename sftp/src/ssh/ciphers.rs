//! Which ciphers are offered: all that are known, or what a list of `ssh_config(5)` (`Ciphers`) leaves of them.

use std::str::FromStr;

use russh::cipher::{self, Name};

use super::known_hosts::matches_pattern;

/// Authenticated ciphers first: they are fast everywhere and free of the Terrapin weakness (CVE-2023-48795), which the strict key exchange
/// also closes for the third.
const ALL: [Name; 5] = [
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_128_CTR,
];

/// The ciphers to offer, the preferred first. At least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphers(Vec<Name>);

/// A list leaves no cipher that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no cipher of the list is known")]
pub struct NoCipher;

impl Ciphers {
    pub(super) fn names(&self) -> &[Name] {
        &self.0
    }
}

impl Default for Ciphers {
    fn default() -> Self {
        Self(ALL.to_vec())
    }
}

impl FromStr for Ciphers {
    type Err = NoCipher;

    /// `+` in front adds to what is offered, `-` takes from it, `^` prefers; what is not known here is passed over.
    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let (how, list) = match list.chars().next() {
            Some(how @ ('+' | '-' | '^')) => (Some(how), list.trim_start_matches(how)),
            _ => (None, list),
        };
        let is_named = |pattern: &str, name: &Name| matches_pattern(name.as_ref(), pattern);
        let mut named: Vec<Name> = list
            .split(',')
            .flat_map(|pattern| ALL.into_iter().filter(move |name| is_named(pattern, name)))
            .collect();
        let others = ALL.into_iter().filter(|name| !named.contains(name)).collect::<Vec<_>>();
        let offered = match how {
            Some('+') => ALL.to_vec(),
            Some('-') => others,
            Some(_) => {
                named.extend(others);
                named
            }
            None => named,
        };
        if offered.is_empty() { Err(NoCipher) } else { Ok(Self(offered)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_ssh_config_has_them() {
        for (list, offered) in [
            ("aes128-ctr", Some(vec![cipher::AES_128_CTR])),
            (
                "3des-cbc,aes128-ctr,aes256-gcm@openssh.com",
                Some(vec![cipher::AES_128_CTR, cipher::AES_256_GCM]),
            ),
            ("+3des-cbc", Some(ALL.to_vec())),
            ("-aes*", Some(vec![cipher::CHACHA20_POLY1305])),
            (
                "^aes128-ctr,aes256-ctr",
                Some(vec![
                    cipher::AES_128_CTR,
                    cipher::AES_256_CTR,
                    cipher::AES_256_GCM,
                    cipher::AES_128_GCM,
                    cipher::CHACHA20_POLY1305,
                ]),
            ),
            ("-*", None),
            ("3des-cbc", None),
            ("", None),
        ] {
            assert_eq!(list.parse().ok(), offered.map(Ciphers), "{list}");
        }
    }
}
