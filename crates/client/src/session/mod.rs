//! The session with some server of the cluster: found, kept, and replaced when it fails.
//!
//! Owns the connection, what is known of the cluster, and which slaves failed. It asks and
//! answers in terms of the protocol; it knows no commands and prints only notices about
//! servers. A session keeps nothing on the slave but who the user is, so any request can be
//! repeated on another one.

mod changes;
mod connect;
mod consistency;
mod destination;
mod handshake;
mod holders;
mod login_prompt;
mod observed;
mod requests;
mod route;
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
use relais_proto::{ErrorCode, ServerRole, SlaveId};
use rustix::net::RecvFlags;

pub use changes::new_id;
pub use destination::Destination;
use observed::{ObservedState, SharedLsn};
pub use relais_net::Host;
pub use requests::{Details, StatusReport};
use route::Avoid;
pub use route::{Route, is_usable};
pub use trust::Security;

use crate::Failure;
use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::origin::Origin;
use crate::saved_state::SavedState;

/// Whom to connect to, and as whom.
#[derive(Clone)]
pub struct Settings {
    /// A master, or a slave.
    pub host: Host,
    /// Empty: no account.
    pub user: String,
    /// None: it is asked for at the terminal where one is needed.
    pub password: Option<Vec<u8>>,
    /// How the lines to servers are kept safe.
    pub security: Security,
    /// How long to go on trying where no server is reached.
    pub retry: Duration,
}

/// An open session on one slave.
struct OpenSession {
    connection: Connection,
    addr: SocketAddr,
    slave: SlaveId,
    role: ServerRole,
    /// The highest change that the server has told on this connection, or was told.
    server_lsn: SharedLsn,
}

/// A session that moves between slaves as they fail.
pub struct Session {
    settings: Settings,
    tls: trust::TlsState,
    /// Whether the password was typed, and not given in a file.
    typed: bool,
    interrupt: Interrupt,
    notices: Notices,
    /// Named by a slave that the user dialled.
    master: Option<Host>,
    route: Option<Route>,
    avoid: Avoid,
    /// Whose servers were connected to last.
    origin: Option<Origin>,
    /// What servers told besides their answers; the highest change that was seen is there.
    observed: ObservedState,
    /// What is kept for later runs; none where that is not possible.
    saved: Option<SavedState>,
    /// When the master could not be reached last.
    master_away: Option<Instant>,
    open: Option<OpenSession>,
    /// Who has what is to be carried on.
    prefer: Option<SlaveId>,
    current_slave: CurrentSlave,
}

/// Which slave is in use, for whoever is told of it while the session is lent out.
#[derive(Debug, Clone, Default)]
pub struct CurrentSlave(Arc<Mutex<Option<SlaveId>>>);

impl CurrentSlave {
    /// The slave that was connected to last.
    #[must_use]
    pub fn slave(&self) -> Option<SlaveId> {
        *self.cell()
    }

