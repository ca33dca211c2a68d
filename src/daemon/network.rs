//! Changes of this machine's addresses and routes, as reported by the kernel (rtnetlink(7)): no bus and no network
//! manager is needed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::unix::AsyncFd;

/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR` and `RTMGRP_IPV6_ROUTE`. Links are left out: a link
/// that comes up is of no use before its first address, and wireless ones report every scan.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// A network comes and goes in bursts of changes: changes within this time count as one.
const SETTLE: Duration = Duration::from_millis(500);

/// The kernel's messages about addresses and routes.
pub(super) struct NetworkChanges(AsyncFd<OwnedFd>);

impl NetworkChanges {
    /// Listens for changes from now on.
    ///
    /// # Errors
    ///
    /// If the kernel offers no such socket, as in some sandboxes.
    #[allow(unsafe_code)]
    pub(super) fn listen() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        // SAFETY: the descriptor is owned, stays the same one, and is closed only after it is registered no more.
        Ok(Self(unsafe { AsyncFd::register(socket) }?))
    }

    /// Waits for the next change, and a little longer for the rest of its burst.
    ///
    /// # Errors
    ///
    /// If the socket breaks.
    pub(super) async fn next(&self) -> io::Result<()> {
        self.heard().await?;
        tokio::time::sleep(SETTLE).await;
        match take_all(self.0.get_ref()) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    async fn heard(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(taken) = ready.try_io(|socket| take_all(socket.get_ref())) {
                return taken;
            }
        }
    }
}

/// Takes all messages that wait; `WouldBlock` if there is none. Their content does not matter: the groups are chosen so
/// that each message is a change.
fn take_all(socket: impl AsFd) -> io::Result<()> {
    let mut message = [0; 16];
    let mut taken = false;
    loop {
        // The rest of a longer message is discarded with it.
        match recv(&socket, &mut message, RecvFlags::TRUNC) {
            // There were more changes than the kernel could queue.
            Ok(_) | Err(rustix::io::Errno::NOBUFS) => taken = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if taken => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
