//! A server that loses its power keeps what it was asked to put on its disk, and forgets the rest: every way to ask for
//! that, in every place.

use std::time::Duration;

use scaup::drive::DriveOptions;
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer, MessageKind};
use scaup_fuse::Filesystem;
use scaup_fuse::filesystem::{Handle, Inode, RenameMode};

use crate::kernel::{CHUNK, Kernel, Place, READ_WRITE, Result, in_every_place, mount, options, pattern};

const LONG: &str = "a name that is shortened";

fn old() -> Vec<u8> {
    pattern(1, 3 * CHUNK + 100)
}

fn new() -> Vec<u8> {
    pattern(2, 2 * CHUNK + 5)
}

/// A mount of which closing a file waits for nothing that it need not.
async fn mount_lazily(server: &MemoryServer, place: Place) -> Kernel {
    Kernel::mount(MemoryRemote::connect(server), place, options()).await
}

async fn prepared(place: Place) -> MemoryServer {
    let server = place.server();
    let kernel = mount_lazily(&server, place).await;
    for name in ["file", LONG, "moved", "gone"] {
        kernel.save(name, &old()).await.unwrap();
    }
    kernel.mkdir("directory", 0o755).await.unwrap();
    let unsaved = kernel.drive.save_all().await;
    assert!(unsaved.is_none(), "{unsaved:?}");
    server
}

