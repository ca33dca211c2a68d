//! Which servers are trusted: files of known hosts, against real OpenSSH servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use scaup_rig::{Answers, Key, KeyKind, MountCommand, Scaup, Sshd, run};

use crate::support::scaup;

/// A file of known hosts with this content.
fn known_hosts(scaup: &Scaup, content: &str) -> PathBuf {
    let file = scaup.home().join("known_hosts");
    fs::write(&file, content).unwrap();
    file
}

/// Prepares to mount with only what `file` says about hosts.
fn mount<'a>(scaup: &'a Scaup, sshd: &Sshd, file: &Path) -> MountCommand<'a> {
    scaup
        .mount(format!("{}@{}", sshd.user(), sshd.host()))
        .args(["-F", "none", "-p", &sshd.port().to_string(), "-i"])
        .args([sshd.key().path()])
        .args(["-o", &format!("UserKnownHostsFile={},GlobalKnownHostsFile=none", file.display())])
}

/// Mounts and unmounts; returns what was said while mounting.
fn comes_in(scaup: &Scaup, mount: MountCommand<'_>) -> String {
    let mount = mount.start();
    let said = mount.said().to_owned();
    mount.unmount(scaup);
    said
}

/// Must end with the exit code for host keys; returns what was said.
fn refused(mount: MountCommand<'_>) -> String {
    let output: Output = mount.refused();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    said
}

/// The name under which a server on another port than 22 is known.
fn name(sshd: &Sshd) -> String {
    format!("[{}]:{}", sshd.host(), sshd.port())
}

/// An askpass program that gives `answer` to whatever is asked but for passphrases, and the file where it notes that.
fn askpass(scaup: &Scaup, answer: &str) -> (PathBuf, PathBuf) {
    scaup.askpass(&Answers { otp_command: Some(format!("echo {answer}")), ..Answers::default() })
}

/// Another key of this kind than any server has.
fn other_key(scaup: &Scaup, kind: KeyKind) -> Key {
    Key::generate(&scaup.home().join(format!("other-{kind:?}")), kind, "")
}

#[test]
fn an_unknown_host_is_asked_about_once_and_recorded() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let file = scaup.home().join("new/known_hosts");
    let (program, noted) = askpass(&scaup, "yes");
    let said = comes_in(&scaup, mount(&scaup, &sshd, &file).askpass(&program));
    assert!(said.contains("on record"), "{said}");
    let asked = fs::read_to_string(&noted).unwrap();
    let key = &sshd.host_keys()[0];
    assert!(asked.contains(&key.fingerprint()) && asked.contains(&name(&sshd)), "{asked}");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!("{} {}\n", name(&sshd), key.public_fields()),
        "the record is as OpenSSH writes it"
    );
    let found = run(Command::new("ssh-keygen").args(["-F", &name(&sshd), "-f"]).arg(&file));
    assert!(String::from_utf8_lossy(&found.stdout).contains(&key.public_fields()));

    comes_in(&scaup, mount(&scaup, &sshd, &file).askpass(&program));
    assert_eq!(fs::read_to_string(&noted).unwrap(), asked, "a known host is not asked about");
}

#[test]
fn the_fingerprint_is_an_answer_too_and_anything_else_means_no() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let file = known_hosts(&scaup, "");
    for answer in ["no", "y", "SHA256:nonsense"] {
        let (program, _) = askpass(&scaup, answer);
        let said = refused(mount(&scaup, &sshd, &file).askpass(&program));
        assert!(said.contains("not confirmed"), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "", "nothing is recorded");
    }
    let (program, _) = askpass(&scaup, &sshd.host_keys()[0].fingerprint());
    comes_in(&scaup, mount(&scaup, &sshd, &file).askpass(&program));
}

#[test]
fn without_anybody_to_ask_an_unknown_host_is_refused_with_its_fingerprint() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let said = refused(mount(&scaup, &sshd, &known_hosts(&scaup, "")));
    assert!(said.contains(&sshd.host_keys()[0].fingerprint()) && said.contains("no terminal"), "{said}");
}

