//! Mounting: what it costs, from the command to the first listing, and what the system shows of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use scaup_rig::{Proxy, Sshd, need, run};

use crate::kernel::cheap_masterkey_file;
use crate::support::{PASSWORD, round_trips, said, scaup, server_with_vault};

/// The key exchange (2), the request for logins, a look whether the key will do, the signature, the channels, the
/// subsystem (OpenSSH opens its window only with that).
const TO_THE_LANES: u64 = 7;
/// The directory's own attributes along with the greeting, opening it, its names.
const LISTING: u64 = 3;
/// Opening the vault's files along with the greeting, reading them.
const UNLOCKING: u64 = 2;
/// Opening the content of the vault's root beside looking for it, its names. Nothing is waited for after that.
const VAULTS_LISTING: u64 = 2;
/// Pauses of a busy machine count as round trips: what takes too many is tried so often.
const ATTEMPTS: usize = 4;

/// Mounts an empty vault's directory through a road that counts; returns the round trips until its names are there.
fn round_trips_of_mounting(unlocked: bool) -> u64 {
    let sshd = server_with_vault();
    // Else messages that nobody waits for pass while the password's key is computed, and count.
    let masterkey = sshd.files().join("Vault/masterkey.cryptomator");
    fs::write(&masterkey, cheap_masterkey_file(&fs::read(&masterkey).unwrap(), PASSWORD)).unwrap();
    let scaup = scaup();
    let password = scaup.command_answering(PASSWORD);
    let options: &[&str] =
        if unlocked { &["--vault", ".", "--vault-password-command", &password] } else { &["--no-vaults"] };
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let (round_trips, (mount, names)) = round_trips(&proxy, || {
        let mount = scaup.mount_through(&proxy, &sshd, "Vault").args(options).start();
        let names = fs::read_dir(mount.path()).unwrap().count();
        (mount, names)
    });
    assert_eq!(names > 0, !unlocked, "an unlocked empty vault shows nothing, its directory three names");
    mount.unmount(&scaup);
    round_trips
}

/// Mounting and listing takes no more than `most` round trips.
fn takes_at_most(most: u64, unlocked: bool) {
    let mut attempts = Vec::new();
    while attempts.last().is_none_or(|&taken| taken > most) {
        assert!(attempts.len() < ATTEMPTS, "more than {most} round trips each time: {attempts:?}");
        attempts.push(round_trips_of_mounting(unlocked));
    }
}

#[test]
fn a_directory_is_there_after_few_round_trips() {
    takes_at_most(TO_THE_LANES + LISTING, false);
}

#[test]
fn a_vault_adds_the_reading_of_its_files_and_no_more() {
    takes_at_most(TO_THE_LANES + UNLOCKING + VAULTS_LISTING, true);
}

/// Runs the program as a user who mounts with `fusermount3`, as nearly everybody does.
fn as_user(sshd: &Sshd, program: &Path, arguments: &[&OsStr]) -> Output {
    let user = fs::metadata(sshd.home()).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        format!("--reuid={}", user.uid()),
        format!("--regid={}", user.gid()),
        "--clear-groups".to_owned(),
    ]);
    command.arg(program).args(arguments).current_dir(sshd.home());
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", sshd.home())
        .env("XDG_RUNTIME_DIR", sshd.home());
    command.output().unwrap()
}

#[test]
fn a_comma_or_a_backslash_in_a_targets_path_is_shown_and_no_option() {
    need(&[("setpriv", "util-linux"), ("findmnt", "util-linux")]);
    let sshd = Sshd::key_only().start();
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Users may not be let into the directory that it was built in.
    let program = place.path().join("scaup");
    fs::copy(env!("CARGO_BIN_EXE_scaup"), &program).unwrap();
    let at = sshd.home().join("mnt");
    for name in ["Smith, Jones", "a,b", ",noexec", r"back\slash", r"both\,noexec", "plain"] {
        let target = sshd.home().join(name);
        fs::create_dir_all(&target).unwrap();
        sshd.give(&target);
        let mounted = as_user(
            &sshd,
            &program,
            &["mount".as_ref(), target.as_ref(), at.as_ref(), "--no-vaults".as_ref()],
        );
        assert!(mounted.status.success(), "{name}: {}", said(&mounted));
        let shown = |column: &str| {
            let shown = run(Command::new("findmnt").args(["-n", "-o", column]).arg(&at));
            String::from_utf8(shown.stdout).unwrap().trim_end().to_owned()
        };
        let (source, options) = (shown("SOURCE"), shown("OPTIONS"));
        let unmounted = as_user(&sshd, &program, &["unmount".as_ref(), at.as_ref()]);
        assert!(unmounted.status.success(), "{name}: {}", said(&unmounted));
        assert_eq!(source, target.to_str().unwrap());
        assert!(!options.split(',').any(|option| option == "noexec"), "{name}: {options}");
    }
}
