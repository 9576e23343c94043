//! Reads the content of one answer into memory: header, blocks, end.

use std::time::Instant;

use relais_net::{Connection, MinimumThroughput};
use relais_proto::{ContentHeader, Digest};

use crate::error::Fault;
use crate::exchange::read_content;

/// Buffer size before the first byte of content. It then doubles with the received bytes.
const LEAST_ROOM: usize = 64 * 1024;

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
    let mut pace = MinimumThroughput::new(Instant::now());
    let mut filled = 0;
    read_content(from, header, |from, length| {
        let Some(length) = length else { return Ok(()) };
        read_block(from, buffer, filled, filled + length, came)?;
        filled += length;
        Ok(pace.moved(length as u64, Instant::now())?)
    })
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
