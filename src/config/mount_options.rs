//! `-o KEY=VALUE,…`: which options are for the mount, which for SSH, and which are for others and ignored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::drive::{Part, UnknownPart};

/// The options of all `-o`, sorted out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SortedOptions {
    /// Options by their `ssh_config` names, in the order given.
    pub ssh: Vec<(String, String)>,
    /// `ro`.
    pub read_only: bool,
    /// `allow_other`.
    pub allow_other: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// `uid=`.
    pub uid: Option<u32>,
    /// `gid=`.
    pub gid: Option<u32>,
    /// `umask=`, octal.
    pub umask: Option<u16>,
    /// `fsname=`.
    pub fsname: Option<String>,
    /// `subtype=`.
    pub subtype: Option<String>,
    /// `idmap=none`: owners outside vaults are shown as the server numbers them.
    pub server_owners: bool,
    /// `without=`: parts of the drive that are left out.
    pub without: BTreeSet<Part>,
}

/// Options that mean something to `mount(8)`, `systemd` or a desktop, and nothing here. `default_permissions` and `nosuid,nodev` are
/// always on.
const IGNORED: [&str; 17] = [
    "_netdev",
    "nofail",
    "noauto",
    "auto",
    "user",
    "users",
    "nouser",
    "owner",
    "defaults",
    "rw",
    "exec",
    "nosuid",
    "nodev",
    "noatime",
    "relatime",
    "default_permissions",
    "reconnect",
];

/// Options for the mount that stand without a value.
const WORDS: [&str; 3] = ["ro", "allow_other", "noexec"];

/// Options of `ssh_config(5)` that are understood.
const SSH: [&str; 17] = [
    "user",
    "port",
    "hostname",
    "identityfile",
    "identitiesonly",
    "identityagent",
    "certificatefile",
    "proxyjump",
    "userknownhostsfile",
    "globalknownhostsfile",
    "stricthostkeychecking",
    "hostkeyalias",
    "hashknownhosts",
    "serveraliveinterval",
    "serveralivecountmax",
    "connecttimeout",
    "preferredauthentications",
];

/// Sorts the values of all `-o`.
///
/// # Errors
///
/// A sentence that names the option that is not known or has a bad value.
pub fn sort(values: &[String]) -> Result<SortedOptions, String> {
    let mut sorted = SortedOptions::default();
    let options = values.iter().flat_map(|value| value.split(',')).filter(|option| !option.is_empty());
    let mut last_is_jump = false;
    for option in options {
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        let number = |radix| {
            let value = value.unwrap_or_default();
            u32::from_str_radix(value, radix).map_err(|_| format!("option {key}={value}: not a number"))
        };
        let is_jump = key.eq_ignore_ascii_case("proxyjump");
        match (key, value) {
            // ProxyJump's own value is a list with commas: what follows it and is no option is its next jump.
            (jump, None) if last_is_jump && !WORDS.contains(&jump) && !IGNORED.contains(&jump) => {
                if let Some((_, jumps)) = sorted.ssh.last_mut() {
                    jumps.push(',');
                    jumps.push_str(jump);
                }
                continue;
            }
            ("ro", None) => sorted.read_only = true,
            ("allow_other", None) => sorted.allow_other = true,
            ("noexec", None) => sorted.no_exec = true,
            ("uid", Some(_)) => sorted.uid = Some(number(10)?),
            ("gid", Some(_)) => sorted.gid = Some(number(10)?),
            ("umask", Some(_)) => sorted.umask = u16::try_from(number(8)? & 0o777).ok(),
            ("fsname", Some(value)) => sorted.fsname = Some(value.to_owned()),
            ("subtype", Some(value)) => sorted.subtype = Some(value.to_owned()),
            ("without", Some(parts)) => {
                let named: Result<Vec<Part>, UnknownPart> = parts.split(':').map(str::parse).collect();
                sorted.without.extend(named.map_err(|error| format!("option {option}: {error}"))?);
            }
            ("idmap", Some("none")) => sorted.server_owners = true,
            ("idmap", Some("user")) => sorted.server_owners = false,
            (key, _) if key.starts_with("x-") || (IGNORED.contains(&key) && value.is_none()) => {}
            (key, Some(value)) if SSH.contains(&key.to_ascii_lowercase().as_str()) => {
                sorted.ssh.push((key.to_owned(), value.to_owned()));
            }
            _ if key.eq_ignore_ascii_case("proxycommand") => {
                return Err("option ProxyCommand is not supported; use ProxyJump".to_owned());
            }
            _ => return Err(format!("unknown option -o {option}; see `scaup mount --help`")),
        }
        last_is_jump = is_jump;
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_go_where_they_belong() {
        let given = [
            "ro,uid=1000,umask=077".to_owned(),
            "StrictHostKeyChecking=no,x-gvfs-show,_netdev,user".to_owned(),
        ];
        let sorted = sort(&given).unwrap();
        assert!(sorted.read_only);
        assert_eq!((sorted.uid, sorted.umask), (Some(1000), Some(0o77)));
        assert_eq!(sorted.ssh, [("StrictHostKeyChecking".to_owned(), "no".to_owned())]);
    }

    #[test]
    fn parts_are_left_out_by_their_names() {
        let all: Vec<String> = Part::ALL.iter().map(Part::to_string).collect();
        let given = [format!("without={}", all.join(":")), "without=read-ahead,ro".to_owned()];
        assert_eq!(sort(&given).unwrap().without, BTreeSet::from(Part::ALL));
        let error = sort(&["without=read-ahead:speed".to_owned()]).unwrap_err();
        assert!(error.contains("\"speed\"") && error.contains("read-ahead, list-ahead"), "{error}");
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = sort(&["ro,fooled=1".to_owned()]).unwrap_err();
        assert!(error.contains("fooled=1"), "{error}");
    }
}
