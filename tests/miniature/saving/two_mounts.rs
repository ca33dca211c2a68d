//! Two machines at once: random programs on two mounts of one server, whose messages overlap. Nothing that `fsync`
//! returned for is lost or out of reach, both mounts end with everything saved, and no directory hangs on nothing.
//!
//! `TWO_MOUNTS_SEED` and `TWO_MOUNTS_STEPS` ask for other games, or longer ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use scaup::drive::DriveOptions;
use scaup::remote::{Remote as _, RemotePath, RemoteSetAttributes};
use scaup_fakes::{Delay, MemoryRemote, MemoryServer};
use scaup_fuse::Filesystem as _;
use scaup_fuse::filesystem::{FileKind, RenameMode};

use crate::kernel::{
    CHUNK, ENOENT, Kernel, Place, READ_WRITE, Seen, findings, in_every_place, in_every_vault, mount, options,
    pattern, runtime,
};
use scaup_rig::dice::{Dice, from_environment};

/// How long names and attributes are believed.
const BELIEVED: Duration = Duration::from_millis(500);

async fn two(server: &MemoryServer, place: Place, seed: u64) -> [Kernel; 2] {
    let options = || DriveOptions { attr_timeout: BELIEVED, sync_on_close: true, ..options() };
    let two = [
        Kernel::mount(MemoryRemote::connect(server), place, options()).await,
        Kernel::mount(MemoryRemote::connect(server), place, options()).await,
    ];
    for (kernel, seed) in two.iter().zip([seed, seed + 1000]) {
        let (least, most) = (Duration::from_millis(5), Duration::from_millis(60));
        kernel.remote.set_delay(Some(Delay { least, most, seed }));
    }
    two
}

/// All files that a mount sees which comes fresh to the server, by their content.
async fn reachable(server: &MemoryServer, place: Place) -> BTreeMap<Vec<u8>, String> {
    let seen = mount(&server.fork(), place).await.tree(true).await.unwrap();
    let files = seen.into_iter().filter_map(|(path, seen)| match seen {
        Seen::File { content, .. } => Some((content.to_vec(), path)),
        _ => None,
    });
    files.collect()
}

/// The ids of all directories of a vault that have a name.
fn ids(server: &MemoryServer) -> BTreeSet<Vec<u8>> {
    let named = server.paths().into_iter().filter(|path| path.as_bytes().ends_with(b"/dir.c9r"));
    named.map(|path| server.content(&path).unwrap()).collect()
}

async fn check(server: &MemoryServer, two: &[Kernel; 2], place: Place, kept: &[Vec<u8>], what: &str) {
    for kernel in two {
        let unsaved = kernel.drive.save_all().await;
        assert!(unsaved.is_none(), "{place:?}: {what}: {unsaved:?}");
    }
    let seen = reachable(server, place).await;
    let lost: Vec<_> = kept.iter().filter(|content| !seen.contains_key(*content)).collect();
    let named = lost.iter().map(|content| String::from_utf8_lossy(&content[..content.len().min(10)]));
    let named: Vec<_> = named.collect();
    assert!(
        lost.is_empty(),
        "{place:?}: {what}: lost {named:?} of {}; there is {:?}",
        kept.len(),
        seen.values()
    );
    if place.is_vault() {
        let found = findings(server, place).await;
        assert!(found.is_empty(), "{place:?}: {what}: {found:#?}");
    }
}

async fn prepare(kernel: &Kernel, directories: &[&str]) {
    for directory in directories {
        kernel.mkdir(directory, 0o755).await.unwrap();
        kernel
            .save(&format!("{directory}/file"), &pattern(directory.len() as u8, CHUNK + directory.len()))
            .await
            .unwrap();
    }
}

/// What one of the two does, and what the other does at the same time.
type Deed = (&'static str, &'static str);

