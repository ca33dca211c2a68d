//! What `ssh_config(5)` says about a host holds for Scaup too.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use scaup::config::ssh_config::{SshConfigError, Wanted, keywords, resolve};
use scaup_rig::{MountCommand, Scaup, Sshd, eventually, need, within};
use scaup_sftp::ssh::{AddressFamily, Agent, Algorithms, Destination, Rekeying, StrictHostKeyChecking};

use crate::support::{said, scaup};

/// Prepares to mount `target` with nothing but this configuration to say where that is.
fn mount<'a>(scaup: &'a Scaup, target: &str, config: &str) -> MountCommand<'a> {
    let file = scaup.home().join("ssh_config");
    fs::write(&file, config).unwrap();
    scaup.mount(target).args(["-F".as_ref(), file.as_os_str()])
}

/// Mounts, sees that it is this server, and unmounts.
fn comes_in(scaup: &Scaup, sshd: &Sshd, mount: MountCommand<'_>) {
    fs::write(sshd.home().join("whose"), sshd.user()).unwrap();
    let mount = mount.start();
    assert_eq!(fs::read_to_string(mount.join("whose")).unwrap(), sshd.user());
    mount.unmount(scaup);
}

fn code(mount: MountCommand<'_>) -> (Option<i32>, String) {
    let output = mount.refused();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The lines that lead to a server, without a `Host` line.
fn lines(sshd: &Sshd) -> String {
    format!(
        "HostName {}\nPort {}\nUser {}\nIdentityFile {}\nUserKnownHostsFile {}\n",
        sshd.host(),
        sshd.port(),
        sshd.user(),
        sshd.key().path().display(),
        sshd.known_hosts_file().display()
    )
}

/// What Scaup makes of a configuration file and of options, for the host `hq`.
fn resolved(config: &Path, options: &[(&str, &str)]) -> Result<Destination, SshConfigError> {
    let options = options.iter().map(|(keyword, value)| ((*keyword).to_owned(), (*value).to_owned()));
    resolve(&Wanted {
        host: "hq".to_owned(),
        config_file: Some(config.to_owned()),
        options: options.collect(),
        ..Wanted::default()
    })
}

/// What `ssh` makes of a keyword of a configuration file, for the host `hq`; `None` if it refuses the file.
fn of_ssh(config: &Path, keyword: &str) -> Option<String> {
    need(&[("ssh", "openssh-client")]);
    let output = Command::new("ssh").arg("-G").arg("-F").arg(config).arg("hq").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = said.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
    output.status.success().then(|| value.unwrap().to_owned())
}

fn configuration(text: &str) -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file.into_temp_path()
}

/// Has Scaup and `ssh` say where a configuration leads, as host and port, which must be the same.
fn leads_to(text: &str) -> String {
    let config = configuration(text);
    let Destination { host, port, .. } = resolved(&config, &[]).unwrap();
    let ours = format!("{host}:{port}");
    let theirs = ["hostname", "port"].map(|keyword| of_ssh(&config, keyword).unwrap()).join(":");
    assert_eq!(ours, theirs, "{text}");
    ours
}

#[test]
fn a_host_by_its_name_in_the_configuration() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let config = format!("Host hq headquarters\n{}\nHost *\nUser nobody\nPort 1\n", lines(&sshd));
    comes_in(&scaup, &sshd, mount(&scaup, "hq", &config));
    comes_in(&scaup, &sshd, mount(&scaup, "headquarters:.", &config));
}

#[test]
fn the_users_own_configuration_is_read_without_being_named() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    fs::create_dir(scaup.home().join(".ssh")).unwrap();
    fs::write(scaup.home().join(".ssh/config"), format!("Host hq\n{}", lines(&sshd))).unwrap();
    comes_in(&scaup, &sshd, scaup.mount("hq"));
    assert_eq!(code(scaup.mount("hq").args(["-F", "none"])).0, Some(6), "none reads no file");
}

#[test]
fn patterns_negation_and_match() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let lines = lines(&sshd);
    for config in [
        format!("Host *.office !printer.office\n{lines}"),
        format!("Host !hq.office *\nPort 1\nHost *\n{lines}"),
        format!("Match host hq.office\n{lines}"),
        format!("Match originalhost *.office user root\nPort 1\nMatch all\n{lines}"),
        format!("Host x\nPort 1\n\nMATCH Host \"hq.*,other\"\n{}", lines.replace(' ', "\t=  ")),
    ] {
        comes_in(&scaup, &sshd, mount(&scaup, "hq.office", &config).env("USER", "somebody"));
    }
    let config = format!("Host *.office !printer.office\n{lines}\nHost *\nHostName 127.0.0.1\nPort 1\n");
    assert_eq!(code(mount(&scaup, "printer.office", &config)).0, Some(6));
}

