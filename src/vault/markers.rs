//! The files that make a directory a vault (`docs/vault-format.md` section 1).

use crate::remote::RemoteKind;

/// Longest config or masterkey file that is read, bytes: Cryptomator's are below 1 KiB.
pub(super) const MARKER_FILE_MAX: usize = 64 * 1024;

/// Which of the files that make a vault exist (`docs/vault-format.md` section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Markers {
    config: bool,
    masterkey: bool,
    uvf: bool,
    data: bool,
}

impl Markers {
    pub(crate) const CONFIG: &'static str = "vault.cryptomator";
    pub(crate) const MASTERKEY: &'static str = "masterkey.cryptomator";
    /// The marker of the newer Universal Vault Format.
    pub(crate) const UVF: &'static str = "vault.uvf";
    pub(crate) const DATA: &'static str = "d";

    pub(crate) fn from_kinds(
        config: Option<RemoteKind>,
        masterkey: Option<RemoteKind>,
        uvf: Option<RemoteKind>,
        data: Option<RemoteKind>,
    ) -> Self {
        let is_file = |kind| kind == Some(RemoteKind::File);
        Self {
            config: is_file(config),
            masterkey: is_file(masterkey),
            uvf: is_file(uvf),
            data: data == Some(RemoteKind::Directory),
        }
    }

    pub(crate) fn are_a_vault(self) -> bool {
        self.data && (self.config || self.masterkey || self.uvf)
    }
}
