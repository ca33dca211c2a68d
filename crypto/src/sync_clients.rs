//! What sync clients and desktops add to names and leave beside files: patterns as data, one row for each client and
//! pattern, with the source of the fact above it. Nothing here knows a vault or a key.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What a sync client's addition to a name tells.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClientMark {
    /// The client, or the clients that cannot be told apart by this pattern.
    pub client: &'static str,
    /// The machine whose version this is, as the client calls it.
    pub machine: Option<String>,
    /// The person whose version this is. Dropbox puts the name of a machine there as well.
    pub person: Option<String>,
    /// When the client made the copy, as it writes it.
    pub when: Option<String>,
}

/// Longest text that is looked at, bytes: no file system has longer names.
const TEXT_MAX: usize = 300;

/// One row of a table: the client's name, and the regular expression for what it writes.
type Row = (&'static str, &'static str);

/// What clients add to a name when two versions meet. A row that is a special case of another one stands before it.
/// Names of machines and persons have no parentheses here, or none that are not closed: otherwise the end of one
/// addition could not be told from the beginning of the next.
const ADDITIONS: &[Row] = &[
    // src/vault/conflict_names.rs. It is the addition to a cleartext name, unless another program put it elsewhere.
    (
        "Scaup",
        r" \(conflicted copy (?<when>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{6}) (?<machine>[0-9a-f]{4})(?: [0-9]+)?\)",
    ),
    // https://github.com/nextcloud/desktop/blob/master/src/common/utility.cpp, `makeConflictFileName`; the display name
    // stands in it if the server takes conflicting copies. ownCloud's client has the same code.
    (
        "Nextcloud or ownCloud",
        r" \(conflicted copy (?:(?<person>[^()]+) )?(?<when>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{6})\)",
    ),
    // https://github.com/nextcloud/desktop/blob/master/test/testsyncengine.cpp, `findCaseClashConflicts`.
    (
        "Nextcloud",
        r" \(case clash from (?:(?<person>[^()]+) )?(?<when>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{6})\)",
    ),
    // https://github.com/owncloud/client/blob/v2.4.3/src/libsync/filesystem.cpp, `makeConflictFileName`.
    ("Nextcloud or ownCloud", r"_conflict-(?:(?<person>[^()]+?)-)??(?<when>[0-9]{8}-[0-9]{6})"),
    // https://help.dropbox.com/organize/conflicted-copy: the date is left out when the copy is made on the web.
    (
        "Dropbox",
        r" \((?:(?<person>(?:[^()]|\([^()]*\))+?)['’]s? )?conflicted copy(?: (?<when>[0-9]{4}-[0-9]{2}-[0-9]{2}))?(?: \([0-9]+\))?\)",
    ),
    // The same in German, French and Spanish: what programs that tidy folders of Dropbox look for. There is no page of
    // Dropbox that lists these words; other languages are not known here.
    (
        "Dropbox",
        r" \((?:In Konflikt stehende Kopie von|Copie en conflit de|Copia conflictiva de) (?<person>(?:[^()]|\([^()]*\))+?) (?<when>[0-9]{4}-[0-9]{2}-[0-9]{2})\)",
    ),
    ("Dropbox", r" \((?<person>[^()]+?) in Konflikt stehende Kopie (?<when>[0-9]{4}-[0-9]{2}-[0-9]{2})\)"),
    // https://www.dropbox.com/help/syncing-uploads/white-space-conflict, and the pages beside it; with a folder:
    // https://help.dropbox.com/files-folders/share/shared-folder-conflict
    (
        "Dropbox",
        r" \((?i-u:case|unicode encoding|white ?space|selective sync|shared folder)(?i-u: conflict)(?: [0-9]+)?\)",
    ),
    // https://github.com/haiwen/seafile/blob/master/common/vc-common.c, `gen_conflict_path`.
    ("Seafile", r" \(SFConflict (?:(?<person>[^()]+) )?(?<when>[0-9]{4}(?:-[0-9]{2}){5})\)"),
    // https://docs.syncthing.net/users/syncing.html#conflicting-changes: the beginning of the id of the device that
    // changed the file last; old versions leave it out.
    ("Syncthing", r"\.sync-conflict-(?<when>[0-9]{8}-[0-9]{6})(?:-(?<machine>[A-Z2-7]{7}))?"),
    // https://github.com/bcpierce00/unison/blob/master/src/files.ml, `finishCopy`; old versions write `copy: `
    // and spaces. It does the same with directories, so with a node too.
    (
        "Unison",
        r" \((?:copy: )?conflict(?: #[0-9]+)?[ _]on[ _](?<when>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ _]was[ _]deleted)?\)",
    ),
    // https://rclone.org/bisync/: until 1.65 both versions are renamed; since then, by `--conflict-loser`. With
    // `--conflict-suffix`, a person can choose any other word, which cannot be known.
    ("rclone", r"\.{1,2}(?<machine>path[0-9]+)"),
    ("rclone", r"\.conflict[0-9]+"),
    // https://help.resilio.com/hc/en-us/articles/204753629-Conflict-files-in-Sync
    ("Resilio Sync", r"\.Conflict[0-9]*"),
    // https://kb.synology.com/en-eu/DSM/tutorial/Synology_Drive_file_conflict_resolution
    (
        "Synology Drive",
        r"_(?<machine>[^()]+?)_(?<when>[A-Z][a-z]{2}-[0-9]{2}-[0-9]{4}-[0-9]{4})_[A-Za-z]*Conflict(?:_[0-9]+)?",
    ),
    // https://github.com/cryptomator/cryptomator/issues/98: the web pages of these count so, and file managers do, too.
    ("Google Drive, OneDrive or a file manager", r" ?\([0-9]{1,4}\)"),
    // A command of Google Drive's web page puts it before the name.
    ("Google Drive", r"Copy of "),
    // https://mentalfaculty.tumblr.com/post/102519824251/the-mysterious-case-of-icloud-drive-and-the: `File 2`. The
    // Finder names copies in the same way.
    ("iCloud or the Finder", r" (?:[2-9]|[1-9][0-9]{1,2})"),
    // https://github.com/stefankueng/CryptSync/issues/25: the computer's name. Windows has them in capitals, at least
    // two characters and not digits alone. Other words in capitals cannot be told from one, and `-final` can.
    ("OneDrive", r"-(?<machine>[0-9-]*[A-Z](?:[A-Z0-9-]*[A-Z0-9])|[0-9][0-9-]*[A-Z])(?:-[Cc]opy)?"),
];

