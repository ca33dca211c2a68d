//! A road between a program and a server that a test can make long, narrow or break: a TCP proxy on loopback.
//!
//! Each connection has a thread of its own ([`connection`]); what the test sets holds for all of them from then on.
//! What the proxy can't imitate: a handshake takes no time whatever the delay, and while the road is frozen the kernel
//! still takes new connections (nothing passes on them).

mod connection;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, listen, shutdown, socket_with};
use socket2::{SockFilter, SockRef};

/// The longest segment that clients send, bytes: what fits one Ethernet frame. Loopback's segments of 64 KiB fit into
/// no window of a narrow line, and each would wait for the kernel's next probe of that window.
const SEGMENT: u32 = 1448;

/// Connections that the kernel holds until the proxy takes them.
const BACKLOG: i32 = 128;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// What the road is like at a moment.
#[derive(Debug, Clone)]
struct Road {
    server: (String, u16),
    /// One way.
    delay: Duration,
    /// Bytes per second, by direction.
    rate: [Option<u64>; 2],
    /// When the line has room again, by direction.
    free_at: [Instant; 2],
    /// Bytes until everything is reset, by direction.
    reset_after: [Option<u64>; 2],
    /// Segments to the proxy that are longer vanish, bytes with their TCP headers.
    swallow: Option<u32>,
    /// How long a side must say nothing before what it said passes.
    lockstep: Option<Duration>,
    frozen: bool,
    refusing: bool,
    /// How often all connections were reset: one that began before the last time ends.
    cuts: u64,
    over: bool,
    /// The connections that stand, and what wakes their threads.
    live: HashMap<u64, Arc<OwnedFd>>,
}

struct Shared {
    road: Mutex<Road>,
    a_connection_ended: Condvar,
    passed: [AtomicU64; 2],
    connections: AtomicU64,
    round_trips: AtomicU64,
    listener: TcpListener,
    /// Wakes the thread that takes connections.
    wake: OwnedFd,
}

