//! The findings of a check: the kinds, the severity of each, and the advice for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use scaup_crypto::{CiphertextLen, CleartextLen, ClientMark, conflict_mark};
use serde::Serialize;

use crate::remote::{RemoteAttributes, RemoteKind, RemotePath};

/// Most findings of one severity that are kept; more are only counted.
const KEPT_MAX: usize = 10_000;

/// How severe a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There are no findings.
    Good,
    /// Worth knowing; nothing is missing or wrong.
    Info,
    /// A node can't be reached as it should, but is there; or Cryptomator would see it differently.
    Warning,
    /// Data is lost or can't be read, or will be when it is touched.
    Critical,
}

/// One table of all kinds of findings: kind, severity, description, and advice.
macro_rules! kinds {
    ($($kind:ident: $severity:ident, $what:literal, $advice:literal;)*) => {
        /// A kind of finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FindingKind {
            $(#[doc = $what] $kind,)*
        }

        impl FindingKind {
            /// Returns its severity.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$kind => Severity::$severity,)* }
            }

            /// Returns its description, in one sentence without a full stop.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$kind => $what,)* }
            }

            /// Returns the advice for it.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self { $(Self::$kind => $advice,)* }
            }
        }
    };
}

kinds! {
    MissingRoot: Critical, "the content of the vault's root directory is missing",
        "restore the vault's d directory from a backup";
    EmptyDirectoryId: Critical, "dir.c9r is empty, so this directory has lost its content",
        "restore dir.c9r from a backup; its content is likely one of the orphans";
    ObeseDirectoryId: Critical, "dir.c9r is longer than the 36 bytes of a directory id",
        "restore dir.c9r from a backup; its content is likely one of the orphans";
    DirectoryLoop: Critical, "the directory contains itself",
        "--fix puts this node aside; its content can still be reached from above";
    DirectoryCircle: Critical, "these directories hold each other, and nothing of the vault leads to them",
        "nothing in them is lost: --fix moves one of them to /LOST+FOUND, with all that is below";
    UnknownNodeType: Critical, "this can't be a file, a directory or a link of the vault",
        "restore it from a backup, or remove it";
    UndecodableLongName: Critical, "name.c9s holds no encrypted name, so the name is lost",
        "give it a name in a mount, which shows it as \"unnamed\", or restore name.c9s from a backup";
    ObeseLongName: Critical, "name.c9s is longer than any name, so the name is lost",
        "give it a name in a mount, which shows it as \"unnamed\", or restore name.c9s from a backup";
    IllegalSize: Critical, "no content has this length: something was cut off or added",
        "restore it from a backup";
    DamagedHeader: Critical, "the file header does not authenticate, so none of it can be read",
        "restore it from a backup";
    DamagedContent: Critical, "content does not authenticate",
        "restore it from a backup; what is whole can still be read";
    Unreadable: Warning, "the server did not let it be read, so it was not checked",
        "check the permissions and the disk on the server, and check the vault again";
    DirectoryIdCollision: Warning, "two names lead to the same directory: it was renamed on two machines",
        "take one of the names away with rmdir in a mount; removing what is in it (rm -r) removes it under both names";
    AmbiguousNodeType: Warning, "a file, a directory or a link lies in the node of another: two machines made them under one name",
        "a mount shows both; rename or remove one there";
    MissingLongName: Warning, "name.c9s is missing, so the name is lost",
        "give it a name in a mount, which shows it as \"unnamed\", or restore name.c9s from a backup";
    ConflictCopy: Warning, "a sync client kept a second version here",
        "compare both in a mount, and remove the one that is not needed";
    ConflictedContent: Warning, "a sync client kept what is in a directory that was removed on another machine; mounts do not show it",
        "to have it back, rename it on the server to what stands before the client's words; --fix then brings it back in /LOST+FOUND";
    UnknownEntry: Warning, "it is not part of the vault, but may be somebody's; mounts do not show it",
        "look at it on the server; the directory that it lies in can't be removed before it is gone";
    Unfinished: Warning, "a sync client has not finished this file, or could not put it in its place; mounts do not show it",
        "wait until it has; if it stays, look at what the client says of it: it may hold the only copy of a version";
    MissingContentDirectory: Warning, "the directory's content is missing on the server",
        "restore it from a backup; --fix makes it, empty";
    OrphanDirectory: Warning, "no directory of the vault leads to this content",
        "--fix brings it back in /LOST+FOUND";
    WrongDirectoryIdBackup: Warning, "dirid.c9r does not name this directory, so it would not help to repair it",
        "--fix writes it again";
    TrailingBytesInLongName: Warning, "name.c9s has bytes after the name, and Cryptomator hides it",
        "--fix mends it, or rename it in a mount";
    LongNameMismatch: Warning, "name.c9s holds a name that can't be this node's, so it is ignored",
        "give it a name in a mount, which shows it as \"unnamed\", or let --fix do it";
    UndecryptableName: Warning, "the name does not decrypt in this directory, so it is not shown",
        "move it back to the directory that it comes from, or restore it from a backup";
    UnshowableName: Warning, "the name decrypts to one that no directory can hold, so mounts do not show that name",
        "it was made by somebody who has the vault's keys; remove it on the server";
    UncanonicalName: Warning, "the name is stored in a form that Cryptomator lists but can't open",
        "--fix mends it, or rename it in a mount and back again";
    EmptyFile: Warning, "the file has no bytes at all, not even a header: it was never written",
        "remove it, or save it again";
    TrailingEmptyChunk: Warning, "an empty chunk stands at the end, and Cryptomator shows the file as empty",
        "copy it in a mount, and replace it by the copy";
    OversizedLink: Warning, "the target of the link is longer than any can be",
        "restore it from a backup, or remove it";
    EmptyOrphan: Info, "no directory of the vault leads to this content, but nothing is in it",
        "it may be removed on the server";
    LooseDirectoryFile: Info, "dir.c9r lies outside a node, where it means nothing",
        "it may be removed on the server";
    MissingDirectoryIdBackup: Info, "dirid.c9r is missing or empty, so the directory's name is harder to bring back if it is ever lost",
        "--fix writes it";
    EmptyNode: Info, "a sync client left this when it removed a file, a directory or a link; mounts do not show it",
        "nothing has to be done: it is used again when something of that name is saved";
    ConflictCopyOfConfig: Info, "another version of the vault's config or masterkey file",
        "it may be removed on the server, once the vault opens with the password that is wanted";
    Backup: Info, "a backup of the vault's config or masterkey file",
        "keep it";
    Leftover: Info, "Scaup left this when it was interrupted; mounts do not show it",
        "the next mount on the machine that left it removes it; it may also be removed on the server while nothing is mounted";
    InUseMarker: Info, "Cryptomator has the file open, or had when it was interrupted",
        "nothing has to be done";
    LinkLeadsOut: Info, "the link leads out of the vault, so mounts refuse to follow it",
        "remove it unless it is intended; with --follow-outside a mount follows it";
    ChangedMeanwhile: Info, "it was changed while it was checked",
        "check again when nobody writes";
    Stray: Info, "it is not part of the vault, and mounts do not show it",
        "nothing has to be done";
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// Its kind.
    pub kind: FindingKind,
    /// The same path, byte for byte.
    #[serde(skip)]
    pub at: RemotePath,
    /// Its path on the server, relative to the vault's directory. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its path in the decrypted vault, beginning with `/`, where that is known.
    pub cleartext: Option<String>,
    /// Its description, in a sentence without a full stop.
    pub what: String,
    /// The advice for it.
    pub advice: &'static str,
}

