//! The pool of connections before their login, in one epoll set.
//!
//! Such a connection costs a descriptor and a few hundred bytes, some thousand during a TLS
//! handshake; it has no thread and no session slot. Each has [`limits::LOGIN_TIME`] in all. A full
//! pool evicts the oldest connection of the address that has most, so a flood from one address
//! evicts its own. A few connections of each network that has logged in before go last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_proto::{LogRateLimiter, limits};

use crate::arrival::{Arrival, ProxiedConnection};
use crate::epoll_set::{EpollSet, SocketEvent};
use crate::evictor::ConnectionEvictor;
use crate::handshake_limiter::HandshakeLimiter;
use crate::listener_set::{Accepted, ListenerSet};
use crate::login_handler::LoginHandler;
use crate::pre_auth::{HANDSHAKE_RETRY, PreAuthConnection, PreAuthState};
use crate::pre_auth_listener::{NewConnection, PreAuthListener, TlsRule};
use crate::stream::Stream;

/// Most connections accepted in a row, so that connections in the pool make progress too.
const ACCEPT_BURST: usize = 64;
/// Time between two sweeps for connections whose login time is over.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

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
    listeners: ListenerSet,
    epoll: EpollSet,
    capacity: usize,
    /// By id, and so in the order of arrival. Lower ids are those of the listeners.
    connections: BTreeMap<u64, Arrival<G>>,
    /// Chooses the connection to close when the pool is full.
    evictor: ConnectionEvictor,
    /// Connections whose login handlers are not ready. They are watched for their end alone.
    pending: BTreeSet<u64>,
    next: u64,
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
        Ok(Self {
            next: listeners.len() as u64,
            listeners: ListenerSet::new(listeners)?,
            epoll: EpollSet::new()?,
            capacity: capacity.max(1),
            connections: BTreeMap::new(),
            evictor: ConnectionEvictor::default(),
            pending: BTreeSet::new(),
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
        self.listeners.set_accepting(accept, now, &self.epoll)?;
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
        self.epoll.wait(wake, timeout)?;
        for SocketEvent { id, hung_up } in self.epoll.events()? {
            match self.listeners.index(id) {
                Some(listener) => self.accept(listener, new_handler),
                // Its requests wait, but not its end.
                None if self.pending.contains(&id) => {
                    if hung_up {
                        self.remove(id);
                    }
                }
                None => self.advance(id, new_handler),
            }
        }
        self.close_expired(Instant::now());
        Ok(std::mem::take(&mut self.authenticated))
    }

    /// Returns `timeout`, or less if a sweep, a pause or a delayed handshake is due before.
    fn shorten(&self, timeout: Option<Duration>, now: Instant) -> Option<Duration> {
        let sweep = (!self.connections.is_empty()).then_some(SWEEP_EVERY * 2);
        let delayed = self
            .pending
            .iter()
            .any(|id| self.connections.get(id).is_some_and(Arrival::is_delayed))
            .then_some(HANDSHAKE_RETRY);
        [timeout, sweep, self.listeners.pause(now), delayed].into_iter().flatten().min()
    }

    fn accept(&mut self, listener: usize, new_handler: HandlerFactory<'_, G>) {
        for _ in 0..ACCEPT_BURST {
            match self.listeners.accept(listener) {
                Accepted::Connection(stream, peer) => {
                    if let Err(e) = self.add(listener, stream, peer, new_handler) {
                        debug!("{peer}: new connection failed: {e}");
                    }
                }
                Accepted::Nothing => return,
                Accepted::Exhausted => return self.evict_one(),
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
        if let Some(header) = self.listeners.get(listener).proxies.header_from(peer) {
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
    /// `listener` has accepted it, or has the same rules. `input` was read ahead.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn readmit(
        &mut self,
        listener: usize,
        stream: Stream,
        input: Vec<u8>,
        handler: G,
    ) -> io::Result<()> {
        stream.socket().set_nonblocking(true)?;
        if self.connections.len() >= self.capacity {
            self.evict_one();
        }
        let id = self.register(&stream)?;
        self.evictor.insert(stream.peer.ip(), id, handler.is_known());
        let tls = self.listeners.get(listener).tls.clone();
        let connection = PreAuthConnection::again(stream, input, tls, handler);
        self.connections.insert(id, Arrival::LogIn(connection));
        self.run(id, PreAuthConnection::advance);
        Ok(())
    }

    /// Adds a socket to the epoll set; returns the id of its connection.
    fn register(&mut self, stream: &Stream) -> io::Result<u64> {
        let id = self.next;
        self.next += 1;
        self.epoll.add_connection(stream.socket(), id)?;
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
        let tls: Arc<TlsRule> = self.listeners.get(listener).tls.clone();
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
        let detached = self.epoll.delete(stream.socket());
        match detached.and_then(|()| stream.set_blocking()) {
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