/// What a program does to one file, and what that file has then.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Make(&'static str),
    Replace(&'static str),
    ChangeInside(&'static str),
    Append(&'static str),
    CutAtChunk(&'static str),
    Extend(&'static str),
}

const DEEDS: [Deed; 12] = [
    Deed::Make("new"),
    Deed::Make("another name that is shortened"),
    Deed::Replace("file"),
    Deed::Replace(LONG),
    Deed::ChangeInside("file"),
    Deed::ChangeInside(LONG),
    Deed::Append("file"),
    Deed::Append(LONG),
    Deed::CutAtChunk("file"),
    Deed::CutAtChunk(LONG),
    Deed::Extend("file"),
    Deed::Make("directory/new"),
];

impl Deed {
    fn file(self) -> &'static str {
        match self {
            Self::Make(file)
            | Self::Replace(file)
            | Self::ChangeInside(file)
            | Self::Append(file)
            | Self::CutAtChunk(file)
            | Self::Extend(file) => file,
        }
    }

    fn content(self) -> Vec<u8> {
        let mut content = old();
        match self {
            Self::Make(_) | Self::Replace(_) => content = new(),
            Self::ChangeInside(_) => content[100..200].copy_from_slice(&new()[..100]),
            Self::Append(_) => content.extend_from_slice(&new()),
            Self::CutAtChunk(_) => content.truncate(CHUNK),
            Self::Extend(_) => content.resize(5 * CHUNK, 0),
        }
        content
    }

    /// Does it, and leaves the file open.
    async fn begin(self, kernel: &Kernel) -> Result<(Inode, Handle)> {
        let open = match self {
            Self::Make(file) => kernel.create(file, 0o644).await?,
            _ => kernel.open(self.file(), READ_WRITE).await?,
        };
        match self {
            Self::Make(_) => kernel.write(open, 0, &new()).await?,
            Self::Replace(_) => {
                kernel.truncate_open(open, 0).await?;
                kernel.write(open, 0, &new()).await?;
            }
            Self::ChangeInside(_) => kernel.write(open, 100, &new()[..100]).await?,
            Self::Append(_) => kernel.write(open, old().len() as u64, &new()).await?,
            Self::CutAtChunk(_) => kernel.truncate_open(open, CHUNK as u64).await?,
            Self::Extend(_) => kernel.truncate_open(open, 5 * CHUNK as u64).await?,
        }
        Ok(open)
    }
}

async fn sync_directory(kernel: &Kernel, path: &str) {
    let directory = kernel.lookup(path).await.unwrap().inode;
    let handle = kernel.drive.opendir(directory).await.unwrap();
    kernel.drive.fsyncdir(directory, handle).await.unwrap();
    kernel.drive.releasedir(directory, handle).await;
}

/// The server loses its power, and somebody mounts it again.
async fn after_power_loss(server: &MemoryServer, place: Place) -> Kernel {
    let after = server.fork();
    after.power_loss(|| false);
    mount(&after, place).await
}

async fn check(deed: Deed, how: &str, server: &MemoryServer, place: Place) {
    let after = after_power_loss(server, place).await;
    let content = after.content(deed.file()).await;
    let content = content.unwrap_or_else(|error| panic!("{place:?}: {deed:?}, {how}: error {error}"));
    assert!(content == deed.content(), "{place:?}: {deed:?}, {how}: {} bytes", content.len());
}

/// Does each of the deeds in every place on a mount of these options, then asks for the disk in this `way`: what was
/// done is there after a power loss.
fn is_there_after(
    deeds: &[Deed],
    sync_on_close: bool,
    way: impl AsyncFn(&Kernel, Deed, (Inode, Handle)),
    named: &str,
) {
    in_every_place(async |place| {
        for &deed in deeds {
            let server = prepared(place).await;
            let options = DriveOptions { sync_on_close, ..options() };
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options).await;
            let open = deed.begin(&kernel).await.unwrap();
            way(&kernel, deed, open).await;
            check(deed, named, &server, place).await;
        }
    });
}

async fn unmount(kernel: &Kernel) {
    let unsaved = kernel.drive.save_all().await;
    assert!(unsaved.is_none(), "{unsaved:?}");
}

#[test]
fn what_was_synced_is_there() {
    is_there_after(&DEEDS, false, async |kernel, _, open| kernel.fsync(open).await.unwrap(), "fsync");
}

#[test]
fn what_another_descriptor_saved_is_there_once_one_was_synced() {
    let way = async |kernel: &Kernel, deed: Deed, open| {
        kernel.close(open).await.unwrap();
        let later = kernel.open(deed.file(), READ_WRITE).await.unwrap();
        kernel.fsync(later).await.unwrap();
    };
    is_there_after(&DEEDS, false, way, "closed, then fsync by another");
}

#[test]
fn what_is_being_saved_meanwhile_is_there_once_it_was_synced() {
    let way = async |kernel: &Kernel, deed: Deed, open| {
        let (least, most) = (Duration::from_millis(20), Duration::from_millis(60));
        kernel.remote.set_delay(Some(Delay { least, most, seed: deed.content().len() as u64 }));
        let other = kernel.open(deed.file(), READ_WRITE).await.unwrap();
        // The other descriptor's close has begun to save when this one asks.
        let later = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            kernel.fsync(open).await
        };
        let (closed, synced) = futures::join!(kernel.close(other), later);
        closed.unwrap();
        synced.unwrap();
    };
    is_there_after(&DEEDS, false, way, "fsync during a save");
}

#[test]
fn what_was_written_is_there_after_unmount() {
    let way = async |kernel: &Kernel, _, open| {
        kernel.close(open).await.unwrap();
        unmount(kernel).await;
    };
    is_there_after(&DEEDS, false, way, "unmount");
}

#[test]
fn what_is_open_is_there_after_unmount() {
    let way = async |kernel: &Kernel, _, open| {
        // What a program flushed is saved, and it has the file open still.
        kernel.flush(open).await.unwrap();
        unmount(kernel).await;
    };
    is_there_after(&DEEDS, false, way, "unmount with an open file");
}

#[test]
fn what_is_saved_before_the_machine_sleeps_is_there() {
    let way = async |kernel: &Kernel, _, open| {
        kernel.close(open).await.unwrap();
        assert!(kernel.drive.save_before_sleep().await.is_none());
    };
    is_there_after(&DEEDS, false, way, "sleep");
}

#[test]
fn with_sync_on_close_it_is_there_after_close() {
    is_there_after(
        &DEEDS,
        true,
        async |kernel, _, open| kernel.flush(open).await.unwrap(),
        "--sync-on-close",
    );
}

#[test]
fn what_a_program_closed_is_put_on_the_disk_behind_it() {
    let deeds = [Deed::ChangeInside("file"), Deed::Append(LONG)];
    is_there_after(&deeds, false, async |kernel, _, open| kernel.close(open).await.unwrap(), "close");
}

#[test]
fn what_was_synced_is_there_though_its_directory_was_renamed_since_it_was_made() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let kernel = mount_lazily(&server, place).await;
        kernel.mkdir("directory/in it", 0o755).await.unwrap();
        kernel.save("directory/in it/new", &new()).await.unwrap();
        kernel.rename("directory", "renamed", RenameMode::Replace).await.unwrap();
        // Another change of the directory that the name is in would hide that it is not known under its new path.
        sync_directory(&kernel, "").await;
        kernel.save("renamed/in it/another", &new()).await.unwrap();
        kernel.rename("renamed", "renamed again", RenameMode::Replace).await.unwrap();
        let open = kernel.open("renamed again/in it/another", READ_WRITE).await.unwrap();
        kernel.fsync(open).await.unwrap();
        kernel.close(open).await.unwrap();
        let after = after_power_loss(&server, place).await;
        for file in ["renamed again/in it/new", "renamed again/in it/another"] {
            assert!(after.content(file).await.as_deref() == Ok(&new()[..]), "{place:?}: {file}");
        }
    });
}

#[test]
fn what_was_synced_is_there_under_the_names_that_the_directories_above_it_have_by_now() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let kernel = mount_lazily(&server, place).await;
        kernel.save("directory/new", &new()).await.unwrap();
        let open = kernel.open("directory/new", READ_WRITE).await.unwrap();
        kernel.fsync(open).await.unwrap();
        kernel.rename("directory", "renamed", RenameMode::Replace).await.unwrap();
        kernel.fsync(open).await.unwrap();
        kernel.close(open).await.unwrap();
        let after = after_power_loss(&server, place).await;
        assert!(after.content("renamed/new").await.as_deref() == Ok(&new()[..]), "{place:?}");
    });
}

