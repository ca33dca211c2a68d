//! What a drive over memory once did wrong, each as short as it can be told.

use std::time::Duration;

use scaup::drive::DriveOptions;
use scaup::remote::{RemoteError, RemotePath};
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer, MessageKind};
use scaup_fuse::filesystem::{Inode, RenameMode, SetAttributes, SetTime};

use crate::kernel::{
    CHUNK, ENOSPC, Kernel, Place, READ_WRITE, ROUND_TRIP, Seen, in_every_place, in_every_vault, is_temporary,
    mount, options, pattern, round_trips,
};

fn slow() -> Option<Delay> {
    Some(Delay { least: Duration::from_millis(20), most: Duration::from_millis(60), seed: 7 })
}

#[test]
fn a_listing_from_before_a_chmod_does_not_bring_the_old_mode_back() {
    in_every_place(async |place| {
        let kernel = mount(&place.server(), place).await;
        kernel.save("file", b"content").await.unwrap();
        kernel.tree(false).await.unwrap();
        kernel.chmod("file", 0o600).await.unwrap();
        let Seen::File { mode, .. } = kernel.tree(false).await.unwrap()["file"] else { panic!("no file") };
        assert_eq!(mode, 0o600);
        kernel.forget(&[]);
        assert_eq!(kernel.lookup("file").await.unwrap().mode, 0o600);
    });
}

#[test]
fn a_name_that_was_removed_while_its_directory_was_open_does_not_come_back() {
    in_every_place(async |place| {
        use scaup_fuse::Filesystem as _;
        let kernel = mount(&place.server(), place).await;
        kernel.save("file", b"content").await.unwrap();
        let root = kernel.root().await.unwrap();
        let handle = kernel.drive.opendir(root).await.unwrap();
        kernel.unlink("file").await.unwrap();
        kernel.drive.readdir(root, handle, 0, true).await.unwrap();
        assert_eq!(kernel.lookup("file").await, Err(crate::kernel::ENOENT));
    });
}

#[test]
fn truncating_what_is_still_on_its_way_is_no_conflict_and_tears_nothing() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.save("file", &pattern(1, 3 * CHUNK)).await.unwrap();
        kernel.remote.set_delay(slow());
        for length in [0, CHUNK + 7, 40 * CHUNK] {
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            kernel.write(open, 0, &pattern(2, 70 * CHUNK)).await.unwrap();
            kernel.truncate_open(open, length as u64).await.unwrap();
            kernel.write(open, length as u64, b"the end").await.unwrap();
            kernel.close(open).await.unwrap();
            let mut wanted = pattern(2, length);
            wanted.extend_from_slice(b"the end");
            let seen = mount(&server, place).await.tree(true).await.unwrap();
            assert_eq!(seen.len(), 1, "{length}");
            assert!(matches!(&seen["file"], Seen::File { content, .. } if *content == wanted), "{length}");
        }
    });
}

#[test]
fn a_new_file_truncated_while_it_is_written_holds_nothing_of_before() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.remote.set_delay(slow());
        let open = kernel.create("file", 0o644).await.unwrap();
        kernel.write(open, 0, &pattern(1, 60 * CHUNK)).await.unwrap();
        kernel.truncate_open(open, 0).await.unwrap();
        kernel.write(open, 0, b"short").await.unwrap();
        kernel.close(open).await.unwrap();
        let content = mount(&server, place).await.content("file").await.unwrap();
        assert!(content == "short", "{} bytes", content.len());
    });
}

#[test]
fn renaming_a_directory_takes_along_what_is_not_saved_in_it() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.mkdir("from", 0o755).await.unwrap();
        let open = kernel.create("from/file", 0o644).await.unwrap();
        kernel.write(open, 0, &pattern(1, 40 * CHUNK)).await.unwrap();
        kernel.rename("from", "to", RenameMode::Replace).await.unwrap();
        kernel.close(open).await.unwrap();
        let other = mount(&server, place).await;
        assert!(other.content("to/file").await.unwrap() == pattern(1, 40 * CHUNK));
        assert!(!server.paths().iter().any(is_temporary));
    });
}

