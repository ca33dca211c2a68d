//! Everyday work on the mount of a vault that a sync client merged, by people who know nothing of that: what they did
//! not touch by its own name is still there after each step, under the same name, with the same content.

use std::collections::BTreeMap;
use std::time::Duration;

use scaup_fakes::MemoryServer;
use scaup_fuse::filesystem::RenameMode;

use super::edits::{Versions, choose, names, save};
use super::game::{Failure, mount};
use super::merge::{join, parent};
use super::on_server::{Lying, Reader, read};
use super::shown::{Model, Thing, title, walk};
use crate::kernel::{EBUSY, ENOTEMPTY, Kernel, Place};
use scaup_rig::dice::Dice;

/// One thing that somebody does. The numbers choose among what is shown, of two lists: all of it, or what the ends
/// changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Save { file: usize, by_rename: bool },
    NewFile { directory: usize, name: usize },
    NewDirectory { directory: usize, name: usize },
    NewLink { directory: usize, name: usize },
    Remove { what: usize },
    RemoveDirectory { directory: usize },
    RemoveAll { directory: usize },
    Move { what: usize, directory: usize, name: usize },
    Onto { what: usize, onto: usize },
    OtherMount,
    NewMount,
}

pub(crate) fn steps(dice: &mut Dice) -> Vec<Step> {
    let steps = 10 + dice.below(51);
    let steps = (0..steps).map(|_| {
        let mut number = || dice.below(1000);
        let (what, onto, directory, name) = (number(), number(), number(), number());
        match dice.below(24) {
            0..4 => Step::Save { file: what, by_rename: dice.one_in(2) },
            4..7 => Step::NewFile { directory, name },
            7 => Step::NewDirectory { directory, name },
            8 => Step::NewLink { directory, name },
            9..13 => Step::Remove { what },
            13..16 => Step::RemoveDirectory { directory },
            16 => Step::RemoveAll { directory },
            17..20 => Step::Move { what, directory, name },
            20..22 => Step::Onto { what, onto },
            22 => Step::OtherMount,
            _ => Step::NewMount,
        }
    });
    steps.collect()
}

/// Whether a mount shows copies under the names under which another mount shows them.
const NAMES_STAY: bool = true;
/// How deep the work goes.
const DEPTH_MAX: usize = 8;
/// How long a mount believes what it saw, and some more.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// What is done, what it takes away by its own name, and how it ended.
struct Deed {
    what: String,
    removed: Vec<Vec<u8>>,
    done: Result<(), i32>,
}

impl Deed {
    fn new(what: String) -> Self {
        Self { what, removed: Vec::new(), done: Ok(()) }
    }
}

pub(crate) struct Work<'a> {
    pub(crate) server: &'a MemoryServer,
    pub(crate) place: Place,
    pub(crate) reader: &'a mut Reader,
    pub(crate) model: Model,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) active: usize,
    pub(crate) versions: Versions,
    /// What an end changed and is shown: half of the work is done there.
    pub(crate) touched: Vec<String>,
    /// Names of copies may differ between mounts.
    pub(crate) names_differ: bool,
    /// Nothing of a client lies there: whatever looks empty is.
    pub(crate) apart: bool,
    pub(crate) log: Vec<String>,
}

fn content(thing: &Thing) -> Option<Vec<u8>> {
    match thing {
        Thing::File(content) | Thing::Link(content) => Some(content.clone()),
        Thing::Directory | Thing::Fails { .. } => None,
    }
}

