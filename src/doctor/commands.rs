//! The programs that commands begin with, which are looked for and never run.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::config::paths;

/// Words that a shell carries out itself.
const OF_THE_SHELL: &[&str] = &[
    ".", ":", "[", "case", "cd", "command", "echo", "eval", "exec", "exit", "export", "for", "if", "printf",
    "read", "set", "test", "trap", "true", "unset", "until", "while",
];

/// Returns where a program is found in PATH.
pub(super) fn in_path(program: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Returns the program that a command for the shell begins with if it is certain that it does not exist.
pub(super) fn missing_program(command: &str) -> Option<&str> {
    let is_assignment = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let program = command.split_whitespace().find(|word| !is_assignment(word))?;
    // Only a shell could tell which program such a word is.
    if program.contains([
        '$', '`', '"', '\'', '\\', '(', ')', '{', '}', '|', '&', ';', '<', '>', '*', '?', '!', '#', '=',
    ]) || OF_THE_SHELL.contains(&program)
    {
        return None;
    }
    let exists = if program.contains('/') {
        is_program(&paths::expand_home(PathBuf::from(program)))
    } else {
        in_path(OsStr::new(program)).is_some()
    };
    (!exists).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_and_what_only_a_shell_understands_is_not_judged() {
        for (command, missing) in [
            ("sh -c true", None),
            ("LANG=C sh", None),
            ("/bin/sh", None),
            ("no-such-program show hq", Some("no-such-program")),
            ("A=1 B= no-such-program", Some("no-such-program")),
            ("/no/such/program", Some("/no/such/program")),
            ("~/no/such/program", Some("~/no/such/program")),
            ("/etc", Some("/etc")),
            ("/etc/passwd", Some("/etc/passwd")),
            ("$HOME/bin/code", None),
            ("'my program'", None),
            ("if true; then echo; fi", None),
            ("(no-such-program)", None),
            ("no-such-program|head", None),
            ("", None),
        ] {
            assert_eq!(missing_program(command), missing, "{command}");
        }
    }
}
