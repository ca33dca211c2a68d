//! `scaup login`.

use clap::Args;

use super::converse;
use super::exit::CliError;
use crate::daemon::protocol::Request;

/// Log in again after the connection was lost.
#[derive(Args)]
#[command(
    after_help = "A lost connection is made anew by itself as long as nobody has to be asked. Where the server wants a new code, and no\n\
    --otp-command gives one, this command asks for it; a window of SSH_ASKPASS that asks already goes away. Nothing is lost meanwhile."
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
