//! The findings of a check: the kinds, the severity of each, and the advice for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::remote::RemotePath;

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
    DirectoryIdCollision: Critical, "two directories have the same id, and so the same content",
        "move what is in it to a new directory, then remove both on the server; removing one of them through a mount empties the other";
    DirectoryLoop: Critical, "the directory contains itself",
        "make a backup, then remove this node on the server; its content can still be reached from above";
    DirectoryCircle: Critical, "these directories hold each other, and nothing of the vault leads to them",
        "nothing in them is lost: make a backup, then remove the node named here on the server; Cryptomator's health check then brings the rest back as LOST+FOUND";
    UnknownNodeType: Critical, "nothing says whether this is a file, a directory or a link",
        "restore it from a backup, or remove it";
    AmbiguousNodeType: Critical, "it is marked as more than one of file, directory and link",
        "find out which is right, and remove the others on the server";
    MissingLongName: Critical, "name.c9s is missing, so the name is lost",
        "restore name.c9s from a backup";
    UndecodableLongName: Critical, "name.c9s holds no encrypted name",
        "restore name.c9s from a backup";
    ObeseLongName: Critical, "name.c9s is longer than any name",
        "restore name.c9s from a backup";
    IllegalSize: Critical, "no content has this length: something was cut off or added",
        "restore it from a backup";
    DamagedHeader: Critical, "the file header does not authenticate, so none of it can be read",
        "restore it from a backup";
    DamagedContent: Critical, "content does not authenticate",
        "restore it from a backup; what is whole can still be read";
    Unreadable: Critical, "it can't be read from the server",
        "check the permissions and the disk on the server";
    MissingContentDirectory: Warning, "the directory's content is missing on the server",
        "restore it from a backup, or remove the directory";
    OrphanDirectory: Warning, "no directory of the vault leads to this content",
        "Cryptomator's health check can bring it back as LOST+FOUND";
    WrongDirectoryIdBackup: Warning, "dirid.c9r does not name this directory, so it would not help to repair it",
        "remove dirid.c9r; Cryptomator's health check writes it again";
    TrailingBytesInLongName: Warning, "name.c9s has bytes after the name, and Cryptomator hides it",
        "Cryptomator's health check can repair it, or rename it in a mount";
    LongNameMismatch: Warning, "name.c9s holds the name of another entry, so it is ignored",
        "Cryptomator's health check can repair it";
    UndecryptableName: Warning, "the name does not decrypt in this directory, so it is not shown",
        "move it back to the directory that it comes from, or restore it from a backup";
    UnshowableName: Warning, "the name decrypts to one that no directory can hold, so it is not shown",
        "it was made by somebody who has the vault's keys; remove it on the server";
    UncanonicalName: Warning, "the name is stored in a form that Cryptomator lists but can't open",
        "rename it in a mount and back again";
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
        "Cryptomator's health check writes it";
    ConflictCopy: Info, "a sync client kept a second version here",
        "compare both in a mount, and remove the one that is not needed";
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
            noted.push(Noted { kind, spot, detail: detail.to_string() });
        } else {
            collected.summary.left_out += 1;
        }
    }

    /// Updates the counts of checked nodes.
    pub(super) fn count(&self, count: impl FnOnce(&mut Summary)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).summary);
    }

    /// Builds the report. `cleartext` returns the cleartext path of a content directory, or of a node in it.
    pub(super) fn report(
        self,
        cleartext: impl Fn(usize, Option<&Option<String>>) -> Option<String>,
    ) -> Report {
        let Collected { noted, summary } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut findings: Vec<Finding> = noted
            .into_values()
            .flatten()
            .map(|Noted { kind, spot, detail }| Finding {
                severity: kind.severity(),
                kind,
                path: String::from_utf8_lossy(spot.path.as_bytes()).into_owned(),
                cleartext: spot.directory.and_then(|directory| cleartext(directory, spot.node.as_ref())),
                what: if detail.is_empty() {
                    kind.what().to_owned()
                } else {
                    format!("{}: {detail}", kind.what())
                },
                advice: kind.advice(),
            })
            .collect();
        findings.sort_by(|a, b| {
            b.severity.cmp(&a.severity).then_with(|| (&a.path, a.kind).cmp(&(&b.path, b.kind)))
        });
        Report { summary, findings }
    }
}
