//! Connections of trusted proxies, whose first bytes tell the client's address.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::RecvFlags;
use socket2::Socket;

use crate::ip_network::IpNetwork;
use crate::proxy_protocol::{FIRST_BYTE, parse_proxy_header, wanted_len};
use crate::readiness::poll;
use crate::stream::Stream;

/// The proxies of a listener whose headers are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Arc<[IpNetwork]>,
    is_optional: bool,
}

impl TrustedProxies {
    /// Each connection from these networks must begin with a header.
    #[must_use]
    pub fn required(networks: &[IpNetwork]) -> Self {
        Self { networks: networks.into(), is_optional: false }
    }

    /// A connection from these networks may begin with a header, which the first byte tells.
    ///
    /// So it must not be used for protocols in which the server speaks first.
    #[must_use]
    pub fn optional(networks: &[IpNetwork]) -> Self {
        Self { networks: networks.into(), is_optional: true }
    }

    /// Returns the reader of the header of a connection; none if `peer` is no trusted proxy.
    pub(crate) fn header_from(&self, peer: SocketAddr) -> Option<ProxyHeaderReader> {
        self.networks
            .iter()
            .any(|network| network.contains(peer.ip()))
            .then(|| ProxyHeaderReader { input: Vec::new(), is_optional: self.is_optional })
    }

    /// Takes over a connection, and reads its header if `stream` is that of a trusted proxy.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::InvalidData`] for a malformed header;
    /// [`io::ErrorKind::TimedOut`] if it is not there at `until`.
    pub fn accept(&self, stream: TcpStream, until: Instant) -> io::Result<Stream> {
        let mut stream = Stream::tcp(stream)?;
        stream.peer.set_ip(stream.peer.ip().to_canonical());
        let Some(mut header) = self.header_from(stream.peer) else { return Ok(stream) };
        loop {
            match header.advance(stream.socket()) {
                Ok(client) => {
                    stream.set_client(client);
                    return Ok(stream);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                const LATE: &str = "the PROXY header did not come in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, LATE));
            }
            poll(stream.socket(), PollFlags::IN, Some(left))?;
        }
    }
}

/// Reads the header of one connection and not a byte more.
#[derive(Debug)]
pub(crate) struct ProxyHeaderReader {
    input: Vec<u8>,
    is_optional: bool,
}

impl ProxyHeaderReader {
    /// Reads until the header is complete; returns the client's address, or none.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if more bytes have to come; errors of the socket and of the
    /// header.
    pub fn advance(&mut self, socket: &Socket) -> io::Result<Option<SocketAddr>> {
        if self.is_optional && self.input.is_empty() {
            let mut first = [0];
            let (_, got) = rustix::net::recv(socket, &mut first, RecvFlags::PEEK | NO_WAIT)?;
            if got > 0 && first[0] != FIRST_BYTE {
                return Ok(None);
            }
        }
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        loop {
            let (len, wanted) = (self.input.len(), wanted_len(&self.input).map_err(invalid)?);
            if len == wanted {
                return parse_proxy_header(&self.input).map_err(invalid);
            }
            self.input.resize(wanted, 0);
            let got = rustix::net::recv(socket, &mut self.input[len..], NO_WAIT);
            self.input.truncate(len + got.map_or(0, |(_, got)| got));
            if got?.1 == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

const NO_WAIT: RecvFlags = RecvFlags::DONTWAIT;
