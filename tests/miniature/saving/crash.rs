//! Every way to save, make, move and remove, with every single message lost or refused: what a drive that comes after
//! sees is the old state or the new one, whole; what the first drive was told to keep it keeps, says so, and saves
//! later.

mod killed;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use scaup::remote::{RemoteError, RemotePath};
use scaup_fakes::{Delay, Fault, MemoryServer, MessageKind};
use scaup_fuse::filesystem::RenameMode;

use crate::kernel::{
    CHUNK, EIO, Kernel, Place, READ_WRITE, Result, Seen, is_temporary, mount, pattern, runtime,
};

const SHORT: &str = "short";
const LONG: &str = "a name that is shortened";
const OTHER_LONG: &str = "another name that is shortened";

type Tree = BTreeMap<String, Seen>;
type Doing<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One thing that a program does.
struct Deed {
    name: &'static str,
    deed: for<'a> fn(&'a Kernel) -> Doing<'a>,
    /// The file of which each chunk is old or new by itself: changes inside a file go in place.
    in_place: Option<&'static str>,
    /// What is replaced by something of another kind, or a directory, is gone before the other has its name.
    replaces: Option<&'static str>,
}

fn old(length: usize) -> Vec<u8> {
    pattern(1, length)
}

fn new(length: usize) -> Vec<u8> {
    pattern(2, length)
}

/// What is there before: files of both kinds of names, directories, a link, and a neighbour of everything.
async fn prepare(kernel: &Kernel) -> Result<()> {
    kernel.save(SHORT, &old(3 * CHUNK + 100)).await?;
    kernel.save(LONG, &old(2 * CHUNK)).await?;
    kernel.save("neighbour", &old(CHUNK + 1)).await?;
    kernel.mkdir("full", 0o755).await?;
    kernel.save("full/inner", &old(10)).await?;
    kernel.save("full/an inner name that is shortened", &old(20)).await?;
    kernel.mkdir("empty", 0o755).await?;
    kernel.mkdir("an empty directory with a long name", 0o755).await?;
    kernel.symlink("link", "neighbour").await
}

/// Writes at an offset without truncating, as a database does.
async fn change(kernel: &Kernel, path: &str, offset: u64, data: &[u8]) -> Result<()> {
    let open = kernel.open(path, READ_WRITE).await?;
    let written = kernel.write(open, offset, data).await;
    let closed = kernel.close(open).await;
    written.and(closed)
}

async fn rename(kernel: &Kernel, from: &str, to: &str) -> Result<()> {
    kernel.rename(from, to, RenameMode::Replace).await
}

macro_rules! deeds {
    ($($name:literal $(in place of $file:literal)? $(instead of $replaced:literal)?, |$kernel:ident| $deed:expr;)*) => {
        &[$(Deed {
            name: $name,
            deed: |$kernel| Box::pin(async move { $deed }),
            in_place: deeds!(@ $($file)?),
            replaces: deeds!(@ $($replaced)?),
        }),*]
    };
    (@ $file:expr) => { Some($file) };
    (@) => { None };
}

