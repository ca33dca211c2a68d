//! What README and `docs` say is so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod documents;
mod readme;
#[path = "../support/mod.rs"]
mod support;
