//! What goes wrong on purpose, and what was asked.

use std::time::Duration;

/// One line of the access log.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PROPFIND` and so on.
    pub method: String,
    /// Path and query as they were received.
    pub target: String,
    /// The status that was sent; 0 if the connection was closed without an answer.
    pub status: u16,
    /// The header `User-Agent`.
    pub user_agent: String,
    /// Whether there was an `Authorization` header.
    pub login: bool,
    /// The header `Content-Length`, which tells the size of an upload.
    pub length: Option<u64>,
}

/// A request that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The method it is about; empty for all.
    pub method: String,
    /// What the path, decoded or as received, has in it.
    pub path_contains: String,
    /// So many matching requests pass first.
    pub after: u32,
    /// So many go wrong then.
    pub times: u32,
    /// What happens to them.
    pub what: What,
}

/// How a request goes wrong.
#[derive(Clone, Debug)]
pub enum What {
    /// Answered with this status, nothing done.
    Status(u16),
    /// The connection is closed, nothing done.
    CutBefore,
    /// Done, then the connection is closed.
    LoseAnswer,
    /// The connection is closed after so many bytes of the request's body; nothing done.
    CutBody(u64),
    /// Done after this time.
    Slow(Duration),
    /// A proxy before the server does not wait for it: answered with 504 at once, and done after this time.
    Late(Duration),
    /// Sent to the same path of another host (`https://elsewhere.example`) with 307.
    Redirect(String),
    /// Done, and what the answer says first is replaced by the second.
    Lie(String, String),
    /// What is stored differs by one byte from what was sent.
    WrongHash,
}

impl Fault {
    /// The next request with this method, to a path that has this in it, goes wrong.
    pub fn once(method: &str, path_contains: &str, what: What) -> Fault {
        Fault { method: method.to_owned(), path_contains: path_contains.to_owned(), after: 0, times: 1, what }
    }

    /// Whether this request goes wrong; counts it.
    pub(super) fn strikes(&mut self, method: &str, target: &str, path: &str) -> bool {
        let about = (self.method.is_empty() || self.method == method)
            && (target.contains(&self.path_contains) || path.contains(&self.path_contains));
        if !about || self.times == 0 {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}
