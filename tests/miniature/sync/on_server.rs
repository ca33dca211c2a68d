//! What lies on the server, read without the program that is tested: by the keys and the names of the format alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use scaup::check::FindingKind;
use scaup::remote::{Remote as _, RemotePath};
use scaup::vault::{VaultSecret, open_vault};
use scaup_crypto::{Cryptor, DirectoryId, Listed};
use scaup_fakes::{MemoryRemote, MemoryServer};

use super::game::Failure;
use super::merge::{Chance, Node, Tree, join, parent};
use crate::kernel::{PASSWORD, Place};

/// What each version that a person saves begins with.
pub(crate) const MARK: &[u8] = b"version ";

fn on_server(place: Place, path: &str) -> RemotePath {
    let root = String::from_utf8(place.root().as_bytes().to_vec()).unwrap();
    RemotePath::parse(join(&root, path).as_bytes()).unwrap()
}

/// All that lies in the vault, relative to it.
pub(crate) fn read(server: &MemoryServer, place: Place) -> Tree {
    let root = format!("{}/", String::from_utf8_lossy(place.root().as_bytes()));
    let below = server.paths().into_iter().filter_map(|path| {
        let text = String::from_utf8(path.as_bytes().to_vec()).unwrap();
        let node = server.content(&path).map_or(Node::Directory, Node::File);
        Some((text.strip_prefix(&root)?.to_owned(), node))
    });
    below.collect()
}

/// One change of a server's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Make(String),
    Write(String, Vec<u8>),
    Remove(String),
    RemoveDirectory(String),
}

/// The changes that make `to` of `from`, in an order in which a client could make them.
pub(crate) fn changes(from: &Tree, to: &Tree, chance: Chance<'_>) -> Vec<Change> {
    let mut files = Vec::new();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (path, node) in to {
        match node {
            _ if from.get(path) == Some(node) => {}
            Node::Directory => first.push(Change::Make(path.clone())),
            Node::File(content) => files.push(Change::Write(path.clone(), content.clone())),
        }
    }
    for (path, node) in from {
        match (node, to.get(path)) {
            (Node::File(_), None) => files.push(Change::Remove(path.clone())),
            (Node::File(_), Some(Node::Directory)) => first.insert(0, Change::Remove(path.clone())),
            (Node::Directory, None | Some(Node::File(_))) => {
                last.insert(0, Change::RemoveDirectory(path.clone()))
            }
            _ => {}
        }
    }
    files.sort_by_key(|change| match change {
        Change::Write(path, _)
        | Change::Remove(path)
        | Change::Make(path)
        | Change::RemoveDirectory(path) => chance(path).below(1 << 20),
    });
    // A file that takes a directory's name waits until that is gone.
    let takes_its_name = |change: &Change| match change {
        Change::Write(path, _) => from.get(path) == Some(&Node::Directory),
        _ => false,
    };
    let (late, files): (Vec<_>, Vec<_>) = files.into_iter().partition(takes_its_name);
    [first, files, last, late].concat()
}

pub(crate) async fn apply(server: &MemoryServer, place: Place, changes: &[Change]) -> Result<(), Failure> {
    let remote = MemoryRemote::connect(server);
    for change in changes {
        let (path, made) = match change {
            Change::Make(path) => (path, remote.mkdir(&on_server(place, path), 0o755).await),
            Change::Write(path, content) => (path, server.set_content(&on_server(place, path), content)),
            Change::Remove(path) => (path, remote.remove(&on_server(place, path)).await),
            Change::RemoveDirectory(path) => (path, remote.rmdir(&on_server(place, path)).await),
        };
        made.map_err(|error| Failure::new("the client is refused", format!("{path}: {error}")))?;
    }
    Ok(())
}

