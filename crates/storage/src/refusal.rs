//! Refusals of requests: errors of the folder, as clients get them.

use std::time::Instant;

use log::warn;
use relais_proto::{ErrorCode, LogRateLimiter, Refusal, TreePath};
use relais_tree::TreeError;

/// Returns the refusal of a request for a path on which the folder has reported an error.
///
/// Errors of the disk are logged, limited in rate.
#[must_use]
pub fn refuse(path: &TreePath, error: &TreeError) -> Refusal {
    let code = error.code();
    if matches!(code, ErrorCode::Storage | ErrorCode::NoSpace) {
        log_failure(path, error);
    }
    Refusal::at(path, code, error.public_text().to_string())
}

/// Logs an error of the disk, limited in rate.
pub fn log_failure(path: &TreePath, error: &dyn std::fmt::Display) {
    static FAILED: LogRateLimiter = LogRateLimiter::new();
    if let Some(more) = FAILED.allow(Instant::now()) {
        warn!("{path}: {error}{more}");
    }
}

/// Refusal if no process can make changes now.
#[must_use]
pub fn changes_unavailable(reason: &str) -> Refusal {
    Refusal::new(ErrorCode::NoChanges, format!("changes are not possible now: {reason}"))
}

/// Same as [`changes_unavailable`], because of the state of a path.
#[must_use]
pub fn changes_unavailable_at(path: &TreePath, reason: &str) -> Refusal {
    Refusal { path: Some(path.clone()), ..changes_unavailable(reason) }
}
