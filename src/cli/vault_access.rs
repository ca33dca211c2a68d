//! Access to a vault without a mount: where it is, and how to get there.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::converse;
use super::error::CliError;
use super::prompt;
use crate::config::settings::LoginSettings;
use crate::config::target::{ServerTarget, Target};
use crate::daemon::protocol::{LoginRequest, VaultEntry, VaultEntryState};
use crate::remote::{Remote, RemotePath};

/// Where a vault is, and how to get there.
#[derive(Args)]
pub(super) struct VaultLocation {
    /// The vault's directory, written like a target of mount
    pub(super) path: String,
    #[command(flatten)]
    login: LoginSettings,
}

impl VaultLocation {
    /// Opens the directory around the vault; returns it with the vault's name in it.
    pub(super) async fn open(&self) -> Result<(Arc<dyn Remote>, RemotePath), CliError> {
        let (request, path) = self.request()?;
        let remember = Some(request.settings.remember());
        let remote = crate::daemon::connect_here(&request, prompt::ask, prompt::tell, remember).await?;
        Ok((remote, path))
    }

    /// Returns how the directory around the vault is reached, and the vault's name in it.
    pub(super) fn request(&self) -> Result<(LoginRequest, RemotePath), CliError> {
        let mut target = Target::parse(&self.path).map_err(CliError::usage)?;
        let last = match &mut target {
            Target::Local(path) => {
                refuse_shown(path)?;
                let last = path.file_name().map(|name| name.to_string_lossy().into_owned());
                path.pop();
                last
            }
            Target::Server(ServerTarget { directory, .. }) => {
                let trimmed = directory.trim_end_matches('/').to_owned();
                let (parent, last) = match trimmed.rsplit_once('/') {
                    Some(("", last)) => ("/".to_owned(), last.to_owned()),
                    Some((parent, last)) => (parent.to_owned(), last.to_owned()),
                    None => (String::new(), trimmed.clone()),
                };
                *directory = parent;
                Some(last).filter(|last| !last.is_empty())
            }
        };
        let last = last.ok_or_else(|| {
            CliError::usage(format!(
                "{}: name the vault's directory, as HOST:DIRECTORY or ./DIRECTORY",
                self.path
            ))
        })?;
        let path = RemotePath::parse(last.as_bytes())
            .ok_or_else(|| CliError::usage(format!("{last:?} can't be a vault's name")))?;
        let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
        Ok((LoginRequest { target, directory, settings: self.login.clone() }, path))
    }
}

/// Fails for a path in an unlocked vault of a mount: only where the vault lies it is one.
fn refuse_shown(path: &Path) -> Result<(), CliError> {
    let path = std::path::absolute(path)?;
    // If the mounts can't be listed, nothing is known to be shown by one.
    let Ok(mounts) = converse::all() else { return Ok(()) };
    for (_, mount) in mounts.replying {
        let Ok(below) = path.strip_prefix(&mount.mountpoint) else { continue };
        let shows = |vault: &&VaultEntry| {
            let unlocked = vault.state == VaultEntryState::Unlocked;
            unlocked && (vault.path == "." || below.starts_with(&vault.path))
        };
        if let Some(vault) = mount.vaults.iter().find(shows) {
            let around = mount.target.trim_end_matches('/');
            let slash = if around.ends_with(':') { "" } else { "/" };
            let vault = match vault.path.as_str() {
                "." => around.to_owned(),
                vault => format!("{around}{slash}{vault}"),
            };
            return Err(CliError::usage(format!(
                "{} is what the mount {} shows; name the vault where it lies: {vault}",
                path.display(),
                mount.name
            )));
        }
    }
    Ok(())
}
