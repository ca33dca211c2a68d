//! Names in a vault that have more than one Unicode form: what is changed under one form is so under each, whatever the
//! kernel remembers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scaup_fuse::Filesystem as _;
use scaup_fuse::filesystem::{Inode, Invalidate, LookupReply, RenameMode};
use tokio::time::Instant;

use crate::kernel::{FORMS, Kernel, in_every_vault, mount};

/// What a kernel does: it believes what it was told of a name for as long as it was told to.
struct Remembering<'a> {
    kernel: &'a Kernel,
    root: Inode,
    names: HashMap<String, (Option<Inode>, Instant)>,
}

impl<'a> Remembering<'a> {
    async fn of(kernel: &'a Kernel) -> Self {
        Self { kernel, root: kernel.root().await.unwrap(), names: HashMap::new() }
    }

    async fn find(&mut self, name: &str) -> Option<Inode> {
        if let Some((known, until)) = self.names.get(name)
            && *until > Instant::now()
        {
            return *known;
        }
        let (found, ttl) = match self.kernel.drive.lookup(self.root, OsStr::new(name)).await.unwrap() {
            LookupReply::Found(found) => (Some(found.attributes.inode), found.name_ttl),
            LookupReply::Missing(ttl) => (None, ttl),
        };
        self.names.insert(name.to_owned(), (found, Instant::now() + ttl));
        found
    }

    /// Whether each form stands for the same, which is looked at twice: the kernel has heard of both then.
    async fn both_are(&mut self, (first, second): (&str, &str)) -> Option<Inode> {
        let found = self.find(first).await;
        for name in [second, first, second] {
            assert_eq!(self.find(name).await, found, "{name:?}");
        }
        found
    }
}

