//! Reads the content of one answer into memory: header, blocks, end.

use std::time::Instant;

use relais_net::{Connection, MinimumThroughput};
use relais_proto::{ContentHeader, Digest, FrameType, Refusal, Reply, WireError};

use super::SMALL;
use super::error::PipelineInterrupt;

/// Buffer size before the first byte of content. It then doubles with the received bytes.
const LEAST_ROOM: usize = 64 * 1024;

/// End of the content: its digest, or an error in place of a block or of the end.
pub(super) type Ended = Result<Digest, Refusal>;

/// Checks that the header matches the request: the beginning of a small content.
pub(super) fn check_header(header: &ContentHeader) -> Result<(), PipelineInterrupt> {
    if header.offset != 0 {
        return Err(PipelineInterrupt::bad_value("offset", header.offset));
    }
    if header.length != header.size.min(SMALL) {
        return Err(PipelineInterrupt::bad_value("length", header.length));
    }
    Ok(())
}

/// Reads the content after `header` to the beginning of `buffer`, which only grows.
///
/// `came` counts the received bytes, also on failure.
pub(super) fn take_in(
    from: &mut Connection,
    header: &ContentHeader,
    buffer: &mut Vec<u8>,
    came: &mut u64,
) -> Result<Ended, PipelineInterrupt> {
    let now = Instant::now();
    let (mut pace, until) = (MinimumThroughput::new(now), now + crate::retry::PATIENCE);
    let mut left = header.length;
    let (mut filled, mut untold) = (0, 0);
    while left > 0 {
        // The rest is at most SMALL, so the length of a block is too.
        let expected =
            u32::try_from(left).map_or(header.block_size, |left| left.min(header.block_size));
        match next(from, until)? {
            Next::Block(len) if len == expected => {}
            Next::Block(len) => {
                return Err(PipelineInterrupt::bad_value("block length", len.into()));
            }
            Next::Reply(reply) => match *reply {
                Reply::Error(refusal) => return Ok(Err(refusal)),
                other => return Err(unexpected(&other)),
            },
        }
        let end = filled + expected as usize;
        read_block(from, buffer, filled, end, came)?;
        filled = end;
        left -= u64::from(expected);
        untold += u64::from(expected);
        if !from.has_input() {
            pace.moved(std::mem::take(&mut untold), Instant::now())
                .map_err(|e| PipelineInterrupt::Lost(e.to_string()))?;
        }
    }
    match next(from, until)? {
        Next::Reply(reply) => match *reply {
            Reply::End { digest } if header.digest.is_some_and(|announced| announced != digest) => {
                Err(PipelineInterrupt::bad_value("digest at the end", 0))
            }
            Reply::End { digest } => Ok(Ok(digest)),
            Reply::Error(refusal) => Ok(Err(refusal)),
            other => Err(unexpected(&other)),
        },
        Next::Block(_) => Err(WireError::Unexpected(FrameType::Block.number()).into()),
    }
}

/// Reports an answer that is not allowed here.
pub(super) fn unexpected(reply: &Reply) -> PipelineInterrupt {
    WireError::Unexpected(reply.frame_type().number()).into()
}

enum Next {
    Block(u32),
    Reply(Box<Reply>),
}

/// Reads the next frame other than a keep-alive. For a block it reads only the header.
fn next(from: &mut Connection, until: Instant) -> Result<Next, PipelineInterrupt> {
    loop {
        let Some(header) = from.read_header()? else { return Err(PipelineInterrupt::closed()) };
        if header.kind == FrameType::Block {
            return Ok(Next::Block(header.len));
        }
        match from.read_reply_of(header)? {
            Reply::Wait(_) | Reply::MasterUnreachable { .. } if Instant::now() < until => {}
            Reply::Wait(_) | Reply::MasterUnreachable { .. } => {
                return Err(PipelineInterrupt::Lost("no answer came in time".to_owned()));
            }
            reply => return Ok(Next::Reply(Box::new(reply))),
        }
    }
}

/// Reads a block to its place from `at` to `end`. The buffer grows to at most twice the received
/// bytes.
fn read_block(
    from: &mut Connection,
    buffer: &mut Vec<u8>,
    mut at: usize,
    end: usize,
    came: &mut u64,
) -> Result<(), PipelineInterrupt> {
    while at < end {
        if at == buffer.len() {
            buffer.resize(at.saturating_mul(2).max(LEAST_ROOM), 0);
        }
        let stop = end.min(buffer.len());
        from.read_exact_into(&mut buffer[at..stop])?;
        *came += (stop - at) as u64;
        at = stop;
    }
    Ok(())
}
