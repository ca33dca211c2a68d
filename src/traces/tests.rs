//! Traces of every kind: planted, found, removed, and everything else left as it was.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A home directory with the files of other programs.
struct Home {
    directory: tempfile::TempDir,
}

/// What belongs to the vault, and what only looks like it.
const VAULT: &str = "Scaup/hq/Tresor ü";
const URI: &str = "Scaup/hq/Tresor%20%C3%BC";

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn directories(&self) -> UserDirectories {
        let home = self.path().to_owned();
        UserDirectories {
            cache: home.join(".cache"),
            config: home.join(".config"),
            data: home.join(".local/share"),
            state: home.join(".local/state"),
            home,
        }
    }

    fn places(&self) -> Places {
        Places::new(self.path(), &[self.path().join(VAULT)])
    }

    /// Writes a file, with the home directory for each `@@`.
    fn plant(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.filled(content.as_ref())).unwrap();
    }

    fn filled(&self, content: &[u8]) -> Vec<u8> {
        let home = self.path().as_os_str().as_encoded_bytes();
        let mut filled = Vec::new();
        let mut rest = content;
        while let Some(at) = rest.windows(2).position(|window| window == b"@@") {
            filled.extend_from_slice(&rest[..at]);
            filled.extend_from_slice(home);
            rest = &rest[at + 2..];
        }
        [filled.as_slice(), rest].concat()
    }

    /// The home directory's path with another character for each slash.
    fn named(&self, slash: char, path: &str) -> String {
        self.path().join(path).to_str().unwrap().replace('/', &slash.to_string())
    }

    /// All files.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn below(at: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() {
                    files.insert(path.clone(), b"link".to_vec());
                } else if path.is_dir() {
                    below(&path, files);
                } else {
                    files.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        below(self.path(), &mut files);
        files
    }

    fn found(&self) -> BTreeMap<Kind, u64> {
        let search = find(&self.directories(), &self.places());
        assert!(search.failures.is_empty(), "{:?}", search.failures);
        let mut counts = BTreeMap::new();
        for trace in search.traces {
            *counts.entry(trace.kind).or_default() += trace.count;
        }
        counts
    }

    /// Removes a kind, whose files have to be as `expected` then, and finds nothing of it any more.
    fn removes(&self, kind: Kind, count: u64, expected: &BTreeMap<PathBuf, Vec<u8>>) {
        assert_eq!(self.found(), BTreeMap::from([(kind, count)]));
        let removal = remove(kind, &self.directories(), &self.places());
        assert!(removal.failures.is_empty(), "{:?}", removal.failures);
        assert_eq!(removal.count, count);
        assert_eq!(&self.files(), expected);
        assert_eq!(self.found(), BTreeMap::new());
    }
}

