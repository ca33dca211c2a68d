//! What content costs on the road and in memory: bytes and round trips of reading, messages of writing, and that the
//! budget holds.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise, statvfs};
use scaup_rig::{Direction, HostileServer, Lie, Mount, Proxy, Scaup, SftpPacket, Sshd, eventually};

use crate::support::{FORGIVEN, PASSWORD, noise, round_trips, scaup, server_with_vault};

const MIB: u64 = 1024 * 1024;

/// A chunk, and as it is stored (`SIV_GCM`).
const CHUNK: u64 = 32 * 1024;
const STORED_CHUNK: u64 = CHUNK + 28;

/// An unlocked vault with the file `large`, mounted through a road that counts.
struct Road {
    scaup: Scaup,
    mount: Mount,
    proxy: Proxy,
    _sshd: Sshd,
}

impl Road {
    /// `large` has so many MiB.
    fn to(mib: u64, arguments: &[&str]) -> Self {
        Self::through(mib, arguments, |_| {})
    }

    /// The road is a line of 100 Mbit/s and 40 ms; returns the bytes that it holds, too.
    fn narrow(mib: u64) -> (Self, u64) {
        const RATE: u64 = 12_500_000;
        let road = Self::through(mib, &[], |proxy| {
            proxy.delay(Duration::from_millis(20));
            proxy.rate(Direction::ToClient, Some(RATE));
        });
        (road, RATE / 25)
    }

    fn through(mib: u64, arguments: &[&str], make_road: impl FnOnce(&Proxy)) -> Self {
        let sshd = server_with_vault();
        let scaup = scaup();
        let password = scaup.command_answering(PASSWORD);
        let options = ["--vault", ".", "--vault-password-command", &password];
        let filling = scaup.mount_on(&sshd, "Vault").args(options).start();
        fill(&filling.join("large"), mib);
        filling.unmount(&scaup);
        let proxy = Proxy::start(sshd.host(), sshd.port());
        make_road(&proxy);
        // As users have it: spans for each request, which the other tests log, take time and some MiB of their own.
        let mount = scaup.mount_through(&proxy, &sshd, "Vault").args(options).args(arguments);
        let mount = mount.env("SCAUP_LOG", "scaup=info").start();
        Self { scaup, mount, proxy, _sshd: sshd }
    }

    fn path(&self) -> PathBuf {
        self.mount.join("large")
    }

    fn open(&self) -> File {
        File::open(self.path()).unwrap()
    }

    /// Bytes from the server so far, when no more come.
    fn received(&self) -> u64 {
        let mut before = u64::MAX;
        eventually("nothing is on its way any more", Duration::from_secs(60), || {
            thread::sleep(Duration::from_millis(400));
            std::mem::replace(&mut before, self.proxy.passed(Direction::ToClient)) == before
        });
        before
    }

    /// A counter of this mount.
    fn count(&self, name: &str) -> u64 {
        self.scaup.status().pointer(&format!("/mounts/0/counters/{name}")).unwrap().as_u64().unwrap()
    }

    /// The round trips that `work` takes.
    fn round_trips(&self, work: impl FnOnce()) -> u64 {
        round_trips(&self.proxy, work).0
    }

    fn unmount(self) {
        self.proxy.rate(Direction::ToClient, None);
        self.proxy.delay(Duration::ZERO);
        self.mount.unmount(&self.scaup);
    }
}

fn fill(path: &Path, mib: u64) {
    let mut file = File::create(path).unwrap();
    for at in 0..mib {
        file.write_all(&noise(at, MIB as usize)).unwrap();
    }
}

/// Chunks of a file of `chunks`, each another one, far from the one before.
fn scattered(chunks: u64) -> impl Iterator<Item = u64> {
    (1..chunks).map(move |step| step * 389 % chunks)
}

