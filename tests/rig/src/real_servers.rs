//! SSH servers other than OpenSSH's, as they are installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::install::{need, need_root};
use crate::keys::{Key, KeyKind};
use crate::process::{descendants, kill, run};
use crate::python::python_with;
use crate::sshd::{free_port, greets};
use crate::within::eventually;

/// The server of the library asyncssh, with its SFTP server, for one key.
const ASYNCSSH: &str = "
import asyncio, asyncssh, sys
port, host_key, authorized = sys.argv[1:]
async def serve():
    await asyncssh.listen('127.0.0.1', int(port), server_host_keys=[host_key],
                          authorized_client_keys=authorized, sftp_factory=True)
    await asyncio.get_running_loop().create_future()
asyncio.run(serve())
";

/// A running server, to which root logs in with a key.
pub struct RealServer {
    directory: TempDir,
    port: u16,
    key: Key,
    process: Child,
}

impl RealServer {
    /// proftpd with its module for SFTP.
    #[must_use]
    pub fn proftpd() -> Self {
        need(&[
            ("/usr/sbin/proftpd", "proftpd-core"),
            ("/usr/lib/proftpd/mod_sftp.so", "proftpd-mod-crypto"),
        ]);
        Self::start(|directory, port, key, host_key| {
            let authorized = run(Command::new("ssh-keygen").args(["-e", "-f"]).arg(key.public_path())).stdout;
            fs::write(directory.join("authorized"), authorized).expect("its key can be written");
            let at = directory.display();
            let config = format!(
                "LoadModule mod_sftp.c\nServerName test\nServerType standalone\nDefaultServer on\nPort {port}\n\
                 DefaultAddress 127.0.0.1\nUseIPv6 off\nUser root\nGroup root\nRootLogin on\nPidFile {at}/pid\n\
                 ScoreboardFile {at}/scoreboard\nDelayEngine off\nWtmpLog off\nRequireValidShell off\n\
                 UseFtpUsers off\nAuthOrder mod_auth_unix.c\nSystemLog {at}/log\nTransferLog none\n\
                 AllowOverwrite on\nAllowStoreRestart on\nSFTPEngine on\nSFTPLog {at}/sftp.log\n\
                 SFTPHostKey {host}\nSFTPAuthorizedUserKeys file:{at}/authorized\nSFTPAuthMethods publickey\n",
                host = host_key.path().display()
            );
            fs::write(directory.join("config"), config).expect("its configuration can be written");
            let mut command = Command::new("/usr/sbin/proftpd");
            command.args(["--nodaemon", "--config"]).arg(directory.join("config"));
            command
        })
    }

    /// A server of the Python library asyncssh.
    #[must_use]
    pub fn asyncssh() -> Self {
        let python = python_with("asyncssh", "2.21.0", "asyncssh");
        Self::start(|_, port, key, host_key| {
            let mut command = Command::new(python);
            command.args(["-c", ASYNCSSH]).arg(port.to_string()).arg(host_key.path()).arg(key.public_path());
            command
        })
    }

    fn start(command: impl FnOnce(&Path, u16, &Key, &Key) -> Command) -> Self {
        need_root();
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        fs::create_dir(directory.path().join("files")).expect("a directory for the files can be made");
        let key = |name: &str| Key::generate_pem(&directory.path().join(name), KeyKind::Rsa3072, "", "PEM");
        let (key, host_key, port) = (key("key"), key("host"), free_port());
        let mut command = command(directory.path(), port, &key, &host_key);
        let log = fs::File::create(directory.path().join("output")).expect("a log can be made");
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        eventually("the server listens", Duration::from_secs(20), || greets(port));
        Self { directory, port, key, process }
    }

    /// Where the files lie.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    /// Where `scaup mount` finds the files, and its options for that.
    #[must_use]
    pub fn target(&self) -> (String, Vec<String>) {
        let known = self.directory.path().join("known");
        let options = [
            "-p".to_owned(),
            self.port.to_string(),
            "-i".to_owned(),
            self.key.path().display().to_string(),
            "-o".to_owned(),
            format!("StrictHostKeyChecking=accept-new,UserKnownHostsFile={}", known.display()),
        ];
        (format!("root@127.0.0.1:{}", self.files().display()), options.to_vec())
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        kill(&descendants(self.process.id()));
        // A failing test should show its own reason.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
