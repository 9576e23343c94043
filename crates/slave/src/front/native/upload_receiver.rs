//! Receives the data of uploads from the connection.

use std::io;
use std::time::{Duration, Instant};

use relais_engine::{PreparedChange, Session, Upload};
use relais_net::{Connection, MinimumThroughput, ReadTimeouts};
use relais_os::SplicePipe;
use relais_proto::{
    Digest, FrameHeader, FrameType, Refusal, Reply, Request, WaitReason, WireError, limits,
};
use rustix::event::{PollFd, PollFlags};

use super::keep_alive::ConnectionKeepAlive;
use super::replies::queue_answers;
use crate::poll::wait_for;

/// Most bytes of one read.
const BUFFER: usize = 256 * 1024;
/// Bytes that a session reads ahead once it receives uploads, so that one call reads many small
/// ones.
const READ_AHEAD: usize = 64 * 1024;

/// Longest time for which answers are held back while an upload comes in.
const MAX_HELD_TIME: Duration = Duration::from_millis(100);

/// Limits within an upload, where a client may not pause for as long as between requests.
const UPLOAD_LIMITS: ReadTimeouts =
    ReadTimeouts { idle: limits::FRAME_TIME, ..ReadTimeouts::SESSION };

/// Receives uploads, one after another, through one buffer.
#[derive(Default)]
pub struct UploadReceiver {
    buffer: Vec<u8>,
    /// Through which the bytes of large uploads go to their files; not if it could not be made.
    pipe: Option<Option<SplicePipe>>,
    /// Whether frames of an upload follow that were not read.
    pub has_unread: bool,
}

impl UploadReceiver {
    /// Frees the buffers, because no upload follows at the moment.
    pub fn free_buffers(&mut self) {
        (self.buffer, self.pipe) = (Vec::new(), None);
    }

