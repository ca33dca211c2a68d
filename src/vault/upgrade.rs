//! Upgrading a vault from format 7 to 8: it gets a config file, and the version of its masterkey file goes there.
//! Nothing else differs.

use scaup_crypto::{MasterkeyFile, VaultConfig};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::error::OpenError;
use super::format::part;
use super::markers::Markers;
use super::opening::{FoundMasterkey, Opening, cryptor_of, find_files};
use super::password::proved;
use super::replacement::{VaultFile, put_new};
use super::secret::VaultSecret;
use crate::remote::{Remote, RemoteName, RemotePath};

/// Whether the vault at `path` has format 7, or an upgrade to format 8 was begun and has not come to its end.
///
/// # Errors
///
/// If there is no vault, or it has a format that can't be upgraded here, or the server fails.
pub async fn is_before_format_8(remote: &dyn Remote, path: &RemotePath) -> Result<bool, OpenError> {
    Ok(is_unfinished(&find_files(remote, path, None).await?, path))
}

/// Whether the masterkey file still tells the format.
fn is_unfinished(opening: &Opening, vault: &RemotePath) -> bool {
    opening.masterkey(vault).is_ok_and(|found| found.file.version() == VaultConfig::format7().format)
}

/// Upgrades a vault of format 7 to format 8, or finishes that. Returns the name of the backup of the masterkey file as
/// it was.
///
/// The vault opens by the same password after each step, by programs that know format 8; a mount in which it is
/// unlocked goes on.
///
/// # Errors
///
/// If the password is wrong, or the vault needs no upgrade, or the server fails. The vault may have format 8 then.
pub async fn upgrade_vault(
    remote: &dyn Remote,
    vault: &RemotePath,
    password: &str,
) -> Result<RemoteName, OpenError> {
    let secret = VaultSecret::password(password);
    let opening = find_files(remote, vault, Some(&secret)).await?;
    if !is_unfinished(&opening, vault) {
        return Err(OpenError::refused(vault, "it does not have format 7"));
    }
    let FoundMasterkey { name, content, file } = opening.masterkey(vault)?.clone();
    let has_config = opening.has_config();
    let cryptor = cryptor_of(remote, vault, opening, &secret).await?;
    let old = VaultFile::read(remote, vault, name, content).await?;
    let password = Zeroizing::new(password.to_owned());
    let made = spawn_blocking(move || {
        let masterkey = cryptor.masterkey();
        let new = file.rewrap(masterkey, &password, MasterkeyFile::VERSION_OF_FORMAT_8);
        let new = proved(new.map_err(|error| error.to_string())?, masterkey, &password)?;
        let config = VaultConfig { format: 8, ..VaultConfig::format7() };
        let config = config.encode(masterkey, Markers::MASTERKEY).map_err(|error| error.to_string())?;
        Ok::<_, String>((new, config))
    });
    let made = made.await.map_err(|error| OpenError::refused(vault, error))?;
    let (new, config) = made.map_err(|reason| OpenError::refused(vault, reason))?;
    old.back_up(remote).await?;
    // First the config: without it, nobody knows what a masterkey file of format 8 belongs to.
    if !has_config {
        put_new(remote, vault, &part(Markers::CONFIG), config.as_bytes()).await?;
    }
    old.replace(remote, &new).await
}
