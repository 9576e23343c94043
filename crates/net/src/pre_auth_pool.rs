//! The pool of connections before their login, in one epoll set.
//!
//! Such a connection costs a descriptor and a few hundred bytes, some thousand during a TLS
//! handshake; it has no thread and no session slot. Each has [`limits::LOGIN_TIME`] in all. A full
//! pool evicts the oldest connection of the address that has most, so a flood from one address
//! evicts its own. A few connections of each network that has logged in before go last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_proto::{LogRateLimiter, limits};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::evictor::ConnectionEvictor;
use crate::handshake_limiter::HandshakeLimiter;
use crate::pre_auth::{HANDSHAKE_RETRY, LoginHandler, PreAuthConnection, PreAuthState};
use crate::stream::Stream;
use crate::tls::TlsServer;

/// Most connections accepted in a row, so that connections in the pool make progress too.
const ACCEPT_BURST: usize = 64;
/// Pause in accepting after the process or the system ran out of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two sweeps for connections whose login time is over.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// The listener's id in the epoll set; the ids of connections begin at 1.
const LISTENER: u64 = 0;
/// Events that end a connection whose login is pending.
const HANG_UP: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);

/// A connection whose login has succeeded.
#[derive(Debug)]
pub struct AuthenticatedConnection<T> {
    /// The stream; no byte after the login was read from it.
    pub stream: Stream,
    /// The result of the login.
    pub value: T,
}

/// Accepts connections and runs their logins.
pub struct PreAuthPool<G: LoginHandler> {
    listener: TcpListener,
    epoll: OwnedFd,
    capacity: usize,
    /// By id, and so in the order of arrival.
    connections: BTreeMap<u64, PreAuthConnection<G>>,
    /// Chooses the connection to close when the pool is full.
    evictor: ConnectionEvictor,
    /// Connections whose login handlers are not ready. They are watched for their end alone.
    pending: BTreeSet<u64>,
    next: u64,
    accepting: bool,
    paused_until: Option<Instant>,
    /// Time of the last sweep.
    swept: Instant,
    tls: TlsServer,
    limiter: HandshakeLimiter,
    /// Connections whose login succeeded during the current call of [`Self::poll`].
    authenticated: Vec<AuthenticatedConnection<G::Value>>,
}

