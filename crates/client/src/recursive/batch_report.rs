//! The report of a recursive command. Failures are printed at once.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use relais_proto::{ErrorCode, TreePath};

use super::node::{SkipReason, SkippedName, TreeListing, remote_name};
use crate::notices::Notices;
use crate::outcome::{BatchSummary, FailedName};
use crate::output::Output;
use crate::{Failure, Result};

/// Most skipped names that are printed one by one.
const MAX_REPORTED: usize = 20;

/// The totals and failures so far.
pub struct BatchReport {
    /// Totals of the finished names.
    pub summary: BatchSummary,
    begun: Instant,
    /// Number of failures before the first transfer: names that cannot be transferred at all.
    refused: usize,
}

impl BatchReport {
    /// Creates an empty report.
    pub fn new() -> Self {
        Self { summary: BatchSummary::default(), begun: Instant::now(), refused: 0 }
    }

    /// Records and prints the failure of a name with this remote path.
    pub fn fail(&mut self, output: &mut Output, remote: impl Into<String>, failure: Failure) {
        output.failed(&failure);
        self.summary.failed.push(FailedName { remote: remote.into(), failure });
    }

    /// As [`Self::fail`]; the message gets the remote path, unless it contains it.
    pub fn fail_about(&mut self, output: &mut Output, remote: &str, failure: Failure) {
        let is_about = failure.message.contains(remote) || failure.code == ErrorCode::Interrupted;
        self.fail(output, remote, if is_about { failure } else { failure.of(remote) });
    }

    /// Records and prints the names that a listing could not read.
    pub fn fail_unlisted(&mut self, output: &mut Output, base: &TreePath, listing: &TreeListing) {
        for (path, failure) in &listing.failed {
            self.fail_about(output, &remote_name(base, path), failure.clone());
        }
    }

    /// Records and prints skipped names below `top`; reserved names are not mentioned.
    pub fn skip(&mut self, notices: &Notices, top: &Path, names: &[SkippedName]) {
        let is_mentioned = |skipped: &&SkippedName| {
            !matches!(skipped.reason, SkipReason::Reserved | SkipReason::Unreadable)
        };
        let mut paths = Vec::new();
        for skipped in names.iter().filter(is_mentioned) {
            let path = top.join(skipped.shown()).display().to_string();
            if paths.len() < MAX_REPORTED {
                say!(notices, "skipped {path}: {}", skipped.reason);
            }
            paths.push(path);
        }
        if let Some(more) = paths.len().checked_sub(MAX_REPORTED).filter(|more| *more > 0) {
            say!(notices, "skipped {more} more");
        }
        self.summary.skip(paths);
    }

    /// Adds the servers that took part.
    pub fn served_by(&mut self, servers: &[SocketAddr]) {
        self.summary.served_by(&servers.iter().map(ToString::to_string).collect::<Vec<_>>());
    }

    /// Adds the result of one folder with this remote name.
    pub fn add_tree(&mut self, output: &mut Output, name: &str, result: Result<BatchSummary>) {
        match result {
            Ok(several) => self.summary.merge(several),
            Err(failure) if self.is_over() && ends_batch(&failure) => {}
            Err(failure) => self.fail_about(output, name, failure),
        }
    }

    /// Excludes the failures so far from [`Self::has_failed`].
    pub fn exclude_refused(&mut self) {
        self.refused = self.summary.failed.len();
    }

    /// Whether a transfer failed.
    pub fn has_failed(&self) -> bool {
        self.summary.failed.len() > self.refused
    }

    /// Whether the user interrupted or no server answers; then no further transfer starts.
    pub fn is_over(&self) -> bool {
        self.summary.failed.iter().any(|failed| ends_batch(&failed.failure))
    }

    /// Whether another run could complete a failed name.
    pub fn can_resume(&self) -> bool {
        self.summary.failed.iter().any(|failed| is_resumable(&failed.failure))
    }

    /// Returns the totals with the duration.
    pub fn finish(mut self) -> BatchSummary {
        self.summary.time = self.begun.elapsed();
        self.summary
    }
}

/// Whether another run may succeed.
pub fn is_resumable(failure: &Failure) -> bool {
    matches!(failure.status(), 3 | 4 | 5 | 130)
        || matches!(failure.code, ErrorCode::NoChanges | ErrorCode::NoSpace)
}

/// Whether the failure concerns all remaining names, not one.
pub fn ends_batch(failure: &Failure) -> bool {
    matches!(failure.status(), 3 | 4 | 130)
        || matches!(failure.code, ErrorCode::Cut | ErrorCode::BadServer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumable_failures_are_classified() {
        let report = |code| {
            let failed = vec![FailedName { remote: "x".into(), failure: Failure::new(code, "") }];
            let report = BatchReport {
                summary: BatchSummary { failed, ..BatchSummary::default() },
                begun: Instant::now(),
                refused: 0,
            };
            (report.can_resume(), report.is_over())
        };
        assert_eq!(report(ErrorCode::NotFound), (false, false));
        assert_eq!(report(ErrorCode::Local), (false, false));
        assert_eq!(report(ErrorCode::NoChanges), (true, false));
        assert_eq!(report(ErrorCode::NoSpace), (true, false));
        assert_eq!(report(ErrorCode::LoginNeeded), (true, true));
        assert_eq!(report(ErrorCode::Damaged), (true, false));
        assert_eq!(report(ErrorCode::Cut), (true, true));
        assert_eq!(report(ErrorCode::Interrupted), (true, true));
        assert_eq!(report(ErrorCode::Unreachable), (true, true));
    }
}
