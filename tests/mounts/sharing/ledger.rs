//! `scaup share list`, `revoke`, `prune` and `extend`: the folder on the server is all that is known, and nothing else
//! in it is touched.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use scaup_rig::eventually;
use scaup_rig::nextcloud::{Fault, Nextcloud, Version, What};

use super::cloud::{Cloud, FOLDER};
use crate::support::{ends_with, noise, said, scaup, signal};

fn id(shared: &serde_json::Value) -> String {
    shared["id"].as_str().unwrap().to_owned()
}

fn state_of(cloud: &Cloud, id: &str) -> Option<String> {
    let list = cloud.list();
    let share = list.iter().find(|share| share["id"].as_str() == Some(id))?;
    Some(share["state"].as_str().unwrap().to_owned())
}

#[test]
fn prune_removes_what_is_over_and_nothing_else() {
    for version in Version::ALL {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", b"content");
        let (short, long) = (
            id(&cloud.shared("Offer.pdf", &["--days", "1"])),
            id(&cloud.shared("Offer.pdf", &["--days", "30"])),
        );
        let foreign = [
            "2026-12-05-k7m2qx/one.txt",
            "2026-12-05-k7m2qx/two.txt",
            "2020-01-01-aaaaaa/below/deep.txt",
            "2020-01-01-notours/file.txt",
            "notes.txt",
            "other/x",
        ];
        for path in foreign {
            cloud.server.put(&format!("{FOLDER}{path}"), b"somebody's");
        }
        cloud.server.put("/2020-01-01-bbbbbb/file.txt", b"somebody's");
        cloud.server.advance_days(3);
        let said = ends_with(&cloud.scaup, 0, ["share", "list"]);
        assert!(said.contains("notes.txt") && said.contains("left alone"), "{version:?}: {said}");
        assert_eq!(state_of(&cloud, &long).as_deref(), Some("works"));
        assert_eq!(state_of(&cloud, &short).as_deref(), Some("expired"), "{version:?}");
        ends_with(&cloud.scaup, 0, ["share", "prune"]);
        let files = cloud.server.files();
        for path in foreign {
            assert!(files.contains(&format!("{FOLDER}{path}")), "{version:?}: {path} in {files:?}");
        }
        assert!(files.iter().any(|file| file.contains(&long)), "{version:?}");
        assert!(!files.iter().any(|file| file.contains(&short)), "{version:?}: {files:?}");
        assert!(!cloud.server.trash().iter().any(|file| file.contains(&short)), "{version:?}");
    }
}

#[test]
fn revoke_ends_a_link_for_good_whatever_was_done_to_its_file() {
    for version in Version::ALL {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", b"content");
        let shared = cloud.shared("Offer.pdf", &[]);
        let share = cloud.server.shares().pop().unwrap();
        let (path, password) = (share.path.unwrap(), share.password.unwrap());
        // The file goes to the trash in the web interface: the link hides, and would live again with the file.
        cloud.server.remove(&path);
        ends_with(&cloud.scaup, 0, ["share", "revoke", &id(&shared)]);
        assert!(cloud.server.trash().is_empty(), "{version:?}: {}", cloud.state());
        assert!(
            cloud.server.shares().iter().all(|share| share.path.is_none()),
            "{version:?}: {}",
            cloud.state()
        );
        assert_eq!(cloud.server.open_link(&share.token, Some(&password)), None);
        // It is renamed there.
        let shared = cloud.shared("Offer.pdf", &[]);
        let share = cloud.server.shares().pop().unwrap();
        let path = share.path.unwrap();
        cloud.server.rename(&path, &path.replace("Offer", "Renamed"));
        assert_eq!(state_of(&cloud, &id(&shared)).as_deref(), Some("works"));
        ends_with(&cloud.scaup, 0, ["share", "revoke", &id(&shared)]);
        assert!(
            !cloud.server.files().iter().any(|file| file.contains(&id(&shared))),
            "{version:?}: {}",
            cloud.state()
        );
        assert_eq!(cloud.server.open_link(&share.token, share.password.as_deref()), None);
        // Its folder goes to the trash, and another file stands where it was.
        for puts in [false, true] {
            let shared = cloud.shared("Offer.pdf", &[]);
            let share = cloud.server.shares().into_iter().find(|share| share.path.is_some()).unwrap();
            let path = share.path.unwrap();
            cloud.server.remove(if puts { &path } else { path.rsplit_once('/').unwrap().0 });
            if puts {
                cloud.server.put(&path, b"another");
            }
            ends_with(&cloud.scaup, 0, ["share", "revoke", &id(&shared)]);
            assert!(cloud.server.trash().is_empty(), "{version:?}: {}", cloud.state());
            assert_eq!(cloud.server.open_link(&share.token, share.password.as_deref()), None);
        }
    }
}