/// A proxy on loopback. Dropping it resets all its connections and ends its threads.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// Quiet enough for [`Self::lockstep`] on a machine that is not overloaded.
    pub const QUIET: Duration = Duration::from_millis(15);

    /// Starts one that leads to `port` of `host`: short, wide and sound at first.
    #[must_use]
    pub fn start(host: &str, port: u16) -> Self {
        let listener = bind();
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let own_port = listener.local_addr().expect("a bound socket has an address").port();
        let now = Instant::now();
        let shared = Arc::new(Shared {
            road: Mutex::new(Road {
                server: (host.to_owned(), port),
                delay: Duration::ZERO,
                rate: [None; 2],
                free_at: [now; 2],
                reset_after: [None; 2],
                swallow: None,
                lockstep: None,
                frozen: false,
                refusing: false,
                cuts: 0,
                over: false,
                live: HashMap::new(),
            }),
            a_connection_ended: Condvar::new(),
            passed: [AtomicU64::new(0), AtomicU64::new(0)],
            connections: AtomicU64::new(0),
            round_trips: AtomicU64::new(0),
            listener,
            wake: waker(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || take_connections(&shared)
        });
        Self { shared, port: own_port, acceptor: Some(acceptor) }
    }

    /// Always `127.0.0.1`.
    #[must_use]
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on, the same for its whole life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Each byte arrives this much later, in either direction: the round trip time is twice that. How many bytes pass
    /// in a second is not touched, apart from a bound of 64 MiB under way.
    pub fn delay(&self, one_way: Duration) {
        self.shared.change(|road| road.delay = one_way);
    }

    /// How many bytes per second pass in a direction, all connections together; `None`: as many as the machine can.
    ///
    /// Before the narrow place stands a queue of 50 ms, as in a router.
    pub fn rate(&self, direction: Direction, bytes_per_second: Option<u64>) {
        self.shared.change(|road| road.rate[direction as usize] = bytes_per_second.map(|rate| rate.max(1)));
    }

    /// From now on what the client sends in segments of more than `longest` bytes vanishes, on connections that stand
    /// and on those that come: a tunnel on the way, and nobody who says so. Loopback has to have the packets of a
    /// network ([`crate::packets_of_a_network`]).
    pub fn swallow(&self, longest: u32) {
        self.shared.change(|road| road.swallow = Some(longest));
        swallow(&self.shared.listener, longest);
    }

    /// From now on nothing passes, and nobody is told: a cable pulled out, a sleeping machine.
    pub fn freeze(&self) {
        self.shared.change(|road| road.frozen = true);
    }

    /// All goes on after [`Self::freeze`], with what was held back, as after TCP has repeated it.
    pub fn thaw(&self) {
        self.shared.change(|road| road.frozen = false);
    }

    /// Resets (RST) all connections at both ends, and returns when that is done. New ones are taken.
    pub fn cut(&self) {
        let mut road = self.shared.lock();
        road.cuts += 1;
        road.wake_all();
        let cut: Vec<u64> = road.live.keys().copied().collect();
        while cut.iter().any(|number| road.live.contains_key(number)) {
            road = self.shared.a_connection_ended.wait(road).expect("no connection's thread panics");
        }
    }

    /// Refuses new connections as a machine does on which nobody listens. Those that stand go on.
    pub fn refuse(&self) {
        self.shared.change(|road| {
            road.refusing = true;
            // The port stays taken: a socket that was bound by number keeps it while it does not listen (Linux).
            shutdown(&self.shared.listener, Shutdown::Both).expect("a listener can be shut down");
            share(&self.shared.listener, false);
        });
    }

    /// Takes new connections again after [`Self::refuse`].
    pub fn accept(&self) {
        self.shared.change(|road| {
            share(&self.shared.listener, true);
            listen(&self.shared.listener, BACKLOG).expect("the port is still taken by this proxy");
            road.refusing = false;
        });
    }

    /// Resets all connections as soon as `bytes` more have passed in `direction`, counted over all connections from now
    /// on: these arrive, and no byte more.
    pub fn reset_after(&self, direction: Direction, bytes: u64) {
        if bytes == 0 {
            self.cut();
        } else {
            self.shared.change(|road| road.reset_after[direction as usize] = Some(bytes));
        }
    }

    /// Takes back [`Self::reset_after`] that did not come to pass yet.
    pub fn reset_never(&self) {
        self.shared.change(|road| road.reset_after = [None; 2]);
    }

    /// Leads the connections that come from now on to another server.
    pub fn redirect(&self, host: &str, port: u16) {
        self.shared.change(|road| road.server = (host.to_owned(), port));
    }

    /// Makes both sides take turns, which counts the round trips that the client waits for, independent of how long
    /// each takes; `None` ends it.
    ///
    /// What the client sends is held until it has said nothing for `quiet`, and then passes in one piece; so does what
    /// the server replies. One such exchange is one round trip ([`Self::round_trips`]): a burst of independent requests
    /// counts once, requests that wait for each other's replies count each.
    ///
    /// Limits: a client that pauses for longer than `quiet` between requests that don't depend on each other has them
    /// counted apart, so `quiet` must be longer than the program's and the machine's own pauses. Not only what is of
    /// interest counts: so do the login, keepalives that ask for a reply, and waits for a full window. A server that
    /// says nothing holds the client up, but after eight times `quiet` what the client sends passes nevertheless
    /// and belongs to the same round trip. Connections take turns each for itself.
    pub fn lockstep(&self, quiet: Option<Duration>) {
        self.shared.change(|road| road.lockstep = quiet);
    }

    /// Round trips counted so far in [`Self::lockstep`].
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.shared.round_trips.load(Ordering::SeqCst)
    }

    /// Bytes that have passed in a direction so far.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.passed[direction as usize].load(Ordering::SeqCst)
    }

    /// Connections taken so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that stand now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.lock().live.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|road| road.over = true);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let mut road = self.shared.lock();
        while !road.live.is_empty() {
            road = self.shared.a_connection_ended.wait(road).expect("no connection's thread panics");
        }
    }
}

