//! An open data connection: moves bytes, with the minimum throughput of all transfers.
//!
//! While it waits, and after every few MiB, the control connection is attended to. It does not know
//! what the bytes mean.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::tls::{DataDirection, TlsServer};
use relais_net::{MinimumThroughput, Stream};
use relais_os::SplicePipe;
use relais_transfer::{SendOutcome, is_of_the_file, read_full};
use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;

use super::error::DataError;
use super::watch::{ControlWatch, wait_for_data};
use crate::sys::tcp::is_end_acknowledged;

/// How long the handshake of a data connection may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Most bytes of one sendfile call.
const SENDFILE: u64 = 1024 * 1024;
/// Bytes per read of content that is copied; they stay in the processor's cache.
const COPIED: usize = 64 * 1024;
/// Bytes after which the control connection is attended to.
const UNATTENDED: u64 = 4 * 1024 * 1024;

/// Longest wait until the client's system has all bytes of a download, before the reply that says
/// so. Some clients, such as aria2, miss a reply that comes before the data.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// An open data connection.
#[derive(Debug)]
pub struct DataStream {
    stream: Stream,
    throughput: MinimumThroughput,
    moved: u64,
    /// Bytes since the control connection was attended to.
    unattended: u64,
    /// Whether the data is complete. Otherwise the connection ends by a reset.
    has_ended: bool,
    /// When the time of a handshake that is under way ends.
    handshake_until: Option<Instant>,
}

impl DataStream {
    /// Takes over an open connection that does not block.
    pub fn new(stream: Stream) -> Self {
        let throughput = MinimumThroughput::new(Instant::now());
        Self {
            stream,
            throughput,
            moved: 0,
            unattended: 0,
            has_ended: false,
            handshake_until: None,
        }
    }

    /// Begins to encrypt the connection (RFC 4217 section 9).
    ///
    /// # Errors
    /// [`DataError::Handshake`].
    pub fn begin_encryption(
        &mut self,
        tls: &TlsServer,
        control: &Stream,
        direction: DataDirection,
    ) -> Result<(), DataError> {
        tls.begin_data(&mut self.stream, control, direction).map_err(DataError::Handshake)?;
        self.handshake_until = Some(Instant::now() + HANDSHAKE_TIME);
        Ok(())
    }

    /// Continues the handshake without waiting.
    ///
    /// # Errors
    /// [`DataError::Handshake`] if it has failed or took too long.
    pub fn continue_handshake(&mut self) -> Result<(), DataError> {
        let Some(until) = self.handshake_until else { return Ok(()) };
        match self.stream.continue_handshake() {
            Ok(()) => {
                self.handshake_until = None;
                self.throughput = MinimumThroughput::new(Instant::now());
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => match Instant::now() < until {
                true => Ok(()),
                false => Err(DataError::Handshake(io::ErrorKind::TimedOut.into())),
            },
            Err(e) => Err(DataError::Handshake(e)),
        }
    }

    /// Completes the handshake, if one has begun, and attends to the control connection meanwhile.
    ///
    /// # Errors
    /// As [`Self::continue_handshake`], and the control connection's interruption.
    pub fn complete_handshake(&mut self, control: &mut dyn ControlWatch) -> Result<(), DataError> {
        self.continue_handshake()?;
        while let Some(until) = self.handshake_until {
            wait_for_data(self.stream.handshake_fd(), control, 0, until)?;
            self.continue_handshake()?;
        }
        Ok(())
    }

    /// Returns the end of the handshake's time and what it waits for, while it is under way.
    pub fn handshake(&self) -> Option<(Instant, PollFd<'_>)> {
        self.handshake_until.map(|until| (until, self.stream.handshake_fd()))
    }

    /// Returns the number of bytes that were moved.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`DataError::Lost`], and the control connection's interruption.
    pub fn send(&mut self, bytes: &[u8], control: &mut dyn ControlWatch) -> Result<(), DataError> {
        self.send_with(SendFlags::empty(), bytes, control)
    }

    /// As [`Self::send`], of the last bytes before [`Self::finish`]: both can be one packet.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_last(
        &mut self,
        bytes: &[u8],
        control: &mut dyn ControlWatch,
    ) -> Result<(), DataError> {
        self.send_with(SendFlags::MORE, bytes, control)
    }

