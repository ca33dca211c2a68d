//! Makes one-time codes (RFC 6238) out of what the user wants remembered.

use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use totp_rs::Totp;
use zeroize::Zeroizing;

/// How many digits codes have.
const DIGITS: RangeInclusive<u64> = 6..=8;
/// How long one is valid, seconds.
const PERIOD: RangeInclusive<u64> = 1..=3600;

/// Why no code can be made.
#[derive(Debug, thiserror::Error)]
pub enum CodeMakerError {
    /// The address is not of the form that authenticators read.
    #[error("this is neither an otpauth://totp/ address nor a secret in Base32: {0}")]
    NoAddress(#[source] totp_rs::TotpError),
    /// Its secret is empty.
    #[error("there is no secret")]
    NoSecret,
    /// It asks for codes that no server takes.
    #[error("{0} has to be from {min} to {max}", min = .1.start(), max = .1.end())]
    OutOfRange(&'static str, RangeInclusive<u64>),
    /// The system's clock is before 1970.
    #[error("the clock of this computer is wrong")]
    Clock,
}

/// Makes the codes of one account.
pub struct CodeMaker(Totp);

impl CodeMaker {
    /// Reads an `otpauth://totp/` address, or a secret in Base32 as servers show it beside the picture.
    ///
    /// # Errors
    ///
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self, CodeMakerError> {
        let address = address(text);
        let query = address.split_once('?').map_or("", |(_, query)| query);
        let value = |key| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        if value("secret") == Some("") {
            return Err(CodeMakerError::NoSecret);
        }
        for (key, range) in [("digits", DIGITS), ("period", PERIOD)] {
            let given: Option<u64> = value(key).and_then(|value| value.parse().ok());
            if given.is_some_and(|given| !range.contains(&given)) {
                return Err(CodeMakerError::OutOfRange(key, range));
            }
        }
        // Many servers give shorter secrets than the RFC wants.
        Totp::from_url_unchecked(address.as_str()).map(Self).map_err(CodeMakerError::NoAddress)
    }

    /// Returns the code of this moment.
    pub(super) fn code(&self) -> Result<Zeroizing<String>, CodeMakerError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| CodeMakerError::Clock)?;
        Ok(Zeroizing::new(self.0.generate(now.as_secs()).to_string()))
    }
}

/// Returns the address of a secret, or the address itself.
fn address(text: &str) -> Zeroizing<String> {
    let text = text.trim();
    Zeroizing::new(if text.contains(':') {
        text.to_owned()
    } else {
        let secret: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        format!("otpauth://totp/Scaup?secret={}", Zeroizing::new(secret).to_ascii_uppercase())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The secret and one code of RFC 6238, appendix B.
    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn at(text: &str, time: u64) -> String {
        CodeMaker::parse(text).unwrap().0.generate(time).to_string()
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        let eight =
            format!("otpauth://totp/HQ:alice?secret={SECRET}&issuer=HQ&digits=8&algorithm=SHA1&period=30");
        assert_eq!(at(&eight, 59), "94287082");
        assert_eq!(at(SECRET, 59), "287082");
        assert_eq!(at("gezd gnbv gy3t qojq gezd gnbv gy3t qojq", 59), "287082");
    }

    #[test]
    fn what_makes_no_codes_is_refused() {
        for text in [
            "",
            "not base 32!",
            "otpauth://hotp/a?secret=GEZDGNBVGY3TQOJQ",
            "https://hq.example/",
            "otpauth://totp/a",
            "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ&digits=12",
            "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ&period=0",
        ] {
            assert!(CodeMaker::parse(text).is_err(), "{text}");
        }
    }
}
