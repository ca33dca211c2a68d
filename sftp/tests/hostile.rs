//! A server that breaks the protocol or lies within it: the client fails in time, in words, and within bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ssh_server;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use scaup_rig::{Lie, SftpPacket, hostile_sftp};
use scaup_sftp::client::Order::AtOnce;
use scaup_sftp::client::{Lane, OpenMode, SftpAttributes, SftpError, SftpSetAttributes, StatusCode};
use scaup_sftp::text::{Line, is_visible};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Longer than anything takes that is not meant to wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a file, a link and a directory, which the real server behind the liar serves.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "0123456789").unwrap();
    fs::create_dir(home.path().join("directory")).unwrap();
    std::os::unix::fs::symlink("file", home.path().join("link")).unwrap();
    home
}

async fn lane(
    home: &Path,
    lie: impl FnMut(&SftpPacket, &SftpPacket) -> Lie + Send + 'static,
) -> Result<Lane, SftpError> {
    timeout(PATIENCE, Lane::open(hostile_sftp(home, lie), PATIENCE)).await.expect("opening hangs")
}

/// A lane to a server that answers requests of type `kind` by `answer`, and all others truly.
async fn lying(
    home: &Path,
    kind: u8,
    mut answer: impl FnMut(u32) -> Lie + Send + 'static,
) -> Result<Lane, SftpError> {
    // The greeting's own question is left alone.
    let limits = |request: &SftpPacket| request.body.ends_with(b"limits@openssh.com");
    lane(
        home,
        move |request, _| {
            if request.kind == kind && !limits(request) { answer(request.id) } else { Lie::Truth }
        },
    )
    .await
}

/// Every request whose answer carries something, by its type.
const ASKING: [u8; 8] = [
    SftpPacket::OPEN,
    SftpPacket::READ,
    SftpPacket::LSTAT,
    SftpPacket::OPENDIR,
    SftpPacket::READDIR,
    SftpPacket::REALPATH,
    SftpPacket::READLINK,
    SftpPacket::EXTENDED,
];

/// Makes a request of type `kind`, and those that it needs before.
async fn ask(lane: &Lane, kind: u8) -> Result<(), SftpError> {
    let asked = async {
        match kind {
            SftpPacket::OPEN => {
                lane.open_file(b"file", OpenMode::Read, &SftpSetAttributes::default()).await.map(drop)
            }
            SftpPacket::READ => {
                let handle = lane.open_file(b"file", OpenMode::Read, &SftpSetAttributes::default()).await?;
                lane.read_at(&handle, 0, 10).await.map(drop)
            }
            SftpPacket::LSTAT => lane.lstat(b"file").await.map(drop),
            SftpPacket::OPENDIR | SftpPacket::READDIR => lane.list(b"directory").await.map(drop),
            SftpPacket::REALPATH => lane.realpath(b".").await.map(drop),
            SftpPacket::READLINK => lane.readlink(b"link").await.map(drop),
            SftpPacket::EXTENDED => lane.statistics(b".").await.map(drop),
            SftpPacket::WRITE => {
                let handle =
                    lane.open_file(b"file", OpenMode::ReadWrite, &SftpSetAttributes::default()).await?;
                lane.write_at(&handle, 0, &Bytes::from_static(b"x")).await
            }
            other => panic!("no request of type {other}"),
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("the request of type {kind} hangs"))
}

/// The lane is given up: everybody hears so at once.
async fn is_given_up(lane: &Lane) {
    timeout(PATIENCE, lane.ended()).await.expect("the lane ends");
    for kind in ASKING {
        let error = ask(lane, kind).await.unwrap_err();
        assert!(matches!(error, SftpError::Protocol(_) | SftpError::Disconnected(_)), "{kind}: {error:?}");
    }
}

fn packet(kind: u8, id: u32) -> SftpPacket {
    SftpPacket::new(kind, id)
}

/// A length, and what is to follow it.
fn framed(length: u32, rest: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], rest].concat()
}

type Answer = fn(u32) -> Lie;

