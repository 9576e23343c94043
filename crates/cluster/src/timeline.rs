//! Finds the point where two histories diverge.
//!
//! Equal numbers are no proof, because a master with a restored disk assigns them again. As in
//! Kafka's leader epochs and PostgreSQL's timelines, each part that one master numbered without a
//! break has a random id. One process writes one sequence of changes. So two histories that share a
//! timeline are equal up to its end in the shorter one. The changes after that point, in the
//! history that does not survive, are a branch.

use relais_proto::{Lsn, limits};

pub use relais_proto::Timeline;

/// Returns the last change of the `n`th timeline in a history that ends with `last`.
fn end(history: &[Timeline], n: usize, last: Lsn) -> Lsn {
    history.get(n + 1).map_or(last, |next| next.after.min(last))
}

/// Returns the last change up to which two histories are proven equal.
///
/// Returns the default if nothing is proven.
#[must_use]
pub fn fork(own: &[Timeline], own_last: Lsn, theirs: &[Timeline], their_last: Lsn) -> Lsn {
    let common = own.iter().enumerate().rev().find_map(|(n, mine)| {
        let m = theirs.iter().rposition(|other| other.id == mine.id)?;
        Some(end(own, n, own_last).min(end(theirs, m, their_last)))
    });
    common.unwrap_or_default()
}

/// Begins a timeline after `last`.
///
/// An empty timeline is replaced. The oldest timelines are dropped if there are too many.
pub fn begin(history: &mut Vec<Timeline>, id: [u8; 16], last: Lsn) {
    if history.last().is_some_and(|now| now.id == id) {
        return;
    }
    history.retain(|known| known.after < last);
    history.push(Timeline { after: last, id });
    history.drain(..history.len().saturating_sub(limits::TIMELINES));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, number: u64) -> Lsn {
        Lsn { epoch, number }
    }

    fn history(all: &[(u32, u64, u8)]) -> Vec<Timeline> {
        all.iter()
            .map(|(epoch, number, id)| Timeline { after: at(*epoch, *number), id: [*id; 16] })
            .collect()
    }

    #[test]
    fn histories_fork_at_the_end_of_their_last_shared_timeline() {
        let old = history(&[(0, 0, 1), (1, 30, 2)]);
        // A slave that is only behind, and the history that a recovery continued.
        let recovered = history(&[(0, 0, 1), (1, 30, 2), (1, 60, 3)]);
        assert_eq!(fork(&old, at(1, 45), &recovered, at(2, 7)), at(1, 45));
        assert_eq!(fork(&old, at(1, 70), &recovered, at(2, 7)), at(1, 60));
        // A master whose disk was restored to change 25 has assigned numbers again.
        let restored = history(&[(0, 0, 1), (1, 25, 4)]);
        assert_eq!(fork(&restored, at(1, 70), &recovered, at(2, 7)), at(1, 25));
        assert_eq!(fork(&recovered, at(1, 60), &restored, at(1, 90)), at(1, 25));
        // Two processes with copies of one state folder.
        let copy = history(&[(0, 0, 1), (1, 30, 5)]);
        assert_eq!(fork(&copy, at(1, 50), &old, at(1, 50)), at(1, 30));
        // A timeline was announced, but none of its changes was applied yet.
        assert_eq!(fork(&recovered, at(1, 20), &restored, at(1, 90)), at(1, 20));
    }

    #[test]
    fn nothing_is_proven_without_a_shared_timeline() {
        let (one, other) = (history(&[(0, 0, 1)]), history(&[(0, 0, 2)]));
        assert_eq!(fork(&one, at(1, 9), &other, at(1, 9)), Lsn::default());
        assert_eq!(fork(&[], at(1, 9), &other, at(1, 9)), Lsn::default());
        // The oldest may have been dropped on either side.
        let (long, short) = (history(&[(0, 0, 1), (1, 5, 2), (1, 9, 3)]), history(&[(1, 5, 2)]));
        assert_eq!(fork(&long, at(1, 20), &short, at(1, 12)), at(1, 9));
    }

    #[test]
    fn a_history_of_many_starts_stays_short() {
        let mut all = Vec::new();
        for n in 0..2000_u64 {
            begin(&mut all, u128::from(n).to_be_bytes(), at(1, n / 2));
        }
        assert_eq!(all.len(), limits::TIMELINES);
        assert_eq!(
            all.last().map(|last| (last.after, last.id)),
            Some((at(1, 999), 1999_u128.to_be_bytes()))
        );
        assert!(all.is_sorted_by(|a, b| a.after < b.after));
        let before = all.clone();
        begin(&mut all, 1999_u128.to_be_bytes(), at(1, 5000));
        assert_eq!(all, before, "it goes on");
    }
}
