//! The values that hold for one host, and their parsing.

use std::collections::HashMap;
use std::time::Duration;

use scaup_sftp::ssh::{AddressFamily, Rekeying, StrictHostKeyChecking};

use super::error::{Origin, SshConfigError};
use super::keywords::{Form, Keyword, Treatment};
use super::lines::words;

/// The port of SSH.
pub(super) const PORT: u16 = 22;
/// The names of ports: services(5).
const SERVICES: &str = "/etc/services";

/// A value of an option.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) words: Vec<String>,
    pub(super) origin: Origin,
}

/// The values that hold for one host: the first of each option, or all of an option whose values add up.
#[derive(Default)]
pub(super) struct Values {
    single: HashMap<&'static str, Value>,
    pub(super) identities: Vec<Value>,
    pub(super) certificates: Vec<Value>,
    /// What the files want and Scaup never does.
    pub(super) never_done: Vec<NeverDone>,
}

/// A line of a file that wants what Scaup never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverDone {
    /// The place of the option.
    pub origin: Origin,
    /// The option.
    pub keyword: &'static str,
    /// Why it is not done.
    pub reason: &'static str,
}

impl Values {
    /// Adds a value, unless an earlier one holds.
    pub(super) fn add(
        &mut self,
        keyword: &'static Keyword,
        value: &str,
        origin: &Origin,
    ) -> Result<(), SshConfigError> {
        let invalid = || SshConfigError::Value {
            origin: origin.clone(),
            keyword: keyword.name,
            value: value.to_owned(),
        };
        let words = match keyword.treatment {
            Treatment::Heeded(form) => {
                let words = words(value).ok_or_else(invalid)?;
                let as_many_as_there_may_be = match form {
                    Form::Word | Form::List => words.len() == 1,
                    Form::Words => !words.is_empty(),
                };
                if !as_many_as_there_may_be {
                    return Err(invalid());
                }
                words
            }
            Treatment::Refused(..) => match words(value) {
                Some(words) => vec![words.join(" ")],
                None => vec![value.to_owned()],
            },
            Treatment::Structure | Treatment::NeverDone(_) | Treatment::WithoutEffect(_) => return Ok(()),
        };
        match keyword.name {
            "IdentityFile" => add_new(&mut self.identities, words, origin),
            "CertificateFile" => add_new(&mut self.certificates, words, origin),
            // The first of the two wins.
            "ProxyCommand" if self.single.contains_key("ProxyJump") => {}
            "ProxyJump" if self.single.contains_key("ProxyCommand") => {}
            name => {
                self.single.entry(name).or_insert_with(|| Value { words, origin: origin.clone() });
            }
        }
        Ok(())
    }

    /// Sets a value that no later one replaces.
    pub(super) fn fix(&mut self, name: &'static str, value: &str) {
        let value = Value { words: vec![value.to_owned()], origin: Origin::CommandLine };
        self.single.insert(name, value);
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.single.get(name)
    }

    /// Returns the first word of an option's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.value(name)?.words.first().map(String::as_str)
    }

    /// Returns the name to connect to: `HostName`, in which `%h` is the host as the user wrote it, or that itself.
    pub(super) fn host_name(&self, original: &str) -> String {
        let expand = |part: &str| part.replace("%h", original);
        self.get("HostName").map_or_else(
            || original.to_owned(),
            |name| name.split("%%").map(expand).collect::<Vec<_>>().join("%"),
        )
    }

    /// Parses an option's value.
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SshConfigError> {
        self.parsed_words(name, |words| parse(words.first()?))
    }

    pub(super) fn parsed_words<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&[String]) -> Option<T>,
    ) -> Result<Option<T>, SshConfigError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let parsed = parse(&value.words).ok_or_else(|| SshConfigError::Value {
            origin: value.origin.clone(),
            keyword: name,
            value: value.words.join(" "),
        })?;
        Ok(Some(parsed))
    }
}

/// Adds a file: one that is named twice counts once.
fn add_new(list: &mut Vec<Value>, words: Vec<String>, origin: &Origin) {
    if list.iter().all(|value| value.words != words) {
        list.push(Value { words, origin: origin.clone() });
    }
}

/// A jump host, as `ProxyJump` names it.
pub(super) struct Hop<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

/// Parses `[user@]host[:port]`, with `ssh://` before it or without.
pub(super) fn hop(text: &str) -> Option<Hop<'_>> {
    let text = text.trim().trim_start_matches("ssh://");
    let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':')))?,
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.starts_with('-') {
        return None;
    }
    let port = port.map(str::parse).transpose().ok()?;
    Some(Hop { user, host, port })
}

pub(super) fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// Returns whether a method may be tried. Two of the values are about how keys are offered.
pub(super) fn permission(value: &str) -> Option<bool> {
    flag(value).or_else(|| matches!(value, "unbound" | "host-bound").then_some(true))
}

pub(super) fn address_family(value: &str) -> Option<AddressFamily> {
    match value.to_ascii_lowercase().as_str() {
        "any" => Some(AddressFamily::Any),
        "inet" => Some(AddressFamily::Inet),
        "inet6" => Some(AddressFamily::Inet6),
        _ => None,
    }
}

/// Parses a number of bytes, and perhaps a time.
pub(super) fn rekeying(words: &[String]) -> Option<Rekeying> {
    /// Fewer are useless, and `ssh` takes no fewer, either.
    const BYTES_MIN: usize = 16;
    let (bytes, limit) = match words {
        [bytes] => (bytes, None),
        [bytes, limit] => (bytes, Some(limit)),
        _ => return None,
    };
    let bytes = match bytes.as_str() {
        "default" => None,
        bytes => {
            let unit = match bytes.to_ascii_lowercase().chars().last()? {
                'k' => 1 << 10,
                'm' => 1 << 20,
                'g' => 1 << 30,
                't' => 1 << 40,
                'p' => 1 << 50,
                'e' => 1 << 60,
                _ => 1,
            };
            let number = bytes.strip_suffix(|c: char| c.is_ascii_alphabetic() && unit > 1).unwrap_or(bytes);
            let bytes = number.parse::<usize>().ok()?.checked_mul(unit)?;
            if bytes != 0 && bytes < BYTES_MIN {
                return None;
            }
            Some(bytes)
        }
    };
    let limit = limit.map_or(Some(Duration::ZERO), |limit| time(limit))?;
    // Zero means the default.
    Some(Rekeying {
        bytes: bytes.filter(|bytes| *bytes > 0),
        time: Some(limit).filter(|limit| !limit.is_zero()),
    })
}

pub(super) fn count(value: &str) -> Option<usize> {
    value.parse().ok()
}

/// Parses a time as in sshd_config(5) (TIME FORMATS): numbers with units, which add up. `none` means 0.
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

/// Parses a port, a number or a name.
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
