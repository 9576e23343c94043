//! Tickets whose users have logged out before the tickets end.
//!
//! The table has a fixed size and no locks, because all processes of a server share it. It is lost
//! when the server restarts.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Users are spread over so many parts of the table, so that none displaces all others.
const PARTS: usize = 128;
/// Tickets in one part. One more displaces the one that ends first.
const TICKETS: usize = 32;
/// Words of a ticket: its id, and its end in milliseconds.
const ROW: usize = 2;

/// A table of tickets that are no longer accepted.
///
/// Its words are zero at first.
#[derive(Debug, Clone, Copy)]
pub struct EndedTickets<'a>(&'a [AtomicU64]);

impl<'a> EndedTickets<'a> {
    /// Number of words of the table.
    pub const WORDS: usize = PARTS * TICKETS * ROW;

    /// Takes a table of [`Self::WORDS`] words, which other processes may use too.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    /// Adds a ticket of `user`, which nothing accepts after `ends_ms` in any case.
    ///
    /// Its tag has to be right: an unchecked ticket would take the place of others.
    pub fn add(self, user: &str, ticket: &[u8], ends_ms: u64) {
        let id = id_of(ticket);
        let part = self.part_of(user);
        if part.clone().any(|row| row[0].load(SeqCst) == id) {
            return;
        }
        // Another process may take the same row; then another one is chosen.
        for _ in 0..TICKETS {
            // The end is read after the id and written before it, so a new id has its end.
            let rows = part.clone().map(|row| (row, row[0].load(SeqCst), row[1].load(SeqCst)));
            let Some((row, former, _)) = rows.min_by_key(|(_, _, end)| *end) else { return };
            row[1].store(ends_ms, SeqCst);
            if row[0].compare_exchange(former, id, SeqCst, SeqCst).is_ok() {
                return;
            }
        }
    }

    /// Whether a ticket of `user` was added.
    #[must_use]
    pub fn contains(self, user: &str, ticket: &[u8]) -> bool {
        let id = id_of(ticket);
        self.part_of(user).any(|row| row[0].load(SeqCst) == id)
    }

    fn part_of(self, user: &str) -> impl Iterator<Item = &'a [AtomicU64]> + Clone + use<'a> {
        let hash = blake3::hash(user.as_bytes());
        let part = usize::from(hash.as_bytes()[0]) % PARTS;
        self.0.chunks_exact(ROW).skip(part * TICKETS).take(TICKETS)
    }
}

/// Returns a number that no other ticket has: the end of its tag. 0 stands for a free row.
fn id_of(ticket: &[u8]) -> u64 {
    ticket.last_chunk().map_or(1, |tag| u64::from_be_bytes(*tag).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<AtomicU64> {
        std::iter::repeat_with(AtomicU64::default).take(EndedTickets::WORDS).collect()
    }

    fn ticket(n: u64) -> Vec<u8> {
        [&[0; 40][..], blake3::hash(&n.to_be_bytes()).as_bytes()].concat()
    }

    #[test]
    fn only_added_tickets_have_ended() {
        let words = words();
        let ended = EndedTickets::new(&words);
        assert!(!ended.contains("ann", &ticket(1)) && !ended.contains("ann", b""));
        ended.add("ann", &ticket(1), 500);
        ended.add("ann", &ticket(1), 500);
        assert!(ended.contains("ann", &ticket(1)));
        assert!(!ended.contains("ann", &ticket(2)) && !ended.contains("bob", &ticket(1)));
        let used = words.iter().filter(|word| word.load(SeqCst) != 0).count();
        assert_eq!(used, ROW, "it is there once");
    }

    #[test]
    fn a_user_displaces_own_tickets_that_end_first() {
        let words = words();
        let ended = EndedTickets::new(&words);
        ended.add("bob", &ticket(0), 1);
        for n in 1..=40 {
            ended.add("ann", &ticket(n), 1_000 + n);
        }
        assert!(ended.contains("bob", &ticket(0)), "the ticket of another user stays");
        let kept: Vec<u64> = (1..=40).filter(|n| ended.contains("ann", &ticket(*n))).collect();
        assert_eq!(kept, (9..=40).collect::<Vec<_>>());
    }

    #[test]
    fn processes_that_add_at_once_lose_no_ticket() {
        let words = words();
        let ended = EndedTickets::new(&words);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for n in 0..8 {
                        ended.add("ann", &ticket(thread * 100 + n), 1_000);
                    }
                });
            }
        });
        let all = (0..4).flat_map(|thread| (0..8).map(move |n| thread * 100 + n));
        let lost: Vec<u64> = all.filter(|n| !ended.contains("ann", &ticket(*n))).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