/// Reads one page of a chunk, and compares it with what [`fill`] wrote.
fn read_page(file: &File, chunk: u64) {
    let mut page = [0; 4096];
    let at = chunk * CHUNK + 8192;
    file.read_exact_at(&mut page, at).unwrap();
    let within = (at % MIB) as usize;
    assert_eq!(page, noise(at / MIB, MIB as usize)[within..within + page.len()]);
}

#[test]
fn random_reads_fetch_their_chunks_and_nothing_else() {
    let road = Road::to(16, &[]);
    let file = road.open();
    let before = road.received();
    const READS: u64 = 200;
    scattered(512).take(READS as usize).for_each(|chunk| read_page(&file, chunk));
    let bytes = road.received() - before;
    let least = READS * STORED_CHUNK;
    assert!(bytes >= least && bytes * 100 <= least * 115, "{bytes} bytes for {least} of chunks");
    drop(file);
    road.unmount();
}

#[test]
fn random_reads_take_a_round_trip_each_and_sixteen_readers_take_theirs_together() {
    let road = Road::to(16, &[]);
    let file = road.open();
    let mut chunks = scattered(512);
    const READS: u64 = 8;
    let one = road.round_trips(|| {
        chunks.by_ref().take(READS as usize).for_each(|chunk| read_page(&file, chunk));
    });
    assert!((READS..=READS + FORGIVEN).contains(&one), "{one} round trips for {READS} reads");
    let mut each: Vec<Vec<u64>> = (0..16).map(|_| chunks.by_ref().take(READS as usize).collect()).collect();
    let all = road.round_trips(|| {
        thread::scope(|scope| {
            for chunks in each.drain(..) {
                scope.spawn(|| chunks.into_iter().for_each(|chunk| read_page(&file, chunk)));
            }
        });
    });
    assert!((READS..=READS + FORGIVEN).contains(&all), "{all} round trips for 16 times {READS} reads");
    drop(file);
    road.unmount();
}

#[test]
fn what_a_program_does_not_go_on_to_read_is_not_fetched() {
    for stop in ["closes", "seeks"] {
        // Nearly all that is read ahead still waits here.
        let (road, product) = Road::narrow(64);
        let mut file = road.open();
        let before = road.received();
        file.read_exact(&mut vec![0; 8 * MIB as usize]).unwrap();
        let file = match stop {
            "closes" => {
                drop(file);
                None
            }
            _ => {
                file.seek(SeekFrom::Start(60 * MIB)).unwrap();
                file.read_exact(&mut [0; 10]).unwrap();
                Some(file)
            }
        };
        let bytes = road.received() - before;
        // A few products are under way while it is not known yet how little the line holds.
        let most = 8 * MIB + 6 * product;
        assert!((8 * MIB..most).contains(&bytes), "{bytes} bytes for 8 MiB by a program that {stop}");
        drop(file);
        road.unmount();
    }
}

#[test]
fn a_little_that_is_read_brings_no_more_than_twice_as_much() {
    let road = Road::to(16, &[]);
    let mut file = road.open();
    let before = road.received();
    file.read_exact(&mut vec![0; MIB as usize]).unwrap();
    let bytes = road.received() - before;
    // The kernel reads a little further too.
    assert!((MIB..4 * MIB).contains(&bytes), "{bytes} bytes for 1 MiB");
    drop(file);
    road.unmount();
}

