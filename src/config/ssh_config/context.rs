//! What is known before a configuration is read.

use std::path::PathBuf;

/// The facts that patterns are matched against, and that tokens stand for.
pub(super) struct Context<'a> {
    pub(super) original_host: &'a str,
    pub(super) local_user: String,
    pub(super) home: PathBuf,
}
