//! Whole test suites of others on a mount.