#[test]
fn names_are_there_once_their_directory_was_synced() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let kernel = mount_lazily(&server, place).await;
        for made in ["made", "a made directory with a name that is shortened"] {
            kernel.mkdir(made, 0o755).await.unwrap();
        }
        kernel.symlink("link", "file").await.unwrap();
        kernel
            .rename("moved", "a moved file with a name that is shortened", RenameMode::Replace)
            .await
            .unwrap();
        kernel.unlink("gone").await.unwrap();
        kernel.unlink(LONG).await.unwrap();
        kernel.rmdir("directory").await.unwrap();
        kernel.save("new", &new()).await.unwrap();
        let wanted = kernel.tree(true).await.unwrap();
        sync_directory(&kernel, "").await;
        let after = after_power_loss(&server, place).await;
        assert!(after.tree(true).await.unwrap() == wanted, "{place:?}");
        // What was not synced is old: it is this server that forgets.
        kernel.unlink("new").await.unwrap();
        kernel.mkdir("later", 0o755).await.unwrap();
        kernel.drive.statfs(Inode::ROOT).await.unwrap();
        let after = after_power_loss(&server, place).await;
        assert!(
            after.tree(true).await.unwrap() == wanted,
            "{place:?}: the server has more than it was asked for"
        );
    });
}

#[test]
fn a_server_that_could_not_put_it_on_its_disk_keeps_the_mount() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let kernel = mount_lazily(&server, place).await;
        let open = Deed::ChangeInside("file").begin(&kernel).await.unwrap();
        kernel.flush(open).await.unwrap();
        let refused = scaup::remote::RemoteError::Failure("Failure".to_owned());
        let fault = Fault::Answer { error: refused, applied: false };
        kernel.remote.fault_at_one(0, fault, |kind, _| kind == MessageKind::Fsync);
        assert!(!kernel.drive.save_all().await.is_none(), "{place:?}");
        assert!(kernel.drive.save_all().await.is_none(), "{place:?}");
        check(Deed::ChangeInside("file"), "the second try", &server, place).await;
    });
}

/// A program that is told of an error tries again, and then nothing may be left to do: the first try did it.
#[test]
fn a_length_that_was_set_when_the_connection_broke_is_on_the_disk_with_the_next_try() {
    for length in [0, 2 * CHUNK as u64 - 40, 5 * CHUNK as u64 + 1] {
        in_every_place(async |place| {
            for n in 0..20 {
                let server = prepared(place).await;
                let kernel = mount_lazily(&server, place).await;
                kernel.remote.fault_at(n, Fault::Cut { applied: true });
                if kernel.truncate("file", length).await.is_ok() {
                    break;
                }
                kernel.remote.reconnect();
                // A failure that a program was not told of yet is reported first.
                while kernel.truncate("file", length).await.is_err() {}
                // The first of them may report what failed before.
                kernel.drive.save_all().await;
                let unsaved = kernel.drive.save_all().await;
                assert!(unsaved.is_none(), "{place:?}: {unsaved:?}");
                let after = after_power_loss(&server, place).await;
                let content = after.content("file").await.unwrap();
                assert_eq!(content.len() as u64, length, "{place:?}, cut at {n}");
            }
        });
    }
}

#[test]
fn a_closed_file_that_waits_for_the_disk_is_shown_as_the_server_has_it() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let options = DriveOptions { attr_timeout: Duration::ZERO, ..options() };
        let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options).await;
        let refused = scaup::remote::RemoteError::Failure("Failure".to_owned());
        let fault = Fault::Answer { error: refused, applied: false };
        kernel.remote.fault_at_one(0, fault, |kind, _| kind == MessageKind::Fsync);
        let open = Deed::ChangeInside("file").begin(&kernel).await.unwrap();
        kernel.close(open).await.unwrap();
        server.pass(Duration::from_secs(3));
        mount(&server, place).await.save("file", b"theirs").await.unwrap();
        assert_eq!(kernel.lookup("file").await.unwrap().size, 6, "{place:?}");
    });
}

#[test]
fn of_two_that_sync_a_directory_at_once_none_returns_before_it_is_on_the_disk() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let kernel = mount_lazily(&server, place).await;
        kernel.mkdir("made", 0o755).await.unwrap();
        let delay = Duration::from_millis(80);
        kernel.remote.set_delay(Some(Delay { least: delay, most: delay, seed: 0 }));
        let one = sync_directory(&kernel, "");
        let other = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            sync_directory(&kernel, "").await;
            let after = after_power_loss(&server, place).await;
            assert!(after.lookup("made").await.is_ok(), "{place:?}");
        };
        futures::join!(one, other);
    });
}

#[test]
fn to_sync_a_directory_shows_nobody_half_of_what_is_being_written() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let kernel = mount_lazily(&server, place).await;
        let growing = kernel.create("growing", 0o644).await.unwrap();
        kernel.write(growing, 0, &new()).await.unwrap();
        sync_directory(&kernel, "").await;
        let other = mount(&server.fork(), place).await;
        assert_eq!(other.lookup("growing").await.err(), Some(crate::kernel::ENOENT), "{place:?}");
        kernel.close(growing).await.unwrap();
        sync_directory(&kernel, "").await;
        check(Deed::Make("growing"), "closed, then fsync of the directory", &server, place).await;
    });
}