/// The keys of a vault, and what they opened so far.
pub(crate) struct Reader {
    cryptor: Arc<Cryptor>,
    opened: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

/// The versions that lie on a server: where each does.
pub(crate) type Lying = BTreeMap<Vec<u8>, Vec<String>>;

/// What a reader of the format can tell of a vault without listing it as the program does.
pub(crate) struct Facts {
    /// Ids that more than one `dir.c9r` has, copies of these among them.
    pub(crate) ids_twice: BTreeSet<Vec<u8>>,
    /// Directories that hold each other.
    pub(crate) circle: bool,
    /// Nodes with more than one of the parts that say what a node is.
    pub(crate) ambiguous: bool,
    /// Directories whose content is not there.
    pub(crate) without_content: usize,
}

impl Facts {
    /// Whether a critical finding of this kind is right for what lies there.
    pub(crate) fn explain(&self, kind: FindingKind) -> bool {
        match kind {
            FindingKind::DirectoryIdCollision => !self.ids_twice.is_empty(),
            FindingKind::DirectoryLoop | FindingKind::DirectoryCircle => self.circle,
            FindingKind::AmbiguousNodeType => self.ambiguous,
            _ => false,
        }
    }
}

impl Reader {
    pub(crate) async fn open(server: &MemoryServer, place: Place) -> Self {
        let remote = MemoryRemote::connect(server);
        let cryptor =
            open_vault(remote.as_ref(), &place.root(), &VaultSecret::password(PASSWORD)).await.unwrap();
        Self { cryptor: Arc::new(cryptor), opened: HashMap::new() }
    }

    /// Content is bound to its file and not to its name, so it is read wherever a client put it.
    pub(crate) fn lying(&mut self, tree: &Tree) -> Lying {
        let mut lying = Lying::new();
        for (path, node) in tree {
            let Node::File(bytes) = node else { continue };
            if path.contains(".scaup-") {
                continue;
            }
            if !self.opened.contains_key(bytes) {
                let read = self.cryptor.decrypt_small(bytes).ok().filter(|content| content.starts_with(MARK));
                self.opened.insert(bytes.clone(), read);
            }
            if let Some(Some(content)) = self.opened.get(bytes) {
                lying.entry(content.clone()).or_default().push(path.clone());
            }
        }
        lying
    }

    /// Whether a file lies under the name that the format gives it, so that every reader of the format shows it if the
    /// directory is shown.
    pub(crate) fn is_canonical(&self, tree: &Tree, path: &str) -> bool {
        let mut parts: Vec<&str> = path.split('/').collect();
        let inside = match parts.last() {
            Some(&("contents.c9r" | "symlink.c9r")) if parts.len() == 5 => parts.pop(),
            _ => None,
        };
        let [_, _, _, entry] = parts.as_slice() else { return false };
        let Some(id) =
            self.ids(tree).into_iter().find(|id| parent(&parts.join("/")) == self.cryptor.content_dir(id))
        else {
            return false;
        };
        match (self.cryptor.identify(entry.as_bytes(), &id), inside) {
            (Listed::Name(_), None | Some("symlink.c9r")) => true,
            (Listed::Shortened, Some(_)) => match tree.get(&format!("{}/name.c9s", parts.join("/"))) {
                Some(Node::File(name)) => self.cryptor.expand_shortened(entry.as_bytes(), name, &id).is_ok(),
                _ => false,
            },
            _ => false,
        }
    }

