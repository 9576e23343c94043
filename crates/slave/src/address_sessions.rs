//! How many sessions each address has, in memory that the slave's processes share.
//!
//! Each worker has a row; a session is a word in the row of the worker that serves it, or in which it waits. So whoever
//! wipes the row of a worker that died has forgotten just its sessions. Nothing blocks.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use relais_proto::network_of;

use crate::sys::memory::SharedWords;

/// Words of a row beyond its sessions and those that wait, for claims on their way from one to the other.
const SPARE: usize = 64;

/// The sessions of all addresses.
#[derive(Debug)]
pub struct AddressSessions {
    words: SharedWords,
    row: usize,
    most: usize,
}

impl AddressSessions {
    /// For `workers` that serve, and let wait, `sessions` each, and `most` sessions of one address.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new(workers: usize, sessions: usize, most: usize) -> io::Result<Self> {
        let row = sessions.saturating_add(SPARE);
        let words = SharedWords::new(workers.checked_mul(row).ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(Self { words, row, most })
    }

    fn row(&self, worker: usize) -> &[AtomicU64] {
        &self.words[worker * self.row..][..self.row]
    }

    /// One more session of `addr` with `worker`; false where it has as many as it may. Those inside the machine may have any number.
    pub fn take(&self, worker: usize, addr: IpAddr) -> bool {
        let Some(name) = name(addr) else { return true };
        // First taken and then counted: of two at once both see each other.
        let taken = self.put(worker, name);
        let count = self.words.iter().filter(|word| word.load(SeqCst) == name).count();
        if taken && count > self.most {
            self.leave(worker, addr);
            return false;
        }
        taken
    }

    /// As [`Self::take`], for a session that counts already, somewhere else.
    pub fn keep(&self, worker: usize, addr: IpAddr) {
        if let Some(name) = name(addr) {
            self.put(worker, name);
        }
    }

    /// A session of `addr` with `worker` has ended.
    pub fn leave(&self, worker: usize, addr: IpAddr) {
        if let Some(name) = name(addr) {
            // A wiped row may hold fewer.
            let _ = self
                .row(worker)
                .iter()
                .any(|word| word.compare_exchange(name, 0, SeqCst, SeqCst).is_ok());
        }
    }

    fn put(&self, worker: usize, name: u64) -> bool {
        self.row(worker).iter().any(|word| {
            word.load(SeqCst) == 0 && word.compare_exchange(0, name, SeqCst, SeqCst).is_ok()
        })
    }

    /// Forgets the sessions of a dead worker.
    pub fn clear(&self, worker: usize) {
        self.row(worker).iter().for_each(|word| word.store(0, SeqCst));
    }
}

/// What stands for an address. None inside the machine.
fn name(addr: IpAddr) -> Option<u64> {
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
    fn an_address_has_so_many_sessions_wherever_they_are_served() {
        let addresses = AddressSessions::new(2, 4, 3).unwrap();
        let (one, other) = (addr("10.0.0.1"), addr("10.0.0.2"));
        assert_eq!(
            [0, 1, 1, 0].map(|worker| addresses.take(worker, one)),
            [true, true, true, false]
        );
        assert_eq!(
            [0, 0, 0, 1].map(|worker| addresses.take(worker, other)),
            [true, true, true, false]
        );
        addresses.leave(1, one);
        assert!(addresses.take(0, addr("::ffff:10.0.0.1")) && !addresses.take(0, one));
        // From the queue of one to a place in another.
        addresses.keep(1, one);
        addresses.leave(0, one);
        assert!(!addresses.take(1, one));
        addresses.clear(0);
        assert!(addresses.take(0, one) && !addresses.take(0, one));
        addresses.leave(0, other);
        assert!(addresses.take(0, other));
    }

    #[test]
    fn networks_are_one_address_and_the_machine_itself_is_none() {
        let addresses = AddressSessions::new(1, 4, 1).unwrap();
        assert!(
            addresses.take(0, addr("2001:db8::1")) && !addresses.take(0, addr("2001:db8::ffff"))
        );
        assert!(addresses.take(0, addr("2001:db8:0:1::1")));
        assert!(
            (0..1000)
                .all(|_| addresses.take(0, addr("127.0.0.1")) && addresses.take(0, addr("::1")))
        );
    }

    #[test]
    fn many_at_once_never_have_more_and_leave_nothing() {
        let addresses = AddressSessions::new(4, 64, 5).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let addresses = &addresses;
                scope.spawn(move || {
                    for n in 0..2000_u32 {
                        let one = IpAddr::V4((0x0a00_0000 + n % 3).into());
                        if addresses.take(worker, one) {
                            let name = name(one).unwrap();
                            // Those that are about to be refused are there for a moment as well: one for each of the others.
                            assert!(
                                addresses
                                    .words
                                    .iter()
                                    .filter(|word| word.load(SeqCst) == name)
                                    .count()
                                    <= 5 + 3
                            );
                            addresses.leave(worker, one);
                        }
                    }
                });
            }
        });
        assert!(addresses.words.iter().all(|word| word.load(SeqCst) == 0));
    }
}