#[test]
fn strict_host_key_checking() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let file = known_hosts(&scaup, "");
    let said = refused(mount(&scaup, &sshd, &file).args(["-o", "StrictHostKeyChecking=yes"]));
    assert!(said.contains(&sshd.host_keys()[0].fingerprint()), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    for value in ["accept-new", "no"] {
        let file = known_hosts(&scaup, "");
        comes_in(&scaup, mount(&scaup, &sshd, &file).args(["-o", &format!("StrictHostKeyChecking={value}")]));
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("{} {}\n", name(&sshd), sshd.host_keys()[0].public_fields())
        );
    }
    comes_in(&scaup, mount(&scaup, &sshd, &file).args(["-o", "StrictHostKeyChecking=yes"]));
}

#[test]
fn hashed_names() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let file = known_hosts(&scaup, &sshd.known_hosts());
    run(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file));
    assert!(fs::read_to_string(&file).unwrap().starts_with("|1|"));
    comes_in(&scaup, mount(&scaup, &sshd, &file));

    let recorded = scaup.home().join("recorded");
    let options = "HashKnownHosts=yes,StrictHostKeyChecking=accept-new";
    comes_in(&scaup, mount(&scaup, &sshd, &recorded).args(["-o", options]));
    assert!(fs::read_to_string(&recorded).unwrap().starts_with("|1|"));
    let found = run(Command::new("ssh-keygen").args(["-F", &name(&sshd), "-f"]).arg(&recorded));
    assert!(!found.stdout.is_empty(), "OpenSSH finds it");
    comes_in(&scaup, mount(&scaup, &sshd, &recorded));
}

#[test]
fn a_changed_key_is_a_hard_stop_that_names_file_and_line() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let other = other_key(&scaup, KeyKind::Ed25519);
    let file = known_hosts(&scaup, &format!("# a comment\n{} {}\n", name(&sshd), other.public_fields()));
    let before = fs::read_to_string(&file).unwrap();
    for checking in ["yes", "no", "ask", "accept-new"] {
        let (program, noted) = askpass(&scaup, "yes");
        let option = format!("StrictHostKeyChecking={checking}");
        let said = refused(mount(&scaup, &sshd, &file).args(["-o", &option]).askpass(&program));
        assert!(said.contains(&format!("{}:2", file.display())), "{said}");
        assert!(said.contains(&sshd.host_keys()[0].fingerprint()), "{said}");
        assert_eq!(fs::read_to_string(noted).unwrap(), "", "nobody is asked to go on");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
    assert!(!sshd.log().contains("Accepted publickey"));
}

#[test]
fn another_kind_of_key_of_a_known_host_is_no_first_contact() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let other = other_key(&scaup, KeyKind::EcdsaP256);
    let file = known_hosts(&scaup, &format!("{} {}\n", name(&sshd), other.public_fields()));
    let (program, noted) = askpass(&scaup, "yes");
    refused(mount(&scaup, &sshd, &file).askpass(&program));
    assert_eq!(fs::read_to_string(noted).unwrap(), "");
}

#[test]
fn a_server_with_several_keys_shows_the_one_that_is_known() {
    let kinds = [KeyKind::Ed25519, KeyKind::EcdsaP256, KeyKind::EcdsaP521, KeyKind::Rsa2048];
    let (scaup, sshd) = (scaup(), Sshd::key_only().host_keys(&kinds).start());
    for key in sshd.host_keys() {
        let file = known_hosts(&scaup, &format!("{} {}\n", name(&sshd), key.public_fields()));
        comes_in(&scaup, mount(&scaup, &sshd, &file));
    }
}

#[test]
fn host_keys_of_every_kind() {
    for kind in KeyKind::ALL {
        let (scaup, sshd) = (scaup(), Sshd::key_only().host_keys(&[kind]).start());
        comes_in(&scaup, mount(&scaup, &sshd, &sshd.known_hosts_file()));
    }
}

#[test]
fn lists_patterns_and_lines_that_mean_nothing() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let key = sshd.host_keys()[0].public_fields();
    let port = sshd.port();
    let garbage = "\n#\n@unknown-marker * x\nnot a line\n|1|bad|hash ssh-ed25519 AAAA\n\u{fffd}\u{1}\n\
                   [127.0.0.1]: ssh-foo AAAA\n@cert-authority\n";
    for hosts in [format!("elsewhere,[127.0.0.1]:{port}"), format!("[127.0.0.*]:{port}"), "*".to_owned()] {
        comes_in(
            &scaup,
            mount(&scaup, &sshd, &known_hosts(&scaup, &format!("{garbage}{hosts} {key} note\n"))),
        );
    }
    for hosts in ["127.0.0.1".to_owned(), format!("[127.0.0.1]:{port},!{}", name(&sshd)), "!*".to_owned()] {
        let said = refused(mount(&scaup, &sshd, &known_hosts(&scaup, &format!("{garbage}{hosts} {key}\n"))));
        assert!(said.contains("no terminal"), "it is unknown: {said}");
    }
}

