//! What the road's length costs: the round trips of walking a tree, making many files, saving as editors do. A proxy
//! counts them by letting each side speak in turn.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use scaup_rig::{Mount, Proxy, Scaup, Sshd, eventually};

use crate::support::{FORGIVEN, PASSWORD, round_trips, scaup, server_with_vault};

/// An unlocked vault, mounted through a road that can count.
struct Road {
    scaup: Scaup,
    mount: Mount,
    proxy: Proxy,
    sshd: Sshd,
}

impl Road {
    /// A vault that `fill` was called on before this mount was made.
    fn to_a_vault(fill: impl Fn(&Path)) -> Self {
        let sshd = server_with_vault();
        let scaup = scaup();
        let options = options(&scaup);
        let filling = scaup.mount_on(&sshd, "Vault").args(&options).start();
        fill(filling.path());
        filling.unmount(&scaup);
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let mount = scaup.mount_through(&proxy, &sshd, "Vault").args(&options).start();
        Self { scaup, mount, proxy, sshd }
    }

    /// The round trips that `work` takes, until everything is on the server.
    fn of(&self, work: impl FnOnce(&Path)) -> u64 {
        let work = || {
            work(self.mount.path());
            eventually("everything is saved", Duration::from_secs(60), || {
                let unsaved = self.scaup.status().pointer("/mounts/0/unsaved").cloned().unwrap();
                unsaved["files"] == 0 && unsaved["removals"].is_null()
            });
        };
        round_trips(&self.proxy, work).0
    }

    fn unmount(self) {
        self.mount.unmount(&self.scaup);
    }
}

/// What unlocks the vault. What is known must not grow old only because both sides are slowed down here.
fn options(scaup: &Scaup) -> [String; 6] {
    let password = scaup.command_answering(PASSWORD);
    ["--vault", ".", "--vault-password-command", &password, "--attr-timeout", "60"].map(str::to_owned)
}

/// Looks at everything below a directory, as `ls -lR` does; returns how much there is.
fn walk(directory: &Path) -> usize {
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.metadata().unwrap().file_type();
        seen += 1;
        if kind.is_dir() {
            seen += walk(&entry.path());
        }
    }
    seen
}

#[test]
fn a_tree_is_walked_level_by_level_and_once() {
    let road = Road::to_a_vault(|root| {
        for first in 0..5 {
            for second in 0..5 {
                let directory = root.join(format!("far/down/tree/{first}/{second}"));
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("file"), "content").unwrap();
            }
        }
    });
    // Finding the tree, then for each of its three levels: opening the directories, their names, the ids of those in
    // them.
    let cold = road.of(|root| assert_eq!(walk(&root.join("far/down/tree")), 5 + 25 + 25));
    assert!((4..=4 + 3 * 4 + FORGIVEN).contains(&cold), "{cold} round trips for 31 directories");
    let warm = road.of(|root| assert_eq!(walk(&root.join("far/down/tree")), 5 + 25 + 25));
    assert!(warm <= FORGIVEN, "{warm} round trips for what was just seen");
    road.unmount();
}

#[test]
fn many_small_files_are_made_together() {
    let road = Road::to_a_vault(|_| {});
    let made = road.of(|root| {
        let directory = root.join("new");
        fs::create_dir(&directory).unwrap();
        for number in 0..40 {
            fs::write(directory.join(format!("{number}")), [7; 4096]).unwrap();
        }
    });
    // Making the directory, then opening, writing, naming: of all files at once.
    assert!(made <= 8 + 3 * 3 + FORGIVEN, "{made} round trips for 40 files");
    road.unmount();
}

#[test]
fn a_tree_is_removed_while_whoever_removes_it_goes_on() {
    let road = Road::to_a_vault(|root| {
        for directory in 0..6 {
            let directory = root.join(format!("tree/{directory}"));
            fs::create_dir_all(&directory).unwrap();
            for file in 0..15 {
                fs::write(directory.join(format!("{file}")), "content").unwrap();
            }
        }
    });
    let removed = road.of(|root| {
        assert_eq!(walk(&root.join("tree")), 6 + 6 * 15);
        fs::remove_dir_all(root.join("tree")).unwrap();
        fs::symlink_metadata(root.join("tree")).unwrap_err();
    });
    // Looking at the tree, then the first file of each directory, and the first and the last directory for themselves.
    assert!(removed <= 12 + 6 + 2 * 6 + FORGIVEN, "{removed} round trips for 90 files in 6 directories");
    road.unmount();
}

#[test]
fn an_editors_save_takes_few() {
    let road = Road::to_a_vault(|root| fs::write(root.join("document"), "old").unwrap());
    let saved = road.of(|root| {
        for number in 0..4 {
            let temporary = root.join(format!(".document.{number}"));
            let mut file = File::create_new(&temporary).unwrap();
            file.write_all(b"new").unwrap();
            file.sync_all().unwrap();
            drop(file);
            fs::rename(&temporary, root.join("document")).unwrap();
        }
    });
    assert!(saved <= 4 * 6 + FORGIVEN, "{saved} round trips for 4 saves");
    road.unmount();
}

#[test]
fn a_file_opens_with_its_first_bytes_in_two_and_reads_elsewhere_in_one() {
    let road = Road::to_a_vault(|root| fs::write(root.join("large"), vec![1; 3_000_000]).unwrap());
    let mut file = None;
    let opened = road.of(|root| {
        fs::metadata(root.join("large")).unwrap();
        let opened = File::open(root.join("large")).unwrap();
        opened.read_exact_at(&mut [0; 100], 0).unwrap();
        file = Some(opened);
    });
    // Finding it comes before.
    assert!((2..=2 + 2 + FORGIVEN).contains(&opened), "{opened} round trips to the first byte");
    let elsewhere = road.of(|_| file.as_ref().unwrap().read_exact_at(&mut [0; 100], 2_900_000).unwrap());
    assert!((1..=1 + FORGIVEN).contains(&elsewhere), "{elsewhere} round trips for a read elsewhere");
    drop(file);
    road.unmount();
}

/// The name of the `number`th file, so that they sort as they count.
fn numbered(number: usize) -> String {
    format!("{number:03}")
}

#[test]
fn many_small_files_are_read_in_a_few() {
    let content = |number: usize, version: &str| format!("{version} of {number}").repeat(500);
    let road = Road::to_a_vault(|root| {
        fs::create_dir(root.join("files")).unwrap();
        for number in 0..100 {
            fs::write(root.join("files").join(numbered(number)), content(number, "first")).unwrap();
        }
    });
    let read_all = |root: &Path, changed: Option<usize>| {
        let mut names: Vec<_> =
            fs::read_dir(root.join("files")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for (number, path) in names.into_iter().enumerate() {
            let version = if changed == Some(number) { "second" } else { "first" };
            assert!(fs::read_to_string(path).unwrap() == content(number, version), "{number}");
        }
    };
    // Finding them, two for each of the first two, and then for dozens at a time.
    let cold = road.of(|root| read_all(root, None));
    assert!((6..=13 + FORGIVEN).contains(&cold), "{cold} round trips for 100 files");
    let other = road.scaup.mount_on(&road.sshd, "Vault").args(options(&road.scaup)).start();
    fs::write(other.join("files").join(numbered(50)), content(50, "second")).unwrap();
    other.unmount(&road.scaup);
    let again = road.of(|root| read_all(root, Some(50)));
    // Where somebody is at work, everything that was opened ahead is opened again.
    let most = 2 * 13 + FORGIVEN;
    assert!((6..=most).contains(&again), "{again} round trips for 100 files of which one was changed");
    road.unmount();
}