/// Names of files that a program has not finished writing.
const UNFINISHED: &[Row] = &[
    // src/vault/temporary.rs
    ("Scaup", r"\.scaup-.+\.~.+"),
    // https://github.com/syncthing/syncthing/blob/main/lib/fs/tempname.go
    ("Syncthing", r"(?:\.syncthing\.|~syncthing~).+"),
    // https://github.com/nextcloud/desktop/blob/master/src/libsync/propagatedownload.cpp, `createDownloadTmpFileName`.
    ("Nextcloud or ownCloud", r"\..*\.~[0-9a-f]{1,8}"),
    // https://github.com/bcpierce00/unison/blob/master/src/os.ml, `tempFilePrefix`; old versions: `.#`.
    ("Unison", r"\.(?:unison\.|#).+\.unison\.tmp"),
    // https://github.com/rclone/rclone/blob/master/fs/operations/copy.go, `checkPartial`.
    ("rclone", r".+\.partial"),
    // Resilio's help, on unfinished files and on Selective Sync: a file that arrives, and one that was never fetched.
    ("Resilio Sync", r".+\.(?:!sync|rsls[a-z]?)"),
    // A file that was not fetched: the name of what stands for it.
    ("iCloud", r"\..+\.icloud"),
    // Google Drive for desktop stages files in directories of these names.
    ("Google Drive", r".*\.tmp\.drive(?:download|upload)"),
    // A directory in which files are staged: https://kb.synology.com/en-eu/DSM/help/CloudSync/cloudsync
    ("Synology Drive", r"\.SynologyWorkingDirectory"),
    // https://github.com/haiwen/seafile/blob/master/common/fs-mgr.c: the new content, and the old one meanwhile.
    ("Seafile", r".+(?:~|\.sbak)"),
    // sftp clients (WinSCP), browsers, and KDE.
    ("WinSCP", r".+\.filepart"),
    ("a download", r".+\.(?:part|crdownload|download)"),
    // vim, Kate, Emacs, GNOME, LibreOffice
    ("an editor", r".+\.sw[a-z]|.+\.kate-swp|#.+#|\.#.+|\.goutputstream-.+|\.~lock\..+#"),
    // What was removed while a program had it open: the server's kernel removes it by itself.
    ("NFS", r"\.nfs[0-9a-f]{16,}"),
    ("FUSE", r"\.fuse_hidden[0-9a-f]+"),
    ("a program", r".+(?i-u:\.te?mp)"),
    // rsync(1), `--temp-dir`, `--partial-dir` and `--delay-updates`
    ("rsync", r"\..+\.[A-Za-z0-9]{6}|\.~tmp~|\.rsync-partial"),
];

