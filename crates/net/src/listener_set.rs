//! The listeners of the pre-authentication pool: whether they accept, and what they accept.
//!
//! The index of a listener is its id in the epoll set.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use log::warn;
use relais_proto::LogRateLimiter;

use crate::epoll_set::EpollSet;
use crate::pre_auth_listener::PreAuthListener;

/// Pause in accepting after the process or the system ran out of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The result of one attempt to accept.
pub(crate) enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// No connection waits.
    Nothing,
    /// A resource is exhausted; the listeners pause.
    Exhausted,
}

/// All listeners of a pool.
#[derive(Debug)]
pub(crate) struct ListenerSet {
    listeners: Vec<PreAuthListener>,
    accepting: bool,
    paused_until: Option<Instant>,
}

impl ListenerSet {
    /// Makes the listeners non-blocking. They do not accept yet.
    pub fn new(listeners: Vec<PreAuthListener>) -> io::Result<Self> {
        for listener in &listeners {
            listener.socket.set_nonblocking(true)?;
        }
        Ok(Self { listeners, accepting: false, paused_until: None })
    }

    /// Returns the listener with an index that its connections have.
    pub fn get(&self, index: usize) -> &PreAuthListener {
        &self.listeners[index]
    }

    /// Returns the index of the listener with an id of the epoll set, if it is one.
    pub fn index(&self, id: u64) -> Option<usize> {
        usize::try_from(id).ok().filter(|index| *index < self.listeners.len())
    }

    /// Watches the listeners or stops watching them. They are not watched during a pause.
    pub fn set_accepting(
        &mut self,
        accept: bool,
        now: Instant,
        epoll: &EpollSet,
    ) -> io::Result<()> {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let accept = accept && self.paused_until.is_none();
        if accept == self.accepting {
            return Ok(());
        }
        for (id, PreAuthListener { socket, .. }) in (0..).zip(&self.listeners) {
            if accept {
                epoll.add_listener(socket, id)?;
            } else {
                epoll.delete(socket)?;
            }
        }
        self.accepting = accept;
        Ok(())
    }

    /// Returns the rest of a pause.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.paused_until.map(|until| until.saturating_duration_since(now))
    }

    /// Accepts one connection.
    pub fn accept(&mut self, index: usize) -> Accepted {
        loop {
            let error = match self.listeners[index].socket.accept() {
                Ok((stream, peer)) => return Accepted::Connection(stream, peer),
                Err(e) => e,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => return Accepted::Nothing,
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                _ => {
                    static REFUSED: LogRateLimiter = LogRateLimiter::new();
                    if let Some(more) = REFUSED.allow(Instant::now()) {
                        warn!("cannot accept a connection: {error}{more}");
                    }
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    return Accepted::Exhausted;
                }
            }
        }
    }
}