/// How much was checked and found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// Content directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub links: u64,
    /// Cleartext bytes in regular files.
    pub bytes: u64,
    /// Whether all content was authenticated.
    pub content: bool,
    /// Findings of [`Severity::Info`].
    pub info: u64,
    /// Findings of [`Severity::Warning`].
    pub warning: u64,
    /// Findings of [`Severity::Critical`].
    pub critical: u64,
    /// How many of these are only counted, since they were too many.
    pub left_out: u64,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How much was checked and found.
    pub summary: Summary,
    /// The findings, the worst first, and by place.
    pub findings: Vec<Finding>,
    /// The versions that a person has to choose between, by place.
    #[serde(skip)]
    pub conflicts: Vec<Conflict>,
}

/// A version of something that a sync client kept beside another, or something that it left where no mount shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// What it is.
    pub kind: FindingKind,
    /// Its path in the decrypted vault as a mount shows it, beginning with `/`, where that is known.
    pub cleartext: Option<String>,
    /// The path of the version that it lies beside, where that is known.
    pub beside: Option<String>,
    /// Its path on the server, relative to the vault's directory. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its cleartext length, bytes; `None` for what has none.
    pub size: Option<u64>,
    /// When it was last changed, in seconds since 1970, where that is known.
    pub modified: Option<u64>,
    /// What the client's name for it tells, if that is the name of a known client.
    pub made_by: Option<ClientMark>,
    /// A sentence about it.
    pub what: String,
}

/// What is known of a version that a person has to choose or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Version {
    /// The name of what it lies beside.
    pub(super) original: Option<String>,
    /// What a sync client added to the name.
    pub(super) addition: String,
    /// Its length on the server.
    pub(super) stored: Option<CiphertextLen>,
    pub(super) modified: Option<SystemTime>,
}

impl Version {
    /// Creates the version with these attributes on the server.
    pub(super) fn of(attributes: &RemoteAttributes) -> Self {
        Self {
            original: None,
            addition: String::new(),
            stored: (attributes.kind == RemoteKind::File).then_some(CiphertextLen(attributes.size)),
            modified: Some(attributes.modified),
        }
    }
}

