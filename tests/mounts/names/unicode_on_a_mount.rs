//! Names in a vault that have more than one Unicode form, as programs on a mount meet them.

use std::fs;

use scaup_rig::need;

use crate::kernel::FORMS;
use crate::support::{Drive, shell};

#[test]
fn on_a_mount_each_form_follows_the_other_at_once() {
    let drive = Drive::mounted();
    let vault = drive.vault();
    for (composed, other) in FORMS {
        for (first, second) in [(composed, other), (other, composed)] {
            let (first, second) = (vault.join(first), vault.join(second));
            let are_there = |wanted: bool| {
                for path in [&first, &second, &first, &second] {
                    assert_eq!(path.symlink_metadata().is_ok(), wanted, "{}", path.display());
                }
            };
            are_there(false);
            for _ in 0..3 {
                fs::File::create_new(&first).unwrap().sync_all().unwrap();
                are_there(true);
                fs::remove_file(&second).unwrap();
                are_there(false);
                fs::create_dir(&second).unwrap();
                are_there(true);
                fs::remove_dir(&first).unwrap();
                are_there(false);
                fs::write(&first, "old").unwrap();
                are_there(true);
                fs::write(vault.join("new"), "new content").unwrap();
                fs::rename(vault.join("new"), &second).unwrap();
                assert_eq!(fs::read(&first).unwrap(), b"new content");
                fs::rename(&first, vault.join("away")).unwrap();
                are_there(false);
                fs::remove_file(vault.join("away")).unwrap();
            }
        }
    }
    drive.unmount();
}

#[test]
fn rsync_from_a_source_with_decomposed_names_removes_nothing_of_it() {
    need(&[("rsync", "rsync")]);
    let mut drive = Drive::mounted();
    let source = tempfile::tempdir().unwrap();
    for (_, other) in FORMS {
        fs::write(source.path().join(other), other).unwrap();
    }
    fs::create_dir(source.path().join("e\u{301}")).unwrap();
    fs::write(source.path().join("e\u{301}/o\u{308}"), "below").unwrap();
    let compared = format!("diff -r '{}' .", source.path().display());
    for way in ["--delete", "--delete-after", "--delete-before", "--delete-delay"] {
        let rsync = format!("rsync -a --itemize-changes {way} '{}/' .", source.path().display());
        let copy = drive.vault().join(way);
        fs::create_dir(&copy).unwrap();
        assert_ne!(shell(&copy, &rsync), "");
        // Names were looked up by now, and are listed as the source has them.
        assert_eq!(shell(&copy, &rsync), "", "{way}");
        shell(&copy, &compared);
        // A new mount lists composed names: what is removed under one form is not taken to be there under the other.
        // But who lists first, then looks up and at last removes what was listed can't be helped.
        if way == "--delete-delay" {
            continue;
        }
        drive = drive.remounted();
        let copy = drive.vault().join(way);
        shell(&copy, &rsync);
        shell(&copy, &compared);
        assert_eq!(shell(&copy, &rsync), "", "{way}");
    }
    drive.unmount();
}
