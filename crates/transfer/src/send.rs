//! Sends content with sendfile or with a copying loop.
//!
//! The caller has sent or queued the `ContentHeader`, and sends the end of the content. This module
//! opens no files and makes no access decisions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use relais_net::{Connection, MinimumThroughput};
use relais_proto::{FrameHeader, FrameType};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// Smallest block size for sendfile, in bytes.
///
/// For smaller blocks one system call each costs more than copying many into one buffer. Measured;
/// see `benches/README.md`.
pub const SENDFILE_FROM: u32 = 32 * 1024;
/// Bytes per read if blocks are copied.
const COPY: usize = 256 * 1024;

/// Bytes per read of encrypted content; they stay in the processor's cache until they are sent.
const ENCRYPTED: usize = 64 * 1024;

/// Part of a file to send, with its block size.
#[derive(Debug, Clone, Copy)]
pub struct BlockRange {
    /// Offset of the first byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// Bytes in each block but the last.
    pub block_size: u32,
}

/// Result of sending over an intact connection. After an early end, zeros fill the last block.
#[derive(Debug)]
pub enum SendOutcome {
    /// All bytes were sent.
    Whole,
    /// The file ended early. The caller reports the error to the receiver at the end.
    Short,
    /// The file could not be read further.
    Unreadable(io::Error),
}

/// Callback that receives the sent bytes in order.
pub type ByteObserver<'a> = &'a mut dyn FnMut(&[u8]);

/// Sends `span` of `file` as blocks, after the queued bytes of the connection.
///
/// `seen` gets each byte in order; the bytes are then copied. `moved` gets the numbers of content
/// bytes as they are written to the connection, also on failure.
///
/// # Errors
/// Errors of the connection; `io::ErrorKind::TimedOut` if the receiver is too slow.
pub fn send_blocks(
    to: &mut Connection,
    file: &File,
    span: BlockRange,
    seen: Option<ByteObserver<'_>>,
    moved: &mut dyn FnMut(u64),
) -> io::Result<SendOutcome> {
    match seen {
        None if span.block_size >= SENDFILE_FROM => send_directly(to, file, span, moved),
        seen => send_copied(to, file, span, seen, moved),
    }
}

fn block_header(len: u32) -> [u8; relais_proto::HEADER_LEN] {
    FrameHeader { kind: FrameType::Block, len }.to_bytes()
}

/// Returns the length of the block at `done`; at most the block size, so it fits in 32 bits.
fn block_len(span: BlockRange, done: u64) -> u32 {
    u32::try_from(span.length - done).map_or(span.block_size, |rest| rest.min(span.block_size))
}

fn send_directly(
    to: &mut Connection,
    file: &File,
    span: BlockRange,
    moved: &mut dyn FnMut(u64),
) -> io::Result<SendOutcome> {
    let mut pace = MinimumThroughput::new(Instant::now());
    let mut done = 0;
    while done < span.length {
        let len = block_len(span, done);
        to.output().extend_from_slice(&block_header(len));
        let queued = to.output().len() as u64;
        let mut sent_of_block = 0;
        let ended = send_file(to, file, span.offset + done, len, |_, sent| {
            sent_of_block += sent;
            pace.moved(sent, Instant::now())
        });
        moved(u64::saturating_sub(sent_of_block, queued));
        match ended? {
            SendOutcome::Whole => done += u64::from(len),
            outcome => {
                let missing = queued + u64::from(len) - sent_of_block;
                to.output().resize(usize::try_from(missing).unwrap_or(0), 0);
                return to.flush().map(|()| outcome);
            }
        }
    }
    Ok(SendOutcome::Whole)
}

