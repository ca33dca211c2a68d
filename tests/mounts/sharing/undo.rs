//! Whatever goes wrong at whichever step: nothing is left on the server, or it is named with the command that removes
//! it.

use std::time::Duration;

use rustix::process::Signal;
use scaup_rig::eventually;
use scaup_rig::nextcloud::{Fault, Version, What};

use super::cloud::Cloud;
use crate::support::terminal::Terminal;
use crate::support::{ends_with, noise, said, signal};

/// Longer than one request takes: it is sent in parts.
const LONG: usize = 36 << 20;

/// How many requests one share takes.
fn steps(cloud: &Cloud, file: &str) -> u32 {
    let before = cloud.server.requests().len();
    let shared = cloud.shared(file, &[]);
    let steps = cloud.requests_since(before).len();
    ends_with(&cloud.scaup, 0, ["share", "revoke", shared["id"].as_str().unwrap()]);
    assert!(cloud.is_clean());
    u32::try_from(steps).unwrap()
}

/// The versions that differ in how they undo.
const VERSIONS: [Version; 3] = [Version::V28, Version::V31, Version::V34];

/// Plays one fault at each step of a share, on each of these versions. `is_mended` says whether the share must work all
/// the same.
fn at_each_step(versions: &[Version], len: usize, what: &What, is_mended: bool) {
    for &version in versions {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", &noise(4, len));
        for step in 0..steps(&cloud, "Offer.pdf") {
            cloud.fail_next(step, 1, what.clone());
            let output = cloud.share("Offer.pdf", &[]);
            cloud.server.stop_failing();
            cloud.server.forget_wrong_logins();
            let text = format!("{version:?}, step {step}, {what:?}: {}", said(&output));
            let code = output.status.code();
            if code == Some(0) {
                let shares = cloud.server.shares();
                assert_eq!(shares.len(), 1, "{text}: {}", cloud.state());
                let password = shares[0].password.as_deref();
                assert_eq!(cloud.server.open_link(&shares[0].token, password).unwrap().len(), len, "{text}");
                let id = cloud.list()[0]["id"].as_str().unwrap().to_owned();
                ends_with(&cloud.scaup, 0, ["share", "revoke", &id]);
            } else {
                assert!(!is_mended, "{text}");
                if code == Some(9) {
                    // The command that is named removes it.
                    let command =
                        text.split("remove it with: scaup ").nth(1).expect(&text).lines().next().unwrap();
                    ends_with(&cloud.scaup, 0, command.split(' '));
                }
            }
            assert!(cloud.is_clean(), "{text}: {}", cloud.state());
        }
    }
}

#[test]
fn what_is_busy_is_asked_again() {
    at_each_step(&VERSIONS, 1000, &What::Status(423), true);
}

#[test]
fn a_server_that_is_overloaded_once_is_asked_again() {
    at_each_step(&VERSIONS, 1000, &What::Status(503), true);
}

#[test]
fn a_connection_that_is_cut_leaves_nothing() {
    at_each_step(&VERSIONS, 1000, &What::CutBefore, false);
    at_each_step(&[Version::V31], LONG, &What::CutBefore, false);
}

#[test]
fn a_step_that_is_done_while_its_reply_is_lost_leaves_nothing() {
    at_each_step(&VERSIONS, 1000, &What::LoseAnswer, false);
    at_each_step(&[Version::V31], LONG, &What::LoseAnswer, false);
}

#[test]
fn a_refusal_at_any_step_leaves_nothing() {
    at_each_step(&VERSIONS, 1000, &What::Status(403), false);
    at_each_step(&VERSIONS, 1000, &What::Status(429), false);
    at_each_step(&[Version::V31], LONG, &What::Status(507), false);
}

#[test]
fn what_a_proxy_does_not_wait_for_is_waited_for() {
    for version in VERSIONS {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", &noise(10, LONG));
        for method in ["MOVE", "PATCH"] {
            cloud.server.fail(Fault::once(method, "/remote.php/dav/", What::Late(Duration::from_secs(3))));
        }
        let before = cloud.server.requests().len();
        let shared = cloud.shared("Offer.pdf", &[]);
        let share = cloud.server.shares().pop().unwrap();
        let content = cloud.server.open_link(&share.token, share.password.as_deref()).unwrap();
        assert_eq!(content.len(), LONG, "{version:?}");
        for method in ["MOVE ", "PATCH "] {
            let requests = cloud.requests_since(before);
            let count = requests.iter().filter(|request| request.starts_with(method)).count();
            assert_eq!(count, 1, "{version:?}: the server has enough to do: {requests:?}");
        }
        ends_with(&cloud.scaup, 0, ["share", "revoke", shared["id"].as_str().unwrap()]);
        assert!(cloud.is_clean(), "{version:?}: {}", cloud.state());
    }
}

