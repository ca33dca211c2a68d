//! One process per mount: connects, asks, mounts, answers its control socket, and ends cleanly.
//!
//! It never reads a terminal. Whatever needs a person goes as a prompt to the front end that is attached (`link`), after the
//! commands the user named had their turn (`prompts`).

mod answers;
mod call;
pub mod client;
mod code_steps;
mod link;
pub mod log;
mod network;
mod prompts;
pub mod protocol;
mod remote;
mod saving;
mod serve;
mod sleep;
mod status;
mod travel;
mod users;
mod vaults;

pub use remote::connect_here;
pub use serve::run;
