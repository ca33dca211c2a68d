//! The vault that two ends begin with, and what is done at each of them while they are apart.

use super::game::Failure;
use super::merge::{join, parent};
use super::shown::{Shown, Thing, walk};
use crate::kernel::Kernel;
use scaup_fuse::filesystem::RenameMode;
use scaup_rig::dice::Dice;

/// Names that are used again and again, so that ends and copies meet. Where names are shortened from 9 bytes on, the
/// third to the sixth are; where from 147 on, only the last ones.
pub(crate) fn names() -> Vec<String> {
    let mut names = ["a", "b.txt", "letter to anna.odt", "photographs of 2024", "übersicht.ods", "n.tar.gz"]
        .map(str::to_owned)
        .to_vec();
    // Its entry has 220 characters where that is allowed: too many for most clients' copies.
    names.push("e".repeat(145));
    names.push(format!("{}.txt", "l".repeat(155)));
    names.push("ä".repeat(100));
    names
}

/// One deed at one end. The numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edit {
    Save { file: usize, by_rename: bool },
    NewFile { directory: usize, name: usize },
    NewDirectory { directory: usize, name: usize },
    NewLink { directory: usize, name: usize },
    Remove { what: usize },
    RemoveAll { directory: usize },
    Rename { what: usize, name: usize },
    Move { what: usize, directory: usize, name: usize },
    Onto { what: usize, onto: usize },
}

/// Numbers that choose: where they are low, two ends choose the same more often.
fn number(dice: &mut Dice, hot: bool) -> usize {
    if hot && !dice.one_in(4) { dice.below(3) } else { dice.below(1000) }
}

/// What fills a vault.
pub(crate) fn making(dice: &mut Dice) -> Vec<Edit> {
    let entries = 1 + dice.below(26);
    let making = (0..entries).map(|_| {
        let (directory, name) = (dice.below(1000), dice.below(1000));
        match dice.below(8) {
            0..3 => Edit::NewDirectory { directory, name },
            3 => Edit::NewLink { directory, name },
            _ => Edit::NewFile { directory, name },
        }
    });
    making.collect()
}

/// What is done at one end.
pub(crate) fn edits(dice: &mut Dice, hot: bool) -> Vec<Edit> {
    let edits = 1 + dice.below(12);
    let edits = (0..edits).map(|_| {
        let (directory, name) = (number(dice, hot), number(dice, hot));
        let (what, onto) = (number(dice, hot), number(dice, hot));
        match dice.below(20) {
            0..5 => Edit::Save { file: what, by_rename: dice.one_in(2) },
            5..8 => Edit::NewFile { directory, name },
            8..10 => Edit::NewDirectory { directory, name },
            10 => Edit::NewLink { directory, name },
            11..13 => Edit::Remove { what },
            13 => Edit::RemoveAll { directory },
            14..17 => Edit::Rename { what, name },
            17..19 => Edit::Move { what, directory, name },
            _ => Edit::Onto { what, onto },
        }
    });
    edits.collect()
}

/// Gives each version a content that no other has.
pub(crate) struct Versions {
    next: u32,
    pub(crate) by: &'static str,
}

impl Versions {
    pub(crate) fn new(first: u32, by: &'static str) -> Self {
        Self { next: first, by }
    }

    pub(crate) fn file(&mut self, path: &str) -> Vec<u8> {
        let mut content = self.link(path);
        // Each has a length of its own: two of one length, saved in one second, are the same to SFTP.
        let length = 200 + (self.next % 100) + self.next / 500 * 100;
        content.resize(length as usize, b'.');
        content
    }

    /// What a link can hold: not too long.
    pub(crate) fn link(&mut self, path: &str) -> Vec<u8> {
        self.next += 1;
        let short: String = path.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
        format!("version {} by {} at {short};", self.next, self.by).into_bytes()
    }
}

/// The end of a vault where a program does its deeds, all below one directory.
pub(crate) struct End<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) versions: Versions,
    pub(crate) below: &'static str,
    /// What was done.
    pub(crate) log: Vec<String>,
}

/// One of these.
pub(crate) fn choose<T: Clone>(of: &[T], number: usize) -> Option<T> {
    of.get(number.checked_rem(of.len())?).cloned()
}

/// How deep directories are made.
const DEPTH_MAX: usize = 4;
/// How many entries a vault has before it is parted.
const ENTRIES_MAX: usize = 30;