/// Names of what desktops and sync clients strew about, in small letters. It is lost with an empty directory, so
/// nothing stands here in which a version of a file can be, or what a person wrote: not `.sync` (Resilio keeps replaced
/// versions there), not `.stversions`, `.dropbox.cache` and `.Trashes`, not `.stignore`. Nor stands here anything that
/// becomes content: see [`unfinished`].
const LITTER: &[&str] = &[
    // macOS. `icon\r` has only a picture.
    ".ds_store",
    ".localized",
    ".apdisk",
    "icon\r",
    // Windows
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    // KDE
    ".directory",
    // Synology: thumbnails and attributes
    "@eadir",
    // Syncthing: the mark of a folder's root
    ".stfolder",
    // Dropbox
    ".dropbox",
    ".dropbox.attr",
    ".dropbox.device",
];

/// What litter begins with, in small letters: macOS's attributes of another file, and the journals and logs of
/// Nextcloud and ownCloud. A name that only begins so, and goes on otherwise than [`LITTER_ENDINGS`], is none.
const LITTER_BEGINNINGS: &[&str] = &[".sync_", ".csync_journal", ".nextcloudsync", ".owncloudsync"];
const LITTER_ENDINGS: &[&str] =
    &[".db", ".db-shm", ".db-wal", ".db-journal", ".db.ctmp", ".db.ctmp-journal", ".log", ".log.1"];

/// A table that is ready to be searched.
struct Patterns(Vec<(&'static str, Regex)>);

impl Patterns {
    /// Prepares a table. A test shows that every row of the tables here is a regular expression.
    fn new(rows: &[Row], whole: bool) -> Self {
        let end = if whole { "$" } else { "" };
        let prepared = rows
            .iter()
            .map(|(client, pattern)| Some((*client, Regex::new(&format!("(?s)^(?:{pattern}){end}")).ok()?)));
        Self(prepared.flatten().collect())
    }

    /// Finds the first row that fits the beginning of `text`, or all of it.
    fn find<'a>(&self, text: &'a str) -> Option<(&'static str, Captures<'a>)> {
        self.0.iter().find_map(|(client, pattern)| Some((*client, pattern.captures(text)?)))
    }
}

/// Recognises what a sync client added to a name when two versions met. `addition` is what stands beside the encrypted
/// name once `.c9r` is taken away, such as ` (conflicted copy 2024-01-02 123456)`, `..path1`, `-LAPTOP`, ` (1)` or
/// `.sync-conflict-20260102-123456-ABCDEFG`. If clients added several, the last one counts. Returns `None` for any text
/// that is not from beginning to end what a client writes.
#[must_use]
pub fn conflict_mark(addition: &str) -> Option<ClientMark> {
    static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(ADDITIONS, false));
    if addition.len() > TEXT_MAX {
        return None;
    }
    let mut rest = addition;
    let mut last = None;
    // Every pattern takes at least one character.
    while !rest.is_empty() {
        let (client, found) = PATTERNS.find(rest)?;
        let part = |name| found.name(name).map(|part| part.as_str().to_owned());
        last =
            Some(ClientMark { client, machine: part("machine"), person: part("person"), when: part("when") });
        rest = rest.get(found.get(0)?.end()..)?;
    }
    last
}

