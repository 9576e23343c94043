//! Content on its way out, in `Data` frames: from a file by sendfile, from memory through the connection's buffer.

use std::fs::File;
use std::io;
use std::time::Instant;

use relais_net::{Connection, Pace};
use relais_proto::{FrameHeader, FrameType, encode_frame};
use rustix::io::Errno;

use super::UploadError;
use super::error::Stop;
use super::exchange::{after_failed_send, listen};
use crate::send::{is_of_the_file, send_more};

/// Bytes in one `Data` frame.
pub(super) const FRAME: u32 = 1024 * 1024;

/// Appends `bytes` to what the connection sends next.
pub(super) fn queue_bytes(to: &mut Connection, bytes: &[u8]) {
    for chunk in bytes.chunks(FRAME as usize) {
        encode_frame(to.output(), FrameType::Data, |out| out.extend_from_slice(chunk));
    }
}

/// Sends what is queued.
pub(super) fn flush(to: &mut Connection) -> Result<(), Stop> {
    to.flush().map_err(|e| after_failed_send(to, &e))
}

/// Sends `len` bytes of `file` from `at` on in one frame, behind what is queued.
pub(super) fn send_from_file(to: &mut Connection, file: &File, at: u64, len: u32) -> Result<(), Stop> {
    let mut pace = Pace::new(Instant::now());
    to.output().extend_from_slice(&FrameHeader { kind: FrameType::Data, len }.to_bytes());
    if let Err(e) = send_more(to, &mut pace) {
        return Err(after_failed_send(to, &e));
    }
    let (mut at, end) = (at, at + u64::from(len));
    while at < end {
        // A frame is far smaller than what one call can send.
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let sent = match rustix::fs::sendfile(to.stream(), file, Some(&mut at), rest) {
            // The file is shorter than it was.
            Ok(0) => return Err(UploadError::SourceChanged.into()),
            Ok(sent) => sent as u64,
            Err(Errno::AGAIN | Errno::INTR) => {
                // A server that takes nothing may have said why.
                listen(to)?;
                0
            }
            Err(e) if is_of_the_file(e) => return Err(Stop::source(e.into())),
            Err(e) => return Err(after_failed_send(to, &io::Error::from(e))),
        };
        if let Err(e) = pace.moved(sent, Instant::now()) {
            return Err(after_failed_send(to, &e));
        }
    }
    Ok(())
}