/// Sends the queued bytes, and then `len` bytes of `file` from `at` on, with sendfile.
///
/// `each` gets the number of bytes that the socket accepted; 0 if it accepted none in time. After
/// an
/// early end some bytes may still be queued.
pub(crate) fn send_file<E: From<io::Error>>(
    to: &mut Connection,
    file: &File,
    mut at: u64,
    len: u32,
    mut each: impl FnMut(&mut Connection, u64) -> Result<(), E>,
) -> Result<SendOutcome, E> {
    let end = at + u64::from(len);
    if to.stream().is_encrypted() {
        return send_encrypted(to, file, at, end, each);
    }
    to.send_output(SendFlags::MORE, &mut each)?;
    while at < end {
        // One call moves at most 0x7ffff000 bytes, and frames are far smaller.
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let sent = match to.stream().send_file(file, &mut at, rest) {
            Ok(0) => return Ok(SendOutcome::Short),
            Ok(sent) => sent as u64,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(e) if is_of_the_file(e) => {
                return Ok(SendOutcome::Unreadable(e.into()));
            }
            Err(e) => return Err(io::Error::from(e).into()),
        };
        each(to, sent)?;
    }
    Ok(SendOutcome::Whole)
}

/// Sends as [`send_file`] does, through the queue of the connection, which encrypts.
fn send_encrypted<E: From<io::Error>>(
    to: &mut Connection,
    file: &File,
    mut at: u64,
    end: u64,
    mut each: impl FnMut(&mut Connection, u64) -> Result<(), E>,
) -> Result<SendOutcome, E> {
    while at < end {
        let output = to.output();
        let before = output.len();
        let want = usize::try_from(end - at).map_or(ENCRYPTED, |left| left.min(ENCRYPTED));
        output.resize(before + want, 0);
        let got = read_full(file, &mut output[before..], at);
        output.truncate(before + *got.as_ref().unwrap_or(&0));
        let got = match got {
            Ok(0) => return Ok(SendOutcome::Short),
            Ok(got) => got,
            Err(e) => return Ok(SendOutcome::Unreadable(e)),
        };
        to.send_output(SendFlags::empty(), &mut each)?;
        at += got as u64;
    }
    Ok(SendOutcome::Whole)
}

/// Returns whether an error of sendfile comes from the file, not from the socket.
#[must_use]
pub fn is_of_the_file(e: Errno) -> bool {
    matches!(
        e,
        Errno::IO
            | Errno::STALE
            | Errno::UCLEAN
            | Errno::BADMSG
            | Errno::REMOTEIO
            | Errno::NODATA
            | Errno::INVAL
    )
}

fn send_copied(
    to: &mut Connection,
    file: &File,
    span: BlockRange,
    mut seen: Option<ByteObserver<'_>>,
    moved: &mut dyn FnMut(u64),
) -> io::Result<SendOutcome> {
    let mut buffer = vec![0; COPY.max(span.block_size as usize)];
    // Whole blocks only: a block starts only after all its bytes are available.
    let step = buffer.len() - buffer.len() % span.block_size as usize;
    let mut done = 0;
    while done < span.length {
        let want = usize::try_from(span.length - done).map_or(step, |rest| rest.min(step));
        let got = match read_full(file, &mut buffer[..want], span.offset + done) {
            Ok(got) => got,
            Err(e) => return Ok(SendOutcome::Unreadable(e)),
        };
        if let Some(seen) = seen.as_deref_mut() {
            seen(&buffer[..got]);
        }
        // The blocks with the bytes that were read; the last one is filled with zeros if the file
        // ended.
        buffer[got..want].fill(0);
        let whole = want.min(got.next_multiple_of(span.block_size as usize));
        for block in buffer[..whole].chunks(span.block_size as usize) {
            to.output()
                .extend_from_slice(&block_header(u32::try_from(block.len()).unwrap_or(u32::MAX)));
            to.output().extend_from_slice(block);
        }
        to.flush()?;
        moved(got as u64);
        if got < want {
            return Ok(SendOutcome::Short);
        }
        done += want as u64;
    }
    Ok(SendOutcome::Whole)
}

/// Reads until `buffer` is full or the file ends.
///
/// # Errors
/// Errors of reading the file.
pub fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
