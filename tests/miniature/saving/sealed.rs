//! A vault that is locked while not all of it is saved: the keys go at once, whatever the server does, and what was
//! unsaved is on the server later, byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use scaup::drive::DriveOptions;
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer};
use scaup_fuse::filesystem::{Inode, RenameMode};
use scaup_rig::dice::Dice;

use crate::kernel::{
    CHUNK, EIO, Kernel, Place, READ_WRITE, findings, in_every_vault, is_temporary, options, pattern, runtime,
};

/// A name that is shortened.
const LONG: &str = "a name that is shortened.txt";

/// Longest time that locking may take.
const AT_ONCE: Duration = Duration::from_secs(8);

/// A silent server replies after that time: each request waits for as long as a connection allows.
const SILENCE: Duration = Duration::from_secs(100);

/// How long names are believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// How the server fails while the vault is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Road {
    Cut,
    Silent,
    Full,
}

const ROADS: [Road; 3] = [Road::Cut, Road::Silent, Road::Full];

impl Road {
    fn worsen(self, kernel: &Kernel) {
        let delay = Delay { least: SILENCE, most: SILENCE, seed: 0 };
        match self {
            Self::Cut => kernel.remote.fault_at(0, Fault::Cut { applied: false }),
            Self::Silent => kernel.remote.set_delay(Some(delay)),
            Self::Full => kernel.remote.server().set_room(kernel.remote.server().used()),
        }
    }

    fn mend(kernel: &Kernel) {
        kernel.remote.clear_faults();
        kernel.remote.reconnect();
        kernel.remote.set_delay(None);
        kernel.remote.server().set_room(u64::MAX);
    }
}

async fn mounted(server: &MemoryServer, place: Place) -> Kernel {
    let options = DriveOptions { attr_timeout: BELIEVED, ..options() };
    Kernel::mount(MemoryRemote::connect(server), place, options).await
}

/// Locks the vault, and holds that this takes no time to speak of.
async fn lock(kernel: &Kernel, place: Place, what: &str) {
    let root = place.root();
    let locking = kernel.drive.lock(&root);
    tokio::time::timeout(AT_ONCE, locking).await.unwrap_or_else(|_| panic!("{what}: locking waits")).unwrap();
}

