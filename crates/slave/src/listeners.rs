//! The sockets on which a slave listens, each for one protocol.
//!
//! Main binds them before it drops privileges, and all processes of the slave inherit them.

use std::io;
use std::net::{SocketAddr, TcpListener};

use relais_engine::Protocol;

/// A socket that listens for one protocol.
#[derive(Debug)]
pub struct Listener {
    /// The protocol of its clients.
    pub protocol: Protocol,
    /// The bound socket.
    pub socket: TcpListener,
}

/// All listeners of a slave: the native one, then those of FTP and HTTP.
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Takes the native listener, and the others.
    #[must_use]
    pub fn new(native: TcpListener, others: Vec<Listener>) -> Self {
        let native = Listener { protocol: Protocol::Native, socket: native };
        Self(std::iter::once(native).chain(others).collect())
    }

    /// Returns protocol and address of each listener.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn addresses(&self) -> io::Result<Vec<(Protocol, SocketAddr)>> {
        let address = |listener: &Listener| Ok((listener.protocol, listener.socket.local_addr()?));
        self.0.iter().map(address).collect()
    }

    /// Returns the address for native clients.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn native_address(&self) -> io::Result<SocketAddr> {
        self.0.first().ok_or(io::ErrorKind::NotConnected)?.socket.local_addr()
    }

    /// Whether only this host reaches the listeners.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn are_on_loopback(&self) -> io::Result<bool> {
        Ok(self.addresses()?.iter().all(|(_, addr)| addr.ip().to_canonical().is_loopback()))
    }

    /// Duplicates the descriptors for a child.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn try_clone(&self) -> io::Result<Self> {
        let clone = |Listener { protocol, socket }: &Listener| {
            Ok(Listener { protocol: *protocol, socket: socket.try_clone()? })
        };
        self.0.iter().map(clone).collect::<io::Result<_>>().map(Self)
    }

    /// Returns the listeners.
    #[must_use]
    pub fn into_vec(self) -> Vec<Listener> {
        self.0
    }
}