#[test]
fn renaming_what_somebody_else_changed_meanwhile_moves_ours_and_keeps_theirs() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.save("file", b"old").await.unwrap();
        let open = kernel.open("file", READ_WRITE).await.unwrap();
        kernel.write(open, 0, b"our").await.unwrap();
        server.pass(Duration::from_secs(3));
        mount(&server, place).await.save("file", b"theirs").await.unwrap();
        kernel.rename("file", "moved", RenameMode::Replace).await.unwrap();
        kernel.close(open).await.unwrap();
        let other = mount(&server, place).await;
        assert_eq!(other.content("moved").await.unwrap(), "our");
        assert_eq!(other.content("file").await.unwrap(), "theirs");
        assert!(kernel.drive.errors().iter().any(|error| error.kind == "conflict"));
    });
}

#[test]
fn what_is_written_to_a_full_server_is_refused_before_it_fills_the_memory() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        let open = kernel.create("file", 0o644).await.unwrap();
        server.set_room(server.used() + 10 * CHUNK as u64);
        let mut refused = 0;
        for number in 0..200 {
            match kernel.write(open, number * 3 * CHUNK as u64, &pattern(1, 3 * CHUNK)).await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, ENOSPC);
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
        assert!(kernel.drive.unsaved().bytes <= options().memory);
        assert_eq!(kernel.flush(open).await, Err(ENOSPC));
        assert_eq!(kernel.drive.save_all().await.files, 1);
        server.set_room(1 << 30);
        assert_eq!(kernel.drive.save_all().await.files, 0);
        assert_eq!(kernel.close(open).await, Ok(()));
        let shown = kernel.lookup("file").await.unwrap();
        assert_eq!(mount(&server, place).await.content("file").await.unwrap().len() as u64, shown.size);
    });
}

#[test]
fn a_chunk_that_arrived_without_an_answer_is_gone_when_the_file_is_cut_before_it() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        let open = kernel.create("file", 0o644).await.unwrap();
        kernel.write(open, 0, &pattern(1, 3 * CHUNK)).await.unwrap();
        // Every message of the first attempt is carried out and not answered.
        for n in 0..20 {
            let error = RemoteError::Timeout(Duration::from_secs(1));
            kernel.remote.fault_at(n, Fault::Answer { error, applied: true });
        }
        kernel.fsync(open).await.unwrap_err();
        kernel.fsync(open).await.unwrap_err();
        kernel.remote.clear_faults();
        assert!(kernel.remote.count(MessageKind::WriteFile) > 0);
        kernel.truncate_open(open, 100).await.unwrap();
        kernel.close(open).await.unwrap();
        assert!(mount(&server, place).await.content("file").await.unwrap() == pattern(1, 100));
    });
}

#[test]
fn a_foreign_truncation_reads_as_an_error_and_never_as_less() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        let before = server.paths();
        kernel.save("file", &pattern(1, 40 * CHUNK)).await.unwrap();
        let new: Vec<RemotePath> = server.paths().into_iter().filter(|path| !before.contains(path)).collect();
        let [path] = &new[..] else { panic!("{new:?}") };
        // Another mount, whose cache holds nothing of it.
        let kernel = mount(&server, place).await;
        let open = kernel.open("file", crate::kernel::READ).await.unwrap();
        let whole = server.content(path).unwrap();
        server.set_content(path, &whole[..10 * CHUNK]).unwrap();
        assert_eq!(kernel.read(open, 30 * CHUNK as u64, 100).await, Err(crate::kernel::EIO));
        kernel.release(open).await;
    });
}

#[test]
fn inode_numbers_are_the_same_in_the_next_mount() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.mkdir("directory", 0o755).await.unwrap();
        kernel.save("directory/file", b"content").await.unwrap();
        let number = kernel.lookup("directory/file").await.unwrap().inode;
        assert_eq!(mount(&server, place).await.lookup("directory/file").await.unwrap().inode, number);
    });
}

