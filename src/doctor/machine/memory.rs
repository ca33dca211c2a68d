//! Where the memory of processes could end up: swap, hibernation, core dumps.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};
use scaup_fuse::unescaped;

use super::{GROUP, read};
use crate::doctor::Check;

/// How much memory keys are locked in at most, bytes: a page or two for each vault and each private key.
const LOCKED: u64 = 64 * 1024;
/// Deepest stack of block devices that is looked through.
const DEVICES_DEPTH_MAX: usize = 8;

const ENCRYPT_SWAP: &str = "encrypt the swap (crypttab(5), with a random key) or use zram: programs that show files of a vault may be swapped out";

pub(super) fn checks() -> Vec<Check> {
    vec![swap(), hibernation(), locked_memory(), core_dumps()]
}

/// A file or device that memory is swapped out to.
#[derive(Debug, PartialEq, Eq)]
struct SwapArea {
    path: PathBuf,
    is_device: bool,
}

/// Returns the areas in a text of the form of `/proc/swaps`.
fn swap_areas(swaps: &str) -> Vec<SwapArea> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some(SwapArea { path: unescaped(words.next()?), is_device: words.next()? == "partition" })
    };
    swaps.lines().skip(1).filter_map(of_line).collect()
}

fn swap() -> Check {
    let name = "swap";
    let areas = match read("/proc/swaps") {
        Ok(text) => swap_areas(&text),
        Err(error) => return GROUP.ok(name, format!("not known: /proc/swaps: {error}")),
    };
    let devices = Devices { sys: Path::new("/sys") };
    let clear = areas.iter().find(|area| !devices.of_area(area).is_some_and(|it| devices.is_safe(&it, 0)));
    match clear {
        None if areas.is_empty() => GROUP.ok(name, "there is none"),
        None => GROUP.ok(name, "it is encrypted, or in memory"),
        Some(area) => {
            let found = format!("{} is not encrypted, as far as can be told", area.path.display());
            GROUP.warning(name, found, ENCRYPT_SWAP)
        }
    }
}

/// The block devices of this machine, as `/sys` shows them.
struct Devices<'a> {
    sys: &'a Path,
}

impl Devices<'_> {
    /// Returns the name of the device that an area is or lies on.
    fn of_area(&self, area: &SwapArea) -> Option<String> {
        if area.is_device {
            let path = std::fs::canonicalize(&area.path).ok()?;
            return Some(path.file_name()?.to_str()?.to_owned());
        }
        let device = area.path.metadata().ok()?.dev();
        self.numbered(&format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
    }

    /// Returns the name of the device with a number such as `8:1`.
    fn numbered(&self, number: &str) -> Option<String> {
        let directory = std::fs::canonicalize(self.sys.join("dev/block").join(number)).ok()?;
        Some(directory.file_name()?.to_str()?.to_owned())
    }

    /// Returns whether what is written to a device comes to no disk in clear: it is memory itself, or dm-crypt
    /// encrypts it, here or in all devices below.
    fn is_safe(&self, name: &str, depth: usize) -> bool {
        if depth > DEVICES_DEPTH_MAX {
            return false;
        }
        let device = self.sys.join("class/block").join(name);
        if name.starts_with("zram") {
            // It may write what nobody needs to another device.
            return match read(device.join("backing_dev")) {
                Ok(backing) => backing.trim() == "none",
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
        }
        if read(device.join("dm/uuid")).is_ok_and(|uuid| uuid.starts_with("CRYPT-")) {
            return true;
        }
        let below = std::fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
        let mut below = below.map(|entry| entry.file_name()).peekable();
        below.peek().is_some()
            && below.all(|name| name.to_str().is_some_and(|name| self.is_safe(name, depth + 1)))
    }
}

fn hibernation() -> Check {
    let name = "hibernation";
    let can = read("/sys/power/state").is_ok_and(|states| states.split_whitespace().any(|it| it == "disk"));
    let number = read("/sys/power/resume").ok().map(|text| text.trim().to_owned());
    let number = number.filter(|number| number != "0:0");
    let is_wanted = read("/proc/cmdline").is_ok_and(|line| names_resume_device(&line));
    if !can || (number.is_none() && !is_wanted) {
        return GROUP.ok(name, "it is not set up");
    }
    let devices = Devices { sys: Path::new("/sys") };
    if number.and_then(|number| devices.numbered(&number)).is_some_and(|it| devices.is_safe(&it, 0)) {
        return GROUP.ok(name, "it is set up, on an encrypted device");
    }
    GROUP.warning(
        name,
        "it is set up, and writes all memory to a disk that is not encrypted, as far as can be told: also the keys of \
         unlocked vaults",
        "systemctl mask hibernate.target hybrid-sleep.target suspend-then-hibernate.target, or encrypt the swap",
    )
}

fn names_resume_device(command_line: &str) -> bool {
    let value = command_line.split_whitespace().filter_map(|word| word.strip_prefix("resume=")).next_back();
    value.is_some_and(|value| !value.is_empty())
        && !command_line.split_whitespace().any(|word| word == "noresume" || word == "nohibernate")
}

fn locked_memory() -> Check {
    let name = "locked memory";
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED && !rustix::process::geteuid().is_root() => GROUP.warning(
            name,
            format!("{limit} bytes are allowed; keys may need {LOCKED}, and could be swapped out"),
            "set LimitMEMLOCK= of the systemd unit, or memlock in /etc/security/limits.conf, to 8M",
        ),
        Some(limit) => GROUP.ok(name, format!("{} KiB are allowed, which is enough for keys", limit / 1024)),
        None => GROUP.ok(name, "it is not limited"),
    }
}

