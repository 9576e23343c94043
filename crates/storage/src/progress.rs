//! How far a replica is, in words that the processes of a slave share.
//!
//! The one thread that writes the catalogue writes them. Nothing here blocks.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use relais_cluster::freshness::lsn_of_answer;
use relais_proto::Lsn;

/// Words of one [`Lsn`]: a write counter, and two copies of epoch and number.
///
/// The copies are written in turn. The current copy is never written, so a reader never gets a
/// mixture of two LSNs, and a writer that dies blocks no reader.
const LSN_WORDS: usize = 5;
/// The latest change that is applied.
const APPLIED: usize = 0;
/// The latest change that readers may have seen.
const VISIBLE: usize = LSN_WORDS;

/// The latest changes of a replica.
#[derive(Debug)]
pub struct ReplicaProgress(&'static [AtomicU64]);

impl ReplicaProgress {
    /// Creates the progress of a replica without changes.
    ///
    /// `map` returns that many words, all 0, which the processes that use them share.
    ///
    /// # Errors
    /// Returns the error of `map`.
    pub fn new(map: impl FnOnce(usize) -> io::Result<&'static [AtomicU64]>) -> io::Result<Self> {
        map(2 * LSN_WORDS).map(Self)
    }

    /// Records the position of a replica that is applying no changes.
    pub fn set(&self, lsn: Lsn) {
        self.write(VISIBLE, lsn);
        self.write(APPLIED, lsn);
    }

    /// Records the change up to which everything is about to be applied.
    ///
    /// Call it before the changes are recorded: readers see each of them from that moment on.
    pub fn announce(&self, lsn: Lsn) {
        self.write(VISIBLE, lsn.max(self.applied()));
    }

    /// Returns the latest change that may be part of what a reader has read before this call.
    #[must_use]
    pub fn visible(&self) -> Lsn {
        lsn_of_answer(self.read(VISIBLE), self.applied())
    }

    /// Records the latest change that is applied.
    pub fn set_applied(&self, lsn: Lsn) {
        self.write(APPLIED, lsn);
    }

    /// Returns the latest change that is applied.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.read(APPLIED)
    }

    fn write(&self, at: usize, lsn: Lsn) {
        let next = self.0[at].load(SeqCst).wrapping_add(1);
        let copy = copy_at(at, next);
        self.0[copy].store(lsn.epoch.into(), SeqCst);
        self.0[copy + 1].store(lsn.number, SeqCst);
        self.0[at].store(next, SeqCst);
    }

    fn read(&self, at: usize) -> Lsn {
        loop {
            let count = self.0[at].load(SeqCst);
            let copy = copy_at(at, count);
            let epoch = u32::try_from(self.0[copy].load(SeqCst)).unwrap_or(u32::MAX);
            let number = self.0[copy + 1].load(SeqCst);
            // The writer overwrites this copy only after it has raised the counter.
            if self.0[at].load(SeqCst) == count {
                return Lsn { epoch, number };
            }
        }
    }
}

/// Returns the first word of the copy that is current at this count of writes.
fn copy_at(at: usize, count: u64) -> usize {
    if count.is_multiple_of(2) { at + 1 } else { at + 3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_never_mix_two_lsns() {
        let words = Vec::leak((0..2 * LSN_WORDS).map(|_| AtomicU64::new(0)).collect());
        let progress = ReplicaProgress::new(|_| Ok(words)).unwrap();
        let lsns =
            [Lsn { epoch: 1, number: u64::MAX }, Lsn { epoch: 2, number: 1 }, Lsn::default()];
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0_u64;
                while !ended.load(SeqCst) {
                    for lsn in [progress.applied(), progress.visible()] {
                        assert!(lsns.contains(&lsn), "{lsn:?}");
                        seen += 1;
                    }
                }
                seen
            });
            for n in 0..400_000 {
                progress.set(lsns[n % 2]);
            }
            ended.store(true, SeqCst);
            assert!(reader.join().unwrap() > 0);
        });
    }
}
