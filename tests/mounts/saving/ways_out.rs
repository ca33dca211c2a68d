//! Ending a mount while something is not saved, can't be saved, or is in use.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use scaup_rig::{Direction, Proxy, Scaup, Sshd, eventually, need};

use crate::support::{ends_with, noise, said, scaup, shell};

const SOON: Duration = Duration::from_secs(30);

/// Small files that are closed, and on their way over a narrow road.
const FILES: usize = 20;
const FILE_LEN: usize = 200_000;

fn unmount(mountpoint: &Path) -> [&OsStr; 2] {
    [OsStr::new("unmount"), mountpoint.as_os_str()]
}

#[test]
fn unmount_waits_for_what_is_on_its_way_and_says_so_once() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    proxy.rate(Direction::ToServer, Some(2_000_000));
    for number in 0..FILES {
        fs::write(mount.join(number.to_string()), noise(number as u64, FILE_LEN)).unwrap();
    }
    let said = ends_with(&scaup, 0, unmount(mount.path()));
    assert_eq!(said.matches("saving ").count(), 1, "{said}");
    for number in 0..FILES {
        let saved = fs::read(sshd.home().join(number.to_string())).unwrap();
        assert!(saved == noise(number as u64, FILE_LEN), "{number}");
    }
}

#[test]
fn what_is_closed_after_the_last_look_is_on_the_server_or_refused() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    fs::write(mount.join("before"), "content").unwrap();
    let unsaved = |mount: &serde_json::Value| mount["unsaved"]["files"].as_u64().unwrap();
    eventually("it is saved", SOON, || unsaved(&scaup.status()["mounts"][0]) == 0);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    proxy.refuse();
    proxy.cut();
    eventually("it is lost", SOON, || scaup.status()["mounts"][0]["state"] == "reconnecting");
    // The daemon sends those that wait for it a last word, and goes on replying in the meantime.
    let mut login = scaup.command().arg("login").stderr(Stdio::piped()).spawn().unwrap();
    let mut said = [0];
    login.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    // What was its working directory stays open to a program after the mount is out of sight.
    let script = format!(
        "kill {}
        while grep -qF ' {} ' /proc/self/mountinfo; do sleep 0.01; done
        n=0
        while echo content | dd status=none of=$n; do n=$((n + 1)); done
        echo $n",
        mount.daemon(),
        mount.path().display()
    );
    let closed: u32 = shell(mount.path(), &script).trim_end().parse().unwrap();
    login.wait().unwrap();
    for number in 0..closed {
        assert!(sshd.home().join(number.to_string()).exists(), "{number} of {closed}");
    }
}

