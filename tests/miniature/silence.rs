//! A server that falls silent in the middle of something: whatever waits for it, what memory can answer is answered at
//! once.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use scaup::config::parts::OptionalPart;
use scaup::drive::DriveOptions;
use scaup::remote::RemoteError;
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer, MessageKind};
use scaup_fuse::Filesystem as _;
use scaup_fuse::filesystem::{Handle, Inode, RenameMode, SetAttributes};

use crate::kernel::{
    CALLER, CHUNK, Kernel, Place, READ, READ_WRITE, Result, errno, in_every_place, mount, options, pattern,
};

/// What is in memory is returned within this time.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A file that is not wholly read with its first chunk.
const LENGTH: usize = 40 * CHUNK;

/// What a program has open.
type Open = (Inode, Handle);

/// A mount with something of every kind in the directory `dir`, known and unknown, open and not.
struct Scene {
    kernel: Kernel,
    root: Inode,
    dir: Inode,
    dir_handle: Handle,
    /// A directory whose names nobody has asked for.
    unseen: Inode,
    /// A file whose attributes have to be asked for.
    doubted: Inode,
    /// A file that is not open.
    shut: Inode,
    /// Open, with a chunk that was read and others that were not.
    warm: Open,
    /// The same, opened a second time.
    warm_again: Open,
    /// Open, with a change that is not saved, beside chunks that were read.
    busy: Open,
    /// The same, opened a second time.
    busy_again: Open,
    /// A file with much that is not sent.
    full: Open,
    /// Open, with a change that the server has acknowledged and may have in its memory only.
    acknowledged: Open,
    /// New, and not on the server yet.
    fresh: Open,
    link: Inode,
    unread_link: Inode,
    beside: Inode,
}

/// A server with all that a scene needs.
async fn prepared(place: Place) -> MemoryServer {
    let server = place.server();
    let before = mount(&server, place).await;
    for directory in ["dir", "dir/unseen", "dir/empty", "dir/sub", "beside"] {
        before.mkdir(directory, 0o755).await.unwrap();
    }
    for file in ["dir/shut", "dir/warm", "dir/busy", "dir/full", "dir/acknowledged"] {
        before.save(file, &pattern(1, LENGTH)).await.unwrap();
    }
    for file in ["dir/gone", "dir/named", "dir/unseen/doubted", "beside/file"] {
        before.save(file, b"short").await.unwrap();
    }
    before.symlink("dir/link", "shut").await.unwrap();
    before.symlink("dir/unread", "shut").await.unwrap();
    server
}

impl Scene {
    async fn make(server: &MemoryServer, place: Place) -> Arc<Self> {
        let without = BTreeSet::from([OptionalPart::ListAhead, OptionalPart::OpenAhead]);
        let options = DriveOptions { memory: 64 << 20, without, ..options() };
        let kernel = Kernel::mount(MemoryRemote::connect(server), place, options).await;
        let root = kernel.root().await.unwrap();
        let doubted = kernel.lookup("dir/unseen/doubted").await.unwrap().inode;
        kernel.remote.fault_at(0, Fault::Answer { error: RemoteError::PermissionDenied, applied: false });
        kernel.chmod("dir/unseen/doubted", 0o600).await.unwrap_err();
        let named = async |name: &str| kernel.lookup(name).await.unwrap().inode;
        let (dir, unseen) = (named("dir").await, named("dir/unseen").await);
        for directory in [root, dir, named("dir/empty").await, named("dir/sub").await] {
            kernel.list(directory).await.unwrap();
        }
        let beside = named("beside").await;
        kernel.list(beside).await.unwrap();
        let dir_handle = kernel.drive.opendir(dir).await.unwrap();
        let open = async |name: &str| {
            let open = kernel.open(name, READ_WRITE).await.unwrap();
            kernel.read(open, 0, 100).await.unwrap();
            kernel.read(open, CHUNK as u64, 100).await.unwrap();
            open
        };
        let (warm, warm_again) = (open("dir/warm").await, open("dir/warm").await);
        let (busy, busy_again) = (open("dir/busy").await, open("dir/busy").await);
        let full = open("dir/full").await;
        kernel.write(busy, 5, b"not saved").await.unwrap();
        kernel.read(busy, 10 * CHUNK as u64, 10).await.unwrap();
        // In place, and one chunk from being sent.
        kernel.write(full, 0, &pattern(2, 31 * CHUNK)).await.unwrap();
        let acknowledged = open("dir/acknowledged").await;
        kernel.write(acknowledged, 5, b"changed").await.unwrap();
        kernel.flush(acknowledged).await.unwrap();
        let fresh = kernel.create("dir/fresh", 0o644).await.unwrap();
        kernel.write(fresh, 0, b"fresh").await.unwrap();
        let (link, unread_link) = (named("dir/link").await, named("dir/unread").await);
        kernel.drive.readlink(link).await.unwrap();
        let shut = named("dir/shut").await;
        let scene = Self {
            root,
            dir,
            dir_handle,
            unseen,
            doubted,
            shut,
            warm,
            warm_again,
            busy,
            busy_again,
            full,
            acknowledged,
            fresh,
            link,
            unread_link,
            beside,
            kernel,
        };
        Arc::new(scene)
    }

