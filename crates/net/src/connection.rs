//! One blocking TCP connection that carries frames.

use std::fmt;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_proto::{
    FrameHeader, FrameType, HEADER_LEN, LinkMessage, Reply, Request, WireError, limits,
};

use rustix::event::PollFlags;
use rustix::net::SendFlags;

use crate::minimum_throughput::MinimumThroughput;
use crate::stream::Stream;
use crate::tls::{ChannelBinding, TlsInfo};

/// Read-ahead of a connection that receives content: a control frame or a few small blocks fit.
pub(crate) const READ_AHEAD: usize = 64 * 1024;
/// Longest wait of one send before the throughput is checked again.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// How long a read waits for its peer.
#[derive(Debug, Clone, Copy)]
pub struct ReadTimeouts {
    /// Limit for the first byte of a frame.
    pub idle: Duration,
    /// Limit for each further byte.
    pub silence: Duration,
    /// Limit for a whole control frame after its first byte.
    pub frame: Duration,
}

impl ReadTimeouts {
    /// Limits of a client. It goes to another server when one is silent.
    pub const CLIENT: Self =
        Self { idle: limits::SILENCE, silence: limits::SILENCE, frame: limits::FRAME_TIME };
    /// Limits of a server's session. A user may be idle for a while.
    pub const SESSION: Self =
        Self { idle: limits::IDLE_TIME, silence: limits::FRAME_TIME, frame: limits::FRAME_TIME };
}

/// A function that gets each reply that a connection reads, before the reader gets it.
pub type ReplyObserver = Box<dyn FnMut(&Reply) + Send + Sync>;

/// A blocking connection that reads and writes frames and ends on silence.
///
/// Reads and writes are buffered. [`Self::queue`] and its kind append frames, and [`Self::flush`]
/// sends them together in one system call.
pub struct Connection {
    stream: Arc<Stream>,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    payload: Vec<u8>,
    output: Vec<u8>,
    timeouts: ReadTimeouts,
    /// The present value of SO_RCVTIMEO.
    read_timeout: Option<Duration>,
    /// When the first byte of the current control frame was read.
    frame_begun: Option<Instant>,
    /// The last header that could not be decoded.
    unknown_header: [u8; HEADER_LEN],
    observer: Option<ReplyObserver>,
    tls_info: Option<TlsInfo>,
    pub(crate) round_trip: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects without encryption, within `timeout`.
    ///
    /// # Errors
    /// Errors of the connect; [`io::ErrorKind::InvalidInput`] for port 0 or an unspecified address.
    pub fn connect(addr: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let begun = Instant::now();
        let mut connection = Self::new(connect(addr, timeout)?)?;
        connection.round_trip = begun.elapsed();
        Ok(connection)
    }

