//! `-o KEY=VALUE,…`: options for the mount, options for SSH, and options for other programs, which are ignored.
//!
//! Of two values for one option the first counts, as in `ssh`.

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use serde::{Deserialize, Serialize};

use super::parts::{OptionalPart, UnknownPart};
use super::ssh_config::keywords;

/// Types of mounts that Scaup makes unless it is told another one (`subtype=`).
pub const TYPES: [&str; 2] = ["fuse.sshfs", "fuse.scaup"];

/// The options of all `-o`, as they were given and sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Options {
    given: Vec<String>,
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
    pub server_owners: Option<bool>,
    /// `otp_for=`: jump hosts whose questions for a code the command also answers.
    pub otp_for: Vec<String>,
    /// `without=`: parts of the drive that are left out.
    pub without: BTreeSet<OptionalPart>,
}

/// An option for the mount.
enum MountOption {
    /// It has no value.
    Word { name: &'static str, set: fn(&mut Options) },
    /// It has one; people are shown its form. `set` returns why a value is not valid.
    Value { name: &'static str, form: &'static str, set: fn(&mut Options, &str) -> Result<(), String> },
}

use MountOption::{Value, Word};

/// All options for the mount.
const KNOWN: [MountOption; 11] = [
    Word { name: "ro", set: |it| it.read_only = true },
    Word { name: "allow_other", set: |it| it.allow_other = true },
    Word { name: "noexec", set: |it| it.no_exec = true },
    Value { name: "uid", form: "uid=", set: |it, text| first(&mut it.uid, number(text, 10)) },
    Value { name: "gid", form: "gid=", set: |it, text| first(&mut it.gid, number(text, 10)) },
    Value {
        name: "umask",
        form: "umask=",
        set: |it, text| {
            let umask = number(text, 8).and_then(|it| u16::try_from(it & 0o777).map_err(|it| it.to_string()));
            first(&mut it.umask, umask)
        },
    },
    Value { name: "fsname", form: "fsname=", set: |it, text| first(&mut it.fsname, Ok(text.to_owned())) },
    Value { name: "subtype", form: "subtype=", set: |it, text| first(&mut it.subtype, Ok(text.to_owned())) },
    Value {
        name: "idmap",
        form: "idmap=none",
        set: |it, text| {
            let server_owners = match text {
                "none" => Ok(true),
                "user" => Ok(false),
                _ => Err("write none or user".to_owned()),
            };
            first(&mut it.server_owners, server_owners)
        },
    },
    Value {
        name: "otp_for",
        form: "otp_for=HOST[:HOST…]",
        set: |it, hosts| {
            it.otp_for.extend(hosts.split(':').filter(|host| !host.is_empty()).map(str::to_owned));
            Ok(())
        },
    },
    Value {
        name: "without",
        form: "without=PART[:PART…]",
        set: |it, parts| {
            let named: Result<Vec<OptionalPart>, UnknownPart> = parts.split(':').map(str::parse).collect();
            it.without.extend(named.map_err(|error| error.to_string())?);
            Ok(())
        },
    },
];

fn number(text: &str, radix: u32) -> Result<u32, String> {
    u32::from_str_radix(text, radix).map_err(|_| "not a number".to_owned())
}

fn first<T>(slot: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    slot.get_or_insert(value?);
    Ok(())
}

/// Options for `mount(8)`, `systemd` or a desktop that have no effect here. `default_permissions` and `nosuid,nodev`
/// are always on.
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

/// Returns the options for the mount, as listed for people.
pub fn listed() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|option| match option {
        Word { name, .. } => *name,
        Value { form, .. } => *form,
    })
}

/// Returns whether a word is an option by itself.
fn is_word(word: &str) -> bool {
    let is_known = KNOWN.iter().any(|option| matches!(option, Word { name, .. } if *name == word));
    is_known || is_ignored(word)
}

fn is_ignored(word: &str) -> bool {
    IGNORED.contains(&word) || word.starts_with("x-")
}

impl Options {
    /// Returns whether none was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Returns these options, and behind them those of `below`.
    ///
    /// # Errors
    ///
    /// As for one list that has both.
    pub fn over(self, below: Self) -> Result<Self, String> {
        Self::try_from([self.given, below.given].concat())
    }

