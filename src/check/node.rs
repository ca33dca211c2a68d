//! Checks one entry of a content directory: its name, its kind, and the length of its content (`docs/vault-format.md`
//! sections 5 to 7, 10, 14).

use std::sync::atomic::Ordering;

use bytes::Bytes;
use scaup_crypto::{CiphertextLen, CleartextLen, CleartextName, DirectoryId, Listed, NameError};

use super::base::{Check, CheckError};
use super::facts::{Child, ClimbingLink, Parent};
use super::finding::{FindingKind, Spot};
use crate::remote::{RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath};
use crate::vault::temporary::is_temporary;
use crate::vault::{DIRECTORY_ID_MAX, LONG_NAME_MAX, part};

/// Longest directory id that Cryptomator writes, bytes.
const DIRECTORY_ID_LEN: usize = 36;

/// The result for an entry.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) is_node: bool,
    pub(super) child: Option<Child>,
    pub(super) link: Option<ClimbingLink>,
}

/// The name of a node, as far as known.
#[derive(Default)]
struct Named {
    name: Option<String>,
    is_copy: bool,
}

/// The entries of a node that is a directory on the server.
struct Inside {
    entries: Vec<RemoteEntry>,
    id: Result<Bytes, RemoteError>,
    long_name: Result<Bytes, RemoteError>,
}

impl Inside {
    /// Returns the attributes of a part, which has to be a regular file.
    fn part(&self, name: &str) -> Option<&RemoteAttributes> {
        let entry = self.entries.iter().find(|entry| entry.name.as_bytes() == name.as_bytes())?;
        Some(&entry.attributes).filter(|attributes| attributes.kind == RemoteKind::File)
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
        let name = entry.name.as_bytes();
        let path = parent.path.join(&entry.name);
        let listed = self.cryptor.identify(name, parent.id.unwrap_or(&root));
        if listed == Listed::NotAnEntry {
            if name != b"dirid.c9r" {
                self.findings.add(stray(name), Spot::node(parent.number, path, None), "");
            }
            return Ok(Checked::default());
        }
        match (entry.attributes.kind, &listed) {
            (RemoteKind::Directory, _) => {
                return self.check_directory(parent, &entry.name, path, listed).await;
            }
            (RemoteKind::File, Listed::Shortened) => {
                let spot = Spot::node(parent.number, path, None);
                self.findings.add(
                    FindingKind::UnknownNodeType,
                    spot,
                    "a shortened node has to be a directory",
                );
            }
            (RemoteKind::File, _) => {
                let named = self.name(parent, &entry.name, &path, &listed);
                // A file that does not belong to this vault is not read.
                if named.name.is_some() || parent.id.is_none() {
                    self.check_file(parent, path, named.name, &entry.attributes).await?;
                }
            }
            (other, _) => {
                let spot = Spot::node(parent.number, path, None);
                self.findings.add(
                    FindingKind::UnknownNodeType,
                    spot,
                    format_args!("on the server it is a {}", word(other)),
                );
            }
        }
        Ok(Checked { is_node: true, ..Checked::default() })
    }

    /// Returns the name of an entry that is not shortened.
    fn name(&self, parent: &Parent<'_>, entry: &RemoteName, path: &RemotePath, listed: &Listed) -> Named {
        let Some(id) = parent.id else { return Named::default() };
        let note = |kind, name: Option<&CleartextName>, detail: &str| {
            let name = name.map(|name| name.as_str().to_owned());
            self.findings.add(kind, Spot::node(parent.number, path.clone(), name), detail);
        };
        match listed {
            Listed::Name(name) => {
                if self.cryptor.encrypt_name(name, id).entry.as_bytes() != entry.as_bytes() {
                    note(FindingKind::UncanonicalName, Some(name), "");
                }
                Named { name: Some(name.as_str().to_owned()), is_copy: false }
            }
            Listed::Conflict { original, suffix } => {
                note(FindingKind::ConflictCopy, Some(original), suffix.trim());
                Named { name: Some(original.as_str().to_owned()), is_copy: true }
            }
            Listed::Undecryptable => {
                let name =
                    std::str::from_utf8(entry.as_bytes()).map(|entry| self.cryptor.decrypt_name(entry, id));
                let kind = match name {
                    Ok(Err(NameError::Unsafe | NameError::TooLong)) => FindingKind::UnshowableName,
                    _ => FindingKind::UndecryptableName,
                };
                note(kind, None, "");
                Named::default()
            }
            Listed::NotAnEntry | Listed::Shortened => Named::default(),
        }
    }

