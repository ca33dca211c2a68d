//! `scaup vault recovery-key`.

use std::io::{self, IsTerminal};

use clap::Args;
use rustix::termios::tcgetwinsize;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::{self, SecretArguments, Sources};

/// Columns of words, where the terminal is wide enough for them.
const COLUMNS: usize = 10;

/// Show a vault's recovery key: 44 words that open it without its password.
///
/// Write the words down and keep them in a safe place, away from the password: they open the vault where the password
/// is forgotten or the masterkey file is lost, and whoever has them can read it all. No change of the password changes
/// them. The key is shown at a terminal only.
#[derive(Args)]
pub(super) struct RecoveryKeyArguments {
    #[command(flatten)]
    location: VaultLocation,
    #[command(flatten)]
    secret: SecretArguments,
    /// Show the words numbered and in columns, to be written down, instead of in one line, to be copied
    #[arg(long)]
    columns: bool,
}

pub(super) fn run(runtime: &Runtime, arguments: &RecoveryKeyArguments) -> Result<(), CliError> {
    if !io::stdout().is_terminal() {
        let text = "the recovery key is shown at a terminal only, so that no file or log keeps it by mistake";
        return Err(CliError::usage(text));
    }
    let RecoveryKeyArguments { location, secret, columns } = arguments;
    let command = secret.command();
    let (cryptor, _) = runtime.block_on(async {
        let (remote, vault) = location.open().await?;
        vault_secret::open(location, command.as_ref(), Sources::Person, remote.as_ref(), &vault).await
    })?;
    let key = cryptor.masterkey().recovery_key();
    if *columns {
        let words: Vec<&str> = key.split(' ').collect();
        let width = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        in_columns(&words, width).iter().try_for_each(|line| screen::deliver(line))?;
    } else {
        screen::deliver_unbroken(&key)?;
    }
    screen::tell("Whoever has these words can open the vault, whatever its password is.");
    Ok(())
}

/// Returns the words numbered, in as many columns as fit into `width`, but ten at most. They are read line by line.
fn in_columns(words: &[&str], width: usize) -> Vec<String> {
    let longest = words.iter().map(|word| word.len()).max().unwrap_or_default();
    // A number of two digits, a space, the word, and two spaces to the next column.
    let column = 2 + 1 + longest + 2;
    let count = ((width + 2) / column).clamp(1, COLUMNS);
    let numbered: Vec<String> =
        (1..).zip(words).map(|(number, word)| format!("{number:>2} {word:<longest$}")).collect();
    numbered.chunks(count).map(|line| line.join("  ").trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_fit_into_the_terminal() {
        let words: Vec<&str> = std::iter::repeat_n(["residence", "ad"], 22).flatten().collect();
        let wide = in_columns(&words, 200);
        assert_eq!(wide.len(), 5);
        assert!(wide[0].starts_with(" 1 residence   2 ad          3 residence"), "{wide:?}");
        assert!(wide[4].ends_with("44 ad"), "{wide:?}");
        for width in [12, 13, 80, 138] {
            let lines = in_columns(&words, width);
            assert!(lines.iter().all(|line| line.len() <= width), "{width}: {lines:?}");
            assert_eq!(lines.join(" ").split_whitespace().filter(|word| word.starts_with('r')).count(), 22);
        }
        assert_eq!((in_columns(&words, 138).len(), in_columns(&words, 80).len()), (5, 9));
        assert_eq!(in_columns(&words, 0).len(), 44);
    }
}
