//! What the tests stand on: a real OpenSSH server behind key and one-time code ([`Sshd`]), vaults that Cryptomator's
//! own libraries wrote ([`Fixture`]), the program under test with a home of its own ([`Scaup`]), and a road between
//! them that can be long, narrow or broken ([`Proxy`]), or that ends after an exact message ([`Gate`]), an SFTP server
//! that lies ([`hostile_sftp`]), and a D-Bus ([`Bus`]) with what the tests need of a desktop on it ([`Logind`],
//! [`ScreenSaver`], [`Notifications`]), a stand-in for a [`nextcloud`] server, and a [`Browser`].
//!
//! Everything is on loopback. The rig is for tests only, so it fails a test the way tests fail: it panics with
//! what went wrong. Nothing is skipped: a missing tool is installed when root, else named.

// A test support crate: panicking is how it reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;
mod browser;
mod bus;
pub mod dice;
mod fixtures;
mod gate;
mod hostile;
mod install;
mod keyring;
mod keys;
mod logind;
mod network;
pub mod nextcloud;
mod notifications;
mod others;
mod process;
mod proxy;
mod python;
mod real_servers;
mod scaup;
mod screen_saver;
mod sshd;
mod within;

pub use browser::Browser;
pub use bus::Bus;
pub use fixtures::{Conflict, Entry, EntryKind, Fixture, Manifest, Open, Readable, Special};
pub use gate::{Gate, Gatekeeper, Held, Passage};
pub use hostile::{HostileServer, Lie, SftpPacket, hostile_sftp};
pub use install::{need, need_root};
pub use keyring::Keyring;
pub use keys::{Key, KeyKind};
pub use logind::Logind;
pub use network::{change_network, own_network, packets_of_a_network};
pub use notifications::{Notification, Notifications};
pub use others::{OtherServer, Way};
pub use process::run;
pub use proxy::{Direction, Proxy};
pub use python::python_with;
pub use real_servers::RealServer;
pub use scaup::{Answers, Mount, MountCommand, Scaup};
pub use screen_saver::ScreenSaver;
pub use sshd::{KeyboardInteractive, Sshd, SshdBuilder};
pub use within::{eventually, within};
