//! Two Syncthings that know only each other, on loopback, and look for changes only when told.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use scaup_rig::{eventually, need, run};
use serde_json::Value;

use super::clients::SyncClient;

const API_KEY: &str = "of the tests";

/// So long that only a fault takes longer, and so short that the test ends by itself, and with it what it started.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) struct Syncthing {
    ends: [End; 2],
}

struct End {
    daemon: Child,
    api: u16,
}

impl Drop for End {
    fn drop(&mut self) {
        // The process that was started only watches over the one that does the work. Both may have ended by themselves.
        if let Some(group) = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.daemon.wait();
    }
}

/// A port of loopback that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Syncthing {
    /// Makes the second directory like the first.
    pub(super) fn start(directories: &[PathBuf; 2], home: &Path) -> Self {
        need(&[("syncthing", "syncthing")]);
        let homes = [0, 1].map(|end| home.join(end.to_string()));
        let devices = [0, 1].map(|end: usize| device(&homes[end]));
        // Only one of them calls the other: if both do at once, they have to find out which connection to keep, which
        // may take them half a minute.
        let listens = free_port();
        let addresses = ["dynamic".to_owned(), format!("tcp://127.0.0.1:{listens}")];
        let ends = [0, 1].map(|end| {
            let api = free_port();
            let listener = if end == 1 { listens } else { free_port() };
            let config = config(&directories[end], &devices, &addresses, listener, api);
            fs::write(homes[end].join("config.xml"), config).unwrap();
            let log = fs::File::create(homes[end].join("log")).unwrap();
            let daemon = Command::new("syncthing")
                .args(["serve", "--no-browser", "--no-restart", "--no-upgrade", "--home"])
                .arg(&homes[end])
                .env("HOME", &homes[end])
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            End { daemon, api }
        });
        for end in &ends {
            eventually("Syncthing replies", PATIENCE, || end.ask("GET", "system/ping").is_ok());
        }
        let started = Self { ends };
        started.sync();
        started
    }
}

impl SyncClient for Syncthing {
    fn pause(&self) {
        self.ends.iter().for_each(|end| drop(end.expect("POST", "system/pause")));
    }

    fn sync(&self) {
        // What each end changed is a conflict only if each knows its own change before it hears of the other.
        self.ends.iter().for_each(End::scan);
        self.ends.iter().for_each(|end| drop(end.expect("POST", "system/resume")));
        eventually("they are connected", PATIENCE, || self.ends.iter().all(End::is_connected));
        let mut before = None;
        eventually("nothing is left to do", PATIENCE, || {
            self.ends.iter().for_each(End::scan);
            eventually("it pauses", PATIENCE, || self.ends.iter().all(|end| end.folder()["state"] == "idle"));
            let folders = self.ends.each_ref().map(End::folder);
            let done = folders.iter().all(|folder| folder["needTotalItems"] == 0)
                && folders[0]["globalFiles"] == folders[1]["globalFiles"];
            let now = Some(folders.map(|folder| folder["sequence"].clone()));
            let unchanged = done && before == now;
            before = now;
            unchanged
        });
    }
}

impl End {
    fn ask(&self, method: &str, path: &str) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // By the older protocol, it closes the connection after its reply.
        write!(
            stream,
            "{method} /rest/{path} HTTP/1.0\r\nHost: 127.0.0.1\r\nX-API-Key: {API_KEY}\r\nContent-Length: 0\r\n\r\n"
        )?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        if !head.split("\r\n").next().is_some_and(|status| status.ends_with("200 OK")) {
            return Err(std::io::Error::other(reply));
        }
        Ok(serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn expect(&self, method: &str, path: &str) -> Value {
        self.ask(method, path).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Looks for changes; returns when all are known.
    fn scan(&self) {
        self.expect("POST", "db/scan?folder=vault");
    }

    fn folder(&self) -> Value {
        self.expect("GET", "db/status?folder=vault")
    }

    fn is_connected(&self) -> bool {
        let connections = self.expect("GET", "system/connections");
        connections["connections"].as_object().unwrap().values().any(|other| other["connected"] == true)
    }
}

/// Makes the key of an end; returns its device id.
fn device(home: &Path) -> String {
    let syncthing = || {
        let mut command = Command::new("syncthing");
        command.env("HOME", home);
        command
    };
    fs::create_dir(home).unwrap();
    run(syncthing().args(["generate", "--no-default-folder", "--home"]).arg(home));
    let output = run(syncthing().args(["--device-id", "--home"]).arg(home));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// <https://docs.syncthing.net/users/config.html>: it speaks to nobody but the other end.
fn config(
    directory: &Path,
    devices: &[String; 2],
    addresses: &[String; 2],
    listener: u16,
    api: u16,
) -> String {
    let shared_with: String = devices.iter().map(|id| format!("<device id='{id}'/>")).collect();
    let devices: String = devices
        .iter()
        .zip(addresses)
        .map(|(id, address)| format!("<device id='{id}'><address>{address}</address></device>"))
        .collect();
    // The folder's mark, without which Syncthing takes it for a disk that is not mounted.
    fs::create_dir_all(directory.join(".stfolder")).unwrap();
    format!(
        "<configuration version='36'>
        <folder id='vault' path='{}' type='sendreceive' rescanIntervalS='0' fsWatcherEnabled='false'>
            {shared_with}<maxConflicts>-1</maxConflicts>
        </folder>
        {devices}
        <gui enabled='true' tls='false'><address>127.0.0.1:{api}</address><apikey>{API_KEY}</apikey></gui>
        <options>
            <listenAddress>tcp://127.0.0.1:{listener}</listenAddress>
            <reconnectionIntervalS>1</reconnectionIntervalS>
            <globalAnnounceEnabled>false</globalAnnounceEnabled>
            <localAnnounceEnabled>false</localAnnounceEnabled>
            <relaysEnabled>false</relaysEnabled>
            <natEnabled>false</natEnabled>
            <startBrowser>false</startBrowser>
            <urAccepted>-1</urAccepted>
            <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
            <crashReportingEnabled>false</crashReportingEnabled>
        </options>
        </configuration>",
        directory.display()
    )
}