    /// From now on no answer comes.
    fn fall_silent(&self) {
        let day = Duration::from_secs(24 * 3600);
        self.kernel.remote.set_delay(Some(Delay { least: day, most: day, seed: 0 }));
    }

    async fn rename(&self, from: (Inode, &str), to: (Inode, &str)) -> Result<()> {
        let (from_name, to_name) = (OsStr::new(from.1), OsStr::new(to.1));
        let drive = &self.kernel.drive;
        drive.rename(from.0, from_name, to.0, to_name, RenameMode::Replace).await.map_err(errno)
    }

    async fn read(&self, open: Open, chunk: usize, wanted: &[u8]) -> Result<()> {
        let read = self.kernel.read(open, (chunk * CHUNK) as u64, 14).await?;
        assert_eq!(read, &wanted[..14]);
        Ok(())
    }

    async fn names(&self, handle: Handle) -> Result<()> {
        let names = self.kernel.drive.readdir(self.dir, handle, 0, true).await.map_err(errno)?;
        assert!(names.iter().any(|entry| entry.name == "warm"), "{names:?}");
        Ok(())
    }
}

type Doing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type Deed = (&'static str, fn(Arc<Scene>) -> Doing);

/// What a closure does with the scene.
macro_rules! deed {
    ($name:literal, |$scene:ident| $work:expr) => {
        ($name, |$scene| {
            Box::pin(async move {
                $work;
                Ok(())
            })
        })
    };
}

fn set(mode: Option<u16>, size: Option<u64>) -> SetAttributes {
    SetAttributes { mode, size, ..SetAttributes::default() }
}

/// What has to wait for the server.
const WAITING: &[Deed] = &[
    deed!("lookup", |s| s.kernel.lookup_in(s.unseen, "name").await?),
    deed!("getattr", |s| s.kernel.getattr(s.doubted).await?),
    deed!("open", |s| s.kernel.drive.open(s.shut, READ).await.map_err(errno)?),
    deed!("open for writing", |s| s.kernel.drive.open(s.shut, READ_WRITE).await.map_err(errno)?),
    deed!("open again", |s| s.kernel.drive.open(s.warm.0, READ).await.map_err(errno)?),
    deed!("read", |s| s.kernel.read(s.warm, 30 * CHUNK as u64, 10).await?),
    deed!("read of what is unsaved", |s| s.kernel.read(s.busy, 30 * CHUNK as u64, 10).await?),
    deed!("write", |s| s.kernel.write(s.full, 31 * CHUNK as u64, &pattern(3, 3 * CHUNK)).await?),
    deed!("write into a chunk", |s| s.kernel.write(s.busy, 30 * CHUNK as u64 + 1, b"in").await?),
    deed!("fallocate", |s| {
        let end = (LENGTH + 10 * CHUNK) as u64;
        s.kernel.drive.fallocate(s.busy.0, s.busy.1, end, 100 * CHUNK as u64, 0).await.map_err(errno)?;
        s.kernel.fsync(s.busy).await?;
    }),
    deed!("flush", |s| s.kernel.flush(s.busy).await?),
    deed!("fsync", |s| s.kernel.fsync(s.busy).await?),
    deed!("fsync of what is acknowledged", |s| s.kernel.fsync(s.acknowledged).await?),
    deed!("fsync of a new file", |s| s.kernel.fsync(s.fresh).await?),
    deed!("release of what is unsaved", |s| s.kernel.release(s.busy_again).await),
    deed!("release of what is acknowledged", |s| s.kernel.release(s.acknowledged).await),
    deed!("fsyncdir", |s| s.kernel.drive.fsyncdir(s.dir, s.dir_handle).await.map_err(errno)?),
    deed!("save", |s| {
        s.kernel.drive.save_all().await;
    }),
    deed!("create", |s| {
        s.kernel.drive.create(s.beside, OsStr::new("new"), 0o644, READ_WRITE, CALLER).await.map_err(errno)?;
    }),
    deed!("mkdir", |s| s.kernel.drive.mkdir(s.dir, OsStr::new("new"), 0o755, CALLER).await.map_err(errno)?),
    deed!("unlink", |s| s.kernel.drive.unlink(s.dir, OsStr::new("gone")).await.map_err(errno)?),
    deed!("unlink of what is open", |s| {
        s.kernel.drive.unlink(s.dir, OsStr::new("busy")).await.map_err(errno)?;
    }),
    deed!("rmdir", |s| s.kernel.drive.rmdir(s.dir, OsStr::new("empty")).await.map_err(errno)?),
    deed!("rename file", |s| s.rename((s.dir, "shut"), (s.dir, "other")).await?),
    deed!("rename unsaved file", |s| s.rename((s.dir, "busy"), (s.dir, "other")).await?),
    deed!("rename onto a file", |s| s.rename((s.dir, "busy"), (s.dir, "named")).await?),
    deed!("rename directory", |s| s.rename((s.root, "dir"), (s.root, "moved")).await?),
    deed!("rename directory into another", |s| s.rename((s.root, "dir"), (s.beside, "moved")).await?),
    deed!("rename directory below", |s| s.rename((s.dir, "sub"), (s.dir, "moved")).await?),
    deed!("rename directory behind others", |s| {
        let looking = s.kernel.lookup_in(s.unseen, "name");
        let saving = s.kernel.drive.save_all();
        futures::join!(looking, saving, s.rename((s.root, "dir"), (s.root, "moved"))).2?;
    }),
    deed!("opendir", |s| s.kernel.drive.opendir(s.unseen).await.map_err(errno)?),
    deed!("symlink", |s| {
        let (name, target) = (OsStr::new("new"), OsStr::new("shut"));
        s.kernel.drive.symlink(s.dir, name, target, CALLER).await.map_err(errno)?;
    }),
    deed!("readlink", |s| s.kernel.drive.readlink(s.unread_link).await.map_err(errno)?),
    deed!("chmod", |s| {
        s.kernel.drive.setattr(s.shut, None, set(Some(0o600), None), CALLER).await.map_err(errno)?;
    }),
    deed!("chmod of what is open", |s| {
        s.kernel.drive.setattr(s.busy.0, None, set(Some(0o600), None), CALLER).await.map_err(errno)?;
    }),
    deed!("truncate", |s| {
        let cut = set(None, Some(LENGTH as u64 / 2 + 7));
        s.kernel.drive.setattr(s.busy.0, Some(s.busy.1), cut, CALLER).await.map_err(errno)?;
        s.kernel.fsync(s.busy).await?;
    }),
    deed!("truncate to nothing", |s| {
        s.kernel.drive.setattr(s.busy.0, Some(s.busy.1), set(None, Some(0)), CALLER).await.map_err(errno)?;
    }),
    deed!("statfs", |s| s.kernel.drive.statfs(s.dir).await.map_err(errno)?),
];

/// What is returned from memory.
const AT_HAND: &[Deed] = &[
    deed!("lookup", |s| assert_eq!(s.kernel.lookup_in(s.dir, "warm").await?.inode, s.warm.0)),
    deed!("lookup of a directory", |s| assert_eq!(s.kernel.lookup_in(s.root, "dir").await?.inode, s.dir)),
    deed!("lookup of what is unsaved", |s| s.kernel.lookup_in(s.dir, "fresh").await?),
    deed!("lookup of no name", |s| {
        assert_eq!(s.kernel.lookup_in(s.dir, "none").await.err(), Some(crate::kernel::ENOENT));
    }),
    deed!("lookup elsewhere", |s| s.kernel.lookup_in(s.beside, "file").await?),
    deed!("getattr", |s| s.kernel.getattr(s.shut).await?),
    deed!("getattr of a directory", |s| s.kernel.getattr(s.unseen).await?),
    deed!("getattr of what is unsaved", |s| s.kernel.getattr(s.busy.0).await?),
    deed!("read", |s| s.read(s.warm, 0, &pattern(1, CHUNK)).await?),
    deed!("read of what is unsaved", |s| {
        let mut written = pattern(1, CHUNK);
        written[5..14].copy_from_slice(b"not saved");
        s.read(s.busy, 0, &written).await?;
    }),
    deed!("read beside what is unsaved", |s| s.read(s.busy, 10, &pattern(1, LENGTH)[10 * CHUNK..]).await?),
    deed!("read of what is acknowledged", |s| s
        .read(s.acknowledged, 1, &pattern(1, LENGTH)[CHUNK..])
        .await?),
    deed!("write into what is acknowledged", |s| s.kernel.write(s.acknowledged, 3, b"written").await?),
    deed!("readdir", |s| s.names(s.dir_handle).await?),
    deed!("opendir and readdir", |s| {
        let handle = s.kernel.drive.opendir(s.dir).await.map_err(errno)?;
        s.names(handle).await?;
        s.kernel.drive.releasedir(s.dir, handle).await;
    }),
    deed!("readlink", |s| s.kernel.drive.readlink(s.link).await.map_err(errno)?),
    deed!("release", |s| s.kernel.release(s.warm_again).await),
    deed!("flush of a new file", |s| s.kernel.flush(s.fresh).await?),
    deed!("flush of what is saved", |s| s.kernel.flush(s.warm).await?),
    deed!("write", |s| s.kernel.write(s.warm, 3, b"written").await?),
    deed!("write into a new file", |s| s.kernel.write(s.fresh, 5, &pattern(4, CHUNK)).await?),
    deed!("open of what is unsaved", |s| s.kernel.drive.open(s.fresh.0, READ_WRITE).await.map_err(errno)?),
    deed!("releasedir", |s| s.kernel.drive.releasedir(s.dir, s.dir_handle).await),
    deed!("fsyncdir", |s| s.kernel.drive.fsyncdir(s.beside, s.dir_handle).await.map_err(errno)?),
];

/// Pairs in which the one works on what the other changes, so that it must wait for it.
fn must_wait(begun: &str, asked: &str) -> bool {
    let on_fresh =
        matches!(asked, "write into a new file" | "flush of a new file" | "open of what is unsaved");
    let on_acknowledged = matches!(asked, "read of what is acknowledged" | "write into what is acknowledged");
    match begun {
        // One file is written and saved by one after the other.
        "fsync of a new file" | "save" | "fsyncdir" | "rename directory behind others" => on_fresh,
        // Its handle is gone.
        "release of what is acknowledged" => on_acknowledged,
        _ => false,
    }
}

#[test]
fn what_memory_knows_is_answered_at_once_whatever_waits_for_a_silent_server() {
    in_every_place(async |place| {
        let server = prepared(place).await;
        let mut late = Vec::new();
        for (begun_name, begun) in WAITING {
            let scene = Scene::make(&server.fork(), place).await;
            scene.fall_silent();
            let waiting = tokio::spawn(begun(Arc::clone(&scene)));
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!waiting.is_finished(), "{place:?}: {begun_name} has not waited");
            for (asked_name, asked) in AT_HAND {
                if must_wait(begun_name, asked_name) {
                    continue;
                }
                match tokio::time::timeout(AT_ONCE, asked(Arc::clone(&scene))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(errno)) => late.push(format!("{begun_name} / {asked_name}: errno {errno}")),
                    Err(_) => late.push(format!("{begun_name} / {asked_name}: late")),
                }
            }
            assert!(!waiting.is_finished(), "{place:?}: {begun_name} has not waited to the end");
            waiting.abort();
        }
        assert!(late.is_empty(), "{place:?}, {} pairs:\n{}", late.len(), late.join("\n"));
    });
}

