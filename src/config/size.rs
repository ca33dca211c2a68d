//! Sizes as people write them: `128M`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes, written with an optional suffix: `K`, `M`, `G` (powers of 1024; `KiB`, `KB` and the like mean the
/// same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

const SUFFIXES: [(u64, &str); 4] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"), (1, "")];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let none = || format!("{text:?} is not a size; write one like 128M");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| none())?;
        let suffix = suffix.trim().to_ascii_uppercase();
        let suffix = suffix.trim_end_matches('B').trim_end_matches('I');
        let (factor, _) = SUFFIXES.iter().find(|(_, known)| *known == suffix).ok_or_else(none)?;
        number.checked_mul(*factor).map(Self).ok_or_else(|| format!("{text:?} is too large"))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// Writes the size exactly, with the largest suffix that does.
impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = SUFFIXES.iter().find(|(factor, _)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (factor, suffix) = fitting.unwrap_or(&(1, ""));
        write!(formatter, "{}{suffix}", self.0 / factor)
    }
}

/// Formats a number of bytes for people.
#[must_use]
pub fn show(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("8k", 8192), ("128M", 128 << 20), ("1GiB", 1 << 30), ("2 MB", 2 << 20)]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string().parse(), Ok(size), "{text}");
        }
        assert_eq!(Size(128 << 20).to_string(), "128M");
        for text in ["", "M", "12X", "-1", "99999999999G"] {
            text.parse::<Size>().unwrap_err();
        }
    }

    #[test]
    fn sizes_are_shown_with_a_fitting_unit() {
        assert_eq!(show(1), "1 bytes");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(128 << 20), "128.0 MiB");
    }
}
