//! Content to standard output, as it comes: `cat` and `get -o -`.
//!
//! A block goes out as soon as it is here and is hashed on its way. Nothing is kept, so content of
//! any size needs no room and the first bytes come at once; what has gone out cannot be taken back.
//! So the command ends well only where the digest of all that went out is the content's; else it
//! fails and says so. Where a server goes away the next one goes on with the next byte of the
//! same content, and no byte goes out twice.

use std::net::SocketAddr;
use std::time::Instant;

use log::debug;
use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, Endpoint, ErrorCode, FrameType, GetRequest, IfMatch, Refusal, Reply,
    Request, TreePath, WireError, limits,
};
use relais_transfer::download::{DownloadError, Redirects, Sessions};

use crate::Failure;
use crate::error::why_gone;
use crate::outcome::Received;
use crate::output::Output;
use crate::shell::Shell;

/// Servers that fail in a row without a byte of content.
const MAX_FAILURES: u32 = 16;
/// Bytes that are read at once; a server's block size is only a claim.
const READ_SIZE: usize = 256 * 1024;

/// What went out so far, and of which content it is.
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

/// Why one server did not bring it to its end.
enum StreamError {
    /// Another one may.
    ServerLost(String),
    /// The content that went out in part is not known by its name here.
    Changed(Refusal),
    /// It does not have the content yet, and these have it.
    Elsewhere(Vec<Endpoint>),
    /// It lacks what was seen before.
    Behind(Refusal),
    /// It broke the protocol.
    Protocol(String),
    /// Nobody can.
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
    /// See [`Failure`]; part of the content may have gone out.
    pub fn show(&mut self, path: &TreePath) -> Result<Received, Failure> {
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

    fn stream(&mut self, path: &TreePath, stream: &mut OutputStream) -> Result<(), Failure> {
        self.session.connect()?;
        let (mut failures, mut why, mut redirects) = (0, String::new(), Redirects::new());
        let interrupt = self.interrupt.clone();
        while failures < MAX_FAILURES {
            let connection =
                self.session.connection().map_err(|error| unreachable(error, stream.out))?;
            if let Some(gone) = self.notices.take_lost() {
                let (out, peer) = (stream.out, connection.peer());
                self.notices.say(&format!(
                    "{} is gone ({}); going on at byte {out} from {peer}",
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
                    // Blocks may still be under way on it.
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
        Err(Failure::new(ErrorCode::Cut, format!("cut at byte {}: {why}", stream.out)))
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
            // Nothing of it was seen: whatever is there now will do.
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

    /// Checks what precedes the blocks, and that it is about the content that went out in part.
    fn check(&mut self, header: ContentHeader) -> Result<ContentHeader, StreamError> {
        if header.offset != self.out || header.length != header.size.saturating_sub(self.out) {
            return Err(StreamError::Protocol(
                "it sends another part than was asked for".to_owned(),
            ));
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
            return Err(StreamError::Protocol(
                "it sends other content than was asked for".to_owned(),
            ));
        }
        let digest = known.digest.or(header.digest);
        let wanted = digest.map_or(IfMatch::Identity(header.identity), IfMatch::Digest);
        self.content = Some(StreamedContent { size: header.size, digest, wanted });
        Ok(header)
    }

    /// The next block, of exactly `length` bytes, goes out.
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
                return Err(StreamError::Protocol("a block has not its length".to_owned()));
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

    /// Whether all that went out is the content.
    fn verify_digest(&self, digest: Digest) -> Result<(), StreamError> {
        if self.content.and_then(|content| content.digest).is_some_and(|known| known != digest) {
            return Err(StreamError::Protocol("it tells two digests".to_owned()));
        }
        if *self.hasher.finalize().as_bytes() == digest.0 {
            return Ok(());
        }
        Err(StreamError::Failed(Failure::new(
            ErrorCode::Damaged,
            "what went out does not have the digest of the content: it is damaged",
        )))
    }

    /// What a refusal means for the rest.
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

    /// A server does not know the content by the name it had elsewhere. Where no digest was known it may
    /// have it all the same: the digest of all that goes out tells in the end.
    fn find_by_digest(
        &mut self,
        from: &mut Connection,
        path: &TreePath,
        refusal: Refusal,
    ) -> Result<(), StreamError> {
        let replaced = || {
            debug!("{path}: {refusal}");
            StreamError::Failed(Failure::new(
                ErrorCode::Changed,
                "it was replaced while it went out; what went out is not whole",
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

/// The next reply that is no sign of life; it may be an error. How long those may go on is bounded.
fn answer(from: &mut Connection) -> Result<Reply, StreamError> {
    let until = Instant::now() + limits::IDLE_TIME;
    loop {
        match from.read_reply()?.ok_or_else(closed)? {
            Reply::Wait(_) | Reply::MasterUnreachable { .. } if Instant::now() < until => {}
            Reply::Wait(_) | Reply::MasterUnreachable { .. } => {
                return Err(StreamError::ServerLost("no answer came in time".to_owned()));
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
            Failure::new(ErrorCode::Cut, format!("cut at byte {out}: {why}"))
        }
        other => Failure::new(other.code(), other.to_string()),
    }
}
