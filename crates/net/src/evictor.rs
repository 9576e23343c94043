//! Who is in a room, by address: when it is full, whoever takes most of it makes place.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use relais_proto::network_of;

/// Connections of a network that has logged in before, up to which they stay although others have to go.
const KEPT: usize = 8;

/// Connections by the network they come from. A higher number came later.
#[derive(Debug, Default)]
pub struct ConnectionEvictor {
    networks: HashMap<IpAddr, PreAuthConnections>,
    /// For each network whether it has to go first, how many it has, and the number of its oldest guest: the one to go is at the end.
    order: BTreeSet<(bool, usize, Reverse<u64>, IpAddr)>,
}

#[derive(Debug, Default)]
struct PreAuthConnections {
    ids: BTreeSet<u64>,
    /// Whether somebody has logged in from there before.
    is_known: bool,
}

impl ConnectionEvictor {
    /// Somebody came; whether from a network that has logged in before.
    pub fn enter(&mut self, addr: IpAddr, id: u64, is_known: bool) {
        self.change(addr, |guests| {
            guests.is_known = is_known;
            guests.ids.insert(id);
        });
    }

    /// Somebody left.
    pub fn leave(&mut self, addr: IpAddr, id: u64) {
        self.change(addr, |guests| {
            guests.ids.remove(&id);
        });
    }

    /// The oldest guest of the network that has most of them; among equals that of the oldest guest. A few guests of each network that
    /// has logged in before go last.
    pub fn first_to_go(&self) -> Option<u64> {
        self.order.last().map(|(.., Reverse(id), _)| *id)
    }

    fn change(&mut self, addr: IpAddr, change: impl FnOnce(&mut PreAuthConnections)) {
        let network = network_of(addr);
        let guests = self.networks.entry(network).or_default();
        if let Some(place) = place(network, guests) {
            self.order.remove(&place);
        }
        change(guests);
        match place(network, guests) {
            Some(place) => drop(self.order.insert(place)),
            None => drop(self.networks.remove(&network)),
        }
    }
}

fn place(
    network: IpAddr,
    guests: &PreAuthConnections,
) -> Option<(bool, usize, Reverse<u64>, IpAddr)> {
    let count = guests.ids.len();
    let goes_first = !guests.is_known || count > KEPT;
    guests.ids.first().map(|oldest| (goes_first, count, Reverse(*oldest), network))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_takes_most_of_the_room_makes_place() {
        let mut crowd = ConnectionEvictor::default();
        assert_eq!(crowd.first_to_go(), None);
        let from =
            ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "10.0.0.2", "2001:db8::3"];
        for (id, text) in (1..).zip(from) {
            crowd.enter(addr(text), id, false);
        }
        let mut order = Vec::new();
        while let Some(id) = crowd.first_to_go() {
            crowd.leave(addr(from[usize::try_from(id).unwrap() - 1]), id);
            order.push(id);
        }
        // Three of one network, then two against two, then one each: always the oldest.
        assert_eq!(order, [3, 2, 4, 1, 5, 6]);
        assert!(crowd.networks.is_empty() && crowd.order.is_empty());
    }

    #[test]
    fn who_left_counts_no_more_and_is_not_missed_twice() {
        let mut crowd = ConnectionEvictor::default();
        (1..=3).for_each(|id| crowd.enter(addr("10.0.0.1"), id, false));
        (4..=5).for_each(|id| crowd.enter(addr("10.0.0.2"), id, false));
        (1..=2).for_each(|id| crowd.leave(addr("10.0.0.1"), id));
        crowd.leave(addr("10.0.0.1"), 2);
        crowd.leave(addr("10.0.0.9"), 9);
        assert_eq!(crowd.first_to_go(), Some(4));
    }

    #[test]
    fn a_few_guests_of_a_network_that_has_logged_in_go_last() {
        let mut crowd = ConnectionEvictor::default();
        (1..=8).for_each(|id| crowd.enter(addr("10.0.0.1"), id, true));
        (10..=12).for_each(|id| crowd.enter(addr(&format!("10.0.1.{id}")), id, false));
        for expected in 10..=12 {
            assert_eq!(crowd.first_to_go(), Some(expected));
            crowd.leave(addr(&format!("10.0.1.{expected}")), expected);
        }
        assert_eq!(crowd.first_to_go(), Some(1));
        crowd.enter(addr("10.0.0.1"), 20, true);
        crowd.enter(addr("10.0.1.1"), 21, false);
        assert_eq!(crowd.first_to_go(), Some(1), "who has more than a few goes as others do");
    }
}
