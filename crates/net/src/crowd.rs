//! Who is in a room, by address: when it is full, whoever takes most of it makes place.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use relais_proto::network_of;

/// Guests by the network they come from. A higher number came later.
#[derive(Debug, Default)]
pub struct Crowd {
    networks: HashMap<IpAddr, BTreeSet<u64>>,
    /// For each network how many it has, and the number of its oldest guest: the one to go is at the end.
    order: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

impl Crowd {
    /// Somebody came.
    pub fn enter(&mut self, addr: IpAddr, id: u64) {
        self.change(addr, |guests| guests.insert(id));
    }

    /// Somebody left.
    pub fn leave(&mut self, addr: IpAddr, id: u64) {
        self.change(addr, |guests| guests.remove(&id));
    }

    /// The oldest guest of the network that has most of them; among equals that of the oldest guest.
    pub fn first_to_go(&self) -> Option<u64> {
        self.order.last().map(|(_, Reverse(id), _)| *id)
    }

    fn change(&mut self, addr: IpAddr, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
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

fn place(network: IpAddr, guests: &BTreeSet<u64>) -> Option<(usize, Reverse<u64>, IpAddr)> {
    guests.first().map(|oldest| (guests.len(), Reverse(*oldest), network))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_takes_most_of_the_room_makes_place() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.first_to_go(), None);
        let from =
            ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "10.0.0.2", "2001:db8::3"];
        for (id, text) in (1..).zip(from) {
            crowd.enter(addr(text), id);
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
        let mut crowd = Crowd::default();
        (1..=3).for_each(|id| crowd.enter(addr("10.0.0.1"), id));
        (4..=5).for_each(|id| crowd.enter(addr("10.0.0.2"), id));
        (1..=2).for_each(|id| crowd.leave(addr("10.0.0.1"), id));
        crowd.leave(addr("10.0.0.1"), 2);
        crowd.leave(addr("10.0.0.9"), 9);
        assert_eq!(crowd.first_to_go(), Some(4));
    }
}