/// Answers that no decoder may take.
const MALFORMED: &[(&str, Answer)] = &[
    ("an empty packet", |_| Lie::Bytes(framed(0, b""))),
    ("a packet of 4 GiB", |_| Lie::Bytes(framed(u32::MAX, &[0; 1000]))),
    ("a packet over the bound", |_| Lie::Bytes(framed(512 * 1024 + 1, &[0; 1000]))),
    ("a type alone", |_| Lie::Bytes(framed(1, &[SftpPacket::STATUS]))),
    ("half an id", |_| Lie::Bytes(framed(3, &[SftpPacket::STATUS, 0, 0]))),
    ("an unknown type", |id| packet(99, id).lie()),
    ("a request's type", |id| packet(SftpPacket::READ, id).string(b"handle").lie()),
    ("a second greeting", |_| packet(SftpPacket::VERSION, 0).u32(3).lie()),
    ("words of a login script", |_| Lie::Bytes(b"You have new mail.\n".to_vec())),
    ("a status without code", |id| packet(SftpPacket::STATUS, id).lie()),
    ("a handle without length", |id| packet(SftpPacket::HANDLE, id).lie()),
    ("a handle of 257 bytes", |id| packet(SftpPacket::HANDLE, id).string(&[b'h'; 257]).lie()),
    ("a handle shorter than it says", |id| packet(SftpPacket::HANDLE, id).u32(5).u32(0).lie()),
    ("data without length", |id| packet(SftpPacket::DATA, id).lie()),
    ("data shorter than it says", |id| packet(SftpPacket::DATA, id).u32(u32::MAX).u32(0).lie()),
    ("names without count", |id| packet(SftpPacket::NAME, id).lie()),
    ("four billion names", |id| packet(SftpPacket::NAME, id).u32(u32::MAX).lie()),
    ("a name fewer than it says", |id| {
        packet(SftpPacket::NAME, id).u32(2).string(b"a").string(b"").u32(0).lie()
    }),
    ("a name without attributes", |id| packet(SftpPacket::NAME, id).u32(1).string(b"a").string(b"").lie()),
    ("a name of 4 GiB", |id| packet(SftpPacket::NAME, id).u32(1).u32(u32::MAX).u32(0).lie()),
    ("attributes without flags", |id| packet(SftpPacket::ATTRS, id).lie()),
    ("attributes that are cut", |id| packet(SftpPacket::ATTRS, id).u32(0xf).u64(1).u32(1).lie()),
    ("four billion extended attributes", |id| {
        packet(SftpPacket::ATTRS, id).u32(0x8000_0000).u32(u32::MAX).string(b"a").string(b"b").lie()
    }),
    ("an answer to what nobody asked", |id| packet(SftpPacket::STATUS, id ^ 0x8000_0000).u32(0).lie()),
    ("an answer to what was answered", |id| packet(SftpPacket::STATUS, id.wrapping_sub(1)).u32(0).lie()),
    ("the end of the stream", |_| Lie::End(Vec::new())),
    ("the end inside a length", |_| Lie::End(vec![0, 0])),
    ("the end inside a packet", |id| {
        let whole = packet(SftpPacket::DATA, id).string(&[1; 100]).bytes();
        Lie::End(whole[..whole.len() - 1].to_vec())
    }),
];

#[tokio::test]
async fn an_answer_against_the_protocol_ends_the_lane() {
    let home = home();
    for (what, answer) in MALFORMED {
        for kind in ASKING.into_iter().chain([SftpPacket::WRITE]) {
            let lane = lying(home.path(), kind, *answer).await.unwrap();
            let error = ask(&lane, kind).await.expect_err(what);
            assert!(
                matches!(error, SftpError::Protocol(_) | SftpError::Disconnected(_)),
                "{what} to {kind}: {error:?}"
            );
            is_given_up(&lane).await;
        }
    }
}

#[tokio::test]
async fn text_before_sftp_starts_is_shown() {
    let long = format!("This account is currently not available, {}", "and never was ".repeat(10));
    for (said, shown) in [
        ("Welcome to this server\nand more\n", "Welcome to this server"),
        ("\nlast login: \u{1b}[31mnow\n", "last login: \u{fffd}[31mnow"),
        (long.as_str(), &long[..60]),
        ("Hi\n\0\0\0\u{5}\u{2}\0\0\0\u{3}", "Hi"),
    ] {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(said.as_bytes()).await.unwrap();
        let opened = timeout(PATIENCE, Lane::open(ours, PATIENCE)).await.expect("it hangs");
        assert_eq!(opened.err(), Some(SftpError::Text(Line::of(shown))), "{said:?}");
    }
}