fn preview(uri: &str) -> Vec<u8> {
    let text = format!("Thumb::URI\0{uri}");
    let chunk = |kind: &[u8], data: &[u8]| {
        [&u32::try_from(data.len()).unwrap().to_be_bytes(), kind, data, b"crc!"].concat()
    };
    [
        b"\x89PNG\r\n\x1a\n".as_slice(),
        &chunk(b"IHDR", &[0; 13]),
        &chunk(b"tEXt", text.as_bytes()),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

/// Paths beside the vault whose begin is that of the vault's.
const BESIDE: [&str; 3] = ["Scaup/hq/Tresor%20%C3%BC2/x", "Scaup/hq/x", "Scaup/hq/Tresor"];

impl Home {
    fn preview_of(&self, uri: &str) -> Vec<u8> {
        preview(&format!("file://{}/{uri}", self.path().display()))
    }
}

#[test]
fn previews_of_the_vault_are_removed_in_all_sizes() {
    let home = Home::new();
    for (number, beside) in BESIDE.iter().enumerate() {
        home.plant(&format!(".cache/thumbnails/large/{number}.png"), home.preview_of(beside));
    }
    home.plant(".cache/thumbnails/large/no.png", "no picture");
    home.plant(".cache/thumbnails/large/x.txt", home.preview_of(&format!("{URI}/x")));
    let before = home.files();
    for at in [
        ".cache/thumbnails/normal",
        ".cache/thumbnails/xx-large",
        ".cache/thumbnails/fail/gnome",
        ".thumbnails/normal",
    ] {
        home.plant(&format!("{at}/v.png"), home.preview_of(&format!("{URI}/sub/x.png")));
    }
    home.removes(Kind::Previews, 4, &before);
}

const XBEL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<xbel version="1.0" xmlns:bookmark="http://www.freedesktop.org/standards/desktop-bookmarks">
  <!-- <bookmark href="file:@@/Scaup/hq/Tresor%20%C3%BC/comment"></bookmark> -->
  <bookmark href="file://@@/Scaup/hq/Tresor%20%C3%BC2/x" added="2026-01-01T00:00:00Z">
    <info><metadata owner="http://freedesktop.org"><mime:mime-type type="text/plain"/></metadata></info>
  </bookmark>MINE
  <bookmark href="sftp://hq/Scaup/hq/Tresor%20%C3%BC/x"/>
</xbel>
"#;

const MINE: &str = r#"
  <bookmark href="file://@@/Scaup/hq/Tresor%20%c3%bc/a&amp;b.txt" added="2026-01-01T00:00:00Z">
    <title>x</title>
  </bookmark>
  <bookmark href='file://@@/Scaup/hq/Tresor%20%C3%BC' />"#;

#[test]
fn recent_files_of_the_vault_are_cut_out_of_the_list() {
    let home = Home::new();
    home.plant(".local/share/recently-used.xbel", XBEL.replace("MINE", ""));
    home.plant(
        ".local/share/RecentDocuments/beside.desktop",
        "[Desktop Entry]\nURL[$e]=file:$HOME/Scaup/hq/x\n",
    );
    let before = home.files();
    home.plant(".local/share/recently-used.xbel", XBEL.replace("MINE", MINE));
    home.plant(
        ".local/share/RecentDocuments/x.desktop",
        format!("[Desktop Entry]\nURL[$e]=file:$HOME/{VAULT}/x\n"),
    );
    home.plant(".local/share/RecentDocuments/y.desktop", format!("[Desktop Entry]\nURL=file://@@/{URI}/y\n"));
    home.removes(Kind::RecentFiles, 4, &before);
}

#[test]
fn deleted_files_of_the_vault_leave_the_trash_with_their_descriptions() {
    let home = Home::new();
    let info = |path: &str| format!("[Trash Info]\nPath=@@/{path}\nDeletionDate=2026-01-01T00:00:00\n");
    let trash = ".local/share/Trash";
    home.plant(&format!("{trash}/files/beside"), "kept");
    home.plant(&format!("{trash}/info/beside.trashinfo"), info(BESIDE[0]));
    home.plant("elsewhere/kept", "kept");
    let before = home.files();
    home.plant(&format!("{trash}/files/x"), "secret");
    home.plant(&format!("{trash}/info/x.trashinfo"), info(&format!("{URI}/x")));
    home.plant(&format!("{trash}/files/directory/a/b"), "secret");
    symlink(home.path().join("elsewhere"), home.path().join(trash).join("files/directory/link")).unwrap();
    home.plant(&format!("{trash}/info/directory.trashinfo"), info(&format!("{URI}/directory")));
    home.plant(&format!("{trash}/info/gone.trashinfo"), info(&format!("{URI}/gone")));
    home.removes(Kind::Trash, 3, &before);
}

#[test]
fn a_name_in_the_trash_that_leads_out_of_it_removes_nothing() {
    let home = Home::new();
    for name in [".", "..", ""] {
        let path = format!(".local/share/Trash/info/{name}.trashinfo");
        home.plant(&path, format!("[Trash Info]\nPath=@@/{URI}/x\n"));
    }
    home.plant(".local/share/Trash/files/kept", "kept");
    let before = home.files();
    let removal = remove(Kind::Trash, &home.directories(), &home.places());
    assert_eq!((removal.count, home.files()), (0, before));
}

const SETTINGS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Common/Misc"><prop oor:name="x"><value>file://@@/Scaup/hq/Tresor%20%C3%BC/x</value></prop></item>
<item oor:path="/org.openoffice.Office.Histories/Histories/org.openoffice.Office.Histories:HistoryInfo['PickList']/ItemList"><node oor:name="file://@@/Scaup/hq/Tresor%20%C3%BC2/x.odt" oor:op="replace"></node></item>MINE
</oor:items>
"#;

const HISTORY: &str = r#"
<item oor:path="/org.openoffice.Office.Histories/Histories/org.openoffice.Office.Histories:HistoryInfo['PickList']/ItemList"><node oor:name="file://@@/Scaup/hq/Tresor%20%C3%BC/x.odt" oor:op="replace"><prop oor:name="Thumbnail"><value>AAAA</value></prop></node></item>
<item oor:path="/org.openoffice.Office.Histories/Histories/org.openoffice.Office.Histories:HistoryInfo['PickList']/ItemList/org.openoffice.Office.Histories:HistoryItem['file://@@/Scaup/hq/Tresor%20%C3%BC/y.odt']"><prop oor:name="Title"><value>y</value></prop></item>
<item oor:path="/org.openoffice.Office.Histories/Histories/org.openoffice.Office.Histories:HistoryInfo['PickList']/OrderList"><node oor:name="0" oor:op="replace"><prop oor:name="HistoryItemRef" oor:op="fuse"><value>file://@@/Scaup/hq/Tresor%20%C3%BC/x.odt</value></prop></node></item>"#;

#[test]
fn documents_of_the_vault_leave_libreoffices_history_and_no_setting_does() {
    let home = Home::new();
    let path = ".config/libreoffice/4/user/registrymodifications.xcu";
    home.plant(path, SETTINGS.replace("MINE", ""));
    let before = home.files();
    home.plant(path, SETTINGS.replace("MINE", HISTORY));
    home.removes(Kind::LibreofficeHistory, 3, &before);
    let recovery = HISTORY.replace("Office.Histories", "Office.Recovery");
    home.plant(path, SETTINGS.replace("MINE", &recovery));
    assert_eq!(home.found(), BTreeMap::from([(Kind::LibreofficeRecovery, 3)]));
}

#[test]
fn swap_files_are_known_by_what_they_say_and_by_their_names() {
    let home = Home::new();
    let swap = |name: &str| {
        let mut head = vec![0; 4096];
        head[..8].copy_from_slice(b"b0VIM 9.");
        head[108..108 + name.len()].copy_from_slice(name.as_bytes());
        head
    };
    home.plant(".local/state/vim/beside.swp", swap("~/Scaup/hq/Tresor üx"));
    home.plant(&format!(".local/state/nvim/swap/{}.swp", home.named('%', "Scaup/hq/x")), swap(""));
    home.plant(".vim/swap/notes.txt", format!("@@/{VAULT}/x"));
    let before = home.files();
    home.plant(".cache/vim/x.swp", swap(&format!("~/{VAULT}/x")));
    home.plant(".vim/swap/y.swp", swap(&format!("{}/{VAULT}/y", home.path().display())));
    home.plant(&format!(".local/state/nvim/swap/{}.swp", home.named('%', &format!("{VAULT}/z"))), swap(""));
    home.removes(Kind::VimSwap, 3, &before);
}

#[test]
fn undo_files_and_backups_are_known_by_their_names() {
    let home = Home::new();
    home.plant(&format!(".vim/undo/{}", home.named('%', "Scaup/hq/Tresor üx")), "kept");
    home.plant(&format!(".emacs.d/backups/{}~", home.named('!', "Scaup/hq/x")), "kept");
    let before = home.files();
    home.plant(&format!(".vim/undo/{}", home.named('%', &format!("{VAULT}/x"))), "secret");
    home.removes(Kind::VimUndo, 1, &before);
    home.plant(&format!(".emacs.d/backups/{}~", home.named('!', &format!("{VAULT}/x"))), "secret");
    home.plant(&format!(".emacs.d/auto-saves/#{}#", home.named('!', &format!("{VAULT}/x"))), "secret");
    home.removes(Kind::EmacsBackups, 2, &before);
}

#[test]
fn histories_of_editors_lose_only_the_lines_about_the_vault() {
    let home = Home::new();
    home.plant(
        ".viminfo",
        "# This viminfo file was generated by Vim 9.0.\n:w\n|2,0,1,,\"w\"\n:e ~/x\n\n'0  1  0  ~/x\n\
        -'  1  0  ~/x\n\n> ~/x\n\t*\t1\t0\n\n> ~/y\n\t\"\t1\t0\n",
    );
    home.plant(".emacs.d/recentf", "(setq recentf-list\n      '(\n        \"~/x\"\n        ))\n");
    home.plant(".emacs.d/auto-save-list/.saves-1-hq~", "@@/x\n@@/#x#\n");
    let before = home.files();
    home.plant(
        ".viminfo",
        format!(
            "# This viminfo file was generated by Vim 9.0.\n:w\n|2,0,1,,\"w\"\n:e ~/x\n:e ~/Scaup/hq/Tresor\\ ü/s\n\
            |2,0,1,,\"e ~/{VAULT}/s\"\n\n'0  1  0  ~/x\n'1  2  0  ~/{VAULT}/a b\n|4,49,2,0,1,\"~/{VAULT}/a b\"\n\
            -'  1  0  ~/x\n-'  1  0  ~/{VAULT}/x\n\n> ~/x\n\t*\t1\t0\n\n> ~/{VAULT}/x\n\t*\t1\t0\n\t\"\t1\t0\n> ~/y\n\t\"\t1\t0\n"
        ),
    );
    home.removes(Kind::VimHistory, 8, &before);
    home.plant(
        ".emacs.d/recentf",
        format!("(setq recentf-list\n      '(\n        \"~/{VAULT}/s\"\n        \"~/x\"\n        ))\n"),
    );
    home.plant(
        ".emacs.d/auto-save-list/.saves-1-hq~",
        format!("@@/x\n@@/#x#\n@@/{VAULT}/x\n@@/{VAULT}/#x#\n"),
    );
    home.removes(Kind::EmacsHistory, 3, &before);
}

#[test]
fn notes_of_okular_about_the_vault_are_removed() {
    let home = Home::new();
    let note = |url: &str| {
        format!(
            "<?xml version=\"1.0\"?>\n<!DOCTYPE documentInfo>\n<documentInfo url=\"{url}\">\n</documentInfo>\n"
        )
    };
    home.plant(".local/share/okular/docdata/1.x.pdf.xml", note("@@/Scaup/hq/Tresor üx/x.pdf"));
    let before = home.files();
    home.plant(".local/share/okular/docdata/2.x.pdf.xml", note(&format!("@@/{VAULT}/x.pdf")));
    home.plant(".local/share/okular/docdata/3.y.pdf.xml", note(&format!("file://@@/{URI}/y.pdf")));
    home.removes(Kind::OkularDocuments, 2, &before);
}

#[test]
fn databases_and_histories_of_other_programs_are_searched_and_left_as_they_are() {
    let home = Home::new();
    let text = format!("\0\u{1}file://@@/{URI}/x\0~/{VAULT}/y @@/{VAULT} @@/Scaup/hq/Tresor üx ~/Scaup/hq\0");
    let searched = [
        (Kind::KdeActivities, ".local/share/kactivitymanagerd/resources/database"),
        (Kind::SearchIndex, ".local/share/baloo/index"),
        (Kind::SearchIndex, ".cache/tracker3/files/meta.db"),
        (Kind::BrowserHistory, ".mozilla/firefox/abc.default/places.sqlite"),
        (Kind::BrowserHistory, ".config/chromium/Default/History"),
        (Kind::ShellHistory, ".bash_history"),
        (Kind::ShellHistory, ".local/share/fish/fish_history"),
        (Kind::NeovimHistory, ".local/state/nvim/shada/main.shada"),
        (Kind::PlayerHistory, ".config/vlc/vlc-qt-interface.conf"),
        (Kind::CodeHistory, ".config/Code/User/globalStorage/storage.json"),
    ];
    for (kind, path) in searched {
        home.plant(path, &text);
        let before = home.files();
        let search = find(&home.directories(), &home.places());
        assert_eq!(search.traces, [Trace { kind, path: home.path().join(path), count: 3 }]);
        assert_eq!(remove(kind, &home.directories(), &home.places()).count, 0);
        assert_eq!(home.files(), before);
        fs::remove_file(home.path().join(path)).unwrap();
    }
}

#[test]
fn links_are_not_followed_out_of_the_users_directories() {
    let home = Home::new();
    let elsewhere = Home::new();
    elsewhere.plant("thumbnails/normal/x.png", home.preview_of(&format!("{URI}/x")));
    elsewhere.plant("list", XBEL.replace("MINE", MINE).replace("@@", home.path().to_str().unwrap()));
    fs::create_dir_all(home.path().join(".cache")).unwrap();
    fs::create_dir_all(home.path().join(".local/share")).unwrap();
    symlink(elsewhere.path().join("thumbnails"), home.path().join(".cache/thumbnails")).unwrap();
    symlink(elsewhere.path().join("list"), home.path().join(".local/share/recently-used.xbel")).unwrap();
    let before = elsewhere.files();
    assert_eq!(home.found(), BTreeMap::new());
    for kind in [Kind::Previews, Kind::RecentFiles] {
        assert_eq!(remove(kind, &home.directories(), &home.places()).count, 0);
    }
    assert_eq!(elsewhere.files(), before);
}

#[test]
fn files_of_other_users_are_not_touched() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let home = Home::new();
    home.plant(".local/share/recently-used.xbel", XBEL.replace("MINE", MINE));
    home.plant(".cache/thumbnails/normal/x.png", home.preview_of(&format!("{URI}/x")));
    for path in [".local/share/recently-used.xbel", ".cache/thumbnails/normal"] {
        std::os::unix::fs::chown(home.path().join(path), Some(65534), None).unwrap();
    }
    assert_eq!(home.found(), BTreeMap::new());
}

#[test]
fn random_bytes_in_every_place_are_no_traces_and_do_no_harm() {
    let home = Home::new();
    let paths = [
        ".cache/thumbnails/normal/x.png",
        ".local/share/recently-used.xbel",
        ".local/share/RecentDocuments/x.desktop",
        ".local/share/Trash/info/x.trashinfo",
        ".local/share/gvfs-metadata/home",
        ".local/share/gvfs-metadata/root-00000000.log",
        ".config/libreoffice/4/user/registrymodifications.xcu",
        ".local/state/vim/x.swp",
        ".viminfo",
        ".emacs.d/recentf",
        ".local/share/okular/docdata/x.xml",
        ".bash_history",
    ];
    let beginnings: [&[u8]; 8] = [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"<bookmark href=",
        b"\xda\x1ameta\x01",
        b"\xda\x1ajour\x01",
        b"b0VIM",
        b"|4,\"",
        b"URL=",
    ];
    let mut state = 7_u64;
    for round in 0..60 {
        for path in paths {
            let mut bytes = beginnings[round % beginnings.len()].to_vec();
            for _ in 0..round * 7 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let byte = (state >> 33) as u8;
                bytes.push(if round % 2 == 0 { byte } else { b"<>&;\"'=/! \n-["[usize::from(byte) % 13] });
            }
            home.plant(path, &bytes);
        }
        let before = home.files();
        assert_eq!(home.found(), BTreeMap::new());
        for kind in
            [Kind::Previews, Kind::RecentFiles, Kind::Trash, Kind::LibreofficeHistory, Kind::VimHistory]
        {
            assert_eq!(remove(kind, &home.directories(), &home.places()).count, 0);
        }
        assert_eq!(home.files(), before);
    }
}

