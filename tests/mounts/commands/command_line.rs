//! The command line as scripts rely on it: exit codes, `status`, `unmount`, and the other ways out.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use scaup::config::mount_options;
use scaup::config::ssh_config::keywords;
use scaup_rig::{Answers, Direction, Fixture, Mount, Proxy, Scaup, Sshd, eventually, run, within};

use crate::support::{PATIENCE, ends_with, noise, said, scaup, signal};

/// A local directory with one file in it.
fn directory(scaup: &Scaup) -> PathBuf {
    let path = scaup.home().join("directory");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "content").unwrap();
    path
}

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

fn gone(mount: &Mount) {
    let pid = mount.daemon();
    eventually("the daemon ends", Duration::from_secs(15), || !is_alive(pid));
    assert!(!is_mounted(mount.path()));
    assert!(!mount.path().exists(), "a mount point that was made is removed");
}

#[test]
fn every_command_explains_itself() {
    let scaup = scaup();
    assert!(ends_with(&scaup, 0, ["--version"]).starts_with("scaup "));
    for command in [
        &[][..],
        &["mount"],
        &["unmount"],
        &["status"],
        &["doctor"],
        &["lock"],
        &["unlock"],
        &["bookmark"],
        &["bookmark", "add"],
        &["bookmark", "list"],
        &["bookmark", "show"],
        &["bookmark", "edit"],
        &["bookmark", "remove"],
        &["bookmark", "import"],
        &["vault"],
        &["vault", "create"],
        &["vault", "info"],
        &["vault", "check"],
        &["completions"],
    ] {
        let help = ends_with(&scaup, 0, command.iter().chain(&["--help"]));
        assert!(help.contains("Usage: scaup"), "{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(ends_with(&scaup, 0, ["completions", shell]).contains("unmount"));
    }
}

#[test]
fn the_help_names_every_option_that_is_known() {
    let scaup = scaup();
    let help = ends_with(&scaup, 0, ["mount", "--help"]);
    for option in keywords::heeded().chain(mount_options::listed()) {
        let is_named = |word: &str| word.trim_matches([',', '.', '(', ')', ';']) == option;
        assert!(help.split_whitespace().any(is_named), "{option}: {help}");
    }
    // The error for an unknown option lists the known ones.
    let words = ends_with(&scaup, 2, ["mount", "host", "-o", "KexAlgorithm=x"]);
    for known in ["KexAlgorithm=x", "allow_other", "ProxyJump", "BatchMode"] {
        assert!(words.contains(known), "{known}: {words}");
    }
}

#[test]
fn wrong_use_ends_with_2() {
    let scaup = scaup();
    for arguments in [
        &[][..],
        &["mount"],
        &["nonsense"],
        &["mount", "-oProxyCommand=x"],
        &["mount", "host", "-o", "nonsense=1"],
        &["mount", "host", "-o", "uid=alice"],
        &["mount", "host", "--memory", "much"],
        &["mount", "sftp://host:port/"],
        &["mount", "host", "--no-vaults", "--vault", "V"],
        &["unmount"],
        &["bookmark", "add", "-x", "host"],
    ] {
        let said = ends_with(&scaup, 2, arguments);
        assert!(!said.is_empty(), "{arguments:?}");
    }
}

#[test]
fn other_failures_end_with_1() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    assert!(ends_with(&scaup, 1, ["unmount", "nowhere"]).contains("nowhere"));
    ends_with(&scaup, 1, ["status", "nowhere"]);
    ends_with(&scaup, 1, ["unlock"]);
    let output = scaup.mount_on(&sshd, "missing/directory").refused();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("missing/directory"), "{}", said(&output));
    let output = scaup.mount("/missing/directory").refused();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("/missing/directory"), "{}", said(&output));
    fs::write(sshd.home().join("file"), "").unwrap();
    let output = scaup.mount_on(&sshd, "file").refused();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("directory"), "{}", said(&output));
}

