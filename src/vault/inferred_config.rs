//! What the lost config of a vault said, found out from the vault's content: its ciphers from what authenticates with
//! its keys, and from which length on names are shortened from the names themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::{
    CipherCombo, Cryptor, DirectoryId, Masterkey, VaultConfig, encrypted_name_len, shortened_name_len,
};

use super::error::OpenError;
use super::format::{LONG_NAME_MAX, content_path, part};
use super::markers::Markers;
use crate::remote::{Remote, RemoteEntry, RemoteError, RemoteKind, RemoteOpen, RemotePath};

/// Most files whose header is tried.
const HEADERS_MAX: usize = 16;
/// Directories, and files in each, that are read at the same time.
const PARALLEL: usize = 16;
/// The shortening threshold that Cryptomator gives to new vaults.
const USUAL_THRESHOLD: usize = 220;
/// Lengths of encrypted names go in steps of so many characters.
const NAME_STEP: usize = 4;
/// The ciphers, those of new vaults first.
const COMBOS: [CipherCombo; 2] = [CipherCombo::SivGcm, CipherCombo::SivCtrMac];

/// What a vault's content says about its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InferredConfig {
    /// The config.
    pub config: VaultConfig,
    /// How many of the files that were tried authenticate with its ciphers. If none does, the ciphers are those that
    /// new vaults get.
    pub authentic_files: usize,
    /// The length of the shortest name that is shortened, in characters of its encrypted form.
    pub shortest_shortened: Option<usize>,
}

/// Looks through the whole vault. `directories` counts those that were looked at.
///
/// # Errors
///
/// If the server does not answer, or does not let the vault's directories be listed.
pub(super) async fn infer(
    remote: &dyn Remote,
    vault: &RemotePath,
    masterkey: &Masterkey,
    directories: &AtomicU64,
) -> Result<InferredConfig, OpenError> {
    let cryptors = COMBOS.map(|cipher_combo| {
        let config = VaultConfig { format: 8, cipher_combo, shortening_threshold: USUAL_THRESHOLD };
        Cryptor::new(masterkey.clone(), config)
    });
    let [first, _] = &cryptors;
    let root = content_path(vault, first, &DirectoryId::root());
    let mut found = Found::default();
    let contents = content_directories(remote, vault, &root).await?;
    let mut looks = stream::iter(contents).map(|content| look(remote, content)).buffered(PARALLEL);
    while let Some(looked) = looks.try_next().await.map_err(OpenError::of(vault))? {
        directories.fetch_add(1, Ordering::Relaxed);
        found.add(looked);
    }
    drop(looks);
    let mut authentic = [0_usize; COMBOS.len()];
    for path in &found.files {
        let header = read_header(remote, path, &cryptors).await.map_err(OpenError::of(vault))?;
        for (cryptor, count) in cryptors.iter().zip(&mut authentic) {
            let header = header.get(..cryptor.config().cipher_combo.header_len());
            *count += usize::from(header.is_some_and(|header| cryptor.decrypt_header(header).is_ok()));
        }
    }
    let [gcm, ctrmac] = authentic;
    let (cipher_combo, authentic_files) = match COMBOS {
        [_, other] if ctrmac > gcm => (other, ctrmac),
        [usual, _] => (usual, gcm),
    };
    let config = VaultConfig { format: 8, cipher_combo, shortening_threshold: found.threshold() };
    Ok(InferredConfig { config, authentic_files, shortest_shortened: found.shortest_shortened })
}

/// Returns the paths of all content directories, the root's first.
async fn content_directories(
    remote: &dyn Remote,
    vault: &RemotePath,
    root: &RemotePath,
) -> Result<Vec<RemotePath>, OpenError> {
    let data = vault.join(&part(Markers::DATA));
    let fans = below(&data, remote.list(&data).await.map_err(OpenError::of(vault))?);
    let mut all = vec![root.clone()];
    let mut lists = stream::iter(fans)
        .map(async |fan| list(remote, &fan).await.map(|entries| below(&fan, entries)))
        .buffered(PARALLEL);
    while let Some(contents) = lists.try_next().await.map_err(OpenError::of(vault))? {
        all.extend(contents.into_iter().filter(|content| content != root));
    }
    Ok(all)
}

/// Returns the directories among the entries of one.
fn below(path: &RemotePath, entries: Vec<RemoteEntry>) -> Vec<RemotePath> {
    let directories = entries.into_iter().filter(|entry| entry.attributes.kind == RemoteKind::Directory);
    directories.map(|entry| path.join(&entry.name)).collect()
}

