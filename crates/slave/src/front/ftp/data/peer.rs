//! Who may be at the other end of a data connection: the client of the control connection alone.
//!
//! This rules out that another peer takes the data (port stealing), and that the server connects to
//! a third host (bounce attack, RFC 2577 section 3).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use relais_net::Stream;

use super::error::DataError;

/// Lowest port that the server connects to (RFC 2577 section 3).
const LOWEST_PORT: u16 = 1024;

/// The ends of a control connection, which its data connections share.
#[derive(Debug, Clone)]
pub struct DataPeer {
    /// The client.
    client: SocketAddr,
    /// The local end of the socket.
    local: SocketAddr,
}

impl DataPeer {
    /// Takes the ends of a control connection.
    pub fn of(control: &Stream) -> Self {
        Self { client: canonical(control.peer), local: canonical(control.local) }
    }

    /// Returns the address of the client.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Returns the local address for the sockets of data connections; the port means nothing.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Checks that `to`, which the client has sent, is the client's own; returns the address.
    ///
    /// # Errors
    /// [`DataError::ForeignAddress`], [`DataError::LowPort`].
    pub fn target(&self, to: SocketAddr) -> Result<SocketAddr, DataError> {
        let to = canonical(to);
        if to.ip() != self.client.ip() {
            return Err(DataError::ForeignAddress);
        }
        if to.port() < LOWEST_PORT {
            return Err(DataError::LowPort);
        }
        // The client's address has the scope of a link-local address.
        let mut target = self.client;
        target.set_port(to.port());
        Ok(target)
    }

    /// Checks where an accepted connection comes from; `from` is its peer.
    ///
    /// # Errors
    /// It is not from the client.
    pub fn admit(&self, socket: TcpStream, from: SocketAddr) -> io::Result<Stream> {
        match canonical(from).ip() == self.client.ip() {
            true => Stream::tcp(socket),
            false => Err(foreign("it is not the client of the control connection")),
        }
    }
}

fn foreign(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// Returns the IPv4 address for an IPv4 peer of an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}
