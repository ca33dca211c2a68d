//! What is believed of a node's attributes, and of the target of a link, and since when.
//!
//! A reply of the server is taken unless it was requested before the latest that is known: a later reply, or a change
//! by this mount. So there are two ways to have attributes requested again:
//! [`ask_again`](BelievedAttributes::ask_again) still takes replies that are under way,
//! [`expire`](BelievedAttributes::expire) does not.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::drive::content::state::present;
use crate::drive::moment::Moment;
use crate::remote::RemoteAttributes;

/// What is believed of a node's attributes.
pub(in crate::drive) struct BelievedAttributes {
    current: RemoteAttributes,
    /// Whether the length has changed since the node was last opened: the kernel may still have the old length, and
    /// would cut reads at it.
    has_other_length: bool,
    /// When the attributes were requested; `None` if they must be requested again.
    fetched: Option<Moment>,
    /// When this mount last changed the attributes: replies to older requests tell nothing about them.
    doubted: Moment,
    /// When this mount last changed the node: the servers do not tell a `ctime`.
    changed: SystemTime,
    /// Where the node leads, if it is a symbolic link, and when the server was asked.
    target: Option<(Moment, Bytes)>,
}

impl BelievedAttributes {
    /// Creates the belief from attributes that the server was asked for at `asked`.
    pub(super) fn new(current: RemoteAttributes, asked: Moment) -> Self {
        Self {
            current,
            has_other_length: false,
            fetched: Some(asked),
            doubted: asked,
            changed: UNIX_EPOCH,
            target: None,
        }
    }

    /// Returns the attributes, however old they are.
    pub(in crate::drive) fn current(&self) -> RemoteAttributes {
        self.current
    }

    /// Returns when the attributes were requested; `None` if they must be requested again.
    pub(in crate::drive) fn fetched(&self) -> Option<Moment> {
        self.fetched
    }

    /// Returns when this mount last changed the node.
    pub(in crate::drive) fn changed(&self) -> SystemTime {
        self.changed
    }

    /// Returns where the node leads, if that is known, and when the server was asked.
    pub(in crate::drive) fn target(&self) -> Option<&(Moment, Bytes)> {
        self.target.as_ref()
    }

    /// Whether the reply to a request made at `asked` is older than what is known.
    pub(in crate::drive) fn know_better_than(&self, asked: Moment) -> bool {
        asked < self.doubted || self.fetched.is_some_and(|fetched| asked < fetched)
    }

    /// Believes attributes that the server was asked for at `asked`.
    pub(super) fn believe(&mut self, attributes: RemoteAttributes, asked: Moment) {
        if (attributes.size, attributes.modified) != (self.current.size, self.current.modified) {
            self.target = None;
        }
        self.set_length(attributes.size);
        self.current = attributes;
        self.fetched = Some(asked);
    }

    /// Believes what is known for longer: the node is there, as a request made at `asked` showed. Returns whether that
    /// was asked after everything else that is known.
    pub(in crate::drive) fn confirm(&mut self, asked: Moment) -> bool {
        let is_newer = self.fetched.is_some() && !self.know_better_than(asked);
        if is_newer {
            self.fetched = Some(asked);
        }
        is_newer
    }

    /// Believes the attributes that the server reported for content which this mount has just saved. Its programs know
    /// the length already.
    pub(in crate::drive) fn believe_saved(&mut self, attributes: RemoteAttributes) {
        self.current = attributes;
        self.fetched = Some(Moment::now());
    }

    /// Believes length, in bytes of cleartext, and time of the content that a program has opened.
    pub(in crate::drive) fn believe_opened(&mut self, length: u64, modified: SystemTime) {
        self.set_length(length);
        self.current.modified = modified;
    }

    /// Believes where a link leads, if the server was asked after everything else that is known.
    pub(in crate::drive) fn believe_target(&mut self, target: Bytes, asked: Moment) {
        if !self.know_better_than(asked) {
            self.target = Some((asked, target));
        }
    }

    fn set_length(&mut self, length: u64) {
        self.has_other_length |= length != self.current.size;
        self.current.size = length;
    }

    /// Returns whether the length has changed since the last call: the kernel has to be told.
    pub(in crate::drive) fn take_other_length(&mut self) -> bool {
        std::mem::take(&mut self.has_other_length)
    }

    /// Sets the permissions that a program gave it.
    pub(in crate::drive) fn set_mode(&mut self, mode: u16) {
        self.current.mode = mode;
    }

    /// Sets the user and group that a program gave it.
    pub(in crate::drive) fn set_owner(&mut self, (uid, gid): (u32, u32)) {
        (self.current.uid, self.current.gid) = (uid, gid);
    }

    /// Has the attributes requested when they are next wanted. Replies to requests under way are still taken.
    pub(in crate::drive) fn ask_again(&mut self) {
        self.fetched = None;
    }

    /// Has everything requested when it is next wanted: this mount has changed it, or tried to. Replies to requests
    /// under way are not taken.
    pub(in crate::drive) fn expire(&mut self) {
        (self.fetched, self.target) = (None, None);
        self.refuse_older_replies();
        self.changed_now();
    }

    /// Forgets where a link leads.
    pub(super) fn forget_target(&mut self) {
        self.target = None;
    }

    /// Has replies to requests under way refused: they tell nothing about the node as it is from now on.
    pub(super) fn refuse_older_replies(&mut self) {
        self.doubted = Moment::now();
    }

    /// Records that this mount has just changed the node.
    pub(in crate::drive) fn changed_now(&mut self) {
        self.changed = SystemTime::now();
    }

    /// Records that this mount has just changed a name in the directory. Of its attributes that changes only the times.
    pub(in crate::drive) fn names_changed_now(&mut self) {
        self.current.modified = present();
        self.changed_now();
        self.refuse_older_replies();
    }
}
