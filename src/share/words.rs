//! Passwords of words, for people who read them out on a telephone.
//!
//! Every word is drawn from the same 2,048, so each is worth exactly 11 bits; the number from 10 to 99 at the
//! end is worth 6.49. The words are BIP 39's for English
//! (<https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki>): of 3 to 8 letters, and told apart by
//! the first four. The file comes with the Python package `mnemonic` 0.21; its licence is in `words.LICENSE`.

use zeroize::Zeroizing;

/// Words of a link's password: with the number 39 bits, enough for what the server's brute-force protection
/// guards.
pub(super) const LINK_WORDS: usize = 3;
/// Words of a passphrase: with the number 61 bits, for what only the cost of scrypt guards.
pub(super) const PASSPHRASE_WORDS: usize = 5;
/// Longest [`Policy::min_length`] that passwords are made for, characters. The server sets the minimum, so it
/// must be bounded; nobody would read out more.
pub(super) const MIN_LENGTH_MAX: usize = 128;

/// Words of a link's password at least: with the number 28 bits.
const LINK_WORDS_MIN: usize = 2;
/// Words of any password at most, but for what a server's minimum demands.
const WORDS_MAX: usize = 16;

/// Words in the list, and so possibilities for each.
const WORD_COUNT: u16 = 2048;
/// Letters of the shortest word.
const WORD_LEN_MIN: usize = 3;
/// Letters of the longest word.
const WORD_LEN_MAX: usize = 8;
/// What stands between words. Servers that demand a special character count it as one.
const SEPARATOR: char = '-';
/// Smallest number: all have two digits.
const NUMBER_MIN: u16 = 10;
/// Numbers from 10 to 99.
const NUMBER_COUNT: u16 = 90;
/// Digits of the number.
const NUMBER_LEN: usize = 2;

/// The list, one word a line.
const TEXT: &str = include_str!("words.txt");
/// The words in the list's order. That there are 2,048 the compiler has checked.
static WORDS: [&str; WORD_COUNT as usize] = split(TEXT);

/// What a server demands of passwords, as far as it must be known here.
///
/// Digits, special characters, upper and lower case are in every password anyway, and none is among the
/// common ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Policy {
    min_length: usize,
}

/// A server demands longer passwords than [`MIN_LENGTH_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server demands passwords of {0} characters or more; Scaup makes them for {MIN_LENGTH_MAX} at most"
)]
pub(super) struct MinLengthError(usize);

impl Policy {
    /// A policy with the least number of characters that a password must have (Nextcloud's capability
    /// `password_policy.minLength`). The default policy demands none.
    ///
    /// # Errors
    ///
    /// If it is more than [`MIN_LENGTH_MAX`].
    pub(super) fn new(min_length: usize) -> Result<Self, MinLengthError> {
        if min_length > MIN_LENGTH_MAX {
            return Err(MinLengthError(min_length));
        }
        Ok(Self { min_length })
    }
}

/// A password for a link, such as `Maple-orbit-copper-42`: `words` words (2 to 16: fewer or more are taken
/// for these), of which the first begins with an upper-case letter, and a number of two digits. It has more
/// words if `policy` demands more characters. All are ASCII.
///
/// [`LINK_WORDS`] is a good number.
///
/// # Errors
///
/// If the system gives no randomness.
pub(super) fn link_password(words: usize, policy: &Policy) -> Result<Zeroizing<String>, getrandom::Error> {
    password(words.clamp(LINK_WORDS_MIN, WORDS_MAX), policy.min_length, Case::FirstUpper)
}

/// A passphrase for a file, such as `walnut-harbor-velvet-saddle-comfort-77`: `words` words (5 to 16: fewer
/// or more are taken for these) and a number of two digits, all in lower-case ASCII.
///
/// [`PASSPHRASE_WORDS`] is a good number.
///
/// # Errors
///
/// If the system gives no randomness.
pub(super) fn passphrase(words: usize) -> Result<Zeroizing<String>, getrandom::Error> {
    password(words.clamp(PASSPHRASE_WORDS, WORDS_MAX), 0, Case::Lower)
}

/// How the first word begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    FirstUpper,
    Lower,
}

fn password(words: usize, min_length: usize, case: Case) -> Result<Zeroizing<String>, getrandom::Error> {
    let words_max = words.max(min_length.div_ceil(WORD_LEN_MIN + SEPARATOR.len_utf8()));
    // A string that had to grow would leave a copy behind.
    let capacity = words_max * (WORD_LEN_MAX + SEPARATOR.len_utf8()) + NUMBER_LEN;
    let mut password = Zeroizing::new(String::with_capacity(capacity));
    let mut count = 0;
    // A short word is no reason to draw again: that would make the longer ones more likely.
    while count < words || password.len() + NUMBER_LEN < min_length {
        let word = WORDS[usize::from(below(WORD_COUNT)?)];
        match word.split_at_checked(1) {
            Some((first, rest)) if count == 0 && case == Case::FirstUpper => {
                password.extend(first.chars().map(|letter| letter.to_ascii_uppercase()));
                password.push_str(rest);
            }
            _ => password.push_str(word),
        }
        password.push(SEPARATOR);
        count += 1;
    }
    let number = NUMBER_MIN + below(NUMBER_COUNT)?;
    password
        .extend([number / 10, number % 10].iter().filter_map(|digit| char::from_digit((*digit).into(), 10)));
    Ok(password)
}

