//! Two directories side by side: the server's content, and the mount's.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Range of plausible terminal widths, columns.
const WIDTH: std::ops::RangeInclusive<usize> = 76..=140;
/// Columns for a size, and between the two sides.
const SIZE_WIDTH: usize = 10;
const BETWEEN: &str = "  │  ";
/// Bytes shown of a file's beginning.
const FIRST_BYTES: usize = 16;

/// One line of a tree.
struct Line {
    name: String,
    /// Size in bytes; `None` for directories.
    size: Option<u64>,
}

fn walk(directory: &Path, depth: usize, lines: &mut Vec<Line>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let metadata = entry.metadata()?;
        let name = format!("{}{}", "  ".repeat(depth), entry.file_name().display());
        if metadata.is_dir() {
            lines.push(Line { name: name + "/", size: None });
            walk(&entry.path(), depth + 1, lines)?;
        } else {
            lines.push(Line { name, size: Some(metadata.len()) });
        }
    }
    Ok(())
}

fn width() -> usize {
    let width = rustix::termios::tcgetwinsize(io::stdout()).map_or(100, |size| usize::from(size.ws_col));
    width.clamp(*WIDTH.start(), *WIDTH.end())
}

/// Formats a size for people.
fn human(size: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    let mut shown = (size as f64, "B");
    for unit in UNITS {
        if shown.0 < 1024.0 {
            break;
        }
        shown = (shown.0 / 1024.0, unit);
    }
    match shown {
        (_, "B") => format!("{size} B"),
        (number, unit) => format!("{number:.1} {unit}"),
    }
}

/// Fits `text` into exactly `width` columns: a longer text loses its middle.
fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text:<width$}");
    }
    let head = (width - 1) * 2 / 3;
    let tail = width - 1 - head;
    let (head, tail): (String, String) =
        (text.chars().take(head).collect(), text.chars().skip(length - tail).collect());
    format!("{head}…{tail}")
}

impl Line {
    fn fitted(&self, width: usize) -> String {
        let size = self.size.map(human).unwrap_or_default();
        format!("{}{size:>SIZE_WIDTH$}", fit(&self.name, width - SIZE_WIDTH))
    }
}

/// Returns the two trees, each with its title.
pub(super) fn trees(left: (&str, &Path), right: (&str, &Path)) -> io::Result<String> {
    let half = (width() - BETWEEN.chars().count()) / 2;
    let side = |(title, root): (&str, &Path)| {
        let mut lines = Vec::new();
        walk(root, 0, &mut lines)?;
        let head = [fit(title, half), fit(&root.display().to_string(), half), "─".repeat(half)];
        Ok::<_, io::Error>(
            head.into_iter().chain(lines.iter().map(|line| line.fitted(half))).collect::<Vec<_>>(),
        )
    };
    let (left, right) = (side(left)?, side(right)?);
    let blank = " ".repeat(half);
    let line_at = |side: &[String], at: usize| side.get(at).cloned().unwrap_or_else(|| blank.clone());
    let both = (0..left.len().max(right.len())).map(|at| {
        format!("{}{BETWEEN}{}", line_at(&left, at), line_at(&right, at)).trim_end().to_owned() + "\n"
    });
    Ok(both.collect())
}

/// Returns the first bytes of the largest file: as stored on the server somewhere below `vault`, and in the mount.
pub(super) fn first_bytes(vault: &Path, cleartext: &Path) -> io::Result<String> {
    let shown = |path: &Path| {
        let mut bytes = [0; FIRST_BYTES];
        fs::File::open(path)?.read_exact(&mut bytes)?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String =
            bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        Ok::<_, io::Error>(format!("{hex} {text}"))
    };
    let name = cleartext.file_name().unwrap_or_default().display();
    let ciphertext = largest(vault)?.1;
    Ok(format!(
        "How {name:?} begins, on the server and in the mount:\n    {}\n    {}\n",
        shown(&ciphertext)?,
        shown(cleartext)?
    ))
}

fn largest(directory: &Path) -> io::Result<(u64, PathBuf)> {
    let mut found = (0, directory.to_owned());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let here = if metadata.is_dir() { largest(&entry.path())? } else { (metadata.len(), entry.path()) };
        if here.0 > found.0 {
            found = here;
        }
    }
    Ok(found)
}