impl End<'_> {
    /// Does what can be done of these, one after the other.
    pub(crate) async fn act(&mut self, edits: &[Edit]) -> Result<(), Failure> {
        for edit in edits {
            let shown = walk(self.kernel).await?;
            self.one(*edit, &shown).await.map_err(|errno| {
                let last = self.log.last().cloned().unwrap_or_default();
                Failure::new("an end can't be edited", format!("{last}: {errno}"))
            })?;
        }
        Ok(())
    }

    async fn one(&mut self, edit: Edit, shown: &Shown) -> crate::kernel::Result<()> {
        let is_here = |path: &str| self.below.is_empty() || path.starts_with(&format!("{}/", self.below));
        let of = |is: fn(&Thing) -> bool| -> Vec<String> {
            let those = shown.iter().filter(|(path, thing)| is_here(path) && is(thing));
            those.map(|(path, _)| path.clone()).collect()
        };
        let all = of(|_| true);
        let files = of(|thing| matches!(thing, Thing::File(_)));
        let leaves = of(|thing| *thing != Thing::Directory);
        let mut directories = of(|thing| *thing == Thing::Directory);
        directories.insert(0, self.below.to_owned());
        let free = |directory: usize, name: usize| {
            let path = join(&choose(&directories, directory)?, &choose(&names(), name)?);
            (!shown.contains_key(&path) && path.split('/').count() <= DEPTH_MAX + 1).then_some(path)
        };
        let full = shown.len() >= ENTRIES_MAX;
        let kernel = self.kernel;
        match edit {
            Edit::Save { file, by_rename } => {
                let Some(path) = choose(&files, file) else { return Ok(()) };
                let content = self.versions.file(&path);
                self.log.push(format!("{} saves {path}, by rename: {by_rename}", self.versions.by));
                save(kernel, &path, &content, by_rename).await
            }
            Edit::NewFile { directory, name } => {
                let Some(path) = free(directory, name).filter(|_| !full) else { return Ok(()) };
                let content = self.versions.file(&path);
                self.log.push(format!("{} makes {path}", self.versions.by));
                kernel.save(&path, &content).await
            }
            Edit::NewDirectory { directory, name } => {
                let Some(path) = free(directory, name).filter(|_| !full) else { return Ok(()) };
                self.log.push(format!("{} makes the directory {path} and a file in it", self.versions.by));
                kernel.mkdir(&path, 0o755).await?;
                let inside = join(&path, "in");
                let content = self.versions.file(&inside);
                kernel.save(&inside, &content).await
            }
            Edit::NewLink { directory, name } => {
                let Some(path) = free(directory, name).filter(|_| !full) else { return Ok(()) };
                let target = String::from_utf8(self.versions.link(&path)).unwrap();
                self.log.push(format!("{} makes the link {path}", self.versions.by));
                kernel.symlink(&path, &target).await
            }
            Edit::Remove { what } => {
                let Some(path) = choose(&leaves, what) else { return Ok(()) };
                self.log.push(format!("{} removes {path}", self.versions.by));
                kernel.unlink(&path).await
            }
            Edit::RemoveAll { directory } => {
                let Some(path) = choose(&directories[1..], directory) else { return Ok(()) };
                self.log.push(format!("{} removes {path} and all in it", self.versions.by));
                remove_all(kernel, &path, shown).await
            }
            Edit::Rename { what, name } => {
                let Some(from) = choose(&all, what) else { return Ok(()) };
                let to = join(parent(&from), &choose(&names(), name).unwrap());
                if shown.contains_key(&to) {
                    return Ok(());
                }
                self.log.push(format!("{} renames {from} to {to}", self.versions.by));
                kernel.rename(&from, &to, RenameMode::Replace).await
            }
            Edit::Move { what, directory, name } => {
                let Some((from, to)) = choose(&all, what).zip(free(directory, name)) else { return Ok(()) };
                if to.starts_with(&format!("{from}/")) {
                    return Ok(());
                }
                self.log.push(format!("{} moves {from} to {to}", self.versions.by));
                kernel.rename(&from, &to, RenameMode::Replace).await
            }
            Edit::Onto { what, onto } => {
                let Some((from, to)) = choose(&leaves, what).zip(choose(&leaves, onto)) else {
                    return Ok(());
                };
                if from == to {
                    return Ok(());
                }
                self.log.push(format!("{} moves {from} onto {to}", self.versions.by));
                kernel.rename(&from, &to, RenameMode::Replace).await
            }
        }
    }
}

/// Saves as programs do: in place, or by a file that takes the name.
pub(crate) async fn save(
    kernel: &Kernel,
    path: &str,
    content: &[u8],
    by_rename: bool,
) -> crate::kernel::Result<()> {
    if !by_rename {
        return kernel.save(path, content).await;
    }
    let new = join(parent(path), "saved.new");
    kernel.save(&new, content).await?;
    kernel.rename(&new, path, RenameMode::Replace).await
}

/// Removes a directory as `rm -r` does: what it shows, from below.
pub(crate) async fn remove_all(kernel: &Kernel, path: &str, shown: &Shown) -> crate::kernel::Result<()> {
    let below = format!("{path}/");
    for (path, thing) in shown.range(below.clone()..).rev().filter(|(path, _)| path.starts_with(&below)) {
        match thing {
            Thing::Directory | Thing::Fails { is_directory: true, .. } => kernel.rmdir(path).await?,
            _ => kernel.unlink(path).await?,
        }
    }
    kernel.rmdir(path).await
}
