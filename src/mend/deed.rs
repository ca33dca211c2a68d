//! What can be done about a finding without a choice of a person, in words and in the order in which it is done.

use scaup_crypto::DirectoryId;

use crate::remote::RemotePath;

/// Something that is of no use and is put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Useless {
    /// A node with nothing in it.
    EmptyNode,
    /// An entry that can't be a node.
    NoNode,
    /// The node of a directory in that directory or below it.
    Loop,
    /// A `dir.c9r` outside a node.
    LooseFile,
    /// A content directory with nothing in it that no node leads to.
    EmptyOrphan,
}

/// One mend. All paths are relative to the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// Write the `dirid.c9r` of a content directory.
    WriteId { content: RemotePath, id: DirectoryId },
    /// Make the content directory that a node leads to.
    MakeContent { node: RemotePath },
    /// Cut what stands behind the name in `name.c9s`.
    CutLongName { node: RemotePath },
    /// Give an entry of the directory `parent` the form that its name has, or a name if that is lost.
    Rename { entry: RemotePath, parent: DirectoryId },
    /// Put something aside.
    PutAside { path: RemotePath, what: Useless },
    /// Give a content directory whose id is known a node in `/LOST+FOUND`.
    Link { content: RemotePath, id: DirectoryId },
    /// Move what is in a content directory whose id is not known to `/LOST+FOUND`.
    Adopt { content: RemotePath },
    /// Move a node that lies in its own directory to `/LOST+FOUND`.
    BreakCircle { node: RemotePath },
}

impl Deed {
    /// Returns when it is done: lower ranks first.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::WriteId { .. } => 0,
            Self::MakeContent { .. } => 1,
            Self::CutLongName { .. } => 2,
            Self::PutAside { what: Useless::EmptyNode | Useless::NoNode | Useless::Loop, .. } => 3,
            Self::BreakCircle { .. } => 4,
            // From here on, entries have other names than when they were found.
            Self::Rename { .. } => 5,
            Self::Link { .. } => 6,
            Self::Adopt { .. } => 7,
            Self::PutAside { what: Useless::LooseFile | Useless::EmptyOrphan, .. } => 8,
        }
    }

    /// Returns the steps, in words.
    pub(super) fn steps(&self) -> &'static str {
        match self {
            Self::WriteId { .. } => "write dirid.c9r again; another one that lies there is put aside first",
            Self::MakeContent { .. } => {
                "make the content directory with its dirid.c9r; the directory is empty then: what was in it is lost"
            }
            Self::CutLongName { .. } => "copy name.c9s aside, and replace it by the name alone",
            Self::Rename { .. } => {
                "rename the entry to what its name has to be called, or if the name is lost or taken, to the name \
                 that a mount shows"
            }
            Self::PutAside { what: Useless::Loop, .. } => {
                "put this node aside: its directory is still reached from above"
            }
            Self::PutAside { .. } => "put it aside",
            Self::Link { .. } => {
                "make one node in /LOST+FOUND that leads to it, with all names in it and below"
            }
            Self::Adopt { .. } => {
                "move what is in it to a new directory in /LOST+FOUND, under new names where they are lost, and put \
                 the rest aside"
            }
            Self::BreakCircle { .. } => {
                "move this node to /LOST+FOUND, with all that is in its directory and below"
            }
        }
    }
}
