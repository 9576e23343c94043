//! An open byte stream, plain or encrypted, with the addresses of its connection.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{SpliceFlags, splice};
use socket2::{SockRef, Socket, TcpKeepalive};

use crate::readiness;
use crate::tls::{ChannelBinding, Resumption, TlsSession};

/// Most reads of one call of [`Stream::discard_input`]: 16 MiB, more than a socket's buffer.
const MAX_DISCARDS: usize = 1024;

/// An open TCP connection, whose bytes are plain or encrypted.
///
/// Two threads can use it at once, one that reads and one that writes; any thread can shut it down.
/// It is dropped with a closing alert if it is encrypted.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<TlsSession>>,
    /// The address of the client; behind a trusted proxy the one that the proxy names.
    pub peer: SocketAddr,
    /// The address of the trusted proxy, if the connection comes from one.
    pub proxied: Option<SocketAddr>,
    /// The local address, as the peer reached it.
    pub local: SocketAddr,
    /// Whether this side has shut down the receiving side.
    reading_ended: AtomicBool,
}

impl Stream {
    /// Takes over an open TCP connection and sets it to blocking mode.
    ///
    /// # Errors
    /// Errors of the socket calls.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        stream.set_nonblocking(false)?;
        Self::new(stream, peer, local)
    }

    /// Takes over an open TCP connection of one transfer in its present mode, with its addresses.
    ///
    /// Its end sends what waits for more bytes, and its owner ends it if it makes no progress. So
    /// it needs neither TCP_NODELAY nor TCP keepalive.
    #[must_use]
    pub fn for_transfer(stream: TcpStream, peer: SocketAddr, local: SocketAddr) -> Self {
        let reading_ended = AtomicBool::new(false);
        Self { socket: stream.into(), tls: None, peer, proxied: None, local, reading_ended }
    }

    /// Takes over an open TCP connection in its present mode.
    ///
    /// Turns on TCP_NODELAY for small frames, and TCP keepalive to detect a vanished peer.
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, local: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Self::for_transfer(stream, peer, local))
    }

    /// Sets the address that a trusted proxy has named; none if the proxy speaks for itself.
    pub(crate) fn set_client(&mut self, client: Option<SocketAddr>) {
        if let Some(client) = client {
            self.proxied = Some(std::mem::replace(&mut self.peer, client));
        }
    }

    /// Encrypts everything from here on. The handshake runs while the stream is read.
    pub(crate) fn encrypt(&mut self, tls: TlsSession) {
        self.tls = Some(Box::new(tls));
    }

    /// Returns the TLS sessions of this side, and whether this connection has resumed one.
    pub(crate) fn resumption(&self) -> Option<(&Arc<Resumption>, bool)> {
        self.tls.as_ref()?.resumption()
    }

    /// Runs the handshake, at most until `until`; returns the state of the TLS library.
    pub(crate) fn shake_hands(&mut self, until: Instant) -> io::Result<&rustls::Connection> {
        let tls = self.tls.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        tls.shake_hands(&self.socket, until)?;
        Ok(tls.tls())
    }

    /// Continues the handshake, if there is one, as far as the socket allows.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it has not ended; the reason why it failed.
    pub fn continue_handshake(&self) -> io::Result<()> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.continue_handshake(&self.socket))
    }

    /// An entry to wait until [`Self::continue_handshake`] can make progress.
    #[must_use]
    pub fn handshake_fd(&self) -> PollFd<'_> {
        self.poll_fd(self.tls.as_ref().map_or(PollFlags::IN, |tls| tls.handshake_needs()))
    }

    /// Whether its TLS session resumes an earlier one.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumption().is_some_and(|(_, is_resumed)| is_resumed)
    }

    /// Returns the channel binding; none without encryption or before the end of the handshake.
    pub(crate) fn binding(&self) -> io::Result<Option<ChannelBinding>> {
        self.tls.as_ref().map_or(Ok(None), |tls| tls.binding())
    }

    /// Whether bytes are ready that were received and decrypted.
    ///
    /// Only the thread that reads calls it.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_input(&self.socket))
    }

    pub(crate) fn set_blocking(&self) -> io::Result<()> {
        self.set_nonblocking(false)
    }

    /// Has reads and sends fail with [`io::ErrorKind::WouldBlock`] instead of waiting, or wait.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether its bytes are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Sends bytes and returns the number of those that the socket has accepted.
    ///
    /// With `MORE` the last bytes may wait for others or for the end, if they are not encrypted.
    ///
    /// Encrypted bytes may be accepted in part. So the next call has to send the rest again, and
    /// may append to it.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::WouldBlock`] if it accepts nothing in time, or at
    /// once with `DONTWAIT`.
    pub fn send(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        match &self.tls {
            Some(tls) => tls.send(&self.socket, bytes, flags),
            None => Ok(rustix::net::send(&self.socket, bytes, flags | SendFlags::NOSIGNAL)?),
        }
    }

    /// Sends bytes of `file` from `at` on without a copy, and advances `at`; 0 at its end.
    ///
    /// # Errors
    /// As the system call `sendfile`; [`Errno::OPNOTSUPP`](rustix::io::Errno::OPNOTSUPP) if the
    /// stream is encrypted.
    pub fn send_file(&self, file: &File, at: &mut u64, len: usize) -> rustix::io::Result<usize> {
        match self.tls {
            Some(_) => Err(rustix::io::Errno::OPNOTSUPP),
            None => rustix::fs::sendfile(&self.socket, file, Some(at), len),
        }
    }

    /// Moves received bytes to a pipe without a copy; returns 0 at their end. It waits as a read.
    ///
    /// # Errors
    /// As the system call `splice`; [`Errno::OPNOTSUPP`](rustix::io::Errno::OPNOTSUPP) if the
    /// stream is encrypted.
    pub fn receive_into(&self, pipe: BorrowedFd<'_>, most: usize) -> rustix::io::Result<usize> {
        match self.tls {
            Some(_) => Err(rustix::io::Errno::OPNOTSUPP),
            None => splice(&self.socket, None, pipe, None, most, SpliceFlags::NONBLOCK),
        }
    }

    /// Waits for `flags`, an error or a hang-up, at most `timeout`; returns what has come.
    ///
    /// It looks at the socket. [`Connection::has_input`](crate::Connection::has_input) looks at
    /// bytes that were received already.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn poll(&self, flags: PollFlags, timeout: Option<Duration>) -> io::Result<PollFlags> {
        readiness::poll(&self.socket, flags, timeout)
    }

    /// An entry to wait for this stream and for others; see [`Self::poll`].
    #[must_use]
    pub fn poll_fd(&self, flags: PollFlags) -> PollFd<'_> {
        PollFd::new(&self.socket, flags)
    }

    /// Whether the peer has closed the connection or its sending side.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        self.poll(PollFlags::RDHUP, Some(Duration::ZERO)).is_ok_and(|came| came.intersects(gone))
    }

    /// Whether this side has shut down the receiving side, with [`Self::shutdown`].
    #[must_use]
    pub fn has_ended_reading(&self) -> bool {
        self.reading_ended.load(Ordering::Relaxed)
    }

    /// Has urgent bytes (TCP) stay in their place among the others.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn keep_urgent_bytes_inline(&self) -> io::Result<()> {
        self.socket.set_out_of_band_inline(true)
    }

    /// Limits the wait of each read; none means without limit.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// Limits the wait of each send; none means without limit.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// Enlarges the send buffer for a long line, if the system allows more than it gives by itself.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn enlarge_send_buffer(&self) -> io::Result<()> {
        crate::send_buffer::enlarge(&self.socket)
    }

    /// Shuts down one or both sides, and wakes threads that are blocked on it.
    ///
    /// A shutdown of the sending side alone waits until the socket accepts the closing alert. Any
    /// other returns at once.
    ///
    /// # Errors
    /// Errors of the socket, for example because the peer has closed first.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Write => return self.end_sending(SendFlags::empty()),
            Shutdown::Read => {}
            Shutdown::Both => {
                // The alert gets lost if the socket is full.
                let _ = self.send_closing_alert(SendFlags::DONTWAIT);
            }
        }
        self.reading_ended.store(true, Ordering::Relaxed);
        self.socket.shutdown(how)
    }

    /// Sends the closing alert and shuts down the sending side.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::WouldBlock`] if it does not accept the alert in time,
    /// or at once with `DONTWAIT`.
    pub fn end_sending(&self, flags: SendFlags) -> io::Result<()> {
        self.send_closing_alert(flags)?;
        self.socket.shutdown(Shutdown::Write)
    }

    /// Has the connection end by a reset when it is dropped, without a closing alert.
    ///
    /// The peer gets an error instead of the end of the data.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn reset_when_dropped(&mut self) -> io::Result<()> {
        self.tls = None;
        self.socket.set_linger(Some(Duration::ZERO))
    }

    /// Has the end of this stream wait until the peer's system has acknowledged all that was sent,
    /// at most for a time.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn wait_when_dropped(&self, most: Duration) -> io::Result<()> {
        self.socket.set_linger(Some(most))
    }

    fn send_closing_alert(&self, flags: SendFlags) -> io::Result<()> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.close(&self.socket, flags))
    }

    /// Drops what has been received, until the end of the input or a bound.
    ///
    /// Unread input would make the kernel reset the connection before the last message arrives.
    /// After this call nothing can be read.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::WouldBlock`] if more may come.
    pub fn discard_input(&self) -> io::Result<()> {
        let mut sink = [0; 16 * 1024];
        for _ in 0..MAX_DISCARDS {
            if rustix::net::recv(&self.socket, &mut sink[..], RecvFlags::DONTWAIT)?.0 == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Read for &Stream {
    /// Reads bytes; [`io::ErrorKind::WouldBlock`] after the read timeout.
    ///
    /// The end of encrypted input is [`io::ErrorKind::UnexpectedEof`], unless the peer has
    /// announced
    /// it or this side has shut down the receiving side.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&self.socket).read(buffer),
            Some(tls) => tls.read(&self.socket, buffer).or_else(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof if self.reading_ended.load(Ordering::Relaxed) => Ok(0),
                _ => Err(e),
            }),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, SendFlags::empty())
    }

    /// Does nothing, because each write sends.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The alert gets lost if the socket is full or closed.
        let _ = self.send_closing_alert(SendFlags::DONTWAIT);
    }
}