    /// Takes over an open TCP stream, sets it to blocking mode and uses a client's timeouts.
    ///
    /// # Errors
    /// Errors of the socket calls.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        Self::from_stream(Stream::tcp(stream)?, READ_AHEAD)
    }

    /// Makes a connection from an open stream, with a client's timeouts.
    ///
    /// The connection reads at most `read_ahead` bytes ahead. A small value saves memory where a
    /// connection receives small frames only.
    ///
    /// # Errors
    /// Errors of the socket calls.
    pub fn from_stream(stream: Stream, read_ahead: usize) -> io::Result<Self> {
        stream.set_write_timeout(Some(SEND_WAIT))?;
        Ok(Self::with_stream(Arc::new(stream), read_ahead))
    }

    /// Returns a second connection on the same stream, for a thread that only writes.
    #[must_use]
    pub fn writer(&self) -> Self {
        Self::with_stream(self.stream.clone(), 0)
    }

    fn with_stream(stream: Arc<Stream>, read_ahead: usize) -> Self {
        Self {
            stream,
            input: vec![0; read_ahead.max(HEADER_LEN)].into_boxed_slice(),
            start: 0,
            end: 0,
            payload: Vec::new(),
            output: Vec::new(),
            timeouts: ReadTimeouts::CLIENT,
            read_timeout: None,
            frame_begun: None,
            unknown_header: [0; HEADER_LEN],
            observer: None,
            tls_info: None,
            round_trip: Duration::ZERO,
        }
    }

    /// Raises the read-ahead to `read_ahead` bytes; a larger buffer stays as it is.
    pub fn grow_read_ahead(&mut self, read_ahead: usize) {
        if read_ahead <= self.input.len() {
            return;
        }
        let mut input = vec![0; read_ahead];
        let ready = self.end - self.start;
        input[..ready].copy_from_slice(&self.input[self.start..self.end]);
        (self.input, self.start, self.end) = (input.into_boxed_slice(), 0, ready);
    }

    /// Sets the timeouts of later reads.
    pub fn set_timeouts(&mut self, timeouts: ReadTimeouts) {
        self.timeouts = timeouts;
    }

    /// Sets the limit for each byte, the first of a frame included.
    pub fn set_silence(&mut self, silence: Duration) {
        self.timeouts.idle = silence;
        self.timeouts.silence = silence;
    }

    /// Returns how long connecting took, which is a round trip; zero for an accepted connection.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer
    }

    /// The local address, as the peer reached it.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.stream.local
    }

    /// Facts about the TLS session that this side has opened; none without encryption.
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.tls_info
    }

    /// The channel binding that ties proofs to this TLS session; none without encryption.
    #[must_use]
    pub fn binding(&self) -> Option<ChannelBinding> {
        self.tls_info.map(|secured| secured.binding)
    }

    pub(crate) fn secure(&mut self, secured: TlsInfo) {
        self.tls_info = Some(secured);
    }

    /// The stream. Another thread can shut down a clone of it, which wakes a blocked reader.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Appends a request to the output.
    pub fn queue(&mut self, request: &Request) {
        request.encode(&mut self.output);
    }

    /// Appends a reply to the output.
    pub fn queue_reply(&mut self, reply: &Reply) {
        reply.encode(&mut self.output);
    }

    /// Appends a link message to the output.
    pub fn queue_link(&mut self, message: &LinkMessage) {
        message.encode(&mut self.output);
    }

    /// The output buffer, which the next flush sends. Senders of content append blocks here.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends the output.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if the peer reads too slowly; errors of the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut throughput = MinimumThroughput::new(Instant::now());
        self.send_output(SendFlags::empty(), |_, sent| throughput.moved(sent, Instant::now()))
    }

    /// Sends the output, and drops it after an error.
    ///
    /// `each` gets the number of bytes that the socket accepted; 0 if it accepted none in time.
    ///
    /// # Errors
    /// Errors of `each` and of the socket.
    pub fn send_output<E: From<io::Error>>(
        &mut self,
        flags: SendFlags,
        mut each: impl FnMut(&mut Self, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut output = std::mem::take(&mut self.output);
        let mut rest = output.as_slice();
        while !rest.is_empty() {
            let sent = match self.stream.send(rest, flags) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(sent) => sent,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) =>
                {
                    0
                }
                Err(e) => return Err(e.into()),
            };
            rest = &rest[sent..];
            each(self, sent as u64)?;
        }
        // The buffer itself is reused.
        output.clear();
        self.output = output;
        Ok(())
    }

    /// Whether bytes of a further frame were received.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.start < self.end || self.stream.has_input()
    }

    /// Waits at most `timeout` until a read would not block; the end of the connection counts.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn wait_for_input(&self, timeout: Duration) -> io::Result<bool> {
        Ok(self.has_input() || !self.stream.poll(PollFlags::IN, Some(timeout))?.is_empty())
    }

    /// Whether a connection without a request is still usable: open, and without unread input.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.wait_for_input(Duration::ZERO), Ok(false))
    }

    /// Reads the header of the next frame; none if the peer closed before it.
    ///
    /// Frames of unknown types that are ignorable are skipped.
    ///
    /// # Errors
    /// A malformed header, or an error of the socket. Silence is [`io::ErrorKind::TimedOut`].
    pub fn read_header(&mut self) -> Result<Option<FrameHeader>, WireError> {
        for _ in 0..limits::IGNORED_FRAMES {
            match self.read_any_header() {
                Err(WireError::UnknownType(kind)) if FrameType::is_ignorable(kind) => {
                    self.skip_unknown()?;
                }
                other => return other,
            }
        }
        self.read_any_header()
    }

    fn read_any_header(&mut self) -> Result<Option<FrameHeader>, WireError> {
        self.frame_begun = None;
        while self.end - self.start < HEADER_LEN {
            let begun = self.start < self.end;
            if self.fill(if begun { self.timeouts.silence } else { self.timeouts.idle })? == 0 {
                return if begun { Err(WireError::Truncated) } else { Ok(None) };
            }
        }
        let mut bytes = [0; HEADER_LEN];
        bytes.copy_from_slice(&self.input[self.start..self.start + HEADER_LEN]);
        self.start += HEADER_LEN;
        FrameHeader::parse(bytes).map(Some).inspect_err(|_| self.unknown_header = bytes)
    }

    /// Reads and drops the payload of a frame of unknown type.
    ///
    /// Call it directly after [`WireError::UnknownType`].
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`], [`WireError::Truncated`], or an error of the socket.
    pub fn skip_unknown(&mut self) -> Result<(), WireError> {
        let [a, b, c, d, kind] = self.unknown_header;
        let (len, cap) = (u32::from_be_bytes([a, b, c, d]), FrameType::cap_of_unknown(kind));
        if len > cap {
            return Err(WireError::FrameTooLong { kind, len, cap });
        }
        let mut left = len as usize;
        while left > 0 {
            left -= self.take_input(left)?.len();
        }
        Ok(())
    }

    /// Reads the payload of a control frame; call it directly after its header.
    ///
    /// # Errors
    /// As [`Self::read_header`], and [`WireError::Truncated`].
    pub fn read_payload(&mut self, header: FrameHeader) -> Result<&[u8], WireError> {
        let len = header.len as usize;
        if header.kind == FrameType::Block {
            return Err(WireError::Unexpected(header.kind.number()));
        }
        if self.end - self.start >= len {
            self.start += len;
            return Ok(&self.input[self.start - len..self.start]);
        }
        self.payload.clear();
        while self.payload.len() < len {
            let mut payload = std::mem::take(&mut self.payload);
            payload.extend_from_slice(self.take_input(len - payload.len())?);
            self.payload = payload;
        }
        Ok(&self.payload)
    }

    /// Reads the next bytes of a block straight into `buffer`.
    ///
    /// # Errors
    /// [`WireError::Truncated`], or an error of the socket. Silence, and a throughput below
    /// [`limits::RATE_FLOOR`], are [`io::ErrorKind::TimedOut`].
    pub fn read_exact_into(&mut self, buffer: &mut [u8]) -> Result<(), WireError> {
        let mut rest = buffer;
        let mut throughput = MinimumThroughput::new(Instant::now());
        while !rest.is_empty() {
            let got = self.read_some_into(rest)?;
            rest = &mut rest[got..];
            throughput.moved(got as u64, Instant::now())?;
        }
        Ok(())
    }

    /// Reads at least one of the next bytes of a block into `buffer`.
    ///
    /// # Errors
    /// [`WireError::Truncated`], or an error of the socket. Silence is [`io::ErrorKind::TimedOut`].
    pub fn read_some_into(&mut self, buffer: &mut [u8]) -> Result<usize, WireError> {
        if self.start == self.end {
            // Small remainders pass through the read-ahead; large ones are read without a copy.
            if buffer.len() >= self.input.len() / 4 {
                self.arm_timeout(self.timeouts.silence)?;
                let got = read_some(&self.stream, buffer)?;
                return if got == 0 && !buffer.is_empty() {
                    Err(WireError::Truncated)
                } else {
                    Ok(got)
                };
            }
            if self.read_ahead(self.timeouts.silence)? == 0 {
                return Err(WireError::Truncated);
            }
        }
        let take = buffer.len().min(self.end - self.start);
        buffer[..take].copy_from_slice(&self.input[self.start..self.start + take]);
        self.start += take;
        Ok(take)
    }

    /// Moves bytes of a block to a pipe without a copy; returns 0 at the end of the connection.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the next bytes have to be read into memory, because they
    /// were read ahead, are few or encrypted, or do not come in time; errors of the socket.
    pub fn receive_into(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        if self.start < self.end || most < self.input.len() / 4 || self.stream.is_encrypted() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.arm_timeout(self.timeouts.silence)?;
        Ok(self.stream.receive_into(pipe, most)?)
    }

    /// Reads the next frame as a reply; none if the server closed before it.
    ///
    /// # Errors
    /// As [`Self::read_header`] and [`Self::read_payload`]; a malformed payload.
    pub fn read_reply(&mut self) -> Result<Option<Reply>, WireError> {
        let Some(header) = self.read_header()? else { return Ok(None) };
        self.read_reply_of(header).map(Some)
    }

    /// Reads the rest of a reply whose header was just read, and passes it to the observer.
    ///
    /// # Errors
    /// As [`Self::read_payload`]; a malformed payload.
    pub fn read_reply_of(&mut self, header: FrameHeader) -> Result<Reply, WireError> {
        let reply = Reply::decode(header.kind, self.read_payload(header)?)?;
        if let Some(observer) = &mut self.observer {
            observer(&reply);
        }
        Ok(reply)
    }

    /// Sets the observer of later replies, in place of an earlier one.
    ///
    /// The observer handles the facts that servers send beside their answers in one place, for
    /// all readers of answers.
    pub fn observe_replies(&mut self, observer: ReplyObserver) {
        self.observer = Some(observer);
    }

    /// Reads the next frame as a request; none if the client closed before it.
    ///
    /// # Errors
    /// As [`Self::read_reply`].
    pub fn read_request(&mut self) -> Result<Option<Request>, WireError> {
        let Some(header) = self.read_header()? else { return Ok(None) };
        Request::decode(header.kind, self.read_payload(header)?).map(Some)
    }

    /// Reads the next frame as a link message; none if the peer closed before it.
    ///
    /// # Errors
    /// As [`Self::read_reply`].
    pub fn read_link(&mut self) -> Result<Option<LinkMessage>, WireError> {
        let Some(header) = self.read_header()? else { return Ok(None) };
        LinkMessage::decode(header.kind, self.read_payload(header)?).map(Some)
    }

    /// Runs the handshake of a cluster link on this connection.
    ///
    /// It sends `hello` and `open` together and gives each frame from the peer to `take`. When
    /// `take` returns the last message, the handshake queues it and ends.
    ///
    /// # Errors
    /// Errors of `take` and of [`Self::read_header`]; [`WireError::Truncated`] if the peer closes
    /// before the end.
    pub fn prove<E: From<WireError>>(
        &mut self,
        hello: &Request,
        open: &LinkMessage,
        mut take: impl FnMut(FrameType, &[u8]) -> Result<Option<LinkMessage>, E>,
    ) -> Result<(), E> {
        self.queue(hello);
        self.queue_link(open);
        self.flush().map_err(WireError::from)?;
        loop {
            let header = self.read_header()?.ok_or(WireError::Truncated)?;
            if let Some(proof) = take(header.kind, self.read_payload(header)?)? {
                self.queue_link(&proof);
                return Ok(());
            }
        }
    }

    /// Ends the connection so that the last message still arrives.
    ///
    /// It shuts down the sending side, then reads and drops input for at most `timeout`. An
    /// immediate close would reset the connection and could destroy the last message.
    pub fn close_gracefully(mut self, timeout: Duration) {
        if self.flush().is_err() || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            (self.start, self.end) = (0, 0);
            if left.is_zero() || !matches!(self.fill(left), Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// Takes at least one and at most `most` bytes of a control frame, and reads some if necessary.
    fn take_input(&mut self, most: usize) -> Result<&[u8], WireError> {
        if self.start == self.end && self.fill(self.timeouts.silence)? == 0 {
            return Err(WireError::Truncated);
        }
        let begin = self.start;
        self.start += most.min(self.end - begin);
        Ok(&self.input[begin..self.start])
    }

    /// Reads more of a control frame, within the time limit of the whole frame.
    fn fill(&mut self, wait: Duration) -> Result<usize, WireError> {
        let partial = self.start < self.end || self.frame_begun.is_some();
        let got = self.read_ahead(wait)?;
        let now = Instant::now();
        let begun = *self.frame_begun.get_or_insert(now);
        if partial && now.duration_since(begun) > self.timeouts.frame {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a frame took too long").into());
        }
        Ok(got)
    }

    /// Reads available input; waits at most `wait` for its first byte.
    fn read_ahead(&mut self, wait: Duration) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.arm_timeout(wait)?;
        let got = read_some(&self.stream, &mut self.input[self.end..])?;
        self.end += got;
        Ok(got)
    }

    fn arm_timeout(&mut self, wait: Duration) -> io::Result<()> {
        if self.read_timeout != Some(wait) {
            // A timeout of zero would mean no timeout.
            self.stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
            self.read_timeout = Some(wait);
        }
        Ok(())
    }
}

/// Opens a TCP connection within `timeout`; refuses port 0 and unspecified addresses.
pub(crate) fn connect(addr: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    if addr.port() == 0 || addr.ip().is_unspecified() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{addr} is no address to connect to"),
        ));
    }
    TcpStream::connect_timeout(&addr, timeout)
}

fn read_some(mut stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came in time"));
            }
            other => return other,
        }
    }
}
