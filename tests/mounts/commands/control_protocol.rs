//! The protocol of the control socket (docs/control-protocol.md): versions, questions, and watching a mount.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::front_end::{FrontEnd, socket};
use crate::support::{Drive, PASSWORD, ends_with};

/// A daemon that has this reply to whatever it hears first, and then hangs up.
fn daemon_of_another_version(socket: &Path, reply: Option<Value>) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
            if let Some(reply) = &reply {
                // The front end may be gone.
                let _ = stream.write_all(format!("{reply}\n").as_bytes());
            }
        }
    });
}

#[test]
fn a_daemon_ends_a_conversation_in_another_version_and_says_its_own() {
    let drive = Drive::mounted();
    let path = socket(&drive.scaup);
    for version in [json!({ "major": 0, "minor": 9 }), json!({ "major": 2, "minor": 0, "more": "of then" })] {
        let mut front_end = FrontEnd::silent(&path);
        front_end.ask(&json!({ "Hello": version }));
        assert_eq!(front_end.hear(), Some(json!({ "Hello": { "major": 1, "minor": 2 } })));
        front_end.say(b"\"Status\"\n");
        assert_eq!(front_end.hear(), None);
    }
    // A higher minor version is no reason to part.
    let mut front_end = FrontEnd::silent(&path);
    front_end.ask(&json!({ "Hello": { "major": 1, "minor": 7 } }));
    assert!(front_end.hear().is_some());
    front_end.ask(&json!("Status"));
    assert_eq!(front_end.hear().unwrap()["Status"]["state"], "connected");
    // One that says no version is older, and understands why it is refused.
    let mut front_end = FrontEnd::silent(&path);
    front_end.ask(&json!("Status"));
    let refused = front_end.hear().unwrap();
    assert_eq!(refused["Failed"]["kind"], "Usage", "{refused}");
    assert!(refused["Failed"]["message"].as_str().unwrap().contains("this program is older"), "{refused}");
    assert_eq!(front_end.hear(), None);
    drop(front_end);
    drive.unmount();
}