#[test]
fn a_question_waits_behind_no_queue_while_a_file_is_copied() {
    let (road, product) = Road::narrow(48);
    let (copying, copied) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut waited_for = Vec::new();
    let requests = road.count("sftp_requests");
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut file, mut piece) = (road.open(), vec![0; 4 * MIB as usize]);
            while file.read(&mut piece).unwrap() > 0 {
                // How much the line holds is known from here on.
                copying.store(true, Ordering::SeqCst);
            }
            copied.store(true, Ordering::SeqCst);
        });
        eventually("the copy has begun", Duration::from_secs(12), || copying.load(Ordering::SeqCst));
        while !copied.load(Ordering::SeqCst) {
            let before = road.proxy.passed(Direction::ToClient);
            // One message, of which nothing is remembered.
            statvfs(road.mount.path()).unwrap();
            waited_for.push(road.proxy.passed(Direction::ToClient) - before);
        }
    });
    let looks = waited_for.len();
    assert!(looks >= 20, "the copy was over after {looks} looks");
    assert!(road.count("sftp_requests") - requests >= looks as u64, "the server was not asked");
    waited_for.sort_unstable();
    // What passes in a round trip when the line is full is its product. A question waits for one, and for the part of
    // another that is under way too much; when a busy machine wakes this thread late, more passes: so half of them
    // count.
    assert!(
        waited_for[looks / 2] <= 3 * product,
        "{waited_for:?} bytes came before the answers, {product} in a round trip"
    );
    road.unmount();
}

#[test]
fn new_content_goes_in_messages_of_several_chunks() {
    let road = Road::to(0, &[]);
    let before = road.count("sftp_requests");
    fill(&road.mount.join("new"), 8);
    let requests = road.count("sftp_requests") - before;
    assert!(requests < 8 * MIB / CHUNK / 4, "{requests} requests for 8 MiB");
    road.unmount();
}

#[test]
fn what_is_read_again_and_again_survives_a_scan() {
    let road = Road::to(32, &["--memory", "8M"]);
    fill(&road.mount.join("hot"), 1);
    let read = |path: &Path| {
        let mut file = File::open(path).unwrap();
        // Not from the kernel's memory.
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        std::io::copy(&mut file, &mut std::io::sink()).unwrap();
    };
    let hot = road.mount.join("hot");
    (0..4).for_each(|_| read(&hot));
    read(&road.path());
    let before = road.received();
    read(&hot);
    let bytes = road.received() - before;
    assert!(bytes < 8 * CHUNK, "{bytes} bytes for what should be in memory");
    road.unmount();
}

/// The most that a process held since it was last asked, bytes (proc(5): `VmHWM`, and 5 in `clear_refs`).
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn whatever_runs_memory_stays_within_the_budget_and_forty_mib() {
    // A long road has room for much that is under way, if the budget has.
    for (argument, budget, way) in [("8M", 8 * MIB, 0), ("128M", 128 * MIB, 40)] {
        let delay = Duration::from_millis(way);
        let road = Road::through(192, &["--memory", argument], |proxy| proxy.delay(delay));
        let daemon = road.mount.daemon();
        let most = budget + 40 * MIB;
        // What unlocking needs is its own affair.
        peak(daemon);
        let works = |what: &str, work: &dyn Fn()| {
            work();
            let peak = peak(daemon);
            assert!(peak <= most, "--memory {argument}: {what} took {} of {} MiB", peak / MIB, most / MIB);
        };
        works("reading", &|| {
            std::io::copy(&mut road.open(), &mut std::io::sink()).unwrap();
        });
        works("writing", &|| fill(&road.mount.join("new"), 192));
        let together = |count: u64, work: &(dyn Fn(u64) + Sync)| {
            thread::scope(|scope| (0..count).for_each(|number| drop(scope.spawn(move || work(number)))));
        };
        let read = |from: u64, length: u64| {
            let mut file = road.open();
            fadvise(&file, 0, None, Advice::DontNeed).unwrap();
            file.seek(SeekFrom::Start(from)).unwrap();
            std::io::copy(&mut file.take(length), &mut std::io::sink()).unwrap();
        };
        let write = |name: String, mib: u64| fill(&road.mount.join(name), mib);
        works("sixteen readers", &|| together(16, &|reader| read(reader * 12 * MIB, 12 * MIB)));
        works("four writers", &|| together(4, &|writer| write(format!("new{writer}"), 48)));
        works("a hundred readers", &|| together(100, &|reader| read(reader * 192 * MIB / 100, MIB)));
        works("four hundred writers", &|| {
            together(400, &|writer| {
                fs::write(road.mount.join(format!("newer{writer}")), noise(writer, MIB as usize / 2))
                    .unwrap();
            });
        });
        works("eight writers to what has no name any more", &|| {
            together(8, &|writer| {
                let path = road.mount.join(format!("gone{writer}"));
                let mut file = File::create(&path).unwrap();
                fs::remove_file(path).unwrap();
                (0..16).for_each(|_| file.write_all(&vec![1; MIB as usize]).unwrap());
            });
        });
        road.unmount();
    }
}

