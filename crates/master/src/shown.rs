//! What everybody is told of the order: its last change, and why it takes no more.

use std::sync::{Mutex, MutexGuard, PoisonError};

use relais_cluster::HaltReason;
use relais_proto::Lsn;

/// The state of the order, set by its thread.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct State {
    /// The last change that is in the journal.
    pub lsn: Lsn,
    /// Why nothing is numbered, where that is so.
    pub halted: Option<HaltReason>,
    /// Contents that nobody is known to have.
    pub lost: u64,
    /// How many removal records there are, and how many there may be.
    pub removals: (u64, u64),
}

/// What is shown now.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<State>);

impl Shown {
    /// The state.
    pub fn get(&self) -> State {
        *self.state()
    }

    /// The last change that is in the journal.
    pub fn lsn(&self) -> Lsn {
        self.state().lsn
    }

    /// A change is in the journal now.
    pub fn set_mark(&self, last: Lsn) {
        self.state().lsn = at_least_first(last);
    }

    /// All of it.
    pub fn set(
        &self,
        last: Lsn,
        halted: Option<HaltReason>,
        lost: usize,
        (removals, removals_cap): (usize, usize),
    ) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        *self.state() = State {
            lsn: at_least_first(last),
            halted,
            lost: count(lost),
            removals: (count(removals), count(removals_cap)),
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Before the first change a cluster is in epoch 1.
fn at_least_first(last: Lsn) -> Lsn {
    last.max(Lsn { epoch: 1, number: 0 })
}
