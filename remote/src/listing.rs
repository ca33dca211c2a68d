//! A directory listing in as little memory as possible: the records lie one after the other in a few blocks, counted in
//! the budget for names.
//!
//! As separate values, half a million names take half a gigabyte; here they take some 80 bytes each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scaup_sftp::client::{HeldNames, NamesBudget, NoRoom};

use crate::node::{RemoteAttributes, RemoteEntry, RemoteKind};
use crate::path::RemoteName;

/// The longest block, bytes. A place is the number of a block and an offset in it, in 32 bits.
const BLOCK: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 17;
/// The shortest block: most directories are small.
const BLOCK_FIRST: usize = 512;
/// Memory of a record's place while the table of places grows, bytes.
const PLACE: u64 = 8;

/// The header of a record: the lengths of the name and of the rest, and the attributes.
const HEAD: usize = 2 + 2 + ATTRIBUTES;
const ATTRIBUTES: usize = 1 + 2 + 8 + 4 + 4 + 8 + 8;

/// The names in a directory. Each has its attributes and, where the owner keeps more, some bytes.
#[derive(Debug)]
pub struct RemoteListing {
    blocks: Vec<Vec<u8>>,
    places: Vec<u32>,
    is_sorted: bool,
    held: HeldNames,
}

/// One name of a listing, with its attributes and further bytes.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The name.
    pub name: &'a [u8],
    attributes: &'a [u8],
    /// Further bytes that are kept with the name.
    pub rest: &'a [u8],
}

impl Record<'_> {
    /// Returns its attributes.
    #[must_use]
    pub fn attributes(&self) -> RemoteAttributes {
        let mut bytes = self.attributes;
        let kind = KINDS.get(usize::from(take::<1>(&mut bytes)[0])).copied().unwrap_or(RemoteKind::File);
        RemoteAttributes {
            kind,
            mode: u16::from_be_bytes(take(&mut bytes)),
            size: u64::from_be_bytes(take(&mut bytes)),
            uid: u32::from_be_bytes(take(&mut bytes)),
            gid: u32::from_be_bytes(take(&mut bytes)),
            accessed: time(i64::from_be_bytes(take(&mut bytes))),
            modified: time(i64::from_be_bytes(take(&mut bytes))),
        }
    }

    /// Returns its kind.
    #[must_use]
    pub fn kind(&self) -> RemoteKind {
        let kind = self.attributes.first().and_then(|&kind| KINDS.get(usize::from(kind)));
        kind.copied().unwrap_or(RemoteKind::File)
    }

    fn entry(&self) -> Option<RemoteEntry> {
        Some(RemoteEntry { name: RemoteName::parse(self.name)?, attributes: self.attributes() })
    }
}

const KINDS: [RemoteKind; 7] = [
    RemoteKind::File,
    RemoteKind::Directory,
    RemoteKind::Symlink,
    RemoteKind::Fifo,
    RemoteKind::Socket,
    RemoteKind::CharDevice,
    RemoteKind::BlockDevice,
];

/// Takes the first `N` bytes; zeros if there are fewer.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (first, rest) = bytes.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
    *bytes = rest;
    *first
}

/// Returns nanoseconds since 1970, as near as 64 bits come.
fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |before| -before),
    }
}

fn time(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    let time =
        if nanoseconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// Returns the record at a place.
fn record(blocks: &[Vec<u8>], place: u32) -> Option<Record<'_>> {
    let block = blocks.get((place >> PLACE_BITS) as usize)?;
    let mut bytes = block.get(place as usize & (BLOCK - 1)..)?;
    let name_len = usize::from(u16::from_be_bytes(take(&mut bytes)));
    let rest_len = usize::from(u16::from_be_bytes(take(&mut bytes)));
    let (attributes, bytes) = bytes.split_at_checked(ATTRIBUTES)?;
    let (name, bytes) = bytes.split_at_checked(name_len)?;
    Some(Record { name, attributes, rest: bytes.get(..rest_len)? })
}

