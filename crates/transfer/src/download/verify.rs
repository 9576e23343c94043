//! Verifies the part file: checks the digest at the end and finds damaged pieces.
//!
//! If no common digest is known, it compares the part file with another server's copy.

use relais_net::Connection;
use relais_proto::limits::PIECE;
use relais_proto::{Digest, ErrorCode, IfMatch, Refusal, TreePath};

use super::blocks::piece_range;
use super::content::Resume;
use super::hashing::Hashing;
use super::requests::{ask_for_digest, ask_for_pieces, if_match};
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

/// Checks the bytes of the part file beyond the good ones, up to `end`.
///
/// A killed process may have written more than it recorded. Pieces that equal the server's are
/// kept. A wrong value from the server is detected by the digest at the end.
pub(super) fn salvage(
    server: &mut Connection,
    path: &TreePath,
    state: &DownloadState<'_>,
    end: u64,
) -> Result<(), Fault> {
    let Some(known) = state.content() else { return Ok(()) };
    let end = end.min(known.size);
    let first = known.good.prefix() / PIECE;
    // The last piece may be short; all others must be complete.
    let behind = if end == known.size { relais_tree::piece_count(known.size) } else { end / PIECE };
    let Some(count) = u32::try_from(behind.saturating_sub(first)).ok().filter(|count| *count > 0)
    else {
        return Ok(());
    };
    let read = relais_tree::piece_values(state.part, known.size, first, count, &mut |_| Ok(()));
    let ours = read.map_err(TransferError::local("reading the part file"))?;
    let theirs = match ask_for_pieces(server, path, if_match(Some(&known)), first, count.into()) {
        Ok(theirs) => theirs,
        // The request for the content gets the same refusal, and handles it.
        Err(Fault::Refused(_)) => return Ok(()),
        Err(stop) => return Err(stop),
    };
    for (index, _) in
        (first..).zip(ours.iter().zip(&theirs)).filter(|(_, (ours, theirs))| ours == theirs)
    {
        state.with(|content| content.good.insert(piece_range(index, known.size)));
    }
    Ok(())
}

/// Compares the local pieces with those of the server's copy; returns the common content.
///
/// # Errors
/// Code `changed` if the copies differ, or nothing can be compared.
pub(super) fn compare(
    server: &mut Connection,
    path: &TreePath,
    state: &DownloadState<'_>,
    hashing: &mut Hashing<'_, '_>,
) -> Result<Resume, Fault> {
    let different = |why: &str| Err(Fault::Refused(Refusal::new(ErrorCode::Changed, why)));
    let Some(known) = state.content() else { return different("nothing is known of it") };
    hashing.begin(known.size)?;
    hashing.settle()?;
    // There may be values for pieces after a gap; only those before it are kept.
    let whole = usize::try_from(known.good.prefix() / PIECE).unwrap_or(0);
    let ours: Vec<Digest> =
        hashing.values(|values| values.iter().take(whole).map_while(|v| *v).collect());
    if ours.is_empty() {
        return different("too little of it had come to compare it");
    }
    let (size, digest) = ask_for_digest(server, path)?;
    let Some(digest) = digest else { return different("the server does not tell its digest") };
    let count = ours.len() as u64;
    if size / PIECE < count {
        return different("it is shorter now");
    }
    match ask_for_pieces(server, path, IfMatch::Digest(digest), 0, count) {
        Ok(theirs) if theirs == ours => {}
        Ok(_) => return different("it has other bytes now"),
        Err(stop) => return Err(stop),
    }
    hashing.keep_first(ours.len(), size);
    let mut good = known.good;
    good.clip(count * PIECE);
    Ok(Resume { size, digest: Some(digest), identity: None, good, ..known })
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
