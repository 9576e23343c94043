//! Requests with one answer, and frames between them, for all loops.

use std::time::Instant;

use relais_net::Connection;
use relais_proto::{FrameType, Reply, Request, WaitReason, limits};

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

/// The next frame within content.
pub enum ContentFrame {
    /// A block of so many bytes follows.
    Block(u32),
    /// A keep-alive.
    KeepAlive,
    /// The end of the content. Errors are faults.
    End(Reply),
}

/// Reads the next frame within content. For a block it reads the header only.
///
/// # Errors
/// As [`ask`].
pub fn content_frame(
    from: &mut Connection,
    keepalives: &mut KeepAlives,
) -> Result<ContentFrame, Fault> {
    let header = from.read_header()?.ok_or_else(Fault::closed)?;
    if header.kind == FrameType::Block {
        return Ok(ContentFrame::Block(header.len));
    }
    let reply = from.read_reply_of(header)?;
    Ok(keepalives.pass(reply)?.map_or(ContentFrame::KeepAlive, ContentFrame::End))
}

/// Limits how long a server may delay an answer with keep-alives.
pub struct KeepAlives(Instant);

impl KeepAlives {
    /// Starts the time of an answer.
    #[must_use]
    pub fn new() -> Self {
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
