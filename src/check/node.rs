//! Checks one entry of a content directory: its name, its kind, and the length of its content (`docs/vault-format.md`
//! sections 5 to 7, 10, 14).

use std::sync::atomic::Ordering;

use bytes::Bytes;
use scaup_crypto::{CiphertextLen, CleartextLen, CleartextName, DirectoryId, NameError};

use super::base::{Check, CheckError};
use super::facts::{Child, ClimbingLink, Parent};
use super::finding::{FindingKind, Spot, Version};
use crate::remote::{RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemotePath};
use crate::vault::entry_kinds::{ContentEntry, InsideEntry, Stray};
use crate::vault::inside::Inside;
use crate::vault::{DIRECTORY_ID_MAX, NodePart, long_name_of, stand_in};

/// Longest directory id that Cryptomator writes, bytes.
const DIRECTORY_ID_LEN: usize = 36;

/// The result for an entry.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) is_node: bool,
    pub(super) children: Vec<Child>,
    pub(super) links: Vec<ClimbingLink>,
}

/// The name of a node, as far as known, and what a sync client added to it.
#[derive(Default, Clone)]
struct Named {
    name: Option<CleartextName>,
    addition: Option<String>,
}

impl Named {
    /// Returns the name as a mount shows it.
    fn shown(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(match &self.addition {
            Some(addition) => name.with_addition(addition).as_str().to_owned(),
            None => name.as_str().to_owned(),
        })
    }
}

