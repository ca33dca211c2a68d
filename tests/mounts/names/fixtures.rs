//! Every vault that Cryptomator made, on a real server, seen through a real mount, compared with its manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use scaup_rig::{Answers, Conflict, Entry, EntryKind, Fixture, Mount, Open, Readable, Scaup, Sshd, within};

use crate::support::{Drive, PASSWORD, PATIENCE, names_in, noise, said, scaup, sha256, shell, tree};

/// Puts fixtures on a server, each at its own name, and mounts the directory that holds them.
struct Shelf {
    mount: Mount,
    scaup: Scaup,
    sshd: Sshd,
    fixtures: Vec<Fixture>,
}

impl Shelf {
    fn of(names: &[&str]) -> Self {
        Self::with(names, |_| true)
    }

    /// Mounts the fixtures `names` and unlocks those that `unlocked` names.
    fn with(names: &[&str], unlocked: impl Fn(&str) -> bool) -> Self {
        let sshd = Sshd::key_only().start();
        let fixtures: Vec<Fixture> = names.iter().map(|name| Fixture::unpack(name)).collect();
        for fixture in &fixtures {
            fixture.copy_vault_to(&sshd.home().join(&fixture.manifest.name));
        }
        sshd.give(&sshd.home());
        let scaup = scaup();
        // Links are to be seen as they are, wherever they lead.
        let mut mount = scaup.mount_on(&sshd, "").args(["--follow-outside"]);
        let unlocked: Vec<&&str> = names.iter().filter(|name| unlocked(name)).collect();
        if !unlocked.is_empty() {
            // It is held that looking changes nothing.
            mount = mount.answering(&Answers::default().vault(PASSWORD)).args(["--no-backup"]);
        }
        for name in unlocked {
            mount = mount.args(["--vault", name]);
        }
        let mount = mount.start();
        Self { mount, scaup, sshd, fixtures }
    }

    fn vault(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }

    fn only(&self) -> (&Fixture, PathBuf) {
        let [fixture] = self.fixtures.as_slice() else { panic!("this shelf holds several") };
        (fixture, self.vault(&fixture.manifest.name))
    }

    /// What the server holds.
    fn on_server(&self) -> BTreeMap<PathBuf, String> {
        tree(&self.sshd.home())
    }

    /// Unmounts and checks that the server holds exactly what it held `before`.
    fn unmount_unchanged(self, before: &BTreeMap<PathBuf, String>) {
        self.mount.unmount(&self.scaup);
        let after = tree(&self.sshd.home());
        for (path, state) in before {
            assert_eq!(after.get(path), Some(state), "{} on the server", path.display());
        }
        assert_eq!(before.len(), after.len(), "looking at a vault adds nothing on the server");
    }
}

/// A path of a manifest in the vault mounted at `root`.
fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// All paths that a walk of `root` meets, without following links.
fn walk(root: &Path) -> BTreeSet<PathBuf> {
    let mut met = BTreeSet::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            // A sync client kept the node of a directory whose content is not there.
            Err(_) if directory.ends_with("dir-same (conflicted copy 2024-01-02 123456)") => continue,
            entries => entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display())),
        };
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            assert!(met.insert(entry.path()), "{} is listed twice", entry.path().display());
        }
    }
    met
}

/// Reads until the end or an error.
fn read_until_error(path: &Path) -> (Vec<u8>, io::Result<()>) {
    let mut content = Vec::new();
    let result = File::open(path).and_then(|mut file| {
        // Page by page, so that what is good before the damage arrives.
        let mut page = [0; 4096];
        loop {
            match file.read(&mut page)? {
                0 => return Ok(()),
                count => content.extend_from_slice(&page[..count]),
            }
        }
    });
    (content, result)
}

