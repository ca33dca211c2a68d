//! Configurations made by chance: Scaup makes of them what `ssh -G` makes of them, and runs the same commands.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use scaup::config::ssh_config::{Wanted, resolve};
use scaup_rig::need;

use scaup_rig::dice::{Dice, from_environment};

/// Every token that this version of `ssh` knows in a command.
const TOKENS: &str = "%h %n %p %r %u %L %l %i %k %d %C 100%%";

/// A directory with two programs that note how they were called: one succeeds, the other fails.
struct Commands(tempfile::TempDir);

impl Commands {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, status) in [("yes", 0), ("no", 1)] {
            let path = directory.path().join(name);
            let noted = directory.path().join("noted");
            fs::write(
                &path,
                format!("#!/bin/sh\necho {name} \"$@\" >> {}\nexit {status}\n", noted.display()),
            )
            .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(directory)
    }

    /// Returns the calls since the last time.
    fn noted(&self) -> String {
        let path = self.0.path().join("noted");
        let noted = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, "").unwrap();
        noted
    }
}

fn condition(dice: &mut Dice, commands: &Path) -> String {
    let negated = if dice.one_in(4) { "!" } else { "" };
    let name = dice.pick(&["hq", "h?", "*", "other", "*.example", "hq,!h*", "!other,*"]);
    let criterion = match dice.below(7) {
        0 => format!("host {name}"),
        1 => format!("originalhost {name}"),
        2 => format!("user {}", dice.pick(&["alice", "root", "*", "!bob,*"])),
        3 => format!("localuser {}", dice.pick(&["root", "nobody"])),
        4 => return "final".to_owned(),
        5 => return "canonical".to_owned(),
        _ => {
            let program = commands.join(dice.pick(&["yes", "no"]));
            let arguments = dice.pick(&[TOKENS, "", "'%n' $HOME", "%x"]);
            // A token that nobody knows is rare, since nothing holds then.
            let arguments = if arguments == "%x" && !dice.one_in(5) { "%n" } else { arguments };
            format!("exec \"{} {arguments}\"", program.display())
        }
    };
    format!("{negated}{criterion}")
}

fn line(dice: &mut Dice, commands: &Path) -> String {
    let number = dice.below(5);
    match dice.below(16) {
        0 | 1 => {
            let patterns = ["hq", "*", "other", "h* !hq", "!other *", "hq.example hq", "HQ"];
            format!("Host {}", dice.pick(&patterns))
        }
        2..=4 => {
            let conditions: Vec<String> = (0..1 + dice.below(2)).map(|_| condition(dice, commands)).collect();
            format!("Match {}", conditions.join(" "))
        }
        5 => "Match all".to_owned(),
        6 | 7 => format!("Port {}", 1000 + number),
        8 => format!("HostName {}", dice.pick(&["%h.example", "inner.example", "Inner.Example", "10.0.0.1"])),
        9 => format!("User {}", dice.pick(&["alice", "bob"])),
        10 => format!("HostKeyAlias alias{number}"),
        11 => format!("IdentityFile /keys/{number}"),
        12 => format!("CertificateFile /certificates/{number}"),
        13 => format!("UserKnownHostsFile /known/{number} /known/other"),
        14 => format!("ServerAliveInterval {number}m"),
        _ => format!("IdentitiesOnly {}", dice.pick(&["yes", "no"])),
    }
}

/// What `ssh` makes of a configuration: the values of each keyword; `None` if it refuses it.
fn of_ssh(config: &Path) -> Option<BTreeMap<String, Vec<String>>> {
    let output = Command::new("ssh").arg("-G").arg("-F").arg(config).arg("hq").output().unwrap();
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        values.entry(keyword.to_owned()).or_default().push(value.to_owned());
    }
    output.status.success().then_some(values)
}

#[test]
fn configurations_by_chance_mean_what_they_mean_to_ssh() {
    need(&[("ssh", "openssh-client")]);
    let commands = Commands::new();
    let config = commands.0.path().join("config");
    let first = from_environment("CONFIG_SEED", 1);
    let (mut refused, mut run) = (0, 0);
    for seed in first..first + from_environment("CONFIG_GAMES", 300) {
        let mut dice = Dice::new(seed);
        let lines: Vec<String> = (0..2 + dice.below(9)).map(|_| line(&mut dice, commands.0.path())).collect();
        let text = lines.join("\n") + "\n";
        fs::write(&config, &text).unwrap();
        let theirs = of_ssh(&config);
        let of_theirs = commands.noted();
        let ours = resolve(&Wanted {
            host: "hq".to_owned(),
            config_file: Some(config.clone()),
            ..Wanted::default()
        });
        let of_ours = commands.noted();
        let game = format!("seed {seed}:\n{text}");
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Some(theirs)) => (ours, theirs),
            (Err(_), None) => {
                refused += 1;
                continue;
            }
            (ours, theirs) => panic!("{game}{:?}, and ssh {theirs:?}", ours.map(|ours| ours.host)),
        };
        assert_eq!(of_ours, of_theirs, "{game}");
        run += of_ours.lines().count();
        let values = |keyword: &str| theirs.get(keyword).cloned().unwrap_or_default();
        let value = |keyword: &str| values(keyword).concat();
        let paths = |paths: &[PathBuf]| -> Vec<String> {
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(ours.host, value("hostname"), "{game}");
        assert_eq!(ours.port.to_string(), value("port"), "{game}");
        assert_eq!(ours.user, value("user"), "{game}");
        assert_eq!(ours.host_key_alias.unwrap_or_default(), value("hostkeyalias"), "{game}");
        let identities: Vec<String> =
            values("identityfile").into_iter().filter(|path| !path.starts_with("~/")).collect();
        assert_eq!(paths(&ours.identities), identities, "{game}");
        assert_eq!(paths(&ours.certificates), values("certificatefile"), "{game}");
        let known = paths(&ours.user_known_hosts).join(" ");
        let is_default = !value("userknownhostsfile").starts_with("/known");
        assert!(is_default || known == value("userknownhostsfile"), "{game}{known}");
        assert_eq!(ours.identities_only, value("identitiesonly") == "yes", "{game}");
        let interval = value("serveraliveinterval");
        if interval != "0" {
            assert_eq!(ours.server_alive_interval.as_secs().to_string(), interval, "{game}");
        }
    }
    // Otherwise chance has made nothing of interest.
    assert!(refused > 0 && run > 20, "{refused} refused, {run} commands");
}
