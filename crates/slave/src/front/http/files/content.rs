//! Sends content of files: from the disk, or from other slaves piece by piece.
//!
//! The last bytes of a file leave only after it was seen to be unchanged. So an answer that is a
//! mixture of two versions never looks complete: its connection is reset before the end.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use relais_engine::ReadFailure;
use relais_transfer::SendOutcome;
use relais_web::BodyWriter;

use crate::front::http::keep_alive::HttpKeepAlive;
use crate::front::replica_stream::{ContentSource, ReplicaDialer};

/// Bytes that are sent after the check that the file is unchanged.
///
/// They are few enough for the writer to hold them until its end.
const LAST: u64 = 16 * 1024;
/// Bytes after which the metrics count what was sent.
const COUNTED: u64 = 8 << 20;

/// Sends ranges of one content in turn.
pub struct ContentSender {
    /// None after an error.
    source: Option<ContentSource>,
    replicas: Arc<ReplicaDialer>,
    keepalive: HttpKeepAlive,
}

impl ContentSender {
    /// Makes the sender of content that was opened.
    #[must_use]
    pub fn new(
        source: ContentSource,
        replicas: Arc<ReplicaDialer>,
        keepalive: HttpKeepAlive,
    ) -> Self {
        Self { source: Some(source), replicas, keepalive }
    }

    /// Sends a range; other slaves continue if the disk here fails.
    ///
    /// # Errors
    /// Errors of the socket; the content was changed, or no slave can send it.
    pub fn send(&mut self, writer: &mut BodyWriter<'_>, range: Range<u64>) -> io::Result<()> {
        match self.source.take() {
            None => Err(io::ErrorKind::BrokenPipe.into()),
            Some(ContentSource::Replica(mut stream)) => {
                stream.select(range);
                self.send_pieces(writer, ContentSource::Replica(stream))
            }
            Some(local @ ContentSource::Local(_)) => self.send_local(writer, local, range),
        }
    }

    fn send_local(
        &mut self,
        writer: &mut BodyWriter<'_>,
        mut source: ContentSource,
        range: Range<u64>,
    ) -> io::Result<()> {
        let ContentSource::Local(content) = &mut source else { return Ok(()) };
        let mut at = range.start;
        let failure = loop {
            let left = range.end.saturating_sub(at);
            let end = if left <= LAST { range.end } else { range.end - LAST };
            let end = end.min(at.saturating_add(COUNTED));
            let (sent, outcome) = writer.send_file(content.file(), at..end)?;
            at += sent;
            content.add_sent(sent);
            match outcome {
                SendOutcome::Whole if at >= range.end => {
                    content.check_unchanged().map_err(io::Error::other)?;
                    self.source = Some(source);
                    return Ok(());
                }
                SendOutcome::Whole => {}
                SendOutcome::Short => break ReadFailure::Short,
                SendOutcome::Unreadable(e) => break ReadFailure::Unreadable(e),
            }
        };
        let rest = (at, range.end.saturating_sub(at));
        let source = source.continue_elsewhere(&self.replicas, &failure, rest, &mut self.keepalive);
        self.send_pieces(writer, source.map_err(io::Error::other)?)
    }

    fn send_pieces(
        &mut self,
        writer: &mut BodyWriter<'_>,
        mut source: ContentSource,
    ) -> io::Result<()> {
        let ContentSource::Replica(stream) = &mut source else { return Ok(()) };
        while let Some(piece) = stream.next_piece(&mut self.keepalive).map_err(io::Error::other)? {
            let length = piece.len() as u64;
            writer.write(piece)?;
            stream.add_sent(length);
        }
        self.source = Some(source);
        Ok(())
    }

    /// Ends the transfer after its last byte was sent.
    ///
    /// # Errors
    /// The content was changed while it was sent.
    pub fn finish(self) -> io::Result<()> {
        self.source.map_or(Ok(()), |source| source.finish().map_err(io::Error::other))
    }
}