#[test]
fn match_host_means_the_name_that_is_connected_to() {
    for (config, place) in [
        ("HostName %h.invalid\nMatch host hq.invalid\nPort 4242\n", "hq.invalid:4242"),
        ("HostName %h%%h\nMatch host hq%h\nPort 4242\n", "hq%h:4242"),
        ("HostName %h.invalid\nMatch host hq\nPort 4242\n", "hq.invalid:22"),
        ("HostName %h.invalid\nMatch originalhost hq\nPort 4242\n", "hq.invalid:4242"),
        ("Match host hq\nHostName %h.invalid\nMatch host hq\nPort 4242\n", "hq.invalid:22"),
    ] {
        assert_eq!(leads_to(config), place);
    }
}

#[test]
fn what_the_command_line_says_comes_first() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let config = format!("Port 1\nUser nobody\nHost hq\n{}", lines(&sshd));
    comes_in(
        &scaup,
        &sshd,
        mount(&scaup, &format!("{}@hq", sshd.user()), &config).args(["-p", &sshd.port().to_string()]),
    );
    let options = format!("Port={},User={}", sshd.port(), sshd.user());
    comes_in(&scaup, &sshd, mount(&scaup, "hq", &config).args(["-o", &options]));
    let url = format!("sftp://{}@hq:{}", sshd.user(), sshd.port());
    comes_in(&scaup, &sshd, mount(&scaup, &url, &config));
}

#[test]
fn included_files() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let directory = scaup.home().join(".ssh/config.d");
    fs::create_dir_all(&directory).unwrap();
    let login = lines(&sshd).replace(&format!("Port {}\n", sshd.port()), "");
    fs::write(directory.join("10-hq.conf"), format!("Host hq\n{login}\nHost nobody\n")).unwrap();
    let port = format!("Port {}\n", sshd.port());
    for include in ["config.d/*.conf", "~/.ssh/config.d/10-hq.conf", directory.join("*").to_str().unwrap()] {
        // A Host line of an included file does not reach into the file that includes it.
        comes_in(&scaup, &sshd, mount(&scaup, "hq", &format!("Include {include} missing\n{port}")));
    }
    // Nor does an Include below a Host line say anything about other hosts.
    fs::write(directory.join("20-other.conf"), "Port 1\nHost hq\nPort 2\nMatch all\nPort 3\n").unwrap();
    let config = format!("Host other\nInclude config.d/20*\nHost hq\n{}", lines(&sshd));
    comes_in(&scaup, &sshd, mount(&scaup, "hq", &config));
    // A circle is no way to say anything.
    let circle = scaup.home().join(".ssh/circle");
    fs::write(&circle, "Include circle\n").unwrap();
    let (code, said) = code(mount(&scaup, "hq", "Include circle\n"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(circle.to_str().unwrap()), "{said}");
}

#[test]
fn patterns_in_every_part_of_an_included_path() {
    let directory = tempfile::tempdir().unwrap();
    for (place, port) in [("x/a/c", 10), ("x/b/d", 11), ("x/b/.e", 12), ("[y]/f", 13)] {
        let path = directory.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("Port {port}\n")).unwrap();
    }
    for (pattern, port) in [
        ("*/a/c", 10),
        ("*/?/d", 11),
        ("x/[abc]/c", 10),
        ("x/[!a]/d", 11),
        ("x/[a-c]/[b-d]", 10),
        ("x/**/d", 11),
        ("x/b**/d", 11),
        ("x/b/*", 11),
        ("x/b/*e", 22),
        ("x/b/.*e", 12),
        ("x/[b/d", 22),
        ("x", 22),
        ("{x,y}/a/c", 22),
        ("[[]y]/f", 13),
    ] {
        let include = format!("Include {}/{pattern}\n", directory.path().display());
        assert_eq!(leads_to(&include), format!("hq:{port}"), "{pattern}");
    }
    // A name that is no text is in nobody's way.
    fs::write(directory.path().join("x/b").join(OsStr::from_bytes(b"\xff")), "Port 14\n").unwrap();
    assert_eq!(leads_to(&format!("Include {}/x/b/d*\n", directory.path().display())), "hq:11");
    // What is a pattern in a path is none in a host's name.
    assert_eq!(leads_to("Host h[q]\nPort 4242\n"), "hq:22");
}