fn is_io_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Checks one entry in all that its manifest says.
fn check_entry(root: &Path, entry: &Entry) {
    let path = at(root, &entry.path);
    let shown = path.display();
    let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
    match entry.kind {
        EntryKind::Dir => assert!(metadata.is_dir(), "{shown} is a directory"),
        EntryKind::Symlink => {
            assert!(metadata.is_symlink(), "{shown} is a symbolic link");
            let target = fs::read_link(&path).unwrap();
            assert_eq!(target.to_str(), entry.target.as_deref(), "target of {shown}");
            assert_eq!(metadata.len(), target.as_os_str().len() as u64, "length of link {shown}");
        }
        EntryKind::File => {
            assert!(metadata.is_file(), "{shown} is a file");
            check_content(&path, metadata.len(), entry);
        }
    }
}

fn check_content(path: &Path, size: u64, entry: &Entry) {
    let shown = path.display();
    let (content, result) = read_until_error(path);
    match entry.read {
        Readable::Ok => {
            result.unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(Some(size), entry.size, "size of {shown}");
            assert_eq!(content.len() as u64, size, "bytes read of {shown}");
            assert_eq!(Some(sha256(&content)), entry.sha256, "content of {shown}");
        }
        Readable::Error => {
            let error = result.expect_err(&format!("{shown} must not be readable: {:?}", entry.why));
            assert!(is_io_error(&error), "{shown}: {error}");
            assert_eq!(content.len(), 0, "{shown} must give nothing but an error");
        }
        Readable::Partial => {
            let error = result.expect_err(&format!("{shown} must end in an error: {:?}", entry.why));
            assert!(is_io_error(&error), "{shown}: {error}");
            assert_eq!(Some(content.len() as u64), entry.good_prefix, "good bytes of {shown}");
        }
        Readable::Either => match result {
            Ok(()) => {
                let good = entry.good_sha256.as_ref().or(entry.sha256.as_ref());
                assert_eq!(Some(&sha256(&content)), good, "content of {shown}");
            }
            Err(error) => assert!(is_io_error(&error), "{shown}: {error}"),
        },
    }
}

/// Walks a vault in which everything is well: nothing is missing, nothing is there beside.
fn check_whole(root: &Path, fixture: &Fixture) {
    let expected: BTreeSet<PathBuf> =
        fixture.manifest.entries.iter().map(|entry| at(root, &entry.path)).collect();
    assert_eq!(walk(root), expected, "names in {}", fixture.manifest.name);
    for entry in &fixture.manifest.entries {
        check_entry(root, entry);
    }
}

#[test]
fn every_good_vault_shows_exactly_what_its_manifest_says() {
    let names: Vec<String> = Fixture::names()
        .into_iter()
        .filter(|name| {
            let manifest = Fixture::unpack(name).manifest;
            manifest.open != Open::Refuse
                && !["damage", "hostile", "conflicts"].contains(&manifest.kind.as_str())
        })
        .collect();
    assert_eq!(names.len(), 15, "the good ones among the fixtures: {names:?}");
    let shelf = Shelf::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let before = shelf.on_server();
    let shelf = within(PATIENCE, move || {
        for fixture in &shelf.fixtures {
            check_whole(&shelf.vault(&fixture.manifest.name), fixture);
        }
        shelf
    });
    let status = shelf.scaup.status();
    let errors = status.pointer("/mounts/0/errors").unwrap().as_array().unwrap();
    assert!(errors.is_empty(), "nothing of this is an error: {errors:?}");
    shelf.unmount_unchanged(&before);
}

