//! The published state of the order, which all threads can read.

use parking_lot::Mutex;
use relais_cluster::HaltReason;
use relais_proto::Lsn;

/// The state of the order, set by its thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrderStatus {
    /// The last change in the journal.
    pub lsn: Lsn,
    /// The reason why no changes are numbered.
    pub halted: Option<HaltReason>,
    /// Contents that no replica is known to hold.
    pub lost: u64,
    /// The number of removal records, and its cap.
    pub removals: (u64, u64),
}

/// The current status, behind a lock.
#[derive(Debug, Default)]
pub struct SharedOrderStatus(Mutex<OrderStatus>);

impl SharedOrderStatus {
    /// The current status.
    pub fn get(&self) -> OrderStatus {
        *self.0.lock()
    }

    /// The last change in the journal.
    pub fn lsn(&self) -> Lsn {
        self.0.lock().lsn
    }

    /// Sets the last change in the journal.
    pub fn set_lsn(&self, last: Lsn) {
        self.0.lock().lsn = at_least_first(last);
    }

    /// Sets the whole status.
    pub fn set(
        &self,
        last: Lsn,
        halted: Option<HaltReason>,
        lost: usize,
        (removals, removals_cap): (usize, usize),
    ) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        *self.0.lock() = OrderStatus {
            lsn: at_least_first(last),
            halted,
            lost: count(lost),
            removals: (count(removals), count(removals_cap)),
        };
    }
}

/// Before the first change a cluster is in epoch 1.
fn at_least_first(last: Lsn) -> Lsn {
    last.max(Lsn { epoch: 1, number: 0 })
}
