//! What two people do to one vault while their sync clients do not run.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The name of a file or directory whose entry in the vault is shortened.
pub(super) const LONG: &str = "a long name, which a vault keeps in a file of its own, since the encrypted name would be \
     longer than what most servers take for the name of one file, and so on.txt";
const LONG_TOO: &str = "another long name, which a vault keeps in a file of its own, since the encrypted name would be \
     longer than what most servers take for the name of one file, and so on.txt";

/// Each name that a person gives. What is shown under another one is something that a sync client left.
pub(super) const NAMES: &[&str] = &[
    LONG,
    LONG_TOO,
    "letter.txt",
    "Grüße aus Köln.txt",
    "🎉 party.txt",
    "thing",
    "thing here",
    "thing there",
    "inner",
    "file here",
    "file there",
    "link",
];

/// The directory of one deed, as one end shows it.
pub(super) struct Place<'deed> {
    pub(super) deed: &'deed Deed,
    pub(super) directory: PathBuf,
}

/// A version of a file: its content or, for a link, its target.
pub(super) type Version = String;

impl Place<'_> {
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    fn save(&self, path: impl AsRef<Path>, version: &str) {
        fs::write(self.at(path), self.deed.version(version)).unwrap();
    }

    fn link(&self, name: &str, version: &str) {
        // As `ln -sf` does: a link's target can't be changed.
        let path = self.at(name);
        if path.is_symlink() {
            fs::remove_file(&path).unwrap();
        }
        symlink(self.deed.version(version), path).unwrap();
    }

    fn make(&self, directory: &str) {
        fs::create_dir(self.at(directory)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        let path = self.at(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

/// What is done in one directory of a vault: first at one end, from which the other gets it; then at both, while
/// neither knows of the other.
pub(super) struct Deed {
    /// Its directory's name too.
    pub(super) name: &'static str,
    before: fn(&Place<'_>),
    here: fn(&Place<'_>),
    there: fn(&Place<'_>),
    /// The versions that somebody saved, and that nobody who saw them removed or saved over.
    kept: &'static [&'static str],
}

impl Deed {
    /// No two are the same, nor of the same length at the two ends: some clients look no further.
    fn version(&self, version: &str) -> Version {
        format!("{}: {version}", self.name)
    }

    /// All that has to be there in the end.
    pub(super) fn kept(&self) -> impl Iterator<Item = Version> {
        self.kept.iter().map(|version| self.version(version))
    }

    fn place(&self, vault: &Path) -> Place<'_> {
        Place { deed: self, directory: vault.join(self.name) }
    }

    pub(super) fn before(&self, vault: &Path) {
        let place = self.place(vault);
        fs::create_dir(&place.directory).unwrap();
        (self.before)(&place);
    }

    pub(super) fn here(&self, vault: &Path) {
        (self.here)(&self.place(vault));
    }

    pub(super) fn there(&self, vault: &Path) {
        (self.there)(&self.place(vault));
    }
}

/// rclone aborts when it meets a file where it wants a directory, and does nothing more until a person makes room.
/// (Syncthing waits with that one path only, and only if it is the directory that lies here.)
pub(super) const KINDS: &str = "a file made here, a directory made there";

/// What was removed, and is made again under the same names once the ends are one again.
pub(super) const REMOVED: &str = "a file, a directory and a link removed there";

pub(super) const DEEDS: &[Deed] = &[
    Deed {
        name: "a file saved on both",
        before: |place| place.save("letter.txt", "at first"),
        here: |place| place.save("letter.txt", "here"),
        there: |place| place.save("letter.txt", "there"),
        kept: &["here", "there"],
    },
    Deed {
        name: "a long name saved on both",
        before: |place| place.save(LONG, "at first"),
        here: |place| place.save(LONG, "here"),
        there: |place| place.save(LONG, "there"),
        kept: &["here", "there"],
    },
    Deed {
        name: "a long name made on both",
        before: |_| (),
        here: |place| place.save(LONG, "here"),
        there: |place| place.save(LONG, "there"),
        kept: &["here", "there"],
    },
    Deed {
        name: "uncommon names saved on both",
        before: |place| {
            place.save("Grüße aus Köln.txt", "at first");
            place.save("🎉 party.txt", "at first");
        },
        here: |place| {
            place.save("Grüße aus Köln.txt", "ä here");
            place.save("🎉 party.txt", "🎉 here");
        },
        there: |place| {
            place.save("Grüße aus Köln.txt", "ä there");
            place.save("🎉 party.txt", "🎉 there");
        },
        kept: &["ä here", "ä there", "🎉 here", "🎉 there"],
    },
    Deed {
        name: "a directory made on both",
        before: |_| (),
        here: |place| {
            place.make("thing");
            place.save("thing/file here", "here");
        },
        there: |place| {
            place.make("thing");
            place.save("thing/file there", "there");
        },
        kept: &["here", "there"],
    },
    Deed {
        name: "a directory with a long name made on both",
        before: |_| (),
        here: |place| {
            place.make(LONG);
            place.save(Path::new(LONG).join("file here"), "here");
        },
        there: |place| {
            place.make(LONG);
            place.save(Path::new(LONG).join("file there"), "there");
        },
        kept: &["here", "there"],
    },
    Deed {
        name: "links made on both",
        before: |_| (),
        here: |place| {
            place.link("link", "here");
            place.link(LONG, "long here");
        },
        there: |place| {
            place.link("link", "there");
            place.link(LONG, "long there");
        },
        kept: &["here", "there", "long here", "long there"],
    },
    Deed {
        name: "a link removed here and changed there",
        before: |place| place.link("link", "at first"),
        here: |place| place.remove("link"),
        there: |place| place.link("link", "there"),
        kept: &["there"],
    },
    Deed {
        name: "a file removed here and saved there",
        before: |place| place.save("letter.txt", "at first"),
        here: |place| place.remove("letter.txt"),
        there: |place| place.save("letter.txt", "there"),
        kept: &["there"],
    },
    Deed {
        name: "a long name removed here and saved there",
        before: |place| place.save(LONG, "at first"),
        here: |place| place.remove(LONG),
        there: |place| place.save(LONG, "there"),
        kept: &["there"],
    },
    Deed {
        name: "a long name saved here and removed there",
        before: |place| place.save(LONG, "at first"),
        here: |place| place.save(LONG, "here"),
        there: |place| place.remove(LONG),
        kept: &["here"],
    },
    Deed {
        name: "a long name renamed here and saved there",
        before: |place| place.save(LONG, "at first"),
        here: |place| place.rename(LONG, LONG_TOO),
        there: |place| place.save(LONG, "there"),
        kept: &["there"],
    },
    Deed {
        name: "directories renamed differently",
        before: |place| {
            for (directory, version) in [("thing", "at first"), (LONG, "long at first")] {
                place.make(directory);
                place.save(Path::new(directory).join("letter.txt"), version);
            }
        },
        here: |place| {
            place.rename("thing", "thing here");
            place.rename(LONG, LONG_TOO);
        },
        there: |place| {
            place.rename("thing", "thing there");
            place.rename(LONG, "inner");
        },
        kept: &["at first", "long at first"],
    },
    Deed {
        name: "a directory removed here and a file made in it there",
        before: |place| {
            place.make("thing");
            place.save("thing/letter.txt", "at first");
        },
        here: |place| place.remove("thing"),
        there: |place| place.save("thing/file there", "there"),
        kept: &["there"],
    },
    Deed {
        name: "a directory removed here and a file in it saved there",
        before: |place| {
            place.make("thing");
            place.make("thing/inner");
            place.save("thing/inner/letter.txt", "at first");
        },
        here: |place| place.remove("thing"),
        there: |place| place.save("thing/inner/letter.txt", "there"),
        kept: &["there"],
    },
    Deed {
        name: KINDS,
        before: |_| (),
        here: |place| place.save("thing", "here"),
        there: |place| {
            place.make("thing");
            place.save("thing/file there", "there");
        },
        kept: &["here", "there"],
    },
    Deed {
        name: "a long name made a file here, a directory there",
        before: |_| (),
        here: |place| place.save(LONG, "here"),
        there: |place| {
            place.make(LONG);
            place.save(Path::new(LONG).join("file there"), "there");
        },
        kept: &["here", "there"],
    },
    Deed {
        name: "files removed on both",
        before: |place| {
            place.save("letter.txt", "at first");
            place.save(LONG, "long at first");
        },
        here: |place| ["letter.txt", LONG].iter().for_each(|name| place.remove(name)),
        there: |place| ["letter.txt", LONG].iter().for_each(|name| place.remove(name)),
        kept: &[],
    },
    Deed {
        name: REMOVED,
        before: |place| {
            place.save(LONG, "at first");
            place.make("thing");
            place.save("thing/letter.txt", "also at first");
            place.link("link", "the link at first");
        },
        here: |_| (),
        there: |place| [LONG, "thing", "link"].iter().for_each(|name| place.remove(name)),
        kept: &[],
    },
];

/// Makes anew, at the end where nobody removed it, what [`REMOVED`] is about; returns each version with how saving it
/// ended.
pub(super) fn make_anew(vault: &Path) -> Vec<(Version, io::Result<()>)> {
    let deed = DEEDS.iter().find(|deed| deed.name == REMOVED).unwrap();
    let directory = vault.join(REMOVED);
    let (anew, also, link) = (deed.version("anew"), deed.version("also anew"), deed.version("the link anew"));
    let saved = fs::write(directory.join(LONG), &anew);
    let also_saved = fs::create_dir(directory.join("thing"))
        .and_then(|()| fs::write(directory.join("thing/letter.txt"), &also));
    let linked = symlink(&link, directory.join("link"));
    vec![(anew, saved), (also, also_saved), (link, linked)]
}
