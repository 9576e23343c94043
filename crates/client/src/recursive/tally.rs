//! What a recursive command has come to so far. What fails is told at once.

use std::time::Instant;

use relais_proto::ErrorCode;

use super::node::{Kept, Odd};
use crate::Failure;
use crate::notices::Notices;
use crate::outcome::{Failed, Several};
use crate::output::Output;

/// Skipped names that are told one by one.
const TOLD: usize = 20;

/// Counts, and the failures.
pub struct Tally {
    /// What is done.
    pub several: Several,
    begun: Instant,
    /// How many of the failures are of names that were never to be transferred.
    refused: usize,
}

impl Tally {
    /// Nothing is done yet.
    #[must_use]
    pub fn new() -> Self {
        Self { several: Several::default(), begun: Instant::now(), refused: 0 }
    }

    /// A name failed. `remote` is its remote path.
    pub fn fail(&mut self, output: &mut Output, remote: impl Into<String>, failure: Failure) {
        output.failed(&failure);
        self.several.failed.push(Failed { remote: remote.into(), failure });
    }

    /// One more file is there.
    pub fn count(&mut self, bytes: u64) {
        self.several.files += 1;
        self.several.bytes = self.several.bytes.saturating_add(bytes);
    }

    /// Names were skipped; `top` is put before them. Our own files are not worth a word.
    pub fn skip(&mut self, notices: &Notices, top: &str, kept: &[Kept]) {
        let skipped: Vec<&Kept> =
            kept.iter().filter(|kept| !matches!(kept.odd, Odd::Ours | Odd::Unreadable)).collect();
        for kept in skipped.iter().take(TOLD) {
            notices.say(&format!("skipped {}: {}", joined(top, &kept.shown()), kept.odd));
        }
        if let Some(more) = skipped.len().checked_sub(TOLD).filter(|more| *more > 0) {
            notices.say(&format!("skipped {more} more"));
        }
        self.several.skipped.extend(skipped.iter().map(|kept| joined(top, &kept.shown())));
    }

    /// What failed up to here is no transfer that failed.
    pub fn mark(&mut self) {
        self.refused = self.several.failed.len();
    }

    /// Whether a transfer failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.several.failed.len() > self.refused
    }

    /// Whether the user interrupted, or no server answers: nothing more is begun then.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.several.failed.iter().any(|failed| ends_all(&failed.failure))
    }

    /// Whether something failed that another run would find to do.
    #[must_use]
    pub fn can_go_on(&self) -> bool {
        self.several.failed.iter().any(|failed| is_left(&failed.failure))
    }

    /// The whole, with its time.
    #[must_use]
    pub fn finish(mut self) -> Several {
        self.several.time = self.begun.elapsed();
        self.several
    }
}

/// Whether another run may do better.
#[must_use]
pub fn is_left(failure: &Failure) -> bool {
    matches!(failure.status(), 3 | 4 | 5 | 130)
        || matches!(failure.code, ErrorCode::NoChanges | ErrorCode::NoSpace)
}

/// Whether what failed is not this one name, but all that is left.
#[must_use]
pub fn ends_all(failure: &Failure) -> bool {
    matches!(failure.status(), 3 | 4 | 130)
        || matches!(failure.code, ErrorCode::Cut | ErrorCode::BadServer)
}

fn joined(top: &str, name: &str) -> String {
    if top.is_empty() || top.ends_with('/') {
        format!("{top}{name}")
    } else {
        format!("{top}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_behind_their_top() {
        for (top, name, whole) in
            [("", "a", "a"), ("/", "a", "/a"), ("/x", "a", "/x/a"), ("d", "a/b", "d/a/b")]
        {
            assert_eq!(joined(top, name), whole);
        }
    }

    #[test]
    fn what_another_run_would_find_to_do_is_known() {
        let tally = |code| {
            let failed = vec![Failed { remote: "x".into(), failure: Failure::new(code, "") }];
            let tally = Tally {
                several: Several { failed, ..Several::default() },
                begun: Instant::now(),
                refused: 0,
            };
            (tally.can_go_on(), tally.is_over())
        };
        assert_eq!(tally(ErrorCode::NotFound), (false, false));
        assert_eq!(tally(ErrorCode::Local), (false, false));
        assert_eq!(tally(ErrorCode::NoChanges), (true, false));
        assert_eq!(tally(ErrorCode::NoSpace), (true, false));
        assert_eq!(tally(ErrorCode::LoginNeeded), (true, true));
        assert_eq!(tally(ErrorCode::Damaged), (true, false));
        assert_eq!(tally(ErrorCode::Cut), (true, true));
        assert_eq!(tally(ErrorCode::Interrupted), (true, true));
        assert_eq!(tally(ErrorCode::Unreachable), (true, true));
    }
}
