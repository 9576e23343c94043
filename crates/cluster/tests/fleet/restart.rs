//! A master that restarts: all slaves lose their links and come back.

use std::time::Duration;

use relais_cluster::reconnect::ReconnectPauses;
use relais_cluster::replica::Event;

use super::{Fleet, Step};

/// Time that a peak is counted over.
const WINDOW: Duration = Duration::from_millis(100);

/// What a restart was like.
#[derive(Debug, Default)]
pub struct Restart {
    /// Attempts while the master was down, and after it.
    pub attempts: usize,
    /// Most joins in any 100 ms.
    pub peak: usize,
    /// Time from the start of the master until all slaves follow it and their contents are known.
    pub complete: Duration,
}

impl Fleet {
    /// Restarts the master, which is down for some time.
    pub fn restart(&mut self, down: Duration, mut random: impl FnMut() -> u64) -> Restart {
        let begun = self.now;
        self.master.restart();
        let up = begun + down;
        let (mut attempts, mut joins) = (0, Vec::new());
        for n in 0..self.slaves.len() {
            self.slaves[n].lose_link(begun);
            let (mut pauses, mut at) = (ReconnectPauses::default(), begun);
            // An attempt fails at once, because no process listens on the port.
            loop {
                at += pauses.next(self.slaves.len(), random());
                attempts += 1;
                if at >= up {
                    break;
                }
            }
            joins.push(at);
            self.at(at, Step::Connect(n));
        }
        self.run();
        joins.sort_unstable();
        let within = |at: &Duration| joins.partition_point(|other| *other < *at + WINDOW);
        let peaks = joins.iter().enumerate().map(|(n, at)| within(at) - n);
        let peak = peaks.max().unwrap_or_default();
        assert!(self.slaves.iter().all(|slave| slave.replica.is_caught_up()));
        assert!(!self.master.coordinator.is_opening());
        Restart { attempts, peak, complete: self.now.saturating_sub(up) }
    }

    /// Proposes puts by different slaves, and runs until all slaves have their contents.
    pub fn put(&mut self, first: u64, count: u64) {
        for number in first..first + count {
            let n = usize::try_from(number).unwrap() % self.slaves.len();
            let event: Event = self.slaves[n].proposal(number);
            self.slave(n, event);
        }
        self.run();
        let last = self.master.coordinator.last();
        assert_eq!(last.number, first + count - 1, "a put was refused");
        for slave in &self.slaves {
            assert_eq!((slave.replica.applied(), slave.replica.missing().len()), (last, 0));
        }
    }
}
