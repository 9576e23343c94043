//! Streaming of content to standard output: `cat` and `get -o -`.
//!
//! Each block is written as soon as it arrives, and hashed on the way. Nothing is stored, so
//! content of any size works, but written bytes cannot be taken back. The command succeeds only if
//! the digest of all written bytes is that of the content. If a server fails, another one continues
//! with the next byte of the same content, and no byte is written twice.

use std::net::SocketAddr;
use std::time::Instant;

use log::debug;
use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, Endpoint, ErrorCode, FrameType, GetRequest, IfMatch, Refusal, Reply,
    Request, TreePath, WireError, limits,
};
use relais_transfer::download::{DownloadError, Redirects, Sessions};

use crate::error::why_gone;
use crate::outcome::Received;
use crate::output::Output;
use crate::shell::Shell;
use crate::{Failure, Result};

/// Most consecutive failures of servers without a byte of content.
const MAX_FAILURES: u32 = 16;
/// Bytes of one read; the server's block size cannot be trusted.
const READ_SIZE: usize = 256 * 1024;

/// The bytes written so far, and the content that they belong to.
struct OutputStream {
    out: u64,
    hasher: blake3::Hasher,
    content: Option<StreamedContent>,
    servers: Vec<SocketAddr>,
    buffer: Vec<u8>,
}

/// The content that the first header announced.
#[derive(Clone, Copy)]
struct StreamedContent {
    size: u64,
    digest: Option<Digest>,
    wanted: IfMatch,
}

/// Why one server did not send the content to its end.
enum StreamError {
    /// Another server may send the rest.
    ServerLost(String),
    /// The server does not know the content by the name used so far.
    Changed(Refusal),
    /// The server does not have the content yet; these slaves have it.
    Elsewhere(Vec<Endpoint>),
    /// The server is behind the LSN that the session has seen.
    Behind(Refusal),
    /// The server broke the protocol.
    Protocol(String),
    /// No server can send the rest.
    Failed(Failure),
}

