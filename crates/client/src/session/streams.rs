//! Further sessions for one download, beside the session of the commands.
//!
//! They use the ticket of the master's redirect, or the login of a standalone slave. Nothing here
//! asks the user, remembers an authority or blames a slave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use relais_net::Connection;
use relais_net::tls::{DialError, Dialer, Fingerprint, TlsMode, TrustPolicy};
use relais_proto::{
    ClusterId, ErrorCode, Hello, Login, Refusal, Reply, Request, Role, ServerRole, limits,
};
use relais_transfer::{Fault, StreamSource};

use super::connect::SHORT_TIMEOUTS;
use super::handshake::read_welcome;
use super::observed::ObservedState;
use super::state::{Session, authority_of};
use super::trust::gone;
use crate::notices::Notices;
use crate::route::usable;

/// See the module.
struct SessionStreams {
    limit: usize,
    /// Each server with its usable addresses.
    servers: Vec<Vec<SocketAddr>>,
    /// The ticket, or the login of a standalone slave.
    credentials: Request,
    role: ServerRole,
    cluster: ClusterId,
    /// Authority of the session's server; none without encryption.
    authority: Option<Fingerprint>,
    encrypt: TlsMode,
    observed: ObservedState,
    notices: Notices,
}

impl Session {
    /// Returns the source of further sessions with the servers of the open one.
    pub(super) fn stream_source(&self) -> Option<Arc<dyn StreamSource>> {
        let open = self.open.as_ref()?;
        let cluster = self.origin.as_ref()?.cluster;
        let (servers, credentials) = match (open.role, &self.route) {
            (ServerRole::Slave, Some(route)) => {
                let now = Instant::now();
                let others = route
                    .slaves
                    .iter()
                    .filter(|slave| slave.id != open.slave && !self.avoid.holds(slave.id, now));
                let others = others.map(|slave| usable(&slave.addrs));
                let servers = std::iter::once(vec![open.addr]).chain(others);
                let (ticket, lsn) = (route.ticket.clone(), self.observed.lsn());
                (servers.collect(), Request::Ticket { ticket, lsn })
            }
            (ServerRole::Standalone, _) => {
                let login = Login {
                    user: self.settings.user.clone(),
                    password: self.settings.password.clone().unwrap_or_default(),
                    lsn: self.observed.lsn(),
                    avoid: Vec::new(),
                    prefer: None,
                };
                (vec![vec![open.addr]], Request::Login(login))
            }
            _ => return None,
        };
        Some(Arc::new(SessionStreams {
            limit: self.settings.streams,
            servers,
            credentials,
            role: open.role,
            cluster,
            authority: authority_of(&open.connection),
            encrypt: self.settings.encrypt,
            observed: self.observed.clone(),
            notices: self.notices.clone(),
        }))
    }
}

impl StreamSource for SessionStreams {
    fn limit(&self) -> usize {
        self.limit
    }

    fn servers(&self) -> Vec<Vec<SocketAddr>> {
        self.servers.clone()
    }

    fn open(&self, server: usize) -> Result<Connection, Fault> {
        let addrs = self.servers.get(server).map(Vec::as_slice).unwrap_or_default();
        let mut fault = Fault::Lost("the server has no usable address".to_owned());
        for addr in addrs {
            match self.open_at(*addr) {
                Ok(connection) => return Ok(connection),
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }
}

impl SessionStreams {
    fn open_at(&self, addr: SocketAddr) -> Result<Connection, Fault> {
        debug!("connecting to {addr} for another stream");
        let mut connection = self.dial(addr)?;
        connection.set_silence(SHORT_TIMEOUTS.silence);
        self.observed.watch(&mut connection, &self.notices, None);
        let agent = concat!("ftpclient ", env!("CARGO_PKG_VERSION"));
        connection.queue(&Request::Hello(Hello::new(Role::Client, agent)));
        let is_ticket = matches!(self.credentials, Request::Ticket { .. });
        if is_ticket {
            connection.queue(&self.credentials);
        }
        connection.flush()?;
        let welcome = read_welcome(&mut connection)?;
        if (welcome.role, welcome.cluster) != (self.role, self.cluster) {
            return Err(Fault::Violation("it is not of the same cluster".to_owned()));
        }
        if !is_ticket {
            // Only the standalone slave gets the password.
            connection.queue(&self.credentials);
            connection.flush()?;
        }
        loop {
            match connection.read_reply()?.ok_or_else(Fault::closed)? {
                Reply::Opened { .. } => break,
                // A further stream is not worth a wait.
                Reply::Wait(_) => return Err(refused(ErrorCode::Busy, "no free slot")),
                Reply::MasterUnreachable { .. } => {}
                Reply::Error(refusal) => return Err(Fault::Refused(refusal)),
                other => return Err(Fault::unexpected(&other)),
            }
        }
        connection.set_silence(limits::SILENCE);
        Ok(connection)
    }

    /// Connects, encrypted by the same authority if the session is encrypted.
    fn dial(&self, addr: SocketAddr) -> Result<Connection, Fault> {
        let timeout = SHORT_TIMEOUTS.connect;
        let Some(authority) = self.authority else {
            if self.encrypt.applies(addr.ip()) {
                let why = "the session is not encrypted, so the authority is not known";
                return Err(refused(ErrorCode::TlsNeeded, why));
            }
            return Connection::connect(addr, timeout).map_err(|e| gone(&e));
        };
        let dialer = Dialer::new(self.encrypt).map_err(|e| gone(&e))?;
        let (trust, name) = (TrustPolicy::Pinned(authority), addr.ip().to_canonical().to_string());
        dialer.connect_encrypted(addr, timeout, &trust, &name).map_err(|e| match e {
            DialError::Io(e) => gone(&e),
            other => Fault::Violation(other.to_string()),
        })
    }
}

fn refused(code: ErrorCode, why: &str) -> Fault {
    Fault::Refused(Refusal::new(code, why))
}