#[test]
fn status_names_format_and_cipher_combo_of_each_vault() {
    let shelf = Shelf::with(&["gcm8", "ctrmac8", "format7", "short36-gcm"], |name| name != "short36-gcm");
    // It was not asked for; from the first look into it on, it is known.
    fs::read_dir(shelf.vault("short36-gcm")).unwrap();
    let status = shelf.scaup.status();
    let vaults = status.pointer("/mounts/0/vaults").unwrap().as_array().unwrap();
    for fixture in &shelf.fixtures {
        let manifest = &fixture.manifest;
        let vault = vaults.iter().find(|vault| vault["path"] == manifest.name.as_str()).unwrap();
        assert_eq!(vault["state"], if manifest.name == "short36-gcm" { "locked" } else { "unlocked" });
        assert_eq!(vault["format"].as_u64(), manifest.format.map(u64::from), "{}", manifest.name);
        assert_eq!(vault["cipher_combo"].as_str(), manifest.cipher_combo.as_deref(), "{}", manifest.name);
    }
    shelf.mount.unmount(&shelf.scaup);
}

/// What a refusal has to say of why, and of the way out.
const REFUSALS: &[(&str, &[&str])] = &[
    ("config-missing", &["vault.cryptomator is missing", "vault restore"]),
    ("d-missing", &["no vault"]),
    ("format3-refuse", &["format is 3", "Cryptomator"]),
    ("format4-refuse", &["format is 4", "Cryptomator"]),
    ("format5-refuse", &["format is 5", "Cryptomator"]),
    ("format6-refuse", &["format is 6", "Cryptomator"]),
    ("jwt-alg-none", &["vault.cryptomator", "none"]),
    ("jwt-alg-rs256", &["vault.cryptomator", "RS256"]),
    ("jwt-bad-signature", &["vault.cryptomator", "signature"]),
    ("jwt-empty", &["vault.cryptomator"]),
    ("jwt-format7", &["vault.cryptomator", "format"]),
    ("jwt-format9", &["format", "9", "update"]),
    ("jwt-garbage", &["vault.cryptomator"]),
    ("jwt-kid-hub", &["Hub"]),
    ("jwt-kid-traversal", &["vault.cryptomator", "masterkey"]),
    ("jwt-missing-threshold", &["vault.cryptomator", "shorteningThreshold"]),
    ("jwt-tampered-combo", &["vault.cryptomator", "signature"]),
    ("jwt-tampered-threshold", &["vault.cryptomator", "signature"]),
    ("jwt-trailing-newline", &["vault.cryptomator"]),
    ("jwt-unknown-combo", &["SIV_FOO"]),
    ("jwt-wrong-key", &["vault.cryptomator", "signature"]),
    ("masterkey-hmac-flipped", &["wrong password"]),
    ("masterkey-huge-scrypt", &["masterkey", "scrypt"]),
    ("masterkey-missing", &["masterkey.cryptomator is missing", "vault restore"]),
    ("masterkey-odd-scrypt", &["masterkey", "scrypt"]),
    ("masterkey-primary-flipped", &["wrong password"]),
    ("masterkey-short-key", &["masterkey"]),
    ("masterkey-truncated", &["masterkey"]),
    ("root-dir-missing", &["root directory is missing", "backup"]),
];

/// What only the keys can tell: that the password is right, what the signed config says, and where the root directory
/// lies. For the other ones nobody is asked for a password.
const REFUSED_AFTER_THE_PASSWORD: &[&str] = &[
    "jwt-alg-none",
    "jwt-alg-rs256",
    "jwt-bad-signature",
    "jwt-format7",
    "jwt-format9",
    "jwt-missing-threshold",
    "jwt-tampered-combo",
    "jwt-tampered-threshold",
    "jwt-unknown-combo",
    "jwt-wrong-key",
    "masterkey-hmac-flipped",
    "masterkey-primary-flipped",
    "root-dir-missing",
];

