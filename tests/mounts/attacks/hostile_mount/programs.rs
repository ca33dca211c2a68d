//! Everyday work on a mount: what programs do with paths, with what they hold open, and with the mount itself.

use std::ffi::OsStr;

use scaup_fuse::filesystem::{FileKind, Handle, Inode, RenameMode};

use crate::kernel::{APPEND, EEXIST, EIO, ENOENT, Kernel, READ, READ_WRITE, Result};
use scaup_rig::dice::Dice;

/// What is in every name and content that programs give to the vault. No ciphertext name can have it: `~` is not in
/// Base64.
pub(crate) const CANARY: &str = "~Qx7~";

/// A file that is only replaced and removed whole, so that what it may hold is known.
pub(crate) fn kept(number: usize) -> String {
    format!("{CANARY}k{number}")
}

/// What there is from the beginning, and nobody touches.
pub(crate) const SPARED: &str = "~Qx7~s";
pub(crate) const SPARED_IN_DIRECTORY: &str = "~Qx7~S/~Qx7~ a spared file with a long name";

/// Content with the canary in each part of it.
pub(crate) fn content(number: u64, dice: &mut Dice) -> Vec<u8> {
    let lines = if dice.one_in(40) { 6000 } else { dice.below(12) };
    format!("{CANARY}{number}\n").repeat(lines + 1).into_bytes()
}

/// Programs, and what they hold open.
#[derive(Default)]
pub(crate) struct Programs {
    files: Vec<(Inode, Handle)>,
    directories: Vec<Inode>,
}

/// What one program did, and how it ended.
pub(crate) struct Worked {
    pub(crate) what: String,
    /// Whether it went by a path from the mount point.
    pub(crate) by_path: bool,
    pub(crate) done: Result<()>,
}

impl Worked {
    fn new(what: String, by_path: bool, done: Result<()>) -> Self {
        Self { what, by_path, done }
    }
}

/// Directories that there are from the beginning.
pub(crate) const DIRECTORIES: [&str; 2] = ["~Qx7~D", "~Qx7~ a directory with a long name"];

pub(crate) fn directory(dice: &mut Dice) -> String {
    match dice.below(8) {
        0..4 => String::new(),
        4..7 => format!("/{}", dice.pick(&DIRECTORIES)),
        _ => format!("/{}/{}", dice.pick(&DIRECTORIES), dice.pick(&["~Qx7~D", "~Qx7~E"])),
    }
}

pub(crate) fn name(dice: &mut Dice) -> String {
    if dice.one_in(3) {
        format!("{CANARY} a long name")
    } else {
        format!("{CANARY}{}", dice.pick(&["a", "b"]))
    }
}

