//! Programs that answer questions: commands given by the user, and `SSH_ASKPASS`.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

/// The name of a command in messages about its failure.
const COMMAND: &str = "the command that answers";

/// Why no person is asked in batch mode.
pub(super) const BATCH_MODE: &str = "BatchMode is set, so nobody is asked";

/// A user's command that answers a question; the first line of its output is the answer.
pub struct AnswerCommand<'a> {
    /// The command line, run by `sh -c`.
    pub command: &'a str,
    /// The working directory.
    pub directory: &'a Path,
    /// The question.
    pub prompt: &'a str,
    /// The vault that the question is about.
    pub vault: Option<&'a str>,
}

impl AnswerCommand<'_> {
    /// Runs the command for as long as it takes. Dropping this future ends it and every process that it started. An
    /// error says what went wrong, with the command's own words.
    pub(super) async fn run(&self) -> Result<Zeroizing<String>, String> {
        answer(COMMAND, output_of(self.shell()).await)
    }

    /// Runs the command in a process that has a terminal, where the command may print something, and whose Ctrl-C
    /// reaches the command, too.
    ///
    /// # Errors
    ///
    /// A sentence that says what went wrong.
    pub fn run_at_terminal(&self) -> Result<Zeroizing<String>, String> {
        answer(COMMAND, output_at_terminal(self.shell()))
    }

    fn shell(&self) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(self.command).env("SCAUP_PROMPT", self.prompt);
        // A directory that is gone by now can't be the working directory.
        if self.directory.is_dir() {
            shell.current_dir(self.directory);
        }
        if let Some(vault) = self.vault {
            shell.env("SCAUP_VAULT", vault);
        }
        shell
    }
}

/// The program that asks a person where there is no terminal (ssh(1)), as in the environment of the user who mounted.
#[derive(Clone)]
pub struct Askpass {
    program: OsString,
    /// Held while the program asks.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Askpass {
    /// Returns the program named by `SSH_ASKPASS`; `None` if there is none.
    #[must_use]
    pub fn named() -> Option<Self> {
        std::env::var_os("SSH_ASKPASS")
            .filter(|program| !program.is_empty())
            .map(|program| Self { program, asking: Arc::default() })
    }

    /// Returns the program named by `SSH_ASKPASS`, unless `SSH_ASKPASS_REQUIRE` forbids it.
    pub(super) fn from_environment() -> Option<Self> {
        let is_forbidden = std::env::var_os("SSH_ASKPASS_REQUIRE").is_some_and(|require| require == "never");
        Self::named().filter(|_| !is_forbidden)
    }

    /// Asks, after any question already shown: two windows at once invite to type into the wrong one. The person may
    /// take as long as they like; dropping this future closes the question.
    pub(super) async fn ask(&self, text: &str) -> Result<Zeroizing<String>, String> {
        let _asking = self.asking.lock().await;
        answer(&self.name_in_messages(), output_of(self.program(text)).await)
    }

    /// Asks in a process that has a terminal.
    ///
    /// # Errors
    ///
    /// A sentence that says what went wrong.
    pub fn ask_at_terminal(&self, text: &str) -> Result<Zeroizing<String>, String> {
        answer(&self.name_in_messages(), output_at_terminal(self.program(text)))
    }

    /// Returns the program's name in messages about its failure.
    fn name_in_messages(&self) -> String {
        format!("SSH_ASKPASS {}", self.program.display())
    }

    fn program(&self, text: &str) -> Command {
        let mut program = Command::new(&self.program);
        program.arg(text);
        program
    }
}

fn output_at_terminal(mut command: Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).output()
}

/// A program and all processes that it started: the process that asks the person is often not the program itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn output_of(command: Command) -> io::Result<Output> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.process_group(0).spawn()?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
    let output = child.wait_with_output().await;
    // Processes that it leaves behind on purpose stay, and its process id may soon be reused.
    group.0 = None;
    output
}

/// Returns the first line of a program's output, unless it failed.
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