#[test]
fn every_vault_that_must_be_refused_is_refused_with_its_reason() {
    let mut refused: Vec<String> = Fixture::names()
        .into_iter()
        .filter(|name| Fixture::unpack(name).manifest.open == Open::Refuse)
        .collect();
    refused.sort();
    let told: Vec<&str> = REFUSALS.iter().map(|(name, _)| *name).collect();
    assert_eq!(refused, told, "each fixture to be refused is told of above");
    let shelf = Shelf::with(&told, |_| false);
    // What the traversal's key id points at lies where it would be found if the key id were followed.
    let outside = Fixture::unpack("jwt-kid-traversal").directory().join("outside.key");
    if outside.exists() {
        fs::copy(outside, shelf.sshd.home().join("outside.key")).unwrap();
    }
    let before = shelf.on_server();
    let asked = shelf.scaup.home().join("asked");
    fs::write(&asked, "").unwrap();
    let password = shelf.scaup.command_answering(PASSWORD);
    for (name, words) in REFUSALS {
        let password = format!("echo {name} >> '{}'; {password}", asked.display());
        let output = shelf.scaup.run([
            "unlock",
            shelf.mount.path().to_str().unwrap(),
            name,
            "--vault-password-command",
            &password,
        ]);
        assert_eq!(output.status.code(), Some(5), "unlock {name}: {}", said(&output));
        let said = said(&output);
        assert!(said.contains(name), "{name}: the message names the vault: {said}");
        for word in *words {
            assert!(said.contains(word), "{name}: the message says {word:?}: {said}");
        }
        // It can still be looked at, as anything on the server.
        assert!(fs::read_dir(shelf.vault(name)).unwrap().count() > 0, "{name} is listed");
    }
    let status = shelf.scaup.status();
    for vault in status.pointer("/mounts/0/vaults").unwrap().as_array().unwrap() {
        assert_ne!(vault["state"], "unlocked", "{vault}");
    }
    let asked = fs::read_to_string(asked).unwrap();
    let mut asked: Vec<&str> = asked.lines().collect();
    // A wrong password may be given three times.
    asked.dedup();
    assert_eq!(asked, REFUSED_AFTER_THE_PASSWORD);
    shelf.unmount_unchanged(&before);
}

#[test]
fn a_wrong_password_is_told_from_a_vault_that_can_not_be_opened() {
    let names: Vec<String> = Fixture::names()
        .into_iter()
        .filter(|name| Fixture::unpack(name).manifest.open != Open::Refuse)
        .collect();
    assert_eq!(names.len(), 20, "the fixtures that open: {names:?}");
    let shelf = Shelf::with(&names.iter().map(String::as_str).collect::<Vec<_>>(), |_| false);
    for fixture in &shelf.fixtures {
        let name = &fixture.manifest.name;
        let wrong = shelf.scaup.command_answering(&fixture.manifest.wrong_password);
        let mountpoint = shelf.mount.path().to_str().unwrap();
        let output = shelf.scaup.run(["unlock", mountpoint, name, "--vault-password-command", &wrong]);
        assert_eq!(output.status.code(), Some(5), "{name}: {}", said(&output));
        assert!(said(&output).contains("wrong password"), "{name}: {}", said(&output));
        // The right one opens it afterwards.
        let right = shelf.scaup.command_answering(PASSWORD);
        let output = shelf.scaup.run(["unlock", mountpoint, name, "--vault-password-command", &right]);
        assert!(output.status.success(), "{name}: {}", said(&output));
        assert_ne!(
            names_in(&shelf.vault(name)),
            names_in(&shelf.sshd.home().join(name)),
            "{name} is decrypted"
        );
    }
    shelf.mount.unmount(&shelf.scaup);
}

#[test]
fn a_password_may_be_typed_in_either_unicode_form() {
    let shelf = Shelf::with(&["gcm8"], |_| false);
    let decomposed = PASSWORD.replace('ä', "a\u{308}");
    assert_ne!(decomposed, PASSWORD);
    let command = shelf.scaup.command_answering(&decomposed);
    let output = shelf.scaup.run([
        "unlock",
        shelf.mount.path().to_str().unwrap(),
        "gcm8",
        "--vault-password-command",
        &command,
    ]);
    assert!(output.status.success(), "{}", said(&output));
    shelf.mount.unmount(&shelf.scaup);
}

