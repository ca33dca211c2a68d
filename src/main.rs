//! Scaup's program: the words of the command line go to `cli`, which answers the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    scaup::cli::main()
}
