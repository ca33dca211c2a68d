//! What the text of a symbolic link's target tells about where it leads.

use std::path::{Component, Path};

/// Returns how many directories a target climbs before it descends. `None` if its text does not tell where it leads: it
/// is absolute, or climbs from behind a name.
pub(crate) fn climbs(target: &Path) -> Option<usize> {
    let mut names = target.components().filter(|name| *name != Component::CurDir).peekable();
    let climbed = std::iter::from_fn(|| names.next_if_eq(&Component::ParentDir)).count();
    names.all(|name| matches!(name, Component::Normal(_))).then_some(climbed)
}
