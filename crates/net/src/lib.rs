//! Connections with deadlines, TLS, and the pool of connections before their login.
//!
//! This crate moves whole frames of `relais-proto` over TCP, and bytes of other protocols. It ends
//! connections whose peer is silent or too slow. It does not interpret requests, and it chooses no
//! address: callers do.

mod arrival;
mod connection;
mod epoll_set;
mod evictor;
mod fd_limit;
mod foreign_protocol;
mod frame_login;
mod handshake_limiter;
mod host;
mod ip_network;
mod listener_set;
mod login_handler;
mod minimum_throughput;
mod pre_auth;
mod pre_auth_listener;
mod pre_auth_pool;
mod proxied;
mod proxy_protocol;
mod readiness;
mod send_buffer;
mod stream;
pub mod tls;

pub use connection::{Connection, ReadTimeouts, ReplyObserver};
pub use fd_limit::raise_fd_limit;
pub use frame_login::{FrameHandler, FrameLogin};
pub use host::{DEFAULT_PORT, Host};
pub use ip_network::IpNetwork;
pub use login_handler::{LoginHandler, LoginStep};
pub use minimum_throughput::MinimumThroughput;
pub use pre_auth_listener::{NewConnection, PreAuthListener, TlsRule};
pub use pre_auth_pool::{AuthenticatedConnection, HandlerFactory, PreAuthPool};
pub use proxied::TrustedProxies;
pub use proxy_protocol::{ProxyHeaderError, parse_proxy_header};
pub use stream::Stream;

use std::io;
use std::net::{TcpListener, ToSocketAddrs};

/// Length of the listen queue: connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 4096;

/// Binds and listens with `SO_REUSEADDR`, so that a restarted server gets its address at once.
///
/// # Errors
/// Errors of the name look-up and of the socket calls, for the last address tried.
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
        // The unspecified address means IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
