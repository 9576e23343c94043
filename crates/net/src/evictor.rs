//! Chooses the connection to evict when the pre-authentication pool is full.
//!
//! The network with most connections loses its oldest one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use relais_proto::network_of;

/// Connections of a known network that are evicted last. A known network has logged in before.
const PROTECTED: usize = 8;

/// Connections by the network that they come from. A higher id arrived later.
#[derive(Debug, Default)]
pub struct ConnectionEvictor {
    networks: HashMap<IpAddr, PreAuthConnections>,
    /// Sort keys (unprotected, number of connections, oldest id). The last network goes first.
    order: BTreeSet<(bool, usize, Reverse<u64>, IpAddr)>,
}

#[derive(Debug, Default)]
struct PreAuthConnections {
    ids: BTreeSet<u64>,
    /// Whether a user has logged in from this network before.
    is_known: bool,
}

impl ConnectionEvictor {
    /// Adds a connection. `is_known`: its network has logged in before.
    pub fn insert(&mut self, addr: IpAddr, id: u64, is_known: bool) {
        self.change(addr, |connections| {
            connections.is_known = is_known;
            connections.ids.insert(id);
        });
    }

    /// Removes a connection.
    pub fn remove(&mut self, addr: IpAddr, id: u64) {
        self.change(addr, |connections| {
            connections.ids.remove(&id);
        });
    }

    /// The connection to evict: the oldest one of the network that has most.
    ///
    /// Among equal networks the one with the oldest connection is chosen. The protected
    /// connections of known networks go last.
    pub fn next_victim(&self) -> Option<u64> {
        self.order.last().map(|(.., Reverse(id), _)| *id)
    }

    fn change(&mut self, addr: IpAddr, change: impl FnOnce(&mut PreAuthConnections)) {
        let network = network_of(addr);
        let connections = self.networks.entry(network).or_default();
        if let Some(key) = sort_key(network, connections) {
            self.order.remove(&key);
        }
        change(connections);
        match sort_key(network, connections) {
            Some(key) => drop(self.order.insert(key)),
            None => drop(self.networks.remove(&network)),
        }
    }
}

fn sort_key(
    network: IpAddr,
    connections: &PreAuthConnections,
) -> Option<(bool, usize, Reverse<u64>, IpAddr)> {
    let count = connections.ids.len();
    let is_unprotected = !connections.is_known || count > PROTECTED;
    connections.ids.first().map(|oldest| (is_unprotected, count, Reverse(*oldest), network))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_network_with_most_connections_is_evicted_first() {
        let mut evictor = ConnectionEvictor::default();
        assert_eq!(evictor.next_victim(), None);
        let from =
            ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "10.0.0.2", "2001:db8::3"];
        for (id, text) in (1..).zip(from) {
            evictor.insert(addr(text), id, false);
        }
        let mut order = Vec::new();
        while let Some(id) = evictor.next_victim() {
            evictor.remove(addr(from[usize::try_from(id).unwrap() - 1]), id);
            order.push(id);
        }
        // One network has three, then two networks have two, then all have one: always the oldest.
        assert_eq!(order, [3, 2, 4, 1, 5, 6]);
        assert!(evictor.networks.is_empty() && evictor.order.is_empty());
    }

    #[test]
    fn a_connection_that_left_does_not_count() {
        let mut evictor = ConnectionEvictor::default();
        (1..=3).for_each(|id| evictor.insert(addr("10.0.0.1"), id, false));
        (4..=5).for_each(|id| evictor.insert(addr("10.0.0.2"), id, false));
        (1..=2).for_each(|id| evictor.remove(addr("10.0.0.1"), id));
        evictor.remove(addr("10.0.0.1"), 2);
        evictor.remove(addr("10.0.0.9"), 9);
        assert_eq!(evictor.next_victim(), Some(4));
    }

    #[test]
    fn protected_connections_of_known_networks_go_last() {
        let mut evictor = ConnectionEvictor::default();
        (1..=8).for_each(|id| evictor.insert(addr("10.0.0.1"), id, true));
        (10..=12).for_each(|id| evictor.insert(addr(&format!("10.0.1.{id}")), id, false));
        for expected in 10..=12 {
            assert_eq!(evictor.next_victim(), Some(expected));
            evictor.remove(addr(&format!("10.0.1.{expected}")), expected);
        }
        assert_eq!(evictor.next_victim(), Some(1));
        evictor.insert(addr("10.0.0.1"), 20, true);
        evictor.insert(addr("10.0.1.1"), 21, false);
        assert_eq!(
            evictor.next_victim(),
            Some(1),
            "connections above the protected number go as others do"
        );
    }
}
