//! Accounts on Nextcloud servers: where files go that are shared by a link.
//!
//! An [`Account`] is a small file without a secret ([`files`]). Its app password is in the desktop's keyring, is
//! printed by a command, or is made anew by a [`login`] in the browser each time and deleted afterwards. A [`Session`]
//! is an account that is logged in.

pub mod files;
pub mod login;
mod session;

pub use files::{Account, AccountError, AppPassword};
pub use login::user_agent;
pub use session::{Browser, Session, SessionError, add, remove};
