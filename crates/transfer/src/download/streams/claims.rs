//! Which stream fetches which bytes. Pure: the caller passes the time.
//!
//! A claim is what a stream has requested. A stream claims as many bytes as it moves in half a
//! second. When all missing bytes are claimed, an idle stream takes bytes from the end of the claim
//! that would end last. The stream that loses them stops there.

use std::ops::Range;
use std::time::{Duration, Instant};

use relais_proto::limits::PIECE;

use super::rate::StreamRate;
use crate::ranges::Ranges;

/// Size in bytes from which a content may be fetched by several streams.
///
/// The first request is as long, so a smaller content needs only one. A line of 1 Gbit/s carries
/// 16 MiB in 0.13 s, in which a second stream would not have begun on a long line.
pub const STRIPED_FROM: u64 = 16 * 1024 * 1024;
/// Least bytes of a claim, unless fewer are missing.
const SMALLEST: u64 = 4 * PIECE;
/// Work of a stream among others, in milliseconds.
const WORK_OF_MANY: u64 = 500;
/// Work of the only stream. It needs fewer requests, because nothing has to be balanced.
const WORK_OF_ONE: u64 = 1000;
/// Least time until the end of a claim from which bytes are taken: the loser has to connect again.
const LATE: Duration = Duration::from_millis(750);

/// Number of a stream in its download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub usize);

impl StreamId {
    /// The stream of the downloading thread.
    pub const FIRST: Self = Self(0);
}

#[derive(Debug)]
struct Claim {
    stream: StreamId,
    start: u64,
    /// The next byte to receive.
    position: u64,
    end: u64,
}

/// The claims of all streams.
#[derive(Debug)]
pub struct ClaimTable {
    /// In the order of the requests of each stream.
    claims: Vec<Claim>,
    rates: Vec<(StreamId, StreamRate)>,
    /// Bytes that were received by all streams.
    pub moved: u64,
    /// Most bytes of a claim.
    pub longest: u64,
}

impl Default for ClaimTable {
    fn default() -> Self {
        Self { claims: Vec::new(), rates: Vec::new(), moved: 0, longest: u64::MAX }
    }
}

impl ClaimTable {
    /// Adds a stream, unless it is there.
    pub fn add(&mut self, stream: StreamId, now: Instant) {
        if !self.rates.iter().any(|(id, _)| *id == stream) {
            self.rates.push((stream, StreamRate::new(now)));
        }
    }

    /// Removes a stream and its claims.
    pub fn remove(&mut self, stream: StreamId) {
        self.release(stream);
        self.rates.retain(|(id, _)| *id != stream);
    }

    /// Gives back all claims of a stream, which has lost its connection.
    pub fn release(&mut self, stream: StreamId) {
        self.claims.retain(|claim| claim.stream != stream);
    }

    /// Removes the claim that begins at `start`; its bytes are in the part file.
    pub fn finish(&mut self, stream: StreamId, start: u64) {
        self.claims.retain(|claim| (claim.stream, claim.start) != (stream, start));
    }

    /// Whether a stream has a claim.
    pub fn has_claim(&self, stream: StreamId) -> bool {
        self.claims.iter().any(|claim| claim.stream == stream)
    }

    /// Claims exactly this range, which no other stream has.
    pub fn insert(&mut self, stream: StreamId, range: Range<u64>, now: Instant) {
        let is_idle = !self.has_claim(stream);
        if let Some((_, rate)) = self.rates.iter_mut().find(|(id, _)| *id == stream && is_idle) {
            rate.begin(now);
        }
        let Range { start, end } = range;
        self.claims.push(Claim { stream, start, position: start, end });
    }

    /// Claims the next missing bytes for a stream; `None` if all are claimed.
    ///
    /// With `whole` it claims all up to the next byte that is not missing.
    pub fn claim(
        &mut self,
        stream: StreamId,
        (good, size): (&Ranges, u64),
        whole: bool,
        now: Instant,
    ) -> Option<Range<u64>> {
        let mut taken = good.clone();
        for claim in &self.claims {
            taken.insert(claim.start..claim.end);
        }
        let gap = taken.first_gap(size)?;
        let unclaimed = size.saturating_sub(taken.total());
        let end = if whole {
            gap.end
        } else {
            let end = gap.start.saturating_add(self.work(stream, unclaimed, now));
            end.next_multiple_of(PIECE).min(gap.end)
        };
        self.insert(stream, gap.start..end, now);
        Some(gap.start..end)
    }