#[tokio::test]
async fn all_who_wait_hear_that_the_lane_is_given_up() {
    let home = home();
    let mut asked = 0;
    let lane = lying(home.path(), SftpPacket::LSTAT, move |_| {
        asked += 1;
        Lie::Bytes(if asked < 100 { Vec::new() } else { framed(0, b"") })
    })
    .await
    .unwrap();
    let answers = timeout(PATIENCE, join_all((0..100).map(|_| lane.lstat(b"file")))).await.unwrap();
    assert_eq!(answers.len(), 100);
    for answer in answers {
        assert_eq!(answer, Err(SftpError::Protocol("a packet of 0 bytes".to_owned())));
    }
}

#[tokio::test]
async fn an_answer_given_twice_ends_the_lane() {
    let home = home();
    let twice = |id| {
        let once = packet(SftpPacket::ATTRS, id).u32(0).bytes();
        Lie::Bytes([once.clone(), once].concat())
    };
    let lane = lying(home.path(), SftpPacket::LSTAT, twice).await.unwrap();
    assert_eq!(lane.lstat(b"file").await, Ok(SftpAttributes::default()));
    is_given_up(&lane).await;
}

#[tokio::test]
async fn an_answer_of_another_kind_ends_the_lane() {
    let home = home();
    let answers: [(u8, Answer); 5] = [
        (SftpPacket::STATUS, |id| packet(SftpPacket::STATUS, id).u32(0).string(b"").string(b"").lie()),
        (SftpPacket::HANDLE, |id| packet(SftpPacket::HANDLE, id).string(b"h").lie()),
        (SftpPacket::DATA, |id| packet(SftpPacket::DATA, id).string(b"data").lie()),
        (SftpPacket::ATTRS, |id| packet(SftpPacket::ATTRS, id).u32(0).lie()),
        (SftpPacket::NAME, |id| packet(SftpPacket::NAME, id).u32(0).lie()),
    ];
    let right = |request| match request {
        SftpPacket::OPEN | SftpPacket::OPENDIR => SftpPacket::HANDLE,
        SftpPacket::READ => SftpPacket::DATA,
        SftpPacket::LSTAT => SftpPacket::ATTRS,
        SftpPacket::WRITE => SftpPacket::STATUS,
        SftpPacket::EXTENDED => SftpPacket::EXTENDED_REPLY,
        _ => SftpPacket::NAME,
    };
    for kind in ASKING.into_iter().chain([SftpPacket::WRITE]) {
        for (answered, answer) in answers.iter().filter(|(answered, _)| *answered != right(kind)) {
            let lane = lying(home.path(), kind, *answer).await.unwrap();
            let refused = ask(&lane, kind).await;
            assert!(matches!(refused, Err(SftpError::Protocol(_))), "{answered} to {kind}: {refused:?}");
            is_given_up(&lane).await;
        }
    }
    // Names where one has to be.
    for kind in [SftpPacket::REALPATH, SftpPacket::READLINK] {
        let lane = lying(home.path(), kind, |id| packet(SftpPacket::NAME, id).u32(0).lie()).await.unwrap();
        assert!(matches!(ask(&lane, kind).await, Err(SftpError::Protocol(_))));
    }
}

