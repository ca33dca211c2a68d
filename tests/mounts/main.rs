//! `scaup` as its user has it: real mounts, OpenSSH and the kernel, vaults by Cryptomator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

#[path = "../kernel/mod.rs"]
mod kernel;
#[path = "../reader/mod.rs"]
mod reader;
#[path = "../support/mod.rs"]
mod support;

mod attacks {
    mod hostile_mount;
    mod secrets;
}

mod commands {
    mod automount;
    mod bookmarks;
    mod command_line;
    mod control_protocol;
    mod doctor;
    mod mounting;
    mod seeing;
    mod self_locking;
    mod service_manager;
    mod switches;
    mod traces;
    mod vault_check;
    mod vault_commands;
    mod vault_files;
    mod vault_keys;
    mod vault_mend;
    mod which;
    mod without_the_server;
}

mod names {
    mod fixtures;
    mod links;
    mod removals;
    mod semantics;
    mod unicode_on_a_mount;
}

mod saving {
    mod conflicts;
    mod on_disk;
    mod programs;
    mod refusals;
    mod sync_clients;
    mod two_daemons;
    mod ways_out;
}

mod servers {
    mod everyday;
}

mod sharing {
    mod accounts;
    mod cloud;
    mod counterparts;
    mod ledger;
    mod refusals;
    mod shares;
    mod undo;
}

mod speed {
    mod round_trips;
    mod throughput;
    mod walks;
}