#[test]
fn a_share_is_known_to_every_machine_and_can_be_extended() {
    for version in Version::ALL {
        let here = Cloud::of(version);
        let there = scaup();
        super::cloud::add_account(&here.server, &there);
        here.file("Offer.pdf", b"content");
        let shared = here.shared("Offer.pdf", &["--days", "2"]);
        let listed = ends_with(&there, 0, ["share", "list"]);
        assert!(
            listed.contains(&id(&shared)) && listed.contains("Offer.pdf") && listed.contains("link works"),
            "{listed}"
        );
        let said = ends_with(&there, 0, ["share", "extend", &id(&shared), "--days", "20"]);
        assert!(said.contains("the link works until"), "{said}");
        here.server.advance_days(20);
        let share = here.server.shares().pop().unwrap();
        assert!(here.server.open_link(&share.token, share.password.as_deref()).is_some(), "{version:?}");
        here.server.advance_days(1);
        assert!(here.server.open_link(&share.token, share.password.as_deref()).is_none(), "{version:?}");
        ends_with(&there, 1, ["share", "extend", &id(&shared), "--days", "3"]);
        ends_with(&there, 0, ["share", "revoke", &id(&shared)]);
        assert!(here.is_clean(), "{version:?}: {}", here.state());
        ends_with(&there, 1, ["share", "revoke", &id(&shared)]);
    }
}