#[tokio::test]
async fn greetings_of_something_else_are_refused_in_words() {
    let home = home();
    let version = |version: u32| packet(SftpPacket::VERSION, 0).u32(version);
    let refused: [(&str, Lie); 10] = [
        ("version 2", version(2).lie()),
        ("version 4", version(4).lie()),
        ("version 6", version(6).lie()),
        ("no version", packet(SftpPacket::VERSION, 0).lie()),
        ("half an extension", version(3).string(b"limits@openssh.com").lie()),
        ("an extension longer than the packet", version(3).u32(u32::MAX).lie()),
        ("a status", packet(SftpPacket::STATUS, 0).u32(4).string(b"no").string(b"").lie()),
        ("an empty packet", Lie::Bytes(framed(0, b""))),
        ("4 GiB", Lie::Bytes(framed(u32::MAX, b"\x02\0\0\0\x03"))),
        ("the end", Lie::End(Vec::new())),
    ];
    for (what, greeting) in refused {
        let error = lane(home.path(), move |_, _| greeting.clone()).await.map(drop).expect_err(what);
        assert!(matches!(error, SftpError::Protocol(_) | SftpError::Disconnected(_)), "{what}: {error:?}");
    }
    // Extensions nobody knows, in any number that fits, do no harm.
    let many = (0..20_000).fold(version(3), |packet, n: u32| packet.string(&n.to_be_bytes()).string(b""));
    let lane = lane(home.path(), move |request, _| match request.kind {
        SftpPacket::INIT => many.lie(),
        _ => Lie::Truth,
    })
    .await
    .unwrap();
    assert!(lane.offers(&7_u32.to_be_bytes()) && !lane.offers(b"limits@openssh.com"));
    ask(&lane, SftpPacket::LSTAT).await.unwrap();
}

#[tokio::test]
async fn a_server_that_never_greets_is_given_up_in_time() {
    let (stream, _held_open) = tokio::io::duplex(1024);
    let deadline = Duration::from_millis(200);
    let opened = timeout(PATIENCE, Lane::open(stream, deadline)).await.expect("opening hangs");
    assert_eq!(opened.map(drop), Err(SftpError::Timeout(deadline)));
}