    /// Returns how many bytes a stream is given of so many unclaimed ones.
    fn work(&self, stream: StreamId, unclaimed: u64, now: Instant) -> u64 {
        let rate = self.rate(stream, now).or_else(|| self.mean_rate(now));
        let streams = self.rates.len() as u64;
        let (time, share) = if streams > 1 {
            (WORK_OF_MANY, unclaimed / (2 * streams))
        } else {
            (WORK_OF_ONE, unclaimed)
        };
        let work = rate.map_or(2 * STRIPED_FROM, |rate| rate.saturating_mul(time) / 1000);
        work.min(share).max(SMALLEST).min(self.longest)
    }

    /// Takes bytes from the claim that would end last, for a stream without a claim.
    pub fn steal(&mut self, thief: StreamId, now: Instant) -> Option<Range<u64>> {
        let mine = self.rate(thief, now).or_else(|| self.mean_rate(now)).unwrap_or(0).max(1);
        let late = (0..self.claims.len()).map(|at| (self.time_left(at, now), at)).max()?;
        let (time, at) = late;
        let claim = &self.claims[at];
        if time < LATE || claim.stream == thief || claim.position >= claim.end {
            return None;
        }
        let theirs = self.rate(claim.stream, now).unwrap_or(mine);
        let left = claim.end - claim.position;
        // Both end at the same time then.
        let kept = u128::from(left) * u128::from(theirs) / (u128::from(theirs) + u128::from(mine));
        let kept = u64::try_from(kept).unwrap_or(left);
        let start = if kept < SMALLEST.min(left / 16) {
            claim.position
        } else {
            (claim.position + kept).next_multiple_of(PIECE)
        };
        let range = start.max(claim.end.saturating_sub(self.longest))..claim.end;
        if range.is_empty() {
            return None;
        }
        self.claims[at].end = range.start;
        self.insert(thief, range.clone(), now);
        Some(range)
    }

    /// Returns the time until the claim at this index has arrived, with those before it.
    fn time_left(&self, at: usize, now: Instant) -> Duration {
        let claim = &self.claims[at];
        let before = self.claims[..at].iter().filter(|other| other.stream == claim.stream);
        let left: u64 = before.chain([claim]).map(|c| c.end.saturating_sub(c.position)).sum();
        let rate = self.rate(claim.stream, now).or_else(|| self.mean_rate(now)).unwrap_or(0).max(1);
        if claim.end <= claim.position { Duration::ZERO } else { time_of(left, rate) }
    }

    /// Records bytes that a stream has received of its claim; returns where the claim ends now.
    pub fn advance(&mut self, stream: StreamId, start: u64, bytes: u64, now: Instant) -> u64 {
        self.moved += bytes;
        if let Some((_, rate)) = self.rates.iter_mut().find(|(id, _)| *id == stream) {
            rate.moved(bytes, now);
        }
        let of_start = |c: &&mut Claim| (c.stream, c.start) == (stream, start);
        self.claims.iter_mut().find(of_start).map_or(0, |claim| {
            claim.position += bytes;
            claim.end
        })
    }

    /// Whether the last claim of a stream will have arrived within `time`, as far as is known.
    pub fn ends_within(&self, stream: StreamId, time: Duration, now: Instant) -> bool {
        let of_stream = |at: &usize| self.claims[*at].stream == stream;
        let last = (0..self.claims.len()).rev().find(of_stream);
        self.rate(stream, now).is_some() && last.is_some_and(|at| self.time_left(at, now) < time)
    }

    /// Returns the bytes per second of a stream, if they were measured.
    fn rate(&self, stream: StreamId, now: Instant) -> Option<u64> {
        self.rates.iter().find(|(id, _)| *id == stream).and_then(|(_, rate)| rate.at(now))
    }

