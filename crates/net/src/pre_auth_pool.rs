//! The pool of connections before their login, in one epoll set.
//!
//! Such a connection costs a descriptor and a few hundred bytes, some thousand during a TLS
//! handshake; it has no thread and no session slot. Each has [`limits::LOGIN_TIME`] in all. A full
//! pool evicts the oldest connection of the address that has most, so a flood from one address
//! evicts its own. A few connections of each network that has logged in before go last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_proto::{LogRateLimiter, limits};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::arrival::{Arrival, ProxiedConnection};
use crate::evictor::ConnectionEvictor;
use crate::handshake_limiter::HandshakeLimiter;
use crate::login_handler::LoginHandler;
use crate::pre_auth::{HANDSHAKE_RETRY, PreAuthConnection, PreAuthState};
use crate::pre_auth_listener::{NewConnection, PreAuthListener, TlsRule};
use crate::stream::Stream;

/// Most connections accepted in a row, so that connections in the pool make progress too.
const ACCEPT_BURST: usize = 64;
/// Pause in accepting after the process or the system ran out of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two sweeps for connections whose login time is over.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Events that end a connection whose login is pending.
const HANG_UP: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);

/// A connection whose login has succeeded.
#[derive(Debug)]
pub struct AuthenticatedConnection<T> {
    /// The stream; no byte after `input` was read from it.
    pub stream: Stream,
    /// The result of the login.
    pub value: T,
    /// Bytes that were read ahead and belong to the session; none with frames.
    pub input: Vec<u8>,
}

/// Makes the login handler of a new connection.
pub type HandlerFactory<'a, G> = &'a mut dyn FnMut(NewConnection) -> G;

/// Accepts connections and runs their logins.
pub struct PreAuthPool<G: LoginHandler> {
    listeners: Vec<PreAuthListener>,
    epoll: OwnedFd,
    capacity: usize,
    /// By id, and so in the order of arrival. Lower ids are those of the listeners.
    connections: BTreeMap<u64, Arrival<G>>,
    /// Chooses the connection to close when the pool is full.
    evictor: ConnectionEvictor,
    /// Connections whose login handlers are not ready. They are watched for their end alone.
    pending: BTreeSet<u64>,
    next: u64,
    accepting: bool,
    paused_until: Option<Instant>,
    /// Time of the last sweep.
    swept: Instant,
    limiter: HandshakeLimiter,
    /// Connections whose login succeeded during the current call of [`Self::poll`].
    authenticated: Vec<AuthenticatedConnection<G::Value>>,
}

impl<G: LoginHandler> PreAuthPool<G> {
    /// Makes a pool for `capacity` connections of the listeners, which become non-blocking.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn new(listeners: Vec<PreAuthListener>, capacity: usize) -> io::Result<Self> {
        for listener in &listeners {
            listener.socket.set_nonblocking(true)?;
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            next: listeners.len() as u64,
            listeners,
            epoll,
            capacity: capacity.max(1),
            connections: BTreeMap::new(),
            evictor: ConnectionEvictor::default(),
            pending: BTreeSet::new(),
            accepting: false,
            paused_until: None,
            swept: Instant::now(),
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
        new_handler: HandlerFactory<'_, G>,
    ) -> io::Result<Vec<AuthenticatedConnection<G::Value>>> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.set_accepting(accept && self.paused_until.is_none())?;
        // Before the wait: a handler that became ready before this call must not wait for an event.
        for id in self.pending.clone() {
            self.run(id, PreAuthConnection::resume);
        }
        // Also after a connection was readmitted.
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
            let (id, flags) = (event.data.u64(), event.flags);
            match usize::try_from(id).ok().filter(|index| *index < self.listeners.len()) {
                Some(listener) => self.accept(listener, new_handler),
                // Its requests wait, but not its end.
                None if self.pending.contains(&id) => {
                    if flags.intersects(HANG_UP) {
                        self.remove(id);
                    }
                }
                None => self.advance(id, new_handler),
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
            .any(|id| self.connections.get(id).is_some_and(Arrival::is_delayed))
            .then_some(HANDSHAKE_RETRY);
        let pause = self.paused_until.map(|until| until.saturating_duration_since(now));
        [timeout, sweep, pause, delayed].into_iter().flatten().min()
    }

    fn set_accepting(&mut self, accept: bool) -> io::Result<()> {
        if accept == self.accepting {
            return Ok(());
        }
        for (id, PreAuthListener { socket, .. }) in (0..).zip(&self.listeners) {
            if accept {
                // Several processes wait on one listener; a new connection must not wake them all.
                let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
                epoll::add(&self.epoll, socket, epoll::EventData::new_u64(id), flags)?;
            } else {
                epoll::delete(&self.epoll, socket)?;
            }
        }
        self.accepting = accept;
        Ok(())
    }