impl Road {
    fn wake_all(&self) {
        self.live.values().for_each(|thread| wake(thread));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Road> {
        self.road.lock().expect("no thread panics while it holds the road")
    }

    /// Changes the road, and has all threads look at it.
    fn change(&self, change: impl FnOnce(&mut Road)) {
        let mut road = self.lock();
        change(&mut road);
        road.wake_all();
        wake(&self.wake);
    }
}

/// Whether the port may be shared (`SO_REUSEADDR`): with one's own connections that stand from before, so as to listen
/// again; but not with who takes it while this socket does not listen.
fn share(listener: &impl AsFd, may: bool) {
    set_socket_reuseaddr(listener, may).expect("a socket can be told");
}

/// Has the kernel drop segments of more than `longest` bytes before TCP sees them (socket(7), `SO_ATTACH_FILTER`). What
/// a listener accepts inherits that.
fn swallow(socket: &impl AsFd, longest: u32) {
    const LOAD_LENGTH: u16 = 0x80;
    const SKIP_UNLESS_GREATER: u16 = 0x25;
    const TAKE: u16 = 0x06;
    let filter = [
        SockFilter::new(LOAD_LENGTH, 0, 0, 0),
        SockFilter::new(SKIP_UNLESS_GREATER, 0, 1, longest),
        SockFilter::new(TAKE, 0, 0, 0),
        SockFilter::new(TAKE, 0, 0, u32::MAX),
    ];
    SockRef::from(socket).attach_filter(&filter).expect("a socket can be filtered");
}

/// Listens on a free port that stays taken in [`Proxy::refuse`]: it is asked for by its number.
fn bind() -> TcpListener {
    for _ in 0..100 {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = free.local_addr().expect("a bound socket has an address");
        drop(free);
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket can be made");
        if rustix::net::bind(&socket, &address).is_ok() && listen(&socket, BACKLOG).is_ok() {
            share(&socket, true);
            SockRef::from(&socket).set_tcp_mss(SEGMENT).expect("a socket can be told the longest segment");
            return socket.into();
        }
    }
    panic!("no port on loopback stays free");
}

fn take_connections(shared: &Arc<Shared>) {
    loop {
        let (over, refusing) = {
            let road = shared.lock();
            (road.over, road.refusing)
        };
        if over {
            return;
        }
        // A listener that was shut down would be reported again and again.
        let listener = if refusing { PollFlags::empty() } else { PollFlags::IN };
        let mut ready = [PollFd::new(&shared.wake, PollFlags::IN), PollFd::new(&shared.listener, listener)];
        let watched = if refusing { &mut ready[..1] } else { &mut ready[..] };
        poll(watched, None).expect("the proxy can wait");
        slept(&shared.wake);
        // Nobody there, or no longer listening: both are looked at again.
        if let Ok((client, _)) = shared.listener.accept() {
            take(shared, client);
        }
    }
}

fn take(shared: &Arc<Shared>, client: TcpStream) {
    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
    let waker = Arc::new(waker());
    let (cuts, server) = {
        let mut road = shared.lock();
        road.live.insert(number, Arc::clone(&waker));
        (road.cuts, road.server.clone())
    };
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let _standing = Standing { shared: &shared, number };
        connection::run(&shared, client, &server, &waker, cuts);
    });
}

/// A connection that stands. It is taken off the list whatever ends its thread.
struct Standing<'proxy> {
    shared: &'proxy Shared,
    number: u64,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.shared.lock().live.remove(&self.number);
        self.shared.a_connection_ended.notify_all();
    }
}

fn waker() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd can be made")
}

fn wake(waker: &OwnedFd) {
    rustix::io::write(waker, &1_u64.to_ne_bytes()).expect("an eventfd takes a wake-up");
}

/// Forgets wake-ups that have been heard.
fn slept(waker: &OwnedFd) {
    let _ = rustix::io::read(waker, &mut [0_u8; 8]);
}