    fn mean_rate(&self, now: Instant) -> Option<u64> {
        let known = self.rates.iter().filter_map(|(_, rate)| rate.at(now));
        let (count, sum) = known.fold((0, 0), |(count, sum), rate| (count + 1, sum + rate));
        (count > 0).then(|| sum / count)
    }
}

/// Returns how long `bytes` take at this rate.
pub fn time_of(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 256 * PIECE;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Two streams, each with a claim of 8 MiB of which it has received half at these rates.
    fn two(start: Instant, rates: [u64; 2]) -> ClaimTable {
        let mut table = ClaimTable::default();
        for (n, rate) in (0..).zip(rates) {
            let (stream, first) = (StreamId(n), n as u64 * 8 * PIECE);
            table.add(stream, start);
            table.insert(stream, first..first + 8 * PIECE, start);
            table.advance(stream, first, rate / 10, at(start, 100));
        }
        table
    }

    #[test]
    fn claims_are_half_a_second_of_work() {
        let (start, good) = (Instant::now(), Ranges::new());
        let mut table = two(start, [20 * PIECE, 40 * PIECE]);
        let now = at(start, 110);
        let mut claim = |n| table.claim(StreamId(n), (&good, SIZE), false, now).unwrap();
        assert_eq!(claim(0), 16 * PIECE..26 * PIECE);
        assert_eq!(claim(1), 26 * PIECE..46 * PIECE);
        // A new stream is taken for a mean one.
        table.add(StreamId(2), now);
        let mut claim = |n| table.claim(StreamId(n), (&good, SIZE), false, now);
        assert_eq!(claim(2), Some(46 * PIECE..61 * PIECE));
        // Near the end the claims become smaller, but not less than 4 MiB.
        while let Some(range) = claim(1) {
            assert!(range.end - range.start <= 20 * PIECE && !range.is_empty());
        }
        assert_eq!(table.claims.iter().map(|claim| claim.end).max(), Some(SIZE));
    }

    #[test]
    fn a_released_claim_is_claimed_again() {
        let start = Instant::now();
        let mut table = two(start, [20 * PIECE, 20 * PIECE]);
        let mut good = Ranges::up_to(3 * PIECE);
        good.insert(8 * PIECE..10 * PIECE);
        table.remove(StreamId(1));
        let now = at(start, 110);
        assert_eq!(table.claim(StreamId(0), (&good, SIZE), true, now), Some(10 * PIECE..SIZE));
        table.release(StreamId(0));
        assert_eq!(table.claim(StreamId(0), (&good, SIZE), true, now), Some(3 * PIECE..8 * PIECE));
    }

    #[test]
    fn an_idle_stream_takes_the_end_of_the_latest_claim() {
        let start = Instant::now();
        // 1 MiB a second: the rest takes 8 s. 3 MiB a second: it takes 3 s.
        let mut table = two(start, [PIECE, 3 * PIECE]);
        let now = at(start, 110);
        table.finish(StreamId(1), 8 * PIECE);
        let stolen = table.steal(StreamId(1), now).unwrap();
        // The thief is three times as fast.
        assert_eq!(stolen, 3 * PIECE..8 * PIECE);
        assert_eq!(table.advance(StreamId(0), 0, 0, now), 3 * PIECE);
        // What is nearly there is left alone.
        let mut table = two(start, [20 * PIECE, 20 * PIECE]);
        table.finish(StreamId(1), 8 * PIECE);
        assert_eq!(table.steal(StreamId(1), now), None);
        // A stream that stalls loses all.
        assert_eq!(table.steal(StreamId(1), at(start, 60_000)), Some(2 * PIECE..8 * PIECE));
        assert_eq!(table.advance(StreamId(0), 0, 0, at(start, 60_000)), 2 * PIECE);
        // A claim may have a bound.
        let mut table = two(start, [PIECE, PIECE]);
        table.finish(StreamId(1), 8 * PIECE);
        table.longest = PIECE;
        assert_eq!(table.steal(StreamId(1), now), Some(7 * PIECE..8 * PIECE));
        table.add(StreamId(2), now);
        let claimed = table.claim(StreamId(2), (&Ranges::new(), SIZE), false, now);
        assert_eq!(claimed, Some(8 * PIECE..9 * PIECE));
    }
}