const DEEDS: &[Deed] = deeds! {
    "save a new file", |kernel| kernel.save("new", &new(2 * CHUNK + 5)).await;
    "save a new file with a long name", |kernel| kernel.save(OTHER_LONG, &new(2 * CHUNK + 5)).await;
    "save an empty file", |kernel| kernel.save("new", &[]).await;
    "replace a file's content", |kernel| kernel.save(SHORT, &new(CHUNK + 5)).await;
    "replace a file's content under a long name", |kernel| kernel.save(LONG, &new(CHUNK + 5)).await;
    "change inside a file" in place of "short", |kernel| change(kernel, SHORT, 100, &new(2 * CHUNK)).await;
    "append" in place of "short", |kernel| change(kernel, SHORT, (3 * CHUNK + 100) as u64, &new(2 * CHUNK)).await;
    "truncate to nothing", |kernel| kernel.truncate(SHORT, 0).await;
    "cut inside a chunk", |kernel| kernel.truncate(SHORT, (CHUNK + 7) as u64).await;
    "cut between chunks", |kernel| kernel.truncate(SHORT, CHUNK as u64).await;
    "extend" in place of "a name that is shortened", |kernel| kernel.truncate(LONG, (4 * CHUNK) as u64).await;
    "rename a file", |kernel| rename(kernel, SHORT, "renamed").await;
    "rename over a file", |kernel| rename(kernel, SHORT, "neighbour of none").await;
    "rename a file over a file", |kernel| rename(kernel, SHORT, "full/inner").await;
    "rename to a long name", |kernel| rename(kernel, SHORT, OTHER_LONG).await;
    "rename from a long name", |kernel| rename(kernel, LONG, "renamed").await;
    "rename between long names", |kernel| rename(kernel, LONG, OTHER_LONG).await;
    "rename over a long name", |kernel| rename(kernel, SHORT, LONG).await;
    "rename from a long name over a file", |kernel| rename(kernel, LONG, SHORT).await;
    "rename a full directory", |kernel| rename(kernel, "full", "full2").await;
    "rename a full directory to a long name", |kernel| rename(kernel, "full", OTHER_LONG).await;
    "rename a directory over an empty one" instead of "empty", |kernel| rename(kernel, "full", "empty").await;
    "rename a directory over an empty one with a long name" instead of "an empty directory with a long name",
        |kernel| rename(kernel, "full", "an empty directory with a long name").await;
    "rename a link over a file" instead of "neighbour", |kernel| rename(kernel, "link", "neighbour").await;
    "rename a link to a long name", |kernel| rename(kernel, "link", OTHER_LONG).await;
    "make a directory", |kernel| kernel.mkdir("made", 0o755).await;
    "make a directory with a long name", |kernel| kernel.mkdir(OTHER_LONG, 0o700).await;
    "make a link", |kernel| kernel.symlink("made", "neighbour").await;
    "make a link with a long name", |kernel| kernel.symlink(OTHER_LONG, "neighbour").await;
    "remove a file", |kernel| kernel.unlink(SHORT).await;
    "remove a file with a long name", |kernel| kernel.unlink(LONG).await;
    "remove a link", |kernel| kernel.unlink("link").await;
    "remove a directory", |kernel| kernel.rmdir("empty").await;
    "remove a directory with a long name", |kernel| kernel.rmdir("an empty directory with a long name").await;
};

/// A mount that knows all names and has read all files, so that a deed sends hardly more than what it changes.
async fn mount_and_look(server: &MemoryServer, place: Place) -> Kernel {
    let kernel = mount(server, place).await;
    kernel.tree(true).await.unwrap();
    kernel
}

/// What a drive that comes fresh to the server sees.
async fn seen_by_another(server: &MemoryServer, place: Place) -> Tree {
    let kernel = mount(&server.fork(), place).await;
    kernel.tree(true).await.unwrap()
}

/// Whether every chunk is the old one or the new one, and the length one of the two, or between them while a file
/// grows.
fn is_chunkwise(seen: &[u8], before: &[u8], after: &[u8]) -> bool {
    let pad = |content: &[u8]| {
        let mut content = content.to_vec();
        content.resize(before.len().max(after.len()), 0);
        content
    };
    let (old, new) = (pad(before), pad(after));
    (before.len()..=after.len()).contains(&seen.len())
        && seen.chunks(CHUNK).enumerate().all(|(number, chunk)| {
            let range = number * CHUNK..number * CHUNK + chunk.len();
            chunk == &old[range.clone()] || chunk == &new[range]
        })
}

/// Fails unless the tree is as it was or as it should be.
fn check(deed: &Deed, what: &str, seen: &Tree, before: &Tree, after: &Tree) {
    if seen == before || seen == after {
        return;
    }
    // A move in several steps may leave both names for one thing, never none.
    let both = |path: &str, seen: &Seen| before.get(path) == Some(seen) || after.get(path) == Some(seen);
    let holds = |tree: &Tree| {
        tree.iter().all(|(path, node)| seen.get(path) == Some(node) || deed.replaces == Some(path.as_str()))
    };
    let wanted = before != after && (holds(before) || holds(after));
    if deed.name.starts_with("rename") && wanted && seen.iter().all(|(path, seen)| both(path, seen)) {
        return;
    }
    if let Some(file) = deed.in_place {
        let content = |tree: &Tree| match tree.get(file) {
            Some(Seen::File { content, .. }) => content.clone(),
            other => panic!("{}: {what}: {file} is {other:?}", deed.name),
        };
        let rest = |tree: &Tree| {
            let mut tree = tree.clone();
            tree.remove(file);
            tree
        };
        if rest(seen) == rest(before) && is_chunkwise(&content(seen), &content(before), &content(after)) {
            return;
        }
    }
    let brief = |tree: &Tree| -> Vec<String> {
        tree.iter()
            .map(|(path, seen)| match seen {
                Seen::File { content, .. } => format!("{path}: {} bytes", content.len()),
                other => format!("{path}: {other:?}"),
            })
            .collect()
    };
    panic!(
        "{}: {what}:\nseen   {:#?}\nbefore {:#?}\nafter  {:#?}",
        deed.name,
        brief(seen),
        brief(before),
        brief(after)
    );
}

