//! `scaup vault check`: what it says of every vault that Cryptomator made and of ones that are broken here, that it
//! changes nothing, and what it costs.

mod made;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use made::{Made, name};
use rustix::process::Signal;
use scaup::check::{CheckError, CheckOptions, FindingKind, Report, Severity};
use scaup::remote::local::LocalRemote;
use scaup::remote::{Remote, RemoteError};
use scaup_crypto::{CLEARTEXT_CHUNK_LEN, CipherCombo, DirectoryId};
use scaup_fakes::{Delay, Fault, MemoryRemote, MemoryServer, MessageKind};
use scaup_rig::{EntryKind, Fixture, Open, Proxy, Readable, Scaup, Sshd, eventually};
use serde_json::Value;

use crate::support::{Drive, PASSWORD, noise, said, scaup, shell, signal, tree};

/// A kind and the cleartext path where it is known, else the ciphertext path.
type Found = BTreeSet<(String, String)>;

/// Checks a vault in a local directory, which must end with `code`; returns what `--json` says.
fn checked(scaup: &Scaup, vault: &Path, code: i32, arguments: &[&str]) -> Value {
    let output = run_check(scaup, vault.to_str().unwrap(), &[&["--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}: {}", vault.display(), said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

fn run_check(scaup: &Scaup, vault: &str, arguments: &[&str]) -> Output {
    let password = scaup.command_answering(PASSWORD);
    let first = ["vault", "check", vault, "--vault-password-command", &password];
    scaup.run(first.iter().chain(arguments))
}

/// The findings of these severities.
fn findings(report: &Value, severities: &[&str]) -> Found {
    let findings = report["findings"].as_array().unwrap();
    let wanted =
        findings.iter().filter(|finding| severities.contains(&finding["severity"].as_str().unwrap()));
    wanted
        .map(|finding| {
            assert!(!finding["what"].as_str().unwrap().is_empty(), "{finding}");
            assert!(!finding["advice"].as_str().unwrap().is_empty(), "{finding}");
            let place = finding["cleartext"].as_str().or(finding["path"].as_str()).unwrap();
            (finding["kind"].as_str().unwrap().to_owned(), place.to_owned())
        })
        .collect()
}

fn above_info(report: &Value) -> Found {
    findings(report, &["warning", "critical"])
}

fn expected(rows: &[(&str, &[&str])]) -> Found {
    rows.iter()
        .flat_map(|(kind, places)| places.iter().map(|place| ((*kind).to_owned(), (*place).to_owned())))
        .collect()
}

/// A path of the fixture's manifest that begins like this: long names are of one letter at their end.
fn long(fixture: &Fixture, beginning: &str) -> String {
    let mut paths = fixture.manifest.special.iter().map(|special| &special.path);
    paths.find(|path| path.starts_with(beginning)).unwrap_or_else(|| panic!("{beginning} is told of")).clone()
}

fn is_good(fixture: &Fixture) -> bool {
    let kind = fixture.manifest.kind.as_str();
    fixture.manifest.open != Open::Refuse && !["damage", "hostile", "conflicts"].contains(&kind)
}

fn fixtures() -> impl Iterator<Item = Fixture> {
    Fixture::names().into_iter().map(|name| Fixture::unpack(&name))
}

#[test]
fn in_good_vaults_nothing_is_found_and_all_is_counted() {
    let scaup = scaup();
    let mut count = 0;
    for fixture in fixtures().filter(is_good) {
        let name = &fixture.manifest.name;
        let before = tree(fixture.directory());
        for arguments in [&[][..], &["--content"]] {
            let report = checked(&scaup, &fixture.vault(), 0, arguments);
            assert_eq!(above_info(&report), Found::new(), "{name}");
            if name != "in-use-files" {
                let backups = fs::read_dir(fixture.vault()).unwrap().map(|entry| entry.unwrap().file_name());
                let backups =
                    backups.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".bkup"));
                let mut hints: Found = backups.map(|name| ("backup".to_owned(), name)).collect();
                let outside = fixture.manifest.entries.iter().map(|entry| entry.path.as_str());
                let outside = outside.filter(|path| ["/link-abs", "/link-up"].contains(path));
                hints.extend(outside.map(|path| ("link_leads_out".to_owned(), path.to_owned())));
                if name == "format7-migrated" {
                    // Format 7 had no dirid.c9r yet, and the migration adds none.
                    let directories =
                        fixture.manifest.entries.iter().filter(|entry| entry.kind == EntryKind::Dir);
                    let paths = directories.map(|entry| entry.path.as_str()).chain(["/"]);
                    hints.extend(
                        paths.map(|path| ("missing_directory_id_backup".to_owned(), path.to_owned())),
                    );
                }
                assert_eq!(findings(&report, &["info"]), hints, "{name}");
            }
            let count = |kind| fixture.manifest.entries.iter().filter(|entry| entry.kind == kind).count();
            let bytes: u64 = fixture.manifest.entries.iter().filter_map(|entry| entry.size).sum();
            let summary = &report["summary"];
            // The root is no entry.
            assert_eq!(summary["directories"], count(EntryKind::Dir) + 1, "{name}");
            assert_eq!(summary["files"], count(EntryKind::File), "{name}");
            assert_eq!(summary["links"], count(EntryKind::Symlink), "{name}");
            assert_eq!(summary["bytes"], bytes, "{name}");
            assert_eq!(summary["content"], !arguments.is_empty(), "{name}");
        }
        assert_eq!(tree(fixture.directory()), before, "{name} is as it was");
        count += 1;
    }
    assert_eq!(count, 15);
}

#[test]
fn what_cannot_be_opened_is_refused_with_code_5_but_a_lost_root_is_a_finding() {
    let scaup = scaup();
    let mut refused = 0;
    for fixture in fixtures().filter(|fixture| fixture.manifest.open == Open::Refuse) {
        let name = &fixture.manifest.name;
        let before = tree(fixture.directory());
        let output = run_check(&scaup, fixture.vault().to_str().unwrap(), &["--json"]);
        assert_eq!(output.status.code(), Some(5), "{name}: {}", said(&output));
        if name == "root-dir-missing" {
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let found: Vec<String> = above_info(&report).into_iter().map(|(kind, _)| kind).collect();
            // What lay in the root is gone, so nothing leads to the one directory that is left.
            assert_eq!(found, ["missing_root", "orphan_directory"]);
        } else {
            assert!(output.stdout.is_empty(), "{name}: no report: {}", said(&output));
            assert!(String::from_utf8_lossy(&output.stderr).starts_with("scaup: "), "{name}");
            refused += 1;
        }
        assert_eq!(tree(fixture.directory()), before, "{name} is as it was");
    }
    assert_eq!(refused, 28);
    let fixture = Fixture::unpack("gcm8");
    let wrong = scaup.command_answering(&fixture.manifest.wrong_password);
    let vault = fixture.vault();
    let output = scaup.run(["vault", "check", vault.to_str().unwrap(), "--vault-password-command", &wrong]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("wrong password"), "{}", said(&output));
}

#[test]
fn each_damage_of_a_structure_is_found_where_it_is() {
    let scaup = scaup();
    let fixture = Fixture::unpack("damage-structure");
    let before = tree(fixture.directory());
    let report = checked(&scaup, &fixture.vault(), 5, &[]);
    let strays = "d/TG/7UXR62M44D2PKNAVKISZP5PTLRQAD7";
    // Nodes whose long name is lost have a stand-in name of their entry's first characters: two that were made without
    // a name, one with base64 of nothing, and one that is far too long.
    let (no_name, dir_no_name) = ("/unnamed NFGWmsJT", "/unnamed jnT4T7f1");
    let (not_base64, huge) = ("/unnamed pXBqPhXy", "/unnamed ySvLGwhG");
    let critical = expected(&[
        ("empty_directory_id", &["/dir-empty-dirfile", "/dir-root-id-loop"]),
        ("obese_directory_id", &["/dir-huge-dirfile", "/dir-37-byte-dirfile", "/dir-dirfile-newline"]),
        ("directory_loop", &["/dir-self-loop/again"]),
        // What lies beside the id of a directory is a file or a link, too.
        ("illegal_size", &["/dir-ambiguous", "/dir-plus-contents"]),
        ("undecodable_long_name", &[not_base64]),
        ("obese_long_name", &[huge]),
    ]);
    assert_eq!(findings(&report, &["critical"]), critical);
    let warnings = expected(&[
        ("directory_id_collision", &["/dir-collision-b"]),
        ("ambiguous_node_type", &["/dir-ambiguous", "/dir-plus-contents"]),
        ("missing_long_name", &[no_name, dir_no_name]),
        ("unfinished", &[&format!("{strays}/file.c9r.tmp")]),
        (
            "unknown_entry",
            &[
                &format!("{strays}/.nfs0001"),
                &format!("{strays}/foo.txt"),
                &format!("{strays}/lost.c9s"),
                &format!("{strays}/short.c9r"),
                &format!("{strays}/stray directory"),
                &format!("{strays}/sync.ffs_db"),
                &format!("{strays}/tmp.c9r"),
            ],
        ),
        (
            "missing_content_directory",
            &["/dir-content-missing", "/dir-37-byte-dirfile", "/dir-dirfile-newline"],
        ),
        // As Cryptomator's own health check lists them (`cryptofs_health` in the manifest).
        (
            "orphan_directory",
            &[
                "d/A4/VCFA5PY6ZZ5WBFIC4WGQ36IDITFN6H",
                "d/DH/T5Y45O7EL63SHNN76WEAS4Q6JGNYHM",
                "d/ZW/XX4OFSILLJ3N5ZIOVHEFAKYVAXQUY6",
                "d/SJ/P55HXUZGS3SQUWTJD32SAFKLLPZ6HZ",
                "d/ZQ/BL36GTDXAVDPK2E575OVNKH7GR4F7M",
                "d/PB/MT2TVFPCNZHMMEW437457QQ2DNHYAZ",
                "d/MP/NUIVKGCBGIH45USIVLV5FCZOCK3CSO",
            ],
        ),
        (
            "trailing_bytes_in_long_name",
            &[&long(&fixture, "/long-name-trailing-nul"), &long(&fixture, "/long-name-newline")],
        ),
        // It is not shown under the name that it claims.
        ("long_name_mismatch", &["/unnamed y_fqs3GT"]),
        // Moved between directories, and two that only look like names.
        (
            "undecryptable_name",
            &[
                "d/GH/V55FCXGG2TVPABVOV7MJ6QQIJWGRJB/40JfOuojrlY8dP3b5-VFJCql_mIICEGHh-zZdjApVvWazw==.c9r",
                "d/XU/NI2623PTWBLYAVKYHCO7SZV2GYIJQQ/X9_kK91sxS_DVa48gaYdoLmnBRM1.c9r",
                &format!("{strays}/AAAAAAAAAAAAAAAAAAAAAAAA.c9r"),
                &format!("{strays}/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.c9r"),
            ],
        ),
        ("uncanonical_name", &[&long(&fixture, "/should-be-long"), "/should-be-short"]),
        ("oversized_link", &["/sym-too-long"]),
    ]);
    assert_eq!(findings(&report, &["warning"]), warnings);
    let info = findings(&report, &["info"]);
    assert!(
        info.contains(&("missing_directory_id_backup".to_owned(), "/dir-no-backup".to_owned())),
        "{info:?}"
    );
    assert!(
        info.contains(&("in_use_marker".to_owned(), format!("{strays}/AAAAAAAAAAAAAAAAAAAAAAAAAAAA.c9u")))
    );
    assert!(info.contains(&("stray".to_owned(), format!("{strays}/desktop.ini"))), "{info:?}");
    // Only what is read shows that a link's target does not authenticate.
    let content = checked(&scaup, &fixture.vault(), 5, &["--content"]);
    let more: Found = above_info(&content).difference(&above_info(&report)).cloned().collect();
    assert_eq!(more, expected(&[("damaged_content", &["/sym-flipped"])]));
    assert_eq!(tree(fixture.directory()), before, "it is as it was");
}

#[test]
fn links_that_lead_out_of_the_vault_are_told_of() {
    let drive = Drive::mounted_with(&["--follow-outside"]);
    let inside = "ln -s a/b near; ln -s ../near a/up; ln -s ../../near a/b/up";
    let outside = "ln -s /etc/passwd absolute; ln -s ../plain beside; ln -s ../../plain a/over; \
                   ln -s ./../.././../plain a/b/over; ln -s x/../../../../.. a/b/round";
    shell(&drive.vault(), &format!("mkdir -p a/b; {inside}; {outside}"));
    let Drive { mount, scaup, sshd } = drive;
    mount.unmount(&scaup);
    let report = checked(&scaup, &sshd.home().join("Vault"), 0, &[]);
    let mut found = findings(&report, &["info"]);
    found.retain(|(kind, _)| kind == "link_leads_out");
    let places = ["/absolute", "/beside", "/a/over", "/a/b/over", "/a/b/round"];
    assert_eq!(found, expected(&[("link_leads_out", &places)]));
}

/// What is found in damaged content, by the manifest's words for each file: without reading it, and with.
const CONTENT: &[(&str, Option<&str>, &str)] = &[
    ("/append-1", None, "damaged_content"),
    ("/append-empty-chunk", Some("trailing_empty_chunk"), ""),
    ("/append-junk-chunk", None, "damaged_content"),
    ("/chunk-of-other", None, "damaged_content"),
    ("/cut-28", Some("trailing_empty_chunk"), "damaged_content"),
    ("/cut-header", Some("illegal_size"), ""),
    ("/cut-midchunk", None, "damaged_content"),
    ("/cut-to-zero", Some("empty_file"), ""),
    ("/drop-chunk0", None, "damaged_content"),
    ("/dup-chunk", None, "damaged_content"),
    ("/flip-chunk0", None, "damaged_content"),
    ("/flip-chunk0-nonce", None, "damaged_content"),
    ("/flip-chunk1", None, "damaged_content"),
    ("/flip-chunk1-tag", None, "damaged_content"),
    ("/flip-header-nonce", None, "damaged_header"),
    ("/flip-header-payload", None, "damaged_header"),
    ("/flip-header-tag", None, "damaged_header"),
    ("/header-of-other", None, "damaged_content"),
    ("/small-empty-chunk", Some("trailing_empty_chunk"), ""),
    ("/swap-chunks", None, "damaged_content"),
];

#[test]
fn damaged_content_is_found_by_its_length_or_by_reading_it() {
    let scaup = scaup();
    for name in ["damage-content-gcm", "damage-content-ctrmac"] {
        let fixture = Fixture::unpack(name);
        let bad: Vec<&str> = fixture
            .manifest
            .entries
            .iter()
            .filter(|entry| entry.read != Readable::Ok)
            .map(|entry| entry.path.as_str())
            .collect();
        let told: Vec<&str> = CONTENT.iter().map(|(path, ..)| *path).collect();
        assert_eq!(bad, told, "{name}: each damage of the manifest is told of above, and nothing else");
        let before = tree(fixture.directory());
        let pair = |kind: &str, path: &str| (kind.to_owned(), path.to_owned());
        let by_length: Found =
            CONTENT.iter().filter_map(|(path, kind, _)| Some(pair((*kind)?, path))).collect();
        assert_eq!(above_info(&checked(&scaup, &fixture.vault(), 5, &[])), by_length, "{name}");
        let read: Found = CONTENT
            .iter()
            .filter(|(.., kind)| !kind.is_empty())
            .map(|(path, _, kind)| pair(kind, path))
            .collect();
        let all: Found = by_length.union(&read).cloned().collect();
        assert_eq!(above_info(&checked(&scaup, &fixture.vault(), 5, &["--content"])), all, "{name}");
        assert_eq!(tree(fixture.directory()), before, "{name} is as it was");
    }
}

#[test]
fn hostile_names_are_found_and_never_printed_as_they_are() {
    let scaup = scaup();
    let fixture = Fixture::unpack("hostile-names");
    let before = tree(fixture.directory());
    let report = checked(&scaup, &fixture.vault(), 5, &[]);
    let found = above_info(&report);
    let unshowable =
        fixture.manifest.special.iter().filter(|special| special.list == "never-as-path").count();
    assert_eq!(found.iter().filter(|(kind, _)| kind == "unshowable_name").count(), unshowable);
    // A foreign client's NFD name: shown, and in a form that Cryptomator can't open.
    assert!(found.contains(&("uncanonical_name".to_owned(), "/\u{e9}-nfd.txt".to_owned())), "{found:?}");
    assert_eq!(found.len(), unshowable + 1, "{found:?}");
    assert_eq!(tree(fixture.directory()), before, "it is as it was");
    let text = run_check(&scaup, fixture.vault().to_str().unwrap(), &[]);
    assert!(!said(&text).chars().any(|c| c.is_control() && c != '\n'), "{}", said(&text));
}

#[test]
fn conflicting_copies_are_listed_for_a_person_each_beside_its_original() {
    let scaup = scaup();
    let fixture = Fixture::unpack("conflicts");
    let before = tree(fixture.directory());
    let report = checked(&scaup, &fixture.vault(), 5, &["--content"]);
    assert_eq!(findings(&report, &["critical"]), Found::new());
    let password = scaup.command_answering(PASSWORD);
    let vault = fixture.vault();
    let vault = vault.to_str().unwrap();
    let output = scaup.run(["vault", "conflicts", vault, "--json", "--vault-password-command", &password]);
    assert!(output.status.success(), "{}", said(&output));
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for conflict in listed.iter().filter(|conflict| conflict["kind"] == "conflict_copy") {
        assert_ne!(conflict["cleartext"], conflict["beside"], "it is shown under a name of its own");
        assert!(conflict["modified"].as_u64().is_some_and(|seconds| seconds > 0), "{conflict}");
        *found.entry(conflict["beside"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let mut expected: BTreeMap<String, u32> = BTreeMap::new();
    for conflict in &fixture.manifest.conflicts {
        // What begins with a dot is no copy of a node.
        let is_hidden = conflict.cipher_pattern.as_ref().is_some_and(|pattern| pattern.starts_with('.'));
        if !is_hidden {
            *expected.entry(conflict.original.clone()).or_default() += 1;
        }
    }
    assert_eq!(found, expected, "{listed:#?}");
    let nextcloud = listed.iter().find(|conflict| conflict["beside"] == "/nextcloud.txt").unwrap();
    assert_eq!(nextcloud["made_by"]["client"], "Nextcloud or ownCloud");
    assert_eq!(nextcloud["made_by"]["when"], "2024-01-02 123456");
    for file in ["masterkey", "vault"] {
        let name = format!("{file} (conflicted copy 2024-01-02 123456).cryptomator");
        let is_found = |(kind, place): &(String, String)| kind == "conflict_copy_of_config" && *place == name;
        assert!(findings(&report, &["info"]).iter().any(is_found));
    }
    // It may be somebody's, whatever it is.
    let stray = "d/U4/G435U7PK7O6ALPFM7ZH7LWJU3EHTVX/.nZeBScgFttBR8XX31r9KB99bMkE80X9LQbM=.swp (1).c9r";
    assert!(above_info(&report).contains(&("unknown_entry".to_owned(), stray.to_owned())));
    assert_eq!(tree(fixture.directory()), before, "it is as it was");
}

#[test]
fn leftovers_backups_and_files_in_use_are_hints() {
    let scaup = scaup();
    let fixture = Fixture::unpack("in-use-files");
    let vault = fixture.vault();
    let root = "d/CN/64PXTPJMZTLHD6M4UWRQGNY4FKLMYR";
    let leftover = ".scaup-0badcafe-12.~0123456789ab";
    for name in [
        "vault.cryptomator.A7F89D11.bkup".to_owned(),
        "masterkey.cryptomator.bkup".to_owned(),
        leftover.to_owned(),
        format!("{root}/{leftover}"),
        format!("{root}/dir.c9r"),
        // What Cryptomator itself puts beside, and what people do.
        "IMPORTANT.rtf".to_owned(),
        "masterplan.txt".to_owned(),
    ] {
        fs::write(vault.join(name), "").unwrap();
    }
    let report = checked(&scaup, &vault, 0, &[]);
    let found = findings(&report, &["info"]);
    let (leftover_inside, loose) = (format!("{root}/{leftover}"), format!("{root}/dir.c9r"));
    for (kind, place) in [
        ("backup", "vault.cryptomator.A7F89D11.bkup"),
        ("backup", "masterkey.cryptomator.bkup"),
        ("leftover", leftover),
        ("leftover", &leftover_inside),
        ("loose_directory_file", &loose),
    ] {
        assert!(found.contains(&(kind.to_owned(), place.to_owned())), "{kind} {place} in {found:?}");
    }
    assert_eq!(found.iter().filter(|(kind, _)| kind == "in_use_marker").count(), 4, "{found:?}");
    assert_eq!(found.len(), 9, "{found:?}");
}

#[test]
fn people_are_told_what_and_where_and_what_to_do() {
    let scaup = scaup();
    let fixture = Fixture::unpack("damage-content-gcm");
    let vault = fixture.vault();
    let output = run_check(&scaup, vault.to_str().unwrap(), &["--content"]);
    assert_eq!(output.status.code(), Some(5));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("CRITICAL: content does not authenticate: 1 of 2 chunks, the first is chunk 1"),
        "{text}"
    );
    assert!(text.contains("    /flip-chunk1 (d/"), "{text}");
    assert!(text.contains("    restore it from a backup"), "{text}");
    assert!(text.contains("Found 17 critical findings and 4 warnings."), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("17 critical findings and 4 warnings"));
    // No terminal, no line that moves.
    assert!(!said(&output).contains('\r'));
    let good = Fixture::unpack("gcm8");
    let output = run_check(&scaup, good.vault().to_str().unwrap(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("Nothing is wrong."), "{}", said(&output));
    let help = scaup.run(["vault", "check", "--help"]);
    assert!(said(&help).contains("5 warnings or worse"), "{}", said(&help));
}

#[test]
fn an_interrupt_ends_it_cleanly() {
    let scaup = scaup();
    // A server that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let mut command = scaup.command();
    command.args(["vault", "check", "nobody@127.0.0.1:vault", "-p", &port]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _connection = silent.accept().unwrap();
    signal(child.id(), Signal::INT);
    eventually("it ends", Duration::from_secs(10), || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("interrupted; nothing was changed"), "{}", said(&output));
}

// From here on: vaults made here.

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A local directory's vault.
async fn local(directory: &Path, combo: CipherCombo) -> Made {
    Made::new(Arc::new(LocalRemote::open(directory).unwrap()), combo).await
}

fn kinds(report: &Report) -> Vec<(FindingKind, Option<&str>)> {
    report.findings.iter().map(|finding| (finding.kind, finding.cleartext.as_deref())).collect()
}

const CONTENT_TOO: CheckOptions = CheckOptions { content: true };

#[test]
fn a_flipped_bit_is_found_in_the_chunk_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for combo in [CipherCombo::SivGcm, CipherCombo::SivCtrMac] {
        let directory = directory.path().join(combo.to_string());
        fs::create_dir(&directory).unwrap();
        runtime().block_on(async {
            let made = local(&directory, combo).await;
            let root = DirectoryId::root();
            // Two chunks, and so many that it takes several reads.
            made.file(&root, "two", &noise(1, CLEARTEXT_CHUNK_LEN + 5000)).await;
            made.file(&root, "hundred", &noise(2, 100 * CLEARTEXT_CHUNK_LEN)).await;
            made.file(&root, "whole", &noise(3, 90 * CLEARTEXT_CHUNK_LEN + 1)).await;
            assert_eq!(made.check(CONTENT_TOO).await.unwrap().severity(), Severity::Good);
            let flip = |text: &str, chunk: usize| {
                let path = made.entry(&root, text);
                let path = directory.join(std::str::from_utf8(path.as_bytes()).unwrap());
                let mut bytes = fs::read(&path).unwrap();
                bytes[combo.header_len() + chunk * combo.ciphertext_chunk_len() + 77] ^= 1;
                fs::write(path, bytes).unwrap();
            };
            flip("two", 1);
            flip("hundred", 57);
            flip("hundred", 99);
            assert_eq!(made.check(CheckOptions::default()).await.unwrap().severity(), Severity::Good);
            let report = made.check(CONTENT_TOO).await.unwrap();
            let mut found: Vec<(FindingKind, &str, &str)> = report
                .findings
                .iter()
                .map(|found| (found.kind, found.cleartext.as_deref().unwrap(), found.what.as_str()))
                .collect();
            found.sort();
            let damaged = FindingKind::DamagedContent;
            assert_eq!(
                found,
                [
                    (
                        damaged,
                        "/hundred",
                        "content does not authenticate: 2 of 100 chunks, the first is chunk 57"
                    ),
                    (damaged, "/two", "content does not authenticate: 1 of 2 chunks, the first is chunk 1"),
                ]
            );
        });
    }
}

/// A vault in memory.
async fn in_memory() -> (Arc<MemoryRemote>, Made) {
    let remote = MemoryRemote::connect(&MemoryServer::default());
    let made = Made::new(Arc::clone(&remote) as Arc<dyn Remote>, CipherCombo::SivGcm).await;
    (remote, made)
}

#[test]
fn directories_that_lead_in_circles_and_nowhere_are_found_and_end() {
    runtime().block_on(async {
        let (_, made) = in_memory().await;
        let root = DirectoryId::root();
        // A loop over two, below the root.
        let outer = made.directory(&root, "outer").await;
        let inner = made.directory(&outer, "inner").await;
        made.node(&inner, "outer again", &outer).await;
        // Two that only lead to each other.
        let (one, other) = (DirectoryId::random().unwrap(), DirectoryId::random().unwrap());
        for (id, to, name) in [(&one, &other, "other"), (&other, &one, "one")] {
            made.content_directory(id).await;
            made.node(id, name, to).await;
        }
        // What hangs on them, wherever it is met first.
        for n in 0..8 {
            let hanging = made.directory(&one, &format!("hanging {n}")).await;
            made.file(&hanging, "kept", b"content").await;
        }
        // One that holds itself.
        let alone = DirectoryId::random().unwrap();
        made.content_directory(&alone).await;
        made.node(&alone, "itself", &alone).await;
        // One that nothing leads to, with one below that; and an empty one.
        let lost = DirectoryId::random().unwrap();
        made.content_directory(&lost).await;
        let below = made.directory(&lost, "below").await;
        made.file(&below, "file", b"content").await;
        made.content_directory(&DirectoryId::random().unwrap()).await;
        // One whose making was cut off.
        let begun = DirectoryId::random().unwrap();
        made.content_directory(&begun).await;
        let backup = made.content(&begun).join(&name("dirid.c9r"));
        made.remote.remove(&backup).await.unwrap();
        made.write(&backup, b"").await;
        // One whose backup names another.
        let misled = made.directory(&root, "misled").await;
        let backup = made.content(&misled).join(&name("dirid.c9r"));
        made.remote.remove(&backup).await.unwrap();
        made.write(&backup, &made.cryptor.encrypt_small(one.as_bytes()).unwrap()).await;
        made.file(&misled, "empty", b"").await;
        let bare = made.entry(&misled, "nothing");
        made.write(&bare, b"").await;

        let report = made.check(CONTENT_TOO).await.unwrap();
        let mut found = kinds(&report);
        found.sort();
        let mut expected = [
            (FindingKind::DirectoryLoop, Some("/outer/inner/outer again")),
            (FindingKind::DirectoryCircle, None),
            (FindingKind::DirectoryCircle, None),
            (FindingKind::OrphanDirectory, None),
            (FindingKind::EmptyOrphan, None),
            (FindingKind::EmptyOrphan, None),
            (FindingKind::MissingDirectoryIdBackup, None),
            (FindingKind::WrongDirectoryIdBackup, Some("/misled")),
            // Its names are still known, from the directory above.
            (FindingKind::EmptyFile, Some("/misled/nothing")),
        ];
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(report.summary.directories, 19);
        let circles = report.findings.iter().filter(|finding| finding.kind == FindingKind::DirectoryCircle);
        let circles: Vec<&str> = circles.map(|circle| circle.what.as_str()).collect();
        let is_told = |wanted: &[&str]| circles.iter().any(|what| wanted.iter().any(|wanted| what.ends_with(wanted)));
        assert!(
            is_told(&[
                r#""one" holds "other" holds "one" again; 16 other files and directories are in them and below"#,
                r#""other" holds "one" holds "other" again; 16 other files and directories are in them and below"#,
            ]),
            "{circles:?}"
        );
        assert!(
            is_told(&[r#""itself" holds "itself" again; 0 other files and directories are in them and below"#]),
            "{circles:?}"
        );
    });
}

#[test]
fn a_tree_of_any_depth_is_walked_without_recursion() {
    runtime().block_on(async {
        let (_, made) = in_memory().await;
        made.chain(1500).await;
        let mut at = DirectoryId::root();
        let deep = loop {
            // The deepest directory, found by its content: the chain's ids are random.
            let Ok(id) = next_in_chain(&made, &at).await else { break at };
            at = id;
        };
        made.write(&made.entry(&deep, "nothing"), b"").await;
        let report = made.check(CheckOptions::default()).await.unwrap();
        let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
        let cleartext = finding.cleartext.as_deref().unwrap();
        assert!(cleartext.starts_with("…/") && cleartext.ends_with("directory 1499/nothing"), "{cleartext}");
        assert_eq!(report.summary.directories, 1501);
    });
}

/// The directory in a directory of [`Made::chain`].
async fn next_in_chain(made: &Made, id: &DirectoryId) -> Result<DirectoryId, RemoteError> {
    for entry in made.remote.list(&made.content(id)).await? {
        let node = made.content(id).join(&entry.name).join(&name("dir.c9r"));
        if let Ok(id) = made.remote.read_small(&node, 36).await {
            return Ok(DirectoryId::parse(&id).unwrap());
        }
    }
    Err(RemoteError::NotFound)
}

/// The round trips that a check of a chain waits for, and its messages.
fn cost(depth: usize) -> (u64, u64) {
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (remote, made) = in_memory().await;
        made.chain(depth).await;
        remote.set_delay(Some(Delay { least: ROUND_TRIP, most: ROUND_TRIP, seed: 0 }));
        let (before, messages) = (tokio::time::Instant::now(), remote.messages().len());
        let report = made.check(CheckOptions::default()).await.unwrap();
        assert_eq!(report.severity(), Severity::Good, "{:?}", report.findings);
        assert_eq!(report.summary.directories, depth as u64 + 1);
        let sent = remote.messages().split_off(messages);
        let reading = [MessageKind::Stat, MessageKind::List, MessageKind::Open, MessageKind::ReadFile];
        let reading = [&reading[..], &[MessageKind::StatFile, MessageKind::Close]].concat();
        assert!(sent.iter().all(|(kind, _)| reading.contains(kind)), "nothing is written: {sent:?}");
        let trips = before.elapsed().as_millis() / ROUND_TRIP.as_millis();
        (u64::try_from(trips).unwrap(), sent.len() as u64)
    })
}

#[test]
fn round_trips_do_not_grow_with_directories_and_their_depth() {
    let (one, _) = cost(1);
    let (hundred, messages) = cost(100);
    let (many, more_messages) = cost(1000);
    assert!(hundred <= one + 2, "{hundred} for 100 directories, {one} for one");
    assert!(many < 120, "{many} for 1000 directories");
    // What each directory takes: itself, its node, and the small files in both.
    let each = (more_messages - messages).div_ceil(900);
    assert!(each <= 12, "{each} messages for each directory");
}

#[test]
fn a_check_over_ssh_finds_the_same_in_few_round_trips_and_changes_nothing() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let home = sshd.home();
    for (place, depth) in [("few", 2), ("many", 80)] {
        let directory = home.join(place);
        fs::create_dir(&directory).unwrap();
        runtime().block_on(async { local(&directory, CipherCombo::SivGcm).await.chain(depth).await });
    }
    let fixture = Fixture::unpack("damage-structure");
    fixture.copy_vault_to(&home.join("damaged"));
    sshd.give(&home);
    let before = tree(&home);
    let check = |vault: &str, lockstep: Option<Duration>| {
        let proxy = Proxy::start(sshd.host(), sshd.port());
        proxy.lockstep(lockstep);
        let target = format!("{}@{}:{vault}", sshd.user(), sshd.host());
        let known = format!("UserKnownHostsFile={}", sshd.known_hosts_file_at(proxy.port()).display());
        let key = sshd.key().path().to_str().unwrap();
        let port = proxy.port().to_string();
        let output = run_check(&scaup, &target, &["-p", &port, "-i", key, "-o", &known, "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{vault}: {error}: {}", said(&output)));
        (report, proxy.round_trips())
    };
    let (few, trips_for_few) = check("few/Vault", Some(Proxy::QUIET));
    let (many, trips_for_many) = check("many/Vault", Some(Proxy::QUIET));
    assert_eq!((&few["summary"]["directories"], &many["summary"]["directories"]), (&3.into(), &81.into()));
    assert!(above_info(&few).is_empty() && above_info(&many).is_empty());
    assert!(
        trips_for_many <= trips_for_few + 20,
        "{trips_for_many} round trips for 81 directories, {trips_for_few} for 3"
    );
    let (damaged, _) = check("damaged", None);
    assert_eq!(damaged, checked(&scaup, &fixture.vault(), 5, &[]));
    assert_eq!(tree(&home), before, "nothing was changed");
}

#[test]
fn a_lost_connection_ends_a_check_with_an_error_and_no_report() {
    runtime().block_on(async {
        let (remote, made) = in_memory().await;
        made.chain(4).await;
        made.file(&DirectoryId::root(), "file", &noise(1, 100_000)).await;
        let start = remote.messages().len();
        assert_eq!(made.check(CONTENT_TOO).await.unwrap().severity(), Severity::Good);
        let messages = remote.messages().split_off(start);
        let mut ended = 0;
        for (n, (kind, _)) in messages.iter().enumerate() {
            remote.clear_faults();
            remote.reconnect();
            remote.fault_at(n, Fault::Cut { applied: true });
            match made.check(CONTENT_TOO).await {
                Err(CheckError::Remote { source: RemoteError::Disconnected(_), .. }) => ended += 1,
                Err(error) => panic!("message {n}, {kind:?}: {error}"),
                // The last words were about closing.
                Ok(report) => assert_eq!(report.severity(), Severity::Good, "message {n}, {kind:?}"),
            }
        }
        assert!(ended * 2 > messages.len(), "{ended} of {}", messages.len());
    });
}

#[test]
fn a_failure_that_passes_is_no_finding() {
    runtime().block_on(async {
        let (remote, made) = in_memory().await;
        made.chain(2).await;
        let start = remote.messages().len();
        let well = made.check(CONTENT_TOO).await.unwrap().findings.len();
        let messages = remote.messages().split_off(start);
        let mut failed = 0;
        for (n, (kind, path)) in messages.iter().enumerate() {
            // Of small files, `dirid.c9r` has the longest name that is not encrypted.
            let is_content =
                *kind == MessageKind::ReadFile && path.names().last().is_some_and(|name| name.len() > 20);
            let is_directory = *kind == MessageKind::List && (3..=4).contains(&path.names().count());
            if !is_content && !is_directory {
                continue;
            }
            failed += 1;
            remote.clear_faults();
            let error = RemoteError::Failure("invalid handle".to_owned());
            remote.fault_at(n, Fault::Answer { error, applied: false });
            let report = made.check(CONTENT_TOO).await;
            let findings = report.unwrap_or_else(|error| panic!("{kind:?} of {path:?}: {error}")).findings;
            assert_eq!(findings.len(), well, "{kind:?} of {path:?}: {findings:?}");
        }
        assert!(failed > 5, "{failed}");
    });
}

#[test]
fn what_the_server_does_not_let_be_read_is_a_finding() {
    runtime().block_on(async {
        let (remote, made) = in_memory().await;
        made.chain(2).await;
        let start = remote.messages().len();
        made.check(CONTENT_TOO).await.unwrap();
        let messages = remote.messages().split_off(start);
        let mut found = 0;
        for (n, message) in messages.iter().enumerate() {
            remote.clear_faults();
            remote.fault_at(n, Fault::Answer { error: RemoteError::PermissionDenied, applied: false });
            match made.check(CONTENT_TOO).await {
                Ok(report) => {
                    found += usize::from(
                        report.findings.iter().any(|found| found.kind == FindingKind::Unreadable),
                    );
                    let findings = &report.findings;
                    assert!(report.severity() <= Severity::Warning, "{message:?}: {findings:?}");
                    let is_missed = |kind| {
                        use FindingKind::{EmptyOrphan, MissingContentDirectory, OrphanDirectory};
                        matches!(kind, EmptyOrphan | MissingContentDirectory | OrphanDirectory)
                    };
                    assert!(!findings.iter().any(|found| is_missed(found.kind)), "{message:?}: {findings:?}");
                }
                // Without the vault's own directory and `d` there is nothing to check.
                Err(CheckError::Remote { source: RemoteError::PermissionDenied, path }) => {
                    assert!(path.is_root() || path.as_bytes() == b"d", "{path:?}");
                }
                Err(error) => panic!("message {n}: {error}"),
            }
        }
        assert!(found * 2 > messages.len(), "{found} of {}", messages.len());
    });
}
