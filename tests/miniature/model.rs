//! Random operations on a drive over memory, against a plain tree: equal after every step, however the connection was
//! cut in the middle of it, and again after a remount.

mod steps;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use scaup::drive::DriveOptions;
use scaup::remote::{Remote, RemoteOpen, RemotePath};
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer};
use scaup_fuse::Filesystem as _;
use scaup_fuse::filesystem::{FileKind, Handle, Inode, OpenFlags};
use steps::{How, Step, steps};
use tree::{Action, Model, Node, Number, setups};

use crate::kernel::{
    APPEND, EEXIST, EIO, ENOENT, Kernel, Place, READ, READ_WRITE, Result, Seen, at, options, runtime,
};

/// How often a program tries after a cut: it may be told of what failed before, and of what fails now.
const ATTEMPTS_MAX: u32 = 3;

/// One mount of one server, in a runtime of its own.
struct Mount {
    runtime: tokio::runtime::Runtime,
    server: MemoryServer,
    options: DriveOptions,
    delay: Option<Delay>,
    place: Place,
    kernel: Option<Kernel>,
    handles: Vec<(Inode, Handle)>,
    /// Whether programs may be told of failures.
    was_cut: bool,
}

impl Mount {
    fn new(model: &Model) -> Self {
        let delay = model.delay.map(|(spread, seed)| Delay {
            least: Duration::from_millis(20),
            most: Duration::from_millis(20 + spread),
            seed,
        });
        let mut mount = Self {
            runtime: runtime(),
            server: model.place.server(),
            options: DriveOptions {
                memory: model.memory,
                attr_timeout: model.attr_timeout,
                without: model.without.iter().copied().collect(),
                ..options()
            },
            delay,
            place: model.place,
            kernel: None,
            handles: Vec::new(),
            was_cut: false,
        };
        mount.mount();
        mount
    }

    fn mount(&mut self) {
        let remote = MemoryRemote::connect(&self.server);
        remote.set_delay(self.delay);
        let mounting = Kernel::mount(remote, self.place, self.options.clone());
        self.kernel = Some(self.runtime.block_on(mounting));
    }

