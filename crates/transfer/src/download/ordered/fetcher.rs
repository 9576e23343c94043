//! One session that fetches runs of pieces until nothing is left or something fails.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use log::debug;
use relais_net::Connection;
use relais_proto::{GetRequest, IfMatch, Request};

use super::shared::Ordered;
use crate::download::blocks::piece_range;
use crate::download::requests::read_header;
use crate::error::{Fault, TransferError};
use crate::exchange::read_content;
use crate::sessions::StreamSource;

/// Requests of one session that are under way, so that its line is never idle.
const REQUESTS: usize = 3;

/// The claims of a session; given back when its thread ends, also by a panic.
struct Fetcher {
    fetch: Arc<Ordered>,
    /// Requested pieces that have not come, in the order of the requests.
    requested: VecDeque<Range<u64>>,
}

/// Starts a thread with a session of its own.
pub(super) fn start_fetcher(
    fetch: &Arc<Ordered>,
    source: &Arc<dyn StreamSource>,
    server: usize,
) -> Result<(), TransferError> {
    fetch.begin_fetcher();
    let (fetcher, source) =
        (Fetcher { fetch: fetch.clone(), requested: VecDeque::new() }, source.clone());
    let spawned = std::thread::Builder::new()
        .name("ordered-stream".to_owned())
        .spawn(move || fetcher.run(&*source, server));
    spawned.map(drop).map_err(TransferError::local("starting a thread"))
}

impl Fetcher {
    fn run(mut self, source: &dyn StreamSource, server: usize) {
        if let Err(fault) = source.open(server).and_then(|opened| self.serve(opened)) {
            debug!("{}: a stream ends: {fault}", self.fetch.job.path);
        }
    }

    fn serve(&mut self, mut server: Connection) -> Result<(), Fault> {
        if !self.fetch.connected(server.stream()) {
            return Ok(());
        }
        loop {
            while self.requested.len() < REQUESTS {
                let run = if self.requested.is_empty() {
                    self.fetch.wait_for_claim()
                } else {
                    self.fetch.claim()
                };
                let Some(run) = run else { break };
                server.queue(&Request::Get(self.request(&run)));
                self.requested.push_back(run);
            }
            server.flush()?;
            let Some(run) = self.requested.front().cloned() else { return Ok(()) };
            self.receive(&mut server, &run)?;
            self.requested.pop_front();
        }
    }

    /// Makes the request for these pieces.
    fn request(&self, run: &Range<u64>) -> GetRequest {
        let job = &self.fetch.job;
        let offset = piece_range(run.start, job.size).start;
        let length = piece_range(run.end - 1, job.size).end - offset;
        let if_match = IfMatch::Digest(job.digest);
        GetRequest { path: job.path.clone(), offset, length, if_match }
    }

    /// Receives the oldest requested pieces, each of which leaves the claim when it has come.
    fn receive(&mut self, from: &mut Connection, run: &Range<u64>) -> Result<(), Fault> {
        let (size, mut index, mut piece) = (self.fetch.job.size, run.start, Vec::new());
        let header = read_header(from, &self.request(run))?;
        if header.size != size {
            return Err(Fault::bad_value("size", header.size));
        }
        read_content(from, &header, |from, length| {
            let mut left = length.unwrap_or(0);
            while left > 0 {
                let range = piece_range(index, size);
                let whole = usize::try_from(range.end - range.start).unwrap_or(0);
                let (at, step) = (piece.len(), left.min(whole - piece.len()));
                piece.resize(at + step, 0);
                from.read_exact_into(&mut piece[at..])?;
                left -= step;
                if piece.len() == whole {
                    self.fetch.put(index, std::mem::take(&mut piece), from.peer())?;
                    index += 1;
                    self.requested.front_mut().into_iter().for_each(|run| run.start = index);
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.fetch.end_fetcher(self.requested.drain(..));
    }
}
