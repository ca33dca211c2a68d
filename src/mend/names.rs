//! Mends of names: `name.c9s`, and entries that are called other than their names have to be.

use bytes::Bytes;
use scaup_crypto::{CleartextName, DirectoryId, NameError};

use super::error::MendError;
use super::hands::{Hands, Outcome, TRIED_MAX};
use crate::remote::{RemoteAttributes, RemoteKind, RemoteName, RemotePath, RenameHow};
use crate::vault::entry_kinds::{ContentEntry, InsideEntry};
use crate::vault::inside::{Inside, PartFound};
use crate::vault::{
    Entry, LONG_NAME_MAX, MARK_LEN, NodePart, content_path, long_name_of, mark, part, stand_in, temporary,
    write_small,
};

/// The name of a shortened entry.
enum Told {
    /// `name.c9s` holds it.
    Here(CleartextName),
    /// A copy of `name.c9s` holds it, with these bytes.
    InCopy(Vec<u8>),
    /// It holds the name of another entry.
    OfAnother(CleartextName),
    /// Nothing tells it.
    Lost,
    /// It is a sync client's copy of an entry.
    IsCopy,
}

/// Returns the bytes of a name, without what stands behind it.
fn cut(long_name: &[u8]) -> Option<&[u8]> {
    let end = long_name.windows(4).position(|window| window == b".c9r")? + 4;
    long_name.get(..end)
}

/// Returns the part of a node that has no other.
fn only_part(inside: &Inside) -> Option<PartFound> {
    let mut parts = inside.parts();
    (parts.len() == 1).then(|| parts.pop()).flatten()
}

