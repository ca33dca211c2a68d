//! One connection through the proxy: both directions on one thread.
//!
//! A byte walks: socket, (held until its side is quiet), queue until it is due, socket.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};

use super::{Direction, SEGMENT, Shared, slept};

/// Bytes read at a time, at most.
const READ_MAX: usize = 256 * 1024;
/// Bytes under way in one direction, at most.
const QUEUE_MAX: usize = 64 * 1024 * 1024;
/// What a narrow line may catch up after its thread woke late.
const CREDIT: Duration = Duration::from_millis(5);
/// After so many times quiet without an answer the client may say more.
const PATIENCE: u32 = 8;
/// How long the server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// One direction.
struct Course {
    /// Waits for its side's silence (lockstep).
    held: Vec<u8>,
    /// When its side last said something, or was told something to react to.
    stirred: Instant,
    /// What is under way, and when each piece is due.
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes of the queue's first piece that have arrived.
    arrived: usize,
    queued: usize,
    /// When the end of the stream is due.
    end: Option<Instant>,
    end_arrived: bool,
    receive_buffer_of: Option<u64>,
}

impl Course {
    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.queue.is_empty()
    }

    fn send(&mut self, due: Instant, bytes: Vec<u8>) {
        self.queued += bytes.len();
        self.queue.push_back((due, bytes));
    }
}

/// What the road is like at this moment, for this connection.
struct Now {
    time: Instant,
    delay: Duration,
    rate: [Option<u64>; 2],
    free_at: [Instant; 2],
    lockstep: Option<Duration>,
}

struct Connection<'proxy> {
    shared: &'proxy Shared,
    /// The client and the server: a course reads at its own number and writes at the other.
    ends: [TcpStream; 2],
    courses: [Course; 2],
    buffer: Vec<u8>,
    /// Whether the client's last words still await an answer (lockstep).
    asked: bool,
    /// When time alone makes the next thing possible.
    wait_until: Option<Instant>,
    /// What each end is waited for.
    interest: [PollFlags; 2],
    /// The longest segment that the client's end takes.
    swallows: Option<u32>,
}

/// The connection has to be reset.
struct Broken;

/// Carries a connection from its beginning to its end.
pub(super) fn run(shared: &Shared, client: TcpStream, server: &(String, u16), waker: &OwnedFd, cuts: u64) {
    let now = Instant::now();
    let course = || Course {
        held: Vec::new(),
        stirred: now,
        queue: VecDeque::new(),
        arrived: 0,
        queued: 0,
        end: None,
        end_arrived: false,
        receive_buffer_of: None,
    };
    let Ok(server) = connect(server) else {
        reset(&client);
        return;
    };
    for end in [&client, &server] {
        end.set_nonblocking(true).expect("a socket can be made non-blocking");
        end.set_nodelay(true).expect("a socket can be told not to wait");
    }
    let mut connection = Connection {
        shared,
        ends: [client, server],
        courses: [course(), course()],
        buffer: vec![0; READ_MAX],
        asked: false,
        wait_until: None,
        interest: [PollFlags::empty(); 2],
        swallows: None,
    };
    loop {
        let swallow = shared.lock().swallow;
        if let Some(longest) = swallow.filter(|_| swallow != connection.swallows) {
            super::swallow(&connection.ends[0], longest);
            connection.swallows = swallow;
        }
        let (over, frozen, now) = {
            let road = shared.lock();
            let now = Now {
                time: Instant::now(),
                delay: road.delay,
                rate: road.rate,
                free_at: road.free_at,
                lockstep: road.lockstep,
            };
            (road.over || road.cuts > cuts, road.frozen, now)
        };
        connection.wait_until = None;
        connection.interest = [PollFlags::empty(); 2];
        if over || (!frozen && connection.step(&now).is_err()) {
            connection.ends.iter().for_each(reset);
            return;
        }
        if connection.courses.iter().all(|course| course.end_arrived) {
            return;
        }
        connection.sleep(waker);
    }
}

fn connect((host, port): &(String, u16)) -> std::io::Result<TcpStream> {
    let address = (host.as_str(), *port).to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
    TcpStream::connect_timeout(&address, CONNECT)
}

/// Has closing it send RST instead of FIN.
fn reset(end: &TcpStream) {
    // A socket that is reset already can't be told, and need not.
    let _ = set_socket_linger(end, Some(Duration::ZERO));
}

