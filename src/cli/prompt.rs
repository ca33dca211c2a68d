//! Asking a person: at the terminal, or through the `SSH_ASKPASS` program (ssh(1)).

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

/// Where questions go.
enum Way {
    Terminal,
    Program(OsString),
    Nowhere,
}

fn way() -> Way {
    let program = std::env::var_os("SSH_ASKPASS").filter(|program| !program.is_empty());
    let require = std::env::var("SSH_ASKPASS_REQUIRE").unwrap_or_default();
    let terminal = File::options().read(true).write(true).open("/dev/tty").is_ok();
    match (require.as_str(), program, terminal) {
        ("force" | "prefer", Some(program), _) => Way::Program(program),
        ("force", None, _) => Way::Nowhere,
        (_, _, true) => Way::Terminal,
        ("never", _, false) | (_, None, false) => Way::Nowhere,
        (_, Some(program), false) => Way::Program(program),
    }
}

/// Whether anybody can be asked.
pub(super) fn is_possible() -> bool {
    !matches!(way(), Way::Nowhere)
}

/// Asks, showing `text` word for word. `None` if nobody answers.
pub(super) fn ask(text: &str, echo: bool) -> Option<Zeroizing<String>> {
    match way() {
        Way::Terminal if echo => read_line(text),
        Way::Terminal => {
            let mut terminal = File::options().write(true).open("/dev/tty").ok()?;
            terminal.write_all(shown(text).as_bytes()).ok()?;
            rpassword::read_password().ok().map(Zeroizing::new)
        }
        Way::Program(program) => run(&program, text),
        Way::Nowhere => None,
    }
}

/// A server's text must not play with the terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

fn read_line(text: &str) -> Option<Zeroizing<String>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    terminal.write_all(shown(text).as_bytes()).ok()?;
    let mut line = Zeroizing::new(String::new());
    match BufReader::new(terminal).read_line(&mut line) {
        Ok(1..) => Some(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())),
        _ => None,
    }
}

fn run(program: &OsString, text: &str) -> Option<Zeroizing<String>> {
    let output =
        Command::new(program).arg(text).stdin(Stdio::null()).stderr(Stdio::inherit()).output().ok()?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return None;
    }
    let text = std::str::from_utf8(&bytes).ok()?;
    Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}
