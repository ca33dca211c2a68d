//! Writing the small files that belong to a vault's nodes and to the vault itself.

use bytes::Bytes;

use super::format::part;
use crate::remote::{Remote, RemoteError, RemoteOpen, RemotePath, RemoteSetAttributes};

/// Writes a whole small new file and makes it durable.
pub(crate) async fn write_small(
    remote: &dyn Remote,
    path: &RemotePath,
    content: &[u8],
) -> Result<(), RemoteError> {
    let file = remote.open(path, RemoteOpen::CreateByUmask).await?;
    file.write_whole(Bytes::copy_from_slice(content), RemoteSetAttributes::default()).await.map(drop)
}

/// Writes a node's long name, and replaces what an earlier attempt left there.
pub(super) async fn write_long_name(
    remote: &dyn Remote,
    node: &RemotePath,
    long_name: &str,
) -> Result<(), RemoteError> {
    let path = node.join(&part("name.c9s"));
    match write_small(remote, &path, long_name.as_bytes()).await {
        Err(RemoteError::Exists) => {
            remote.remove(&path).await?;
            write_small(remote, &path, long_name.as_bytes()).await
        }
        done => done,
    }
}

/// Writes the long name of a node that was found, if a sync client took it away or has not brought it yet.
pub(super) async fn write_long_name_if_missing(
    remote: &dyn Remote,
    node: &RemotePath,
    long_name: &str,
) -> Result<(), RemoteError> {
    match write_small(remote, &node.join(&part("name.c9s")), long_name.as_bytes()).await {
        Ok(()) | Err(RemoteError::Exists) => Ok(()),
        Err(error) => Err(error),
    }
}