/// Runs `test` with each pair of forms in either order.
fn with_every_form(test: impl AsyncFn(&Kernel, &mut Remembering<'_>, (&str, &str))) {
    in_every_vault(async |place| {
        for (composed, other) in FORMS {
            for forms in [(composed, other), (other, composed)] {
                assert_ne!(forms.0, forms.1);
                let kernel = mount(&place.server(), place).await;
                let mut seen = Remembering::of(&kernel).await;
                assert_eq!(seen.both_are(forms).await, None);
                test(&kernel, &mut seen, forms).await;
            }
        }
    });
}

#[test]
fn a_file_that_is_made_and_removed_under_different_forms_is_made_and_removed_at_once() {
    with_every_form(async |kernel, seen, (first, second)| {
        kernel.save(first, b"content").await.unwrap();
        assert!(seen.both_are((first, second)).await.is_some());
        kernel.unlink(second).await.unwrap();
        assert_eq!(seen.both_are((first, second)).await, None);
        // The next removals in a directory go on behind the program's back.
        kernel.save(second, b"content").await.unwrap();
        assert!(seen.both_are((first, second)).await.is_some());
        kernel.unlink(first).await.unwrap();
        assert_eq!(seen.both_are((first, second)).await, None);
    });
}

#[test]
fn directories_and_links_are_made_and_removed_under_different_forms() {
    with_every_form(async |kernel, seen, (first, second)| {
        kernel.mkdir(first, 0o755).await.unwrap();
        assert!(seen.both_are((first, second)).await.is_some());
        assert_eq!(kernel.mkdir(second, 0o755).await, Err(rustix::io::Errno::EXIST.raw_os_error()));
        kernel.rmdir(second).await.unwrap();
        assert_eq!(seen.both_are((first, second)).await, None);
        kernel.symlink(second, "target").await.unwrap();
        assert!(seen.both_are((first, second)).await.is_some());
        kernel.unlink(first).await.unwrap();
        assert_eq!(seen.both_are((first, second)).await, None);
    });
}

#[test]
fn a_rename_under_one_form_takes_the_name_from_all_and_gives_it_to_all() {
    with_every_form(async |kernel, seen, (first, second)| {
        kernel.save(first, b"old").await.unwrap();
        let old = seen.both_are((first, second)).await.unwrap();
        kernel.rename(second, "away", RenameMode::Replace).await.unwrap();
        assert_eq!(seen.both_are((first, second)).await, None);
        kernel.rename("away", second, RenameMode::Replace).await.unwrap();
        assert_eq!(seen.both_are((first, second)).await, Some(old));
        kernel.save("new", b"new").await.unwrap();
        kernel.rename("new", second, RenameMode::Replace).await.unwrap();
        assert!(seen.both_are((first, second)).await.is_some_and(|inode| inode != old));
        assert_eq!(kernel.content(first).await.unwrap(), "new");
    });
}

#[test]
fn what_is_listed_says_how_long_each_form_may_be_believed() {
    with_every_form(async |kernel, seen, (first, second)| {
        kernel.save(first, b"content").await.unwrap();
        kernel.save("plain", b"content").await.unwrap();
        // What waits to be saved is believed no longer, whatever its name is.
        kernel.drive.save_all().await;
        let handle = kernel.drive.opendir(seen.root).await.unwrap();
        let listed = kernel.drive.readdir(seen.root, handle, 0, true).await.unwrap();
        assert_eq!(listed.len(), 2);
        for entry in listed {
            let name = entry.name.into_string().unwrap();
            assert_eq!(entry.attributes.name_ttl.is_zero(), name != "plain", "{name:?}");
            let until = Instant::now() + entry.attributes.name_ttl;
            seen.names.insert(name, (Some(entry.attributes.attributes.inode), until));
        }
        kernel.drive.releasedir(seen.root, handle).await;
        kernel.unlink(second).await.unwrap();
        assert_eq!(seen.both_are((first, second)).await, None);
    });
}

#[test]
fn a_listing_shows_the_form_that_was_last_made_or_asked_for() {
    with_every_form(async |kernel, seen, (first, second)| {
        let listed = async || -> Vec<String> {
            let names = kernel.list(seen.root).await.unwrap();
            names.into_iter().map(|(name, _)| name).collect()
        };
        kernel.save(first, b"content").await.unwrap();
        assert_eq!(listed().await, [first]);
        // Listing changes nothing, nor does asking for what is listed.
        kernel.tree(true).await.unwrap();
        assert_eq!(listed().await, [first]);
        kernel.lookup(second).await.unwrap();
        assert_eq!(listed().await, [second]);
        // The kernel may forget the file meanwhile.
        kernel.forget(&[]);
        assert_eq!(listed().await, [second]);
        kernel.save("temporary", b"content").await.unwrap();
        kernel.rename("temporary", first, RenameMode::Replace).await.unwrap();
        assert_eq!(listed().await, [first]);
        kernel.rename(first, "renamed", RenameMode::Replace).await.unwrap();
        assert_eq!(listed().await, ["renamed"]);
    });
}

#[test]
fn a_kernel_that_asks_each_time_asks_the_server_no_more_often() {
    in_every_vault(async |place| {
        let (composed, decomposed) = FORMS[0];
        let kernel = mount(&place.server(), place).await;
        kernel.save(composed, b"content").await.unwrap();
        kernel.drive.save_all().await;
        kernel.lookup(composed).await.unwrap();
        kernel.go_far();
        let asked = crate::kernel::round_trips(async {
            for _ in 0..10 {
                kernel.lookup(decomposed).await.unwrap();
                kernel.lookup(composed).await.unwrap();
            }
        });
        assert_eq!(asked.await, 0);
    });
}

#[test]
fn the_kernel_is_not_kept_from_remembering_names_of_one_form() {
    in_every_vault(async |place| {
        let kernel = mount(&place.server(), place).await;
        let root = kernel.root().await.unwrap();
        for name in ["plain", "\u{6f22}\u{5b57}", "\u{df}"] {
            let open = kernel.create(name, 0o644).await.unwrap();
            kernel.write(open, 0, b"content").await.unwrap();
            kernel.close(open).await.unwrap();
            kernel.drive.save_all().await;
            let LookupReply::Found(found) = kernel.drive.lookup(root, OsStr::new(name)).await.unwrap() else {
                panic!("{name} is missing")
            };
            assert!(found.name_ttl > Duration::ZERO, "{name}");
        }
    });
}

/// What the kernel was told to drop.
#[derive(Default)]
struct Dropped(Mutex<Vec<(Inode, String)>>);

impl Dropped {
    fn take(&self) -> Vec<(Inode, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Invalidate for Dropped {
    fn attributes(&self, _inode: Inode) {}

    fn inode(&self, _inode: Inode) {}

    fn entry(&self, parent: Inode, name: &OsStr) {
        self.0.lock().unwrap().push((parent, name.to_str().unwrap().to_owned()));
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}

#[test]
fn the_kernel_drops_what_it_remembers_of_another_form_after_a_change() {
    in_every_vault(async |place| {
        let kernel = mount(&place.server(), place).await;
        let dropped = Arc::new(Dropped::default());
        kernel.drive.set_invalidator(dropped.clone());
        let root = kernel.root().await.unwrap();
        // For this letter stands the Kelvin sign, too.
        let (letter, sign) = ("K", "\u{212a}");
        let wanted = || vec![(root, letter.to_owned())];
        kernel.save(sign, b"content").await.unwrap();
        assert_eq!(dropped.take(), wanted());
        kernel.unlink(sign).await.unwrap();
        assert_eq!(dropped.take(), wanted());
        kernel.mkdir(sign, 0o755).await.unwrap();
        assert_eq!(dropped.take(), wanted());
        kernel.rename(sign, "away", RenameMode::Replace).await.unwrap();
        assert_eq!(dropped.take(), wanted());
        kernel.rename("away", sign, RenameMode::Replace).await.unwrap();
        assert_eq!(dropped.take(), wanted());
        kernel.rmdir(sign).await.unwrap();
        assert_eq!(dropped.take(), wanted());
        kernel.symlink(sign, "target").await.unwrap();
        assert_eq!(dropped.take(), wanted());
        // A file takes along under its new name what the kernel believed of the old one.
        kernel.save("old", b"content").await.unwrap();
        for name in [FORMS[0].0, FORMS[0].1] {
            kernel.rename("old", name, RenameMode::Replace).await.unwrap();
            assert_eq!(dropped.take(), [(root, name.to_owned())]);
            kernel.rename(name, "old", RenameMode::Replace).await.unwrap();
            assert_eq!(dropped.take(), []);
        }
    });
}

#[test]
fn locking_has_the_kernel_drop_the_form_that_was_asked_for() {
    in_every_vault(async |place| {
        let (composed, decomposed) = FORMS[0];
        let kernel = mount(&place.server(), place).await;
        let dropped = Arc::new(Dropped::default());
        kernel.drive.set_invalidator(dropped.clone());
        let root = kernel.root().await.unwrap();
        kernel.save(composed, b"content").await.unwrap();
        kernel.lookup(decomposed).await.unwrap();
        kernel.drive.lock(&place.root()).await.unwrap();
        let dropped = dropped.take();
        for name in [composed, decomposed] {
            assert!(dropped.contains(&(root, name.to_owned())), "{name}");
        }
        kernel.unlock().await;
        let listed = kernel.list(kernel.root().await.unwrap()).await.unwrap();
        assert_eq!(listed.first().map(|(name, _)| name.as_str()), Some(composed), "it is forgotten");
    });
}
