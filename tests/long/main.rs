//! What takes minutes: the demo, suites of others, soak, and a cut after every message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[cfg(feature = "demo")]
mod demo;
#[path = "../reader/mod.rs"]
mod reader;
mod soak;
mod suites;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
