//! The client against OpenSSH's own `sftp-server` over a pipe; what it did is looked at by the system's own calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{join_all, try_join_all};
use scaup_rig::{Lie, SftpPacket, hostile_sftp, need};
use scaup_sftp::client::{
    FileHandle, Lane, LinkOrder, OpenMode, Order, SftpError, SftpSetAttributes, StatusCode,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a directory of its own, and a lane to it.
struct Server {
    lane: Lane,
    process: Child,
    home: TempDir,
}

impl Server {
    async fn start(arguments: &[&str]) -> Self {
        need(&[("/usr/lib/openssh/sftp-server", "openssh-sftp-server")]);
        let home = tempfile::tempdir().unwrap();
        let mut process = Command::new("/usr/lib/openssh/sftp-server")
            .args(arguments)
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stream = tokio::io::join(process.stdout.take().unwrap(), process.stdin.take().unwrap());
        let lane = Lane::open(stream, PATIENCE).await.unwrap();
        Self { lane, process, home }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Files and directories that the server has open, its own three streams and its like not counted.
    fn open_in_home(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.process.id().unwrap());
        fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| target.starts_with(self.home.path()))
            .count()
    }
}

/// A lane to a server that knows no extension at all: plain version 3.
async fn plain(home: &Path) -> Lane {
    let stream = hostile_sftp(home, |request, _| match request.kind {
        SftpPacket::INIT => SftpPacket::new(SftpPacket::VERSION, 0).u32(3).lie(),
        _ => Lie::Truth,
    });
    Lane::open(stream, PATIENCE).await.unwrap()
}

fn nothing() -> SftpSetAttributes {
    SftpSetAttributes::default()
}

fn mode(mode: u32) -> SftpSetAttributes {
    SftpSetAttributes { permissions: Some(mode), ..nothing() }
}

fn pattern(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).take(length).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T, SftpError>) -> StatusCode {
    result.unwrap_err().code().expect("the server refuses")
}

async fn read(lane: &Lane, handle: &FileHandle, offset: u64, length: usize) -> Bytes {
    lane.read_at(handle, offset, length).await.unwrap()
}