impl RemoteListing {
    /// Creates an empty listing.
    #[must_use]
    pub fn new(budget: &NamesBudget) -> Self {
        Self { blocks: Vec::new(), places: Vec::new(), is_sorted: true, held: budget.nothing() }
    }

    /// Creates a listing of these names.
    ///
    /// # Errors
    ///
    /// If there is no memory for them.
    pub fn of(entries: Vec<RemoteEntry>, budget: &NamesBudget) -> Result<Self, NoRoom> {
        let mut listing = Self::new(budget);
        for RemoteEntry { name, attributes } in entries {
            listing.push(name.as_bytes(), &attributes, &[])?;
        }
        Ok(listing)
    }

    /// Returns how many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns how many bytes the names take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// Returns the budget that they are counted in.
    #[must_use]
    pub fn budget(&self) -> &NamesBudget {
        self.held.budget()
    }

    /// Adds a name. Of anything longer than 64 KiB only the beginning is kept.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn push(&mut self, name: &[u8], attributes: &RemoteAttributes, rest: &[&[u8]]) -> Result<(), NoRoom> {
        let short = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
        let (name_len, rest_len) = (short(name.len()), short(rest.iter().map(|part| part.len()).sum()));
        let length = HEAD + usize::from(name_len) + usize::from(rest_len);
        let (block, at) = self.room_for(length)?;
        let place =
            u32::try_from(block).ok().filter(|&block| block < 1 << (32 - PLACE_BITS)).ok_or(NoRoom)?;
        let place = (place << PLACE_BITS) | u32::try_from(at).map_err(|_| NoRoom)?;
        let bytes = self.blocks.get_mut(block).ok_or(NoRoom)?;
        let kind = KINDS.iter().position(|&kind| kind == attributes.kind).unwrap_or_default();
        bytes.extend_from_slice(&name_len.to_be_bytes());
        bytes.extend_from_slice(&rest_len.to_be_bytes());
        bytes.push(u8::try_from(kind).unwrap_or_default());
        bytes.extend_from_slice(&attributes.mode.to_be_bytes());
        bytes.extend_from_slice(&attributes.size.to_be_bytes());
        bytes.extend_from_slice(&attributes.uid.to_be_bytes());
        bytes.extend_from_slice(&attributes.gid.to_be_bytes());
        bytes.extend_from_slice(&nanoseconds(attributes.accessed).to_be_bytes());
        bytes.extend_from_slice(&nanoseconds(attributes.modified).to_be_bytes());
        bytes.extend(name.iter().take(usize::from(name_len)));
        bytes.extend(rest.iter().copied().flatten().take(usize::from(rest_len)));
        self.is_sorted = false;
        self.places.push(place);
        Ok(())
    }

    /// Returns a block with room for `length` bytes, and their offset in it.
    fn room_for(&mut self, length: usize) -> Result<(usize, usize), NoRoom> {
        self.held.grow(PLACE)?;
        if let Some(block) = self.blocks.last()
            && block.capacity() - block.len() >= length
        {
            return Ok((self.blocks.len() - 1, block.len()));
        }
        let so_far = usize::try_from(self.held.bytes()).unwrap_or(BLOCK);
        let capacity = so_far.clamp(BLOCK_FIRST, BLOCK).max(length);
        self.held.grow(capacity as u64)?;
        self.blocks.push(Vec::with_capacity(capacity));
        Ok((self.blocks.len() - 1, 0))
    }

    /// Returns the record of that number.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<Record<'_>> {
        record(&self.blocks, *self.places.get(number)?)
    }

    /// Returns all records, in their order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len()).filter_map(|number| self.get(number))
    }

    /// Returns all names with their attributes.
    pub fn entries(&self) -> impl Iterator<Item = RemoteEntry> {
        self.records().filter_map(|record| record.entry())
    }

    /// Returns the same entries, and frees the memory of those already returned.
    pub fn into_entries(mut self) -> impl Iterator<Item = RemoteEntry> {
        let mut done = 0;
        (0..self.len()).filter_map(move |number| {
            let block = self.places.get(number).map_or(0, |place| (place >> PLACE_BITS) as usize);
            // Unsorted, records lie in the order of their blocks.
            while done < block && !self.is_sorted {
                let bytes = std::mem::take(self.blocks.get_mut(done)?);
                self.held.give_back(bytes.capacity() as u64);
                done += 1;
            }
            self.get(number)?.entry()
        })
    }

    /// Keeps only the records for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(Record<'_>) -> bool) {
        let Self { blocks, places, .. } = self;
        places.retain(|&place| record(blocks, place).is_some_and(&mut keep));
    }

    /// Sorts the names. Of equal names the last one stays.
    pub fn sort(&mut self) {
        if self.is_sorted {
            return;
        }
        let Self { blocks, places, .. } = self;
        let name = |place: u32| record(blocks, place).map(|record| record.name);
        // Records of one name are sorted by their places, the later one first.
        places.sort_unstable_by(|&a, &b| name(a).cmp(&name(b)).then(b.cmp(&a)));
        places.dedup_by(|a, b| name(*a) == name(*b));
        self.is_sorted = true;
    }

    /// Returns the number of a name in a [sorted](Self::sort) listing.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.get(middle)?.name.cmp(name) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn attributes(kind: RemoteKind, mode: u16, size: u64, seconds: i64) -> RemoteAttributes {
        let at = time(seconds.saturating_mul(1_000_000_000));
        RemoteAttributes { kind, mode, size, uid: u32::MAX, gid: 7, accessed: UNIX_EPOCH, modified: at }
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(
            names in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<u64>(), 0..7_usize), 0..300),
            rest in prop::collection::vec(any::<u8>(), 0..3000),
        ) {
            let budget = NamesBudget::default();
            let mut listing = RemoteListing::new(&budget);
            let mut expected = std::collections::BTreeMap::new();
            for (name, size, kind) in &names {
                let attributes = attributes(KINDS[*kind], 0o7777, *size, -5_000_000_000);
                listing.push(name, &attributes, &[&rest, name]).unwrap();
                expected.insert(name.clone(), (attributes, [&rest[..], name].concat()));
            }
            prop_assert!(listing.bytes() == budget.used());
            listing.sort();
            let found: Vec<_> = listing.records().map(|r| (r.name.to_vec(), (r.attributes(), r.rest.to_vec()))).collect();
            prop_assert_eq!(&found, &expected.into_iter().collect::<Vec<_>>());
            for (number, (name, _)) in found.iter().enumerate() {
                prop_assert_eq!(listing.find(name), Some(number));
            }
            prop_assert_eq!(listing.find(&[b'-'; 50]), None);
            listing.retain(|record| record.name.len() % 2 == 0);
            prop_assert!(listing.records().all(|record| record.name.len() % 2 == 0));
            drop(listing);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_hundred_thousand_names_take_what_they_are_counted_as_and_less_while_they_are_handed_on() {
        const NAMES: u64 = 100_000;
        let budget = NamesBudget::default();
        let mut listing = RemoteListing::new(&budget);
        let attributes = attributes(RemoteKind::File, 0o644, 5, 1_700_000_000);
        for number in 0..NAMES {
            listing
                .push(format!("a name of thirty bytes, {number:06}").as_bytes(), &attributes, &[])
                .unwrap();
        }
        let most = listing.bytes();
        assert!((70 * NAMES..100 * NAMES).contains(&most), "{most}");
        let mut entries = listing.into_entries();
        assert_eq!(entries.by_ref().take(90_000).count(), 90_000);
        assert!(budget.used() < most / 3, "{} of {most}", budget.used());
        assert_eq!(entries.count(), 10_000);
        assert_eq!(budget.used(), 0);
        budget.set_limit(10_000);
        let mut listing = RemoteListing::new(&budget);
        while listing.push(b"name", &attributes, &[]).is_ok() {}
        assert!(budget.used() <= 10_000);
    }
}