#[test]
fn what_was_renamed_just_after_it_was_made_can_be_cut() {
    in_every_place(async |place| {
        for number in 0..50 {
            let server = place.server();
            let options = DriveOptions { attr_timeout: Duration::ZERO, ..options() };
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options).await;
            kernel.save("made", b"content").await.unwrap();
            kernel.tree(true).await.unwrap();
            let name = format!("renamed{number}");
            kernel.rename("made", &name, RenameMode::Replace).await.unwrap();
            kernel.tree(true).await.unwrap();
            kernel.forget(&[]);
            kernel.tree(true).await.unwrap();
            kernel.truncate(&name, 0).await.unwrap();
            kernel.tree(true).await.unwrap();
            assert_eq!(kernel.drive.save_all().await.files, 0, "{:?}", kernel.drive.errors());
        }
    });
}

#[test]
fn a_walk_that_locking_cuts_short_leaves_nothing_for_when_the_vault_is_unlocked_again() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        for directory in ["a", "a/b", "a/b/c", "a/b/c/d", "b", "b/c"] {
            kernel.mkdir(directory, 0o755).await.unwrap();
        }
        drop(kernel);
        for after in 0..60 {
            let kernel = mount(&server, place).await;
            kernel.remote.set_delay(slow());
            for directory in ["", "a"] {
                let directory = kernel.lookup(directory).await.unwrap().inode;
                kernel.list(directory).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(after * 5)).await;
            kernel.drive.lock(&place.root()).await.unwrap();
            kernel.unlock().await;
            // Panics if what is listed is not what is found.
            assert_eq!(kernel.tree(false).await.unwrap().len(), 6);
        }
    });
}

#[test]
fn a_directory_is_removed_though_the_server_was_asked_in_another_order() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.mkdir("directory", 0o755).await.unwrap();
        let removing = async |server: &MemoryServer, fault: Option<usize>| {
            let kernel = mount(server, place).await;
            kernel.tree(false).await.unwrap();
            let before = kernel.remote.messages().len();
            if let Some(n) = fault {
                // As OpenSSH says it of a directory that was not empty, but is by the time one looks why.
                let error = RemoteError::Failure("Failure".to_owned());
                kernel.remote.fault_at(n, Fault::Answer { error, applied: false });
            }
            kernel.rmdir("directory").await.unwrap();
            kernel.drive.save_all().await;
            assert_eq!(kernel.tree(false).await.unwrap().len(), 0);
            let kinds = kernel.remote.messages().split_off(before);
            kinds.iter().position(|(kind, _)| *kind == MessageKind::Rmdir).unwrap()
        };
        let rmdir = removing(&server.fork(), None).await;
        removing(&server.fork(), Some(rmdir)).await;
    });
}

#[test]
fn what_is_removed_while_it_is_being_saved_does_not_come_back() {
    in_every_place(async |place| {
        for seed in 0..60 {
            let server = place.server();
            let kernel = mount(&server, place).await;
            let (least, most) = (Duration::from_millis(20), Duration::from_millis(60));
            kernel.remote.set_delay(Some(Delay { least, most, seed }));
            kernel.save("file", &pattern(3, CHUNK)).await.unwrap();
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            kernel.truncate_open(open, 0).await.unwrap();
            kernel.write(open, 0, &pattern(1, 40 * CHUNK)).await.unwrap();
            let writing = async {
                tokio::time::sleep(Duration::from_millis(seed * 7)).await;
                kernel.write(open, 0, &pattern(2, 40 * CHUNK)).await
            };
            let syncing = async {
                tokio::time::sleep(Duration::from_millis(seed * 5)).await;
                kernel.fsync(open).await
            };
            let again = async {
                tokio::time::sleep(Duration::from_millis(seed * 9)).await;
                kernel.fsync(open).await
            };
            let removing = async {
                tokio::time::sleep(Duration::from_millis(seed * 4)).await;
                kernel.unlink("file").await
            };
            let _ = futures::join!(syncing, removing, writing, again);
            let _ = kernel.close(open).await;
            kernel.drive.save_all().await;
            let seen = mount(&server, place).await.tree(false).await.unwrap();
            assert!(seen.is_empty(), "{place:?}, {seed}: {seen:?}");
        }
    });
}