#[test]
fn the_systems_configuration_includes_from_its_own_directory() {
    need(&[("unshare", "util-linux")]);
    let scaup = scaup();
    let directory = scaup.home().join("etc");
    fs::create_dir_all(directory.join("d")).unwrap();
    fs::write(directory.join("ssh_config"), "Include d/*.conf\n").unwrap();
    fs::write(directory.join("d/port.conf"), "HostName 127.0.0.1\nPort 1\n").unwrap();
    let (ours, mount) = (scaup.command(), ["mount", "hq", "mnt/hq"]);
    // Only this one program sees another directory there.
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/ssh && exec \"$@\""]).arg(&directory);
    command.arg(ours.get_program()).args(ours.get_args()).args(mount).current_dir(scaup.home());
    for (name, value) in ours.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = within(Duration::from_secs(60), move || command.output().unwrap());
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("127.0.0.1:1 can't be reached"), "{}", said(&output));
}

#[test]
fn tokens_and_quotes_in_paths() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let directory = scaup.home().join("my keys");
    fs::create_dir(&directory).unwrap();
    fs::copy(sshd.key().path(), directory.join(format!("{}@127.0.0.1", sshd.user()))).unwrap();
    let config = format!(
        "Host hq\n{}",
        lines(&sshd).replace(sshd.key().path().to_str().unwrap(), "\"~/my keys/%r@%h\"")
    );
    comes_in(&scaup, &sshd, mount(&scaup, "hq", &config));
    comes_in(&scaup, &sshd, mount(&scaup, "hq", &config.replace("~/my", "%d/my")));
    comes_in(
        &scaup,
        &sshd,
        mount(&scaup, "hq", &config.replace("~/my", "${MINE}/my")).env("MINE", scaup.home()),
    );
}

#[test]
fn tokens_and_variables_in_every_option_that_takes_them() {
    let found = |text: &str| resolved(&configuration(text), &[]).unwrap();
    let (uid, home) = (rustix::process::getuid().as_raw(), std::env::var("HOME").unwrap());
    let config = "Host hq\nHostName %h.example\nUser alice\nPort 2200\nHostKeyAlias al\nProxyJump %r@%h.gate:1,me@far\n";
    let all = "%h/%n/%p/%r/%k/%j/%i/%%";
    let path = format!("/hq.example/hq/2200/alice/al/far/{uid}/%");
    for (option, list) in [
        ("IdentityFile", (|found| found.identities) as fn(Destination) -> Vec<PathBuf>),
        ("CertificateFile", |found| found.certificates),
        ("UserKnownHostsFile", |found| found.user_known_hosts),
        ("RevokedHostKeys", |found| found.revoked_host_keys.into_iter().collect()),
        ("IdentityAgent", |found| match found.agent {
            Agent::Socket(path) => vec![path],
            Agent::None | Agent::FromEnvironment => Vec::new(),
        }),
    ] {
        let list = |value: &str| list(found(&format!("{config}{option} {value}\n")));
        assert_eq!(list(&format!("/{all}")), [PathBuf::from(&path)], "{option}");
        let below_home = PathBuf::from(format!("{home}/x$y/{home}"));
        for value in ["~/x$y/%d", "${HOME}/x$y/${HOME}"] {
            assert_eq!(list(value), std::slice::from_ref(&below_home), "{option} {value}");
        }
        for (value, what) in
            [("/%x", "%x"), ("/%", "% "), ("${NONE}/x", "NONE"), ("${HOME", "}"), ("~alice/x", "~/")]
        {
            let text = format!("Port 1\n{option} {value}\n");
            let error = resolved(&configuration(&text), &[]).unwrap_err().to_string();
            assert!(error.contains(option) && error.contains(what) && error.contains(":2: "), "{error}");
        }
    }
    let jumps = found(config).jumps;
    let hosts: Vec<_> = jumps.iter().map(|jump| (jump.user.as_str(), jump.host.as_str())).collect();
    assert_eq!(hosts, [("alice", "hq.example.gate"), ("me", "far")]);
    // A list for all users is no place for tokens.
    let global = found("GlobalKnownHostsFile ~/a%h /b\n").global_known_hosts;
    assert_eq!(global, [format!("{home}/a%h"), "/b".to_owned()].map(PathBuf::from));
}