impl From<WireError> for StreamError {
    fn from(error: WireError) -> Self {
        match &error {
            WireError::Io(_) | WireError::Truncated => Self::ServerLost(why_gone(&error)),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<std::io::Error> for StreamError {
    fn from(error: std::io::Error) -> Self {
        WireError::Io(error).into()
    }
}

impl Shell {
    /// Writes the content of `path` to standard output.
    ///
    /// # Errors
    /// See [`Failure`]; part of the content may have been written.
    pub fn show(&mut self, path: &TreePath) -> Result<Received> {
        let begun = Instant::now();
        let mut stream = OutputStream {
            out: 0,
            hasher: blake3::Hasher::new(),
            content: None,
            servers: Vec::new(),
            buffer: Vec::new(),
        };
        self.stream(path, &mut stream)?;
        self.output.flush()?;
        Ok(Received {
            remote: path.to_string(),
            local: "-".to_owned(),
            bytes: stream.out,
            time: begun.elapsed(),
            slaves: stream.servers.iter().map(ToString::to_string).collect(),
            resumed_from: 0,
        })
    }

    fn stream(&mut self, path: &TreePath, stream: &mut OutputStream) -> Result<()> {
        self.session.connect()?;
        let (mut failures, mut why, mut redirects) = (0, String::new(), Redirects::new());
        let interrupt = self.interrupt.clone();
        while failures < MAX_FAILURES {
            let connection =
                self.session.connection().map_err(|error| unreachable(error, stream.out))?;
            if let Some(gone) = self.notices.take_lost() {
                let (out, peer) = (stream.out, connection.peer());
                self.notices.say(&format!(
                    "lost {} ({}); resuming at byte {out} from {peer}",
                    gone.addr, gone.why
                ));
            }
            let before = stream.out;
            let error = match stream.receive(connection, path, &mut self.output) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if self.interrupt.is_raised() {
                self.session.drop_connection();
                return Err(Failure::interrupted());
            }
            let error = match error {
                StreamError::Changed(refusal) => stream.find_by_digest(connection, path, refusal),
                other => Err(other),
            };
            if stream.out > before {
                redirects.arrived();
            }
            match error {
                Ok(()) => {}
                Err(StreamError::Elsewhere(holders)) => {
                    redirects.elsewhere(&mut self.session, &holders, &|| interrupt.is_raised())?;
                    continue;
                }
                Err(StreamError::Behind(refusal)) => {
                    if !redirects
                        .behind(&mut self.session, &refusal.message, &|| interrupt.is_raised())
                    {
                        return Err(refusal.into());
                    }
                    continue;
                }
                Err(StreamError::Failed(failure)) => {
                    // Blocks may still arrive on this connection.
                    self.session.abandon();
                    return Err(failure);
                }
                Err(StreamError::ServerLost(reason) | StreamError::Protocol(reason)) => {
                    self.session.failed(&reason);
                    why = reason;
                }
                Err(StreamError::Changed(refusal)) => return Err(refusal.into()),
            }
            failures = if stream.out > before { 0 } else { failures + 1 };
        }
        Err(failure!(Cut, "cut at byte {}: {why}", stream.out))
    }
}

impl OutputStream {
    /// Receives the rest of the content from one server.
    fn receive(
        &mut self,
        from: &mut Connection,
        path: &TreePath,
        output: &mut Output,
    ) -> Result<(), StreamError> {
        if self.out == 0 {
            // No byte was written yet, so any version of the content is fine.
            self.content = None;
        }
        let wanted = self.content.map_or(IfMatch::Any, |content| content.wanted);
        from.queue(&Request::Get(GetRequest {
            path: path.clone(),
            offset: self.out,
            length: u64::MAX,
            if_match: wanted,
        }));
        from.flush()?;
        let header = match answer(from)? {
            Reply::ContentHeader(header) => self.check(header)?,
            Reply::Elsewhere { holders } => return Err(StreamError::Elsewhere(holders)),
            Reply::Error(refusal) => return Err(self.refused(refusal)),
            other => return Err(unexpected(&other)),
        };
        if self.servers.last() != Some(&from.peer()) {
            self.servers.push(from.peer());
        }
        let mut left = header.length;
        while left > 0 {
            let length =
                u32::try_from(left).map_or(header.block_size, |left| left.min(header.block_size));
            self.block(from, length, output)?;
            left -= u64::from(length);
        }
        match answer(from)? {
            Reply::End { digest } => self.verify_digest(digest),
            Reply::Error(refusal) => Err(self.refused(refusal)),
            other => Err(unexpected(&other)),
        }
    }

    /// Checks the header, and that it belongs to the content written so far.
    fn check(&mut self, header: ContentHeader) -> Result<ContentHeader, StreamError> {
        if header.offset != self.out || header.length != header.size.saturating_sub(self.out) {
            return Err(StreamError::Protocol("it sends another range than requested".to_owned()));
        }
        if header.block_size == 0 || header.block_size > limits::BLOCK_MAX {
            return Err(StreamError::Protocol(format!(
                "its blocks have {} bytes",
                header.block_size
            )));
        }
        let known = self.content.unwrap_or(StreamedContent {
            size: header.size,
            digest: header.digest,
            wanted: IfMatch::Any,
        });
        if known.size != header.size
            || matches!((known.digest, header.digest), (Some(a), Some(b)) if a != b)
        {
            return Err(StreamError::Protocol("it sends other content than requested".to_owned()));
        }
        let digest = known.digest.or(header.digest);
        let wanted = digest.map_or(IfMatch::Identity(header.identity), IfMatch::Digest);
        self.content = Some(StreamedContent { size: header.size, digest, wanted });
        Ok(header)
    }

    /// Reads the next block of exactly `length` bytes and writes it.
    fn block(
        &mut self,
        from: &mut Connection,
        length: u32,
        output: &mut Output,
    ) -> Result<(), StreamError> {
        loop {
            let header = from.read_header()?.ok_or_else(closed)?;
            if header.kind == FrameType::Block && header.len == length {
                break;
            }
            if header.kind == FrameType::Block {
                return Err(StreamError::Protocol("a block has the wrong length".to_owned()));
            }
            match from.read_reply_of(header)? {
                Reply::Wait(_) | Reply::MasterUnreachable { .. } => {}
                Reply::Error(refusal) => return Err(self.refused(refusal)),
                other => return Err(unexpected(&other)),
            }
        }
        let mut left = length as usize;
        self.buffer.resize(READ_SIZE.min(left.max(self.buffer.len())), 0);
        while left > 0 {
            let step = left.min(self.buffer.len());
            let bytes = &mut self.buffer[..step];
            from.read_exact_into(bytes)?;
            output.content(bytes).map_err(StreamError::Failed)?;
            self.hasher.update(bytes);
            self.out += step as u64;
            left -= step;
        }
        Ok(())
    }

    /// Checks that the written bytes have the digest of the content.
    fn verify_digest(&self, digest: Digest) -> Result<(), StreamError> {
        if self.content.and_then(|content| content.digest).is_some_and(|known| known != digest) {
            return Err(StreamError::Protocol("it sends two different digests".to_owned()));
        }
        if *self.hasher.finalize().as_bytes() == digest.0 {
            return Ok(());
        }
        Err(StreamError::Failed(failure!(
            Damaged,
            "the output is damaged: its digest differs from that of the content"
        )))
    }

    /// Converts a refusal into the error for the rest of the content.
    fn refused(&self, refusal: Refusal) -> StreamError {
        use ErrorCode::{BadTicket, Behind, Busy, Changed, Draining, NoContent, Storage, TimedOut};
        match refusal.code {
            Behind => StreamError::Behind(refusal),
            NoContent => StreamError::Elsewhere(Vec::new()),
            BadTicket | Busy | Draining | Storage | TimedOut => {
                StreamError::ServerLost(refusal.message)
            }
            Changed if self.out > 0 => StreamError::Changed(refusal),
            _ => StreamError::Failed(refusal.into()),
        }
    }

    /// Asks the server for the digest if it does not know the content by its identity.
    ///
    /// This helps only while no digest was known. The digest of all written bytes decides in the
    /// end.
    fn find_by_digest(
        &mut self,
        from: &mut Connection,
        path: &TreePath,
        refusal: Refusal,
    ) -> Result<(), StreamError> {
        let replaced = || {
            debug!("{path}: {refusal}");
            StreamError::Failed(failure!(
                Changed,
                "the file was replaced during the transfer; the output is incomplete"
            ))
        };
        let Some(content) = self.content.as_mut().filter(|content| content.digest.is_none()) else {
            return Err(replaced());
        };
        from.queue(&Request::Hash(path.clone()));
        from.flush()?;
        match answer(from)? {
            Reply::Details { entry, digest: Some(digest), .. } if entry.size == content.size => {
                (content.digest, content.wanted) = (Some(digest), IfMatch::Digest(digest));
                Ok(())
            }
            Reply::Details { .. } => Err(replaced()),
            Reply::Elsewhere { holders } => Err(StreamError::Elsewhere(holders)),
            Reply::Error(refusal) if refusal.code == ErrorCode::Changed => Err(replaced()),
            Reply::Error(refusal) => Err(self.refused(refusal)),
            other => Err(unexpected(&other)),
        }
    }
}

/// Reads the next reply other than a keep-alive; it may be an error. The wait is bounded.
fn answer(from: &mut Connection) -> Result<Reply, StreamError> {
    let until = Instant::now() + limits::IDLE_TIME;
    loop {
        match from.read_reply()?.ok_or_else(closed)? {
            Reply::Wait(_) | Reply::MasterUnreachable { .. } if Instant::now() < until => {}
            Reply::Wait(_) | Reply::MasterUnreachable { .. } => {
                return Err(StreamError::ServerLost("no reply in time".to_owned()));
            }
            reply => return Ok(reply),
        }
    }
}

fn closed() -> StreamError {
    StreamError::ServerLost("connection closed".to_owned())
}

fn unexpected(reply: &Reply) -> StreamError {
    StreamError::Protocol(WireError::Unexpected(reply.frame_type().number()).to_string())
}

fn unreachable(error: DownloadError, out: u64) -> Failure {
    match error {
        DownloadError::Interrupted => Failure::interrupted(),
        DownloadError::Refused(refusal) => refusal.into(),
        DownloadError::Unreachable(why) if out > 0 => {
            failure!(Cut, "cut at byte {out}: {why}")
        }
        other => Failure::new(other.code(), other.to_string()),
    }
}
