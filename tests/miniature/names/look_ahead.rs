//! Looking ahead of who looks names up: what lies below, and what is asked for next, is at hand. Over memory, where
//! time passes only while everybody waits, so that it counts the round trips.

use std::ffi::OsStr;
use std::time::Duration;

use scaup_fakes::MemoryRemote;
use scaup_fuse::Filesystem;
use scaup_fuse::filesystem::{Inode, LookupReply};

use crate::kernel::{ENOENT, Kernel, Place, ROUND_TRIP, options, round_trips, runtime};

/// How long names and attributes are believed where they are to grow old; longer than any of this takes.
const BELIEVED: Duration = Duration::from_secs(2);

/// A mount that was not looked at yet, of a server with `top/file`, `top/one/two/file` and `top/one/two/three/file`.
async fn mounted(place: Place) -> Kernel {
    let server = place.server();
    let filling = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
    for directory in ["top", "top/one", "top/one/two", "top/one/two/three"] {
        filling.mkdir(directory, 0o755).await.unwrap();
    }
    for file in ["top/file", "top/one/two/file", "top/one/two/three/file"] {
        filling.save(file, b"content").await.unwrap();
    }
    filling.drive.save_all().await;
    server.pass(Duration::from_secs(10));
    let options = scaup::drive::DriveOptions { attr_timeout: BELIEVED, ..options() };
    let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options).await;
    kernel.go_far();
    kernel
}

#[test]
fn who_looks_names_up_has_nothing_listed_that_lies_beside() {
    for place in Place::ALL {
        runtime().block_on(async {
            let server = place.server();
            let filling = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            let mut costs = Vec::new();
            for beside in [0, 10, 100] {
                filling.mkdir(&format!("top{beside}"), 0o755).await.unwrap();
                filling.save(&format!("top{beside}/file"), b"content").await.unwrap();
                for number in 0..beside {
                    filling.mkdir(&format!("top{beside}/{number}"), 0o755).await.unwrap();
                    filling.mkdir(&format!("top{beside}/{number}/below"), 0o755).await.unwrap();
                }
                filling.drive.save_all().await;
                let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
                kernel.lookup(&format!("top{beside}")).await.unwrap();
                tokio::time::sleep(20 * ROUND_TRIP).await;
                let before = kernel.remote.messages().len();
                kernel.lookup(&format!("top{beside}/file")).await.unwrap();
                tokio::time::sleep(20 * ROUND_TRIP).await;
                costs.push((kernel.remote.messages().len() - before, beside));
            }
            // The directory itself is listed, and in a vault what each of those in it is.
            let for_each = if place.is_vault() { 5 } else { 0 };
            for (messages, beside) in costs {
                assert!(messages <= 8 + for_each * beside, "{place:?}: {messages} messages, {beside} beside");
            }
        });
    }
}

#[test]
fn a_large_directory_is_not_listed_ahead_and_is_listed_whole_for_who_asks() {
    const FILES: usize = 1001;
    for place in [Place::Gcm, Place::Ctrmac] {
        runtime().block_on(async {
            let server = place.server();
            let filling = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            filling.mkdir("many", 0o755).await.unwrap();
            for number in 0..FILES {
                filling.save(&format!("many/{number}"), b"").await.unwrap();
            }
            filling.drive.save_all().await;
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            kernel.go_far();
            assert_eq!(kernel.lookup("nothing").await.unwrap_err(), ENOENT);
            tokio::time::sleep(20 * ROUND_TRIP).await;
            let many = kernel.lookup("many").await.unwrap().inode;
            let taken = round_trips(async { assert_eq!(kernel.list(many).await.unwrap().len(), FILES) });
            assert!(taken.await > 0, "{place:?}");
        });
    }
}

#[test]
fn a_name_is_not_waited_for_longer_than_it_takes_to_ask_for_it() {
    for place in [Place::Gcm, Place::Ctrmac] {
        runtime().block_on(async {
            let kernel = mounted(place).await;
            let top = kernel.lookup("top").await.unwrap().inode;
            // The directory is listed because of this one, which takes longer.
            let first = kernel.lookup_in(top, "one");
            let (one, second) = tokio::join!(
                first,
                round_trips(async {
                    kernel.lookup_in(top, "file").await.unwrap();
                })
            );
            one.unwrap();
            assert_eq!(second, 1, "{place:?}");
        });
    }
}

