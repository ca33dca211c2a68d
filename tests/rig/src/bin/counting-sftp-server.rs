//! Stands before OpenSSH's `sftp-server` and counts the requests, for the benchmarks: `counting-sftp-server DIRECTORY`,
//! as sshd's `Subsystem sftp`.
//!
//! The number so far stands in a file of its own in the directory, 8 bytes, little-endian. Answers go past it, straight
//! to sshd.

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// Bytes passed on at a time, at most.
const READ_MAX: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: counting-sftp-server DIRECTORY")?;
    let count = File::create(Path::new(&directory).join(std::process::id().to_string()))?;
    let mut server = Command::new(SFTP_SERVER).stdin(Stdio::piped()).spawn()?;
    let mut requests = server.stdin.take().ok_or("sftp-server has no standard input")?;
    let mut counter = Counter::default();
    let mut buffer = vec![0; READ_MAX];
    loop {
        let length = std::io::stdin().read(&mut buffer)?;
        if length == 0 {
            break;
        }
        counter.note(&buffer[..length]);
        count.write_all_at(&counter.requests.to_le_bytes(), 0)?;
        requests.write_all(&buffer[..length])?;
    }
    drop(requests);
    server.wait()?;
    Ok(())
}

/// Finds where requests begin in a stream: each is its length, 4 bytes, and so many bytes more
/// (draft-ietf-secsh-filexfer-02, section 3).
#[derive(Default)]
struct Counter {
    requests: u64,
    /// What has come of a length.
    length: Vec<u8>,
    /// Bytes of the request that are still to come.
    rest: usize,
}

impl Counter {
    fn note(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let missing = (4 - self.length.len()).min(bytes.len());
            if self.rest == 0 {
                self.length.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                if let Ok(length) = <[u8; 4]>::try_from(self.length.as_slice()) {
                    self.rest = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                    self.length.clear();
                    self.requests += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn requests_are_counted_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for length in [1_u32, 5, 300, 17] {
            stream.extend_from_slice(&length.to_be_bytes());
            stream.extend(std::iter::repeat_n(0xff, length as usize));
        }
        for piece in 1..stream.len() {
            let mut counter = Counter::default();
            stream.chunks(piece).for_each(|bytes| counter.note(bytes));
            assert_eq!(counter.requests, 4, "in pieces of {piece}");
        }
    }
}
