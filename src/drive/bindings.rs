//! Paths at which a vault is expected. A vault that was unlocked stays bound to its path until the mount ends, and so does one that was
//! unlocked there in an earlier mount: whatever the server shows in its place, nothing but that vault is read or written below the path.
//!
//! A binding holds the keys while the vault is unlocked. It belongs to a node that no answer of the server detaches, and neither do the
//! nodes of the plain directories on the way to it: they keep their kind and their children. Where the server shows something else for one
//! of these nodes, that node is *displaced*: every operation at it or below it fails (`EIO`) until a look at the server finds the vault there
//! again. A rename by this mount moves nodes, and so the bindings with them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scaup_fuse::filesystem::Inode;
use tokio::sync::{Notify, mpsc};

use super::error::DriveError;
use super::found::{Found, Place};
use super::names::Names;
use super::tree::{Nodes, VaultHere};
use super::vault::{UnlockedVault, content_path};
use super::vaults::{Opening, VaultError, open_files};
use super::{Drive, found};
use crate::remote::{RemoteAttributes, RemoteError, RemoteKind, RemotePath};

/// How often the server is asked whether a displaced vault is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the server shows where a vault is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Displacement {
    /// Nothing.
    #[error("the server does not show it any more")]
    Missing,
    /// A link, which may lead to any place of the server.
    #[error("the server shows a symbolic link in its place")]
    Link,
    /// A file or another thing that is no directory.
    #[error("the server shows something in its place that is no directory")]
    NoDirectory,
    /// A directory that is no vault, or not with the content of this one.
    #[error("the server shows a directory in its place that is not this vault")]
    NotThisVault,
    /// A vault with another id.
    #[error("the server shows another vault in its place")]
    OtherVault,
    /// The server does not let it be looked at.
    #[error("the server does not let it be looked at: {0}")]
    Refused(#[source] RemoteError),
}

impl Displacement {
    pub(super) fn of(kind: RemoteKind) -> Self {
        if kind == RemoteKind::Symlink { Self::Link } else { Self::NoDirectory }
    }
}

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
        /// Where it was.
        from: RemotePath,
        /// Where it is.
        to: RemotePath,
        /// Its id.
        id: Option<String>,
    },
}

/// What is expected at one path.
struct Binding {
    /// The vault, with its keys, while it is unlocked.
    unlocked: Option<Arc<UnlockedVault>>,
    /// The id in its config; formats before 8 have none.
    id: Option<String>,
    /// The path that was last told of.
    path: RemotePath,
    /// What was last told of its place.
    told: Option<Displacement>,
}

/// All bindings of a mount.
#[derive(Default)]
pub(super) struct Bindings {
    /// By the node of the vault's directory.
    vaults: HashMap<Inode, Binding>,
    /// The nodes, of vaults and of directories above them, in whose place the server shows something else.
    displaced: HashMap<Inode, Displacement>,
    /// Tells that something may have to be told or looked at.
    pub(super) changed: Arc<Notify>,
}

impl Bindings {
    /// The vault that is unlocked at this node.
    pub(super) fn unlocked(&self, inode: Inode) -> Option<&Arc<UnlockedVault>> {
        self.vaults.get(&inode)?.unlocked.as_ref()
    }

    /// Whether a vault is bound to this node, unlocked or not.
    pub(super) fn contains(&self, inode: Inode) -> bool {
        self.vaults.contains_key(&inode)
    }

    /// What the server shows in the place of this very node, if that is something else.
    pub(super) fn displacement(&self, inode: Inode) -> Option<&Displacement> {
        self.displaced.get(&inode)
    }
}

