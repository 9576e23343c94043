//! The waiting room: connections that have not logged in, in one poll set.
//!
//! They cost a descriptor and a few hundred bytes each, some thousand in a TLS handshake, no thread and no place
//! in the pool. Each has [`limits::LOGIN_TIME`] in all; when the room is full, the one that has waited longest
//! goes of the address that has most: a flood from one address turns out its own. Some of each network that has logged in before go last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_proto::{LogRateLimiter, limits};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, poll};

use crate::Stream;
use crate::evictor::ConnectionEvictor;
use crate::handshake_limiter::HandshakeLimiter;
use crate::pre_auth::{HELD_FOR, LoginHandler, Outcome, PreAuthConnection};
use crate::stream::prepare;
use crate::tls::TlsServer;

/// Most connections accepted in a row, so that guests who are already here get their turn.
const ACCEPT_BURST: usize = 64;
/// Pause in accepting after the process or the system ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks for guests whose time is over.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// The listener's place in the poll set; guests count from 1.
const LISTENER: u64 = 0;

/// A connection whose login is done.
#[derive(Debug)]
pub struct AuthenticatedConnection<T> {
    /// Nothing behind the login was read from it.
    pub stream: Stream,
    /// What the login came to.
    pub value: T,
}

/// Accepts connections and leads them through their login.
pub struct PreAuthPool<G: LoginHandler> {
    listener: TcpListener,
    epoll: OwnedFd,
    capacity: usize,
    /// By number, and so in the order of arrival.
    guests: BTreeMap<u64, PreAuthConnection<G>>,
    /// The same, by address.
    crowd: ConnectionEvictor,
    /// Those of them whose greeters are not ready; of these only the end is waited for.
    pending: BTreeSet<u64>,
    next: u64,
    accepting: bool,
    paused_until: Option<Instant>,
    /// When late guests were last looked for.
    swept: Instant,
    /// How connections are encrypted, where they can be.
    tls: Option<TlsServer>,
    tolls: HandshakeLimiter,
}

