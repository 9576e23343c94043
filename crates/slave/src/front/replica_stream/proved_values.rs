//! The piece values that the last streams of a worker have proved.
//!
//! Clients fetch a large file in several ranges, one after the other or at once. Only the first of
//! them has another slave read the whole file. Proved values never become wrong, because their
//! digest identifies the content.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use relais_proto::Digest;

/// Most values that are kept: 1 MiB of memory, for 32 GiB of content.
const MAX_VALUES: usize = 32 * 1024;

/// Values of contents by their digests, the latest last.
#[derive(Default)]
pub struct ProvedValues(Mutex<VecDeque<(Digest, Arc<[Digest]>)>>);

impl ProvedValues {
    /// Returns the values of the content with this digest, if they are known.
    pub fn get(&self, digest: Digest) -> Option<Arc<[Digest]>> {
        self.0.lock().iter().find(|(known, _)| *known == digest).map(|(_, values)| values.clone())
    }

    /// Keeps proved values, and forgets the oldest ones.
    pub fn keep(&self, digest: Digest, values: &Arc<[Digest]>) {
        let mut all = self.0.lock();
        all.retain(|(known, _)| *known != digest);
        all.push_back((digest, values.clone()));
        while all.iter().map(|(_, values)| values.len()).sum::<usize>() > MAX_VALUES {
            all.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_values_are_forgotten() {
        let (known, third) = (ProvedValues::default(), MAX_VALUES / 3);
        let digest = |n| Digest([n; 32]);
        for n in 0..4 {
            known.keep(digest(n), &vec![digest(n); third].into());
        }
        assert!(known.get(digest(0)).is_none());
        assert!((1..4).all(|n| known.get(digest(n)).is_some_and(|values| values[0] == digest(n))));
        known.keep(digest(9), &vec![digest(9); MAX_VALUES + 1].into());
        assert!((0..10).all(|n| known.get(digest(n)).is_none()));
    }
}
