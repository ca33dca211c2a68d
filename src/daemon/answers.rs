//! Programs that answer questions: commands that the user named, and `SSH_ASKPASS`.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use zeroize::Zeroizing;

/// Why nobody is asked, where the user wants that.
pub(super) const BATCH_MODE: &str = "BatchMode is set, so nobody is asked";

/// A command of the user's that answers a question; the first line of its output is the answer.
pub(super) struct AnswerCommand<'a> {
    /// What is run by `sh -c`.
    pub(super) command: &'a str,
    /// Where it is run.
    pub(super) directory: &'a Path,
    /// The question.
    pub(super) prompt: &'a str,
    /// The vault that the question is about.
    pub(super) vault: Option<&'a str>,
}

impl AnswerCommand<'_> {
    /// Runs it for as long as it takes. With this future it ends, and so does all that it started. An error says what went wrong, with
    /// the command's own words.
    pub(super) async fn run(&self) -> Result<Zeroizing<String>, String> {
        self.answer(output_of(&mut self.shell()).await)
    }

    /// The same in a process that has a terminal, whose Ctrl-C reaches the command, too.
    pub(super) async fn run_at_terminal(&self) -> Result<Zeroizing<String>, String> {
        self.answer(piped(&mut self.shell()).output().await)
    }

    fn shell(&self) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(self.command).env("SCAUP_PROMPT", self.prompt);
        // One that is gone by now is none to run in.
        if self.directory.is_dir() {
            shell.current_dir(self.directory);
        }
        if let Some(vault) = self.vault {
            shell.env("SCAUP_VAULT", vault);
        }
        shell
    }

    fn answer(&self, output: io::Result<Output>) -> Result<Zeroizing<String>, String> {
        answer("the command for it", output)
    }
}

/// The program that asks a person where there is no terminal (ssh(1)), as whoever mounted has it in the environment.
#[derive(Clone)]
pub(super) struct Askpass {
    program: OsString,
    /// Held while it asks.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Askpass {
    /// `None` if there is none, or it is not to be used.
    pub(super) fn from_environment() -> Option<Self> {
        let is_forbidden = std::env::var_os("SSH_ASKPASS_REQUIRE").is_some_and(|require| require == "never");
        std::env::var_os("SSH_ASKPASS")
            .filter(|program| !program.is_empty() && !is_forbidden)
            .map(|program| Self { program, asking: Arc::default() })
    }

    /// Asks, after whatever it asks already: two windows at once invite to type into the wrong one. The person may take as long as they like; the
    /// question goes away with this future.
    pub(super) async fn ask(&self, text: &str) -> Result<Zeroizing<String>, String> {
        let _asking = self.asking.lock().await;
        answer("SSH_ASKPASS", output_of(Command::new(&self.program).arg(text)).await)
    }
}

fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true)
}

/// A program and all that it started: what asks a person is often not the program itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn output_of(command: &mut Command) -> io::Result<Output> {
    let child = piped(command).process_group(0).spawn()?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
    let output = child.wait_with_output().await;
    // What it leaves behind on purpose stays, and its number may be somebody else's soon.
    group.0 = None;
    output
}

/// The first line of what a program printed, unless it failed.
fn answer(program: &str, output: io::Result<Output>) -> Result<Zeroizing<String>, String> {
    let output = output.map_err(|error| format!("{program} can't be run: {error}"))?;
    let answer = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().lines().last().unwrap_or_default();
        let colon = if words.is_empty() { "" } else { ": " };
        return Err(format!("{program} ended with {}{colon}{words}", output.status));
    }
    let text = std::str::from_utf8(&answer).map_err(|_| format!("{program} does not print text"))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}
