//! Listens for one data connection, and accepts it from the permitted peer alone.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Stream;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{SocketFlags, acceptfrom_with};

use super::error::DataError;
use super::peer::DataPeer;
use super::watch::{ControlWatch, wait_for_data};

/// How long a listener waits for a command that uses it.
const LISTEN_TIME: Duration = Duration::from_secs(60);
/// How long a command waits for its data connection.
pub const CONNECTION_WAIT: Duration = Duration::from_secs(30);
/// Ports of data connections if none are configured: the dynamic ports of RFC 6335 section 6.
///
/// The system looks through all closing connections when it chooses a port itself, so that costs
/// milliseconds after some ten thousand transfers.
const DYNAMIC_PORTS: RangeInclusive<u16> = 49_152..=65_535;
/// Most connections from other peers before the wait ends.
///
/// Each costs a few system calls, so a flood of them must not occupy the session.
const FOREIGN_PEERS: u32 = 1000;

/// The listening socket for one data connection.
#[derive(Debug)]
pub struct PassiveListener {
    listener: TcpListener,
    port: u16,
    expires: Instant,
}

impl PassiveListener {
    /// Listens on `local`, at a free port of `ports`, or at a dynamic port without `ports`.
    ///
    /// The first port tried is random, so an attacker cannot predict it.
    ///
    /// # Errors
    /// [`DataError::NoFreePort`], and errors of the socket.
    pub fn bind(
        mut local: SocketAddr,
        ports: Option<&RangeInclusive<u16>>,
    ) -> Result<Self, DataError> {
        let ports = ports.unwrap_or(&DYNAMIC_PORTS);
        let (first, last) = (*ports.start(), *ports.end());
        let random = u16::from_ne_bytes(relais_os::random().map_err(DataError::NoListener)?);
        let start = first + random.checked_rem((last - first).saturating_add(1)).unwrap_or(0);
        for port in (start..=last).chain(first..start) {
            local.set_port(port);
            match relais_net::listen(local) {
                Ok(listener) => {
                    listener.set_nonblocking(true).map_err(DataError::NoListener)?;
                    return Ok(Self { listener, port, expires: Instant::now() + LISTEN_TIME });
                }
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
                Err(e) => return Err(DataError::NoListener(e)),
            }
        }
        Err(DataError::NoFreePort)
    }

    /// Returns the port that the client connects to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns when the listener is closed if no command has used it.
    pub fn expires(&self) -> Instant {
        self.expires
    }

    /// Returns the entry that is readable when a connection has come.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.listener, PollFlags::IN)
    }

    /// Accepts the connection of `peer` if it has come; closes one of another peer.
    pub fn try_accept(&self, peer: &DataPeer) -> Option<Stream> {
        let (stream, from) = self.accept_next().ok()?;
        let admitted = peer.admit(stream, from);
        admitted.inspect_err(|e| debug!("data connection from {from} rejected: {e}")).ok()
    }

    /// Accepts a connection that has come, as one that does not block.
    fn accept_next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, from) = acceptfrom_with(&self.listener, flags)?;
        let from = from.ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((socket.into(), SocketAddr::try_from(from)?))
    }

    /// Waits at most `wait` for the connection of `peer`; closes those of others at once.
    ///
    /// # Errors
    /// [`DataError::NotConnected`], and the control connection's interruption.
    pub fn accept(
        self,
        peer: &DataPeer,
        wait: Duration,
        control: &mut dyn ControlWatch,
    ) -> Result<Stream, DataError> {
        let until = Instant::now() + wait;
        let mut foreign = 0;
        while Instant::now() < until && foreign < FOREIGN_PEERS {
            match self.accept_next() {
                Ok((stream, from)) => match peer.admit(stream, from) {
                    Ok(stream) => return Ok(stream),
                    Err(e) => {
                        foreign += 1;
                        debug!("data connection from {from} rejected: {e}");
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    wait_for_data(self.poll_fd(), control, 0, until)?;
                }
                // The peer has gone before it was accepted.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(DataError::NoListener(e)),
            }
        }
        Err(DataError::NotConnected)
    }
}