/// A server with everything on it, and the trees before and after a deed.
async fn stage(
    place: Place,
    deed: &Deed,
    looked: bool,
) -> (MemoryServer, Tree, Tree, Vec<(MessageKind, RemotePath)>) {
    let server = place.server();
    let kernel = mount(&server, place).await;
    prepare(&kernel).await.unwrap();
    assert_eq!(kernel.drive.save_all().await.files, 0);
    let before = seen_by_another(&server, place).await;
    let done = server.fork();
    let kernel = if looked { mount_and_look(&done, place).await } else { mount(&done, place).await };
    let first = kernel.remote.messages().len();
    (deed.deed)(&kernel).await.unwrap_or_else(|error| panic!("{}: {error}", deed.name));
    let messages = kernel.remote.messages().split_off(first);
    let after = seen_by_another(&done, place).await;
    assert_ne!(before, after, "{}", deed.name);
    (server, before, after, messages)
}

/// Programs that are told of a failure and things they try again.
async fn retry(kernel: &Kernel, deed: &Deed) -> Result<()> {
    match (deed.deed)(kernel).await {
        // It was done, only the answer was lost.
        Err(crate::kernel::ENOENT | crate::kernel::EEXIST) => Ok(()),
        done => done,
    }
}

/// The name of something that is not finished, in a path on the server.
fn temporary(path: &RemotePath) -> Option<Vec<u8>> {
    let mut names = path.as_bytes().split(|&byte| byte == b'/');
    names.find(|name| name.starts_with(b".scaup-")).map(<[u8]>::to_vec)
}

fn every_message_cut(place: Place, applied: bool) {
    for deed in DEEDS {
        runtime().block_on(async {
            let (server, before, after, messages) = stage(place, deed, true).await;
            for n in 0..messages.len() {
                let what = format!("cut at message {n}, applied {applied}");
                let server = server.fork();
                let kernel = mount_and_look(&server, place).await;
                let first = kernel.remote.messages().len();
                kernel.remote.fault_at(n, Fault::Cut { applied });
                let done = (deed.deed)(&kernel).await;
                let what = format!("{what}, {:?}, {done:?}", kernel.remote.messages().get(first + n));
                let seen = seen_by_another(&server, place).await;
                check(deed, &what, &seen, &before, &after);
                if done.is_ok() {
                    check(deed, &format!("{what}, though it went well"), &seen, &after, &after);
                }

                kernel.remote.clear_faults();

                // The server comes back: what was accepted is saved, what is tried again goes well.
                kernel.remote.reconnect();
                assert_eq!(kernel.drive.save_all().await.files, 0, "{}: {what}", deed.name);
                check(
                    deed,
                    &format!("{what}, later"),
                    &seen_by_another(&server, place).await,
                    &before,
                    &after,
                );
                let again = retry(&kernel, deed).await;
                assert_eq!(again, Ok(()), "{}: {what}, tried again", deed.name);
                let own = kernel.tree(true).await.unwrap();
                check(deed, &format!("{what}, tried again, seen here"), &own, &after, &after);
                check(
                    deed,
                    &format!("{what}, tried again"),
                    &seen_by_another(&server, place).await,
                    &after,
                    &after,
                );
            }
        });
    }
}

