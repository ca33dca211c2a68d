//! SFTP servers with other ways than OpenSSH's: each way was seen on a real server, and is put before OpenSSH's program
//! by `other-sftp-server`, so that nothing but the way differs.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use crate::install::copy_of_program;
use crate::sshd::Sshd;

/// One way in which a server differs from OpenSSH's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// WRITEs are carried out by workers; what follows overtakes them, but not READ and CLOSE (Go's `pkg/sftp`).
    Workers,
    /// FSETSTAT alone overtakes WRITEs.
    Overtakes,
    /// FSTAT and FSETSTAT go by the name that the handle was opened by (the request server of Go's `pkg/sftp`, which
    /// SFTPGo and `rclone serve sftp` are made of; paramiko's example).
    HandlesAreNames,
    /// SYMLINK takes the link first, as the draft says (asyncssh for clients other than OpenSSH, gesftpserver).
    LinkFirst,
    /// READ by a handle that also writes is taken for a WRITE of zeros (`rclone serve sftp` 1.60).
    ReadsAreWrites,
    /// OPEN for writing empties the file (`rclone serve sftp`).
    Empties,
    /// MKDIR ignores the mode (Go).
    NoModes,
    /// FSETSTAT is refused (`-P fsetstat`; AWS Transfer without its option).
    NoOpenAttributes,
    /// Attributes can't be set at all (hosts that forbid SETSTAT).
    NoAttributes,
    /// No extension is offered: plain version 3.
    NoExtensions,
    /// Two extensions are offered: `posix-rename` and `hardlink` (Go).
    FewExtensions,
}

impl Way {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Workers, "workers"),
        (Self::Overtakes, "overtakes"),
        (Self::HandlesAreNames, "handles-are-names"),
        (Self::LinkFirst, "link-first"),
        (Self::ReadsAreWrites, "reads-are-writes"),
        (Self::Empties, "empties"),
        (Self::NoModes, "no-modes"),
        (Self::NoOpenAttributes, "no-open-attributes"),
        (Self::NoAttributes, "no-attributes"),
        (Self::NoExtensions, "no-extensions"),
        (Self::FewExtensions, "few-extensions"),
    ];

    /// Returns the way of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, its)| *its == name).map(|(way, _)| *way)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(way, _)| *way == self).expect("each way has a name").1
    }
}

/// A server that has some of these ways, behind a real login.
pub struct OtherServer {
    sshd: Sshd,
    _program: TempDir,
}

impl OtherServer {
    /// Starts one.
    #[must_use]
    pub fn start(ways: &[Way]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
            .expect("the server's user may come in");
        let program = copy_of_program("other-sftp-server", directory.path());
        let ways: Vec<&str> = ways.iter().map(|way| way.name()).collect();
        let sshd = Sshd::key_only().subsystem(&format!("{} {}", program.display(), ways.join(" "))).start();
        Self { sshd, _program: directory }
    }

    /// Where to log in.
    #[must_use]
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }
}
