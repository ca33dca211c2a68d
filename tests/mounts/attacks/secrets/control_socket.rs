//! What other programs of the user reach through the daemon's control socket: nobody is shut out, nothing grows, and no
//! command of theirs is run.

use std::fs;

use scaup_rig::{Answers, Fixture, Sshd};

use crate::support::front_end::{FrontEnd, socket};
use crate::support::{Drive, PASSWORD, ends_with, of_process, scaup};

fn unlock_request() -> serde_json::Value {
    serde_json::json!({ "Unlock": { "vault": "Vault" } })
}

#[test]
fn whatever_comes_through_the_control_socket_the_daemon_goes_on() {
    let drive = Drive::mounted();
    let (path, pid) = (socket(&drive.scaup), drive.mount.daemon());
    let connect = || FrontEnd::connect(&path);
    let before = of_process(pid, "VmRSS");

    for garbage in
        [&b"\xff\xfe\x00\n"[..], b"{}\n", b"[[[[[[[[\n", b"\"Status\"", b"{\"Answer\":{\"id\":1}}\n"]
    {
        let stream = connect();
        assert!(stream.say(garbage));
        stream.ends_speaking();
        assert!(stream.hears_the_end(), "{garbage:?}");
    }
    // A line without end. The system holds some of it, too.
    let endless = connect();
    assert!((0..32).any(|_| !endless.say(&[b'['; 64 * 1024])), "2 MiB were taken");
    assert!(endless.hears_the_end());
    // One that asks and asks, and never hears.
    let deaf = connect();
    let asked = b"\"Status\"\n".repeat(10_000);
    while deaf.say(&asked) {}
    assert!(deaf.hears_the_end(), "one that does not listen is let go");
    // One that says nothing is sent away, whether it said its version or not.
    assert!(connect().hears_the_end());
    assert!(FrontEnd::silent(&path).hears_the_end());

    let grown = of_process(pid, "VmRSS").saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    fs::write(drive.plain().join("goes on"), "x").unwrap();
    drive.unmount();
}

#[test]
fn front_ends_that_never_end_shut_nobody_out() {
    let drive = Drive::locked();
    let path = socket(&drive.scaup);
    let password = drive.scaup.command_answering(PASSWORD);
    let crowd = |words: &[u8], hears: bool| -> Vec<FrontEnd> {
        (0..80)
            .map(|_| {
                let mut front_end =
                    if words.is_empty() { FrontEnd::silent(&path) } else { FrontEnd::connect(&path) };
                front_end.say(words);
                assert!(!hears || front_end.hear().is_some());
                front_end
            })
            .collect()
    };
    let unlock = format!("{}\n", unlock_request());
    for (how, words, hears) in [
        ("says nothing", &b""[..], false),
        ("stays when it was answered", b"\"Status\"\n", true),
        ("begins another request", b"\"Status\"\n\"Sta", true),
        ("never hears", &b"\"Status\"\n".repeat(16), false),
        ("never answers", unlock.as_bytes(), true),
        ("logs in again and again", b"\"Login\"\n", true),
        ("watches", b"\"Watch\"\n", true),
    ] {
        let crowd = crowd(words, hears);
        assert_eq!(drive.scaup.status()["mounts"][0]["state"], "connected", "one that {how}");
        ends_with(&drive.scaup, 0, ["unlock", "--vault-password-command", &password]);
        ends_with(&drive.scaup, 0, ["lock"]);
        drop(crowd);
    }
    let crowd = crowd(unlock.as_bytes(), true);
    drive.unmount();
    drop(crowd);
}

#[test]
fn any_number_of_unlocks_takes_the_memory_of_one() {
    let drive = Drive::locked();
    let (path, pid) = (socket(&drive.scaup), drive.mount.daemon());
    let password = drive.scaup.command_answering(PASSWORD);
    let unlock = || ends_with(&drive.scaup, 0, ["unlock", "--vault-password-command", &password]);
    unlock();
    ends_with(&drive.scaup, 0, ["lock"]);
    let before = of_process(pid, "VmHWM");
    let mut crowd: Vec<FrontEnd> = (0..60).map(|_| FrontEnd::connect(&path)).collect();
    crowd.iter().for_each(|front_end| front_end.ask(&unlock_request()));
    for front_end in &mut crowd {
        let heard = front_end.hear_behind_progress();
        assert_eq!(heard["Prompt"]["destination"], "Vault", "{heard}");
        front_end.answer(&heard["Prompt"], "wrong");
    }
    // Those that wait for their turn hold up nobody else.
    assert_eq!(drive.scaup.status()["mounts"][0]["vaults"][0]["state"], "locked");
    for front_end in &mut crowd[..3] {
        assert!(front_end.hear().unwrap()["Progress"].as_str().unwrap().contains("wrong password"));
    }
    // They end with their front ends, and the next has its turn.
    drop(crowd);
    unlock();
    let grown = of_process(pid, "VmHWM").saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
    drive.unmount();
}

#[test]
fn no_command_is_run_for_a_request() {
    let sshd = Sshd::key_only().start();
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let scaup = scaup();
    let (askpass, asked) = scaup.askpass(&Answers::default().vault(PASSWORD));
    let mount = scaup.mount_on(&sshd, "").args(["--no-vaults"]).askpass(&askpass).start();
    let (path, ran) = (socket(&scaup), scaup.home().join("ran"));
    let command = format!("touch '{}'; echo x", ran.display());

    let mut front_end = FrontEnd::connect(&path);
    front_end.ask(&serde_json::json!({ "Unlock": {
            "vault": "Vault", "password_command": command, "vault_password_command": command
        } }));
    assert!(front_end.hear_behind_progress()["Prompt"]["text"].is_string(), "it is asked itself");
    // Nor when it left: no other front end is asked in its place.
    drop(front_end);
    // A mount is made for the process that started the daemon, and for nobody else.
    let mut front_end = FrontEnd::connect(&path);
    let target = serde_json::json!({ "Local": scaup.home() });
    let options = serde_json::json!({
        "ssh": [], "read_only": false, "allow_other": false, "no_exec": false, "uid": null, "gid": null, "umask": null,
        "fsname": null, "subtype": null, "server_owners": false, "without": [], "otp_for": []
    });
    front_end.ask(&serde_json::json!({ "Mount": {
        "name": "other", "target": target, "mountpoint": scaup.home().join("other"), "directory": "/",
        "identity": null, "ssh_config": null, "options": options, "read_only": false, "vaults": ["Vault"],
        "no_vaults": false, "forget_key": false, "passphrase_command": command, "otp_command": command,
        "vault_password_command": command, "memory": 1 << 20, "attr_timeout": 1, "timeout": 1,
        "sync_on_close": false, "follow_outside": false, "log_names": false, "interactive": true, "terminal": false, "foreground": false
    } }));
    // One that is not understood is hung up on.
    if let Some(heard) = front_end.hear() {
        assert_eq!(heard["Failed"]["kind"], "Usage", "{heard}");
    }
    let mut front_end = FrontEnd::connect(&path);
    front_end.ask(&serde_json::json!("Login"));
    assert!(front_end.hear().unwrap()["Progress"].is_string());
    assert_eq!(front_end.hear().unwrap(), "Done");
    // Of a vault that is not there, nobody is asked anything.
    front_end.ask(&serde_json::json!({ "Unlock": { "vault": "$(made up)" } }));
    assert_eq!(front_end.hear().unwrap()["Failed"]["kind"], "Vault");

    assert!(!ran.exists());
    assert_eq!(fs::read_to_string(asked).unwrap(), "");
    mount.unmount(&scaup);
}