#[test]
fn ctrl_c_while_the_server_is_waited_for_leaves_nothing() {
    for method in ["MOVE", "PATCH"] {
        let cloud = Cloud::of(Version::V31);
        let path = cloud.file("Offer.pdf", &noise(11, LONG));
        cloud.server.fail(Fault::once(method, "/remote.php/dav/", What::Late(Duration::from_secs(5))));
        let mut command = cloud.scaup.command();
        command.args(["share", path.to_str().unwrap(), "--yes", "--json", "--print-both"]);
        let child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        eventually("a proxy that does not wait", Duration::from_secs(60), || {
            cloud.server.requests().iter().any(|request| request.method == method && request.status == 504)
        });
        signal(child.id(), Signal::INT);
        let begun = std::time::Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4), "{method}: {}", said(&output));
        assert_eq!(output.status.code(), Some(1), "{method}: {}", said(&output));
        // The server goes on.
        std::thread::sleep(Duration::from_secs(6));
        assert!(cloud.is_clean(), "{method}: {}", cloud.state());
    }
}

#[test]
fn content_that_the_server_damages_is_never_shared() {
    for len in [1000, LONG] {
        let cloud = Cloud::of(Version::V32);
        cloud.file("Offer.pdf", &noise(5, len));
        for method in ["PUT", "MOVE"] {
            cloud.server.fail(Fault::once(method, "", What::WrongHash));
        }
        let output = cloud.share("Offer.pdf", &[]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("not what was sent"), "{}", said(&output));
        assert!(cloud.is_clean(), "{}", cloud.state());
    }
}

#[test]
fn a_login_that_ends_half_way_is_told_with_what_is_left() {
    let cloud = Cloud::of(Version::V34);
    cloud.file("Offer.pdf", b"content");
    for step in 5..steps(&cloud, "Offer.pdf") {
        cloud.fail_next(step, u32::MAX, What::Status(401));
        let output = cloud.share("Offer.pdf", &[]);
        cloud.server.stop_failing();
        cloud.server.forget_wrong_logins();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(9), "step {step}: {text}");
        let command = text.split("remove it with: scaup ").nth(1).expect(&text).lines().next().unwrap();
        ends_with(&cloud.scaup, 0, command.split(' '));
        assert!(cloud.is_clean(), "step {step}: {}", cloud.state());
    }
}

/// Sends a signal to the program while a step is under way, and returns its exit code and words.
fn interrupted(cloud: &Cloud, step: u32, how: Signal) -> (Option<i32>, String) {
    cloud.fail_next(step, 1, What::Slow(Duration::from_millis(300)));
    let before = cloud.server.requests().len();
    let file = cloud.scaup.home().join("Offer.pdf");
    let mut command = cloud.scaup.command();
    command.args(["share", file.to_str().unwrap(), "--yes", "--json", "--print-both"]);
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the step", Duration::from_secs(20), || {
        cloud.server.requests().len() > before + step as usize
            || std::fs::read_to_string(format!("/proc/{}/stat", child.id()))
                .is_ok_and(|stat| stat.contains(") Z "))
    });
    signal(child.id(), how);
    let output = child.wait_with_output().unwrap();
    cloud.server.stop_failing();
    (output.status.code(), said(&output))
}

