//! What a path of the server means in a vault: the cleartext path, also for what no longer lies there.
//!
//! A path of the server names a directory of the vault by a hash of its id, from which nothing leads back. So the
//! directories are walked from the vault's own one, once for all paths that are asked for, until each is found.

use std::collections::HashSet;

use futures::stream::{self, StreamExt as _};
use scaup_crypto::find_ending;

use super::directory::VaultDirectory;
use super::entry_kinds::ContentEntry;
use super::error::NodeError;
use super::format::{content_path, part};
use super::node::{FoundNode, VaultNode};
use crate::remote::{Remote, RemoteName, RemotePath};

/// Most directories that are walked: a server can make up any number.
const DIRECTORIES_MAX: usize = 1 << 20;
/// Directories that are listed at the same time.
const AT_ONCE: usize = 16;
/// Shortest entry that can be a node.
const ENTRY_LEN_MIN: usize = 28;

/// A path of the server that lies in a vault, by its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPath {
    /// What stands before `d`, and the content directory `d/AA/BBB…`; `None` for an entry that lies anywhere, such as
    /// in the trash of a server.
    pub(crate) content: Option<(RemotePath, RemotePath)>,
    /// The entry; `None` for the content directory itself.
    entry: Option<RemoteName>,
    /// The file in the entry.
    part: Option<RemoteName>,
}

/// How the search for a path's meaning stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Search {
    /// No directory that was seen holds it.
    Open,
    /// Its cleartext path below the vault.
    Found(RemotePath),
    /// Its directory was seen, and nothing tells its name there.
    Nameless,
}

impl StoredPath {
    /// Returns what a path says by its form; `None` if it has not the form of one in a vault.
    pub(crate) fn parse(path: &RemotePath) -> Option<Self> {
        let names: Vec<RemoteName> = path
            .names()
            .filter_map(|name| RemoteName::parse(std::os::unix::ffi::OsStrExt::as_bytes(name)))
            .collect();
        let is_content = |names: &[RemoteName]| match names {
            [d, short, long] => d.as_bytes() == b"d" && is_base32(short, 2) && is_base32(long, 30),
            _ => false,
        };
        if let Some(at) = names.windows(3).position(is_content) {
            let (before, rest) = names.split_at_checked(at)?;
            let (content, rest) = rest.split_at_checked(3)?;
            let (entry, part) = match rest {
                [] => (None, None),
                [entry] => (Some(entry), None),
                [entry, part] => (Some(entry), Some(part)),
                _ => return None,
            };
            let content = Some((joined(before), joined(content)));
            return Some(Self { content, entry: entry.cloned(), part: part.cloned() });
        }
        let is_entry = |name: &RemoteName| {
            let text = std::str::from_utf8(name.as_bytes());
            text.is_ok_and(|text| text.len() >= ENTRY_LEN_MIN && find_ending(text, ".c9r").is_some())
        };
        let (entry, part) = match names.as_slice() {
            [.., entry] if is_entry(entry) => (entry, None),
            [.., entry, part] if is_entry(entry) => (entry, Some(part)),
            _ => return None,
        };
        Some(Self { content: None, entry: Some(entry.clone()), part: part.cloned() })
    }

    /// Returns the names under which the entry may lie in a directory: its own, and without what a trash added.
    fn entries(&self) -> impl Iterator<Item = RemoteName> {
        let entry = self.entry.iter();
        entry.flat_map(|entry| std::iter::once(entry.clone()).chain(before_trash(entry)))
    }

    /// Says where it is shown, if it lies in `directory`, which is shown at `path`. `nodes` are those of the
    /// directory's nodes whose entries are asked for.
    fn look_in(&self, directory: &VaultDirectory, path: &RemotePath, nodes: &[FoundNode]) -> Search {
        let Some(entry) = &self.entry else { return Search::Found(path.clone()) };
        if *entry == part("dirid.c9r") {
            return Search::Found(path.clone());
        }
        let of_entry: Vec<&FoundNode> = self
            .entries()
            .flat_map(|entry| nodes.iter().filter(move |node| node.entry.name == entry))
            .collect();
        // Several nodes may lie in one entry.
        let node = of_entry.iter().find(|node| node.entry.part == self.part).or(of_entry.first());
        if let Some(name) = node.and_then(|node| name_of(node)) {
            return Search::Found(path.join(&name));
        }
        let entry = before_trash(entry).unwrap_or_else(|| entry.clone());
        match ContentEntry::of(&directory.cryptor, entry.as_bytes(), &directory.id) {
            ContentEntry::Named { name, addition } => {
                let name = addition.map_or(name.clone(), |addition| name.with_addition(&addition));
                RemoteName::parse(name.as_str().as_bytes())
                    .map_or(Search::Nameless, |name| Search::Found(path.join(&name)))
            }
            _ if self.content.is_none() => Search::Open,
            _ => Search::Nameless,
        }
    }
}

