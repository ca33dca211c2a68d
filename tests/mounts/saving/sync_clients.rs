//! A vault in the folders of two machines that a real sync client keeps alike. Two people change it while the client
//! does not run, then it carries what they did. Whatever it makes of that: all that they saved is shown, and a person
//! who tidies up loses nothing but what they remove.

mod clients;
mod deeds;
mod syncthing;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clients::{Rclone, SyncClient, Unison};
use deeds::{DEEDS, Deed, NAMES, Version};
use scaup_rig::{Answers, Fixture, Mount, Scaup};
use syncthing::Syncthing;
use tempfile::TempDir;

use crate::support::{PASSWORD, names_in, scaup};

/// All clients see by a file's time that it was changed, some of them by whole seconds.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// What is shown at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Version(Version),
    Directory,
    Unreadable(String),
}

/// All that a mount shows of a vault.
type View = BTreeMap<PathBuf, Shown>;

/// Two directories, each with the vault, and the client between them.
struct Ends {
    scaup: Scaup,
    directories: [PathBuf; 2],
    /// The content directories that each deed made before anything was in conflict, as `XX/HASH`.
    content_directories: BTreeMap<&'static str, Vec<String>>,
    /// What was found to be wrong.
    complaints: Vec<String>,
    temporary: TempDir,
}

impl Ends {
    fn new() -> Self {
        let temporary = tempfile::Builder::new().prefix("scaup-sync").tempdir().unwrap();
        let directories = ["here", "there"].map(|end| temporary.path().join(end));
        directories.iter().for_each(|directory| fs::create_dir(directory).unwrap());
        Fixture::unpack("empty-gcm").copy_vault_to(&directories[0].join("Vault"));
        let (content_directories, complaints) = (BTreeMap::new(), Vec::new());
        Self { scaup: scaup(), directories, content_directories, complaints, temporary }
    }

    fn home_of_client(&self) -> PathBuf {
        let home = self.temporary.path().join("client");
        fs::create_dir(&home).unwrap();
        home
    }

    fn mounted(&self, end: usize) -> Mount {
        self.scaup
            .mount(&self.directories[end])
            .answering(&Answers::default().vault(PASSWORD))
            .args(["--vault", "Vault", "--attr-timeout", "1"])
            .start()
    }

    /// Mounts an end, does something to the vault, and unmounts, so that all is in the client's folder.
    fn at<T>(&self, end: usize, work: impl FnOnce(&Path) -> T) -> T {
        let mount = self.mounted(end);
        let done = work(&mount.join("Vault"));
        mount.unmount(&self.scaup);
        done
    }

    /// Does what comes before the conflicts.
    fn prepare(&mut self, deeds: &[&'static Deed]) {
        let stored = self.directories[0].join("Vault/d");
        self.content_directories = self.at(0, |vault| {
            let made = deeds.iter().map(|deed| {
                let before = content_directories(&stored);
                deed.before(vault);
                let after = content_directories(&stored);
                (deed.name, after.difference(&before).cloned().collect())
            });
            made.collect()
        });
    }

    fn hold(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.complaints.push(complaint());
        }
    }

    /// Every version is shown, or the program says where it lies; and whatever is shown can be read.
    fn hold_all_is_there<'a>(
        &mut self,
        end: usize,
        view: &View,
        wanted: impl IntoIterator<Item = (&'a str, Version)>,
    ) {
        for (path, shown) in view {
            if let Shown::Unreadable(error) = shown {
                self.hold(false, || format!("end {end}: {} is shown, but: {error}", path.display()));
            }
        }
        let shown = versions(view);
        for (deed, version) in wanted {
            let there = shown.contains(&version) || self.is_told(end, deed);
            self.hold(there, || format!("end {end}: neither shown nor told: {version}"));
        }
    }

    /// Whether `scaup vault conflicts` says of the vault at an end where to look for what a deed left and the mount
    /// can't show.
    fn is_told(&self, end: usize, deed: &str) -> bool {
        let vault = self.directories[end].join("Vault");
        let password = self.scaup.command_answering(PASSWORD);
        let vault = vault.to_str().unwrap();
        let listed = ["vault", "conflicts", vault, "--json", "--vault-password-command", &password];
        let told = String::from_utf8(self.scaup.run(listed).stdout).unwrap();
        let places = self.content_directories.get(deed).into_iter().flatten();
        places.filter_map(|place| place.split_once('/')).any(|(_, hash)| told.contains(hash))
    }

