//! Programs that answer questions: commands that the user named, and `SSH_ASKPASS`.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use zeroize::Zeroizing;

/// How long a command may take to answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs a command of the user's; the first line of its output is the answer. An error says what went wrong, with the command's own
/// words.
pub(super) async fn run(
    command: &str,
    directory: &Path,
    prompt: &str,
    vault: Option<&str>,
) -> Result<Zeroizing<String>, String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("SCAUP_PROMPT", prompt);
    // One that is gone by now is none to run in.
    if directory.is_dir() {
        shell.current_dir(directory);
    }
    if let Some(vault) = vault {
        shell.env("SCAUP_VAULT", vault);
    }
    match tokio::time::timeout(COMMAND_TIMEOUT, output_of(&mut shell)).await {
        Ok(output) => answer("the command for it", output),
        Err(_) => Err(format!("the command for it took more than {} s", COMMAND_TIMEOUT.as_secs())),
    }
}

/// The program that asks a person where there is no terminal (ssh(1)), as whoever mounted has it in the environment.
#[derive(Clone)]
pub(super) struct Askpass(OsString);

impl Askpass {
    /// `None` if there is none, or it is not to be used.
    pub(super) fn from_environment() -> Option<Self> {
        let is_forbidden = std::env::var_os("SSH_ASKPASS_REQUIRE").is_some_and(|require| require == "never");
        std::env::var_os("SSH_ASKPASS").filter(|program| !program.is_empty() && !is_forbidden).map(Self)
    }

    /// Asks. The person may take as long as they like; the question goes away with this future.
    pub(super) async fn ask(&self, text: &str) -> Result<Zeroizing<String>, String> {
        answer("SSH_ASKPASS", output_of(Command::new(&self.0).arg(text)).await)
    }
}

async fn output_of(command: &mut Command) -> io::Result<Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
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