impl Programs {
    /// A step of work in a vault that lies at `vault`.
    pub(crate) async fn work(
        &mut self,
        kernel: &Kernel,
        vault: &str,
        number: u64,
        dice: &mut Dice,
    ) -> Worked {
        let at = format!("{vault}{}", directory(dice));
        let file = format!("{at}/{}", name(dice));
        match dice.below(24) {
            0..5 => {
                Worked::new(format!("saves {file}"), true, kernel.save(&file, &content(number, dice)).await)
            }
            // The kernel looks a name up before it has it made.
            5 => match create_new(kernel, &file).await {
                Ok(open) => {
                    self.files.push(open);
                    let written = kernel.write(open, 0, &content(number, dice)).await;
                    Worked::new(format!("creates {file} and holds it"), true, written)
                }
                Err(error) => Worked::new(format!("creates {file}"), true, Err(error)),
            },
            6 => {
                let how = dice.pick(&[READ, READ_WRITE, APPEND]);
                let opened = kernel.open(&file, how).await.map(|open| self.files.push(open));
                Worked::new(format!("opens {file}"), true, opened)
            }
            7 => {
                let done = match kernel.open(&file, APPEND).await {
                    Ok(open) => {
                        let written = kernel.write(open, 0, &content(number, dice)).await;
                        kernel.close(open).await.and(written)
                    }
                    Err(error) => Err(error),
                };
                Worked::new(format!("appends to {file}"), true, done)
            }
            8 => Worked::new(
                format!("truncates {file}"),
                true,
                kernel.truncate(&file, dice.below(100) as u64).await,
            ),
            9 => Worked::new(format!("reads {file}"), true, kernel.content(&file).await.map(drop)),
            10 | 11 => {
                let to = format!("{vault}{}/{}", directory(dice), name(dice));
                let mode = dice.pick(&[RenameMode::Replace, RenameMode::NoReplace]);
                let done = kernel.rename(&file, &to, mode).await;
                Worked::new(format!("renames {file} to {to}"), true, done)
            }
            12 => {
                let made = format!("{vault}{}/~Qx7~{}", directory(dice), dice.pick(&["D", "E", "F"]));
                Worked::new(format!("makes {made}"), true, kernel.mkdir(&made, 0o755).await)
            }
            13 => {
                let gone = format!("{vault}{}/~Qx7~{}", directory(dice), dice.pick(&["D", "E", "F"]));
                Worked::new(format!("removes {gone}"), true, kernel.rmdir(&gone).await)
            }
            14 => {
                let at = format!("{vault}/{}", dice.pick(&["~Qx7~D", "~Qx7~E", "~Qx7~F"]));
                let to = format!("{vault}{}/~Qx7~F", directory(dice));
                let done = kernel.rename(&at, &to, RenameMode::Replace).await;
                Worked::new(format!("renames {at} to {to}"), true, done)
            }
            15 => Worked::new(format!("removes {file}"), true, kernel.unlink(&file).await),
            16 => {
                let done = kernel.symlink(&file, &format!("{CANARY}a")).await;
                Worked::new(format!("links {file}"), true, done)
            }
            17 | 18 => Worked::new(format!("lists {at}"), true, list(kernel, &at).await.map(drop)),
            19 => {
                let opened = kernel.lookup(&at).await.map(|found| {
                    if found.kind == FileKind::Directory {
                        self.directories.push(found.inode);
                    }
                });
                // The vault's own directory is looked at when something in it is asked for.
                Worked::new(format!("opens the directory {at}"), at != vault, opened)
            }
            20 => self.work_at(kernel, number, dice).await,
            _ => self.work_open(kernel, number, dice).await,
        }
    }

    /// Works with a directory that was opened before, wherever that is now.
    async fn work_at(&mut self, kernel: &Kernel, number: u64, dice: &mut Dice) -> Worked {
        if self.directories.is_empty() {
            return Worked::new("nothing".to_owned(), false, Ok(()));
        }
        let index = dice.below(self.directories.len());
        let at = self.directories[index];
        let name = name(dice);
        match dice.below(4) {
            0 => {
                let created = kernel.create_at(at, OsStr::new(&name), 0o644).await;
                let done = match created {
                    Ok(open) => {
                        let written = kernel.write(open, 0, &content(number, dice)).await;
                        kernel.close(open).await.and(written)
                    }
                    Err(error) => Err(error),
                };
                Worked::new(format!("creates {name} by a directory it has open"), false, done)
            }
            1 => {
                let listed = kernel.list(at).await.map(drop);
                Worked::new("lists a directory it has open".to_owned(), false, listed)
            }
            2 => {
                let found = kernel.lookup_in(at, &name).await.map(drop);
                Worked::new(format!("looks {name} up by a directory it has open"), false, found)
            }
            _ => {
                self.directories.remove(index);
                Worked::new("closes a directory".to_owned(), false, Ok(()))
            }
        }
    }

