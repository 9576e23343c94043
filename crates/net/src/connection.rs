//! One blocking TCP connection that carries frames.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_proto::{
    FrameHeader, FrameType, HEADER_LEN, LinkMessage, Reply, Request, WireError, limits,
};

use socket2::Socket;

use crate::tls::{ChannelBinding, TlsInfo};
use crate::{MinimumThroughput, Stream};

/// Bytes read ahead by whoever receives content: a control frame fits, and a few small blocks.
pub(crate) const READ_AHEAD: usize = 64 * 1024;
/// How long one send waits before the pace is looked at again.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// How long a reader waits.
#[derive(Debug, Clone, Copy)]
pub struct ReadTimeouts {
    /// For the first byte of a frame.
    pub idle: Duration,
    /// For each further byte.
    pub silence: Duration,
    /// For the whole of a control frame once it has begun.
    pub frame: Duration,
}

impl ReadTimeouts {
    /// A client's: it moves on where a server is silent.
    pub const CLIENT: Self =
        Self { idle: limits::SILENCE, silence: limits::SILENCE, frame: limits::FRAME_TIME };
    /// A session's: users may think for a while.
    pub const SESSION: Self =
        Self { idle: limits::IDLE_TIME, silence: limits::FRAME_TIME, frame: limits::FRAME_TIME };
}

/// Is shown the replies that a connection reads, before whoever reads them.
pub type ReplyObserver = Box<dyn FnMut(&Reply) + Send + Sync>;

/// The watcher of one connection, if it has one.
#[derive(Default)]
struct Watched(Option<ReplyObserver>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "watched" } else { "not watched" })
    }
}

/// A blocking connection that reads and writes frames and gives up on silence.
///
/// Reading and writing are buffered: what [`Self::queue`] and the like append
/// goes out with [`Self::flush`], many frames in one call of the system.
#[derive(Debug)]
pub struct Connection {
    stream: Arc<Socket>,
    peer: SocketAddr,
    local: SocketAddr,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    payload: Vec<u8>,
    output: Vec<u8>,
    timeouts: ReadTimeouts,
    /// What SO_RCVTIMEO is set to now.
    armed: Option<Duration>,
    /// Since when the current control frame has been coming in.
    begun: Option<Instant>,
    /// The header that was read last and could not be understood.
    unknown: [u8; HEADER_LEN],
    watched: Watched,
    tls_info: Option<TlsInfo>,
}

impl Connection {
    /// Connects within `timeout`, in the clear.
    ///
    /// # Errors
    /// Those of the connect, or [`io::ErrorKind::InvalidInput`] for port 0 or an unspecified address.
    pub fn connect(addr: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::new(connect(addr, timeout)?)
    }