impl Work<'_> {
    pub(crate) async fn act(&mut self, steps: &[Step]) -> Result<(), Failure> {
        let mut lying = self.lying();
        for step in steps {
            self.server.pass(LONG_ENOUGH);
            let Some(deed) = self.one(*step).await? else { continue };
            let kind = format!("{step:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
            if let Err(errno) = deed.done {
                return Err(Failure::new(&format!("{kind} is refused with {errno}"), deed.what));
            }
            self.log.push(deed.what.clone());
            self.compare(&kind, &deed.what).await?;
            let now = self.lying();
            let mut expected: BTreeMap<&[u8], usize> =
                lying.iter().map(|(content, paths)| (content.as_slice(), paths.len())).collect();
            for content in &deed.removed {
                if let Some(count) = expected.get_mut(content.as_slice()) {
                    *count = count.saturating_sub(1);
                }
            }
            for (content, count) in expected {
                if now.get(content).map_or(0, Vec::len) < count {
                    let lay = format!("{}: {:?} lay at {:?}", deed.what, title(content), lying[content]);
                    return Err(Failure::new(&format!("{kind} destroys what nobody removed"), lay));
                }
            }
            lying = now;
        }
        Ok(())
    }

    fn lying(&mut self) -> Lying {
        self.reader.lying(&read(self.server, self.place))
    }

    /// What the mount shows is what it should show.
    async fn compare(&mut self, kind: &str, what: &str) -> Result<(), Failure> {
        if self.model.has_directories_that_are_one() {
            // What was done under one name is seen under the other one a moment later.
            tokio::time::sleep(LONG_ENOUGH).await;
        }
        let shown = walk(&self.kernels[self.active]).await?;
        if shown == self.model.shown {
            return Ok(());
        }
        let different = |one: &super::shown::Shown, other: &super::shown::Shown| -> Vec<String> {
            let different = one.iter().filter(|(path, thing)| other.get(*path) != Some(*thing));
            different.map(|(path, thing)| format!("{path} ({thing:?})")).collect()
        };
        let (missing, more) = (different(&self.model.shown, &shown), different(&shown, &self.model.shown));
        let what = format!("{what}: missing {missing:#?}, more than before: {more:#?}");
        let (before, after) = (super::shown::contents(&self.model.shown), super::shown::contents(&shown));
        let changes = if missing.is_empty() {
            "shows more than before"
        } else if before.iter().all(|(content, _)| after.contains_key(content)) {
            "changes names"
        } else {
            "hides what nobody removed"
        };
        Err(Failure::new(&format!("{kind} {changes}"), what))
    }

    /// One of what is shown, more often of what the ends changed.
    fn pick(&self, number: usize, is: impl Fn(&Thing) -> bool) -> Option<String> {
        let shown = &self.model.shown;
        let touched: Vec<String> =
            self.touched.iter().filter(|path| shown.get(*path).is_some_and(&is)).cloned().collect();
        if number.is_multiple_of(2) && !touched.is_empty() {
            return choose(&touched, number / 2);
        }
        let all: Vec<String> =
            shown.iter().filter(|(_, thing)| is(thing)).map(|(path, _)| path.clone()).collect();
        choose(&all, number / 2)
    }

    fn pick_leaf(&self, number: usize) -> Option<String> {
        self.pick(number, |thing| content(thing).is_some())
    }

    /// A path that nothing shown has.
    fn free(&self, directory: usize, name: usize) -> Option<String> {
        let root = if directory.is_multiple_of(5) { Some(String::new()) } else { None };
        let directory =
            root.or_else(|| self.pick(directory, |thing| *thing == Thing::Directory)).unwrap_or_default();
        let path = join(&directory, &choose(&names(), name)?);
        let is_free = !self.model.shown.contains_key(&path) && path.split('/').count() <= DEPTH_MAX;
        is_free.then_some(path)
    }

    async fn one(&mut self, step: Step) -> Result<Option<Deed>, Failure> {
        let kernel = &self.kernels[self.active];
        Ok(match step {
            Step::Save { file, by_rename } => {
                let Some(path) = self.pick(file, |thing| matches!(thing, Thing::File(_))) else {
                    return Ok(None);
                };
                let mut deed = Deed::new(format!("save {path}, by rename: {by_rename}"));
                let new = self.versions.file(&path);
                deed.done = save(kernel, &path, &new, by_rename).await;
                deed.removed.extend(content(&self.model.shown[&path]));
                self.model.put(&path, Thing::File(new));
                Some(deed)
            }
            Step::NewFile { directory, name } => {
                let Some(path) = self.free(directory, name) else { return Ok(None) };
                let mut deed = Deed::new(format!("make {path}"));
                let new = self.versions.file(&path);
                deed.done = save(kernel, &path, &new, directory.is_multiple_of(2)).await;
                self.model.put(&path, Thing::File(new));
                Some(deed)
            }
            Step::NewDirectory { directory, name } => {
                let Some(path) = self.free(directory, name) else { return Ok(None) };
                let mut deed = Deed::new(format!("mkdir {path}"));
                deed.done = kernel.mkdir(&path, 0o755).await;
                self.model.put(&path, Thing::Directory);
                Some(deed)
            }
            Step::NewLink { directory, name } => {
                let Some(path) = self.free(directory, name) else { return Ok(None) };
                let mut deed = Deed::new(format!("make the link {path}"));
                let target = self.versions.link(&path);
                deed.done = kernel.symlink(&path, std::str::from_utf8(&target).unwrap()).await;
                self.model.put(&path, Thing::Link(target));
                Some(deed)
            }
            Step::Remove { what } => {
                let Some(path) = self.pick_leaf(what) else { return Ok(None) };
                let mut deed = Deed::new(format!("rm {path}"));
                self.remove_leaf(&path, &mut deed).await;
                Some(deed)
            }
            Step::RemoveDirectory { directory } => {
                let Some(path) = self.pick(directory, |thing| *thing == Thing::Directory) else {
                    return Ok(None);
                };
                let mut deed = Deed::new(format!("rmdir {path}"));
                self.remove_directory(&path, &mut deed).await?;
                Some(deed)
            }
            Step::RemoveAll { directory } => {
                let Some(path) = self.pick(directory, |thing| *thing == Thing::Directory) else {
                    return Ok(None);
                };
                self.remove_all(&path).await?
            }
            Step::Move { what, directory, name } => {
                let from = self.pick(what, |thing| !matches!(thing, Thing::Fails { .. }));
                let Some((from, to)) = from.zip(self.free(directory, name)) else { return Ok(None) };
                let is_directory = self.model.shown[&from] == Thing::Directory;
                if is_directory && self.model.is_in(parent(&to), &from) {
                    return Ok(None);
                }
                let mut deed = Deed::new(format!("mv {from} {to}"));
                deed.done = kernel.rename(&from, &to, RenameMode::Replace).await;
                self.model.move_to(&from, &to);
                Some(deed)
            }
            Step::Onto { what, onto } => self.onto(what, onto).await?,
            Step::OtherMount => {
                if self.names_differ || !NAMES_STAY {
                    return Ok(None);
                }
                self.save_all().await?;
                tokio::time::sleep(LONG_ENOUGH).await;
                if self.kernels.len() == 1 {
                    self.kernels.push(mount(self.server, self.place).await);
                }
                self.active = (self.active + 1) % self.kernels.len();
                Some(Deed::new("go on in the other mount".to_owned()))
            }
            Step::NewMount => {
                if self.names_differ || !NAMES_STAY {
                    return Ok(None);
                }
                self.save_all().await?;
                self.kernels = vec![mount(self.server, self.place).await];
                self.active = 0;
                Some(Deed::new("unmount, mount".to_owned()))
            }
        })
    }

    /// `rm`: what is below a directory with two names stays, unless this mount made it.
    async fn remove_leaf(&mut self, path: &str, deed: &mut Deed) {
        match self.kernels[self.active].unlink(path).await {
            Err(EBUSY) if self.model.is_below_one_of_several(path) => {
                deed.what.push_str(", which is refused");
            }
            done => {
                deed.done = done;
                deed.removed.extend(self.model.take(path).iter().filter_map(|(_, thing)| content(thing)));
            }
        }
    }

    /// `rmdir`: what is shown in it keeps it, and so may what is not.
    async fn remove_directory(&mut self, path: &str, deed: &mut Deed) -> Result<(), Failure> {
        let is_empty = self.model.is_empty(path);
        match self.kernels[self.active].rmdir(path).await {
            Ok(()) if is_empty || self.model.is_one_of_several(path) => {
                self.model.take(path);
            }
            Ok(()) => return Err(Failure::new("rmdir removes a directory that is not empty", path)),
            Err(ENOTEMPTY) if !(is_empty && self.apart) => {
                deed.what.push_str(", which is refused");
            }
            Err(EBUSY) if self.model.is_below_one_of_several(path) => {
                deed.what.push_str(", which is refused");
            }
            Err(errno) => deed.done = Err(errno),
        }
        Ok(())
    }

    async fn remove_all(&mut self, path: &str) -> Result<Option<Deed>, Failure> {
        let below = format!("{path}/");
        let all: Vec<(String, Thing)> = self
            .model
            .shown
            .iter()
            .filter(|(at, _)| at.starts_with(&below) || *at == path)
            .map(|(path, thing)| (path.clone(), thing.clone()))
            .collect();
        if all.iter().any(|(path, thing)| {
            matches!(thing, Thing::Fails { .. })
                || *thing == Thing::Directory && self.model.is_one_of_several(path)
        }) {
            return Ok(None);
        }
        let mut deed = Deed::new(format!("rm -r {path}"));
        for (path, thing) in all.iter().rev() {
            if *thing == Thing::Directory {
                self.remove_directory(path, &mut deed).await?;
            } else {
                self.remove_leaf(path, &mut deed).await;
            }
            if deed.done.is_err() || self.model.shown.contains_key(path) {
                deed.what.push_str(&format!(" (at {path})"));
                break;
            }
        }
        Ok(Some(deed))
    }

    /// `mv -T` onto something.
    async fn onto(&mut self, what: usize, onto: usize) -> Result<Option<Deed>, Failure> {
        let is_shown = |thing: &Thing| !matches!(thing, Thing::Fails { .. });
        let Some((from, to)) = self.pick(what, is_shown).zip(self.pick(onto, is_shown)) else {
            return Ok(None);
        };
        let is_directory = |path: &String| self.model.shown[path] == Thing::Directory;
        if is_directory(&from) != is_directory(&to) || from == to {
            return Ok(None);
        }
        let mut deed = Deed::new(format!("mv -T {from} {to}"));
        let kernel = &self.kernels[self.active];
        if is_directory(&from) {
            if !self.model.is_empty(&to) || self.model.is_in(&to, &from) || self.model.is_in(&from, &to) {
                return Ok(None);
            }
            match kernel.rename(&from, &to, RenameMode::Replace).await {
                Ok(()) => {
                    self.model.take(&to);
                    self.model.move_to(&from, &to);
                }
                Err(ENOTEMPTY) if !self.apart => deed.what.push_str(", which is refused"),
                Err(errno) => deed.done = Err(errno),
            }
            return Ok(Some(deed));
        }
        deed.done = kernel.rename(&from, &to, RenameMode::Replace).await;
        if !self.model.paths(&from).contains(&to) {
            deed.removed.extend(self.model.take(&to).iter().filter_map(|(_, thing)| content(thing)));
            self.model.move_to(&from, &to);
        }
        Ok(Some(deed))
    }

    /// What has to be waited for before others look at the server: what was removed goes from there a moment later.
    async fn save_all(&self) -> Result<(), Failure> {
        for kernel in &self.kernels {
            let unsaved = kernel.drive.save_all().await;
            if !unsaved.is_none() {
                return Err(Failure::new("something is not saved", format!("{unsaved:?}")));
            }
        }
        Ok(())
    }

    /// At the end, a mount that knows nothing of all this shows the same.
    pub(crate) async fn end(&mut self) -> Result<(), Failure> {
        self.save_all().await?;
        self.kernels = vec![mount(self.server, self.place).await];
        self.active = 0;
        if self.names_differ || !NAMES_STAY {
            let shown = walk(&self.kernels[0]).await?;
            if super::shown::contents(&shown) != super::shown::contents(&self.model.shown) {
                return Err(Failure::new("a new mount shows other contents", format!("{shown:#?}")));
            }
        } else {
            self.compare("a new mount", "at the end").await?;
        }
        Ok(())
    }
}
