//! `scaup account`: logging in by the browser, where the app password is, and whom it is sent to.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use scaup_rig::eventually;
use scaup_rig::nextcloud::{Fault, Nextcloud, Version, What};

use super::cloud::Cloud;
use crate::support::terminal::Terminal;
use crate::support::{ends_with, said, scaup, signal};

#[test]
fn a_login_each_time_leaves_no_app_password_whatever_the_command_comes_to() {
    for version in Version::ALL {
        let server = Nextcloud::start(version);
        server.grant_logins(true);
        let scaup = scaup();
        let said = ends_with(&scaup, 0, ["account", "add", &server.url(), "--ask-every-time"]);
        assert!(
            said.contains("/login/v2/flow/") && said.contains("logged in as alice (Alice Example)"),
            "{said}"
        );
        assert!(said.contains(&format!("Nextcloud {}", version.name())), "{said}");
        assert_eq!(server.app_passwords(), 0);
        let cloud = Cloud { server, scaup };
        cloud.file("Offer.pdf", b"content");
        let shared = cloud.shared("Offer.pdf", &[]);
        assert_eq!(cloud.server.app_passwords(), 0);
        for arguments in [
            &["share", "list"][..],
            &["share", "prune"],
            &["share", "extend", shared["id"].as_str().unwrap(), "--days", "9"],
            &["share", "revoke", shared["id"].as_str().unwrap()],
        ] {
            ends_with(&cloud.scaup, 0, arguments);
            assert_eq!(cloud.server.app_passwords(), 0, "{arguments:?}");
        }
        ends_with(&cloud.scaup, 1, ["share", "revoke", "aaaaaa"]);
        cloud.share("Offer.pdf", &["--days", "0"]);
        cloud.share("no such file", &[]);
        cloud.server.change(|settings| settings.links_allowed = false);
        cloud.share("Offer.pdf", &[]);
        assert_eq!(cloud.server.app_passwords(), 0);
        assert!(cloud.server.devices().is_empty());
        ends_with(&cloud.scaup, 0, ["account", "remove", "127.0.0.1"]);
        assert!(fs::read_dir(cloud.scaup.home().join("config/scaup/accounts")).unwrap().next().is_none());
    }
}

#[test]
fn a_server_is_trusted_by_the_file_of_its_own_authority_and_not_without() {
    let scaup = scaup();
    let ca = scaup.home().join("ca.pem");
    let server = Nextcloud::start_with_tls(Version::V32, &ca);
    let password = scaup.command_answering(&server.app_password());
    let add = |more: &[&str]| {
        let url = server.url();
        let first = [
            "account",
            "add",
            &url,
            "--name",
            "cloud",
            "--user",
            "alice",
            "--app-password-command",
            &password,
        ];
        first.iter().chain(more).map(|&argument| argument.to_owned()).collect::<Vec<_>>()
    };
    let said = ends_with(&scaup, 6, add(&[]));
    assert!(said.contains("certificate") && said.contains("--ca FILE"), "{said}");
    assert!(server.requests().is_empty(), "nothing was sent");
    fs::write(scaup.home().join("none.pem"), "nothing").unwrap();
    let none = scaup.home().join("none.pem");
    ends_with(&scaup, 1, add(&["--ca", none.to_str().unwrap()]));
    ends_with(&scaup, 0, add(&["--ca", ca.to_str().unwrap()]));
    let cloud = Cloud { server, scaup };
    cloud.file("Offer.pdf", b"content");
    let shared = cloud.shared("Offer.pdf", &[]);
    assert!(shared["link"].as_str().unwrap().starts_with("https://localhost:"), "{shared}");
}

#[test]
fn only_an_encrypted_address_is_an_account() {
    let scaup = scaup();
    for url in [
        "http://cloud.example",
        "ftp://cloud.example",
        "https://alice:secret@cloud.example",
        "http://127.0.0.1.example",
    ] {
        ends_with(&scaup, 2, ["account", "add", url, "--ask-every-time"]);
    }
    let said = ends_with(&scaup, 2, ["share", "list"]);
    assert!(said.contains("scaup account add"), "{said}");
}

