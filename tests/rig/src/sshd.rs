//! A real OpenSSH server for one test.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use totp_rs::{Builder, Secret};

use crate::account::Account;
use crate::install::need;
use crate::keys::{Key, KeyKind};
use crate::process::{descendants, kill, run};

/// How long a code stays the same, seconds (RFC 6238's default, which google-authenticator keeps to).
const TOTP_STEP: u64 = 30;

/// What the server asks by the method `keyboard-interactive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyboardInteractive {
    /// `Verification code: `, by google-authenticator.
    Code,
    /// `Password: `, the account's.
    Password,
    /// The password and then the code, in two rounds.
    PasswordAndCode,
}

/// How a test server should be; see [`Sshd::builder`].
#[derive(Debug, Clone)]
pub struct SshdBuilder {
    authentication_methods: String,
    keyboard_interactive: KeyboardInteractive,
    codes_only_once: bool,
    host_keys: Vec<KeyKind>,
    host_certificate: Option<Vec<String>>,
    key: KeyKind,
    passphrase: String,
    authorized_keys: Vec<String>,
    password: Option<String>,
    subsystem: String,
    chroot: bool,
    config: String,
}

impl SshdBuilder {
    /// sshd's `AuthenticationMethods`, such as `publickey`, `publickey,keyboard-interactive` (the default),
    /// `password,keyboard-interactive`.
    #[must_use]
    pub fn authentication_methods(mut self, methods: &str) -> Self {
        methods.clone_into(&mut self.authentication_methods);
        self
    }

    /// What `keyboard-interactive` asks for; [`KeyboardInteractive::Code`] unless set.
    #[must_use]
    pub fn keyboard_interactive(mut self, asks: KeyboardInteractive) -> Self {
        self.keyboard_interactive = asks;
        self
    }

    /// Refuses a code that was used before (`DISALLOW_REUSE`), as real servers do. Off unless set, so that tests need
    /// not wait half a minute between logins.
    #[must_use]
    pub fn codes_only_once(mut self) -> Self {
        self.codes_only_once = true;
        self
    }

    /// Kinds of the host keys, one of each; Ed25519 alone unless set.
    #[must_use]
    pub fn host_keys(mut self, kinds: &[KeyKind]) -> Self {
        kinds.clone_into(&mut self.host_keys);
        self
    }

    /// Has an authority ([`Sshd::host_authority`]) certify the first host key with further arguments for `ssh-keygen`,
    /// such as `-n`, `127.0.0.1`.
    #[must_use]
    pub fn host_certificate(mut self, arguments: &[&str]) -> Self {
        self.host_certificate = Some(arguments.iter().map(ToString::to_string).collect());
        self
    }

    /// Kind of the user's key ([`Sshd::key`]).
    #[must_use]
    pub fn key(mut self, kind: KeyKind) -> Self {
        self.key = kind;
        self
    }

    /// What the user's key is encrypted with; empty leaves it unencrypted.
    #[must_use]
    pub fn passphrase(mut self, passphrase: &str) -> Self {
        passphrase.clone_into(&mut self.passphrase);
        self
    }

    /// A further line of `authorized_keys`.
    #[must_use]
    pub fn authorize(mut self, line: &str) -> Self {
        self.authorized_keys.push(line.to_owned());
        self
    }

    /// Gives the account a password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The command of the `sftp` subsystem; `internal-sftp` unless set. OpenSSH's program is
    /// `/usr/lib/openssh/sftp-server`.
    #[must_use]
    pub fn subsystem(mut self, command: &str) -> Self {
        command.clone_into(&mut self.subsystem);
        self
    }

    /// Locks the user into a directory of root's ([`Sshd::files`] is the one place in it where the user may write).
    #[must_use]
    pub fn chroot(mut self) -> Self {
        self.chroot = true;
        self
    }

