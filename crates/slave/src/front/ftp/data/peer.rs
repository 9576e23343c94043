//! Who may be at the other end of a data connection: the client of the control connection alone.
//!
//! This rules out that another peer takes the data (port stealing), and that the server connects to
//! a third host (bounce attack, RFC 2577 section 3).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use relais_net::{Stream, TrustedProxies};

use super::error::DataError;

/// Lowest port that the server connects to (RFC 2577 section 3).
const LOWEST_PORT: u16 = 1024;
/// How long a proxy may take to send its header. It sends it first, so it is here at once.
const HEADER_TIME: Duration = Duration::from_secs(1);

/// The ends of a control connection, which its data connections share.
#[derive(Debug, Clone)]
pub struct DataPeer {
    /// The client.
    client: SocketAddr,
    /// The local end of the socket.
    local: SocketAddr,
    /// The trusted proxy through which the client came.
    proxy: Option<IpAddr>,
}

impl DataPeer {
    /// Takes the ends of a control connection.
    pub fn of(control: &Stream) -> Self {
        Self {
            client: canonical(control.peer),
            local: canonical(control.local),
            proxy: control.proxied.map(|proxy| proxy.ip().to_canonical()),
        }
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

    /// Checks where an accepted connection comes from; `from` is its peer. It must not block, and
    /// the result does not either.
    ///
    /// # Errors
    /// It is not from the client, or not from the client's proxy with a header that names it.
    pub fn admit(&self, socket: TcpStream, from: SocketAddr) -> io::Result<Stream> {
        let stream = match self.proxy {
            None => Stream::for_transfer(socket, from, self.local),
            Some(proxy) if proxy == from.ip().to_canonical() => {
                let trusted = TrustedProxies::required(&[proxy.into()]);
                let stream = trusted.accept(socket, Instant::now() + HEADER_TIME)?;
                stream.set_nonblocking(true)?;
                stream
            }
            Some(_) => return Err(foreign("it does not come from the proxy")),
        };
        let is_relayed = stream.proxied.is_some() == self.proxy.is_some();
        match is_relayed && canonical(stream.peer).ip() == self.client.ip() {
            true => Ok(stream),
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
