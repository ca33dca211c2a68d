//! `scaup forget`.

use clap::Args;

use super::exit::CliError;
use super::screen;
use crate::config::bookmark;
use crate::config::target::Target;
use crate::config::{mount_options, ssh_config};
use crate::daemon::protocol::FailureKind;
use crate::daemon::remembered::{Memory, MemoryError, forget_all};

/// Forget which vaults were unlocked.
#[derive(Args)]
#[command(
    after_help = "Scaup remembers the path and the id of each vault that was unlocked, and nothing else of it. A mount that finds something else\n\
    there keeps that path closed: what programs save would lie readable on the server. If a vault was moved or removed on purpose,\n\
    forget it here and mount again. Other vaults are remembered again when they are unlocked.\n\n\
    Examples:\n  \
    scaup forget hq                                a bookmark\n  \
    scaup forget alice@hq.example:/srv/nextcloud   a directory on a server, and all below it\n  \
    scaup forget --all"
)]
pub(super) struct Arguments {
    /// A bookmark, or what was mounted, written like a target of mount
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
    target: Option<String>,
    /// Every vault of every server
    #[arg(long)]
    all: bool,
    /// The server's port
    #[arg(short)]
    port: Option<u16>,
    /// Read this instead of ~/.ssh/config
    #[arg(short = 'F', value_name = "FILE")]
    ssh_config: Option<std::path::PathBuf>,
    /// SSH options by their ssh_config names; `scaup mount --help` lists them
    #[arg(short, value_name = "KEY=VALUE,…")]
    options: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), CliError> {
    let failed = |error: MemoryError| CliError::new(FailureKind::Other, error);
    let forgotten = match &arguments.target {
        Some(target) => memory_of(target, &arguments)?.forget_below().map_err(failed)?,
        None => forget_all().map_err(failed)?,
    };
    if forgotten.is_empty() {
        screen::out("no vault was remembered there");
    }
    for vault in forgotten {
        screen::out(&format!("forgot vault {vault}"));
    }
    Ok(())
}

fn memory_of(target: &str, arguments: &Arguments) -> Result<Memory, CliError> {
    let bookmark = bookmark::find(target)?;
    let text = bookmark.as_ref().map_or(target, |bookmark| bookmark.target.as_str());
    let bookmark = bookmark.clone().unwrap_or_default();
    let server = match Target::parse(text).map_err(CliError::usage)? {
        Target::Local(path) => return Ok(Memory::of_local(&path)),
        Target::Server(server) => server,
    };
    let options: Vec<String> = arguments.options.iter().cloned().chain(bookmark.options).collect();
    let wanted = ssh_config::Wanted {
        host: server.host,
        user: server.user,
        port: arguments.port.or(bookmark.port).or(server.port),
        identity: None,
        config_file: arguments.ssh_config.clone(),
        options: mount_options::sort(&options).map_err(CliError::usage)?.ssh,
        otp_for: Vec::new(),
        directory: std::env::current_dir()?,
    };
    let destination = ssh_config::resolve(&wanted).map_err(CliError::usage)?;
    Ok(Memory::of_server(&destination, &server.directory))
}
