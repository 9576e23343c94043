//! Tickets whose users have logged out before the tickets end.
//!
//! The table has a fixed size and no locks, because all processes of a server share it. The servers
//! of a cluster exchange its rows. All keep the same rows, whatever the order in which they come:
//! of each part those that are kept for the longest time.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use relais_proto::{LogOut, limits};

use crate::ticket::Ticket;

/// Users are spread over so many parts of the table, so that none displaces all others.
const PARTS: u8 = 128;
/// Tickets in one part. One more displaces the one whose user has logged out first.
const TICKETS: usize = 32;
/// Words of a ticket: its number, and the time until which it is kept, in milliseconds.
const ROW: usize = 2;

/// A table of tickets that are no longer accepted.
///
/// Its words are zero at first.
#[derive(Debug, Clone, Copy)]
pub struct EndedTickets<'a>(&'a [AtomicU64]);

impl<'a> EndedTickets<'a> {
    /// Highest number of tickets.
    pub const ROWS: usize = PARTS as usize * TICKETS;
    /// Number of words of the table.
    pub const WORDS: usize = Self::ROWS * ROW;

    /// Takes a table of [`Self::WORDS`] words, which other processes may use too.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    /// Adds a row; false if it is there already, or others of its part are kept for longer.
    pub fn insert(self, row: LogOut) -> bool {
        if row.part >= PARTS {
            return false;
        }
        let part = self.part(row.part);
        if part.clone().any(|words| words[0].load(SeqCst) == row.ticket) {
            return false;
        }
        // Another process may take the same words; then others are chosen.
        for _ in 0..TICKETS {
            // The time is read after the number and written before it, so a new number has its own.
            let rows = part.clone().map(|words| (words, load(words)));
            let Some((words, (former, until_ms))) = rows.min_by_key(|(_, (_, until_ms))| *until_ms)
            else {
                return false;
            };
            if until_ms >= row.until_ms {
                return false;
            }
            words[1].store(row.until_ms, SeqCst);
            if words[0].compare_exchange(former, row.ticket, SeqCst, SeqCst).is_ok() {
                return true;
            }
        }
        false
    }

    /// Whether a ticket of `user` was added.
    #[must_use]
    pub fn contains(self, user: &str, ticket: &[u8]) -> bool {
        let number = number_of(ticket);
        self.part(part_of(user)).any(|words| words[0].load(SeqCst) == number)
    }

    /// Returns the rows that still count at `now_ms`.
    #[must_use]
    pub fn rows(self, now_ms: u64) -> Vec<LogOut> {
        let parts = (0..PARTS).flat_map(|part| self.part(part).map(move |words| (part, words)));
        let rows = parts.map(|(part, words)| {
            let (ticket, until_ms) = load(words);
            LogOut { part, ticket, until_ms }
        });
        rows.filter(|row| row.ticket != 0 && row.until_ms > now_ms).collect()
    }

    fn part(self, part: u8) -> impl Iterator<Item = &'a [AtomicU64]> + Clone + use<'a> {
        self.0.chunks_exact(ROW).skip(usize::from(part) * TICKETS).take(TICKETS)
    }
}

/// Returns the row for a log-out with `ticket` at `now_ms`; `bytes` are the ticket as it was sent.
///
/// Its tag has to be right: an unchecked ticket would take the place of others.
#[must_use]
pub fn log_out(ticket: &Ticket, bytes: &[u8], now_ms: u64) -> LogOut {
    let time = u64::try_from(limits::TICKET_TIME.as_millis()).unwrap_or(u64::MAX);
    // The master renews a ticket for this time after its end. Of two log-outs the later one is kept
    // for longer.
    let until_ms = ticket.ends_ms.max(now_ms.saturating_add(time)).saturating_add(time);
    LogOut { part: part_of(&ticket.user), ticket: number_of(bytes), until_ms }
}

fn load(words: &[AtomicU64]) -> (u64, u64) {
    (words[0].load(SeqCst), words[1].load(SeqCst))
}

