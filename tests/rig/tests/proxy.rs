//! The proxy between programs that it must not trouble, and troubles as told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use scaup_rig::{Direction, Proxy, Scaup, Sshd, eventually};

/// A server whose connections the test takes one by one, and a proxy before it.
fn server() -> (Receiver<TcpStream>, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, taken) = channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            if sender.send(stream).is_err() {
                return;
            }
        }
    });
    (taken, Proxy::start("127.0.0.1", port))
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((proxy.host(), proxy.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Both ends of one connection through `proxy`.
fn connection(taken: &Receiver<TcpStream>, proxy: &Proxy) -> (TcpStream, TcpStream) {
    let client = client(proxy);
    (client, taken.recv().unwrap())
}

fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Answers each byte with that byte until the client ends.
fn echo(mut stream: TcpStream) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    });
}

fn was_reset(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(stream.read_to_end(&mut rest), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

/// Runs OpenSSH's `sftp` over `proxy`.
fn sftp(proxy: &Proxy, sshd: &Sshd, script: &str) -> Output {
    let scaup = Scaup::new("/nonexistent");
    let batch = scaup.home().join("batch");
    fs::write(&batch, script).unwrap();
    Command::new("sftp")
        .args(["-q", "-F", "none", "-P", &proxy.port().to_string(), "-i"])
        .arg(sshd.key().path())
        .args(["-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", sshd.known_hosts_file_at(proxy.port()).display()))
        .arg("-b")
        .arg(&batch)
        .arg(format!("{}@{}", sshd.user(), proxy.host()))
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn openssh_transfers_whole_files_over_a_long_road() {
    let sshd = Sshd::key_only().start();
    let proxy = Proxy::start(sshd.host(), sshd.port());
    proxy.delay(Duration::from_millis(5));
    let content: Vec<u8> = (0..4_000_000_u32).flat_map(|n| n.to_le_bytes()).take(5_000_000).collect();
    fs::write(sshd.files().join("big"), &content).unwrap();
    sshd.give(&sshd.files());
    let here = tempfile::tempdir().unwrap();
    let copy = here.path().join("copy");
    let output = sftp(&proxy, &sshd, &format!("get big {0}\nput {0} again\n", copy.display()));
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read(&copy).unwrap() == content && fs::read(sshd.files().join("again")).unwrap() == content);
    for direction in [Direction::ToServer, Direction::ToClient] {
        let passed = proxy.passed(direction);
        assert!((5_000_000..6_000_000).contains(&passed), "{direction:?}: {passed} bytes");
    }
    assert_eq!(proxy.connections(), 1);
    eventually("the connection ends on both sides", Duration::from_secs(10), || {
        proxy.open_connections() == 0
    });
}

#[test]
fn a_delay_holds_each_byte_but_not_the_sender() {
    let (taken, proxy) = server();
    let (mut client, mut server) = connection(&taken, &proxy);
    let delay = Duration::from_millis(500);
    proxy.delay(delay);

    let sent = Instant::now();
    client.write_all(b"?").unwrap();
    exactly(&mut server, 1);
    assert!(sent.elapsed() >= delay);
    server.write_all(b"!").unwrap();
    exactly(&mut client, 1);
    assert!(sent.elapsed() >= 2 * delay);

    // All of this is under way before the first byte can have arrived: the road is long, not narrow.
    proxy.delay(Duration::from_secs(600));
    let content: Vec<u8> = (0..8_000_000_u32).flat_map(u32::to_le_bytes).collect();
    server.write_all(&content).unwrap();
    proxy.delay(Duration::ZERO);
    server.write_all(b"after").unwrap();
    proxy.cut();
    assert_eq!(proxy.passed(Direction::ToClient), 1, "what came later must not overtake");
}

#[test]
fn a_narrow_line_takes_its_time_and_loses_nothing() {
    let (taken, proxy) = server();
    let (mut client, mut server) = connection(&taken, &proxy);
    proxy.rate(Direction::ToServer, Some(1_000_000));
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let started = Instant::now();
    let sender = thread::spawn({
        let content = content.clone();
        move || {
            client.write_all(&content).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        }
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert!(received == content);
    assert!(started.elapsed() > Duration::from_millis(350), "{:?}", started.elapsed());

    // The other direction is as wide as ever, and stands after this one has ended.
    let mut client = sender.join().unwrap();
    server.write_all(b"done").unwrap();
    assert_eq!(exactly(&mut client, 4), b"done");
}

#[test]
fn nothing_passes_a_frozen_road_and_nothing_is_lost_on_it() {
    let (taken, proxy) = server();
    let (mut client, mut server) = connection(&taken, &proxy);
    proxy.freeze();
    client.write_all(b"late").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Who connects now hears nothing, not even a refusal.
    let _second = self::client(&proxy);
    eventually("the second is taken", Duration::from_secs(10), || proxy.open_connections() == 2);
    assert_eq!(proxy.passed(Direction::ToServer), 0);

    proxy.thaw();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"late");
}

#[test]
fn a_cut_resets_both_ends_even_of_a_frozen_road() {
    let (taken, proxy) = server();
    let (mut client, mut server) = connection(&taken, &proxy);
    client.write_all(b"x").unwrap();
    exactly(&mut server, 1);
    proxy.freeze();
    proxy.cut();
    assert_eq!(proxy.open_connections(), 0);
    assert!(was_reset(&mut client) && was_reset(&mut server));

    proxy.thaw();
    let (mut client, mut server) = connection(&taken, &proxy);
    client.write_all(b"y").unwrap();
    assert_eq!(exactly(&mut server, 1), b"y");
    drop(proxy);
    assert!(was_reset(&mut client) && was_reset(&mut server), "the end of the proxy is the end of all");
}

#[test]
fn a_reset_of_one_end_reaches_the_other() {
    let sshd = Sshd::key_only().start();
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mut client = client(&proxy);
    assert_eq!(exactly(&mut client, 4), b"SSH-");
    sshd.cut_connections();
    let mut rest = Vec::new();
    // sshd's process is killed: its kernel says FIN or RST, and so does the proxy.
    let _ = client.read_to_end(&mut rest);
    drop(client);
    eventually("the connection ends", Duration::from_secs(10), || proxy.open_connections() == 0);
}

#[test]
fn who_is_refused_hears_so_and_the_port_is_kept() {
    let (taken, proxy) = server();
    let (mut client, mut server) = connection(&taken, &proxy);
    for _ in 0..3 {
        proxy.refuse();
        let refused = TcpStream::connect((proxy.host(), proxy.port())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(TcpListener::bind((proxy.host(), proxy.port())).is_err(), "the port is free for others");
        client.write_all(b"x").unwrap();
        assert_eq!(exactly(&mut server, 1), b"x");

        proxy.accept();
        let (mut client, mut server) = connection(&taken, &proxy);
        client.write_all(b"y").unwrap();
        assert_eq!(exactly(&mut server, 1), b"y");
    }
    assert_eq!(proxy.connections(), 4);
}

#[test]
fn the_nth_byte_of_a_direction_is_its_last() {
    let (taken, proxy) = server();
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (mut client, mut server) = connection(&taken, &proxy);
        let (from, to) = match direction {
            Direction::ToServer => (&mut client, &mut server),
            Direction::ToClient => (&mut server, &mut client),
        };
        from.write_all(b"before").unwrap();
        exactly(to, 6);
        proxy.reset_after(direction, 10);
        from.write_all(b"0123").unwrap();
        assert_eq!(exactly(to, 4), b"0123");
        from.write_all(b"456789 and no more").unwrap();
        let mut received = Vec::new();
        let ended = to.read_to_end(&mut received);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(received, b"456789");
        assert!(was_reset(from));
        assert_eq!(proxy.passed(direction), 16);
    }
    // It happened once; taken back, it does not happen.
    let (mut client, mut server) = connection(&taken, &proxy);
    proxy.reset_after(Direction::ToServer, 1);
    proxy.reset_never();
    client.write_all(&[1; 100]).unwrap();
    exactly(&mut server, 100);
    assert_eq!(proxy.open_connections(), 1);
}

#[test]
fn the_next_connection_leads_to_another_server() {
    let (one, two) = (Sshd::key_only().start(), Sshd::key_only().start());
    fs::write(one.files().join("one"), "").unwrap();
    fs::write(two.files().join("two"), "").unwrap();
    let proxy = Proxy::start(one.host(), one.port());
    let output = sftp(&proxy, &one, "ls\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains("one"), "{output:?}");
    proxy.redirect(two.host(), two.port());
    let output = sftp(&proxy, &two, "ls\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains("two"), "{output:?}");
    // Nobody there any more: the client is told so, not left alone.
    proxy.redirect(one.host(), 1);
    assert!(was_reset(&mut client(&proxy)));
}

#[test]
fn lockstep_counts_what_waits_for_an_answer() {
    let (taken, proxy) = server();
    let (mut client, server) = connection(&taken, &proxy);
    echo(server);
    // Longer than any pause of this thread between two writes, even on a busy machine.
    proxy.lockstep(Some(Duration::from_millis(200)));
    for _ in 0..5 {
        client.write_all(b"one at a time").unwrap();
        exactly(&mut client, 13);
    }
    assert_eq!(proxy.round_trips(), 5);

    for _ in 0..20 {
        client.write_all(b"all at once").unwrap();
    }
    exactly(&mut client, 20 * 11);
    assert_eq!(proxy.round_trips(), 6);

    proxy.lockstep(None);
    client.write_all(b"not counted").unwrap();
    exactly(&mut client, 11);
    assert_eq!(proxy.round_trips(), 6);
}

#[test]
fn lockstep_lets_words_pass_that_get_no_answer() {
    let (taken, proxy) = server();
    let (mut client, mut server) = connection(&taken, &proxy);
    proxy.lockstep(Some(Proxy::QUIET));
    server.write_all(b"hello, unasked").unwrap();
    exactly(&mut client, 14);
    assert_eq!(proxy.round_trips(), 0);
    client.write_all(b"no answer to this").unwrap();
    exactly(&mut server, 17);
    client.write_all(b"nor to this").unwrap();
    exactly(&mut server, 11);
    client.write_all(b"but to this").unwrap();
    exactly(&mut server, 11);
    server.write_all(b"yes").unwrap();
    exactly(&mut client, 3);
    assert_eq!(proxy.round_trips(), 1);
    // The last words arrive although nobody replies to them.
    client.write_all(b"bye").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
}

#[test]
fn lockstep_counts_the_same_for_openssh_each_time() {
    let sshd = Sshd::key_only().start();
    let trips = |commands: usize| {
        let proxy = Proxy::start(sshd.host(), sshd.port());
        proxy.lockstep(Some(Duration::from_millis(40)));
        // `version` says nothing to the server, and an empty batch is refused.
        let script = "version\n".to_owned() + &"pwd\nchmod 700 .\n".repeat(commands);
        let output = sftp(&proxy, &sshd, &script);
        assert!(output.status.success(), "{output:?}");
        proxy.round_trips()
    };
    let (none, five, ten) = (trips(0), trips(5), trips(10));
    assert!(none > 0);
    assert_eq!(ten - five, five - none, "{none}, {five}, {ten}");
    assert!((five - none).is_multiple_of(5) && five > none, "{none}, {five}, {ten}");
}
