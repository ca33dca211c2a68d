//! Vaults that are expected at their paths: bound in an earlier mount, checked on the server, and watched as long as
//! the drive lives.

use std::ffi::OsString;
use std::sync::{Arc, Weak};
use std::time::Duration;

use scaup_fuse::filesystem::Inode;
use tokio::sync::{Notify, mpsc};

use super::error::VaultError;
use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::displacement::Displacement;
use crate::drive::places::place::{Found, Place, plain_name};
use crate::drive::tree::bindings::VaultEvent;
use crate::remote::{RemoteAttributes, RemoteError, RemoteKind, RemotePath};
use crate::vault::{OpenError, content_path, open_files};

/// How often the server is asked whether a displaced vault is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Drive {
    /// Binds a vault that was unlocked at `path` in an earlier mount: until the server shows it there, the path and
    /// everything below it is closed. Must be called before programs see the mount.
    ///
    /// # Errors
    ///
    /// If the path has a name that no directory can have.
    pub fn expect_vault(&self, path: &RemotePath, id: Option<String>) -> Result<(), DriveError> {
        let mut nodes = self.tree.lock();
        let mut at = Inode::ROOT;
        for name in path.names() {
            let name = OsString::from(name);
            plain_name(&name)?;
            let known = nodes.child(at, &name);
            at = match known {
                Some(child) if nodes.get(child)?.kind() == RemoteKind::Directory => child,
                known => {
                    if let Some(other) = known {
                        nodes.detach(other);
                    }
                    let attributes = RemoteAttributes::new(RemoteKind::Directory, 0o700);
                    let child =
                        nodes.adopt(at, Found { name, attributes, place: Place::Plain }, Moment::now())?;
                    nodes.get_mut(child)?.attributes.ask_again();
                    child
                }
            };
        }
        if !nodes.bindings().contains(at) {
            nodes.bindings_mut().bind_expected(at, id, path.clone());
        }
        Ok(())
    }

    /// Checks whether the server shows the vault that is bound at `path`. Returns what it shows instead.
    ///
    /// # Errors
    ///
    /// If nothing is bound there, or the server can't be asked.
    pub async fn look_for_expected(&self, path: &RemotePath) -> Result<Option<Displacement>, VaultError> {
        let inode = self.tree.lock().bound_at(path);
        let inode = inode.ok_or_else(|| OpenError::NotAVault(path.clone()))?;
        self.look_at_binding(inode).await.map_err(OpenError::of(path))?;
        Ok(self.tree.lock().displacement_of(inode).cloned())
    }

    /// Ends the expectation of a vault at `path`: from now on the mount shows what the server shows there.
    pub fn stop_expecting(&self, path: &RemotePath) {
        let mut nodes = self.tree.lock();
        if let Some(inode) = nodes.bound_at(path)
            && nodes.bindings().unlocked(inode).is_none()
        {
            nodes.unbind(inode);
        }
    }

    /// Checks what the server shows at the path of a bound vault, and notes it. One round trip while it is unlocked.
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
        // Below the first wrong node nothing is known.
        let mut is_reached = true;
        for (at, shown) in steps {
            match shown {
                Some(shown) if is_reached => {
                    nodes.displace(at, shown);
                    is_reached = false;
                }
                None if at != inode => nodes.put_back(at),
                _ => {}
            }
        }
        match content {
            _ if !is_reached => {}
            Some(shown) => nodes.displace(inode, shown),
            None => nodes.put_back(inode),
        }
        Ok(())
    }

    /// Checks a locked vault's marker files; returns the displacement that they prove.
    async fn looks_like(&self, inode: Inode, path: &RemotePath) -> Result<Option<Displacement>, RemoteError> {
        match open_files(self.remote.as_ref(), path).await {
            Ok(opening) => {
                let is_another = self.tree.lock().is_another(inode, &opening);
                Ok(is_another.then_some(Displacement::OtherVault))
            }
            // It is a vault that can't be unlocked: it is shown encrypted.
            Err(OpenError::Refused { .. }) => Ok(None),
            Err(OpenError::Remote { source, .. }) => displacement(source).map(|shown| match shown {
                Displacement::Missing => Some(Displacement::NotThisVault),
                refused => Some(refused),
            }),
            Err(_) => Ok(Some(Displacement::NotThisVault)),
        }
    }

    /// Finds out, if an operation in a bound vault found something missing, whether the vault itself is missing.
    pub(in crate::drive) async fn cause(&self, inode: Inode, error: DriveError) -> DriveError {
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
            tracing::debug!(error = error.kind(), "could not look whether a vault is still in its place");
        }
        let nodes = self.tree.lock();
        match nodes.displacement_of(vault) {
            Some(shown) => DriveError::Displaced(shown.clone()),
            None => error,
        }
    }

    /// Returns a receiver of all further events of bound vaults.
    pub fn vault_events(&self) -> mpsc::UnboundedReceiver<VaultEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.vault_events.set(sender);
        receiver
    }

    /// Reports events of bound vaults, and checks displaced ones again, as long as the drive lives.
    pub(in crate::drive) async fn watch_bindings(drive: Weak<Self>, changed: Arc<Notify>) {
        loop {
            let Some(here) = drive.upgrade() else { return };
            here.tell_of_bindings();
            let displaced: Vec<Inode> = {
                let nodes = here.tree.lock();
                let vaults = nodes.bindings().vaults();
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
                        tracing::debug!(error = error.kind(), "could not look whether a vault is back");
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
        // The messages name only plain paths.
        for event in events {
            match &event {
                VaultEvent::Displaced { path, shown } => self.record(
                    Inode::ROOT,
                    "vault",
                    format!(
                        "vault {}: {shown}; reads and writes there fail until the vault is back",
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

/// Returns the displacement that an error of a check proves; the error itself if it proves none.
fn displacement(error: RemoteError) -> Result<Displacement, RemoteError> {
    match error {
        RemoteError::NotFound => Ok(Displacement::Missing),
        RemoteError::NotADirectory => Ok(Displacement::NoDirectory),
        error if error.is_unanswered() => Err(error),
        error => Ok(Displacement::Refused(error)),
    }
}
