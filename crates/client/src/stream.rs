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
    ContentHeader, Digest, ErrorCode, GetRequest, IfMatch, Refusal, Reply, Request, TreePath,
    limits,
};
use relais_transfer::exchange::{ask, read_content};
use relais_transfer::{Failover, Fault, Purpose, Sessions, TransferError, Try};

use crate::Result;
use crate::outcome::TransferredFile;
use crate::output::Output;
use crate::shell::Shell;

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

/// Writes the content of `path` to standard output.
///
/// # Errors
/// No server can send the rest of the content; part of it may have been written.
pub fn stream(shell: &mut Shell, path: &TreePath) -> Result<TransferredFile> {
    let begun = Instant::now();
    let mut stream = OutputStream {
        out: 0,
        hasher: blake3::Hasher::new(),
        content: None,
        servers: Vec::new(),
        buffer: Vec::new(),
    };
    run(shell, path, &mut stream)?;
    shell.output.flush()?;
    let (remote, local, servers) = (path.to_string(), "-".to_owned(), &stream.servers);
    Ok(TransferredFile::new(remote, local, stream.out, begun, servers, 0))
}

fn run(shell: &mut Shell, path: &TreePath, stream: &mut OutputStream) -> Result<()> {
    shell.session.connect()?;
    let mut failover = Failover::new(shell.session.retry());
    let interrupt = shell.interrupt.clone();
    loop {
        let before = stream.out;
        let result = run_once(shell, path, stream, &mut failover);
        let Err(fault) = result else { return Ok(()) };
        if stream.out > before {
            failover.arrived();
        }
        failover.gained(stream.out - before);
        let tried = Try {
            purpose: Purpose::Read,
            server: shell.session.server().map(|(addr, _)| addr),
            // Blocks may still arrive on this connection.
            unfinished: !matches!(fault, Fault::Refused(_) | Fault::Elsewhere(_)),
            repeatable: true,
            interrupted: &|| interrupt.is_raised(),
        };
        match failover.recover(&mut shell.session, fault, &tried) {
            Ok(_) => {}
            Err(TransferError::Unreachable(why)) if stream.out > 0 => {
                fail!(Cut, "cut at byte {}: {why}", stream.out)
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives the rest of the content from one server.
fn run_once(
    shell: &mut Shell,
    path: &TreePath,
    stream: &mut OutputStream,
    failover: &mut Failover,
) -> Result<(), Fault> {
    loop {
        let connection = shell.session.connection()?;
        if let Some(gone) = shell.notices.take_lost() {
            let (out, peer) = (stream.out, connection.peer());
            say!(
                shell.notices,
                "lost {} ({}); resuming at byte {out} from {peer}",
                gone.addr,
                gone.why
            );
        }
        match stream.receive(connection, path, &mut shell.output, failover) {
            Err(Fault::Refused(refusal))
                if refusal.code == ErrorCode::Changed && stream.out > 0 =>
            {
                stream.find_by_digest(connection, path, refusal)?;
            }
            result => return result,
        }
    }
}

impl OutputStream {
    /// Receives the rest of the content from one server.
    fn receive(
        &mut self,
        from: &mut Connection,
        path: &TreePath,
        output: &mut Output,
        failover: &mut Failover,
    ) -> Result<(), Fault> {
        if self.out == 0 {
            // No byte was written yet, so any version of the content is fine.
            self.content = None;
        }
        let wanted = self.content.map_or(IfMatch::Any, |content| content.wanted);
        let request =
            GetRequest { path: path.clone(), offset: self.out, length: u64::MAX, if_match: wanted };
        let header = match ask(from, &Request::Get(request))? {
            Reply::ContentHeader(header) => self.check(header)?,
            other => return Err(Fault::unexpected(&other)),
        };
        failover.served_by(from.peer());
        if self.servers.last() != Some(&from.peer()) {
            self.servers.push(from.peer());
        }
        let digest = read_content(from, &header, |from, length| {
            length.map_or(Ok(()), |length| self.block(from, length, output))
        })?;
        self.verify_digest(digest)
    }

    /// Checks the header, and that it belongs to the content written so far.
    fn check(&mut self, header: ContentHeader) -> Result<ContentHeader, Fault> {
        if header.offset != self.out || header.length != header.size.saturating_sub(self.out) {
            return Err(Fault::Violation("it sends another range than requested".to_owned()));
        }
        if header.block_size == 0 || header.block_size > limits::BLOCK_MAX {
            return Err(Fault::Violation(format!("its blocks have {} bytes", header.block_size)));
        }
        let known = self.content.unwrap_or(StreamedContent {
            size: header.size,
            digest: header.digest,
            wanted: IfMatch::Any,
        });
        if known.size != header.size
            || matches!((known.digest, header.digest), (Some(a), Some(b)) if a != b)
        {
            return Err(Fault::Violation("it sends other content than requested".to_owned()));
        }
        let digest = known.digest.or(header.digest);
        let wanted = digest.map_or(IfMatch::Identity(header.identity), IfMatch::Digest);
        self.content = Some(StreamedContent { size: header.size, digest, wanted });
        Ok(header)
    }

    /// Reads a block of `left` bytes and writes it.
    fn block(
        &mut self,
        from: &mut Connection,
        mut left: usize,
        output: &mut Output,
    ) -> Result<(), Fault> {
        self.buffer.resize(READ_SIZE.min(left.max(self.buffer.len())), 0);
        while left > 0 {
            let step = left.min(self.buffer.len());
            let bytes = &mut self.buffer[..step];
            from.read_exact_into(bytes)?;
            output.content(bytes)?;
            self.hasher.update(bytes);
            self.out += step as u64;
            left -= step;
        }
        Ok(())
    }

    /// Checks that the written bytes have the digest of the content.
    fn verify_digest(&self, digest: Digest) -> Result<(), Fault> {
        if self.content.and_then(|content| content.digest).is_some_and(|known| known != digest) {
            return Err(Fault::Violation("it sends two different digests".to_owned()));
        }
        if *self.hasher.finalize().as_bytes() == digest.0 {
            return Ok(());
        }
        Err(failure!(Damaged, "the output is damaged: its digest differs from that of the content")
            .into())
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
    ) -> Result<(), Fault> {
        let replaced = || {
            debug!("{path}: {refusal}");
            let why = "the file was replaced during the transfer; the output is incomplete";
            Fault::from(failure!(Changed, "{why}"))
        };
        let Some(content) = self.content.as_mut().filter(|content| content.digest.is_none()) else {
            return Err(replaced());
        };
        match ask(from, &Request::Hash(path.clone())) {
            Ok(Reply::Details { entry, digest: Some(digest), .. })
                if entry.size == content.size =>
            {
                (content.digest, content.wanted) = (Some(digest), IfMatch::Digest(digest));
                Ok(())
            }
            Ok(Reply::Details { .. }) => Err(replaced()),
            Err(Fault::Refused(refusal)) if refusal.code == ErrorCode::Changed => Err(replaced()),
            Err(fault) => Err(fault),
            Ok(other) => Err(Fault::unexpected(&other)),
        }
    }
}