/// Moves, removals and replacements that get into each other's way.
const PAIRS: [(Deed, Deed); 7] = [
    (("move", "x y/x"), ("move", "y x/y")),
    (("move", "x y/x"), ("move", "y x/sub/y")),
    (("move", "x y/a long name that is shortened"), ("move", "y x/another long name that is shortened")),
    (("remove", "empty"), ("save", "empty/new")),
    (("remove", "empty"), ("move", "x empty/x")),
    (("move", "x empty"), ("save", "empty/new")),
    (("remove", "empty"), ("move", "empty y/empty")),
];

async fn act(kernel: &Kernel, (deed, about): Deed) -> crate::kernel::Result<Option<Vec<u8>>> {
    match (deed, about.split_once(' ')) {
        ("move", Some((from, to))) => kernel.rename(from, to, RenameMode::Replace).await.map(|()| None),
        ("remove", None) => kernel.rmdir(about).await.map(|()| None),
        ("save", None) => kernel.save(about, b"new").await.map(|()| Some(b"new".to_vec())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn moves_and_removals_that_meet_leave_everything_within_reach() {
    in_every_place(async |place| {
        for (pair, later, seed) in PAIRS
            .into_iter()
            .flat_map(|pair| (0..8).flat_map(move |later| (0..2).map(move |seed| (pair, later * 25, seed))))
        {
            let server = place.server();
            let before = mount(&server, place).await;
            prepare(&before, &["x", "y", "x/sub"]).await;
            before.mkdir("empty", 0o755).await.unwrap();
            let mut kept: Vec<Vec<u8>> = reachable(&server, place).await.into_keys().collect();
            let two = two(&server, place, seed).await;
            for kernel in &two {
                kernel.tree(false).await.unwrap();
            }
            let after = async {
                tokio::time::sleep(Duration::from_millis(later)).await;
                act(&two[1], pair.1).await
            };
            let (one, other) = futures::join!(act(&two[0], pair.0), after);
            let what = format!("{pair:?}, {later} ms later, {seed}: {one:?}, {other:?}");
            let are_moves = pair.0.0 == "move" && pair.1.0 == "move";
            for failed in [&one, &other].into_iter().filter_map(|done| done.as_ref().err()) {
                assert!(!place.is_vault() || !are_moves || *failed == ENOENT, "{place:?}: {what}");
            }
            kept.extend(one.into_iter().chain(other).flatten());
            check(&server, &two, place, &kept, &what).await;
        }
    });
}

#[test]
fn a_directory_that_is_reached_by_two_ways_keeps_its_only_name() {
    in_every_vault(async |place| {
        for name in ["c", "a long name that is shortened"] {
            let server = place.server();
            let before = mount(&server, place).await;
            prepare(&before, &["p", &format!("p/{name}")]).await;
            let [one, other] = two(&server, place, 1).await;
            let old = one.lookup("p").await.unwrap().inode;
            one.lookup(&format!("p/{name}")).await.unwrap();
            other.rename("p", "q", RenameMode::Replace).await.unwrap();
            tokio::time::sleep(2 * BELIEVED).await;
            // A program may still stand in the directory as it found it under the old name.
            let new = one.lookup("q").await.unwrap().inode;
            assert_ne!(old, new);
            let renamed = one.drive.rename(old, name.as_ref(), new, name.as_ref(), RenameMode::Replace).await;
            let seen = reachable(&server, place).await;
            assert_eq!(seen.len(), 2, "{place:?}: {:?}, {:?}", renamed.err(), seen.values());
        }
    });
}

/// The name of a directory, without its content, which does not come any more.
async fn make_broken(server: &MemoryServer, place: Place, name: &str, id: &[u8]) {
    mount(server, place).await.mkdir(name, 0o755).await.unwrap();
    let before = server.paths();
    mount(server, place).await.rmdir(name).await.unwrap();
    // The rest is removed in the background.
    tokio::time::sleep(BELIEVED).await;
    // Its name comes back, and its content does not.
    let after = server.paths();
    let is_its = |path: &&RemotePath| path.as_bytes().ends_with(b"/dir.c9r") && !after.contains(path);
    let named = before.iter().find(is_its).unwrap();
    let remote = MemoryRemote::connect(server);
    remote.mkdir(&named.split().unwrap().0, 0o755).await.unwrap();
    server.set_content(named, id).unwrap();
    let times = Some((SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH));
    for path in [named, &named.split().unwrap().0] {
        let set = RemoteSetAttributes { times, ..RemoteSetAttributes::default() };
        remote.set_attributes(path, set).await.unwrap();
    }
}

#[test]
fn a_directory_that_has_the_name_of_a_broken_one_by_now_is_not_moved_into_itself() {
    in_every_vault(async |place| {
        let server = place.server();
        prepare(&mount(&server, place).await, &["kept", "kept/sub"]).await;
        let kept: Vec<Vec<u8>> = reachable(&server, place).await.into_keys().collect();
        make_broken(&server, place, "broken", b"an id that nothing lies under").await;
        let two = two(&server, place, 1).await;
        two[0].lookup("broken").await.unwrap();
        two[0].lookup("kept/sub").await.unwrap();
        let third = mount(&server, place).await;
        third.rmdir("broken").await.unwrap();
        third.rename("kept", "broken", RenameMode::Replace).await.unwrap();
        let moved = two[0].rename("broken", "kept/sub/broken", RenameMode::Replace).await;
        check(&server, &two, place, &kept, &format!("{moved:?}")).await;
    });
}

#[test]
fn a_directory_that_takes_the_name_of_a_broken_one_while_that_is_removed_stays() {
    in_every_vault(async |place| {
        for later in 0..40 {
            let server = place.server();
            prepare(&mount(&server, place).await, &["kept"]).await;
            make_broken(&server, place, "broken", b"an id that nothing lies under").await;
            let (one, other) = (mount(&server, place).await, mount(&server, place).await);
            one.lookup("broken").await.unwrap();
            other.lookup("kept").await.unwrap();
            one.remote.set_delay(Some(Delay { least: 2 * BELIEVED, most: 2 * BELIEVED, seed: 0 }));
            let takes = async {
                tokio::time::sleep(BELIEVED / 4 * later).await;
                other.rename("kept", "broken", RenameMode::Replace).await
            };
            let (removed, taken) = futures::join!(one.rmdir("broken"), takes);
            let seen = reachable(&server, place).await;
            assert_eq!(seen.len(), 1, "{place:?}, {later}: {removed:?}, {taken:?}, {:?}", server.paths());
        }
    });
}

const DIRECTORIES: [&str; 5] = ["a", "b", "c", "a long name that is shortened", "d"];

fn below(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// The directories that a mount shows, the place itself among them. What goes meanwhile is left out.
async fn directories(kernel: &Kernel) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        let Ok(directory) = kernel.lookup(&path).await else { continue };
        for (name, attributes) in kernel.list(directory.inode).await.unwrap_or_default() {
            if attributes.kind == FileKind::Directory {
                found.push(below(&path, &name));
            }
        }
    }
    found.sort();
    found
}

const LOOKS_AROUND_EVERY: u64 = 5;

/// A program on one of the mounts: returns what it saved for certain.
async fn program(kernel: &Kernel, mut dice: Dice, number: u8, steps: u64) -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    let mut there = Vec::new();
    for step in 0..steps {
        // A program that knows its way does not look around before each step, and meets more of what the other one did.
        if step % LOOKS_AROUND_EVERY == 0 {
            there = directories(kernel).await;
        }
        let (one, other) = (dice.pick(&there), dice.pick(&there));
        let name = dice.pick(&DIRECTORIES);
        // What fails has met what the other one did.
        match dice.below(10) {
            0 | 1 => {
                let _ = kernel.mkdir(&below(&one, name), 0o755).await;
            }
            2..7 if !one.is_empty() => {
                let _ = kernel.rename(&one, &below(&other, name), RenameMode::Replace).await;
            }
            7 if !one.is_empty() => {
                let _ = kernel.rmdir(&one).await;
            }
            _ => {
                let content = format!("{number}-{step}").into_bytes();
                let Ok(open) = kernel.create(&below(&one, &format!("{number}-{step}")), 0o644).await else {
                    continue;
                };
                let written = kernel.write(open, 0, &content).await;
                let synced = kernel.fsync(open).await;
                let _ = kernel.close(open).await;
                if written.is_ok() && synced.is_ok() {
                    kept.push(content);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.below(60) as u64)).await;
    }
    kept
}

#[test]
fn random_programs_on_two_mounts_lose_nothing_that_was_synced() {
    let steps = from_environment("TWO_MOUNTS_STEPS", 600);
    let seed = from_environment("TWO_MOUNTS_SEED", 1);
    in_every_vault(async |place| {
        for game in 0..steps.div_ceil(100) {
            let server = place.server();
            let two = two(&server, place, seed + game).await;
            let dice = |number| Dice::new((seed + game) * 2 + number);
            let (one, other) = futures::join!(
                program(&two[0], dice(0), 0, steps.min(100)),
                program(&two[1], dice(1), 1, steps.min(100))
            );
            let kept = [one, other].concat();
            assert!(kept.len() > 20, "a dull game: {}", kept.len());
            check(&server, &two, place, &kept, &format!("TWO_MOUNTS_SEED={}", seed + game)).await;
        }
    });
}

#[test]
fn what_was_open_while_its_directory_was_moved_elsewhere_is_saved_there() {
    in_every_vault(async |place| {
        let server = place.server();
        let before = mount(&server, place).await;
        prepare(&before, &["x", "y"]).await;
        let two = two(&server, place, 1).await;
        let open = two[0].open("x/file", READ_WRITE).await.unwrap();
        two[0].write(open, 0, b"changed").await.unwrap();
        two[1].rename("x", "y/x", RenameMode::Replace).await.unwrap();
        two[0].close(open).await.unwrap();
        let content = mount(&server.fork(), place).await.content("y/x/file").await.unwrap();
        assert!(content.starts_with(b"changed"), "{place:?}");
    });
}

#[test]
fn what_is_made_in_a_directory_while_that_is_seen_to_be_elsewhere_is_saved_there() {
    in_every_place(async |place| {
        for name in ["d", "a long name that is shortened"] {
            for later in (0..120).step_by(3) {
                let server = place.server();
                let before = mount(&server, place).await;
                prepare(&before, &["x", name]).await;
                let mut kept: Vec<Vec<u8>> = reachable(&server, place).await.into_keys().collect();
                let two = two(&server, place, 1).await;
                let directory = two[0].lookup(name).await.unwrap().inode;
                two[1].rename(name, "x/elsewhere", RenameMode::Replace).await.unwrap();
                tokio::time::sleep(2 * BELIEVED).await;
                // A program may stand in the directory that another one no longer finds.
                let looks = async { two[0].lookup(name).await.map(drop) };
                let makes = async {
                    tokio::time::sleep(Duration::from_millis(later)).await;
                    let open = two[0].create_at(directory, "new".as_ref(), 0o644).await?;
                    two[0].write(open, 0, b"new").await?;
                    two[0].close(open).await
                };
                let (looked, made) = futures::join!(looks, makes);
                let what = format!("{name}, {later} ms later: {looked:?}, {made:?}");
                kept.extend(made.is_ok().then(|| b"new".to_vec()));
                check(&server, &two, place, &kept, &what).await;
            }
        }
    });
}

#[test]
fn what_was_open_while_its_directory_was_moved_elsewhere_is_saved_under_its_old_path_in_plain_places() {
    runtime().block_on(async {
        let place = Place::Plain;
        let server = place.server();
        prepare(&mount(&server, place).await, &["x", "y"]).await;
        let two = two(&server, place, 1).await;
        let open = two[0].open("x/file", READ_WRITE).await.unwrap();
        let mut wanted = two[0].read_all(open).await.unwrap().to_vec();
        two[1].rename("x", "y/x", RenameMode::Replace).await.unwrap();
        two[0].write(open, 0, b"changed").await.unwrap();
        let synced = two[0].fsync(open).await;
        two[0].close(open).await.unwrap();
        wanted[..7].copy_from_slice(b"changed");
        let seen = reachable(&server, place).await;
        assert_eq!(
            (synced, seen.get(&wanted).map(String::as_str)),
            (Ok(()), Some("x/file")),
            "{:?}",
            seen.values()
        );
        assert!(two[0].drive.errors().iter().any(|error| error.kind == "made_again"));
    });
}

#[test]
fn what_is_unsaved_in_a_directory_that_somebody_removes_is_there_again_with_the_way_to_it() {
    in_every_place(async |place| {
        for (path, looks) in ["d/sub/file", "a long directory name that is shortened/sub/file"]
            .into_iter()
            .flat_map(|path| [(path, false), (path, true)])
        {
            let server = place.server();
            let before = mount(&server, place).await;
            let top = path.split('/').next().unwrap();
            before.mkdir(top, 0o755).await.unwrap();
            before.mkdir(&format!("{top}/sub"), 0o755).await.unwrap();
            before.save(path, &pattern(1, 3 * CHUNK)).await.unwrap();
            let ids = ids(&server);
            assert_eq!(ids.len(), if place.is_vault() { 2 } else { 0 }, "{place:?}");
            let two = two(&server, place, 1).await;
            let open = two[0].open(path, READ_WRITE).await.unwrap();
            two[1].unlink(path).await.unwrap();
            two[1].rmdir(&format!("{top}/sub")).await.unwrap();
            two[1].rmdir(top).await.unwrap();
            tokio::time::sleep(2 * BELIEVED).await;
            tokio::time::sleep(2 * BELIEVED).await;
            if looks {
                // It is seen to be gone before anything is saved.
                assert!(two[0].lookup(top).await.is_err(), "{place:?}");
            }
            let written = two[0].write(open, 10, b"changed").await;
            let synced = two[0].fsync(open).await;
            let what = format!("{place:?}: {path}, {looks}: {written:?}, {synced:?}");
            assert_eq!((written, synced), (Ok(()), Ok(())), "{what}");
            two[0].close(open).await.unwrap();
            let mut wanted = pattern(1, 3 * CHUNK);
            wanted[10..17].copy_from_slice(b"changed");
            check(&server, &two, place, &[wanted.clone()], &what).await;
            let after = mount(&server, place).await;
            assert!(after.content(path).await.unwrap() == wanted, "{what}");
            assert_eq!(self::ids(&server), ids, "{what}: the directories have the ids that they had");
            assert!(two[0].content(path).await.unwrap() == wanted, "{what}, seen here");
            assert!(two[0].drive.errors().iter().any(|error| error.kind == "made_again"), "{what}");
        }
    });
}

#[test]
fn a_directory_whose_content_alone_is_gone_gets_it_back_and_no_second_name() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
        let before = server.paths();
        kernel.mkdir("d", 0o755).await.unwrap();
        kernel.save("d/file", &pattern(1, CHUNK)).await.unwrap();
        assert!(kernel.drive.save_all().await.is_none());
        let open = kernel.open("d/file", READ_WRITE).await.unwrap();
        // Somebody removes what the directory lies in, as a file manager on the server can.
        let other = MemoryRemote::connect(&server);
        let is_backup =
            |path: &&RemotePath| path.as_bytes().ends_with(b"/dirid.c9r") && !before.contains(path);
        let (content, _) = server.paths().iter().find(is_backup).unwrap().split().unwrap();
        for entry in other.list(&content).await.unwrap() {
            other.remove(&content.join(&entry.name)).await.unwrap();
        }
        other.rmdir(&content).await.unwrap();
        kernel.write(open, 0, b"changed").await.unwrap();
        kernel.fsync(open).await.unwrap();
        kernel.close(open).await.unwrap();
        assert!(kernel.drive.save_all().await.is_none());
        let seen = mount(&server, place).await.tree(true).await.unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["d", "d/file"], "{place:?}");
    });
}
