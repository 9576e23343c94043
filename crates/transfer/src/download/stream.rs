//! Download of a content to a sink that cannot take bytes back, such as standard output.
//!
//! Each block is passed on as soon as it arrives, and hashed on the way. Nothing is stored, so
//! content of any size works. The stream succeeds only if the digest of all bytes is that of the
//! content. If a server fails, another one continues with the next byte of the same content, and no
//! byte is passed on twice. Several sessions may fetch the rest of a large content ([`ordered`]).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Connection;
use relais_proto::limits::PIECE;
use relais_proto::{Digest, ErrorCode, GetRequest, Refusal, TreePath};

use super::ordered::{self, OrderedJob};
use super::requests;
use super::streams::per_second;
use super::striping::{Continuation, Striping};
use crate::action::Purpose;
use crate::error::{Fault, TransferError};
use crate::exchange::read_content;
use crate::failover::{Failover, Try};
use crate::progress::{Progress, Resume};
use crate::sessions::Sessions;

/// Bytes of one read; the server's block size cannot be trusted.
const READ_SIZE: usize = 256 * 1024;

/// The receiver of the bytes of a stream; its error ends the stream.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), TransferError>;

/// The result of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedStream {
    /// Size of the content in bytes.
    pub size: u64,
    /// Servers that sent content, in the order of their first byte.
    pub servers: Vec<SocketAddr>,
}

/// Passes the content of `path` to `sink`.
///
/// [`Progress::moved`] is called before each further try.
///
/// # Errors
/// See [`TransferError`]; the sink may have received a part of the content.
pub fn stream(
    sessions: &mut dyn Sessions,
    path: &TreePath,
    sink: Sink<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedStream, TransferError> {
    let mut failover = Failover::new(sessions.retry());
    let mut stream = ContentStream {
        path,
        sink,
        out: 0,
        hasher: blake3::Hasher::new(),
        content: None,
        asked: None,
        servers: Vec::new(),
        buffer: Vec::new(),
        striping: None,
        sink_time: Duration::ZERO,
    };
    loop {
        let before = stream.out;
        let Err(fault) = stream.run_once(sessions, progress, &mut failover) else {
            return Ok(CompletedStream { size: stream.out, servers: stream.servers });
        };
        if stream.out > before {
            failover.arrived();
        }
        failover.gained(stream.out - before);
        let tried = Try {
            purpose: Purpose::Read,
            server: stream.asked,
            // Blocks may still arrive on this connection.
            unfinished: !matches!(fault, Fault::Refused(_) | Fault::Elsewhere(_)),
            repeatable: true,
            interrupted: &|| progress.interrupted(),
        };
        failover.recover(sessions, fault, &tried)?;
    }
}

/// The bytes so far, and the content that they belong to.
struct ContentStream<'a> {
    path: &'a TreePath,
    sink: Sink<'a>,
    /// Number of bytes that the sink has received.
    out: u64,
    hasher: blake3::Hasher,
    /// The content that the first header announced.
    content: Option<Resume>,
    /// Server of the last request.
    asked: Option<SocketAddr>,
    servers: Vec<SocketAddr>,
    buffer: Vec<u8>,
    /// Decides whether several sessions fetch the rest.
    striping: Option<Striping>,
    /// Time that the sink has taken.
    sink_time: Duration,
}

