//! What other programs keep of files in a vault: swept when it is locked or unmounted, found and removed by `doctor`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use scaup_rig::{Scaup, eventually};

use crate::support::terminal::Terminal;
use crate::support::{Drive, ends_with, said, scaup, signal, tree};

/// A PNG file as thumbnailers write it.
fn preview_of(path: &Path) -> Vec<u8> {
    let text = format!("Thumb::URI\0file://{}", path.display());
    let chunk = |kind: &[u8], data: &[u8]| {
        [&u32::try_from(data.len()).unwrap().to_be_bytes(), kind, data, b"crc!"].concat()
    };
    let (head, text, end) = (chunk(b"IHDR", &[0; 13]), chunk(b"tEXt", text.as_bytes()), chunk(b"IEND", b""));
    [b"\x89PNG\r\n\x1a\n".as_slice(), &head, &text, &end].concat()
}

fn recent(paths: &[&Path]) -> String {
    let bookmark = |path: &&Path| format!("\n  <bookmark href=\"file://{}\"></bookmark>", path.display());
    format!("<xbel version=\"1.0\">{}\n</xbel>\n", paths.iter().map(bookmark).collect::<String>())
}

fn plant(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// What the desktop keeps of a file in the vault, and of another one beside it.
struct Desktop {
    of_vault: PathBuf,
    beside: PathBuf,
    recent: PathBuf,
    kept: String,
}

impl Desktop {
    fn of(drive: &Drive) -> Self {
        let thumbnails = drive.scaup.home().join(".cache/thumbnails/large");
        let (secret, plain) = (drive.vault().join("secret.png"), drive.plain().join("x.png"));
        let it = Self {
            of_vault: thumbnails.join("v.png"),
            beside: thumbnails.join("p.png"),
            recent: drive.scaup.home().join(".local/share/recently-used.xbel"),
            kept: recent(&[&plain]),
        };
        plant(&it.of_vault, preview_of(&secret));
        plant(&it.beside, preview_of(&plain));
        plant(&it.recent, recent(&[&secret, &plain]));
        it
    }

    fn is_swept(&self) -> bool {
        assert!(self.beside.exists(), "the preview of a plain file is gone");
        !self.of_vault.exists() && fs::read_to_string(&self.recent).unwrap() == self.kept
    }

    fn is_untouched(&self) -> bool {
        self.beside.exists()
            && self.of_vault.exists()
            && fs::read_to_string(&self.recent).unwrap().contains("secret")
    }
}

#[test]
fn what_the_desktop_keeps_of_a_vault_is_gone_once_it_is_locked_or_unmounted() {
    let drive = Drive::mounted();
    let desktop = Desktop::of(&drive);
    assert!(desktop.is_untouched());
    ends_with(&drive.scaup, 0, ["lock"]);
    assert!(desktop.is_swept(), "after lock");
    // A thumbnailer may still have written one.
    let desktop = Desktop::of(&drive);
    drive.mount.unmount(&drive.scaup);
    assert!(desktop.is_swept(), "after unmount");
}

#[test]
fn what_the_desktop_keeps_of_a_vault_is_gone_after_a_signal() {
    let drive = Drive::mounted();
    let desktop = Desktop::of(&drive);
    signal(drive.mount.daemon(), Signal::TERM);
    eventually("it is swept", Duration::from_secs(60), || desktop.is_swept());
    drop(drive);
}

#[test]
fn with_no_sweep_everything_stays() {
    let drive = Drive::mounted_with(&["--no-sweep"]);
    let desktop = Desktop::of(&drive);
    ends_with(&drive.scaup, 0, ["lock"]);
    assert!(desktop.is_untouched());
    drive.mount.unmount(&drive.scaup);
    assert!(desktop.is_untouched());
}

/// Plants one trace of each of ten kinds, of a vault that is not mounted.
fn plant_ten(scaup: &Scaup, vault: &Path) {
    let home = scaup.home();
    let secret = vault.join("secret");
    let uri = format!("file://{}", secret.display());
    let named = |slash: &str| secret.to_str().unwrap().replace('/', slash);
    plant(&home.join(".cache/thumbnails/normal/v.png"), preview_of(&secret));
    plant(&home.join(".local/share/recently-used.xbel"), recent(&[&secret]));
    plant(&home.join(".local/share/Trash/files/secret"), "content");
    plant(
        &home.join(".local/share/Trash/info/secret.trashinfo"),
        format!("[Trash Info]\nPath={}\n", secret.display()),
    );
    plant(
        &home.join("config/libreoffice/4/user/registrymodifications.xcu"),
        format!(
            "<oor:items><item oor:path=\"/org.openoffice.Office.Histories/Histories\">\
             <node oor:name=\"{uri}\"/></item></oor:items>"
        ),
    );
    plant(&home.join(".vim/undo").join(named("%")), "content");
    plant(&home.join(".viminfo"), format!("> {}\n\t\"\t1\t0\n", secret.display()));
    plant(&home.join(".emacs.d/backups").join(named("!") + "~"), "content");
    plant(
        &home.join(".local/share/okular/docdata/1.xml"),
        format!("<documentInfo url=\"{}\"/>", secret.display()),
    );
    plant(&home.join(".bash_history"), format!("less {}\n", secret.display()));
    plant(&home.join(".mozilla/firefox/x/places.sqlite"), format!("\0{uri}\0"));
}

#[test]
fn doctor_finds_ten_kinds_of_traces_and_removes_those_it_can() {
    let scaup = scaup();
    let vault = scaup.home().join("Scaup/hq/Vault");
    ends_with(&scaup, 0, ["doctor", "--traces"]);
    plant_ten(&scaup, &scaup.home().join("Scaup2/hq/Vault"));
    ends_with(&scaup, 0, ["doctor", "--traces"]);
    plant_ten(&scaup, &vault);
    let before = tree(scaup.home());

    let output = scaup.run(["doctor", "--traces", vault.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let traces = report["traces"].as_array().unwrap();
    let mut kinds: Vec<&str> = traces.iter().map(|trace| trace["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "browser-history",
            "emacs-backups",
            "libreoffice-history",
            "okular-documents",
            "previews",
            "recent-files",
            "shell-history",
            "trash",
            "vim-history",
            "vim-undo"
        ]
    );
    ends_with(&scaup, 2, ["doctor", "--traces", "--remove"]);
    ends_with(&scaup, 2, ["doctor", "--traces", "/"]);
    assert_eq!(tree(scaup.home()), before, "looking changes nothing");

    let program = env!("CARGO_BIN_EXE_scaup");
    let mut terminal = Terminal::run(&scaup, &format!("stty cols 300; {program} doctor --traces --remove"));
    for kind in [
        "Remove them (previews of file managers)? [y/N] ",
        "Remove them (lists of recent files)? [y/N] ",
        "Remove them (trash)? Then the deleted files can't be restored any more. [y/N] ",
    ] {
        terminal.answer(kind, "y\n");
    }
    terminal.answer("Remove them (recent documents of LibreOffice)? [y/N] ", "\n");
    for kind in ["undo files of Vim", "history of Vim"] {
        terminal.answer(&format!("Remove them ({kind})? [y/N] "), "y\n");
    }
    let lost = "Then earlier and unsaved content is lost. [y/N] ";
    terminal.answer(&format!("Remove them (backups of Emacs)? {lost}"), "no\n");
    terminal.answer("Remove them (notes of Okular)? [y/N] ", "YES\n");
    let (status, screen) = terminal.end();
    assert_eq!(status.code(), Some(1), "{screen}");
    let left = fs::read_to_string(scaup.home().join("config/libreoffice/4/user/registrymodifications.xcu"));
    assert!(left.unwrap().contains("secret"), "that was not wanted");
    let output = scaup.run(["doctor", "--traces", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["traces"].as_array().unwrap().len(), 4, "{report}");
    for gone in [
        ".cache/thumbnails/normal/v.png",
        ".local/share/Trash/files/secret",
        ".local/share/okular/docdata/1.xml",
    ] {
        assert!(!scaup.home().join(gone).exists(), "{gone}");
    }
}
