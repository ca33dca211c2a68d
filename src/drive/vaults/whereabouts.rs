//! Which path of the server is behind a path of the mount, and the other way.

use scaup_fuse::filesystem::Inode;

use crate::drive::places::directory::Directory;
use crate::drive::places::place::Place;
use crate::drive::{Drive, DriveError, VaultState, VaultStatus};
use crate::remote::RemotePath;
use crate::vault::{NodePart, Search, StoredPath, VaultNode, cleartext_paths, part};

/// What is meant by the path of a directory on the server. Of files there is one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredAs {
    /// The node that has its name.
    Node,
    /// The directory with what lies in it.
    Content,
}

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// At this path.
    At(RemotePath),
    /// In this vault, which is locked, or perhaps in it.
    Locked(RemotePath),
    /// Nowhere, as far as is known.
    Nowhere {
        /// Whether it may lie in a directory that can't be read.
        is_partial: bool,
    },
}

impl Drive {
    /// Returns the path on the server of what is shown at a path of the mount.
    ///
    /// # Errors
    ///
    /// If the server does not reply, or refuses.
    pub async fn stored_at(
        &self,
        shown: &RemotePath,
        stored_as: StoredAs,
    ) -> Result<Whereabouts, DriveError> {
        let nowhere = Whereabouts::Nowhere { is_partial: false };
        let mut at = Inode::ROOT;
        for name in shown.names() {
            {
                let _paths = self.hold_paths([at]).await;
                match self.directory(at).await {
                    Ok(_) => {}
                    Err(DriveError::NotADirectory) => return Ok(nowhere),
                    Err(error) => return Err(error),
                }
            }
            if let Some(vault) = self.locked_vault_around(shown) {
                return Ok(Whereabouts::Locked(vault));
            }
            let name = self.kept_name(at, name);
            let _paths = self.hold_name(at, &name).await;
            match self.find(at, &name).await? {
                Some(inode) => at = inode,
                None => return Ok(nowhere),
            }
        }
        let nodes = self.tree.lock();
        if stored_as == StoredAs::Content
            && let Ok(directory) = nodes.directory(at)
        {
            return Ok(Whereabouts::At(directory.path()));
        }
        let node = nodes.get(at)?;
        let Place::Vault { entry, node: kind, .. } = node.place() else {
            return Ok(Whereabouts::At(nodes.path_of(at)?));
        };
        let content = nodes.directory(node.parent())?.path();
        let id = part(NodePart::Directory.file_name());
        Ok(Whereabouts::At(match kind {
            VaultNode::Directory(_) if entry.part.as_ref() == Some(&id) => content.join(&entry.name),
            _ => entry.path_in(&content),
        }))
    }

    /// Returns the vault that is locked and in which a path lies.
    fn locked_vault_around(&self, shown: &RemotePath) -> Option<RemotePath> {
        let vaults =
            self.vaults().into_iter().filter(|vault| shown.moved(&vault.path, &RemotePath::root()).is_some());
        let innermost = vaults.max_by_key(|vault| vault.path.as_bytes().len())?;
        (innermost.state == VaultState::Locked && innermost.path != *shown).then_some(innermost.path)
    }

    /// Returns the paths of the mount at which is shown what lies at paths of the server, or lay there.
    ///
    /// # Errors
    ///
    /// If the server does not reply, or a vault is locked meanwhile.
    pub async fn shown_at(&self, stored: &[RemotePath]) -> Result<Vec<Whereabouts>, DriveError> {
        let vaults = self.vaults();
        let mut found = vec![Whereabouts::Nowhere { is_partial: false }; stored.len()];
        let mut in_vaults = Vec::new();
        for (number, path) in stored.iter().enumerate() {
            match (StoredPath::parse(path), found.get_mut(number)) {
                (Some(stored), _) => in_vaults.push((number, stored)),
                // A path outside vaults is the same on both sides.
                (None, Some(found)) => match self.stored_at(path, StoredAs::Node).await? {
                    Whereabouts::At(there) if there != *path => {}
                    same => *found = same,
                },
                (None, None) => {}
            }
        }
        for vault in &vaults {
            let open: Vec<&(usize, StoredPath)> = in_vaults
                .iter()
                .filter(|(number, stored)| {
                    !matches!(found.get(*number), Some(Whereabouts::At(_)))
                        && may_hold(vault, &vaults, stored)
                })
                .collect();
            let searches = match vault.state {
                _ if open.is_empty() => continue,
                VaultState::Unlocked => self.search(vault, &open).await?,
                VaultState::Locked => vec![Whereabouts::Locked(vault.path.clone()); open.len()],
                VaultState::Unsupported(_) => continue,
            };
            for ((number, _), search) in open.into_iter().zip(searches) {
                if let Some(found) = found.get_mut(*number)
                    && (matches!(search, Whereabouts::At(_)) || !matches!(found, Whereabouts::Locked(_)))
                {
                    *found = search;
                }
            }
        }
        Ok(found)
    }

    /// Searches an unlocked vault.
    async fn search(
        &self,
        vault: &VaultStatus,
        open: &[&(usize, StoredPath)],
    ) -> Result<Vec<Whereabouts>, DriveError> {
        let unknown = vec![Whereabouts::Nowhere { is_partial: true }; open.len()];
        let Some((inode, _)) = self.unlocked_at(&vault.path) else { return Ok(unknown) };
        let directory = {
            let _paths = self.hold_paths([inode]).await;
            self.directory(inode).await
        };
        let Ok(Directory::Vault(root)) = directory else { return Ok(unknown) };
        let asked: Vec<&StoredPath> = open.iter().map(|(_, stored)| stored).collect();
        let (searches, is_partial) = cleartext_paths(&root, self.remote.as_ref(), &asked).await?;
        let whereabouts = searches.into_iter().map(|search| match search {
            Search::Found(path) => Whereabouts::At(vault.path.below(&path)),
            Search::Open => Whereabouts::Nowhere { is_partial },
            Search::Nameless => Whereabouts::Nowhere { is_partial: false },
        });
        Ok(whereabouts.collect())
    }
}

/// Whether a path may lie in a vault. A path that leads through a known vault lies in that one; any other, such as one
/// in a backup, may be of each: a content directory's name is that of one vault only.
fn may_hold(vault: &VaultStatus, vaults: &[VaultStatus], stored: &StoredPath) -> bool {
    let Some((before, _)) = &stored.content else { return true };
    vault.path == *before || !vaults.iter().any(|vault| vault.path == *before)
}
