//! The drive under a kernel in miniature, on a server in memory: no root, no network, and time that passes only while
//! everybody waits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drive;
#[path = "../kernel/mod.rs"]
mod kernel;
mod mending;
mod model;
mod passwd;
mod restore;
mod silence;
mod upgrade;

mod names {
    mod look_ahead;
    mod open_ahead;
    mod unicode_forms;
    mod walks;
}

mod saving {
    mod crash;
    mod overlaps;
    mod power_loss;
    mod sealed;
    mod two_mounts;
}

mod sync {
    mod clients;
    mod edits;
    mod game;
    mod generator;
    mod left_by_clients;
    mod merge;
    mod on_server;
    mod shown;
    mod work;
}
