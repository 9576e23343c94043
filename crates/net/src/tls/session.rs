//! The TLS state of one connection, shared by the threads that read and write it.
//!
//! Each thread encrypts what it writes and decrypts what it reads. No thread waits for the peer
//! while it holds the lock of the state. It would stop the other thread of the connection, and both
//! ends could wait for each other.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use relais_proto::limits;
use rustix::event::PollFlags;
use rustix::net::SendFlags;
use rustls::{HandshakeKind, ProtocolVersion};
use socket2::Socket;

use super::info::{self, ChannelBinding};
use super::resumption::Resumption;
use crate::readiness::poll;

/// First size of the input buffer. It is small, because many connections are idle.
const FIRST_INPUT: usize = 4 * 1024;
/// Size of the input buffer after it was full once.
const LARGE_INPUT: usize = 64 * 1024;
/// Most bytes of plain text that are encrypted ahead of the socket.
const CHUNK: usize = 64 * 1024;

/// A TLS connection, from the start of its handshake.
#[derive(Debug)]
pub(crate) struct TlsSession {
    state: Mutex<TlsState>,
    /// Locked before the state, by the thread that reads, also while it waits.
    input: Mutex<EncryptedInput>,
    /// The sessions that later connections can resume; none without resumption.
    resumption: Option<Arc<Resumption>>,
}

#[derive(Debug)]
struct TlsState {
    tls: rustls::Connection,
    /// Received bytes of the handshake.
    handshake: usize,
    /// The plain text that was encrypted and is not sent yet.
    chunk: Chunk,
}

/// Progress of a piece of plain text.
#[derive(Debug, Default)]
struct Chunk {
    len: usize,
    /// Bytes that the caller knows as sent.
    reported: usize,
    /// Encrypted bytes that were sent.
    sent: usize,
}

/// Encrypted bytes from the peer.
#[derive(Debug, Default)]
struct EncryptedInput {
    buffer: Vec<u8>,
    /// The part that is not decrypted yet.
    ready: Range<usize>,
}

impl TlsSession {
    pub fn new(mut tls: rustls::Connection, resumption: Option<Arc<Resumption>>) -> Self {
        // The output is bounded by the size of a chunk.
        tls.set_buffer_limit(None);
        let state = TlsState { tls, handshake: 0, chunk: Chunk::default() };
        Self { state: Mutex::new(state), input: Mutex::default(), resumption }
    }

    /// Returns the sessions of this side, and whether this connection has resumed one.
    pub fn resumption(&self) -> Option<(&Arc<Resumption>, bool)> {
        let kind = self.state.lock().tls.handshake_kind();
        Some((self.resumption.as_ref()?, kind == Some(HandshakeKind::Resumed)))
    }

    /// The state of the TLS library.
    pub fn tls(&mut self) -> &rustls::Connection {
        &self.state.get_mut().tls
    }