impl Nodes<'_> {
    /// Whether a bound vault is this node or lies below it, outside vaults.
    pub(super) fn leads_to_binding(&self, inode: Inode) -> bool {
        self.bindings().vaults.keys().any(|&vault| self.above(vault).contains(&inode))
    }

    /// Fails where the server shows something else at this node.
    pub(super) fn check_placed(&self, inode: Inode) -> Result<(), DriveError> {
        match self.bindings().displacement(inode) {
            Some(shown) => Err(DriveError::Displaced(shown.clone())),
            None => Ok(()),
        }
    }

    /// Fails where the server shows something else at this node or above it.
    pub(super) fn check_way(&self, inode: Inode) -> Result<(), DriveError> {
        if self.bindings().displaced.is_empty() {
            return Ok(());
        }
        self.above(inode).into_iter().try_for_each(|at| self.check_placed(at))
    }

    /// Fails where a directory leads to a bound vault: it is not to be removed or replaced.
    pub(super) fn check_unbound(&self, inode: Inode) -> Result<(), DriveError> {
        if self.leads_to_binding(inode) { Err(DriveError::Bound) } else { Ok(()) }
    }

    /// Notes what the server shows at a node that leads to a bound vault. Everything that was known of its names is in doubt.
    pub(super) fn displace(&mut self, inode: Inode, shown: Displacement) {
        if self.bindings_mut().displaced.insert(inode, shown).is_none() {
            self.doubt(inode);
        }
        self.bindings().changed.notify_one();
    }

    fn replace(&mut self, inode: Inode) {
        if self.bindings_mut().displaced.remove(&inode).is_some() {
            self.doubt(inode);
            self.bindings().changed.notify_one();
        }
    }

    fn doubt(&mut self, inode: Inode) {
        if let Ok(node) = self.get_mut(inode) {
            node.expire();
            node.doubt_names();
        }
    }

    /// The directories of a listing that lead to bound vaults, as the mount goes on to show them whatever the server lists in their place.
    pub(super) fn keep_bound(&mut self, directory: Inode, names: &mut Names) {
        if self.bindings().vaults.is_empty() {
            return;
        }
        let children = self.get(directory).map(|node| node.children.values().copied().collect::<Vec<_>>());
        for child in children.unwrap_or_default() {
            if !self.leads_to_binding(child) {
                continue;
            }
            let Ok(node) = self.get(child) else { continue };
            let listed = names.get(&node.name).map(|found| found.attributes.kind);
            if listed == Some(RemoteKind::Directory) {
                continue;
            }
            let found =
                Found { name: node.name.clone(), attributes: node.attributes, place: node.place.clone() };
            names.insert(found);
            self.displace(child, listed.map_or(Displacement::Missing, Displacement::of));
        }
    }

    /// Binds a vault to the directory that it was unlocked at.
    pub(super) fn bind_unlocked(
        &mut self,
        inode: Inode,
        vault: Arc<UnlockedVault>,
        id: Option<String>,
    ) -> Result<(), DriveError> {
        let path = self.path_of(inode)?;
        let told = self.bindings().vaults.get(&inode).and_then(|binding| binding.told.clone());
        self.bindings_mut().vaults.insert(inode, Binding { unlocked: Some(vault), id, path, told });
        self.replace(inode);
        if let Ok(node) = self.get_mut(inode) {
            node.vault = VaultHere::Found;
        }
        Ok(())
    }

    /// Takes the keys out of a binding: the path stays bound.
    pub(super) fn lock_bound(&mut self, inode: Inode) {
        if let Some(binding) = self.bindings_mut().vaults.get_mut(&inode) {
            binding.unlocked = None;
        }
    }

    /// Ends the binding of a vault that a person does not expect any more.
    fn unbind(&mut self, inode: Inode) {
        let above = self.above(inode);
        self.bindings_mut().vaults.remove(&inode);
        for at in above {
            if !self.leads_to_binding(at) {
                // What the server shows there is what the mount shows from now on.
                self.replace(at);
                if at != Inode::ROOT {
                    if let Ok(node) = self.get_mut(at) {
                        node.vault = VaultHere::Unknown;
                    }
                    self.detach(at);
                }
            }
        }
    }

    /// The id that the vault's config had when it was last unlocked here.
    fn expected_id(&self, inode: Inode) -> Option<&str> {
        self.bindings().vaults.get(&inode)?.id.as_deref()
    }

    /// Whether these are the files of another vault than the one that is bound to this node. Formats before 8 have no id, and a vault has one
    /// once it was upgraded.
    pub(super) fn is_another(&self, inode: Inode, opening: &Opening) -> bool {
        let expected = self.expected_id(inode);
        expected.is_some() && opening.id().as_deref() != expected
    }

    /// The bound vaults that lie below a directory, or are it.
    pub(super) fn bound_below(&self, inode: Inode) -> Vec<Inode> {
        let vaults = self.bindings().vaults.keys().copied();
        vaults.filter(|&vault| self.above(vault).contains(&inode)).collect()
    }

    /// The vault that is bound at this path.
    pub(super) fn bound_at(&self, path: &RemotePath) -> Option<Inode> {
        let mut vaults = self.bindings().vaults.keys().copied();
        vaults.find(|&vault| self.path_of(vault).as_ref() == Ok(path))
    }

    /// The bound vault that this node is or lies in.
    fn bound_around(&self, inode: Inode) -> Option<Inode> {
        self.above(inode).into_iter().find(|at| self.bindings().contains(*at))
    }

    /// What the server shows at the path of a bound vault, or of a directory above it, if that is something else.
    pub(super) fn displacement_of(&self, vault: Inode) -> Option<&Displacement> {
        self.above(vault).into_iter().find_map(|at| self.bindings().displacement(at))
    }

    /// What is to be told of the bound vaults since the last time.
    fn take_events(&mut self) -> Vec<VaultEvent> {
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

impl Drive {
    /// Binds a vault that was unlocked at `path` in an earlier mount: until the server shows it there, the path and all below it is closed.
    /// Must come before programs see the mount.
    ///
    /// # Errors
    ///
    /// If the path has a name that no directory can have.
    pub fn expect_vault(&self, path: &RemotePath, id: Option<String>) -> Result<(), DriveError> {
        let mut nodes = self.tree.lock();
        let mut at = Inode::ROOT;
        for name in path.names() {
            let name = OsString::from(name);
            found::plain_name(&name)?;
            let known = nodes.child(at, &name);
            at = match known {
                Some(child) if nodes.get(child)?.attributes.kind == RemoteKind::Directory => child,
                known => {
                    if let Some(other) = known {
                        nodes.detach(other);
                    }
                    let attributes = RemoteAttributes::new(RemoteKind::Directory, 0o700);
                    let child =
                        nodes.adopt(at, Found { name, attributes, place: Place::Plain }, Instant::now())?;
                    nodes.get_mut(child)?.fetched = None;
                    child
                }
            };
        }
        if !nodes.bindings().contains(at) {
            let binding = Binding { unlocked: None, id, path: path.clone(), told: None };
            nodes.bindings_mut().vaults.insert(at, binding);
        }
        Ok(())
    }

    /// Looks whether the server shows the vault that is bound at `path`. Returns what it shows instead.
    ///
    /// # Errors
    ///
    /// If nothing is bound there, or the server can't be asked.
    pub async fn look_for_expected(&self, path: &RemotePath) -> Result<Option<Displacement>, VaultError> {
        let inode = self.tree.lock().bound_at(path);
        let inode = inode.ok_or_else(|| VaultError::NotAVault(path.clone()))?;
        self.look_at_binding(inode)
            .await
            .map_err(|source| VaultError::Remote { path: path.clone(), source })?;
        Ok(self.tree.lock().displacement_of(inode).cloned())
    }

    /// A person does not expect a vault at `path` any more: what the server shows there is shown.
    pub fn stop_expecting(&self, path: &RemotePath) {
        let mut nodes = self.tree.lock();
        if let Some(inode) = nodes.bound_at(path)
            && nodes.bindings().unlocked(inode).is_none()
        {
            nodes.unbind(inode);
        }
    }

    /// Asks the server what is at the path of a bound vault, and notes it. One round trip while it is unlocked.
    async fn look_at_binding(&self, inode: Inode) -> Result<(), RemoteError> {
        let looked = {
            let nodes = self.tree.lock();
            let way: Vec<Inode> = nodes.above(inode).into_iter().filter(|&at| at != Inode::ROOT).collect();
            let paths: Result<Vec<_>, _> =
                way.iter().rev().map(|&at| Ok::<_, DriveError>((at, nodes.path_of(at)?))).collect();
            let vault = nodes.bindings().unlocked(inode).and_then(|vault| vault.cryptor().ok());
            match (paths, nodes.path_of(inode)) {
                (Ok(paths), Ok(path)) => Some((paths, path, vault)),
                _ => None,
            }
        };
        let Some((way, path, cryptor)) = looked else { return Ok(()) };
        let steps = way.iter().map(|(at, path)| async move {
            let shown = match self.remote.stat(path).await {
                Ok(attributes) if attributes.kind == RemoteKind::Directory => None,
                Ok(attributes) => Some(Displacement::of(attributes.kind)),
                Err(error) => Some(displacement(error)?),
            };
            Ok::<_, RemoteError>((*at, shown))
        });
        let content = async {
            match &cryptor {
                Some(cryptor) => {
                    let content = content_path(&path, cryptor, &scaup_crypto::DirectoryId::root());
                    match self.remote.stat(&content).await {
                        Ok(attributes) if attributes.kind == RemoteKind::Directory => Ok(None),
                        Ok(_) => Ok(Some(Displacement::NotThisVault)),
                        Err(error) => match displacement(error)? {
                            Displacement::Missing => Ok(Some(Displacement::NotThisVault)),
                            refused => Ok(Some(refused)),
                        },
                    }
                }
                None => self.looks_like(inode, &path).await,
            }
        };
        let (steps, content) = futures::join!(futures::future::join_all(steps), content);
        let steps: Vec<_> = steps.into_iter().collect::<Result<_, _>>()?;
        let content = content?;
        let mut nodes = self.tree.lock();
        // This mount may have renamed it meanwhile.
        if nodes.path_of(inode).as_ref() != Ok(&path) {
            return Ok(());
        }
        // Below the first step that is wrong nothing is known.
        let mut is_reached = true;
        for (at, shown) in steps {
            match shown {
                Some(shown) if is_reached => {
                    nodes.displace(at, shown);
                    is_reached = false;
                }
                None if at != inode => nodes.replace(at),
                _ => {}
            }
        }
        match content {
            _ if !is_reached => {}
            Some(shown) => nodes.displace(inode, shown),
            None => nodes.replace(inode),
        }
        Ok(())
    }

    /// What a locked vault's marker files say against its being there.
    async fn looks_like(&self, inode: Inode, path: &RemotePath) -> Result<Option<Displacement>, RemoteError> {
        match open_files(self.remote.as_ref(), path).await {
            Ok(opening) => {
                let is_another = self.tree.lock().is_another(inode, &opening);
                Ok(is_another.then_some(Displacement::OtherVault))
            }
            // It is a vault, which can't be unlocked: it is shown encrypted.
            Err(VaultError::Refused { .. }) => Ok(None),
            Err(VaultError::Remote { source, .. }) => displacement(source).map(|shown| match shown {
                Displacement::Missing => Some(Displacement::NotThisVault),
                refused => Some(refused),
            }),
            Err(_) => Ok(Some(Displacement::NotThisVault)),
        }
    }

    /// Finds out, where an operation in a bound vault found something missing, whether the vault itself is.
    pub(super) async fn cause(&self, inode: Inode, error: DriveError) -> DriveError {
        let may_be_elsewhere = error.is_not_found()
            || matches!(
                error,
                DriveError::Stale
                    | DriveError::NotADirectory
                    | DriveError::Remote(RemoteError::NotADirectory | RemoteError::PermissionDenied)
            );
        if !may_be_elsewhere {
            return error;
        }
        let Some(vault) = self.tree.lock().bound_around(inode) else { return error };
        if let Err(error) = self.look_at_binding(vault).await {
            tracing::debug!(%error, "could not look whether a vault is still in its place");
        }
        let nodes = self.tree.lock();
        match nodes.displacement_of(vault) {
            Some(shown) => DriveError::Displaced(shown.clone()),
            None => error,
        }
    }

    /// What happens to the paths of bound vaults from now on.
    pub fn vault_events(&self) -> mpsc::UnboundedReceiver<VaultEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.vault_events.set(sender);
        receiver
    }

    /// Tells what became of bound vaults, and looks again at those that are displaced, as long as the drive lives.
    pub(super) async fn watch_bindings(drive: std::sync::Weak<Self>, changed: Arc<Notify>) {
        loop {
            let Some(here) = drive.upgrade() else { return };
            here.tell_of_bindings();
            let displaced: Vec<Inode> = {
                let nodes = here.tree.lock();
                let vaults = nodes.bindings().vaults.keys().copied();
                vaults.filter(|&vault| nodes.displacement_of(vault).is_some()).collect()
            };
            if displaced.is_empty() {
                drop(here);
                tokio::select! {
                    () = changed.notified() => {}
                    // The drive may be gone.
                    () = tokio::time::sleep(60 * LOOK_EVERY) => {}
                }
                continue;
            }
            if here.remote.is_reachable() {
                for vault in displaced {
                    if let Err(error) = here.look_at_binding(vault).await {
                        tracing::debug!(%error, "could not look whether a vault is back");
                    }
                }
                here.tell_of_bindings();
            }
            drop(here);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn tell_of_bindings(&self) {
        let events = self.tree.lock().take_events();
        // What is told names plain places only.
        for event in events {
            match &event {
                VaultEvent::Displaced { path, shown } => self.record(
                    Inode::ROOT,
                    "vault",
                    format!(
                        "vault {}: {shown}; nothing is read or written there until it is back",
                        shown_path(path)
                    ),
                ),
                VaultEvent::Returned { path } => {
                    let text = format!("vault {} is in its place again", shown_path(path));
                    self.record(Inode::ROOT, "vault", text);
                }
                VaultEvent::Moved { .. } => {}
            }
            if let Some(events) = self.vault_events.get() {
                // Nobody may be listening any more.
                let _ = events.send(event);
            }
        }
    }
}

fn shown_path(path: &RemotePath) -> String {
    if path.is_root() { ".".to_owned() } else { String::from_utf8_lossy(path.as_bytes()).into_owned() }
}

/// What an error of a look says of the place; an error where it says nothing.
fn displacement(error: RemoteError) -> Result<Displacement, RemoteError> {
    match error {
        RemoteError::NotFound => Ok(Displacement::Missing),
        RemoteError::NotADirectory => Ok(Displacement::NoDirectory),
        error if error.is_unanswered() => Err(error),
        error => Ok(Displacement::Refused(error)),
    }
}