impl<G: LoginHandler> PreAuthPool<G> {
    /// Makes a pool for `capacity` connections of `listener`, which becomes non-blocking.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn new(listener: TcpListener, capacity: usize, tls: TlsServer) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            listener,
            epoll,
            capacity: capacity.max(1),
            connections: BTreeMap::new(),
            evictor: ConnectionEvictor::default(),
            pending: BTreeSet::new(),
            next: LISTENER + 1,
            accepting: false,
            paused_until: None,
            swept: Instant::now(),
            tls,
            limiter: HandshakeLimiter::default(),
            authenticated: Vec::new(),
        })
    }

    /// The number of connections in the pool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether the pool has no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The address of the listener.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for events, at most `timeout`, and returns the connections whose login succeeded.
    ///
    /// It returns early when one of `wake` is readable. Pending login handlers are polled first, so
    /// a caller that is woken for one of them polls again. With `accept` false no new connection is
    /// accepted.
    ///
    /// # Errors
    /// Errors of polling. An error on one connection ends that connection alone.
    pub fn poll(
        &mut self,
        accept: bool,
        wake: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
        new_handler: &mut dyn FnMut(SocketAddr, SocketAddr) -> G,
    ) -> io::Result<Vec<AuthenticatedConnection<G::Value>>> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.set_accepting(accept && self.paused_until.is_none())?;
        // Before the wait: a handler that became ready before this call must not wait for an event.
        for id in self.pending.clone() {
            self.run(id, PreAuthConnection::resume);
        }
        let timeout = if self.authenticated.is_empty() {
            self.shorten(timeout, now)
        } else {
            Some(Duration::ZERO)
        };
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
                LISTENER => self.accept(new_handler),
                // Its requests wait, but not its end.
                id if self.pending.contains(&id) => {
                    let flags = event.flags;
                    if flags.intersects(HANG_UP) {
                        self.remove(id);
                    }
                }
                id => self.run(id, PreAuthConnection::advance),
            }
        }
        self.close_expired(Instant::now());
        Ok(std::mem::take(&mut self.authenticated))
    }

    /// Waits for the epoll set or a wake-up.
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

    /// Returns `timeout`, or less if a sweep, a pause or a delayed handshake is due before.
    fn shorten(&self, timeout: Option<Duration>, now: Instant) -> Option<Duration> {
        let sweep = (!self.connections.is_empty()).then_some(SWEEP_EVERY * 2);
        let delayed = self
            .pending
            .iter()
            .any(|id| self.connections.get(id).is_some_and(PreAuthConnection::is_delayed))
            .then_some(HANDSHAKE_RETRY);
        let pause = self.paused_until.map(|until| until.saturating_duration_since(now));
        [timeout, sweep, pause, delayed].into_iter().flatten().min()
    }

    fn set_accepting(&mut self, accept: bool) -> io::Result<()> {
        if accept == self.accepting {
            return Ok(());
        }
        if accept {
            // Several processes wait on one listener; a new connection must not wake them all.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            epoll::add(&self.epoll, &self.listener, epoll::EventData::new_u64(LISTENER), flags)?;
        } else {
            epoll::delete(&self.epoll, &self.listener)?;
        }
        self.accepting = accept;
        Ok(())
    }

    fn accept(&mut self, new_handler: &mut dyn FnMut(SocketAddr, SocketAddr) -> G) {
        for _ in 0..ACCEPT_BURST {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
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
                    self.evict_one();
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            };
            if let Err(e) = self.add(stream, peer, new_handler) {
                debug!("{peer}: new connection failed: {e}");
            }
        }
    }

    fn add(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        new_handler: &mut dyn FnMut(SocketAddr, SocketAddr) -> G,
    ) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        // An IPv4 peer of an IPv6 socket is shown by its IPv4 address.
        let [peer, local] = [peer, stream.local_addr()?]
            .map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()));
        if self.connections.len() >= self.capacity {
            self.evict_one();
        }
        let id = self.next;
        self.next += 1;
        let handler = new_handler(peer, local);
        let is_known = handler.is_known();
        let connection = PreAuthConnection::new(
            Stream::new(stream, peer, local)?,
            Instant::now() + limits::LOGIN_TIME,
            self.tls.clone(),
            handler,
        );
        // Edge-triggered: each event is followed by reads and sends until the socket would block.
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET | HANG_UP;
        let data = epoll::EventData::new_u64(id);
        epoll::add(&self.epoll, connection.stream.socket(), data, flags)?;
        self.evictor.insert(peer.ip(), id, is_known);
        self.connections.insert(id, connection);
        // Most peers have sent their login by now.
        self.run(id, PreAuthConnection::advance);
        Ok(())
    }

    /// Makes progress on a connection by `step`.
    fn run(
        &mut self,
        id: u64,
        step: fn(&mut PreAuthConnection<G>, &mut HandshakeLimiter) -> PreAuthState<G::Value>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let progress = step(connection, &mut self.limiter);
        self.update(id, progress);
    }

    fn update(&mut self, id: u64, progress: PreAuthState<G::Value>) {
        match progress {
            PreAuthState::Waiting => {
                self.pending.remove(&id);
            }
            PreAuthState::Pending => {
                self.pending.insert(id);
            }
            PreAuthState::Closed => {
                self.remove(id);
            }
            PreAuthState::Authenticated(value) => {
                if let Some(PreAuthConnection { stream, .. }) = self.remove(id) {
                    let detached = epoll::delete(&self.epoll, stream.socket());
                    match detached.map_err(io::Error::from).and_then(|()| stream.set_blocking()) {
                        Ok(()) => {
                            self.authenticated.push(AuthenticatedConnection { stream, value })
                        }
                        Err(e) => {
                            static KEPT: LogRateLimiter = LogRateLimiter::new();
                            if let Some(more) = KEPT.allow(Instant::now()) {
                                warn!("cannot hand over {}: {e}{more}", stream.peer);
                            }
                        }
                    }
                }
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<PreAuthConnection<G>> {
        let connection = self.connections.remove(&id)?;
        self.pending.remove(&id);
        self.evictor.remove(connection.stream.peer.ip(), id);
        Some(connection)
    }

    fn evict_one(&mut self) {
        if let Some(connection) = self.evictor.next_victim().and_then(|id| self.remove(id)) {
            debug!("pool is full: {} evicted before its login", connection.stream.peer);
        }
    }

    fn close_expired(&mut self, now: Instant) {
        if now.duration_since(self.swept) >= SWEEP_EVERY {
            for (id, mut connection) in
                self.connections.extract_if(.., |_, connection| connection.deadline <= now)
            {
                if let Err(e) = connection.expire() {
                    debug!(
                        "{}: cannot send that the login time is over: {e}",
                        connection.stream.peer
                    );
                }
                self.evictor.remove(connection.stream.peer.ip(), id);
                self.pending.remove(&id);
            }
            self.swept = now;
        }
    }
}
