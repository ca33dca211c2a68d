//! A server and a program that has an account there.

use std::path::PathBuf;
use std::process::Output;

use scaup_rig::Scaup;
use scaup_rig::nextcloud::{Fault, Nextcloud, Version, What};
use serde_json::Value;

use crate::support::{ends_with, said, scaup};

/// The folder for what is shared.
pub(super) const FOLDER: &str = "/Scaup shares.~/";

/// A server, and a program with an account there called `cloud`.
pub(super) struct Cloud {
    pub(super) server: Nextcloud,
    pub(super) scaup: Scaup,
}

impl Cloud {
    pub(super) fn of(version: Version) -> Self {
        Self::with(Nextcloud::start(version), scaup())
    }

    pub(super) fn with(server: Nextcloud, scaup: Scaup) -> Self {
        add_account(&server, &scaup);
        Self { server, scaup }
    }

    /// A file of this machine.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.scaup.home().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Shares a file with further arguments.
    pub(super) fn share(&self, file: &str, arguments: &[&str]) -> Output {
        let path = self.scaup.home().join(file);
        let first = ["share", path.to_str().unwrap(), "--yes", "--json", "--print-both"];
        self.scaup.run(first.iter().chain(arguments))
    }

    /// Shares a file in another time zone.
    pub(super) fn share_in(&self, time_zone: &str, file: &str, arguments: &[&str]) -> Output {
        let mut command = self.scaup.command();
        command.env("TZ", time_zone).arg("share").arg(self.scaup.home().join(file));
        command.args(["--yes", "--json", "--print-both"]).args(arguments).output().unwrap()
    }

    /// Shares a file, which must be done; returns what `--json` says.
    pub(super) fn shared(&self, file: &str, arguments: &[&str]) -> Value {
        let output = self.share(file, arguments);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What `share list --json` says.
    pub(super) fn list(&self) -> Vec<Value> {
        let text = ends_with(&self.scaup, 0, ["share", "list", "--json"]);
        let from = text.find('[').unwrap();
        let until = text.rfind(']').unwrap();
        serde_json::from_str(&text[from..=until]).unwrap()
    }

    /// The requests since the last `count` of them: method and target.
    pub(super) fn requests_since(&self, count: usize) -> Vec<String> {
        let requests = self.server.requests();
        requests[count..].iter().map(|request| format!("{} {}", request.method, request.target)).collect()
    }

    /// Lets one request go wrong, the one with this number from now.
    pub(super) fn fail_next(&self, number: u32, times: u32, what: What) {
        let fault = Fault { method: String::new(), path_contains: String::new(), after: number, times, what };
        self.server.fail(fault);
    }

    /// Nothing of any share is on the server.
    pub(super) fn is_clean(&self) -> bool {
        let files = self.server.files();
        let left: Vec<&String> =
            files.iter().filter(|file| file.starts_with(FOLDER) && *file != FOLDER).collect();
        left.is_empty()
            && self.server.shares().is_empty()
            && self.server.uploads().is_empty()
            && self.server.trash().is_empty()
    }

    /// What is on the server, for messages.
    pub(super) fn state(&self) -> String {
        format!(
            "{:?}, links {:?}, uploads {:?}, trash {:?}",
            self.server.files(),
            self.server.shares(),
            self.server.uploads(),
            self.server.trash()
        )
    }
}

/// Adds an account called `cloud`.
pub(super) fn add_account(server: &Nextcloud, scaup: &Scaup) {
    let password = scaup.command_answering(&server.app_password());
    let url = server.url();
    let first = ["account", "add", &url, "--name", "cloud", "--user", "alice"];
    ends_with(scaup, 0, first.iter().copied().chain(["--app-password-command", &password]));
}
