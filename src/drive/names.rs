//! The names in a directory, as they are shown: those that the server listed, packed, and over them what was changed since.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use scaup_crypto::DirectoryId;

use super::error::DriveError;
use super::found::{Found, Place};
use super::vault::{Entry, UnlockedVault, VaultNode};
use crate::remote::{
    HeldNames, NamesBudget, Record, RemoteAttributes, RemoteError, RemoteKind, RemoteListing, RemoteName,
};

/// What a change takes beside twice the name, bytes.
const CHANGE: u64 = 320;

/// The names in a directory. Clones share what the server listed.
#[derive(Clone)]
pub(super) struct Names {
    listed: Arc<Listed>,
    /// What has another state than was listed; `None`: it is not there.
    changed: HashMap<OsString, Option<Found>>,
    length: usize,
    /// What the changes take. They are this mount's own, and few; so they are counted, and not refused.
    held: HeldNames,
}

/// What was listed, in order.
struct Listed {
    records: RemoteListing,
    /// The vault that it lies in.
    vault: Option<Arc<UnlockedVault>>,
}

impl Names {
    /// A directory without any.
    pub(super) fn none(budget: &NamesBudget) -> Self {
        Self::of(RemoteListing::new(budget), None)
    }

    /// The names of a plain directory.
    pub(super) fn plain(records: RemoteListing) -> Self {
        Self::of(records, None)
    }

    fn of(mut records: RemoteListing, vault: Option<Arc<UnlockedVault>>) -> Self {
        records.sort();
        let (length, held) = (records.len(), records.budget().nothing());
        Self { listed: Arc::new(Listed { records, vault }), changed: HashMap::new(), length, held }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes that they take, if nobody else shares them.
    pub(super) fn bytes(&self) -> u64 {
        self.listed.records.bytes() + self.held.bytes()
    }

    /// What has that name.
    pub(super) fn get(&self, name: &OsStr) -> Option<Found> {
        match self.changed.get(name) {
            Some(found) => found.clone(),
            None => self.listed.get(self.listed.records.find(name.as_bytes())?),
        }
    }

    pub(super) fn contains(&self, name: &OsStr) -> bool {
        match self.changed.get(name) {
            Some(found) => found.is_some(),
            None => self.listed.records.find(name.as_bytes()).is_some(),
        }
    }

    /// All names, and what each is.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&OsStr, RemoteKind)> {
        let listed = self.listed.records.records().map(|record| (name_of(record), record.kind()));
        let changed = self.changed().map(|found| (found.name.as_os_str(), found.attributes.kind));
        listed.filter(|(name, _)| !self.changed.contains_key(*name)).chain(changed)
    }

    /// All that was found.
    pub(super) fn found(&self) -> impl Iterator<Item = Found> {
        self.unchanged().filter_map(|number| self.listed(number)).chain(self.changed().cloned())
    }

    /// The numbers of what is as it was listed, in the order of the names.
    pub(super) fn unchanged(&self) -> impl Iterator<Item = u32> {
        (0..).zip(self.listed.records.records()).filter_map(|(number, record)| {
            let is_changed = !self.changed.is_empty() && self.changed.contains_key(name_of(record));
            (!is_changed).then_some(number)
        })
    }

    /// What was listed under that number.
    pub(super) fn listed(&self, number: u32) -> Option<Found> {
        self.listed.get(usize::try_from(number).ok()?)
    }

    /// What is not as it was listed, and there.
    pub(super) fn changed(&self) -> impl Iterator<Item = &Found> {
        self.changed.values().flatten()
    }

    /// Notes what has a name now.
    pub(super) fn insert(&mut self, found: Found) {
        self.length += usize::from(!self.contains(&found.name));
        self.change(found.name.clone(), Some(found));
    }

    /// Notes that nothing has that name.
    pub(super) fn remove(&mut self, name: &OsStr) {
        if self.contains(name) {
            self.length -= 1;
            self.change(name.to_owned(), None);
        }
    }

    /// Notes how what has a name looks now.
    pub(super) fn note_attributes(&mut self, name: &OsStr, attributes: RemoteAttributes) {
        if let Some(found) = self.get(name).filter(|found| found.attributes != attributes) {
            self.insert(Found { attributes, ..found });
        }
    }

    fn change(&mut self, name: OsString, found: Option<Found>) {
        let bytes = CHANGE + 2 * name.len() as u64;
        if self.changed.insert(name, found).is_none() {
            self.held.count(bytes);
        }
    }
}

fn name_of(record: Record<'_>) -> &OsStr {
    OsStr::from_bytes(record.name)
}

impl Listed {
    fn get(&self, number: usize) -> Option<Found> {
        let record = self.records.get(number)?;
        let place = match &self.vault {
            None => Place::Plain,
            Some(vault) => {
                let (entry, node) = unpack(record.rest)?;
                Place::Vault { vault: Arc::clone(vault), entry, node }
            }
        };
        let name = OsString::from_vec(record.name.to_vec());
        Some(Found { name, attributes: record.attributes(), place })
    }
}

/// The names of a vault's directory, while they are put together.
pub(super) struct VaultNames {
    records: RemoteListing,
    vault: Arc<UnlockedVault>,
}

impl VaultNames {
    pub(super) fn new(budget: &NamesBudget, vault: Arc<UnlockedVault>) -> Self {
        Self { records: RemoteListing::new(budget), vault }
    }

    /// Adds a node.
    pub(super) fn push(
        &mut self,
        name: &OsStr,
        attributes: &RemoteAttributes,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<(), DriveError> {
        let entry = entry.name.as_bytes();
        let length = [u8::try_from(entry.len()).map_err(|_| DriveError::NameTooLong)?];
        let (tag, text) = pack(node);
        let pushed = self.records.push(name.as_bytes(), attributes, &[&length, entry, &[tag], text]);
        Ok(pushed.map_err(RemoteError::from)?)
    }

    pub(super) fn done(self) -> Names {
        Names::of(self.records, Some(self.vault))
    }
}

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const BROKEN_DIRECTORY: u8 = 2;
const SYMLINK: u8 = 3;
const UNKNOWN: u8 = 4;

fn pack(node: &VaultNode) -> (u8, &[u8]) {
    match node {
        VaultNode::File => (FILE, &[]),
        VaultNode::Directory(id) => (DIRECTORY, id.as_bytes()),
        VaultNode::BrokenDirectory(why) => (BROKEN_DIRECTORY, why.as_bytes()),
        VaultNode::Symlink => (SYMLINK, &[]),
        VaultNode::Unknown(why) => (UNKNOWN, why.as_bytes()),
    }
}

/// What [`VaultNames::push`] packed.
fn unpack(bytes: &[u8]) -> Option<(Entry, VaultNode)> {
    let (&length, bytes) = bytes.split_first()?;
    let (entry, bytes) = bytes.split_at_checked(usize::from(length))?;
    let (&tag, text) = bytes.split_first()?;
    let words = || String::from_utf8_lossy(text).into_owned();
    let node = match tag {
        FILE => VaultNode::File,
        DIRECTORY => VaultNode::Directory(DirectoryId::parse(text).ok()?),
        BROKEN_DIRECTORY => VaultNode::BrokenDirectory(words()),
        SYMLINK => VaultNode::Symlink,
        _ => VaultNode::Unknown(words()),
    };
    Some((Entry::new(RemoteName::parse(entry)?), node))
}
