//! A server that lies, behind a real login and below a whole mount: every program on the mount comes to an end in time,
//! the daemon lives within its memory, nothing wrong is shown, and once the server tells the truth again everything is
//! as it was.

mod adversary;
mod attacker;
mod found;
mod on_server;
mod places;
mod programs;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use scaup_rig::{Answers, Fixture, HostileServer, Lie, Mount, Scaup, SftpPacket, eventually, within};

use crate::support::{Drive, PASSWORD, noise, said, scaup, shell, write_synced};

/// How long the mount waits for a server, and what any one program may take of it: a few requests one after the other,
/// each as long.
const TIMEOUT: Duration = Duration::from_secs(2);
const PROGRAM_MAX: Duration = Duration::from_secs(30);

/// What the daemon may hold, KiB: `--memory 8M`, and 40 MiB beside it.
const MEMORY_MAX: u64 = 48 * 1024;

const FILES: [&str; 2] = ["Vault/file", "plain/file"];

struct Lied {
    server: HostileServer,
    scaup: Scaup,
    mount: Mount,
    copies: tempfile::TempDir,
}

fn content() -> Vec<u8> {
    noise(7, 300_000)
}

impl Lied {
    /// A mount of a vault and a plain directory, with a file and a directory in each; nothing is remembered for long.
    fn start() -> Self {
        let server = HostileServer::start();
        let home = server.sshd().home();
        Fixture::unpack("empty-gcm").copy_vault_to(&home.join("Vault"));
        fs::create_dir(home.join("plain")).unwrap();
        server.sshd().give(&home);
        let scaup = scaup();
        let mount = scaup
            .mount_on(server.sshd(), "")
            .answering(&Answers::default().vault(PASSWORD))
            .args(["--vault", "Vault", "--memory", "8M", "--attr-timeout", "0"])
            .args(["--timeout", &TIMEOUT.as_secs().to_string()])
            .start();
        for file in FILES {
            write_synced(&mount.join(file), content());
            fs::create_dir(mount.join(file).with_file_name("dir")).unwrap();
            write_synced(&mount.join(file).with_file_name("dir/inner"), "inner");
        }
        // What unlocking needs is its own affair (proc(5): 5 has the most memory so far counted anew).
        fs::write(format!("/proc/{}/clear_refs", mount.daemon()), "5").unwrap();
        Self { server, scaup, mount, copies: tempfile::tempdir().unwrap() }
    }

    /// Runs a program on the mount, which has to end; returns whether it succeeded, and what it said.
    fn program(&self, line: &str, what: &str) -> (bool, String) {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("AT", self.mount.path()).env("OUT", self.copies.path());
        let began = Instant::now();
        let output = within(Duration::from_secs(120), move || command.output().unwrap());
        assert!(began.elapsed() < PROGRAM_MAX, "{what}: `{line}` took {:?}", began.elapsed());
        (output.status.success(), said(&output))
    }

    /// Everything that people do, while the server lies.
    fn everything_ends(&self, what: &str) {
        let names: BTreeSet<&str> = ["file", "dir", "new", "copy", "made", "plain", "Vault"].into();
        for place in ["Vault", "plain"] {
            let (listed, said) = self.program(&format!("ls -a $AT/{place}"), what);
            if listed {
                let strange = said.lines().find(|name| {
                    !names.contains(name) && ![".", ".."].contains(name) && !name.starts_with("lie")
                });
                assert_eq!(strange, None, "{what}: {said}");
            }
            self.program(&format!("ls -lR $AT/{place}"), what);
            // What is read is right or an error.
            let copy = self.copies.path().join("copy");
            let (copied, _) =
                self.program(&format!("rm -f $OUT/copy; cat $AT/{place}/file > $OUT/copy"), what);
            let read = fs::read(&copy).unwrap_or_default();
            assert!(content().starts_with(&read), "{what}: wrong bytes in {place}");
            assert!(!copied || read == content(), "{what}: cut short in {place}");
            self.program(&format!("cp $AT/{place}/file $AT/{place}/copy"), what);
            self.program(&format!("echo new > $AT/{place}/new"), what);
            self.program(&format!("mkdir $AT/{place}/made"), what);
            self.program(&format!("rm -r $AT/{place}/dir"), what);
            self.program(&format!("stat -f $AT/{place}"), what);
        }
        self.stays_within_its_memory(what);
    }

