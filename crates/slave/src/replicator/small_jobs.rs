//! Orders to fetch small contents, until a thread of the pool takes them.
//!
//! They wait in one queue for each folder that has them, because one connection serves a folder.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::{Condvar, Mutex};
use relais_proto::{FolderId, Lsn};

use super::fetch_context::FetchJob;

/// The queues, which threads share.
#[derive(Default)]
pub(super) struct SmallJobs {
    queued: Mutex<JobQueues>,
    changed: Condvar,
}

#[derive(Default)]
struct JobQueues {
    queues: BTreeMap<FolderId, VecDeque<FetchJob>>,
    is_closed: bool,
}

impl SmallJobs {
    /// Adds an order.
    pub fn add(&self, job: FetchJob) {
        self.queued.lock().queues.entry(job.from).or_default().push_back(job);
        self.changed.notify_one();
    }

    /// Ends the threads. What they have requested already is completed.
    pub fn close(&self) {
        self.queued.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for an order. Returns the folder, and the latest put that is wanted from it; `None` at
    /// the end.
    pub fn wait(&self) -> Option<(FolderId, Lsn)> {
        let mut state = self.queued.lock();
        loop {
            if state.is_closed {
                return None;
            }
            // The longest queue is served first.
            let longest = state.queues.iter().max_by_key(|(_, queue)| queue.len());
            let latest = longest
                .and_then(|(from, queue)| Some((*from, queue.iter().map(|job| job.put).max()?)));
            if latest.is_some() {
                return latest;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Takes the next order for a folder, unless its put is later than `seen`.
    pub fn take(&self, from: FolderId, seen: Lsn) -> Option<FetchJob> {
        let mut state = self.queued.lock();
        if state.is_closed {
            return None;
        }
        let queue = state.queues.get_mut(&from)?;
        let is_seen = queue.front().is_some_and(|job| job.put <= seen);
        let job = if is_seen { queue.pop_front() } else { None };
        if queue.is_empty() {
            state.queues.remove(&from);
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use relais_cluster::replica::MissingContent;
    use relais_proto::{Digest, TreePath};

    use super::*;

    fn job(number: u64, from: u8) -> FetchJob {
        let put = Lsn { epoch: 1, number };
        let missing = MissingContent {
            put,
            path: TreePath::new("f").unwrap(),
            size: 1,
            digest: Digest([0; 32]),
            holders: Vec::new(),
        };
        FetchJob { put, missing, from: FolderId([from; 16]) }
    }

    #[test]
    fn jobs_wait_by_folder_and_in_order() {
        let jobs = SmallJobs::default();
        let (a, b) = (FolderId([1; 16]), FolderId([2; 16]));
        [job(1, 1), job(2, 2), job(3, 2)].into_iter().for_each(|job| jobs.add(job));
        assert_eq!(jobs.wait(), Some((b, Lsn { epoch: 1, number: 3 })));
        let seen = Lsn { epoch: 1, number: 2 };
        assert_eq!(jobs.take(b, seen).unwrap().put.number, 2);
        assert!(jobs.take(b, seen).is_none(), "the holder may not have applied it");
        assert_eq!(jobs.take(a, seen).unwrap().put.number, 1);
        assert_eq!(jobs.wait(), Some((b, Lsn { epoch: 1, number: 3 })));
        jobs.close();
        assert_eq!(jobs.wait(), None);
        assert!(jobs.take(b, Lsn { epoch: 1, number: 3 }).is_none());
    }
}
