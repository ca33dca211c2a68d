//! What sync clients leave, put there by hand: one case after the other.

use std::time::{Duration, SystemTime};

use scaup::config::private_directory::PrivateDirectory;
use scaup::drive::DriveOptions;
use scaup::remote::{Remote as _, RemoteName, RemotePath, RemoteSetAttributes, RenameHow};
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer};
use scaup_fuse::filesystem::RenameMode;

use crate::kernel::{
    EBUSY, ENOTEMPTY, Kernel, Place, ROUND_TRIP, findings, in_every_vault, mount, options, round_trips,
    runtime,
};

/// How long names and attributes are believed.
const BELIEVED: Duration = Duration::from_millis(500);

async fn mount_that_looks_again(server: &MemoryServer, place: Place) -> Kernel {
    let options = DriveOptions { attr_timeout: BELIEVED, sync_on_close: true, ..options() };
    Kernel::mount(MemoryRemote::connect(server), place, options).await
}

fn name(text: &str) -> RemoteName {
    RemoteName::parse(text.as_bytes()).unwrap()
}

/// The paths of all files of that name.
fn files(server: &MemoryServer, called: &str) -> Vec<RemotePath> {
    let is_it = |path: &RemotePath| path.split().is_some_and(|(_, own)| own == name(called));
    server.paths().into_iter().filter(is_it).collect()
}

/// Makes a directory, and returns where it is named.
async fn make_directory(server: &MemoryServer, kernel: &Kernel, path: &str) -> RemotePath {
    let before = files(server, "dir.c9r");
    kernel.mkdir(path, 0o755).await.unwrap();
    files(server, "dir.c9r").into_iter().find(|path| !before.contains(path)).unwrap()
}

async fn make_old(server: &MemoryServer, path: &RemotePath) {
    let times = Some((SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH));
    let set = RemoteSetAttributes { times, ..RemoteSetAttributes::default() };
    MemoryRemote::connect(server).set_attributes(path, set).await.unwrap();
}

#[test]
fn a_directory_with_two_names_loses_one_and_keeps_what_is_in_it() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mount_that_looks_again(&server, place).await;
        let (one, two) =
            (make_directory(&server, &kernel, "one").await, make_directory(&server, &kernel, "two").await);
        kernel.save("one/letter", b"dear").await.unwrap();
        kernel.mkdir("one/below", 0o755).await.unwrap();
        kernel.save("one/below/deep", b"").await.unwrap();
        server.set_content(&two, &server.content(&one).unwrap()).unwrap();
        let kernel = mount_that_looks_again(&server, place).await;
        kernel.tree(true).await.unwrap();
        let told = kernel.drive.errors();
        assert!(
            told.iter().any(|error| error.message.contains("two names for the same directory")),
            "{told:?}"
        );
        // A program that removes all below one name does not empty the other, but may remove what it made itself.
        assert_eq!(kernel.unlink("one/letter").await, Err(EBUSY));
        assert_eq!(kernel.rmdir("one/below").await, Err(EBUSY));
        assert_eq!(kernel.unlink("one/below/deep").await, Err(EBUSY));
        kernel.save("two/.~lock", b"").await.unwrap();
        kernel.unlink("two/.~lock").await.unwrap();
        // They are one, so this is a rename of something onto itself.
        kernel.rename("one/letter", "two/letter", RenameMode::Replace).await.unwrap();
        assert_eq!(kernel.content("two/letter").await.unwrap(), "dear");
        kernel.rmdir("one").await.unwrap();
        assert_eq!(mount(&server, place).await.content("two/letter").await.unwrap(), "dear");
        kernel.lookup("one").await.unwrap_err();
        // The last name is the directory.
        assert_eq!(kernel.rmdir("two").await, Err(ENOTEMPTY));
        kernel.unlink("two/letter").await.unwrap();
    });
}

#[test]
fn a_directory_whose_content_is_on_its_way_is_told_of_and_stays() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        let node = make_directory(&server, &kernel, "d").await;
        kernel.save("d/letter", b"dear").await.unwrap();
        let remote = MemoryRemote::connect(&server);
        let content = files(&server, "dirid.c9r").into_iter().map(|path| path.split().unwrap().0);
        let around = node.split().unwrap().0.split().unwrap().0;
        let content = content.into_iter().find(|path| *path != around).unwrap();
        let late = RemotePath::root().join(&name("late"));
        remote.rename(&content, &late, RenameHow::New).await.unwrap();

        let kernel = mount_that_looks_again(&server, place).await;
        let broken = kernel.lookup("d").await.unwrap();
        kernel.list(broken.inode).await.unwrap_err();
        let damaged = |kernel: &Kernel| kernel.drive.errors().iter().filter(|e| e.kind == "damaged").count();
        assert_eq!(damaged(&kernel), 1);
        assert_eq!(kernel.rmdir("d").await, Err(ENOTEMPTY), "it may still come");
        kernel.mkdir("other", 0o755).await.unwrap();
        assert_eq!(kernel.rename("other", "d", RenameMode::Replace).await, Err(ENOTEMPTY));

        let gone = server.fork();
        for path in [&node, &node.split().unwrap().0] {
            make_old(&gone, path).await;
        }
        mount_that_looks_again(&gone, place).await.rmdir("d").await.unwrap();

        remote.rename(&late, &content, RenameHow::New).await.unwrap();
        tokio::time::sleep(2 * BELIEVED).await;
        assert_eq!(kernel.content("d/letter").await.unwrap(), "dear");
        assert_eq!(damaged(&kernel), 0, "it is told while it lasts");
    });
}