impl<G: LoginHandler> PreAuthPool<G> {
    /// A room for `capacity` connections of `listener`, which becomes non-blocking. Without `tls` all connections are in the clear.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(listener: TcpListener, capacity: usize, tls: Option<TlsServer>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            listener,
            epoll,
            capacity: capacity.max(1),
            guests: BTreeMap::new(),
            crowd: ConnectionEvictor::default(),
            pending: BTreeSet::new(),
            next: LISTENER + 1,
            accepting: false,
            paused_until: None,
            swept: Instant::now(),
            tls,
            tolls: HandshakeLimiter::default(),
        })
    }

    /// Connections that are here now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// Whether nobody is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    /// The address that the room listens on.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for something to happen, at most `timeout`, and returns the connections
    /// whose login is done. Returns early when one of `wake` can be read. Greeters that are
    /// pending are asked first whether they are ready: whoever is woken for one of them polls again.
    /// With `accept` false nobody new comes in.
    ///
    /// # Errors
    /// Those of polling; what goes wrong with one connection ends that one alone.
    pub fn poll(
        &mut self,
        accept: bool,
        wake: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
        greet: &mut dyn FnMut(SocketAddr, SocketAddr) -> G,
    ) -> io::Result<Vec<AuthenticatedConnection<G::Value>>> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.set_accepting(accept && self.paused_until.is_none())?;
        let mut arrivals = Vec::new();
        // Before the wait: what was ready when the caller was woken must not be slept over.
        for id in self.pending.clone() {
            self.resume(id, &mut arrivals);
        }
        let timeout =
            if arrivals.is_empty() { self.shorten(timeout, now) } else { Some(Duration::ZERO) };
        self.wait(wake, timeout)?;
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 256];
        let ready = match epoll::wait(
            &self.epoll,
            &mut events,
            Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
        ) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in &events[..ready] {
            match event.data.u64() {
                LISTENER => self.accept(greet, &mut arrivals)?,
                id if self.pending.remove(&id) => {
                    self.remove(id);
                }
                id => self.advance(id, &mut arrivals),
            }
        }
        self.drop_late(Instant::now());
        Ok(arrivals)
    }

    /// Waits for the poll set or a wake-up.
    fn wait(&self, wake: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.epoll.as_fd())
            .chain(wake.iter().copied())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// `timeout`, or less where there is something to do before.
    fn shorten(&self, timeout: Option<Duration>, now: Instant) -> Option<Duration> {
        let sweep = (!self.guests.is_empty()).then_some(SWEEP_EVERY * 2);
        let held = self
            .pending
            .iter()
            .any(|id| self.guests.get(id).is_some_and(PreAuthConnection::is_held))
            .then_some(HELD_FOR);
        let pause = self.paused_until.map(|until| until.saturating_duration_since(now));
        [timeout, sweep, pause, held].into_iter().flatten().min()
    }

    fn set_accepting(&mut self, accept: bool) -> io::Result<()> {
        if accept == self.accepting {
            return Ok(());
        }
        if accept {
            // Several processes wait for one listener: a new connection need not wake them all.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            epoll::add(&self.epoll, &self.listener, epoll::EventData::new_u64(LISTENER), flags)?;
        } else {
            epoll::delete(&self.epoll, &self.listener)?;
        }
        self.accepting = accept;
        Ok(())
    }

    fn accept(
        &mut self,
        greet: &mut dyn FnMut(SocketAddr, SocketAddr) -> G,
        arrivals: &mut Vec<AuthenticatedConnection<G::Value>>,
    ) -> io::Result<()> {
        for _ in 0..ACCEPT_BURST {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) =>
                {
                    continue;
                }
                Err(e) => {
                    static REFUSED: LogRateLimiter = LogRateLimiter::new();
                    if let Some(more) = REFUSED.allow(Instant::now()) {
                        warn!("cannot accept a connection: {e}{more}");
                    }
                    self.make_room();
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    return Ok(());
                }
            };
            if let Err(e) = self.welcome(stream, peer, greet, arrivals) {
                debug!("{peer} went away at once: {e}");
            }
        }
        Ok(())
    }

    fn welcome(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        greet: &mut dyn FnMut(SocketAddr, SocketAddr) -> G,
        arrivals: &mut Vec<AuthenticatedConnection<G::Value>>,
    ) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        prepare(&stream)?;
        // An IPv4 address is one, also where it came to a socket of IPv6.
        let [peer, local] = [peer, stream.local_addr()?]
            .map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()));
        if self.guests.len() >= self.capacity {
            self.make_room();
        }
        let id = self.next;
        self.next += 1;
        let greeter = greet(peer, local);
        let is_known = greeter.is_known();
        let guest = PreAuthConnection::new(
            stream,
            (peer, local),
            Instant::now() + limits::LOGIN_TIME,
            self.tls.clone(),
            greeter,
        );
        epoll::add(
            &self.epoll,
            &guest.stream,
            epoll::EventData::new_u64(id),
            epoll::EventFlags::IN,
        )?;
        self.crowd.enter(peer.ip(), id, is_known);
        self.guests.insert(id, guest);
        // Most peers have sent their login by now.
        self.advance(id, arrivals);
        Ok(())
    }

    fn advance(&mut self, id: u64, arrivals: &mut Vec<AuthenticatedConnection<G::Value>>) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let outcome = guest.advance(&mut admission(&mut self.tolls, guest.peer));
        self.settle(id, outcome, arrivals);
    }

    fn resume(&mut self, id: u64, arrivals: &mut Vec<AuthenticatedConnection<G::Value>>) {
        let Some(guest) = self.guests.get_mut(&id) else {
            self.pending.remove(&id);
            return;
        };
        let outcome = guest.resume(&mut admission(&mut self.tolls, guest.peer));
        if matches!(outcome, Outcome::Pending) {
            return;
        }
        self.pending.remove(&id);
        guest.watched_for_sending = false;
        if let Err(e) = epoll::modify(
            &self.epoll,
            &guest.stream,
            epoll::EventData::new_u64(id),
            epoll::EventFlags::IN,
        ) {
            warn!("cannot watch {}: {e}", guest.peer);
            self.remove(id);
            return;
        }
        self.settle(id, outcome, arrivals);
    }

    fn settle(
        &mut self,
        id: u64,
        outcome: Outcome<G::Value>,
        arrivals: &mut Vec<AuthenticatedConnection<G::Value>>,
    ) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        match outcome {
            Outcome::Stays { sending } if sending == guest.watched_for_sending => {}
            Outcome::Stays { sending } => {
                guest.watched_for_sending = sending;
                let flags = if sending { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
                if let Err(e) =
                    epoll::modify(&self.epoll, &guest.stream, epoll::EventData::new_u64(id), flags)
                {
                    warn!("cannot watch {}: {e}", guest.peer);
                    self.remove(id);
                }
            }
            Outcome::Pending => {
                let flags = epoll::EventFlags::RDHUP | epoll::EventFlags::ONESHOT;
                match epoll::modify(
                    &self.epoll,
                    &guest.stream,
                    epoll::EventData::new_u64(id),
                    flags,
                ) {
                    Ok(()) => drop(self.pending.insert(id)),
                    Err(e) => {
                        warn!("cannot let {} wait: {e}", guest.peer);
                        self.remove(id);
                    }
                }
            }
            Outcome::Leaves => {
                self.remove(id);
            }
            Outcome::Through(value) => {
                if let Some(guest) = self.remove(id) {
                    let peer = guest.peer;
                    match self.release(guest) {
                        Ok(stream) => arrivals.push(AuthenticatedConnection { stream, value }),
                        Err(e) => {
                            static KEPT: LogRateLimiter = LogRateLimiter::new();
                            if let Some(more) = KEPT.allow(Instant::now()) {
                                warn!("cannot hand over {peer}: {e}{more}");
                            }
                        }
                    }
                }
            }
        }
    }

    fn release(&self, guest: PreAuthConnection<G>) -> io::Result<Stream> {
        epoll::delete(&self.epoll, &guest.stream)?;
        guest.into_stream()
    }

    fn remove(&mut self, id: u64) -> Option<PreAuthConnection<G>> {
        let guest = self.guests.remove(&id)?;
        self.crowd.leave(guest.peer.ip(), id);
        Some(guest)
    }

    fn make_room(&mut self) {
        if let Some(guest) = self.crowd.first_to_go().and_then(|id| self.remove(id)) {
            debug!("no room: {} has not logged in and goes", guest.peer);
        }
    }

    fn drop_late(&mut self, now: Instant) {
        if now.duration_since(self.swept) >= SWEEP_EVERY {
            for (id, mut guest) in self.guests.extract_if(.., |_, guest| guest.deadline <= now) {
                if let Err(e) = guest.expire() {
                    debug!("{} is not told that its time is over: {e}", guest.peer);
                }
                self.crowd.leave(guest.peer.ip(), id);
            }
            self.swept = now;
        }
    }
}

/// Asks whether a peer may have a handshake now.
fn admission(tolls: &mut HandshakeLimiter, peer: SocketAddr) -> impl FnMut() -> bool {
    move || tolls.admit(peer.ip(), Instant::now())
}

/// A descriptor that wakes [`PreAuthPool::poll`] from another thread or a signal handler.
///
/// # Errors
/// Those of the system call.
pub fn wake_fd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