    /// Removes one by one what a person would who tidies up. Each takes itself away and nothing else. Returns what is
    /// shown in the end.
    fn tidy_up(&mut self, vault: &Path) -> View {
        let mut view = view(vault);
        let going: Vec<PathBuf> = view.keys().filter(|path| goes(&view, path)).cloned().collect();
        for path in &going {
            // What is in a directory went with it.
            if view.contains_key(path) {
                self.remove(vault, path, &mut view);
            }
        }
        // The mount has asked the server again by then.
        thread::sleep(NEXT_SECOND * 2);
        let later = self::view(vault);
        self.hold(later == view, || {
            format!("all was tidied up, then there was {:#?}", changes(&view, &later))
        });
        view
    }

    /// Removes what is shown at `path`, and holds that all else is shown as before.
    fn remove(&mut self, vault: &Path, path: &Path, view: &mut View) {
        let removed = match view[path] {
            // Perhaps it is another name of one directory. It may go while that is full, and nobody empties it.
            Shown::Directory if is_shown_elsewhere(view, path) => match fs::remove_dir(vault.join(path)) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => return,
                removed => removed,
            },
            Shown::Directory => {
                children(view, path).iter().for_each(|child| self.remove(vault, child, view));
                fs::remove_dir(vault.join(path))
            }
            Shown::Version(_) | Shown::Unreadable(_) => fs::remove_file(vault.join(path)),
        };
        self.hold(removed.is_ok(), || format!("{}: removing it: {removed:?}", path.display()));
        let after = self::view(vault);
        let mut expected = view.clone();
        expected.retain(|other, _| !other.starts_with(path));
        for (other, shown) in &expected {
            let now = after.get(other);
            self.hold(now == Some(shown), || {
                format!("{} was removed, then {} was {now:?}", path.display(), other.display())
            });
        }
        for other in after.keys().filter(|other| !expected.contains_key(*other)) {
            self.hold(false, || {
                format!("{} was removed, then there was {}", path.display(), other.display())
            });
        }
        *view = after;
    }

    /// Panics with all that was wrong, and with what lies in the vaults then.
    fn judge(self) {
        let count = self.complaints.len();
        let stored = self.directories.each_ref().map(|end| raw(&end.join("Vault")).join("\n"));
        assert!(
            self.complaints.is_empty(),
            "{count} complaints:\n{}\n--- what lies here:\n{}\n--- what lies there:\n{}",
            self.complaints.join("\n"),
            stored[0],
            stored[1]
        );
    }
}

/// What only one of two views has.
fn changes<'a>(one: &'a View, other: &'a View) -> Vec<(&'a PathBuf, &'a Shown)> {
    let only =
        |this: &'a View, that: &'a View| this.iter().filter(|(path, shown)| that.get(*path) != Some(shown));
    only(one, other).chain(only(other, one)).collect()
}

/// Whether all that a directory holds is shown in another one too, and it holds something.
fn is_shown_elsewhere(view: &View, path: &Path) -> bool {
    let inside: View = view.iter().filter(|(other, _)| other.starts_with(path)).map(cloned).collect();
    let elsewhere: View = view.iter().filter(|(other, _)| !other.starts_with(path)).map(cloned).collect();
    let inside = versions(&inside);
    !inside.is_empty() && inside.is_subset(&versions(&elsewhere))
}

fn cloned((path, shown): (&PathBuf, &Shown)) -> (PathBuf, Shown) {
    (path.clone(), shown.clone())
}

/// What is directly in a directory.
fn children(view: &View, directory: &Path) -> Vec<PathBuf> {
    view.keys().filter(|path| path.parent() == Some(directory)).cloned().collect()
}

/// Whether a person who tidies up removes what is shown at `path`: in one half of the deeds what the client left, in
/// the other half all that lies beside the last of what it left.
fn goes(view: &View, path: &Path) -> bool {
    let deed = DEEDS.iter().position(|deed| path.starts_with(deed.name));
    if deed.is_none_or(|deed| deed % 2 == 0) {
        return !is_a_persons(path);
    }
    let left_by_client = children(view, path.parent().unwrap()).into_iter().rfind(|path| !is_a_persons(path));
    left_by_client.is_some_and(|kept| kept != path)
}

/// Whether people gave something this name, whichever directory they did it in.
fn is_a_persons(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    NAMES.contains(&name) || DEEDS.iter().any(|deed| deed.name == name)
}

fn versions(view: &View) -> BTreeSet<Version> {
    let versions = view.values().filter_map(|shown| match shown {
        Shown::Version(version) => Some(version.clone()),
        Shown::Directory | Shown::Unreadable(_) => None,
    });
    versions.collect()
}

