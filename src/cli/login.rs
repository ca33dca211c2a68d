//! `scaup login`.

use clap::Args;

use super::converse;
use super::error::CliError;
use crate::daemon::protocol::Request;

/// Log in again after the connection was lost.
#[derive(Args)]
#[command(
    after_help = "A mount reconnects by itself as long as no person has to answer. If the server asks for a new code and no \
    --otp-command gives one, this command asks for it; an SSH_ASKPASS window that asks the same is closed. No data is lost \
    in the meantime."
)]
pub(super) struct LoginArguments {
    /// The mount's name or mount point [default: the only one]
    #[arg(value_name = "NAME")]
    mount: Option<String>,
}

pub(super) fn run(arguments: &LoginArguments) -> Result<(), CliError> {
    let (mut conversation, _) = converse::find(arguments.mount.as_deref())?;
    converse::ask(&mut conversation, &Request::Login, false).map(drop)
}
