//! Opening a session with one of the slaves that a master named.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use log::debug;
use relais_net::Connection;
use relais_proto::{ErrorCode, Lsn, Reply, ServerRole, SlaveId, limits};
use relais_transfer::Fault;

use super::connect::{FULL_TIMEOUTS, SHORT_TIMEOUTS, queue_notice};
use super::handshake::{self, Timeouts, Welcome, into_failure};
use super::observed::SharedLsn;
use super::state::{OpenSession, Session, authority_of};
use crate::route::Route;
use crate::{Failure, Result};

impl Session {
    /// Tries the slaves of a redirect in order, each at all its addresses.
    ///
    /// If a slave times out at one address, its other addresses are tried after the other slaves.
    /// An unreachable host therefore costs one timeout.
    pub(super) fn connect_to_slave(&mut self, route: &Route) -> Result<OpenSession> {
        let mut worst: Option<Failure> = None;
        let mut slaves = route.order(&self.avoid, Instant::now());
        // An older redirect may name the preferred slave, but not first.
        slaves.sort_by_key(|(slave, _)| self.preferred().is_some_and(|wanted| wanted != *slave));
        let mut left: VecDeque<(SlaveId, VecDeque<SocketAddr>)> =
            slaves.into_iter().map(|(slave, addrs)| (slave, addrs.into())).collect();
        while let Some((slave, mut addrs)) = left.pop_front() {
            let mut refused = false;
            while let Some(addr) = addrs.pop_front() {
                let (timeouts, begun) = (
                    if left.is_empty() && addrs.is_empty() {
                        FULL_TIMEOUTS
                    } else {
                        SHORT_TIMEOUTS
                    },
                    Instant::now(),
                );
                let fault = match self.open_session_at(addr, route, timeouts) {
                    Ok(open) => return Ok(open),
                    Err(fault) => fault,
                };
                if self.interrupt.is_raised() {
                    return Err(Failure::interrupted());
                }
                refused |= matches!(fault, Fault::Refused(_));
                let other = into_failure(fault, addr);
                debug!("slave {slave} cannot be used: {other}");
                if other.code == ErrorCode::NotTrusted {
                    // The user learns of an untrusted server even if another slave answers.
                    self.notices.say(&other.to_string());
                }
                if worst.as_ref().is_none_or(|worst| failure_rank(&other) >= failure_rank(worst)) {
                    worst = Some(other);
                }
                if begun.elapsed() >= SHORT_TIMEOUTS.connect
                    && !addrs.is_empty()
                    && !left.is_empty()
                {
                    left.push_back((slave, std::mem::take(&mut addrs)));
                }
            }
            // A slave that refused is healthy; it only has no free place now.
            if !refused {
                self.avoid.add(slave, Instant::now());
            }
        }
        Err(worst.unwrap_or_else(|| {
            failure!(BadServer, "the redirect names no address that can be connected to")
        }))
    }

    /// Opens a session with the slave at `addr`.
    pub(super) fn open_session_at(
        &mut self,
        addr: SocketAddr,
        route: &Route,
        timeouts: Timeouts,
    ) -> Result<OpenSession, Fault> {
        self.encrypting(|session| session.open_session_once(addr, route, timeouts))
    }

    fn open_session_once(
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
        self.observed.watch_handshake(&mut connection, &self.notices);
        let shown = self.observed.lsn();
        let (welcome, answer) = handshake::show_ticket(
            &mut connection,
            &route.ticket,
            shown,
            &mut queue_notice(&self.notices),
        )?;
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
        self.observed.watch_session(&mut connection, &self.notices, SharedLsn::clone(&server_lsn));
        OpenSession { addr: connection.peer(), connection, slave, role: welcome.role, server_lsn }
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
