//! How many streams a download wants. Pure: the caller passes what was received, and the time.
//!
//! On a short line one stream is enough if it is fast. If the rest would take long even at the best
//! rate so far, each server gets a stream. On a long line several streams begin at once, because
//! one needs many round trips to become fast, and the buffers of the system limit it to some MiB in
//! a round trip. Each other number is tried: it stays only if all together are faster by it, or as
//! fast with fewer.

use std::time::{Duration, Instant};

use log::debug;

use super::claims::time_of;
use super::rate::per_second;
use crate::sessions::StreamSource;

/// Round trip from which a line is long: below it one connection carries some Gbit/s.
const LONG_LINE: Duration = Duration::from_millis(10);
/// Streams that begin at once on a long line.
const FIRST_ON_LONG: usize = 8;
/// Bytes in a round trip that one connection carries, unless it loses packets.
const ONE_CARRIES: u64 = 512 * 1024;
/// Samples of the first stream on a short line.
const SAMPLES: u32 = 4;
/// Least time of a measurement of several streams.
const MEASURE: Duration = Duration::from_millis(200);
/// Round trips of a measurement: a new connection needs so many to become fast.
const MEASURE_TRIPS: u32 = 6;
/// The rest must take as long for another number to be tried.
const WORTHWHILE: Duration = Duration::from_secs(1);
/// Rate in percent of the one before that more streams must reach to stay.
const GAIN: u64 = 115;

/// What the plan is told at each tick.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    pub now: Instant,
    /// Bytes that all streams have received.
    pub moved: u64,
    /// Bytes of the content that have not arrived.
    pub missing: u64,
    /// Number of streams, with the first one.
    pub streams: usize,
    /// Whether there are as many streams as can be had, not more than wanted, and all receive.
    pub is_settled: bool,
}

/// The line and the servers of a download.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub round_trip: Duration,
    pub servers: usize,
    /// Highest number of streams.
    pub limit: usize,
}

impl Line {
    /// Makes the line to the servers of `source`.
    pub fn new(source: &dyn StreamSource, round_trip: Duration) -> Self {
        Self { round_trip, servers: source.servers().len(), limit: source.limit() }
    }

    /// Whether more connections to one server may help.
    pub fn is_long(&self) -> bool {
        self.round_trip >= LONG_LINE
    }

    /// Whether one connection carries as much as was measured on a long line.
    fn one_carries(&self, rate: u64) -> bool {
        let in_trip = u128::from(rate) * self.round_trip.as_micros() / 1_000_000;
        in_trip <= u128::from(ONE_CARRIES)
    }

    /// Whether more streams may help: there is another server, or the line is long.
    pub fn may_carry_more(&self) -> bool {
        self.limit > 1 && (self.is_long() || self.servers > 1)
    }
}

/// Returns how many streams fetch the rest if the number cannot change, after one had this rate.
pub fn streams_at_once(line: &Line, rate: u64, missing: u64) -> usize {
    if time_of(missing, rate) < WORTHWHILE {
        1
    } else if line.is_long() && !line.one_carries(rate) {
        FIRST_ON_LONG.min(line.limit)
    } else {
        line.servers.min(line.limit)
    }
}

/// A number of streams that is tried.
#[derive(Debug)]
struct Trial {
    /// Number of streams and their rate before; none at the start.
    before: Option<(usize, u64)>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Some streams do not receive yet, or have to end.
    Opening,
    /// New connections become fast.
    Warming,
    Measuring,
}

/// The wanted number of streams; see the module.
#[derive(Debug)]
pub struct StreamPlan {
    line: Line,
    /// Wanted number of streams, with the first one.
    target: usize,
    trial: Option<Trial>,
    /// Whether no other number is tried.
    is_final: bool,
    /// Number and best rate of the samples of the only stream.
    samples: (u32, u64),
    /// Start of the sample or measurement, and the bytes that had been received.
    since: (Instant, u64),
}

impl StreamPlan {
    pub fn new(line: Line, now: Instant, moved: u64) -> Self {
        let many = line.is_long().then(|| FIRST_ON_LONG.min(line.limit));
        let trial = many.map(|_| Trial { before: None, stage: Stage::Opening });
        let (samples, since) = ((0, 0), (now, moved));
        Self { line, target: many.unwrap_or(1), trial, is_final: false, samples, since }
    }

    /// Returns the wanted number of streams, with the first one.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Changes the wanted number after a measurement.
    pub fn observe(&mut self, seen: &Observation) {
        if self.is_final {
            return;
        }
        let Some(trial) = &mut self.trial else { return self.sample(seen) };
        let time = seen.now.duration_since(self.since.0);
        let is_over = time >= MEASURE.max(MEASURE_TRIPS * self.line.round_trip);
        match trial.stage {
            Stage::Opening if !seen.is_settled => return,
            Stage::Opening => trial.stage = Stage::Warming,
            _ if !is_over => return,
            Stage::Warming => trial.stage = Stage::Measuring,
            Stage::Measuring => {
                let (rate, before) = (per_second(seen.moved - self.since.1, time), trial.before);
                self.decide(seen, rate, before);
            }
        }
        self.since = (seen.now, seen.moved);
    }