#[test]
fn without_a_keyring_the_other_ways_are_named_before_anybody_logs_in() {
    let server = Nextcloud::start(Version::V34);
    server.grant_logins(true);
    let scaup = scaup();
    let said = ends_with(&scaup, 1, ["account", "add", &server.url()]);
    assert!(said.contains("--app-password-command") && said.contains("--ask-every-time"), "{said}");
    assert_eq!(server.app_passwords(), 0);
    assert!(server.devices().is_empty());
}

#[test]
fn accounts_have_names_and_one_is_chosen() {
    let cloud = Cloud::of(Version::V31);
    let other = Nextcloud::start(Version::V34);
    let password = cloud.scaup.command_answering(&other.app_password());
    let url = other.url();
    let add = |name: &'static str| {
        ["account", "add", &url, "--name", name, "--user", "alice", "--app-password-command", &password]
            .map(str::to_owned)
    };
    let said = ends_with(&cloud.scaup, 1, add("cloud"));
    assert!(said.contains("already"), "{said}");
    ends_with(&cloud.scaup, 0, add("other"));
    let listed = ends_with(&cloud.scaup, 0, ["account", "list"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let said = ends_with(&cloud.scaup, 2, ["share", "list"]);
    assert!(said.contains("--account: cloud, other"), "{said}");
    cloud.file("Offer.pdf", b"content");
    cloud.shared("Offer.pdf", &["--account", "other"]);
    assert_eq!((cloud.server.shares().len(), other.shares().len()), (0, 1));
    ends_with(&cloud.scaup, 0, ["account", "remove", "other"]);
    assert_eq!(other.app_passwords(), 1, "the user's own app password is the user's");
    ends_with(&cloud.scaup, 0, ["share", "list"]);
}

#[test]
fn ctrl_c_while_the_browser_is_waited_for_leaves_nothing() {
    let server = Nextcloud::start(Version::V34);
    let scaup = scaup();
    let command = format!("{} account add {} --ask-every-time", env!("CARGO_BIN_EXE_scaup"), server.url());
    let mut terminal = Terminal::run(&scaup, &command);
    let page = |screen: &str| screen.contains("/login/v2/flow/");
    scaup_rig::eventually("the page", crate::support::terminal::PATIENCE, || page(&terminal.screen()));
    terminal.type_now("\u{3}");
    let (status, screen) = terminal.end();
    assert!(!status.success() && screen.contains("cancelled"), "{screen}");
    assert_eq!(server.app_passwords(), 0);
}

#[test]
fn no_signal_at_any_step_leaves_an_app_password() {
    let server = Nextcloud::start(Version::V32);
    server.grant_logins(true);
    let scaup = scaup();
    ends_with(&scaup, 0, ["account", "add", &server.url(), "--ask-every-time"]);
    let cloud = Cloud { server, scaup };
    let file = cloud.file("Offer.pdf", b"content");
    let commands: [&[&str]; 2] =
        [&["share", file.to_str().unwrap(), "--yes", "--print-both"], &["share", "list"]];
    for arguments in commands {
        let before = cloud.server.requests().len();
        ends_with(&cloud.scaup, 0, arguments);
        let steps = cloud.requests_since(before).len();
        for step in 0..steps {
            for how in [Signal::INT, Signal::TERM, Signal::HUP] {
                cloud.fail_next(u32::try_from(step).unwrap(), 1, What::Slow(Duration::from_millis(100)));
                let before = cloud.server.requests().len();
                let mut command = cloud.scaup.command();
                command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
                let child = command.spawn().unwrap();
                eventually("the step", Duration::from_secs(20), || {
                    cloud.server.requests().len() > before + step
                });
                signal(child.id(), how);
                let output = child.wait_with_output().unwrap();
                cloud.server.stop_failing();
                assert_eq!(
                    cloud.server.app_passwords(),
                    0,
                    "{arguments:?}, step {step}, {how:?}: {}",
                    said(&output)
                );
            }
        }
    }
}

#[test]
fn an_app_password_that_stays_is_named() {
    let server = Nextcloud::start(Version::V34);
    server.grant_logins(true);
    let scaup = scaup();
    ends_with(&scaup, 0, ["account", "add", &server.url(), "--ask-every-time"]);
    server.fail(Fault::once("DELETE", "core/apppassword", What::Status(500)));
    let said = ends_with(&scaup, 9, ["share", "list"]);
    assert!(said.contains("revoke \"Scaup ") && said.contains("Settings, Security"), "{said}");
    assert_eq!(server.app_passwords(), 1);
    // The reply that held it is lost.
    server.fail(Fault::once("POST", "login/v2/poll", What::LoseAnswer));
    let said = ends_with(&scaup, 9, ["share", "list"]);
    assert!(said.contains("revoke \"Scaup "), "{said}");
    assert_eq!(server.app_passwords(), 2);
}

#[test]
fn an_app_password_that_stays_is_named_also_if_nothing_can_be_shown() {
    let server = Nextcloud::start(Version::V34);
    server.grant_logins(true);
    let scaup = scaup();
    ends_with(&scaup, 0, ["account", "add", &server.url(), "--ask-every-time"]);
    let cloud = Cloud { server, scaup };
    let file = cloud.file("Offer.pdf", b"content");
    let fault = || Fault::once("DELETE", "core/apppassword", What::Status(500));
    cloud.server.fail(fault());
    let mut command = cloud.scaup.command();
    command.arg("share").arg(&file).args(["--yes", "--json", "--print-both"]);
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    assert!(said(&output).contains("share revoke "), "{}", said(&output));
    assert!(said(&output).contains("revoke \"Scaup "), "{}", said(&output));
    // Ctrl-C where the password would be shown.
    cloud.server.fail(fault());
    let command = format!("{} share \"$HOME/Offer.pdf\" --yes", env!("CARGO_BIN_EXE_scaup"));
    let mut terminal = Terminal::run(&cloud.scaup, &command);
    eventually("the question", Duration::from_secs(20), || terminal.screen().contains("press Enter"));
    terminal.type_now("\u{3}");
    let (status, screen) = terminal.end();
    let screen = screen.replace("\r\n  > ", "");
    assert_eq!(status.code(), Some(9), "{screen}");
    assert!(screen.contains("share revoke ") && screen.contains("revoke \"Scaup "), "{screen}");
    assert_eq!(cloud.server.app_passwords(), 2);
}

#[test]
fn an_address_of_numbers_needs_a_name() {
    let said = ends_with(&scaup(), 2, ["account", "add", "http://[::1]:8080", "--ask-every-time"]);
    assert!(said.contains("--name"), "{said}");
}

#[test]
fn a_login_that_leads_to_another_host_is_refused_and_leaves_nothing() {
    let server = Nextcloud::start(Version::V34);
    server.grant_logins(true);
    let scaup = scaup();
    let lie = What::Lie(server.url(), "https://elsewhere.example".to_owned());
    server.fail(Fault::once("POST", "login/v2", lie.clone()));
    // Both addresses are in the reply; either is enough.
    let said = ends_with(&scaup, 1, ["account", "add", &server.url(), "--ask-every-time"]);
    assert!(said.contains("elsewhere.example") && said.contains("not opened"), "{said}");
    server.stop_failing();
    server.fail(Fault::once("POST", "login/v2/poll", lie));
    let said = ends_with(&scaup, 1, ["account", "add", &server.url(), "--ask-every-time"]);
    assert!(said.contains("granted by https://elsewhere.example"), "{said}");
    assert_eq!(server.app_passwords(), 0);
}