#[test]
fn commands_say_which_side_is_older_and_what_to_do() {
    let drive = Drive::mounted();
    let sockets = socket(&drive.scaup).parent().unwrap().to_owned();
    let pid = std::process::id();
    let says = |version: Value| Some(json!({ "Hello": version }));
    let kill = format!("`kill {pid}` saves everything and unmounts");
    for (name, reply, expected) in [
        (
            "older",
            says(json!({ "major": 0, "minor": 3 })),
            ["is older than this program (control protocol 0.3", &kill],
        ),
        (
            "newer",
            says(json!({ "major": 2, "minor": 0 })),
            ["this program is older", "use the `scaup` that made the mount"],
        ),
        ("mute", None, ["does not say its version: it is older", &kill]),
        ("garbled", Some(json!({ "Greetings": 4 })), ["does not say its version: it is older", &kill]),
    ] {
        let socket = sockets.join(format!("{name}.sock"));
        daemon_of_another_version(&socket, reply);
        for command in ["status", "unmount", "login", "lock"] {
            let said = ends_with(&drive.scaup, 1, [command, name]);
            assert!(said.contains(&format!("{name}: ")), "{command}: {said}");
            assert!(expected.iter().all(|words| said.contains(words)), "{command}: {said}");
        }
        // The others are still shown.
        let output = drive.scaup.run(["status", "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["mounts"].as_array().unwrap().len(), 1, "{status}");
        assert_eq!(status["mounts"][0]["state"], "connected", "{status}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(expected.iter().all(|words| said.contains(words)), "{said}");
        fs::remove_file(socket).unwrap();
    }
    drive.unmount();
}

#[test]
fn a_prompt_says_what_it_asks_for_and_at_which_attempt() {
    let drive = Drive::locked();
    let mut front_end = FrontEnd::connect(&socket(&drive.scaup));
    // Each unlocking starts a new count.
    for passwords in [&["wrong", "wrong again", PASSWORD][..], &[PASSWORD]] {
        front_end.ask(&json!({ "Unlock": { "vault": "Vault" } }));
        for (password, attempt) in passwords.iter().zip(1..) {
            let prompt = front_end.hear_behind_progress()["Prompt"].take();
            let expected = json!({
                "id": prompt["id"], "kind": "vault_password", "destination": "Vault", "attempt": attempt,
                "text": "Password for vault Vault: ", "echo": false
            });
            assert_eq!(prompt, expected);
            front_end.answer(&prompt, password);
        }
        assert_eq!(front_end.hear_behind_progress(), "Done");
        ends_with(&drive.scaup, 0, ["lock"]);
    }
    drop(front_end);
    drive.unmount();
}

/// A front end that watches, and the first status that it was told.
fn watcher(drive: &Drive) -> (FrontEnd, Value) {
    let mut front_end = FrontEnd::connect(&socket(&drive.scaup));
    front_end.ask(&json!("Watch"));
    let first = front_end.hear().unwrap()["Status"].take();
    assert_eq!(first["state"], "connected", "{first}");
    (front_end, first)
}

/// Waits for a status of which this is true; returns how long that took.
fn told(front_end: &mut FrontEnd, is_it: impl Fn(&Value) -> bool) -> Duration {
    let begun = Instant::now();
    while !is_it(&front_end.hear().expect("the daemon goes on")["Status"]) {}
    begun.elapsed()
}

#[test]
fn a_watcher_is_told_of_each_change_within_a_second() {
    let drive = Drive::mounted();
    let (mut front_end, first) = watcher(&drive);
    // Everything is as `status` says, in its words.
    let status = drive.scaup.status()["mounts"][0].take();
    assert_eq!(first["vaults"], status["vaults"]);
    assert_eq!(
        first.as_object().unwrap().keys().collect::<Vec<_>>(),
        status.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    let is = |state: &'static str| move |status: &Value| status["vaults"][0]["state"] == state;
    let password = drive.scaup.command_answering(PASSWORD);
    // A machine with much else to do may be late once.
    let times: Vec<Duration> = (0..3)
        .flat_map(|_| {
            ends_with(&drive.scaup, 0, ["lock"]);
            let locked = told(&mut front_end, is("locked"));
            ends_with(&drive.scaup, 0, ["unlock", "--vault-password-command", &password]);
            [locked, told(&mut front_end, is("unlocked"))]
        })
        .collect();
    assert!(times.iter().filter(|time| **time < Duration::from_secs(1)).count() >= 2, "{times:?}");
    drop(front_end);
    drive.unmount();
}

#[test]
fn a_watcher_is_told_four_times_a_second_while_a_file_is_written_and_seldom_afterwards() {
    const WRITTEN_FOR: Duration = Duration::from_secs(3);
    let drive = Drive::mounted();
    let (mut front_end, _) = watcher(&drive);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::create(drive.vault().join("grows")).unwrap();
            while begun.elapsed() < WRITTEN_FOR {
                file.write_all(&[7; 64 * 1024]).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut count = 0;
        let mut unsaved = 0;
        while begun.elapsed() < WRITTEN_FOR {
            let status = front_end.hear().expect("the daemon goes on")["Status"].take();
            count += 1;
            unsaved = unsaved.max(status["unsaved"]["bytes"].as_u64().unwrap());
        }
        let most = begun.elapsed().as_millis() / 250 + 2;
        assert!((4..=most).contains(&count), "{count} in {:?}", begun.elapsed());
        assert!(unsaved > 0, "what is not saved yet is seen");
    });
    // Without programs that do something there is no news, but for traffic that keeps the connection alive.
    std::thread::sleep(Duration::from_secs(1));
    front_end.heard_within(Duration::from_millis(500));
    let heard = front_end.heard_within(Duration::from_millis(2500));
    assert!(heard < 4, "{heard} times");
    drop(front_end);
    drive.unmount();
}

#[test]
fn a_conversation_that_watches_is_for_nothing_else() {
    let drive = Drive::mounted();
    let (mut front_end, _) = watcher(&drive);
    front_end.ask(&json!("Status"));
    let refused = loop {
        let heard = front_end.hear().expect("it is told why");
        if heard.get("Status").is_none() {
            break heard;
        }
    };
    assert_eq!(refused["Failed"]["kind"], "Usage", "{refused}");
    assert_eq!(front_end.hear(), None);
    drop(front_end);
    drive.unmount();
}

#[test]
fn watchers_delay_no_unmount_and_hear_of_it() {
    let drive = Drive::mounted();
    let mut watchers: Vec<FrontEnd> = (0..5).map(|_| watcher(&drive).0).collect();
    // This one never reads.
    let deaf = FrontEnd::connect(&socket(&drive.scaup));
    deaf.ask(&json!("Watch"));
    let begun = Instant::now();
    drive.unmount();
    let took = begun.elapsed();
    // Front ends that wait for a reply are waited for, 5 s.
    assert!(took < Duration::from_secs(5), "{took:?}");
    for watcher in &mut watchers {
        while watcher.hear().is_some() {}
    }
    drop(deaf);
}