#[test]
fn on_a_terminal_a_line_counts_down_what_is_left() {
    need(&[("script", "bsdutils")]);
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    proxy.rate(Direction::ToServer, Some(1_000_000));
    for number in 0..FILES {
        fs::write(mount.join(number.to_string()), noise(number as u64, FILE_LEN)).unwrap();
    }
    let mut script = Command::new("script");
    for (name, value) in scaup.command().get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    let words = format!("'{}' unmount '{}'", env!("CARGO_BIN_EXE_scaup"), mount.path().display());
    script
        .args(["-q", "-e", "-c", &words, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    let output = scaup_rig::within(Duration::from_secs(60), move || script.output().unwrap());
    let screen = said(&output);
    assert!(output.status.success(), "{screen}");
    let shown: Vec<&str> = screen.split("\r\x1b[2K").filter(|line| line.starts_with("saving: ")).collect();
    assert!(shown.len() > 1 && shown.iter().all(|line| line.trim_end().ends_with(" left")), "{screen:?}");
}

/// A mount with a file that is closed, and not on the server, which is gone.
fn unsaved(scaup: &Scaup) -> (scaup_rig::Mount, Sshd) {
    let mut sshd = Sshd::key_only().start();
    let mount = scaup.mount_on(&sshd, "").args(["--timeout", "2"]).start();
    fs::create_dir(mount.join("folder")).unwrap();
    let mut file = File::create(mount.join("folder/late.txt")).unwrap();
    file.write_all(b"too late").unwrap();
    sshd.stop();
    // Closing succeeds, or says that it could not be saved: in both cases it is kept.
    drop(file);
    eventually("it waits to be saved", SOON, || scaup.status()["mounts"][0]["unsaved"]["files"] == 1);
    eventually("the server is missed", SOON, || scaup.status()["mounts"][0]["state"] == "reconnecting");
    (mount, sshd)
}

#[test]
fn what_cannot_be_saved_holds_unmount_up_and_is_named() {
    let scaup = scaup();
    let (mount, mut sshd) = unsaved(&scaup);
    let began = Instant::now();
    let said = ends_with(&scaup, 8, unmount(mount.path()));
    let tried = began.elapsed();
    assert!((1500..5000).contains(&tried.as_millis()), "with --timeout 2 it tried for {tried:?}");
    assert!(said.contains("1 file") && said.contains("folder/late.txt: "), "{said}");
    assert_eq!(scaup.status()["mounts"][0]["state"], "reconnecting", "it goes on as it was");
    sshd.start();
    eventually("it is saved", SOON, || scaup.status()["mounts"][0]["unsaved"]["files"] == 0);
    mount.unmount(&scaup);
    assert_eq!(fs::read_to_string(sshd.home().join("folder/late.txt")).unwrap(), "too late");
}

#[test]
fn each_file_that_cannot_be_saved_has_its_own_reason_whatever_others_are_called() {
    let (scaup, mut sshd) = (scaup(), Sshd::key_only().start());
    let mount = scaup.mount_on(&sshd, "").args(["--timeout", "2"]).start();
    let names: Vec<String> =
        std::iter::once("late".to_owned()).chain((1..6).map(|n| format!("late: {n}"))).collect();
    let files = names.iter().map(|name| {
        let mut file = File::create(mount.join(name)).unwrap();
        file.write_all(b"too late").unwrap();
        file
    });
    let files: Vec<File> = files.collect();
    sshd.stop();
    drop(files);
    eventually("they can't be saved", SOON, || {
        let errors = scaup.status()["mounts"][0]["errors"].as_array().unwrap().clone();
        errors.iter().filter(|error| error["kind"] == "unsaved").count() == 6
    });
    let said = ends_with(&scaup, 8, unmount(mount.path()));
    let lines =
        |of: &str| said.lines().filter(|line| line.starts_with(of)).map(str::to_owned).collect::<Vec<_>>();
    let is_reason = |of: &str, line: &String| {
        line.strip_prefix(of).is_some_and(|why| {
            !why.is_empty() && !why.contains("late") && !why.starts_with(|c: char| c.is_ascii_digit())
        })
    };
    for name in &names {
        let of = format!("  {name}: ");
        assert!(lines(&of).iter().any(|line| is_reason(&of, line)), "{name}: {said}");
    }
    sshd.start();
    eventually("they are saved", SOON, || scaup.status()["mounts"][0]["unsaved"]["files"] == 0);
    mount.unmount(&scaup);
}

#[test]
fn with_force_unmount_says_what_is_lost() {
    let scaup = scaup();
    let (mount, _sshd) = unsaved(&scaup);
    let said = ends_with(&scaup, 0, [OsStr::new("unmount"), OsStr::new("--force"), mount.path().as_os_str()]);
    assert!(said.contains("lost: 1 file") && said.contains("folder/late.txt"), "{said}");
}

/// A mount whose server does not answer any more, with a file that is closed and not saved.
fn silent(scaup: &Scaup, timeout: &str) -> (scaup_rig::Mount, Proxy, Sshd) {
    let sshd = Sshd::key_only().start();
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").args(["--timeout", timeout]).start();
    fs::write(mount.join("before"), "content").unwrap();
    eventually("it is saved", SOON, || scaup.status()["mounts"][0]["unsaved"]["files"] == 0);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    proxy.freeze();
    fs::write(mount.join("late.txt"), "too late").unwrap();
    (mount, proxy, sshd)
}

#[test]
fn unmount_tells_at_once_what_is_not_saved_and_waits_no_longer_than_it_may() {
    let scaup = scaup();
    let (mount, proxy, _sshd) = silent(&scaup, "60");
    let began = Instant::now();
    let wait = ["unmount", "--wait", "4"].map(OsStr::new).into_iter().chain([mount.path().as_os_str()]);
    let said = ends_with(&scaup, 8, wait);
    assert!(began.elapsed() < Duration::from_secs(6), "it took {:?}", began.elapsed());
    assert!(said.contains("not saved yet: 1 file, 8 bytes") && said.contains("does not answer"), "{said}");
    eventually("the server is missed", SOON, || scaup.status()["mounts"][0]["state"] == "reconnecting");
    let began = Instant::now();
    let mut unmounting = scaup.command();
    unmounting.args(unmount(mount.path())).stderr(Stdio::piped());
    let mut unmounting = unmounting.spawn().unwrap();
    let mut told = [0; 400];
    let read = unmounting.stderr.as_mut().unwrap().read(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..read]).into_owned();
    assert!(began.elapsed() < Duration::from_secs(1), "it said so after {:?}", began.elapsed());
    assert!(told.contains("can't be reached") || told.contains("saving 1 file"), "{told}");
    // Ctrl-C: it goes on mounted.
    let pid = rustix::process::Pid::from_child(&unmounting);
    thread::sleep(Duration::from_secs(1));
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(unmounting.wait().unwrap().code(), Some(8));
    proxy.thaw();
    eventually("it is saved", Duration::from_secs(60), || {
        scaup.status()["mounts"][0]["unsaved"]["files"] == 0
    });
    assert_eq!(scaup.status()["mounts"][0]["state"], "connected");
    assert_eq!(
        scaup.status()["mounts"][0]["errors"].as_array().unwrap().len(),
        0,
        "what was healed is no error"
    );
    mount.unmount(&scaup);
}

#[test]
fn with_force_unmount_ends_within_seconds_whatever_waits() {
    let scaup = scaup();
    let (mount, _proxy, _sshd) = silent(&scaup, "60");
    // Somebody waits for the server, somebody else for the end, and a file is open.
    let path = mount.path().to_owned();
    let looking = thread::spawn(move || fs::metadata(path.join("no such name")));
    let open = File::open(mount.join("late.txt"));
    let mut waiting = scaup.command().args(unmount(mount.path())).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    let force = ["unmount", "--force"].map(OsStr::new).into_iter().chain([mount.path().as_os_str()]);
    let said = ends_with(&scaup, 0, force);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert!(said.contains("lost: 1 file"), "{said}");
    waiting.wait().unwrap();
    drop(open);
    looking.join().unwrap().unwrap_err();
}

#[test]
fn what_is_in_memory_is_read_at_once_and_what_is_not_known_is_an_error_and_not_missing() {
    let scaup = scaup();
    let (mount, proxy, _sshd) = silent(&scaup, "8");
    eventually("the server is missed", SOON, || scaup.status()["mounts"][0]["state"] == "reconnecting");
    thread::sleep(Duration::from_secs(6));
    let began = Instant::now();
    assert_eq!(fs::read_to_string(mount.join("late.txt")).unwrap(), "too late");
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    let began = Instant::now();
    let error = fs::metadata(mount.join("no such name")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "with --timeout 8 it took {:?}", began.elapsed());
    proxy.thaw();
    eventually("it is saved", Duration::from_secs(60), || {
        scaup.status()["mounts"][0]["unsaved"]["files"] == 0
    });
    mount.unmount(&scaup);
}

#[test]
#[allow(unsafe_code)]
fn who_has_only_mapped_a_file_is_named_as_well() {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let mount = scaup.mount_on(&sshd, "").start();
    let path = mount.join("mapped, and with blanks");
    fs::write(&path, noise(1, 10_000)).unwrap();
    let file = File::open(&path).unwrap();
    // SAFETY: the system chooses the place, and nothing is read there.
    let place =
        unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::PRIVATE, &file, 0) }.unwrap();
    drop(file);
    let said = ends_with(&scaup, 1, unmount(mount.path()));
    assert!(said.contains(&format!("({})", std::process::id())), "{said}");
    // SAFETY: it is what was mapped above.
    unsafe { munmap(place, 4096) }.unwrap();
    mount.unmount(&scaup);
}