#[test]
fn what_is_done_in_a_directory_while_it_is_moved_goes_with_it() {
    in_every_place(async |place| {
        for after in (0..=400).step_by(20) {
            for is_replacing in [false, true] {
                let server = place.server();
                let kernel = mount(&server, place).await;
                kernel.mkdir("dir", 0o755).await.unwrap();
                kernel.mkdir("dir/below", 0o755).await.unwrap();
                for name in ["dir/gone", "dir/changed", "dir/below/old", "dir/linked"] {
                    kernel.save(name, b"old").await.unwrap();
                }
                if is_replacing {
                    kernel.mkdir("moved", 0o755).await.unwrap();
                }
                kernel.drive.save_all().await;
                let below = kernel.lookup("dir/below").await.unwrap().inode;
                let dir = kernel.lookup("dir").await.unwrap().inode;
                let open = kernel.open("dir/changed", READ_WRITE).await.unwrap();
                kernel.go_far();
                let made = async { kernel.create_at(below, OsStr::new("new"), 0o644).await };
                let saved = async {
                    kernel.write(open, 0, b"new").await.unwrap();
                    kernel.fsync(open).await.unwrap();
                };
                let unlinked = kernel.drive.unlink(dir, OsStr::new("gone"));
                let directory = kernel.drive.mkdir(below, OsStr::new("directory"), 0o755, CALLER);
                let moved = async {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    let moved = kernel.rename("dir", "moved", RenameMode::Replace).await;
                    // Whatever is done by the old path from now on is done in here.
                    kernel.mkdir("dir", 0o755).await.unwrap();
                    kernel.mkdir("dir/below", 0o755).await.unwrap();
                    moved
                };
                let (made, (), unlinked, directory, moved) =
                    futures::join!(made, saved, unlinked, directory, moved);
                let what = format!("{place:?}, after {after} ms, replacing {is_replacing}");
                kernel.close(made.unwrap()).await.unwrap();
                kernel.close(open).await.unwrap();
                unlinked.unwrap();
                directory.unwrap();
                moved.unwrap();
                kernel.remote.set_delay(None);
                assert_eq!(kernel.drive.save_all().await.files, 0, "{what}");
                for seen in [&kernel, &mount(&server.fork(), place).await] {
                    let names: Vec<String> = seen.tree(true).await.unwrap().into_keys().collect();
                    let wanted = [
                        "dir",
                        "dir/below",
                        "moved",
                        "moved/below",
                        "moved/below/directory",
                        "moved/below/new",
                        "moved/below/old",
                        "moved/changed",
                        "moved/linked",
                    ];
                    assert_eq!(names, wanted, "{what}");
                    assert_eq!(seen.content("moved/changed").await.unwrap(), "new", "{what}");
                }
            }
        }
    });
}

