//! Writing the small files that belong to a vault's nodes and to the vault itself.

use bytes::Bytes;

use crate::remote::{Remote, RemoteError, RemoteOpen, RemotePath, RemoteSetAttributes};

/// Writes a whole small new file and makes it durable.
pub(super) async fn write_small(
    remote: &dyn Remote,
    path: &RemotePath,
    content: &[u8],
) -> Result<(), RemoteError> {
    let file = remote.open(path, RemoteOpen::CreateByUmask).await?;
    file.write_whole(Bytes::copy_from_slice(content), RemoteSetAttributes::default()).await.map(drop)
}
