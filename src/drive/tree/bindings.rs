//! Paths at which a vault is expected. A vault that was unlocked stays bound to its path until the mount ends, and so
//! does one that was unlocked there in an earlier mount: whatever the server shows in its place, nothing but that vault
//! is read or written below the path.
//!
//! A binding holds the keys while the vault is unlocked. It belongs to a node that no reply of the server detaches; the
//! same holds for the nodes of the plain directories above it: they keep their kind and their children. If the server
//! shows something else for one of these nodes, that node is *displaced*: every operation at it or below it fails
//! (`EIO`) until a check on the server finds the vault there again. A rename by this mount moves nodes, and so the
//! bindings with them.

use std::collections::HashMap;
use std::sync::Arc;

use scaup_fuse::filesystem::Inode;
use tokio::sync::Notify;

use super::Nodes;
use super::node::VaultHere;
use crate::drive::error::DriveError;
use crate::drive::places::directory::Directory;
use crate::drive::places::displacement::Displacement;
use crate::drive::places::listed_names::Names;
use crate::remote::{RemoteKind, RemotePath};
use crate::vault::{Opening, UnlockedVault};

/// What happened to the path of a bound vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultEvent {
    /// The server shows something else at a vault's path.
    Displaced {
        /// The vault's directory.
        path: RemotePath,
        /// What the server shows.
        shown: Displacement,
    },
    /// The vault is there again.
    Returned {
        /// The vault's directory.
        path: RemotePath,
    },
    /// This mount renamed the vault's directory, or one above it.
    Moved {
        /// Its old path.
        from: RemotePath,
        /// Its new path.
        to: RemotePath,
        /// Its id.
        id: Option<String>,
    },
}

/// The vault that is expected at one path.
struct Binding {
    /// The vault, with its keys, while it is unlocked.
    unlocked: Option<Arc<UnlockedVault>>,
    /// The id in its config; formats before 8 have none.
    id: Option<String>,
    /// The files that open it, if it was unlocked in this mount.
    opening: Option<Opening>,
    /// The path in the last event.
    path: RemotePath,
    /// The displacement in the last event.
    told: Option<Displacement>,
}

/// All bindings of a mount.
#[derive(Default)]
pub(in crate::drive) struct Bindings {
    /// By the node of the vault's directory.
    vaults: HashMap<Inode, Binding>,
    /// The nodes, of vaults and of directories above them, in whose place the server shows something else.
    displaced: HashMap<Inode, Displacement>,
    /// Notified when an event may be due, or a displaced vault has to be checked.
    pub(in crate::drive) changed: Arc<Notify>,
}

impl Bindings {
    /// Returns the vault that is unlocked at this node.
    pub(in crate::drive) fn unlocked(&self, inode: Inode) -> Option<&Arc<UnlockedVault>> {
        self.vaults.get(&inode)?.unlocked.as_ref()
    }

    /// Returns all vaults that are unlocked.
    pub(in crate::drive) fn all_unlocked(&self) -> impl Iterator<Item = &Arc<UnlockedVault>> {
        self.vaults.values().filter_map(|vault| vault.unlocked.as_ref())
    }

    /// Returns the files that open the vault at this node, if it was unlocked in this mount.
    pub(in crate::drive) fn opening(&self, inode: Inode) -> Option<&Opening> {
        self.vaults.get(&inode)?.opening.as_ref()
    }

    /// Whether a vault is bound to this node, unlocked or not.
    pub(in crate::drive) fn contains(&self, inode: Inode) -> bool {
        self.vaults.contains_key(&inode)
    }

    /// Binds a vault that is not unlocked to the node at `path`.
    pub(in crate::drive) fn bind_expected(&mut self, inode: Inode, id: Option<String>, path: RemotePath) {
        self.vaults.insert(inode, Binding { unlocked: None, id, opening: None, path, told: None });
    }

    /// Returns the nodes of all vaults.
    pub(in crate::drive) fn vaults(&self) -> impl Iterator<Item = Inode> {
        self.vaults.keys().copied()
    }

