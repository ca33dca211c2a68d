//! Finds the processes that keep a mount busy.

use std::path::Path;

use scaup_sftp::text::Line;

/// Lists the processes that use a mount, as far as the system shows: ` by NAME (PID), …`, or nothing.
pub(super) fn users_of(mountpoint: &Path) -> String {
    let Ok(processes) = std::fs::read_dir("/proc") else { return String::new() };
    let users: Vec<String> = processes
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse::<u32>().ok()?;
            if !uses(&process.path(), mountpoint) {
                return None;
            }
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            Some(format!("{} ({pid})", Line::of(name.trim())))
        })
        .collect();
    if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) }
}

/// Returns whether a process (its directory in `/proc`, proc(5)) is in the mount, or has a file of it open or mapped.
/// Only links and lists are read: accessing the files that they name would send requests to the mount.
fn uses(process: &Path, mountpoint: &Path) -> bool {
    let places = ["cwd", "root", "exe"].map(|name| process.join(name));
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
    let is_in = |link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(mountpoint));
    // The path is the sixth field of a line, and the rest of it.
    let maps = || std::fs::read_to_string(process.join("maps")).unwrap_or_default();
    places.into_iter().chain(open).any(is_in)
        || maps()
            .lines()
            .filter_map(|line| line.find('/').and_then(|at| line.get(at..)))
            .any(|path| Path::new(path).starts_with(mountpoint))
}
