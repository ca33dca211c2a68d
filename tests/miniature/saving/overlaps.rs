//! Two machines that save one file at the same time, and saves that are given up half-way: both versions are kept, and
//! what a program wrote arrives. And programs that have something open in a vault while it is locked.

use std::time::Duration;

use bytes::Bytes;
use scaup::drive::Unsaved;
use scaup::remote::RemoteError;
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer, MessageKind};
use scaup_fuse::Filesystem as _;
use scaup_fuse::filesystem::RenameMode;

use crate::kernel::{
    APPEND, CHUNK, ENOSPC, Kernel, Place, READ, READ_WRITE, Seen, in_every_place, in_every_vault, mount,
    options, pattern,
};

fn old() -> Vec<u8> {
    pattern(1, 100 * CHUNK)
}

fn theirs() -> Vec<u8> {
    pattern(3, 2 * CHUNK + 9)
}

/// Somebody else saves the file, some seconds later.
async fn save_elsewhere(server: &MemoryServer, place: Place) {
    server.pass(Duration::from_secs(3));
    mount(server, place).await.save("file", &theirs()).await.unwrap();
    server.pass(Duration::from_secs(3));
}

/// The contents of all files that a drive sees which comes fresh to the server.
async fn contents(server: &MemoryServer, place: Place) -> Vec<Bytes> {
    let seen = mount(&server.fork(), place).await.tree(true).await.unwrap();
    let contents = seen.into_values().map(|seen| match seen {
        Seen::File { content, .. } => content,
        other => panic!("{other:?}"),
    });
    contents.collect()
}

async fn both_are_kept(kernel: &Kernel, place: Place, ours: &[u8], what: &str) {
    assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
    let kept = contents(kernel.remote.server(), place).await;
    let lengths: Vec<usize> = kept.iter().map(Bytes::len).collect();
    assert_eq!(kept.len(), 2, "{what}: {lengths:?}");
    assert!(kept.iter().any(|content| *content == theirs()), "{what}: theirs is gone, {lengths:?}");
    assert!(kept.iter().any(|content| *content == ours), "{what}: ours is gone, {lengths:?}");
}

/// What is in the file after `change` was written at its beginning.
fn changed(change: &[u8]) -> Vec<u8> {
    let mut content = old();
    content[..change.len()].copy_from_slice(change);
    content
}

#[test]
fn what_replaces_a_file_after_the_first_changes_of_it_were_sent_is_kept_beside_ours() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.save("file", &old()).await.unwrap();
        let open = kernel.open("file", READ_WRITE).await.unwrap();
        let change = pattern(2, 40 * CHUNK);
        kernel.write(open, 0, &change).await.unwrap();
        assert!(kernel.remote.count(MessageKind::WriteFile) > 0, "sending has begun");
        save_elsewhere(&server, place).await;
        kernel.fsync(open).await.unwrap();
        kernel.close(open).await.unwrap();
        both_are_kept(&kernel, place, &changed(&change), &format!("{place:?}")).await;
    });
}

#[test]
fn what_replaces_a_file_while_changes_of_it_wait_for_a_lost_connection_is_kept_beside_ours() {
    in_every_place(async |place| {
        for applied in [false, true] {
            for written in 0..4 {
                let server = place.server();
                let kernel = mount(&server, place).await;
                kernel.save("file", &old()).await.unwrap();
                let open = kernel.open("file", READ_WRITE).await.unwrap();
                let change = pattern(2, 4 * CHUNK);
                kernel.write(open, 0, &change).await.unwrap();
                // After the look at what is to be changed.
                kernel.remote.fault_at(1 + written, Fault::Cut { applied });
                kernel.fsync(open).await.unwrap_err();
                save_elsewhere(&server, place).await;
                kernel.remote.reconnect();
                let _ = kernel.close(open).await;
                let what = format!("{place:?}, applied {applied}, after {written}");
                both_are_kept(&kernel, place, &changed(&change), &what).await;
            }
        }
    });
}

