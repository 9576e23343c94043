//! Content on its way out, in `Data` frames: from a file by sendfile, from memory through the connection's buffer.

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
/// How long one call may wait for room before the sender looks what the server says.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches that a server takes bytes, or says that it lives: one that does neither for [`limits::SILENCE`] is left, as one is
/// from which nothing comes.
struct Taken {
    pace: MinimumThroughput,
    last: Instant,
}

impl Taken {
    fn new() -> Self {
        let now = Instant::now();
        Self { pace: MinimumThroughput::new(now), last: now }
    }

    /// So many bytes were taken just now; for none of them the server is listened to.
    fn moved(&mut self, to: &mut Connection, bytes: u64) -> Result<(), UploadInterrupt> {
        // A server that takes nothing may have said why.
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

/// Has calls that send come back soon where the server takes nothing. To be called before content goes out.
pub(super) fn prepare(to: &Connection) -> Result<(), UploadInterrupt> {
    to.stream()
        .set_write_timeout(Some(LOOK_EVERY))
        .map_err(|e| UploadInterrupt::Lost(e.to_string()))
}

/// Appends `bytes` to what the connection sends next.
pub(super) fn queue_bytes(to: &mut Connection, bytes: &[u8]) {
    for chunk in bytes.chunks(FRAME as usize) {
        encode_frame(to.output(), FrameType::Data, |out| out.extend_from_slice(chunk));
    }
}

/// Sends what is queued.
pub(super) fn flush(to: &mut Connection) -> Result<(), UploadInterrupt> {
    send_queued(to, &mut Taken::new(), SendFlags::NOSIGNAL)
}

fn send_queued(
    to: &mut Connection,
    taken: &mut Taken,
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
    // The buffer itself is used again.
    let mut buffer = queued;
    buffer.clear();
    *to.output() = buffer;
    Ok(())
}

/// Sends `len` bytes of `file` from `at` on in one frame, behind what is queued.
pub(super) fn send_from_file(
    to: &mut Connection,
    file: &File,
    at: u64,
    len: u32,
) -> Result<(), UploadInterrupt> {
    let mut taken = Taken::new();
    to.output().extend_from_slice(&FrameHeader { kind: FrameType::Data, len }.to_bytes());
    send_queued(to, &mut taken, SendFlags::NOSIGNAL | SendFlags::MORE)?;
    let (mut at, end) = (at, at + u64::from(len));
    while at < end {
        // A frame is far smaller than what one call can send.
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let sent = match rustix::fs::sendfile(to.stream(), file, Some(&mut at), rest) {
            // The file is shorter than it was.
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