fn part_of(user: &str) -> u8 {
    blake3::hash(user.as_bytes()).as_bytes()[0] % PARTS
}

/// Returns a number that no other ticket has: the end of its tag. 0 stands for a free row.
fn number_of(ticket: &[u8]) -> u64 {
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

    fn row(user: &str, n: u64, until_ms: u64) -> LogOut {
        LogOut { part: part_of(user), ticket: number_of(&ticket(n)), until_ms }
    }

    #[test]
    fn only_added_tickets_have_ended() {
        let words = words();
        let ended = EndedTickets::new(&words);
        assert!(!ended.contains("ann", &ticket(1)) && !ended.contains("ann", b""));
        assert!(ended.insert(row("ann", 1, 500)));
        assert!(!ended.insert(row("ann", 1, 500)), "it is there once");
        assert!(ended.contains("ann", &ticket(1)));
        assert!(!ended.contains("ann", &ticket(2)) && !ended.contains("bob", &ticket(1)));
        assert_eq!(ended.rows(499), [row("ann", 1, 500)]);
        assert_eq!(ended.rows(500), []);
        assert!(
            !ended.insert(LogOut { part: PARTS, ..row("ann", 2, 500) }),
            "there is no such part"
        );
    }

    #[test]
    fn a_later_log_out_displaces_the_first_of_its_part() {
        let words = words();
        let ended = EndedTickets::new(&words);
        ended.insert(row("bob", 0, 1));
        for n in 1..=40 {
            assert!(ended.insert(row("ann", n, 1_000 + n)));
        }
        assert!(!ended.insert(row("ann", 1, 1_001)), "an older one does not come back");
        assert!(ended.contains("bob", &ticket(0)), "the ticket of another user stays");
        let kept: Vec<u64> = (1..=40).filter(|n| ended.contains("ann", &ticket(*n))).collect();
        assert_eq!(kept, (9..=40).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_out_is_kept_until_its_ticket_cannot_be_renewed() {
        let user = crate::AuthenticatedUser::without_account(crate::Rights::Read);
        let time = u64::try_from(limits::TICKET_TIME.as_millis()).unwrap();
        let ticket = Ticket::new(user, relais_proto::ClusterId([1; 16]), 1_000);
        assert_eq!(ticket.ends_ms, 1_000 + time);
        assert_eq!(log_out(&ticket, b"", 1_001).until_ms, 1_001 + 2 * time);
        assert_eq!(log_out(&ticket, b"", 0).until_ms, ticket.ends_ms + time);
    }

    #[test]
    fn tables_that_exchange_their_rows_become_equal() {
        let tables: Vec<_> = (0..3).map(|_| words()).collect();
        let tables: Vec<_> = tables.iter().map(|words| EndedTickets::new(words)).collect();
        for n in 0..90 {
            tables[usize::try_from(n % 3).unwrap()].insert(row("ann", n, 1_000 + n * 7 % 90));
        }
        for from in &tables {
            for to in &tables {
                from.rows(0).into_iter().for_each(|row| _ = to.insert(row));
            }
        }
        let sorted = |table: &EndedTickets<'_>| {
            let mut rows = table.rows(0);
            rows.sort_by_key(|row| row.ticket);
            rows
        };
        assert_eq!(sorted(&tables[0]).len(), TICKETS);
        assert_eq!(sorted(&tables[0]), sorted(&tables[1]));
        assert_eq!(sorted(&tables[0]), sorted(&tables[2]));
    }

    #[test]
    fn processes_that_add_at_once_lose_no_ticket() {
        let words = words();
        let ended = EndedTickets::new(&words);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for n in 0..8 {
                        ended.insert(row("ann", thread * 100 + n, 1_000));
                    }
                });
            }
        });
        let all = (0..4).flat_map(|thread| (0..8).map(move |n| thread * 100 + n));
        let lost: Vec<u64> = all.filter(|n| !ended.contains("ann", &ticket(*n))).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