#[test]
fn a_host_or_user_name_that_a_shell_would_run_is_refused() {
    let scaup = scaup();
    let config = "Match exec \"echo %n %r\"\nPort 1\nHost *\nHostName 127.0.0.1\n";
    let made = scaup.home().join("made");
    for name in ["x;touch${IFS}made", "$(touch${IFS}made)", "`touch${IFS}made`", "x&touch${IFS}made"] {
        for target in [name.to_owned(), format!("{name}@hq"), format!("sftp://{name}@hq/")] {
            let (status, said) = code(mount(&scaup, &target, config));
            assert_eq!(status, Some(2), "{said}");
            assert!(said.contains("is not a host name") || said.contains("is not a user name"), "{said}");
        }
    }
    assert!(!made.exists());
    // The command is run where the name is one.
    assert_eq!(code(mount(&scaup, "hq", config)).0, Some(6));
}

#[test]
fn a_command_of_the_configuration_that_can_not_be_run_is_named() {
    let config = configuration("Match exec \"true\"\nPort 4242\n");
    let shell = |shell: &str| {
        let scaup = scaup();
        code(scaup.mount("hq").args(["-F".as_ref(), config.as_os_str()]).env("SHELL", shell))
    };
    let (status, said) = shell("/nowhere/sh");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains(":1: Match exec \"true\"") && said.contains("No such file"), "{said}");
}

#[test]
fn an_identity_file_that_is_missing_does_not_hide_the_others() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let config = format!("IdentityFile ~/nowhere\nHost hq\n{}", lines(&sshd));
    comes_in(&scaup, &sshd, mount(&scaup, "hq", &config));
}

#[test]
fn a_host_key_alias_is_the_name_to_look_for() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let known = scaup.home().join("known");
    fs::write(&known, format!("hq-alias {}\n", sshd.host_keys()[0].public_fields())).unwrap();
    let config =
        format!("Host hq\nHostKeyAlias hq-alias\nUserKnownHostsFile {}\n{}", known.display(), lines(&sshd));
    comes_in(&scaup, &sshd, mount(&scaup, "hq", &config));
}

#[test]
fn through_another_server() {
    let scaup = scaup();
    let (gate, inner) = (Sshd::builder().start(), Sshd::key_only().start());
    let config = format!("Host gate\n{}\nHost hq\nProxyJump gate\n{}", lines(&gate), lines(&inner));
    let answers = scaup_rig::Answers::login(&gate);
    let mount = mount(&scaup, "hq", &config).answering(&answers);
    comes_in(&scaup, &inner, mount.args(["-o", "otp_for=elsewhere:gate"]));
    assert!(gate.log().contains("direct-tcpip"), "{}", gate.log());
}

#[test]
fn a_jump_host_gets_no_code_from_the_command_unless_the_user_names_it() {
    let scaup = scaup();
    let (gate, inner) = (Sshd::builder().start(), Sshd::key_only().start());
    let config = format!("Host gate\n{}\nHost hq\nProxyJump gate\n{}", lines(&gate), lines(&inner));
    let noted = scaup.home().join("noted");
    let answers = scaup_rig::Answers {
        otp_command: Some(format!("touch '{}'; {}", noted.display(), gate.totp_command())),
        ..scaup_rig::Answers::login(&gate)
    };
    // The target's name is another, even where the address is the same.
    for option in ["LogLevel=ERROR", "otp_for=hq"] {
        let (code, said) = code(mount(&scaup, "hq", &config).answering(&answers).args(["-o", option]));
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("Verification code"), "{said}");
    }
    assert!(!noted.exists());
    // A person may give it.
    let (askpass, asked) = scaup.askpass(&scaup_rig::Answers::login(&gate));
    comes_in(&scaup, &inner, mount(&scaup, "hq", &config).answering(&answers).askpass(&askpass));
    assert!(!noted.exists());
    assert!(fs::read_to_string(asked).unwrap().ends_with("Verification code: \n"));
}

#[test]
fn through_several_servers_and_by_option() {
    let scaup = scaup();
    let (first, second, inner) =
        (Sshd::key_only().start(), Sshd::key_only().start(), Sshd::key_only().start());
    let config =
        format!("Host first\n{}\nHost second\n{}\nHost hq\n{}", lines(&first), lines(&second), lines(&inner));
    comes_in(&scaup, &inner, mount(&scaup, "hq", &config).args(["-o", "ProxyJump=first,second"]));
    assert!(first.log().contains("direct-tcpip") && second.log().contains("direct-tcpip"));
}

