//! The names of the folders that hold one shared file each: `2026-12-05-k7m2qx`, the day on which the link ends and a
//! random id.

use std::fmt;

use jiff::civil::Date;

/// The characters of ids: none looks or sounds like another one.
const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// The length of ids, characters.
const ID_LEN: usize = 6;
/// The length of a day, characters.
const DAY_LEN: usize = "2026-12-05".len();

/// The day in the name of a folder whose share was revoked, until all of it is removed.
const REVOKED: Date = jiff::civil::date(2000, 1, 1);

/// The id of a share, by which people name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

impl Id {
    /// Returns a random id.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut id = String::new();
        while id.len() < ID_LEN {
            let mut random = [0];
            getrandom::fill(&mut random)?;
            // What would make some characters more likely than others is left out.
            let evenly = 256 / ALPHABET.len() * ALPHABET.len();
            if usize::from(random[0]) < evenly {
                let at = usize::from(random[0]) % ALPHABET.len();
                id.extend(ALPHABET.get(at).map(|&byte| char::from(byte)));
            }
        }
        Ok(Self(id))
    }

    /// Reads an id; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == ID_LEN && text.bytes().all(|byte| ALPHABET.contains(&byte));
        is_id.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of the folder of one share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryName {
    /// The day on which the link was to end.
    pub(super) day: Date,
    pub(super) id: Id,
}

impl EntryName {
    /// Returns the name that tells that a share was revoked.
    pub(super) fn revoked(id: &Id) -> Self {
        Self { day: REVOKED, id: id.clone() }
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.day == REVOKED
    }

    /// Reads the name of a folder; `None` if it is not one of Scaup's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (day, id) = name.split_at_checked(DAY_LEN)?;
        let parsed = Self { day: day.parse().ok()?, id: Id::parse(id.strip_prefix('-')?)? };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.day, self.id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_scaups_own_names_are_read() {
        for _ in 0..100 {
            let name = format!("2026-12-05-{}", Id::random().unwrap());
            assert_eq!(EntryName::parse(&name).unwrap().to_string(), name);
        }
        for other in [
            "2026-12-05-k7m2q",
            "2026-12-05-k7m2qx7",
            "2026-13-05-k7m2qx",
            "2026-12-05_k7m2qx",
            "2026-12-05",
            "",
            "é026-12-05",
        ] {
            assert_eq!(EntryName::parse(other), None, "{other}");
        }
        for other in ["2026-12-05-K7m2qx", "2026-12-05-k7m2ql", "2026-12-5-k7m2qxx", "+2026-2-05-k7m2qx"] {
            assert_eq!(EntryName::parse(other), None, "{other}");
        }
    }
}