#[test]
fn a_file_is_asked_for_along_with_the_directory_on_the_way_to_it() {
    for place in Place::ALL {
        runtime().block_on(async {
            let kernel = mounted(place).await;
            let top = kernel.lookup("top").await.unwrap().inode;
            kernel.lookup_in(top, "file").await.unwrap();
            tokio::time::sleep(20 * ROUND_TRIP).await;
            tokio::time::sleep(BELIEVED).await;
            // As the kernel does it on its way.
            let taken = round_trips(async {
                kernel.getattr(top).await.unwrap();
                kernel.lookup_in(top, "file").await.unwrap();
            });
            let expected = if place.is_vault() { 2 } else { 1 };
            assert!((1..=expected).contains(&taken.await), "{place:?}");
        });
    }
}

#[test]
fn a_link_that_was_read_is_read_again_without_asking() {
    for place in Place::ALL {
        runtime().block_on(async {
            let kernel = mounted(place).await;
            kernel.symlink("top/link", "file").await.unwrap();
            let link = kernel.lookup("top/link").await.unwrap().inode;
            let read = async || {
                assert_eq!(kernel.drive.readlink(link).await.unwrap(), "file");
            };
            assert!(round_trips(read()).await > 0, "{place:?}");
            assert_eq!(round_trips(read()).await, 0, "{place:?}");
            tokio::time::sleep(BELIEVED).await;
            assert!(round_trips(read()).await > 0, "{place:?}");
        });
    }
}

#[test]
fn a_missing_name_is_believed_no_longer_than_the_listing_that_lacks_it() {
    for place in Place::ALL {
        runtime().block_on(async {
            let kernel = mounted(place).await;
            let top = kernel.lookup("top").await.unwrap().inode;
            let missing = async || match kernel.drive.lookup(top, OsStr::new("nothing")).await.unwrap() {
                LookupReply::Missing(believed) => believed,
                LookupReply::Found(_) => panic!("{place:?}: there is none"),
            };
            assert!(missing().await > Duration::ZERO, "{place:?}");
            kernel.list(top).await.unwrap();
            tokio::time::sleep(BELIEVED / 2).await;
            assert!(missing().await <= BELIEVED / 2, "{place:?}");
        });
    }
}

/// What a program sees in a directory that was listed ahead of it, and in which somebody else makes a file, if it comes
/// there after a while: whether the file is there, and the round trips that it takes to see that.
async fn coming_after(kernel: &Kernel, place: Place, pause: Duration) -> (bool, u128) {
    let top = kernel.lookup("top").await.unwrap().inode;
    kernel.list(top).await.unwrap();
    tokio::time::sleep(10 * ROUND_TRIP).await;
    let other = Kernel::mount(MemoryRemote::connect(kernel.remote.server()), place, options()).await;
    other.save("top/one/new", b"content").await.unwrap();
    other.drive.save_all().await;
    tokio::time::sleep(pause).await;
    let one = kernel.lookup("top/one").await.unwrap().inode;
    let mut is_there = false;
    let taken = round_trips(async {
        is_there = is_shown(kernel, one).await;
    });
    let taken = taken.await;
    (is_there, taken)
}

async fn is_shown(kernel: &Kernel, directory: Inode) -> bool {
    kernel.list(directory).await.unwrap().iter().any(|(name, _)| name == "new")
}

#[test]
fn what_was_listed_ahead_is_shown_until_it_is_twice_as_old() {
    for place in Place::ALL {
        runtime().block_on(async {
            let kernel = mounted(place).await;
            assert_eq!(coming_after(&kernel, place, 10 * ROUND_TRIP).await, (false, 0), "{place:?}");
            tokio::time::sleep(BELIEVED).await;
            let one = kernel.lookup("top/one").await.unwrap().inode;
            assert!(is_shown(&kernel, one).await, "{place:?}");
        });
    }
}

#[test]
fn what_was_listed_ahead_and_is_too_old_is_listed_again() {
    for place in Place::ALL {
        runtime().block_on(async {
            let kernel = mounted(place).await;
            let (is_there, taken) = coming_after(&kernel, place, BELIEVED).await;
            assert!(is_there && taken > 0, "{place:?}: {taken} round trips");
        });
    }
}