/// The connection is cut at each message, and the server loses its power: of what it was not asked to put on its disk,
/// anything may be gone.
fn every_message_cut_and_power_lost(place: Place) {
    for deed in DEEDS {
        runtime().block_on(async {
            let (server, before, after, messages) = stage(place, deed, true).await;
            for n in 0..=messages.len() {
                for kept in 0..4 {
                    let server = server.fork();
                    let kernel = mount_and_look(&server, place).await;
                    kernel.remote.fault_at(n, Fault::Cut { applied: true });
                    let done = (deed.deed)(&kernel).await;
                    // The first draw is about names, and the others are about files.
                    let mut drawn = 0;
                    server.power_loss(|| {
                        drawn += 1;
                        if drawn == 1 { kept & 1 > 0 } else { kept & 2 > 0 }
                    });
                    let what = format!("cut at message {n}, power lost, {kept} kept, {done:?}");
                    let seen = seen_by_another(&server, place).await;
                    check(deed, &what, &seen, &before, &after);
                    // These mounts wait for the disk where a program closes a file.
                    let saves = ["save", "replace", "change", "append"]
                        .iter()
                        .any(|word| deed.name.starts_with(word));
                    if done.is_ok() && saves {
                        check(deed, &format!("{what}, though it went well"), &seen, &after, &after);
                    }
                }
            }
        });
    }
}

/// Whether a server can answer so to such a message: only what takes room can lack it.
fn can_answer(error: &RemoteError, (kind, path): &(MessageKind, RemotePath)) -> bool {
    use MessageKind as Kind;
    match kind {
        _ if error.is_unanswered() => true,
        Kind::Open => is_temporary(path),
        Kind::Mkdir | Kind::Symlink | Kind::HardLink | Kind::Rename => true,
        Kind::WriteFile | Kind::SetFileAttributes | Kind::Fsync | Kind::Close => true,
        Kind::Rmdir | Kind::Remove | Kind::SetAttributes => *error != RemoteError::NoSpace,
        _ => false,
    }
}

fn every_message_refused(place: Place, error: &RemoteError, applied: bool) {
    for deed in DEEDS {
        runtime().block_on(async {
            let (server, before, after, messages) = stage(place, deed, false).await;
            let refusable = |message: &&(MessageKind, RemotePath)| can_answer(error, message);
            for n in 0..messages.iter().filter(refusable).count() {
                let server = server.fork();
                let kernel = mount(&server, place).await;
                let first = kernel.remote.messages().len();
                // What is asked beside a deed goes in another order each time.
                let (fault, answer) = (Fault::Answer { error: error.clone(), applied }, error.clone());
                kernel
                    .remote
                    .fault_at_one(n, fault, move |kind, path| can_answer(&answer, &(kind, path.clone())));
                let done = (deed.deed)(&kernel).await;
                kernel.remote.clear_faults();
                let messages = kernel.remote.messages();
                let message = messages.iter().skip(first).filter(refusable).nth(n).map(|message| message.0);
                assert!(message.is_some() || error.is_unanswered(), "{}: message {n}", deed.name);
                let what = format!("{error:?} at message {n}, {message:?}, {done:?}");
                let unsaved = kernel.drive.unsaved().files > 0;
                let (own, other) = (kernel.tree(true).await.unwrap(), seen_by_another(&server, place).await);
                check(deed, &what, &other, &before, &after);
                check(deed, &format!("{what}, seen here"), &own, &before, &after);
                if done.is_ok() {
                    check(deed, &format!("{what}, though it went well"), &own, &after, &after);
                }
                if unsaved {
                    assert!(done.is_err(), "{}: {what}: content waits, and nobody was told", deed.name);
                }
                // What waits is saved, and nothing else changes.
                assert_eq!(kernel.drive.save_all().await.files, 0, "{}: {what}", deed.name);
                let saved = seen_by_another(&server, place).await;
                check(deed, &format!("{what}, saved"), &saved, &own, &own);
                assert_eq!(retry(&kernel, deed).await, Ok(()), "{}: {what}, tried again", deed.name);
                check(
                    deed,
                    &format!("{what}, tried again"),
                    &seen_by_another(&server, place).await,
                    &after,
                    &after,
                );
                // What could not be cleaned up is debris, which the next mount removes: of either end of a move at
                // most.
                let left: BTreeSet<_> = server.paths().iter().filter_map(temporary).collect();
                assert!(left.len() <= 2, "{}: {what}: left behind {}", deed.name, left.len());
            }
        });
    }
}

