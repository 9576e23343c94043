//! Verifies the part file: checks the digest at the end and finds damaged pieces.
//!
//! If no common digest is known, it takes that of another server.

use std::net::SocketAddr;

use relais_net::Connection;
use relais_proto::{Digest, ErrorCode, Refusal, Request, TreePath};

use super::blocks::piece_range;
use super::hashing::Hashing;
use super::requests::ask_for_pieces;
use super::state::DownloadState;
use crate::action::{Action, Purpose, action};
use crate::error::{Fault, TransferError};
use crate::exchange::ask;

/// Requests for damaged pieces to one server.
const ASK_AGAIN: u32 = 3;

/// Compares the complete part file with `digest`.
///
/// On a mismatch it requests the server's piece values and removes the damaged pieces from the good
/// bytes. `rounds` counts these repairs with the current server. Returns whether the part file
/// contains exactly the content.
pub(super) fn verify(
    server: &mut Connection,
    path: &TreePath,
    digest: Digest,
    state: &DownloadState<'_>,
    hashing: &mut Hashing<'_, '_>,
    rounds: &mut u32,
) -> Result<bool, Fault> {
    hashing.settle()?;
    let Some(size) = state.with(|content| content.size) else {
        return Ok(false);
    };
    let all: Option<Vec<Digest>> = state.pieces().iter().copied().collect();
    let ours = all.and_then(|values| relais_tree::join(&values, size));
    if ours == Some(digest) {
        return Ok(true);
    }
    if size == 0 {
        return Err(damaged("empty content came with the digest of something else"));
    }
    *rounds += 1;
    let theirs = match ours {
        // Another program has cut the part file, so some pieces could not be read back.
        None if *rounds > ASK_AGAIN => {
            let error = std::io::Error::other("another program changes it");
            return Err(TransferError::local("using the part file")(error).into());
        }
        None => None,
        Some(_) if *rounds > ASK_AGAIN => {
            return Err(damaged("pieces that were fetched again are still damaged"));
        }
        Some(_) => Some(their_values(server, path, digest, size)?),
    };
    let ours = state.pieces().clone();
    let count = relais_tree::piece_count(size);
    let is_bad = |index: &u64| {
        let at = usize::try_from(*index).unwrap_or(usize::MAX);
        let ours = ours.get(at).copied().flatten();
        ours.is_none() || theirs.as_ref().is_some_and(|theirs| theirs.get(at) != ours.as_ref())
    };
    let bad: Vec<u64> = (0..count).filter(is_bad).collect();
    log::debug!("{path}: {} of {count} pieces are damaged and are fetched again", bad.len());
    report_senders(state, &bad);
    for index in bad {
        state.set_piece(index, None);
        state.with(|content| content.good.remove(piece_range(index, size)));
    }
    Ok(false)
}

/// Returns whether the part file contains exactly the content with this digest.
pub(super) fn is_whole(
    digest: Digest,
    state: &DownloadState<'_>,
    hashing: &mut Hashing<'_, '_>,
) -> Result<bool, TransferError> {
    hashing.settle()?;
    let size = state.with(|content| content.size);
    let all: Option<Vec<Digest>> = state.pieces().iter().copied().collect();
    let ours = all.zip(size).and_then(|(values, size)| relais_tree::join(&values, size));
    Ok(ours == Some(digest))
}

/// Reports the servers that sent the damaged pieces, and uses them for no further stream.
fn report_senders(state: &DownloadState<'_>, bad: &[u64]) {
    let mut senders: Vec<(SocketAddr, u64)> = Vec::new();
    for sender in bad.iter().filter_map(|index| state.sender(*index)) {
        match senders.iter_mut().find(|(known, _)| *known == sender) {
            Some((_, count)) => *count += 1,
            None => senders.push((sender, 1)),
        }
    }
    for (sender, count) in senders {
        state.streams.bar(sender);
        state.tell(|progress| progress.damaged(sender, count));
    }
}

/// Requests the server's piece values and checks them against the digest.
fn their_values(
    server: &mut Connection,
    path: &TreePath,
    digest: Digest,
    size: u64,
) -> Result<Vec<Digest>, Fault> {
    let count = relais_tree::piece_count(size);
    let mut ask = |request: &Request| ask(server, request);
    let values = ask_for_pieces(&mut ask, path, digest, count).map_err(|fault| match fault {
        Fault::Refused(refusal)
            if matches!(action(refusal.code, Purpose::Read), Action::Stop | Action::Restart) =>
        {
            let why = refusal.message;
            damaged(format!("the content came damaged and cannot be repaired: {why}"))
        }
        other => other,
    })?;
    if relais_tree::join(&values, size) == Some(digest) {
        Ok(values)
    } else {
        Err(damaged("the server's content does not have its digest"))
    }
}

/// Reports content of this server that does not match its digest.
fn damaged(why: impl Into<String>) -> Fault {
    Fault::Refused(Refusal::new(ErrorCode::Damaged, why))
}