#[test]
fn an_upload_that_takes_longer_than_an_hour_is_not_pruned() {
    let cloud = Cloud::of(Version::V31);
    let there = scaup();
    super::cloud::add_account(&cloud.server, &there);
    let path = cloud.file("Offer.pdf", &noise(8, 36 << 20));
    let before = cloud.server.requests().len();
    cloud.server.fail(Fault::once("PUT", "00003", What::Slow(Duration::from_secs(3))));
    let mut command = cloud.scaup.command();
    command.args(["share", path.to_str().unwrap(), "--yes", "--json", "--print-both"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("parts", Duration::from_secs(20), || {
        cloud
            .requests_since(before)
            .iter()
            .any(|request| request.contains("/uploads/") && request.starts_with("PUT"))
    });
    // Two hours later, as the server's clock has it.
    cloud.server.change(|settings| settings.date_skew = 2 * 3600);
    let list = cloud.list();
    assert!(
        list.len() == 1 && list[0]["state"].as_str() == Some("unfinished"),
        "{list:?}: {}",
        cloud.state()
    );
    ends_with(&there, 0, ["share", "prune"]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// The command that an error names to go on with.
fn goes_on(cloud: &Cloud, text: &str) {
    let command = text.split("go on with: scaup ").nth(1).unwrap_or_else(|| panic!("{text}"));
    ends_with(&cloud.scaup, 0, command.lines().next().unwrap().split(' '));
    assert!(cloud.is_clean(), "{text}: {}", cloud.state());
}

#[test]
fn what_revoke_could_not_remove_is_named_and_prune_finds_it_at_once() {
    for version in Version::ALL {
        for is_pruned in [true, false] {
            let cloud = Cloud::of(version);
            cloud.file("Offer.pdf", b"content");
            let shared = cloud.shared("Offer.pdf", &[]);
            let share = cloud.server.shares().pop().unwrap();
            cloud.server.fail(Fault::once("DELETE", "/dav/files/", What::Status(500)));
            let text = ends_with(&cloud.scaup, 9, ["share", "revoke", &id(&shared)]);
            assert!(text.contains("removing: 500") && text.contains("there may still be its file"), "{text}");
            assert_eq!(cloud.server.open_link(&share.token, share.password.as_deref()), None);
            assert_eq!(state_of(&cloud, &id(&shared)).as_deref(), Some("revoked"), "{version:?}");
            if is_pruned {
                let text = ends_with(&cloud.scaup, 0, ["share", "prune"]);
                assert!(text.contains("Offer.pdf (revoked) was deleted"), "{text}");
                assert!(cloud.is_clean(), "{version:?}: {}", cloud.state());
            } else {
                goes_on(&cloud, &text);
            }
        }
    }
}

/// A refusal, a cut or a signal at each step of what removes or changes a share.
#[test]
fn a_revoke_that_stops_at_any_step_is_gone_on_with() {
    for version in [Version::V28, Version::V34] {
        let cloud = Cloud::of(version);
        cloud.server.change(|settings| settings.shares_per_10_minutes = None);
        cloud.file("Offer.pdf", b"content");
        let shared = cloud.shared("Offer.pdf", &[]);
        let before = cloud.server.requests().len();
        ends_with(&cloud.scaup, 0, ["share", "revoke", &id(&shared)]);
        let steps = cloud.requests_since(before).len();
        for step in 0..u32::try_from(steps).unwrap() {
            for what in [What::Status(500), What::LoseAnswer, What::Slow(Duration::from_millis(300))] {
                let shared = cloud.shared("Offer.pdf", &[]);
                let before = cloud.server.requests().len();
                cloud.fail_next(step, 1, what.clone());
                let mut command = cloud.scaup.command();
                command.args(["share", "revoke", &id(&shared)]);
                let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                if let What::Slow(_) = what {
                    eventually("the step", Duration::from_secs(20), || {
                        cloud.server.requests().len() > before + step as usize
                    });
                    signal(child.id(), Signal::INT);
                }
                let output = child.wait_with_output().unwrap();
                cloud.server.stop_failing();
                let text = format!("{version:?}, step {step}, {what:?}: {}", said(&output));
                // What was under way is done by then.
                std::thread::sleep(Duration::from_millis(400));
                match output.status.code() {
                    Some(0) => {}
                    // The last request may have been done, though nobody knows.
                    Some(9) if cloud.is_clean() => {}
                    Some(9) if text.contains("go on with: ") => goes_on(&cloud, &text),
                    Some(9) => assert!(text.contains("in the trash"), "{text}"),
                    // Nothing was begun.
                    _ => assert_eq!(state_of(&cloud, &id(&shared)).as_deref(), Some("works"), "{text}"),
                }
                if output.status.code() != Some(0) {
                    let _ = cloud.scaup.run(["share", "revoke", &id(&shared)]);
                }
                assert!(cloud.is_clean(), "{text}: {}", cloud.state());
            }
        }
    }
}

#[test]
fn an_extension_that_stops_at_any_step_can_be_asked_for_again() {
    for version in [Version::V28, Version::V34] {
        let cloud = Cloud::of(version);
        cloud.file("Offer.pdf", b"content");
        let shared = cloud.shared("Offer.pdf", &["--days", "2"]);
        let extend =
            |days: u32| cloud.scaup.run(["share", "extend", &id(&shared), "--days", &days.to_string()]);
        let before = cloud.server.requests().len();
        assert!(extend(3).status.success());
        let steps = u32::try_from(cloud.requests_since(before).len()).unwrap();
        for step in 0..steps {
            for what in [What::Status(403), What::Status(503), What::CutBefore, What::LoseAnswer] {
                cloud.fail_next(step, 1, what.clone());
                let days = 4 + step;
                let output = extend(days);
                cloud.server.stop_failing();
                let text = format!("{version:?}, step {step}, {what:?}: {}", said(&output));
                assert!(output.status.success() || matches!(what, What::Status(403)), "{text}");
                assert_eq!(state_of(&cloud, &id(&shared)).as_deref(), Some("works"), "{text}");
                assert!(extend(2).status.success(), "{text}");
            }
        }
        ends_with(&cloud.scaup, 0, ["share", "revoke", &id(&shared)]);
        assert!(cloud.is_clean(), "{version:?}: {}", cloud.state());
    }
}

#[test]
fn a_prune_that_is_cancelled_says_what_it_removed() {
    let cloud = Cloud::of(Version::V34);
    for name in ["One.pdf", "Two.pdf", "Three.pdf"] {
        cloud.file(name, b"content");
        cloud.shared(name, &["--days", "1"]);
    }
    cloud.server.advance_days(3);
    // The second one's file.
    let slow = What::Slow(Duration::from_secs(2));
    cloud.server.fail(Fault { after: 2, ..Fault::once("DELETE", "/dav/files/", slow) });
    let before = cloud.server.requests().len();
    let mut command = cloud.scaup.command();
    let child =
        command.args(["share", "prune"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the second one", Duration::from_secs(20), || {
        let requests = cloud.requests_since(before);
        requests.iter().filter(|request| request.starts_with("DELETE") && request.contains("/files/")).count()
            > 2
    });
    signal(child.id(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(9), "{text}");
    assert_eq!(text.matches(" was deleted, from the trash too").count(), 1, "{text}");
    assert!(text.contains("go on with: scaup share revoke "), "{text}");
    std::thread::sleep(Duration::from_millis(2500));
    ends_with(&cloud.scaup, 0, ["share", "prune"]);
    assert!(cloud.is_clean(), "{}", cloud.state());
}

#[test]
fn a_link_whose_file_the_server_does_not_know_hides_no_other() {
    let cloud = Cloud::of(Version::V31);
    cloud.file("One.pdf", b"content");
    cloud.file("Two.pdf", b"content");
    cloud.shared("One.pdf", &[]);
    let path = cloud.server.shares().pop().unwrap().path.unwrap();
    let two = cloud.shared("Two.pdf", &[]);
    let lie = What::Lie(format!("\"path\":\"{path}\""), "\"path\":null".to_owned());
    cloud.server.fail(Fault { times: 2, ..Fault::once("GET", "/api/v1/shares", lie) });
    assert_eq!(state_of(&cloud, &id(&two)).as_deref(), Some("works"));
    ends_with(&cloud.scaup, 0, ["share", "revoke", &id(&two)]);
}

#[test]
fn what_is_shared_in_another_way_or_beside_other_files_is_shown_and_kept() {
    let cloud = Cloud::of(Version::V32);
    cloud.file("Offer.pdf", b"content");
    let shared = cloud.shared("Offer.pdf", &[]);
    let share = cloud.server.shares().pop().unwrap();
    let path = share.path.unwrap();
    cloud.server.put(&format!("{path}.other"), b"somebody's");
    assert_eq!(state_of(&cloud, &id(&shared)).as_deref(), Some("mixed"));
    cloud.server.advance_days(1);
    ends_with(&cloud.scaup, 0, ["share", "prune"]);
    assert!(cloud.server.open_link(&share.token, share.password.as_deref()).is_some());
    // Its link can be ended; what is not Scaup's stays.
    let said = ends_with(&cloud.scaup, 1, ["share", "revoke", &id(&shared)]);
    assert!(said.contains("other files"), "{said}");
    assert!(cloud.server.open_link(&share.token, share.password.as_deref()).is_none());
    assert_eq!(cloud.server.content(&format!("{path}.other")), b"somebody's");
}

/// Random steps of two machines and a web interface on one account. What was not revoked or pruned after its link was
/// gone stays, with its link, and nothing that somebody else put there is touched.
#[test]
fn whatever_two_machines_and_a_web_interface_do_live_links_and_foreign_files_stay() {
    const STEPS: usize = 120;
    for (seed, version) in Version::ALL.into_iter().enumerate() {
        let machines = [Cloud::of(version), Cloud::with(Nextcloud::start(version), scaup())];
        let [here, _] = &machines;
        let there = scaup();
        super::cloud::add_account(&here.server, &there);
        here.server.change(|settings| settings.shares_per_10_minutes = None);
        let file = here.file("Offer.pdf", b"content");
        let random = noise(seed as u64 + 100, STEPS * 2);
        // Each share by its id: its token, and whether anybody ended it.
        let mut live: BTreeMap<String, String> = BTreeMap::new();
        let mut revoked: Vec<String> = Vec::new();
        let mut foreign: Vec<String> = Vec::new();
        for step in 0..STEPS {
            let (deed, pick) = (random[step * 2], usize::from(random[step * 2 + 1]));
            let machine = if pick % 2 == 0 { &here.scaup } else { &there };
            let one = live.keys().nth(pick % live.len().max(1)).cloned();
            match (deed % 8, one) {
                (0..=2, _) => {
                    let days = (pick % 9 + 1).to_string();
                    let file = file.to_str().unwrap();
                    let known: Vec<String> =
                        here.server.shares().iter().map(|share| share.token.clone()).collect();
                    let said = ends_with(
                        machine,
                        0,
                        ["share", file, "--yes", "--json", "--print-both", "--days", &days],
                    );
                    let id = said.split("\"id\": \"").nth(1).unwrap()[..6].to_owned();
                    let new =
                        here.server.shares().into_iter().find(|share| !known.contains(&share.token)).unwrap();
                    live.insert(id, new.token);
                }
                (3, Some(id)) => {
                    ends_with(machine, 0, ["share", "revoke", &id]);
                    revoked.extend(live.remove(&id));
                }
                (4, Some(id)) => {
                    ends_with(machine, 0, ["share", "extend", &id, "--days", "5"]);
                }
                (5, _) => {
                    ends_with(machine, 0, ["share", "prune"]);
                }
                (6, _) => {
                    let path = format!(
                        "{FOLDER}2026-01-0{}-{}/x{step}",
                        pick % 9 + 1,
                        ["k7m2qx", "other", "aaaaaaa"][pick % 3]
                    );
                    here.server.put(&path, b"somebody's");
                    // Two in one folder that looks like one of ours; one alone would be taken for an abandoned upload.
                    here.server.put(&format!("{path}y"), b"somebody's");
                    foreign.extend([path.clone(), format!("{path}y")]);
                }
                (_, Some(id)) if pick % 3 == 0 => {
                    let share =
                        here.server.shares().into_iter().find(|share| share.token == live[&id]).unwrap();
                    let path = share.path.unwrap();
                    here.server.rename(&path, &format!("{path}.renamed"));
                }
                _ => {}
            }
            let shares = here.server.shares();
            for (id, token) in &live {
                let share = shares.iter().find(|share| share.token == *token);
                let share =
                    share.unwrap_or_else(|| panic!("{version:?}, step {step}: the link of {id} is gone"));
                let content = here.server.open_link(token, share.password.as_deref());
                assert_eq!(content.as_deref(), Some(b"content".as_slice()), "{version:?}, step {step}");
            }
            assert!(revoked.iter().all(|token| shares.iter().all(|share| share.token != *token)));
            let files = here.server.files();
            assert!(foreign.iter().all(|path| files.contains(path)), "{version:?}, step {step}: {files:?}");
        }
        for id in live.keys() {
            ends_with(&here.scaup, 0, ["share", "revoke", id]);
        }
        assert!(here.server.shares().is_empty() && here.server.trash().is_empty(), "{}", here.state());
    }
}