impl Hands<'_> {
    /// Cuts what stands behind the name in `name.c9s`.
    pub(super) async fn cut_long_name(&self, node: &RemotePath) -> Result<Outcome, MendError> {
        let long_name = self.read_long_name(&node.join(&part("name.c9s"))).await?;
        let name = long_name.as_deref().and_then(cut);
        match (name, &long_name) {
            (Some(name), Some(long_name)) if name.len() < long_name.len() => {
                self.write_long_name(node, name).await?;
                Ok(Outcome::Done(String::new()))
            }
            _ => Ok(Outcome::left("it has changed meanwhile")),
        }
    }

    /// Gives an entry the form that its name has, or the name that a mount shows, if its own is lost or taken.
    pub(super) async fn rename_entry(
        &self,
        entry: &RemotePath,
        parent: &DirectoryId,
    ) -> Result<Outcome, MendError> {
        let (Some((_, name)), Some(attributes)) = (entry.split(), self.look(entry).await?) else {
            return Ok(Outcome::left("it has gone meanwhile"));
        };
        let inside = match attributes.kind {
            RemoteKind::Directory => Some(self.inside(entry).await?),
            _ => None,
        };
        let named = match (ContentEntry::of(self.cryptor, name.as_bytes(), parent), &inside) {
            (ContentEntry::Named { name, addition: None }, _) => name,
            (ContentEntry::Shortened, Some(inside)) => match self.told(entry, parent, inside).await? {
                Told::Here(name) | Told::OfAnother(name) => name,
                Told::InCopy(long_name) => {
                    self.write_long_name(entry, &long_name).await?;
                    return Ok(Outcome::Done("a copy of name.c9s told its name".to_owned()));
                }
                Told::Lost => stand_in(&name),
                Told::IsCopy => return Ok(Outcome::left("it is a sync client's copy")),
            },
            _ => return Ok(Outcome::left("its name does not decrypt")),
        };
        if self.cryptor.encrypt_name(&named, parent).entry.as_bytes() == name.as_bytes() {
            return Ok(Outcome::left("it has changed meanwhile"));
        }
        if inside.as_ref().is_some_and(|inside| inside.parts().is_empty()) {
            return Ok(Outcome::left("there is no file, directory or link in it yet"));
        }
        let shown = Entry {
            name: name.clone(),
            part: inside.as_ref().and_then(|inside| inside.parts().into_iter().next()).map(|part| part.name),
        };
        let others = [MARK_LEN, 2 * MARK_LEN, 4 * MARK_LEN]
            .map(|len| named.with_addition(&format!(" ({})", mark(&shown, len))));
        for tried in [named].into_iter().chain(others) {
            if self.move_to(entry, inside.as_ref(), (parent, &tried)).await? {
                return Ok(Outcome::Done(format!("it is called {:?}", tried.as_str())));
            }
        }
        Err(MendError::NoFreeName)
    }

    /// Moves a node to the place that a name has in the directory `parent`, if that is free; returns whether it is.
    pub(super) async fn move_to(
        &self,
        entry: &RemotePath,
        inside: Option<&Inside>,
        (parent, name): (&DirectoryId, &CleartextName),
    ) -> Result<bool, MendError> {
        let (target, long_name) = self.directory(parent).entry_name(name)?;
        let target = self.content_of(parent).join(&target);
        let Some(inside) = inside else {
            let Some(long_name) = long_name else { return self.rename(entry, &target).await };
            // An empty node of that name comes first: it is there when the content comes.
            if !self.make_way(&target).await? {
                return Ok(false);
            }
            self.make_shell(&target, &long_name).await?;
            return self.rename(entry, &target.join(&part("contents.c9r"))).await;
        };
        if let Some(long_name) = long_name {
            if !self.make_way(&target).await? {
                return Ok(false);
            }
            if inside.long_name.as_deref().ok() != Some(long_name.as_bytes()) {
                self.write_long_name(entry, long_name.as_bytes()).await?;
            }
            return self.rename(entry, &target).await;
        }
        match only_part(inside).filter(|part| part.of == NodePart::Contents) {
            Some(contents) => {
                if !self.rename(&entry.join(&contents.name), &target).await? {
                    return Ok(false);
                }
                self.put_aside(entry).await.map(|()| true)
            }
            None => {
                if !self.rename(entry, &target).await? {
                    return Ok(false);
                }
                let long_name = target.join(&part("name.c9s"));
                if self.look(&long_name).await?.is_some() {
                    self.put_aside(&long_name).await?;
                }
                Ok(true)
            }
        }
    }

    /// Makes a node with nothing in it but its long name.
    async fn make_shell(&self, target: &RemotePath, long_name: &str) -> Result<(), MendError> {
        let Some((around, _)) = target.split() else { return Err(MendError::NoFreeName) };
        let shell = around.join(&temporary::name()?);
        let made = async {
            let path = self.on_server(&shell);
            self.remote.mkdir_by_umask(&path).await?;
            write_small(self.remote, &path.join(&part("name.c9s")), long_name.as_bytes()).await?;
            self.remote.rename(&path, &self.on_server(target), RenameHow::New).await
        };
        made.await.map_err(MendError::of(target))
    }

    /// Returns the directory of a node's parent, relative to the vault.
    pub(super) fn content_of(&self, id: &DirectoryId) -> RemotePath {
        content_path(&RemotePath::root(), self.cryptor, id)
    }

    /// Returns the content of a `name.c9s` or of a copy of one; `None` if it can't hold a name.
    async fn read_long_name(&self, path: &RemotePath) -> Result<Option<Bytes>, MendError> {
        match self.remote.read_small(&self.on_server(path), LONG_NAME_MAX).await {
            Ok(long_name) => Ok(Some(long_name)),
            Err(error) if error.is_unanswered() => Err(MendError::of(path)(error)),
            Err(_) => Ok(None),
        }
    }

    /// Writes `name.c9s`. Another one that is there is kept.
    async fn write_long_name(&self, node: &RemotePath, long_name: &[u8]) -> Result<(), MendError> {
        let path = node.join(&part("name.c9s"));
        let before = match self.remote.read_small(&self.on_server(&path), LONG_NAME_MAX).await {
            Ok(before) if before == long_name => return Ok(()),
            Ok(before) => Some(before),
            Err(error) if error.is_unanswered() => return Err(MendError::of(&path)(error)),
            Err(_) => None,
        };
        match before {
            Some(before) => {
                self.copy_aside(&path, &before).await?;
                self.write(&path, long_name, RenameHow::Replace).await
            }
            None => {
                // It is too long, or no file.
                if self.look(&path).await?.is_some() {
                    self.put_aside(&path).await?;
                }
                self.write(&path, long_name, RenameHow::New).await
            }
        }
    }

    /// Returns what tells the name of a shortened entry.
    async fn told(
        &self,
        entry: &RemotePath,
        parent: &DirectoryId,
        inside: &Inside,
    ) -> Result<Told, MendError> {
        let Some((_, name)) = entry.split() else { return Ok(Told::Lost) };
        let mut of_another = None;
        match inside
            .long_name
            .as_deref()
            .map(|long_name| long_name_of(self.cryptor, parent, &name, long_name))
        {
            Ok(Ok((name, None))) => return Ok(Told::Here(name)),
            Ok(Ok((_, Some(_)))) => return Ok(Told::IsCopy),
            Ok(Err(NameError::HashMismatch { name })) => of_another = Some(name),
            Ok(Err(_)) | Err(_) => {}
        }
        for copy in copies_of_long_name(inside) {
            let Some(long_name) = self.read_long_name(&entry.join(&copy)).await? else { continue };
            if long_name_of(self.cryptor, parent, &name, &long_name).is_ok()
                && let Some(long_name) = cut(&long_name)
            {
                return Ok(Told::InCopy(long_name.to_vec()));
            }
        }
        Ok(of_another.map_or(Told::Lost, Told::OfAnother))
    }

    /// Moves a node to a directory that has lost the names of its nodes: under the name that it has in the directory
    /// `claimed`, or the first free one that begins with what it is. Returns whether it is a node.
    pub(super) async fn adopt_node(
        &self,
        (entry, attributes): (&RemotePath, &RemoteAttributes),
        claimed: Option<&DirectoryId>,
        parent: &DirectoryId,
        numbers: &mut Numbers,
    ) -> Result<bool, MendError> {
        let Some((_, name)) = entry.split() else { return Ok(false) };
        let inside = match attributes.kind {
            RemoteKind::Directory => Some(self.inside(entry).await?),
            RemoteKind::File if !name.as_bytes().ends_with(b".c9s") => None,
            _ => return Ok(false),
        };
        let of = match &inside {
            Some(inside) => match inside.parts().first() {
                Some(part) => part.of,
                None => return Ok(false),
            },
            None => NodePart::Contents,
        };
        if let Some(name) = self.name_in(claimed, &name, inside.as_ref())
            && self.move_to(entry, inside.as_ref(), (parent, &name)).await?
        {
            return Ok(true);
        }
        for _ in 0..TRIED_MAX {
            let name = numbers.next(of).ok_or(MendError::NoFreeName)?;
            if self.move_to(entry, inside.as_ref(), (parent, &name)).await? {
                return Ok(true);
            }
        }
        Err(MendError::NoFreeName)
    }

    /// Returns the name that an entry has if its directory is `claimed`.
    fn name_in(
        &self,
        claimed: Option<&DirectoryId>,
        name: &RemoteName,
        inside: Option<&Inside>,
    ) -> Option<CleartextName> {
        match (ContentEntry::of(self.cryptor, name.as_bytes(), claimed?), inside) {
            (ContentEntry::Named { name, addition }, _) => {
                Some(addition.map_or(name.clone(), |addition| name.with_addition(&addition)))
            }
            (ContentEntry::Shortened, Some(inside)) => {
                match long_name_of(self.cryptor, claimed?, name, inside.long_name.as_ref().ok()?) {
                    Ok((name, addition)) => {
                        Some(addition.map_or(name.clone(), |addition| name.with_addition(&addition)))
                    }
                    Err(_) => None,
                }
            }
            _ => None,
        }
    }

    /// Whether a node is nothing but a directory.
    pub(super) async fn is_only_directory(&self, node: &RemotePath) -> Result<bool, MendError> {
        let part = only_part(&self.inside(node).await?);
        Ok(part.is_some_and(|part| part.name.as_bytes() == b"dir.c9r"))
    }
}

fn copies_of_long_name(inside: &Inside) -> Vec<RemoteName> {
    let entries = inside.entries.as_deref().unwrap_or_default().iter().map(|entry| &entry.name);
    let copies = entries.filter(|name| {
        InsideEntry::of(name.as_bytes()) == InsideEntry::LongName && name.as_bytes() != b"name.c9s"
    });
    copies.cloned().collect()
}

/// Names for nodes that have lost theirs.
pub(super) struct Numbers {
    files: u32,
    directories: u32,
    links: u32,
}

impl Numbers {
    /// Names of numbers that `taken` nodes can't have.
    pub(super) fn beyond(taken: usize) -> Self {
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        Self { files: taken, directories: taken, links: taken }
    }

    /// Returns the next name; `None` if there were too many.
    fn next(&mut self, of: NodePart) -> Option<CleartextName> {
        let (word, number) = match of {
            NodePart::Contents => ("file", &mut self.files),
            NodePart::Directory => ("directory", &mut self.directories),
            NodePart::Symlink => ("symlink", &mut self.links),
        };
        *number = number.checked_add(1)?;
        CleartextName::parse(format!("{word}{number}").as_bytes()).ok()
    }
}