#[test]
fn of_a_directory_that_is_not_there_nobody_is_asked_for_the_password_of_its_vault() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let (program, asked) = scaup.askpass(&Answers::default().vault("password"));
    let wrong = "no vault at";
    for command in [Some(scaup.command_answering("password")), None] {
        let mount = scaup.mount_on(&sshd, "missing/directory").askpass(&program).args(["--vault", "."]);
        let mount = match &command {
            Some(command) => mount.args(["--vault-password-command", command]),
            None => mount,
        };
        let output = mount.refused();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", said(&output));
        let said = said(&output);
        assert!(said.contains("missing/directory") && !said.contains(wrong), "{command:?}: {said}");
    }
    assert_eq!(fs::read_to_string(asked).unwrap(), "");
}

#[test]
fn a_server_without_sftp_is_named() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().subsystem("/bin/false").start());
    let output = scaup.mount_on(&sshd, "").refused();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("SFTP"), "{}", said(&output));
}

#[test]
fn a_server_that_cannot_be_reached_ends_with_6() {
    let (scaup, mut sshd) = (scaup(), Sshd::key_only().start());
    sshd.stop();
    let output = scaup.mount_on(&sshd, "").refused();
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains(&format!("127.0.0.1:{}", sshd.port())), "{}", said(&output));

    let output = scaup.mount("no-such-host.invalid").args(["-F", "none"]).refused();
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("no-such-host.invalid"), "{}", said(&output));

    // Something else than an SSH server.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
    });
    let output = scaup.mount("127.0.0.1").args(["-F", "none", "-p", &port.to_string()]).refused();
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
}

#[test]
fn a_mount_point_that_cannot_be_used_ends_with_7() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let full = scaup.home().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "mine").unwrap();
    let file = scaup.home().join("plain-file");
    fs::write(&file, "mine").unwrap();
    for mountpoint in [&full, &file, &file.join("below")] {
        let output = scaup.run(["mount".as_ref(), directory.as_os_str(), mountpoint.as_os_str()]);
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        assert!(said(&output).contains(mountpoint.to_str().unwrap()), "{}", said(&output));
    }
    assert_eq!(fs::read_to_string(full.join("file")).unwrap(), "mine");
    assert_eq!(scaup.status()["mounts"].as_array().unwrap().len(), 0);
}

