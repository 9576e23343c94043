//! Counts the sessions of each address, in memory that the slave's processes share.
//!
//! Each worker has a row. A session is a word in the row of the worker that serves it, or in which
//! it waits. Clearing the row of a dead worker therefore removes exactly its sessions. Nothing here
//! blocks.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use relais_proto::network_of;

use crate::sys::memory::shared_words;

/// Words of a row beyond a worker's share of the sessions, for the logins of its pool.
const SPARE: usize = 1024;

/// The sessions of all addresses, as one word each.
#[derive(Debug)]
pub struct AddressSessions {
    words: &'static [AtomicU64],
    row: usize,
    most: usize,
}

impl AddressSessions {
    /// Maps the table for `workers` with `sessions` each, and `most` sessions of one address.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new(workers: usize, sessions: usize, most: usize) -> io::Result<Self> {
        let row = sessions.saturating_add(SPARE);
        let words = shared_words(workers.checked_mul(row).ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(Self { words, row, most })
    }

    fn row(&self, worker: usize) -> &[AtomicU64] {
        &self.words[worker * self.row..][..self.row]
    }

    /// Adds a session of `addr` in `worker`; false if `addr` has as many as it may.
    ///
    /// Loopback addresses have no limit.
    pub fn try_add(&self, worker: usize, addr: IpAddr) -> bool {
        let Some(tag) = tag(addr) else { return true };
        // Insert first and count then, so that two processes at once see each other's session.
        let taken = self.insert(worker, tag);
        let count = self.words.iter().filter(|word| word.load(SeqCst) == tag).count();
        if taken && count > self.most {
            self.remove(worker, addr);
            return false;
        }
        taken
    }

    /// Removes a session of `addr` from `worker`.
    pub fn remove(&self, worker: usize, addr: IpAddr) {
        if let Some(tag) = tag(addr) {
            // A cleared row may have fewer sessions.
            let _ = self
                .row(worker)
                .iter()
                .any(|word| word.compare_exchange(tag, 0, SeqCst, SeqCst).is_ok());
        }
    }

    fn insert(&self, worker: usize, tag: u64) -> bool {
        self.row(worker).iter().any(|word| {
            word.load(SeqCst) == 0 && word.compare_exchange(0, tag, SeqCst, SeqCst).is_ok()
        })
    }

    /// Removes the sessions of a dead worker.
    pub fn clear(&self, worker: usize) {
        self.row(worker).iter().for_each(|word| word.store(0, SeqCst));
    }
}

/// Returns the word that stands for an address; none for a loopback address.
fn tag(addr: IpAddr) -> Option<u64> {
    let network = network_of(addr);
    if network.is_loopback() {
        return None;
    }
    let hash = blake3::hash(network.to_string().as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    // 0 is a free word.
    Some(u64::from_le_bytes(bytes).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn address_limit_holds_across_workers() {
        let addresses = AddressSessions::new(2, 4, 3).unwrap();
        let (one, other) = (addr("10.0.0.1"), addr("10.0.0.2"));
        assert_eq!(
            [0, 1, 1, 0].map(|worker| addresses.try_add(worker, one)),
            [true, true, true, false]
        );
        assert_eq!(
            [0, 0, 0, 1].map(|worker| addresses.try_add(worker, other)),
            [true, true, true, false]
        );
        addresses.remove(1, one);
        assert!(addresses.try_add(0, addr("::ffff:10.0.0.1")) && !addresses.try_add(0, one));
        addresses.clear(0);
        assert!(addresses.try_add(0, one) && addresses.try_add(0, one));
        assert!(!addresses.try_add(0, one));
        assert!(addresses.try_add(1, other));
    }

    #[test]
    fn networks_share_a_limit_and_loopback_has_none() {
        let addresses = AddressSessions::new(1, 4, 1).unwrap();
        assert!(
            addresses.try_add(0, addr("2001:db8::1"))
                && !addresses.try_add(0, addr("2001:db8::ffff"))
        );
        assert!(addresses.try_add(0, addr("2001:db8:0:1::1")));
        assert!(
            (0..1000)
                .all(|_| addresses.try_add(0, addr("127.0.0.1"))
                    && addresses.try_add(0, addr("::1")))
        );
    }

    #[test]
    fn concurrent_sessions_respect_the_limit() {
        let addresses = AddressSessions::new(4, 64, 5).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let addresses = &addresses;
                scope.spawn(move || {
                    for n in 0..2000_u32 {
                        let one = IpAddr::V4((0x0a00_0000 + n % 3).into());
                        if addresses.try_add(worker, one) {
                            let tag = tag(one).unwrap();
                            // Sessions that are about to be rejected count for a moment as well:
                            // one for each other thread.
                            assert!(
                                addresses
                                    .words
                                    .iter()
                                    .filter(|word| word.load(SeqCst) == tag)
                                    .count()
                                    <= 5 + 3
                            );
                            addresses.remove(worker, one);
                        }
                    }
                });
            }
        });
        assert!(addresses.words.iter().all(|word| word.load(SeqCst) == 0));
    }
}