#[test]
fn a_locked_vault_shows_its_encrypted_content_and_can_not_be_changed() {
    let shelf = Shelf::with(&["gcm8"], |_| false);
    let before = shelf.on_server();
    let vault = shelf.vault("gcm8");
    assert!(vault.join("vault.cryptomator").is_file());
    let root: Vec<_> = walk(&vault).into_iter().collect();
    let on_server = shelf.sshd.home().join("gcm8");
    for path in &root {
        let theirs = on_server.join(path.strip_prefix(&vault).unwrap());
        if theirs.is_file() {
            assert_eq!(fs::read(path).unwrap(), fs::read(&theirs).unwrap(), "{}", path.display());
        }
    }
    let read_only = Some(Errno::ROFS.raw_os_error());
    let config = vault.join("vault.cryptomator");
    assert_eq!(fs::write(vault.join("new"), "x").unwrap_err().raw_os_error(), read_only);
    assert_eq!(fs::write(&config, "x").unwrap_err().raw_os_error(), read_only);
    assert_eq!(fs::remove_file(&config).unwrap_err().raw_os_error(), read_only);
    assert_eq!(fs::create_dir(vault.join("d/XX")).unwrap_err().raw_os_error(), read_only);
    assert_eq!(fs::rename(&config, vault.join("moved")).unwrap_err().raw_os_error(), read_only);
    shelf.unmount_unchanged(&before);
}

#[test]
fn damaged_content_is_an_error_where_it_is_and_nowhere_else() {
    let shelf = Shelf::of(&["damage-content-gcm", "damage-content-ctrmac"]);
    let before = shelf.on_server();
    let shelf = within(PATIENCE, move || {
        for fixture in &shelf.fixtures {
            let root = shelf.vault(&fixture.manifest.name);
            check_whole(&root, fixture);
            let damaged = fixture.manifest.entries.iter().filter(|entry| entry.read == Readable::Error);
            assert!(damaged.count() > 10);
        }
        shelf
    });
    let status = shelf.scaup.status();
    let errors = status.pointer("/mounts/0/errors").unwrap().as_array().unwrap();
    assert!(
        errors.iter().any(|error| error["kind"] == "damaged"
            && error["message"].as_str().unwrap().contains("damage-content-gcm/flip-chunk0:")),
        "status says what is damaged: {errors:?}"
    );
    shelf.unmount_unchanged(&before);
}

#[test]
fn behind_a_damaged_chunk_the_next_one_can_be_read() {
    const CHUNK: usize = 32_768;
    // Bytes of the header, and those that each chunk has more than its content.
    for (fixture, header, overhead) in [("empty-gcm", 68, 28), ("ctrmac8", 88, 48)] {
        let drive = Drive::holding(fixture, &["--attr-timeout", "0", "--follow-outside"]);
        let content = noise(1, 4 * CHUNK + 100);
        let stored = drive.store("damaged", &content);
        // A drive that has read nothing of it yet.
        let drive = drive.remounted_with(&["--attr-timeout", "0", "--follow-outside"]);
        let server = File::options().write(true).open(&stored).unwrap();
        server.write_all_at(&[0x5a; 16], (header + CHUNK + overhead + 5000) as u64).unwrap();
        let file = File::open(drive.vault().join("damaged")).unwrap();
        for chunk in [1, 2, 0, 1, 4, 3, 1, 2] {
            let length = (content.len() - chunk * CHUNK).min(CHUNK);
            let mut read = vec![0; length];
            let result = file.read_exact_at(&mut read, (chunk * CHUNK) as u64);
            match chunk {
                1 => assert!(is_io_error(&result.unwrap_err()), "{fixture}"),
                _ => {
                    result.unwrap_or_else(|error| panic!("{fixture}, chunk {chunk}: {error}"));
                    assert!(read == content[chunk * CHUNK..][..length], "{fixture}, chunk {chunk}");
                }
            }
        }
        assert_eq!(file.metadata().unwrap().len(), content.len() as u64, "{fixture}: it is not cut short");
        drop(file);
        drive.unmount();
    }
}