    /// Takes over an open stream, in blocking mode, with a client's limits.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        Self::from_stream(Stream::tcp(stream)?, READ_AHEAD)
    }

    /// A connection over an open stream, with a client's limits, that reads at most `read_ahead` bytes ahead: little memory
    /// for whoever receives small frames only.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn from_stream(stream: Stream, read_ahead: usize) -> io::Result<Self> {
        let Stream { socket, peer, local } = stream;
        socket.set_write_timeout(Some(SEND_WAIT))?;
        Ok(Self::with_socket(Arc::new(socket), peer, local, read_ahead))
    }

    /// The same stream once more, for a thread that only writes.
    #[must_use]
    pub fn writer(&self) -> Self {
        Self::with_socket(self.stream.clone(), self.peer, self.local, 0)
    }

    fn with_socket(
        stream: Arc<Socket>,
        peer: SocketAddr,
        local: SocketAddr,
        read_ahead: usize,
    ) -> Self {
        Self {
            peer,
            local,
            stream,
            input: vec![0; read_ahead.max(HEADER_LEN)].into_boxed_slice(),
            start: 0,
            end: 0,
            payload: Vec::new(),
            output: Vec::new(),
            timeouts: ReadTimeouts::CLIENT,
            armed: None,
            begun: None,
            unknown: [0; HEADER_LEN],
            watched: Watched::default(),
            tls_info: None,
        }
    }

    /// Reads at least `read_ahead` bytes ahead from here on.
    pub fn grow_read_ahead(&mut self, read_ahead: usize) {
        if read_ahead <= self.input.len() {
            return;
        }
        let mut input = vec![0; read_ahead];
        let ready = self.end - self.start;
        input[..ready].copy_from_slice(&self.input[self.start..self.end]);
        (self.input, self.start, self.end) = (input.into_boxed_slice(), 0, ready);
    }

    /// How long reads wait from here on.
    pub fn set_timeouts(&mut self, timeouts: ReadTimeouts) {
        self.timeouts = timeouts;
    }

    /// Waits `silence` for each byte, of a frame awaited or begun.
    pub fn set_silence(&mut self, silence: Duration) {
        self.timeouts.idle = silence;
        self.timeouts.silence = silence;
    }

    /// The other side's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our address, as the other side reached it.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What is known of the line where this side has encrypted it; none in the clear.
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.tls_info
    }

    /// What ties proofs to the line; none in the clear.
    #[must_use]
    pub fn binding(&self) -> Option<ChannelBinding> {
        self.tls_info.map(|secured| secured.binding)
    }

    pub(crate) fn secure(&mut self, secured: TlsInfo) {
        self.tls_info = Some(secured);
    }

    /// The socket. Whoever holds a clone of it can shut it down and so wake a blocked reader.
    #[must_use]
    pub fn stream(&self) -> &Arc<Socket> {
        &self.stream
    }

    /// Appends a request to what the next flush sends.
    pub fn queue(&mut self, request: &Request) {
        request.encode(&mut self.output);
    }

    /// Appends a reply to what the next flush sends.
    pub fn queue_reply(&mut self, reply: &Reply) {
        reply.encode(&mut self.output);
    }

    /// Appends a link message to what the next flush sends.
    pub fn queue_link(&mut self, message: &LinkMessage) {
        message.encode(&mut self.output);
    }

    /// The bytes that the next flush sends; senders of content append blocks here.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends all that is queued.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] where the peer takes too little, or the socket's.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut pace = MinimumThroughput::new(Instant::now());
        let result = send_all(&self.stream, &self.output, &mut pace);
        self.output.clear();
        result
    }

    /// Whether bytes of a further frame have been read already.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.start < self.end
    }

    /// Reads the header of the next frame; none where the peer closed before it.
    ///
    /// # Errors
    /// What is wrong with the bytes, or the socket's; silence is [`io::ErrorKind::TimedOut`].
    pub fn read_header(&mut self) -> Result<Option<FrameHeader>, WireError> {
        self.begun = None;
        while self.end - self.start < HEADER_LEN {
            let begun = self.start < self.end;
            if self.fill(if begun { self.timeouts.silence } else { self.timeouts.idle })? == 0 {
                return if begun { Err(WireError::Truncated) } else { Ok(None) };
            }
        }
        let mut bytes = [0; HEADER_LEN];
        bytes.copy_from_slice(&self.input[self.start..self.start + HEADER_LEN]);
        self.start += HEADER_LEN;
        FrameHeader::parse(bytes).map(Some).inspect_err(|_| self.unknown = bytes)
    }

    /// Reads and drops the payload of a frame whose type is unknown; call it right after [`WireError::UnknownType`] for a type
    /// of a client's.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`], [`WireError::Truncated`], or the socket's.
    pub fn skip_unknown(&mut self) -> Result<(), WireError> {
        let [a, b, c, d, kind] = self.unknown;
        let (len, cap) = (u32::from_be_bytes([a, b, c, d]), limits::REQUEST_FRAME);
        if len > cap {
            return Err(WireError::FrameTooLong { kind, len, cap });
        }
        let mut left = len as usize;
        while left > 0 {
            if self.start == self.end && self.fill(self.timeouts.silence)? == 0 {
                return Err(WireError::Truncated);
            }
            let take = left.min(self.end - self.start);
            self.start += take;
            left -= take;
        }
        Ok(())
    }

    /// Reads the payload of a control frame; call it right after its header.
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
            if self.start == self.end && self.fill(self.timeouts.silence)? == 0 {
                return Err(WireError::Truncated);
            }
            let take = (len - self.payload.len()).min(self.end - self.start);
            self.payload.extend_from_slice(&self.input[self.start..self.start + take]);
            self.start += take;
        }
        Ok(&self.payload)
    }

    /// Reads the next bytes of a block straight into `buffer`.
    ///
    /// # Errors
    /// [`WireError::Truncated`], or the socket's; silence, and a pace below
    /// [`limits::RATE_FLOOR`], are [`io::ErrorKind::TimedOut`].
    pub fn read_exact_into(&mut self, buffer: &mut [u8]) -> Result<(), WireError> {
        let ready = buffer.len().min(self.end - self.start);
        buffer[..ready].copy_from_slice(&self.input[self.start..self.start + ready]);
        self.start += ready;
        let mut rest = &mut buffer[ready..];
        if rest.is_empty() {
            return Ok(());
        }
        let mut pace = MinimumThroughput::new(Instant::now());
        // Small blocks come through the read-ahead, large ones without a copy.
        while !rest.is_empty() {
            let got = if rest.len() < self.input.len() / 4 {
                self.read_ahead(self.timeouts.silence)?;
                let take = rest.len().min(self.end - self.start);
                rest[..take].copy_from_slice(&self.input[self.start..self.start + take]);
                self.start += take;
                take
            } else {
                self.arm(self.timeouts.silence)?;
                read_some(&self.stream, rest)?
            };
            if got == 0 {
                return Err(WireError::Truncated);
            }
            rest = &mut rest[got..];
            pace.moved(got as u64, Instant::now())?;
        }
        Ok(())
    }

    /// Reads some of the next bytes of a block into `buffer`, at least one: what is there, or what comes first.
    ///
    /// # Errors
    /// [`WireError::Truncated`], or the socket's; silence is [`io::ErrorKind::TimedOut`].
    pub fn read_some_into(&mut self, buffer: &mut [u8]) -> Result<usize, WireError> {
        if self.start == self.end {
            // Small rests come through the read-ahead, large ones without a copy.
            if buffer.len() >= self.input.len() / 4 {
                self.arm(self.timeouts.silence)?;
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

    /// Reads the next frame as a server's message; none where the server closed before it.
    ///
    /// # Errors
    /// As [`Self::read_header`] and [`Self::read_payload`], and what is wrong with the payload.
    pub fn read_reply(&mut self) -> Result<Option<Reply>, WireError> {
        let Some(header) = self.read_header()? else { return Ok(None) };
        self.read_reply_of(header).map(Some)
    }

    /// Reads the rest of a server's message whose header was just read, and shows it to the watcher.
    ///
    /// # Errors
    /// As [`Self::read_payload`], and what is wrong with the payload.
    pub fn read_reply_of(&mut self, header: FrameHeader) -> Result<Reply, WireError> {
        let reply = Reply::decode(header.kind, self.read_payload(header)?)?;
        if let Some(watcher) = &mut self.watched.0 {
            watcher(&reply);
        }
        Ok(reply)
    }

    /// Shows each reply that is read from here on to `watcher`, in place of an earlier one: what servers tell besides their
    /// answers is then looked after in one place, whoever reads the answers.
    pub fn observe_replies(&mut self, watcher: ReplyObserver) {
        self.watched = Watched(Some(watcher));
    }

    /// Reads the next frame as a client's message; none where the client closed before it.
    ///
    /// # Errors
    /// As [`Self::read_reply`].
    pub fn read_request(&mut self) -> Result<Option<Request>, WireError> {
        let Some(header) = self.read_header()? else { return Ok(None) };
        Request::decode(header.kind, self.read_payload(header)?).map(Some)
    }

    /// Reads the next frame as a link's message; none where the peer closed before it.
    ///
    /// # Errors
    /// As [`Self::read_reply`].
    pub fn read_link(&mut self) -> Result<Option<LinkMessage>, WireError> {
        let Some(header) = self.read_header()? else { return Ok(None) };
        LinkMessage::decode(header.kind, self.read_payload(header)?).map(Some)
    }

    /// Leads the proof of a link: sends `hello` and `open` together, gives each frame that comes to `take` until that
    /// yields the last message, and queues it.
    ///
    /// # Errors
    /// Those of `take` and of [`Self::read_header`]; [`WireError::Truncated`] where the peer closes before.
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

    /// Ends the connection so that what was sent last still arrives: says that no more
    /// comes, then reads and drops what the peer is still sending, for at most `patience`.
    pub fn close_gracefully(mut self, patience: Duration) {
        if self.flush().is_err() || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let until = Instant::now() + patience;
        while let Some(left) =
            until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            (self.start, self.end) = (0, 0);
            if !matches!(self.fill(left), Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// Reads more of a control frame, which has its time as a whole.
    fn fill(&mut self, wait: Duration) -> Result<usize, WireError> {
        let partial = self.start < self.end || self.begun.is_some();
        let got = self.read_ahead(wait)?;
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        if partial && now.duration_since(begun) > self.timeouts.frame {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a frame took too long").into());
        }
        Ok(got)
    }

    /// Reads what there is, waiting at most `wait` for the first byte of it.
    fn read_ahead(&mut self, wait: Duration) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.arm(wait)?;
        let got = read_some(&self.stream, &mut self.input[self.end..])?;
        self.end += got;
        Ok(got)
    }

    fn arm(&mut self, wait: Duration) -> io::Result<()> {
        if self.armed != Some(wait) {
            // A time-out of zero would mean none at all.
            self.stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
            self.armed = Some(wait);
        }
        Ok(())
    }
}

/// Connects within `timeout`; [`io::ErrorKind::InvalidInput`] for port 0 or an unspecified address.
pub(crate) fn connect(addr: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    if addr.port() == 0 || addr.ip().is_unspecified() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{addr} is no address to connect to"),
        ));
    }
    TcpStream::connect_timeout(&addr, timeout)
}

fn read_some(mut stream: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
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

/// Sends all of `bytes`, as long as the peer keeps the pace.
fn send_all(mut stream: &Socket, mut bytes: &[u8], pace: &mut MinimumThroughput) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => n,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
            {
                0
            }
            Err(e) => return Err(e),
        };
        bytes = &bytes[sent..];
        if !bytes.is_empty() {
            pace.moved(sent as u64, Instant::now())?;
        }
    }
    Ok(())
}