#[test]
fn a_file_that_was_saved_without_an_answer_can_be_removed_for_good() {
    for place in Place::ALL {
        runtime().block_on(async {
            for n in 0..12 {
                let server = place.server();
                let kernel = mount(&server, place).await;
                let open = kernel.create(LONG, 0o644).await.unwrap();
                kernel.write(open, 0, &new(10)).await.unwrap();
                kernel.remote.fault_at(n, Fault::Cut { applied: true });
                let closed = kernel.close(open).await;
                kernel.remote.clear_faults();
                kernel.remote.reconnect();
                kernel.unlink(LONG).await.unwrap();
                assert_eq!(kernel.drive.save_all().await.files, 0);
                let seen = seen_by_another(&server, place).await;
                assert_eq!(seen, Tree::new(), "{place:?}: cut at message {n}, {closed:?}");
            }
        });
    }
}

#[test]
fn what_failed_before_keeps_nothing_from_being_saved_before_locking() {
    for place in [Place::Gcm, Place::Ctrmac] {
        runtime().block_on(async {
            for n in 0..12 {
                let server = place.server();
                let kernel = mount(&server, place).await;
                let open = kernel.create(LONG, 0o644).await.unwrap();
                kernel.remote.fault_at(n, Fault::Cut { applied: false });
                let written = kernel.write(open, 0, &new(2_000_000)).await;
                kernel.remote.clear_faults();
                kernel.remote.reconnect();
                let locked = kernel.drive.lock(&place.root()).await;
                assert!(locked.is_ok(), "{place:?}: cut at message {n}, {written:?}: {locked:?}");
            }
        });
    }
}

/// What a program does that is told of a broken connection: it tries again, three times at most.
async fn insist<F: Future<Output = Result<()>>>(mut attempt: impl FnMut() -> F) -> Result<()> {
    let mut done = attempt().await;
    for _ in 0..2 {
        if done == Err(EIO) {
            done = attempt().await;
        }
    }
    done
}

fn with_length(mut content: Vec<u8>, length: usize) -> Vec<u8> {
    content.resize(length, 0);
    content
}

#[test]
fn a_file_that_was_saved_without_an_answer_can_be_changed_on() {
    for (place, applied) in Place::ALL.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        for (length, wanted) in
            [(0, 32_767), (10, 40_000), (40_000, 10), (40_000, 32_768), (600_000, 100_000)]
        {
            runtime().block_on(async {
                for n in 0..16 {
                    let server = place.server();
                    let kernel = mount(&server, place).await;
                    // Where one was made, the next is made on the server when there is something to send.
                    kernel.save(SHORT, &old(10)).await.unwrap();
                    // What overtakes is seen half-way.
                    let (least, most) = (Duration::from_millis(20), Duration::from_millis(60));
                    kernel.remote.set_delay(Some(Delay { least, most, seed: n as u64 }));
                    let open = kernel.create(LONG, 0o644).await.unwrap();
                    kernel.write(open, 0, &new(length)).await.unwrap();
                    kernel.remote.fault_at(n, Fault::Cut { applied });
                    let flushed = kernel.flush(open).await;
                    kernel.remote.clear_faults();
                    kernel.remote.reconnect();
                    let what = format!(
                        "{place:?}, {length} to {wanted}: cut at message {n}, applied {applied}, {flushed:?}"
                    );
                    assert_eq!(insist(|| kernel.chmod(LONG, 0o600)).await, Ok(()), "{what}");
                    let cut = insist(|| kernel.truncate_open(open, wanted as u64)).await;
                    assert_eq!(cut, Ok(()), "{what}");
                    let more = old(3 * CHUNK);
                    let written = insist(|| kernel.write(open, wanted as u64, &more)).await;
                    assert_eq!(written, Ok(()), "{what}");
                    assert_eq!(insist(|| kernel.fsync(open)).await, Ok(()), "{what}");
                    kernel.close(open).await.unwrap();
                    let seen = seen_by_another(&server, place).await;
                    let content = [with_length(new(length), wanted), more].concat().into();
                    let wanted = Seen::File { content, mode: 0o600 };
                    assert!(seen.get(LONG) == Some(&wanted) && seen.len() == 2, "{what}");
                }
            });
        }
    }
}

/// Somebody else saves a file meanwhile, some seconds later.
async fn save_elsewhere(server: &MemoryServer, place: Place, path: &str, content: &[u8]) {
    server.pass(Duration::from_secs(3));
    let other = mount(server, place).await;
    other.save(path, content).await.unwrap();
    other.drive.save_all().await;
    server.pass(Duration::from_secs(3));
}