impl Check<'_> {
    /// Checks one entry.
    pub(super) async fn check_entry(
        &self,
        parent: &Parent<'_>,
        entry: RemoteEntry,
    ) -> Result<Checked, CheckError> {
        let root = DirectoryId::root();
        let path = parent.path.join(&entry.name);
        let spot = || Spot::node(parent.number, path.clone(), None);
        let kind = entry.attributes.kind;
        let node = Checked { is_node: true, ..Checked::default() };
        let named = match ContentEntry::of(self.cryptor, entry.name.as_bytes(), parent.id.unwrap_or(&root)) {
            ContentEntry::Stray(stray) => {
                self.note_stray(stray, &entry, spot());
                return Ok(Checked::default());
            }
            ContentEntry::Shortened if kind == RemoteKind::Directory => {
                return self.check_directory(parent, &entry, path, None).await;
            }
            ContentEntry::Shortened => {
                let detail = "a shortened node has to be a directory";
                self.findings.add(FindingKind::UnknownNodeType, spot(), detail);
                return Ok(node);
            }
            ContentEntry::Undecryptable => {
                self.note_undecryptable(parent, &entry, spot());
                Named::default()
            }
            ContentEntry::Named { name, addition } => self.name(parent, &entry, &path, name, addition),
        };
        match kind {
            RemoteKind::Directory => self.check_directory(parent, &entry, path, Some(named)).await,
            RemoteKind::File => {
                // A file that does not belong to this vault is not read.
                if named.name.is_some() || parent.id.is_none() {
                    self.check_file(parent, path, named.shown(), &entry.attributes).await?;
                }
                Ok(node)
            }
            other => {
                let detail = format_args!("on the server it is a {}", word(other));
                self.findings.add(FindingKind::UnknownNodeType, spot(), detail);
                Ok(node)
            }
        }
    }

    /// Records an entry that is no node and no part of one.
    pub(super) fn note_stray(&self, stray: Stray, entry: &RemoteEntry, spot: Spot) {
        let name = entry.name.as_bytes();
        let kind = match stray {
            Stray::IdBackup if name == b"dirid.c9r" => return,
            Stray::IdBackup | Stray::Litter => FindingKind::Stray,
            Stray::InUse => FindingKind::InUseMarker,
            Stray::Temporary => FindingKind::Leftover,
            Stray::Unfinished(client) => {
                let (version, detail) = (Version::of(&entry.attributes), format_args!("made by {client}"));
                return self.findings.add_version(FindingKind::Unfinished, spot, detail, version);
            }
            Stray::Unknown if name == b"dir.c9r" => FindingKind::LooseDirectoryFile,
            Stray::Unknown => return self.note_unknown(entry, spot, ""),
        };
        self.findings.add(kind, spot, "");
    }

    /// Records an entry of which nobody knows what it is.
    fn note_unknown(&self, entry: &RemoteEntry, spot: Spot, detail: impl ToString) {
        self.findings.add_version(FindingKind::UnknownEntry, spot, detail, Version::of(&entry.attributes));
    }

    fn note_undecryptable(&self, parent: &Parent<'_>, entry: &RemoteEntry, spot: Spot) {
        // Without its directory's id, no name decrypts.
        let Some(id) = parent.id else { return };
        let name = std::str::from_utf8(entry.name.as_bytes()).map(|name| self.cryptor.decrypt_name(name, id));
        let kind = match name {
            Ok(Err(NameError::Unsafe | NameError::TooLong)) => FindingKind::UnshowableName,
            _ => FindingKind::UndecryptableName,
        };
        self.findings.add_version(kind, spot, "", Version::of(&entry.attributes));
    }

    /// Returns the name of an entry that is not shortened.
    fn name(
        &self,
        parent: &Parent<'_>,
        entry: &RemoteEntry,
        path: &RemotePath,
        name: CleartextName,
        addition: Option<String>,
    ) -> Named {
        let is_canonical = || {
            let id = parent.id?;
            Some(self.cryptor.encrypt_name(&name, id).entry.as_bytes() == entry.name.as_bytes())
        };
        let is_uncanonical = addition.is_none() && is_canonical() == Some(false);
        let named = Named { name: Some(name), addition };
        if is_uncanonical {
            let spot = Spot::node(parent.number, path.clone(), named.shown());
            self.findings.add(FindingKind::UncanonicalName, spot, "");
        }
        // Copies of directories on the server are recorded with what is in them.
        if entry.attributes.kind == RemoteKind::File {
            self.note_copy(parent, path, &named, &entry.attributes);
        }
        named
    }

    /// Records a node if a sync client made it beside another.
    fn note_copy(
        &self,
        parent: &Parent<'_>,
        path: &RemotePath,
        named: &Named,
        attributes: &RemoteAttributes,
    ) {
        let Some(addition) = &named.addition else { return };
        let original = named.name.as_ref().map(|name| name.as_str().to_owned());
        let spot = Spot::node(parent.number, path.clone(), named.shown());
        let version = Version { original, addition: addition.clone(), ..Version::of(attributes) };
        self.findings.add_version(FindingKind::ConflictCopy, spot, addition.trim(), version);
    }

    /// Checks a node that is a directory on the server, with all that lies in it; `named` is its name unless that is
    /// shortened.
    async fn check_directory(
        &self,
        parent: &Parent<'_>,
        entry: &RemoteEntry,
        path: RemotePath,
        named: Option<Named>,
    ) -> Result<Checked, CheckError> {
        let mut checked = Checked { is_node: true, ..Checked::default() };
        let is_shortened = named.is_none();
        let inside = Inside::read(self.remote, &self.on_server(&path), is_shortened).await;
        let entries = match &inside.entries {
            Ok(entries) => entries,
            Err(error) => {
                let spot = Spot::node(parent.number, path.clone(), named.and_then(|named| named.shown()));
                return self.unreadable_way(&path, spot, error.clone()).map(|()| checked);
            }
        };
        let parts = inside.parts();
        let is_empty = parts.is_empty() && !inside.holds_unshown();
        let named = match named {
            Some(named) => named,
            None if is_empty => Named::default(),
            None => self.long_name(parent, entry, &path, &inside)?,
        };
        for entry in entries {
            let spot = || Spot::node(parent.number, path.join(&entry.name), named.shown());
            match InsideEntry::of(entry.name.as_bytes()) {
                InsideEntry::Stray(stray) => self.note_stray(stray, entry, spot()),
                InsideEntry::LongName if entry.name.as_bytes() == b"name.c9s" && is_shortened => {}
                InsideEntry::LongName => self.findings.add(FindingKind::Stray, spot(), ""),
                InsideEntry::Part(_) | InsideEntry::Copy(..) => {
                    if entry.attributes.kind != RemoteKind::File {
                        let kind = word(entry.attributes.kind);
                        self.note_unknown(entry, spot(), format_args!("on the server it is a {kind}"));
                    }
                }
            }
        }
        if is_empty {
            let spot = Spot::node(parent.number, path, named.shown());
            self.findings.add(FindingKind::EmptyNode, spot, "");
            return Ok(Checked::default());
        }
        for (number, part) in parts.into_iter().enumerate() {
            let part_path = path.join(&part.name);
            let addition = part.addition.filter(|added| !added.is_empty()).or(named.addition.clone());
            let is_second =
                number > 0 && matches!(InsideEntry::of(part.name.as_bytes()), InsideEntry::Part(_));
            let named = Named { name: named.name.clone(), addition };
            if is_second {
                let spot = Spot::node(parent.number, part_path.clone(), named.shown());
                let version = Version::of(&part.attributes);
                self.findings.add_version(FindingKind::AmbiguousNodeType, spot, "", version);
            } else {
                self.note_copy(parent, &part_path, &named, &part.attributes);
            }
            match part.of {
                NodePart::Directory => {
                    let id = match part.name.as_bytes() {
                        b"dir.c9r" => inside.id.clone(),
                        _ => self.remote.read_small(&self.on_server(&part_path), DIRECTORY_ID_MAX).await,
                    };
                    let spot = Spot::node(parent.number, part_path.clone(), named.shown());
                    let id = self.directory_id(&part_path, &part.attributes, &id, spot)?;
                    let is_copy = named.addition.is_some() || is_second;
                    // The node of a directory is named by its entry.
                    let at = if is_copy { part_path } else { path.clone() };
                    checked.children.extend(id.map(|id| Child {
                        id,
                        path: at,
                        name: named.shown(),
                        is_copy,
                    }));
                }
                NodePart::Symlink => {
                    let link = self.check_link(parent, part_path, named.shown(), &part.attributes).await?;
                    checked.links.extend(link);
                }
                NodePart::Contents => {
                    self.check_file(parent, part_path, named.shown(), &part.attributes).await?;
                }
            }
        }
        Ok(checked)
    }

    /// Returns the name of a shortened node, as a mount shows it.
    fn long_name(
        &self,
        parent: &Parent<'_>,
        entry: &RemoteEntry,
        path: &RemotePath,
        inside: &Inside,
    ) -> Result<Named, CheckError> {
        let spot = |name: Option<&CleartextName>| {
            Spot::node(parent.number, path.clone(), name.map(|name| name.as_str().to_owned()))
        };
        // Whatever is wrong with the name, a mount shows the node under another, and somebody has to give it one.
        let lost = |kind| {
            let name = stand_in(&entry.name);
            self.findings.add_version(kind, spot(Some(&name)), "", Version::of(&entry.attributes));
            Ok(Named { name: Some(name), addition: None })
        };
        let long_name = match &inside.long_name {
            Ok(long_name) => long_name,
            Err(RemoteError::NotFound) => return lost(FindingKind::MissingLongName),
            Err(RemoteError::TooLong { .. }) => return lost(FindingKind::ObeseLongName),
            Err(error) => {
                return self.unreadable(path, spot(None), error.clone()).map(|()| Named::default());
            }
        };
        let end = long_name.windows(4).position(|window| window == b".c9r").map(|at| at + 4);
        let note_more = |name: Option<&CleartextName>| {
            if end.is_some_and(|end| end < long_name.len()) {
                self.findings.add(FindingKind::TrailingBytesInLongName, spot(name), "");
            }
        };
        let Some(id) = parent.id else {
            note_more(None);
            return Ok(Named::default());
        };
        let (name, addition) = match long_name_of(self.cryptor, id, &entry.name, long_name) {
            Ok(named) => named,
            Err(NameError::Malformed) => return lost(FindingKind::UndecodableLongName),
            Err(NameError::Unsafe | NameError::TooLong) => return lost(FindingKind::UnshowableName),
            Err(NameError::NotAuthentic | NameError::HashMismatch { .. }) => {
                return lost(FindingKind::LongNameMismatch);
            }
        };
        let canonical = self.cryptor.encrypt_name(&name, id).entry;
        if addition.is_none() && canonical.as_bytes() != entry.name.as_bytes() {
            self.findings.add(FindingKind::UncanonicalName, spot(Some(&name)), "");
        }
        note_more(Some(&name));
        Ok(Named { name: Some(name), addition })
    }

    /// Returns the id in a `dir.c9r`, if it is a possible one.
    fn directory_id(
        &self,
        path: &RemotePath,
        attributes: &RemoteAttributes,
        id: &Result<Bytes, RemoteError>,
        spot: Spot,
    ) -> Result<Option<DirectoryId>, CheckError> {
        if attributes.size > DIRECTORY_ID_MAX as u64 {
            self.findings.add(
                FindingKind::ObeseDirectoryId,
                spot,
                format_args!("it has {}", attributes.size),
            );
            return Ok(None);
        }
        let id = match id {
            Ok(id) => id,
            Err(error) => return self.unreadable_way(path, spot, error.clone()).map(|()| None),
        };
        if id.is_empty() {
            self.findings.add(FindingKind::EmptyDirectoryId, spot, "");
        } else if id.len() > DIRECTORY_ID_LEN {
            self.findings.add(FindingKind::ObeseDirectoryId, spot, format_args!("it has {}", id.len()));
        }
        Ok(DirectoryId::parse(id).ok())
    }

    async fn check_file(
        &self,
        parent: &Parent<'_>,
        path: RemotePath,
        name: Option<String>,
        attributes: &RemoteAttributes,
    ) -> Result<(), CheckError> {
        let spot = Spot::node(parent.number, path.clone(), name);
        let legal = self.legal_len(&spot, CiphertextLen(attributes.size));
        self.findings.count(|summary| {
            summary.files += 1;
            summary.bytes = summary.bytes.saturating_add(legal.unwrap_or_default().0);
        });
        if legal.is_some() && self.options.content {
            self.authenticate(&path, attributes, spot).await?;
        }
        self.progress.files.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the cleartext length of content that takes `size` bytes on the server, if that size is possible.
    pub(super) fn legal_len(&self, spot: &Spot, size: CiphertextLen) -> Option<CleartextLen> {
        let combo = self.cryptor.config().cipher_combo;
        if size == CiphertextLen(0) {
            self.findings.add(FindingKind::EmptyFile, spot.clone(), "");
            return None;
        }
        match combo.cleartext_len(size) {
            Ok(len) => {
                if combo.ciphertext_len(len) != size {
                    self.findings.add(FindingKind::TrailingEmptyChunk, spot.clone(), "");
                }
                Some(len)
            }
            Err(error) => {
                self.findings.add(FindingKind::IllegalSize, spot.clone(), error);
                None
            }
        }
    }
}

fn word(kind: RemoteKind) -> &'static str {
    match kind {
        RemoteKind::File => "file",
        RemoteKind::Directory => "directory",
        RemoteKind::Symlink => "symbolic link",
        RemoteKind::Fifo => "named pipe",
        RemoteKind::Socket => "socket",
        RemoteKind::CharDevice | RemoteKind::BlockDevice => "device",
    }
}