#[test]
fn a_jump_that_leads_nowhere_is_named() {
    let (scaup, gate) = (scaup(), Sshd::key_only().start());
    let config =
        format!("Host gate\n{}\nHost hq\nProxyJump gate\nHostName 127.0.0.1\nPort 1\n", lines(&gate));
    let (code, said) = code(mount(&scaup, "hq", &config));
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn a_silent_server_is_asked_as_often_as_the_configuration_says() {
    let scaup = scaup();
    let mounts = ["1", "0", "1h"].map(|interval| {
        let sshd = Sshd::key_only().start();
        let config = format!("Host hq\nServerAliveInterval {interval}\n{}", lines(&sshd));
        let mount = mount(&scaup, "hq", &config).start();
        (sshd, mount)
    });
    let asked = |at: usize| mounts[at].0.log().matches("keepalive@openssh.com").count();
    eventually("the server is asked", Duration::from_secs(60), || asked(0) >= 6);
    // What is usual, every 4 s, would have come to both by now.
    assert_eq!((asked(1), asked(2)), (0, 0));
    for (_sshd, mount) in mounts {
        mount.unmount(&scaup);
    }
}

#[test]
fn values_mean_what_they_mean_to_ssh() {
    for value in ["90", "1h", "1m30s", "1h30", "5S", "1D2h", "1w", "none", "0"] {
        let config = configuration(&format!("ServerAliveInterval {value}\nConnectTimeout {value}\n"));
        let ours = resolved(&config, &[]).unwrap();
        let seconds = ours.server_alive_interval.as_secs().to_string();
        assert_eq!(Some(seconds), of_ssh(&config, "serveraliveinterval"), "{value}");
        let limit = ours.connect_timeout.map(|limit| limit.as_secs());
        let theirs = of_ssh(&config, "connecttimeout").unwrap();
        // Without a limit either way.
        assert_eq!(limit, theirs.parse().ok().filter(|&limit| limit > 0), "{value}");
    }
    for (value, meaning) in [
        ("yes", StrictHostKeyChecking::Yes),
        ("TRUE", StrictHostKeyChecking::Yes),
        ("no", StrictHostKeyChecking::No),
        ("false", StrictHostKeyChecking::No),
        ("off", StrictHostKeyChecking::No),
        ("Ask", StrictHostKeyChecking::Ask),
        ("accept-new", StrictHostKeyChecking::AcceptNew),
    ] {
        let config = configuration(&format!("StrictHostKeyChecking {value}\n"));
        assert!(of_ssh(&config, "stricthostkeychecking").is_some(), "{value}");
        assert_eq!(resolved(&config, &[]).unwrap().strict_host_key_checking, meaning, "{value}");
    }
    // The names of ports stand in a file that not every machine has.
    need(&[("/etc/services", "netbase")]);
    for name in ["ssh", "https", "http-alt", "webcache"] {
        leads_to(&format!("Port {name}\n"));
    }
}

#[test]
fn a_value_that_makes_no_sense_is_named() {
    for (keyword, value) in [
        ("ServerAliveInterval", "often"),
        ("ServerAliveCountMax", "-1"),
        ("ConnectTimeout", "1.5"),
        ("HashKnownHosts", "maybe"),
        ("IdentitiesOnly", "perhaps"),
    ] {
        let error = resolved(&configuration(""), &[(keyword, value)]).unwrap_err().to_string();
        assert!(error.contains(keyword) && error.contains(value), "{error}");
    }
    for (keyword, value) in [
        ("ServerAliveInterval", "often"),
        ("ConnectTimeout", "1.5"),
        ("HashKnownHosts", "maybe"),
        ("IdentitiesOnly", "perhaps"),
        ("PubkeyAuthentication", "perhaps"),
        ("Ciphers", "rot13"),
        ("KexAlgorithms", "by-hand"),
        ("MACs", "none-such"),
        ("HostKeyAlgorithms", "ssh-rot13"),
        ("CASignatureAlgorithms", "ssh-rot13"),
        ("PubkeyAcceptedAlgorithms", "ssh-rot13"),
        ("RequiredRSASize", "long"),
        ("RekeyLimit", "15"),
        ("RekeyLimit", "1G often"),
        ("RekeyLimit", "none"),
        ("RekeyLimit", "16E"),
        ("AddressFamily", "inet7"),
        ("User", "a b"),
        ("User", ""),
        ("User", "\"a"),
        ("Port", "many"),
        ("Port", "0"),
        ("Port", "65536"),
        ("StrictHostKeyChecking", "maybe"),
        ("ProxyJump", "a:b:c"),
    ] {
        let config = configuration(&format!("{keyword} {value}\n"));
        assert!(of_ssh(&config, "port").is_none(), "{keyword} {value}");
        let error = resolved(&config, &[]).unwrap_err().to_string();
        assert!(error.contains(&value.replace('"', "\\\"")) && error.contains(":1: "), "{error}");
    }
}

#[test]
fn a_port_that_makes_no_sense_and_a_file_that_is_missing_are_named() {
    let scaup = scaup();
    let (status, said) = code(mount(&scaup, "hq", "Port many\n"));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("Port") && said.contains("many"), "{said}");
    let missing: PathBuf = scaup.home().join("missing");
    let (status, said) = code(scaup.mount("hq").args(["-F".as_ref(), missing.as_os_str()]));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("missing"), "{said}");
}