    fn stays_within_its_memory(&self, what: &str) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.mount.daemon())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let most: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(most < MEMORY_MAX, "{what}: the daemon held {most} KiB");
    }

    /// The server tells the truth again: what nobody changed is there, and the mount works and ends.
    fn and_all_is_well(self, what: &str) {
        self.server.lie(|_, _| Lie::Truth);
        let Self { server, scaup, mount, copies } = self;
        for file in FILES {
            eventually(what, Duration::from_secs(60), || {
                fs::read(mount.join(file)).is_ok_and(|read| read == content())
            });
            let after = mount.join(file).with_file_name("after");
            eventually(what, Duration::from_secs(60), || fs::write(&after, "after").is_ok());
        }
        assert!(fs::read_dir(copies.path()).unwrap().count() <= 1, "{what}: nothing is written outside");
        let home = server.sshd().home();
        let outside: Vec<_> =
            fs::read_dir(home.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(outside.iter().all(|path| !path.ends_with("outside")), "{what}: {outside:?}");
        mount.unmount(&scaup);
        drop(server);
    }
}

fn packet(kind: u8, request: &SftpPacket) -> SftpPacket {
    SftpPacket::new(kind, request.id)
}

/// One name in a listing, a directory.
fn name(packet: SftpPacket, name: &[u8]) -> SftpPacket {
    packet.string(name).string(b"").u32(4).u32(0o040_755)
}

fn listing(request: &SftpPacket, names: &[&[u8]]) -> SftpPacket {
    let count = u32::try_from(names.len()).unwrap();
    names.iter().fold(packet(SftpPacket::NAME, request).u32(count), |packet, text| name(packet, text))
}

fn under(lie: impl FnMut(&SftpPacket, &SftpPacket) -> Lie + Send + 'static, what: &str) {
    let lied = Lied::start();
    lied.server.lie(lie);
    lied.everything_ends(what);
    lied.and_all_is_well(what);
}

#[test]
fn garbage_instead_of_packets() {
    under(|_, _| Lie::Bytes(vec![0xff; 64]), "garbage");
}

#[test]
fn an_end_in_the_middle_of_each_answer() {
    under(|_, answer| Lie::End(answer.bytes()[..7].to_vec()), "ends");
}

#[test]
fn answers_with_ids_that_nobody_asked_with() {
    under(|_, answer| SftpPacket { id: answer.id ^ 0x4000_0000, ..answer.clone() }.lie(), "ids");
}

#[test]
fn silence() {
    under(|_, _| Lie::Bytes(Vec::new()), "silence");
}

#[test]
fn silence_after_the_greeting() {
    let greets = |request: &SftpPacket, _: &SftpPacket| match request.kind {
        SftpPacket::INIT => Lie::Truth,
        _ => Lie::Bytes(Vec::new()),
    };
    under(greets, "silence after the greeting");
}

#[test]
fn answers_of_another_kind() {
    under(
        |request, _| match request.kind {
            SftpPacket::INIT => Lie::Truth,
            _ => packet(SftpPacket::DATA, request).string(b"data").lie(),
        },
        "kinds",
    );
}

#[test]
fn a_flood_of_statuses() {
    under(
        |request, answer| {
            let status = packet(SftpPacket::STATUS, request).u32(4).string(b"no").string(b"").bytes();
            if request.kind == SftpPacket::INIT {
                Lie::Truth
            } else {
                Lie::Bytes(status.repeat(1 + answer.id as usize % 1000))
            }
        },
        "statuses",
    );
}

#[test]
fn every_refusal_that_there_is() {
    let mut code = 0;
    under(
        move |request, _| {
            code = (code + 1) % 40;
            match request.kind {
                SftpPacket::INIT => Lie::Truth,
                _ => packet(SftpPacket::STATUS, request).u32(code).string(&[0xff; 100]).string(b"").lie(),
            }
        },
        "refusals",
    );
}

#[test]
fn directories_without_end() {
    let lied = Lied::start();
    lied.server.lie(|request, _| match request.kind {
        SftpPacket::READDIR => listing(request, &[&b"lie"[..]; 1000]).lie(),
        _ => Lie::Truth,
    });
    for place in ["plain", "Vault"] {
        let (listed, said) = lied.program(&format!("ls $AT/{place}"), "endless");
        assert!(!listed, "{said}");
    }
    lied.stays_within_its_memory("endless");
    lied.and_all_is_well("endless");
}

#[test]
fn names_one_by_one_without_end() {
    under(
        |request, _| match request.kind {
            SftpPacket::READDIR => Lie::Late(Duration::from_millis(1), listing(request, &[b"lie"]).bytes()),
            _ => Lie::Truth,
        },
        "one by one",
    );
}

#[test]
fn names_that_lead_elsewhere() {
    under(
        |request, answer| match request.kind {
            SftpPacket::READDIR if answer.kind == SftpPacket::NAME => {
                let long = [b'x'; 300];
                listing(
                    request,
                    &[b"..", b".", b"", b"/", b"../outside", b"a/b", b"nul\0l", b"/etc/passwd", &long],
                )
                .lie()
            }
            _ => Lie::Truth,
        },
        "names",
    );
}