#[test]
fn closing_waits_for_the_server_but_for_new_content_of_up_to_224_kib() {
    in_every_place(async |place| {
        for (length, is_new, waits) in
            [(1, true, false), (224 * 1024, true, false), (224 * 1024 + 1, true, true), (1, false, true)]
        {
            let what = format!("{place:?}, {length} bytes, new: {is_new}");
            let server = place.server();
            mount(&server, place).await.save("file", &pattern(1, LENGTH)).await.unwrap();
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            let open = match is_new {
                true => kernel.create("new", 0o644).await.unwrap(),
                false => kernel.open("file", READ_WRITE).await.unwrap(),
            };
            kernel.write(open, 0, &pattern(2, length)).await.unwrap();
            let begun = tokio::time::Instant::now();
            kernel.go_far();
            kernel.flush(open).await.unwrap();
            assert_eq!(begun.elapsed() >= crate::kernel::ROUND_TRIP, waits, "{what}");
            assert_eq!(kernel.drive.unsaved().files == 0, waits, "{what}");
            let name = if is_new { "new" } else { "file" };
            if waits {
                let seen = mount(&server.fork(), place).await.content(name).await.unwrap();
                assert!(seen.starts_with(&pattern(2, length)), "{what}");
            }
            kernel.fsync(open).await.unwrap();
            let seen = mount(&server.fork(), place).await.content(name).await.unwrap();
            assert!(seen.starts_with(&pattern(2, length)), "{what}, after fsync");
        }
    });
}

#[test]
fn an_error_of_saving_is_the_error_of_close() {
    in_every_place(async |place| {
        for is_new in [true, false] {
            let server = place.server();
            mount(&server, place).await.save("file", &pattern(1, LENGTH)).await.unwrap();
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            let (open, length) = match is_new {
                true => (kernel.create("new", 0o644).await.unwrap(), 300_000),
                false => (kernel.open("file", READ_WRITE).await.unwrap(), 100),
            };
            for _ in 0..100 {
                let fault = Fault::Answer { error: RemoteError::NoSpace, applied: false };
                kernel.remote.fault_at_one(0, fault, |kind, _| kind == MessageKind::WriteFile);
            }
            let written = kernel.write(open, 0, &pattern(2, length)).await;
            assert_eq!(
                (written, kernel.flush(open).await),
                (Ok(()), Err(crate::kernel::ENOSPC)),
                "{place:?}, {is_new}"
            );
            kernel.remote.clear_faults();
        }
    });
}
