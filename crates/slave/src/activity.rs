//! What the workers of a slave do now, and how often: sessions and transfers, in shared memory.
//!
//! Each worker has a row of what is under way, which is cleared when it dies. Totals have no
//! worker.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use relais_engine::Protocol;
use relais_proto::{Metrics, SESSIONS_BY_PROTOCOL, metric};

use crate::sys::memory::shared_words;

/// Word of a row with the number of transfers, after those of the sessions by protocol.
const TRANSFERS: usize = SESSIONS_BY_PROTOCOL.len();
/// Words in a row.
const ROW: usize = TRANSFERS + 1;

/// The counters.
#[derive(Debug, Clone, Copy)]
pub struct WorkerActivity {
    rows: &'static [AtomicU64],
    resumes: &'static AtomicU64,
    failovers: &'static AtomicU64,
}

impl WorkerActivity {
    /// Maps the counters of this many workers.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new(workers: usize) -> io::Result<Self> {
        let totals = shared_words(2)?;
        let rows = shared_words(workers * ROW)?;
        Ok(Self { rows, resumes: &totals[0], failovers: &totals[1] })
    }

    /// Counts a session of a client that `worker` serves from now on.
    pub fn begin_session(self, worker: usize, protocol: Protocol) {
        self.session(worker, protocol).fetch_add(1, Relaxed);
    }

    /// Ends the count of a session.
    pub fn end_session(self, worker: usize, protocol: Protocol) {
        decrement(self.session(worker, protocol));
    }

    /// Counts a transfer of a client that begins in `worker`.
    pub fn begin_transfer(self, worker: usize) {
        self.rows[worker * ROW + TRANSFERS].fetch_add(1, Relaxed);
    }

    /// Ends the count of a transfer.
    pub fn end_transfer(self, worker: usize) {
        decrement(&self.rows[worker * ROW + TRANSFERS]);
    }

    /// Counts a transfer that continues after the bytes of an earlier one.
    pub fn count_resume(self) {
        self.resumes.fetch_add(1, Relaxed);
    }

    /// Counts a transfer that continues here after another server has failed.
    pub fn count_failover(self) {
        self.failovers.fetch_add(1, Relaxed);
    }

    /// Clears what a dead worker had under way.
    pub fn clear(self, worker: usize) {
        self.rows[worker * ROW..][..ROW].iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Adds the metrics of sessions and transfers.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Metrics {
        let sum = |word| {
            self.rows.iter().skip(word).step_by(ROW).map(|word| word.load(Relaxed)).sum::<u64>()
        };
        let metrics = SESSIONS_BY_PROTOCOL
            .iter()
            .enumerate()
            .fold(metrics, |metrics, (word, (_, name))| metrics.with(name, sum(word)));
        metrics
            .with(metric::TRANSFERS, sum(TRANSFERS))
            .with(metric::RESUMES, self.resumes.load(Relaxed))
            .with(metric::FAILOVERS, self.failovers.load(Relaxed))
    }

    fn session(self, worker: usize, protocol: Protocol) -> &'static AtomicU64 {
        let mut names = SESSIONS_BY_PROTOCOL.iter().map(|(name, _)| *name);
        let word = names.position(|name| name == protocol.name()).unwrap_or_default();
        &self.rows[worker * ROW + word]
    }
}

/// Subtracts 1, unless the row was cleared since 1 was added.
fn decrement(word: &AtomicU64) {
    let _ = word.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_transfers_are_counted_by_worker() {
        let activity = WorkerActivity::new(2).unwrap();
        let value = |name| activity.with_metrics(Metrics::default()).get(name);
        activity.begin_session(0, Protocol::Http);
        activity.begin_session(1, Protocol::Http);
        activity.begin_session(1, Protocol::Native);
        activity.begin_transfer(0);
        activity.begin_transfer(1);
        assert_eq!(value(metric::SESSIONS_HTTP), 2);
        assert_eq!((value(metric::SESSIONS_NATIVE), value(metric::SESSIONS_FTP)), (1, 0));
        assert_eq!(value(metric::TRANSFERS), 2);
        activity.clear(1);
        assert_eq!((value(metric::SESSIONS_HTTP), value(metric::SESSIONS_NATIVE)), (1, 0));
        // A thread of the dead worker cannot end what was cleared.
        activity.end_session(1, Protocol::Native);
        activity.end_transfer(1);
        activity.end_session(0, Protocol::Http);
        assert_eq!((value(metric::SESSIONS_HTTP), value(metric::TRANSFERS)), (0, 1));
        activity.count_resume();
        activity.count_failover();
        activity.count_failover();
        assert_eq!((value(metric::RESUMES), value(metric::FAILOVERS)), (1, 2));
    }
}