#[tokio::test]
async fn a_file_lives_from_making_to_removing() {
    let server = Server::start(&["-u", "0"]).await;
    let lane = &server.lane;
    lane.mkdir(b"d", &mode(0o750)).await.unwrap();
    assert_eq!(fs::metadata(server.at("d")).unwrap().permissions().mode(), 0o040_750);

    let handle = lane.open_file(b"d/f", OpenMode::CreateNew, &mode(0o640)).await.unwrap();
    lane.write_at(&handle, 3, &Bytes::from_static(b"content")).await.unwrap();
    lane.fsync(&handle).await.unwrap();
    assert_eq!(fs::read(server.at("d/f")).unwrap(), b"\0\0\0content");
    assert_eq!(read(lane, &handle, 0, 100).await, &b"\0\0\0content"[..]);

    let set = SftpSetAttributes { size: Some(5), times: Some((1, u32::MAX)), ..mode(0o600) };
    lane.set_open_attributes(&handle, &set).await.unwrap();
    let found = fs::metadata(server.at("d/f")).unwrap();
    let attributes = lane.fstat(&handle).await.unwrap();
    assert_eq!(attributes, lane.lstat(b"d/f").await.unwrap());
    assert_eq!((found.len(), found.mode(), found.atime(), found.mtime()), (5, 0o100_600, 1, 4_294_967_295));
    assert_eq!(attributes.size, Some(5));
    assert_eq!(attributes.permissions, Some(0o100_600));
    assert_eq!(attributes.times, Some((1, u32::MAX)));
    assert_eq!(attributes.owner, Some((found.uid(), found.gid())));
    lane.close(&handle).await.unwrap();
    lane.close(&handle).await.unwrap();

    // By path: with a size (a SETSTAT) and without (the extension, which does not follow links).
    lane.set_attributes(b"d/f", &SftpSetAttributes { size: Some(2), ..nothing() }).await.unwrap();
    assert_eq!(fs::read(server.at("d/f")).unwrap(), b"\0\0");
    lane.symlink(b"f", b"d/link", LinkOrder::TargetFirst).await.unwrap();
    lane.set_attributes(b"d/link", &SftpSetAttributes { times: Some((7, 8)), ..nothing() }).await.unwrap();
    assert_eq!(fs::symlink_metadata(server.at("d/link")).unwrap().mtime(), 8);
    assert_ne!(fs::metadata(server.at("d/f")).unwrap().mtime(), 8);
    assert_eq!(fs::read_link(server.at("d/link")).unwrap(), Path::new("f"));
    assert_eq!(lane.readlink(b"d/link").await.unwrap(), &b"f"[..]);
    assert_eq!(lane.lstat(b"d/link").await.unwrap().permissions.unwrap() & 0o170_000, 0o120_000);
    let home = server.home.path().canonicalize().unwrap();
    assert_eq!(lane.realpath(b"d/link").await.unwrap(), home.join("d/f").as_os_str().as_bytes());

    lane.hard_link(b"d/f", b"d/twin").await.unwrap();
    assert_eq!(fs::metadata(server.at("d/twin")).unwrap().nlink(), 2);
    fs::write(server.at("other"), "other").unwrap();
    assert_eq!(code(lane.rename(b"other", b"d/f").await), StatusCode::Failure);
    lane.posix_rename(b"other", b"d/f").await.unwrap();
    assert_eq!(fs::read(server.at("d/f")).unwrap(), b"other");
    lane.rename(b"d/f", b"free").await.unwrap();
    assert!(server.at("free").exists() && !server.at("d/f").exists());

    for name in [&b"d/link"[..], b"d/twin", b"free"] {
        lane.remove(name).await.unwrap();
    }
    lane.rmdir(b"d").await.unwrap();
    assert_eq!(fs::read_dir(server.home.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn flags_open_what_they_say_and_no_more() {
    let server = Server::start(&[]).await;
    let lane = &server.lane;
    fs::write(server.at("f"), "content").unwrap();
    let handle = lane.open_file(b"f", OpenMode::Read, &nothing()).await.unwrap();
    assert!(lane.write_at(&handle, 0, &Bytes::from_static(b"x")).await.is_err());
    let handle = lane.open_file(b"f", OpenMode::ReadWrite, &nothing()).await.unwrap();
    assert_eq!(read(lane, &handle, 0, 10).await, &b"content"[..]);
    lane.write_at(&handle, 0, &Bytes::from_static(b"C")).await.unwrap();
    assert_eq!(fs::read(server.at("f")).unwrap(), b"Content", "opening must not truncate");
    assert_eq!(
        code(lane.open_file(b"f", OpenMode::CreateNew, &nothing()).await.map(drop)),
        StatusCode::Failure
    );
    for flags in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(code(lane.open_file(b"g", flags, &nothing()).await.map(drop)), StatusCode::NoSuchFile);
    }
}

#[tokio::test]
async fn names_are_any_bytes() {
    let server = Server::start(&[]).await;
    let lane = &server.lane;
    let mut names: Vec<Vec<u8>> =
        (1..=255_u8).filter(|byte| !matches!(byte, b'/' | b'.')).map(|byte| vec![byte]).collect();
    names.extend([
        b"...".to_vec(),
        b" leading and trailing ".to_vec(),
        b"\xff\xfe\x80 not UTF-8 \xc3".to_vec(),
        "e\u{301} and \u{e9}".into(),
        b"line\nfeed\r".to_vec(),
        vec![b'x'; 255],
        [0xf0, 0x9f].repeat(127),
    ]);
    for (length, name) in names.iter().enumerate() {
        let handle = lane.open_file(name, OpenMode::CreateNew, &nothing()).await.unwrap();
        lane.write_at(&handle, 0, &vec![1; length].into()).await.unwrap();
    }
    let mut on_disk: Vec<Vec<u8>> = fs::read_dir(server.home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    let listed = lane.list(b".").await.unwrap();
    let mut heard: Vec<Vec<u8>> =
        listed.iter().map(|entry| entry.name.to_vec()).filter(|name| name != b"." && name != b"..").collect();
    on_disk.sort();
    heard.sort();
    names.sort();
    assert!(names == on_disk && names == heard);
    for entry in listed.iter().filter(|entry| !matches!(entry.name.as_ref(), b"." | b"..")) {
        let found = fs::symlink_metadata(server.home.path().join(OsStr::from_bytes(&entry.name))).unwrap();
        assert_eq!(entry.attributes.size, Some(found.len()));
        assert_eq!(entry.attributes.permissions, Some(found.mode()));
        assert_eq!(lane.lstat(&entry.name).await.unwrap(), entry.attributes);
    }
    // A link may lead to any bytes too.
    lane.symlink(b"\xff/\x01\n", b"link", LinkOrder::TargetFirst).await.unwrap();
    assert_eq!(lane.readlink(b"link").await.unwrap(), &b"\xff/\x01\n"[..]);
    for name in &names {
        lane.remove(name).await.unwrap();
    }
}

#[tokio::test]
async fn three_hundred_handles_are_kept_apart() {
    let server = Server::start(&[]).await;
    let lane = &server.lane;
    for number in 0..300 {
        fs::write(server.at(&number.to_string()), format!("content of {number}")).unwrap();
    }
    // OpenSSH numbers its handles: from the 128th on, their bytes are not UTF-8.
    let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let handles = try_join_all(
        names
            .iter()
            .map(|name| async { lane.open_file(name.as_bytes(), OpenMode::ReadWrite, &nothing()).await }),
    )
    .await
    .unwrap();
    assert_eq!(server.open_in_home(), 300);
    for (number, handle) in handles.iter().enumerate().rev() {
        assert_eq!(read(lane, handle, 0, 100).await, format!("content of {number}").as_bytes());
        lane.write_at(handle, 0, &format!("CONTENT OF {number}").into()).await.unwrap();
    }
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(
            fs::read(server.at(&number.to_string())).unwrap(),
            format!("CONTENT OF {number}").as_bytes()
        );
        lane.close(handle).await.unwrap();
    }
    assert_eq!(server.open_in_home(), 0);
}

#[tokio::test]
async fn what_is_dropped_is_closed() {
    let server = Server::start(&[]).await;
    let lane = &server.lane;
    fs::write(server.at("f"), "content").unwrap();
    fs::create_dir(server.at("d")).unwrap();

    drop(lane.open_file(b"f", OpenMode::Read, &nothing()).await.unwrap());
    lane.list(b"d").await.unwrap();
    // Answered after whatever was sent before it.
    lane.lstat(b"f").await.unwrap();
    assert_eq!(server.open_in_home(), 0);

    // The caller goes away before the answer.
    assert!(lane.open_file(b"f", OpenMode::Read, &nothing()).now_or_never().is_none());
    // The answer is there, but its caller goes away before it has a look.
    let nothing = nothing();
    let mut waiting = Box::pin(lane.open_file(b"f", OpenMode::Read, &nothing));
    assert!((&mut waiting).now_or_never().is_none());
    lane.lstat(b"f").await.unwrap();
    drop(waiting);
    lane.lstat(b"f").await.unwrap();
    assert_eq!(server.open_in_home(), 0);
}

#[tokio::test]
async fn ten_thousand_names_are_all_heard_once() {
    let server = Server::start(&[]).await;
    let mut expected = HashMap::new();
    fs::create_dir(server.at("d")).unwrap();
    for number in 0..10_000_u64 {
        let name = format!("{number:0width$}", width = 5 + usize::try_from(number % 150).unwrap());
        fs::File::create(server.at("d").join(&name)).unwrap().set_len(number).unwrap();
        expected.insert(name.into_bytes(), Some(number));
    }
    let before = server.lane.counters().requests;
    let listed = server.lane.list(b"d").await.unwrap();
    assert_eq!(listed.len(), 10_002);
    let heard: HashMap<Vec<u8>, Option<u64>> = listed
        .into_iter()
        .filter(|entry| !matches!(entry.name.as_ref(), b"." | b".."))
        .map(|entry| (entry.name.to_vec(), entry.attributes.size))
        .collect();
    assert!(heard == expected);
    // 100 names in each reply, and some requests without a result, because they are sent at once.
    let requests = server.lane.counters().requests - before;
    assert!((103..150).contains(&requests), "{requests} requests");
    // Who wants no more than a thousand does not fetch them all to find that there are more.
    let before = server.lane.counters().requests;
    assert_eq!(server.lane.list_each(b"d", 1000, &mut |_| Ok(())).await, Err(SftpError::TooManyNames(1000)));
    let requests = server.lane.counters().requests - before;
    assert!((11..20).contains(&requests), "{requests} requests");
    let mut count = 0;
    let mut counts = |_| {
        count += 1;
        Ok(())
    };
    server.lane.list_each(b"d", 10_002, &mut counts).await.unwrap();
    assert_eq!(count, 10_002);
}

/// Writes and reads `length` bytes whole, in ranges that cross every border of messages, and over the end.
async fn large_content(lane: &Lane, home: &Path, piece: usize) {
    let content = pattern(5 * piece + 1);
    let handle = lane.open_file(b"large", OpenMode::CreateNew, &nothing()).await.unwrap();
    lane.write_at(&handle, 0, &content.clone().into()).await.unwrap();
    assert!(fs::read(home.join("large")).unwrap() == content);
    assert!(read(lane, &handle, 0, content.len()).await == content);
    assert!(read(lane, &handle, 0, 3 * content.len()).await == content, "the end is the end");
    for start in [0, 1, piece - 1, piece, piece + 1, 4 * piece + 7, content.len() - 1, content.len()] {
        for length in [0, 1, piece - 1, piece, piece + 1, 2 * piece, 2 * piece + 1] {
            let expected = &content[start..content.len().min(start + length)];
            let got = read(lane, &handle, start as u64, length).await;
            assert!(got == expected, "{length} bytes from {start}: {} came", got.len());
        }
    }
    assert!(read(lane, &handle, 1 << 40, 1000).await.is_empty());

    // Many at once, out of order, each at its place.
    let places: Vec<usize> = (0..content.len()).step_by(10_007).collect();
    let writes = places.iter().rev().map(|&at| {
        let end = content.len().min(at + 10_007);
        let flipped: Vec<u8> = content[at..end].iter().map(|byte| !byte).collect();
        let handle = &handle;
        async move { lane.write_at(handle, at as u64, &flipped.into()).await }
    });
    try_join_all(writes).await.unwrap();
    let flipped: Vec<u8> = content.iter().map(|byte| !byte).collect();
    assert!(fs::read(home.join("large")).unwrap() == flipped);
    assert_eq!(lane.unacknowledged(), 0);

    // Far behind the end: a hole.
    lane.write_at(&handle, 1 << 33, &Bytes::from_static(b"far")).await.unwrap();
    assert_eq!(lane.fstat(&handle).await.unwrap().size, Some((1 << 33) + 3));
    let mut far = [1; 5];
    fs::File::open(home.join("large")).unwrap().read_exact_at(&mut far, (1 << 33) - 2).unwrap();
    assert_eq!(&far, b"\0\0far");
}

#[tokio::test]
async fn large_content_goes_in_the_lengths_that_the_server_says() {
    let server = Server::start(&[]).await;
    // limits@openssh.com of OpenSSH: 256 KiB packets, of which 1 KiB is for all but the content.
    large_content(&server.lane, server.home.path(), 255 * 1024).await;
    assert!(server.lane.open_handles_max().is_some_and(|max| max > 100));
}

#[tokio::test]
async fn large_content_goes_in_32_kib_where_the_server_says_nothing() {
    let home = tempfile::tempdir().unwrap();
    let lane = plain(home.path()).await;
    large_content(&lane, home.path(), 32 * 1024).await;
    assert_eq!(lane.open_handles_max(), None);
}

#[tokio::test]
async fn a_file_is_written_whole_and_its_start_read_with_its_attributes() {
    let server = Server::start(&[]).await;
    let lane = &server.lane;
    let set = SftpSetAttributes { times: Some((3, 4)), ..mode(0o640) };
    for length in [0, 1, 1000, 255 * 1024, 255 * 1024 + 1, 700_000] {
        let content = pattern(length);
        let name = length.to_string();
        let handle = lane.open_file(name.as_bytes(), OpenMode::CreateNew, &nothing()).await.unwrap();
        let written = lane.write_whole(&handle, &content.clone().into(), &set, Order::AtOnce).await.unwrap();
        let attributes = written.attributes;
        let found = fs::metadata(server.at(&name)).unwrap();
        assert!(fs::read(server.at(&name)).unwrap() == content);
        assert_eq!((found.mode(), found.mtime(), found.len()), (0o100_640, 4, length as u64));
        assert_eq!((attributes.size, attributes.times), (Some(length as u64), Some((3, 4))));
        for start in [1, 999, 300_000, 800_000] {
            let (attributes, read) = lane.read_start(&handle, start, None).await.unwrap();
            assert_eq!(attributes.size, Some(length as u64));
            assert!(read == content[..start.min(length)], "{start} of {length}: {} came", read.len());
        }
    }
    assert_eq!(lane.unacknowledged(), 0);
}

#[tokio::test]
async fn a_thousand_requests_at_once_get_their_own_answers() {
    let server = Server::start(&[]).await;
    for number in 0..1000 {
        fs::File::create(server.at(&number.to_string())).unwrap().set_len(number).unwrap();
    }
    let names: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let answers = join_all(names.iter().map(|name| server.lane.lstat(name.as_bytes()))).await;
    for (number, answer) in answers.into_iter().enumerate() {
        if number < 1000 {
            assert_eq!(answer.unwrap().size, Some(number as u64));
        } else {
            assert_eq!(code(answer), StatusCode::NoSuchFile);
        }
    }
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let server = Server::start(&[]).await;
    let lane = &server.lane;
    fs::create_dir_all(server.at("full/inside")).unwrap();
    fs::write(server.at("file"), "x").unwrap();
    let too_long = [b'x'; 256];

    assert_eq!(code(lane.lstat(b"missing").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.lstat(b"missing/x").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.list(b"missing").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.remove(b"missing").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.rmdir(b"missing").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.readlink(b"missing").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.posix_rename(b"missing", b"x").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.hard_link(b"missing", b"x").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.mkdir(b"missing/x", &nothing()).await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.set_attributes(b"missing", &mode(0o600)).await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.statistics(b"missing").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.lstat(b"file/x").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.list(b"file").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.lstat(&too_long).await), StatusCode::BadMessage);
    assert_eq!(code(lane.mkdir(&too_long, &nothing()).await), StatusCode::BadMessage);
    assert_eq!(code(lane.readlink(b"file").await), StatusCode::BadMessage);
    assert_eq!(code(lane.mkdir(b"full", &nothing()).await), StatusCode::Failure);
    assert_eq!(code(lane.rmdir(b"full").await), StatusCode::Failure);
    assert_eq!(code(lane.rmdir(b"file").await), StatusCode::NoSuchFile);
    assert_eq!(code(lane.remove(b"full").await), StatusCode::Failure);
    assert_eq!(code(lane.symlink(b"x", b"file", LinkOrder::TargetFirst).await), StatusCode::Failure);
    assert_eq!(code(lane.posix_rename(b"full", b"full/inside/x").await), StatusCode::BadMessage);
    assert_eq!(
        code(lane.open_file(b"full", OpenMode::ReadWrite, &nothing()).await.map(drop)),
        StatusCode::Failure
    );
    let SftpError::Status { message, .. } = lane.lstat(b"missing").await.unwrap_err() else { unreachable!() };
    assert_eq!(message, "No such file");
}

#[tokio::test]
async fn a_read_only_server_refuses_every_change_and_reads() {
    let server = Server::start(&["-R"]).await;
    let lane = &server.lane;
    fs::write(server.at("f"), "content").unwrap();
    let refused = StatusCode::PermissionDenied;
    let handle = lane.open_file(b"f", OpenMode::Read, &nothing()).await.unwrap();
    assert_eq!(read(lane, &handle, 0, 10).await, &b"content"[..]);
    assert_eq!(code(lane.write_at(&handle, 0, &Bytes::from_static(b"x")).await), refused);
    assert_eq!(code(lane.set_open_attributes(&handle, &mode(0o600)).await), refused);
    for flags in [OpenMode::ReadWrite, OpenMode::CreateNew] {
        assert_eq!(code(lane.open_file(b"f", flags, &nothing()).await.map(drop)), refused);
    }
    assert_eq!(code(lane.mkdir(b"d", &nothing()).await), refused);
    assert_eq!(code(lane.rmdir(b"d").await), refused);
    assert_eq!(code(lane.remove(b"f").await), refused);
    assert_eq!(code(lane.rename(b"f", b"g").await), refused);
    assert_eq!(code(lane.symlink(b"f", b"g", LinkOrder::TargetFirst).await), refused);
    assert_eq!(code(lane.set_attributes(b"f", &mode(0o600)).await), refused);
    // OpenSSH does not announce what it would refuse anyway.
    assert!(matches!(lane.fsync(&handle).await, Err(SftpError::NotOffered(_))));
    assert!(matches!(lane.posix_rename(b"f", b"g").await, Err(SftpError::NotOffered(_))));
    assert!(matches!(lane.hard_link(b"f", b"g").await, Err(SftpError::NotOffered(_))));
    assert_eq!(fs::read(server.at("f")).unwrap(), b"content");
}

#[tokio::test]
async fn extensions_are_used_only_where_they_are_offered() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("f"), "content").unwrap();
    std::os::unix::fs::symlink("f", home.path().join("link")).unwrap();
    let lane = plain(home.path()).await;
    let handle = lane.open_file(b"f", OpenMode::ReadWrite, &nothing()).await.unwrap();
    let before = lane.counters();
    assert_eq!(lane.fsync(&handle).await.unwrap_err(), SftpError::NotOffered("fsync@openssh.com"));
    assert_eq!(
        lane.posix_rename(b"f", b"g").await.unwrap_err(),
        SftpError::NotOffered("posix-rename@openssh.com")
    );
    assert_eq!(lane.hard_link(b"f", b"g").await.unwrap_err(), SftpError::NotOffered("hardlink@openssh.com"));
    assert_eq!(lane.statistics(b".").await.unwrap_err(), SftpError::NotOffered("statvfs@openssh.com"));
    assert_eq!(lane.counters(), before, "nothing was said to the server");
    lane.set_attributes(b"f", &SftpSetAttributes { times: Some((5, 6)), ..nothing() }).await.unwrap();
    assert_eq!(fs::metadata(home.path().join("f")).unwrap().mtime(), 6);
    // OpenSSH makes a hard link and removes the old name: it can't replace.
    fs::write(home.path().join("taken"), "").unwrap();
    assert_eq!(code(lane.rename(b"f", b"taken").await), StatusCode::Failure);

    // OpenSSH can be told to do without one of them.
    let server = Server::start(&["-P", "posix-rename"]).await;
    assert!(matches!(server.lane.posix_rename(b"f", b"g").await, Err(SftpError::NotOffered(_))));
    assert!(server.lane.offers(b"fsync@openssh.com"));
}

