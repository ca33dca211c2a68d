//! `mount.scaup` and `mount.fuse.scaup`: what mount(8) runs for file systems of these types, for example those in
//! fstab(5). Both are links to the program.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;

/// Mount a directory of a server, as mount(8) has it done.
#[derive(Parser)]
#[command(
    name = "mount.scaup",
    version,
    after_help = "mount(8) runs this program for lines of fstab(5) whose type is scaup (or fuse.scaup):\n\n  \
        hq  /mnt/hq  scaup  noauto,user,_netdev  0 0\n\n\
        The first field is a bookmark of the user who mounts, or any other target of scaup-mount(1). A bookmark has a place for all that \
        does not fit into options: vaults, and commands that give passphrases, codes and passwords. The options are those of `scaup mount -o`; \
        options that concern mount(8) or systemd alone have no effect."
)]
struct HelperArguments {
    /// A bookmark, or a target as `scaup mount` takes it
    target: OsString,
    /// Where to mount
    mountpoint: OsString,
    /// Options, as for `scaup mount -o`
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// Do everything but mount: this program then does nothing
    #[arg(short)]
    fake: bool,
    /// Say what is done
    #[arg(short)]
    verbose: bool,
    /// Accept options that are not known; those of mount(8) always are
    #[arg(short)]
    sloppy: bool,
    /// Write no /etc/mtab: none is ever written
    #[arg(short)]
    no_mtab: bool,
    /// The mount namespace, which mount(8) has entered
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<OsString>,
    /// The type
    #[arg(short, value_name = "TYPE")]
    r#type: Option<OsString>,
}

/// Whether the program was run by this name as a mount helper.
pub(super) fn is_helper(program: &OsStr) -> bool {
    let name = Path::new(program).file_name();
    name.is_some_and(|name| name == "mount.scaup" || name == "mount.fuse.scaup")
}

/// Returns the arguments of `scaup mount` for those of a mount helper, its name first; `None` if nothing is to be done.
///
/// # Errors
///
/// Says how it is used.
pub(super) fn arguments_of_mount(
    given: impl IntoIterator<Item = OsString>,
) -> Result<Option<Vec<OsString>>, clap::Error> {
    let HelperArguments { target, mountpoint, options, fake, verbose, .. } =
        HelperArguments::try_parse_from(given)?;
    if fake {
        return Ok(None);
    }
    let mut arguments: Vec<OsString> = ["scaup", "mount"].map(OsString::from).to_vec();
    arguments.extend((!verbose).then(|| "-q".into()));
    arguments.extend(options.into_iter().flat_map(|options| ["-o".into(), options]));
    arguments.extend(["--".into(), target, mountpoint]);
    Ok(Some(arguments))
}

/// Returns the definition of the helper's command line.
pub(super) fn command() -> clap::Command {
    <HelperArguments as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mounts_by(given: &[&str]) -> Option<Vec<String>> {
        let by = arguments_of_mount(given.iter().map(OsString::from)).unwrap()?;
        Some(by.into_iter().map(|text| text.into_string().unwrap()).collect())
    }

    #[test]
    fn what_mount_asks_for_is_a_mount_of_ours() {
        for (name, is) in [
            ("/sbin/mount.scaup", true),
            ("mount.fuse.scaup", true),
            ("/usr/bin/scaup", false),
            ("mount", false),
        ] {
            assert_eq!(is_helper(OsStr::new(name)), is, "{name}");
        }
        let by =
            mounts_by(&["/sbin/mount.scaup", "hq", "/mnt/hq", "-s", "-n", "-o", "rw,_netdev,allow_other"]);
        let expected = ["scaup", "mount", "-q", "-o", "rw,_netdev,allow_other", "--", "hq", "/mnt/hq"];
        assert_eq!(by.unwrap(), expected);
        let by =
            mounts_by(&["mount.scaup", "-v", "-N", "/proc/1/ns/mnt", "-t", "scaup", "a@b:/c d", "/mnt/a b"]);
        assert_eq!(by.unwrap(), ["scaup", "mount", "--", "a@b:/c d", "/mnt/a b"]);
        assert_eq!(mounts_by(&["mount.scaup", "-f", "hq", "/mnt/hq"]), None);
        assert!(arguments_of_mount(["mount.scaup", "hq"].map(OsString::from)).is_err());
    }
}