/// As [`Remote::list`]; what can't be listed is empty: other directories tell the same.
async fn list(remote: &dyn Remote, path: &RemotePath) -> Result<Vec<RemoteEntry>, RemoteError> {
    match remote.list(path).await {
        Err(error) if error.is_unanswered() => Err(error),
        listed => Ok(listed.unwrap_or_default()),
    }
}

/// What the names in some directories tell.
#[derive(Default)]
struct Found {
    /// Files that begin with a header, at most [`HEADERS_MAX`].
    files: Vec<RemotePath>,
    longest_whole: usize,
    shortest_shortened: Option<usize>,
}

impl Found {
    fn add(&mut self, other: Self) {
        let room = HEADERS_MAX.saturating_sub(self.files.len());
        self.files.extend(other.files.into_iter().take(room));
        self.longest_whole = self.longest_whole.max(other.longest_whole);
        self.shortest_shortened = self.shortest_shortened.into_iter().chain(other.shortest_shortened).min();
    }

    /// The threshold: the usual one if that fits, else the longest that does.
    fn threshold(&self) -> usize {
        let longest = self.shortest_shortened.map(|shortest| shortest.saturating_sub(NAME_STEP));
        match longest {
            None => self.longest_whole.max(USUAL_THRESHOLD),
            Some(longest) if (self.longest_whole..=longest).contains(&USUAL_THRESHOLD) => USUAL_THRESHOLD,
            Some(longest) => longest,
        }
    }
}

async fn look(remote: &dyn Remote, content: RemotePath) -> Result<Found, RemoteError> {
    let mut found = Found::default();
    let mut shortened = Vec::new();
    for RemoteEntry { name, attributes } in list(remote, &content).await? {
        let whole = encrypted_name_len(name.as_bytes());
        found.longest_whole = found.longest_whole.max(whole.unwrap_or_default());
        match attributes.kind {
            RemoteKind::File if whole.is_some() => found.files.push(content.join(&name)),
            // The server's other files tell as much, but this one is there in each directory of format 8.
            RemoteKind::File if name.as_bytes() == b"dirid.c9r" => {
                found.files.insert(0, content.join(&name));
            }
            RemoteKind::Directory if name.as_bytes().ends_with(b".c9s") => shortened.push(name),
            _ => {}
        }
    }
    found.files.truncate(HEADERS_MAX);
    let mut long_names = stream::iter(shortened)
        .map(async |name| {
            let node = content.join(&name);
            let read = remote.read_small(&node.join(&part("name.c9s")), LONG_NAME_MAX).await;
            match read {
                Err(error) if error.is_unanswered() => Err(error),
                read => {
                    let len = read.ok().and_then(|long| shortened_name_len(name.as_bytes(), &long));
                    Ok((len, node.join(&part("contents.c9r"))))
                }
            }
        })
        .buffered(PARALLEL);
    while let Some((len, file)) = long_names.try_next().await? {
        found.add(Found { files: vec![file], longest_whole: 0, shortest_shortened: len });
    }
    drop(long_names);
    Ok(found)
}

/// Reads as much of a file as the longest header has; nothing of one that can't be read.
async fn read_header(
    remote: &dyn Remote,
    path: &RemotePath,
    cryptors: &[Cryptor; COMBOS.len()],
) -> Result<bytes::Bytes, RemoteError> {
    let longest = cryptors.iter().map(|cryptor| cryptor.config().cipher_combo.header_len()).max();
    let read = async {
        let file = remote.open(path, RemoteOpen::Read).await?;
        file.read_at(0, longest.unwrap_or_default()).await
    };
    match read.await {
        Err(error) if error.is_unanswered() => Err(error),
        read => Ok(read.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_threshold_is_taken_where_it_fits() {
        for (longest_whole, shortest_shortened, threshold) in [
            (0, None, 220),
            (220, None, 220),
            (252, None, 252),
            (0, Some(300), 220),
            (220, Some(224), 220),
            (36, Some(40), 36),
            (28, Some(64), 60),
            (240, Some(300), 296),
            // A sync client has made a name longer.
            (228, Some(224), 220),
        ] {
            let found = Found { files: Vec::new(), longest_whole, shortest_shortened };
            assert_eq!(found.threshold(), threshold, "{longest_whole}, {shortest_shortened:?}");
        }
    }
}
