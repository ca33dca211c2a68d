//! Where symbolic links may lead.
//!
//! The server decides what is a link and where it leads, in vaults too: the target of a link is encrypted like the content of a
//! file, so a server can make any file a link to wherever the content of another file says. So links are held to where they lie:
//! a link in a vault to that vault (else programs would write in clear beside it, or into files of this machine), any other link
//! to the mount.
//!
//! The kernel walks a target name by name, and asks for each link that it meets on the way. So it is enough to hold each link by
//! itself, as long as `..` stands only where it is known what it climbs from: at the beginning, where that is the directory of
//! the link. Behind a name, which may be another link, it could climb from anywhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::error::DriveError;
use super::found::Place;
use super::tree::Nodes;

/// How many directories a target climbs before it descends. `None` if its text does not tell where it leads: it is absolute, or
/// climbs from behind a name.
pub(crate) fn climbs(target: &Path) -> Option<usize> {
    let mut names = target.components().filter(|name| *name != Component::CurDir).peekable();
    let climbed = std::iter::from_fn(|| names.next_if_eq(&Component::ParentDir)).count();
    names.all(|name| matches!(name, Component::Normal(_))).then_some(climbed)
}

/// What the links in a directory are held to.
struct Hold {
    /// The vault, or the mounted directory.
    root: Inode,
    /// How many directories may be climbed to stay in it.
    depth: usize,
    is_vault: bool,
}

impl Nodes<'_> {
    fn hold_of_links(&self, directory: Inode) -> Result<Hold, DriveError> {
        let node = self.get(directory)?;
        Ok(match (&node.place, self.bindings().unlocked(directory)) {
            (Place::Vault { vault, .. }, _) => {
                let (root, ids) = self.vault_root(directory, vault)?;
                Hold { root, depth: ids.len(), is_vault: true }
            }
            (Place::Plain, Some(_)) => Hold { root: directory, depth: 0, is_vault: true },
            (Place::Plain, None) => {
                let depth = self.above(directory).len().saturating_sub(1);
                Hold { root: Inode::ROOT, depth, is_vault: false }
            }
        })
    }
}

impl Drive {
    /// Fails if a link in `directory` leads out of what it is held to. An absolute link has to lead there through this mount point.
    pub(super) fn check_link(&self, directory: Inode, target: &[u8]) -> Result<(), DriveError> {
        let (Hold { depth, is_vault, .. }, root) = {
            let nodes = self.tree.lock();
            let hold = nodes.hold_of_links(directory)?;
            let root = nodes.plain_path(hold.root)?;
            (hold, root)
        };
        if is_vault && self.options.follow_outside {
            return Ok(());
        }
        let target = Path::new(OsStr::from_bytes(target));
        let root =
            self.mountpoint.get().map(|mountpoint| mountpoint.join(OsStr::from_bytes(root.as_bytes())));
        let is_held = match root.and_then(|root| target.strip_prefix(root).ok()) {
            Some(below) => climbs(below) == Some(0),
            None => climbs(target).is_some_and(|climbed| climbed <= depth),
        };
        match (is_held, is_vault) {
            (true, _) => Ok(()),
            (false, true) => Err(DriveError::LeadsOutOfVault),
            (false, false) => Err(DriveError::LeadsOutOfMount),
        }
    }
}
