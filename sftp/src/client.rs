//! An SFTP client (draft-ietf-secsh-filexfer-02, version 3, with the extensions of OpenSSH's PROTOCOL file).
//!
//! `packet` encodes requests and decodes replies, `wire` is the transport, `lane` sends and receives them over one
//! channel, `road` limits how much may be under way on all of them, `names` limits the memory of a server's names,
//! `requests` gives each request its typed method, `whole` writes a small file in a row of them. Everything from a
//! server is bounded and checked; names and handles are bytes.

mod error;
mod lane;
mod names;
mod open;
mod packet;
mod requests;
mod road;
mod whole;
mod wire;

pub use error::{SftpError, StatusCode};
pub use lane::{Lane, LaneCounters};
pub use names::{HeldNames, NamesBudget, NoRoom};
pub use open::{FileHandle, OpenMode};
pub use packet::{NameEntry, SftpAttributes, SftpSetAttributes};
pub use requests::{LinkOrder, Statistics};
pub use road::{Budget, ReservedRoom, Road};
pub use whole::{Order, Written};