impl Connection<'_> {
    fn step(&mut self, now: &Now) -> Result<(), Broken> {
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.read(direction, now)?;
        }
        self.take_turns(now);
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.write(direction, now)?;
        }
        Ok(())
    }

    fn read(&mut self, direction: Direction, now: &Now) -> Result<(), Broken> {
        let at = direction as usize;
        let course = &mut self.courses[at];
        if course.end.is_some() || course.queued >= QUEUE_MAX {
            return Ok(());
        }
        let mut most = READ_MAX;
        if let Some(rate) = now.rate[at] {
            if course.receive_buffer_of != Some(rate) {
                let queue =
                    usize::try_from(rate / 20).unwrap_or(usize::MAX).clamp(16 * 1024, 4 * 1024 * 1024);
                // The kernel doubles it for its own bookkeeping (socket(7)).
                set_socket_recv_buffer_size(&self.ends[at], queue / 2).expect("a buffer can be sized");
                course.receive_buffer_of = Some(rate);
            }
            if now.free_at[at] > now.time {
                self.wait_for(now.free_at[at]);
                return Ok(());
            }
            most = usize::try_from((rate / 500).max(SEGMENT.into())).unwrap_or(READ_MAX).min(READ_MAX);
        }
        match self.ends[at].read(&mut self.buffer[..most]) {
            Ok(0) => course.end = Some(now.time + now.delay),
            Ok(length) => {
                course.stirred = now.time;
                let bytes = &self.buffer[..length];
                if now.lockstep.is_some() {
                    course.held.extend_from_slice(bytes);
                } else {
                    course.send(now.time + now.delay, bytes.to_vec());
                }
                if let Some(rate) = now.rate[at] {
                    let takes = Duration::from_secs_f64(length as f64 / rate as f64);
                    let mut road = self.shared.lock();
                    let from = road.free_at[at].max(now.time.checked_sub(CREDIT).unwrap_or(now.time));
                    road.free_at[at] = from + takes;
                    let free_at = road.free_at[at];
                    drop(road);
                    self.wait_for(free_at);
                } else {
                    self.interest[at] |= PollFlags::IN;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.interest[at] |= PollFlags::IN,
            Err(_) => return Err(Broken),
        }
        Ok(())
    }

    /// Lets the held words of a side go when it is its turn (lockstep).
    fn take_turns(&mut self, now: &Now) {
        let Some(quiet) = now.lockstep else {
            for course in &mut self.courses {
                if !course.held.is_empty() {
                    let held = std::mem::take(&mut course.held);
                    course.send(now.time + now.delay, held);
                }
            }
            return;
        };
        let [client, server] = &mut self.courses;
        // An end of the stream is the last word: nothing more is waited for.
        let spoken = |course: &Course| match course.end {
            Some(_) => now.time,
            None => course.stirred + quiet,
        };
        let mut waits = Vec::new();
        if !server.held.is_empty() {
            if spoken(server) <= now.time {
                let held = std::mem::take(&mut server.held);
                server.send(now.time + now.delay, held);
                if std::mem::take(&mut self.asked) {
                    self.shared.round_trips.fetch_add(1, Ordering::SeqCst);
                }
                client.stirred = now.time + now.delay;
            } else {
                waits.push(spoken(server));
            }
        }
        if !client.held.is_empty() && server.held.is_empty() {
            let answered = if self.asked { server.stirred + quiet * PATIENCE } else { now.time };
            let turn = spoken(client).max(answered);
            if turn <= now.time {
                let held = std::mem::take(&mut client.held);
                client.send(now.time + now.delay, held);
                self.asked = true;
                server.stirred = now.time + now.delay;
            } else {
                waits.push(turn);
            }
        }
        waits.into_iter().for_each(|time| self.wait_for(time));
    }

    fn write(&mut self, direction: Direction, now: &Now) -> Result<(), Broken> {
        let at = direction as usize;
        let to = 1 - at;
        while let Some((due, bytes)) = self.courses[at].queue.front() {
            if *due > now.time {
                let due = *due;
                self.wait_for(due);
                return Ok(());
            }
            let rest = &bytes[self.courses[at].arrived..];
            // Under the lock, so that exactly as many bytes pass as the test said.
            let mut road = self.shared.lock();
            let limit = road.reset_after[at]
                .map_or(rest.len(), |left| rest.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            let length = match (&self.ends[to]).write(&rest[..limit]) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.interest[to] |= PollFlags::OUT;
                    return Ok(());
                }
                Err(_) => return Err(Broken),
            };
            self.shared.passed[at].fetch_add(length as u64, Ordering::SeqCst);
            if let Some(left) = &mut road.reset_after[at] {
                *left -= length as u64;
                if *left == 0 {
                    road.reset_after[at] = None;
                    road.cuts += 1;
                    road.wake_all();
                    return Err(Broken);
                }
            }
            drop(road);
            let done = length == rest.len();
            let course = &mut self.courses[at];
            course.queued -= length;
            course.arrived += length;
            if done {
                course.queue.pop_front();
                course.arrived = 0;
            }
        }
        let course = &mut self.courses[at];
        match course.end {
            Some(due) if course.is_empty() && !course.end_arrived => {
                if due > now.time {
                    self.wait_for(due);
                } else {
                    course.end_arrived = true;
                    // The other side may be gone already, which the other direction tells.
                    let _ = self.ends[to].shutdown(Shutdown::Write);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn wait_for(&mut self, time: Instant) {
        self.wait_until = Some(self.wait_until.map_or(time, |earliest| earliest.min(time)));
    }

    /// Sleeps until an end is ready, something is due, or the road has changed.
    fn sleep(&self, waker: &OwnedFd) {
        let mut watched = vec![PollFd::new(waker, PollFlags::IN)];
        // One that nothing is wanted from would still report its end, again and again.
        let wanted = self.ends.iter().zip(self.interest).filter(|(_, interest)| !interest.is_empty());
        watched.extend(wanted.map(|(end, interest)| PollFd::new(end, interest)));
        let timeout = self.wait_until.map(|time| {
            Timespec::try_from(time.saturating_duration_since(Instant::now())).expect("a short time")
        });
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => slept(waker),
            Err(error) => panic!("the proxy can't wait: {error}"),
        }
    }
}