#[test]
fn what_is_renamed_over_a_file_that_is_being_saved_stays() {
    in_every_place(async |place| {
        for seed in 0..60 {
            let server = place.server();
            let kernel = mount(&server, place).await;
            kernel.save("other", &pattern(4, 2 * CHUNK)).await.unwrap();
            let (least, most) = (Duration::from_millis(20), Duration::from_millis(60));
            kernel.remote.set_delay(Some(Delay { least, most, seed }));
            let open = kernel.create("file", 0o644).await.unwrap();
            kernel.write(open, 0, &pattern(1, CHUNK)).await.unwrap();
            let renaming = async {
                tokio::time::sleep(Duration::from_millis(seed * 4)).await;
                kernel.rename("other", "file", RenameMode::Replace).await
            };
            let (synced, renamed) = futures::join!(kernel.fsync(open), renaming);
            assert_eq!(renamed, Ok(()), "{place:?}, {seed}: {synced:?}");
            let _ = kernel.close(open).await;
            kernel.drive.save_all().await;
            let other = mount(&server, place).await;
            assert!(other.content("file").await.unwrap() == pattern(4, 2 * CHUNK), "{place:?}, {seed}");
            assert_eq!(other.tree(false).await.unwrap().len(), 1, "{place:?}, {seed}");
        }
    });
}

#[test]
fn what_failed_before_is_told_before_more_is_appended() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        kernel.remote.set_delay(slow());
        let open = kernel.create("file", 0o644).await.unwrap();
        kernel.write(open, 0, &pattern(1, 1 << 20)).await.unwrap();
        // What is on its way, or is sent next, is cut off.
        kernel.remote.fault_at(0, Fault::Cut { applied: false });
        let _ = kernel.lookup("nothing").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        kernel.remote.clear_faults();
        kernel.remote.reconnect();
        let appending = kernel.open("file", crate::kernel::APPEND).await.unwrap();
        let mut told = 0;
        while let Err(errno) = kernel.write(appending, 0, &pattern(2, 2 << 20)).await {
            assert_eq!(errno, crate::kernel::EIO);
            told += 1;
            assert_eq!(kernel.getattr(appending.0).await.unwrap().size, 1 << 20, "told too late");
        }
        assert_eq!(told, 1);
        kernel.close(appending).await.unwrap();
        kernel.close(open).await.unwrap();
        let content = mount(&server, place).await.content("file").await.unwrap();
        assert!(content == [pattern(1, 1 << 20), pattern(2, 2 << 20)].concat(), "{}", content.len());
    });
}

#[test]
fn times_that_are_set_one_by_one_before_content_is_saved_are_both_kept() {
    in_every_place(async |place| {
        let server = place.server();
        let kernel = mount(&server, place).await;
        let open = kernel.create("file", 0o644).await.unwrap();
        let (accessed, modified) = (crate::kernel::at(1_900_000_000), crate::kernel::at(1_950_000_000));
        let set = SetAttributes { accessed: Some(SetTime::At(accessed)), ..SetAttributes::default() };
        kernel.set("file", set).await.unwrap();
        assert_eq!(kernel.lookup("file").await.unwrap().accessed, accessed);
        let set = SetAttributes { modified: Some(SetTime::At(modified)), ..SetAttributes::default() };
        kernel.set("file", set).await.unwrap();
        kernel.close(open).await.unwrap();
        for kernel in [kernel, mount(&server, place).await] {
            let seen = kernel.lookup("file").await.unwrap();
            assert_eq!((seen.accessed, seen.modified), (accessed, modified));
        }
    });
}

/// Has the next messages with content refused.
fn fail_writes(kernel: &Kernel, count: usize) {
    for _ in 0..count {
        let fault = Fault::Answer { error: RemoteError::NoSpace, applied: false };
        kernel.remote.fault_at_one(0, fault, |kind, _| kind == MessageKind::WriteFile);
    }
}

