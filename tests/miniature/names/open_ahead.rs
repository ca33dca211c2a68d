//! Opening files ahead, and keeping them open: what it saves, what it costs where the guess was wrong, and that it
//! never shows what is old. Over memory, where time passes only while everybody waits, so that it counts the round
//! trips.

use std::time::Duration;

use scaup::remote::{Remote as _, RemotePath};
use scaup_fakes::{Fault, MemoryRemote, MemoryServer, MessageKind};
use scaup_fuse::filesystem::RenameMode;

use crate::kernel::{Kernel, Place, READ_WRITE, in_every_place, options, pattern, round_trips};

/// Longer than files are kept open that nobody uses.
const LONG: Duration = Duration::from_secs(12);

fn name(number: usize) -> String {
    format!("file {number:03}")
}

fn content(number: usize) -> Vec<u8> {
    pattern(u8::try_from(number % 251).unwrap(), 2000 + number)
}

/// A server with `directories` that hold `files` each, seen by a mount that has just listed them, over a road of
/// [`ROUND_TRIP`].
async fn filled(place: Place, directories: &[&str], files: usize) -> (MemoryServer, Kernel) {
    let server = place.server();
    let filling = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
    for directory in directories {
        filling.mkdir(directory, 0o755).await.unwrap();
        for number in 0..files {
            filling.save(&format!("{directory}/{}", name(number)), &content(number)).await.unwrap();
        }
    }
    filling.drive.save_all().await;
    server.pass(Duration::from_secs(10));
    let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
    kernel.tree(false).await.unwrap();
    kernel.go_far();
    (server, kernel)
}

async fn read(kernel: &Kernel, directory: &str, number: usize) {
    let path = format!("{directory}/{}", name(number));
    assert!(kernel.content(&path).await.unwrap() == content(number), "{path}");
}

/// Where the files lie on the server that were made last: as many as there are.
fn on_server(server: &MemoryServer, length: usize) -> RemotePath {
    let is_it = |path: &RemotePath| server.content(path).is_ok_and(|content| content.len() == length);
    let mut found: Vec<RemotePath> = server.paths().into_iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{length} bytes");
    found.pop().unwrap()
}

/// Gives a file the content of another one of the directory, as another client does.
fn replace(server: &MemoryServer, place: Place, number: usize, by: usize) {
    let stored = |number| match place {
        Place::Plain => content(number).len(),
        Place::Gcm => content(number).len() + 68 + 28,
        Place::Ctrmac => content(number).len() + 88 + 48,
    };
    let new = server.content(&on_server(server, stored(by))).unwrap();
    let path = on_server(server, stored(number));
    server.pass(Duration::from_secs(10));
    server.set_content(&path, &new).unwrap();
}

/// Messages that open files and read them.
fn opening(kernel: &Kernel) -> usize {
    [MessageKind::Open, MessageKind::ReadFile, MessageKind::StatFile]
        .into_iter()
        .map(|kind| kernel.remote.count(kind))
        .sum()
}

#[test]
fn a_hundred_files_in_a_row_take_eight_round_trips_and_no_message_more() {
    in_every_place(async |place| {
        let (_server, kernel) = filled(place, &["a"], 100).await;
        for first in [true, false] {
            let before = opening(&kernel);
            let taken = round_trips(async {
                for number in 0..100 {
                    read(&kernel, "a", number).await;
                }
            });
            // Two for the first one, and two each time that the window has to be waited for.
            let taken = taken.await;
            assert!((4..=8).contains(&taken), "{taken} round trips, first: {first}");
            // OPEN, READ and FSTAT for each; but the first one is still open, since it was not known that others would
            // follow.
            assert_eq!(opening(&kernel) - before, if first { 300 } else { 297 });
        }
    });
}

#[test]
fn in_no_order_nothing_is_opened_ahead() {
    in_every_place(async |place| {
        let (_server, kernel) = filled(place, &["a"], 60).await;
        let before = opening(&kernel);
        // Nor are they neighbours by inode number, which are the same in each mount.
        let numbers = [59, 12, 44, 3, 31, 20];
        for number in numbers {
            read(&kernel, "a", number).await;
        }
        tokio::time::sleep(LONG).await;
        assert_eq!(opening(&kernel) - before, 3 * numbers.len());
    });
}

#[test]
fn what_nobody_opens_is_closed_soon() {
    in_every_place(async |place| {
        let (server, kernel) = filled(place, &["a"], 100).await;
        let before = kernel.remote.count(MessageKind::Open);
        for number in 0..10 {
            read(&kernel, "a", number).await;
        }
        let opened = kernel.remote.count(MessageKind::Open) - before;
        assert!((11..=10 + 64).contains(&opened), "{opened}");
        tokio::time::sleep(LONG).await;
        // The memory server keeps what was removed while it is open.
        let used = server.used();
        let other = MemoryRemote::connect(&server);
        let mut removed = 0;
        for path in server.paths() {
            if let Ok(content) = server.content(&path)
                && content.len() >= 2000
            {
                removed += content.len() as u64;
                other.remove(&path).await.unwrap();
            }
        }
        assert_eq!(used - server.used(), removed, "something is still open");
    });
}