    /// Checks a node that is a directory on the server.
    async fn check_directory(
        &self,
        parent: &Parent<'_>,
        entry: &RemoteName,
        path: RemotePath,
        listed: Listed,
    ) -> Result<Checked, CheckError> {
        let mut checked = Checked { is_node: true, ..Checked::default() };
        let shortened = listed == Listed::Shortened;
        let inside = self.look_inside(parent, &path, shortened).await?;
        let named = if shortened {
            self.long_name(parent, entry, &path, &inside)?
        } else {
            self.name(parent, entry, &path, &listed)
        };
        let spot = |path: &RemotePath| Spot::node(parent.number, path.clone(), named.name.clone());
        for stray in
            inside.entries.iter().filter_map(|entry| stray_inside(entry, shortened).map(|kind| (kind, entry)))
        {
            self.findings.add(stray.0, spot(&path.join(&stray.1.name)), "");
        }
        let (directory, link) = (inside.part("dir.c9r"), inside.part("symlink.c9r"));
        let contents = inside.part("contents.c9r").filter(|_| shortened);
        let kinds = [(directory, "directory"), (link, "link"), (contents, "file")];
        let kinds: Vec<&str> =
            kinds.iter().filter(|(part, _)| part.is_some()).map(|(_, word)| *word).collect();
        match kinds.as_slice() {
            [] => self.findings.add(FindingKind::UnknownNodeType, spot(&path), ""),
            [_] => {}
            several => self.findings.add(FindingKind::AmbiguousNodeType, spot(&path), several.join(" and ")),
        }
        // If there are several, the order is Cryptomator's (section 7).
        if let Some(attributes) = directory {
            let id_path = path.join(&part("dir.c9r"));
            let id = self.directory_id(&id_path, attributes, &inside.id, spot(&id_path))?;
            checked.child = id.map(|id| Child { id, path, name: named.name, is_copy: named.is_copy });
        } else if let Some(attributes) = link {
            let path = path.join(&part("symlink.c9r"));
            checked.link = self.check_link(parent, path, named.name, attributes).await?;
        } else if let Some(attributes) = contents {
            self.check_file(parent, path.join(&part("contents.c9r")), named.name, attributes).await?;
        }
        Ok(checked)
    }

    /// Lists a node and reads its small files, all at once.
    async fn look_inside(
        &self,
        parent: &Parent<'_>,
        path: &RemotePath,
        shortened: bool,
    ) -> Result<Inside, CheckError> {
        let id_path = self.on_server(&path.join(&part("dir.c9r")));
        let long_name_path = self.on_server(&path.join(&part("name.c9s")));
        let long_name = async {
            if !shortened {
                return Err(RemoteError::NotFound);
            }
            self.remote.read_small(&long_name_path, LONG_NAME_MAX).await
        };
        let (entries, id, long_name) = futures::join!(
            self.list(path, || Spot::node(parent.number, path.clone(), None)),
            self.remote.read_small(&id_path, DIRECTORY_ID_MAX),
            long_name
        );
        Ok(Inside { entries: entries?, id, long_name })
    }

