//! A vault's recovery key: its masterkey as 44 words, which open the vault without its masterkey file and password.
//!
//! The 64 bytes of the masterkey and two of a checksum are cut into 44 pieces of 12 bits, and each piece is the number
//! of a word in Cryptomator's list of 4,096. The checksum is the low half of the CRC-32 of the 64 bytes, its lowest
//! byte first. The list comes with the Python package `pycryptomator` 1.15; its licence is in
//! `recovery_words.LICENSE`.

use std::fmt;

use zeroize::Zeroizing;

use crate::Masterkey;
use crate::masterkey::{KEY_LEN, LockedKeys};
use crate::stack::wiped_after;

/// Words of a recovery key.
const WORD_COUNT: usize = 44;
/// Bits of each.
const WORD_BITS: u32 = 12;
/// Bytes of the masterkey.
const KEYS_LEN: usize = 2 * KEY_LEN;
/// Bytes that the words hold: the masterkey and its checksum.
const ENCODED_LEN: usize = KEYS_LEN + 2;
/// Letters of the longest word of the list.
const WORD_LEN_MAX: usize = 9;

/// The list, one word a line.
const LIST: &str = include_str!("recovery_words.txt");

/// Most words that are named as similar to an unknown one.
const SIMILAR_MAX: usize = 3;
/// Most letters in which a similar word differs: left out, put in, exchanged, or swapped with the next.
const SIMILAR_DISTANCE_MAX: usize = 2;

/// Why a text is no recovery key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// A word is not in the list.
    #[error("word {place} is not one of a recovery key's{}", Similar(.similar))]
    UnknownWord {
        /// Its place, from 1.
        place: usize,
        /// Words of the list that it may be meant to be.
        similar: Vec<&'static str>,
    },
    /// There are more or fewer than 44 words.
    #[error("it has {0} words, and a recovery key has {WORD_COUNT}")]
    WordCount(usize),
    /// The checksum is wrong.
    #[error("all its words are known, but one is wrong, or two are swapped")]
    Checksum,
}

struct Similar<'a>(&'a [&'static str]);

impl fmt::Display for Similar<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            words => write!(formatter, "; similar: {}", words.join(", ")),
        }
    }
}

impl Masterkey {
    /// Returns the recovery key: 44 words in lower case, with one space between them.
    #[must_use]
    pub fn recovery_key(&self) -> Zeroizing<String> {
        wiped_after(|| encode(self.raw()))
    }

    /// Reads a recovery key. White space, digits and punctuation may stand between words in any number, and letters may
    /// be of either case.
    ///
    /// # Errors
    ///
    /// If the text can't be a recovery key. Whether it is that of a vault, only the vault can tell.
    pub fn from_recovery_key(text: &str) -> Result<Self, RecoveryKeyError> {
        wiped_after(|| decode(text))
    }
}

fn list() -> Vec<&'static str> {
    LIST.lines().collect()
}

fn encode(keys: &[u8]) -> Zeroizing<String> {
    let list = list();
    let checksum = checksum(keys);
    // A string that had to grow would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(WORD_COUNT * (WORD_LEN_MAX + 1)));
    let mut bytes = keys.iter().copied().chain(checksum);
    while let (Some(a), Some(b), Some(c)) = (bytes.next(), bytes.next(), bytes.next()) {
        let group = u32::from_be_bytes([0, a, b, c]);
        for number in [group >> WORD_BITS, group & ((1 << WORD_BITS) - 1)] {
            if !text.is_empty() {
                text.push(' ');
            }
            let word = usize::try_from(number).ok().and_then(|number| list.get(number));
            text.push_str(word.unwrap_or_else(|| unreachable!("the list has a word for all 12 bits")));
        }
    }
    text
}

fn decode(text: &str) -> Result<Masterkey, RecoveryKeyError> {
    let list = list();
    let mut numbers = Zeroizing::new([0_u32; WORD_COUNT]);
    let mut count = 0;
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        let found = list.iter().zip(0..).find(|(listed, _)| listed.eq_ignore_ascii_case(word));
        let (_, number) = found.ok_or_else(|| RecoveryKeyError::UnknownWord {
            place: count + 1,
            similar: similar_to(word, &list),
        })?;
        if let Some(place) = numbers.get_mut(count) {
            *place = number;
        }
        count += 1;
    }
    if count != WORD_COUNT {
        return Err(RecoveryKeyError::WordCount(count));
    }
    let mut bytes = Zeroizing::new([0; ENCODED_LEN]);
    let (pairs, _) = numbers.as_chunks::<2>();
    let (groups, _) = bytes.as_chunks_mut::<3>();
    for ([first, second], group) in pairs.iter().zip(groups) {
        let [_, a, b, c] = (first << WORD_BITS | second).to_be_bytes();
        *group = [a, b, c];
    }
    let (raw, written) = bytes.split_at(KEYS_LEN);
    if checksum(raw) != *written {
        return Err(RecoveryKeyError::Checksum);
    }
    let mut keys = LockedKeys::zeros();
    keys.as_flattened_mut().copy_from_slice(raw);
    Ok(Masterkey::from_keys(keys))
}

/// The low half of the CRC-32 (IEEE 802.3), its lowest byte first.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut crc = !0_u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
        }
    }
    let [low, high, ..] = (!crc).to_le_bytes();
    [low, high]
}