#[test]
fn a_write_that_fails_where_much_is_unsent_waits_for_the_server_once() {
    in_every_place(async |place| {
        let server = place.server();
        // Less than a chunk may be unsent.
        let options = DriveOptions { memory: 256 << 10, ..options() };
        let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options).await;
        let (full, open) =
            (kernel.create("full", 0o644).await.unwrap(), kernel.create("file", 0o644).await.unwrap());
        kernel.go_far();
        fail_writes(&kernel, 100);
        let content = pattern(1, 8 * CHUNK);
        kernel.write(full, 0, &content).await.unwrap();
        let waited = round_trips(async { kernel.write(open, 0, &content).await.unwrap() }).await;
        assert!(waited <= 1, "{waited} round trips");
        assert_eq!(kernel.write(open, content.len() as u64, b"more").await, Err(ENOSPC));
        kernel.remote.clear_faults();
        for (open, name) in [(open, "file"), (full, "full")] {
            let _ = kernel.flush(open).await;
            kernel.close(open).await.unwrap();
            assert!(mount(&server, place).await.content(name).await.unwrap() == content, "{name}");
        }
    });
}

#[test]
fn an_extension_that_fails_on_its_way_goes_no_further() {
    in_every_vault(async |place| {
        let kernel = mount(&place.server(), place).await;
        let open = kernel.create("file", 0o644).await.unwrap();
        fail_writes(&kernel, 1000);
        assert_eq!(kernel.truncate_open(open, 64 << 20).await, Err(ENOSPC));
        let sent = kernel.remote.count(MessageKind::WriteFile);
        // No more than may be under way before the first answer: 16 MiB of 64.
        assert!(sent < 100, "{sent} messages");
        assert_eq!(kernel.getattr(open.0).await.unwrap().size, 0);
        // It is told once.
        kernel.remote.clear_faults();
        kernel.write(open, 0, b"goes on").await.unwrap();
        kernel.close(open).await.unwrap();
        assert_eq!(kernel.content("file").await.unwrap(), "goes on");
    });
}

/// How a mount comes to know what others did to a file.
#[derive(Debug, Clone, Copy)]
enum Noticed {
    ByListing,
    ByLookup,
    ByStat,
    Not,
}

impl Noticed {
    const ALL: [Self; 4] = [Self::ByListing, Self::ByLookup, Self::ByStat, Self::Not];

    async fn by(self, kernel: &Kernel, name: &str, open: Inode) {
        match self {
            Self::ByListing => drop(kernel.list(kernel.root().await.unwrap()).await.unwrap()),
            Self::ByLookup => drop(kernel.lookup(name).await),
            Self::ByStat => assert_eq!(kernel.getattr(open).await.unwrap().inode, open),
            Self::Not => {}
        }
    }
}

/// A mount that asks the server again and again.
async fn mount_that_asks(server: &MemoryServer, place: Place) -> Kernel {
    let options = DriveOptions { sync_on_close: true, attr_timeout: Duration::ZERO, ..options() };
    Kernel::mount(MemoryRemote::connect(server), place, options).await
}

#[test]
fn what_somebody_removed_is_there_again_as_it_is_saved_here_though_its_absence_was_noticed() {
    in_every_place(async |place| {
        for (noticed, name) in
            Noticed::ALL.into_iter().flat_map(|how| [(how, "file"), (how, "a longer name")])
        {
            for truncated in [false, true] {
                let what = format!("{place:?}, {noticed:?}, {name}, {truncated}");
                let server = place.server();
                let kernel = mount_that_asks(&server, place).await;
                kernel.save(name, b"old content").await.unwrap();
                let open = kernel.open(name, READ_WRITE).await.unwrap();
                mount(&server, place).await.unlink(name).await.unwrap();
                noticed.by(&kernel, name, open.0).await;
                if truncated {
                    kernel.truncate_open(open, 0).await.unwrap();
                }
                kernel.write(open, 0, b"new").await.unwrap();
                assert_eq!(kernel.close(open).await, Ok(()), "{what}");
                assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
                let wanted = if truncated { "new" } else { "new content" };
                assert_eq!(mount(&server, place).await.content(name).await.unwrap(), wanted, "{what}");
                assert_eq!(kernel.lookup(name).await.unwrap().links, 1, "{what}");
                assert_eq!(kernel.tree(true).await.unwrap().len(), 1, "{what}");
            }
        }
    });
}

