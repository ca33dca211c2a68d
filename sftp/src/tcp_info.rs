//! The system's figures for a connection (tcp(7), `TCP_INFO`).

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::Socket;

/// The kernel's `struct tcp_info` (linux/tcp.h), which grows at its end: the C library's version is older.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpInfo {
    bytes: [u8; Self::SIZE],
    /// How many bytes the kernel filled in.
    length: usize,
}

impl TcpInfo {
    const SIZE: usize = 256;
    /// `tcpi_retransmits`, one byte.
    const RETRANSMITS: usize = 2;
    const SND_MSS: usize = 16;
    const UNACKED: usize = 24;
    const TOTAL_RETRANS: usize = 100;
    const BYTES_ACKED: usize = 120;
    const MIN_RTT: usize = 148;

    #[allow(unsafe_code)]
    pub(crate) fn of(socket: &Socket) -> Option<Self> {
        let mut bytes = [0_u8; Self::SIZE];
        let mut length = libc::socklen_t::try_from(bytes.len()).ok()?;
        // SAFETY: the kernel writes at most `length` bytes, which is how many there are, and the descriptor is open.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast::<c_void>(),
                &raw mut length,
            )
        };
        (result == 0).then_some(Self { bytes, length: length as usize })
    }

    /// Returns a field of 32 bits; `None` if this kernel has none.
    fn word(&self, at: usize) -> Option<u32> {
        let field = self.bytes.get(..self.length)?.get(at..at + 4)?;
        Some(u32::from_ne_bytes(field.try_into().ok()?))
    }

    fn long(&self, at: usize) -> Option<u64> {
        let field = self.bytes.get(..self.length)?.get(at..at + 8)?;
        Some(u64::from_ne_bytes(field.try_into().ok()?))
    }

    /// Returns the longest segment that is sent, bytes.
    pub(crate) fn segment(&self) -> u32 {
        self.word(Self::SND_MSS).unwrap_or_default()
    }

    /// Returns how many segments are sent and not acknowledged.
    pub(crate) fn under_way(&self) -> u32 {
        self.word(Self::UNACKED).unwrap_or_default()
    }

    /// Returns how often the oldest of these was sent again.
    pub(crate) fn sent_again_now(&self) -> u8 {
        self.bytes.get(Self::RETRANSMITS).copied().unwrap_or_default()
    }

    /// Returns how many segments were sent again in all.
    pub(crate) fn sent_again(&self) -> u32 {
        self.word(Self::TOTAL_RETRANS).unwrap_or_default()
    }

    /// Returns how many bytes are acknowledged in all.
    pub(crate) fn bytes_acknowledged(&self) -> Option<u64> {
        self.long(Self::BYTES_ACKED)
    }

    /// Returns the figures of a connection on which something is not acknowledged.
    #[cfg(test)]
    pub(crate) fn of_stall(acknowledged: u64, sent_again_now: u8, sent_again: u32) -> Self {
        let mut bytes = [0; Self::SIZE];
        bytes[Self::RETRANSMITS] = sent_again_now;
        bytes[Self::TOTAL_RETRANS..][..4].copy_from_slice(&sent_again.to_ne_bytes());
        bytes[Self::BYTES_ACKED..][..8].copy_from_slice(&acknowledged.to_ne_bytes());
        Self { bytes, length: Self::SIZE }
    }

    /// Returns the shortest recent round trip.
    pub(crate) fn round_trip_min(&self) -> Option<Duration> {
        // The kernel's value for none yet.
        let microseconds = self.word(Self::MIN_RTT).filter(|&time| time != u32::MAX)?;
        Some(Duration::from_micros(u64::from(microseconds)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_the_round_trip_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        here.write_all(b"x").unwrap();
        there.read_exact(&mut [0]).unwrap();
        let socket = socket2::SockRef::from(&here).try_clone().unwrap();
        let round_trip = TcpInfo::of(&socket).unwrap().round_trip_min().unwrap();
        assert!(round_trip < Duration::from_millis(500), "{round_trip:?}");
        let info = TcpInfo::of(&socket).unwrap();
        assert_eq!((info.under_way(), info.sent_again(), info.sent_again_now()), (0, 0, 0));
        assert!(info.segment() > 500 && info.bytes_acknowledged().unwrap() >= 1, "{info:?}");
    }
}
