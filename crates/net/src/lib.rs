//! Sockets: framed connections with deadlines, encrypted where that is due, and the waiting room for those
//! that have not logged in.
//!
//! Everything here moves whole frames of `relais-proto` over TCP and gives up on
//! peers that are silent or too slow. It knows nothing of what the frames ask
//! for, and never binds or chooses an address: callers do.

mod connection;
mod descriptors;
mod evictor;
mod foreign_protocol;
mod handshake_limiter;
mod host;
mod minimum_throughput;
mod pre_auth;
mod pre_auth_pool;
mod stream;
pub mod tls;

pub use connection::{Connection, ReadTimeouts, ReplyObserver};
pub use descriptors::raise_fd_limit;
pub use host::{DEFAULT_PORT, Host};
pub use minimum_throughput::MinimumThroughput;
pub use pre_auth::{LoginHandler, LoginStep};
pub use pre_auth_pool::{AuthenticatedConnection, PreAuthPool, wake_fd};
pub use socket2::Socket;
pub use stream::Stream;

use std::io;
use std::net::{TcpListener, ToSocketAddrs};

/// Connections that the kernel keeps until somebody accepts them.
const BACKLOG: i32 = 4096;

/// Binds and listens, with an address that can be bound again at once after a restart.
///
/// # Errors
/// Those of the name look-up and of the socket calls, for the last address tried.
pub fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for addr in address.to_socket_addrs()? {
        match listen_on(addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(addr: std::net::SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        // All interfaces means IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
