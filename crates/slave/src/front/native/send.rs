//! Sends the outcomes of requests: single answers, listings and content.

use std::io;

use relais_net::Connection;
use relais_proto::{Digest, ErrorCode, Refusal, Reply, TreePath, WireError};
use relais_transfer::{BlockRange, SendOutcome, send_blocks};
use relais_tree::OpenFile;

use super::session::SessionKeepAlive;
use crate::engine::requests::{self, FileContent, RequestOutcome};
use crate::engine::serving::{ServingContext, Session};

/// Sends an outcome that is no change, to a client or another slave; returns its error, if any.
///
/// `bytes_sent` is raised by the bytes of content that were sent.
///
/// # Errors
/// The connection's.
pub fn send(
    connection: &mut Connection,
    serving: &ServingContext,
    session: &Session,
    outcome: RequestOutcome,
    bytes_sent: &mut u64,
) -> Result<Result<(), ErrorCode>, WireError> {
    let last = match outcome {
        RequestOutcome::Reply(reply) => reply,
        RequestOutcome::Listing(mut pages) => loop {
            match pages.next(serving) {
                Ok(Some(page)) => connection.queue_reply(&Reply::Entries(page)),
                Ok(None) => break Reply::Done { lsn: serving.visible_lsn() },
                Err(refusal) => break Reply::Error(refusal),
            }
            connection.flush()?;
        },
        RequestOutcome::Content(content) => {
            // A slave sends large content to one slave at a time. So the number of its holders
            // doubles, and the slave that took the put does not send all copies.
            let large = session.is_peer && content.header.size >= relais_cluster::LARGE;
            if large && !serving.scoreboard.begin_large_transfer(serving.worker) {
                connection.queue_reply(&Reply::Error(Refusal::new(
                    ErrorCode::Busy,
                    "this slave is already sending large content to another one",
                )));
                return Ok(Err(ErrorCode::Busy));
            }
            let _slot = large.then(|| LargeTransferSlot(serving));
            match send_content(connection, (serving, session), &content, bytes_sent)? {
                Ok(digest) => Reply::End { digest },
                Err(refusal) => Reply::Error(refusal),
            }
        }
        RequestOutcome::Upload(_) | RequestOutcome::Change(_) => Reply::Error(Refusal::new(
            ErrorCode::Unsupported,
            "this server does not know the request",
        )),
    };
    Ok(match last {
        Reply::Error(refusal) => {
            let code = refusal.code;
            connection.queue_reply(&Reply::Error(session.as_user_sees(refusal)));
            Err(code)
        }
        last => {
            connection.queue_reply(&last);
            Ok(())
        }
    })
}

/// The slot for sending large content, freed when dropped.
struct LargeTransferSlot<'a>(&'a ServingContext);

impl Drop for LargeTransferSlot<'_> {
    fn drop(&mut self) {
        self.0.scoreboard.end_large_transfer(self.0.worker);
    }
}

/// Sends header and blocks; the caller sends the last frame.
fn send_content(
    connection: &mut Connection,
    (serving, session): (&ServingContext, &Session),
    content: &FileContent,
    bytes_sent: &mut u64,
) -> io::Result<Result<Digest, Refusal>> {
    let FileContent { file, path, header } = content;
    connection.queue_reply(&Reply::ContentHeader(header.clone()));
    let span =
        BlockRange { offset: header.offset, length: header.length, block_size: header.block_size };
    // An unknown digest is computed while the content is sent, if all of it is sent.
    let mut hasher =
        (header.digest.is_none() && header.length == header.size).then(blake3::Hasher::new);
    let sent = match hasher.as_mut() {
        Some(hasher) => send_blocks(
            connection,
            &file.file,
            span,
            Some(&mut |bytes| {
                hasher.update(bytes);
            }),
            bytes_sent,
        )?,
        None => send_blocks(connection, &file.file, span, None, bytes_sent)?,
    };
    match sent {
        SendOutcome::Whole => {}
        SendOutcome::Short => return Ok(Err(requests::content_changed(path))),
        SendOutcome::Unreadable(e) => return Ok(Err(ServingContext::storage_refusal(path, &e))),
    }
    let digest = match (header.digest, hasher) {
        (Some(digest), _) => digest,
        (None, Some(hasher)) => Digest(hasher.finalize().into()),
        (None, None) => match late_digest(connection, (serving, session), path, file) {
            Ok(digest) => digest,
            Err(refusal) => return Ok(Err(refusal)),
        },
    };
    Ok(match file.is_unchanged() {
        Ok(true) => Ok(digest),
        Ok(false) => Err(requests::content_changed(path)),
        Err(e) => Err(requests::refuse(path, &e)),
    })
}

/// Returns the digest of content that was sent in part; it may have become known meanwhile.
fn late_digest(
    connection: &mut Connection,
    (serving, session): (&ServingContext, &Session),
    path: &TreePath,
    file: &OpenFile,
) -> Result<Digest, Refusal> {
    let facts = serving.facts(path, &file.meta)?;
    requests::digest_of(
        &facts,
        path,
        file,
        &mut SessionKeepAlive::hashing(connection, serving, session),
    )
}