    /// Runs the handshake until both sides have keys, or fails at `until`.
    pub fn shake_hands(&self, socket: &Socket, until: Instant) -> io::Result<()> {
        let (mut input, mut state) = (self.input.lock(), self.state.lock());
        while state.tls.is_handshaking() || state.tls.wants_write() {
            let wanted = match state.send(socket) {
                Ok(()) if state.tls.is_handshaking() => PollFlags::IN,
                Ok(()) => break,
                Err(e) if e.kind() == ErrorKind::WouldBlock => PollFlags::OUT,
                Err(e) => return Err(e),
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(ErrorKind::TimedOut, "the handshake took too long"));
            }
            if !poll(socket, wanted, Some(left))?.is_empty() && wanted == PollFlags::IN {
                input.receive(socket)?;
                while state.tls.is_handshaking() && !input.ready.is_empty() {
                    state.take_in(socket, &mut input)?;
                    self.note_resumption(&state);
                }
            }
        }
        Ok(())
    }

    /// Confirms the resumption as soon as it is known, which is before new tickets are issued.
    fn note_resumption(&self, state: &TlsState) {
        if let Some(resumption) = &self.resumption
            && state.tls.handshake_kind() == Some(HandshakeKind::Resumed)
        {
            resumption.confirm();
        }
    }

    /// Continues the handshake without waiting, until both sides have keys.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if the non-blocking socket has to become ready first.
    pub fn continue_handshake(&self, socket: &Socket) -> io::Result<()> {
        let (mut input, mut state) = (self.input.lock(), self.state.lock());
        loop {
            if self.holds_output(&state) {
                return Ok(());
            }
            state.send(socket)?;
            if !state.tls.is_handshaking() {
                return Ok(());
            }
            if input.ready.is_empty() {
                input.receive(socket)?;
            }
            state.take_in(socket, &mut input)?;
            self.note_resumption(&state);
        }
    }

    /// Whether all that is left to send are tickets, which wait for the closing alert.
    ///
    /// With TLS 1.2 the tickets precede the end of the handshake.
    fn holds_output(&self, state: &TlsState) -> bool {
        !state.tls.is_handshaking()
            && state.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && self.resumption.as_ref().is_some_and(|resumption| resumption.holds_tickets())
    }

    /// Returns what the socket has to be ready for before the handshake can continue.
    pub fn handshake_needs(&self) -> PollFlags {
        match self.state.lock().tls.wants_write() {
            true => PollFlags::OUT,
            false => PollFlags::IN,
        }
    }

    /// Returns the channel binding; none before the end of the handshake.
    pub fn binding(&self) -> io::Result<Option<ChannelBinding>> {
        let state = self.state.lock();
        (!state.tls.is_handshaking()).then(|| info::binding(&state.tls)).transpose()
    }

    /// Whether received bytes of plain text are ready. Only the thread that reads calls it.
    pub fn has_input(&self, socket: &Socket) -> bool {
        let (mut input, mut state) = (self.input.lock(), self.state.lock());
        state.decrypt(socket, &mut input).is_ok_and(|ready| ready)
            && state.tls.reader().fill_buf().is_ok_and(|plain| !plain.is_empty())
    }

    /// Reads plain text, as from the socket. The end is an error unless the peer has announced it.
    pub fn read(&self, socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        let mut input = self.input.lock();
        loop {
            let mut state = self.state.lock();
            let mut filled = 0;
            while filled < buffer.len() {
                match state.decrypt(socket, &mut input) {
                    Ok(true) => match state.tls.reader().read(&mut buffer[filled..])? {
                        0 => return Ok(filled),
                        n => filled += n,
                    },
                    Err(e) if filled == 0 => return Err(e),
                    // A later read fails again.
                    Ok(false) | Err(_) => break,
                }
            }
            if filled > 0 || buffer.is_empty() {
                return Ok(filled);
            }
            if state.tls.is_handshaking() {
                state.send(socket)?;
            }
            drop(state);
            input.receive(socket)?;
        }
    }

    /// Sends plain text, as [`Stream::send`](crate::Stream::send) does.
    pub fn send(&self, socket: &Socket, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        loop {
            let sent = {
                let mut state = self.state.lock();
                if state.chunk.len == 0 {
                    let len = state.tls.writer().write(&bytes[..bytes.len().min(CHUNK)])?;
                    if len == 0 {
                        return Ok(0);
                    }
                    state.chunk.len = len;
                }
                let sent = state.send(socket);
                let done = state.take_progress(bytes.len());
                if done > 0 {
                    return Ok(done);
                }
                sent
            };
            wait_for_room(socket, sent, flags)?;
        }
    }

    /// Sends the closing alert, after all that was encrypted before.
    pub fn close(&self, socket: &Socket, flags: SendFlags) -> io::Result<()> {
        loop {
            let sent = {
                let mut state = self.state.lock();
                state.tls.send_close_notify();
                state.send(socket)
            };
            if sent.is_ok() {
                return sent;
            }
            wait_for_room(socket, sent, flags)?;
        }
    }
}