impl ContentStream<'_> {
    /// Receives the rest of the content from one server, which may not know it by its identity.
    fn run_once(
        &mut self,
        sessions: &mut dyn Sessions,
        progress: &mut dyn Progress,
        failover: &mut Failover,
    ) -> Result<(), Fault> {
        let round_trip = sessions.connection()?.round_trip();
        if self.striping.is_none() {
            self.striping = Some(Striping::new(sessions.streams(), round_trip));
        }
        let from = sessions.connection()?;
        if let Some(before) = self.asked.replace(from.peer()) {
            progress.moved(before, from.peer(), self.out);
        }
        loop {
            let (before, begun) = (self.out, Instant::now());
            self.sink_time = Duration::ZERO;
            match self.receive(from, failover) {
                Err(Fault::Refused(refusal))
                    if refusal.code == ErrorCode::Changed && self.out > 0 =>
                {
                    self.find_by_digest(from, refusal)?;
                    continue;
                }
                received => received?,
            }
            let time = begun.elapsed().saturating_sub(self.sink_time);
            self.continue_striped(per_second(self.out - before, time), progress)?;
            if self.missing() == 0 {
                return self.verify_digest();
            }
        }
    }

    /// Returns how many bytes are to come.
    fn missing(&self) -> u64 {
        self.content.as_ref().map_or(0, |content| content.size.saturating_sub(self.out))
    }

    /// Has several sessions fetch the rest, if that is faster; `rate` is that of the last segment.
    fn continue_striped(
        &mut self,
        rate: u64,
        progress: &mut dyn Progress,
    ) -> Result<(), TransferError> {
        let missing = self.missing();
        let (Some(striping), Some(content)) = (&mut self.striping, &self.content) else {
            return Ok(());
        };
        let (Some(digest), true) = (content.digest, missing > 0 && self.out.is_multiple_of(PIECE))
        else {
            return Ok(());
        };
        let (path, size, first) = (self.path.clone(), content.size, self.out / PIECE);
        let Some(next) = striping.after_segment(&path, content, (rate, missing))? else {
            return Ok(());
        };
        let Continuation { source, streams, values } = next;
        debug!("{path}: {streams} streams fetch the rest");
        let mut sink = |bytes: &[u8]| {
            (self.sink)(bytes)?;
            self.hasher.update(bytes);
            self.out += bytes.len() as u64;
            Ok(())
        };
        let job = OrderedJob { path, size, digest, values, first };
        for server in ordered::pass_on(job, &source, streams, &mut sink, progress)? {
            if !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
        Ok(())
    }

    /// Receives the next segment of the content, or its rest, from one server.
    fn receive(&mut self, from: &mut Connection, failover: &mut Failover) -> Result<(), Fault> {
        if self.out == 0 {
            // No byte was written yet, so any version of the content is fine.
            self.content = None;
        }
        let if_match = requests::if_match(self.content.as_ref());
        let (path, offset) = (self.path.clone(), self.out);
        let length = self
            .striping
            .as_ref()
            .map_or(u64::MAX, |striping| striping.segment(offset, self.content.as_ref()));
        let request = GetRequest { path, offset, length, if_match };
        let header = requests::ask_for_content(from, &request)?;
        let other = |_| Fault::Violation("it sends other content than requested".to_owned());
        self.content = Some(requests::learn(self.content.take(), &header).map_err(other)?);
        failover.served_by(from.peer());
        if self.servers.last() != Some(&from.peer()) {
            self.servers.push(from.peer());
        }
        let digest = read_content(from, &header, |from, length| {
            length.map_or(Ok(()), |length| self.block(from, length))
        })?;
        self.learn_digest(digest)
    }

    /// Reads a block of `left` bytes and passes it on.
    fn block(&mut self, from: &mut Connection, mut left: usize) -> Result<(), Fault> {
        self.buffer.resize(READ_SIZE.min(left.max(self.buffer.len())), 0);
        while left > 0 {
            let step = left.min(self.buffer.len());
            let bytes = &mut self.buffer[..step];
            from.read_exact_into(bytes)?;
            let begun = Instant::now();
            (self.sink)(bytes)?;
            self.sink_time += begun.elapsed();
            self.hasher.update(bytes);
            self.out += step as u64;
            left -= step;
        }
        Ok(())
    }

    /// Records the digest at the end of an answer, which has to be the known one.
    fn learn_digest(&mut self, digest: Digest) -> Result<(), Fault> {
        let known = self.content.as_mut().map(|content| *content.digest.get_or_insert(digest));
        if known.is_some_and(|known| known != digest) {
            return Err(Fault::Violation("it sends two different digests".to_owned()));
        }
        Ok(())
    }

    /// Checks that the written bytes have the digest of the content.
    fn verify_digest(&self) -> Result<(), Fault> {
        let known = self.content.as_ref().and_then(|content| content.digest);
        if known.is_some_and(|known| *self.hasher.finalize().as_bytes() == known.0) {
            return Ok(());
        }
        let why = "the output is damaged: its digest differs from that of the content";
        Err(TransferError::refused(ErrorCode::Damaged, why).into())
    }

    /// Asks the server for the digest if it does not know the content by its identity.
    ///
    /// This helps only while no digest was known. The digest of all written bytes decides in the
    /// end.
    fn find_by_digest(&mut self, from: &mut Connection, refusal: Refusal) -> Result<(), Fault> {
        let found = match self.content.as_mut().filter(|content| content.digest.is_none()) {
            Some(content) => requests::identify(from, self.path, content),
            None => Err(Fault::Refused(refusal)),
        };
        match found {
            Err(Fault::Refused(refusal)) if refusal.code == ErrorCode::Changed => {
                debug!("{}: {refusal}", self.path);
                let why = "the file was replaced during the transfer; the output is incomplete";
                Err(TransferError::refused(ErrorCode::Changed, why).into())
            }
            found => found,
        }
    }
}