#[test]
fn a_mount_point_in_use_by_another_mount_is_refused() {
    let scaup = scaup();
    let empty = scaup.home().join("empty");
    fs::create_dir(&empty).unwrap();
    let mount = scaup.mount(&empty).start();
    let output = scaup.run(["mount".as_ref(), empty.as_os_str(), mount.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    mount.unmount(&scaup);
}

#[test]
fn the_default_mount_point_and_name_are_free_again_after_unmount() {
    let scaup = scaup();
    let directory = directory(&scaup);
    for _ in 0..3 {
        ends_with(&scaup, 0, ["mount".as_ref(), directory.as_os_str()]);
        let mountpoint = scaup.home().join("Scaup/directory");
        assert_eq!(fs::read_to_string(mountpoint.join("file")).unwrap(), "content");
        assert_eq!(fs::metadata(scaup.home().join("Scaup")).unwrap().mode() & 0o077, 0);
        ends_with(&scaup, 0, ["unmount", "directory"]);
        assert!(!mountpoint.exists());
    }
    assert!(fs::read_to_string(directory.join("file")).unwrap() == "content");
}

#[test]
fn two_mounts_of_one_target_have_different_names() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let (one, two) = (scaup.mount(&directory).start(), scaup.mount(&directory).start());
    let status = scaup.status();
    let names: Vec<_> =
        status["mounts"].as_array().unwrap().iter().map(|mount| mount["name"].clone()).collect();
    assert_eq!(names, ["directory", "directory-2"]);
    ends_with(&scaup, 2, ["lock"]);
    ends_with(&scaup, 0, ["unmount", "--all"]);
    gone(&one);
    gone(&two);
}

#[test]
fn status_tells_all_there_is_to_know() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    assert_eq!(scaup.status(), serde_json::json!({ "mounts": [] }));
    assert!(ends_with(&scaup, 0, ["status"]).contains("nothing is mounted"));
    let vault = Fixture::unpack("gcm8");
    vault.copy_vault_to(&sshd.home().join("Open"));
    vault.copy_vault_to(&sshd.home().join("Shut"));
    Fixture::unpack("format5-refuse").copy_vault_to(&sshd.home().join("Old"));
    sshd.give(&sshd.home());
    let mount = scaup
        .mount_on(&sshd, "")
        .answering(&Answers::default().vault(&vault.manifest.password))
        .args(["--vault", "Open"])
        .start();
    // The others are met when they are looked at.
    for name in ["Shut", "Old"] {
        let _ = fs::read_dir(mount.join(name)).map(Iterator::count);
    }
    let status = scaup.status();
    let status = &status["mounts"][0];
    assert_eq!(status["name"], "127.0.0.1");
    assert_eq!(status["target"], format!("{}@127.0.0.1:", sshd.user()));
    assert_eq!(status["mountpoint"], mount.path().to_str().unwrap());
    assert_eq!(status["pid"], mount.daemon());
    assert_eq!(status["state"], "connected");
    assert!(status["since"].as_str().unwrap().ends_with('Z'), "RFC 3339: {status}");
    assert_eq!(status["unsaved"], serde_json::json!({ "files": 0, "bytes": 0 }));
    assert!(status["errors"].is_array());
    let vault_named = |name: &str| {
        let vaults = status["vaults"].as_array().unwrap();
        vaults
            .iter()
            .find(|vault| vault["path"] == name)
            .unwrap_or_else(|| panic!("{name}: {status}"))
            .clone()
    };
    let open = vault_named("Open");
    assert_eq!(
        (&open["state"], &open["format"], &open["cipher_combo"]),
        (&"unlocked".into(), &8.into(), &"SIV_GCM".into())
    );
    let shut = vault_named("Shut");
    assert_eq!(
        (&shut["state"], &shut["format"], &shut["cipher_combo"]),
        (&"locked".into(), &8.into(), &"SIV_GCM".into())
    );
    assert_eq!(vault_named("Old")["state"], "unsupported");
    let before = status["counters"].clone();
    for counter in [
        "sftp_requests",
        "bytes_received",
        "bytes_sent",
        "chunks_decrypted",
        "chunks_encrypted",
        "cache_hits",
        "reconnects",
    ] {
        assert!(before[counter].is_u64(), "{counter}: {status}");
    }
    fs::write(mount.join("Open/new"), vec![7; 100_000]).unwrap();
    fs::File::open(mount.join("Open/new")).unwrap().sync_all().unwrap();
    let entry = vault.manifest.entries.iter().find(|entry| entry.size.is_some_and(|size| size > 0)).unwrap();
    fs::read(mount.join(format!("Open{}", entry.path))).unwrap();
    let after = scaup.status()["mounts"][0]["counters"].clone();
    for counter in ["sftp_requests", "bytes_received", "bytes_sent", "chunks_decrypted", "chunks_encrypted"] {
        assert!(after[counter].as_u64() > before[counter].as_u64(), "{counter}: {before} {after}");
    }
    assert!(after["bytes_sent"].as_u64().unwrap() >= before["bytes_sent"].as_u64().unwrap() + 100_000);

    let words = ends_with(&scaup, 0, ["status", "127.0.0.1"]);
    for word in [
        "127.0.0.1",
        "connected",
        "locks its vaults by itself on sleep\n",
        "vault Open: unlocked (format 8, SIV_GCM)",
        "vault Shut: locked",
    ] {
        assert!(words.contains(word), "{word}: {words}");
    }
    assert_eq!(status["lock_on"], "sleep", "{status}");
    ends_with(&scaup, 0, ["status".as_ref(), mount.path().as_os_str()]);
    mount.unmount(&scaup);
}

#[test]
fn lock_on_takes_a_list_says_what_is_wrong_with_another_and_shows_in_status() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let refused = scaup.mount(&directory).args(["--lock-on", "sleep,idle=15"]).refused();
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("idle=15 is not a time without use"), "{}", said(&refused));
    let refused = scaup.mount(&directory).args(["--lock-on", "lid"]).refused();
    assert!(said(&refused).contains("allowed are sleep, screen and idle=TIME"), "{}", said(&refused));
    for (given, shown) in [("screen,idle=90s", "screen,idle=90s"), ("never", "never")] {
        let mount = scaup.mount(&directory).args(["--lock-on", given]).start();
        assert_eq!(scaup.status()["mounts"][0]["lock_on"], shown);
        mount.unmount(&scaup);
    }
}

