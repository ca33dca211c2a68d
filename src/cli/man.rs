//! `scaup man`: the manual pages, from the definition of the command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::error::CliError;
use crate::config::bookmark::{self, Key};

/// Write the manual pages into a directory, for a package.
#[derive(Args)]
pub(super) struct Arguments {
    /// The directory
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments, command: Command, helper: Command) -> Result<(), CliError> {
    Ok(write(&arguments.directory, command, helper)?)
}

/// Writes a page of section 1 for each command, one of section 5 for bookmarks, and one of section 8 for the `helper`
/// of mount(8).
fn write(directory: &Path, command: Command, helper: Command) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let source = format!("scaup {}", command.get_version().unwrap_or_default());
    write_commands(directory, &command, &source)?;
    let helper = page(&Man::new(helper).section("8").source(source.clone()))?;
    std::fs::write(directory.join("mount.scaup.8"), helper)?;
    std::fs::write(directory.join("scaup-bookmark.5"), bookmarks(&source))
}

fn write_commands(directory: &Path, command: &Command, source: &str) -> io::Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_commands(directory, command, source)?;
    }
    let man = Man::new(command.clone()).source(source);
    std::fs::write(directory.join(man.get_filename()), page(&man)?)
}

/// Returns the text of a page.
fn page(man: &Man) -> io::Result<String> {
    let mut page = Vec::new();
    man.render(&mut page)?;
    // What clap_mangen calls the text below the options.
    Ok(String::from_utf8_lossy(&page).replace(".SH EXTRA\n", ".SH NOTES\n"))
}

/// Returns the page about the files of bookmarks.
fn bookmarks(source: &str) -> String {
    let mut page = Roff::new();
    page.control("TH", ["scaup-bookmark", "5", "", source, ""])
        .control("SH", ["NAME"])
        .text([roman("scaup-bookmark - a target and its settings, kept under a name")])
        .control("SH", ["SYNOPSIS"])
        .text([roman("$XDG_CONFIG_HOME/scaup/bookmarks/"), italic("NAME"), roman(".toml")])
        .control("SH", ["DESCRIPTION"])
        .text([roman(
            "A bookmark is a file in TOML: lines of the form KEY = VALUE. A text is written in quotes, a list in \
             brackets. Options that are given to scaup mount count before those of the bookmark. \
             scaup bookmark adds, shows, changes and removes bookmarks.",
        )])
        .control("SH", ["KEYS"]);
    for Key { name, form, help } in bookmark::keys() {
        page.control("TP", []).text([bold(name), roman(" = "), italic(form)]).text([roman(help)]);
    }
    page.control("SH", ["SEE ALSO"]).text([roman("scaup-mount(1), scaup-bookmark(1)")]);
    page.to_roff()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::process;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn each_option_of_mount_and_each_key_of_bookmarks_has_its_place_in_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let command = super::super::Arguments::command();
        write(directory.path(), command.clone(), super::super::mount_helper::command()).unwrap();
        let page = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap().replace("\\-", "-");
        let (mount, bookmarks) = (page("scaup-mount.1"), page("scaup-bookmark.5"));
        let is_at_the_head = |page: &str, word: &str| {
            page.split(".TP\n")
                .skip(1)
                .filter_map(|entry| entry.lines().next())
                .any(|head| head.contains(word))
        };
        for argument in command.find_subcommand("mount").unwrap().get_arguments() {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let name = long.or_else(|| Some(format!("-{}", argument.get_short()?)));
            let name = name.unwrap_or_else(|| argument.get_id().as_str().to_uppercase());
            assert!(is_at_the_head(&mount, &name), "{name}: {mount}");
            let key = argument.get_id().as_str();
            let is_of_the_command_only = ["foreground", "quiet"].contains(&key);
            let head = format!("\\fB{key}\\fR = ");
            assert_ne!(is_at_the_head(&bookmarks, &head), is_of_the_command_only, "{key}: {bookmarks}");
        }
        for nested in ["scaup.1", "scaup-vault-check.1", "scaup-bookmark-add.1", "mount.scaup.8"] {
            assert!(page(nested).contains(".SH SYNOPSIS"), "{nested}");
        }
        for hidden in ["scaup-daemon.1", "scaup-help.1"] {
            assert!(!directory.path().join(hidden).exists(), "{hidden}");
        }
    }

    /// Where groff is not installed, nothing is checked; `tests/run` installs it.
    #[test]
    fn groff_finds_nothing_wrong_with_the_pages() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), super::super::Arguments::command(), super::super::mount_helper::command())
            .unwrap();
        let pages = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let groff = process::Command::new("groff")
            .args(["-man", "-Tutf8", "-Kutf8", "-z", "-ww"])
            .args(pages)
            .output();
        match groff {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => assert_eq!(String::from_utf8(done.unwrap().stderr).unwrap(), ""),
        }
    }
}