#[tokio::test]
async fn limits_that_make_no_sense_are_bounded() {
    let home = home();
    let content: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    for limit in [0, 1, 1000, 40_000, u64::from(u32::MAX), u64::MAX] {
        fs::write(home.path().join("large"), &content).unwrap();
        let longest = Arc::new(AtomicU64::new(0));
        let lane = lane(home.path(), {
            let longest = Arc::clone(&longest);
            move |request, _| match request.kind {
                SftpPacket::EXTENDED => (0..4)
                    .fold(packet(SftpPacket::EXTENDED_REPLY, request.id), |packet, _| packet.u64(limit))
                    .lie(),
                SftpPacket::READ => {
                    let asked = request.body.last_chunk().copied().map(u32::from_be_bytes).unwrap();
                    longest.fetch_max(u64::from(asked), Ordering::Relaxed);
                    Lie::Truth
                }
                SftpPacket::WRITE => {
                    longest.fetch_max(request.body.len() as u64, Ordering::Relaxed);
                    Lie::Truth
                }
                _ => Lie::Truth,
            }
        })
        .await
        .unwrap();
        let handle =
            lane.open_file(b"large", OpenMode::ReadWrite, &SftpSetAttributes::default()).await.unwrap();
        assert!(lane.read_at(&handle, 0, content.len()).await.unwrap() == content);
        lane.write_at(&handle, content.len() as u64, &content.clone().into()).await.unwrap();
        assert!(fs::read(home.path().join("large")).unwrap() == content.repeat(2));
        // OpenSSH's packets are of 256 KiB at most.
        assert!(longest.load(Ordering::Relaxed) < 256 * 1024, "{limit}: {longest:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_say_its_limits_after_all_is_used_without() {
    let home = home();
    let refused = |id: u32| packet(SftpPacket::STATUS, id).u32(8).string(b"unsupported").string(b"");
    let lane = lane(home.path(), move |request, _| match request.kind {
        SftpPacket::EXTENDED => refused(request.id).lie(),
        _ => Lie::Truth,
    })
    .await
    .unwrap();
    assert_eq!(lane.open_handles_max(), None);
    ask(&lane, SftpPacket::READ).await.unwrap();
}

#[tokio::test]
async fn a_status_may_have_any_code_and_lack_any_words() {
    let home = home();
    let status = |code: u32| move |id| packet(SftpPacket::STATUS, id).u32(code);
    let words = "x\u{1b}[31m\r\n".repeat(50_000);
    let shown = Line::of(&words);
    assert!(shown.as_str().len() < 1000 && shown.as_str().chars().all(is_visible), "{shown}");
    let cases: [(SftpPacket, StatusCode, String); 6] = [
        (status(31)(0), StatusCode::Other(31), String::new()),
        (status(u32::MAX)(0), StatusCode::Other(u32::MAX), String::new()),
        (status(2)(0).string(b"no such file"), StatusCode::NoSuchFile, "no such file".to_owned()),
        (status(4)(0).u32(1000), StatusCode::Failure, String::new()),
        (status(4)(0).string(b"\xff\xfe").string(b"en"), StatusCode::Failure, "\u{fffd}\u{fffd}".to_owned()),
        (status(3)(0).string(words.as_bytes()).string(b""), StatusCode::PermissionDenied, shown.into()),
    ];
    for (answer, code, message) in cases {
        let lane = lying(home.path(), SftpPacket::LSTAT, move |id| SftpPacket { id, ..answer.clone() }.lie())
            .await
            .unwrap();
        assert_eq!(lane.lstat(b"file").await, Err(SftpError::Status { code, message }));
        // A refusal is no reason to give up.
        ask(&lane, SftpPacket::READ).await.unwrap();
    }
}

#[tokio::test]
async fn names_come_as_they_are_and_hide_no_neighbour() {
    let home = home();
    let long = [b'l'; 5000];
    let names: [&[u8]; 9] = [b"", b".", b"..", b"a/b", b"/etc/passwd", b"nul\0", &long, b"twice", b"twice"];
    let mut batches = [names.to_vec(), vec![b"last"]].map(|names| {
        names.iter().fold(packet(SftpPacket::NAME, 0).u32(names.len() as u32), |packet, name| {
            packet.string(name).string(&[b'-'; 300]).u32(1).u64(u64::MAX)
        })
    });
    batches.reverse();
    let mut batches = batches.to_vec();
    let lane = lying(home.path(), SftpPacket::READDIR, move |id| match batches.pop() {
        Some(batch) => SftpPacket { id, ..batch }.lie(),
        None => packet(SftpPacket::STATUS, id).u32(1).lie(),
    })
    .await
    .unwrap();
    let listed = lane.list(b"directory").await.unwrap();
    let heard: Vec<&[u8]> = listed.iter().map(|entry| entry.name.as_ref()).collect();
    assert_eq!(heard, [&names[..], &[b"last"]].concat());
    assert!(listed.iter().all(|entry| entry.attributes.size == Some(u64::MAX)));
}

#[tokio::test]
async fn a_directory_without_end_is_left() {
    let home = home();
    let sent = Arc::new(AtomicU64::new(0));
    let lane = lying(home.path(), SftpPacket::READDIR, {
        let sent = Arc::clone(&sent);
        move |id| {
            // As many names as fit.
            let names = (0..20_000).fold(packet(SftpPacket::NAME, id).u32(20_000), |packet, _| {
                packet.string(b"n").string(b"").u32(0)
            });
            sent.fetch_add(20_000, Ordering::Relaxed);
            names.lie()
        }
    })
    .await
    .unwrap();
    let listed = timeout(Duration::from_secs(120), lane.list(b"directory")).await.expect("it never ends");
    assert!(matches!(listed, Err(SftpError::NoRoom(_))), "{:?}", listed.map(|names| names.len()));
    assert!(sent.load(Ordering::Relaxed) < 3_000_000);
    ask(&lane, SftpPacket::LSTAT).await.unwrap();
}

#[tokio::test]
async fn names_without_end_fill_no_memory() {
    let home = home();
    let sent = Arc::new(AtomicU64::new(0));
    let lane = lying(home.path(), SftpPacket::READDIR, {
        let sent = Arc::clone(&sent);
        let name = vec![b'n'; 500_000];
        move |id| {
            sent.fetch_add(name.len() as u64, Ordering::Relaxed);
            packet(SftpPacket::NAME, id).u32(1).string(&name).string(b"").u32(0).lie()
        }
    })
    .await
    .unwrap();
    let listed = timeout(Duration::from_secs(120), lane.list(b"directory")).await.expect("it never ends");
    assert!(matches!(listed, Err(SftpError::NoRoom(_))), "{:?}", listed.map(|names| names.len()));
    assert!(sent.load(Ordering::Relaxed) < 100_000_000, "{sent:?} bytes were taken");
}

#[tokio::test]
async fn content_is_as_long_as_asked_or_refused() {
    let home = home();
    let lane = lying(home.path(), SftpPacket::READ, |id| packet(SftpPacket::DATA, id).string(&[7; 11]).lie())
        .await
        .unwrap();
    let handle = lane.open_file(b"file", OpenMode::Read, &SftpSetAttributes::default()).await.unwrap();
    let read = lane.read_at(&handle, 0, 10).await;
    assert!(matches!(read, Err(SftpError::Protocol(_))), "{read:?}");
    is_given_up(&lane).await;
}

#[tokio::test]
async fn content_that_comes_byte_by_byte_gets_no_more_time_than_other_content() {
    let home = home();
    let deadline = Duration::from_millis(500);
    let stream = hostile_sftp(home.path(), |request, _| match request.kind {
        SftpPacket::READ => {
            let byte = packet(SftpPacket::DATA, request.id).string(b"x").bytes();
            Lie::Late(Duration::from_millis(50), byte)
        }
        _ => Lie::Truth,
    });
    let lane = Lane::open(stream, deadline).await.unwrap();
    let handle = lane.open_file(b"file", OpenMode::Read, &SftpSetAttributes::default()).await.unwrap();
    // All of it would take 1,600 s.
    let read = timeout(PATIENCE, lane.read_at(&handle, 0, 32 * 1024)).await.expect("reading hangs");
    assert_eq!(read, Err(SftpError::Timeout(deadline)));
    let start = timeout(PATIENCE, lane.read_start(&handle, 32 * 1024, None)).await.expect("reading hangs");
    assert_eq!(start, Err(SftpError::Timeout(deadline)));
}

#[tokio::test]
async fn names_that_come_one_by_one_get_no_more_time_than_a_short_listing() {
    let home = home();
    let deadline = Duration::from_secs(1);
    let stream = hostile_sftp(home.path(), |request, _| match request.kind {
        SftpPacket::READDIR => {
            let name = packet(SftpPacket::NAME, request.id).u32(1).string(b"n").string(b"").u32(0).bytes();
            Lie::Late(Duration::from_millis(2), name)
        }
        _ => Lie::Truth,
    });
    let lane = Lane::open(stream, deadline).await.unwrap();
    let listed = timeout(PATIENCE, lane.list(b"directory")).await.expect("it never ends");
    assert_eq!(listed.map(|names| names.len()), Err(SftpError::Timeout(deadline)));
}

/// A server that greets, opens whatever it is asked to, and then says nothing.
async fn silent(home: &Path, deadline: Duration) -> Lane {
    let stream = hostile_sftp(home, |request, _| match request.kind {
        SftpPacket::INIT => packet(SftpPacket::VERSION, 0).u32(3).lie(),
        SftpPacket::OPEN => packet(SftpPacket::HANDLE, request.id).string(b"h").lie(),
        _ => Lie::Bytes(Vec::new()),
    });
    Lane::open(stream, deadline).await.unwrap()
}

#[tokio::test]
async fn waiting_for_a_turn_is_part_of_the_deadline() {
    let home = home();
    let deadline = Duration::from_millis(500);
    let lane = silent(home.path(), deadline).await;
    // In turns of as many as may be in flight, they would take 12 s and more.
    let asked = Instant::now();
    let answers = join_all((0..3000).map(|_| lane.lstat(b"file"))).await;
    assert!(answers.iter().all(|answer| *answer == Err(SftpError::Timeout(deadline))));
    assert!(asked.elapsed() < 10 * deadline, "{:?}", asked.elapsed());

    let handle = lane.open_file(b"file", OpenMode::Write, &SftpSetAttributes::default()).await.unwrap();
    // The road has room for 1 MiB at a time.
    let content = Bytes::from(vec![1; 32 * 1024]);
    let asked = Instant::now();
    let writes = join_all((0..2000).map(|_| lane.write_at(&handle, 0, &content))).await;
    assert!(writes.iter().all(|written| *written == Err(SftpError::Timeout(deadline))));
    assert!(asked.elapsed() < 10 * deadline, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn short_answers_are_made_whole() {
    let home = home();
    let content: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    fs::write(home.path().join("file"), &content).unwrap();
    let mut turn = 0_usize;
    let lane = lane(home.path(), move |request, answer| {
        if request.kind != SftpPacket::READ || answer.kind != SftpPacket::DATA {
            return Lie::Truth;
        }
        // Between one byte and nearly all.
        turn += 1;
        let data = &answer.body[4..];
        let given = [1, data.len() / 3, data.len() - data.len() / 4, data.len()][turn % 4].max(1);
        packet(SftpPacket::DATA, request.id).string(&data[..given]).lie()
    })
    .await
    .unwrap();
    let handle = lane.open_file(b"file", OpenMode::Read, &SftpSetAttributes::default()).await.unwrap();
    for (offset, length) in [(0, 100_000), (0, 200_000), (99_990, 10), (5, 70_000)] {
        let expected = &content[offset..content.len().min(offset + length)];
        let read = timeout(PATIENCE, lane.read_at(&handle, offset as u64, length));
        assert!(read.await.expect("reading hangs").unwrap() == expected, "{length} from {offset}");
    }
}

#[tokio::test]
async fn a_reply_that_never_comes_is_waited_for_no_longer_than_the_deadline() {
    let home = home();
    let deadline = Duration::from_millis(300);
    let mut silent = 0;
    let mut owed = Vec::new();
    let stream = hostile_sftp(home.path(), move |request, answer| {
        if request.kind != SftpPacket::LSTAT || silent == 20 {
            // What it owes comes late, before the next answer.
            owed.extend(answer.bytes());
            return Lie::Bytes(std::mem::take(&mut owed));
        }
        silent += 1;
        owed.extend(answer.bytes());
        Lie::Bytes(Vec::new())
    });
    let lane = Lane::open(stream, deadline).await.unwrap();
    let asked = Instant::now();
    let answers = timeout(PATIENCE, join_all((0..20).map(|_| lane.lstat(b"file")))).await.expect("it hangs");
    assert!(answers.iter().all(|answer| *answer == Err(SftpError::Timeout(deadline))), "{answers:?}");
    assert!(asked.elapsed() >= deadline);
    // Late replies do no harm.
    assert_eq!(lane.lstat(b"file").await.unwrap().size, Some(10));
    assert_eq!(lane.readlink(b"link").await.unwrap(), &b"file"[..]);
}

#[tokio::test]
async fn a_server_that_stops_reading_holds_nobody_beyond_the_deadline() {
    let (stream, mut server) = tokio::io::duplex(4096);
    let opened = tokio::spawn(Lane::open(stream, Duration::from_millis(300)));
    let mut init = [0; 9];
    server.read_exact(&mut init).await.unwrap();
    server.write_all(&packet(SftpPacket::VERSION, 0).u32(3).bytes()).await.unwrap();
    let lane = opened.await.unwrap().unwrap();
    // What it takes was asked for right behind the greeting.
    let mut limits = [0; 4 + 1 + 4 + 4 + b"limits@openssh.com".len()];
    server.read_exact(&mut limits).await.unwrap();
    let opening = tokio::spawn({
        let lane = lane.clone();
        async move { lane.open_file(b"f", OpenMode::Write, &SftpSetAttributes::default()).await }
    });
    let mut request = [0; 9];
    server.read_exact(&mut request).await.unwrap();
    let id = u32::from_be_bytes(*request.last_chunk().unwrap());
    server.write_all(&packet(SftpPacket::HANDLE, id).string(b"h").bytes()).await.unwrap();
    let handle = opening.await.unwrap().unwrap();

    // Far more than the stream holds.
    let written = timeout(PATIENCE, lane.write_at(&handle, 0, &vec![1; 500_000].into())).await;
    assert!(matches!(written, Ok(Err(SftpError::Timeout(_)))), "{written:?}");
    assert!(matches!(timeout(PATIENCE, lane.lstat(b"f")).await, Ok(Err(SftpError::Timeout(_)))));
    drop(server);
    assert!(matches!(timeout(PATIENCE, lane.lstat(b"f")).await, Ok(Err(SftpError::Disconnected(_)))));
}

#[tokio::test]
async fn requests_sent_in_a_row_share_one_deadline() {
    let home = home();
    let deadline = Duration::from_millis(500);
    let lane = silent(home.path(), deadline).await;
    let handle = lane.open_file(b"file", OpenMode::Write, &SftpSetAttributes::default()).await.unwrap();
    // Thirty-two WRITEs and what follows them: one after the other they would take 17 s.
    let asked = Instant::now();
    let written =
        lane.write_whole(&handle, &vec![1; 1024 * 1024].into(), &SftpSetAttributes::default(), AtOnce).await;
    assert_eq!(written, Err(SftpError::Timeout(deadline)));
    assert!(asked.elapsed() < 10 * deadline, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_refusal_in_a_row_of_requests_is_heard() {
    let home = home();
    let content = Bytes::from(vec![1; 600_000]);
    for refused in [SftpPacket::WRITE, SftpPacket::FSETSTAT, SftpPacket::EXTENDED, SftpPacket::FSTAT] {
        let mut writes = 0;
        let lane = lying(home.path(), refused, move |id| {
            // Of the three WRITEs the second.
            writes += 1;
            let code = if refused == SftpPacket::WRITE && writes != 2 { 0 } else { 4 };
            packet(SftpPacket::STATUS, id).u32(code).string(b"full").string(b"").lie()
        })
        .await
        .unwrap();
        let handle =
            lane.open_file(b"file", OpenMode::ReadWrite, &SftpSetAttributes::default()).await.unwrap();
        let set = SftpSetAttributes { times: Some((1, 2)), ..SftpSetAttributes::default() };
        let written =
            timeout(PATIENCE, lane.write_whole(&handle, &content, &set, AtOnce)).await.expect("it hangs");
        let expected = SftpError::Status { code: StatusCode::Failure, message: "full".to_owned() };
        assert_eq!(written, Err(expected), "type {refused}");
        assert_eq!(lane.unacknowledged(), 0);
    }
}

#[tokio::test]
async fn packets_may_come_a_byte_at_a_time() {
    let home = home();
    let (ours, theirs) = tokio::io::duplex(1);
    let real = hostile_sftp(home.path(), |_, _| Lie::Truth);
    tokio::spawn(async move {
        let (mut theirs, mut real) = (theirs, real);
        let _ = tokio::io::copy_bidirectional(&mut theirs, &mut real).await;
    });
    let lane = timeout(PATIENCE, Lane::open(ours, PATIENCE)).await.expect("opening hangs").unwrap();
    for kind in ASKING {
        ask(&lane, kind).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_waits_for_a_turn_hears_at_once_that_the_lane_is_gone() {
    let home = home();
    let deadline = 2 * PATIENCE;
    let stream = hostile_sftp(home.path(), |request, _| match request.kind {
        SftpPacket::LSTAT => Lie::End(Vec::new()),
        SftpPacket::READ => Lie::Bytes(Vec::new()),
        _ => Lie::Truth,
    });
    let lane = Lane::open(stream, deadline).await.unwrap();
    let handle = lane.open_file(b"file", OpenMode::Read, &SftpSetAttributes::default()).await.unwrap();
    // Somebody keeps all the room there is beyond the lane's end.
    let kept = timeout(PATIENCE, join_all((0..4).map(|_| lane.room_ahead(256 * 1024)))).await.expect("room");
    assert!(kept.iter().all(Result::is_ok));
    let waiting = join_all((0..3).map(|_| lane.read_at(&handle, 0, 32 * 1024)));
    let ended = async {
        tokio::task::yield_now().await;
        lane.lstat(b"file").await
    };
    let (read, ahead, _) = timeout(PATIENCE, async { futures::join!(waiting, lane.room_ahead(1024), ended) })
        .await
        .expect("it hangs");
    assert!(read.iter().all(|read| matches!(read, Err(SftpError::Disconnected(_)))), "{read:?}");
    assert!(matches!(ahead, Err(SftpError::Disconnected(_))), "{ahead:?}");
}