/// A mount that is only there to take a device number.
struct Taken(tempfile::TempDir);

impl Taken {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(directory.path()).status();
        assert!(mounted.unwrap().success());
        Self(directory)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.unwrap().success());
    }
}

#[test]
fn an_unmount_ends_though_others_take_its_device_number_at_once() {
    let scaup = scaup();
    let (target, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let mount = scaup.mount(target.path()).start();
    thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let mut taken = Vec::new();
            while !stop.load(Ordering::Relaxed) && taken.len() < 200 {
                taken.push(Taken::new());
            }
            taken
        });
        thread::sleep(Duration::from_millis(100));
        let path = mount.path().to_owned();
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ends_with(&scaup, 0, unmount(&path))));
        stop.store(true, Ordering::Relaxed);
        drop(taking.join().unwrap());
        ended.unwrap();
    });
}

#[test]
fn a_connection_that_was_aborted_ends_the_daemon_and_leaves_no_mount() {
    let (scaup, target) = (scaup(), tempfile::tempdir().unwrap());
    let mount = scaup.mount(target.path()).start();
    let connection = rustix::fs::minor(fs::metadata(mount.path()).unwrap().dev());
    let control = tempfile::tempdir().unwrap();
    let _ = Command::new("mount").args(["-t", "fusectl", "none"]).arg(control.path()).status();
    fs::write(control.path().join(format!("{connection}/abort")), "1").unwrap();
    let daemon = mount.daemon();
    eventually("the daemon ends", SOON, || !Path::new(&format!("/proc/{daemon}")).exists());
    assert_eq!(
        fs::read_dir(mount.path()).unwrap().count(),
        0,
        "the mount point is an ordinary directory again"
    );
    assert!(Command::new("umount").arg(control.path()).status().unwrap().success());
}