/// How many files lie below a directory, each of which is looked at.
fn walk(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let found = entries.map(|entry| match entry.metadata().unwrap().is_dir() {
        true => walk(&entry.path()),
        false => 1,
    });
    found.sum()
}

#[test]
fn a_tree_of_any_size_is_walked_in_bounded_memory() {
    const DIRECTORIES: usize = 400;
    const FILES: usize = 100;
    let sshd = Sshd::key_only().start();
    let (one, many) = (sshd.files().join("one"), sshd.files().join("many"));
    fs::write(&one, "").unwrap();
    for directory in 0..DIRECTORIES {
        let directory = many.join(directory.to_string());
        fs::create_dir_all(&directory).unwrap();
        // Links are made faster than files, and look the same.
        let link = |file| fs::hard_link(&one, directory.join(format!("a file of a tree, {file}")));
        (0..FILES).for_each(|file| link(file).unwrap());
    }
    fs::write(many.join("0/open"), "before").unwrap();
    sshd.give(&many);
    let scaup = scaup();
    let mount = scaup.mount_on(&sshd, "many").args(["--memory", "8M"]).start();
    let daemon = mount.daemon();
    peak(daemon);
    let mut open = File::options().read(true).append(true).open(mount.join("0/open")).unwrap();
    for _ in 0..2 {
        assert_eq!(walk(mount.path()), DIRECTORIES * FILES + 1);
    }
    let peak = peak(daemon);
    assert!(peak <= 48 * MIB, "{} MiB", peak / MIB);
    // What is in use is not forgotten, nor is it lost what was forgotten.
    open.write_all(b" and after").unwrap();
    open.sync_all().unwrap();
    let is_known = |name: &str| fs::symlink_metadata(mount.join(name)).map(|found| found.len());
    assert_eq!(is_known("0/open").unwrap(), 16);
    assert_eq!(is_known("1/a file of a tree, 1").unwrap(), 0);
    assert_eq!(fs::read_to_string(many.join("0/open")).unwrap(), "before and after");
    drop(open);
    mount.unmount(&scaup);
}

/// A server that shows as many directories as one likes, each with as many files as one likes, all made up: `d0`, `d1`,
/// … in the mounted directory. Names have `length` bytes.
fn makes_up(server: &HostileServer, directories: u32, files: u32, length: usize) {
    const AT_ONCE: u32 = 500;
    // No two servers share a handle: requests to the one before may still be under way.
    static HANDLES: AtomicU32 = AtomicU32::new(0);
    let mut told: HashMap<Vec<u8>, u32> = HashMap::new();
    let text = |body: &[u8]| {
        let length = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
        body[4..4 + length].to_vec()
    };
    let name = |packet: SftpPacket, name: &str, mode: u32| {
        packet
            .string(name.as_bytes())
            .string(b"")
            .u32(0xd)
            .u64(5)
            .u32(mode)
            .u32(1_700_000_000)
            .u32(1_700_000_000)
    };
    server.lie(move |request, _| {
        let answer = |kind| SftpPacket::new(kind, request.id);
        let made_up =
            |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().is_some_and(|name| name[0] == b'd');
        match request.kind {
            SftpPacket::OPENDIR => {
                let of_root = u32::from(!made_up(&text(&request.body)));
                let number = HANDLES.fetch_add(1, Ordering::Relaxed);
                let handle = [number.to_be_bytes(), of_root.to_be_bytes()].concat();
                answer(SftpPacket::HANDLE).string(&handle).lie()
            }
            SftpPacket::READDIR => {
                let handle = text(&request.body);
                let of_root = handle[7] == 1;
                let from = *told.entry(handle.clone()).or_default();
                let to = (from + AT_ONCE).min(if of_root { directories } else { files });
                told.insert(handle, to);
                if from == to {
                    return answer(SftpPacket::STATUS).u32(1).string(b"").string(b"").lie();
                }
                let names = answer(SftpPacket::NAME).u32(to - from);
                let names = (from..to).fold(names, |names, number| match of_root {
                    true => name(names, &format!("d{number}"), 0o040_755),
                    false => name(names, &format!("{number:n>length$}"), 0o100_644),
                });
                names.lie()
            }
            SftpPacket::LSTAT if made_up(&text(&request.body)) => {
                answer(SftpPacket::ATTRS).u32(4).u32(0o040_755).lie()
            }
            SftpPacket::CLOSE => answer(SftpPacket::STATUS).u32(0).string(b"").string(b"").lie(),
            _ => Lie::Truth,
        }
    });
}

