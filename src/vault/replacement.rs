//! Replacing one of a vault's two files, or putting one where it is missing, so that a cut after any message leaves a
//! vault that opens as it did.
//!
//! The file is copied to a backup first; the new content is written under a temporary name and on the server's disk
//! before it takes the file's name in one step. What others changed meanwhile is never replaced.

use bytes::Bytes;
use data_encoding::HEXUPPER;
use sha2::{Digest, Sha256};

use super::error::OpenError;
use super::markers::MARKER_FILE_MAX;
use super::small_file::write_small;
use super::sweep::sweep_plain;
use super::temporary;
use crate::remote::{
    Remote, RemoteAttributes, RemoteError, RemoteKind, RemoteName, RemoteOpen, RemotePath,
    RemoteSetAttributes, RenameHow,
};

/// One of a vault's two files, as it was when it was read.
pub(super) struct VaultFile {
    vault: RemotePath,
    name: RemoteName,
    content: Bytes,
    attributes: RemoteAttributes,
}

impl VaultFile {
    /// Reads the file, of which `content` is already known.
    ///
    /// # Errors
    ///
    /// If it has other content by now, or is a link, or the server fails.
    pub(super) async fn read(
        remote: &dyn Remote,
        vault: &RemotePath,
        name: RemoteName,
        content: Bytes,
    ) -> Result<Self, OpenError> {
        let attributes = remote.stat(&vault.join(&name)).await.map_err(OpenError::of(vault))?;
        let file = Self { vault: vault.clone(), name, content, attributes };
        if file.attributes.kind != RemoteKind::File {
            let name = file.shown();
            return Err(OpenError::refused(
                vault,
                format_args!("{name} is no regular file; replace it by one"),
            ));
        }
        file.check_unchanged(remote).await?;
        Ok(file)
    }

    /// Gives the file new content, and returns the name of the backup that holds what it had.
    ///
    /// # Errors
    ///
    /// The file has its old content then; but where the server did not answer, it may have the new one.
    pub(super) async fn replace(self, remote: &dyn Remote, new: &[u8]) -> Result<RemoteName, OpenError> {
        sweep_debris(remote, &self.vault).await;
        let backup = self.back_up(remote).await?;
        let written = self.write_temporary(remote, new).await?;
        if let Err(error) = self.check_unchanged(remote).await {
            discard(remote, &written).await;
            return Err(error);
        }
        self.take_place(remote, &written).await?;
        if self.read_again(remote).await? != *new {
            let old = self.write_temporary(remote, &self.content).await?;
            self.take_place(remote, &old).await?;
            let (name, backup) = (self.shown(), shown(&backup));
            let reason = format!(
                "the server did not keep what was written to {name}, so its old content was put back; \
                 if the vault does not open, that is also in {backup}"
            );
            return Err(OpenError::refused(&self.vault, reason));
        }
        Ok(backup)
    }

    /// Copies the file to a backup, named as Cryptomator names them, unless that is there.
    ///
    /// # Errors
    ///
    /// If the server fails, or another file has the backup's name.
    pub(super) async fn back_up(&self, remote: &dyn Remote) -> Result<RemoteName, OpenError> {
        let hash = Sha256::digest(&self.content);
        let hash = HEXUPPER.encode(hash.get(..4).unwrap_or_default());
        let name = [self.name.as_bytes(), b".", hash.as_bytes(), b".bkup"].concat();
        let name = RemoteName::parse(&name).ok_or_else(|| {
            OpenError::refused(&self.vault, "the name of one of its files is too long for a backup")
        })?;
        if !self.has_backup(remote, &name).await? {
            let written = self.write_temporary(remote, &self.content).await?;
            if let Err(error) = remote.rename(&written, &self.vault.join(&name), RenameHow::New).await {
                let is_taken = error == RemoteError::Exists;
                let error = self.given_up(remote, &written, error).await;
                // Somebody may have made it just now.
                if !is_taken || !self.has_backup(remote, &name).await? {
                    return Err(error);
                }
            }
        }
        // It must not be lost when the file is replaced.
        remote.sync_directory(&self.vault).await.map_err(OpenError::of(&self.vault))?;
        Ok(name)
    }

    /// Whether there is a file of this name with the same content; one with another content is an error.
    async fn has_backup(&self, remote: &dyn Remote, name: &RemoteName) -> Result<bool, OpenError> {
        match remote.read_small(&self.vault.join(name), MARKER_FILE_MAX).await {
            Ok(content) if content == self.content => Ok(true),
            Err(RemoteError::NotFound) => Ok(false),
            Ok(_) | Err(RemoteError::TooLong { .. } | RemoteError::IsADirectory) => {
                let (backup, name) = (shown(name), self.shown());
                let reason =
                    format!("{backup} is not the backup of {name} that its name promises; rename it first");
                Err(OpenError::refused(&self.vault, reason))
            }
            Err(error) => Err(OpenError::of(&self.vault)(error)),
        }
    }

