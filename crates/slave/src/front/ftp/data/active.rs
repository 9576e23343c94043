//! Connects to the client's data port.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use relais_net::Stream;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use super::error::DataError;
use super::watch::{ControlWatch, wait_for_data};

/// How long the client may take to accept.
pub const CONNECT_TIME: Duration = Duration::from_secs(15);

/// Connects from the address `local` to `to`, within `wait`.
///
/// The local port is any: a client that requires port 20 would need a privileged process.
///
/// # Errors
/// [`DataError::Refused`], [`DataError::NotConnected`], and the control connection's interruption.
pub fn connect_to(
    to: SocketAddr,
    local: SocketAddr,
    wait: Duration,
    control: &mut dyn ControlWatch,
) -> Result<Stream, DataError> {
    let socket = connected(to, local, wait, control)?;
    let local = socket.local_addr().map_err(DataError::Refused)?;
    Ok(Stream::for_transfer(socket, to, local))
}

pub(super) fn connected(
    to: SocketAddr,
    mut local: SocketAddr,
    wait: Duration,
    control: &mut dyn ControlWatch,
) -> Result<TcpStream, DataError> {
    let until = Instant::now() + wait;
    local.set_port(0);
    let socket = begin(to, local).map_err(|e| DataError::Refused(e.into()))?;
    while !wait_for_data(PollFd::new(&socket, PollFlags::OUT), control, 0, until)? {
        if Instant::now() >= until {
            return Err(DataError::NotConnected);
        }
    }
    match sockopt::socket_error(&socket) {
        Ok(Ok(())) => Ok(TcpStream::from(socket)),
        Ok(Err(e)) | Err(e) => Err(DataError::Refused(io::Error::from(e))),
    }
}

/// Begins to connect, without waiting.
fn begin(to: SocketAddr, local: SocketAddr) -> Result<rustix::fd::OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Data connections of one client differ in their remote port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &local)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}