#[test]
fn a_directory_that_contains_itself() {
    // Everything is a directory, and every directory has one in it.
    under(
        |request, answer| match request.kind {
            SftpPacket::READDIR if answer.kind == SftpPacket::NAME => listing(request, &[b"lie"]).lie(),
            SftpPacket::LSTAT if answer.kind == SftpPacket::STATUS => {
                packet(SftpPacket::ATTRS, request).u32(4).u32(0o040_755).lie()
            }
            _ => Lie::Truth,
        },
        "itself",
    );
}

#[test]
fn content_longer_than_asked() {
    under(
        |request, answer| match answer.kind {
            SftpPacket::DATA => {
                packet(SftpPacket::DATA, request).string(&[&answer.body[4..], b"more"].concat()).lie()
            }
            _ => Lie::Truth,
        },
        "longer",
    );
}

#[test]
fn content_in_drops() {
    under(
        |_, answer| match answer.kind {
            SftpPacket::DATA => {
                let drop = SftpPacket::new(SftpPacket::DATA, answer.id).string(&answer.body[4..5]);
                Lie::Late(Duration::from_millis(20), drop.bytes())
            }
            _ => Lie::Truth,
        },
        "drops",
    );
}

#[test]
fn sizes_that_lie() {
    for size in [0, 1, 1 << 40, u64::MAX] {
        under(
            move |request, answer| match (request.kind, answer.kind) {
                // Its files are as long as it likes; directories stay what they are.
                (SftpPacket::LSTAT | SftpPacket::FSTAT, SftpPacket::ATTRS)
                    if answer.body[3] & 1 != 0 && answer.body[20] & 0xf0 == 0x80 =>
                {
                    let mut lie = answer.clone();
                    lie.body[4..12].copy_from_slice(&size.to_be_bytes());
                    lie.lie()
                }
                _ => Lie::Truth,
            },
            &format!("size {size}"),
        );
    }
}

#[test]
fn handles_as_long_as_may_be() {
    // The real server does not know them: all that is done with them is refused.
    under(
        |request, answer| match answer.kind {
            SftpPacket::HANDLE => packet(SftpPacket::HANDLE, request).string(&[0; 256]).lie(),
            _ => Lie::Truth,
        },
        "handles",
    );
}

#[test]
fn sessions_that_answer_nothing_any_more_are_made_anew_on_the_same_login() {
    let lied = Lied::start();
    let mut open = File::create(lied.mount.join("Vault/open")).unwrap();
    open.write_all(&content()).unwrap();
    let logins = || lied.server.sshd().log().matches("Accepted publickey").count();
    let before = logins();
    assert!(before > 0);
    lied.server.mute_sessions();
    // What is asked meanwhile goes on, and does not fail.
    let names = fs::read_dir(lied.mount.join("plain")).unwrap();
    assert_eq!(names.count(), 2);
    open.write_all(b"more").unwrap();
    open.sync_all().unwrap();
    drop(open);
    assert_eq!(fs::read(lied.mount.join("Vault/open")).unwrap(), [content(), b"more".to_vec()].concat());
    assert_eq!(logins(), before, "another login may cost its user a code");
    lied.and_all_is_well("mute");
}

fn unmount(scaup: &Scaup, mount: &Mount, force: &[&str]) -> (std::process::Output, Duration) {
    let arguments = [&["unmount"], force].concat();
    let began = Instant::now();
    let done = scaup.run(arguments.iter().map(AsRef::<Path>::as_ref).chain([mount.path()]));
    (done, began.elapsed())
}

/// What can't be had holds nobody who wants to leave.
#[test]
fn unmounting_ends_while_the_server_is_silent() {
    let lied = Lied::start();
    let mut unsaved = File::create(lied.mount.join("plain/unsaved")).unwrap();
    unsaved.write_all(b"unsaved").unwrap();
    lied.server.lie(|_, _| Lie::Bytes(Vec::new()));
    drop(unsaved);
    let (refused, took) = unmount(&lied.scaup, &lied.mount, &[]);
    assert_eq!(refused.status.code(), Some(8), "{}", said(&refused));
    assert!(said(&refused).contains("plain/unsaved"), "{}", said(&refused));
    assert!(took < Duration::from_secs(60), "{took:?}");
    let (forced, _) = unmount(&lied.scaup, &lied.mount, &["--force"]);
    assert!(forced.status.success(), "{}", said(&forced));
}