    /// Writes a file under a temporary name, with the rights that this file has, to the server's disk.
    async fn write_temporary(&self, remote: &dyn Remote, content: &[u8]) -> Result<RemotePath, OpenError> {
        let name = temporary::name().map_err(|error| OpenError::refused(&self.vault, error))?;
        let path = self.vault.join(&name);
        let RemoteAttributes { mode, gid, .. } = self.attributes;
        let written = async {
            // Nobody else reads it before it has the right group.
            let file = remote.open(&path, RemoteOpen::CreateNew(0o600)).await?;
            let made = file.stat().await?;
            if made.gid != gid {
                let owner = Some((made.uid, gid));
                let set =
                    file.set_attributes(RemoteSetAttributes { owner, ..RemoteSetAttributes::default() });
                // Where the group may do what all others may, it does not matter.
                let matters = mode >> 3 & 0o7 != mode & 0o7;
                match set.await {
                    Err(error) if matters || error.is_unanswered() => return Err(error),
                    _ => {}
                }
            }
            let set = RemoteSetAttributes { mode: Some(mode), ..RemoteSetAttributes::default() };
            file.write_whole(Bytes::copy_from_slice(content), set).await?;
            file.close().await
        };
        match written.await {
            Ok(()) => Ok(path),
            Err(error) => Err(self.given_up(remote, &path, error).await),
        }
    }

    /// Gives a file that was written the name of this one.
    async fn take_place(&self, remote: &dyn Remote, written: &RemotePath) -> Result<(), OpenError> {
        if let Err(error) = remote.rename(written, &self.vault.join(&self.name), RenameHow::Replace).await {
            return Err(self.given_up(remote, written, error).await);
        }
        remote.sync_directory(&self.vault).await.map_err(OpenError::of(&self.vault))
    }

    /// Removes what was written, unless the server does not answer: then a later run does.
    async fn given_up(&self, remote: &dyn Remote, written: &RemotePath, error: RemoteError) -> OpenError {
        if !error.is_unanswered() {
            discard(remote, written).await;
        }
        OpenError::of(&self.vault)(error)
    }

    async fn read_again(&self, remote: &dyn Remote) -> Result<Bytes, OpenError> {
        let read = remote.read_small(&self.vault.join(&self.name), MARKER_FILE_MAX).await;
        read.map_err(OpenError::of(&self.vault))
    }

    async fn check_unchanged(&self, remote: &dyn Remote) -> Result<(), OpenError> {
        let now = remote.stat(&self.vault.join(&self.name)).await.map_err(OpenError::of(&self.vault))?;
        let of = |attributes: &RemoteAttributes| (attributes.kind, attributes.size, attributes.modified);
        if of(&now) == of(&self.attributes) && self.read_again(remote).await? == self.content {
            return Ok(());
        }
        let reason = format!("somebody else changed {} just now; nothing was changed here", self.shown());
        Err(OpenError::refused(&self.vault, reason))
    }

    fn shown(&self) -> String {
        shown(&self.name)
    }
}

/// Puts one of a vault's two files where it is missing: under a temporary name first, until it is on the server's disk.
///
/// # Errors
///
/// The name is free then, or somebody else has made it; but where the server did not answer, the file may be there.
pub(super) async fn put_new(
    remote: &dyn Remote,
    vault: &RemotePath,
    name: &RemoteName,
    content: &[u8],
) -> Result<(), OpenError> {
    let failed = OpenError::of(vault);
    let (place, shown) = (vault.join(name), shown(name));
    let is_taken = || {
        OpenError::refused(
            vault,
            format_args!("somebody else made {shown} just now; nothing was changed here"),
        )
    };
    sweep_debris(remote, vault).await;
    match remote.stat(&place).await {
        Err(RemoteError::NotFound) => {}
        Ok(_) => return Err(is_taken()),
        Err(error) => return Err(failed(error)),
    }
    let written = vault.join(&temporary::name().map_err(|error| OpenError::refused(vault, error))?);
    let put = async {
        write_small(remote, &written, content).await?;
        remote.rename(&written, &place, RenameHow::New).await
    };
    if let Err(error) = put.await {
        if !error.is_unanswered() {
            discard(remote, &written).await;
        }
        return Err(if error == RemoteError::Exists { is_taken() } else { failed(error) });
    }
    remote.sync_directory(vault).await.map_err(&failed)?;
    if remote.read_small(&place, MARKER_FILE_MAX).await.map_err(&failed)? != *content {
        return Err(OpenError::refused(
            vault,
            format_args!("the server did not keep what was written to {shown}"),
        ));
    }
    Ok(())
}

/// Removes what dead processes left beside the vault's files.
async fn sweep_debris(remote: &dyn Remote, vault: &RemotePath) {
    let listed = remote.list_packed(vault, usize::MAX, remote.names_budget()).await;
    if let Ok(listed) = listed {
        sweep_plain(remote, vault, &temporary::debris_in(&listed)).await;
    }
}

fn shown(name: &RemoteName) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

async fn discard(remote: &dyn Remote, path: &RemotePath) {
    if let Err(error) = remote.remove(path).await {
        temporary::abandon(path, error);
    }
}