#[test]
fn a_proxy_command_is_refused_rather_than_passed_over() {
    let scaup = scaup();
    let (status, said) = code(mount(&scaup, "hq", "ProxyCommand nc %h %p\n"));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("ProxyCommand") && said.contains("ProxyJump"), "{said}");
}

#[test]
fn an_address_where_nobody_answers_is_given_up_in_time() {
    // 192.0.2.0/24 is for documentation: nobody answers there (RFC 5737); or the system knows at once that it can't be
    // reached.
    let output = within(Duration::from_secs(20), || {
        let scaup = scaup();
        scaup.mount("192.0.2.1").args(["-F", "none", "-o", "ConnectTimeout=1"]).refused()
    });
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The refusal of a configuration that `ssh` refuses, too.
fn refused_by_both(config: &Path) -> String {
    assert!(of_ssh(config, "port").is_none(), "ssh takes it: {}", fs::read_to_string(config).unwrap());
    resolved(config, &[]).unwrap_err().to_string()
}

#[test]
fn every_option_of_ssh_is_in_the_list() {
    need(&[("ssh", "openssh-client"), ("gzip", "gzip")]);
    // What this version of `ssh` says of itself.
    let output = Command::new("ssh").args(["-G", "-F", "none", "hq"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut names: BTreeSet<String> =
        said.lines().map(|line| line.split(' ').next().unwrap().to_lowercase()).collect();
    // Its manual, which some machines leave out; what 9.2 has stands here for these.
    names.extend(include_str!("../../fixtures/ssh_config_options").split_whitespace().map(str::to_lowercase));
    if let Ok(manual) = fs::File::open("/usr/share/man/man5/ssh_config.5.gz") {
        let mut unpacked =
            Command::new("gzip").arg("-dc").stdin(manual).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        unpacked.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(unpacked.wait().unwrap().success());
        // The options are the items of the outermost list; those of lists in it are of other kinds.
        let mut depth = 0;
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [".Bl", ..] => depth += 1,
                [".El", ..] => depth -= 1,
                [".It", "Cm", name] if depth == 1 => drop(names.insert(name.to_lowercase())),
                _ => {}
            }
        }
    }
    assert!(names.len() > 100, "{names:?}");
    let unknown: Vec<_> = names.iter().filter(|name| keywords::find(name).is_none()).collect();
    assert!(unknown.is_empty(), "decide in src/config/ssh_config/keywords.rs what is done about {unknown:?}");
}

#[test]
fn an_option_that_nobody_knows_is_refused_wherever_it_stands() {
    for text in ["TrustNobody yes\n", "Host other\nTrustNobody yes\n", "Port 1\nTrustNobody\n"] {
        let error = refused_by_both(&configuration(text));
        assert!(error.contains("TrustNobody") && error.contains("IgnoreUnknown"), "{error}");
    }
    for text in [
        "IgnoreUnknown Trust*,x\nTrustNobody yes\nPort 4242\n",
        "IgnoreUnknown TRUSTNOBODY\nTrustNobody no\n",
    ] {
        leads_to(text);
    }
    // It has to be known before.
    refused_by_both(&configuration("TrustNobody yes\nIgnoreUnknown *\n"));
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("included"), "TrustNobody yes\n").unwrap();
    let include = format!("Host other\nInclude {}/included\n", directory.path().display());
    assert!(refused_by_both(&configuration(&include)).contains("included:1: TrustNobody"));
}