    /// A panic elsewhere leaves this one value whole.
    fn cell(&self) -> MutexGuard<'_, Option<SlaveId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// A session that is not open yet; the first request opens it.
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
            saved: None,
            master_away: None,
            open: None,
            prefer: None,
            current_slave: CurrentSlave::default(),
        }
    }

    /// Opens the session where it is not.
    ///
    /// # Errors
    /// That no server was reached, or refused.
    pub fn connect(&mut self) -> Result<(), Failure> {
        self.ensure_open().map(|_| ())
    }

    /// As [`Self::connect`], but does not try again: for what is not worth a wait.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_once(&mut self) -> Result<(), Failure> {
        let retry = std::mem::take(&mut self.settings.retry);
        let result = self.connect();
        self.settings.retry = retry;
        result
    }

    /// Drops a connection that died while nobody was using it, so that the next request opens
    /// a new one without a word. To be called before a command.
    pub fn refresh(&mut self) {
        if self.open.as_ref().is_some_and(|open| !is_idle_and_open(&open.connection)) {
            debug!("the idle connection was closed");
            self.open = None;
        }
        // Another client of this user may have seen more.
        self.load_seen();
    }

    /// Whose servers were connected to last.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The server in use, and whether it stands alone or is a cluster's slave.
    #[must_use]
    pub fn server(&self) -> Option<(SocketAddr, ServerRole)> {
        self.open.as_ref().map(|open| (open.addr, open.role))
    }

    /// By which authority the server in use is certified; none where the line to it is in the clear.
    #[must_use]
    pub fn authority(&self) -> Option<Fingerprint> {
        authority_of(&self.open.as_ref()?.connection)
    }

    /// Whether the session is open.
    #[cfg(test)]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether this slave is left out now.
    #[cfg(test)]
    pub fn avoids(&self, slave: SlaveId) -> bool {
        self.avoid.holds(slave, Instant::now())
    }

    /// Another time to go on trying.
    #[cfg(test)]
    pub fn set_retry(&mut self, retry: Duration) {
        self.settings.retry = retry;
    }

    /// Which slave is in use, also later.
    #[must_use]
    pub fn current_slave(&self) -> CurrentSlave {
        self.current_slave.clone()
    }

    /// How long to go on trying where nothing can be done at the moment.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.settings.retry
    }

    /// The next connection should be with this slave, or none in particular. One with another slave
    /// of the cluster is given up for it, unless this one has failed lately.
    pub fn prefer(&mut self, slave: Option<SlaveId>) {
        self.prefer = slave;
        let wanted = self.preferred();
        let elsewhere =
            |open: &OpenSession| open.role == ServerRole::Slave && Some(open.slave) != wanted;
        if wanted.is_some() && self.open.as_ref().is_some_and(elsewhere) {
            self.drop_connection();
        }
    }

    /// The slave that is preferred, where it has not failed lately.
    fn preferred(&self) -> Option<SlaveId> {
        self.prefer.filter(|slave| !self.avoid.holds(*slave, Instant::now()))
    }

    /// The server that the user named.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.settings.host
    }

    /// Gives up the connection, whatever state it is in, without holding it against the slave.
    pub fn drop_connection(&mut self) {
        self.open = None;
        self.interrupt.unwatch();
    }

    /// The slave in use failed: the next request goes to another one where there is one.
    fn mark_lost(&mut self, why: &str) {
        self.interrupt.unwatch();
        let Some(open) = self.open.take() else { return };
        if !self.interrupt.is_raised() {
            debug!("{} failed: {why}", open.addr);
            self.avoid.add(open.slave, Instant::now());
            self.notices.record_lost(open.addr, why);
        }
    }

    /// The open session, opened now where it was not.
    fn ensure_open(&mut self) -> Result<&mut OpenSession, Failure> {
        if self.interrupt.is_raised() {
            return Err(Failure::interrupted());
        }
        let mut left = 3;
        let open = loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => self.connect_with_retry()?,
            };
            left -= 1;
            match self.send_seen(open) {
                Some(open) => break open,
                None if left > 0 => {}
                None => {
                    return Err(Failure::new(
                        ErrorCode::Unreachable,
                        "every server that was asked went away",
                    ));
                }
            }
        };
        self.interrupt.watch(open.connection.stream());
        *self.current_slave.cell() = Some(open.slave);
        Ok(self.open.insert(open))
    }
}

/// By which authority the server at the other end is certified; none for a connection in the clear.
fn authority_of(connection: &Connection) -> Option<Fingerprint> {
    Some(connection.tls_info()?.identity?.authority)
}

/// Whether a connection on which nothing is asked is still good: open, and nothing has come.
fn is_idle_and_open(connection: &Connection) -> bool {
    let peek =
        rustix::net::recv(connection.stream(), &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !connection.has_input() && matches!(peek, Err(rustix::io::Errno::WOULDBLOCK))
}