/// Returns what each of the paths `asked` means, below the vault whose own directory is `root`, and whether there are
/// directories that could not be read.
///
/// # Errors
///
/// If the server does not reply, or the vault was locked meanwhile.
pub(crate) async fn cleartext_paths(
    root: &VaultDirectory,
    remote: &dyn Remote,
    asked: &[&StoredPath],
) -> Result<(Vec<Search>, bool), NodeError> {
    let mut searches = vec![Search::Open; asked.len()];
    let (mut seen, mut is_partial) = (HashSet::from([root.id.clone()]), false);
    let mut level = vec![(RemotePath::root(), root.clone())];
    while !level.is_empty() {
        let list = |(path, directory): (RemotePath, VaultDirectory)| async move {
            let listing = directory.list(remote, (usize::MAX, remote.names_budget()), |_| ()).await;
            (path, directory, listing)
        };
        let mut lists = stream::iter(std::mem::take(&mut level)).map(list).buffered(AT_ONCE);
        while let Some((path, directory, listing)) = lists.next().await {
            directory.vault.cryptor()?;
            let listing = match listing {
                Ok((listing, _)) => listing,
                Err(NodeError::Remote(error)) if error.is_unanswered() => return Err(error.into()),
                Err(_) => {
                    is_partial = true;
                    continue;
                }
            };
            let content = content_path(&RemotePath::root(), &directory.cryptor, &directory.id);
            let may_lie_here = |search: &Search, stored: &StoredPath| {
                *search == Search::Open && stored.content.as_ref().is_none_or(|(_, there)| *there == content)
            };
            let wanted: HashSet<RemoteName> = searches
                .iter()
                .zip(asked)
                .filter(|(search, stored)| may_lie_here(search, stored))
                .flat_map(|(_, stored)| stored.entries())
                .collect();
            let mut nodes = Vec::new();
            for node in listing.nodes() {
                if let (VaultNode::Directory(id), Some(name)) = (&node.node, name_of(&node))
                    && seen.insert(id.clone())
                    && let Some(below) = directory.below(&node.node)
                {
                    level.push((path.join(&name), below));
                }
                if wanted.contains(&node.entry.name) {
                    nodes.push(node);
                }
            }
            for (search, stored) in searches.iter_mut().zip(asked) {
                if may_lie_here(search, stored) {
                    *search = stored.look_in(&directory, &path, &nodes);
                }
            }
            if !searches.contains(&Search::Open) {
                return Ok((searches, is_partial));
            }
            if seen.len() > DIRECTORIES_MAX {
                return Ok((searches, true));
            }
        }
    }
    Ok((searches, is_partial))
}

fn name_of(node: &FoundNode) -> Option<RemoteName> {
    RemoteName::parse(std::os::unix::ffi::OsStrExt::as_bytes(node.name.as_os_str()))
}

fn joined(names: &[RemoteName]) -> RemotePath {
    names.iter().fold(RemotePath::root(), |path, name| path.join(name))
}

fn is_base32(name: &RemoteName, len: usize) -> bool {
    let is_letter = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
    name.as_bytes().len() == len && name.as_bytes().iter().all(is_letter)
}

/// Returns the name that an entry of Nextcloud's trash had: what lies there ends with `.d` and a time, seconds since
/// 1970.
fn before_trash(entry: &RemoteName) -> Option<RemoteName> {
    let digits = entry.as_bytes().iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (name, _) = entry.as_bytes().split_at_checked(entry.as_bytes().len() - digits)?;
    RemoteName::parse(name.strip_suffix(b".d").filter(|_| digits >= 9)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(path: &str) -> Option<StoredPath> {
        StoredPath::parse(&RemotePath::parse(path.as_bytes()).unwrap())
    }

    #[test]
    fn a_path_in_a_vault_is_known_by_its_form_wherever_the_vault_lies() {
        let content = format!("d/AB/{}", "C".repeat(30));
        for before in ["", "Vault/", "backup of/2026/Vault/"] {
            let stored = parse(&format!("{before}{content}/X.c9r/dir.c9r")).unwrap();
            let (vault, there) = stored.content.unwrap();
            assert_eq!(vault, RemotePath::parse(before.as_bytes()).unwrap());
            assert_eq!(there, RemotePath::parse(content.as_bytes()).unwrap());
            assert_eq!((stored.entry, stored.part), (Some(part("X.c9r")), Some(part("dir.c9r"))));
        }
        assert_eq!(parse(&content).unwrap().entry, None);
        let of_trash = format!("files_trashbin/files/{}.c9r.d1690000000", "x".repeat(28));
        assert_eq!(parse(&of_trash).unwrap().content, None);
        for other in ["", "d", "d/AB", "d/ab/cc", "Vault/masterkey.cryptomator", "notes.txt"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse(&format!("{content}/X.c9r/dir.c9r/more")), None);
    }

    #[test]
    fn what_a_trash_adds_is_taken_away() {
        assert_eq!(before_trash(&part("X.c9r.d1690000000")), Some(part("X.c9r")));
        for other in ["X.c9r", "X.c9r.d1", ".d1690000000", "1690000000", "X.c9r1690000000"] {
            assert_eq!(before_trash(&part(other)), None, "{other}");
        }
    }
}
