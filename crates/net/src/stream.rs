//! An open byte stream with the addresses of its connection.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

/// An open stream socket, TCP or local, with the addresses of its connection.
///
/// The addresses are kept beside the socket, because the local end of an encrypted connection does
/// not know them.
#[derive(Debug)]
pub struct Stream {
    /// In blocking mode.
    pub socket: Socket,
    /// The address of the peer.
    pub peer: SocketAddr,
    /// The local address, as the peer reached it.
    pub local: SocketAddr,
}

impl Stream {
    /// Takes over an open TCP connection and sets it to blocking mode.
    ///
    /// # Errors
    /// Errors of the socket calls.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        prepare(&stream)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        stream.set_nonblocking(false)?;
        Ok(Self { socket: stream.into(), peer, local })
    }
}

/// Turns on TCP_NODELAY for small frames, and TCP keepalive to detect a vanished peer.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
