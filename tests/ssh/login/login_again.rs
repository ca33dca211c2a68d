//! Logging in again after the connection was lost: who is asked, for what, and what is not asked for again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scaup_rig::{Answers, Bus, Mount, Notifications, Proxy, Scaup, Sshd, eventually};

use crate::support::front_end::{FrontEnd, socket};
use crate::support::{said, scaup, status};

/// Any step of a story; the next code is up to half a minute away.
const SOON: Duration = Duration::from_secs(90);

fn becomes(scaup: &Scaup, state: &str) {
    eventually(&format!("it is {state}"), SOON, || status(scaup, "/state") == state);
}

fn reason(scaup: &Scaup) -> String {
    let status = scaup.status();
    status.pointer("/mounts/0/reason").and_then(|reason| reason.as_str()).unwrap_or_default().to_owned()
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// A mount whose login needs a passphrase and a code, made with an `SSH_ASKPASS` program that answers both, and notes
/// what it is asked.
struct Story {
    mount: Mount,
    scaup: Scaup,
    proxy: Proxy,
    sshd: Sshd,
    askpass: PathBuf,
    asked: PathBuf,
}

impl Story {
    fn begin(sshd: Sshd, arguments: &[&str], bus: &str) -> Self {
        let scaup = scaup();
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let (askpass, asked) = scaup.askpass(&Answers::login(&sshd));
        let mount = scaup
            .mount_through(&proxy, &sshd, "")
            .args(["--timeout", "120"])
            .args(arguments)
            .askpass(&askpass)
            .env("DBUS_SESSION_BUS_ADDRESS", bus)
            .start();
        assert_eq!(lines(&asked).len(), 2, "passphrase and code");
        Self { mount, scaup, proxy, sshd, askpass, asked }
    }

    fn begin_without_desktop(arguments: &[&str]) -> Self {
        Self::begin(Sshd::builder().start(), arguments, "unix:path=/nowhere")
    }

    /// Fails unless a code was asked for, and nothing else. It is asked for again if the one of the first login was
    /// typed once more.
    fn is_about_codes(&self, asked: &[String]) {
        let code = format!("({}@{}) Verification code: ", self.sshd.user(), self.sshd.host());
        assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == code), "{asked:?}");
    }

    /// From now on, the person at the program does this.
    fn askpass_does(&self, what: &str) {
        fs::write(&self.askpass, format!("#!/bin/sh\n{what}\n")).unwrap();
    }

    /// `scaup login` with answers of its own; what it was asked.
    fn log_in(&self) -> Vec<String> {
        let (askpass, asked) = self.scaup.askpass(&Answers::login(&self.sshd));
        let mut login = self.scaup.command();
        login.arg("login").env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        let output = scaup_rig::within(SOON, move || login.output().unwrap());
        assert!(output.status.success(), "{}", said(&output));
        lines(&asked)
    }

    fn end(self) {
        self.mount.unmount(&self.scaup);
    }
}

#[test]
fn the_program_of_the_session_is_asked_for_the_code_and_not_for_the_passphrase() {
    let story = Story::begin_without_desktop(&[]);
    story.proxy.cut();
    eventually("it is connected again", SOON, || status(&story.scaup, "/counters/reconnects") == 1);
    story.is_about_codes(lines(&story.asked).get(2..).unwrap());
    story.end();
}

#[test]
fn with_forget_key_the_passphrase_is_asked_for_again() {
    let story = Story::begin_without_desktop(&["--forget-key"]);
    story.proxy.cut();
    eventually("it is connected again", SOON, || status(&story.scaup, "/counters/reconnects") == 1);
    let asked = lines(&story.asked);
    assert_eq!(asked.first(), asked.get(2));
    story.is_about_codes(asked.get(3..).unwrap());
    story.end();
}

#[test]
fn a_code_that_was_typed_is_not_sent_twice() {
    let sshd = Sshd::builder().codes_only_once().start();
    // Both logins must fall into one step.
    if sshd.totp_remaining() < Duration::from_secs(15) {
        std::thread::sleep(sshd.totp_remaining());
    }
    let story = Story::begin(sshd, &[], "unix:path=/nowhere");
    story.proxy.cut();
    eventually("the status shows the wait", SOON, || {
        reason(&story.scaup).contains("waiting for the next, which comes in")
    });
    eventually("it is connected again", SOON, || status(&story.scaup, "/counters/reconnects") == 1);
    assert!(!story.sshd.log().contains("Failed keyboard-interactive"), "a used code was sent");
    story.end();
}

