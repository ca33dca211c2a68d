//! The command line: parsed here, carried out by one file per command.
//!
//! A command that concerns a mount talks to its daemon (`converse`): it sends one request, prints progress, asks the
//! person what the daemon asks (`prompt`, `screen`), and ends with the code that `exit` gives the result. `check` and
//! `vault` work without a mount, on a connection of their own.

mod account;
mod account_session;
mod answer;
mod bookmark;
mod check;
mod conflicts;
mod converse;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod error;
mod forget;
mod login;
mod man;
mod mend;
mod mount;
mod mount_helper;
mod new_password;
mod passwd;
mod progress;
mod prompt;
mod recovery_key;
mod restore;
mod screen;
mod service_manager;
mod share;
mod status;
mod unmount;
mod upgrade;
mod vault;
mod vault_access;
mod vault_secret;
mod vault_work;
mod which;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use error::CliError;

/// Mounts encrypted vaults that live on an SSH server as an ordinary folder.
#[derive(Parser)]
#[command(
    name = "scaup",
    version,
    propagate_version = true,
    after_help = "Examples:\n  \
        scaup mount alice@hq.example:/srv/nextcloud   mount a directory and the vaults in it\n  \
        ls ~/Scaup/hq.example/\n  \
        scaup unmount hq.example\n\n\
        Exit codes: 0 done, 1 other failure, 2 usage, 3 login refused, 4 host key, 5 vault, 6 server not reachable,\n\
        7 FUSE mount failed, 8 unsaved changes, 9 something was left on a server."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Mount(mount::MountArguments),
    Unmount(unmount::UnmountArguments),
    Status(status::StatusArguments),
    Login(login::LoginArguments),
    Unlock(vault::UnlockArguments),
    Lock(vault::LockArguments),
    Forget(forget::ForgetArguments),
    #[command(subcommand)]
    Bookmark(bookmark::BookmarkCommand),
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    Which(which::WhichArguments),
    Share(share::ShareArguments),
    #[command(subcommand)]
    Account(account::AccountCommand),
    Doctor(doctor::DoctorArguments),
    #[cfg(feature = "demo")]
    Demo(demo::DemoArguments),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    #[command(hide = true)]
    Man(man::Arguments),
    /// One mount's process; started by `mount`, which talks to it over standard input.
    #[command(hide = true)]
    Daemon,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    // Front ends hear passwords, too.
    if let Err(error) = scaup_memory::protect() {
        screen::fail(&format!("the memory of this process can't be protected: {error}"));
    }
    let arguments = match given() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match arguments.command {
        Command::Mount(arguments) => mount::run(arguments),
        Command::Unmount(arguments) => unmount::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Login(arguments) => login::run(&arguments),
        Command::Unlock(arguments) => vault::unlock(arguments),
        Command::Lock(arguments) => vault::lock(arguments),
        Command::Forget(arguments) => forget::run(arguments),
        Command::Bookmark(command) => bookmark::run(command),
        Command::Vault(command) => vault::run(command),
        Command::Which(arguments) => which::run(&arguments),
        Command::Share(arguments) => share::run(arguments),
        Command::Account(command) => account::run(command),
        Command::Doctor(arguments) => match doctor::run(arguments) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "scaup", &mut script);
            screen::out_script(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Man(arguments) => man::run(&arguments, Arguments::command(), mount_helper::command()),
        Command::Daemon => return run_daemon(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError { kind, message }) => {
            screen::fail(&message);
            ExitCode::from(kind.exit_code())
        }
    }
}

/// Returns the arguments of this process; `None` if there is nothing to do.
fn given() -> Result<Option<Arguments>, clap::Error> {
    let given: Vec<_> = std::env::args_os().collect();
    let given = match given.first() {
        Some(program) if mount_helper::is_helper(program) => mount_helper::arguments_of_mount(given)?,
        _ => Some(given),
    };
    given.map(Arguments::try_parse_from).transpose()
}

fn run_daemon() -> ExitCode {
    crate::daemon::log::begin();
    match crate::daemon::run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!(%error, "the daemon could not start");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command) {
        for argument in command.get_arguments() {
            let (name, argument_name) = (command.get_name(), argument.get_id());
            assert!(argument.get_help().is_some(), "{name}: {argument_name} has no help");
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn every_option_of_every_command_has_help() {
        let command = Arguments::command();
        command.clone().debug_assert();
        check(&command);
    }
}