#[test]
fn damaged_content_can_be_replaced_or_removed_but_not_added_to() {
    let shelf = Shelf::of(&["damage-content-gcm"]);
    let (fixture, root) = shelf.only();
    let damaged: Vec<PathBuf> = fixture
        .manifest
        .entries
        .iter()
        .filter(|entry| entry.read == Readable::Error)
        .map(|entry| at(&root, &entry.path))
        .collect();
    // Writing into a file whose header is lost can't be done; the program must hear of it.
    let mut broken = fs::OpenOptions::new().append(true).open(root.join("flip-header-tag"));
    let added =
        broken.as_mut().map(|file| io::Write::write_all(file, b"more").and_then(|()| file.sync_all()));
    assert!(!matches!(added, Ok(Ok(()))), "appending behind a lost header must fail");
    drop(broken);
    for (number, path) in damaged.iter().enumerate() {
        if number % 2 == 0 {
            fs::write(path, format!("whole again {number}"))
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(fs::read_to_string(path).unwrap(), format!("whole again {number}"));
        } else {
            fs::remove_file(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(!fs::exists(path).unwrap());
        }
    }
    for entry in fixture.manifest.entries.iter().filter(|entry| entry.read == Readable::Ok) {
        check_entry(&root, entry);
    }
    shelf.mount.unmount(&shelf.scaup);
}

/// Whether the node at `path` fails every access to its content.
fn refuses_access(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Err(_) => true,
        Ok(metadata) if metadata.is_dir() => fs::read_dir(path).is_err(),
        Ok(metadata) if metadata.is_symlink() => fs::read_link(path).is_err(),
        Ok(_) => read_until_error(path).1.is_err(),
    }
}

fn check_damaged_structure(fixture: &Fixture, root: &Path) {
    let listed = names_in(root);
    for entry in &fixture.manifest.entries {
        check_entry(root, entry);
    }
    for special in &fixture.manifest.special {
        let path = at(root, &special.path);
        let shown = path.display();
        let is_listed = listed.iter().any(|name| path.file_name() == Some(name.as_ref()));
        match special.list.as_str() {
            "ok" => assert!(is_listed, "{shown} is listed"),
            "absent" => {
                assert!(!is_listed, "{shown} is not listed");
                assert!(fs::symlink_metadata(&path).is_err(), "{shown} is not there");
            }
            "hidden-or-error" => {
                // What has a name that can be known for certain may be listed; then its content is right or refused.
                let is_readable = !refuses_access(&path);
                let named =
                    special.path.contains("name-trailing-nul") || special.path.contains("name-newline");
                assert!(!is_readable || named, "{shown} must not be readable: {:?}", special.why);
            }
            "listed-or-hidden" => {}
            other => panic!("{shown}: a list rule the test does not know: {other}"),
        }
        match special.access.as_deref() {
            Some("error") => assert!(refuses_access(&path), "{shown} must refuse access"),
            Some("readlink-error") => assert!(fs::read_link(&path).is_err(), "{shown} has no target"),
            _ => {}
        }
        if let Some(children) = &special.children {
            assert_eq!(&names_in(&path), children, "children of {shown}");
        }
        if let Some(twin) = &special.same_as {
            assert_eq!(names_in(&path), names_in(&at(root, twin)), "{shown} shows what {twin} shows");
        }
        match special.kind {
            Some(EntryKind::Dir) => assert!(path.is_dir(), "{shown} is a directory"),
            Some(EntryKind::Symlink) => {
                assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "{shown} is a link");
                if let (Some(target), None) = (&special.target, &special.access) {
                    assert_eq!(fs::read_link(&path).unwrap().to_str(), Some(target.as_str()), "{shown}");
                }
            }
            Some(EntryKind::File) => assert!(path.is_file(), "{shown} is a file"),
            None => {}
        }
        if let Some(sum) = &special.sha256 {
            assert_eq!(&sha256(&fs::read(&path).unwrap()), sum, "content of {shown}");
        }
    }
}

