//! The names in a directory, as they are shown: the server's listing, packed, and the changes since on top of it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use super::place::{Found, Place};
use crate::remote::{HeldNames, NamesBudget, Record, RemoteAttributes, RemoteKind, RemoteListing};
use crate::vault::{UnlockedVault, VaultListing};

/// What a change takes besides twice the name, bytes.
const CHANGE: u64 = 320;

/// The names in a directory. Clones share the server's listing.
#[derive(Clone)]
pub(in crate::drive) struct Names {
    listed: Arc<SortedListing>,
    /// The names whose state differs from the listing; `None` for a name that is gone.
    changed: HashMap<OsString, Option<Found>>,
    length: usize,
    /// The bytes of the changes. They are this mount's own, and few; so they are counted, and not refused.
    held: HeldNames,
}

/// The server's listing, in order.
pub(in crate::drive) struct SortedListing {
    records: RemoteListing,
    /// The vault that it lies in.
    vault: Option<Arc<UnlockedVault>>,
}

impl Names {
    /// Creates the names of an empty directory.
    pub(in crate::drive) fn none(budget: &NamesBudget) -> Self {
        Self::of(RemoteListing::new(budget), None)
    }

    /// Creates the names of a plain directory.
    pub(super) fn plain(records: RemoteListing) -> Self {
        Self::of(records, None)
    }

    /// Creates the names of a directory in a vault.
    pub(super) fn of_vault(listing: VaultListing, vault: &Arc<UnlockedVault>) -> Self {
        let VaultListing { records, beside, .. } = listing;
        let mut names = Self::of(records, Some(Arc::clone(vault)));
        beside.into_iter().for_each(|found| names.insert(Found::in_vault(found, vault)));
        names
    }

    fn of(mut records: RemoteListing, vault: Option<Arc<UnlockedVault>>) -> Self {
        records.sort();
        let (length, held) = (records.len(), records.budget().nothing());
        Self { listed: Arc::new(SortedListing { records, vault }), changed: HashMap::new(), length, held }
    }

    /// Returns how many names there are.
    pub(in crate::drive) fn len(&self) -> usize {
        self.length
    }

    pub(in crate::drive) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the bytes that they take, if nobody else shares them.
    pub(in crate::drive) fn bytes(&self) -> u64 {
        self.listed.records.bytes() + self.held.bytes()
    }

    /// Returns the entry of that name.
    pub(in crate::drive) fn get(&self, name: &OsStr) -> Option<Found> {
        match self.changed.get(name) {
            Some(found) => found.clone(),
            None => self.listed.get(self.listed.records.find(name.as_bytes())?),
        }
    }

    pub(in crate::drive) fn contains(&self, name: &OsStr) -> bool {
        match self.changed.get(name) {
            Some(found) => found.is_some(),
            None => self.listed.records.find(name.as_bytes()).is_some(),
        }
    }

    /// Returns all names, and the kind of each.
    pub(in crate::drive) fn kinds(&self) -> impl Iterator<Item = (&OsStr, RemoteKind)> {
        let listed = self.listed.records.records().map(|record| (name_of(record), record.kind()));
        let changed = self.changed().map(|found| (found.name.as_os_str(), found.attributes.kind));
        listed.filter(|(name, _)| !self.changed.contains_key(*name)).chain(changed)
    }

    /// Returns all entries.
    pub(in crate::drive) fn found(&self) -> impl Iterator<Item = Found> {
        self.unchanged().filter_map(|number| self.listed(number)).chain(self.changed().cloned())
    }

    /// Returns the numbers of the entries that are unchanged since the listing, in the order of the names.
    pub(in crate::drive) fn unchanged(&self) -> impl Iterator<Item = u32> {
        (0..).zip(self.listed.records.records()).filter_map(|(number, record)| {
            let is_changed = !self.changed.is_empty() && self.changed.contains_key(name_of(record));
            (!is_changed).then_some(number)
        })
    }

    /// Returns the listed entry of that number.
    pub(in crate::drive) fn listed(&self, number: u32) -> Option<Found> {
        self.listed.get(usize::try_from(number).ok()?)
    }

    /// Returns the entries that were added or changed since the listing.
    pub(in crate::drive) fn changed(&self) -> impl Iterator<Item = &Found> {
        self.changed.values().flatten()
    }

    /// Sets the entry of a name.
    pub(in crate::drive) fn insert(&mut self, found: Found) {
        self.length += usize::from(!self.contains(&found.name));
        self.change(found.name.clone(), Some(found));
    }

    /// Removes the entry of a name.
    pub(in crate::drive) fn remove(&mut self, name: &OsStr) {
        if self.contains(name) {
            self.length -= 1;
            self.change(name.to_owned(), None);
        }
    }

    /// Updates the attributes of a name.
    pub(in crate::drive) fn set_attributes(&mut self, name: &OsStr, attributes: RemoteAttributes) {
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

impl SortedListing {
    fn get(&self, number: usize) -> Option<Found> {
        let record = self.records.get(number)?;
        match &self.vault {
            None => {
                let name = OsString::from_vec(record.name.to_vec());
                Some(Found { name, attributes: record.attributes(), place: Place::Plain })
            }
            Some(vault) => Some(Found::in_vault(VaultListing::unpack(record)?, vault)),
        }
    }
}