/// A random number from 0 up to, but without, `bound`, each as likely as the others.
fn below(bound: u16) -> Result<u16, getrandom::Error> {
    loop {
        let mut drawn = Zeroizing::new([0; 2]);
        getrandom::fill(drawn.as_mut_slice())?;
        if let Some(number) = fair(u16::from_ne_bytes(*drawn), bound) {
            return Ok(number);
        }
    }
}

/// `drawn` modulo `bound`, unless it is among the largest numbers that make no full round of `bound`: they
/// would make small results more likely.
fn fair(drawn: u16, bound: u16) -> Option<u16> {
    let drawable = u32::from(u16::MAX) + 1;
    let full_rounds = drawable - drawable % u32::from(bound);
    (u32::from(drawn) < full_rounds).then_some(drawn % bound)
}

/// The lines of `text`. Another number of lines than [`WORD_COUNT`] is an index out of bounds or fails the
/// assertion, when this is compiled.
const fn split(text: &'static str) -> [&'static str; WORD_COUNT as usize] {
    let mut words = [""; WORD_COUNT as usize];
    let mut count = 0;
    let mut rest = text;
    let mut length = 0;
    while length < rest.len() {
        if rest.as_bytes()[length] == b'\n' {
            let (word, after) = rest.split_at(length);
            words[count] = word;
            count += 1;
            (_, rest) = after.split_at(1);
            length = 0;
        } else {
            length += 1;
        }
    }
    assert!(count == words.len() && rest.is_empty());
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{HashMap, HashSet};

    use data_encoding::HEXLOWER;
    use sha2::{Digest, Sha256};

    use super::*;

    fn words_of(password: &str) -> (Vec<String>, u16) {
        let (words, number) = password.rsplit_once('-').unwrap();
        assert_eq!(number.len(), 2, "{password}");
        (words.split('-').map(str::to_ascii_lowercase).collect(), number.parse().unwrap())
    }

    #[test]
    fn the_list_is_the_published_one() {
        assert_eq!(
            HEXLOWER.encode(&Sha256::digest(TEXT)),
            "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
        );
        assert_eq!((WORDS.first(), WORDS.last()), (Some(&"abandon"), Some(&"zoo")));
        assert!(TEXT.lines().eq(WORDS));
    }

    #[test]
    fn no_two_words_are_written_or_heard_as_one() {
        let lengths = WORDS.map(str::len);
        assert_eq!(lengths.iter().min(), Some(&WORD_LEN_MIN));
        assert_eq!(lengths.iter().max(), Some(&WORD_LEN_MAX));
        assert!(WORDS.iter().all(|word| word.bytes().all(|letter| letter.is_ascii_lowercase())));
        let beginnings: HashSet<_> = WORDS.iter().map(|word| word.split_at(word.len().min(4)).0).collect();
        assert_eq!(beginnings.len(), usize::from(WORD_COUNT));
    }

    #[test]
    fn a_link_password_has_its_form() {
        for _ in 0..500 {
            let password = link_password(LINK_WORDS, &Policy::default()).unwrap();
            let (words, number) = words_of(&password);
            assert_eq!(words.len(), LINK_WORDS, "{}", *password);
            assert!(words.iter().all(|word| WORDS.contains(&word.as_str())), "{}", *password);
            assert!((10..=99).contains(&number), "{}", *password);
            let upper: Vec<_> = password.char_indices().filter(|(_, letter)| letter.is_uppercase()).collect();
            assert!(matches!(upper[..], [(0, _)]), "{}", *password);
            assert!(password.is_ascii());
        }
    }

    #[test]
    fn a_passphrase_has_its_form() {
        for _ in 0..500 {
            let passphrase = passphrase(PASSPHRASE_WORDS).unwrap();
            let (words, number) = words_of(&passphrase);
            assert_eq!(words.len(), PASSPHRASE_WORDS);
            assert!(words.iter().all(|word| WORDS.contains(&word.as_str())));
            assert!((10..=99).contains(&number));
            assert_eq!(passphrase.to_ascii_lowercase(), *passphrase);
        }
    }

    #[test]
    fn the_number_of_words_has_bounds() {
        let count = |password: Zeroizing<String>| words_of(&password).0.len();
        for (asked, given) in [(0, 2), (2, 2), (4, 4), (16, 16), (usize::MAX, 16)] {
            assert_eq!(count(link_password(asked, &Policy::default()).unwrap()), given);
        }
        for (asked, given) in [(0, 5), (5, 5), (7, 7), (usize::MAX, 16)] {
            assert_eq!(count(passphrase(asked).unwrap()), given);
        }
    }

    #[test]
    fn there_are_enough_possibilities() {
        let possibilities = |words: usize| {
            u128::from(WORD_COUNT).pow(u32::try_from(words).unwrap()) * u128::from(NUMBER_COUNT)
        };
        assert!(possibilities(LINK_WORDS_MIN) >= 1 << 28);
        assert!(possibilities(LINK_WORDS) >= 1 << 39);
        assert!(possibilities(PASSPHRASE_WORDS) >= 1 << 61);
    }

    /// The possibilities count only if no two choices give the same text.
    #[test]
    fn a_password_tells_what_was_drawn() {
        let mut seen = HashSet::new();
        for first in WORDS {
            let upper: String = first[..1].to_uppercase() + &first[1..];
            assert!(seen.insert(upper.to_lowercase()), "{first}");
        }
        // The same word may come twice, and stays twice.
        assert_eq!(
            words_of("Maple-maple-copper-42"),
            (vec!["maple".into(), "maple".into(), "copper".into()], 42)
        );
        let drawn: HashSet<String> =
            (0..2000).map(|_| passphrase(PASSPHRASE_WORDS).unwrap().to_string()).collect();
        assert_eq!(drawn.len(), 2000);
    }

    /// Exactly: every result comes from the same number of draws.
    #[test]
    fn every_choice_is_as_likely_as_any_other() {
        for (bound, draws) in [(WORD_COUNT, 32), (NUMBER_COUNT, 728), (1, 65_536), (u16::MAX, 1)] {
            let mut counts: HashMap<u16, u32> = HashMap::new();
            for number in (0..=u16::MAX).filter_map(|drawn| fair(drawn, bound)) {
                *counts.entry(number).or_default() += 1;
            }
            assert_eq!(counts.len(), usize::from(bound));
            assert!(counts.keys().all(|number| *number < bound));
            assert!(counts.values().all(|count| *count == draws), "{bound}");
        }
    }

    /// Roughly, of what really comes out: a chi-squared test so lax that a right program hardly ever fails
    /// it.
    #[test]
    fn words_and_numbers_come_out_evenly() {
        let mut words: HashMap<String, u32> = HashMap::new();
        let mut numbers: HashMap<u16, u32> = HashMap::new();
        for _ in 0..16_384 {
            let (drawn, number) = words_of(&passphrase(PASSPHRASE_WORDS).unwrap());
            drawn.into_iter().for_each(|word| *words.entry(word).or_default() += 1);
            *numbers.entry(number).or_default() += 1;
        }
        // Each word is expected 40 times.
        assert_eq!((words.len(), numbers.len()), (usize::from(WORD_COUNT), usize::from(NUMBER_COUNT)));
        let chi_squared = |counts: Vec<u32>, kinds: f64| {
            let expected = f64::from(counts.iter().sum::<u32>()) / kinds;
            counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum::<f64>()
        };
        // Mean and standard deviation of chi-squared with n degrees of freedom: n and the root of 2 n.
        for (counts, kinds) in
            [(words.into_values().collect(), f64::from(WORD_COUNT)), (numbers.into_values().collect(), 90.0)]
        {
            let found = chi_squared(counts, kinds);
            let limit = (kinds - 1.0) + 8.0 * (2.0 * (kinds - 1.0)).sqrt();
            assert!(found < limit, "{found} is more than {limit}");
        }
    }

    #[test]
    fn the_least_length_is_met() {
        for min_length in (0..=64).chain([MIN_LENGTH_MAX]) {
            let policy = Policy::new(min_length).unwrap();
            for words in [2, LINK_WORDS, 5] {
                for _ in 0..20 {
                    let password = link_password(words, &policy).unwrap();
                    assert!(password.len() >= min_length, "{}", *password);
                    let count = words_of(&password).0.len();
                    assert!(count >= words);
                    // No more words than needed: without the last it would be too short.
                    let last = password.rsplit('-').nth(1).unwrap();
                    assert!(count == words || password.len() - last.len() - 1 < min_length, "{}", *password);
                }
            }
        }
        assert_eq!(Policy::new(129), Err(MinLengthError(129)));
    }

    #[test]
    fn no_copy_is_left_behind_by_growing() {
        for min_length in [0, 10, 64, MIN_LENGTH_MAX] {
            let password = link_password(LINK_WORDS, &Policy::new(min_length).unwrap()).unwrap();
            let words_max = LINK_WORDS.max(min_length.div_ceil(4));
            assert_eq!(password.capacity(), words_max * 9 + 2);
        }
    }
}