    /// Works with a file that was opened before.
    async fn work_open(&mut self, kernel: &Kernel, number: u64, dice: &mut Dice) -> Worked {
        if self.files.is_empty() {
            return Worked::new("nothing".to_owned(), false, Ok(()));
        }
        let index = dice.below(self.files.len());
        let open = self.files[index];
        match dice.below(if self.files.len() > 5 { 3 } else { 6 }) {
            0..3 => {
                self.files.remove(index);
                Worked::new("closes a file".to_owned(), false, kernel.close(open).await)
            }
            3 => {
                let written = kernel.write(open, dice.below(200) as u64, &content(number, dice)).await;
                Worked::new("writes to an open file".to_owned(), false, written)
            }
            4 => {
                let done = kernel.truncate_open(open, dice.below(100) as u64).await;
                Worked::new("truncates an open file".to_owned(), false, done)
            }
            _ => {
                let read = kernel.read_all(open).await.map(drop);
                Worked::new("reads an open file".to_owned(), false, read)
            }
        }
    }

    /// Work in a plain directory, where all is as readable as the server likes.
    pub(crate) async fn work_in_plain(kernel: &Kernel, vault: &str, dice: &mut Dice) -> String {
        let mut places = vec!["plain".to_owned(), String::new()];
        places.extend(vault.rsplit_once('/').map(|(above, _)| above.to_owned()));
        let at = dice.pick(&places);
        let file = format!("{at}/note {}", dice.below(3));
        let done = match dice.below(4) {
            0 => kernel.save(&file, b"clear").await,
            1 => kernel.unlink(&file).await,
            2 => kernel.content(&file).await.map(drop),
            _ => list(kernel, &at).await.map(drop),
        };
        format!("works on {file}: {done:?}")
    }

    /// What programs can still read of the vault in clear: with what they hold open, and by the paths that they knew.
    pub(crate) async fn can_read(&mut self, kernel: &Kernel, vault: &str) -> Vec<String> {
        let mut readable = Vec::new();
        let mut note = |what: &str, read: &[u8]| {
            if read.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
                readable.push(what.to_owned());
            }
        };
        for &open in &self.files {
            note("an open file", &kernel.read_all(open).await.unwrap_or_default());
        }
        for &at in &self.directories {
            let listed = kernel.list(at).await.map(|names| joined(&names)).unwrap_or_default();
            note("an open directory", listed.as_bytes());
            for name in ["~Qx7~a", "~Qx7~s"] {
                if kernel.lookup_in(at, name).await.is_ok() {
                    note(name, CANARY.as_bytes());
                }
            }
        }
        note("the vault's names", list(kernel, vault).await.unwrap_or_default().as_bytes());
        for file in [SPARED, SPARED_IN_DIRECTORY, "~Qx7~a"] {
            let read = kernel.content(&format!("{vault}/{file}")).await;
            note(file, &read.unwrap_or_default());
        }
        readable
    }

    /// Ends all programs.
    pub(crate) async fn end(&mut self, kernel: &Kernel) {
        for open in self.files.drain(..) {
            // What can't be saved is told; nothing more can be done.
            let _ = kernel.close(open).await;
        }
        self.directories.clear();
        kernel.forget(&[]);
    }

    /// Has the kernel forget what no program has open.
    pub(crate) fn forget(&self, kernel: &Kernel) {
        let mut open = self.directories.clone();
        open.extend(self.files.iter().map(|&(inode, _)| inode));
        kernel.forget(&open);
    }
}

async fn create_new(kernel: &Kernel, file: &str) -> Result<(Inode, Handle)> {
    match kernel.lookup(file).await {
        Ok(_) => Err(EEXIST),
        Err(ENOENT) => kernel.create(file, 0o644).await,
        Err(error) => Err(error),
    }
}

fn joined<T>(names: &[(String, T)]) -> String {
    names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("\n")
}

async fn list(kernel: &Kernel, at: &str) -> Result<String> {
    let found = kernel.lookup(at).await?;
    Ok(joined(&kernel.list(found.inode).await?))
}

/// Whether a program was told that what it asked for is not there.
pub(crate) fn is_closed(done: Result<()>) -> bool {
    done == Err(EIO)
}

/// Whether a program was told of something that it takes for the truth.
pub(crate) fn is_told(done: Result<()>) -> bool {
    matches!(done, Ok(()) | Err(ENOENT))
}
