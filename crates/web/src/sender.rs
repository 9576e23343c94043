//! Sends bytes and files with the minimum throughput of all transfers.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::Instant;

use relais_net::{MinimumThroughput, Stream};
use relais_transfer::{SendOutcome, is_of_the_file, read_full};
use rustix::net::SendFlags;

/// Most bytes of one sendfile call.
const SENDFILE: u64 = 1024 * 1024;
/// Bytes per read of content that is copied; they stay in the processor's cache.
const COPIED: usize = 16 * 1024;
/// Bytes per read of content that is encrypted: several records leave in one system call.
const ENCRYPTED: usize = 64 * 1024;

/// Sends on one stream.
///
/// The time between two calls does not count: the client is not to blame for it.
pub(crate) struct Sender<'a> {
    stream: &'a Stream,
}

impl<'a> Sender<'a> {
    pub fn new(stream: &'a Stream) -> Self {
        Self { stream }
    }

    /// Sends all of `bytes`. With `more` they may wait in the socket for those that follow.
    pub fn send(&self, bytes: &[u8], more: bool) -> io::Result<()> {
        let flags = if more { SendFlags::MORE } else { SendFlags::empty() };
        let mut throughput = MinimumThroughput::new(Instant::now());
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = retried(self.stream.send(rest, flags))?;
            rest = &rest[sent..];
            throughput.moved(sent as u64, Instant::now())?;
        }
        Ok(())
    }

    /// Sends a range of a file; returns the number of sent bytes, and what has ended it.
    ///
    /// # Errors
    /// Errors of the socket; those of the file are outcomes.
    pub fn send_file(&self, file: &File, range: Range<u64>) -> io::Result<(u64, SendOutcome)> {
        // A client on this host copies the bytes out of the processor's cache, which costs less
        // than to read them from memory again.
        let peer = self.stream.peer.ip().to_canonical();
        let is_local = peer.is_loopback() && self.stream.proxied.is_none();
        if self.stream.is_encrypted() || is_local {
            return self.send_copied(file, range);
        }
        let mut throughput = MinimumThroughput::new(Instant::now());
        let mut at = range.start;
        while at < range.end {
            let most = usize::try_from((range.end - at).min(SENDFILE)).unwrap_or(usize::MAX);
            let sent = match self.stream.send_file(file, &mut at, most) {
                Ok(0) => return Ok((at - range.start, SendOutcome::Short)),
                Err(e) if is_of_the_file(e) => {
                    return Ok((at - range.start, SendOutcome::Unreadable(e.into())));
                }
                sent => retried(sent.map_err(io::Error::from))?,
            };
            throughput.moved(sent as u64, Instant::now())?;
        }
        Ok((at - range.start, SendOutcome::Whole))
    }

    fn send_copied(&self, file: &File, range: Range<u64>) -> io::Result<(u64, SendOutcome)> {
        let size = if self.stream.is_encrypted() { ENCRYPTED } else { COPIED };
        let mut buffer = vec![0; size];
        let mut at = range.start;
        while at < range.end {
            let want = usize::try_from(range.end - at).map_or(size, |left| left.min(size));
            match read_full(file, &mut buffer[..want], at) {
                Ok(0) => return Ok((at - range.start, SendOutcome::Short)),
                Ok(got) => {
                    self.send(&buffer[..got], at + (got as u64) < range.end)?;
                    at += got as u64;
                }
                Err(e) => return Ok((at - range.start, SendOutcome::Unreadable(e))),
            }
        }
        Ok((at - range.start, SendOutcome::Whole))
    }
}

/// Returns 0 if the call may be tried again.
fn retried(sent: io::Result<usize>) -> io::Result<usize> {
    sent.or_else(|e| match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
        _ => Err(e),
    })
}
