//! Tests of the stand-in itself: it answers as the real servers did, and the shortcuts for other tests work.

mod behaviour;
mod compare;
mod replay;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// An answer as it came.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The header for a login.
fn basic(user: &str, password: &str) -> (String, String) {
    let both = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    ("Authorization".to_owned(), format!("Basic {both}"))
}

/// Sends a request and waits for the end of the connection; None if there was no answer.
fn send(url: &str, method: &str, target: &str, headers: &[(String, String)], body: &[u8]) -> Option<Reply> {
    let host = url.strip_prefix("http://").unwrap();
    let host = host.split('/').next().unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    connection.write_all(head.as_bytes()).unwrap();
    // A server that cuts the connection may do so before the end of the body.
    let _ = connection.write_all(body);
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Some(Reply { status, headers, body: answer[end + 4..].to_vec() })
}
