//! Moves the blocks of one answer from the connection to the part file.
//!
//! Bytes are read directly into a piece buffer and written from there at their own offset. A write
//! covers a piece, or less if the bytes arrive slowly, so that a killed process loses little. Whole
//! pieces are hashed in the same buffer.

use std::time::{Duration, Instant};

use relais_net::{Connection, MinimumThroughput};
use relais_proto::limits::PIECE;
use relais_proto::{ContentHeader, Digest};

use super::blocks::piece_range;
use super::hashing::{HashJob, Hashing};
use super::state::DownloadState;
use super::streams::StreamRequests;
use crate::error::{Fault, TransferError};
use crate::exchange::read_content;

/// Ends the reading of an answer whose rest another stream fetches.
const LOST: &str = "a faster stream fetches the rest";
/// Longest time before received bytes are written.
const WRITE_EVERY: Duration = Duration::from_millis(250);

/// Receives the blocks after `header` and the end; returns the digest of the whole content.
///
/// Returns `None` if another stream has taken the rest of the claim: the connection is useless.
/// `moved` counts the received bytes, also on failure.
pub(super) fn take_in<'env>(
    from: &mut Connection,
    header: &ContentHeader,
    state: &'env DownloadState<'env>,
    hashing: &mut Hashing<'_, 'env>,
    requests: &mut StreamRequests<'env>,
    moved: &mut u64,
) -> Result<Option<Digest>, Fault> {
    let mut intake = Intake::new(header, state, hashing);
    let mut is_lost = false;
    let result = read_content(from, header, |from, length| match length {
        Some(length) => {
            is_lost = !intake.block(from, length, requests, moved)?;
            if is_lost { Err(Fault::Lost(LOST.to_owned())) } else { Ok(()) }
        }
        None => intake.look(0),
    });
    // Also after a failure, because the received bytes are good.
    intake.close_piece()?;
    if is_lost {
        return Ok(None);
    }
    let digest = result?;
    requests.finish();
    Ok(Some(digest))
}

struct Intake<'a, 'scope, 'env> {
    state: &'env DownloadState<'env>,
    hashing: &'a mut Hashing<'scope, 'env>,
    /// Number of the server, once it has sent a byte.
    server: usize,
    size: u64,
    requested_end: u64,
    /// Number, start and length of the current piece.
    index: u64,
    start: u64,
    length: usize,
    /// Bytes of the current piece at their offsets; empty before the first byte.
    buffer: Vec<u8>,
    /// Offsets in the piece of the first received byte, the first unwritten byte and the next byte.
    begun: usize,
    unwritten: usize,
    filled: usize,
    pace: MinimumThroughput,
    last_write: Instant,
}

impl<'a, 'scope, 'env> Intake<'a, 'scope, 'env> {
    fn new(
        header: &ContentHeader,
        state: &'env DownloadState<'env>,
        hashing: &'a mut Hashing<'scope, 'env>,
    ) -> Self {
        let now = Instant::now();
        let place = usize::try_from(header.offset % PIECE).unwrap_or(0);
        let mut intake = Self {
            state,
            hashing,
            server: 0,
            size: header.size,
            requested_end: header.offset + header.length,
            index: 0,
            start: 0,
            length: 0,
            buffer: Vec::new(),
            begun: 0,
            unwritten: 0,
            filled: 0,
            pace: MinimumThroughput::new(now),
            last_write: now,
        };
        intake.enter(header.offset / PIECE, place);
        intake
    }

    /// Continues at `place` in piece `index`.
    fn enter(&mut self, index: u64, place: usize) {
        let range = piece_range(index, self.size);
        (self.index, self.start) = (index, range.start);
        self.length = usize::try_from(range.end - range.start).unwrap_or(0);
        (self.begun, self.unwritten, self.filled) = (place, place, place);
    }

    /// Receives the bytes of one block; returns false if the rest of the claim was lost.
    fn block(
        &mut self,
        from: &mut Connection,
        mut left: usize,
        requests: &mut StreamRequests<'env>,
        moved: &mut u64,
    ) -> Result<bool, Fault> {
        while left > 0 {
            if self.buffer.is_empty() {
                self.buffer = self.hashing.buffer(self.length)?;
            }
            let end = self.length.min(self.filled + left);
            let got = from.read_some_into(&mut self.buffer[self.filled..end])?;
            left -= got;
            self.filled += got;
            *moved += got as u64;
            if self.server == 0 {
                self.server = self.state.streams.served_by(from.peer());
            }
            let end = requests.advance(from, got as u64)?;
            let position = self.start + self.filled as u64;
            if self.filled == self.length {
                self.close_piece()?;
                self.enter(self.index + 1, 0);
            }
            self.look(got as u64)?;
            if position >= end && position < self.requested_end {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Checks the clock after `got` more bytes, or a keep-alive.
    fn look(&mut self, got: u64) -> Result<(), Fault> {
        let now = Instant::now();
        self.pace.moved(got, now)?;
        if now.duration_since(self.last_write) >= WRITE_EVERY {
            self.write()?;
            self.last_write = now;
            self.hashing.save_from_now_on()?;
            if self.state.is_interrupted_now() {
                return Err(TransferError::Interrupted.into());
            }
        }
        Ok(())
    }

    /// Writes the unwritten bytes of the current piece.
    fn write(&mut self) -> Result<(), TransferError> {
        let bytes = &self.buffer[self.unwritten.min(self.filled)..self.filled];
        self.state.write(bytes, self.start + self.unwritten as u64)?;
        self.unwritten = self.filled;
        Ok(())
    }

    /// Writes and hashes what has arrived of the current piece.
    fn close_piece(&mut self) -> Result<(), TransferError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.write()?;
        let (index, length) = (self.index, self.length);
        self.state.set_sender(index, self.server);
        let buffer = std::mem::take(&mut self.buffer);
        if self.begun == 0 && self.filled == length {
            return self.hashing.submit(HashJob::Bytes { index, buffer, length });
        }
        self.hashing.spare.push(buffer);
        // The rest of the piece may have been here before.
        if self.state.has(&piece_range(index, self.size)) {
            self.hashing.submit(HashJob::Disk(index..index + 1))?;
        }
        Ok(())
    }
}