    fn send_with(
        &mut self,
        flags: SendFlags,
        mut bytes: &[u8],
        control: &mut dyn ControlWatch,
    ) -> Result<(), DataError> {
        while !bytes.is_empty() {
            match self.stream.send(bytes, flags | SendFlags::DONTWAIT) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    self.count(sent as u64, control)?;
                }
                Err(e) => self.wait_after(e, PollFlags::OUT, control)?,
            }
        }
        Ok(())
    }

    /// Sends `length` bytes of `file` from `offset` on.
    ///
    /// # Errors
    /// As [`Self::send`]; errors of the file are outcomes.
    pub fn send_file(
        &mut self,
        file: &File,
        offset: u64,
        length: u64,
        control: &mut dyn ControlWatch,
    ) -> Result<SendOutcome, DataError> {
        if self.stream.is_encrypted() || self.is_local() || length <= COPIED as u64 {
            return self.send_copied(file, offset, length, control);
        }
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let most = usize::try_from((end - at).min(SENDFILE)).unwrap_or(usize::MAX);
            match self.stream.send_file(file, &mut at, most) {
                Ok(0) => return Ok(SendOutcome::Short),
                Ok(sent) => self.count(sent as u64, control)?,
                Err(e) if is_of_the_file(e) => return Ok(SendOutcome::Unreadable(e.into())),
                Err(e) => self.wait_after(e.into(), PollFlags::OUT, control)?,
            }
        }
        Ok(SendOutcome::Whole)
    }

    /// Whether the client is on this host.
    ///
    /// Then the client copies the bytes out of the processor's cache, which costs less than to read
    /// them from memory again.
    fn is_local(&self) -> bool {
        self.stream.peer.ip().to_canonical().is_loopback() && self.stream.proxied.is_none()
    }

    fn send_copied(
        &mut self,
        file: &File,
        offset: u64,
        length: u64,
        control: &mut dyn ControlWatch,
    ) -> Result<SendOutcome, DataError> {
        let next = |left: u64| usize::try_from(left).map_or(COPIED, |left| left.min(COPIED));
        let mut buffer = vec![0; next(length)];
        let mut done = 0;
        while done < length {
            match read_full(file, &mut buffer[..next(length - done)], offset + done) {
                Ok(0) => return Ok(SendOutcome::Short),
                Ok(got) => {
                    done += got as u64;
                    match done < length {
                        true => self.send(&buffer[..got], control)?,
                        false => self.send_last(&buffer[..got], control)?,
                    }
                }
                Err(e) => return Ok(SendOutcome::Unreadable(e)),
            }
        }
        Ok(SendOutcome::Whole)
    }

    /// Reads some bytes; 0 at the end of the data.
    ///
    /// # Errors
    /// As [`Self::send`]; [`DataError::NoCloseNotify`] if an encrypted connection ends without the
    /// closing alert.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        control: &mut dyn ControlWatch,
    ) -> Result<usize, DataError> {
        loop {
            match (&self.stream).read(buffer) {
                Ok(got) => {
                    self.count(got as u64, control)?;
                    return Ok(got);
                }
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(DataError::NoCloseNotify);
                }
                Err(e) => self.wait_after(e, PollFlags::IN, control)?,
            }
        }
    }

    /// Moves some bytes to `pipe` without a copy; returns their number, 0 at the end of the data.
    ///
    /// The data must not be encrypted.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn read_into(
        &mut self,
        pipe: &mut SplicePipe,
        control: &mut dyn ControlWatch,
    ) -> Result<usize, DataError> {
        loop {
            match pipe.fill(|to, most| Ok(self.stream.receive_into(to, most)?)) {
                Ok(got) => {
                    self.count(got as u64, control)?;
                    return Ok(got);
                }
                Err(e) => self.wait_after(e, PollFlags::IN, control)?,
            }
        }
    }

    /// Ends data that was sent: the client has its end before the reply.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn finish(mut self, control: &mut dyn ControlWatch) -> Result<(), DataError> {
        while let Err(e) = self.stream.end_sending(SendFlags::DONTWAIT) {
            self.wait_after(e, PollFlags::OUT, control)?;
        }
        // Unread input would make the kernel reset the connection before all data has arrived.
        if let Err(e) = self.stream.discard_input()
            && e.kind() != io::ErrorKind::WouldBlock
        {
            return Err(DataError::Lost(e));
        }
        let socket = self.stream.poll_fd(PollFlags::empty());
        if !is_end_acknowledged(socket.as_fd()).map_err(DataError::Lost)? {
            // The client may wait for the preliminary reply before it reads.
            control.flush()?;
            self.stream.wait_when_dropped(ACKNOWLEDGED_WITHIN).map_err(DataError::Lost)?;
        }
        self.has_ended = true;
        Ok(())
    }

    /// Whether its TLS session resumes that of the control connection.
    pub fn is_resumed(&self) -> bool {
        self.stream.is_resumed()
    }

    /// Whether the bytes are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// Closes the connection after data that was received; the client may have closed it before.
    pub fn close(mut self) {
        self.has_ended = true;
    }

    /// Counts moved bytes, and attends to the control connection from time to time.
    fn count(&mut self, bytes: u64, control: &mut dyn ControlWatch) -> Result<(), DataError> {
        self.moved += bytes;
        self.unattended += bytes;
        let now = Instant::now();
        self.throughput.moved(bytes, now).map_err(DataError::Lost)?;
        if self.unattended >= UNATTENDED {
            self.unattended = 0;
            let entry = self.stream.poll_fd(PollFlags::empty());
            wait_for_data(entry, control, self.moved, now)?;
        }
        Ok(())
    }

    /// Waits until the socket may accept or have more, if `error` says that it did not.
    fn wait_after(
        &mut self,
        error: io::Error,
        wanted: PollFlags,
        control: &mut dyn ControlWatch,
    ) -> Result<(), DataError> {
        match error.kind() {
            io::ErrorKind::Interrupted => return Ok(()),
            io::ErrorKind::WouldBlock => {}
            _ => return Err(DataError::Lost(error)),
        }
        self.unattended = 0;
        let entry = self.stream.poll_fd(wanted);
        let until = Instant::now() + Duration::from_secs(1);
        wait_for_data(entry, control, self.moved, until)?;
        self.throughput.moved(0, Instant::now()).map_err(DataError::Lost)
    }
}

impl Drop for DataStream {
    /// Resets the connection of incomplete data, because its end would look like the end of a file.
    fn drop(&mut self) {
        if !self.has_ended
            && let Err(e) = self.stream.reset_when_dropped()
        {
            debug!("{}: cannot reset a data connection: {e}", self.stream.peer);
        }
    }
}
