//! Where symbolic links may lead.
//!
//! The server decides which nodes are links and where they lead, in vaults too: the target of a link is encrypted like
//! the content of a file, so a server can make any file a link whose target is the content of another file. So links
//! are confined: a link in a vault to that vault (otherwise programs would write in clear beside it, or into files of
//! this machine), any other link to the mount.
//!
//! The kernel walks a target name by name, and asks for each link that it meets on the way. So it is enough to check
//! each link by itself, as long as `..` occurs only where its base is known: at the beginning, where that is the
//! directory of the link. Behind a name, which may be another link, `..` could climb from anywhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::places::place::Place;
use crate::drive::tree::Nodes;
use crate::vault::climbs;

/// The directory that the links in a directory are confined to.
struct Hold {
    /// The vault, or the mounted directory.
    root: Inode,
    /// How many directories a target may climb and stay in it.
    depth: usize,
    is_vault: bool,
}

impl Nodes<'_> {
    fn hold_of_links(&self, directory: Inode) -> Result<Hold, DriveError> {
        let node = self.get(directory)?;
        Ok(match (node.place(), self.bindings().unlocked(directory)) {
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
    /// Fails if a link in `directory` leads out of the directory it is confined to. An absolute link has to lead there
    /// through this mount point.
    pub(in crate::drive) fn check_link(&self, directory: Inode, target: &[u8]) -> Result<(), DriveError> {
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
