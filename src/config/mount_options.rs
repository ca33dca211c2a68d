//! `-o KEY=VALUE,…`: which options are for the mount, which for SSH, and which are for others and ignored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ssh_config::keywords;
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
    /// `otp_for=`: jump hosts whose questions for a code the command answers, too.
    pub otp_for: Vec<String>,
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

/// Options for the mount, as people are told of them.
pub const MOUNT: &[&str] = &[
    "ro",
    "allow_other",
    "noexec",
    "uid=",
    "gid=",
    "umask=",
    "fsname=",
    "subtype=",
    "idmap=none",
    "otp_for=HOST[:HOST…]",
    "without=PART[:PART…]",
];

/// Sorts the values of all `-o`.
///
/// # Errors
///
/// A sentence that names the option that is not known or has a bad value.
pub fn sort(values: &[String]) -> Result<SortedOptions, String> {
    let mut sorted = SortedOptions::default();
    let options = values.iter().flat_map(|value| value.split(',')).filter(|option| !option.is_empty());
    let mut last_is_list = false;
    for option in options {
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        let number = |radix| {
            let value = value.unwrap_or_default();
            u32::from_str_radix(value, radix).map_err(|_| format!("option {key}={value}: not a number"))
        };
        let keyword = value.and_then(|_| keywords::find(key));
        let is_list = keyword.is_some_and(|keyword| keyword.is_list());
        match (key, value) {
            // What follows a list and is no option belongs to it.
            (item, None) if last_is_list && !WORDS.contains(&item) && !IGNORED.contains(&item) => {
                if let Some((_, list)) = sorted.ssh.last_mut() {
                    list.push(',');
                    list.push_str(item);
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
            ("otp_for", Some(hosts)) => {
                let hosts = hosts.split(':').filter(|host| !host.is_empty());
                sorted.otp_for.extend(hosts.map(str::to_owned));
            }
            ("without", Some(parts)) => {
                let named: Result<Vec<Part>, UnknownPart> = parts.split(':').map(str::parse).collect();
                sorted.without.extend(named.map_err(|error| format!("option {option}: {error}"))?);
            }
            ("idmap", Some("none")) => sorted.server_owners = true,
            ("idmap", Some("user")) => sorted.server_owners = false,
            (key, _) if key.starts_with("x-") || (IGNORED.contains(&key) && value.is_none()) => {}
            (key, value) => match (keyword, value) {
                (Some(keyword), Some(value)) => match keyword.refusal_as_option(value) {
                    Some(reason) => return Err(format!("option {option} is not supported: {reason}")),
                    None => sorted.ssh.push((key.to_owned(), value.to_owned())),
                },
                _ => {
                    let (mount, ssh) = (MOUNT.join(", "), keywords::heeded().collect::<Vec<_>>().join(", "));
                    return Err(format!(
                        "unknown option -o {option}; known are {mount}, and of ssh_config(5) {ssh}"
                    ));
                }
            },
        }
        last_is_list = is_list;
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
    fn lists_have_commas() {
        let given =
            ["Ciphers=a,b,ro,PreferredAuthentications=publickey,password,ProxyJump=x,y:22,LogLevel=QUIET"];
        let sorted = sort(&given.map(str::to_owned)).unwrap();
        assert!(sorted.read_only);
        let lists = [
            ("Ciphers", "a,b"),
            ("PreferredAuthentications", "publickey,password"),
            ("ProxyJump", "x,y:22"),
            ("LogLevel", "QUIET"),
        ];
        assert_eq!(sorted.ssh, lists.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn hosts_that_get_codes_are_named() {
        let given = ["otp_for=gate:second,ro".to_owned(), "otp_for=third".to_owned()];
        assert_eq!(sort(&given).unwrap().otp_for, ["gate", "second", "third"]);
        assert!(sort(&["otp_for".to_owned()]).is_err());
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