#[test]
fn a_damaged_structure_hides_nothing_that_can_be_read() {
    let shelf = Shelf::of(&["damage-structure"]);
    let before = shelf.on_server();
    let shelf = within(PATIENCE, move || {
        let (fixture, root) = shelf.only();
        check_damaged_structure(fixture, &root);
        shelf
    });
    shelf.unmount_unchanged(&before);
}

#[test]
fn damaged_entries_can_be_removed_and_their_neighbours_stay() {
    let shelf = Shelf::of(&["damage-structure"]);
    let shelf = within(PATIENCE, move || {
        let (fixture, root) = shelf.only();
        let kept: BTreeSet<PathBuf> =
            fixture.manifest.entries.iter().map(|entry| at(&root, &entry.path)).collect();
        let mut removed = 0;
        for special in &fixture.manifest.special {
            let path = at(&root, &special.path);
            let damaged = fs::symlink_metadata(&path).is_ok() && refuses_access(&path);
            if damaged && !kept.iter().any(|kept| kept.starts_with(&path)) {
                let metadata = fs::symlink_metadata(&path).unwrap();
                let gone = if metadata.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
                gone.unwrap_or_else(|error| panic!("{} can be removed: {error}", path.display()));
                assert!(fs::symlink_metadata(&path).is_err(), "{} is gone", path.display());
                removed += 1;
            }
        }
        assert!(removed >= 9, "only {removed} damaged entries were there to be removed");
        for entry in &fixture.manifest.entries {
            check_entry(&root, entry);
        }
        shelf
    });
    shelf.mount.unmount(&shelf.scaup);
}

#[test]
fn a_directory_is_not_removed_while_it_holds_what_can_not_be_named() {
    let shelf = Shelf::of(&["damage-structure"]);
    let (_, root) = shelf.only();
    let directory = root.join("dst");
    assert_eq!(names_in(&directory), ["f.txt"]);
    fs::remove_file(directory.join("f.txt")).unwrap();
    assert_eq!(names_in(&directory), [""; 0]);
    // A file that was moved in from elsewhere does not authenticate here, but it is somebody's.
    let error = fs::remove_dir(&directory).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOTEMPTY.raw_os_error()), "{error}");
    shelf.mount.unmount(&shelf.scaup);
}

#[test]
fn a_directory_that_contains_itself_ends_a_walk() {
    let shelf = Shelf::of(&["damage-structure"]);
    let shelf = within(PATIENCE, move || {
        let (_, root) = shelf.only();
        // The kernel or the walk stops by itself; nothing hangs and the daemon lives.
        let mut path = root.join("dir-self-loop");
        for _ in 0..50 {
            path.push("again");
            if fs::read_dir(&path).is_err() {
                break;
            }
        }
        assert!(!fs::read(root.join("dir-good/f.txt")).unwrap().is_empty());
        shelf
    });
    shelf.mount.unmount(&shelf.scaup);
}

#[test]
fn hostile_names_never_reach_the_kernel() {
    let shelf = Shelf::of(&["hostile-names"]);
    let before = shelf.on_server();
    let shelf = within(PATIENCE, move || {
        let (fixture, root) = shelf.only();
        for entry in &fixture.manifest.entries {
            check_entry(&root, entry);
        }
        let met: Vec<OsString> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        let never = fixture.manifest.special.iter().filter(|special| special.list == "never-as-path");
        assert_eq!(never.count(), 9);
        assert!(met.iter().all(|name| !name.is_empty() && !name.as_bytes().contains(&b'/')), "{met:?}");
        for special in &fixture.manifest.special {
            let raw = special.raw_hex.as_deref().unwrap();
            let raw: Vec<u8> = (0..raw.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&raw[at..at + 2], 16).unwrap())
                .collect();
            let name = OsString::from_vec(raw);
            if special.list == "never-as-path" {
                assert!(!met.contains(&name), "{} is shown as {name:?}", special.path);
            }
        }
        // The name in NFD is shown in NFC and can be read under either form.
        let nfc = root.join("\u{e9}-nfd.txt");
        let nfd = root.join("e\u{301}-nfd.txt");
        assert_eq!(fs::read(&nfc).unwrap(), fs::read(nfd).unwrap());
        shelf
    });
    shelf.unmount_unchanged(&before);
}

