//! Verifies the part file: checks the digest at the end and finds damaged pieces.
//!
//! If no common digest is known, it takes that of another server.

use relais_net::Connection;
use relais_proto::{Digest, ErrorCode, IfMatch, Refusal, TreePath};

use super::blocks::piece_range;
use super::content::Resume;
use super::hashing::Hashing;
use super::requests::{ask_for_digest, ask_for_pieces};
use super::state::DownloadState;
use crate::action::{Action, Purpose, action};
use crate::error::{Fault, TransferError};

/// Requests for damaged pieces to one server.
const ASK_AGAIN: u32 = 3;

/// Result of the verification.
pub(super) enum Verification {
    /// The part file contains exactly the content.
    Whole,
    /// Some bytes must be fetched again.
    Incomplete,
}

/// Joins the values to the digest; returns `None` if a value is missing.
fn join(values: &[Option<Digest>], size: u64) -> Option<Digest> {
    let values: Option<Vec<Digest>> = values.iter().copied().collect();
    relais_tree::join(&values?, size)
}

/// Compares the complete part file with `digest`.
///
/// On a mismatch it requests the server's piece values and removes the damaged pieces from the good
/// bytes. `rounds` counts these repairs with the current server.
pub(super) fn verify(
    server: &mut Connection,
    path: &TreePath,
    digest: Digest,
    state: &DownloadState<'_>,
    hashing: &mut Hashing<'_, '_>,
    rounds: &mut u32,
) -> Result<Verification, Fault> {
    hashing.settle()?;
    let Some(size) = state.with(|content| content.size) else {
        return Ok(Verification::Incomplete);
    };
    let count = usize::try_from(relais_tree::piece_count(size))
        .map_err(|_| Fault::bad_value("size", size))?;
    let ours = hashing.values(|values| join(values, size));
    if ours == Some(digest) {
        return Ok(Verification::Whole);
    }
    if size == 0 {
        return Err(damaged("empty content came with the digest of something else"));
    }
    *rounds += 1;
    if ours.is_none() {
        if *rounds > ASK_AGAIN {
            return Err(unstable().into());
        }
        forget_unhashed(size, count, state, hashing);
        return Ok(Verification::Incomplete);
    }
    if *rounds > ASK_AGAIN {
        return Err(damaged("pieces that were fetched again are still damaged"));
    }
    let theirs = their_values(server, path, digest, size)?;
    let bad: Vec<u64> = hashing.values(|values| {
        (0..)
            .zip(values.iter().zip(&theirs))
            .filter(|(_, (a, b))| **a != Some(**b))
            .map(|(i, _)| i)
            .collect()
    });
    log::debug!("{path}: {} of {count} pieces are damaged and are fetched again", bad.len());
    forget(bad, size, state, hashing);
    Ok(Verification::Incomplete)
}

/// Drops pieces that could not be read back, because the part file was truncated by another
/// program.
fn forget_unhashed(size: u64, count: usize, state: &DownloadState<'_>, hashing: &Hashing<'_, '_>) {
    let missing = hashing.values(|values| {
        (0..count as u64)
            .zip(values.iter().chain(std::iter::repeat(&None)))
            .filter(|(_, v)| v.is_none())
            .map(|(i, _)| i)
            .collect()
    });
    forget(missing, size, state, hashing);
}

fn forget(pieces: Vec<u64>, size: u64, state: &DownloadState<'_>, hashing: &Hashing<'_, '_>) {
    for index in pieces {
        hashing.forget(index);
        state.with(|content| content.good.remove(piece_range(index, size)));
    }
}

/// Requests the server's piece values and checks them against the digest.
fn their_values(
    server: &mut Connection,
    path: &TreePath,
    digest: Digest,
    size: u64,
) -> Result<Vec<Digest>, Fault> {
    let values =
        ask_for_pieces(server, path, IfMatch::Digest(digest), 0, relais_tree::piece_count(size))
            .map_err(|stop| match stop {
                Fault::Refused(refusal)
                    if matches!(
                        action(refusal.code, Purpose::Read),
                        Action::Stop | Action::Restart
                    ) =>
                {
                    damaged(format!(
                        "the content came damaged and cannot be repaired: {}",
                        refusal.message
                    ))
                }
                other => other,
            })?;
    if relais_tree::join(&values, size) == Some(digest) {
        Ok(values)
    } else {
        Err(damaged("the server's content does not have its digest"))
    }
}

/// Finds out whether a server has the known content although it has another identity there.
///
/// The size must be equal, and the server's digest counts from then on. Bytes that differ are
/// found by the verification at the end.
///
/// # Errors
/// Code `changed` if it is another content.
pub(super) fn identify(
    server: &mut Connection,
    path: &TreePath,
    state: &DownloadState<'_>,
) -> Result<(), Fault> {
    let (size, digest) = ask_for_digest(server, path)?;
    let same = |content: &mut Resume| {
        (content.digest, content.identity) = (digest, None);
        content.size == size && digest.is_some()
    };
    if state.with(same) == Some(true) {
        return Ok(());
    }
    Err(Fault::Refused(Refusal::new(ErrorCode::Changed, "the file was replaced")))
}

/// Reports a part file that keeps losing its bytes.
fn unstable() -> TransferError {
    TransferError::Local {
        error: std::io::Error::other("another program changes it"),
        what: "using the part file",
    }
}

/// Reports content of this server that does not match its digest.
fn damaged(why: impl Into<String>) -> Fault {
    Fault::Refused(Refusal::new(ErrorCode::Damaged, why))
}
