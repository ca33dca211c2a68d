//! What the log and `status` tell of a mount that is slow, hangs or fails.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

use scaup::drive::DriveError;
use scaup::remote::{Remote as _, RemoteError, RemoteOpen, RemotePath};
use scaup::vault::{OpenError, inspect_vault};
use scaup_fakes::{Fault, MemoryRemote, MemoryServer};
use scaup_fuse::filesystem::Errno;
use scaup_rig::{Answers, Fixture, Mount, Proxy, Scaup, Sshd, eventually};

use crate::support::{Drive, PASSWORD, ends_with, noise, scaup, status};

const SOON: Duration = Duration::from_secs(30);

/// The lines of the only mount's log.
fn log_of(scaup: &Scaup) -> Vec<String> {
    let text = fs::read_to_string(log_file(scaup)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn log_file(scaup: &Scaup) -> PathBuf {
    let logs = fs::read_dir(scaup.home().join("state/scaup")).unwrap();
    let mut logs =
        logs.map(|log| log.unwrap().path()).filter(|log| log.extension().is_some_and(|e| e == "log"));
    let only = logs.next().unwrap();
    assert_eq!(logs.next(), None);
    only
}

/// A server with a vault and a directory, mounted as this says.
fn mounted(log: &str, arguments: &[&str]) -> (Scaup, Sshd, Mount) {
    let sshd = Sshd::key_only().start();
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    fs::create_dir(sshd.home().join("plain")).unwrap();
    fs::write(sshd.home().join("plain/canary-name"), "x").unwrap();
    sshd.give(&sshd.home());
    let scaup = scaup();
    let mount = scaup
        .mount_on(&sshd, "")
        .answering(&Answers::default().vault(PASSWORD))
        .args(["--vault", "Vault"])
        .args(arguments)
        .env("SCAUP_LOG", log)
        .start();
    (scaup, sshd, mount)
}

#[test]
fn status_shows_what_hangs_since_when_and_how_long_requests_took() {
    let sshd = Sshd::key_only().start();
    fs::create_dir(sshd.home().join("plain")).unwrap();
    sshd.give(&sshd.home());
    let (scaup, proxy) = (scaup(), Proxy::start(sshd.host(), sshd.port()));
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    assert!(fs::read_dir(mount.path()).unwrap().count() > 0);
    eventually("nothing is under way", SOON, || status(&scaup, "/in_flight").as_array().unwrap().is_empty());

    proxy.freeze();
    let hangs = std::thread::spawn({
        let unknown = mount.join("plain/unknown");
        move || fs::metadata(unknown)
    });
    eventually("what hangs is shown", SOON, || !status(&scaup, "/in_flight").as_array().unwrap().is_empty());
    let oldest = status(&scaup, "/in_flight/0");
    assert_eq!(oldest["operation"], "lookup", "{oldest}");
    let since: jiff::Timestamp = oldest["since"].as_str().unwrap().parse().unwrap();
    let age = jiff::Timestamp::now().duration_since(since);
    assert!(age.as_secs() < 60 && !age.is_negative(), "{oldest}");
    let shown = ends_with(&scaup, 0, ["status", "--debug"]);
    let line = |of: &str, with: &str| shown.lines().any(|line| line.contains(of) && line.contains(with));
    assert!(line("under way", "1") && line("lookup", "since 2"), "{shown}");
    let shown_without = ends_with(&scaup, 0, ["status"]);
    assert!(!shown_without.contains("lookup"), "{shown_without}");
    proxy.thaw();
    hangs.join().unwrap().unwrap_err();

    eventually("nothing is under way", SOON, || status(&scaup, "/in_flight").as_array().unwrap().is_empty());
    let latencies = status(&scaup, "/latencies");
    let of = |operation: &str, what: &str| latencies[operation][what].as_u64().unwrap();
    assert!(of("lookup", "count") >= 1 && of("readdir", "count") >= 1, "{latencies}");
    assert!(
        of("lookup", "median_us") > 0 && of("lookup", "p95_us") >= of("lookup", "median_us"),
        "{latencies}"
    );
    assert!(latencies.get("symlink").is_none(), "{latencies}");
    let shown = ends_with(&scaup, 0, ["status", "--debug"]);
    assert!(shown.contains("SFTP requests") && shown.contains("median"), "{shown}");
    mount.unmount(&scaup);
}

#[test]
fn a_request_that_fails_is_one_line_with_its_causes_and_names_only_where_they_may_be() {
    for names in [false, true] {
        let (scaup, sshd, mount) = mounted("scaup=info", if names { &["--log-names"] } else { &[] });
        let file = mount.join("Vault/canary-damaged");
        fs::write(&file, noise(1, 200_000)).unwrap();
        fs::File::open(&file).unwrap().sync_all().unwrap();
        let stored = crate::support::shell(&sshd.home(), "find Vault/d -type f -size +100k");
        let stored = fs::File::options().write(true).open(sshd.home().join(stored.trim_end())).unwrap();
        stored.write_all_at(&[0; 4096], 50_000).unwrap();
        stored.set_modified(std::time::SystemTime::now() + Duration::from_secs(10)).unwrap();
        eventually("the damage is met", Duration::from_secs(90), || fs::read(&file).is_err());
        let inode = fs::metadata(&file).unwrap().ino();
        // An ordinary answer is nothing to be told of.
        fs::metadata(mount.join("plain/missing")).unwrap_err();
        let open = fs::File::open(&file).unwrap();
        ends_with(&scaup, 0, ["lock"]);
        let locked = open.read_at(&mut [0; 100], 0).unwrap_err();
        assert_eq!(locked.raw_os_error(), Some(5), "{locked}");
        drop(open);
        mount.unmount(&scaup);

        let log = log_of(&scaup);
        let failed: Vec<&String> = log.iter().filter(|line| line.contains("operation=\"read\"")).collect();
        assert!(!failed.is_empty(), "{log:#?}");
        for line in failed {
            let tells = [" WARN ", "errno=5", "took_us=", "handle=", &format!("inode={inode}")];
            assert!(tells.iter().all(|part| line.contains(part)), "{line}");
            let cause = if names { "error=\"damaged: " } else { "error=\"Damaged\"" };
            assert!(line.contains(cause), "{line}");
        }
        let ordinary = |line: &String| line.contains("errno=") && !line.contains("amaged");
        assert!(!log.iter().any(ordinary), "{log:#?}");
        assert_eq!(log.iter().any(|line| line.contains("canary")), names, "{log:#?}");
    }
}

#[test]
fn which_question_to_the_server_failed_stands_in_the_log_whatever_its_level() {
    let sshd = Sshd::key_only().start();
    fs::create_dir(sshd.home().join("plain")).unwrap();
    sshd.give(&sshd.home());
    let (scaup, proxy) = (scaup(), Proxy::start(sshd.host(), sshd.port()));
    let mount = scaup.mount_through(&proxy, &sshd, "").args(["--timeout", "2"]);
    let mount = mount.env("SCAUP_LOG", "scaup=info").start();
    proxy.freeze();
    let failed = fs::metadata(mount.join("plain/unknown")).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(5), "{failed}");
    proxy.thaw();
    mount.unmount(&scaup);
    let log = log_of(&scaup);
    let tells = |parts: &[&str]| log.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(tells(&["WARN request{", "operation=\"lookup\"", "error=\"Timeout\""]), "{log:#?}");
    assert!(tells(&["remote{what=\"stat\"}", "failed", "result=\"Timeout\"", "took_us="]), "{log:#?}");
}

#[test]
fn a_request_can_be_followed_to_the_messages_it_became() {
    for names in [false, true] {
        let (scaup, _sshd, mount) = mounted("scaup=debug", if names { &["--log-names"] } else { &[] });
        fs::metadata(mount.join("plain/canary-name")).unwrap();
        fs::metadata(mount.join("plain/canary-missing")).unwrap_err();
        fs::read(mount.join("plain/canary-name")).unwrap();
        mount.unmount(&scaup);

        let log = log_of(&scaup);
        let missing = |line: &&String| {
            line.contains("operation=\"lookup\"") && line.contains("errno=2") && line.contains("scaup_fuse")
        };
        let answer = log.iter().find(missing).unwrap_or_else(|| panic!("{log:#?}"));
        let (_, from_number) = answer.split_once("request{").unwrap();
        let (request, _) = from_number.split_once(' ').unwrap();
        let read = log.iter().find(|line| line.contains("operation=\"open\"") && line.contains("errno=0"));
        assert!(read.is_some() && request.starts_with("number="), "{log:#?}");
        // Every look-up that the server was asked for has its question and its message in its span.
        let asked = log.iter().filter(|line| line.contains("operation=\"lookup\""));
        let asked: Vec<&String> = asked.filter(|line| line.contains("}:remote{what=")).collect();
        let at = |target: &str, parts: &[&str]| {
            asked.iter().any(|line| line.contains(target) && parts.iter().all(|part| line.contains(part)))
        };
        assert!(at("scaup_remote", &["result=\"", "took_us="]), "{log:#?}");
        assert!(at("scaup_sftp", &["lane=", "id=", "kind=\"", "sent=", "received=", "reply=\""]), "{log:#?}");
        assert_eq!(log.iter().any(|line| line.contains("canary-missing")), names, "{log:#?}");
    }
}

#[test]
fn a_log_has_a_bound_and_ends_with_the_newest_line() {
    const BOUND: u64 = 4 << 20;
    let drive = Drive::mounted();
    let (log, home) = (log_file(&drive.scaup), drive.scaup.home().join("state/scaup"));
    // Others write to it, too: commands that answer.
    let fill = || {
        const LINE: &str = "an old line\n";
        let lines = LINE.repeat(usize::try_from(BOUND).unwrap() / LINE.len() + 1);
        let mut old = fs::File::options().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut old, lines.as_bytes()).unwrap();
    };
    let bounded = |newest: &str| {
        let mut files: Vec<String> = fs::read_dir(&home)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.retain(|file| file.contains(".log"));
        assert!(files.len() <= 2, "{files:?}");
        for file in &files {
            let found = fs::metadata(home.join(file)).unwrap();
            assert!(found.len() <= BOUND, "{file}: {}", found.len());
            assert_eq!(found.mode() & 0o777, 0o600, "{file}");
        }
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains(newest) && text.ends_with('\n'), "{newest}: {} bytes", text.len());
    };
    for round in 0..2 {
        fill();
        fs::metadata(drive.plain().join(format!("missing {round}"))).unwrap_err();
        bounded("answered");
    }
    let old = home.join(format!("{}.1", log.file_name().unwrap().to_str().unwrap()));
    assert!(fs::read_to_string(&old).unwrap().contains("\nan old line\n"));
    // A link in the place of the old one is not followed.
    let (target, link) = (drive.scaup.home().join("target"), &old);
    fs::write(&target, "kept").unwrap();
    fs::remove_file(link).unwrap();
    std::os::unix::fs::symlink(&target, link).unwrap();
    fill();
    fs::metadata(drive.plain().join("missing at last")).unwrap_err();
    bounded("answered");
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    // A log that is too long when a mount begins is no exception.
    fill();
    let drive = drive.remounted();
    fs::metadata(drive.plain().join("missing")).unwrap_err();
    bounded("answered");
    drive.unmount();
}