#[test]
fn unmount_by_name_mount_point_and_a_path_that_is_not_absolute() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let mount = scaup.mount(&directory).start();
    ends_with(&scaup, 0, ["unmount", "directory"]);
    gone(&mount);
    let mount = scaup.mount(&directory).start();
    let mut slash = mount.path().as_os_str().to_owned();
    slash.push("/");
    ends_with(&scaup, 0, ["unmount".as_ref(), slash.as_os_str()]);
    gone(&mount);
    let mount = scaup.mount(&directory).start();
    let relative = Path::new("mnt").join(mount.path().file_name().unwrap());
    let output = scaup.command().current_dir(scaup.home()).arg("unmount").arg(relative).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    gone(&mount);
}

#[test]
fn unmount_while_in_use_names_who_and_force_goes_through() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let mount = scaup.mount(&directory).start();
    let file = fs::File::open(mount.join("file")).unwrap();
    let said = ends_with(&scaup, 1, ["unmount".as_ref(), mount.path().as_os_str()]);
    assert!(said.contains("in use") && said.contains(&std::process::id().to_string()), "{said}");
    assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "content", "it goes on");
    assert_eq!(scaup.status()["mounts"][0]["state"], "connected");
    ends_with(&scaup, 0, ["unmount".as_ref(), "--force".as_ref(), mount.path().as_os_str()]);
    gone(&mount);
    drop(file);
}

#[test]
fn every_way_out_saves_what_was_written() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    type Way = fn(&Mount);
    let ways: [(&str, Way); 4] = [
        ("fusermount3", |mount| drop(run(Command::new("fusermount3").arg("-u").arg(mount.path())))),
        ("umount", |mount| drop(run(Command::new("umount").arg(mount.path())))),
        ("SIGTERM", |mount| signal(mount.daemon(), Signal::TERM)),
        ("SIGINT", |mount| signal(mount.daemon(), Signal::INT)),
    ];
    for (name, way) in ways {
        let mount = scaup.mount_on(&sshd, "").start();
        let content = vec![b'x'; 3_000_000];
        fs::write(mount.join(name), &content).unwrap();
        way(&mount);
        gone(&mount);
        assert_eq!(fs::read(sshd.home().join(name)).unwrap(), content, "{name}");
    }
}

/// `scaup mount -f`, which stays.
fn in_the_foreground(scaup: &Scaup, directory: &Path) -> (Child, PathBuf) {
    let mountpoint = scaup.home().join("mnt/foreground");
    let mut command = scaup.command();
    command.args(["mount", "-f"]).arg(directory).arg(&mountpoint);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually("it is mounted", Duration::from_secs(10), || mountpoint.join("file").exists());
    (child, mountpoint)
}

