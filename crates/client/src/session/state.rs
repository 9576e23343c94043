//! What a session is: its connection, and what it knows of the servers.
//!
//! The other files of this folder are chapters of [`Session`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::tls::{Fingerprint, TlsMode, TrustedAuthorities};
use relais_net::{Connection, Host};
use relais_proto::{Lsn, ServerRole, SlaveId};

use super::observed::{ObservedState, SharedLsn};

use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::origin::Origin;
use crate::route::{Avoid, Route};
use crate::saved_state::SavedState;
use crate::{Failure, Result};

/// What this session knows about encryption.
#[derive(Debug, Default)]
pub struct TlsState {
    /// Authority of the servers, once it is known.
    pub authority: Option<Fingerprint>,
    /// Whether a server demanded encryption inside this machine too.
    pub everywhere: bool,
    /// Whether the authority could not be saved for later runs.
    pub unsaved: bool,
}

/// The server, the credentials and the connection options.
#[derive(Clone)]
pub struct Settings {
    /// A master or a slave.
    pub host: Host,
    /// User name; empty without an account.
    pub user: String,
    /// Password; if it is none, the client asks at the terminal when a server needs one.
    pub password: Option<Vec<u8>>,
    /// Which connections are encrypted.
    pub encrypt: TlsMode,
    /// Authorities to trust; if none, the client trusts the authority that it met first.
    pub authorities: Option<TrustedAuthorities>,
    /// Whether a password may be sent without encryption.
    pub insecure: bool,
    /// How long to retry while no server can be reached.
    pub retry: Duration,
    /// Highest number of connections of one download.
    pub streams: usize,
}

/// An open session with one slave.
pub struct OpenSession {
    pub(super) connection: Connection,
    pub(super) addr: SocketAddr,
    pub(super) slave: SlaveId,
    pub(super) role: ServerRole,
    /// Highest LSN that was sent or received on this connection.
    pub(super) server_lsn: SharedLsn,
}

/// A session that moves to another slave when its slave fails.
pub struct Session {
    pub settings: Settings,
    pub(super) tls: TlsState,
    /// Whether the user typed the password, rather than giving a file.
    pub(super) typed: bool,
    pub(super) interrupt: Interrupt,
    pub(super) notices: Notices,
    /// The master that the named slave reported.
    pub(super) master: Option<Host>,
    pub(super) route: Option<Route>,
    pub(super) avoid: Avoid,
    /// Origin of the server that was connected last.
    pub origin: Option<Origin>,
    /// Whether a server has accepted the login of this run.
    pub(super) has_logged_in: bool,
    /// What all servers have reported.
    pub observed: ObservedState,
    /// LSN that was dropped and reported last.
    pub(super) dropped_lsn: Option<Lsn>,
    /// State kept for later runs; none without a home folder.
    pub saved: Option<SavedState>,
    /// Time at which the master last could not be reached.
    pub(super) master_away: Option<Instant>,
    pub(super) open: Option<OpenSession>,
    /// The slave that holds the partial upload; preferred for resume.
    pub(super) prefer: Option<SlaveId>,
}

impl Session {
    /// Creates a session without a connection; the first request connects.
    pub fn new(settings: Settings, interrupt: Interrupt, notices: Notices) -> Self {
        Self {
            settings,
            tls: TlsState::default(),
            typed: false,
            interrupt,
            notices,
            master: None,
            route: None,
            avoid: Avoid::default(),
            origin: None,
            has_logged_in: false,
            observed: ObservedState::default(),
            dropped_lsn: None,
            saved: None,
            master_away: None,
            open: None,
            prefer: None,
        }
    }

    /// Connects if the session has no connection.
    ///
    /// # Errors
    /// No server can be reached, or the server refuses.
    pub fn connect(&mut self) -> Result<()> {
        self.ensure_open().map(|_| ())
    }

    /// As [`Self::connect`], but without retries, for requests that are not worth a wait.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_once(&mut self) -> Result<()> {
        let retry = std::mem::take(&mut self.settings.retry);
        let result = self.connect();
        self.settings.retry = retry;
        result
    }

    /// Drops an idle connection that has died, so that the next request reconnects silently.
    ///
    /// The caller calls it before each command.
    pub fn refresh(&mut self) {
        if self.open.as_ref().is_some_and(|open| !open.connection.is_idle()) {
            debug!("the idle connection was closed");
            self.open = None;
        }
        // Another client of this user may have seen a later change.
        self.load_seen();
    }

    /// Returns the current server and its role.
    pub fn server(&self) -> Option<(SocketAddr, ServerRole)> {
        self.open.as_ref().map(|open| (open.addr, open.role))
    }

    /// Returns the authority of the current server; none without encryption.
    pub fn authority(&self) -> Option<Fingerprint> {
        authority_of(&self.open.as_ref()?.connection)
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
    pub(super) fn preferred(&self) -> Option<SlaveId> {
        self.prefer.filter(|slave| !self.avoid.holds(*slave, Instant::now()))
    }

    /// Drops the connection in any state, without avoiding the slave.
    pub fn drop_connection(&mut self) {
        self.open = None;
        self.interrupt.unwatch();
    }

    /// Drops the connection of a failed slave; the next request prefers another slave.
    pub(super) fn mark_lost(&mut self, why: &str) {
        self.interrupt.unwatch();
        let Some(open) = self.open.take() else { return };
        if !self.interrupt.is_raised() {
            debug!("{} failed: {why}", open.addr);
            self.avoid.add(open.slave, Instant::now());
            self.notices.record_lost(open.addr, why);
        }
    }

    /// Returns the open session, and connects first if needed.
    pub(super) fn ensure_open(&mut self) -> Result<&mut OpenSession> {
        if self.interrupt.is_raised() {
            return Err(Failure::interrupted());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect_with_retry()?,
        };
        self.queue_seen(&mut open);
        self.interrupt.watch(open.connection.stream());
        self.observed.set_slave(open.slave);
        Ok(self.open.insert(open))
    }
}

/// Returns the authority of the peer's certificate; none without encryption.
pub fn authority_of(connection: &Connection) -> Option<Fingerprint> {
    Some(connection.tls_info()?.identity?.authority)
}