#[test]
fn a_server_that_breaks_the_protocol_is_not_said_to_hold_a_file_that_is_too_long() {
    let (path, marker) = (at("Vault"), at("Vault/vault.cryptomator"));
    let server = MemoryServer::default();
    let looked = |error: Option<RemoteError>| {
        let remote = MemoryRemote::connect(&server);
        if let Some(error) = error {
            remote.fault_at(0, Fault::Answer { error, applied: false });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(inspect_vault(remote.as_ref(), &path))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let remote = MemoryRemote::connect(&server);
    runtime.block_on(async {
        remote.mkdir(&path, 0o755).await.unwrap();
        remote.mkdir(&at("Vault/d"), 0o755).await.unwrap();
        remote.open(&marker, RemoteOpen::CreateNew(0o644)).await.unwrap().close().await.unwrap();
    });
    server.set_content(&marker, &[b'x'; 1 << 20]).unwrap();

    let broken = RemoteError::Protocol("a packet of no type".to_owned());
    let said = looked(Some(broken.clone()));
    assert!(matches!(&said, Err(OpenError::Remote { source, .. }) if *source == broken), "{said:?}");
    let said = looked(None).unwrap();
    assert!(said.unsupported.as_ref().is_some_and(|why| why.contains("too long")), "{said:?}");
    assert_eq!(
        Errno::from(DriveError::from(RemoteError::TooLong { limit: 1 })).0,
        5,
        "it can't be read: EIO"
    );
}

fn at(path: &str) -> RemotePath {
    RemotePath::parse(path.as_bytes()).unwrap()
}
