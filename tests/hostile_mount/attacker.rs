//! Who holds the server, in memory: exchanges, hides, links, swaps and replays what lies there, and puts it back.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use scaup::remote::memory::{MemoryRemote, MemoryServer};
use scaup::remote::{Remote, RemoteError, RemoteKind, RemotePath};

use crate::dice::Dice;
use crate::kernel::Place;

type Done = Result<(), RemoteError>;

/// Where what was taken away lies meanwhile.
const ATTIC: &str = ".attic";
/// What stands for a vault's place in the end.
const MARKERS: [&str; 2] = ["vault.cryptomator", "masterkey.cryptomator"];

pub(crate) fn path(text: &str) -> RemotePath {
    RemotePath::parse(text.as_bytes()).unwrap()
}

fn text(path: &RemotePath) -> String {
    String::from_utf8(path.as_bytes().to_vec()).unwrap()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The server in memory answers at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("no message of the attacker takes time")
}

pub(crate) fn kind(remote: &MemoryRemote, at: &str) -> Option<RemoteKind> {
    now(remote.stat(&path(at))).ok().map(|attributes| attributes.kind)
}

fn remove_all(remote: &MemoryRemote, at: &str) {
    match kind(remote, at) {
        Some(RemoteKind::Directory) => {
            for entry in now(remote.list(&path(at))).unwrap_or_default() {
                remove_all(remote, &join(at, std::str::from_utf8(entry.name.as_bytes()).unwrap()));
            }
            let _ = now(remote.rmdir(&path(at)));
        }
        Some(_) => {
            let _ = now(remote.remove(&path(at)));
        }
        None => {}
    }
}

/// Copies a tree from a server to another, or the same one.
pub(crate) fn copy_all(from: &MemoryRemote, at: &str, to: &MemoryRemote, there: &str) -> Done {
    let attributes = now(from.stat(&path(at)))?;
    match attributes.kind {
        RemoteKind::Directory => {
            now(to.mkdir(&path(there), 0o755))?;
            for entry in now(from.list(&path(at)))? {
                let name = std::str::from_utf8(entry.name.as_bytes()).unwrap();
                copy_all(from, &join(at, name), to, &join(there, name))?;
            }
            Ok(())
        }
        RemoteKind::Symlink => {
            let target = now(from.readlink(&path(at)))?;
            now(to.symlink(&path(there), &target))
        }
        _ => to.server().set_content(&path(there), &from.server().content(&path(at))?),
    }
}

/// What was taken away: from where, and where it lies.
struct Taken {
    from: String,
    attic: String,
}

/// What the attacker may do in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Only the places of vaults, with what is new.
    Places,
    /// Old and copied vaults, too, in which what is saved is lost when the true one is back.
    Copies,
    /// The content of the vault, too.
    Everything,
}

pub(crate) struct Attacker {
    remote: Arc<MemoryRemote>,
    aim: Aim,
    /// A server with another vault.
    other: Arc<MemoryRemote>,
    taken: Vec<Taken>,
    number: u32,
    /// How the server looked before.
    old: Vec<MemoryServer>,
    /// What lies in the vault and is never touched in it, by paths from the vault's directory.
    spared: BTreeSet<String>,
    /// The content directory of the vault's root, from the vault's directory.
    content: String,
}

impl Attacker {
    /// An attacker of a vault that lies at `vault`.
    pub(crate) fn new(server: &MemoryServer, kind: Place, aim: Aim, vault: &str) -> Self {
        let remote = MemoryRemote::connect(server);
        let mut attacker = Self {
            remote,
            aim,
            other: another(kind),
            taken: Vec::new(),
            number: 0,
            old: vec![server.fork()],
            spared: BTreeSet::new(),
            content: String::new(),
        };
        now(attacker.remote.mkdir(&path(ATTIC), 0o755)).unwrap();
        attacker.spared = attacker.nodes(vault).into_iter().collect();
        let is_root = |node: &&String| node.split('/').count() == 3 && node.starts_with("d/");
        // The root's directory is the only one before there are others.
        attacker.content = attacker.spared.iter().find(is_root).unwrap().clone();
        attacker
    }

    /// From now on this is not touched within the vault, either.
    pub(crate) fn spare(&mut self, vault: &str) {
        self.spared = self.nodes(vault).into_iter().collect();
        self.old = vec![self.remote.server().fork()];
    }

    /// The paths below the vault's directory, from there.
    fn nodes(&self, vault: &str) -> Vec<String> {
        let below = format!("{vault}/");
        let paths = self.remote.server().paths();
        paths.iter().filter_map(|path| Some(text(path).strip_prefix(&below)?.to_owned())).collect()
    }

    /// Whether what lies at that path is a vault with content, and no link leads there.
    pub(crate) fn is_in_place(&self, vault: &str) -> bool {
        let whole = join(vault, &self.content);
        let steps = whole.match_indices('/').map(|(end, _)| &whole[..end]).chain([whole.as_str()]);
        steps.into_iter().all(|step| kind(&self.remote, step) == Some(RemoteKind::Directory))
    }