/// The content of everything in `root`: SHA-256 of files, by name.
fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    walk(root)
        .into_iter()
        .filter(|path| fs::symlink_metadata(path).unwrap().is_file())
        .map(|path| {
            let sum = sha256(&fs::read(&path).unwrap());
            (path, sum)
        })
        .collect()
}

#[test]
fn conflicting_copies_are_all_reachable_and_nothing_is_changed() {
    let shelf = Shelf::of(&["conflicts"]);
    let before = shelf.on_server();
    let shelf = within(PATIENCE, move || {
        let (fixture, root) = shelf.only();
        let contents = contents(&root);
        // Of these two only the copies are left: of the one under its own name, of the other as `dir-diff (1)`.
        let replaced = |entry: &&Entry| entry.path == "/lonely.txt" || entry.path.starts_with("/dir-other");
        for original in fixture.manifest.entries.iter().filter(|entry| !replaced(entry)) {
            check_entry(&root, original);
        }
        let mut reached = 0;
        for Conflict { original, cipher_pattern, sha256, note } in &fixture.manifest.conflicts {
            let (Some(sum), Some(pattern)) = (sha256, cipher_pattern) else {
                assert!(note.is_some());
                continue;
            };
            let is_there = contents.values().any(|content| content == sum);
            // Names that begin with a dot are other programs' temporary files.
            assert_eq!(is_there, !pattern.starts_with('.'), "copy {pattern} of {original}");
            reached += usize::from(is_there);
        }
        assert_eq!(reached, 14);
        // A copy of a directory with another id is another directory.
        assert!(root.join("dir-diff (1)/in2").is_file());
        shelf
    });
    shelf.unmount_unchanged(&before);
}

#[test]
fn a_conflicting_copy_can_be_edited_renamed_and_removed_under_its_name() {
    let shelf = Shelf::of(&["conflicts"]);
    let (_, root) = shelf.only();
    let copy = root.join("nextcloud (conflicted copy 2024-01-02 123456).txt");
    let original = fs::read(root.join("nextcloud.txt")).unwrap();
    fs::write(&copy, "ours").unwrap();
    assert_eq!(fs::read_to_string(&copy).unwrap(), "ours");
    fs::rename(&copy, root.join("resolved.txt")).unwrap();
    assert!(!fs::exists(&copy).unwrap());
    assert_eq!(fs::read_to_string(root.join("resolved.txt")).unwrap(), "ours");
    assert_eq!(fs::read(root.join("nextcloud.txt")).unwrap(), original);
    fs::remove_file(root.join("many (2).txt")).unwrap();
    assert!(root.join("many.txt").is_file() && root.join("many (1).txt").is_file());
    // The identical copy of a link goes without its original.
    fs::remove_file(root.join("link (1)")).unwrap();
    assert!(fs::symlink_metadata(root.join("link")).unwrap().is_symlink());
    shelf.mount.unmount(&shelf.scaup);
}

#[test]
fn no_node_of_a_vault_is_a_device() {
    let shelf = Shelf::of(&["gcm8"]);
    let (_, root) = shelf.only();
    for path in walk(&root) {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        assert!(!kind.is_block_device() && !kind.is_char_device() && !kind.is_fifo() && !kind.is_socket());
    }
    shell(&root, "test $(ls -A | wc -l) -gt 30");
    shelf.mount.unmount(&shelf.scaup);
}
