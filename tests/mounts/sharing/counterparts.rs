//! Real programs at the other end: a browser that logs in, the desktop's keyring, and a sync client.

use std::process::Command;

use scaup_rig::nextcloud::{Nextcloud, Version};
use scaup_rig::{Browser, Keyring, eventually, need};

use super::cloud::{Cloud, FOLDER};
use crate::support::scaup;
use crate::support::terminal::{PATIENCE, Terminal};

#[test]
fn a_browser_logs_in_with_a_second_factor_and_the_keyring_keeps_the_app_password() {
    let server = Nextcloud::start(Version::V34);
    server.change(|settings| settings.second_factor = true);
    let (scaup, keyring, browser) = (scaup(), Keyring::start(), Browser::start());
    let bus = format!("DBUS_SESSION_BUS_ADDRESS='{}' '{}'", keyring.address(), env!("CARGO_BIN_EXE_scaup"));
    let terminal = Terminal::run(&scaup, &format!("{bus} account add {} --name cloud", server.url()));
    let page = || {
        let screen = terminal.screen();
        let from = screen.find(&format!("{}/login/v2/flow/", server.url()))?;
        Some(screen.get(from..)?.split_once("\r\n")?.0.to_owned())
    };
    eventually("the page", PATIENCE, || page().is_some());
    browser.open(&page().unwrap());
    browser.click("a");
    browser.fill("input[name=user]", "alice");
    browser.fill("input[name=password]", "correct horse");
    browser.click("input[value='Log in']");
    browser.fill("input[name=challenge]", "123456");
    browser.click("input[value=Submit]");
    browser.click("input[value='Grant access']");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    for line in [
        "logged in as alice (Alice Example)",
        "Nextcloud 34.0.1; links allowed",
        "is in your keyring",
        "account cloud is ready",
    ] {
        assert!(screen.contains(line), "{line}: {screen}");
    }
    assert_eq!(server.app_passwords(), 1);
    assert!(server.devices()[0].starts_with("Scaup "), "{:?}", server.devices());
    std::fs::write(scaup.home().join("Offer.pdf"), "content").unwrap();
    let shared = Terminal::run(&scaup, &format!("{bus} share \"$HOME/Offer.pdf\" --yes --print-both"));
    let (status, screen) = shared.end();
    assert!(status.success() && screen.contains("password: "), "{screen}");
    // What is forgotten for mounts is not an account's.
    let (status, screen) = Terminal::run(&scaup, &format!("{bus} forget --all")).end();
    assert!(status.success(), "{screen}");
    let (status, screen) = Terminal::run(&scaup, &format!("{bus} share list")).end();
    assert!(status.success() && screen.contains("link works, password set"), "{screen}");
    let (status, screen) = Terminal::run(&scaup, &format!("{bus} account remove cloud")).end();
    assert!(status.success() && screen.contains("deleted on the server"), "{screen}");
    assert_eq!(server.app_passwords(), 0);
    let (status, screen) = Terminal::run(&scaup, &format!("{bus} account list")).end();
    assert!(status.success() && !screen.contains("alice"), "{screen}");
}

#[test]
fn a_sync_client_does_not_bring_the_readable_file_to_other_machines() {
    need(&[("nextcloudcmd", "nextcloud-desktop-cmd")]);
    for version in [Version::V28, Version::V34] {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", b"readable");
        cloud.shared("Offer.pdf", &[]);
        cloud.server.put("/Documents/synced.txt", b"synced");
        let synced = cloud.scaup.home().join("synced");
        std::fs::create_dir(&synced).unwrap();
        let output = Command::new("nextcloudcmd")
            .env("HOME", cloud.scaup.home())
            .args(["--non-interactive", "--trust", "-u", "alice", "-p", &cloud.server.app_password()])
            .arg(&synced)
            .arg(cloud.server.url())
            .output()
            .unwrap();
        assert!(output.status.success(), "{version:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(synced.join("Documents/synced.txt")).unwrap(), b"synced");
        assert!(!synced.join(FOLDER.trim_matches('/')).exists(), "{version:?}");
        // And it does not take what it did not bring for removed.
        assert_eq!(cloud.list().len(), 1);
    }
}