#[test]
fn what_somebody_saves_while_a_large_file_is_on_its_way_is_kept_beside_ours() {
    in_every_place(async |place| {
        let mut were_both_kept = Vec::new();
        for later in (0..=300).step_by(20) {
            let server = place.server();
            let kernel = mount(&server, place).await;
            kernel.save("file", &pattern(1, 10)).await.unwrap();
            // The line takes so long that a second passes.
            let delay = Duration::from_millis(1500);
            kernel.remote.set_delay(Some(Delay { least: delay, most: delay, seed: 0 }));
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            kernel.truncate_open(open, 0).await.unwrap();
            let ours = pattern(2, 20 * CHUNK);
            kernel.write(open, 0, &ours).await.unwrap();
            let elsewhere = async {
                tokio::time::sleep(delay + Duration::from_millis(later * 10)).await;
                save_elsewhere(&server, place).await;
            };
            let (saved, ()) = futures::join!(kernel.fsync(open), elsewhere);
            saved.unwrap();
            kernel.close(open).await.unwrap();
            kernel.remote.set_delay(None);
            let kept = contents(&server, place).await;
            let holds = |wanted: &[u8]| kept.iter().any(|content| *content == wanted);
            assert!(holds(&theirs()), "{place:?}, {later}");
            were_both_kept.push(holds(&ours));
        }
        // What is there when they save, they replace: that comes last.
        assert!(
            were_both_kept[0] && were_both_kept.is_sorted_by(|a, b| a >= b),
            "{place:?}: {were_both_kept:?}"
        );
    });
}

#[test]
fn a_save_that_is_given_up_half_way_is_done_by_the_next_one() {
    in_every_place(async |place| {
        for patience in (0..700).step_by(20) {
            for length in [CHUNK, 20 * CHUNK] {
                let server = place.server();
                let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
                kernel.save("file", b"old").await.unwrap();
                kernel.drive.save_all().await;
                let delay = Duration::from_millis(80);
                kernel.remote.set_delay(Some(Delay { least: delay, most: delay, seed: 0 }));
                let open = kernel.open("file", READ_WRITE).await.unwrap();
                kernel.truncate_open(open, 0).await.unwrap();
                let mut ours = pattern(2, length);
                kernel.write(open, 0, &ours).await.unwrap();
                let patience = Duration::from_millis(patience);
                let _ = tokio::time::timeout(patience, kernel.drive.save_all()).await;
                let what = format!("{place:?}, {length} bytes, given up after {patience:?}");
                // What is under way arrives, though nobody waits for it.
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
                assert_eq!(contents(&server, place).await, [&ours], "{what}");
                ours[..3].copy_from_slice(b"new");
                kernel.write(open, 0, b"new").await.unwrap();
                kernel.truncate_open(open, 100).await.unwrap();
                ours.truncate(100);
                assert_eq!(kernel.close(open).await, Ok(()), "{what}");
                assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
                assert_eq!(contents(&server, place).await, [&ours], "{what}");
                assert!(kernel.drive.errors().is_empty(), "{what}: {:?}", kernel.drive.errors());
            }
        }
    });
}