#[test]
fn renamed_content_is_told_with_its_names_once_the_server_is_not_needed() {
    runtime().block_on(async {
        let place = Place::Gcm;
        let server = place.server();
        let kernel = mount(&server, place).await;
        let node = make_directory(&server, &kernel, "gone").await;
        kernel.save("gone/letter", b"dear").await.unwrap();
        let around = node.split().unwrap().0;
        let root = around.split().unwrap().0;
        let backups = files(&server, "dirid.c9r");
        let content =
            backups.into_iter().map(|path| path.split().unwrap().0).find(|path| *path != root).unwrap();
        let (fan_out, hash) = content.split().unwrap();
        let (data, prefix) = fan_out.split().unwrap();
        for (directory, own) in [(&fan_out, &hash), (&data, &prefix)] {
            let server = server.fork();
            let remote = MemoryRemote::connect(&server);
            remote.remove(&node).await.unwrap();
            remote.rmdir(&around).await.unwrap();
            let own = String::from_utf8(own.as_bytes().to_vec()).unwrap();
            let renamed = directory.join(&name(&format!("{own} (conflict_on_2026-11-29_was_deleted)")));
            remote.rename(&directory.join(&name(&own)), &renamed, RenameHow::New).await.unwrap();
            let found = findings(&server, place).await;
            let told: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
            assert!(told.len() == 1 && told[0].ends_with("in it are \"letter\""), "{found:#?}");

            let kernel = mount(&server, place).await;
            for second in 0..20 {
                kernel.save("busy", format!("{second}").as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert!(kernel.drive.errors().is_empty(), "{:?}", kernel.drive.errors());
            tokio::time::sleep(Duration::from_secs(10)).await;
            let told = kernel.drive.errors();
            let renamed = String::from_utf8_lossy(renamed.as_bytes()).into_owned();
            assert!(told.len() == 1 && told[0].message.contains(&renamed), "{told:#?}");
        }
    });
}

/// Each directory that was moved was known under another name before.
#[test]
fn many_directories_that_were_moved_are_listed_in_a_few_round_trips() {
    runtime().block_on(async {
        let place = Place::Gcm;
        let server = place.server();
        let kernel = mount_that_looks_again(&server, place).await;
        for directory in ["from", "to"] {
            kernel.mkdir(directory, 0o755).await.unwrap();
        }
        for number in 0..60 {
            kernel.mkdir(&format!("from/{number}"), 0o755).await.unwrap();
        }
        kernel.tree(false).await.unwrap();
        let other = mount(&server, place).await;
        for number in 0..60 {
            other
                .rename(&format!("from/{number}"), &format!("to/{number}"), RenameMode::Replace)
                .await
                .unwrap();
        }
        kernel.remote.set_delay(Some(Delay { least: ROUND_TRIP, most: ROUND_TRIP, seed: 0 }));
        tokio::time::sleep(2 * BELIEVED).await;
        let listed = round_trips(async {
            let to = kernel.lookup("to").await.unwrap().inode;
            assert_eq!(kernel.list(to).await.unwrap().len(), 60);
        });
        let listed = listed.await;
        assert!(listed <= 16, "{listed} round trips");
    });
}

/// Of a link's copy that lies alone in its entry, only the file is removed: the entry is cleared after that.
#[test]
fn a_removal_of_a_copy_that_was_killed_leaves_no_empty_entry_for_long() {
    runtime().block_on(async {
        let place = Place::Gcm;
        let mut was_left = false;
        for n in 0.. {
            let server = place.server();
            mount(&server, place).await.symlink("link", "target").await.unwrap();
            let link = files(&server, "symlink.c9r").remove(0);
            let copy = link.split().unwrap().0.join(&name("symlink (1).c9r"));
            MemoryRemote::connect(&server).rename(&link, &copy, RenameHow::New).await.unwrap();
            let home = tempfile::tempdir().unwrap();
            let kept = std::sync::Arc::new(PrivateDirectory::at(&home.path().join("unfinished")).unwrap());
            let options = || DriveOptions { unfinished: Some(std::sync::Arc::clone(&kept)), ..options() };
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            kernel.tree(true).await.unwrap();
            kernel.remote.fault_at(n, Fault::Cut { applied: true });
            let _ = kernel.unlink("link (1)").await;
            let is_over = !kernel.remote.is_cut();
            // As a mount that was killed leaves it.
            for journal in kept.names().unwrap() {
                let (vault, _) = journal.rsplit_once('-').unwrap();
                kept.rename(&journal, &format!("{vault}-4294967294")).unwrap();
            }
            was_left |= findings(&server, place).await.iter().any(|finding| finding.path.ends_with(".c9r"));
            let next = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            next.drive.save_all().await;
            let left = findings(&server, place).await;
            let is_copy = files(&server, "symlink (1).c9r").len() == 1;
            assert!(is_copy || left.is_empty(), "killed at message {n}: {left:#?}");
            if is_over {
                break;
            }
        }
        assert!(was_left, "no kill met an entry that was empty");
    });
}