#[test]
fn in_the_foreground_it_stays_until_a_signal_or_unmount() {
    let scaup = scaup();
    let directory = directory(&scaup);
    for way in ["SIGINT", "SIGTERM", "SIGHUP", "unmount", "fusermount3"] {
        let (mut child, mountpoint) = in_the_foreground(&scaup, &directory);
        assert!(child.try_wait().unwrap().is_none());
        fs::write(mountpoint.join(way), "written").unwrap();
        match way {
            "unmount" => drop(ends_with(&scaup, 0, ["unmount".as_ref(), mountpoint.as_os_str()])),
            "fusermount3" => drop(run(Command::new("fusermount3").arg("-u").arg(&mountpoint))),
            "SIGINT" => signal(child.id(), Signal::INT),
            "SIGTERM" => signal(child.id(), Signal::TERM),
            _ => signal(child.id(), Signal::HUP),
        }
        let mut status = None;
        eventually("it ends", Duration::from_secs(15), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let mut words = String::new();
        child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        assert!(status.unwrap().success(), "{way}: {words}");
        assert!(!mountpoint.exists());
        assert_eq!(fs::read_to_string(directory.join(way)).unwrap(), "written");
    }
}

#[test]
fn output_that_nobody_reads_is_no_failure_and_output_that_is_lost_is_one() {
    let scaup = scaup();
    for arguments in [["doctor", "--traces"], ["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = scaup.command();
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output =
        scaup.command().args(["status", "--json"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("the output can't be written"), "{}", said(&output));
}

/// mount(8) runs the program by another name.
#[test]
fn it_mounts_as_a_helper_of_mount() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let place = tempfile::tempdir().unwrap();
    for name in ["mount.scaup", "mount.fuse.scaup"] {
        let (helper, mountpoint) = (place.path().join(name), scaup.home().join("mnt").join(name));
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_scaup"), &helper).unwrap();
        let mut command = Command::new(&helper);
        command.env_clear().envs(scaup.command().get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(&directory).arg(&mountpoint).args(["-s", "-o", "rw,_netdev,noexec"]);
        let output = run(&mut command);
        assert_eq!(said(&output), "");
        assert_eq!(fs::read_to_string(mountpoint.join("file")).unwrap(), "content");
        ends_with(&scaup, 0, ["unmount".as_ref(), mountpoint.as_os_str()]);
    }
}

#[test]
fn a_mount_in_the_foreground_ends_with_its_front_end() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let (mut child, mountpoint) = in_the_foreground(&scaup, &directory);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("it is unmounted", Duration::from_secs(10), || !is_mounted(&mountpoint));
}

/// The same of a server, reached at `port`.
fn server_in_the_foreground(scaup: &Scaup, sshd: &Sshd, port: u16, arguments: &[&str]) -> (Child, PathBuf) {
    let mountpoint = scaup.home().join("mnt/foreground");
    let mut command = scaup.command();
    command
        .args(["mount", "-f", "-p", &port.to_string()])
        .args(arguments)
        .arg("-i")
        .arg(sshd.key().path())
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts_file_at(port).display())])
        .arg(format!("{}@127.0.0.1", sshd.user()))
        .arg(&mountpoint);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually("it is mounted", Duration::from_secs(10), || is_mounted(&mountpoint));
    (child, mountpoint)
}

/// How it ended, and what it said.
fn end_of(mut child: Child) -> (Option<i32>, String) {
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    (within(PATIENCE, move || child.wait().unwrap()).code(), words)
}

#[test]
fn a_second_signal_says_what_is_lost_and_ends_it() {
    let (scaup, mut sshd) = (scaup(), Sshd::key_only().start());
    let (mut child, mountpoint) = server_in_the_foreground(&scaup, &sshd, sshd.port(), &["--timeout", "2"]);
    let mut file = fs::File::create(mountpoint.join("unsaved")).unwrap();
    sshd.stop();
    // Whatever the server does not have when it is gone.
    let _ = file.write_all(&vec![1; 300_000]);
    eventually("something waits to be saved", Duration::from_secs(10), || {
        scaup.status()["mounts"][0]["unsaved"]["files"] == 1
    });
    signal(child.id(), Signal::INT);
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "the first one waits for the server");
    signal(child.id(), Signal::INT);
    let (code, words) = end_of(child);
    assert_eq!(code, Some(8), "{words}");
    assert!(words.contains("lost: 1 file"), "{words}");
    assert!(!is_mounted(&mountpoint));
}

#[test]
fn signals_that_come_together_are_one_wish_and_a_hangup_is_never_a_second() {
    const FILES: usize = 10;
    const FILE_LEN: usize = 200_000;
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let (child, mountpoint) = server_in_the_foreground(&scaup, &sshd, proxy.port(), &[]);
    let daemon = u32::try_from(scaup.status()["mounts"][0]["pid"].as_u64().unwrap()).unwrap();
    proxy.rate(Direction::ToServer, Some(1_000_000));
    for number in 0..FILES {
        fs::write(mountpoint.join(number.to_string()), noise(number as u64, FILE_LEN)).unwrap();
    }
    // What systemd does to all that a session leaves behind.
    for kind in [Signal::TERM, Signal::HUP] {
        signal(child.id(), kind);
        signal(daemon, kind);
    }
    std::thread::sleep(Duration::from_secs(1));
    signal(daemon, Signal::HUP);
    let (code, words) = end_of(child);
    assert_eq!(code, Some(0), "{words}");
    for number in 0..FILES {
        let saved = fs::read(sshd.home().join(number.to_string())).unwrap_or_default();
        assert!(saved == noise(number as u64, FILE_LEN), "{number}");
    }
}

