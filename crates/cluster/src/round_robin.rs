//! Round robin over positions in a list; it knows no slaves.

/// Strategy to spread clients over the slaves in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Round robin in a fixed order.
    #[default]
    RoundRobin,
    /// The slave with the fewest sessions; round robin among equals.
    LeastSessions,
}

/// Current position of the round robin, in the order of first registration.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoundRobin {
    /// Position that gets the next client.
    next: usize,
}

impl RoundRobin {
    /// Sorts positions by load, and positions of equal load by their turn from now on. `len` is the
    /// length of the whole list.
    pub fn sort_by_load(&self, places: &mut [usize], len: usize, load: impl Fn(usize) -> u64) {
        let turn = |place: usize| {
            if place >= self.next { place - self.next } else { place + len - self.next }
        };
        places.sort_by_key(|place| (load(*place), turn(*place)));
    }

    /// Records that the position has had its turn.
    pub fn advance_past(&mut self, place: usize) {
        // The value does not wrap, so a slave that joins at the end comes before the first.
        self.next = place + 1;
    }

    /// Records that the position has left the list; later ones moved up.
    pub fn removed(&mut self, place: usize) {
        if place < self.next {
            self.next -= 1;
        }
    }
}
