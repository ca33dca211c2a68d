//! One process per mount: it connects, asks, mounts, serves its control socket, and ends cleanly.
//!
//! It never reads a terminal. Whatever needs a person goes as a prompt to the front end that is attached
//! (`front_end`), after the commands the user named had their turn (`prompts`, `answer_programs`).
//!
//! `life` is its life: it reads one `MountRequest` (`protocol`), connects (`remote`, `login_questions`, `codes`),
//! unlocks (`vaults`, `vault_secret`, `remembered`), mounts (`mountpoint`, `options`), and waits for the end
//! (`signals`); `last_saving` is what it does last, but for `sweep`, which removes traces in other programs, also after
//! a lock. Meanwhile it serves front ends on its socket (`socket`, `front_end_slots`, `front_end`, `requests`), says
//! how it is (`status`), finds what lies where (`whereabouts`), follows the connection to the server (`connection`),
//! notifies its user of a login (`notification`), and handles sleep and other networks (`sleep_and_roaming`, `sleep`,
//! `network`), and locks vaults by itself (`self_locking`, `sessions`, `lock_causes`). `client` is the other side of
//! the socket. Secrets that the user wants remembered are in the desktop's `keyring` (`kept_secrets`, `secret_names`).
//! The log is `log`, `log_lines` and `log_file`.
//!
//! Who waits for whom: a front end waits for the reply to each request it made, one at a time. A login waits for a
//! person only if a front end is attached or the desktop can ask, and programs on the mount never wait for a person
//! longer than `--timeout`. `unmount` waits for saving, and saving for the server; `--force` ends both within seconds.
//!
//! What must always hold: one daemon for a name, and its socket is the user's alone; no command is run for a request
//! that came through the socket; a one-time code is sent once; a password or code is in no log, file, or environment
//! of another process, and in the keyring only if a person wants it there; the exit code says whether something was
//! lost.

pub mod answer_programs;
mod buses;
pub mod client;
pub mod code_maker;
mod codes;
mod connection;
mod conversations;
mod front_end;
mod front_end_slots;
pub mod kept_secrets;
pub mod keyring;
mod last_saving;
mod life;
mod lock_causes;
pub mod log;
pub mod log_file;
mod log_lines;
mod login_questions;
mod mountpoint;
mod network;
mod notification;
mod options;
mod people;
mod prompts;
pub mod protocol;
pub mod remembered;
mod remote;
mod requests;
mod secret_names;
mod self_locking;
mod sessions;
mod signals;
mod sleep;
mod sleep_and_roaming;
mod socket;
mod status;
mod sweep;
mod users;
pub mod vault_secret;
mod vaults;
mod whereabouts;

pub use life::run;
pub use remote::{connect_here, remembered_vaults_of, whose_secrets};
