//! The session with a server of the cluster: opened, kept, and replaced when the server fails.
//!
//! The session owns the connection, the known route and the list of failed slaves. It sends
//! requests and reads replies. It knows no commands, and prints only notices about servers. A slave
//! stores nothing of a session except its user, so each request can be repeated on another slave.

mod changes;
mod connect;
mod consistency;
mod destination;
mod handshake;
mod holders;
mod login_prompt;
mod observed;
mod requests;
mod sessions;
mod slaves;
#[cfg(test)]
mod tests;
mod trust;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Connection;
use relais_net::tls::Fingerprint;
use relais_proto::{Lsn, ServerRole, SlaveId};
use rustix::net::RecvFlags;

pub use changes::new_id;
pub use destination::Destination;
use observed::{ObservedState, SharedLsn};
pub use relais_net::Host;
pub use requests::{Details, StatusReport};
pub use trust::Security;

use crate::Failure;
use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::origin::Origin;
use crate::route::{Avoid, Route};
use crate::saved_state::SavedState;

/// The server, the credentials and the connection options.
#[derive(Clone)]
pub struct Settings {
    /// A master or a slave.
    pub host: Host,
    /// User name; empty without an account.
    pub user: String,
    /// Password; if it is none, the client asks at the terminal when a server needs one.
    pub password: Option<Vec<u8>>,
    /// How connections are secured.
    pub security: Security,
    /// How long to retry while no server can be reached.
    pub retry: Duration,
}

/// An open session with one slave.
struct OpenSession {
    connection: Connection,
    addr: SocketAddr,
    slave: SlaveId,
    role: ServerRole,
    /// Highest LSN that was sent or received on this connection.
    server_lsn: SharedLsn,
}

/// A session that moves to another slave when its slave fails.
pub struct Session {
    settings: Settings,
    tls: trust::TlsState,
    /// Whether the user typed the password, rather than giving a file.
    typed: bool,
    interrupt: Interrupt,
    notices: Notices,
    /// The master that the named slave reported.
    master: Option<Host>,
    route: Option<Route>,
    avoid: Avoid,
    /// Origin of the server that was connected last.
    origin: Option<Origin>,
    /// Highest LSN seen, and servers that have lost their master.
    observed: ObservedState,
    /// LSN that was dropped and reported last.
    dropped_lsn: Option<Lsn>,
    /// State kept for later runs; none without a home folder.
    saved: Option<SavedState>,
    /// Time at which the master last could not be reached.
    master_away: Option<Instant>,
    open: Option<OpenSession>,
    /// The slave that holds the partial upload; preferred for resume.
    prefer: Option<SlaveId>,
    current_slave: CurrentSlave,
}

/// Shared handle on the id of the current slave.
///
/// Progress callbacks read it while a transfer borrows the session.
#[derive(Debug, Clone, Default)]
pub struct CurrentSlave(Arc<Mutex<Option<SlaveId>>>);

impl CurrentSlave {
    /// Returns the slave that was connected last.
    #[must_use]
    pub fn slave(&self) -> Option<SlaveId> {
        *self.cell()
    }

    /// Ignores poisoning: a panic elsewhere leaves this value intact.
    fn cell(&self) -> MutexGuard<'_, Option<SlaveId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Creates a session without a connection; the first request connects.
    #[must_use]
    pub fn new(settings: Settings, interrupt: Interrupt, notices: Notices) -> Self {
        Self {
            settings,
            tls: trust::TlsState::default(),
            typed: false,
            interrupt,
            notices,
            master: None,
            route: None,
            avoid: Avoid::default(),
            origin: None,
            observed: ObservedState::default(),
            dropped_lsn: None,
            saved: None,
            master_away: None,
            open: None,
            prefer: None,
            current_slave: CurrentSlave::default(),
        }
    }

    /// Connects if the session has no connection.
    ///
    /// # Errors
    /// No server can be reached, or the server refuses.
    pub fn connect(&mut self) -> Result<(), Failure> {
        self.ensure_open().map(|_| ())
    }

    /// Returns whether the session has ever been connected.
    #[must_use]
    pub fn has_connected(&self) -> bool {
        self.origin.is_some()
    }