fn holds(seen: &Tree, wanted: &[u8]) -> bool {
    seen.values().any(|seen| matches!(seen, Seen::File { content, .. } if content == wanted))
}

#[test]
fn what_somebody_else_saves_over_a_file_whose_answer_is_missing_is_not_written_into() {
    let theirs = pattern(3, 2 * CHUNK + 9);
    for place in Place::ALL {
        for closed in [true, false] {
            runtime().block_on(async {
                for n in 0..16 {
                    let server = place.server();
                    let kernel = mount(&server, place).await;
                    let open = kernel.create(LONG, 0o644).await.unwrap();
                    kernel.write(open, 0, &new(3 * CHUNK)).await.unwrap();
                    kernel.remote.fault_at(n, Fault::Cut { applied: true });
                    let flushed = kernel.flush(open).await;
                    kernel.remote.clear_faults();
                    save_elsewhere(&server, place, LONG, &theirs).await;
                    if closed {
                        // The server is not there: it is kept to be saved.
                        kernel.release(open).await;
                    }
                    kernel.remote.reconnect();
                    let what = format!("{place:?}, closed {closed}: cut at message {n}, {flushed:?}");
                    if !closed {
                        let written = kernel.write(open, 0, &new(100)).await;
                        let flushed = kernel.flush(open).await;
                        let seen = seen_by_another(&server, place).await;
                        assert!(holds(&seen, &theirs), "{what}: {written:?}, {flushed:?}");
                        kernel.release(open).await;
                    }
                    let unsaved = kernel.drive.save_all().await.files;
                    assert_eq!(unsaved, 0, "{what}");
                    let seen = seen_by_another(&server, place).await;
                    assert!(holds(&seen, &theirs), "{what}");
                    assert!(seen.len() <= 2, "{what}");
                }
            });
        }
    }
}

#[test]
fn a_file_that_was_saved_without_an_answer_and_may_not_be_written_is_saved() {
    for place in Place::ALL {
        runtime().block_on(async {
            let server = place.server();
            let saving = async |server: &MemoryServer, cut: Option<usize>| {
                let kernel = mount(server, place).await;
                let open = kernel.create(LONG, 0o444).await.unwrap();
                kernel.write(open, 0, &new(CHUNK)).await.unwrap();
                let before = kernel.remote.messages().len();
                if let Some(n) = cut {
                    kernel.remote.fault_at(n, Fault::Cut { applied: true });
                }
                let flushed = kernel.flush(open).await;
                kernel.release(open).await;
                let renamed = kernel.remote.messages().split_off(before);
                (kernel, flushed, renamed.iter().rposition(|(kind, _)| *kind == MessageKind::Rename).unwrap())
            };
            let (_, _, published) = saving(&server.fork(), None).await;
            let (kernel, flushed, _) = saving(&server, Some(published)).await;
            assert_eq!(flushed, Err(EIO), "{place:?}");
            kernel.remote.clear_faults();
            kernel.remote.reconnect();
            // The look whether it has its name by now comes first; in vaults it may be half-way to it.
            let (n, error) = (if place.is_vault() { 2 } else { 1 }, RemoteError::PermissionDenied);
            let before = kernel.remote.messages().len();
            kernel.remote.fault_at(n, Fault::Answer { error, applied: false });
            assert_eq!(kernel.drive.save_all().await.files, 0, "{place:?}");
            assert_eq!(kernel.remote.messages()[before + n].0, MessageKind::Open, "{place:?}");
            let seen = seen_by_another(&server, place).await;
            let wanted = Seen::File { content: new(CHUNK).into(), mode: 0o444 };
            assert!(seen == Tree::from([(LONG.to_owned(), wanted)]), "{place:?}");
        });
    }
}