#[test]
fn what_somebody_made_in_place_of_what_is_open_stays_beside_it_though_it_was_noticed() {
    in_every_place(async |place| {
        for (noticed, directory) in Noticed::ALL.into_iter().flat_map(|how| [(how, false), (how, true)]) {
            let what = format!("{place:?}, {noticed:?}, {directory}");
            let server = place.server();
            let kernel = mount_that_asks(&server, place).await;
            kernel.save("file", b"old content").await.unwrap();
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            let other = mount(&server, place).await;
            other.unlink("file").await.unwrap();
            noticed.by(&kernel, "file", open.0).await;
            if directory {
                other.mkdir("file", 0o755).await.unwrap();
            } else {
                other.save("file", b"theirs").await.unwrap();
            }
            if !matches!(noticed, Noticed::ByStat) {
                noticed.by(&kernel, "file", open.0).await;
            }
            kernel.write(open, 0, b"our").await.unwrap();
            assert_eq!(kernel.close(open).await, Ok(()), "{what}");
            assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
            for kernel in [&kernel, &mount(&server, place).await] {
                let seen = kernel.tree(true).await.unwrap();
                assert_eq!(seen.len(), 2, "{what}: {seen:?}");
                match &seen["file"] {
                    Seen::File { content, .. } => assert!(!directory && content == "theirs", "{what}"),
                    seen => assert!(directory && matches!(seen, Seen::Directory { .. }), "{what}"),
                }
                let ours = seen
                    .values()
                    .any(|seen| matches!(seen, Seen::File { content, .. } if content == "our content"));
                assert!(ours, "{what}: {seen:?}");
            }
        }
    });
}

#[test]
fn what_is_made_here_in_place_of_what_is_open_and_was_removed_elsewhere_stays_beside_it() {
    in_every_place(async |place| {
        for made_is_saved_first in [false, true] {
            let server = place.server();
            let kernel = mount_that_asks(&server, place).await;
            kernel.save("file", b"old content").await.unwrap();
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            mount(&server, place).await.unlink("file").await.unwrap();
            let made = kernel.create("file", 0o644).await.unwrap();
            kernel.write(open, 0, b"one").await.unwrap();
            kernel.write(made, 0, b"two").await.unwrap();
            let in_turn = if made_is_saved_first { [made, open] } else { [open, made] };
            for file in in_turn {
                kernel.close(file).await.unwrap();
            }
            let seen = mount(&server, place).await.tree(true).await.unwrap();
            for wanted in ["one content", "two"] {
                let is_wanted = |seen: &Seen| matches!(seen, Seen::File { content, .. } if content == wanted);
                assert!(seen.values().any(is_wanted), "{place:?}, {made_is_saved_first}: {seen:?}");
            }
            assert_eq!(kernel.tree(true).await.unwrap(), seen, "{place:?}, {made_is_saved_first}");
        }
    });
}

#[test]
fn a_listing_from_before_a_look_up_takes_nothing_away_that_was_found() {
    in_every_vault(async |place| {
        let server = place.server();
        // What a vault's directory holds takes longer to list than to look one name up.
        mount(&server, place).await.mkdir("directory", 0o755).await.unwrap();
        let kernel = mount_that_asks(&server, place).await;
        let root = kernel.root().await.unwrap();
        kernel.go_far();
        let looking = async {
            tokio::time::sleep(ROUND_TRIP * 3 / 4).await;
            mount(&server, place).await.save("file", b"theirs").await.unwrap();
            kernel.lookup_in(root, "file").await.unwrap().inode
        };
        let (listed, found) = futures::join!(kernel.list(root), looking);
        assert_eq!(listed.unwrap().len(), 1);
        kernel.getattr(found).await.unwrap();
        assert_eq!(kernel.lookup_in(root, "file").await.unwrap().inode, found);
    });
}