#[test]
fn a_login_is_kept_while_the_directory_is_missing_behind_it() {
    let scaup = scaup();
    let sshd = Sshd::builder().start();
    let (vault, away) = (sshd.home().join("data"), sshd.home().join("away"));
    fs::create_dir(&vault).unwrap();
    sshd.give(&vault);
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let (askpass, asked) = scaup.askpass(&Answers::login(&sshd));
    let mount = scaup.mount_through(&proxy, &sshd, "data").askpass(&askpass).start();
    fs::rename(&vault, &away).unwrap();
    let before = lines(&asked).len();
    proxy.cut();
    eventually("it says what is missing", SOON, || reason(&scaup).contains("is missing on the server"));
    // Several attempts, all of them behind the same login. The next pauses are fifteen seconds each; without a bound
    // they would be sixteen and thirty-two.
    std::thread::sleep(Duration::from_secs(32));
    assert!(reason(&scaup).contains("data is missing on the server"), "{}", reason(&scaup));
    let logins = proxy.connections();
    fs::rename(&away, &vault).unwrap();
    let back = std::time::Instant::now();
    becomes(&scaup, "connected");
    // Fifteen seconds at most, and the look itself.
    assert!(back.elapsed() < Duration::from_secs(17), "after {:?}", back.elapsed());
    assert_eq!(proxy.connections(), logins, "the login that stood was used");
    assert_eq!(proxy.connections(), 2, "one login, and one more after the cut");
    // A second time it is asked only if the code of the first login was given once more.
    assert!(lines(&asked).len() - before <= 2, "{:?}", lines(&asked));
    mount.unmount(&scaup);
}

#[test]
fn a_login_that_was_cut_is_made_again_where_a_command_gives_the_code() {
    let scaup = scaup();
    let sshd = Sshd::builder().config("LoginGraceTime 4").start();
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let code = scaup.home().join("code");
    let answers = Answers::login(&sshd);
    let (askpass, _asked) = scaup.askpass(&answers);
    let give = |before: &str| {
        fs::write(&code, format!("{before}\nexec '{}' 'Verification code: '\n", askpass.display())).unwrap();
    };
    give("");
    let command = format!("sh '{}'", code.display());
    let mount =
        scaup.mount_through(&proxy, &sshd, "").args(["--otp-command", &command]).askpass(&askpass).start();
    std::thread::sleep(sshd.totp_remaining());
    // The server hangs up before the answer comes.
    give("sleep 8");
    proxy.cut();
    eventually("it was cut off", SOON, || reason(&scaup).contains("closed the connection during the login"));
    give("");
    becomes(&scaup, "connected");
    mount.unmount(&scaup);
}

#[test]
fn another_host_in_the_servers_place_is_looked_at_again_until_it_is_gone() {
    let scaup = scaup();
    let (sshd, other) = (Sshd::key_only().start(), Sshd::key_only().start());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    proxy.redirect(other.host(), other.port());
    proxy.cut();
    eventually("it says so", SOON, || reason(&scaup).contains("key"));
    assert_eq!(status(&scaup, "/state"), "reconnecting", "{}", reason(&scaup));
    proxy.redirect(sshd.host(), sshd.port());
    becomes(&scaup, "connected");
    mount.unmount(&scaup);
}

#[test]
fn a_web_server_in_the_servers_place_is_called_that() {
    let scaup = scaup();
    let sshd = Sshd::key_only().start();
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    proxy.redirect("127.0.0.1", port);
    proxy.cut();
    eventually("it says so", SOON, || reason(&scaup).contains("a web server answers there"));
    proxy.redirect(sshd.host(), sshd.port());
    becomes(&scaup, "connected");
    mount.unmount(&scaup);
}

#[test]
fn scaup_login_is_asked_where_nobody_answered_and_nothing_is_lost_meanwhile() {
    let story = Story::begin_without_desktop(&[]);
    story.askpass_does("exit 1");
    let mut file = File::create(story.mount.join("file")).unwrap();
    file.write_all(b"written before the cut, ").unwrap();
    story.proxy.cut();
    eventually("it says what to do", SOON, || reason(&story.scaup).contains("`scaup login"));
    assert_eq!(status(&story.scaup, "/state"), "waiting_for_answer");
    file.write_all(b"and after it").unwrap();
    story.is_about_codes(&story.log_in());
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(status(&story.scaup, "/state"), "connected");
    let saved = fs::read_to_string(story.sshd.home().join("file")).unwrap();
    assert_eq!(saved, "written before the cut, and after it");
    story.end();
}

