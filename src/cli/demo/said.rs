//! What the demo says to the person who watches it.

use std::io::{self, Write as _};

/// Prints a line; fails where nobody reads it any more, which ends the demo.
pub(super) fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}
