//! Running programs, and ending those that the rig started.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Runs a program to its end without standard input; panics with all it said if it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The process ids of all descendants of `ancestor`, parents first.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let parents = parents();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// Every process with its parent, from `/proc/PID/stat` (proc(5)).
fn parents() -> Vec<(u32, u32)> {
    let processes = fs::read_dir("/proc").expect("/proc is readable");
    processes
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The second field is the program's name in parentheses and may hold anything; the parent is two fields
            // after it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// Ends these processes now; one that is gone already is no error.
pub(crate) fn kill(pids: &[u32]) {
    for pid in pids {
        if let Some(pid) = Pid::from_raw(i32::try_from(*pid).unwrap()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Whether any process runs the program `executable`.
pub(crate) fn running(executable: &Path) -> bool {
    parents().iter().any(|(pid, _)| runs(*pid, executable))
}

/// Whether the process `pid` runs the program `executable`.
pub(crate) fn runs(pid: u32, executable: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|found| {
        // The kernel marks a program whose file was replaced meanwhile.
        let found = found.to_string_lossy().into_owned();
        Path::new(found.trim_end_matches(" (deleted)")) == executable
    })
}
