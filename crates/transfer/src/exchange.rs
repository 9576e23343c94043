//! Requests with one answer, and frames between them, for all loops.

use std::time::Instant;

use relais_net::Connection;
use relais_proto::{ContentHeader, Digest, FrameType, Reply, Request, WaitReason, limits};

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
    let mut keepalives = KeepAlives::new();
    loop {
        let reply = from.read_reply()?.ok_or_else(Fault::closed)?;
        if let Reply::Wait(reason) = reply {
            wait(reason);
        }
        if let Some(reply) = keepalives.pass(reply)? {
            return Ok(reply);
        }
    }
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
        let mut keepalives = KeepAlives::new();
        loop {
            let frame = from.read_header()?.ok_or_else(Fault::closed)?;
            if frame.kind == FrameType::Block && frame.len == expected {
                break;
            }
            if frame.kind == FrameType::Block {
                return Err(Fault::bad_value("length of a block", frame.len.into()));
            }
            if let Some(other) = keepalives.pass(from.read_reply_of(frame)?)? {
                return Err(Fault::unexpected(&other));
            }
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

/// Limits how long a server may delay an answer with keep-alives.
struct KeepAlives(Instant);

impl KeepAlives {
    /// Starts the time of an answer.
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Passes `reply` on unless it is a keep-alive.
    fn pass(&mut self, reply: Reply) -> Result<Option<Reply>, Fault> {
        match reply {
            Reply::Wait(_) | Reply::MasterUnreachable { .. } if self.0.elapsed() < PATIENCE => {
                Ok(None)
            }
            Reply::Wait(_) | Reply::MasterUnreachable { .. } => {
                Err(Fault::Lost("no answer in time".to_owned()))
            }
            Reply::Error(refusal) => Err(Fault::refused(refusal)),
            Reply::Elsewhere { holders } => Err(Fault::Elsewhere(holders)),
            reply => Ok(Some(reply)),
        }
    }
}