#[test]
fn what_somebody_appends_before_our_chmod_is_seen_and_kept() {
    in_every_place(async |place| {
        for writing in [false, true] {
            let server = place.server();
            let kernel = mount(&server, place).await;
            kernel.save("file", b"a line\n").await.unwrap();
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            server.pass(Duration::from_secs(3));
            let other = mount(&server, place).await;
            let appending = other.open("file", APPEND).await.unwrap();
            other.write(appending, 0, b"and theirs\n").await.unwrap();
            other.close(appending).await.unwrap();
            server.pass(Duration::from_secs(3));
            kernel.chmod("file", 0o600).await.unwrap();
            let theirs = Bytes::from("a line\nand theirs\n");
            if writing {
                kernel.write(open, 0, b"OURS").await.unwrap();
                let _ = kernel.close(open).await;
                assert_eq!(kernel.drive.save_all().await.files, 0);
                let kept = contents(&server, place).await;
                assert!(kept.contains(&theirs), "{place:?}: {kept:?}");
                assert!(kept.iter().any(|content| content.starts_with(b"OURSne\n")), "{place:?}: {kept:?}");
            } else {
                let again = kernel.open("file", READ).await.unwrap();
                assert_eq!(kernel.read_all(again).await.unwrap(), theirs, "{place:?}");
                kernel.close(again).await.unwrap();
                kernel.close(open).await.unwrap();
            }
        }
    });
}

#[test]
fn what_somebody_saves_while_what_is_to_replace_it_is_on_its_way_is_kept() {
    in_every_place(async |place| {
        for later in (0..=200).step_by(20) {
            let server = place.server();
            let kernel = mount(&server, place).await;
            kernel.save("file", b"old").await.unwrap();
            kernel.content("file").await.unwrap();
            let delay = Duration::from_millis(80);
            kernel.remote.set_delay(Some(Delay { least: delay, most: delay, seed: 0 }));
            let ours = pattern(2, 20 * CHUNK);
            let open = kernel.create("new", 0o644).await.unwrap();
            kernel.write(open, 0, &ours).await.unwrap();
            let elsewhere = async {
                tokio::time::sleep(Duration::from_millis(later)).await;
                save_elsewhere(&server, place).await;
            };
            let (renamed, ()) = futures::join!(kernel.rename("new", "file", RenameMode::Replace), elsewhere);
            renamed.unwrap();
            kernel.close(open).await.unwrap();
            kernel.remote.set_delay(None);
            both_are_kept(&kernel, place, &ours, &format!("{place:?}, {later} ms later")).await;
        }
    });
}

/// Two mounts whose messages overlap in one way or another.
async fn two_mounts(server: &MemoryServer, place: Place, seed: u64) -> [Kernel; 2] {
    let two = [mount(server, place).await, mount(server, place).await];
    for (kernel, seed) in two.iter().zip([seed, seed + 100]) {
        let (least, most) = (Duration::from_millis(20), Duration::from_millis(60));
        kernel.remote.set_delay(Some(Delay { least, most, seed }));
    }
    two
}

fn version(number: u8) -> Vec<u8> {
    pattern(number, CHUNK + usize::from(number))
}

/// Fails unless exactly these contents are there, each once.
async fn all_are_kept(server: &MemoryServer, place: Place, mut wanted: Vec<Vec<u8>>, what: &str) {
    let mut kept = contents(server, place).await;
    kept.sort();
    wanted.sort();
    assert!(kept == wanted, "{place:?}, {what}: {:?}", kept.iter().map(Bytes::len).collect::<Vec<_>>());
}

#[test]
fn what_two_make_under_one_name_at_the_same_moment_is_kept_twice() {
    in_every_place(async |place| {
        for (name, seed) in (0..12).flat_map(|seed| [("new", seed), ("a new name that is shortened", seed)]) {
            let server = place.server();
            let two = two_mounts(&server, place, seed).await;
            let (one, other) = (version(1), version(2));
            let saved = futures::join!(two[0].save(name, &one), two[1].save(name, &other));
            assert_eq!(saved, (Ok(()), Ok(())), "{place:?}, {name}, {seed}");
            all_are_kept(&server, place, vec![one, other], &format!("{name}, {seed}")).await;
        }
    });
}

