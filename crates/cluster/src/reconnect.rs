//! Pauses before a slave connects to its master again.
//!
//! Each pause is random, so the slaves of a cluster do not come back at the same moment. It is the
//! longer the more slaves there are, so that a master gets about as many joins a second whatever
//! the size of the cluster (AWS Architecture Blog, "Exponential Backoff And Jitter").

use std::time::Duration;

/// Upper bound of the first pause.
const FIRST: Duration = Duration::from_millis(100);
/// Upper bound of all pauses in a small cluster.
const LONGEST: Duration = Duration::from_secs(1);
/// What each slave of the cluster adds to the upper bound at least.
const PER_SLAVE: Duration = Duration::from_millis(1);

/// The pauses of one slave; see the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReconnectPauses {
    /// Failed attempts in a row.
    failures: u32,
}

impl ReconnectPauses {
    /// Returns the pause after the next failure: between half of the bound and the bound.
    ///
    /// `slaves` is the number of slaves in the cluster, as far as known, and `random` any number.
    pub fn next(&mut self, slaves: usize, random: u64) -> Duration {
        let slaves = u32::try_from(slaves).unwrap_or(u32::MAX);
        let bound = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        let bound = bound.max(PER_SLAVE.saturating_mul(slaves));
        self.failures = self.failures.saturating_add(1);
        let half = bound / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(random % nanos.max(1))
    }

    /// Begins anew after a link that was up for a while.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_spread() {
        let (mut pauses, ms) = (ReconnectPauses::default(), Duration::from_millis);
        let least: Vec<Duration> = (0..6).map(|_| pauses.next(3, 0)).collect();
        assert_eq!(least, [50, 100, 200, 400, 500, 500].map(ms));
        pauses.reset();
        assert!(pauses.next(3, u64::MAX) < ms(100));
        let spread: Vec<Duration> = (0..4).map(|n| pauses.next(4000, n * 500_000_000)).collect();
        assert_eq!(spread, [2000, 2500, 3000, 3500].map(ms));
    }
}