    /// A further line of `sshd_config`, such as `MaxSessions 1` or `LoginGraceTime 2`.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// Starts the server and waits until it replies.
    #[must_use]
    pub fn start(self) -> Sshd {
        need(&[
            ("/usr/sbin/sshd", "openssh-server"),
            // The PAM module's own place differs by architecture; this program comes with it.
            ("google-authenticator", "libpam-google-authenticator"),
            ("oathtool", "oathtool"),
        ]);
        let account = Account::take();
        let directory = account.directory().to_path_buf();
        fs::copy("/usr/sbin/sshd", account.sshd()).expect("sshd can be copied");
        // sshd's place for its unprivileged part; a machine whose own sshd never ran lacks it.
        fs::DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd").expect("/run/sshd can be made");

        let keys = directory.join("keys");
        fs::create_dir(&keys).expect("the key directory can be made");
        let key = Key::generate(&keys.join("id_test"), self.key, &self.passphrase);
        let authorized = [vec![key.public_line()], self.authorized_keys.clone()].concat().join("\n") + "\n";
        let authorized_keys = directory.join("authorized_keys");
        write(&authorized_keys, &authorized, 0o644);
        let host_keys: Vec<Key> = self
            .host_keys
            .iter()
            .map(|kind| Key::generate(&keys.join(format!("host_{kind:?}")), *kind, ""))
            .collect();
        let host_authority = Key::generate(&keys.join("host_authority"), KeyKind::Ed25519, "");
        let certificate = self.host_certificate.as_ref().map(|arguments| {
            let arguments: Vec<&str> =
                ["-h"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
            host_authority.certify(host_keys.first().expect("a server has a host key"), &arguments)
        });

        if let Some(password) = &self.password {
            let _one_at_a_time = crate::install::lock("accounts.lock");
            let mut chpasswd = Command::new("chpasswd").stdin(Stdio::piped()).spawn().expect("chpasswd runs");
            let mut input = chpasswd.stdin.take().expect("its input is a pipe");
            std::io::Write::write_all(&mut input, format!("{}:{password}\n", account.name()).as_bytes())
                .expect("chpasswd reads");
            drop(input);
            assert!(chpasswd.wait().expect("chpasswd ends").success(), "chpasswd failed");
        }

        let secret = base32_secret();
        self.write_pam_service(&account, &secret);
        let chroot = self.chroot.then(|| directory.join("chroot"));
        if let Some(chroot) = &chroot {
            fs::DirBuilder::new().mode(0o755).create(chroot).expect("the chroot can be made");
            let files = chroot.join("files");
            fs::create_dir(&files).expect("a directory in the chroot can be made");
            account.give(&files);
        }

        let mut config = format!(
            "AuthorizedKeysFile {}\nPidFile {}\nAuthenticationMethods {}\nSubsystem sftp {}\n",
            authorized_keys.display(),
            account.pid_file().display(),
            self.authentication_methods,
            self.subsystem,
        );
        // The rig's directory lies below /var, whose owners are none of this server's business.
        config.push_str(
            "StrictModes no\nUsePAM yes\nPasswordAuthentication yes\nKbdInteractiveAuthentication yes\n",
        );
        config.push_str("PermitRootLogin no\nUseDNS no\nPrintMotd no\nPrintLastLog no\nLogLevel DEBUG1\n");
        for host_key in &host_keys {
            config.push_str(&format!("HostKey {}\n", host_key.path().display()));
        }
        if let Some(certificate) = certificate {
            config.push_str(&format!("HostCertificate {}\n", certificate.display()));
        }
        if let Some(chroot) = &chroot {
            config.push_str(&format!("ChrootDirectory {}\n", chroot.display()));
        }
        // sshd takes the first value of a keyword: what the test says comes first.
        config.insert_str(0, &self.config);

        let mut sshd =
            Sshd { account, listener: None, port: 0, key, host_keys, host_authority, secret, chroot, config };
        sshd.start();
        sshd
    }

    /// Writes what PAM should ask for. The methods `password` and `keyboard-interactive` both come here; only the
    /// latter is asked for a code. sshd runs it in a process of its own whose title ends in `[pam]`, which tells the
    /// two apart.
    fn write_pam_service(&self, account: &Account, secret: &str) {
        let directory = account.directory();
        let secret_file = directory.join("google_authenticator");
        // Without a RATE_LIMIT line, tests may fail as often as they like.
        let reuse = if self.codes_only_once { "\" DISALLOW_REUSE\n" } else { "" };
        write(&secret_file, &format!("{secret}\n{reuse}\" WINDOW_SIZE 3\n\" TOTP_AUTH\n"), 0o600);
        let is_password_method = directory.join("is-password-method");
        write(&is_password_method, "#!/bin/sh\n! grep -qF '[pam]' /proc/$PPID/cmdline\n", 0o755);

        let code = format!(
            "pam_google_authenticator.so secret={} user=root allowed_perm=0600",
            secret_file.display()
        );
        let password = "pam_unix.so nodelay";
        let asked: &[&str] = match self.keyboard_interactive {
            KeyboardInteractive::Code => &[&code],
            KeyboardInteractive::Password => &[password],
            KeyboardInteractive::PasswordAndCode => &[password, &code],
        };
        let mut service = format!(
            "auth [success={} default=ignore] pam_exec.so quiet {}\n",
            asked.len(),
            is_password_method.display()
        );
        for (number, module) in asked.iter().enumerate() {
            let control = if number + 1 == asked.len() { "[success=done default=die]" } else { "requisite" };
            service.push_str(&format!("auth {control} {module}\n"));
        }
        service.push_str(&format!("auth required {password}\n"));
        service.push_str("account required pam_permit.so\nsession required pam_permit.so\n");
        write(&Path::new("/etc/pam.d").join(account.name()), &service, 0o644);
    }
}

/// A running OpenSSH server on loopback with keys, configuration, account and PAM service of its own.
///
/// Dropping it ends the server and its connections, and removes the files.
pub struct Sshd {
    account: Account,
    listener: Option<Child>,
    port: u16,
    key: Key,
    host_keys: Vec<Key>,
    host_authority: Key,
    secret: String,
    chroot: Option<PathBuf>,
    config: String,
}

impl Sshd {
    /// The passphrase of the user's key unless another is set.
    pub const PASSPHRASE: &'static str = "open sesame";