    /// In which way a file lies there, in words that are the same for all files that lie in that way.
    pub(crate) fn how(&self, tree: &Tree, path: &str) -> &'static str {
        let parts: Vec<&str> = path.split('/').collect();
        let [_, _, _, entry, inside @ ..] = parts.as_slice() else { return "outside of all directories" };
        let content = parts[..3].join("/");
        let ids = self.ids(tree);
        let Some(id) = ids.iter().find(|id| self.cryptor.content_dir(id) == content) else {
            let is_hash = |part: &str, length| part.len() == length && !part.contains(['(', '.', ' ']);
            if !is_hash(parts[1], 2) || !is_hash(parts[2], 30) {
                return "in a renamed content directory";
            }
            let is_copys = |path: &String, node: &Node| match node {
                Node::File(id) => {
                    path.contains("/dir")
                        && DirectoryId::parse(id).is_ok_and(|id| self.cryptor.content_dir(&id) == content)
                }
                Node::Directory => false,
            };
            if tree.iter().any(|(path, node)| is_copys(path, node)) {
                return "in a directory whose dir.c9r is a copy";
            }
            return "in a content directory without a node";
        };
        if !self.reachable(tree).contains(&content) {
            return "below a directory that nothing leads to";
        }
        match (self.cryptor.identify(entry.as_bytes(), id), inside) {
            (Listed::Name(_) | Listed::Conflict { .. }, ["symlink.c9r"]) => "X.c9r/symlink.c9r",
            (Listed::Name(_), []) => "X.c9r",
            (Listed::Conflict { .. }, []) => "a copy of X.c9r",
            (Listed::Shortened, [part @ ("contents.c9r" | "symlink.c9r")]) => {
                let beside = |name: &str| tree.contains_key(&format!("{content}/{entry}/{name}"));
                match *part {
                    _ if !beside("name.c9s") => "H.c9s without name.c9s",
                    _ if beside("dir.c9r") => "H.c9s that is a directory too",
                    "contents.c9r" if beside("symlink.c9r") => "H.c9s/contents.c9r beside symlink.c9r",
                    "contents.c9r" => "H.c9s/contents.c9r",
                    _ => "H.c9s/symlink.c9r",
                }
            }
            (Listed::Shortened, [_]) => "a copy of a part in H.c9s",
            (Listed::Name(_) | Listed::Conflict { .. }, [_]) => "a copy of a part in X.c9r",
            (_, []) => "an entry with a client's addition that is not recognised",
            _ => "in an entry that is not recognised",
        }
    }

