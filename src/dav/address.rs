//! The address of a server.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use scaup_sftp::text::Line;

/// Why a text is no address of a server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// It is no URL.
    #[error("{0} is not an address such as https://cloud.example")]
    NoUrl(Line),
    /// It is not encrypted on its way.
    #[error("{0}: what is sent by http:// can be read on its way; use https://")]
    NotEncrypted(Line),
    /// It holds more than an address.
    #[error("{0}: only the server's address belongs here, without a user, a query or a fragment")]
    TooMuch(Line),
}

/// The address of a server: `https://`, or `http://` on this machine alone. It may have a path, below which the server
/// is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress(Url);

impl ServerAddress {
    /// Reads an address. Without a scheme it is `https://`. A path that only leads to a page of the server is dropped.
    ///
    /// # Errors
    ///
    /// If the text is no address, or one where what is sent could be read on its way.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let shown = || Line::of(text);
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let mut url = Url::parse(&whole).map_err(|_| AddressError::NoUrl(shown()))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err(AddressError::NotEncrypted(shown())),
            _ => return Err(AddressError::NoUrl(shown())),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::TooMuch(shown()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::TooMuch(shown()));
        }
        let path = url.path().to_owned();
        let path = ["/index.php", "/remote.php", "/login", "/apps"]
            .iter()
            .filter_map(|page| {
                path.find(&format!("{page}/")).or_else(|| path.ends_with(page).then(|| path.rfind(page))?)
            })
            .min()
            .and_then(|end| path.get(..end))
            .unwrap_or(&path)
            .trim_end_matches('/')
            .to_owned();
        url.set_path(&format!("{path}/"));
        Ok(Self(url))
    }

    /// Returns the URL of a path below the address, which is percent-encoded already and may have a query.
    pub(crate) fn at(&self, path: &str) -> Result<Url, AddressError> {
        let whole = format!("{}{}", self.0, path.trim_start_matches('/'));
        Url::parse(&whole).map_err(|_| AddressError::NoUrl(Line::of(path)))
    }

    /// Returns whether a URL leads to this server, by the same way.
    #[must_use]
    pub fn includes(&self, url: &Url) -> bool {
        self.0.scheme() == url.scheme()
            && self.0.host() == url.host()
            && self.0.port_or_known_default() == url.port_or_known_default()
    }

    /// Returns a URL of this host with the scheme and port by which the server is reached: behind a proxy, many do not
    /// know these. `None` if the host is another one.
    #[must_use]
    pub fn corrected(&self, url: &Url) -> Option<Url> {
        if url.host() != self.0.host() {
            return None;
        }
        let mut corrected = self.0.clone();
        corrected.set_path(url.path());
        corrected.set_query(url.query());
        Some(corrected)
    }

    /// Returns the server's host, with its port where that is not the usual one.
    #[must_use]
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns whether it is reached without encryption, on this machine.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_encrypted_or_on_this_machine() {
        let shown = |text: &str| ServerAddress::parse(text).map(|address| address.to_string());
        assert_eq!(shown("cloud.example").unwrap(), "https://cloud.example");
        assert_eq!(shown("https://cloud.example/").unwrap(), "https://cloud.example");
        assert_eq!(shown("https://h.example/nextcloud").unwrap(), "https://h.example/nextcloud");
        assert_eq!(
            shown("https://h.example/nextcloud/index.php/login").unwrap(),
            "https://h.example/nextcloud"
        );
        assert_eq!(shown("https://h.example/apps/files/").unwrap(), "https://h.example");
        assert_eq!(shown("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(shown("http://[::1]:8080").unwrap(), "http://[::1]:8080");
        assert!(matches!(shown("http://cloud.example"), Err(AddressError::NotEncrypted(_))));
        assert!(matches!(shown("http://127.0.0.1.evil.example"), Err(AddressError::NotEncrypted(_))));
        assert!(matches!(shown("https://alice:secret@h.example"), Err(AddressError::TooMuch(_))));
        assert!(matches!(shown("https://h.example/?a=b"), Err(AddressError::TooMuch(_))));
        assert!(matches!(shown("ftp://h.example"), Err(AddressError::NoUrl(_))));
        assert!(matches!(shown(""), Err(AddressError::NoUrl(_))));
    }

    #[test]
    fn another_host_scheme_or_port_is_another_server() {
        let address = ServerAddress::parse("https://cloud.example/nc").unwrap();
        let is_here = |url: &str| address.includes(&Url::parse(url).unwrap());
        assert!(is_here("https://cloud.example/s/abc") && is_here("https://cloud.example:443/"));
        assert!(!is_here("http://cloud.example/") && !is_here("https://cloud.example:8443/"));
        assert!(!is_here("https://cloud.example.evil/"));
    }
}
