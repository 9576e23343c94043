//! Data connections: one for each transfer, to or from the client of the control connection.
//!
//! [`DataPort`] keeps how the next one comes about. It never serves another peer, and it starts no
//! thread.

mod active;
mod error;
mod passive;
mod peer;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Stream;
use relais_net::tls::{DataDirection, TlsServer};
use rustix::event::{PollFd, PollFlags};

use self::active::{CONNECT_TIME, connect_to};
pub use self::error::{DataError, Interruption};
use self::passive::{CONNECTION_WAIT, PassiveListener};
use self::peer::DataPeer;
pub use self::stream::DataStream;
pub use self::watch::ControlWatch;

/// How the next data connection comes about.
#[derive(Debug)]
enum NextConnection {
    /// No command has said it.
    Unknown,
    /// The client connects (PASV, EPSV).
    Accepted(PassiveListener),
    /// The client has connected before its command, and may encrypt the connection now.
    Arrived(Stream, Instant),
    /// The client has begun to encrypt the connection before its command.
    Encrypting(DataStream, Instant),
    /// The server connects (PORT, EPRT).
    Made(SocketAddr),
}

/// The data port of a session (RFC 959 section 3.2).
#[derive(Debug)]
pub struct DataPort {
    peer: DataPeer,
    next: NextConnection,
    /// Whether EPSV ALL has come.
    is_epsv_only: bool,
    /// How long a command waits for its connection, passive and active.
    waits: (Duration, Duration),
}

impl DataPort {
    /// Makes the data port of a control connection.
    pub fn new(control: &Stream) -> Self {
        Self {
            peer: DataPeer::of(control),
            next: NextConnection::Unknown,
            is_epsv_only: false,
            waits: (CONNECTION_WAIT, CONNECT_TIME),
        }
    }

    /// Listens for the next data connection, instead of what an earlier command has said.
    ///
    /// # Errors
    /// [`DataError::NoFreePort`], and errors of the socket.
    pub fn listen(&mut self, ports: Option<&RangeInclusive<u16>>) -> Result<u16, DataError> {
        // A port of the range is free before another is taken.
        self.close();
        let listener = PassiveListener::bind(self.peer.local(), ports)?;
        let port = listener.port();
        self.next = NextConnection::Accepted(listener);
        Ok(port)
    }

    /// Sets the address to which the next data connection is made.
    ///
    /// # Errors
    /// The client may not name this address.
    pub fn set_target(&mut self, to: SocketAddr) -> Result<(), DataError> {
        self.next = NextConnection::Made(self.peer.target(to)?);
        Ok(())
    }

    /// Forgets what an earlier command has said.
    pub fn close(&mut self) {
        self.next = NextConnection::Unknown;
    }

    /// Returns when [`Self::close_expired`] is due.
    pub fn expires(&self) -> Option<Instant> {
        match &self.next {
            NextConnection::Accepted(listener) => Some(listener.expires()),
            NextConnection::Arrived(_, expires) => Some(*expires),
            NextConnection::Encrypting(data, expires) => {
                Some(data.handshake().map_or(*expires, |(until, _)| until.min(*expires)))
            }
            NextConnection::Unknown | NextConnection::Made(_) => None,
        }
    }

    /// Closes a listener that no command has used in time.
    pub fn close_expired(&mut self, now: Instant) {
        if self.expires().is_some_and(|expires| expires <= now) {
            self.close();
        }
    }

    /// Returns what is ready when [`Self::advance_encryption`] can make progress.
    pub fn arriving(&self) -> Option<PollFd<'_>> {
        match &self.next {
            NextConnection::Accepted(listener) => Some(listener.poll_fd()),
            NextConnection::Arrived(stream, _) => Some(stream.poll_fd(PollFlags::IN)),
            NextConnection::Encrypting(data, _) => data.handshake().map(|(_, fd)| fd),
            NextConnection::Unknown | NextConnection::Made(_) => None,
        }
    }

    /// Encrypts a connection that comes before its command, if its client begins to.
    ///
    /// It waits for nothing but the command. Most clients wait for the reply 150. Others, such as
    /// Python's aioftp, send the command only after the handshake. The command has `patience` to
    /// come first: only it tells the direction of the transfer, without which the client gets no
    /// new session ticket at once.
    pub fn advance_encryption(&mut self, tls: &TlsServer, control: &Stream, patience: Duration) {
        self.next = match std::mem::replace(&mut self.next, NextConnection::Unknown) {
            NextConnection::Accepted(listener) => match listener.try_accept(&self.peer) {
                Some(stream) => NextConnection::Arrived(stream, listener.expires()),
                None => NextConnection::Accepted(listener),
            },
            NextConnection::Arrived(stream, expires)
                if control
                    .poll(PollFlags::IN, Some(patience))
                    .is_ok_and(|came| !came.is_empty()) =>
            {
                NextConnection::Arrived(stream, expires)
            }
            NextConnection::Arrived(stream, expires) => {
                let mut data = DataStream::new(stream);
                let begun = data.begin_encryption(tls, control, DataDirection::Receiving);
                continue_encryption(begun.map(|()| data), expires)
            }
            NextConnection::Encrypting(data, expires) => continue_encryption(Ok(data), expires),
            other => other,
        };
    }

    /// Returns the connection whose handshake has begun before its command.
    pub fn take_encrypting(&mut self) -> Option<DataStream> {
        match std::mem::replace(&mut self.next, NextConnection::Unknown) {
            NextConnection::Encrypting(data, _) => Some(data),
            other => {
                self.next = other;
                None
            }
        }
    }

    /// Returns the ends of the control connection.
    pub fn peer(&self) -> &DataPeer {
        &self.peer
    }

    /// Has only EPSV set data connections up from now on (RFC 2428 section 4).
    pub fn set_epsv_only(&mut self) {
        self.is_epsv_only = true;
    }

    /// Whether EPSV ALL has come.
    pub fn is_epsv_only(&self) -> bool {
        self.is_epsv_only
    }

    /// Whether a command has said how the next connection comes about.
    pub fn is_ready(&self) -> bool {
        !matches!(self.next, NextConnection::Unknown)
    }

    /// Opens the data connection of a transfer; the next transfer needs a new address.
    ///
    /// # Errors
    /// The reason why there is no connection, or the control connection's interruption.
    pub fn open(&mut self, control: &mut dyn ControlWatch) -> Result<Stream, DataError> {
        match std::mem::replace(&mut self.next, NextConnection::Unknown) {
            NextConnection::Unknown | NextConnection::Encrypting(..) => Err(DataError::NoAddress),
            NextConnection::Arrived(stream, _) => Ok(stream),
            NextConnection::Accepted(listener) => {
                listener.accept(&self.peer, self.waits.0, control)
            }
            NextConnection::Made(to) => connect_to(to, self.peer.local(), self.waits.1, control),
        }
    }
}

/// Makes progress on a handshake; a connection on which it fails is closed.
fn continue_encryption(begun: Result<DataStream, DataError>, expires: Instant) -> NextConnection {
    let continued = begun.and_then(|mut data| {
        data.continue_handshake()?;
        Ok(data)
    });
    match continued {
        Ok(data) => NextConnection::Encrypting(data, expires),
        Err(e) => {
            debug!("a data connection was not encrypted: {e}");
            NextConnection::Unknown
        }
    }
}