/// Whether a name is that of a file that a sync client, another program on the server, or Scaup has not finished
/// writing. It is never shown, and may become content, so it is never removed for another file's sake. Returns the
/// program's name.
#[must_use]
pub fn unfinished(name: &str) -> Option<&'static str> {
    static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(UNFINISHED, true));
    if name.len() > TEXT_MAX || is_litter(name) {
        return None;
    }
    PATTERNS.find(name).map(|(client, _)| client)
}

/// Whether a name is that of a file that desktops and sync clients strew about and that holds nothing of a person. It
/// may be removed together with a directory that has nothing else. Of directories, only `@eaDir` and `.stfolder` have
/// such names by their makers' will, and they hold only what their makers put there.
#[must_use]
pub fn is_litter(name: &str) -> bool {
    if name.len() > TEXT_MAX {
        return false;
    }
    let name = name.to_ascii_lowercase();
    let journal = || {
        LITTER_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
            && LITTER_ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    LITTER.contains(&name.as_str()) || (name.len() > 2 && name.starts_with("._")) || journal()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::content::tests::cryptor;
    use crate::{CipherCombo, CleartextName, DirectoryId};

    /// An addition, and what it tells: client, machine, person, time.
    type Example =
        (&'static str, &'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>);

    const EXAMPLES: &[Example] = &[
        (" (conflicted copy 2024-01-02 123456 3f9c)", "Scaup", Some("3f9c"), None, Some("2024-01-02 123456")),
        (
            " (conflicted copy 2024-01-02 123456 3f9c 2)",
            "Scaup",
            Some("3f9c"),
            None,
            Some("2024-01-02 123456"),
        ),
        (
            " (conflicted copy 2024-01-02 123456)",
            "Nextcloud or ownCloud",
            None,
            None,
            Some("2024-01-02 123456"),
        ),
        (
            " (conflicted copy Anna Ä. 2024-01-02 123456)",
            "Nextcloud or ownCloud",
            None,
            Some("Anna Ä."),
            Some("2024-01-02 123456"),
        ),
        (" (case clash from 2026-10-03 101500)", "Nextcloud", None, None, Some("2026-10-03 101500")),
        ("_conflict-20170102-123456", "Nextcloud or ownCloud", None, None, Some("20170102-123456")),
        (
            "_conflict-anna-20170102-123456",
            "Nextcloud or ownCloud",
            None,
            Some("anna"),
            Some("20170102-123456"),
        ),
        (
            " (William Black's conflicted copy 2015-09-15)",
            "Dropbox",
            None,
            Some("William Black"),
            Some("2015-09-15"),
        ),
        (
            " (Jean (Work)'s conflicted copy 2015-09-15)",
            "Dropbox",
            None,
            Some("Jean (Work)"),
            Some("2015-09-15"),
        ),
        (" (Hans' conflicted copy 2015-09-15)", "Dropbox", None, Some("Hans"), Some("2015-09-15")),
        (
            " (Greg's MacBook Air's conflicted copy 2026-04-21)",
            "Dropbox",
            None,
            Some("Greg's MacBook Air"),
            Some("2026-04-21"),
        ),
        (" (conflicted copy 2023-01-01)", "Dropbox", None, None, Some("2023-01-01")),
        (" (Anna's conflicted copy)", "Dropbox", None, Some("Anna"), None),
        (
            " (In Konflikt stehende Kopie von Anna 2024-01-02)",
            "Dropbox",
            None,
            Some("Anna"),
            Some("2024-01-02"),
        ),
        (
            " (Annas in Konflikt stehende Kopie 2024-01-02)",
            "Dropbox",
            None,
            Some("Annas"),
            Some("2024-01-02"),
        ),
        (" (Case Conflict)", "Dropbox", None, None, None),
        (" (Case Conflict 1)", "Dropbox", None, None, None),
        (" (Unicode Encoding Conflict)", "Dropbox", None, None, None),
        (" (white space conflict)", "Dropbox", None, None, None),
        (" (Selective Sync Conflict)", "Dropbox", None, None, None),
        (" (SFConflict 2015-03-07-11-30-28)", "Seafile", None, None, Some("2015-03-07-11-30-28")),
        (
            " (SFConflict name@example.com 2015-03-07-11-30-28)",
            "Seafile",
            None,
            Some("name@example.com"),
            Some("2015-03-07-11-30-28"),
        ),
        (
            ".sync-conflict-20260102-123456-ABCDEFG",
            "Syncthing",
            Some("ABCDEFG"),
            None,
            Some("20260102-123456"),
        ),
        (".sync-conflict-20260102-123456", "Syncthing", None, None, Some("20260102-123456")),
        (" (conflict_on_2026-11-29)", "Unison", None, None, Some("2026-11-29")),
        (" (conflict #1_on_2026-11-29_was_deleted)", "Unison", None, None, Some("2026-11-29")),
        (" (copy: conflict on 2016-05-03)", "Unison", None, None, Some("2016-05-03")),
        (" (copy: conflict #2 on 2016-05-03)", "Unison", None, None, Some("2016-05-03")),
        ("..path1", "rclone", Some("path1"), None, None),
        ("..path2", "rclone", Some("path2"), None, None),
        (".path1", "rclone", Some("path1"), None, None),
        (".conflict12", "rclone", None, None, None),
        (".Conflict", "Resilio Sync", None, None, None),
        (".Conflict2", "Resilio Sync", None, None, None),
        (
            "_Andy-PC_Jan-03-0901-2013_CaseConflict_1",
            "Synology Drive",
            Some("Andy-PC"),
            None,
            Some("Jan-03-0901-2013"),
        ),
        (
            "_my_nas_Aug-01-1230-2018_Conflict",
            "Synology Drive",
            Some("my_nas"),
            None,
            Some("Aug-01-1230-2018"),
        ),
        (" (1)", "Google Drive, OneDrive or a file manager", None, None, None),
        ("(12)", "Google Drive, OneDrive or a file manager", None, None, None),
        ("Copy of ", "Google Drive", None, None, None),
        (" 2", "iCloud or the Finder", None, None, None),
        (" 14", "iCloud or the Finder", None, None, None),
        ("-LAPTOP", "OneDrive", Some("LAPTOP"), None, None),
        ("-DESKTOP-4F2A9C1", "OneDrive", Some("DESKTOP-4F2A9C1"), None, None),
        ("-LAPTOP-ABC", "OneDrive", Some("LAPTOP-ABC"), None, None),
        ("-LAPTOP-copy", "OneDrive", Some("LAPTOP"), None, None),
        ("-7X", "OneDrive", Some("7X"), None, None),
    ];

    fn mark(example: &Example) -> ClientMark {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (_, client, machine, person, when) = *example;
        ClientMark { client, machine: owned(machine), person: owned(person), when: owned(when) }
    }

    #[test]
    fn every_row_is_a_regular_expression() {
        for (rows, whole) in [(ADDITIONS, false), (UNFINISHED, true)] {
            assert_eq!(Patterns::new(rows, whole).0.len(), rows.len());
        }
    }

    #[test]
    fn every_client_has_a_row() {
        for client in [
            "Nextcloud",
            "ownCloud",
            "Dropbox",
            "OneDrive",
            "iCloud",
            "Google Drive",
            "Syncthing",
            "Unison",
            "rclone",
            "Resilio Sync",
            "Seafile",
            "Synology Drive",
            "Scaup",
        ] {
            assert!(ADDITIONS.iter().any(|(row, _)| row.contains(client)), "{client}");
        }
    }

    #[test]
    fn what_clients_add_tells_who_and_when() {
        for example in EXAMPLES {
            assert_eq!(conflict_mark(example.0), Some(mark(example)), "{:?}", example.0);
        }
    }

    #[test]
    fn every_row_has_an_example_that_no_other_row_fits_first() {
        for (number, (_, pattern)) in ADDITIONS.iter().enumerate() {
            let others: Vec<Row> =
                ADDITIONS.iter().enumerate().filter(|(at, _)| *at != number).map(|(_, row)| *row).collect();
            let others = Patterns::new(&others, true);
            let fits = |example: &&Example| Patterns::new(&[("", pattern)], true).find(example.0).is_some();
            let mut examples = EXAMPLES.iter().filter(fits).peekable();
            assert!(examples.peek().is_some(), "{pattern}");
            assert!(examples.any(|example| others.find(example.0).is_none()), "{pattern}");
        }
    }

    #[test]
    fn of_several_additions_the_last_one_counts() {
        for first in EXAMPLES {
            for last in EXAMPLES {
                // Before the name stands nothing but this.
                if last.0 == "Copy of " {
                    continue;
                }
                // What a name of a machine can go on with is part of it.
                let goes_on = matches!(first.1, "OneDrive" | "Syncthing") && last.1 == "OneDrive";
                let both = format!("{}{}", first.0, last.0);
                let marked = conflict_mark(&both).unwrap();
                assert!(goes_on || marked == mark(last), "{both}: {marked:?}");
            }
        }
        let thrice = conflict_mark(" (1) (1)..path2").unwrap();
        assert_eq!((thrice.client, thrice.machine.as_deref()), ("rclone", Some("path2")));
    }

    #[test]
    fn words_of_people_are_no_marks() {
        for words in [
            "",
            " ",
            "-final",
            " copy of mine",
            " copy",
            " (old)",
            " (2024)x",
            " (draft 1)",
            "-2",
            "-B",
            "-Laptop",
            " v2",
            ".bak",
            ".old",
            ".path",
            "_2",
            " 1",
            " 2024",
            " (conflicted copy)x",
            " (conflicted copy 2024-01-02 123456) of mine",
            "x (1)",
            ".sync-conflict",
            "Copy of",
        ] {
            assert_eq!(conflict_mark(words), None, "{words:?}");
        }
    }

    #[test]
    fn any_text_is_answered_and_what_is_too_long_is_no_name() {
        for piece in [" (1)", "-A", "(", " (x's conflicted copy", "_a", " (conflicted copy ", ".~", "é", "\n"]
        {
            for len in [TEXT_MAX, 1 << 20] {
                let text = piece.repeat(len / piece.len());
                let _ = (conflict_mark(&text), unfinished(&text), is_litter(&text));
            }
        }
        assert!(conflict_mark(&" (1)".repeat(TEXT_MAX / 4)).is_some());
        assert_eq!(conflict_mark(&" (1)".repeat(TEXT_MAX / 4 + 1)), None);
        assert_eq!(unfinished(&format!("{}.part", "x".repeat(TEXT_MAX))), None);
        assert!(!is_litter(&format!("._{}", "x".repeat(TEXT_MAX))));
    }

    #[test]
    fn what_is_not_finished_is_known_with_the_program_that_writes_it() {
        for (name, client) in [
            (".scaup-0123456789abcdef-17.~00ff", "Scaup"),
            (".syncthing.X.c9r.tmp", "Syncthing"),
            ("~syncthing~X.c9r.tmp", "Syncthing"),
            (".X.c9r.~1a2b3c", "Nextcloud or ownCloud"),
            (".unison.X.c9r.581106b2917358e73c9036f678424717.unison.tmp", "Unison"),
            ("X.c9r.abcd1234.partial", "rclone"),
            ("X.c9r.!sync", "Resilio Sync"),
            ("X.c9r.rsls", "Resilio Sync"),
            (".X.c9r.icloud", "iCloud"),
            (".tmp.drivedownload", "Google Drive"),
            ("X.c9r.tmp.drivedownload", "Google Drive"),
            (".tmp.driveupload", "Google Drive"),
            (".SynologyWorkingDirectory", "Synology Drive"),
            ("X.c9r~", "Seafile"),
            ("X.c9r.sbak", "Seafile"),
            ("X.c9r.filepart", "WinSCP"),
            ("X.c9r.part", "a download"),
            ("X.c9r.crdownload", "a download"),
            (".X.c9r.swp", "an editor"),
            ("X.swp", "an editor"),
            (".~lock.X.c9r#", "an editor"),
            (".nfs000000000a0b0c0d00000001", "NFS"),
            (".fuse_hidden0000000100000002", "FUSE"),
            ("X.c9r.tmp", "a program"),
            ("~WRL0001.TMP", "a program"),
            (".X.c9r.AbCdEf", "rsync"),
            (".rsync-partial", "rsync"),
        ] {
            assert_eq!(unfinished(name), Some(client), "{name}");
            assert!(!is_litter(name), "{name}");
        }
    }

    #[test]
    fn litter_holds_nothing_of_a_person() {
        for name in [
            ".DS_Store",
            ".ds_store",
            "Thumbs.db",
            "thumbs.db",
            "ehthumbs.db",
            "desktop.ini",
            "Desktop.ini",
            ".directory",
            "._X.c9r",
            "._sync_0123456789ab.db",
            ".sync_0123456789ab.db",
            ".sync_0123456789ab.db-wal",
            ".nextcloudsync.log",
            ".owncloudsync.log.1",
            ".csync_journal.db",
            ".csync_journal.db-journal",
            ".stfolder",
            ".dropbox",
            ".dropbox.attr",
            ".dropbox.device",
            "@eaDir",
            "Icon\r",
        ] {
            assert!(is_litter(name), "{name}");
            assert_eq!(unfinished(name), None, "{name}");
        }
        // Versions of files, what people wrote, and what only begins like litter.
        for name in [
            ".sync",
            ".stversions",
            ".stignore",
            ".dropbox.cache",
            ".Trashes",
            "#recycle",
            "$RECYCLE.BIN",
            ".bak.1.X.c9r",
            "._",
            ".sync_notes.txt",
            ".sync-exclude.lst",
            "seafile-ignore.txt",
            "Icon",
            "directory",
            "thumbs.db.c9r",
            "dirid.c9r",
        ] {
            assert!(!is_litter(name), "{name}");
        }
    }

    #[test]
    fn what_is_in_a_vault_is_neither_litter_nor_unfinished() {
        let (cryptor, root) = (cryptor(CipherCombo::SivGcm, 220), DirectoryId::root());
        let entries = (0..500_usize).map(|number| {
            let name = format!("{number}{}", "x".repeat(number % 200));
            cryptor.encrypt_name(&CleartextName::parse(name.as_bytes()).unwrap(), &root).entry
        });
        let parts = ["dir.c9r", "dirid.c9r", "symlink.c9r", "contents.c9r", "name.c9s"].map(str::to_owned);
        let files = ["masterkey.cryptomator", "vault.cryptomator", "vault.cryptomator.1A2B3C4D.bkup"];
        for name in entries.chain(parts).chain(files.map(str::to_owned)) {
            assert!(!is_litter(&name) && unfinished(&name).is_none(), "{name}");
            let stem = name.strip_suffix(".c9r").unwrap_or(&name);
            for (addition, ..) in EXAMPLES {
                for copy in [
                    format!("{stem}{addition}.c9r"),
                    format!("{name}{addition}"),
                    format!("{addition}{name}"),
                ] {
                    assert!(!is_litter(&copy) && unfinished(&copy).is_none(), "{copy}");
                }
            }
        }
    }
}