#[test]
fn a_sweep_removes_what_the_desktop_wrote_since_and_nothing_else() {
    let home = Home::new();
    home.plant(".cache/thumbnails/normal/old.png", home.preview_of(&format!("{URI}/old")));
    home.plant(".local/share/Trash/info/x.trashinfo", format!("[Trash Info]\nPath=@@/{URI}/x\n"));
    let old = SystemTime::now() - Duration::from_secs(3600);
    let file =
        fs::File::options().write(true).open(home.path().join(".cache/thumbnails/normal/old.png")).unwrap();
    file.set_modified(old).unwrap();
    home.plant(".local/share/recently-used.xbel", XBEL.replace("MINE", ""));
    let before = home.files();
    home.plant(".cache/thumbnails/normal/new.png", home.preview_of(&format!("{URI}/new")));
    home.plant(".local/share/recently-used.xbel", XBEL.replace("MINE", MINE));
    let since = SystemTime::now() - Duration::from_secs(60);
    let none = sweep(&home.directories(), &home.places(), since, Duration::ZERO);
    assert_eq!(none.count, 0);
    assert!(none.failures.iter().all(|failure| failure.source.kind() == io::ErrorKind::TimedOut));
    assert!(!none.failures.is_empty());
    let swept = sweep(&home.directories(), &home.places(), since, Duration::from_secs(60));
    assert!(swept.failures.is_empty(), "{:?}", swept.failures);
    assert_eq!((swept.count, home.files()), (3, before));
}