    /// As [`Self::connect`], but without retries, for requests that are not worth a wait.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_once(&mut self) -> Result<(), Failure> {
        let retry = std::mem::take(&mut self.settings.retry);
        let result = self.connect();
        self.settings.retry = retry;
        result
    }

    /// Drops an idle connection that has died, so that the next request reconnects silently.
    ///
    /// The caller calls it before each command.
    pub fn refresh(&mut self) {
        if self.open.as_ref().is_some_and(|open| !is_idle_and_open(&open.connection)) {
            debug!("the idle connection was closed");
            self.open = None;
        }
        // Another client of this user may have seen a later change.
        self.load_seen();
    }

    /// Returns the origin of the server that was connected last.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Returns the current server and its role.
    #[must_use]
    pub fn server(&self) -> Option<(SocketAddr, ServerRole)> {
        self.open.as_ref().map(|open| (open.addr, open.role))
    }

    /// Returns the authority of the current server; none without encryption.
    #[must_use]
    pub fn authority(&self) -> Option<Fingerprint> {
        authority_of(&self.open.as_ref()?.connection)
    }

    /// Whether the session has a connection.
    #[cfg(test)]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the session avoids this slave now.
    #[cfg(test)]
    pub fn avoids(&self, slave: SlaveId) -> bool {
        self.avoid.holds(slave, Instant::now())
    }

    /// Sets the retry time.
    #[cfg(test)]
    pub fn set_retry(&mut self, retry: Duration) {
        self.settings.retry = retry;
    }

    /// Returns a handle on the id of the current slave.
    #[must_use]
    pub fn current_slave(&self) -> CurrentSlave {
        self.current_slave.clone()
    }

    /// Returns how long a request is retried.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.settings.retry
    }

    /// Prefers `slave` for the next connection; none removes the preference.
    ///
    /// A connection with another slave of the cluster is dropped, unless the preferred slave has
    /// failed recently.
    pub fn prefer(&mut self, slave: Option<SlaveId>) {
        self.prefer = slave;
        let wanted = self.preferred();
        let elsewhere =
            |open: &OpenSession| open.role == ServerRole::Slave && Some(open.slave) != wanted;
        if wanted.is_some() && self.open.as_ref().is_some_and(elsewhere) {
            self.drop_connection();
        }
    }

    /// Returns the preferred slave, unless it has failed recently.
    fn preferred(&self) -> Option<SlaveId> {
        self.prefer.filter(|slave| !self.avoid.holds(*slave, Instant::now()))
    }

    /// Returns the server that the user named.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.settings.host
    }

    /// Drops the connection in any state, without avoiding the slave.
    pub fn drop_connection(&mut self) {
        self.open = None;
        self.interrupt.unwatch();
    }

    /// Drops the connection of a failed slave; the next request prefers another slave.
    fn mark_lost(&mut self, why: &str) {
        self.interrupt.unwatch();
        let Some(open) = self.open.take() else { return };
        if !self.interrupt.is_raised() {
            debug!("{} failed: {why}", open.addr);
            self.avoid.add(open.slave, Instant::now());
            self.notices.record_lost(open.addr, why);
        }
    }

    /// Returns the open session, and connects first if needed.
    fn ensure_open(&mut self) -> Result<&mut OpenSession, Failure> {
        if self.interrupt.is_raised() {
            return Err(Failure::interrupted());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect_with_retry()?,
        };
        self.queue_seen(&mut open);
        self.interrupt.watch(open.connection.stream());
        *self.current_slave.cell() = Some(open.slave);
        Ok(self.open.insert(open))
    }
}

/// Returns the authority of the peer's certificate; none without encryption.
fn authority_of(connection: &Connection) -> Option<Fingerprint> {
    Some(connection.tls_info()?.identity?.authority)
}

/// Whether an idle connection is still usable: open, without unread input.
fn is_idle_and_open(connection: &Connection) -> bool {
    let peek =
        rustix::net::recv(connection.stream(), &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !connection.has_input() && matches!(peek, Err(rustix::io::Errno::WOULDBLOCK))
}