/// Waits until everything is on the server.
async fn wait_until_saved(kernel: &Kernel, what: &str) {
    for _ in 0..300 {
        if kernel.drive.unsaved().files == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{what}: {:?} {:?}", kernel.drive.unsaved(), kernel.drive.errors());
}

#[test]
fn what_is_unsaved_when_a_vault_is_locked_is_on_the_server_later() {
    in_every_vault(async |place| {
        for road in ROADS {
            let what = format!("{place:?}, {road:?}");
            let server = place.server();
            let old = pattern(1, 5 * CHUNK + 77);
            let kernel = mounted(&server, place).await;
            for name in ["in place", "replaced", LONG] {
                kernel.save(name, &old).await.unwrap();
            }
            kernel.drive.save_all().await;
            let changed = kernel.open("in place", READ_WRITE).await.unwrap();
            let replaced = kernel.open("replaced", READ_WRITE).await.unwrap();
            let long = kernel.open(LONG, READ_WRITE).await.unwrap();
            kernel.truncate_open(replaced, 0).await.unwrap();
            let fresh = kernel.create("fresh", 0o644).await.unwrap();
            road.worsen(&kernel);
            let new = pattern(2, 3 * CHUNK + 5);
            // A server that is cut or silent is not needed for what stays in memory.
            let mut expected = BTreeMap::from([("in place", old.clone()), (LONG, old.clone())]);
            kernel.write(changed, 2 * CHUNK as u64 + 9, b"changed inside").await.unwrap();
            expected.get_mut("in place").unwrap()[2 * CHUNK + 9..][..14].copy_from_slice(b"changed inside");
            kernel.write(long, 0, &new).await.unwrap();
            expected.get_mut(LONG).unwrap()[..new.len()].copy_from_slice(&new);
            kernel.write(replaced, 0, &new).await.unwrap();
            kernel.write(fresh, 0, b"fresh content").await.unwrap();
            expected.insert("replaced", new.clone());
            expected.insert("fresh", b"fresh content".to_vec());

            lock(&kernel, place, &what).await;
            for open in [changed, replaced, long, fresh] {
                assert_eq!(kernel.read(open, 0, 10).await, Err(EIO), "{what}");
                assert_eq!(kernel.write(open, 0, b"more").await, Err(EIO), "{what}");
                assert!(kernel.truncate_open(open, 3).await.is_err(), "{what}");
            }
            assert!(kernel.drive.unsaved().files > 0, "{what}: there is nothing to be sealed");
            assert!(
                kernel.drive.errors().iter().all(|error| !error.message.contains("fresh")),
                "{what}: {:?}",
                kernel.drive.errors()
            );

            Road::mend(&kernel);
            wait_until_saved(&kernel, &what).await;
            let other = mounted(&server, place).await;
            for (name, content) in expected {
                assert!(other.content(name).await.unwrap() == content, "{what}: {name}");
            }
            kernel.unlock().await;
            assert_eq!(kernel.content("fresh").await.unwrap(), "fresh content", "{what}");
            assert!(findings(&server, place).await.is_empty(), "{what}");
            assert!(!server.paths().iter().any(is_temporary), "{what}");
        }
    });
}

#[test]
fn what_somebody_else_saved_while_a_vault_was_locked_is_kept_beside_what_was_unsaved() {
    in_every_vault(async |place| {
        for name in ["file", LONG] {
            for staged in [false, true] {
                let what = format!("{place:?}, {name}, {staged}");
                let server = place.server();
                let kernel = mounted(&server, place).await;
                let old = pattern(1, 2 * CHUNK + 77);
                kernel.save(name, &old).await.unwrap();
                kernel.drive.save_all().await;
                let open = kernel.open(name, READ_WRITE).await.unwrap();
                if staged {
                    kernel.truncate_open(open, 0).await.unwrap();
                }
                Road::Cut.worsen(&kernel);
                kernel.write(open, 0, b"ours").await.unwrap();
                lock(&kernel, place, &what).await;
                server.pass(Duration::from_secs(10));
                let other = mounted(&server, place).await;
                other.save(name, b"theirs").await.unwrap();
                other.drive.save_all().await;
                Road::mend(&kernel);
                wait_until_saved(&kernel, &what).await;

                let after = mounted(&server, place).await;
                assert_eq!(after.content(name).await.unwrap(), "theirs", "{what}");
                let root = after.root().await.unwrap();
                let names = after.list(root).await.unwrap();
                let copy = names.iter().map(|(name, _)| name).find(|name| name.contains("conflicted copy"));
                let copy = after.content(copy.unwrap()).await.unwrap();
                let expected = if staged { b"ours".to_vec() } else { [b"ours", &old[4..]].concat() };
                assert!(copy == expected, "{what}");
                assert!(kernel.drive.errors().iter().any(|error| error.kind == "conflict"), "{what}");
                assert!(findings(&server, place).await.is_empty(), "{what}");
            }
        }
    });
}

#[test]
fn half_of_what_a_program_was_writing_does_not_replace_what_was_there() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mounted(&server, place).await;
        let old = pattern(1, 60 * CHUNK);
        kernel.save("file", &old).await.unwrap();
        kernel.drive.save_all().await;
        let open = kernel.open("file", READ_WRITE).await.unwrap();
        kernel.truncate_open(open, 0).await.unwrap();
        kernel.write(open, 0, &pattern(2, 20 * CHUNK)).await.unwrap();
        Road::Cut.worsen(&kernel);
        lock(&kernel, place, "half").await;
        Road::mend(&kernel);
        wait_until_saved(&kernel, "half").await;
        let after = mounted(&server, place).await;
        assert!(after.content("file").await.unwrap() == old, "{place:?}");
        let root = after.root().await.unwrap();
        assert_eq!(after.list(root).await.unwrap().len(), 2, "{place:?}: the half is kept, too");
    });
}

#[test]
fn requests_that_wait_for_a_silent_server_end_when_a_vault_is_locked() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mounted(&server, place).await;
        kernel.save("file", &pattern(1, 40 * CHUNK)).await.unwrap();
        kernel.drive.save_all().await;
        let reader = mounted(&server, place).await;
        let open = reader.open("file", READ_WRITE).await.unwrap();
        Road::Silent.worsen(&reader);
        let began = tokio::time::Instant::now();
        let inside = async { (reader.read(open, 20 * CHUNK as u64, 10).await, began.elapsed()) };
        let beside = async { (reader.lookup_in(Inode::ROOT, "plain").await, began.elapsed()) };
        let ((read, read_took), (looked, looked_took), ()) =
            futures::join!(inside, beside, lock(&reader, place, "silent"));
        assert!(read.is_err() && looked.is_err(), "{place:?}: {read:?}, {looked:?}");
        assert!(read_took.max(looked_took) < SILENCE / 2, "{place:?}: {read_took:?}, {looked_took:?}");
    });
}

#[test]
fn where_the_directory_is_removed_meanwhile_status_says_what_can_not_be_sent() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = mounted(&server, place).await;
        kernel.mkdir("dir", 0o755).await.unwrap();
        kernel.save("dir/file", b"old").await.unwrap();
        kernel.drive.save_all().await;
        let open = kernel.create("dir/new", 0o644).await.unwrap();
        kernel.write(open, 0, b"new").await.unwrap();
        Road::Cut.worsen(&kernel);
        lock(&kernel, place, "removed").await;
        let other = mounted(&server, place).await;
        other.unlink("dir/file").await.unwrap();
        other.rmdir("dir").await.unwrap();
        other.drive.save_all().await;
        Road::mend(&kernel);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(kernel.drive.unsaved().files, 1, "{place:?}: it is not given up");
        let told = kernel.drive.errors();
        assert!(told.iter().any(|error| error.kind == "unsaved"), "{place:?}: {told:?}");
    });
}