    fn accept(&mut self, listener: usize, new_handler: HandlerFactory<'_, G>) {
        for _ in 0..ACCEPT_BURST {
            let (stream, peer) = match self.listeners[listener].socket.accept() {
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
            if let Err(e) = self.add(listener, stream, peer, new_handler) {
                debug!("{peer}: new connection failed: {e}");
            }
        }
    }

    fn add(
        &mut self,
        listener: usize,
        stream: TcpStream,
        peer: SocketAddr,
        new_handler: HandlerFactory<'_, G>,
    ) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        // An IPv4 peer of an IPv6 socket is shown by its IPv4 address.
        let [peer, local] = [peer, stream.local_addr()?]
            .map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()));
        if self.connections.len() >= self.capacity {
            self.evict_one();
        }
        let stream = Stream::new(stream, peer, local)?;
        let id = self.register(&stream)?;
        let deadline = Instant::now() + limits::LOGIN_TIME;
        if let Some(header) = self.listeners[listener].proxies.header_from(peer) {
            let proxied = ProxiedConnection { stream, deadline, header, listener };
            self.evictor.insert(peer.ip(), id, false);
            self.connections.insert(id, Arrival::Proxied(proxied));
        } else {
            self.begin_login(id, listener, stream, deadline, new_handler);
        }
        // Most peers have sent their login by now.
        self.advance(id, new_handler);
        Ok(())
    }

    /// Takes back a connection that was authenticated, so that its peer logs in again.
    ///
    /// `listener` has accepted it, or has the same rules.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn readmit(&mut self, listener: usize, stream: Stream, handler: G) -> io::Result<()> {
        stream.socket().set_nonblocking(true)?;
        if self.connections.len() >= self.capacity {
            self.evict_one();
        }
        let id = self.register(&stream)?;
        self.evictor.insert(stream.peer.ip(), id, handler.is_known());
        let (deadline, tls) =
            (Instant::now() + limits::LOGIN_TIME, self.listeners[listener].tls.clone());
        let connection = PreAuthConnection::again(stream, deadline, tls, handler);
        self.connections.insert(id, Arrival::LogIn(connection));
        self.run(id, PreAuthConnection::advance);
        Ok(())
    }

    /// Adds a socket to the epoll set; returns the id of its connection.
    fn register(&mut self, stream: &Stream) -> io::Result<u64> {
        let id = self.next;
        self.next += 1;
        // Edge-triggered: each event is followed by reads and sends until the socket would block.
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET | HANG_UP;
        epoll::add(&self.epoll, stream.socket(), epoll::EventData::new_u64(id), flags)?;
        Ok(id)
    }

    /// Makes the login handler of a connection whose client is known.
    fn begin_login(
        &mut self,
        id: u64,
        listener: usize,
        stream: Stream,
        deadline: Instant,
        new_handler: HandlerFactory<'_, G>,
    ) {
        let Stream { peer, local, .. } = stream;
        let handler = new_handler(NewConnection { listener, peer, local });
        self.evictor.insert(peer.ip(), id, handler.is_known());
        let tls: Arc<TlsRule> = self.listeners[listener].tls.clone();
        let connection = PreAuthConnection::new(stream, deadline, tls, handler);
        self.connections.insert(id, Arrival::LogIn(connection));
    }

    /// Makes progress on a connection that is not pending.
    fn advance(&mut self, id: u64, new_handler: HandlerFactory<'_, G>) {
        if let Some(Arrival::Proxied(proxied)) = self.connections.get_mut(&id) {
            match proxied.header.advance(proxied.stream.socket()) {
                Ok(client) => self.set_client(id, client, new_handler),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    debug!("{}: connection of a trusted proxy closed: {e}", proxied.stream.peer);
                    self.remove(id);
                    return;
                }
            }
        }
        self.run(id, PreAuthConnection::advance);
    }

    /// Continues a proxy's connection as that of its client.
    fn set_client(
        &mut self,
        id: u64,
        client: Option<SocketAddr>,
        new_handler: HandlerFactory<'_, G>,
    ) {
        let Some(Arrival::Proxied(proxied)) = self.remove(id) else { return };
        let ProxiedConnection { mut stream, deadline, listener, .. } = proxied;
        stream.set_client(client);
        self.begin_login(id, listener, stream, deadline, new_handler);
    }

    /// Makes progress on a login by `step`.
    fn run(
        &mut self,
        id: u64,
        step: fn(&mut PreAuthConnection<G>, &mut HandshakeLimiter) -> PreAuthState<G::Value>,
    ) {
        let Some(Arrival::LogIn(connection)) = self.connections.get_mut(&id) else { return };
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
                if let Some(Arrival::LogIn(connection)) = self.remove(id) {
                    self.hand_over(connection, value);
                }
            }
        }
    }

    fn hand_over(&mut self, connection: PreAuthConnection<G>, value: G::Value) {
        let PreAuthConnection { stream, input, .. } = connection;
        let detached = epoll::delete(&self.epoll, stream.socket());
        match detached.map_err(io::Error::from).and_then(|()| stream.set_blocking()) {
            Ok(()) => {
                self.authenticated.push(AuthenticatedConnection { stream, value, input });
            }
            Err(e) => {
                static KEPT: LogRateLimiter = LogRateLimiter::new();
                if let Some(more) = KEPT.allow(Instant::now()) {
                    warn!("cannot hand over {}: {e}{more}", stream.peer);
                }
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Arrival<G>> {
        let arrival = self.connections.remove(&id)?;
        self.pending.remove(&id);
        self.evictor.remove(arrival.stream().peer.ip(), id);
        Some(arrival)
    }

    fn evict_one(&mut self) {
        if let Some(arrival) = self.evictor.next_victim().and_then(|id| self.remove(id)) {
            debug!("pool is full: {} evicted before its login", arrival.stream().peer);
        }
    }

    fn close_expired(&mut self, now: Instant) {
        if now.duration_since(self.swept) < SWEEP_EVERY {
            return;
        }
        for (id, mut arrival) in
            self.connections.extract_if(.., |_, arrival| arrival.deadline() <= now)
        {
            if let Arrival::LogIn(connection) = &mut arrival
                && let Err(e) = connection.expire()
            {
                let peer = connection.stream.peer;
                debug!("{peer}: cannot send that the login time is over: {e}");
            }
            self.evictor.remove(arrival.stream().peer.ip(), id);
            self.pending.remove(&id);
        }
        self.swept = now;
    }
}