#[test]
fn a_rename_that_failed_once_still_keeps_what_somebody_else_saved_meanwhile() {
    let theirs = pattern(3, CHUNK + 9);
    for place in Place::ALL {
        for fault in [
            Fault::Cut { applied: false },
            Fault::Answer { error: RemoteError::PermissionDenied, applied: false },
        ] {
            runtime().block_on(async {
                for n in 0..12 {
                    let server = place.server();
                    let kernel = mount(&server, place).await;
                    kernel.save(SHORT, &old(10)).await.unwrap();
                    kernel.save(LONG, &new(20)).await.unwrap();
                    kernel.tree(true).await.unwrap();
                    kernel.remote.fault_at(n, fault.clone());
                    let first = rename(&kernel, LONG, SHORT).await;
                    kernel.remote.clear_faults();
                    if first.is_ok() {
                        break;
                    }
                    if kernel.remote.is_cut() {
                        kernel.remote.reconnect();
                    }
                    save_elsewhere(&server, place, SHORT, &theirs).await;
                    let again = rename(&kernel, LONG, SHORT).await;
                    let what = format!("{place:?}, {fault:?} at message {n}: {first:?}, {again:?}");
                    let seen = seen_by_another(&server, place).await;
                    assert!(holds(&seen, &theirs) && holds(&seen, &new(20)), "{what}");
                }
            });
        }
    }
}

#[test]
fn what_a_full_server_took_in_part_is_cut_off_again() {
    let length = CHUNK;
    for (place, applied) in Place::ALL.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        for (added, wanted) in
            [(10, length), (CHUNK, length), (20 * CHUNK, length), (CHUNK, 100), (20 * CHUNK, 2 * CHUNK)]
        {
            runtime().block_on(async {
                for n in 0..24 {
                    let server = place.server();
                    let kernel = mount(&server, place).await;
                    kernel.save(SHORT, &old(length)).await.unwrap();
                    let open = kernel.open(SHORT, READ_WRITE).await.unwrap();
                    kernel.remote.fault_at(n, Fault::Answer { error: RemoteError::NoSpace, applied });
                    let written = kernel.write(open, length as u64, &new(added)).await;
                    let flushed = kernel.flush(open).await;
                    kernel.remote.clear_faults();
                    let what = format!(
                        "{place:?}, {added} added, cut to {wanted}: refused {n}, {applied}, {written:?}, {flushed:?}"
                    );
                    assert_eq!(insist(|| kernel.truncate_open(open, wanted as u64)).await, Ok(()), "{what}");
                    assert_eq!(insist(|| kernel.fsync(open)).await, Ok(()), "{what}");
                    kernel.close(open).await.unwrap();
                    let seen = seen_by_another(&server, place).await;
                    let Some(Seen::File { content, .. }) = seen.get(SHORT) else { panic!("{what}: {seen:?}") };
                    assert_eq!(content.len(), wanted, "{what}");
                    let kept = wanted.min(length);
                    assert!(content[..kept] == old(length)[..kept], "{what}");
                    assert_eq!(seen.len(), 1, "{what}");
                }
            });
        }
    }
}

#[test]
fn a_cut_leaves_old_or_new_in_a_plain_place() {
    every_message_cut(Place::Plain, true);
    every_message_cut(Place::Plain, false);
}

#[test]
fn a_power_loss_at_any_message_leaves_old_or_new_in_a_plain_place() {
    every_message_cut_and_power_lost(Place::Plain);
}

#[test]
fn a_power_loss_at_any_message_leaves_old_or_new_in_a_vault() {
    every_message_cut_and_power_lost(Place::Gcm);
}

#[test]
fn a_cut_after_a_message_leaves_old_or_new_in_a_vault() {
    every_message_cut(Place::Gcm, true);
}

#[test]
fn a_cut_before_a_message_leaves_old_or_new_in_a_vault() {
    every_message_cut(Place::Gcm, false);
}

#[test]
fn a_full_server_loses_nothing() {
    every_message_refused(Place::Plain, &RemoteError::NoSpace, false);
    every_message_refused(Place::Gcm, &RemoteError::NoSpace, false);
}

#[test]
fn a_server_that_does_not_answer_once_loses_nothing() {
    let error = RemoteError::Timeout(Duration::from_secs(60));
    every_message_refused(Place::Plain, &error, false);
    every_message_refused(Place::Gcm, &error, false);
}

#[test]
fn an_answer_that_is_lost_once_loses_nothing() {
    let error = RemoteError::Timeout(Duration::from_secs(60));
    every_message_refused(Place::Plain, &error, true);
    every_message_refused(Place::Gcm, &error, true);
}

#[test]
fn a_server_that_fails_once_loses_nothing() {
    every_message_refused(Place::Plain, &RemoteError::Failure("Failure".to_owned()), false);
    every_message_refused(Place::Ctrmac, &RemoteError::Failure("Failure".to_owned()), false);
}
