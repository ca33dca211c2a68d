//! What a server refuses, said before the upload where that is possible, in words that name the way out.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use scaup_rig::eventually;
use scaup_rig::nextcloud::{Fault, Version, What};

use super::cloud::{Cloud, FOLDER};
use crate::support::{ends_with, said};

/// Shares a file where it must be refused; returns what was said.
fn refused(cloud: &Cloud, code: i32, arguments: &[&str]) -> String {
    cloud.file("Offer.pdf", b"content");
    let output = cloud.share("Offer.pdf", arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(cloud.is_clean(), "{text}: {}", cloud.state());
    text
}

fn uploads(cloud: &Cloud) -> usize {
    cloud.server.requests().iter().filter(|request| request.method == "PUT").count()
}

#[test]
fn what_the_server_would_refuse_is_said_before_anything_is_uploaded() {
    for version in Version::ALL {
        let cloud = Cloud::of(version);
        let check = |code: i32, arguments: &[&str], words: &[&str]| {
            let text = refused(&cloud, code, arguments);
            assert!(words.iter().all(|word| text.contains(word)), "{version:?}: {words:?} in {text}");
            assert_eq!(uploads(&cloud), 0, "{version:?}: {text}");
        };
        check(2, &["--days", "0"], &["one day at least"]);
        check(2, &["--until", "2020-01-01"], &["one day at least"]);
        check(1, &["--as", "a/b"], &["--as NAME"]);
        check(1, &["--as", ".htaccess"], &["--as NAME"]);
        check(1, &["--as", &"x".repeat(240)], &["too long", "--as NAME"]);
        let short = cloud.scaup.command_answering("ab1");
        check(
            1,
            &["--password-command", &short],
            &["does not accept the password", "10 characters", "leave --password-command out"],
        );
        cloud.server.change(|settings| settings.quota = Some(3));
        check(1, &[], &["no room", "3 bytes are free", "scaup share prune", "--account NAME"]);
        cloud.server.change(|settings| settings.quota = None);
        cloud.server.change(|settings| {
            settings.default_days = Some(5);
            settings.days_enforced = true;
        });
        check(2, &["--days", "6"], &["5 days at most", "--days 5"]);
        check(2, &[], &["5 days at most"]);
        let fits = cloud.share("Offer.pdf", &["--days", "5"]);
        assert!(fits.status.success(), "{version:?}: {}", said(&fits));
        let shares = cloud.list();
        ends_with(&cloud.scaup, 0, ["share", "revoke", shares[0]["id"].as_str().unwrap()]);
        cloud.server.change(|settings| settings.links_allowed = false);
        let text = refused(&cloud, 1, &["--days", "2"]);
        assert!(text.contains("permits no links"), "{version:?}: {text}");
        cloud.server.change(|settings| {
            settings.links_allowed = true;
            settings.sharing_enabled = false;
        });
        let text = refused(&cloud, 1, &["--days", "2"]);
        assert!(text.contains("permits no links"), "{version:?}: {text}");
    }
}

#[test]
fn generated_passwords_satisfy_any_policy() {
    for version in Version::ALL {
        let cloud = Cloud::of(version);
        cloud.server.change(|settings| {
            settings.password_enforced = true;
            settings.policy.min_length = 40;
            settings.policy.numeric = true;
            settings.policy.special = true;
            settings.policy.upper_lower = true;
        });
        cloud.file("Offer.pdf", b"content");
        let shared = cloud.shared("Offer.pdf", &[]);
        assert!(shared["password"].as_str().unwrap().len() >= 40, "{shared}");
        cloud.server.change(|settings| settings.policy_app = false);
        cloud.shared("Offer.pdf", &[]);
    }
}

#[test]
fn the_twenty_first_link_in_ten_minutes_is_told_of_and_undone() {
    for version in [Version::V32, Version::V34] {
        let cloud = Cloud::of(version);
        cloud.server.change(|settings| settings.shares_per_10_minutes = Some(3));
        cloud.file("Offer.pdf", b"content");
        for _ in 0..3 {
            cloud.shared("Offer.pdf", &[]);
        }
        let output = cloud.share("Offer.pdf", &[]);
        assert_eq!(output.status.code(), Some(3));
        assert!(said(&output).contains("20 links in ten minutes"), "{}", said(&output));
        assert_eq!((cloud.server.shares().len(), cloud.list().len()), (3, 3), "{}", cloud.state());
    }
}

#[test]
fn a_refused_login_makes_one_request() {
    let cloud = Cloud::of(Version::V31);
    cloud.file("Offer.pdf", b"content");
    let config = cloud.scaup.home().join("config/scaup/accounts/cloud.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let wrong = cloud.scaup.command_answering("wrong");
    let line = text.lines().find(|line| line.contains("command = ")).unwrap();
    std::fs::write(&config, text.replace(line, &format!("command = \"{}\"", wrong.replace('"', "\\\""))))
        .unwrap();
    for arguments in [&["share", "list"][..], &["share", "prune"], &["share", "revoke", "k7m2qx"]] {
        let before = cloud.server.requests().len();
        let text = ends_with(&cloud.scaup, 3, arguments);
        assert!(text.contains("refuses the login") && text.contains("scaup account add"), "{text}");
        assert_eq!(cloud.requests_since(before).len(), 1, "{arguments:?}");
    }
    let before = cloud.server.requests().len();
    assert_eq!(cloud.share("Offer.pdf", &[]).status.code(), Some(3));
    assert_eq!(cloud.requests_since(before).len(), 1);
}

#[test]
fn maintenance_and_a_server_that_is_gone_are_told_apart_from_a_refusal() {
    let cloud = Cloud::of(Version::V28);
    cloud.server.change(|settings| settings.maintenance = true);
    let text = ends_with(&cloud.scaup, 6, ["share", "list"]);
    assert!(text.contains("in maintenance"), "{text}");
    cloud.server.change(|settings| settings.maintenance = false);
    cloud.fail_next(0, u32::MAX, What::CutBefore);
    let text = ends_with(&cloud.scaup, 6, ["share", "list"]);
    assert!(text.contains("can't be reached"), "{text}");
}

#[test]
fn a_server_that_leads_elsewhere_gets_no_login_there() {
    for (number, what) in
        ["user", "capabilities", "validate", "MKCOL", "MKCOL", "PUT", "PATCH", "POST"].iter().enumerate()
    {
        let cloud = Cloud::of(Version::V32);
        cloud.file("Offer.pdf", b"content");
        cloud.fail_next(number as u32, 1, What::Redirect("https://elsewhere.example".to_owned()));
        let output = cloud.share("Offer.pdf", &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {text}");
        assert!(
            text.contains("elsewhere.example") && text.contains("nothing is sent there"),
            "{what}: {text}"
        );
        assert!(cloud.is_clean(), "{what}: {}", cloud.state());
    }
}

#[test]
fn a_server_with_another_idea_of_its_address_gives_links_that_work() {
    for base in ["http://wrong.example", "https://127.0.0.1"] {
        let cloud = Cloud::of(Version::V29);
        cloud.file("Offer.pdf", b"content");
        cloud.server.change(|settings| settings.share_url_base = Some(base.to_owned()));
        let output = cloud.share("Offer.pdf", &[]);
        assert!(output.status.success() && said(&output).contains("another address"), "{}", said(&output));
        assert!(said(&output).contains(&format!("{}/index.php/s/", cloud.server.url())), "{}", said(&output));
    }
}

#[test]
fn a_clock_that_is_hours_wrong_is_told_of_before_the_upload() {
    for skew in [-3 * 3600, 3 * 3600] {
        let cloud = Cloud::of(Version::V34);
        cloud.server.change(|settings| settings.date_skew = skew);
        let text = refused(&cloud, 1, &[]);
        assert!(text.contains("differ by 3 hours") && text.contains("clock"), "{text}");
        assert_eq!(uploads(&cloud), 0);
    }
}

#[test]
fn a_refusal_of_the_link_names_the_way_out() {
    let cloud = Cloud::of(Version::V31);
    for (status, code, words) in [
        (403, 1, &["made no link (403)", "administrator", "ask them"][..]),
        (400, 1, &["made no link (400)", "ask them"]),
        (404, 1, &["made no link (404)", "ask them"]),
        (429, 3, &["accepts no more requests for now"]),
        (500, 1, &["making the link: 500", "try again later, or tell its administrator"]),
    ] {
        cloud.server.fail(Fault { times: 2, ..Fault::once("POST", "/api/v1/shares", What::Status(status)) });
        let text = refused(&cloud, code, &[]);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
        assert!(!text.contains("20 links"), "{text}");
        cloud.server.stop_failing();
    }
    // What is permitted may change during the upload.
    for is_forbidden in [true, false] {
        let cloud = Cloud::of(Version::V32);
        cloud.server.fail(Fault::once("PATCH", "", What::Slow(std::time::Duration::from_secs(1))));
        let text = std::thread::scope(|scope| {
            scope.spawn(|| {
                eventually("the upload", std::time::Duration::from_secs(20), || {
                    cloud.requests_since(0).iter().any(|request| request.starts_with("PATCH"))
                });
                cloud.server.change(|settings| {
                    settings.links_allowed = !is_forbidden;
                    settings.default_days = Some(3);
                    settings.days_enforced = true;
                });
            });
            refused(&cloud, if is_forbidden { 1 } else { 2 }, &[])
        });
        let words = if is_forbidden { "permits no links" } else { "3 days at most" };
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_refusal_of_the_upload_names_the_way_out() {
    // This version does not say which characters it refuses.
    let cloud = Cloud::of(Version::V28);
    cloud.server.change(|settings| settings.forbidden_characters = vec!['*']);
    let text = refused(&cloud, 1, &["--as", "a*b"]);
    assert!(text.contains("does not accept the name a*b") && text.contains("--as NAME"), "{text}");
    for (method, status, words) in [
        ("PUT", 413, &["takes no request as long as 1 MiB", "client_max_body_size"][..]),
        ("PATCH", 500, &["comparing what was stored: 500", "tell its administrator"]),
        ("PATCH", 405, &["comparing what was stored: 405", "a proxy before it"]),
        ("PUT", 507, &["no room", "another account"]),
    ] {
        cloud.server.fail(Fault::once(method, "/dav/files/", What::Status(status)));
        let text = refused(&cloud, 1, &[]);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
    }
}

/// The most westerly and the most easterly time zone: there, it is never the same day.
const WEST: &str = "Etc/GMT+12";
const EAST: &str = "Etc/GMT-14";

fn day_in(zone: &str) -> Date {
    Timestamp::now().to_zoned(TimeZone::get(zone).unwrap()).date()
}

#[test]
fn days_are_counted_as_the_server_counts_them() {
    for version in Version::ALL {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", b"content");
        cloud.server.change(|settings| {
            settings.time_zone = Some(WEST.to_owned());
            settings.default_days = Some(7);
            settings.days_enforced = true;
        });
        let longest = day_in(WEST).checked_add(7.days()).unwrap();
        let is_told = version >= Version::V32;
        let output = cloud.share_in(EAST, "Offer.pdf", &["--days", "7"]);
        assert!(output.status.success(), "{version:?}: {}", said(&output));
        let ends = cloud.server.shares().pop().unwrap().expiration.unwrap();
        assert!(ends.starts_with(&longest.to_string()), "{version:?}: {ends}, {longest}");
        assert_eq!(said(&output).contains("ends earlier"), !is_told, "{version:?}: {}", said(&output));
        assert!(said(&output).contains(&format!("\"expires\": \"{}", &ends[..10])), "{}", said(&output));
        let id = cloud.list()[0]["id"].as_str().unwrap().to_owned();
        let mut extend = cloud.scaup.command();
        let output = extend.env("TZ", EAST).args(["share", "extend", &id, "--days", "7"]).output().unwrap();
        assert!(output.status.success(), "{version:?}: {}", said(&output));
        assert_eq!(said(&output).contains("ends earlier"), !is_told, "{version:?}: {}", said(&output));
        ends_with(&cloud.scaup, 0, ["share", "revoke", &id]);
        assert!(cloud.is_clean(), "{version:?}: {}", cloud.state());
        if is_told {
            let before = uploads(&cloud);
            let until = longest.tomorrow().unwrap().to_string();
            let output = cloud.share_in(EAST, "Offer.pdf", &["--until", &until]);
            assert_eq!(output.status.code(), Some(2), "{version:?}: {}", said(&output));
            assert!(said(&output).contains("7 days at most"), "{}", said(&output));
            assert_eq!(uploads(&cloud), before);
        }
        // Where this machine is, the day is not over yet; where the server is, it is.
        cloud.server.change(|settings| settings.time_zone = Some(EAST.to_owned()));
        let before = uploads(&cloud);
        let output = cloud.share_in(WEST, "Offer.pdf", &["--until", &day_in(WEST).to_string()]);
        assert_eq!(output.status.code(), Some(2), "{version:?}: {}", said(&output));
        assert!(said(&output).contains("would end before"), "{version:?}: {}", said(&output));
        assert_eq!(uploads(&cloud) == before, is_told, "{version:?}");
        assert!(cloud.is_clean(), "{version:?}: {}", cloud.state());
        assert!(cloud.server.files().iter().all(|file| !file.starts_with(FOLDER) || file == FOLDER));
    }
}