#[test]
fn a_second_file_and_a_file_without_a_last_newline() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let first = known_hosts(&scaup, "elsewhere ssh-ed25519 AAAA");
    let second = scaup.home().join("second");
    fs::write(&second, sshd.known_hosts()).unwrap();
    let both = |mount: MountCommand<'_>| {
        let option = format!("GlobalKnownHostsFile={}", second.display());
        comes_in(&scaup, mount.args(["-o", &option]))
    };
    let without_global = scaup
        .mount(format!("{}@{}", sshd.user(), sshd.host()))
        .args(["-p", &sshd.port().to_string(), "-i"])
        .args([sshd.key().path()])
        .args(["-o", &format!("UserKnownHostsFile={}", first.display())]);
    both(without_global);
    comes_in(&scaup, mount(&scaup, &sshd, &first).args(["-o", "StrictHostKeyChecking=accept-new"]));
    assert_eq!(
        fs::read_to_string(&first).unwrap(),
        format!("elsewhere ssh-ed25519 AAAA\n{}", sshd.known_hosts())
    );
}

#[test]
fn a_revoked_key_is_refused_even_where_it_is_known() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let key = sshd.host_keys()[0].public_fields();
    let file = known_hosts(&scaup, &format!("{}@revoked * {key}\n", sshd.known_hosts()));
    let said = refused(mount(&scaup, &sshd, &file).args(["-o", "StrictHostKeyChecking=no"]));
    assert!(said.contains("revoked") && said.contains(":2"), "{said}");
}

/// A line that trusts the server's authority for it.
fn authority(sshd: &Sshd) -> String {
    format!("@cert-authority {} {}\n", name(sshd), sshd.host_authority().public_fields())
}

#[test]
fn a_host_certificate_of_a_trusted_authority_needs_no_record() {
    for principals in [&["-n", "127.0.0.1"][..], &[]] {
        let (scaup, sshd) = (scaup(), Sshd::key_only().host_certificate(principals).start());
        let file = known_hosts(&scaup, &authority(&sshd));
        comes_in(&scaup, mount(&scaup, &sshd, &file).args(["-o", "StrictHostKeyChecking=yes"]));
    }
}

#[test]
fn a_host_certificate_that_is_for_others_or_expired_is_refused() {
    for arguments in [&["-n", "elsewhere"][..], &["-n", "127.0.0.1", "-V", "20200101:20210101"]] {
        let (scaup, sshd) = (scaup(), Sshd::key_only().host_certificate(arguments).start());
        let file = known_hosts(&scaup, &authority(&sshd));
        let said = refused(mount(&scaup, &sshd, &file).args(["-o", "StrictHostKeyChecking=no"]));
        assert!(said.contains("certificate"), "{said}");
    }
}

#[test]
fn a_certificate_of_an_authority_that_nobody_trusts_is_as_good_as_its_key() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().host_certificate(&["-n", "127.0.0.1"]).start());
    let stranger = other_key(&scaup, KeyKind::Ed25519);
    let trusted = format!("@cert-authority * {}\n", stranger.public_fields());
    refused(mount(&scaup, &sshd, &known_hosts(&scaup, &trusted)));
    comes_in(&scaup, mount(&scaup, &sshd, &known_hosts(&scaup, &format!("{trusted}{}", sshd.known_hosts()))));
}

#[test]
fn a_revoked_authority_is_not_trusted() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().host_certificate(&["-n", "127.0.0.1"]).start());
    let revoked = format!("@revoked * {}\n", sshd.host_authority().public_fields());
    let said = refused(mount(&scaup, &sshd, &known_hosts(&scaup, &format!("{}{revoked}", authority(&sshd)))));
    assert!(said.contains("revoked"), "{said}");
}

#[test]
fn a_key_that_cannot_be_recorded_is_said() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let file = scaup.home().to_path_buf();
    let said = refused(mount(&scaup, &sshd, &file).args(["-o", "StrictHostKeyChecking=accept-new"]));
    assert!(said.contains("can't be recorded") && said.contains(file.to_str().unwrap()), "{said}");
}