    /// A server as the company has it: it demands the user's passphrase-protected key and then a code.
    #[must_use]
    pub fn builder() -> SshdBuilder {
        SshdBuilder {
            authentication_methods: "publickey,keyboard-interactive".to_owned(),
            keyboard_interactive: KeyboardInteractive::Code,
            codes_only_once: false,
            host_keys: vec![KeyKind::Ed25519],
            host_certificate: None,
            key: KeyKind::Ed25519,
            passphrase: Self::PASSPHRASE.to_owned(),
            authorized_keys: Vec::new(),
            password: None,
            subsystem: "internal-sftp".to_owned(),
            chroot: false,
            config: String::new(),
        }
    }

    /// For tests about something else than the login: an unencrypted key is enough.
    #[must_use]
    pub fn key_only() -> SshdBuilder {
        Self::builder().authentication_methods("publickey").passphrase("")
    }

    /// The user to log in as.
    #[must_use]
    pub fn user(&self) -> &str {
        self.account.name()
    }

    /// Always `127.0.0.1`.
    #[must_use]
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on; the same again after [`Self::stop`] and [`Self::start`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory a login starts in; empty at first, owned by the user.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.account.home()
    }

    /// Where the user may write: the home, or `/files` in the chroot.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.chroot.as_ref().map_or_else(|| self.home(), |chroot| chroot.join("files"))
    }

    /// Gives `path` and all below it to the user.
    pub fn give(&self, path: &Path) {
        run(Command::new("chown").args(["-hR", &format!("{0}:{0}", self.user())]).arg(path));
    }

    /// The user's key, the first in `authorized_keys`.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The host keys, in the order asked for.
    #[must_use]
    pub fn host_keys(&self) -> &[Key] {
        &self.host_keys
    }

    /// The authority behind [`SshdBuilder::host_certificate`].
    #[must_use]
    pub fn host_authority(&self) -> &Key {
        &self.host_authority
    }

    /// The lines of `known_hosts` that name this server's keys.
    #[must_use]
    pub fn known_hosts(&self) -> String {
        self.known_hosts_at(self.port)
    }

    /// The lines of `known_hosts` for who reaches this server at another port, such as a [`crate::Proxy`]'s.
    #[must_use]
    pub fn known_hosts_at(&self, port: u16) -> String {
        self.host_keys
            .iter()
            .map(|key| format!("[{}]:{port} {}\n", self.host(), key.public_fields()))
            .collect()
    }

    /// A file with [`Self::known_hosts`], for `UserKnownHostsFile`.
    #[must_use]
    pub fn known_hosts_file(&self) -> PathBuf {
        self.known_hosts_file_at(self.port)
    }

    /// A file with [`Self::known_hosts_at`].
    #[must_use]
    pub fn known_hosts_file_at(&self, port: u16) -> PathBuf {
        let path = self.account.directory().join(format!("known_hosts_{port}"));
        write(&path, &self.known_hosts_at(port), 0o644);
        path
    }