#[test]
fn ctrl_c_at_any_step_leaves_nothing_and_a_kill_what_revoke_removes() {
    for (version, len) in [(Version::V28, 1000), (Version::V31, LONG), (Version::V34, 1000)] {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", &noise(6, len));
        let steps = steps(&cloud, "Offer.pdf");
        for step in 0..steps {
            let (code, text) = interrupted(&cloud, step, Signal::INT);
            if code == Some(0) {
                let id = cloud.list()[0]["id"].as_str().unwrap().to_owned();
                ends_with(&cloud.scaup, 0, ["share", "revoke", &id]);
            }
            assert!(cloud.is_clean(), "{version:?}, step {step}, {code:?} {text}: {}", cloud.state());
            interrupted(&cloud, step, Signal::KILL);
            // The server goes on with what it was asked for.
            std::thread::sleep(Duration::from_millis(400));
            for share in cloud.list() {
                ends_with(&cloud.scaup, 0, ["share", "revoke", share["id"].as_str().unwrap()]);
            }
            assert!(cloud.is_clean(), "{version:?}, killed at step {step}: {}", cloud.state());
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_not_shared() {
    let cloud = Cloud::of(Version::V32);
    let path = cloud.file("Offer.pdf", &noise(7, LONG));
    cloud.fail_next(6, 1, What::Slow(Duration::from_secs(1)));
    let before = cloud.server.requests().len();
    let mut command = cloud.scaup.command();
    command.args(["share", path.to_str().unwrap(), "--yes", "--json", "--print-both"]);
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("a part", Duration::from_secs(20), || cloud.server.requests().len() > before + 6);
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"more").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("changed while it was sent"), "{}", said(&output));
    assert!(cloud.is_clean(), "{}", cloud.state());
}

#[test]
fn a_link_that_can_not_be_removed_is_named_and_found_again() {
    for version in VERSIONS {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", b"content");
        cloud.server.fail(Fault::once("GET", "/s/", What::Status(403)));
        cloud.server.fail(Fault { times: 99, ..Fault::once("DELETE", "/shares/", What::Status(500)) });
        let output = cloud.share("Offer.pdf", &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(9), "{text}");
        assert!(text.contains("a link to the file"), "{text}");
        cloud.server.stop_failing();
        let command = text.split("remove it with: scaup ").nth(1).expect(&text).lines().next().unwrap();
        ends_with(&cloud.scaup, 0, command.split(' '));
        assert!(cloud.is_clean(), "{version:?}: {}", cloud.state());
    }
}

#[test]
fn a_terminal_that_is_closed_during_the_upload_leaves_nothing() {
    let cloud = Cloud::of(Version::V34);
    cloud.file("Offer.pdf", &noise(9, LONG));
    for step in [5, 7, 9] {
        cloud.fail_next(step, 1, What::Slow(Duration::from_millis(500)));
        let before = cloud.server.requests().len();
        let command = format!("exec {} share \"$HOME/Offer.pdf\" --yes", env!("CARGO_BIN_EXE_scaup"));
        let terminal = Terminal::run(&cloud.scaup, &command);
        eventually("the step", Duration::from_secs(20), || {
            cloud.server.requests().len() > before + step as usize
        });
        drop(terminal);
        eventually("nothing is left", Duration::from_secs(20), || cloud.is_clean());
        cloud.server.stop_failing();
    }
}

#[test]
fn a_server_that_asks_for_a_pause_without_end_is_not_waited_for() {
    let (listener, requests) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), 20);
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().take(requests) {
            use std::io::{Read, Write};
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let reply = "HTTP/1.1 503 Busy\r\nRetry-After: 18446744073709551615\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = connection.write_all(reply.as_bytes());
        }
    });
    let scaup = crate::support::scaup();
    let said = ends_with(&scaup, 1, ["account", "add", &url, "--ask-every-time"]);
    assert!(said.contains("Nextcloud"), "{said}");
}

#[test]
fn a_link_that_is_not_what_was_asked_for_is_removed() {
    let lies = [
        ("\"permissions\":17", "\"permissions\":31"),
        ("\"permissions\":17", "\"permissions\":16"),
        ("\"share_type\":3", "\"share_type\":0"),
        ("\"password\":\"redacted\"", "\"password\":null"),
        ("\"expiration\":\"20", "\"expiration\":\"30"),
        ("\"expiration\":\"20", "\"expiration\":\"19"),
        ("\"expiration\":\"", "\"expiration\":null,\"was\":\""),
        ("/Offer.pdf\"", "/Other.pdf\""),
        ("\"token\":\"", "\"token\":\"../"),
    ];
    for (said_first, instead) in lies {
        let cloud = Cloud::of(Version::V34);
        cloud.file("Offer.pdf", b"content");
        let lie = What::Lie(said_first.to_owned(), instead.to_owned());
        cloud.server.fail(Fault::once("GET", "/api/v1/shares/", lie));
        let output = cloud.share("Offer.pdf", &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{instead}: {text}");
        assert!(text.contains("not what was asked for"), "{instead}: {text}");
        assert!(cloud.is_clean(), "{instead}: {}", cloud.state());
    }
    // As the receiver sees it: no question for the password, or another length.
    for (method, path, what) in [
        ("GET", "/s/", What::Status(200)),
        ("PROPFIND", "/public.php/", What::Lie(">7<".to_owned(), ">8<".to_owned())),
        ("PROPFIND", "/public.php/", What::Status(401)),
    ] {
        let cloud = Cloud::of(Version::V34);
        cloud.file("Offer.pdf", b"content");
        let fault = Fault::once(method, path, what);
        cloud.server.fail(fault.clone());
        let output = cloud.share("Offer.pdf", &[]);
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {}", said(&output));
        assert!(said(&output).contains("not what was asked for"), "{fault:?}: {}", said(&output));
        assert!(cloud.is_clean(), "{fault:?}: {}", cloud.state());
    }
}