/// How many names a program is told of, or why it is not.
fn names_in(directory: &Path) -> std::io::Result<usize> {
    fs::read_dir(directory)?
        .map(|entry| entry.map(drop))
        .try_fold(0, |count, entry| entry.map(|()| count + 1))
}

#[test]
fn names_that_a_server_makes_up_stay_within_the_budget_however_many_are_listed_at_once() {
    const MEMORY: u64 = 8 * MIB;
    let (server, scaup) = (HostileServer::start(), scaup());
    let mount = scaup.mount_on(server.sshd(), "").args(["--memory", "8M", "--no-vaults"]).start();
    let daemon = mount.daemon();
    let within_the_budget = |what: &str| {
        let peak = peak(daemon);
        assert!(peak <= MEMORY + 40 * MIB, "{what}: {} MiB", peak / MIB);
    };
    // More than there is room for, in several directories at the same time.
    makes_up(&server, 8, 499_000, 30);
    peak(daemon);
    thread::scope(|scope| {
        for number in 0..6 {
            let directory = mount.join(format!("d{number}"));
            scope.spawn(move || {
                let refused = names_in(&directory).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NOMEM.raw_os_error()));
            });
        }
    });
    within_the_budget("six directories");
    let errors = scaup.status()["mounts"][0]["errors"].to_string();
    assert!(errors.contains("more names than fit into memory"), "{errors}");
    // A tree of directories each of which may be listed ahead.
    makes_up(&server, 2000, 1000, 250);
    for number in 0..8 {
        assert_eq!(names_in(mount.path()).unwrap(), 2000);
        assert_eq!(names_in(&mount.join(format!("d{number}"))).unwrap(), 1000);
    }
    within_the_budget("a tree");
    // What is shown to programs that keep it open takes part in it.
    let open: Vec<_> = (100..160).map(|number| fs::read_dir(mount.join(format!("d{number}")))).collect();
    assert!(open.iter().any(Result::is_ok) && open.iter().any(Result::is_err));
    within_the_budget("open directories");
    drop(open);
    assert_eq!(names_in(&mount.join("d50")).unwrap(), 1000, "there is room again");
    server.lie(|_, _| Lie::Truth);
    mount.unmount(&scaup);
}

#[test]
fn hundreds_of_thousands_of_names_are_listed_within_the_budget() {
    let (server, scaup) = (HostileServer::start(), scaup());
    let mount = scaup.mount_on(server.sshd(), "").args(["--memory", "64M", "--no-vaults"]).start();
    makes_up(&server, 1, 300_000, 30);
    peak(mount.daemon());
    assert_eq!(names_in(&mount.join("d0")).unwrap(), 300_000);
    let peak = peak(mount.daemon());
    assert!(peak <= 104 * MIB, "{} MiB", peak / MIB);
    server.lie(|_, _| Lie::Truth);
    mount.unmount(&scaup);
}
