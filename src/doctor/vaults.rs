//! The vaults that are the target's directory or lie directly in it, as far as they can be judged without a password.

use futures::{StreamExt as _, stream};
use scaup_sftp::text::Line;

use super::{Check, Group};
use crate::remote::{Remote, RemoteEntry, RemoteKind, RemotePath};
use crate::vault::{Backup, OpenError, VaultInfo, backups, inspect_vault};

const GROUP: Group = Group::Vaults;

/// Most directories that are looked into.
const LOOKED_AT_MAX: usize = 500;
/// How many are looked into at a time.
const AT_A_TIME: usize = 16;

/// Examines all vaults, and those that a bookmark names.
pub async fn checks(remote: &dyn Remote, named: &[String]) -> Vec<Check> {
    let listed = match remote.list(&RemotePath::root()).await {
        Ok(listed) => listed,
        Err(error) => {
            let found = format!("the target's directory can't be listed: {error}");
            return vec![GROUP.failed("vaults", found, "ask the server's owner for permission to read it")];
        }
    };
    let is_directory = |entry: &RemoteEntry| entry.attributes.kind == RemoteKind::Directory;
    let mut directories: Vec<RemotePath> =
        listed.into_iter().filter(is_directory).map(|entry| RemotePath::root().join(&entry.name)).collect();
    directories.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    let left_out = directories.len().saturating_sub(LOOKED_AT_MAX);
    directories.truncate(LOOKED_AT_MAX);
    let mut places = vec![RemotePath::root()];
    places.extend(directories);
    let (named, no_paths): (Vec<_>, Vec<_>) =
        named.iter().map(|name| (name, RemotePath::parse(name.as_bytes()))).partition(|(_, it)| it.is_some());
    let named: Vec<RemotePath> = named.into_iter().filter_map(|(_, path)| path).collect();
    places.retain(|place| !named.contains(place));
    let mut checks: Vec<Check> = no_paths.iter().map(|(name, _)| missing(name)).collect();
    for place in &named {
        let found = of_directory(remote, place).await;
        checks.extend(if found.is_empty() { vec![missing(&shown(place))] } else { found });
    }
    let found = stream::iter(&places).map(|place| async move { of_directory(remote, place).await });
    checks.extend(found.buffered(AT_A_TIME).collect::<Vec<_>>().await.concat());
    if checks.is_empty() {
        checks.push(GROUP.ok("vaults", "there is none in the target's directory, nor is it one"));
    }
    if left_out > 0 {
        checks.push(GROUP.ok("vaults", format!("{left_out} more directories were not looked into")));
    }
    checks
}

fn missing(name: &str) -> Check {
    let found = format!("{}: the bookmark names it, and there is no vault", Line::of(name));
    GROUP.failed("vault", found, "correct `vaults` in the bookmark, or the target's directory")
}

/// Returns a path as people write it.
fn shown(place: &RemotePath) -> String {
    if place.is_root() { ".".to_owned() } else { String::from_utf8_lossy(place.as_bytes()).into_owned() }
}

/// Examines a directory; there is nothing to say about one that is no vault.
async fn of_directory(remote: &dyn Remote, place: &RemotePath) -> Vec<Check> {
    let name = Line::of(&shown(place));
    let info = match inspect_vault(remote, place).await {
        Ok(info) => info,
        Err(OpenError::NotAVault(_)) => return Vec::new(),
        Err(error) => {
            let advice = "ask the server's owner for permission to read it";
            return vec![GROUP.warning("vault", format!("{name}: {error}"), advice)];
        }
    };
    let VaultInfo { unsupported, format, cipher_combo, .. } = info;
    if let Some(reason) = unsupported {
        let advice = format!("repair or upgrade {name} as its finding says, and change nothing in it before");
        return vec![GROUP.failed("vault", format!("{name}: {reason}"), advice)];
    }
    let format = format.map_or_else(|| "unknown format".to_owned(), |format| format!("format {format}"));
    let combo = cipher_combo.unwrap_or_else(|| "unknown ciphers".to_owned());
    let found =
        format!("{name}: {format}, {combo}; only its password can tell whether its two files are genuine");
    let mut checks = vec![GROUP.ok("vault", found)];
    let backups = backups(remote, place).await;
    checks.extend(backups.iter().map(|backups| (backups.file, backups.state())).map(|(file, backup)| {
        match backup {
            Backup::Same => GROUP.ok("backup", format!("{name}: a backup of {file} has the same content")),
            Backup::None => GROUP.ok("backup", format!("{name}: no backup of {file} lies beside it")),
            Backup::Other => GROUP.warning(
                "backup",
                format!("{name}: no backup of {file} has its content: it was changed since the last one"),
                format!("unlock {name} once, in a mount or in Cryptomator: that makes a new backup"),
            ),
        }
    }));
    checks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use scaup_rig::Fixture;

    use super::*;
    use crate::doctor::Verdict;
    use crate::remote::local::LocalRemote;

    #[tokio::test]
    async fn a_vault_is_judged_without_its_password() {
        let place = tempfile::tempdir().unwrap();
        let vault = place.path().join("Vault");
        Fixture::unpack("empty-gcm").copy_vault_to(&vault);
        fs::create_dir(place.path().join("plain")).unwrap();
        let judged = async || {
            let checks = checks(&LocalRemote::open(place.path()).unwrap(), &[]).await;
            checks.into_iter().map(|check| (check.name, check.found, check.verdict)).collect::<Vec<_>>()
        };
        let found = judged().await;
        assert!(found.iter().all(|(name, ..)| *name != "vaults"), "{found:?}");
        assert!(found[0].1.contains("Vault: format 8, SIV_GCM"), "{found:?}");

        let masterkey = vault.join("masterkey.cryptomator");
        let content = fs::read(&masterkey).unwrap();
        let backup = vault.join("masterkey.cryptomator.0123ABCD.bkup");
        for entry in fs::read_dir(&vault).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|kind| kind == "bkup") {
                fs::remove_file(entry).unwrap();
            }
        }
        fs::write(&backup, "{}").unwrap();
        let found = judged().await;
        assert!(matches!(&found[1], ("backup", _, Verdict::Warning { .. })), "{found:?}");
        fs::write(vault.join("masterkey.cryptomator.4567ABCD.bkup"), &content).unwrap();
        let found = judged().await;
        assert!(matches!(&found[1], ("backup", _, Verdict::Ok)), "one of several is enough: {found:?}");

        fs::remove_file(&masterkey).unwrap();
        let found = judged().await;
        assert!(
            matches!(&found[0], ("vault", text, Verdict::Failed { .. }) if text.contains("missing")),
            "{found:?}"
        );
        fs::remove_dir_all(&vault).unwrap();
        assert_eq!(judged().await[0].0, "vaults");
        let named = checks(&LocalRemote::open(place.path()).unwrap(), &["Vault".to_owned()]).await;
        assert!(matches!(named[0].verdict, Verdict::Failed { .. }), "{named:?}");
    }
}
