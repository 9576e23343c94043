//! Reads the content of one answer into memory: header, blocks, end.

use std::time::Instant;

use relais_net::{Connection, MinimumThroughput};
use relais_proto::{ContentHeader, Digest, FrameType, Reply, WireError};

use super::handler::SMALL;
use crate::error::Fault;
use crate::exchange::{ContentFrame, KeepAlives, content_frame};

/// Buffer size before the first byte of content. It then doubles with the received bytes.
const LEAST_ROOM: usize = 64 * 1024;

/// Checks that the header matches the request: the beginning of a small content.
pub(super) fn check_header(header: &ContentHeader) -> Result<(), Fault> {
    if header.offset != 0 {
        return Err(Fault::bad_value("offset", header.offset));
    }
    if header.length != header.size.min(SMALL) {
        return Err(Fault::bad_value("length", header.length));
    }
    Ok(())
}

/// Reads the content after `header` to the beginning of `buffer`, which only grows; returns the
/// digest that follows it.
///
/// `came` counts the received bytes, also on failure.
pub(super) fn take_in(
    from: &mut Connection,
    header: &ContentHeader,
    buffer: &mut Vec<u8>,
    came: &mut u64,
) -> Result<Digest, Fault> {
    let now = Instant::now();
    let (mut pace, mut keepalives) = (MinimumThroughput::new(now), KeepAlives::new());
    let mut left = header.length;
    let (mut filled, mut untold) = (0, 0);
    while left > 0 {
        // The rest is at most SMALL, so the length of a block is too.
        let expected =
            u32::try_from(left).map_or(header.block_size, |left| left.min(header.block_size));
        match next(from, &mut keepalives)? {
            Ok(len) if len == expected => {}
            Ok(len) => return Err(Fault::bad_value("block length", len.into())),
            Err(reply) => return Err(Fault::unexpected(&reply)),
        }
        let end = filled + expected as usize;
        read_block(from, buffer, filled, end, came)?;
        filled = end;
        left -= u64::from(expected);
        untold += u64::from(expected);
        if !from.has_input() {
            pace.moved(std::mem::take(&mut untold), Instant::now())?;
        }
    }
    match next(from, &mut keepalives)? {
        Err(Reply::End { digest })
            if header.digest.is_some_and(|announced| announced != digest) =>
        {
            Err(Fault::bad_value("digest at the end", 0))
        }
        Err(Reply::End { digest }) => Ok(digest),
        Err(reply) => Err(Fault::unexpected(&reply)),
        Ok(_) => Err(WireError::Unexpected(FrameType::Block.number()).into()),
    }
}

/// Reads the next frame other than a keep-alive: the length of a block, or the end.
fn next(from: &mut Connection, keepalives: &mut KeepAlives) -> Result<Result<u32, Reply>, Fault> {
    loop {
        match content_frame(from, keepalives)? {
            ContentFrame::Block(len) => return Ok(Ok(len)),
            ContentFrame::KeepAlive => {}
            ContentFrame::End(reply) => return Ok(Err(reply)),
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
) -> Result<(), Fault> {
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
