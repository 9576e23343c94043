//! Switching to a slave that holds content which the current slave does not have yet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{Endpoint, ErrorCode, ServerRole, SlaveId};
use relais_transfer::Fault;

use super::connect::{LoginOutcome, SHORT_TIMEOUTS};
use super::handshake::into_failure;
use super::state::{OpenSession, Session};
use crate::route::{Route, usable};

/// Time limit for one search for a holder. The transfer asks again soon, so the limit can be short.
const SEARCH_TIME: Duration = Duration::from_secs(5);

impl Session {
    /// Replaces the current session by one with a holder.
    ///
    /// Returns false and changes nothing if no holder can be reached.
    pub(super) fn switch_to_holder(&mut self, holders: &[Endpoint]) -> bool {
        let until = Instant::now() + SEARCH_TIME;
        let here = self.open.as_ref().map(|open| open.slave);
        let mut wanted: Vec<&Endpoint> =
            holders.iter().filter(|holder| Some(holder.id) != here).collect();
        wanted.sort_by_key(|holder| self.avoid.holds(holder.id, Instant::now()));
        let Some(route) = self.route.clone().filter(|_| !wanted.is_empty()) else { return false };
        let found = self.open_first(&wanted, &route, until).or_else(|| {
            // Their addresses are unknown, or the ticket has expired: the master knows both.
            let first =
                wanted.iter().find(|holder| !self.avoid.holds(holder.id, Instant::now()))?.id;
            let route = self.route_to_slave(first, until)?;
            let found = self.open_first(&wanted, &route, until);
            self.set_route(route);
            found
        });
        let Some(open) = found else { return false };
        debug!("switching to {}, which has the content", open.addr);
        self.open = Some(open);
        true
    }

    /// Opens a session with the first of `wanted` that answers.
    fn open_first(
        &mut self,
        wanted: &[&Endpoint],
        route: &Route,
        until: Instant,
    ) -> Option<OpenSession> {
        for holder in wanted {
            for addr in addresses(holder, route) {
                if self.interrupt.is_raised() || Instant::now() >= until {
                    return None;
                }
                match self.open_session_at(addr, route, SHORT_TIMEOUTS) {
                    Ok(open) if open.slave == holder.id => return Some(open),
                    Ok(open) => debug!("{addr} is slave {}, not {}", open.slave, holder.id),
                    Err(fault) => {
                        let is_gone = matches!(fault, Fault::Lost(_));
                        debug!(
                            "{} has the content but cannot be used: {}",
                            holder.id,
                            into_failure(fault, addr)
                        );
                        if is_gone {
                            self.avoid.add(holder.id, Instant::now());
                        }
                    }
                }
            }
        }
        None
    }

    /// Asks the master for a route that prefers this slave.
    fn route_to_slave(&mut self, slave: SlaveId, until: Instant) -> Option<Route> {
        if Instant::now() >= until || self.master_is_away() {
            return None;
        }
        let before = self.prefer.replace(slave);
        let entered = self.log_in();
        self.prefer = before;
        match entered {
            Ok(LoginOutcome::Redirected(route)) => Some(route),
            Ok(_) => None,
            Err(failure) => {
                if failure.code == ErrorCode::Unreachable {
                    self.note_master_away();
                }
                debug!("the master does not name the holder's address: {failure}");
                None
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

/// Returns the addresses of a holder: those that the slave named, else those of the redirect.
fn addresses(holder: &Endpoint, route: &Route) -> Vec<SocketAddr> {
    let own = usable(&holder.addrs);
    if own.is_empty() { route.addresses_of(holder.id) } else { own }
}
