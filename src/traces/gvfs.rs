//! What file managers note about files by gvfs: positions of icons, emblems, the last page of a document.
//!
//! gvfs has a tree of names in one file, and the changes since in a journal beside it. Both belong to its service,
//! which has them mapped into memory: only the service can remove entries, on request over the session bus. It marks
//! them as removed at once; their text is in the files until it writes the tree and begins a new journal, within a
//! minute.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use zbus::connection::Builder;

use super::files::Found;
use super::places::Places;

/// How long a reply of the service may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest tree or journal that is read, bytes.
const FILE_LEN_MAX: u64 = 64 << 20;

const TREE: &[u8] = b"\xda\x1ameta\x01";
const JOURNAL: &[u8] = b"\xda\x1ajour\x01";

/// Where a tree has the offset of its root entry.
const ROOT: usize = 16;
/// The length of a journal's header, and of what stands before the path in each of its entries.
const JOURNAL_HEADER: usize = 20;
const ENTRY_HEADER: usize = 17;

/// The trees that hold names of ordinary files, each with the directory that its names are relative to. Those of file
/// systems with an id of their own are left out: a mount by FUSE has none.
fn trees(places: &Places) -> [(&'static str, &[u8]); 2] {
    [("home", places.home()), ("root", b"")]
}

/// Why gvfs did not remove entries.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The bus or the service failed.
    #[error("the service of gvfs did not remove its notes: {0}")]
    Bus(#[from] zbus::Error),
    /// Its files were not looked at.
    #[error("the notes of gvfs were not looked at: {0}")]
    Search(#[from] tokio::task::JoinError),
}

#[zbus::proxy(
    interface = "org.gtk.vfs.Metadata",
    default_service = "org.gtk.vfs.Metadata",
    default_path = "/org/gtk/vfs/metadata"
)]
trait Metadata {
    fn remove(&self, treefile: &[u8], path: &[u8]) -> zbus::Result<()>;
}

/// Has gvfs remove the entries of the places from the trees that these files of its belong to.
pub(super) async fn remove(files: &[PathBuf], places: &Places) -> Result<(), MetadataError> {
    let trees = trees(places).map(|(name, prefix)| {
        let is_of =
            |file: &&PathBuf| file.file_name().is_some_and(|it| tree_of(it.as_bytes()) == name.as_bytes());
        files.iter().find(is_of).map(|file| (file.with_file_name(name), prefix))
    });
    let bus = Builder::session()?.method_timeout(PATIENCE).build().await?;
    let metadata = MetadataProxy::new(&bus).await?;
    for (tree, prefix) in trees.into_iter().flatten() {
        for path in places.relative_to(prefix) {
            metadata.remove(&terminated(tree.as_os_str().as_bytes()), &terminated(path)).await?;
        }
    }
    Ok(())
}

/// Returns a string as C has it, which is how this interface has paths.
fn terminated(path: &[u8]) -> Vec<u8> {
    [path, b"\0"].concat()
}

/// Returns the name of the tree that a file belongs to: `NAME`, or `NAME-TAG.log` for its journal.
fn tree_of(file: &[u8]) -> &[u8] {
    let Some(journal) = file.strip_suffix(b".log") else { return file };
    journal.rsplitn(2, |&byte| byte == b'-').nth(1).unwrap_or(journal)
}

/// Counts the entries of the places in a tree or a journal.
pub(super) fn count(found: &Found<'_>, places: &Places) -> io::Result<u64> {
    let tree = tree_of(found.name.as_bytes());
    let Some((_, prefix)) = trees(places).into_iter().find(|(name, _)| name.as_bytes() == tree) else {
        return Ok(0);
    };
    let bytes = found.begin(FILE_LEN_MAX)?;
    if bytes.starts_with(TREE) {
        Ok(places.relative_to(prefix).map(|path| in_tree(&bytes, path).unwrap_or_default()).sum())
    } else if bytes.starts_with(JOURNAL) {
        let is_own = |path: &[u8]| places.hold(&[prefix, path].concat());
        Ok(paths_in_journal(&bytes).filter(|path| is_own(path)).count() as u64)
    } else {
        Ok(0)
    }
}

/// Numbers are big-endian.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

fn string(bytes: &[u8], at: usize) -> Option<&[u8]> {
    bytes.get(at..)?.split(|&byte| byte == 0).next()
}

/// Returns where the entries in the directory of an entry stand. An entry has the offsets of its name, of its children,
/// and of its metadata, and a time.
fn children(tree: &[u8], entry: usize) -> Option<impl Iterator<Item = usize>> {
    let at = number(tree, entry.checked_add(4)?)?;
    let count = if at == 0 { 0 } else { number(tree, at)?.min(tree.len() / 16) };
    Some((0..count).filter_map(move |index| at.checked_add(4 + index * 16)))
}

/// Counts the names at and below a path in a tree; `None` if there is none, or the tree is damaged.
fn in_tree(tree: &[u8], path: &[u8]) -> Option<u64> {
    let mut entry = number(tree, ROOT)?;
    for component in path.split(|&byte| byte == b'/').filter(|it| !it.is_empty()) {
        let is_it = |&child: &usize| number(tree, child).and_then(|at| string(tree, at)) == Some(component);
        entry = children(tree, entry)?.find(is_it)?;
    }
    // A damaged tree may contain itself: it has no more entries than its length allows.
    let mut left = tree.len() / 16;
    let mut count = 0;
    let mut waiting = vec![entry];
    while let Some(entry) = waiting.pop() {
        count += 1;
        for child in children(tree, entry)? {
            left = left.checked_sub(1)?;
            waiting.push(child);
        }
    }
    Some(count)
}

/// Returns the paths that the entries of a journal are about. The rest of its file is zeros.
fn paths_in_journal(journal: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = JOURNAL_HEADER;
    std::iter::from_fn(move || {
        let len = number(journal, at)?;
        let entry = journal.get(at..at.checked_add(len)?)?;
        let path = string(entry, ENTRY_HEADER)?;
        at += len;
        Some(path)
    })
}
