//! The files of private keys.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use scaup_sftp::ssh::{KeyFacts, KeyFileProblem, key_facts};

use super::{GROUP, Server};
use crate::doctor::Check;

const NAME: &str = "key file";

/// The shortest RSA key that is still regarded as safe, bits.
const RSA_BITS_SAFE: u32 = 2048;

/// Examines each key file once.
pub(super) fn checks(servers: &[Server<'_>]) -> Vec<Check> {
    let mut seen: Vec<&PathBuf> = Vec::new();
    let mut checks = Vec::new();
    for Server { subject, destination } in servers {
        let (named, others): (_, &[PathBuf]) = match &destination.identities[..] {
            [] => (&[][..], &destination.default_identities),
            named => (named, &[]),
        };
        let existing = others.iter().filter(|path| path.is_file()).map(|path| (path, false));
        for (path, is_named) in named.iter().map(|path| (path, true)).chain(existing) {
            if !seen.contains(&path) {
                seen.push(path);
                checks.push(check(&subject.name, path, is_named));
            }
        }
    }
    checks
}

/// Examines a key file. If nobody named it, other keys may do.
fn check(subject: &str, path: &Path, is_named: bool) -> Check {
    let bad = |found: String, advice: String| {
        let found = format!("{subject}: {found}");
        if is_named { GROUP.failed(NAME, found, advice) } else { GROUP.warning(NAME, found, advice) }
    };
    let shown = path.display();
    match key_facts(path) {
        Ok(facts) => judged(subject, path, &facts),
        Err(KeyFileProblem::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let mut public = OsString::from(path);
            public.push(".pub");
            if Path::new(&public).is_file() {
                GROUP.ok(NAME, format!("{subject}: {shown} is not there; the agent has to hold it"))
            } else {
                bad(format!("{shown} does not exist"), "correct the path, or copy the key there".to_owned())
            }
        }
        Err(KeyFileProblem::PublicOnly { .. }) => GROUP
            .ok(NAME, format!("{subject}: {shown} is a public key; the agent has to hold the private one")),
        Err(KeyFileProblem::Io { source, .. }) => {
            bad(format!("{shown} can't be read: {source}"), format!("make {shown} readable for you"))
        }
        Err(KeyFileProblem::OpenToOthers { mode, .. }) => bad(
            format!("{shown}: others may read or change it (mode {mode:04o}), so it is not used"),
            format!("chmod 600 {shown}"),
        ),
        Err(KeyFileProblem::OldPem { .. }) => bad(
            format!("{shown} is encrypted in the old PEM format, so it is not used"),
            format!("ssh-keygen -p -f {shown}"),
        ),
        Err(KeyFileProblem::UnknownEncryption { encryption, .. }) => bad(
            format!("{shown} is encrypted in a way that is not known here ({encryption})"),
            format!("ssh-keygen -p -f {shown}"),
        ),
        Err(KeyFileProblem::NotAKey { source, .. }) => bad(
            format!("{shown} is not a private key that can be read ({source})"),
            "correct the path, or restore the key from a backup".to_owned(),
        ),
    }
}

fn judged(subject: &str, path: &Path, facts: &KeyFacts) -> Check {
    let shown = path.display();
    let kind = facts.algorithm.as_deref().unwrap_or("type not known without its passphrase");
    match facts.rsa_bits {
        Some(bits) if bits < RSA_BITS_SAFE => GROUP.warning(
            NAME,
            format!("{subject}: {shown} is an RSA key of {bits} bits only, which is no longer safe"),
            "ssh-keygen -t ed25519, then put the new key on the server",
        ),
        _ => {
            let passphrase = if facts.is_encrypted { "with" } else { "without" };
            GROUP.ok(NAME, format!("{subject}: {shown}, {kind}, {passphrase} a passphrase"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;
    use crate::doctor::Verdict;

    fn generate(path: &Path, arguments: &[&str]) {
        let made = Command::new("ssh-keygen").args(["-q", "-f"]).arg(path).args(arguments).status();
        assert!(made.unwrap().success());
    }

    #[test]
    fn what_is_wrong_with_a_key_file_is_found_without_its_passphrase() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        generate(&at("good"), &["-t", "ed25519", "-N", ""]);
        generate(&at("locked"), &["-t", "ed25519", "-N", "secret"]);
        generate(&at("short"), &["-t", "rsa", "-b", "1024", "-N", "secret"]);
        fs::copy(at("good"), at("open")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(at("garbage"), [0, 159, 146, 150]).unwrap();
        fs::write(at("text"), "not a key").unwrap();
        for name in ["garbage", "text"] {
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::File::create(at("huge")).unwrap().set_len(1 << 40).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        fs::copy(at("good.pub"), at("elsewhere.pub")).unwrap();
        for (name, words, is_ok) in [
            ("good", "ssh-ed25519, without a passphrase", true),
            ("locked", "ssh-ed25519, with a passphrase", true),
            ("short", "1024 bits", false),
            ("open", "mode 0644", false),
            ("good.pub", "a public key", true),
            ("elsewhere", "the agent has to hold it", true),
            ("garbage", "can't be read", false),
            ("text", "not a private key", false),
            ("missing", "does not exist", false),
            ("huge", "more than", false),
            ("pipe", "not a regular file", false),
        ] {
            let check = check("hq", &at(name), true);
            assert!(check.found.contains(words), "{name}: {check:?}");
            assert_eq!(check.verdict == Verdict::Ok, is_ok, "{name}: {check:?}");
        }
        assert_eq!(
            check("hq", &at("open"), true).verdict,
            Verdict::Failed { advice: format!("chmod 600 {}", at("open").display()) }
        );
        assert!(matches!(check("hq", &at("open"), false).verdict, Verdict::Warning { .. }));
    }
}
