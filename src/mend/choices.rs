//! What each choice would do where a person has to choose, and why other findings are left.

use crate::check::FindingKind;

/// Why nothing is moved to `/LOST+FOUND` in a vault without a root.
pub(super) const WITHOUT_ROOT: &str = "restore the content of the vault's root directory first: without it, all \
                                       that lies in the vault would end up in /LOST+FOUND";

/// Returns what each choice would do about a finding of this kind, or why it is left.
pub(super) fn choices(kind: FindingKind) -> Option<&'static str> {
    Some(match kind {
        FindingKind::DirectoryIdCollision => {
            "a choice: both names show the same content; rmdir in a mount takes the name away that is not wanted, \
             and the content stays under the other"
        }
        FindingKind::AmbiguousNodeType => {
            "a choice: a mount shows each under a name of its own; renaming one keeps both, removing one keeps the \
             other alone"
        }
        FindingKind::ConflictCopy => {
            "a choice: a mount shows both versions; removing one keeps the other, and renaming one keeps both"
        }
        FindingKind::ConflictedContent => {
            "a choice: renaming it on the server to what stands before the client's words brings it back as an \
             orphan, which --fix links; removing it loses what only this version has"
        }
        FindingKind::ConflictCopyOfConfig => {
            "a choice: the password that is wanted may open only one of the two; keep both until it does"
        }
        FindingKind::UnknownEntry | FindingKind::Unfinished => "a choice: only its owner knows what it is",
        FindingKind::EmptyDirectoryId | FindingKind::ObeseDirectoryId => {
            "the id of the directory is lost; its content is in /LOST+FOUND if it was an orphan, and this node can \
             then be removed"
        }
        FindingKind::UndecryptableName | FindingKind::UnshowableName => {
            "nobody knows what it was called here; moved back to the directory that it comes from, it is shown again"
        }
        FindingKind::MissingRoot => "only a backup has it",
        FindingKind::IllegalSize
        | FindingKind::DamagedHeader
        | FindingKind::DamagedContent
        | FindingKind::EmptyFile
        | FindingKind::OversizedLink => "lost content can't be made again: restore it from a backup",
        FindingKind::TrailingEmptyChunk => {
            "the content is whole: copying the file in a mount, and replacing it by the copy, mends it"
        }
        _ => return None,
    })
}
