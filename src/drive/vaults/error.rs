//! Why a vault of a mount can't be unlocked or locked.

use crate::drive::places::displacement::Displacement;
use crate::drive::status::Unsaved;
use crate::remote::RemotePath;
use crate::vault::OpenError;

/// Why a vault of a mount can't be unlocked or locked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A vault is expected there, and the server shows something else.
    #[error("vault {path:?}: {shown}")]
    Displaced {
        /// Its directory.
        path: RemotePath,
        /// What the server shows.
        #[source]
        shown: Displacement,
    },
    /// Some content is not on the server yet.
    #[error("{} files are not saved on the server yet", .0.files)]
    Unsaved(Unsaved),
}
