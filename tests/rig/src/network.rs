//! A network of a test's own, whose changes no other test hears of.

use std::process::Command;

use crate::install::{need, need_root};
use crate::process::run;

/// Gives this thread, and all threads and processes that it starts from now on, a network of their own: nothing but
/// loopback.
#[allow(unsafe_code)]
pub fn own_network() {
    need_root();
    need(&[("ip", "iproute2")]);
    // SAFETY: only this thread is moved, and nothing that it holds belongs to the network that it leaves.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
        .expect("root may make a network namespace");
    run(Command::new("ip").args(["link", "set", "lo", "up"]));
}

/// Gives loopback packets as long as those of a network, each of its own.
pub fn packets_of_a_network() {
    run(Command::new("ip").args(["link", "set", "lo", "mtu", "1500", "gso_max_segs", "1"]));
}

/// Gives loopback one more address, and takes it away again: what a change of networks looks like to programs.
pub fn change_network() {
    for change in ["add", "del"] {
        run(Command::new("ip").args(["address", change, "192.0.2.1/32", "dev", "lo"]));
    }
}
