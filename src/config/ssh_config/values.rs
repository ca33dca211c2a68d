//! The values that hold for one host, and what they mean.

use std::collections::HashMap;
use std::time::Duration;

use scaup_sftp::ssh::{Ciphers, StrictHostKeyChecking};

use super::{SshConfigError, words};

/// The names of ports: services(5).
const SERVICES: &str = "/etc/services";

/// The values that hold for one host: each keyword's first, and all of those that add up.
#[derive(Default)]
pub(super) struct Values {
    single: HashMap<String, String>,
    pub(super) identities: Vec<String>,
    pub(super) certificates: Vec<String>,
}

impl Values {
    pub(super) fn add(&mut self, keyword: &str, value: &str) {
        match keyword {
            // Its old name.
            "challengeresponseauthentication" => self.add("kbdinteractiveauthentication", value),
            "identityfile" => self.identities.extend(words(value)),
            "certificatefile" => self.certificates.extend(words(value)),
            // The first of the two wins.
            "proxycommand" if self.single.contains_key("proxyjump") => {}
            "proxyjump" if self.single.contains_key("proxycommand") => {}
            "userknownhostsfile" | "globalknownhostsfile" | "proxycommand" => {
                self.single.entry(keyword.to_owned()).or_insert_with(|| value.to_owned());
            }
            // What takes one word.
            _ => {
                self.single.entry(keyword.to_owned()).or_insert_with(|| first_word(value));
            }
        }
    }

    /// Adds what a file says. A value that means nothing here is passed over where Scaup can do without: another version of `ssh` may
    /// know it, and whom that lets in is not to be stopped.
    pub(super) fn add_from_file(&mut self, keyword: &str, value: &str) {
        let word = first_word(value);
        let means_something = match keyword {
            "serveraliveinterval" | "connecttimeout" => time(&word).is_some(),
            "serveralivecountmax" | "numberofpasswordprompts" => count(&word).is_some(),
            "hashknownhosts" | "identitiesonly" | "batchmode" => flag(&word).is_some(),
            "pubkeyauthentication"
            | "passwordauthentication"
            | "kbdinteractiveauthentication"
            | "challengeresponseauthentication" => permission(&word).is_some(),
            "ciphers" => ciphers(&word).is_some(),
            _ => true,
        };
        if means_something {
            self.add(keyword, value);
        } else {
            tracing::warn!(keyword, value, "a value of the ssh configuration is not known and passed over");
        }
    }

    pub(super) fn get(&self, keyword: &str) -> Option<&str> {
        self.single.get(keyword).map(String::as_str)
    }

    pub(super) fn parsed<T>(
        &self,
        keyword: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SshConfigError> {
        self.get(keyword)
            .map(|value| {
                parse(value).ok_or_else(|| SshConfigError::Value {
                    keyword: keyword.to_owned(),
                    value: value.to_owned(),
                })
            })
            .transpose()
    }
}

fn first_word(value: &str) -> String {
    words(value).into_iter().next().unwrap_or_default()
}

pub(super) fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// Whether a method may be tried. Two of the values are about how keys are offered.
pub(super) fn permission(value: &str) -> Option<bool> {
    flag(value).or_else(|| matches!(value, "unbound" | "host-bound").then_some(true))
}

pub(super) fn ciphers(value: &str) -> Option<Ciphers> {
    value.parse().ok()
}

pub(super) fn count(value: &str) -> Option<usize> {
    value.parse().ok()
}

/// A time as sshd_config(5) has it (TIME FORMATS): numbers with units, which add up. `none` is as good as 0.
pub(super) fn time(value: &str) -> Option<Duration> {
    if value == "none" {
        return Some(Duration::ZERO);
    }
    let (mut total, mut number) = (0_u32, None);
    for c in value.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0_u32).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            'w' => 7 * 24 * 60 * 60,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    // A number at the end without a unit is seconds.
    let total = total.checked_add(number.unwrap_or(0))?;
    Some(Duration::from_secs(total.into())).filter(|_| !value.is_empty())
}

/// A port by its number or its name.
pub(super) fn port(value: &str) -> Option<u16> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().filter(|&port| port > 0);
    }
    let services = std::fs::read_to_string(SERVICES).ok()?;
    services.lines().find_map(|line| {
        let mut fields = line.split('#').next()?.split_whitespace();
        let name = fields.next()?;
        let port = fields.next()?.strip_suffix("/tcp")?.parse().ok()?;
        (name == value || fields.any(|alias| alias == value)).then_some(port)
    })
}

pub(super) fn strict_host_key_checking(value: &str) -> Option<StrictHostKeyChecking> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(StrictHostKeyChecking::Yes),
        "no" | "false" | "off" => Some(StrictHostKeyChecking::No),
        "ask" => Some(StrictHostKeyChecking::Ask),
        "accept-new" => Some(StrictHostKeyChecking::AcceptNew),
        _ => None,
    }
}
