//! What `ssh_config(5)` says about a server, and Scaup does not do.

use super::GROUP;
use crate::config::ssh_config::{self, NeverDone, SshConfigError, Wanted};
use crate::doctor::Check;

const NAME: &str = "ssh_config";

/// Says what a configuration that can be used wants in vain: without it nothing more is trusted or offered.
pub(super) fn check(subject: &str, wanted: &Wanted) -> Check {
    let in_vain = match ssh_config::never_done(wanted) {
        Ok(in_vain) => in_vain,
        Err(error) => return unusable(subject, &error),
    };
    let listed = in_vain
        .iter()
        .map(|NeverDone { origin, keyword, reason }| format!("{origin} {keyword} has no effect ({reason})"));
    let listed: Vec<String> = listed.collect();
    let found = if listed.is_empty() { "it can be followed".to_owned() } else { listed.join("; ") };
    GROUP.ok(NAME, format!("{subject}: {found}"))
}

/// Says why a configuration can't be used.
pub(super) fn unusable(subject: &str, error: &SshConfigError) -> Check {
    let advice = match error {
        SshConfigError::File { path, .. } => {
            format!("make {} readable, or name another file", path.display())
        }
        SshConfigError::OpenFile { path, .. } => format!("chmod 600 {}", path.display()),
        SshConfigError::ForeignFile { path, .. } => {
            format!("replace {} by a copy of your own", path.display())
        }
        SshConfigError::TooManyIncludes { path } => {
            format!("remove the circle of Include lines that leads to {}", path.display())
        }
        SshConfigError::Unknown { keyword, .. } => {
            format!("correct the line, or write `IgnoreUnknown {keyword}` before it")
        }
        SshConfigError::Value { keyword, .. } => format!("correct the line (man ssh_config, {keyword})"),
        SshConfigError::Expansion { keyword, .. } => {
            format!("correct the line (man ssh_config, TOKENS, and {keyword})")
        }
        SshConfigError::Command { .. } => {
            "correct the command, or put the options for this host into a Host block before it".to_owned()
        }
        SshConfigError::Unsupported { way_out, .. } => (*way_out).to_owned(),
        SshConfigError::Match { .. } => {
            "put the options for this host into a Host block before it, or name another file with -F"
                .to_owned()
        }
        SshConfigError::TooManyJumps => "shorten the chain of ProxyJump".to_owned(),
    };
    GROUP.failed(NAME, format!("{subject}: {error}"), advice)
}