#[test]
fn what_can_not_be_heeded_is_refused_with_a_way_out() {
    for (option, way_out) in [
        ("KnownHostsCommand /bin/cat /known", "UserKnownHostsFile"),
        ("CheckHostIP yes", "names"),
        ("CanonicalizeHostname always", "HostName"),
        ("PKCS11Provider /lib/token.so", "ssh-add -s"),
        ("SmartcardDevice /lib/token.so", "ssh-add -s"),
        ("BindAddress 127.0.0.2", "route"),
        ("BindInterface lo", "route"),
        ("ProxyCommand nc %h %p", "ProxyJump"),
        ("RefuseConnection \"not here\"", "not to connect"),
    ] {
        let (keyword, value) = option.split_once(' ').unwrap();
        let keyword = keywords::find(keyword).unwrap().name;
        let config = configuration(&format!("Host hq\n{option}\n"));
        let error = resolved(&config, &[]).unwrap_err().to_string();
        assert!(error.contains(keyword) && error.contains(way_out) && error.contains(":2: "), "{error}");
        let error = resolved(&configuration(""), &[(keyword, value)]).unwrap_err().to_string();
        assert!(error.contains(keyword) && error.contains(way_out), "{error}");
        // What is said for others, or taken back before, is in nobody's way.
        resolved(&configuration(&format!("Host other\n{option}\n")), &[]).unwrap();
    }
    for option in ["KnownHostsCommand none", "CheckHostIP no", "CanonicalizeHostname no", "ProxyCommand none"]
    {
        leads_to(&format!("{option}\n"));
    }
    resolved(&configuration("CheckHostIP yes\n"), &[("CheckHostIP", "no")]).unwrap();
}

#[test]
fn a_condition_that_can_not_be_found_out_is_refused_where_it_decides() {
    for condition in ["localnetwork 10.0.0.0/8", "host hq localnetwork 10.0.0.0/8", "!localnetwork ::/0 all"]
    {
        let error =
            resolved(&configuration(&format!("Match {condition}\nPort 1\n")), &[]).unwrap_err().to_string();
        assert!(error.contains("Match") && error.contains(":1: ") && error.contains("-F"), "{error}");
    }
    for condition in ["host other localnetwork ::/0", "localnetwork ::/0 host other"] {
        let config = configuration(&format!("Match {condition}\nPort 1\n"));
        assert_eq!(resolved(&config, &[]).unwrap().port, 22);
    }
    for condition in ["moon full", "host", "all host hq", "all final", ""] {
        assert!(refused_by_both(&configuration(&format!("Match {condition}\n"))).contains("Match"));
    }
}

#[test]
fn the_final_pass_and_tags() {
    for (text, place) in [
        ("Match final\nPort 4242\n", "hq:4242"),
        ("Match host hq all\nPort 4242\nMatch !all\nPort 1\n", "hq:4242"),
        ("Match final all\nPort 4242\n", "hq:4242"),
        ("Match canonical\nPort 4242\n", "hq:22"),
        ("Match canonical\nPort 4243\nMatch final host x\nPort 4242\n", "hq:4243"),
        ("Match !final\nPort 4242\nMatch final\nPort 1\n", "hq:4242"),
        ("Match final\nHostName elsewhere\n", "hq:22"),
        ("HostName %h.invalid\nMatch final host hq.invalid\nPort 4242\n", "hq.invalid:4242"),
    ] {
        assert_eq!(leads_to(text), place, "{text}");
    }
    let config = configuration("IdentityFile /a\nMatch final\nIdentityFile /b\n");
    assert_eq!(resolved(&config, &[]).unwrap().identities, ["/a", "/b"].map(PathBuf::from));
    // Of later versions than every machine has.
    let config = configuration("Tag far\nMatch tagged near\nPort 1\nMatch tagged f*\nPort 4242\n");
    assert_eq!(resolved(&config, &[]).unwrap().port, 4242);
}