#[test]
fn conflicts_of_two_in_the_same_second_are_both_kept() {
    in_every_place(async |place| {
        for seed in 0..12 {
            let server = place.server();
            mount(&server, place).await.save("file", &old()).await.unwrap();
            let two = two_mounts(&server, place, seed).await;
            let mut opened = Vec::new();
            for kernel in &two {
                opened.push(kernel.open("file", READ_WRITE).await.unwrap());
            }
            save_elsewhere(&server, place).await;
            let save = async |number: usize| {
                let (kernel, open) = (&two[number], opened[number]);
                kernel.truncate_open(open, 0).await?;
                kernel.write(open, 0, &version(number as u8)).await?;
                kernel.close(open).await
            };
            let saved = futures::join!(save(0), save(1));
            assert_eq!(saved, (Ok(()), Ok(())), "{place:?}, {seed}");
            all_are_kept(&server, place, vec![version(0), version(1), theirs()], &format!("{seed}")).await;
        }
    });
}

#[test]
fn of_two_that_move_to_a_free_name_at_the_same_moment_none_replaces_the_other() {
    in_every_place(async |place| {
        for (mode, to, seed) in (0..12).flat_map(|seed| {
            [
                (RenameMode::NoReplace, "to", seed),
                (RenameMode::Replace, "to", seed),
                (RenameMode::NoReplace, "to a name that is shortened", seed),
                (RenameMode::Replace, "to a name that is shortened", seed),
            ]
        }) {
            let server = place.server();
            let before = mount(&server, place).await;
            for (name, number) in [("one", 1), ("other", 2)] {
                before.save(name, &version(number)).await.unwrap();
            }
            let two = two_mounts(&server, place, seed).await;
            for kernel in &two {
                kernel.tree(false).await.unwrap();
            }
            let moved = futures::join!(two[0].rename("one", to, mode), two[1].rename("other", to, mode));
            let what = format!("{mode:?} {to}, {seed}: {moved:?}");
            assert!(moved.0.is_ok() || moved.1.is_ok(), "{place:?}, {what}");
            all_are_kept(&server, place, vec![version(1), version(2)], &what).await;
        }
    });
}

#[test]
fn a_copy_beside_theirs_that_fails_on_its_way_goes_no_further_and_is_made_later() {
    in_every_place(async |place| {
        let server = place.server();
        mount(&server, place).await.save("file", &old()).await.unwrap();
        // What is copied is not in the memory of this one: it comes from the server, piece by piece.
        let kernel = mount(&server, place).await;
        let open = kernel.open("file", READ_WRITE).await.unwrap();
        save_elsewhere(&server, place).await;
        let before = kernel.remote.count(MessageKind::WriteFile);
        kernel.go_far();
        for _ in 0..1000 {
            let fault = Fault::Answer { error: RemoteError::NoSpace, applied: false };
            kernel.remote.fault_at_one(0, fault, |kind, _| kind == MessageKind::WriteFile);
        }
        kernel.write(open, 0, b"ours").await.unwrap();
        assert_eq!(kernel.fsync(open).await, Err(ENOSPC));
        let sent = kernel.remote.count(MessageKind::WriteFile) - before;
        assert!(sent < 20, "{sent} messages");
        kernel.remote.clear_faults();
        both_are_kept(&kernel, place, &changed(b"ours"), "afterwards").await;
        kernel.close(open).await.unwrap();
    });
}

