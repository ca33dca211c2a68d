//! Asks a person: at the terminal, or through the `SSH_ASKPASS` program (ssh(1)).

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::screen;
use crate::daemon::answer_programs::Askpass;

/// The byte that Ctrl-C sends.
const INTERRUPT: u8 = 0x03;

/// Longest line that a terminal accepts (`MAX_CANON` of Linux), bytes.
const LINE_MAX: usize = 4096;

/// Held while a person is asked: an answer typed for one question must not go to another. If a connection is lost
/// meanwhile, another thread logs in again, and the server then decides what is asked, and when.
static ASKING: Mutex<()> = Mutex::new(());

/// Messages to show once the current question is answered; `None` while there is none.
static HELD_BACK: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// The terminal whose settings are changed for the current question, with those from before; `None` while none is.
static CHANGED: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// Most lines that are held back.
const HELD_BACK_MAX: usize = 100;

/// The place where questions are asked.
enum Way {
    Terminal(File),
    Program(Askpass),
    Nowhere,
}

fn way() -> Way {
    let program = Askpass::named();
    let require = std::env::var("SSH_ASKPASS_REQUIRE").unwrap_or_default();
    let terminal = File::options().read(true).write(true).open("/dev/tty").ok();
    match (require.as_str(), program, terminal) {
        ("force" | "prefer", Some(program), _) => Way::Program(program),
        ("force", None, _) => Way::Nowhere,
        (_, _, Some(terminal)) => Way::Terminal(terminal),
        ("never", _, None) | (_, None, None) => Way::Nowhere,
        (_, Some(program), None) => Way::Program(program),
    }
}

/// Returns whether a person can be asked.
pub(super) fn is_possible() -> bool {
    !matches!(way(), Way::Nowhere)
}

/// Returns whether that person sits at a terminal.
pub(super) fn is_at_terminal() -> bool {
    matches!(way(), Way::Terminal(_))
}

/// Asks, after any other question under way. An error says why there is no answer.
pub(super) fn ask(text: &str, echo: bool) -> Result<Zeroizing<String>, String> {
    ask_while(text, echo, None)
}

/// Asks as [`ask`] does. A question at the terminal ends without an answer when the other end of `open` is closed.
pub(super) fn ask_while(
    text: &str,
    echo: bool,
    open: Option<&UnixStream>,
) -> Result<Zeroizing<String>, String> {
    let _asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    *held_back() = Some(Vec::new());
    let answer = ask_now(text, echo, open);
    held_back().take().into_iter().flatten().for_each(|line| screen::tell(&line));
    answer
}

/// Shows a message of another thread: if a person is being asked, only after that.
pub(super) fn tell(line: &str) {
    match &mut *held_back() {
        None => screen::tell(line),
        Some(held) if held.len() < HELD_BACK_MAX => held.push(line.to_owned()),
        Some(_) => {}
    }
}

fn held_back() -> MutexGuard<'static, Option<Vec<String>>> {
    HELD_BACK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask_now(text: &str, echo: bool, open: Option<&UnixStream>) -> Result<Zeroizing<String>, String> {
    match way() {
        Way::Terminal(terminal) => read_line(terminal, text, echo, open),
        Way::Program(program) => program.ask_at_terminal(text),
        Way::Nowhere => Err("there is no terminal, and no program named by SSH_ASKPASS".to_owned()),
    }
}

/// The terminal's settings are changed for a question; they are restored when this is dropped.
struct Changed;

impl Changed {
    /// Makes Ctrl-C end the line instead of this process, which could not restore the settings then.
    fn change(terminal: File, echo: bool) -> rustix::io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut during = before.clone();
        during.local_modes.remove(LocalModes::ISIG);
        during.local_modes.set(LocalModes::ECHO, echo);
        during.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        // Input typed before the question is not an answer to it.
        tcsetattr(&terminal, OptionalActions::Flush, &during)?;
        *changed() = Some((terminal, before));
        Ok(Self)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        restore_terminal();
    }
}

fn changed() -> MutexGuard<'static, Option<(File, Termios)>> {
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal the settings that it had before the current question. A process that ends at once needs it.
pub(super) fn restore_terminal() {
    if let Some((terminal, before)) = changed().take() {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

fn read_line(
    mut terminal: File,
    text: &str,
    echo: bool,
    open: Option<&UnixStream>,
) -> Result<Zeroizing<String>, String> {
    let failed = |error: std::io::Error| format!("the terminal can't be used: {error}");
    let file = terminal.try_clone().map_err(failed)?;
    let changed = Changed::change(file, echo).map_err(|error| failed(error.into()))?;
    // Scaup's own questions may have several lines; a server's have one (`Question::text`).
    let lines: Vec<String> = text.split('\n').map(|line| screen::fitting(line, &terminal)).collect();
    terminal.write_all(lines.join("\n").as_bytes()).map_err(failed)?;
    let mut line = Zeroizing::new(vec![0; LINE_MAX]);
    let is_open = open.is_none_or(|open| wait(&terminal, open));
    // The terminal delivers one line at a time.
    let len = if is_open { terminal.read(&mut line).map_err(failed)? } else { 0 };
    let line = line.get(..len).unwrap_or_default();
    drop(changed);
    let answer = match line.strip_suffix(b"\n") {
        Some(answer) if echo => Some(answer),
        answer => {
            // The line's end was not echoed, or there was none.
            terminal.write_all(b"\n").map_err(failed)?;
            answer
        }
    };
    let answer = answer.ok_or("it was cancelled")?;
    let answer = std::str::from_utf8(answer).map_err(|_| "the answer is not UTF-8".to_owned())?;
    Ok(Zeroizing::new(answer.trim_end_matches('\r').to_owned()))
}

/// Waits until there is a line to read, or the other end of `open` is closed. Returns whether it is still open.
fn wait(terminal: &File, open: &UnixStream) -> bool {
    loop {
        let mut waited = [PollFd::new(terminal, PollFlags::IN), PollFd::new(open, PollFlags::IN)];
        match poll(&mut waited, None) {
            Err(Errno::INTR) => {}
            // Reading says what is wrong with the terminal.
            Err(_) => return true,
            Ok(_) => return waited[1].revents().is_empty(),
        }
    }
}