    /// The code that is valid now.
    #[must_use]
    pub fn totp(&self) -> String {
        self.totp_at(0)
    }

    /// What the codes are made of, in Base32.
    #[must_use]
    pub fn totp_secret(&self) -> &str {
        &self.secret
    }

    /// How long the present code stays the same.
    #[must_use]
    pub fn totp_remaining(&self) -> Duration {
        Duration::from_secs(TOTP_STEP - now() % TOTP_STEP)
    }

    /// The code of `steps` steps of 30 s from now, or before.
    #[must_use]
    pub fn totp_at(&self, steps: i64) -> String {
        let secret = Secret::try_from_base32(&self.secret).expect("the rig made this secret itself");
        let generator = Builder::new().with_secret(secret).build().expect("160 bits are enough");
        let step = i64::try_from(TOTP_STEP).expect("a step is short");
        generator.generate(now().saturating_add_signed(step * steps)).to_string()
    }

    /// A shell command that prints the code valid when it runs.
    #[must_use]
    pub fn totp_command(&self) -> String {
        let file = self.account.directory().join("totp_secret");
        write(&file, &self.secret, 0o600);
        format!("oathtool --totp --base32 - < '{}'", file.display())
    }

    /// Everything the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.account.directory().join("sshd.log")).unwrap_or_default()
    }

    /// The server's processes apart from the listener: connections and SFTP servers.
    #[must_use]
    pub fn connections(&self) -> Vec<u32> {
        self.listener.as_ref().map(|listener| descendants(listener.id())).unwrap_or_default()
    }

    /// Cuts all connections off; the server takes new ones at once.
    pub fn cut_connections(&self) {
        kill(&self.connections());
    }

    /// Ends the server and all connections.
    pub fn stop(&mut self) {
        let connections = self.connections();
        if let Some(mut listener) = self.listener.take() {
            kill(&[listener.id()]);
            listener.wait().expect("the rig's own child can be waited for");
        }
        kill(&connections);
    }

    /// Starts it again after [`Self::stop`], on the same port.
    pub fn start(&mut self) {
        // The first time a free port is chosen; another process may take it before sshd does, then another is tried.
        for _ in 0..10 {
            if self.port == 0 || !self.try_start() {
                self.port = free_port();
            } else {
                return;
            }
            if self.try_start() {
                return;
            }
        }
        panic!("sshd does not start:\n{}", self.log());
    }

    /// Whether the server came up on the present port.
    fn try_start(&mut self) -> bool {
        let directory = self.account.directory().to_path_buf();
        let config = directory.join("sshd_config");
        write(&config, &format!("{}Port {}\nListenAddress 127.0.0.1\n", self.config, self.port), 0o600);
        let mut listener = Command::new(self.account.sshd())
            .args(["-D", "-E"])
            .arg(directory.join("sshd.log"))
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd runs");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if listener.try_wait().expect("the rig's own child can be waited for").is_some() {
                return false;
            }
            if greets(self.port) {
                self.listener = Some(listener);
                return true;
            }
            assert!(Instant::now() < deadline, "sshd does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        // A failing test should show its own reason; the account's next holder overwrites the service.
        let _ = fs::remove_file(Path::new("/etc/pam.d").join(self.account.name()));
        if std::thread::panicking() {
            eprintln_log(&self.log());
        }
    }
}

/// Shows the end of the server's log beside a test's failure.
#[allow(clippy::print_stderr)]
fn eprintln_log(log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    eprintln!(
        "--- sshd's last lines:\n{}",
        lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
    );
}

/// Whether an SSH server says its version at this port.
pub(crate) fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let mut version = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit can be set");
    stream.read_exact(&mut version).is_ok() && &version == b"SSH-"
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// 160 random bits in base 32, whose digits are 5 bits each.
fn base32_secret() -> String {
    let mut random = [0_u8; 32];
    let mut source = fs::File::open("/dev/urandom").expect("/dev/urandom is there");
    source.read_exact(&mut random).expect("/dev/urandom does not end");
    random
        .iter()
        .map(|byte| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte % 32)]))
        .collect()
}

fn write(path: &Path, content: &str, mode: u32) {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .expect("the rig's file can be written");
    std::io::Write::write_all(&mut file, content.as_bytes()).expect("the rig's file can be written");
    file.set_permissions(fs::Permissions::from_mode(mode)).expect("the rig's file can be given its mode");
}
