//! Sends content in `Data` frames: from a file by sendfile, or from memory.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use relais_net::{Connection, MinimumThroughput};
use relais_proto::{FrameHeader, FrameType, encode_frame, limits};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::UploadError;
use super::error::UploadInterrupt;
use super::exchange::{after_failed_send, listen};
use crate::send::is_of_the_file;

/// Bytes in one `Data` frame.
pub(super) const FRAME: u32 = 1024 * 1024;
/// Longest wait of one send before the sender checks for messages of the server.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Checks that a server accepts bytes or sends keep-alives.
///
/// A server that does neither for [`limits::SILENCE`] is left, like one that sends nothing.
struct SendProgress {
    pace: MinimumThroughput,
    last: Instant,
}

impl SendProgress {
    fn new() -> Self {
        let now = Instant::now();
        Self { pace: MinimumThroughput::new(now), last: now }
    }

    /// Records accepted bytes; if there are none, checks for messages of the server.
    fn moved(&mut self, to: &mut Connection, bytes: u64) -> Result<(), UploadInterrupt> {
        // A server that accepts nothing may have sent the reason.
        let alive = bytes > 0 || listen(to)?;
        let now = Instant::now();
        if alive {
            self.last = now;
        } else if now.duration_since(self.last) >= limits::SILENCE {
            return Err(UploadInterrupt::Lost("it takes nothing any more".to_owned()));
        }
        self.pace.moved(bytes, now).map_err(|e| after_failed_send(to, &e))
    }
}

/// Makes sends return soon if the server accepts nothing. Called before content is sent.
pub(super) fn prepare(to: &Connection) -> Result<(), UploadInterrupt> {
    to.stream()
        .set_write_timeout(Some(LOOK_EVERY))
        .map_err(|e| UploadInterrupt::Lost(e.to_string()))
}

/// Appends `bytes` to the queue of the connection.
pub(super) fn queue_bytes(to: &mut Connection, bytes: &[u8]) {
    for chunk in bytes.chunks(FRAME as usize) {
        encode_frame(to.output(), FrameType::Data, |out| out.extend_from_slice(chunk));
    }
}

/// Sends the queued bytes.
pub(super) fn flush(to: &mut Connection) -> Result<(), UploadInterrupt> {
    send_queued(to, &mut SendProgress::new(), SendFlags::NOSIGNAL)
}

fn send_queued(
    to: &mut Connection,
    taken: &mut SendProgress,
    flags: SendFlags,
) -> Result<(), UploadInterrupt> {
    let stream = to.stream().clone();
    let queued = std::mem::take(to.output());
    let mut rest = queued.as_slice();
    while !rest.is_empty() {
        let sent = match rustix::net::send(&*stream, rest, flags) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(e) => return Err(after_failed_send(to, &io::Error::from(e))),
        };
        rest = &rest[sent..];
        taken.moved(to, sent as u64)?;
    }
    // The buffer itself is reused.
    let mut buffer = queued;
    buffer.clear();
    *to.output() = buffer;
    Ok(())
}

/// Sends `len` bytes of `file` from `at` on in one frame, after the queued bytes.
pub(super) fn send_from_file(
    to: &mut Connection,
    file: &File,
    at: u64,
    len: u32,
) -> Result<(), UploadInterrupt> {
    let mut taken = SendProgress::new();
    to.output().extend_from_slice(&FrameHeader { kind: FrameType::Data, len }.to_bytes());
    send_queued(to, &mut taken, SendFlags::NOSIGNAL | SendFlags::MORE)?;
    let (mut at, end) = (at, at + u64::from(len));
    while at < end {
        // A frame is far smaller than the limit of one call.
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let sent = match rustix::fs::sendfile(to.stream(), file, Some(&mut at), rest) {
            // The file has become shorter.
            Ok(0) => return Err(UploadError::SourceChanged.into()),
            Ok(sent) => sent as u64,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(e) if is_of_the_file(e) => return Err(UploadInterrupt::source(e.into())),
            Err(e) => return Err(after_failed_send(to, &io::Error::from(e))),
        };
        taken.moved(to, sent)?;
    }
    Ok(())
}
