//! Opening a session with one of the slaves that a master named, or that hold a content.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;
use relais_net::Connection;
use relais_proto::{Endpoint, ErrorCode, Lsn, Reply, Request, ServerRole, SlaveId, limits};
use relais_transfer::Fault;

use super::connect::{FULL_TIMEOUTS, LoginOutcome, SHORT_TIMEOUTS};
use super::handshake::{Timeouts, Welcome, into_failure};
use super::observed::SharedLsn;
use super::state::{OpenSession, Session, authority_of};
use crate::route::Route;
use crate::{Failure, Result};

/// Time limit for one search for a holder. The transfer asks again soon, so the limit can be short.
const SEARCH_TIME: Duration = Duration::from_secs(5);

impl Session {
    /// Tries the slaves of a redirect in order, each at all its addresses.
    ///
    /// If a slave times out at one address, its other addresses are tried after the other slaves.
    /// An unreachable host therefore costs one timeout. A search with a deadline accepts only the
    /// slaves that the route names.
    pub(super) fn connect_to_slave(
        &mut self,
        route: &Route,
        deadline: Option<Instant>,
    ) -> Result<OpenSession> {
        let mut worst =
            failure!(BadServer, "the redirect names no address that can be connected to");
        let mut left = route.order(&self.avoid, Instant::now());
        // An older redirect may name the preferred slave, but not first.
        left.sort_by_key(|(slave, _)| self.preferred().is_some_and(|wanted| wanted != *slave));
        // A slave that refused is healthy; it only has no free slot now.
        let mut healthy = Vec::new();
        let mut rank = 0;
        while !left.is_empty() {
            let (slave, addr) = left.remove(0);
            let begun = Instant::now();
            if deadline.is_some_and(|deadline| begun >= deadline) {
                break;
            }
            let is_last = left.is_empty() && deadline.is_none();
            let timeouts = if is_last { FULL_TIMEOUTS } else { SHORT_TIMEOUTS };
            let opened = self.encrypting(|session| session.open_session_at(addr, route, timeouts));
            let fault = match opened {
                Ok(open) if deadline.is_none() || open.slave == slave => return Ok(open),
                Ok(open) => Fault::Violation(format!("it is slave {}, not {slave}", open.slave)),
                Err(fault) => fault,
            };
            if self.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
            if matches!(fault, Fault::Refused(_)) {
                healthy.push(slave);
            }
            let other = into_failure(fault, addr);
            debug!("slave {slave} cannot be used: {other}");
            if other.code == ErrorCode::NotTrusted {
                // The user learns of an untrusted server even if another slave answers.
                self.notices.say(&other.to_string());
            }
            if failure_rank(&other) >= rank {
                rank = failure_rank(&other);
                worst = other;
            }
            if begun.elapsed() >= SHORT_TIMEOUTS.connect {
                // Stable: only the addresses of this slave move to the end.
                left.sort_by_key(|(other, _)| *other == slave);
            }
            if !healthy.contains(&slave) && left.first().is_none_or(|(next, _)| *next != slave) {
                self.avoid.add(slave, Instant::now());
            }
        }
        Err(worst)
    }

    /// Opens a session with the slave at `addr`.
    fn open_session_at(
        &mut self,
        addr: SocketAddr,
        route: &Route,
        timeouts: Timeouts,
    ) -> Result<OpenSession, Fault> {
        let mut connection = self.dial(addr, None, timeouts)?;
        let authority = authority_of(&connection);
        if route.authority.is_some() && authority != route.authority {
            return Err(Fault::Violation(
                "it is not certified by the authority of the master that named it".to_owned(),
            ));
        }
        let shown = self.observed.lsn();
        let ticket = Request::Ticket { ticket: route.ticket.clone(), lsn: shown };
        let (welcome, answer) = self.introduce(&mut connection, ticket)?;
        match (welcome.role, answer) {
            (_, Reply::Redirect { .. } | Reply::AskMaster(_)) => {
                Err(Fault::Violation("it redirects in a circle".to_owned()))
            }
            _ if welcome.cluster != route.cluster => {
                Err(Fault::Violation("it belongs to another cluster".to_owned()))
            }
            (ServerRole::Slave, Reply::Opened { slave, lsn, .. }) => {
                self.enter_cluster(welcome.cluster, authority, lsn);
                Ok(self.wrap_session(connection, slave, welcome, shown.max(lsn)))
            }
            (role, _) => {
                Err(Fault::Violation(format!("a slave was expected there, not a {role:?}")))
            }
        }
    }