#[test]
fn with_force_unmounting_ends_within_seconds_whatever_waits_for_the_server() {
    // What waits: nothing; content that is not saved; programs, a removal and a login.
    for waits in 0..3 {
        let server = HostileServer::start();
        let home = server.sshd().home();
        fs::create_dir(home.join("folder")).unwrap();
        fs::write(home.join("file"), "content").unwrap();
        server.sshd().give(&home);
        let scaup = scaup();
        let mount =
            scaup.mount_on(server.sshd(), "").args(["--timeout", "60", "--attr-timeout", "0"]).start();
        assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 2);
        let mut unsaved = (waits > 0).then(|| File::create(mount.join("folder/unsaved")).unwrap());
        if let Some(unsaved) = &mut unsaved {
            unsaved.write_all(b"unsaved").unwrap();
        }
        server.lie(|_, _| Lie::Bytes(Vec::new()));
        let mut programs = Vec::new();
        if waits > 1 {
            for line in ["rm $AT/file", "ls -l $AT/folder", "mv $AT/folder $AT/moved", "echo more > $AT/more"]
            {
                let mut program = Command::new("sh");
                program.args(["-c", line]).env("AT", mount.path()).stderr(std::process::Stdio::null());
                programs.push(program.spawn().unwrap());
            }
            programs.push(scaup.command().arg("login").spawn().unwrap());
        }
        // Closing waits for the server, too.
        let closing = unsaved.map(|unsaved| std::thread::spawn(move || drop(unsaved)));
        std::thread::sleep(Duration::from_millis(300));
        let (forced, took) = unmount(&scaup, &mount, &["--force"]);
        assert!(forced.status.success(), "{waits}: {}", said(&forced));
        assert!(took < Duration::from_secs(6), "{waits}: {took:?}");
        assert_eq!(said(&forced).contains("folder/unsaved"), waits > 0, "{waits}: {}", said(&forced));
        for mut program in programs {
            within(Duration::from_secs(20), move || program.wait().unwrap());
        }
        closing.map(std::thread::JoinHandle::join).transpose().unwrap();
    }
}

/// What the vault format lets a server do unnoticed. What `docs/semantics.md` and `docs/threat-model.md` say of it is
/// true as long as this is.
#[test]
fn a_server_can_exchange_what_a_vault_holds() {
    const CHUNK: usize = 32_768;
    const STORED_CHUNK: u64 = CHUNK as u64 + 28;
    const HEADER: u64 = 68;
    let drive = Drive::mounted();
    let (old, new) = (noise(1, 3 * CHUNK), noise(2, 3 * CHUNK));
    for directory in ["a", "b"] {
        fs::create_dir(drive.vault().join(directory)).unwrap();
    }
    let (here, there) = (drive.store("a/here", b"here"), drive.store("b/there", b"there"));
    let moved = drive.store("a/moved", b"moved");
    let changed = drive.store("changed", &old);
    let (link, mail) = (drive.store("link", b"a file"), drive.store("mail", b"b/there"));
    let stored_old = fs::read(&changed).unwrap();
    let file = File::options().write(true).open(drive.vault().join("changed")).unwrap();
    file.write_all_at(&new[CHUNK..], CHUNK as u64).unwrap();
    file.sync_all().unwrap();
    drop(file);
    // Content of any file for that of any other.
    let content = fs::read(&here).unwrap();
    fs::copy(&there, &here).unwrap();
    fs::write(&there, content).unwrap();
    // Of what was changed in place, single chunks for their older versions.
    let at = HEADER + STORED_CHUNK;
    let chunk = &stored_old[usize::try_from(at).unwrap()..usize::try_from(at + STORED_CHUNK).unwrap()];
    File::options().write(true).open(&changed).unwrap().write_all_at(chunk, at).unwrap();
    // A file for a link to a place in the vault.
    drive.make_link_of(&link, &mail);
    // A name can't be moved to another directory.
    fs::rename(&moved, there.with_file_name(moved.file_name().unwrap())).unwrap();
    // One directory for another, with all that is in it.
    let nodes = shell(&drive.on_server("Vault"), "find \"$PWD/d\" -name dir.c9r");
    let nodes: Vec<&str> = nodes.lines().collect();
    assert_eq!(nodes.len(), 2);
    let (one, two) = (fs::read(nodes[0]).unwrap(), fs::read(nodes[1]).unwrap());
    fs::write(nodes[0], two).unwrap();
    fs::write(nodes[1], one).unwrap();

    let drive = drive.remounted();
    let vault = drive.vault();
    let names = |directory: &str| -> Vec<_> {
        fs::read_dir(vault.join(directory)).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!((names("a"), names("b")), (vec!["there".into()], vec!["here".into()]));
    assert_eq!(fs::read_to_string(vault.join("b/here")).unwrap(), "there");
    assert_eq!(fs::read_to_string(vault.join("a/there")).unwrap(), "here");
    assert_eq!(fs::read_link(vault.join("link")).unwrap(), Path::new("b/there"));
    let mixed = [&old[..2 * CHUNK], &new[2 * CHUNK..]].concat();
    assert!(fs::read(vault.join("changed")).unwrap() == mixed, "one chunk is old, the next one new");
    drive.unmount();
}