impl Report {
    /// Returns the highest severity among the findings.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match &self.summary {
            Summary { critical: 1.., .. } => Severity::Critical,
            Summary { warning: 1.., .. } => Severity::Warning,
            Summary { info: 1.., .. } => Severity::Info,
            _ => Severity::Good,
        }
    }
}

/// The place of a finding, before the tree is known.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    /// Relative to the vault's directory.
    path: RemotePath,
    /// The content directory that it lies in, by its number.
    directory: Option<usize>,
    /// For a node in it, its name if known; `None` for the directory itself.
    node: Option<Option<String>>,
}

impl Spot {
    /// Returns a place that belongs to no directory of the vault.
    pub(super) fn outside(path: RemotePath) -> Self {
        Self { path, directory: None, node: None }
    }

    /// Returns the place of a directory itself.
    pub(super) fn directory(directory: usize, path: RemotePath) -> Self {
        Self { path, directory: Some(directory), node: None }
    }

    /// Returns the place of a node in a directory, or of an entry in that node.
    pub(super) fn node(directory: usize, path: RemotePath, name: Option<String>) -> Self {
        Self { path, directory: Some(directory), node: Some(name) }
    }
}

struct Noted {
    kind: FindingKind,
    spot: Spot,
    detail: String,
    version: Option<Version>,
}

/// Collects findings and counts from all parts of a check.
#[derive(Default)]
pub(super) struct Findings(Mutex<Collected>);

#[derive(Default)]
struct Collected {
    noted: BTreeMap<Severity, Vec<Noted>>,
    summary: Summary,
}

impl Findings {
    /// Records a finding; `detail` is added to the description of its kind.
    pub(super) fn add(&self, kind: FindingKind, spot: Spot, detail: impl ToString) {
        self.collect(Noted { kind, spot, detail: detail.to_string(), version: None });
    }

    /// Records a finding that a person has to decide about.
    pub(super) fn add_version(&self, kind: FindingKind, spot: Spot, detail: impl ToString, version: Version) {
        self.collect(Noted { kind, spot, detail: detail.to_string(), version: Some(version) });
    }

    fn collect(&self, found: Noted) {
        let kind = found.kind;
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let summary = &mut collected.summary;
        match kind.severity() {
            Severity::Good => {}
            Severity::Info => summary.info += 1,
            Severity::Warning => summary.warning += 1,
            Severity::Critical => summary.critical += 1,
        }
        let noted = collected.noted.entry(kind.severity()).or_default();
        if noted.len() < KEPT_MAX {
            noted.push(found);
        } else {
            collected.summary.left_out += 1;
        }
    }

    /// Updates the counts of checked nodes.
    pub(super) fn count(&self, count: impl FnOnce(&mut Summary)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).summary);
    }

    /// Builds the report. `cleartext` returns the cleartext path of a content directory, or of a node in it; `len` the
    /// cleartext length of content.
    pub(super) fn report(
        self,
        cleartext: impl Fn(usize, Option<&Option<String>>) -> Option<String>,
        len: impl Fn(CiphertextLen) -> Option<CleartextLen>,
    ) -> Report {
        let Collected { noted, summary } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut findings, mut conflicts) = (Vec::new(), Vec::new());
        for Noted { kind, spot, detail, version } in noted.into_values().flatten() {
            let path = String::from_utf8_lossy(spot.path.as_bytes()).into_owned();
            let shown = |node: Option<&Option<String>>| {
                spot.directory.and_then(|directory| cleartext(directory, node))
            };
            let what =
                if detail.is_empty() { kind.what().to_owned() } else { format!("{}: {detail}", kind.what()) };
            if let Some(version) = version {
                let since_1970 =
                    version.modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
                conflicts.push(Conflict {
                    kind,
                    cleartext: shown(spot.node.as_ref()),
                    beside: version.original.and_then(|original| shown(Some(&Some(original)))),
                    path: path.clone(),
                    size: version.stored.and_then(&len).map(|len| len.0),
                    modified: since_1970.map(|since| since.as_secs()),
                    made_by: conflict_mark(&version.addition),
                    what: what.clone(),
                });
            }
            findings.push(Finding {
                severity: kind.severity(),
                kind,
                cleartext: shown(spot.node.as_ref()),
                at: spot.path,
                path,
                what,
                advice: kind.advice(),
            });
        }
        findings.sort_by(|a, b| {
            b.severity.cmp(&a.severity).then_with(|| (&a.path, a.kind).cmp(&(&b.path, b.kind)))
        });
        conflicts.sort_by(|a, b| (&a.cleartext, &a.path).cmp(&(&b.cleartext, &b.path)));
        Report { summary, findings, conflicts }
    }
}