#[test]
fn a_mount_waits_for_an_earlier_one_that_is_still_saving_and_shows_nothing_old() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let report = sshd.home().join("report");
    fs::write(&report, "old").unwrap();
    sshd.give(&report);
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    let place = mount.path().to_owned();
    proxy.rate(Direction::ToServer, Some(20_000));
    fs::write(mount.join("report"), noise(7, 100_000)).unwrap();
    assert!(Command::new("fusermount3").arg("-u").arg(&place).status().unwrap().success());
    assert_eq!(fs::read(&report).unwrap(), b"old", "it was saved too fast for this test");
    let again = scaup.mount_through(&proxy, &sshd, "").start();
    assert!(again.said().contains("has ended and is still saving 1 file, "), "{}", again.said());
    assert!(fs::read(again.join("report")).unwrap() == noise(7, 100_000));
    proxy.rate(Direction::ToServer, None);
    again.unmount(&scaup);
}

#[test]
fn a_second_mount_of_the_same_target_waits_for_no_first_one_that_stands_behind_a_link() {
    let (scaup, target, place) = (scaup(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(place.path().join("real")).unwrap();
    symlink("real", place.path().join("link")).unwrap();
    let points = ["link/first", "link/second"].map(|point| place.path().join(point));
    for point in &points {
        let output = scaup.run([Path::new("mount"), target.path(), point]);
        assert!(output.status.success() && !said(&output).contains("an earlier mount"), "{}", said(&output));
    }
    for point in &points {
        ends_with(&scaup, 0, [Path::new("unmount"), point]);
    }
}
