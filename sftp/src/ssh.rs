//! SSH login: the server's key is checked, the user proves who they are, and channels are opened on the one connection.
//!
//! `destination` says where to and as whom, `interaction` who is asked, `known_hosts` which keys are trusted, `keys` and `pem`
//! where identities come from, `algorithms` which are offered, `secret_key` what signs with them, `revoked` which keys of servers are revoked by
//! a list, `held_keys` which are kept for the next login, `login` how the methods of authentication are gone through, `wanted` what a server's
//! prompts ask for, `patience` how often they may, `bounds` what a server may take besides until the user is in, `session` what stands afterwards.

mod algorithms;
mod bounds;
mod connect;
mod destination;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod held_keys;
mod interaction;
mod keys;
mod known_hosts;
mod login;
mod patience;
mod pem;
mod revoked;
mod secret_key;
mod session;
mod wanted;

pub use algorithms::{
    Algorithms, AuthoritySignature, Cipher, HostKey, Kex, Kind, MessageCode, NoneKnown, Offer, UserKey,
};
pub use connect::connect;
pub use destination::{AddressFamily, Agent, Destination, Method, Rekeying, StrictHostKeyChecking};
pub use error::{ConnectError, HostKeyProblem};
pub use held_keys::HeldKeys;
pub use interaction::{Cancelled, Credential, Interaction, Progress, Question};
pub use known_hosts::matches_pattern;
pub use session::{ChannelError, Session};