fn core_dumps() -> Check {
    let name = "core dumps";
    let pattern = read("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let to = match pattern.trim().strip_prefix('|') {
        Some(program) => {
            let program = program.split_whitespace().next().unwrap_or_default();
            format!("those of other programs go to {program}")
        }
        None => "those of other programs go to files where these run".to_owned(),
    };
    GROUP.ok(name, format!("Scaup makes none; {to}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn areas_of_swap_are_read() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/dm-1                               partition\t8388604\t\t0\t\t-2\n\
                    /swap\\040file                          file\t\t2097148\t\t0\t\t-3\n";
        let area = |path: &str, is_device| SwapArea { path: path.into(), is_device };
        assert_eq!(swap_areas(text), [area("/dev/dm-1", true), area("/swap file", false)]);
        assert_eq!(swap_areas("Filename\tType\n"), []);
        assert_eq!(swap_areas(""), []);
    }

    #[test]
    fn a_device_is_safe_where_all_that_lies_below_it_is_encrypted() {
        let sys = tempfile::tempdir().unwrap();
        let block = sys.path().join("class/block");
        let device = |name: &str, uuid: Option<&str>, below: &[&str]| {
            fs::create_dir_all(block.join(name).join("dm")).unwrap();
            fs::create_dir_all(block.join(name).join("slaves")).unwrap();
            if let Some(uuid) = uuid {
                fs::write(block.join(name).join("dm/uuid"), uuid).unwrap();
            }
            for below in below {
                fs::write(block.join(name).join("slaves").join(below), "").unwrap();
            }
        };
        device("sda1", None, &[]);
        device("dm-0", Some("CRYPT-LUKS2-0123-sda1_crypt\n"), &["sda1"]);
        device("dm-1", Some("LVM-abc"), &["dm-0"]);
        device("dm-2", Some("LVM-def"), &["dm-0", "sda1"]);
        device("circle", Some("LVM-ghi"), &["circle"]);
        device("zram0", None, &[]);
        device("zram1", None, &[]);
        fs::write(block.join("zram1/backing_dev"), "/dev/sda1\n").unwrap();
        device("zram2", None, &[]);
        fs::write(block.join("zram2/backing_dev"), "none\n").unwrap();
        let devices = Devices { sys: sys.path() };
        for (name, expected) in [
            ("sda1", false),
            ("dm-0", true),
            ("dm-1", true),
            ("dm-2", false),
            ("circle", false),
            ("zram0", true),
            ("zram1", false),
            ("zram2", true),
            ("missing", false),
        ] {
            assert_eq!(devices.is_safe(name, 0), expected, "{name}");
        }
    }

    #[test]
    fn the_kernels_command_line_names_the_device_to_resume_from() {
        assert!(names_resume_device("quiet resume=UUID=12 splash"));
        assert!(!names_resume_device("quiet splash resume="));
        assert!(!names_resume_device("resume=/dev/sda2 noresume"));
        assert!(!names_resume_device("noresume"));
    }
}
