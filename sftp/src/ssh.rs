//! SSH login: the server's key is checked, the user is authenticated, and channels are opened on the one connection.
//!
//! `destination` says where to log in and as which user, `interaction` asks the person, mostly for a `credential`,
//! `handler` judges the key that the server shows, `known_hosts` holds the trusted keys, `keys` loads identities,
//! `algorithms` says which are offered, `pattern` matches names as `ssh_config` does, `secret_key` signs with the keys,
//! `revoked` holds servers' keys revoked by a list, `held_keys` those kept for the next login, `login` tries the
//! methods of authentication, `wanted` recognizes the request in a server's prompt, `patience` limits the number of
//! prompts, `bounds` limits what a server may take besides until the user is logged in, `segments` limits the length of
//! packets, `session` is the connection afterwards.

mod algorithms;
mod bounds;
mod connect;
mod credential;
mod destination;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handler;
mod held_keys;
mod interaction;
mod keys;
mod known_hosts;
mod login;
mod patience;
mod pattern;
mod revoked;
mod secret_key;
mod segments;
mod session;
mod wanted;

pub use algorithms::{
    AlgorithmKind, Algorithms, AuthoritySignature, Cipher, HostKey, Kex, MessageCode, NoneKnown, Offer,
    UserKey,
};
pub use connect::connect;
pub use credential::Credential;
pub use destination::{AddressFamily, Agent, Destination, Method, Rekeying, StrictHostKeyChecking};
pub use error::{ConnectError, HostKeyProblem};
pub use handler::Agreed;
pub use held_keys::HeldKeys;
pub use interaction::{Cancelled, Interaction, Progress, Question};
pub use keys::{AgentError, KeyFacts, KeyFileProblem, key_facts, keys_in};
pub use pattern::matches_pattern;
pub use segments::large_packets_vanish_since;
pub use session::{ChannelError, Session};