/// Returns the words of the list that are the most similar to `word`, which may be meant to be one of them.
fn similar_to(word: &str, list: &[&'static str]) -> Vec<&'static str> {
    if word.len() > WORD_LEN_MAX + SIMILAR_DISTANCE_MAX {
        return Vec::new();
    }
    let word = Zeroizing::new(word.to_lowercase());
    let distances: Vec<_> =
        list.iter().map(|&listed| (strsim::osa_distance(&word, listed), listed)).collect();
    let least = distances.iter().map(|(distance, _)| *distance).min().unwrap_or_default();
    let similar = distances.into_iter().filter(|(distance, _)| *distance == least);
    similar.filter(|_| least <= SIMILAR_DISTANCE_MAX).take(SIMILAR_MAX).map(|(_, listed)| listed).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use data_encoding::HEXLOWER;
    use sha2::{Digest, Sha256};

    use super::*;

    const DESKTOP_KEY: &str = "pathway lift abuse plenty export texture gentleman landscape beyond ceiling around leaf \
        cafe charity border breakdown victory surely computer cat linger restrict infer crowd live computer true \
        written amazed investor boot depth left theory snow whereby terminal weekly reject happiness circuit partial \
        cup ad";

    fn masterkey(raw: &[u8]) -> Masterkey {
        let mut keys = LockedKeys::zeros();
        keys.as_flattened_mut().copy_from_slice(raw);
        Masterkey::from_keys(keys)
    }

    fn refused(text: &str) -> RecoveryKeyError {
        Masterkey::from_recovery_key(text).unwrap_err()
    }

    #[test]
    fn the_list_is_that_of_cryptomator() {
        let hash = HEXLOWER.encode(&Sha256::digest(LIST));
        assert_eq!(hash, "a66b733e516289fbe2a0f9382d450965edf4c9657a596035d34d1ae8a01ce175");
        assert_eq!(list().len(), 1 << WORD_BITS);
        assert_eq!(list().iter().map(|word| word.len()).max(), Some(WORD_LEN_MAX));
    }

    #[test]
    fn keys_are_written_as_others_write_them_and_read_again() {
        let repeated = |word: &str, count| vec![word; count].join(" ");
        let desktop = "bb01e256b7836e6bf8ecaee867397065b1dc12a976676f5badb805c4a03b8b9e\
            295d53e81e8c4a2b9af3652dd51213f11de810282c1ae4c9387a9eceb18bad03";
        let counted = "ad back bin enter gym gentle own intense van resident sin oh boot dumb debt stake flag tenure hers \
            worship life similarly nail open pray thick shoe visual tend counter warn scenario cave cash jury grass shed \
            league allow obvious build transfer dream normally";
        let vectors: [(Vec<u8>, String); 5] = [
            (HEXLOWER.decode(desktop.as_bytes()).unwrap(), DESKTOP_KEY.to_owned()),
            (
                [[0x55; 32], [0x77; 32]].concat(),
                format!("{} asset {} option twist", repeated("water", 21), repeated("partly", 20)),
            ),
            ((0..64).collect(), counted.to_owned()),
            (vec![0; 64], format!("{} at assume", repeated("ad", 42))),
            (vec![0xff; 64], format!("{} reluctant release", repeated("residence", 42))),
        ];
        for (raw, words) in vectors {
            assert_eq!(*masterkey(&raw).recovery_key(), words);
            assert_eq!(Masterkey::from_recovery_key(&words).unwrap().raw(), raw, "{words}");
        }
    }

    #[test]
    fn a_key_is_read_as_people_write_it() {
        let raw = Masterkey::from_recovery_key(DESKTOP_KEY).unwrap();
        let words: Vec<&str> = DESKTOP_KEY.split(' ').collect();
        let columns: String =
            (1..).zip(&words).map(|(place, word)| format!("{place:>2}. {word}\t\r\n")).collect();
        for text in
            [columns, words.join(", ").to_uppercase(), format!("\u{a0}\"{}\".\n", words.join("\u{2003}"))]
        {
            assert_eq!(Masterkey::from_recovery_key(&text).unwrap().raw(), raw.raw(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_told() {
        let misspelt = refused(&DESKTOP_KEY.replace("plenty", "plnety"));
        assert_eq!(misspelt, RecoveryKeyError::UnknownWord { place: 4, similar: vec!["plenty"] });
        assert_eq!(misspelt.to_string(), "word 4 is not one of a recovery key's; similar: plenty");
        let unknown = |place| RecoveryKeyError::UnknownWord { place, similar: Vec::new() };
        for german in ["Bitte entschlüsseln", "Donaudampfschifffahrt Kapitän"] {
            assert!(matches!(refused(german), RecoveryKeyError::UnknownWord { place: 1, .. }), "{german}");
        }
        assert_eq!(refused(&DESKTOP_KEY.replace("cup", "Donaudampfschifffahrt")), unknown(43));

        assert_eq!(refused(""), RecoveryKeyError::WordCount(0));
        assert_eq!(refused("pathway"), RecoveryKeyError::WordCount(1));
        assert_eq!(refused("pathway lift"), RecoveryKeyError::WordCount(2));
        assert_eq!(refused(&format!("{DESKTOP_KEY} ad")), RecoveryKeyError::WordCount(45));

        let wrong = DESKTOP_KEY.strip_suffix("ad").unwrap().to_owned() + "wrong";
        assert_eq!(refused(&wrong), RecoveryKeyError::Checksum);
        assert_eq!(refused(&DESKTOP_KEY.replace("lift abuse", "abuse lift")), RecoveryKeyError::Checksum);
    }
}
