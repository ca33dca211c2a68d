//! Limits what a server may do in one login, however it counts its own steps: the server says which answers are right,
//! which are wrong, which method is next, and whether that was all, so none of this is a reliable end.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Prompts in one login: three wrong tries at a password and a code, and a new password asked for twice, are half of
/// it.
const PROMPTS_MAX: usize = 20;

/// Requests of a server in one login, with prompts or without, and steps that ask for some.
const TURNS_MAX: usize = 50;

/// Steps with prompts that a server may call right and want more: no real login has this many.
const PARTLY_MAX: usize = 4;

/// Text that a server may send before, between and above its prompts, bytes.
const WORDS_MAX: usize = 64 * 1024;

/// Additional cost of each text, even if it is empty.
const WORDS_EACH: usize = 64;

/// The error that the server exceeded a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

/// Subtracts from what is left of a limit.
fn take(left: &mut usize, amount: usize) -> Result<(), Exhausted> {
    *left = left.checked_sub(amount).ok_or(Exhausted)?;
    Ok(())
}

/// The limits of one login.
pub(super) struct Patience {
    prompts: usize,
    turns: usize,
    partly: usize,
    wrong: usize,
    codes: usize,
}

impl Patience {
    /// Creates the limits for a login in which passwords and codes may be wrong `attempts` times.
    pub(super) fn new(attempts: usize) -> Self {
        Self { prompts: PROMPTS_MAX, turns: TURNS_MAX, partly: PARTLY_MAX, wrong: attempts, codes: attempts }
    }

    /// Counts a request of the server with this many prompts.
    pub(super) fn asked(&mut self, prompts: usize) -> Result<(), Exhausted> {
        take(&mut self.turns, 1)?;
        take(&mut self.prompts, prompts)
    }

    /// Counts an answer that is right, but not enough.
    pub(super) fn was_partly_right(&mut self) -> Result<(), Exhausted> {
        take(&mut self.partly, 1)
    }

    /// Counts a wrong answer; an error if there may be no further try.
    pub(super) fn was_wrong(&mut self) -> Result<(), Exhausted> {
        take(&mut self.wrong, 1)?;
        if self.wrong == 0 { Err(Exhausted) } else { Ok(()) }
    }

    /// Returns whether one more code may come without a person, and counts it.
    pub(super) fn may_have_code(&mut self) -> bool {
        take(&mut self.codes, 1).is_ok()
    }
}

/// The limit on the server's text: its banners come at any time, and by another way than its prompts.
pub(super) struct Words(AtomicUsize);

impl Words {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(WORDS_MAX))
    }

    /// Counts a text of this many bytes from the server.
    pub(super) fn said(&self, len: usize) -> Result<(), Exhausted> {
        let cost = len.saturating_add(WORDS_EACH);
        let left = |left: usize| Some(left.saturating_sub(cost));
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(before) if before > cost => Ok(()),
            _ => Err(Exhausted),
        }
    }

    /// Returns whether the server sent more text than it may.
    pub(super) fn are_exhausted(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how often a step can be done before it exceeds the limit.
    fn times(mut step: impl FnMut() -> Result<(), Exhausted>) -> usize {
        (0..10_000).take_while(|_| step().is_ok()).count()
    }

    #[test]
    fn every_way_to_ask_comes_to_an_end() {
        let mut patience = Patience::new(3);
        assert_eq!(times(|| patience.asked(1)), PROMPTS_MAX);
        let mut patience = Patience::new(3);
        assert_eq!(times(|| patience.asked(0)), TURNS_MAX);
        assert_eq!(Patience::new(3).asked(usize::MAX), Err(Exhausted));
        let mut patience = Patience::new(3);
        assert_eq!(times(|| patience.was_partly_right()), PARTLY_MAX);
        assert_eq!(times(|| patience.was_wrong()), 2, "the third is the last");
        assert_eq!(times(|| if patience.may_have_code() { Ok(()) } else { Err(Exhausted) }), 3);
    }

    #[test]
    fn words_come_to_an_end_be_they_long_or_none() {
        let words = Words::new();
        assert!(times(|| words.said(0)) < 1100);
        assert!(words.are_exhausted());
        assert_eq!(Words::new().said(usize::MAX), Err(Exhausted));
        assert!(times(|| Words::new().said(1)) == 10_000);
        let words = Words::new();
        assert!(words.said(WORDS_MAX / 2).is_ok() && !words.are_exhausted());
    }
}