    /// Takes an option for the mount; returns whether it is one.
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<bool, String> {
        for option in &KNOWN {
            match (option, value) {
                (Word { name, set }, None) if *name == key => set(self),
                (Value { name, set, .. }, Some(value)) if *name == key => {
                    set(self, value).map_err(|why| format!("option {key}={value}: {why}"))?;
                }
                _ => continue,
            }
            return Ok(true);
        }
        Ok(false)
    }
}

impl TryFrom<Vec<String>> for Options {
    type Error = String;

    /// Sorts the values of all `-o`; the error names the option that is unknown or has a bad value.
    fn try_from(given: Vec<String>) -> Result<Self, String> {
        let mut sorted = Self::default();
        let mut last_is_list = false;
        for option in given.iter().flat_map(|value| value.split(',')).filter(|option| !option.is_empty()) {
            let (key, value) =
                option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
            // A word behind a list that is not an option belongs to the list.
            if value.is_none()
                && last_is_list
                && !is_word(key)
                && let Some((_, list)) = sorted.ssh.last_mut()
            {
                list.push(',');
                list.push_str(key);
                continue;
            }
            last_is_list = false;
            let is_for_others = key.starts_with("x-") || (value.is_none() && is_ignored(key));
            if sorted.set(key, value)? || is_for_others {
                continue;
            }
            let (Some(keyword), Some(value)) = (keywords::find(key), value) else {
                let mount = listed().collect::<Vec<_>>().join(", ");
                let ssh = keywords::heeded().collect::<Vec<_>>().join(", ");
                return Err(format!(
                    "unknown option -o {option}; Scaup knows {mount}, and of ssh_config(5) {ssh}"
                ));
            };
            if let Some(reason) = keyword.refusal_as_option(value) {
                return Err(format!("option {option} is not supported: {reason}"));
            }
            sorted.ssh.push((key.to_owned(), value.to_owned()));
            last_is_list = keyword.is_list();
        }
        Ok(Self { given, ..sorted })
    }
}

impl From<Options> for Vec<String> {
    fn from(options: Options) -> Self {
        options.given
    }
}

/// The argument's name.
const ARGUMENT: &str = "options";

// By hand, as all values are read together: a list can go on in the next.
impl clap::Args for Options {
    fn augment_args(command: Command) -> Command {
        let help =
            "SSH options by their ssh_config names, and mount options; the help of `scaup mount` lists them";
        let argument = Arg::new(ARGUMENT).short('o').value_name("KEY=VALUE,…").help(help);
        command.arg(argument.action(ArgAction::Append))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = matches.get_many::<String>(ARGUMENT).unwrap_or_default();
        let sorted = Self::try_from(given.cloned().collect::<Vec<_>>());
        sorted.map_err(|why| clap::Error::raw(ErrorKind::ValueValidation, why))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sort(given: &[String]) -> Result<Options, String> {
        Options::try_from(given.to_vec())
    }

    #[test]
    fn of_two_values_the_first_counts_and_what_was_given_is_kept() {
        let given = ["uid=1,idmap=user".to_owned(), "uid=2,idmap=none,x-gvfs-show".to_owned()];
        let sorted = sort(&given).unwrap();
        assert_eq!((sorted.uid, sorted.server_owners), (Some(1), Some(false)));
        assert_eq!(Vec::from(sorted), given);
    }

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
        let given = [
            "Ciphers=a,b,x-gvfs-show,ro,PreferredAuthentications=publickey,password,ProxyJump=x,y:22,LogLevel=QUIET",
        ];
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
        let all: Vec<String> = OptionalPart::ALL.iter().map(OptionalPart::to_string).collect();
        let given = [format!("without={}", all.join(":")), "without=read-ahead,ro".to_owned()];
        assert_eq!(sort(&given).unwrap().without, BTreeSet::from(OptionalPart::ALL));
        let error = sort(&["without=read-ahead:speed".to_owned()]).unwrap_err();
        assert!(error.contains("\"speed\"") && error.contains("read-ahead, list-ahead"), "{error}");
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = sort(&["ro,fooled=1".to_owned()]).unwrap_err();
        assert!(error.contains("fooled=1"), "{error}");
    }
}
