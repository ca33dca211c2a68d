//! What a slow line is shared by: looks pass a save, which uses what they leave.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use scaup_rig::{Direction, Mount, Proxy, Scaup, Sshd};

use crate::support::{noise, scaup, status};

/// 512 kbit/s, bytes a second.
const RATE: u64 = 64_000;
/// One way.
const DELAY: Duration = Duration::from_millis(50);
/// 16 seconds on this line.
const SAVED: usize = 1024 * 1024;
/// Directories that nobody has looked into.
const UNSEEN: usize = 6;
/// What a look into one takes at most, of up to four round trips, each of which waits for what is under way. On a line
/// that is full it was the time of the save.
const LOOK_MAX: Duration = Duration::from_secs(4);

fn make_directories(sshd: &Sshd) {
    for number in 0..UNSEEN {
        let directory = sshd.home().join(format!("around {number}/unseen"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("file"), "content").unwrap();
    }
}

fn slow_down(proxy: &Proxy) {
    proxy.delay(DELAY);
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.rate(direction, Some(RATE));
    }
}

fn speed_up(proxy: &Proxy) {
    proxy.delay(Duration::ZERO);
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.rate(direction, None);
    }
}

/// How long it took.
fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// Looks around while a file is saved over a slow line.
fn looks_pass_a_save_on(scaup: &Scaup, proxy: &Proxy, mount: Mount) {
    slow_down(proxy);
    let look_into = |directory: &Path| {
        let names = timed(|| assert_eq!(fs::read_dir(directory).unwrap().count(), 1));
        // One message, of which nothing is remembered.
        [names, timed(|| statvfs(mount.path()).unwrap())]
    };
    let is_saved = AtomicBool::new(false);
    let (mut looks, mut took) = (Vec::new(), Duration::ZERO);
    thread::scope(|scope| {
        let saving = scope.spawn(|| {
            let took = timed(|| fs::write(mount.join("saved"), noise(1, SAVED)).unwrap());
            is_saved.store(true, Ordering::SeqCst);
            took
        });
        thread::sleep(Duration::from_secs(1));
        for number in 0..UNSEEN {
            if !is_saved.load(Ordering::SeqCst) {
                looks.push(look_into(&mount.join(format!("around {number}/unseen"))));
            }
        }
        took = saving.join().unwrap();
    });
    speed_up(proxy);
    assert!(looks.iter().flatten().all(|look| *look < LOOK_MAX), "{looks:?} during a save of {took:?}");
    assert!(looks.len() >= UNSEEN / 2, "the save was over too soon: {took:?}");
    let line = Duration::from_secs_f64(SAVED as f64 / RATE as f64);
    assert!(took < line * 2, "{took:?}, where the line takes {line:?}");
    assert_eq!(status(scaup, "/counters/reconnects"), 0);
    mount.unmount(scaup);
}

#[test]
fn looks_pass_a_save() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    make_directories(&sshd);
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    looks_pass_a_save_on(&scaup, &proxy, mount);
}

#[test]
fn looks_pass_a_save_that_goes_through_another_server() {
    let scaup = scaup();
    let (gate, inner) = (Sshd::key_only().start(), Sshd::key_only().start());
    make_directories(&inner);
    let proxy = Proxy::start(gate.host(), gate.port());
    let host = |name: &str, sshd: &Sshd, port: u16| {
        format!(
            "Host {name}\nHostName {}\nPort {port}\nUser {}\nIdentityFile {}\nUserKnownHostsFile {}\n",
            sshd.host(),
            sshd.user(),
            sshd.key().path().display(),
            sshd.known_hosts_file_at(port).display()
        )
    };
    let config =
        format!("{}{}ProxyJump gate\n", host("gate", &gate, proxy.port()), host("hq", &inner, inner.port()));
    let file = scaup.home().join("ssh_config");
    fs::write(&file, config).unwrap();
    let mount = scaup.mount("hq").args(["-F".as_ref(), file.as_os_str()]).start();
    looks_pass_a_save_on(&scaup, &proxy, mount);
}
