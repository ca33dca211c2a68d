//! The login, as far as this machine can tell: the configuration, keys, the agent, known hosts, commands. Nothing here
//! connects to a server or asks a person.

mod agents;
mod key_files;
mod known_hosts;
mod ssh_config;

use std::path::PathBuf;

use scaup_sftp::ssh::Destination;

use super::commands::missing_program;
use super::{Check, Group};
use crate::config::bookmark::Bookmark;
use crate::config::settings::SecretCommand;
use crate::config::target::Target;
use crate::daemon::protocol::LoginRequest;

const GROUP: Group = Group::Login;

/// A login that is wanted: that of a bookmark, or of the target of the command line.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The name of the bookmark, or the target.
    pub name: String,
    /// How the target is reached.
    pub login: LoginRequest,
    /// The command that prints what opens its vaults.
    pub secret_command: Option<SecretCommand>,
}

impl Subject {
    /// Returns the login of a bookmark; relative paths begin in `directory`.
    ///
    /// # Errors
    ///
    /// A sentence that says why its target is none.
    pub fn of_bookmark(name: &str, bookmark: &Bookmark, directory: PathBuf) -> Result<Self, String> {
        let target = Target::parse(&bookmark.target)?;
        Ok(Self {
            name: name.to_owned(),
            login: LoginRequest { target, directory, settings: bookmark.login.clone() },
            secret_command: bookmark.mount.secret_command(),
        })
    }
}

/// A server that some subject logs in to, and which one.
struct Server<'a> {
    subject: &'a Subject,
    destination: Destination,
}

/// Examines logins.
pub async fn checks(subjects: &[Subject]) -> Vec<Check> {
    let (mut checks, servers) = resolved(subjects);
    checks.extend(agents::checks(&servers).await);
    checks.extend(of_files(subjects, &servers));
    checks
}

/// Examines a login without asking the agent.
pub(super) fn checks_of_files(subject: &Subject) -> Vec<Check> {
    let subjects = std::slice::from_ref(subject);
    let (mut checks, servers) = resolved(subjects);
    checks.extend(of_files(subjects, &servers));
    checks
}

/// Resolves the servers by the configuration, jump hosts included, and says where it can't be used.
fn resolved(subjects: &[Subject]) -> (Vec<Check>, Vec<Server<'_>>) {
    let (mut checks, mut servers) = (Vec::new(), Vec::new());
    for subject in subjects {
        let Target::Server(server) = &subject.login.target else { continue };
        let wanted = subject.login.settings.wanted(server, &subject.login.directory);
        match crate::config::ssh_config::resolve(&wanted) {
            Ok(mut destination) => {
                checks.push(ssh_config::check(&subject.name, &wanted));
                let jumps = std::mem::take(&mut destination.jumps).into_iter();
                servers.extend(jumps.chain([destination]).map(|destination| Server { subject, destination }));
            }
            Err(error) => checks.push(ssh_config::unusable(&subject.name, &error)),
        }
    }
    (checks, servers)
}

fn of_files(subjects: &[Subject], servers: &[Server<'_>]) -> Vec<Check> {
    let mut checks = key_files::checks(servers);
    checks.extend(known_hosts::checks(servers));
    checks.extend(subjects.iter().flat_map(commands));
    checks
}

/// Examines the programs of a subject's commands.
fn commands(subject: &Subject) -> Vec<Check> {
    let settings = &subject.login.settings;
    let named =
        [("passphrase_command", &settings.passphrase_command), ("otp_command", &settings.otp_command)];
    let of_vaults = subject.secret_command.as_ref().map(|command| match command {
        SecretCommand::Password(command) => ("vault_password_command", command.as_str()),
        SecretCommand::RecoveryKey(command) => ("recovery_key_command", command.as_str()),
    });
    let given = named.into_iter().filter_map(|(name, command)| Some((name, command.as_deref()?)));
    let given = given.chain(of_vaults);
    let check = |(name, command)| match missing_program(command) {
        None => GROUP.ok(name, format!("{}: its program exists, as far as can be told", subject.name)),
        Some(program) => GROUP.failed(
            name,
            format!("{}: there is no program {program}", subject.name),
            format!("install {program}, or correct {name}"),
        ),
    };
    given.map(check).collect()
}