    /// Returns what the server shows in the place of this very node, if that is something else.
    pub(super) fn displacement(&self, inode: Inode) -> Option<&Displacement> {
        self.displaced.get(&inode)
    }
}

impl Nodes<'_> {
    /// Returns the directories that the mount shows in the place of unlocked vaults, by the path of each vault on the
    /// server.
    pub(in crate::drive) fn unlocked_roots(&self) -> HashMap<RemotePath, Directory> {
        let unlocked = self.bindings().vaults.iter().filter(|(_, binding)| binding.unlocked.is_some());
        unlocked
            .filter_map(|(&inode, _)| Some((self.path_of(inode).ok()?, self.directory(inode).ok()?)))
            .collect()
    }

    /// Whether a bound vault is this node or lies below it, outside vaults.
    pub(in crate::drive) fn leads_to_binding(&self, inode: Inode) -> bool {
        self.bindings().vaults.keys().any(|&vault| self.above(vault).contains(&inode))
    }

    /// Fails if the server shows something else at this node.
    pub(in crate::drive) fn check_placed(&self, inode: Inode) -> Result<(), DriveError> {
        match self.bindings().displacement(inode) {
            Some(shown) => Err(DriveError::Displaced(shown.clone())),
            None => Ok(()),
        }
    }

    /// Fails if the server shows something else at this node or above it.
    pub(super) fn check_way(&self, inode: Inode) -> Result<(), DriveError> {
        if self.bindings().displaced.is_empty() {
            return Ok(());
        }
        self.above(inode).into_iter().try_for_each(|at| self.check_placed(at))
    }

    /// Fails if a directory leads to a bound vault: it must not be removed or replaced.
    pub(in crate::drive) fn check_unbound(&self, inode: Inode) -> Result<(), DriveError> {
        if self.leads_to_binding(inode) { Err(DriveError::Bound) } else { Ok(()) }
    }

    /// Records what the server shows at a node that leads to a bound vault. Everything known of its names is in doubt.
    pub(in crate::drive) fn displace(&mut self, inode: Inode, shown: Displacement) {
        if self.bindings_mut().displaced.insert(inode, shown).is_none() {
            self.doubt(inode);
        }
        self.bindings().changed.notify_one();
    }

    /// Ends the displacement of a node: the server shows it again. Everything known of its names is in doubt.
    pub(in crate::drive) fn put_back(&mut self, inode: Inode) {
        if self.bindings_mut().displaced.remove(&inode).is_some() {
            self.doubt(inode);
            self.bindings().changed.notify_one();
        }
    }

    fn doubt(&mut self, inode: Inode) {
        if let Ok(node) = self.get_mut(inode) {
            node.attributes.expire();
            node.names.doubt();
        }
    }

    /// Puts into a listing the directories that lead to bound vaults: the mount goes on showing them whatever the
    /// server lists in their place.
    pub(in crate::drive) fn keep_bound(&mut self, directory: Inode, names: &mut Names) {
        if self.bindings().vaults.is_empty() {
            return;
        }
        let children = self.get(directory).map(|node| node.children().values().copied().collect::<Vec<_>>());
        for child in children.unwrap_or_default() {
            if !self.leads_to_binding(child) {
                continue;
            }
            let Ok(node) = self.get(child) else { continue };
            let listed = names.get(node.name()).map(|found| found.attributes.kind);
            if listed == Some(RemoteKind::Directory) {
                continue;
            }
            names.insert(node.as_found());
            self.displace(child, listed.map_or(Displacement::Missing, Displacement::of));
        }
    }

    /// Binds a vault to the directory that it was unlocked at. `opening` unlocked it.
    pub(in crate::drive) fn bind_unlocked(
        &mut self,
        inode: Inode,
        vault: Arc<UnlockedVault>,
        opening: Opening,
    ) -> Result<(), DriveError> {
        let path = self.path_of(inode)?;
        let told = self.bindings().vaults.get(&inode).and_then(|binding| binding.told.clone());
        let id = opening.id();
        let binding = Binding { unlocked: Some(vault), id, opening: Some(opening), path, told };
        self.bindings_mut().vaults.insert(inode, binding);
        self.put_back(inode);
        if let Ok(node) = self.get_mut(inode) {
            node.set_vault_here(VaultHere::Found);
        }
        Ok(())
    }

    /// Remembers the files that open an unlocked vault from now on.
    pub(in crate::drive) fn remember_opening(&mut self, inode: Inode, opening: Opening) {
        if let Some(binding) = self.bindings_mut().vaults.get_mut(&inode) {
            binding.opening = Some(opening);
        }
    }

    /// Removes the keys from a binding: the path stays bound.
    pub(in crate::drive) fn lock_bound(&mut self, inode: Inode) {
        if let Some(binding) = self.bindings_mut().vaults.get_mut(&inode) {
            binding.unlocked = None;
        }
    }

    /// Ends the binding of a vault that the user does not expect any more.
    pub(in crate::drive) fn unbind(&mut self, inode: Inode) {
        let above = self.above(inode);
        self.bindings_mut().vaults.remove(&inode);
        for at in above {
            if !self.leads_to_binding(at) {
                // From now on the mount shows what the server shows there.
                self.put_back(at);
                if at != Inode::ROOT {
                    if let Ok(node) = self.get_mut(at) {
                        node.set_vault_here(VaultHere::Unknown);
                    }
                    self.detach(at);
                }
            }
        }
    }

    /// Returns the id that the vault's config had when it was last unlocked here.
    fn expected_id(&self, inode: Inode) -> Option<&str> {
        self.bindings().vaults.get(&inode)?.id.as_deref()
    }

    /// Whether these are the files of another vault than the one bound to this node. Formats before 8 have no id, and a
    /// vault has one once it was upgraded.
    pub(in crate::drive) fn is_another(&self, inode: Inode, opening: &Opening) -> bool {
        let expected = self.expected_id(inode);
        expected.is_some() && opening.id().as_deref() != expected
    }

    /// Returns the bound vaults at or below a directory.
    pub(in crate::drive) fn bound_below(&self, inode: Inode) -> Vec<Inode> {
        let vaults = self.bindings().vaults.keys().copied();
        vaults.filter(|&vault| self.above(vault).contains(&inode)).collect()
    }

    /// Returns the vault that is bound at this path.
    pub(in crate::drive) fn bound_at(&self, path: &RemotePath) -> Option<Inode> {
        let mut vaults = self.bindings().vaults.keys().copied();
        vaults.find(|&vault| self.path_of(vault).as_ref() == Ok(path))
    }

    /// Returns the bound vault that this node is or lies in.
    pub(in crate::drive) fn bound_around(&self, inode: Inode) -> Option<Inode> {
        self.above(inode).into_iter().find(|at| self.bindings().contains(*at))
    }

    /// Returns what the server shows at the path of a bound vault, or of a directory above it, if that is something
    /// else.
    pub(in crate::drive) fn displacement_of(&self, vault: Inode) -> Option<&Displacement> {
        self.above(vault).into_iter().find_map(|at| self.bindings().displacement(at))
    }

    /// Returns the events of the bound vaults since the last call.
    pub(in crate::drive) fn take_events(&mut self) -> Vec<VaultEvent> {
        let mut events = Vec::new();
        for inode in self.bindings().vaults.keys().copied().collect::<Vec<_>>() {
            let (path, shown) = (self.path_of(inode), self.displacement_of(inode).cloned());
            let (Ok(path), Some(binding)) = (path, self.bindings_mut().vaults.get_mut(&inode)) else {
                continue;
            };
            if binding.path != path {
                let from = std::mem::replace(&mut binding.path, path.clone());
                events.push(VaultEvent::Moved { from, to: path.clone(), id: binding.id.clone() });
            }
            if binding.told != shown {
                binding.told.clone_from(&shown);
                events.push(match shown {
                    Some(shown) => VaultEvent::Displaced { path, shown },
                    None => VaultEvent::Returned { path },
                });
            }
        }
        events
    }
}
