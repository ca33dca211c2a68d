//! A mount in the foreground as a service of systemd's `Type=notify`: what it tells through `NOTIFY_SOCKET`.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;
use scaup_rig::{Direction, Proxy, Scaup, Sshd};
use serde_json::json;
use tempfile::TempDir;

use crate::support::front_end::socket;
use crate::support::{noise, scaup, signal};

/// What systemd is in this: a socket.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { socket, directory }
    }

    /// Mounts in the foreground; returns when that is said to be ready.
    fn start(&self, scaup: &Scaup, arguments: &mut Command, mountpoint: &Path) -> Child {
        let command = arguments.arg(mountpoint).env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        let service = command.spawn().unwrap();
        assert_eq!(self.told(), "READY=1");
        assert_eq!(scaup.status()["mounts"][0]["state"], "connected");
        service
    }

    fn told(&self) -> String {
        let mut buffer = vec![0; 4096];
        let length = self.socket.recv(&mut buffer).expect("systemd is told something");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[test]
fn systemd_is_told_how_a_mount_is_however_many_others_watch_it() {
    let (scaup, manager) = (scaup(), Manager::new());
    let (directory, mountpoint) = (scaup.home().join("directory"), scaup.home().join("mnt/service"));
    fs::create_dir(&directory).unwrap();
    let mut service =
        manager.start(&scaup, scaup.command().args(["mount", "-q", "-f"]).arg(&directory), &mountpoint);
    let status = manager.told();
    assert!(status.starts_with("STATUS=connected since "), "{status}");
    // More programs than may watch: the first of those that do loses its place, and takes another.
    let watch = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                 s.sendall(sys.argv[2].encode()); s.makefile().read()";
    let words = format!("{}\n{}\n", json!({ "Hello": { "major": 1, "minor": 0 } }), json!("Watch"));
    let others = (0..16).map(|_| {
        Command::new("python3").args(["-c", watch]).arg(socket(&scaup)).arg(&words).spawn().unwrap()
    });
    let others: Vec<Child> = others.collect();
    let status = manager.told();
    assert!(status.starts_with("STATUS=connected since "), "{status}");
    assert!(service.try_wait().unwrap().is_none());
    for mut other in others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    signal(service.id(), Signal::TERM);
    assert!(service.wait().unwrap().success());
    assert!(!mountpoint.exists());
}

#[test]
fn systemd_is_asked_for_more_time_while_a_stop_saves() {
    const SAVED: usize = 2_000_000;
    let (scaup, sshd, manager) = (scaup(), Sshd::key_only().start(), Manager::new());
    let (proxy, mountpoint) = (Proxy::start(sshd.host(), sshd.port()), scaup.home().join("mnt/service"));
    let known_hosts = format!("UserKnownHostsFile={}", sshd.known_hosts_file_at(proxy.port()).display());
    let mut command = scaup.command();
    command.args(["mount", "-q", "-f", "-p", &proxy.port().to_string(), "-o", &known_hosts, "-i"]);
    command.arg(sshd.key().path()).arg(format!("{}@127.0.0.1", sshd.user()));
    let mut service = manager.start(&scaup, &mut command, &mountpoint);
    proxy.rate(Direction::ToServer, Some(500_000));
    let mut file = fs::File::create(mountpoint.join("saved")).unwrap();
    file.write_all(&noise(1, SAVED)).unwrap();
    signal(service.id(), Signal::TERM);
    while !manager.told().starts_with("EXTEND_TIMEOUT_USEC=90000000\nSTATUS=unmounting since ") {}
    drop(file);
    assert!(service.wait().unwrap().success());
    assert_eq!(fs::read(sshd.home().join("saved")).unwrap().len(), SAVED);
}