#[test]
fn scaup_login_takes_over_what_a_window_asks() {
    let story = Story::begin_without_desktop(&[]);
    let window = story.scaup.home().join("window");
    story
        .askpass_does(&format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 1000", window.display()));
    story.proxy.cut();
    eventually("the window asks", SOON, || window.exists());
    assert_eq!(status(&story.scaup, "/state"), "waiting_for_answer");
    assert!(reason(&story.scaup).contains("Verification code:"), "{}", reason(&story.scaup));
    story.is_about_codes(&story.log_in());
    assert_eq!(status(&story.scaup, "/state"), "connected");
    let window = PathBuf::from("/proc").join(fs::read_to_string(&window).unwrap().trim());
    eventually("the window is gone", SOON, || !window.exists());
    story.end();
}

#[test]
fn a_front_end_that_never_answers_keeps_the_question_from_nobody() {
    let story = Story::begin_without_desktop(&[]);
    story.askpass_does("exit 1");
    story.proxy.cut();
    eventually("it says what to do", SOON, || reason(&story.scaup).contains("`scaup login"));
    let mut silent = FrontEnd::connect(&socket(&story.scaup));
    silent.ask(&serde_json::json!("Login"));
    let prompt = silent.hear_behind_progress()["Prompt"].take();
    assert_eq!((&prompt["kind"], &prompt["attempt"]), (&"code".into(), &1.into()), "{prompt}");
    let destination = prompt["destination"].as_str().unwrap();
    assert_eq!(prompt["text"], format!("({destination}) Verification code: "), "{prompt}");
    assert!(reason(&story.scaup).contains("Verification code:"), "{}", reason(&story.scaup));
    story.is_about_codes(&story.log_in());
    assert_eq!(status(&story.scaup, "/state"), "connected");
    drop(silent);
    story.end();
}

#[test]
fn a_window_goes_away_when_the_server_hung_up_and_what_is_asked_later_is_new() {
    let sshd = Sshd::builder().config("LoginGraceTime 5").start();
    let story = Story::begin(sshd, &[], "unix:path=/nowhere");
    let window = story.scaup.home().join("window");
    story
        .askpass_does(&format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 1000", window.display()));
    story.proxy.cut();
    eventually("the window asks", SOON, || window.exists());
    let window = PathBuf::from("/proc").join(fs::read_to_string(&window).unwrap().trim());
    eventually("the window is gone", SOON, || !window.exists());
    eventually("it says what to do", SOON, || reason(&story.scaup).contains("`scaup login"));
    assert!(
        reason(&story.scaup).contains("closed the connection during the login"),
        "{}",
        reason(&story.scaup)
    );
    // The code of the first login would have to wait for the next, longer than this server does.
    std::thread::sleep(story.sshd.totp_remaining());
    story.is_about_codes(&story.log_in());
    story.end();
}

#[test]
fn a_notification_calls_to_the_login_and_goes_away_with_it() {
    let bus = Bus::start();
    let notifications = Notifications::on(&bus);
    let story = Story::begin(Sshd::builder().start(), &[], bus.address());
    let answers = fs::read_to_string(&story.askpass).unwrap();
    story.askpass_does("exit 1");
    story.proxy.cut();
    eventually("somebody is called", SOON, || !notifications.shown().is_empty());
    let [shown] = <[_; 1]>::try_from(notifications.shown()).unwrap();
    assert!(shown.title.ends_with("needs you to log in"), "{shown:?}");
    let key = story.sshd.key().path().display().to_string();
    assert!(!shown.text.contains(&key) && !shown.text.contains("Verification"), "{shown:?}");
    assert!(shown.actions.contains(&"login".to_owned()), "{shown:?}");
    becomes(&story.scaup, "waiting_for_answer");
    fs::write(&story.askpass, answers).unwrap();
    notifications.choose(shown.id + 1, "login");
    notifications.choose(shown.id, "login");
    becomes(&story.scaup, "connected");
    story.is_about_codes(lines(&story.asked).get(2..).unwrap());
    eventually("the notification is gone", SOON, || notifications.shown().is_empty());
    story.end();
}
