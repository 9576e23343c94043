//! The values of the last hour, for the cluster and for each slave.
//!
//! It is bounded: [`SAMPLES`] points each for the slaves that are reported on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use relais_proto::{Lsn, SlaveId, SlaveReport, SlaveState, metric};

use super::rates::{RateMeter, Rates};
use crate::http::limits::{SAMPLE_EVERY, SAMPLES};
use crate::status::lag;

/// Time over which the rates in the table are measured.
const RATE_TIME: Duration = Duration::from_secs(3);

/// The values at one time, in the order of [`CURVES`](super::curves::CURVES).
pub(super) type Sample = [u64; 4];

/// The samples of the last hour, oldest first.
pub(super) type Samples = VecDeque<Sample>;

/// What is kept about a slave.
#[derive(Debug, Default)]
struct SlaveHistory {
    meter: RateMeter,
    samples: Samples,
}

/// The values of the last hour.
#[derive(Debug, Default)]
pub(super) struct History {
    cluster: Samples,
    slaves: BTreeMap<SlaveId, SlaveHistory>,
    /// The time of the last sample since the start of the master.
    sampled: Option<Duration>,
}

impl History {
    /// Takes the values of all slaves at a time since the start of the master.
    pub fn take(&mut self, now: Duration, slaves: &[SlaveReport], latest: Lsn) {
        self.slaves.retain(|id, _| slaves.iter().any(|slave| slave.id == *id));
        for slave in slaves {
            let n = |name| slave.metrics.get(name);
            let (sent, received) = (n(metric::SENT_BYTES), n(metric::RECEIVED_BYTES));
            self.slaves.entry(slave.id).or_default().meter.read(now, sent, received);
        }
        if self.sampled.is_some_and(|last| now.saturating_sub(last) < SAMPLE_EVERY) {
            return;
        }
        self.sampled = Some(now);
        let mut all = Sample::default();
        for slave in slaves {
            let Some(kept) = self.slaves.get_mut(&slave.id) else { continue };
            let is_up = slave.state != SlaveState::Down;
            let sessions = if is_up { slave.metrics.get(metric::SESSIONS) } else { 0 };
            let rates = kept.meter.over(SAMPLE_EVERY);
            let lag = lag(slave, latest).unwrap_or_default();
            push(&mut kept.samples, [lag, sessions, rates.sent, rates.received]);
            // The cluster lags as far as its last slave that is up.
            let [all_lag, all_sessions, all_sent, all_received] = all;
            all = [
                if is_up { all_lag.max(lag) } else { all_lag },
                all_sessions.saturating_add(sessions),
                all_sent.saturating_add(rates.sent),
                all_received.saturating_add(rates.received),
            ];
        }
        push(&mut self.cluster, all);
    }

    /// Returns the samples of a slave, or of the cluster.
    pub fn samples(&self, slave: Option<SlaveId>) -> Samples {
        match slave {
            None => self.cluster.clone(),
            Some(id) => self.slaves.get(&id).map_or_else(Samples::new, |of| of.samples.clone()),
        }
    }

    /// Returns the present rates of a slave.
    pub fn rates(&self, slave: SlaveId) -> Rates {
        self.slaves.get(&slave).map_or_else(Rates::default, |of| of.meter.over(RATE_TIME))
    }
}

fn push(samples: &mut Samples, sample: Sample) {
    if samples.len() >= SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
mod tests {
    use relais_proto::{FolderId, Metrics};

    use super::*;

    fn slave(n: u8, state: SlaveState, number: u64, sent: u64) -> SlaveReport {
        SlaveReport {
            id: SlaveId([n; 16]),
            folder: FolderId([n; 16]),
            addrs: Vec::new(),
            state,
            lsn: Lsn { epoch: 1, number },
            metrics: Metrics::default()
                .with(metric::SESSIONS, 2)
                .with(metric::SENT_BYTES, sent)
                .with(metric::RECEIVED_BYTES, 10 * sent),
            last_error: String::new(),
            silent_ms: 5,
        }
    }

    #[test]
    fn an_hour_of_samples_is_kept_of_each_slave() {
        let (mut history, latest) = (History::default(), Lsn { epoch: 1, number: 10 });
        for second in 0..5000 {
            let slaves = [
                slave(1, SlaveState::InService, 8, second * 100),
                slave(2, SlaveState::Down, 3, 0),
            ];
            history.take(Duration::from_secs(second), &slaves, latest);
        }
        let (one, two) = (Some(SlaveId([1; 16])), Some(SlaveId([2; 16])));
        for (who, last) in
            [(None, [2, 2, 100, 1000]), (one, [2, 2, 100, 1000]), (two, [7, 0, 0, 0])]
        {
            let samples = history.samples(who);
            assert_eq!((samples.len(), samples.back()), (SAMPLES, Some(&last)), "{who:?}");
        }
        assert_eq!(history.rates(SlaveId([1; 16])), Rates { sent: 100, received: 1000 });
    }

    #[test]
    fn a_slave_that_is_forgotten_leaves_nothing() {
        let (mut history, latest) = (History::default(), Lsn { epoch: 1, number: 10 });
        let slaves = [slave(1, SlaveState::InService, 8, 0)];
        history.take(Duration::ZERO, &slaves, latest);
        history.take(Duration::from_secs(1), &[], latest);
        assert!(history.slaves.is_empty() && history.samples(Some(SlaveId([1; 16]))).is_empty());
        assert_eq!(history.samples(None).len(), 1);
    }
}
