//! SSH keys, made by OpenSSH's own `ssh-keygen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::need;
use crate::process::run;

/// A kind of SSH key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyKind {
    Ed25519,
    Rsa2048,
    Rsa3072,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Ed25519, Self::Rsa2048, Self::Rsa3072, Self::EcdsaP256, Self::EcdsaP384, Self::EcdsaP521];

    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["-t", "ed25519"],
            Self::Rsa2048 => &["-t", "rsa", "-b", "2048"],
            Self::Rsa3072 => &["-t", "rsa", "-b", "3072"],
            Self::EcdsaP256 => &["-t", "ecdsa", "-b", "256"],
            Self::EcdsaP384 => &["-t", "ecdsa", "-b", "384"],
            Self::EcdsaP521 => &["-t", "ecdsa", "-b", "521"],
        }
    }
}

/// A key pair in files: the private half at `path`, the public one beside it with `.pub`.
#[derive(Debug, Clone)]
pub struct Key {
    path: PathBuf,
    passphrase: String,
}

impl Key {
    /// Makes a key at `path` in OpenSSH's own format; an empty passphrase leaves it unencrypted.
    #[must_use]
    pub fn generate(path: &Path, kind: KeyKind, passphrase: &str) -> Self {
        Self::generate_with(path, kind, passphrase, &[])
    }

    /// The same in a PEM format: `PEM` (PKCS#1, SEC 1) or `PKCS8`.
    #[must_use]
    pub fn generate_pem(path: &Path, kind: KeyKind, passphrase: &str, format: &str) -> Self {
        Self::generate_with(path, kind, passphrase, &["-m", format])
    }

    fn generate_with(path: &Path, kind: KeyKind, passphrase: &str, format: &[&str]) -> Self {
        let mut command = ssh_keygen();
        run(command
            .arg("-q")
            .args(kind.arguments())
            .args(format)
            .args(["-C", "scaup-test", "-N", passphrase, "-f"])
            .arg(path));
        Self { path: path.to_path_buf(), passphrase: passphrase.to_owned() }
    }

    /// The file of the private half.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the private half is encrypted with; empty if it isn't.
    #[must_use]
    pub fn passphrase(&self) -> &str {
        &self.passphrase
    }

    /// The file of the public half.
    #[must_use]
    pub fn public_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".pub");
        name.into()
    }

    /// The public half as it stands in `authorized_keys`, without a newline.
    #[must_use]
    pub fn public_line(&self) -> String {
        fs::read_to_string(self.public_path()).expect("the public key is readable").trim().to_owned()
    }

    /// Type and key of the public half as they stand in `known_hosts`, without the comment.
    #[must_use]
    pub fn public_fields(&self) -> String {
        self.public_line().split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// `SHA256:…`, as `ssh` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let output = run(ssh_keygen().args(["-l", "-f"]).arg(self.public_path()));
        let line = String::from_utf8(output.stdout).expect("ssh-keygen writes text");
        line.split(' ').nth(1).expect("the second word is the fingerprint").to_owned()
    }

    /// Lets this key, as an authority, certify `subject`'s public half with ssh-keygen's `arguments` (`-h` for a host,
    /// `-n` principals, `-V` validity); returns the certificate's file, `SUBJECT-cert.pub`.
    pub fn certify(&self, subject: &Self, arguments: &[&str]) -> PathBuf {
        run(ssh_keygen()
            .args(["-q", "-I", "scaup-test", "-P", &self.passphrase, "-s"])
            .arg(&self.path)
            .args(arguments)
            .arg(subject.public_path()));
        let mut certificate = subject.path.clone().into_os_string();
        certificate.push("-cert.pub");
        certificate.into()
    }
}

fn ssh_keygen() -> Command {
    need(&[("ssh-keygen", "openssh-client")]);
    Command::new("ssh-keygen")
}
