//! What a server refuses, said before the upload where that is possible, in words that name the way out.

use scaup_rig::nextcloud::{Version, What};

use super::cloud::Cloud;
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
        check(1, &["--password-command", &short], &["does not accept the password", "10 characters"]);
        cloud.server.change(|settings| settings.quota = Some(3));
        check(1, &[], &["no room"]);
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
        assert!(text.contains("refuses the login"), "{text}");
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
