//! What a configuration file and those that it includes say about a host.
//!
//! An input is the texts of files with zero bytes between them: the one that is named, and `a`, `b` and so on in the
//! user's directory.

#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;

/// The program's own parser, compiled for this target alone: what else the program is made of takes minutes to compile.
#[path = "../../../src/config"]
#[allow(dead_code)]
mod config {
    pub mod ssh_config;

    pub mod paths {
        pub fn home() -> std::path::PathBuf {
            "/home/alice".into()
        }
    }
}

use config::ssh_config::{Machine, SshConfigError, Wanted, resolve_with};

/// Files in memory.
struct Memory(Vec<(PathBuf, String)>);

impl Machine for Memory {
    fn read(&self, path: &Path, is_checked: bool) -> Result<Option<String>, SshConfigError> {
        // Nothing is read but what is named, and what Include finds is always checked.
        let found = self.0.iter().find(|(name, _)| name == path).expect("a file that was named");
        assert_eq!(is_checked, path != self.0[0].0);
        Ok(Some(found.1.clone()))
    }

    fn matching(&self, pattern: &str) -> Vec<PathBuf> {
        let Ok(pattern) = glob::Pattern::new(pattern) else { return Vec::new() };
        self.0
            .iter()
            .skip(1)
            .map(|(name, _)| name.clone())
            .filter(|name| pattern.matches_path(name))
            .collect()
    }

    /// Runs nothing.
    fn succeeds(&self, command: &str) -> std::io::Result<bool> {
        Ok(command.len() % 2 == 0)
    }
}

fuzz_target!(|input: &[u8]| {
    let texts = input.split(|byte| *byte == 0).take(4).map(|text| String::from_utf8_lossy(text).into_owned());
    let names = ["/named", "/home/alice/.ssh/a", "/home/alice/.ssh/b", "/home/alice/.ssh/c"];
    let files = Memory(names.iter().map(PathBuf::from).zip(texts).collect());
    let wanted = Wanted {
        host: "hq".to_owned(),
        config_file: Some(names[0].into()),
        directory: "/here".into(),
        ..Wanted::default()
    };
    match resolve_with(&wanted, &files) {
        Ok(destination) => {
            assert!(destination.port > 0 && destination.attempts > 0 && destination.rsa_bits_min >= 1024);
            assert!(
                destination.jumps.len() <= 8 && destination.jumps.iter().all(|jump| jump.jumps.is_empty())
            );
            assert!(!destination.algorithms.kex.names().is_empty());
            // Paths are the user's own: none begins where the program happens to be.
            let known = destination.user_known_hosts.iter().chain(&destination.revoked_host_keys);
            assert!(known.chain(&destination.identities).all(|path| path.is_absolute()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
