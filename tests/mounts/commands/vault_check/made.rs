//! Vaults that are filled by hand, right or wrong.

use std::sync::Arc;

use bytes::Bytes;
use scaup::check::{self, CheckError, CheckOptions, CheckProgress, Report};
use scaup::remote::{Remote, RemoteName, RemoteOpen, RemotePath};
use scaup::vault::{VaultSecret, create_vault, open_vault};
use scaup_crypto::{CipherCombo, CleartextName, Cryptor, DirectoryId};

use crate::support::PASSWORD;

pub(crate) fn name(text: &str) -> RemoteName {
    RemoteName::parse(text.as_bytes()).unwrap()
}

/// An empty vault that is filled by hand.
pub(crate) struct Made {
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) vault: RemotePath,
    pub(crate) cryptor: Arc<Cryptor>,
}

impl Made {
    pub(crate) async fn new(remote: Arc<dyn Remote>, combo: CipherCombo) -> Self {
        let vault = RemotePath::root().join(&name("Vault"));
        create_vault(remote.as_ref(), &vault, PASSWORD, combo, 220).await.unwrap();
        let cryptor =
            Arc::new(open_vault(remote.as_ref(), &vault, &VaultSecret::password(PASSWORD)).await.unwrap());
        Self { remote, vault, cryptor }
    }

    pub(crate) fn content(&self, id: &DirectoryId) -> RemotePath {
        let path = self.cryptor.content_dir(id);
        path.split('/').fold(self.vault.clone(), |path, part| path.join(&name(part)))
    }

    pub(crate) fn entry(&self, parent: &DirectoryId, text: &str) -> RemotePath {
        let text = CleartextName::parse(text.as_bytes()).unwrap();
        self.content(parent).join(&name(&self.cryptor.encrypt_name(&text, parent).entry))
    }

    pub(crate) async fn write(&self, path: &RemotePath, content: &[u8]) {
        let file = self.remote.open(path, RemoteOpen::CreateNew(0o644)).await.unwrap();
        file.write_at(0, Bytes::copy_from_slice(content)).await.unwrap();
        file.close().await.unwrap();
    }

    pub(crate) async fn file(&self, parent: &DirectoryId, text: &str, content: &[u8]) {
        self.write(&self.entry(parent, text), &self.cryptor.encrypt_small(content).unwrap()).await;
    }

    /// The node of a directory.
    pub(crate) async fn node(&self, parent: &DirectoryId, text: &str, id: &DirectoryId) {
        let node = self.entry(parent, text);
        self.remote.mkdir(&node, 0o755).await.unwrap();
        self.write(&node.join(&name("dir.c9r")), id.as_bytes()).await;
    }

    /// Where a directory's content lies.
    pub(crate) async fn content_directory(&self, id: &DirectoryId) {
        let content = self.content(id);
        let _ = self.remote.mkdir(&content.split().unwrap().0, 0o755).await;
        self.remote.mkdir(&content, 0o755).await.unwrap();
        let backup = self.cryptor.encrypt_small(id.as_bytes()).unwrap();
        self.write(&content.join(&name("dirid.c9r")), &backup).await;
    }

    pub(crate) async fn directory(&self, parent: &DirectoryId, text: &str) -> DirectoryId {
        let id = DirectoryId::random().unwrap();
        self.node(parent, text, &id).await;
        self.content_directory(&id).await;
        id
    }

    /// Directories in directories, with a file in each.
    pub(crate) async fn chain(&self, depth: usize) {
        let mut at = DirectoryId::root();
        for number in 0..depth {
            at = self.directory(&at, &format!("directory {number}")).await;
            self.file(&at, "file", b"content").await;
        }
    }

    pub(crate) async fn check(&self, options: CheckOptions) -> Result<Report, CheckError> {
        check::run(self.remote.as_ref(), &self.vault, &self.cryptor, options, &CheckProgress::default()).await
    }
}
