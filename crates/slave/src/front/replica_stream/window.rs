//! A request for a few pieces of content, and the blocks of its answer.
//!
//! A window is shorter than what other slaves count as large content, so no stream waits for
//! replication, and a client that reads slowly does not stop the other slave within an answer.

use std::time::Instant;

use relais_net::{Connection, MinimumThroughput};
use relais_proto::{GetRequest, IfMatch, Reply, Request, limits};
use relais_transfer::{Fault, exchange};

use super::client_watch::ClientWatch;
use super::wanted::WantedContent;

/// Pieces of a window.
const WINDOW: u64 = 4;
const _: () = assert!(WINDOW * limits::PIECE < relais_cluster::LARGE);

/// The blocks that are still to come of one answer.
pub struct PieceWindow {
    block_size: u32,
    /// Bytes after the current block.
    left: u64,
    /// Bytes of the current block.
    block_left: usize,
}

impl PieceWindow {
    /// Requests the bytes from `offset` on, at most up to `end`.
    ///
    /// # Errors
    /// A [`Fault`] of the other slave.
    pub fn open(
        server: &mut Connection,
        wanted: &WantedContent,
        (offset, end): (u64, u64),
        watch: &ClientWatch<'_>,
    ) -> Result<Self, Fault> {
        let length = end.saturating_sub(offset).min(WINDOW * limits::PIECE);
        let if_match = IfMatch::Digest(wanted.digest);
        let get = GetRequest { path: wanted.path.clone(), offset, length, if_match };
        match watch.ask(server, &Request::Get(get.clone()))? {
            Reply::ContentHeader(header) if header.size == wanted.size => {
                exchange::check_header(&get, &header)?;
                Ok(Self { block_size: header.block_size, left: header.length, block_left: 0 })
            }
            Reply::ContentHeader(_) => {
                Err(Fault::Violation("it announces another size for this digest".to_owned()))
            }
            other => Err(Fault::unexpected(&other)),
        }
    }

    /// Whether all blocks were read. The end of the answer may still follow.
    pub fn is_empty(&self) -> bool {
        self.left == 0 && self.block_left == 0
    }

    /// Reads the next bytes until `buffer` is full.
    ///
    /// # Errors
    /// A [`Fault`] of the other slave, or the client has gone.
    pub fn read(
        &mut self,
        server: &mut Connection,
        buffer: &mut [u8],
        watch: &ClientWatch<'_>,
    ) -> Result<(), Fault> {
        let mut throughput = MinimumThroughput::new(Instant::now());
        let mut filled = 0;
        while filled < buffer.len() {
            if self.block_left == 0 {
                self.next_block(server, watch)?;
            }
            watch.wait_for_input(server)?;
            let end = buffer.len().min(filled + self.block_left);
            let got = server.read_some_into(&mut buffer[filled..end])?;
            filled += got;
            self.block_left -= got;
            throughput.moved(got as u64, Instant::now())?;
        }
        Ok(())
    }

    fn next_block(
        &mut self,
        server: &mut Connection,
        watch: &ClientWatch<'_>,
    ) -> Result<(), Fault> {
        let length = u32::try_from(self.left).map_or(self.block_size, |n| n.min(self.block_size));
        if length == 0 {
            return Err(Fault::Violation("its answer is shorter than announced".to_owned()));
        }
        let since = Instant::now();
        loop {
            watch.wait_for_input(server)?;
            if exchange::next_block(server, length, since)? {
                break;
            }
        }
        self.left -= u64::from(length);
        self.block_left = length as usize;
        Ok(())
    }

    /// Reads the end of the answer.
    ///
    /// # Errors
    /// A [`Fault`] of the other slave.
    pub fn finish(self, server: &mut Connection, watch: &ClientWatch<'_>) -> Result<(), Fault> {
        match watch.answer(server)? {
            // Each piece was verified, so the digest tells nothing new.
            Reply::End { .. } => Ok(()),
            other => Err(Fault::unexpected(&other)),
        }
    }
}