#[test]
fn little_memory_is_enough() {
    in_every_place(async |place| {
        const LENGTH: usize = 100_000;
        let (_server, kernel) = filled(place, &["a"], 0).await;
        for number in 0..40 {
            kernel.save(&format!("a/{}", name(number)), &pattern(1, LENGTH)).await.unwrap();
        }
        kernel.drive.save_all().await;
        let before = kernel.remote.counters().bytes_received;
        for number in 0..4 {
            kernel.content(&format!("a/{}", name(number))).await.unwrap();
        }
        tokio::time::sleep(LONG).await;
        let ahead = (kernel.remote.counters().bytes_received - before).saturating_sub(4 * LENGTH as u64);
        // 8 MiB of memory have half a MiB for this, and of what comes in it two were used.
        assert!((2 * LENGTH as u64..=512 * 1024).contains(&ahead), "{ahead} bytes");
    });
}

#[test]
fn a_walk_through_a_tree_goes_on_from_directory_to_directory() {
    in_every_place(async |place| {
        let directories: Vec<String> = (0..20).map(|number| format!("directory {number:02}")).collect();
        let directories: Vec<&str> = directories.iter().map(String::as_str).collect();
        let (_server, kernel) = filled(place, &directories, 4).await;
        let taken = round_trips(async {
            for directory in &directories {
                for number in 0..4 {
                    read(&kernel, directory, number).await;
                }
            }
        })
        .await;
        assert!(taken <= 16, "{place:?}: {taken} round trips for 80 files in 20 directories");
    });
}

#[test]
fn what_this_mount_changes_is_read_at_once() {
    in_every_place(async |place| {
        let (_server, kernel) = filled(place, &["a"], 40).await;
        for number in 0..10 {
            read(&kernel, "a", number).await;
        }
        let path = |number| format!("a/{}", name(number));
        kernel.save(&path(11), b"written").await.unwrap();
        kernel.rename(&path(30), &path(12), RenameMode::Replace).await.unwrap();
        kernel.truncate(&path(13), 5).await.unwrap();
        kernel.utimens(&path(14), 1_000_000_000).await.unwrap();
        kernel.unlink(&path(15)).await.unwrap();
        kernel.save(&path(15), b"made anew").await.unwrap();
        read(&kernel, "a", 10).await;
        assert_eq!(kernel.content(&path(11)).await.unwrap(), "written");
        assert!(kernel.content(&path(12)).await.unwrap() == content(30));
        assert!(kernel.content(&path(13)).await.unwrap() == content(13)[..5]);
        read(&kernel, "a", 14).await;
        let open = kernel.open(&path(14), READ_WRITE).await.unwrap();
        kernel.write(open, 0, b"x").await.unwrap();
        kernel.close(open).await.unwrap();
        assert_eq!(kernel.drive.errors(), []);
        assert_eq!(kernel.content(&path(15)).await.unwrap(), "made anew");
    });
}

#[test]
fn what_others_change_is_read_within_a_second_and_at_once_where_they_are_at_work() {
    in_every_place(async |place| {
        let (server, kernel) = filled(place, &["a"], 40).await;
        for number in 0..10 {
            read(&kernel, "a", number).await;
        }
        replace(&server, place, 12, 39);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let changed = kernel.content(&format!("a/{}", name(12))).await.unwrap();
        assert!(changed == content(39));
        // What does not look as it was listed shows that somebody is at work.
        for number in 14..24 {
            replace(&server, place, number, 52 - number);
            let changed = kernel.content(&format!("a/{}", name(number))).await.unwrap();
            assert!(changed == content(52 - number), "{number}");
        }
    });
}

#[test]
fn what_a_program_just_had_is_not_opened_ahead_for_it_again() {
    in_every_place(async |place| {
        let (server, kernel) = filled(place, &["a"], 40).await;
        for number in [9, 10, 11, 4, 5, 6, 7] {
            read(&kernel, "a", number).await;
        }
        replace(&server, place, 9, 30);
        assert!(kernel.content(&format!("a/{}", name(9))).await.unwrap() == content(30));
    });
}

#[test]
fn a_file_that_is_opened_again_takes_one_look_and_shows_what_others_made_of_it() {
    in_every_place(async |place| {
        let (server, kernel) = filled(place, &["a"], 20).await;
        kernel.lookup("a").await.unwrap();
        assert_eq!(round_trips(read(&kernel, "a", 3)).await, 2);
        assert_eq!(round_trips(read(&kernel, "a", 3)).await, 1);
        replace(&server, place, 3, 10);
        let path = format!("a/{}", name(3));
        assert!(kernel.content(&path).await.unwrap() == content(10));
        kernel.save(&path, b"ours").await.unwrap();
        assert_eq!(kernel.content(&path).await.unwrap(), "ours");
        assert_eq!(kernel.drive.errors(), []);
    });
}

#[test]
fn what_failed_ahead_is_opened_when_somebody_asks() {
    in_every_place(async |place| {
        let (_server, kernel) = filled(place, &["directory"], 20).await;
        for number in 0..4 {
            read(&kernel, "directory", number).await;
        }
        // Those that were opened ahead break off with whatever is asked next.
        kernel.remote.fault_at(0, Fault::Cut { applied: false });
        assert!(kernel.chmod("directory", 0o700).await.is_err());
        kernel.remote.clear_faults();
        kernel.remote.reconnect();
        for number in 4..20 {
            read(&kernel, "directory", number).await;
        }
    });
}
