//! Which pieces are fetched next, and which wait for their turn. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Pieces of one request.
const RUN: u64 = 4;
/// Pieces from the next one in order on that may be requested: 64 MiB of memory.
const WINDOW: u64 = 64;

/// The pieces of a content; see the module.
#[derive(Debug)]
pub struct PieceWindow {
    /// The next piece in order.
    next: u64,
    /// The first piece that nothing has claimed yet.
    unclaimed: u64,
    end: u64,
    /// Claimed pieces that did not come.
    returned: BTreeSet<u64>,
    /// Pieces that wait for earlier ones.
    ready: BTreeMap<u64, Vec<u8>>,
}

impl PieceWindow {
    /// Makes the window of these pieces.
    pub fn new(pieces: Range<u64>) -> Self {
        let Range { start, end } = pieces;
        let (returned, ready) = Default::default();
        Self { next: start, unclaimed: start, end, returned, ready }
    }

    /// Claims some pieces in a row; returned ones first, because others wait for them.
    pub fn claim(&mut self) -> Option<Range<u64>> {
        if let Some(first) = self.returned.first().copied() {
            let mut end = first;
            while end - first < RUN && self.returned.remove(&end) {
                end += 1;
            }
            return Some(first..end);
        }
        let last = self.end.min(self.next.saturating_add(WINDOW));
        let run = self.unclaimed..last.min(self.unclaimed.saturating_add(RUN));
        (!run.is_empty()).then(|| {
            self.unclaimed = run.end;
            run
        })
    }

    /// Gives claimed pieces back.
    pub fn give_back(&mut self, pieces: Range<u64>) {
        self.returned.extend(pieces);
    }

    /// Adds a piece that has come.
    pub fn put(&mut self, index: u64, piece: Vec<u8>) {
        self.ready.insert(index, piece);
    }

    /// Takes the next piece in order, if it has come.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let piece = self.ready.remove(&self.next)?;
        self.next += 1;
        Some(piece)
    }

    /// Whether all pieces were taken.
    pub fn is_complete(&self) -> bool {
        self.next >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_within_the_window() {
        let mut window = PieceWindow::new(2..200);
        let mut claimed: Vec<Range<u64>> = Vec::new();
        while let Some(run) = window.claim() {
            claimed.push(run);
        }
        assert_eq!((claimed[0].clone(), claimed.len()), (2..6, 16));
        assert_eq!(claimed.last().map(|run| run.end), Some(2 + WINDOW));
        window.put(3, vec![3]);
        assert_eq!(window.take(), None);
        window.put(2, vec![2]);
        assert_eq!(
            [window.take(), window.take(), window.take()],
            [Some(vec![2]), Some(vec![3]), None]
        );
        assert_eq!(window.claim(), Some(66..68));
        window.give_back(4..6);
        window.give_back(8..9);
        assert_eq!(
            [window.claim(), window.claim(), window.claim()],
            [Some(4..6), Some(8..9), None]
        );
        assert!(!window.is_complete());
    }

    #[test]
    fn the_last_run_is_short() {
        let mut window = PieceWindow::new(0..5);
        assert_eq!(
            [window.claim(), window.claim(), window.claim()],
            [Some(0..4), Some(4..5), None]
        );
        (0..5).for_each(|index| window.put(index, vec![]));
        assert!((0..5).all(|_| window.take().is_some()) && window.is_complete());
    }
}
