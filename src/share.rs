//! Hands one file to others by a link of a Nextcloud server, with a password and a day on which it ends.
//!
//! [`Plan`] is everything that is known before anything happens, for a person to agree to. Carrying it out
//! ([`Plan::execute`]) uploads the file into a folder of its own, makes the link in one request, and compares what the
//! server made of both, also as the receiver will see it; whatever goes wrong, all of it is undone, or named. The
//! folder with these folders on the server is the [`Ledger`]: it knows all shares, from whichever machine they were
//! made, and this machine keeps nothing.

mod day;
mod entry_name;
mod error;
mod file_name;
mod ledger;
mod links;
mod origin;
mod password;
mod plan;
mod receiver;
mod source;
mod steps;
mod words;

pub use day::End;
pub use entry_name::Id;
pub use error::ShareError;
pub use ledger::{Ends, Ledger, Pruned, Share, State, prune};
pub use origin::{Origin, resolved};
pub use plan::{Chosen, Plan, Wish};
pub use steps::Shared;
