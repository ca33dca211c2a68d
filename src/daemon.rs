//! One process per mount: connects, asks, mounts, answers its control socket, and ends cleanly.
//!
//! It never reads a terminal. Whatever needs a person goes as a prompt to the front end that is attached (`link`), after the
//! commands the user named had their turn (`prompts`).

pub mod answers;
mod asking;
mod call;
pub mod client;
mod codes;
mod front_ends;
mod link;
pub mod log;
mod log_lines;
mod network;
mod prompts;
pub mod protocol;
pub mod remembered;
mod remote;
mod saving;
mod serve;
mod sleep;
mod socket;
mod status;
mod travel;
mod users;
mod vaults;

pub use remote::{connect_here, memory_of};
pub use serve::run;