#[test]
fn what_was_looked_at_while_it_was_renamed_goes_on_under_its_new_name() {
    in_every_place(async |place| {
        for after in 0..40 {
            for listed in [false, true] {
                let server = place.server();
                let kernel = mount_that_asks(&server, place).await;
                kernel.save("a", b"content").await.unwrap();
                let (root, inode) = (kernel.root().await.unwrap(), kernel.lookup("a").await.unwrap().inode);
                kernel.go_far();
                let looking = async {
                    tokio::time::sleep(Duration::from_millis(after * 20)).await;
                    // Later questions overtake those that are under way.
                    kernel.remote.set_delay(None);
                    if listed {
                        kernel.list(root).await.map(drop)
                    } else {
                        kernel.getattr(inode).await.map(drop)
                    }
                };
                let renamed = kernel.rename("a", "b", RenameMode::Replace);
                let (renamed, _) = futures::join!(renamed, looking);
                renamed.unwrap();
                let what = format!("{place:?}, {after}, {listed}");
                assert_eq!(kernel.getattr(inode).await.map(|shown| shown.links), Ok(1), "{what}");
                kernel.forget(&[]);
                assert_eq!(kernel.content("b").await.unwrap(), "content", "{what}");
                assert_eq!(kernel.tree(false).await.unwrap().len(), 1, "{what}");
            }
        }
    });
}

#[test]
fn a_rename_that_must_not_replace_leaves_alone_what_nobody_here_has_seen() {
    in_every_place(async |place| {
        for (from, to) in [("a", "b"), ("a", "a longer name"), ("a longer one", "b")] {
            for (is_directory, theirs_is_directory) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let what = format!("{place:?}, {from} to {to}, {is_directory}, {theirs_is_directory}");
                let server = place.server();
                let kernel = mount(&server, place).await;
                let make = async |kernel: &Kernel, name: &str, is_directory: bool| {
                    if is_directory {
                        kernel.mkdir(name, 0o755).await.unwrap();
                    } else {
                        kernel.save(name, name.as_bytes()).await.unwrap();
                    }
                };
                make(&kernel, from, is_directory).await;
                kernel.tree(true).await.unwrap();
                make(&mount(&server, place).await, to, theirs_is_directory).await;
                let there = mount(&server, place).await.tree(true).await.unwrap();
                let renamed = kernel.rename(from, to, RenameMode::NoReplace).await;
                assert_eq!(renamed, Err(crate::kernel::EEXIST), "{what}");
                assert_eq!(mount(&server, place).await.tree(true).await.unwrap(), there, "{what}");
                assert_eq!(kernel.tree(true).await.unwrap(), there, "{what}: it is seen now");
                // A name that is free can be had.
                kernel.rename(from, "c", RenameMode::NoReplace).await.unwrap();
                kernel.rename("c", from, RenameMode::NoReplace).await.unwrap();
            }
        }
    });
}

#[test]
fn what_is_renamed_before_it_is_saved_stays_beside_what_nobody_here_has_seen() {
    in_every_place(async |place| {
        for to in ["file", "a longer name"] {
            let server = place.server();
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            kernel.tree(true).await.unwrap();
            mount(&server, place).await.save(to, b"theirs").await.unwrap();
            let open = kernel.create("file.part", 0o644).await.unwrap();
            kernel.write(open, 0, b"ours").await.unwrap();
            kernel.rename("file.part", to, RenameMode::Replace).await.unwrap();
            kernel.close(open).await.unwrap();
            let there = mount(&server, place).await.tree(true).await.unwrap();
            assert_eq!(there.len(), 2, "{place:?}: {there:?}");
            assert!(
                matches!(&there[to], Seen::File { content, .. } if content == "theirs"),
                "{place:?}, {to}"
            );
            let is_ours = |seen: &Seen| matches!(seen, Seen::File { content, .. } if content == "ours");
            assert!(there.values().any(is_ours), "{place:?}, {to}: {there:?}");
            assert_eq!(kernel.tree(true).await.unwrap(), there, "{place:?}, {to}");
            let shown = if place.is_vault() { format!("Vault/{to}") } else { to.to_owned() };
            let is_told = kernel.drive.errors().iter().any(|error| error.message.starts_with(&shown));
            assert!(is_told, "{place:?}, {to}");
        }
    });
}

