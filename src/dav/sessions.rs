//! The cookies by which the server recognises its session (RFC 6265): with them, small requests take half the time on
//! versions up to 32. They stay in memory, and belong to one login.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reqwest::header::{HeaderMap, HeaderValue, SET_COOKIE};
use zeroize::Zeroizing;

/// The most cookies that are kept: a server sets about four.
const COOKIES_MAX: usize = 16;
/// The longest cookie that is kept, bytes.
const COOKIE_LEN_MAX: usize = 4096;

/// The cookies of one login at one server.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<String, Zeroizing<String>>>);

impl Sessions {
    /// Takes what a reply sets.
    pub(super) fn learn(&self, headers: &HeaderMap) {
        let mut cookies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for header in headers.get_all(SET_COOKIE) {
            let Ok(text) = header.to_str() else { continue };
            let pair = text.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            if value.is_empty() || value == "deleted" {
                cookies.remove(name);
            } else if pair.len() <= COOKIE_LEN_MAX
                && (cookies.len() < COOKIES_MAX || cookies.contains_key(name))
            {
                cookies.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
            }
        }
    }

    /// Returns the header to send, if there is any cookie.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let cookies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={}", **value)).collect();
        if pairs.is_empty() {
            return None;
        }
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cookies_are_sent_back_until_the_server_ends_them() {
        let sessions = Sessions::default();
        assert_eq!(sessions.header(), None);
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("session=abc; path=/; secure; HttpOnly"));
        headers.append(SET_COOKIE, HeaderValue::from_static("other=1"));
        sessions.learn(&headers);
        assert_eq!(sessions.header().unwrap(), "other=1; session=abc");
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("session=deleted; Max-Age=0"));
        sessions.learn(&headers);
        assert_eq!(sessions.header().unwrap(), "other=1");
        let mut headers = HeaderMap::new();
        for number in 0..100 {
            headers.append(SET_COOKIE, HeaderValue::from_str(&format!("c{number}=1")).unwrap());
        }
        sessions.learn(&headers);
        assert_eq!(sessions.header().unwrap().to_str().unwrap().split("; ").count(), COOKIES_MAX);
    }
}
