//! The way to the server: logins, host keys, OpenSSH's configuration, connections that are slow, lost or strange.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod login {
    mod first_login;
    mod host_keys;
    mod keyring;
    mod login_again;
    mod prompts;
    mod ssh_config;
    mod ssh_config_by_chance;
}

mod road {
    mod reconnect;
    mod servers;
    mod slow_line;
    mod travel;
}