/// Lists and reads everything.
fn view(vault: &Path) -> View {
    let mut view = View::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let entries =
            match fs::read_dir(vault.join(&directory)).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
                Ok(entries) => entries,
                Err(error) => {
                    view.insert(directory, Shown::Unreadable(error.to_string()));
                    continue;
                }
            };
        for entry in entries {
            let path = directory.join(entry.file_name());
            let shown =
                look_at(&vault.join(&path)).unwrap_or_else(|error| Shown::Unreadable(error.to_string()));
            if shown == Shown::Directory {
                waiting.push(path.clone());
            }
            view.insert(path, shown);
        }
    }
    view
}

fn look_at(path: &Path) -> std::io::Result<Shown> {
    let kind = fs::symlink_metadata(path)?.file_type();
    Ok(if kind.is_dir() {
        Shown::Directory
    } else if kind.is_symlink() {
        Shown::Version(fs::read_link(path)?.to_string_lossy().into_owned())
    } else {
        Shown::Version(fs::read_to_string(path)?)
    })
}

/// The content directories below a vault's `d`, as `XX/HASH`.
fn content_directories(stored: &Path) -> BTreeSet<String> {
    let below = |first: &str| {
        names_in(&stored.join(first)).into_iter().map(|name| format!("{first}/{name}")).collect::<Vec<_>>()
    };
    names_in(stored).iter().flat_map(|first| below(first)).collect()
}

/// The paths of all that lies below a directory, sorted; those of files with their lengths.
fn raw(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let shown = path.strip_prefix(directory).unwrap().display().to_string();
            if metadata.is_dir() {
                found.push(shown);
                waiting.push(path);
            } else {
                found.push(format!("{shown} ({} bytes)", metadata.len()));
            }
        }
    }
    found.sort();
    found
}

fn istemporary(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with(".scaup-"))
}

/// Plays it through with a client that is started between two directories, with a directory for what it keeps.
fn conflicts_are_shown_and_tidied_up<C: SyncClient>(
    start: impl FnOnce(&[PathBuf; 2], &Path) -> C,
    stops_it: &[&str],
) {
    let deeds: Vec<&Deed> = DEEDS.iter().filter(|deed| !stops_it.contains(&deed.name)).collect();
    let mut ends = Ends::new();
    ends.prepare(&deeds);
    let client = start(&ends.directories, &ends.home_of_client());

    client.pause();
    thread::sleep(NEXT_SECOND);
    ends.at(0, |vault| deeds.iter().for_each(|deed| deed.here(vault)));
    thread::sleep(NEXT_SECOND);
    ends.at(1, |vault| deeds.iter().for_each(|deed| deed.there(vault)));
    client.sync();
    let synced = ends.directories.each_ref().map(|end| raw(&end.join("Vault")));

    let kept: Vec<(&str, Version)> =
        deeds.iter().flat_map(|deed| deed.kept().map(|version| (deed.name, version))).collect();
    let mount = ends.mounted(1);
    ends.hold_all_is_there(1, &view(&mount.join("Vault")), kept.clone());
    mount.unmount(&ends.scaup);
    let mount = ends.mounted(0);
    ends.hold_all_is_there(0, &view(&mount.join("Vault")), kept.clone());
    // Looking changes nothing.
    assert_eq!(ends.directories.each_ref().map(|end| raw(&end.join("Vault"))), synced);
    client.pause();
    thread::sleep(NEXT_SECOND);
    let tidy = ends.tidy_up(&mount.join("Vault"));
    let anew = deeds::make_anew(&mount.join("Vault"));
    for (version, saved) in &anew {
        ends.hold(saved.is_ok(), || format!("it can't be saved: {version}: {saved:?}"));
    }
    mount.unmount(&ends.scaup);

    // What stayed, and what was made anew, is there for both.
    client.sync();
    let wanted = versions(&tidy).into_iter().chain(anew.into_iter().map(|(version, _)| version));
    let wanted: Vec<(&str, Version)> = wanted.map(|version| ("", version)).collect();
    for end in [0, 1] {
        let view = ends.at(end, view);
        ends.hold_all_is_there(end, &view, wanted.clone());
        let left = raw(&ends.directories[end].join("Vault")).into_iter().filter(|path| istemporary(path));
        let left: Vec<String> = left.collect();
        ends.hold(left.is_empty(), || format!("end {end}: temporary names remain: {left:?}"));
    }
    ends.judge();
}

#[test]
fn syncthings_conflicts_are_shown_and_tidied_up() {
    conflicts_are_shown_and_tidied_up(Syncthing::start, &[]);
}

#[test]
fn unisons_conflicts_are_shown_and_tidied_up() {
    conflicts_are_shown_and_tidied_up(Unison::start, &[]);
}

#[test]
fn rclones_conflicts_are_shown_and_tidied_up() {
    conflicts_are_shown_and_tidied_up(Rclone::start, &[deeds::KINDS]);
}