#[test]
fn what_is_opened_or_made_while_its_vault_is_locked_keeps_no_keys() {
    in_every_vault(async |place| {
        let server = place.server();
        mount(&server, place).await.save("file", b"content").await.unwrap();
        for (after, made) in (0..30).flat_map(|n| [(n * 10, false), (n * 10, true)]) {
            let what = format!("{place:?}, {after}, {made}");
            let server = server.fork();
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            kernel.tree(false).await.unwrap();
            kernel.go_far();
            let opening = async {
                if made { kernel.create("new", 0o644).await } else { kernel.open("file", READ_WRITE).await }
            };
            let locking = async {
                tokio::time::sleep(Duration::from_millis(after)).await;
                kernel.drive.lock(&place.root()).await
            };
            let (opened, locked) = futures::join!(opening, locking);
            kernel.remote.set_delay(None);
            locked.unwrap();
            if let Ok(open) = opened {
                assert_eq!(kernel.read(open, 0, 100).await, Err(crate::kernel::EIO), "{what}");
                assert_eq!(kernel.write(open, 0, b"more").await, Err(crate::kernel::EIO), "{what}");
                let flushed = kernel.flush(open).await;
                kernel.release(open).await;
                assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
                let is_there = mount(&server, place).await.lookup("new").await.is_ok();
                assert!(!made || is_there || flushed.is_err(), "{what}");
            }
            assert_eq!(kernel.drive.unsaved().files, 0, "{what}");
            assert!(!server.paths().iter().any(is_temporary), "{what}");
        }
    });
}

#[test]
fn what_is_written_while_its_vault_is_locked_is_saved_or_refused() {
    in_every_vault(async |place| {
        let server = place.server();
        mount(&server, place).await.save("file", &pattern(1, 3 * CHUNK)).await.unwrap();
        for after in (0..100).map(|n| n * 10) {
            let server = server.fork();
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            // Saving this takes a while.
            let other = kernel.create("other", 0o644).await.unwrap();
            kernel.write(other, 0, &pattern(2, 20 * CHUNK)).await.unwrap();
            kernel.go_far();
            let writing = async {
                tokio::time::sleep(Duration::from_millis(after)).await;
                // What stands beside it in its chunk is read first.
                kernel.write(open, 2 * CHUNK as u64 + 5, b"more").await
            };
            let root = place.root();
            let (written, locked) = futures::join!(writing, kernel.drive.lock(&root));
            kernel.remote.set_delay(None);
            let what = format!("{place:?}, {after}: {written:?}, {locked:?}");
            locked.unwrap();
            for open in [open, other] {
                let _ = kernel.close(open).await;
            }
            assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
            let there = mount(&server, place).await.content("file").await.unwrap();
            assert_eq!(there[2 * CHUNK + 5..].starts_with(b"more"), written.is_ok(), "{what}");
        }
    });
}

#[test]
fn what_is_removed_while_it_becomes_a_conflicting_copy_takes_nothing_of_theirs_along() {
    in_every_place(async |place| {
        let mut conflicts = 0;
        for after in 0..40 {
            let server = place.server();
            let kernel = mount(&server, place).await;
            kernel.save("file", b"old content").await.unwrap();
            let open = kernel.open("file", READ_WRITE).await.unwrap();
            kernel.write(open, 0, b"our").await.unwrap();
            server.pass(Duration::from_secs(3));
            mount(&server, place).await.save("file", b"theirs").await.unwrap();
            kernel.go_far();
            let is_conflict = || kernel.drive.errors().iter().any(|error| error.kind == "conflict");
            let removing = async {
                tokio::time::sleep(Duration::from_millis(after * 20)).await;
                let is_known = is_conflict();
                (is_known, kernel.unlink("file").await)
            };
            let (_, (is_known, removed)) = futures::join!(kernel.fsync(open), removing);
            kernel.remote.set_delay(None);
            let _ = kernel.close(open).await;
            kernel.drive.save_all().await;
            // Later, theirs is what the name stands for; earlier, nobody knows of a conflict.
            if removed.is_ok() && is_conflict() && !is_known {
                conflicts += 1;
                let there = mount(&server, place).await.tree(true).await.unwrap();
                assert_eq!(there.len(), 1, "{place:?}, {after}: {there:?}");
                assert_eq!(kernel.tree(true).await.unwrap(), there, "{place:?}, {after}");
                let Seen::File { content, .. } = &there["file"] else { panic!("{place:?}, {after}") };
                assert_eq!(content, "theirs", "{place:?}, {after}");
            }
        }
        assert!(conflicts > 0, "{place:?}");
    });
}