    /// Wraps a connection whose session is open; `server_lsn` is the highest LSN exchanged so far.
    pub(super) fn wrap_session(
        &self,
        mut connection: Connection,
        slave: SlaveId,
        welcome: Welcome,
        server_lsn: Lsn,
    ) -> OpenSession {
        connection.set_silence(limits::SILENCE);
        let server_lsn = SharedLsn::new(Mutex::new(server_lsn));
        self.observed.watch(&mut connection, &self.notices, Some(SharedLsn::clone(&server_lsn)));
        OpenSession { addr: connection.peer(), connection, slave, role: welcome.role, server_lsn }
    }

    /// Replaces the current session by one with a holder of content that its slave does not have.
    ///
    /// Returns false and changes nothing if no holder can be reached.
    pub(super) fn switch_to_holder(&mut self, holders: &[Endpoint]) -> bool {
        let deadline = Instant::now() + SEARCH_TIME;
        let here = self.open.as_ref().map(|open| open.slave);
        let wanted: Vec<&Endpoint> =
            holders.iter().filter(|holder| Some(holder.id) != here).collect();
        let Some(route) = self.route.clone().filter(|_| !wanted.is_empty()) else { return false };
        let found = self.connect_to_slave(&route.to_holders(&wanted), Some(deadline));
        let found = found.or_else(|failure| {
            // Their addresses are unknown, or the ticket has expired: the master knows both.
            let now = Instant::now();
            let first = wanted.iter().find(|holder| !self.avoid.holds(holder.id, now));
            let Some(first) = first.filter(|_| now < deadline && !self.master_is_away()) else {
                return Err(failure);
            };
            let route = self.route_to_slave(first.id)?;
            let found = self.connect_to_slave(&route.to_holders(&wanted), Some(deadline));
            self.set_route(route);
            found
        });
        match found {
            Ok(open) => {
                debug!("switching to {}, which has the content", open.addr);
                self.open = Some(open);
                true
            }
            Err(failure) => {
                debug!("no holder of the content can be used: {failure}");
                false
            }
        }
    }

    /// Asks the master for a route that prefers this slave.
    fn route_to_slave(&mut self, slave: SlaveId) -> Result<Route> {
        let before = self.prefer.replace(slave);
        let entered = self.log_in();
        self.prefer = before;
        match entered {
            Ok(LoginOutcome::Redirected(route)) => Ok(route),
            Ok(_) => fail!(BadServer, "the master does not redirect any more"),
            Err(failure) => {
                if failure.code == ErrorCode::Unreachable {
                    self.master_away = Some(Instant::now());
                }
                Err(failure)
            }
        }
    }

    /// Returns an address of a slave, if one is known.
    pub fn address_of(&self, slave: SlaveId) -> Option<SocketAddr> {
        let here = self.open.as_ref().filter(|open| open.slave == slave).map(|open| open.addr);
        let known = || self.route.as_ref()?.addresses_of(slave).first().copied();
        here.or_else(known)
    }

    /// Whether the current server is a slave of a cluster with a known route.
    pub(super) fn is_in_cluster(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.role == ServerRole::Slave) && self.route.is_some()
    }
}

/// Ranks failures of several slaves by how much they tell the user.
fn failure_rank(failure: &Failure) -> u8 {
    match failure.code {
        ErrorCode::Unreachable => 0,
        ErrorCode::BadServer => 1,
        _ => 2,
    }
}
