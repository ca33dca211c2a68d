//! Lost connections: cut, frozen, refused; what was under way goes on, and nothing that was accepted is lost. Who is
//! asked for a new login is in `login_again`.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};

use scaup_rig::{Answers, Direction, Fixture, Mount, Proxy, Scaup, Sshd, eventually};

use crate::support::{noise, scaup, status};

fn state(scaup: &Scaup) -> String {
    status(scaup, "/state").as_str().unwrap().to_owned()
}

/// A vault on a server behind a proxy, mounted through it.
fn mounted(scaup: &Scaup) -> (Sshd, Proxy, Mount) {
    let sshd = Sshd::key_only().start();
    let fixture = Fixture::unpack("gcm8");
    fixture.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let answers = Answers::login(&sshd).vault(&fixture.manifest.password);
    let mount = scaup.mount_through(&proxy, &sshd, "").answering(&answers).args(["--vault", "Vault"]).start();
    (sshd, proxy, mount)
}

#[test]
fn open_files_go_on_after_a_cut_and_nothing_is_lost() {
    let scaup = scaup();
    let (_sshd, proxy, mount) = mounted(&scaup);
    let content = noise(1, 900_000);
    for directory in ["Vault", ""] {
        let path = mount.join(directory).join("long");
        fs::write(&path, &content).unwrap();
        let mut reading = File::open(&path).unwrap();
        let mut start = vec![0; 10_000];
        reading.read_exact(&mut start).unwrap();
        // In place, in the middle of being written.
        let writing = File::options().write(true).open(&path).unwrap();
        writing.write_all_at(b"before", 500_000).unwrap();
        let mut new = File::create(mount.join(directory).join("new")).unwrap();
        new.write_all(&content[..400_000]).unwrap();

        proxy.cut();

        new.write_all(&content[400_000..]).unwrap();
        writing.write_all_at(b"after", 700_000).unwrap();
        writing.sync_all().unwrap();
        new.sync_all().unwrap();
        let mut expected = content.clone();
        expected[500_000..500_006].copy_from_slice(b"before");
        expected[700_000..700_005].copy_from_slice(b"after");
        let mut read = Vec::new();
        reading.seek(SeekFrom::Start(0)).unwrap();
        reading.read_to_end(&mut read).unwrap();
        assert!(read == expected, "what was open reads as it was written");
        assert!(fs::read(mount.join(directory).join("new")).unwrap() == content);
    }
    assert!(status(&scaup, "/counters/reconnects").as_u64().unwrap() >= 2);
    assert_eq!(status(&scaup, "/unsaved/files"), 0);
    mount.unmount(&scaup);
}

#[test]
fn a_file_that_its_owner_may_not_write_is_saved_all_the_same_after_a_cut() {
    let scaup = scaup();
    let (_sshd, proxy, mount) = mounted(&scaup);
    let content = noise(1, 4_000_000);
    for directory in ["Vault", ""] {
        for mode in [0o444, 0o200, 0] {
            let path = mount.join(directory).join(format!("mode {mode:o}"));
            // As `git` makes its objects and `cp -p` copies what may only be read: written by who made it.
            let mut new = File::options().create_new(true).write(true).mode(mode).open(&path).unwrap();
            for part in content.chunks(1_000_000) {
                new.write_all(part).unwrap();
                proxy.cut();
            }
            new.sync_all().unwrap();
            proxy.cut();
            new.write_all(b"and more").unwrap();
            new.sync_all().unwrap();
            drop(new);
            assert_eq!(path.metadata().unwrap().mode() & 0o777, mode);
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(fs::read(&path).unwrap() == [&content[..], b"and more"].concat(), "{}", path.display());
        }
    }
    assert_eq!(status(&scaup, "/unsaved/files"), 0);
    mount.unmount(&scaup);
}

#[test]
fn names_change_once_however_often_the_connection_is_cut() {
    let scaup = scaup();
    let (sshd, proxy, mount) = mounted(&scaup);
    let place = mount.join("Vault");
    for round in 0..12 {
        let name = format!("round {round} {}", "n".repeat(if round % 2 == 0 { 1 } else { 150 }));
        // The cut comes somewhere in the middle of what follows, a little later each time.
        proxy.reset_after(Direction::ToClient, 200 + 150 * round);
        fs::create_dir(place.join(&name)).unwrap();
        fs::write(place.join(&name).join("file"), &name).unwrap();
        fs::rename(place.join(&name), place.join(format!("moved {round}"))).unwrap();
        assert_eq!(fs::read_to_string(place.join(format!("moved {round}/file"))).unwrap(), name);
        fs::remove_file(place.join(format!("moved {round}/file"))).unwrap();
        fs::remove_dir(place.join(format!("moved {round}"))).unwrap();
        proxy.reset_never();
    }
    assert!(status(&scaup, "/counters/reconnects").as_u64().unwrap() > 0, "there were cuts");
    let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("round")), "{names:?}");
    mount.unmount(&scaup);
    drop(sshd);
}

