//! Counters of transfers in shared memory, which all workers of a slave add to.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use relais_engine::Protocol;

use crate::sys::memory::shared_words;

/// The protocols, in the order of their counters.
const PROTOCOLS: [Protocol; 5] =
    [Protocol::Native, Protocol::Ftp, Protocol::Ftps, Protocol::Http, Protocol::Https];
/// The directions, in the order of their counters: what the slave sends, and what it receives.
const DIRECTIONS: [&str; 2] = ["download", "upload"];
/// Upper bounds of the buckets of transfer times, in seconds.
pub const SECONDS: [f64; 10] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];
/// Upper bounds of the buckets of transfer sizes, in bytes.
pub const SIZES: [f64; 10] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

// Words of one row, for one protocol and direction.
/// Bytes of all transfers, also of those that are under way.
const BYTES: usize = 0;
/// Bytes of transfers that have ended.
const ENDED_BYTES: usize = 1;
/// Time of all transfers in microseconds.
const MICROSECONDS: usize = 2;
/// Transfers by time; the last bucket is for longer ones.
const BY_TIME: usize = 3;
/// Transfers by size; the last bucket is for larger ones.
const BY_SIZE: usize = BY_TIME + SECONDS.len() + 1;
/// Words in a row.
const ROW: usize = BY_SIZE + SIZES.len() + 1;

/// The counters.
#[derive(Debug, Clone, Copy)]
pub struct TransferCounters(&'static [AtomicU64]);

/// What was transferred by one protocol in one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferTotals {
    /// Name of the protocol.
    pub protocol: &'static str,
    /// `download` or `upload`.
    pub direction: &'static str,
    /// Bytes of all transfers, also of those that are under way.
    pub bytes: u64,
    /// Bytes of transfers that have ended.
    pub ended_bytes: u64,
    /// Seconds of all transfers.
    pub seconds: f64,
    /// Number of transfers in each bucket of [`SECONDS`], and of longer ones.
    pub by_time: Vec<u64>,
    /// Number of transfers in each bucket of [`SIZES`], and of larger ones.
    pub by_size: Vec<u64>,
}

impl TransferCounters {
    /// Maps the counters.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new() -> io::Result<Self> {
        shared_words(PROTOCOLS.len() * DIRECTIONS.len() * ROW).map(Self)
    }

    /// Counts bytes of a transfer, as they are sent or received.
    pub fn add_bytes(self, protocol: Protocol, is_upload: bool, bytes: u64) {
        self.row(protocol, is_upload)[BYTES].fetch_add(bytes, Relaxed);
    }

    /// Counts a transfer that has ended, or was cut after `bytes`.
    #[allow(clippy::cast_precision_loss, reason = "buckets are powers of ten")]
    pub fn count(self, protocol: Protocol, is_upload: bool, bytes: u64, time: Duration) {
        let row = self.row(protocol, is_upload);
        let bucket = |bounds: &[f64], value: f64| bounds.partition_point(|bound| *bound < value);
        row[ENDED_BYTES].fetch_add(bytes, Relaxed);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        row[MICROSECONDS].fetch_add(microseconds, Relaxed);
        row[BY_TIME + bucket(&SECONDS, time.as_secs_f64())].fetch_add(1, Relaxed);
        row[BY_SIZE + bucket(&SIZES, bytes as f64)].fetch_add(1, Relaxed);
    }

    fn row(self, protocol: Protocol, is_upload: bool) -> &'static [AtomicU64] {
        let at = PROTOCOLS.iter().position(|other| *other == protocol).unwrap_or_default();
        &self.0[(at * DIRECTIONS.len() + usize::from(is_upload)) * ROW..][..ROW]
    }

    /// Returns the bytes of all protocols that were sent, and those that were received.
    #[must_use]
    pub fn bytes(self) -> [u64; 2] {
        let sum = |direction| {
            let rows = self.0.chunks_exact(ROW).skip(direction).step_by(DIRECTIONS.len());
            rows.map(|row| row[BYTES].load(Relaxed)).sum()
        };
        [sum(0), sum(1)]
    }

    /// Returns all counters.
    pub fn totals(self) -> impl Iterator<Item = TransferTotals> {
        let rows = self.0.chunks_exact(ROW);
        let names = PROTOCOLS.iter().flat_map(|protocol| DIRECTIONS.map(|d| (protocol.name(), d)));
        rows.zip(names).map(|(row, (protocol, direction))| {
            let count = |from: usize, to: usize| {
                row[from..to].iter().map(|word| word.load(Relaxed)).collect::<Vec<u64>>()
            };
            TransferTotals {
                protocol,
                direction,
                bytes: row[BYTES].load(Relaxed),
                ended_bytes: row[ENDED_BYTES].load(Relaxed),
                seconds: Duration::from_micros(row[MICROSECONDS].load(Relaxed)).as_secs_f64(),
                by_time: count(BY_TIME, BY_SIZE),
                by_size: count(BY_SIZE, ROW),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_counted_by_protocol_direction_time_and_size() {
        let counters = TransferCounters::new().unwrap();
        counters.add_bytes(Protocol::Http, true, 2002);
        counters.add_bytes(Protocol::Ftp, false, 5);
        counters.count(Protocol::Http, true, 1000, Duration::from_millis(20));
        counters.count(Protocol::Http, true, 1001, Duration::from_millis(30));
        counters.count(Protocol::Native, false, u64::MAX / 2, Duration::from_secs(100_000));
        let all: Vec<TransferTotals> = counters.totals().collect();
        assert_eq!(all.len(), 10);
        let of = |protocol: &str, direction: &str| {
            let found = all.iter().find(|t| t.protocol == protocol && t.direction == direction);
            found.unwrap().clone()
        };
        let http = of("http", "upload");
        assert_eq!((http.bytes, http.ended_bytes, http.seconds), (2002, 2001, 0.05));
        assert_eq!(counters.bytes(), [5, 2002]);
        assert_eq!((&http.by_time[..4], &http.by_size[..3]), (&[0, 1, 1, 0][..], &[1, 1, 0][..]));
        let native = of("native", "download");
        assert_eq!((native.by_time.last(), native.by_size.last()), (Some(&1), Some(&1)));
        assert_eq!(of("http", "download").bytes, 0);
    }
}
