//! A laptop's travels: it sleeps, wakes up, and is on another network.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use scaup_rig::{
    Bus, Logind, Mount, Proxy, Scaup, Sshd, change_network, eventually, own_network, packets_of_a_network,
};

use crate::support::{scaup, status};

/// Any step of a story.
const SOON: Duration = Duration::from_secs(60);

fn becomes(scaup: &Scaup, state: &str) {
    eventually(&format!("it is {state}"), SOON, || status(scaup, "/state") == state);
}

/// A mount that finds out by itself that the server is lost only when it asks for something: without keepalives.
fn mounted(scaup: &Scaup, bus: &str) -> (Sshd, Proxy, Mount) {
    let sshd = Sshd::key_only().start();
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup
        .mount_through(&proxy, &sshd, "")
        .args(["-o", "ServerAliveInterval=0"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
        .start();
    (sshd, proxy, mount)
}

#[test]
fn on_another_network_a_dead_connection_is_noticed_and_made_anew() {
    own_network();
    let scaup = scaup();
    let (_sshd, proxy, mount) = mounted(&scaup, "unix:path=/nowhere");
    proxy.freeze();
    change_network();
    becomes(&scaup, "reconnecting");
    proxy.thaw();
    becomes(&scaup, "connected");
    assert_eq!(status(&scaup, "/counters/reconnects"), 1);
    mount.unmount(&scaup);
}

#[test]
fn on_another_network_a_living_connection_stands_once_the_server_showed_that_it_is_there() {
    own_network();
    let scaup = scaup();
    let (_sshd, _proxy, mount) = mounted(&scaup, "unix:path=/nowhere");
    let requests = || status(&scaup, "/counters/sftp_requests").as_u64().unwrap();
    let before = requests();
    change_network();
    eventually("the server was asked", SOON, || requests() > before);
    fs::read_dir(mount.path()).unwrap();
    assert_eq!(status(&scaup, "/counters/reconnects"), 0);
    mount.unmount(&scaup);
}

#[test]
fn where_large_packets_vanish_smaller_ones_are_used_after_one_stall() {
    own_network();
    packets_of_a_network();
    let scaup = scaup();
    let (sshd, proxy, mount) = mounted(&scaup, "unix:path=/nowhere");
    let saved = |name: &str| fs::read(sshd.home().join(name)).is_ok_and(|content| content.len() == 500_000);
    fs::write(mount.join("before"), [1; 500_000]).unwrap();
    eventually("all packets pass at first", SOON, || saved("before"));
    proxy.swallow(1300);
    let began = Instant::now();
    fs::write(mount.join("after"), [2; 500_000]).unwrap();
    eventually("it is saved", SOON, || saved("after"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(status(&scaup, "/counters/reconnects"), 1);
    assert_eq!(status(&scaup, "/errors/0/kind"), "large-packets");
    // The server's next connection has smaller ones from the beginning.
    proxy.cut();
    fs::write(mount.join("again"), [3; 500_000]).unwrap();
    eventually("it is saved", SOON, || saved("again"));
    assert_eq!(status(&scaup, "/counters/reconnects"), 2);
    mount.unmount(&scaup);
}

#[test]
fn everything_is_saved_before_the_machine_sleeps_and_the_server_looked_for_when_it_wakes_up() {
    let (scaup, bus) = (scaup(), Bus::start());
    let logind = Logind::on(&bus);
    let (sshd, proxy, mount) = mounted(&scaup, bus.address());
    eventually("the next sleep is delayed", SOON, || logind.delays() == 1);
    for round in 1..=2 {
        // Open, and not synced: nothing else would save it right now.
        let mut file = File::create(mount.join("file")).unwrap();
        write!(file, "written before night {round}").unwrap();
        logind.sleep();
        let saved = fs::read_to_string(sshd.home().join("file")).unwrap();
        assert_eq!(saved, format!("written before night {round}"));
        assert_eq!(status(&scaup, "/unsaved/files"), 0);
        drop(file);
        proxy.freeze();
        logind.wake();
        becomes(&scaup, "reconnecting");
        proxy.thaw();
        becomes(&scaup, "connected");
        eventually("the next sleep is delayed", SOON, || logind.delays() == 1);
    }
    mount.unmount(&scaup);
    assert_eq!(logind.delays(), 0);
}

#[test]
fn a_sleep_in_the_middle_of_a_copy_leaves_what_it_replaces_until_it_is_whole() {
    let (scaup, bus) = (scaup(), Bus::start());
    let logind = Logind::on(&bus);
    let (sshd, _proxy, mount) = mounted(&scaup, bus.address());
    eventually("the next sleep is delayed", SOON, || logind.delays() == 1);
    let (here, there) = (mount.join("file"), sshd.home().join("file"));
    fs::write(&here, "old").unwrap();
    let mut file = File::create(&here).unwrap();
    file.write_all(&[1; 3_000_000]).unwrap();
    eventually("the old content is there", SOON, || fs::read(&there).is_ok_and(|content| content == b"old"));
    logind.sleep();
    assert_eq!(fs::read(&there).unwrap(), b"old");
    logind.wake();
    file.write_all(&[2; 1_000_000]).unwrap();
    drop(file);
    assert_eq!(fs::read(&there).unwrap(), [[1; 3_000_000].as_slice(), &[2; 1_000_000]].concat());
    mount.unmount(&scaup);
}

#[test]
fn a_sleep_does_not_wait_for_a_lost_server() {
    let (scaup, bus) = (scaup(), Bus::start());
    let logind = Logind::on(&bus);
    let (_sshd, proxy, mount) = mounted(&scaup, bus.address());
    eventually("the next sleep is delayed", SOON, || logind.delays() == 1);
    let mut file = File::create(mount.join("file")).unwrap();
    proxy.refuse();
    proxy.cut();
    file.write_all(b"content").unwrap();
    logind.sleep();
    assert_eq!(status(&scaup, "/unsaved/files"), 1, "it is kept");
    proxy.accept();
    logind.wake();
    eventually("it is saved in the end", SOON, || status(&scaup, "/unsaved/files") == 0);
    drop(file);
    mount.unmount(&scaup);
}