#[test]
fn a_dead_road_is_noticed_and_what_is_known_goes_on_being_served() {
    let scaup = scaup();
    let (_sshd, proxy, mount) = mounted(&scaup);
    let path = mount.join("Vault/kept");
    fs::write(&path, noise(2, 100_000)).unwrap();
    let kept = File::open(&path).unwrap();
    let mut content = vec![0; 100_000];
    kept.read_exact_at(&mut content, 0).unwrap();
    proxy.freeze();
    // Nothing is asked meanwhile: the kernel's timers and the keepalives have to notice.
    let frozen = Instant::now();
    eventually("the status says that the server is lost", Duration::from_secs(20), || {
        state(&scaup) == "reconnecting"
    });
    assert!(frozen.elapsed() < Duration::from_secs(16), "noticed after {:?}", frozen.elapsed());
    let mut again = vec![0; 100_000];
    kept.read_exact_at(&mut again, 0).unwrap();
    assert!(again == content, "what is known is served");
    proxy.thaw();
    eventually("it is connected again", Duration::from_secs(40), || state(&scaup) == "connected");
    assert!(fs::read(&path).unwrap() == content);
    drop(kept);
    mount.unmount(&scaup);
}

#[test]
fn an_operation_waits_for_the_server_and_fails_only_after_the_time_out() {
    let scaup = scaup();
    let sshd = Sshd::key_only().start();
    fs::write(sshd.home().join("file"), "content").unwrap();
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount =
        scaup.mount_through(&proxy, &sshd, "").args(["--timeout", "3", "--attr-timeout", "0"]).start();
    proxy.refuse();
    proxy.cut();
    let asked = Instant::now();
    let error = fs::read(mount.join("file")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    assert!(asked.elapsed() >= Duration::from_secs(2), "it gave up after {:?}", asked.elapsed());
    proxy.accept();
    eventually("the file can be read again", Duration::from_secs(30), || {
        fs::read(mount.join("file")).is_ok()
    });
    mount.unmount(&scaup);
}

#[test]
fn a_login_that_breaks_off_is_tried_again_wherever_it_breaks() {
    let scaup = scaup();
    let (_sshd, proxy, mount) = mounted(&scaup);
    let path = mount.join("Vault/kept");
    let save = |content: &str| {
        let mut file = File::create(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.sync_all().unwrap();
    };
    save("content");
    let before = proxy.passed(Direction::ToClient);
    proxy.cut();
    save("other content");
    // It is mostly the login that passes.
    let login = proxy.passed(Direction::ToClient) - before;
    for part in 1..=31 {
        proxy.reset_after(Direction::ToClient, login * part / 32);
        proxy.cut();
        save(&format!("content {part}"));
        proxy.reset_never();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "content 31");
    mount.unmount(&scaup);
}

#[test]
fn what_is_cut_a_dozen_times_is_done_in_the_end() {
    let scaup = scaup();
    let (_sshd, proxy, mount) = mounted(&scaup);
    let content = noise(3, 300_000);
    let path = mount.join("Vault/new");
    let before = proxy.passed(Direction::ToServer);
    proxy.cut();
    File::create(&path).unwrap().sync_all().unwrap();
    let login = proxy.passed(Direction::ToServer) - before;
    // Less than one message of content passes.
    proxy.reset_after(Direction::ToServer, 10_000);
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| {
            let mut file = File::create(&path).unwrap();
            file.write_all(&content).unwrap();
            file.sync_all().unwrap();
        });
        for _ in 0..12 {
            let known = proxy.connections();
            while proxy.connections() == known {
                assert!(!saving.is_finished(), "it was not cut");
                std::thread::sleep(Duration::from_millis(1));
            }
            // Nor does it on the next connection, behind the login.
            proxy.reset_after(Direction::ToServer, login + 10_000);
        }
    });
    assert!(fs::read(&path).unwrap() == content);
    mount.unmount(&scaup);
}

#[test]
fn a_hundred_writers_that_wait_for_a_frozen_server_keep_nobody_else_waiting() {
    let scaup = scaup();
    let sshd = Sshd::key_only().start();
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mounting = scaup.mount_through(&proxy, &sshd, "").answering(&Answers::login(&sshd));
    let mount = mounting.args(["--attr-timeout", "600", "--timeout", "600"]).start();
    fs::create_dir(mount.join("known")).unwrap();
    fs::write(mount.join("known/file"), "content").unwrap();
    let names =
        || fs::read_dir(mount.join("known")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let before: Vec<_> = names();
    let files: Vec<File> =
        (0..100).map(|number| File::create(mount.join(format!("{number}"))).unwrap()).collect();
    proxy.freeze();
    std::thread::scope(|scope| {
        let writers: Vec<_> = files
            .iter()
            .map(|mut file| scope.spawn(move || file.write_all(&noise(1, 1_000_000)).unwrap()))
            .collect();
        // They fill the memory, and wait for room.
        std::thread::sleep(Duration::from_secs(3));
        assert!(writers.iter().filter(|writer| !writer.is_finished()).count() > 64, "too few wait");
        // Opening a directory always comes to the mount, whatever the kernel remembers.
        let (told, listed) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let asked = Instant::now();
            let names: Vec<_> = names();
            let _ = told.send((names, asked.elapsed()));
        });
        let listed = listed.recv_timeout(Duration::from_secs(10));
        proxy.thaw();
        let (names, took) = listed.expect("a directory that is known was not listed in ten seconds");
        assert_eq!(names, before);
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
    drop(files);
    mount.unmount(&scaup);
    assert!(
        (0..100)
            .all(|number| fs::metadata(sshd.home().join(format!("{number}"))).unwrap().len() == 1_000_000)
    );
}
