//! Whose turn it is. Arithmetic over places in an order; it knows no slaves.

/// How clients are spread over the slaves in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// One after another in a fixed order.
    #[default]
    RoundRobin,
    /// To the one with the fewest sessions; in turn among equals.
    LeastSessions,
}

/// Where the turn stands in the order of first registration.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoundRobin {
    /// The place that is asked first for the next client.
    next: usize,
}

impl RoundRobin {
    /// Sorts places into the order in which they are due from now on, given the length of the whole order.
    pub fn sort(&self, places: &mut [usize], len: usize) {
        places.sort_by_key(|place| self.distance(*place, len));
    }

    /// Sorts places by load, and those of equal load by turn.
    pub fn sort_by_load(&self, places: &mut [usize], len: usize, load: impl Fn(usize) -> u64) {
        places.sort_by_key(|place| (load(*place), self.distance(*place, len)));
    }

    /// The place had its turn.
    pub fn took(&mut self, place: usize) {
        // Not wrapped at the end: who joins there now is due before the first.
        self.next = place + 1;
    }

    /// The place is gone from the order; later ones moved up.
    pub fn removed(&mut self, place: usize) {
        if place < self.next {
            self.next -= 1;
        }
    }

    fn distance(&self, place: usize, len: usize) -> usize {
        if place >= self.next { place - self.next } else { place + len - self.next }
    }
}