#[tokio::test]
async fn capacity_is_what_the_system_says() {
    let server = Server::start(&[]).await;
    let found = rustix::fs::statvfs(server.home.path()).unwrap();
    let heard = server.lane.statistics(b".").await.unwrap();
    assert_eq!(
        (heard.block_size, heard.blocks, heard.files, heard.name_max),
        (found.f_frsize, found.f_blocks, found.f_files, found.f_namemax)
    );
    assert!(heard.blocks_available <= heard.blocks_free && heard.blocks_free <= heard.blocks);
    assert!(heard.files_free <= heard.files);
}

#[tokio::test]
async fn every_byte_is_counted() {
    let server = Server::start(&[]).await;
    let before = server.lane.counters();
    assert_eq!(code(server.lane.lstat(b"missing").await), StatusCode::NoSuchFile);
    let after = server.lane.counters();
    assert_eq!(after.requests - before.requests, 1);
    // Length, type, id, and the name; length, type, id, code, "No such file" and an empty language.
    assert_eq!(after.bytes_sent - before.bytes_sent, 4 + 1 + 4 + 4 + 7);
    assert_eq!(after.bytes_received - before.bytes_received, 4 + 1 + 4 + 4 + 4 + 12 + 4);
}

#[tokio::test]
async fn the_end_of_the_server_ends_all_that_waits() {
    let mut server = Server::start(&[]).await;
    fs::write(server.at("f"), vec![0; 1000]).unwrap();
    let handle = server.lane.open_file(b"f", OpenMode::Read, &nothing()).await.unwrap();
    server.process.kill().await.unwrap();
    let lane = &server.lane;
    let (one, two) = tokio::join!(lane.lstat(b"f"), lane.read_at(&handle, 0, 10));
    assert!(matches!(one, Err(SftpError::Disconnected(_))), "{one:?}");
    assert!(matches!(two, Err(SftpError::Disconnected(_))), "{two:?}");
    assert!(matches!(lane.ended().await, SftpError::Disconnected(_)));
    assert!(matches!(lane.list(b".").await, Err(SftpError::Disconnected(_))));
}
