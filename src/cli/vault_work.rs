//! Work on a vault without a mount that Ctrl-C or a silent server may end half-way: what is said of the vault then.

use scaup_sftp::text::Line;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::prompt;
use crate::daemon::protocol::FailureKind;
use crate::remote::RemoteName;
use crate::vault::OpenError;

/// Does work until Ctrl-C ends it; `state` says how the vault is then.
pub(super) fn until_interrupted<T>(
    runtime: &Runtime,
    state: &str,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    runtime.block_on(async {
        tokio::select! {
            // Ctrl-C is listened for before anything else begins.
            biased;
            _ = tokio::signal::ctrl_c() => Err(CliError::other(format!("interrupted; {state}"))),
            done = work => done,
        }
    })
}

/// Returns the failure of a change; `state` says how the vault is if the server did not reply.
pub(super) fn change_failed(error: OpenError, state: &str) -> CliError {
    match &error {
        OpenError::Remote { source, .. } if source.is_unanswered() => {
            CliError::new(FailureKind::Unreachable, format!("{error}; {state}"))
        }
        _ => CliError::new(FailureKind::Vault, error),
    }
}

/// Asks whether to go on, unless `--yes` has said so. Fails where a person does not agree, or nobody can be asked.
pub(super) fn agree(question: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let answer = prompt::ask(&format!("{question} (yes/no)? "), true).map_err(|reason| {
        CliError::other(format!("nothing was changed, since nobody could be asked ({reason}); use --yes"))
    })?;
    match answer.trim().eq_ignore_ascii_case("yes") {
        true => Ok(()),
        false => Err(CliError::other("nothing was changed")),
    }
}

/// Returns a name on the server as it is shown.
pub(super) fn shown(name: &RemoteName) -> Line {
    Line::of(&String::from_utf8_lossy(name.as_bytes()))
}