    /// What each path is in the vault, told without the keys, which differ each time: by the first of these trees that
    /// has it, all of which are sound.
    pub(crate) fn labels(&self, trees: [&Tree; 3]) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for (number, tree) in trees.into_iter().enumerate() {
            let mut waiting = vec![(DirectoryId::root(), format!("{number}:"))];
            while let Some((id, label)) = waiting.pop() {
                let content = self.cryptor.content_dir(&id);
                let below = format!("{content}/");
                labels.entry(content.clone()).or_insert_with(|| label.clone());
                let fan_out =
                    labels.entry(parent(&content).to_owned()).or_insert_with(|| format!("{label} around"));
                *fan_out = fan_out.clone().min(format!("{label} around"));
                for (path, node) in
                    tree.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below))
                {
                    let (entry, part) =
                        path[below.len()..].split_once('/').unwrap_or((&path[below.len()..], ""));
                    let name = match self.cryptor.identify(entry.as_bytes(), &id) {
                        Listed::Name(name) => name.as_str().to_owned(),
                        Listed::Shortened => match tree.get(&format!("{below}{entry}/name.c9s")) {
                            Some(Node::File(name)) => self
                                .cryptor
                                .expand_shortened(entry.as_bytes(), name, &id)
                                .map_or_else(|_| String::new(), |name| name.as_str().to_owned()),
                            _ => continue,
                        },
                        _ => entry.to_owned(),
                    };
                    let label = format!("{label}/{name}");
                    if let ("dir.c9r", Node::File(id)) = (part, node) {
                        waiting.push((DirectoryId::parse(id).unwrap(), label.clone()));
                    }
                    labels.entry(path.clone()).or_insert_with(|| format!("{label}/{part}"));
                }
            }
        }
        labels
    }

    /// The ids of the root and of all directories that have a node.
    fn ids(&self, tree: &Tree) -> Vec<DirectoryId> {
        let named = tree.iter().filter_map(|(path, node)| match node {
            Node::File(id) if path.ends_with("/dir.c9r") => DirectoryId::parse(id).ok(),
            _ => None,
        });
        std::iter::once(DirectoryId::root()).chain(named).collect()
    }

    /// What leads to directories, by their ids: `dir.c9r` and a client's copies of it, in nodes and their copies.
    fn ways(tree: &Tree) -> BTreeMap<Vec<u8>, Vec<&String>> {
        let mut ways: BTreeMap<Vec<u8>, Vec<&String>> = BTreeMap::new();
        for (path, node) in tree {
            let (at, name) = path.rsplit_once('/').unwrap_or(("", path));
            if let Node::File(id) = node
                && name.starts_with("dir")
                && !name.starts_with("dirid")
                && at.contains('/')
                && !path.contains(".scaup-")
            {
                ways.entry(id.clone()).or_default().push(path);
            }
        }
        ways
    }

    /// The content directories to which a `dir.c9r` leads from one to which there is a way.
    fn reachable(&self, tree: &Tree) -> BTreeSet<String> {
        let mut reachable = BTreeSet::new();
        let mut waiting = vec![DirectoryId::root()];
        while let Some(id) = waiting.pop() {
            let content = self.cryptor.content_dir(&id);
            let below = format!("{content}/");
            if reachable.insert(content) {
                let inside = tree.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
                let has_name =
                    |node: &str| !node.ends_with(".c9s") || tree.contains_key(&format!("{node}/name.c9s"));
                waiting.extend(inside.filter_map(|(path, node)| match node {
                    Node::File(id) if path.ends_with("/dir.c9r") && has_name(parent(path)) => {
                        DirectoryId::parse(id).ok()
                    }
                    _ => None,
                }));
            }
        }
        reachable
    }

    /// Where one may be told of a file, besides its own path: the directories around it to which nothing leads, and
    /// what a client made of their `dir.c9r`.
    pub(crate) fn around(&self, tree: &Tree, path: &str) -> Vec<String> {
        let (ways, reachable) = (Self::ways(tree), self.reachable(tree));
        let mut around = Vec::new();
        let mut waiting = vec![path.split('/').take(3).collect::<Vec<_>>().join("/")];
        while let Some(content) = waiting.pop() {
            if reachable.contains(&content) || around.contains(&content) {
                continue;
            }
            for (id, ways) in &ways {
                if DirectoryId::parse(id).is_ok_and(|id| self.cryptor.content_dir(&id) == content) {
                    for way in ways {
                        around.push((*way).clone());
                        around.push(parent(way).to_owned());
                        waiting.push(way.split('/').take(3).collect::<Vec<_>>().join("/"));
                    }
                }
            }
            around.push(content);
        }
        around
    }

    pub(crate) fn facts(&self, tree: &Tree) -> Facts {
        let ways = Self::ways(tree);
        let content = |id: &[u8]| DirectoryId::parse(id).ok().map(|id| self.cryptor.content_dir(&id));
        let without_content =
            ways.keys().filter(|id| content(id).is_none_or(|path| !tree.contains_key(&path)));
        // From each content directory to those that its nodes lead to.
        let mut below: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (id, from) in &ways {
            for way in from {
                below.entry(parent(parent(way))).or_default().extend(content(id));
            }
        }
        let circle = below.keys().any(|start| {
            let (mut waiting, mut seen) = (below[start].clone(), BTreeSet::new());
            while let Some(at) = waiting.pop() {
                if at == *start {
                    return true;
                }
                if seen.insert(at.clone()) {
                    waiting.extend(below.get(at.as_str()).into_iter().flatten().cloned());
                }
            }
            false
        });
        let parts = |path: &str| {
            ["dir.c9r", "symlink.c9r", "contents.c9r"]
                .iter()
                .filter(|part| tree.contains_key(&format!("{path}/{part}")))
                .count()
        };
        Facts {
            circle,
            ambiguous: tree.keys().any(|path| parts(path) > 1),
            without_content: without_content.count(),
            ids_twice: ways.into_iter().filter(|(_, ways)| ways.len() > 1).map(|(id, _)| id).collect(),
        }
    }
}
