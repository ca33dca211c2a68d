//! Changing a vault's password: its keys stay, and are wrapped anew.

use scaup_crypto::{Cryptor, Masterkey, MasterkeyFile};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::copies_beside::{is_backup, is_copy_of};
use super::error::OpenError;
use super::markers::MARKER_FILE_MAX;
use super::opening::{FoundMasterkey, cryptor_of, find_files};
use super::replacement::VaultFile;
use super::secret::VaultSecret;
use crate::remote::{Remote, RemoteError, RemoteName, RemotePath};

/// Gives a vault another password; what opens it now is `secret`. Returns the name of the backup of the masterkey file
/// as it was, which the old password opens.
///
/// The vault opens by one of the two passwords after each step. A mount in which it is unlocked goes on: its keys stay.
///
/// # Errors
///
/// The password is the old one then; but where the server did not answer, it may be the new one.
pub async fn change_password(
    remote: &dyn Remote,
    vault: &RemotePath,
    secret: &VaultSecret,
    new_password: &str,
) -> Result<RemoteName, OpenError> {
    let opening = find_files(remote, vault, Some(secret)).await?;
    let FoundMasterkey { name, content, file } = opening.masterkey(vault)?.clone();
    // A masterkey that is not this vault's is not wrapped anew.
    let cryptor = cryptor_of(remote, vault, opening, secret).await?;
    let old = VaultFile::read(remote, vault, name, content).await?;
    let new_password = Zeroizing::new(new_password.to_owned());
    let wrapped = spawn_blocking(move || {
        let new = file.rewrap(cryptor.masterkey(), &new_password, file.version());
        proved(new.map_err(|error| error.to_string())?, cryptor.masterkey(), &new_password)
    })
    .await;
    let new = wrapped.map_err(|error| OpenError::refused(vault, error))?;
    old.replace(remote, &new.map_err(|reason| OpenError::refused(vault, reason))?).await
}

/// Returns a new masterkey file after the password was seen to open it.
pub(super) fn proved(new: Vec<u8>, masterkey: &Masterkey, password: &str) -> Result<Vec<u8>, String> {
    let opened = MasterkeyFile::parse(&new).map(|file| file.unlock(password));
    match opened {
        Ok(Ok(opened)) if opened.is(masterkey) => Ok(new),
        _ => {
            Err("the new masterkey file does not open with the new password; nothing was changed".to_owned())
        }
    }
}

/// What became of copies of a masterkey file that an old password opens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OldCopies {
    /// The backups that were removed.
    pub removed: Vec<RemoteName>,
    /// What was left, with the reason.
    pub left: Vec<(RemoteName, String)>,
}

/// Removes the backups of a vault's masterkey file that an old password opens, each after it was seen to hold the keys
/// that `cryptor` has. Other copies of the file are left.
///
/// # Errors
///
/// If the directory can't be listed, or the server does not answer. Some backups may be removed by then.
pub async fn forget_password(
    remote: &dyn Remote,
    vault: &RemotePath,
    cryptor: &Cryptor,
    old_password: &str,
) -> Result<OldCopies, OpenError> {
    let failed = OpenError::of(vault);
    let opening = find_files(remote, vault, None).await?;
    let marker = String::from_utf8_lossy(opening.masterkey(vault)?.name.as_bytes()).into_owned();
    let listed = remote.list(vault).await.map_err(&failed)?;
    let mut copies = OldCopies::default();
    for name in listed.into_iter().map(|entry| entry.name) {
        if !is_copy_of(name.as_bytes(), &marker) {
            continue;
        }
        let path = vault.join(&name);
        let content = match remote.read_small(&path, MARKER_FILE_MAX).await {
            Ok(content) => content,
            Err(RemoteError::NotFound) => continue,
            Err(error) if error.is_unanswered() => return Err(failed(error)),
            Err(error) => {
                copies.left.push((name, format!("it can't be read: {error}")));
                continue;
            }
        };
        // One that is damaged opens nothing.
        let Ok(file) = MasterkeyFile::parse(&content) else { continue };
        let password = Zeroizing::new(old_password.to_owned());
        let opened = spawn_blocking(move || file.unlock(&password)).await;
        let Ok(keys) = opened.map_err(|error| OpenError::refused(vault, error))? else { continue };
        if !keys.is(cryptor.masterkey()) {
            copies.left.push((name, "it holds the keys of another vault".to_owned()));
        } else if !is_backup(name.as_bytes()) {
            copies
                .left
                .push((name, "it is no backup of Cryptomator's or Scaup's; remove it yourself".to_owned()));
        } else {
            match remote.remove(&path).await {
                Ok(()) => copies.removed.push(name),
                Err(RemoteError::NotFound) => {}
                Err(error) if error.is_unanswered() => return Err(failed(error)),
                Err(error) => copies.left.push((name, format!("it can't be removed: {error}"))),
            }
        }
    }
    remote.sync_directory(vault).await.map_err(&failed)?;
    Ok(copies)
}
