//! A mount that is killed behind any message: the next one finishes or undoes what was begun, and `vault check` finds
//! nothing.

use std::sync::Arc;

use scaup::config::private_directory::PrivateDirectory;
use scaup::drive::DriveOptions;
use scaup::remote::{Remote, RemoteName, RemotePath, RenameHow};
use scaup_fakes::{Fault, MemoryRemote, MemoryServer};

use super::{DEEDS, Tree, check, holds, mount_and_look, new, seen_by_another, stage};
use crate::kernel::{Kernel, Place, Result, findings, options, runtime};

/// The id of a process that does not live.
const NOBODY: &str = "4294967294";

/// What this process left, on the server and in the directory for what is unfinished, becomes what a process left that
/// has ended.
async fn let_it_be_dead(server: &MemoryServer, kept: &PrivateDirectory) {
    let own = std::process::id().to_string();
    let remote = MemoryRemote::connect(server);
    let mut paths = server.paths();
    // From the innermost.
    paths.sort_by_key(|path| std::cmp::Reverse(path.as_bytes().len()));
    for path in paths {
        let Some((directory, name)) = path.split().filter(|(_, name)| is_temporary_name(name)) else {
            continue;
        };
        let name = String::from_utf8(name.as_bytes().to_vec()).unwrap();
        let dead = name.replacen(&format!("-{own}.~"), &format!("-{NOBODY}.~"), 1);
        let dead = directory.join(&RemoteName::parse(dead.as_bytes()).unwrap());
        remote.rename(&path, &dead, RenameHow::New).await.unwrap();
    }
    for name in kept.names().unwrap() {
        let (vault, _) = name.rsplit_once('-').unwrap();
        kept.rename(&name, &format!("{vault}-{NOBODY}")).unwrap();
    }
}

/// Everything that a server has: files with their content, and the rest.
fn contents(server: &MemoryServer) -> Vec<(RemotePath, Option<Vec<u8>>)> {
    server.paths().into_iter().map(|path| (path.clone(), server.content(&path).ok())).collect()
}

fn is_temporary_name(name: &RemoteName) -> bool {
    name.as_bytes().starts_with(b".scaup-")
}

/// The process is killed at each message. The next mount is made and ended, and no program asks for a name meanwhile.
fn every_message_killed(place: Place, applied: bool) {
    for deed in DEEDS {
        runtime().block_on(async {
            let (server, before, after, messages) = stage(place, deed, true).await;
            for n in 0..=messages.len() {
                let home = tempfile::tempdir().unwrap();
                let kept = Arc::new(PrivateDirectory::at(&home.path().join("unfinished")).unwrap());
                let options =
                    || DriveOptions { sync_on_close: true, unfinished: Some(Arc::clone(&kept)), ..options() };
                let server = server.fork();
                let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
                kernel.tree(true).await.unwrap();
                let first = kernel.remote.messages().len();
                kernel.remote.fault_at(n, Fault::Cut { applied });
                let done = (deed.deed)(&kernel).await;
                let killed = server.fork();
                let what = format!(
                    "{}: killed at message {n}, applied {applied}, {:?}, {done:?}",
                    deed.name,
                    kernel.remote.messages().get(first + n)
                );
                let_it_be_dead(&killed, &kept).await;
                // A mount that may only read leaves all of it to the one after it.
                let there = contents(&killed);
                let looking = DriveOptions { read_only: true, ..options() };
                let looking = Kernel::mount(MemoryRemote::connect(&killed), place, looking).await;
                let _ = looking.tree(true).await;
                looking.drive.save_all().await;
                assert!(contents(&killed) == there, "{what}: a mount that may only read changed something");
                let next = Kernel::mount(MemoryRemote::connect(&killed), place, options()).await;
                assert_eq!(next.drive.save_all().await.files, 0, "{what}");
                let found = findings(&killed, place).await;
                assert!(found.is_empty(), "{what}: {found:#?}");
                check(deed, &what, &seen_by_another(&killed, place).await, &before, &after);
                let of_the_dead = |name: &String| name.ends_with(NOBODY);
                assert!(!kept.names().unwrap().iter().any(of_the_dead), "{what}: looked at once more");
            }
        });
    }
}

/// A mount is killed while it removes a directory, and somebody who still sees that makes a file in it.
async fn killed_while_somebody_fills_what_is_removed(n: usize) -> Option<(MemoryServer, Tree, Result<()>)> {
    let place = Place::Gcm;
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::new(PrivateDirectory::at(&home.path().join("unfinished")).unwrap());
    let options = || DriveOptions { sync_on_close: true, unfinished: Some(Arc::clone(&kept)), ..options() };
    let server = place.server();
    let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
    kernel.mkdir("doomed", 0o755).await.unwrap();
    let other = mount_and_look(&server, place).await;
    let doomed = other.lookup("doomed").await.unwrap().inode;
    kernel.remote.fault_at(n, Fault::Cut { applied: true });
    if kernel.rmdir("doomed").await.is_ok() {
        return None;
    }
    let made = async {
        let open = other.create_at(doomed, "theirs".as_ref(), 0o644).await?;
        other.write(open, 0, &new(10)).await?;
        other.close(open).await
    };
    let made = made.await;
    let_it_be_dead(&server, &kept).await;
    let next = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
    assert_eq!(next.drive.save_all().await.files, 0);
    let tree = next.tree(true).await.unwrap();
    let is_shown_again = tree.keys().any(|path| path.starts_with("recovered folder"));
    let is_told = next.drive.errors().iter().any(|error| error.kind == "not_removed");
    assert_eq!(is_shown_again, is_told);
    Some((server, tree, made))
}

#[test]
fn what_somebody_makes_in_a_directory_while_a_mount_is_killed_that_removes_it_is_there() {
    runtime().block_on(async {
        let mut recovered = 0;
        for n in 0.. {
            let Some((server, tree, made)) = killed_while_somebody_fills_what_is_removed(n).await else {
                break;
            };
            let found = findings(&server, Place::Gcm).await;
            assert!(found.is_empty(), "{n}: {found:#?}");
            assert_eq!(holds(&tree, &new(10)), made.is_ok(), "{n}: {made:?}, {tree:?}");
            recovered += usize::from(tree.keys().any(|path| path.starts_with("recovered folder")));
        }
        assert!(recovered > 0);
    });
}

#[test]
fn after_a_kill_behind_any_message_the_next_mount_leaves_nothing_unfinished() {
    every_message_killed(Place::Gcm, true);
}

#[test]
fn after_a_kill_before_any_message_the_next_mount_leaves_nothing_unfinished() {
    every_message_killed(Place::Gcm, false);
}
