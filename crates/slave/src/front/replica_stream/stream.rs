//! One stream to a client: its range of the content, and its record in the transfer log.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_engine::{KeepAlive, RemoteContent};
use relais_proto::{ErrorCode, Refusal, limits};
use relais_transfer::{Failover, TransferError};

use super::client_watch::ClientWatch;
use super::dialer::{ReplicaDialer, StreamPermit};
use super::holders::Holders;
use super::piece_reader::PieceReader;
use super::pieces::Pieces;
use super::wanted::WantedContent;

/// How long a client waits while no slave can serve the content.
const RETRY_TIME: Duration = Duration::from_secs(10);
/// Time between two tries for the permit of a stream.
const PERMIT_INTERVAL: Duration = Duration::from_millis(50);

/// Content of other slaves, read in order.
pub struct ReplicaStream {
    content: RemoteContent,
    reader: PieceReader,
    /// Bytes that are still to be passed on: from this offset to that.
    at: u64,
    end: u64,
    /// Whether the reader's last piece was not passed on yet.
    is_ready: bool,
    permit: StreamPermit,
}

impl ReplicaStream {
    /// Begins a stream of `length` bytes from `offset` on, or up to the end, and reads its first
    /// piece.
    ///
    /// The values of all pieces are proved first, for which the other slave reads the whole file.
    ///
    /// # Errors
    /// [`ErrorCode::BadOffset`]; [`ErrorCode::Busy`] with too many streams;
    /// [`ErrorCode::NoContent`] or [`ErrorCode::Damaged`] if no slave can send the content;
    /// [`ErrorCode::Changed`] if it has been replaced; [`ErrorCode::Cut`] if the client has gone.
    pub fn open(
        dialer: &Arc<ReplicaDialer>,
        mut content: RemoteContent,
        (offset, length): (u64, u64),
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Self, Refusal> {
        let length = content.range(offset, length)?;
        let permit = wait_for_permit(dialer, keepalive).map_err(|e| content.fail(e))?;
        let end = offset + length;
        let mut reader = reader_of(&content, offset..end, dialer);
        let is_ready = length > 0
            && reader.advance(&content, keepalive).map_err(|refusal| content.fail(refusal))?;
        Ok(Self { content, reader, at: offset, end, is_ready, permit })
    }

    /// Goes on with another range, unless the stream is at its begin.
    pub fn select(&mut self, range: Range<u64>) {
        if (self.at, self.end) != (range.start, range.end) {
            self.reader = reader_of(&self.content, range.clone(), &self.permit.0);
            (self.at, self.end, self.is_ready) = (range.start, range.end, false);
        }
    }

    /// Returns the next verified bytes, at most 1 MiB; none after the last one.
    ///
    /// # Errors
    /// As [`Self::open`]; the transfer has failed.
    pub fn next_piece(&mut self, keepalive: &mut dyn KeepAlive) -> Result<Option<&[u8]>, Refusal> {
        if self.at >= self.end {
            return Ok(None);
        }
        if !std::mem::take(&mut self.is_ready) {
            let advanced = self.reader.advance(&self.content, keepalive);
            advanced.map_err(|refusal| self.content.fail(refusal))?;
        }
        let (piece, start) = self.reader.last();
        let within = |offset: u64| {
            let within = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
            within.min(piece.len())
        };
        let bytes = &piece[within(self.at)..within(self.end)];
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Returns the size of the whole content in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.content.size()
    }

    /// Counts bytes that were sent to the client, for the transfer log.
    pub fn add_sent(&mut self, bytes: u64) {
        self.content.add_sent(bytes);
    }

    /// Ends a transfer whose last byte was sent. A stream that is dropped before was cut.
    pub fn finish(self) {
        self.content.finish();
    }
}

/// Returns what reads a range of content.
fn reader_of(
    content: &RemoteContent,
    range: Range<u64>,
    dialer: &Arc<ReplicaDialer>,
) -> PieceReader {
    let wanted = WantedContent {
        path: content.path().clone(),
        size: content.size(),
        digest: content.digest(),
    };
    let pieces = (range.start / limits::PIECE, range.end.div_ceil(limits::PIECE));
    let holders = Holders::new(dialer.clone(), content.applied(), RETRY_TIME);
    PieceReader::new(Pieces::new(wanted, pieces, dialer), holders, Failover::new(RETRY_TIME))
}

fn wait_for_permit(
    dialer: &Arc<ReplicaDialer>,
    keepalive: &mut dyn KeepAlive,
) -> Result<StreamPermit, Refusal> {
    let (watch, since) = (ClientWatch::new(keepalive), Instant::now());
    loop {
        if let Some(permit) = dialer.permit() {
            return Ok(permit);
        }
        if since.elapsed() >= RETRY_TIME {
            let why = "this slave already sends much content of other slaves; try again later";
            return Err(Refusal::new(ErrorCode::Busy, why));
        }
        if let Err(TransferError::Interrupted) = watch.pause(PERMIT_INTERVAL) {
            return Err(Refusal::new(ErrorCode::Cut, "the client has gone"));
        }
    }
}