    /// Returns the name of a shortened node.
    fn long_name(
        &self,
        parent: &Parent<'_>,
        entry: &RemoteName,
        path: &RemotePath,
        inside: &Inside,
    ) -> Result<Named, CheckError> {
        let note = |kind, name: Option<&CleartextName>| {
            let name = name.map(|name| name.as_str().to_owned());
            self.findings.add(kind, Spot::node(parent.number, path.clone(), name), "");
        };
        let long_name = match (inside.part("name.c9s"), &inside.long_name) {
            (None, _) => {
                note(FindingKind::MissingLongName, None);
                return Ok(Named::default());
            }
            (Some(attributes), _) if attributes.size > LONG_NAME_MAX as u64 => {
                note(FindingKind::ObeseLongName, None);
                return Ok(Named::default());
            }
            (Some(_), Ok(long_name)) => long_name,
            (Some(_), Err(error)) => {
                let spot = Spot::node(parent.number, path.clone(), None);
                return self.unreadable(path, spot, error.clone()).map(|()| Named::default());
            }
        };
        let end = long_name.windows(4).position(|window| window == b".c9r").map(|at| at + 4);
        let has_more = end.is_some_and(|end| end < long_name.len());
        let Some(id) = parent.id else {
            if has_more {
                note(FindingKind::TrailingBytesInLongName, None);
            }
            return Ok(Named::default());
        };
        let named = |name: &CleartextName, is_copy| Named { name: Some(name.as_str().to_owned()), is_copy };
        let found = match self.cryptor.expand_shortened(entry.as_bytes(), long_name, id) {
            Ok(name) => {
                if self.cryptor.encrypt_name(&name, id).entry.as_bytes() != entry.as_bytes() {
                    note(FindingKind::UncanonicalName, Some(&name));
                }
                named(&name, false)
            }
            Err(NameError::HashMismatch { name }) => {
                let canonical = self.cryptor.encrypt_name(&name, id).entry;
                let stem = canonical.strip_suffix(".c9s");
                let is_copy =
                    stem.is_some_and(|stem| String::from_utf8_lossy(entry.as_bytes()).contains(stem));
                let kind = if is_copy { FindingKind::ConflictCopy } else { FindingKind::LongNameMismatch };
                note(kind, Some(&name));
                named(&name, is_copy)
            }
            Err(error) => {
                note(
                    match error {
                        NameError::NotAuthentic => FindingKind::UndecryptableName,
                        NameError::Unsafe | NameError::TooLong => FindingKind::UnshowableName,
                        _ => FindingKind::UndecodableLongName,
                    },
                    None,
                );
                return Ok(Named::default());
            }
        };
        if has_more {
            self.findings.add(
                FindingKind::TrailingBytesInLongName,
                Spot::node(parent.number, path.clone(), found.name.clone()),
                "",
            );
        }
        Ok(found)
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
            Err(error) => return self.unreadable(path, spot, error.clone()).map(|()| None),
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

/// Returns the kind of finding for an entry that is not a node.
fn stray(name: &[u8]) -> FindingKind {
    match name {
        b"dir.c9r" => FindingKind::LooseDirectoryFile,
        name if is_temporary(name) => FindingKind::Leftover,
        name if name.ends_with(b".c9u") => FindingKind::InUseMarker,
        _ => FindingKind::Stray,
    }
}

/// Returns the kind of finding for an entry in a node that is not one of its parts.
fn stray_inside(entry: &RemoteEntry, shortened: bool) -> Option<FindingKind> {
    match entry.name.as_bytes() {
        b"dir.c9r" | b"symlink.c9r" => None,
        b"contents.c9r" | b"name.c9s" if shortened => None,
        b"contents.c9r" | b"name.c9s" => Some(FindingKind::Stray),
        name if [&b"dir"[..], b"symlink", b"contents", b"name"].iter().any(|part| name.starts_with(part))
            && (name.ends_with(b".c9r") || name.ends_with(b".c9s")) =>
        {
            Some(FindingKind::ConflictCopy)
        }
        name => Some(stray(name)),
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
