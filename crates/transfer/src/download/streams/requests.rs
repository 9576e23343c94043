//! The requests of one stream for its claims.
//!
//! The next claim is requested shortly before the last one has arrived, so the line is never idle.

use std::ops::Range;
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{ContentHeader, GetRequest, Request, TreePath};

use super::claims::StreamId;
use super::set::NextClaim;
use crate::download::requests::{ask_for_content, if_match, read_header};
use crate::download::state::DownloadState;
use crate::error::Fault;

/// Least time before the end of a claim at which the next one is requested.
const AHEAD: Duration = Duration::from_millis(100);

/// Requests of one stream, and the claim that is received now.
pub struct StreamRequests<'env> {
    state: &'env DownloadState<'env>,
    path: &'env TreePath,
    pub stream: StreamId,
    /// Start of the claim that is received.
    start: u64,
    /// A request whose answer follows the present one.
    ahead: Option<GetRequest>,
}

impl<'env> StreamRequests<'env> {
    pub fn new(state: &'env DownloadState<'env>, path: &'env TreePath, stream: StreamId) -> Self {
        Self { state, path, stream, start: 0, ahead: None }
    }

    /// Claims the next bytes, and waits for some if others may give them back.
    pub fn next(&mut self) -> NextClaim<GetRequest> {
        if let Some(ahead) = &self.ahead {
            return NextClaim::Bytes(ahead.clone());
        }
        match self.state.streams.wait_for_claim(self.state, self.stream) {
            NextClaim::Bytes(range) => NextClaim::Bytes(self.request(range)),
            NextClaim::Nothing => NextClaim::Nothing,
        }
    }

    /// Makes the request for a range of the content.
    pub fn request(&self, range: Range<u64>) -> GetRequest {
        let content = self.state.content();
        let size = content.as_ref().map_or(u64::MAX, |content| content.size);
        // Without a bound there is one request less when the content has grown meanwhile.
        let length = if range.end >= size { u64::MAX } else { range.end - range.start };
        let if_match = if_match(content.as_ref());
        GetRequest { path: self.path.clone(), offset: range.start, length, if_match }
    }

    /// Sends `get`, unless it was sent ahead, and returns its header.
    pub fn ask(
        &mut self,
        server: &mut Connection,
        get: &GetRequest,
    ) -> Result<ContentHeader, Fault> {
        self.start = get.offset;
        if self.ahead.take().is_some() {
            return read_header(server, get);
        }
        ask_for_content(server, get)
    }

    /// Records received bytes; returns the end of the claim, and requests the next one in time.
    pub fn advance(&mut self, from: &mut Connection, bytes: u64) -> Result<u64, Fault> {
        let (streams, now) = (&self.state.streams, Instant::now());
        let end = streams.advance(self.stream, self.start, bytes, now);
        if self.ahead.is_none() && streams.are_many() {
            let before_end = AHEAD.max(3 * from.round_trip());
            if let Some(range) = streams.claim_ahead(self.state, self.stream, before_end, now) {
                let get = self.request(range);
                from.queue(&Request::Get(get.clone()));
                from.flush()?;
                self.ahead = Some(get);
            }
        }
        Ok(end)
    }

    /// Ends the present claim, which has arrived.
    pub fn finish(&self) {
        self.state.streams.finish(self.state, self.stream, self.start);
    }

    /// Whether the answer to a further request follows the present one.
    pub fn has_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Gives all claims back; returns whether the connection has an unread answer.
    pub fn drop_all(&mut self) -> bool {
        self.state.streams.release(self.stream);
        self.ahead.take().is_some()
    }
}