#[test]
fn a_stale_mount_of_a_killed_daemon_is_cleared() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let mount = |mountpoint: &Path| {
        ends_with(&scaup, 0, ["mount".as_ref(), directory.as_os_str(), mountpoint.as_os_str()])
    };
    let mountpoint = scaup.home().join("mnt/stale");
    let kill = || {
        let pid = u32::try_from(scaup.status()["mounts"][0]["pid"].as_u64().unwrap()).unwrap();
        signal(pid, Signal::KILL);
        eventually("it is dead", Duration::from_secs(5), || !is_alive(pid));
        eventually("the mount is stale", Duration::from_secs(5), || fs::read_dir(&mountpoint).is_err());
        assert!(is_mounted(&mountpoint));
    };
    mount(&mountpoint);
    kill();
    assert_eq!(scaup.status()["mounts"].as_array().unwrap().len(), 0);
    mount(&mountpoint);
    assert_eq!(fs::read_to_string(mountpoint.join("file")).unwrap(), "content");
    assert_eq!(scaup.status()["mounts"][0]["name"], "directory", "the name is free again");
    kill();
    ends_with(&scaup, 0, ["unmount".as_ref(), mountpoint.as_os_str()]);
    assert!(!is_mounted(&mountpoint));
    assert!(ends_with(&scaup, 1, ["unmount".as_ref(), mountpoint.as_os_str()]).contains("not mounted"));
}

#[test]
fn read_only_by_option_and_by_word() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    fs::write(sshd.home().join("file"), "content").unwrap();
    let vault = Fixture::unpack("gcm8");
    vault.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    for words in [&["--read-only"][..], &["-o", "ro"]] {
        let mount = scaup
            .mount_on(&sshd, "")
            .answering(&Answers::default().vault(&vault.manifest.password))
            .args(words)
            .start();
        assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "content");
        for path in ["file", "new", "Vault/new"] {
            let error = fs::write(mount.join(path), "changed").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{path}");
        }
        fs::remove_file(mount.join("file")).unwrap_err();
        assert!(fs::read_dir(mount.join("Vault")).unwrap().count() > 0);
        mount.unmount(&scaup);
    }
    assert_eq!(fs::read_to_string(sshd.home().join("file")).unwrap(), "content");
}

#[test]
fn mount_options() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    fs::write(sshd.home().join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(sshd.home().join("program"), fs::Permissions::from_mode(0o777)).unwrap();
    let mount = scaup
        .mount_on(&sshd, "")
        .args(["-o", "uid=1234,gid=2345,umask=027,noexec,fsname=headquarters,subtype=ours,allow_other"])
        .args(["-o", "x-systemd.automount,_netdev,nofail,noauto,user,x-gvfs-show,default_permissions"])
        .start();
    let metadata = fs::metadata(mount.join("program")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (1234, 2345, 0o750));
    assert!(Command::new(mount.join("program")).status().is_err(), "noexec");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == mount.path().to_str()).unwrap();
    for word in
        [" fuse.ours headquarters ", "noexec", "nosuid", "nodev", "allow_other", "default_permissions"]
    {
        assert!(line.contains(word), "{word}: {line}");
    }
    mount.unmount(&scaup);
    let mount = scaup.mount_on(&sshd, "").start();
    let metadata = fs::metadata(mount.join("program")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o777), "the user's own unless told otherwise");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == mount.path().to_str()).unwrap();
    assert!(!line.contains("allow_other"), "{line}");
    assert!(
        line.contains(" - fuse.sshfs "),
        "file managers would fetch every picture for its thumbnail: {line}"
    );
    mount.unmount(&scaup);
}

