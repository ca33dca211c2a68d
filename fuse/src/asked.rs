//! One request of the kernel, from its arrival to its reply: what the log and the status show of it.

use std::ffi::OsStr;
use std::sync::Arc;

use rustix::io::Errno as System;
use tracing::field::{Empty, debug};
use tracing::{Level, Span};

use crate::filesystem::{Handle, Inode, RequestError};
use crate::requests::{Operation, Requests, UnderWay};

/// The subject of a request.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) operation: Operation,
    pub(crate) inode: Inode,
    pub(crate) handle: Option<Handle>,
}

/// A request that is under way. Its span is entered while it is worked on, so that every line logged meanwhile has its
/// number. If such lines are not logged, there is no span, and nothing is written or allocated for it.
///
/// It ends with [`Self::done`], [`Self::refused`] or [`Self::failed`], called before the reply: a program that has the
/// reply finds the line in the log, and nothing under way.
pub(crate) struct Asked {
    under_way: UnderWay,
    about: About,
    names: bool,
    pub(crate) span: Span,
}

macro_rules! span {
    ($level:expr, $number:expr, $about:expr) => {
        tracing::span!(
            $level,
            "request",
            number = $number,
            operation = $about.operation.name(),
            inode = $about.inode.0,
            handle = $about.handle.map(|handle| handle.0),
            name = Empty,
            new_parent = Empty,
            new_name = Empty,
        )
    };
}

impl Asked {
    /// Begins a request. `names` says whether the log may hold clear names.
    pub(crate) fn begin(requests: &Arc<Requests>, about: About, names: bool) -> Self {
        let under_way = requests.begin(about.operation);
        let span = span!(Level::DEBUG, under_way.number, about);
        span.in_scope(|| tracing::trace!("asked"));
        Self { under_way, about, names, span }
    }

    /// Adds the request's name, which is logged where names may be.
    pub(crate) fn naming(self, name: &OsStr) -> Self {
        if self.names {
            self.span.record("name", debug(name));
        }
        self
    }

    /// Adds the new name that the request creates.
    pub(crate) fn to(self, parent: Inode, name: &OsStr) -> Self {
        self.span.record("new_parent", parent.0);
        if self.names {
            self.span.record("new_name", debug(name));
        }
        self
    }

    /// Returns how long it has taken so far, in microseconds.
    fn took(&self) -> u64 {
        u64::try_from(self.under_way.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Ends the request with success.
    pub(crate) fn done(self) {
        self.span.in_scope(|| tracing::debug!(took_us = self.took(), errno = 0, "answered"));
    }

    /// Ends the request with an error that is not a failure.
    pub(crate) fn refused(self, errno: System) -> fuser::Errno {
        let errno = errno.raw_os_error();
        self.span.in_scope(|| tracing::debug!(took_us = self.took(), errno, "answered"));
        fuser::Errno::from_i32(errno)
    }

    /// Ends the request with a failure.
    pub(crate) fn failed(self, error: &impl RequestError) -> fuser::Errno {
        let errno = error.errno().0;
        if !error.is_failure() {
            self.span.in_scope(|| {
                tracing::debug!(took_us = self.took(), errno, error = error.for_log(self.names), "answered");
            });
        } else {
            // This line is also read without the others, and then names the subject.
            let of_its_own = || span!(Level::WARN, self.under_way.number, self.about);
            let span = if self.span.is_disabled() { of_its_own() } else { self.span.clone() };
            span.in_scope(|| {
                tracing::warn!(took_us = self.took(), errno, error = error.for_log(self.names), "failed");
            });
        }
        fuser::Errno::from_i32(errno)
    }
}
