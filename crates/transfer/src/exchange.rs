//! Requests with one answer, and frames between them, for all loops.

use std::net::SocketAddr;
use std::time::Instant;

use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, FrameType, GetRequest, IfMatch, Reply, Request, WaitReason, limits,
};

use crate::error::Fault;

/// Longest time that a server may delay an answer with `Wait`.
pub(crate) const PATIENCE: std::time::Duration = limits::IDLE_TIME;

/// Sends `request` and returns the first answer other than a keep-alive.
///
/// # Errors
/// A [`Fault`]; [`Fault::Elsewhere`] and [`Fault::Refused`] leave the connection usable.
pub fn ask(to: &mut Connection, request: &Request) -> Result<Reply, Fault> {
    to.queue(request);
    to.flush()?;
    answer(to)
}

/// Has a server count the transfer as one that continues there after `failed` failed.
///
/// # Errors
/// The connection is lost.
pub(crate) fn report_failover(to: &mut Connection, failed: SocketAddr) -> Result<(), Fault> {
    if to.peer() != failed {
        to.queue(&Request::FailedOver);
        to.flush()?;
    }
    Ok(())
}

/// Reads the next answer other than a keep-alive.
///
/// # Errors
/// As [`ask`].
pub fn answer(from: &mut Connection) -> Result<Reply, Fault> {
    answer_or_wait(from, &mut |_| {})
}

/// As [`answer`]; passes the reason of each keep-alive to `wait`.
///
/// # Errors
/// As [`ask`].
pub fn answer_or_wait(
    from: &mut Connection,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<Reply, Fault> {
    let since = Instant::now();
    loop {
        let reply = from.read_reply()?.ok_or_else(Fault::closed)?;
        if let Reply::Wait(reason) = reply {
            wait(reason);
        }
        if let Some(reply) = pass(reply, since)? {
            return Ok(reply);
        }
    }
}

/// Reads one frame of an answer that was requested at `since`; none if it is a keep-alive.
///
/// # Errors
/// As [`ask`].
pub fn next_answer(from: &mut Connection, since: Instant) -> Result<Option<Reply>, Fault> {
    pass(from.read_reply()?.ok_or_else(Fault::closed)?, since)
}

/// Checks that the header matches the request.
///
/// # Errors
/// [`Fault::Violation`] if it does not.
pub fn check_header(get: &GetRequest, header: &ContentHeader) -> Result<(), Fault> {
    let rest = header.size.saturating_sub(get.offset);
    if header.offset != get.offset {
        return Err(Fault::bad_value("offset", header.offset));
    }
    if header.length != rest.min(get.length) {
        return Err(Fault::bad_value("length", header.length));
    }
    if matches!((get.if_match, header.digest), (IfMatch::Digest(a), Some(b)) if a != b) {
        return Err(Fault::bad_value("digest", 0));
    }
    Ok(())
}

/// Reads content after its header: all blocks and the end; returns the digest of the end.
///
/// `block` gets the length of each block, and has to read that many bytes. It gets `None` for a
/// keep-alive.
///
/// # Errors
/// As [`ask`]; errors of `block`.
pub fn read_content(
    from: &mut Connection,
    header: &ContentHeader,
    mut block: impl FnMut(&mut Connection, Option<usize>) -> Result<(), Fault>,
) -> Result<Digest, Fault> {
    let mut left = header.length;
    while left > 0 {
        let expected =
            u32::try_from(left).map_or(header.block_size, |left| left.min(header.block_size));
        let since = Instant::now();
        while !next_block(from, expected, since)? {
            block(from, None)?;
        }
        block(from, Some(expected as usize))?;
        left -= u64::from(expected);
    }
    match answer(from)? {
        Reply::End { digest } if header.digest.is_some_and(|announced| announced != digest) => {
            Err(Fault::bad_value("digest at the end", 0))
        }
        Reply::End { digest } => Ok(digest),
        other => Err(Fault::unexpected(&other)),
    }
}

/// Reads the header of a block of `expected` bytes, whose wait began at `since`.
///
/// Returns false for a keep-alive before it.
///
/// # Errors
/// As [`ask`].
pub fn next_block(from: &mut Connection, expected: u32, since: Instant) -> Result<bool, Fault> {
    let frame = from.read_header()?.ok_or_else(Fault::closed)?;
    if frame.kind == FrameType::Block {
        let is_right = frame.len == expected;
        return is_right
            .then_some(true)
            .ok_or_else(|| Fault::bad_value("length of a block", frame.len.into()));
    }
    match pass(from.read_reply_of(frame)?, since)? {
        None => Ok(false),
        Some(other) => Err(Fault::unexpected(&other)),
    }
}

/// Passes `reply` on unless it is a keep-alive. Limits how long keep-alives may delay an answer.
fn pass(reply: Reply, since: Instant) -> Result<Option<Reply>, Fault> {
    match reply {
        Reply::Wait(_) | Reply::MasterUnreachable { .. } if since.elapsed() < PATIENCE => Ok(None),
        Reply::Wait(_) | Reply::MasterUnreachable { .. } => {
            Err(Fault::Lost("no answer in time".to_owned()))
        }
        Reply::Error(refusal) => Err(Fault::refused(refusal)),
        Reply::Elsewhere { holders } => Err(Fault::Elsewhere(holders)),
        reply => Ok(Some(reply)),
    }
}
