//! The route of a redirect: which slaves the client may try, in which order.
//!
//! Pure functions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relais_net::tls::Fingerprint;
use relais_proto::{ClusterId, Endpoint, SlaveId, limits};

/// How long a failed slave is tried last.
const AVOID_TIME: Duration = Duration::from_secs(60);

/// How long a working slave that could not serve a request is tried last.
const PASS_TIME: Duration = Duration::from_millis(1500);

/// A master's redirect, kept in case the master does not answer the next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Cluster that the slaves must belong to.
    pub cluster: ClusterId,
    /// Authority that certified the master; none without encryption.
    ///
    /// Only slaves of the same authority get the ticket.
    pub authority: Option<Fingerprint>,
    /// Ticket for the slaves.
    pub ticket: Vec<u8>,
    /// The slaves, in the master's round-robin order.
    pub slaves: Vec<Endpoint>,
}

impl Route {
    /// Returns the usable addresses of the slaves, recently failed slaves last.
    ///
    /// Otherwise the master's order is kept. Port 0 and unspecified addresses are left out.
    #[must_use]
    pub fn order(&self, avoid: &Avoid, now: Instant) -> Vec<(SlaveId, SocketAddr)> {
        let each = |slave: &Endpoint| {
            let id = slave.id;
            usable(&slave.addrs).into_iter().map(move |addr| (id, addr))
        };
        let mut addresses: Vec<_> = self.slaves.iter().flat_map(each).collect();
        addresses.sort_by_key(|(id, _)| avoid.holds(*id, now));
        addresses
    }

    /// Returns the route to these holders: at the addresses that they named, else at known ones.
    pub fn to_holders(&self, holders: &[&Endpoint]) -> Self {
        let slaves = holders.iter().map(|holder| {
            let named = usable(&holder.addrs);
            let addrs = if named.is_empty() { self.addresses_of(holder.id) } else { named };
            Endpoint { id: holder.id, addrs }
        });
        Self { slaves: slaves.collect(), ..self.clone() }
    }

    /// Returns the usable addresses of a slave.
    pub fn addresses_of(&self, slave: SlaveId) -> Vec<SocketAddr> {
        let known = self.slaves.iter().find(|known| known.id == slave);
        known.map(|known| usable(&known.addrs)).unwrap_or_default()
    }
}

/// Returns the addresses that a client can connect to.
pub fn usable(addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    addrs.iter().copied().filter(is_usable).collect()
}

/// Whether a client can connect to this address.
pub fn is_usable(addr: &SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}

/// Recently failed slaves, each with the end of its penalty.
#[derive(Debug, Default)]
pub struct Avoid(Vec<(SlaveId, Instant)>);

impl Avoid {
    /// Records that a slave failed now.
    pub fn add(&mut self, id: SlaveId, now: Instant) {
        self.put(id, now + AVOID_TIME, now);
    }

    /// Records that a working slave could not serve a request now.
    pub fn pass_over(&mut self, id: SlaveId, now: Instant) {
        if !self.holds(id, now) {
            self.put(id, now + PASS_TIME, now);
        }
    }

    fn put(&mut self, id: SlaveId, until: Instant, now: Instant) {
        self.0.retain(|(known, until)| *known != id && now < *until);
        if self.0.len() >= limits::AVOID {
            self.0.remove(0);
        }
        self.0.push((id, until));
    }

    /// Whether this slave failed recently.
    #[must_use]
    pub fn holds(&self, id: SlaveId, now: Instant) -> bool {
        self.0.iter().any(|(known, until)| *known == id && now < *until)
    }

    /// Returns all recently failed slaves, at most [`limits::AVOID`].
    #[must_use]
    pub fn ids(&self, now: Instant) -> Vec<SlaveId> {
        self.0.iter().filter(|(_, until)| now < *until).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slave(n: u8, addrs: &[&str]) -> Endpoint {
        Endpoint { id: SlaveId([n; 16]), addrs: addrs.iter().map(|a| a.parse().unwrap()).collect() }
    }

    fn route(slaves: Vec<Endpoint>) -> Route {
        Route { cluster: ClusterId([0; 16]), authority: None, ticket: vec![], slaves }
    }

    #[test]
    fn unusable_addresses_are_left_out() {
        let route = route(vec![
            slave(1, &["127.0.0.1:0"]),
            slave(2, &["0.0.0.0:1", "127.0.0.1:2", "[::]:3", "[::1]:4", "224.0.0.1:5"]),
            slave(3, &[]),
        ]);
        let order = route.order(&Avoid::default(), Instant::now());
        assert_eq!(
            order,
            ["127.0.0.1:2", "[::1]:4"].map(|addr| (SlaveId([2; 16]), addr.parse().unwrap()))
        );
    }

    #[test]
    fn failed_slaves_come_last_for_a_while() {
        let route = route((1..=3).map(|n| slave(n, &["127.0.0.1:9"])).collect());
        let (mut avoid, start) = (Avoid::default(), Instant::now());
        avoid.add(SlaveId([1; 16]), start);
        avoid.add(SlaveId([2; 16]), start + Duration::from_secs(30));
        let first = |at: u64| {
            route
                .order(&avoid, start + Duration::from_secs(at))
                .iter()
                .map(|(id, _)| id.0[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(first(31), [3, 1, 2]);
        assert_eq!(first(61), [1, 3, 2]);
        assert_eq!(first(91), [1, 2, 3]);
        assert_eq!(avoid.ids(start + Duration::from_secs(61)), [SlaveId([2; 16])]);
    }

    #[test]
    fn avoid_list_is_bounded() {
        let (mut avoid, now) = (Avoid::default(), Instant::now());
        for n in 0..200 {
            avoid.add(SlaveId([n; 16]), now);
        }
        assert_eq!(avoid.ids(now).len(), limits::AVOID);
        assert!(avoid.holds(SlaveId([199; 16]), now) && !avoid.holds(SlaveId([0; 16]), now));
    }
}