impl TlsState {
    /// Decrypts until plain text or the end is ready; false if more bytes have to be received.
    fn decrypt(&mut self, socket: &Socket, input: &mut EncryptedInput) -> io::Result<bool> {
        loop {
            match self.tls.reader().fill_buf() {
                Ok(_) => return Ok(true),
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
                Err(_) if input.ready.is_empty() => return Ok(false),
                Err(_) => self.take_in(socket, input)?,
            }
        }
    }

    /// Passes received bytes to the TLS library, and decrypts the records that are complete.
    fn take_in(&mut self, socket: &Socket, input: &mut EncryptedInput) -> io::Result<()> {
        let mut rest = &input.buffer[input.ready.clone()];
        let taken = self.tls.read_tls(&mut rest)?;
        if self.tls.is_handshaking() {
            // Incomplete messages are buffered, and thousands of peers may each send some.
            self.handshake += taken;
            if self.handshake > limits::HANDSHAKE {
                return Err(io::Error::new(ErrorKind::InvalidData, "a handshake is too long"));
            }
        }
        if let Err(e) = self.tls.process_new_packets() {
            // Sends the alert that tells why, if it fits into the socket.
            let _ = self.send(socket);
            return Err(info::other(e));
        }
        input.ready.start += taken;
        Ok(())
    }

    /// Sends encrypted bytes, as far as the socket accepts them at once.
    fn send(&mut self, socket: &Socket) -> io::Result<()> {
        while self.tls.wants_write() {
            self.chunk.sent += self.tls.write_tls(&mut WithoutWait(socket))?;
        }
        Ok(())
    }

    /// Returns the bytes of plain text that were sent since the last call, at most `most`.
    ///
    /// The last byte counts only when all encrypted bytes are sent.
    fn take_progress(&mut self, most: usize) -> usize {
        let Chunk { len, reported, sent } = self.chunk;
        let done = if self.tls.wants_write() { sent.min(len - 1) } else { len };
        let done = done.saturating_sub(reported).min(most);
        if reported + done == len {
            self.chunk = Chunk::default();
        } else {
            self.chunk.reported += done;
        }
        done
    }
}

impl EncryptedInput {
    /// Receives more bytes, as the socket does; the end is an error.
    fn receive(&mut self, socket: &Socket) -> io::Result<()> {
        let len = match self.buffer.len() {
            0 => FIRST_INPUT,
            len if self.ready.end == len => LARGE_INPUT,
            len => len,
        };
        if len != self.buffer.len() {
            self.buffer = vec![0; len];
        }
        match (&mut &*socket).read(&mut self.buffer) {
            Ok(0) => {
                const CUT: &str = "the peer closed without a closing alert";
                Err(io::Error::new(ErrorKind::UnexpectedEof, CUT))
            }
            Ok(n) => {
                self.ready = 0..n;
                Ok(())
            }
            Err(e) => {
                // A connection before its login, or an idle one, needs no buffer while it waits.
                *self = Self::default();
                Err(e)
            }
        }
    }
}

/// Waits until the socket accepts more after `sent` has failed, at most the socket's timeout.
fn wait_for_room(socket: &Socket, sent: io::Result<()>, flags: SendFlags) -> io::Result<()> {
    match sent {
        Err(e) if e.kind() == ErrorKind::WouldBlock && !flags.contains(SendFlags::DONTWAIT) => {
            match poll(socket, PollFlags::OUT, socket.write_timeout()?)?.is_empty() {
                true => Err(e),
                false => Ok(()),
            }
        }
        other => other,
    }
}

/// Writes what the socket accepts at once, whatever its mode is.
struct WithoutWait<'a>(&'a Socket);

impl WithoutWait<'_> {
    const FLAGS: i32 = (SendFlags::DONTWAIT.bits() | SendFlags::NOSIGNAL.bits()).cast_signed();
}

impl Write for WithoutWait<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_with_flags(bytes, Self::FLAGS)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored_with_flags(parts, Self::FLAGS)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