    /// Receives the data of an upload up to its end, or until it has failed.
    ///
    /// Meanwhile it sends answers to earlier changes, and keep-alives.
    ///
    /// # Errors
    /// The connection's. What was received stays staged, as long as the upload can be resumed.
    pub fn receive(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        mut upload: Upload,
    ) -> Result<Result<PreparedChange, Refusal>, WireError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
            connection.grow_read_ahead(READ_AHEAD);
        }
        connection.set_timeouts(UPLOAD_LIMITS);
        let result = self.receive_frames(connection, session, &mut upload);
        connection.set_timeouts(ReadTimeouts::SESSION);
        let keepalive = &mut ConnectionKeepAlive::new(connection);
        Ok(result?.and_then(|digest| upload.finish(Some(digest), keepalive)))
    }

    /// Receives the frames of an upload; returns the digest at its end.
    fn receive_frames(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        upload: &mut Upload,
    ) -> Result<Result<Digest, Refusal>, WireError> {
        let mut throughput = MinimumThroughput::new(Instant::now());
        let mut sent_at = Instant::now();
        loop {
            wait_for_data(connection, session, &mut sent_at)?;
            let header = next_frame(connection)?;
            if header.kind == FrameType::PutEnd {
                self.has_unread = false;
                return match Request::decode(header.kind, connection.read_payload(header)?)? {
                    Request::PutEnd { digest } => Ok(Ok(digest)),
                    other => Err(WireError::Unexpected(other.frame_type().number())),
                };
            }
            let mut left = header.len as usize;
            while left > 0 {
                wait_for_data(connection, session, &mut sent_at)?;
                let (some, written) = self.receive_some(connection, upload, left)?;
                left -= some;
                throughput.moved(some as u64, Instant::now())?;
                if let Err(refusal) = written {
                    self.skip(connection, left)?;
                    return Ok(Err(refusal));
                }
            }
        }
    }

    /// Receives at most `most` bytes of a frame and writes them; returns their number.
    fn receive_some(
        &mut self,
        connection: &mut Connection,
        upload: &mut Upload,
        most: usize,
    ) -> Result<(usize, Result<(), Refusal>), WireError> {
        if upload.is_large()
            && let Some(pipe) = self.pipe.get_or_insert_with(SplicePipe::if_possible)
        {
            match pipe.fill(|to, room| connection.receive_into(to, most.min(room))) {
                Ok(0) => return Err(WireError::Truncated),
                Ok(some) => {
                    let written = upload.write_from(pipe);
                    if written.is_err() {
                        // It may hold bytes of the upload that has failed.
                        self.pipe = None;
                    }
                    return Ok((some, written));
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let some = connection.read_some_into(&mut self.buffer[..most.min(BUFFER)])?;
        Ok((some, upload.write(&self.buffer[..some])))
    }

    /// Reads and discards the rest of a refused upload, so that the session can continue after it.
    ///
    /// # Errors
    /// The connection's; [`WireError::OverCap`] if the rest is too large.
    pub fn discard_rest(&mut self, connection: &mut Connection) -> Result<(), WireError> {
        let mut dropped = 0;
        loop {
            let header = next_frame(connection)?;
            if header.kind == FrameType::PutEnd {
                self.has_unread = false;
                return connection.read_payload(header).map(drop);
            }
            dropped += u64::from(header.len);
            if dropped > limits::DISCARD {
                return Err(WireError::OverCap {
                    what: "rest of a refused upload",
                    len: dropped,
                    cap: limits::DISCARD,
                });
            }
            self.skip(connection, header.len as usize)?;
        }
    }

    fn skip(&mut self, connection: &mut Connection, mut left: usize) -> Result<(), WireError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        while left > 0 {
            let some = left.min(BUFFER);
            connection.read_exact_into(&mut self.buffer[..some])?;
            left -= some;
        }
        Ok(())
    }
}

/// Reads the header of an upload's next frame: data, which must not be empty, or the end.
fn next_frame(connection: &mut Connection) -> Result<FrameHeader, WireError> {
    let header = connection.read_header()?.ok_or(WireError::Truncated)?;
    match header.kind {
        FrameType::PutEnd => Ok(header),
        FrameType::Data if header.len > 0 => Ok(header),
        FrameType::Data => Err(WireError::BadValue { what: "length of data", value: 0 }),
        other => Err(WireError::Unexpected(other.number())),
    }
}

/// Waits until data of an upload has come, and sends answers and keep-alives meanwhile.
///
/// The client may have sent everything long ago and wait, while a slow network still delivers it.
/// So answers are sent in between, and a `Wait` frame in each second in which data came. A client
/// whose data no longer arrives gets none. `sent_at` is when something was last sent.
fn wait_for_data(
    connection: &mut Connection,
    session: &mut Session,
    sent_at: &mut Instant,
) -> Result<(), WireError> {
    if connection.has_input() {
        return Ok(());
    }
    let since = Instant::now();
    // This is called each time that data has come.
    let mut has_data = true;
    loop {
        queue_answers(connection, session);
        let stream = connection.stream().clone();
        let mut fds = vec![stream.poll_fd(PollFlags::IN)];
        fds.extend(session.prepare_wait().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let has_more = connection.wait_for_input(Duration::ZERO)?;
        let is_wait_due = sent_at.elapsed() >= limits::WAIT_EVERY;
        if is_wait_due && (std::mem::take(&mut has_data) || session.has_pending()) {
            connection.queue_reply(&Reply::Wait(WaitReason::Storing));
        }
        if is_wait_due
            || !connection.output().is_empty() && (!has_more || sent_at.elapsed() >= MAX_HELD_TIME)
        {
            connection.flush()?;
            *sent_at = Instant::now();
        }
        if has_more {
            return Ok(());
        }
        if since.elapsed() >= limits::FRAME_TIME {
            let message = "no more data of the upload came";
            return Err(io::Error::new(io::ErrorKind::TimedOut, message).into());
        }
        wait_for(&mut fds, Some(limits::WAIT_EVERY))?;
    }
}