    fn unmount(&mut self) {
        let kernel = self.kernel.take().unwrap();
        let handles = std::mem::take(&mut self.handles);
        self.runtime.block_on(async {
            for open in handles {
                match kernel.close(open).await {
                    Err(EIO) if self.was_cut => {}
                    closed => closed.unwrap(),
                }
            }
            kernel.forget(&[]);
            if self.was_cut {
                // It may tell of what failed before.
                kernel.drive.save_all().await;
            }
            let left = kernel.drive.save_all().await;
            assert!(left.is_none(), "{left:?} {:?}", kernel.drive.errors());
            drop(kernel);
            // What is done in the background is done before the next mount looks.
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        let left: Vec<RemotePath> =
            self.server.paths().into_iter().filter(crate::kernel::is_temporary).collect();
        // What could not be removed while there was no connection is the next process's.
        assert!(self.was_cut || left.is_empty(), "left behind: {left:?}");
    }

    fn act(&mut self, model: &Model) {
        match &model.last {
            Action::Remount => {
                self.unmount();
                // All that a mount saved is on the server's disk when it has ended.
                self.server.power_loss(|| false);
                self.mount();
            }
            action => {
                let (kernel, handles) = (self.kernel.as_ref().unwrap(), &mut self.handles);
                if let Some((n, applied)) = model.last_cut.filter(|_| model.may_be_tried_again()) {
                    // An earlier removal that is still under way is not what is cut here: its name would come back
                    // (`status` says so).
                    self.runtime.block_on(kernel.drive.statfs(Inode::ROOT)).unwrap();
                    kernel.remote.fault_at(n, Fault::Cut { applied });
                }
                let mut done = self.runtime.block_on(act(kernel, handles, &self.server, action, false));
                kernel.remote.clear_faults();
                if kernel.remote.is_cut() {
                    kernel.remote.reconnect();
                    self.was_cut = true;
                    // What was under way ahead fails before anybody can wait for it: over SSH it would go on on the
                    // next connection.
                    self.runtime.block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
                }
                // What failed behind a program's back is told by the next thing it does with the file.
                let mut attempts = 1;
                while self.was_cut && done == Err(EIO) && attempts < ATTEMPTS_MAX {
                    done = self.runtime.block_on(act(kernel, handles, &self.server, action, true));
                    attempts += 1;
                }
                assert_eq!(done, Ok(()), "{action:?}");
                if let Action::Fsync { handle } = action {
                    self.check_on_disk(model, model.handles[*handle].node);
                }
            }
        }
    }

    /// A file that was synced is there, whole and under its name, though the server loses its power now.
    fn check_on_disk(&self, model: &Model, file: Number) {
        let Some((path, _)) = model.paths().into_iter().find(|(_, number)| *number == file) else { return };
        let server = self.server.fork();
        server.power_loss(|| false);
        let kernel = Kernel::mount(MemoryRemote::connect(&server), self.place, options());
        let content = self.runtime.block_on(async { kernel.await.content(&path).await });
        assert!(content.is_ok_and(|content| content == **model.content(file)), "{path} was synced");
    }

    fn compare(&self, model: &Model, inside: bool) {
        let kernel = self.kernel.as_ref().unwrap();
        self.runtime.block_on(async {
            for (open, &(inode, _)) in model.handles.iter().zip(&self.handles) {
                let shown = kernel.getattr(inode).await.unwrap();
                assert_eq!(shown.size, model.content(open.node).len() as u64, "length of an open file");
            }
            for (path, number) in model.paths() {
                if let Node::File { content, modified, .. } = &model.nodes[number] {
                    let shown = kernel.lookup(&path).await.unwrap();
                    assert_eq!(shown.size, content.len() as u64, "length of {path}");
                    if let Some(modified) = modified {
                        assert_eq!(shown.modified, at(*modified), "time of {path}");
                    }
                }
            }
            // A vault lists the form of a name that was last asked for.
            let seen = kernel.tree(inside).await.unwrap().into_iter();
            let seen: BTreeMap<_, _> = seen.map(|(path, seen)| (model.key(&path), seen)).collect();
            let wanted = model.seen(inside);
            assert!(seen == wanted, "{}", difference(&seen, &wanted));
        });
    }
}

fn difference(seen: &BTreeMap<String, Seen>, wanted: &BTreeMap<String, Seen>) -> String {
    let brief = |seen: Option<&Seen>| match seen {
        Some(Seen::File { content, mode }) => format!("file of {} bytes, mode {mode:o}", content.len()),
        other => format!("{other:?}"),
    };
    let mut text = String::new();
    for path in seen.keys().chain(wanted.keys()) {
        let (seen, wanted) = (seen.get(path), wanted.get(path));
        if seen != wanted {
            text += &format!("{path}: seen {}, wanted {}", brief(seen), brief(wanted));
            if let (Some(Seen::File { content: seen, .. }), Some(Seen::File { content: wanted, .. })) =
                (seen, wanted)
            {
                let at = seen.iter().zip(wanted).position(|(seen, wanted)| seen != wanted);
                text += &format!(", first different byte {at:?}");
            }
            text += "; ";
        }
    }
    text
}

/// What a program removed may be there again, where a cut came before the server had done it (`status` says so). What
/// is of the kind that is to be made is taken for what was made before the cut.
async fn remove_what_came_back(kernel: &Kernel, path: &str, wanted: FileKind) -> Result<()> {
    match kernel.lookup(path).await {
        Ok(there) if there.kind == wanted => Ok(()),
        Ok(there) if there.kind == FileKind::Directory => kernel.rmdir(path).await,
        Ok(_) => kernel.unlink(path).await,
        Err(ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Does it, or returns `EIO`: `again` if an attempt before this one did, which may have been carried out nevertheless.
async fn act(
    kernel: &Kernel,
    handles: &mut Vec<(Inode, Handle)>,
    server: &MemoryServer,
    action: &Action,
    again: bool,
) -> Result<()> {
    let as_wanted = |done: Result<()>, wanted: &Result<()>| match done {
        Err(EIO) => Err(EIO),
        Err(EEXIST | ENOENT) if again && wanted.is_ok() => Ok(()),
        done => {
            assert_eq!(done, *wanted, "{action:?}");
            Ok(())
        }
    };
    match action {
        Action::Nothing | Action::Remount => {}
        Action::Create { path, mode } => handles.push(kernel.create(path, *mode).await?),
        Action::Open { path, how } => {
            let flags: OpenFlags = match how {
                How::Read => READ,
                How::ReadWrite | How::Truncate => READ_WRITE,
                How::Append => APPEND,
            };
            let open = kernel.open(path, flags).await?;
            if *how == How::Truncate
                && let Err(error) = kernel.truncate_open(open, 0).await
            {
                kernel.release(open).await;
                return Err(error);
            }
            handles.push(open);
        }
        Action::Write { handle, offset, data, reading } => {
            let open = handles[*handle];
            if *reading {
                let read = async {
                    for &other in handles.iter() {
                        kernel.read_all(other).await?;
                    }
                    Ok(())
                };
                let (written, flushed, read) =
                    futures::join!(kernel.write(open, *offset, data), kernel.flush(open), read);
                written.and(flushed).and(read)?;
            } else {
                kernel.write(open, *offset, data).await?;
            }
        }
        Action::Read { handle, offset, content, length } => {
            let read = kernel.read(handles[*handle], *offset, *length).await?;
            assert!(read == content, "read {} bytes, wanted {}", read.len(), content.len());
        }
        Action::TruncateOpen { handle, length } => {
            kernel.truncate_open(handles[*handle], *length).await?;
        }
        Action::Truncate { path, length } => kernel.truncate(path, *length).await?,
        Action::Fsync { handle } => kernel.fsync(handles[*handle]).await?,
        Action::Flush { handle } => kernel.flush(handles[*handle]).await?,
        Action::Close { .. } if again => {}
        Action::Close { handle } => kernel.close(handles.remove(*handle)).await?,
        Action::Mkdir { path, mode, result } => {
            if again && result.is_ok() {
                remove_what_came_back(kernel, path, FileKind::Directory).await?;
            }
            as_wanted(kernel.mkdir(path, *mode).await, result)?;
        }
        Action::Symlink { path, target, result } => {
            if again && result.is_ok() {
                remove_what_came_back(kernel, path, FileKind::Symlink).await?;
            }
            as_wanted(kernel.symlink(path, target).await, result)?;
        }
        Action::Unlink { path, result } => as_wanted(kernel.unlink(path).await, result)?,
        Action::Rmdir { path, result } => as_wanted(kernel.rmdir(path).await, result)?,
        Action::Rename { from, to, mode, result } => {
            as_wanted(kernel.rename(from, to, *mode).await, result)?;
        }
        Action::Chmod { path, mode } => kernel.chmod(path, *mode).await?,
        Action::Utimens { path, seconds } => kernel.utimens(path, *seconds).await?,
        Action::ForeignChange { path, content } => {
            // What waits is saved first: this is about what a drive sees, not about conflicts.
            let left = kernel.drive.save_all().await;
            assert!(left.is_none(), "{left:?} {:?}", kernel.drive.errors());
            server.pass(Duration::from_secs(3));
            let path_there = RemotePath::parse(path.as_bytes()).unwrap();
            server.set_content(&path_there, content).unwrap();
            // They look after their disk themselves.
            let theirs =
                MemoryRemote::connect(server).open(&path_there, RemoteOpen::ReadWrite).await.unwrap();
            theirs.fsync().await.unwrap();
            // What a program replaces without having read it is kept beside.
            assert!(kernel.content(path).await? == ***content);
        }
        Action::Forget => {
            let open: Vec<Inode> = handles.iter().map(|&(inode, _)| inode).collect();
            kernel.forget(&open);
        }
        Action::Lock => {
            kernel.drive.lock(&RemotePath::parse(b"Vault").unwrap()).await.unwrap();
            for open in handles.drain(..) {
                kernel.release(open).await;
            }
            kernel.unlock().await;
        }
    }
    Ok(())
}

struct Plain;
struct Gcm;
struct Ctrmac;

macro_rules! model_test {
    ($machine:ident, $place:expr, $name:ident) => {
        impl ReferenceStateMachine for $machine {
            type State = Model;
            type Transition = Step;

            fn init_state() -> BoxedStrategy<Model> {
                setups($place)
            }

            fn transitions(_: &Model) -> BoxedStrategy<Step> {
                steps()
            }

            fn apply(mut model: Model, step: &Step) -> Model {
                model.last_cut = model.next_cut.take();
                model.last = model.apply(step);
                model
            }
        }

        impl StateMachineTest for $machine {
            type SystemUnderTest = Mount;
            type Reference = Self;

            fn init_test(model: &Model) -> Mount {
                Mount::new(model)
            }

            fn apply(mut mount: Mount, model: &Model, _: Step) -> Mount {
                mount.act(model);
                mount
            }

            fn check_invariants(mount: &Mount, model: &Model) {
                let inside = model.look_inside || matches!(model.last, Action::Remount | Action::Lock);
                mount.compare(model, inside);
            }

            fn teardown(mut mount: Mount, model: Model) {
                mount.compare(&model, true);
                mount.unmount();
                mount.mount();
                mount.compare(&Model { handles: Vec::new(), ..model }, true);
                mount.unmount();
            }
        }

        proptest_state_machine::prop_state_machine! {
            #![proptest_config(config())]
            #[test]
            fn $name(sequential 1..60 => $machine);
        }
    };
}

/// `PROPTEST_CASES` asks for more.
fn config() -> Config {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 80 };
    Config { cases, failure_persistence: None, max_shrink_iters: 600, ..Config::default() }
}

model_test!(Plain, Place::Plain, a_plain_place_is_like_a_plain_tree);
model_test!(Gcm, Place::Gcm, a_vault_is_like_a_plain_tree);
model_test!(Ctrmac, Place::Ctrmac, a_vault_of_the_older_combo_is_like_a_plain_tree);
