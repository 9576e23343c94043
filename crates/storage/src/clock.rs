//! The monotonic clock, whose readings are stored in the catalogue and in shared memory.

use rustix::time::{ClockId, clock_gettime};

/// Returns milliseconds of the monotonic clock, which all processes of the host share.
#[must_use]
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1000 + nanos / 1_000_000
}