#[test]
fn what_programs_have_open_when_its_vault_is_locked_shows_and_takes_nothing() {
    in_every_vault(async |place| {
        let kernel = mount(&place.server(), place).await;
        kernel.mkdir("folder", 0o755).await.unwrap();
        kernel.save("folder/inner", b"inner content").await.unwrap();
        kernel.save("file", &pattern(1, 2 * CHUNK)).await.unwrap();
        kernel.symlink("link", "target").await.unwrap();
        let before = kernel.tree(true).await.unwrap();
        let (root, folder) = (kernel.root().await.unwrap(), kernel.lookup("folder").await.unwrap().inode);
        let link = kernel.lookup("link").await.unwrap().inode;
        let handles = [
            (root, kernel.drive.opendir(root).await.unwrap()),
            (folder, kernel.drive.opendir(folder).await.unwrap()),
        ];
        let stored = kernel.open("file", READ_WRITE).await.unwrap();
        // What has lost its name is nowhere but here: with content that the server has, with some that is being
        // written, and new.
        let mut nameless = Vec::new();
        for name in ["removed", "changed", "new"] {
            if name != "new" {
                kernel.save(name, &pattern(2, 2 * CHUNK)).await.unwrap();
            }
            let open = if name == "new" {
                kernel.create(name, 0o644).await.unwrap()
            } else {
                kernel.open(name, READ_WRITE).await.unwrap()
            };
            kernel.unlink(name).await.unwrap();
            if name != "removed" {
                kernel.write(open, 7, b"written after it was removed").await.unwrap();
            }
            nameless.push(open);
        }

        kernel.drive.lock(&place.root()).await.unwrap();
        for plus in [false, true] {
            for (inode, handle) in handles {
                let names = kernel.drive.readdir(inode, handle, 0, plus).await;
                assert_eq!(
                    names.map_err(crate::kernel::errno).err(),
                    Some(crate::kernel::EIO),
                    "{place:?}, {plus}"
                );
            }
        }
        for name in ["folder", "file", "link", "removed"] {
            assert_eq!(
                kernel.lookup_in(root, name).await.err(),
                Some(crate::kernel::ENOENT),
                "{place:?}: {name}"
            );
        }
        assert_eq!(kernel.lookup_in(folder, "inner").await.err(), Some(crate::kernel::EIO), "{place:?}");
        for inode in [folder, link, stored.0, nameless[0].0] {
            assert_eq!(kernel.getattr(inode).await.err(), Some(crate::kernel::EIO), "{place:?}");
        }
        assert_eq!(
            kernel.drive.readlink(link).await.map_err(crate::kernel::errno).err(),
            Some(crate::kernel::EIO),
            "{place:?}"
        );
        for &open in nameless.iter().chain([&stored]) {
            assert_eq!(kernel.read(open, 0, 100).await, Err(crate::kernel::EIO), "{place:?}");
            assert_eq!(kernel.write(open, 0, b"more").await, Err(crate::kernel::EIO), "{place:?}");
            assert!(kernel.truncate_open(open, 0).await.is_err(), "{place:?}");
            assert_eq!(kernel.fsync(open).await, Err(crate::kernel::EIO), "{place:?}");
        }
        assert_eq!(kernel.drive.unsaved(), Unsaved::default(), "{place:?}");

        kernel.unlock().await;
        for (inode, handle) in handles {
            assert!(
                kernel.drive.readdir(inode, handle, 0, true).await.is_err(),
                "{place:?}: a new unlocking"
            );
        }
        for &open in nameless.iter().chain([&stored]) {
            assert_eq!(
                kernel.read(open, 0, 100).await,
                Err(crate::kernel::EIO),
                "{place:?}: a new unlocking"
            );
            let _ = kernel.close(open).await;
        }
        assert_eq!(kernel.tree(true).await.unwrap(), before, "{place:?}");
    });
}