    pub(crate) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// The mount renamed a directory.
    pub(crate) fn note_renamed(&mut self, from: &str, to: &str) {
        for Taken { from: at, .. } in &mut self.taken {
            if let Some(rest) = at.strip_prefix(from)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *at = format!("{to}{rest}");
            }
        }
    }

    /// Remembers how all is, to show it later.
    pub(crate) fn remember(&mut self) {
        /// Old states that are kept.
        const OLD_MAX: usize = 3;
        if self.old.len() == OLD_MAX {
            self.old.remove(1);
        }
        self.old.push(self.remote.server().fork());
    }

    /// Does one deed; says what.
    pub(crate) fn act(&mut self, dice: &mut Dice, vault: &str) -> String {
        if self.has_taken() && dice.one_in(3) {
            return self.put_back();
        }
        if self.aim == Aim::Everything && dice.one_in(2) {
            return self.meddle(dice, vault);
        }
        let ends: Vec<usize> = vault.match_indices('/').map(|(end, _)| end).chain([vault.len()]).collect();
        let end = dice.pick(&ends);
        let at = &vault[..end];
        let below = &vault[end..];
        match dice.below(12) {
            0 => self.take_markers(dice, vault),
            1 => {
                let content = join(vault, &self.content);
                self.exchange(dice, &content, "")
            }
            2 => {
                let data = join(vault, "d");
                self.exchange(dice, &data, "")
            }
            _ => self.exchange(dice, at, below),
        }
    }

    fn take(&mut self, from: &str) -> Option<String> {
        self.number += 1;
        let attic = join(ATTIC, &self.number.to_string());
        now(self.remote.rename(&path(from), &path(&attic))).ok()?;
        self.taken.push(Taken { from: from.to_owned(), attic: attic.clone() });
        Some(attic)
    }

    /// Puts what was taken last back in its place.
    fn put_back(&mut self) -> String {
        let Some(Taken { from, attic }) = self.taken.pop() else { return "nothing".to_owned() };
        remove_all(&self.remote, &from);
        let done = now(self.remote.rename(&path(&attic), &path(&from)));
        format!("puts {from} back: {done:?}")
    }

    pub(crate) fn put_all_back(&mut self) {
        while self.has_taken() {
            self.put_back();
        }
    }

    fn take_markers(&mut self, dice: &mut Dice, vault: &str) -> String {
        let marker = join(vault, dice.pick(&MARKERS));
        if self.take(&marker).is_none() {
            return format!("finds no {marker}");
        }
        let other = dice.below(3);
        let done = match other {
            0 => Ok(()),
            1 => copy_all(&self.other, &join("Vault", &marker[vault.len() + 1..]), &self.remote, &marker),
            _ => self.remote.server().set_content(&path(&marker), b"{}"),
        };
        format!("takes {marker}, in its place {other}: {done:?}")
    }

    /// Puts something else in the place of a directory; `below` is the way from there to the vault.
    fn exchange(&mut self, dice: &mut Dice, at: &str, below: &str) -> String {
        let Some(attic) = self.take(at) else { return format!("finds no {at}") };
        let up = "../".repeat(at.matches('/').count());
        let link = |to: String| now(self.remote.symlink(&path(at), to.as_bytes()));
        let has_copies = self.aim != Aim::Places;
        let (what, done) = match dice.below(if has_copies { 13 } else { 9 }) {
            0 => ("nothing", Ok(())),
            1 => ("a directory", self.directories(at)),
            2 => ("the same names", self.directories(&format!("{at}{below}"))),
            3 => {
                let place = format!("{at}{below}");
                let done = self.directories(&format!("{place}/d"));
                let markers =
                    MARKERS.map(|marker| (format!("{attic}{below}/{marker}"), format!("{place}/{marker}")));
                for (from, to) in markers {
                    let _ = copy_all(&self.remote, &from, &self.remote, &to);
                }
                ("a vault without content", done)
            }
            4 => ("a link to a directory", link(format!("{up}plain"))),
            5 => ("a link to where it is now", link(format!("{up}{attic}"))),
            6 => ("a link out", link(dice.pick(&["/etc", "../../../..", "/"]).to_owned())),
            7 => ("a file", self.remote.server().set_content(&path(at), b"a file")),
            8 => {
                let place = format!("{at}{below}");
                let parent = place.rsplit_once('/').map_or("", |(parent, _)| parent);
                let _ = self.directories(parent);
                ("another vault", copy_all(&self.other, "Vault", &self.remote, &place))
            }
            9 => ("a copy", copy_all(&self.remote, &attic, &self.remote, at)),
            10 => {
                let copy = format!("{attic}-copy");
                let _ = copy_all(&self.remote, &attic, &self.remote, &copy);
                ("a link to a copy", link(format!("{up}{copy}")))
            }
            _ => {
                let old = MemoryRemote::connect(&dice.pick(&self.old));
                ("what was there before", copy_all(&old, at, &self.remote, at))
            }
        };
        format!("takes {at}, in its place {what}: {done:?}")
    }

    fn directories(&self, at: &str) -> Done {
        let mut made = Ok(());
        for end in at.match_indices('/').map(|(end, _)| end).chain([at.len()]) {
            if end > 0 && kind(&self.remote, &at[..end]).is_none() {
                made = now(self.remote.mkdir(&path(&at[..end]), 0o755));
            }
        }
        made
    }

    /// Meddles with the encrypted content.
    fn meddle(&self, dice: &mut Dice, vault: &str) -> String {
        let remote = &self.remote;
        let mut nodes = self.nodes(vault);
        nodes.retain(|node| !self.spared.contains(node));
        if nodes.is_empty() {
            return "finds no content".to_owned();
        }
        let (one, other) = (join(vault, &dice.pick(&nodes)), join(vault, &dice.pick(&nodes)));
        if one.starts_with(&format!("{other}/")) || other.starts_with(&format!("{one}/")) {
            return "finds only one way down".to_owned();
        }
        let up = "../".repeat(one.matches('/').count());
        let hidden = join(ATTIC, "hidden");
        let rename = |from: &str, to: &str| now(remote.rename(&path(from), &path(to)));
        let (what, done) = match dice.below(9) {
            0 => {
                let swapped = rename(&one, &hidden).and_then(|()| rename(&other, &one));
                ("swaps it with", swapped.and_then(|()| rename(&hidden, &other)))
            }
            1 => {
                remove_all(remote, &one);
                ("puts there a copy of", copy_all(remote, &other, remote, &one))
            }
            2 => {
                remove_all(remote, &one);
                ("removes it and not", Ok(()))
            }
            3 => {
                remove_all(remote, &one);
                let to = dice.pick(&[format!("{up}{other}"), format!("{up}plain"), "/etc/passwd".to_owned()]);
                ("puts a link there, to the like of", now(remote.symlink(&path(&one), to.as_bytes())))
            }
            4 => {
                let old = MemoryRemote::connect(&dice.pick(&self.old));
                remove_all(remote, &one);
                ("puts there what was, beside", copy_all(&old, &one, remote, &one))
            }
            5 => {
                // What is a file is a link or a directory now, or the other way round.
                let _ = rename(&one, &hidden);
                let made = now(remote.mkdir(&path(&one), 0o755));
                let name = dice.pick(&["symlink.c9r", "dir.c9r", "contents.c9r"]);
                let moved = made.and_then(|()| rename(&hidden, &join(&one, name)));
                remove_all(remote, &hidden);
                ("makes it another kind than", moved)
            }
            6 => {
                let held: Vec<&String> = nodes.iter().filter(|node| node.starts_with(&one)).collect();
                let from = if held.is_empty() { one.clone() } else { join(vault, &dice.pick(&held)) };
                ("brings up what lies in it, not", rename(&from, &join(&up_one(&up_one(&one)), "moved.c9r")))
            }
            7 => ("makes it longer than", self.lengthen(dice, &one)),
            _ => {
                let ids: Vec<&String> = nodes.iter().filter(|node| node.ends_with("/dir.c9r")).collect();
                if ids.len() < 2 {
                    return "finds no two directories".to_owned();
                }
                let (from, to) = (join(vault, &dice.pick(&ids)), join(vault, &dice.pick(&ids)));
                let id = remote.server().content(&path(&from));
                (
                    "has one directory in two places, beside",
                    id.and_then(|id| remote.server().set_content(&path(&to), &id)),
                )
            }
        };
        format!("{one}: {what} {other}: {done:?}")
    }

    fn lengthen(&self, dice: &mut Dice, at: &str) -> Done {
        let server = self.remote.server();
        let mut content = server.content(&path(at))?;
        match dice.below(3) {
            0 => content.extend_from_slice(b"more"),
            1 => content.truncate(content.len() / 2),
            _ => content.iter_mut().for_each(|byte| *byte ^= 1),
        }
        server.set_content(&path(at), &content)
    }
}

fn up_one(at: &str) -> String {
    at.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned())
}

/// A server with a vault that has the same password and another id.
fn another(kind: Place) -> Arc<MemoryRemote> {
    MemoryRemote::connect(&if kind == Place::Gcm { Place::Ctrmac } else { Place::Gcm }.server())
}

/// Moves a tree on a server.
pub(crate) fn relocate(server: &MemoryServer, from: &str, to: &str) -> Done {
    let remote = MemoryRemote::connect(server);
    let mut made = String::new();
    let (above, _) = to.rsplit_once('/').unwrap_or(("", to));
    for name in above.split('/').filter(|name| !name.is_empty()) {
        made = join(&made, name);
        now(remote.mkdir(&path(&made), 0o755))?;
    }
    now(remote.rename(&path(from), &path(to)))
}
