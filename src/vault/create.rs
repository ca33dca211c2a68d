//! Making a new vault.

use scaup_crypto::{CipherCombo, Cryptor, DirectoryId, Masterkey, MasterkeyFile, VaultConfig};

use super::error::OpenError;
use super::format::{content_path, part};
use super::markers::Markers;
use super::small_file::write_small;
use crate::remote::{Remote, RemoteError, RemotePath};

/// Checks that a vault can be made at `path`: nothing is there, or an empty directory. Returns whether the directory
/// exists.
///
/// # Errors
///
/// If anything else is there, or the server can't tell.
pub async fn check_place_for_vault(remote: &dyn Remote, path: &RemotePath) -> Result<bool, OpenError> {
    match remote.list(path).await {
        Ok(entries) if entries.is_empty() => Ok(true),
        Ok(_) => Err(OpenError::refused(path, "the directory is not empty; name a new one")),
        Err(RemoteError::NotFound) => Ok(false),
        Err(error) => Err(OpenError::of(path)(error)),
    }
}

/// Makes a vault in `path`, which must be missing or empty.
///
/// The marker files come last, so that a cut leaves no vault rather than half of one.
///
/// # Errors
///
/// [`OpenError::Refused`] if something is there already; the server's error otherwise.
pub async fn create_vault(
    remote: &dyn Remote,
    path: &RemotePath,
    password: &str,
    cipher_combo: CipherCombo,
    shortening_threshold: u32,
) -> Result<(), OpenError> {
    if !check_place_for_vault(remote, path).await? {
        remote.mkdir_by_umask(path).await.map_err(OpenError::of(path))?;
    }
    let config = VaultConfig {
        format: 8,
        cipher_combo,
        shortening_threshold: usize::try_from(shortening_threshold).unwrap_or(usize::MAX),
    };
    let password = zeroize::Zeroizing::new(password.to_owned());
    let made = tokio::task::spawn_blocking(move || {
        let masterkey = Masterkey::generate().map_err(|error| error.to_string())?;
        let file = MasterkeyFile::create(&masterkey, &password, MasterkeyFile::VERSION_OF_FORMAT_8)
            .map_err(|error| error.to_string())?;
        let token = config.encode(&masterkey, Markers::MASTERKEY).map_err(|error| error.to_string())?;
        let cryptor = Cryptor::new(masterkey, config);
        let root_id = DirectoryId::root();
        let backup = cryptor.encrypt_small(root_id.as_bytes()).map_err(|error| error.to_string())?;
        Ok::<_, String>((file, token, cryptor, backup))
    });
    let (masterkey_file, token, cryptor, backup) = made
        .await
        .map_err(|error| OpenError::refused(path, error))?
        .map_err(|error| OpenError::refused(path, error))?;
    let content = content_path(path, &cryptor, &DirectoryId::root());
    let mut levels = Vec::new();
    let mut at = content.clone();
    while at != *path {
        levels.push(at.clone());
        match at.split() {
            Some((parent, _)) => at = parent,
            None => break,
        }
    }
    for level in levels.iter().rev() {
        remote.mkdir_by_umask(level).await.map_err(OpenError::of(path))?;
    }
    let files: [(RemotePath, &'static str, &[u8]); 3] = [
        (content, "dirid.c9r", &backup),
        (path.clone(), Markers::MASTERKEY, &masterkey_file),
        (path.clone(), Markers::CONFIG, token.as_bytes()),
    ];
    for (directory, name, bytes) in files {
        write_small(remote, &directory.join(&part(name)), bytes).await.map_err(OpenError::of(path))?;
    }
    Ok(())
}