    /// Measures the only stream on a short line, and tries all servers if the rest takes long.
    ///
    /// The best sample counts: a busy processor makes the others worse than the line is.
    fn sample(&mut self, seen: &Observation) {
        let time = seen.now.duration_since(self.since.0);
        let bytes = seen.moved - self.since.1;
        if self.samples.0 == 0 && bytes == 0 && time < MEASURE {
            return;
        }
        self.samples = (self.samples.0 + 1, self.samples.1.max(per_second(bytes, time)));
        self.since = (seen.now, seen.moved);
        let (count, best) = self.samples;
        if count < SAMPLES {
            return;
        }
        self.samples = (0, 0);
        if time_of(seen.missing, best) >= WORTHWHILE {
            self.change(seen.streams, best, self.line.servers.min(self.line.limit));
        }
    }

    /// Ends a trial by its rate, and begins another one or none.
    fn decide(&mut self, seen: &Observation, rate: u64, before: Option<(usize, u64)>) {
        self.trial = None;
        let (streams, wanted) = (seen.streams, self.target);
        if let Some((count, other)) = before {
            let (more, fewer) = if count < streams { (rate, other) } else { (other, rate) };
            let are_worth = more >= fewer.saturating_mul(GAIN) / 100;
            debug!("{streams} streams: {rate} B/s, {count}: {other} B/s");
            self.is_final = count > streams || !are_worth;
            self.target = if are_worth { count.max(streams) } else { count.min(streams) };
            if self.is_final {
                return;
            }
        }
        // If there are fewer streams than wanted, no server can be used for more.
        if time_of(seen.missing, rate) < WORTHWHILE || streams < wanted {
            self.is_final = true;
        } else if before.is_none() && self.line.one_carries(rate) {
            self.change(streams, rate, 1);
        } else {
            let most = if self.line.is_long() { usize::MAX } else { self.line.servers };
            self.change(streams, rate, (2 * streams).min(self.line.limit).min(most));
        }
    }

    /// Tries another number of streams; the present one is final if there is no other.
    fn change(&mut self, streams: usize, rate: u64, target: usize) {
        if target == streams {
            self.is_final = true;
            return;
        }
        debug!("{streams} streams: {rate} B/s; trying {target}");
        self.target = target;
        self.trial = Some(Trial { before: Some((streams, rate)), stage: Stage::Opening });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Runs a plan: each stream moves `rate(streams)` bytes a second in sum; returns the targets.
    fn run(round_trip: u64, servers: usize, size: u64, rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let line = Line { round_trip: Duration::from_millis(round_trip), servers, limit: 8 };
        let (start, mut moved) = (Instant::now(), 0);
        let mut plan = StreamPlan::new(line, start, 0);
        let mut targets = vec![plan.target()];
        for tick in 1.. {
            let streams = plan.target();
            moved += rate(streams) / 40;
            let now = start + Duration::from_millis(tick * 25);
            let Some(missing) = size.checked_sub(moved).filter(|missing| *missing > 0) else {
                break;
            };
            plan.observe(&Observation { now, moved, missing, streams, is_settled: true });
            if targets.last() != Some(&plan.target()) {
                targets.push(plan.target());
            }
        }
        targets
    }

    #[test]
    fn a_slow_short_line_gets_all_servers_at_once() {
        assert_eq!(run(0, 4, 256 * MIB, |streams| streams as u64 * 25 * MIB), [1, 4]);
        assert_eq!(run(0, 20, 256 * MIB, |streams| streams as u64 * 25 * MIB), [1, 8]);
    }

    #[test]
    fn a_fast_or_full_line_keeps_one_stream() {
        assert_eq!(run(0, 4, 256 * MIB, |_| 500 * MIB), [1]);
        assert_eq!(run(0, 4, 256 * MIB, |_| 25 * MIB), [1, 4, 1]);
        // 5 MiB a second are 200 KiB in a round trip.
        assert_eq!(run(40, 1, 256 * MIB, |_| 5 * MIB), [8, 1]);
    }

    #[test]
    fn a_long_line_gets_several_streams_at_once() {
        assert_eq!(run(40, 1, 1024 * MIB, |streams| streams as u64 * 40 * MIB), [8]);
        // One stream that loses packets carries less than several do.
        assert_eq!(run(40, 1, 256 * MIB, |streams| streams as u64 * MIB), [8, 1, 8]);
    }

    #[test]
    fn a_server_that_cannot_be_used_is_not_waited_for() {
        let line = Line { round_trip: Duration::ZERO, servers: 4, limit: 8 };
        let start = Instant::now();
        let (mut plan, mut moved) = (StreamPlan::new(line, start, 0), 0);
        for tick in 1..80 {
            let now = start + Duration::from_millis(tick * 25);
            let streams = plan.target().min(3);
            moved += streams as u64 * MIB / 2;
            let (missing, is_settled) = (256 * MIB, true);
            plan.observe(&Observation { now, moved, missing, streams, is_settled });
        }
        assert_eq!((plan.target(), plan.is_final), (3, true));
    }

    #[test]
    fn a_first_stream_that_sends_nothing_is_helped() {
        let line = Line { round_trip: Duration::ZERO, servers: 2, limit: 8 };
        let start = Instant::now();
        let mut plan = StreamPlan::new(line, start, 0);
        for tick in 1..20 {
            let now = start + Duration::from_millis(tick * 25);
            let (moved, missing, streams) = (0, 64 * MIB, 1);
            plan.observe(&Observation { now, moved, missing, streams, is_settled: true });
        }
        assert_eq!(plan.target(), 2);
    }
}