#[test]
fn where_its_own_directory_can_not_be_made_it_is_named() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let run = scaup.home().join("run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("scaup"), "in the way").unwrap();
    let said = ends_with(&scaup, 1, ["mount".as_ref(), directory.as_os_str()]);
    assert!(said.contains(run.join("scaup").to_str().unwrap()), "{said}");
}

#[test]
fn the_daemon_leaves_the_directory_it_was_started_in() {
    let scaup = scaup();
    let directory = directory(&scaup);
    let mount = scaup.mount(&directory).start();
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", mount.daemon())).unwrap(), Path::new("/"));
    mount.unmount(&scaup);
}

#[test]
fn what_the_server_says_and_names_does_not_play_with_the_terminal() {
    let scaup = scaup();
    let banner = scaup.home().join("banner");
    fs::write(&banner, "Be\x1b[2J welcome\n").unwrap();
    let sshd = Sshd::key_only().config(&format!("Banner {}", banner.display())).start();
    let vault = sshd.home().join("Va\x1b[2Jult");
    Fixture::unpack("masterkey-missing").copy_vault_to(&vault);
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").start();
    let status = ends_with(&scaup, 0, ["status"]);
    let refused =
        ["unlock", "--vault-password-command", "echo x", mount.path().to_str().unwrap(), "Va\x1b[2Jult"];
    let refused = ends_with(&scaup, 5, refused);
    for said in [mount.said(), &status, &refused] {
        assert!(said.contains("[2J"), "it is told: {said:?}");
        assert!(!said.contains('\x1b'), "{said:?}");
    }
    mount.unmount(&scaup);
}

#[test]
fn a_name_can_not_forge_a_line_and_programs_get_it_whole() {
    const NAME: &str = "Evil\n  vault Real: unlocked (format 8, SIV_GCM)\r\u{85}\u{2028}  x \u{202e}gnp.exe \u{9b}31m\u{200b}\u{e0041}";
    let plays = |c: char| {
        !matches!(c, '\n' | '\t')
            && (c.is_control() || matches!(c, '\u{200b}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}'))
    };
    let scaup = scaup();
    let directory = scaup.home().join("directory");
    let vault = directory.join(NAME);
    fs::create_dir_all(vault.join("d")).unwrap();
    for marker in ["vault.cryptomator", "masterkey.cryptomator"] {
        fs::write(vault.join(marker), "x").unwrap();
    }
    let mount = scaup.mount(&directory).args(["-o", "fsname=a\u{202e}b\u{9b}c"]).start();
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    let path = mount.path().to_str().unwrap();
    let status = ends_with(&scaup, 0, ["status"]);
    assert_eq!(status.lines().filter(|line| line.trim_start().starts_with("vault ")).count(), 1, "{status}");
    let unlock = ends_with(&scaup, 5, ["unlock", "--vault-password-command", "echo x", path, NAME]);
    let check = ends_with(
        &scaup,
        5,
        ["vault", "check", "--vault-password-command", "echo x", vault.to_str().unwrap()],
    );
    ends_with(&scaup, 0, ["bookmark", "add", "hq", &format!("./{NAME}")]);
    let bookmarks = ends_with(&scaup, 0, ["bookmark", "list"]);
    let bookmark = ends_with(&scaup, 0, ["bookmark", "show", "hq"]);
    let log = fs::read_to_string(scaup.home().join("state/scaup/directory.log")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().find(|line| line.contains(path)).unwrap();
    for said in [mount.said(), &status, &unlock, &check, &bookmarks, &bookmark, &log, mounts] {
        assert!(!said.contains(plays), "{said:?}");
        // The file of a bookmark is shown as it is, and may have a text of several lines between quotes.
        let forged = |line: &str| line.starts_with("  vault Real") && said != bookmark;
        assert!(!said.lines().any(forged), "{said:?}");
    }
    assert_eq!(bookmarks.lines().count(), 1, "{bookmarks}");
    assert_eq!(bookmarks.matches('\t').count(), 1, "{bookmarks}");

    let json = ends_with(&scaup, 0, ["status", "--json"]);
    assert!(!json.contains(plays), "{json:?}");
    assert_eq!(scaup.status()["mounts"][0]["vaults"][0]["path"], NAME);
    mount.unmount(&scaup);
}
