//! Programs as a person at a terminal meets them.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scaup_rig::{Scaup, eventually, need};

/// How long the program may take for its next word.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A command run at a terminal of its own, by `script` (util-linux).
pub(crate) struct Terminal {
    script: Child,
    screen: Arc<Mutex<Vec<u8>>>,
    /// How much was shown when the last answer was typed.
    answered: usize,
}

impl Terminal {
    /// Runs a shell command with the environment that `scaup` has.
    pub(crate) fn run(scaup: &Scaup, command: &str) -> Self {
        need(&[("script", "bsdutils")]);
        let mut script = Command::new("script");
        for (name, value) in scaup.command().get_envs() {
            script.env(name, value.unwrap_or_default());
        }
        let mut script = script
            .args(["-q", "-e", "-c", command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut output, shown) = (script.stdout.take().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..len]);
            }
        });
        Self { script, screen, answered: 0 }
    }

    /// What was shown so far.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits until the last thing shown since the last answer is `prompt`, then types.
    pub(crate) fn answer(&mut self, prompt: &str, typed: &str) {
        eventually(prompt, PATIENCE, || {
            let screen = self.screen();
            assert!(self.script.try_wait().unwrap().is_none(), "it ended: {screen}");
            screen.get(self.answered..).is_some_and(|new| new.ends_with(prompt))
        });
        self.answered = self.screen().len();
        self.script.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    }

    /// Types without waiting.
    pub(crate) fn type_now(&mut self, typed: &str) {
        self.script.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    }

    /// Waits for the end; returns how it ended and all that was shown.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        eventually("it ends", PATIENCE, || {
            status = self.script.try_wait().unwrap();
            status.is_some()
        });
        std::thread::sleep(Duration::from_millis(100));
        (status.unwrap(), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