#[test]
fn a_directory_that_is_opened_while_its_vault_is_locked_or_unlocked_shows_names_of_now() {
    in_every_vault(async |place| {
        let server = place.server();
        mount(&server, place).await.save("file", b"content").await.unwrap();
        for (after, unlocking) in (0..30).flat_map(|n| [(n * 10, false), (n * 10, true)]) {
            let what = format!("{place:?}, {after}, {unlocking}");
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            if unlocking {
                kernel.drive.lock(&place.root()).await.unwrap();
            }
            let root = kernel.root().await.unwrap();
            kernel.go_far();
            let opening = async { (kernel.drive.opendir(root).await, kernel.lookup_in(root, "d").await) };
            let changing = async {
                tokio::time::sleep(Duration::from_millis(after)).await;
                if unlocking {
                    kernel.unlock().await
                } else {
                    kernel.drive.lock(&place.root()).await.unwrap()
                }
            };
            let ((opened, _), ()) = futures::join!(opening, changing);
            kernel.remote.set_delay(None);
            if let Ok(handle) = opened {
                for plus in [false, true] {
                    let entries = kernel.drive.readdir(root, handle, 0, plus).await.unwrap_or_default();
                    let is_encrypted = entries.iter().any(|entry| entry.name == "d");
                    assert!(entries.is_empty() || is_encrypted != unlocking, "{what}: {entries:?}");
                }
            }
            assert_eq!(kernel.lookup_in(root, "file").await.is_ok(), unlocking, "{what}");
            assert_eq!(kernel.lookup_in(root, "d").await.is_ok(), !unlocking, "{what}");
        }
    });
}

#[test]
fn what_status_tells_of_a_vault_is_forgotten_when_it_is_locked() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.save("file", b"old").await.unwrap();
        let open = kernel.open("file", READ_WRITE).await.unwrap();
        kernel.write(open, 0, b"our").await.unwrap();
        server.pass(Duration::from_secs(3));
        mount(&server, place).await.save("file", b"theirs").await.unwrap();
        kernel.close(open).await.unwrap();
        let names = || kernel.drive.errors().iter().any(|error| error.message.contains("file"));
        assert!(names(), "{place:?}: there is nothing to be forgotten");
        kernel.drive.lock(&place.root()).await.unwrap();
        assert!(!names(), "{place:?}");
    });
}

/// What a program appends to a file that ends inside a chunk, to a server with room for a part of it.
#[test]
fn what_was_saved_is_whole_though_the_server_has_no_room_for_what_is_appended() {
    in_every_place(async |place| {
        for (length, added, room) in [60_000, 3 * CHUNK + 1].into_iter().flat_map(|length| {
            [1000, 100_000, 3_000_000].into_iter().flat_map(move |added| {
                [0, 500, 5_000, 40_000]
                    .into_iter()
                    .filter(move |&room| room < added)
                    .map(move |room| (length, added, room))
            })
        }) {
            let server = place.server();
            let kernel = mount(&server, place).await;
            let old = pattern(1, length);
            kernel.save("file", &old).await.unwrap();
            let what = format!("{place:?}: {length} + {added}, room for {room}");
            let is_whole = async |when: &str| {
                let seen = mount(&server.fork(), place).await.content("file").await;
                let seen = seen.unwrap_or_else(|error| panic!("{what}, {when}: error {error}"));
                assert!(seen.starts_with(&old), "{what}, {when}: {} bytes", seen.len());
            };
            server.set_room(server.used() + room as u64);
            let open = kernel.open("file", APPEND).await.unwrap();
            let written = kernel.write(open, 0, &pattern(2, added)).await;
            is_whole("after write").await;
            let closed = kernel.close(open).await;
            assert!(written == Err(ENOSPC) || closed == Err(ENOSPC), "{what}: {written:?} {closed:?}");
            is_whole("after close").await;
            // What is tried again by itself touches nothing, either.
            let first = kernel.remote.messages().len();
            kernel.drive.save_all().await;
            let touched = kernel.remote.messages().split_off(first).into_iter();
            let touched = touched
                .filter(|(kind, path)| *kind == MessageKind::WriteFile && !crate::kernel::is_temporary(path));
            assert!(place == Place::Plain || touched.count() == 0, "{what}: the file was written to");
            is_whole("after another try").await;
            server.set_room(1 << 30);
            assert!(kernel.drive.save_all().await.is_none(), "{what}");
            let saved = mount(&server, place).await.content("file").await.unwrap();
            assert!(saved.starts_with(&old), "{what}");
            assert!(written.is_err() || saved == [old.clone(), pattern(2, added)].concat(), "{what}");
        }
    });
}