#[test]
fn a_configuration_that_others_may_write_to_is_refused() {
    let scaup = scaup();
    let directory = scaup.home().join(".ssh");
    fs::create_dir(&directory).unwrap();
    let (own, included) = (directory.join("config"), directory.join("included"));
    let lines = format!("Include {}\nHost hq\nHostName 127.0.0.1\nPort 1\n", included.display());
    fs::write(&own, &lines).unwrap();
    let unreachable = |named: Option<&Path>| {
        let mount = scaup.mount("hq");
        let mount = match named {
            Some(file) => mount.args(["-F".as_ref(), file.as_os_str()]),
            None => mount,
        };
        let (code, said) = code(mount);
        (code == Some(6), said)
    };
    for (file, named) in [(&own, None), (&included, None), (&included, Some(own.as_path()))] {
        for (mode, owner) in [(0o666, 0), (0o620, 0), (0o602, 0), (0o600, 65534)] {
            fs::write(&included, "").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            chown(file, Some(owner), None).unwrap();
            let (is_taken, said) = unreachable(named);
            assert!(!is_taken, "{} {mode:o} {owner}", file.display());
            assert!(said.contains(file.to_str().unwrap()) && said.contains("chmod 600"), "{said}");
            // Not even where it has nothing to say about the host.
            if named.is_some() {
                fs::write(&own, format!("Host other\n{lines}")).unwrap();
                assert!(!unreachable(named).0);
                assert!(of_ssh(&own, "port").is_none() || mode == 0o620, "ssh takes {mode:o} {owner}");
            }
            chown(file, Some(0), None).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(unreachable(named).0, "others may read it");
        }
    }
    // Who names a file vouches for it, as for `ssh`.
    fs::set_permissions(&own, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(of_ssh(&own, "port").is_some() && unreachable(Some(&own)).0);
}

#[test]
fn algorithms_are_offered_as_the_configuration_says() {
    let offered = |text: &str| resolved(&configuration(text), &[]).unwrap().algorithms;
    let usual = Algorithms::default();
    let algorithms = offered(
        "KexAlgorithms curve25519-sha256\nCiphers aes256-ctr\nMACs hmac-sha2-512\nHostKeyAlgorithms ssh-ed25519\n\
         CASignatureAlgorithms ssh-ed25519\nPubkeyAcceptedKeyTypes -rsa*,ecdsa*,sk-*,ssh-ed25519-cert*\n",
    );
    assert_eq!(algorithms.kex.names(), ["curve25519-sha256"]);
    assert_eq!(algorithms.ciphers.names(), ["aes256-ctr"]);
    assert_eq!(algorithms.message_codes.names(), ["hmac-sha2-512"]);
    assert_eq!(algorithms.host_keys.names(), ["ssh-ed25519"]);
    assert_eq!(algorithms.authority_signatures.names(), ["ssh-ed25519"]);
    assert_eq!(algorithms.user_keys.names(), ["ssh-ed25519"]);
    assert_eq!(offered("HostKeyAlgorithms +ssh-rsa\nPubkeyAcceptedAlgorithms +ssh-rsa\n"), usual, "no SHA-1");
    // A list that leaves no algorithm offers none, rather than all.
    for keyword in ["KexAlgorithms", "Ciphers", "MACs", "HostKeyAlgorithms", "PubkeyAcceptedAlgorithms"] {
        resolved(&configuration(&format!("{keyword} -*\n")), &[]).unwrap_err();
    }
}

#[test]
fn limits_and_addresses_mean_what_they_mean_to_ssh() {
    let found = |text: &str| resolved(&configuration(text), &[]).unwrap();
    for (value, bytes, time) in [
        ("1G 1h", Some(1 << 30), Some(3600)),
        ("16k", Some(16 << 10), None),
        ("12345 90", Some(12345), Some(90)),
        ("default none", None, None),
        ("1T", Some(1 << 40), None),
        ("0 0", None, None),
    ] {
        let rekeying = Rekeying { bytes, time: time.map(Duration::from_secs) };
        let text = format!("RekeyLimit {value}\n");
        assert_eq!(found(&text).rekeying, rekeying, "{value}");
        let theirs = of_ssh(&configuration(&text), "rekeylimit").unwrap();
        assert_eq!(theirs, format!("{} {}", bytes.unwrap_or(0), time.unwrap_or(0)), "{value}");
    }
    assert_eq!(found("AddressFamily inet6\n").address_family, AddressFamily::Inet6);
    assert_eq!([found("").rsa_bits_min, found("RequiredRSASize 3072\n").rsa_bits_min], [1024, 3072]);
    assert_eq!(found("RequiredRSASize 512\n").rsa_bits_min, 1024, "it can only be raised");
    assert_eq!(found("RevokedHostKeys none\n").revoked_host_keys, None);
}