#[test]
fn keys_that_the_configuration_revokes_are_refused_even_where_they_are_known() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let other = other_key(&scaup, KeyKind::Ed25519);
    let list = scaup.home().join("revoked");
    let config = scaup.home().join("ssh_config");
    let known = sshd.known_hosts_file();
    let lines = format!("UserKnownHostsFile {}\nRevokedHostKeys {}\n", known.display(), list.display());
    fs::write(&config, lines).unwrap();
    let with_list = || {
        let mount = scaup.mount(format!("{}@{}", sshd.user(), sshd.host()));
        mount
            .args(["-p", &sshd.port().to_string(), "-i"])
            .args([sshd.key().path()])
            .args(["-F".as_ref(), config.as_os_str()])
    };
    // No list is no reason to trust everybody.
    let said = refused(with_list());
    assert!(said.contains(list.to_str().unwrap()) && said.contains("RevokedHostKeys"), "{said}");
    let key = sshd.host_keys()[0].public_fields();
    fs::write(&list, format!("# {key}\n{}\n", other.public_fields())).unwrap();
    comes_in(&scaup, with_list());
    fs::write(&list, format!("{}\n\t{key} a comment\n", other.public_fields())).unwrap();
    let said = refused(with_list());
    assert!(said.contains("revoked") && said.contains(&format!("{}:2", list.display())), "{said}");
    let option = format!("RevokedHostKeys={},StrictHostKeyChecking=no", list.display());
    for known in [&known, &known_hosts(&scaup, "")] {
        refused(mount(&scaup, &sshd, known).args(["-o", &option]));
    }
    // A list in OpenSSH's binary format, whether or not the key is in it.
    run(Command::new("ssh-keygen").args(["-q", "-k", "-f"]).arg(&list).arg(other.public_path()));
    assert!(refused(with_list()).contains("binary"));
}

#[test]
fn a_certificate_by_a_revoked_authority_or_with_a_revoked_key_is_refused() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().host_certificate(&["-n", "127.0.0.1"]).start());
    let file = known_hosts(&scaup, &authority(&sshd));
    let list = scaup.home().join("revoked");
    for key in [sshd.host_authority(), &sshd.host_keys()[0]] {
        fs::write(&list, key.public_line()).unwrap();
        let option = format!("RevokedHostKeys={}", list.display());
        assert!(refused(mount(&scaup, &sshd, &file).args(["-o", &option])).contains("revoked"));
    }
}

#[test]
fn an_authority_signs_only_in_ways_that_are_wanted() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().host_certificate(&["-n", "127.0.0.1"]).start());
    let file = known_hosts(&scaup, &authority(&sshd));
    let with =
        |list: &str| mount(&scaup, &sshd, &file).args(["-o", &format!("CASignatureAlgorithms={list}")]);
    let said = refused(with("rsa-sha2-512"));
    assert!(said.contains("CASignatureAlgorithms"), "{said}");
    comes_in(&scaup, with("rsa-sha2-512,ssh-ed25519"));
}

#[test]
fn only_keys_of_wanted_kinds_and_lengths_are_taken() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().host_keys(&[KeyKind::Rsa2048]).start());
    let file = sshd.known_hosts_file();
    let said = refused(mount(&scaup, &sshd, &file).args(["-o", "RequiredRSASize=3072"]));
    assert!(said.contains("2048") && said.contains("RequiredRSASize"), "{said}");
    comes_in(&scaup, mount(&scaup, &sshd, &file).args(["-o", "RequiredRSASize=2048"]));
    for list in ["HostKeyAlgorithms=ssh-ed25519", "KexAlgorithms=ecdh-sha2-nistp521,MACs=hmac-sha2-256"] {
        let mut options = vec!["-o", list];
        if list.starts_with("Host") {
            let output = mount(&scaup, &sshd, &file).args(options).refused();
            assert!(!output.status.success());
        } else {
            options.extend(["-o", "Ciphers=aes192-ctr,HostKeyAlgorithms=rsa-sha2-256"]);
            comes_in(&scaup, mount(&scaup, &sshd, &file).args(options));
            let log = sshd.log();
            for agreed in [
                "kex: algorithm: ecdh-sha2-nistp521",
                "host key algorithm: rsa-sha2-256",
                "cipher: aes192-ctr MAC: hmac-sha2-256 ",
            ] {
                assert!(log.contains(agreed), "{agreed}: {log}");
            }
        }
    }
}
