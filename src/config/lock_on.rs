//! When the vaults of a mount are locked without a request: `sleep,screen,idle=15m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const ALLOWED: &str = "allowed are sleep, screen and idle=TIME, separated by commas, or never alone";

/// What locks the vaults of a mount by itself, written as words separated by commas, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LockOn {
    /// The machine goes to sleep or is switched off.
    pub sleep: bool,
    /// The screen is locked, or the user's session ends.
    pub screen: bool,
    /// No program uses a vault for this long.
    pub idle: Option<IdleTime>,
}

/// A time without use, more than none: whole seconds, minutes or hours, written `90s`, `15m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleTime(Duration);

const UNITS: [(u64, &str); 3] = [(3600, "h"), (60, "m"), (1, "s")];

impl LockOn {
    /// Nothing locks the vaults but a request.
    pub const NEVER: Self = Self { sleep: false, screen: false, idle: None };
    /// What counts where nothing is given.
    pub const DEFAULT: Self = Self { sleep: true, ..Self::NEVER };

    /// Returns [`Self::NEVER`]: what a mount's process does that does not know of this setting.
    #[must_use]
    pub fn never() -> Self {
        Self::NEVER
    }
}

impl FromStr for LockOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "never" {
            return Ok(Self::NEVER);
        }
        let mut lock_on = Self::NEVER;
        for word in text.split(',').map(str::trim) {
            match (word, word.strip_prefix("idle=")) {
                ("sleep", _) => lock_on.sleep = true,
                ("screen", _) => lock_on.screen = true,
                ("never", _) => return Err(format!("never can't stand beside others; {ALLOWED}")),
                (_, Some(_)) if lock_on.idle.is_some() => {
                    return Err(format!("idle is given twice; {ALLOWED}"));
                }
                (_, Some(time)) => lock_on.idle = Some(time.parse()?),
                _ => return Err(format!("{word:?} does not lock vaults; {ALLOWED}")),
            }
        }
        Ok(lock_on)
    }
}

impl TryFrom<String> for LockOn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LockOn> for String {
    fn from(lock_on: LockOn) -> Self {
        lock_on.to_string()
    }
}

impl fmt::Display for LockOn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.sleep.then(|| "sleep".to_owned()),
            self.screen.then(|| "screen".to_owned()),
            self.idle.map(|time| format!("idle={time}")),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        match words.as_slice() {
            [] => formatter.write_str("never"),
            words => formatter.write_str(&words.join(",")),
        }
    }
}

impl IdleTime {
    /// Returns it as a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for IdleTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = || format!("idle={text} is not a time without use; write one like idle=15m (or 90s, 1h)");
        let (factor, number) = UNITS
            .iter()
            .find_map(|(factor, unit)| Some((*factor, text.strip_suffix(unit)?)))
            .ok_or_else(none)?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 =
            Some(number).filter(|_| is_number).and_then(|it| it.parse().ok()).ok_or_else(none)?;
        let seconds = number.checked_mul(factor).filter(|&seconds| seconds > 0).ok_or_else(none)?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

/// Writes the time exactly, in the largest unit that does.
impl fmt::Display for IdleTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let fitting = UNITS.iter().find(|(factor, _)| seconds.is_multiple_of(*factor));
        let (factor, unit) = fitting.unwrap_or(&(1, "s"));
        write!(formatter, "{}{unit}", seconds / factor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_are_read_and_written_in_one_form() {
        let idle = |seconds| Some(IdleTime(Duration::from_secs(seconds)));
        for (text, read, written) in [
            ("never", LockOn::NEVER, "never"),
            ("sleep", LockOn::DEFAULT, "sleep"),
            ("screen, sleep", LockOn { sleep: true, screen: true, idle: None }, "sleep,screen"),
            ("idle=900s", LockOn { idle: idle(900), ..LockOn::NEVER }, "idle=15m"),
            ("sleep,idle=2s", LockOn { idle: idle(2), ..LockOn::DEFAULT }, "sleep,idle=2s"),
            ("idle=90m", LockOn { idle: idle(5400), ..LockOn::NEVER }, "idle=90m"),
            ("idle=1h", LockOn { idle: idle(3600), ..LockOn::NEVER }, "idle=1h"),
        ] {
            let lock_on: LockOn = text.parse().unwrap();
            assert_eq!((lock_on, lock_on.to_string().as_str()), (read, written), "{text}");
            assert_eq!(written.parse(), Ok(lock_on), "{text}");
        }
    }

    #[test]
    fn a_bad_word_is_named_with_what_is_allowed() {
        for (text, named) in [
            ("", "\"\""),
            ("slep", "\"slep\""),
            ("sleep,", "\"\""),
            ("never,sleep", "never"),
            ("sleep,never", "never"),
            ("idle", "\"idle\""),
            ("idle=", "idle="),
            ("idle=15", "idle=15"),
            ("idle=+5m", "idle=+5m"),
            ("idle=0m", "idle=0m"),
            ("idle=15d", "idle=15d"),
            ("idle=99999999999999999999h", "idle=99999999999999999999h"),
            ("idle=9999999999999999999h", "idle=9999999999999999999h"),
            ("idle=1m,idle=2m", "twice"),
        ] {
            let error = text.parse::<LockOn>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
            assert!(error.contains("idle="), "what is allowed, {text}: {error}");
        }
    }
}
