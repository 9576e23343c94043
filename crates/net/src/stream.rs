//! An open byte stream and whose it is: what a login hands on, and what a connection is made of.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

/// An open stream socket, TCP or local, with the addresses of the connection that it carries. They are kept
/// beside it, since a socket that is the near end of an encrypted connection does not know them.
#[derive(Debug)]
pub struct Stream {
    /// In blocking mode.
    pub socket: Socket,
    /// The other side.
    pub peer: SocketAddr,
    /// Our side, as the other one reached it.
    pub local: SocketAddr,
}

impl Stream {
    /// Takes over an open TCP connection.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        prepare(&stream)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        stream.set_nonblocking(false)?;
        Ok(Self { socket: stream.into(), peer, local })
    }
}

/// Sends small frames at once, and notices a peer that has gone without a word.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let patience = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&patience)
}