/// How many games a run plays; a seed of its own by SEALED_SEED.
fn games() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    (number("SEALED_SEED").unwrap_or(1), number("SEALED_GAMES").unwrap_or(60))
}

/// Random work in a vault, which is locked at a random moment of it on a road that is fine, cut, silent or full; then
/// the road is mended, and a mount that knows nothing of all this shows for each file what was written last, or what a
/// program was told is not there.
#[test]
fn whenever_a_vault_is_locked_nothing_that_was_written_is_lost() {
    let (first, games) = games();
    for seed in first..first + games {
        runtime().block_on(game(seed));
    }
}

const NAMES: [&str; 4] = ["one", "two", LONG, "another name that is shortened"];

async fn game(seed: u64) {
    let mut dice = Dice::new(seed);
    let place = if dice.below(2) == 0 { Place::Gcm } else { Place::Ctrmac };
    let what = format!("seed {seed}");
    let server = place.server();
    let kernel = mounted(&server, place).await;
    let mut written: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for _round in 0..3 {
        let mut open = BTreeMap::new();
        let bad_from = dice.below(12);
        let road = ROADS[dice.below(3)];
        for step in 0..12 {
            if step == bad_from {
                road.worsen(&kernel);
            }
            let name = NAMES[dice.below(NAMES.len())];
            match dice.below(6) {
                0 => {
                    // What is refused changes nothing; what got no reply may have.
                    if step < bad_from {
                        let content = pattern(dice.below(200) as u8, dice.below(4 * CHUNK));
                        if !open.contains_key(name) && kernel.save(name, &content).await.is_ok() {
                            written.insert(name, content);
                        }
                    }
                }
                1 if step < bad_from => {
                    if let Some(opened) = open.remove(name) {
                        let _ = kernel.close(opened).await;
                    }
                }
                2 if step < bad_from => {
                    let to = NAMES[dice.below(NAMES.len())];
                    if to != name
                        && !open.contains_key(to)
                        && !open.contains_key(name)
                        && written.contains_key(name)
                    {
                        kernel.rename(name, to, RenameMode::Replace).await.unwrap();
                        let content = written.remove(name).unwrap();
                        written.insert(to, content);
                    }
                }
                3 if step < bad_from => {
                    tokio::time::sleep(Duration::from_millis(dice.below(8000) as u64)).await;
                }
                _ => {
                    if step < bad_from && !open.contains_key(name) {
                        let opened = if written.contains_key(name) {
                            kernel.open(name, READ_WRITE).await.unwrap()
                        } else {
                            written.insert(name, Vec::new());
                            kernel.create(name, 0o644).await.unwrap()
                        };
                        open.insert(name, opened);
                    }
                    let Some(&opened) = open.get(name) else { continue };
                    let content = written.get_mut(name).unwrap();
                    let at = dice.below(content.len() + 1);
                    let data = pattern(dice.below(200) as u8, 1 + dice.below(3 * CHUNK / 2));
                    let writing = kernel.write(opened, at as u64, &data);
                    // What waits for the server is given up, as by a program that is ended.
                    match tokio::time::timeout(Duration::from_millis(50), writing).await {
                        Ok(Ok(())) => {
                            content.resize(content.len().max(at + data.len()), 0);
                            content[at..at + data.len()].copy_from_slice(&data);
                        }
                        Ok(Err(_)) | Err(_) => {
                            written.remove(name);
                            open.remove(name);
                        }
                    }
                }
            }
        }
        lock(&kernel, place, &what).await;
        for opened in open.into_values() {
            assert_eq!(kernel.read(opened, 0, 1).await, Err(EIO), "{what}");
            kernel.release(opened).await;
        }
        if dice.below(2) == 0 {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        Road::mend(&kernel);
        if dice.below(2) == 0 {
            wait_until_saved(&kernel, &what).await;
        }
        kernel.unlock().await;
        wait_until_saved(&kernel, &what).await;
        // Names may have been listed before that.
        tokio::time::sleep(BELIEVED).await;
        let other = mounted(&server, place).await;
        for (name, content) in &written {
            for mount in [&kernel, &other] {
                let there = mount.content(name).await;
                let is_right = there.as_ref().is_ok_and(|there| there == content);
                assert!(
                    is_right,
                    "{what}: {name}: {:?} of {}",
                    there.map(|there| there.len()),
                    content.len()
                );
            }
        }
        // What a program was not told of may be there or not.
        for name in NAMES {
            if !written.contains_key(name) && kernel.lookup(name).await.is_ok() {
                kernel.unlink(name).await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    kernel.drive.save_all().await;
    let found = findings(&server, place).await;
    assert!(found.is_empty(), "{what}: {found:#?}");
}
