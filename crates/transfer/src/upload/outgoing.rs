//! Sends content in `Data` frames, and hears a server that refuses it meanwhile.

use std::fs::File;
use std::time::{Duration, Instant};

use relais_net::{Connection, MinimumThroughput};
use relais_proto::{FrameHeader, FrameType, Reply, encode_frame, limits};
use rustix::net::SendFlags;

use crate::error::{Fault, TransferError};
use crate::send::{SendOutcome, send_file};

/// Bytes in one `Data` frame.
pub(super) const FRAME: u32 = 1024 * 1024;
/// Longest wait of one send before the sender checks for messages of the server.
///
/// A send that was accepted in part ends a wait as well, so a silent server is left after
/// [`limits::SILENCE`] and at most two of these waits.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Keep-alives that are read at once, so a server that sends only these cannot hold up the sender.
const MAX_KEEPALIVES: u32 = 64;

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
    fn moved(&mut self, to: &mut Connection, bytes: u64) -> Result<(), Fault> {
        // A server that accepts nothing may have sent the reason.
        let alive = bytes > 0 || listen(to)?;
        let now = Instant::now();
        if alive {
            self.last = now;
        } else if now.duration_since(self.last) >= limits::SILENCE {
            return Err(Fault::Lost("silent for too long".to_owned()));
        }
        Ok(self.pace.moved(bytes, now)?)
    }
}

/// Appends `bytes` to the queue of the connection.
pub(super) fn queue_bytes(to: &mut Connection, bytes: &[u8]) {
    for chunk in bytes.chunks(FRAME as usize) {
        encode_frame(to.output(), FrameType::Data, |out| out.extend_from_slice(chunk));
    }
}

/// Sends the queued bytes.
pub(super) fn flush(to: &mut Connection) -> Result<(), Fault> {
    let mut taken = SendProgress::new();
    let result = to.send_output(SendFlags::empty(), |to, sent| taken.moved(to, sent));
    result.map_err(|fault| reason(to, fault))
}

/// Sends `len` bytes of `file` from `at` on in one frame, after the queued bytes.
pub(super) fn send_from_file(
    to: &mut Connection,
    file: &File,
    at: u64,
    len: u32,
) -> Result<(), Fault> {
    let mut taken = SendProgress::new();
    to.output().extend_from_slice(&FrameHeader { kind: FrameType::Data, len }.to_bytes());
    match send_file(to, file, at, len, |to, sent| taken.moved(to, sent)) {
        Ok(SendOutcome::Whole) => Ok(()),
        Ok(SendOutcome::Short) => Err(TransferError::SourceChanged.into()),
        Ok(SendOutcome::Unreadable(e)) => Err(TransferError::reading(e).into()),
        Err(fault) => Err(reason(to, fault)),
    }
}

/// Checks without waiting whether the server refuses the upload; returns whether it sent a
/// keep-alive.
pub(super) fn listen(to: &mut Connection) -> Result<bool, Fault> {
    let mut alive = false;
    for _ in 0..MAX_KEEPALIVES {
        if !to.wait_for_input(Duration::ZERO)? {
            break;
        }
        match to.read_reply()?.ok_or_else(Fault::closed)? {
            Reply::Error(refusal) => return Err(Fault::refused(refusal)),
            Reply::Wait(_) | Reply::MasterUnreachable { .. } => alive = true,
            reply => return Err(Fault::unexpected(&reply)),
        }
    }
    Ok(alive)
}

/// Returns the cause of a failed send. An earlier message of the server may contain it.
fn reason(to: &mut Connection, fault: Fault) -> Fault {
    match fault {
        Fault::Lost(_) => {
            listen(to).err().filter(|said| !matches!(said, Fault::Lost(_))).unwrap_or(fault)
        }
        fault => fault,
    }
}
