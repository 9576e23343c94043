//! The window of a pipeline: its requests, from the handler to their answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use relais_proto::{Endpoint, ErrorCode, Refusal, limits};

use super::handler::{PipelineHandler, PipelineReply, PipelineStats};
use super::outbox::{BATCH, Outbox};
use super::queue::PendingRequest;
use crate::error::{Fault, TransferError};
use crate::failover::{Failover, MAX_USELESS};

/// Highest number of unanswered requests, and so of stored ones.
const MAX_REQUESTS: usize = 1024;
/// Highest number of unanswered bytes of puts.
///
/// The server does not count them; they are stored here until it has answered.
const MAX_DATA: usize = 4 * 1024 * 1024;
/// Answers to handle before the next requests, while further answers are ready. It groups the
/// requests.
const ANSWERS_TOGETHER: u32 = 8;
/// Deferred requests above which the connection is given up for them.
const MAX_DEFERRED: usize = MAX_REQUESTS / 2;

/// A pipeline with all its unanswered requests.
pub(super) struct Window<'c> {
    pub handler: &'c mut dyn PipelineHandler,
    pub failover: Failover,
    /// Requests to send before the handler is asked for more.
    pub todo: VecDeque<PendingRequest>,
    /// Requests that were sent on this connection, in order.
    pub unanswered: VecDeque<PendingRequest>,
    /// Requests for another server, after all others are answered, with the reason.
    pub later: VecDeque<PendingRequest>,
    later_why: String,
    /// Holders of the contents that the current server does not have yet.
    holders: Vec<Endpoint>,
    /// Refusals that no server could avoid; later requests get them as answers.
    pub final_codes: Vec<ErrorCode>,
    /// Bytes of the frames of unanswered requests, and of their contents.
    frames: usize,
    data: usize,
    pub outbox: Outbox,
    /// Content of the current answer.
    pub buffer: Vec<u8>,
    /// Whether more requests are available at once, and the answers since the last check.
    pub filling: bool,
    pub answers: u32,
    /// Start of the answer to the first unanswered request.
    pub begun: Option<Instant>,
    /// Whether the rest of a useless answer is in flight.
    pub unfinished: bool,
    pub server: Option<SocketAddr>,
    /// Current server, until an answer of it was passed on.
    pub silent: Option<SocketAddr>,
    /// Whether the current connection has brought an answer.
    pub progressed: bool,
    pub stats: PipelineStats,
}

impl<'c> Window<'c> {
    pub(super) fn new(handler: &'c mut dyn PipelineHandler, failover: Failover) -> Self {
        Self {
            handler,
            failover,
            todo: VecDeque::new(),
            unanswered: VecDeque::new(),
            later: VecDeque::new(),
            later_why: String::new(),
            holders: Vec::new(),
            final_codes: Vec::new(),
            frames: 0,
            data: 0,
            outbox: Outbox::default(),
            buffer: Vec::new(),
            filling: false,
            answers: 0,
            begun: None,
            unfinished: false,
            server: None,
            silent: None,
            progressed: false,
            stats: PipelineStats::default(),
        }
    }

    /// Returns whether there is a request. No connection is opened without one.
    pub(super) fn has_work(&mut self) -> Result<bool, TransferError> {
        if self.todo.is_empty() {
            let next = self.pull()?;
            self.todo.extend(next);
        }
        Ok(!self.todo.is_empty())
    }

    fn pull(&mut self) -> Result<Option<PendingRequest>, TransferError> {
        self.handler.next().map(|(tag, ask)| PendingRequest::new(tag, ask)).transpose()
    }

    /// Returns whether to send more requests now.
    ///
    /// Half of the window is answered first, so requests are sent in groups. The other half keeps
    /// the server busy meanwhile.
    pub(super) fn is_fill_due(&self, has_input: bool) -> bool {
        let half_empty = self.frames <= limits::AHEAD / 2
            && self.data <= MAX_DATA / 2
            && self.unanswered.len() <= MAX_REQUESTS / 2;
        let asks_together =
            !has_input || self.answers >= ANSWERS_TOGETHER || self.unanswered.is_empty();
        self.filling || self.answers > 0 && half_empty && asks_together
    }

    /// Queues requests until the window or a batch is full.
    pub(super) fn fill(&mut self) -> Result<(), TransferError> {
        (self.filling, self.answers) = (false, 0);
        while self.unanswered.len() < MAX_REQUESTS {
            if self.outbox.pending() >= BATCH {
                self.filling = true;
                break;
            }
            let next = match self.todo.pop_front() {
                Some(item) => Some(item),
                None => self.pull()?,
            };
            let Some(mut item) = next else { break };
            if self.data + item.data() > MAX_DATA
                || !self.outbox.append(&mut item, limits::AHEAD - self.frames)
            {
                self.todo.push_front(item);
                break;
            }
            self.frames += item.frames;
            self.data += item.data();
            self.unanswered.push_back(item);
        }
        Ok(())
    }

    /// Requeues all unanswered requests in their order.
    ///
    /// Returns whether an answer is outstanding, so the connection is unusable for other requests.
    pub(super) fn requeue(&mut self) -> bool {
        let outstanding =
            self.unfinished || !self.unanswered.is_empty() || self.outbox.pending() > 0;
        for item in &self.unanswered {
            self.stats.bytes_out += item.content_sent(self.outbox.sent());
        }
        self.unanswered.append(&mut self.later);
        self.unanswered.append(&mut self.todo);
        std::mem::swap(&mut self.unanswered, &mut self.todo);
        (self.frames, self.data) = (0, 0);
        self.outbox.reset();
        (self.begun, self.unfinished, self.answers) = (None, false, 0);
        outstanding
    }

    /// Passes on the answer to the first request.
    pub(super) fn finish(&mut self, answer: PipelineReply<'_>) -> Result<(), Fault> {
        let tag = self.settle()?.tag;
        self.note_answer();
        Ok(self.handler.answer(tag, answer)?)
    }

    /// Repeats the first request after a useless answer, or returns `refusal` in the end.
    ///
    /// It is repeated at the same server, or at another one once all others are answered.
    pub(super) fn repeat(&mut self, refusal: Refusal, elsewhere: bool) -> Result<(), Fault> {
        let mut item = self.settle()?;
        item.tries += 1;
        if item.tries >= MAX_USELESS {
            self.note_answer();
            return Ok(self.handler.answer(item.tag, PipelineReply::Refused(refusal))?);
        }
        if !elsewhere {
            self.todo.push_back(item);
            return Ok(());
        }
        self.later_why = refusal.message;
        self.postpone(item)
    }

    /// Defers a request for content that is not here to one of `holders`.
    pub(super) fn defer(&mut self, holders: Vec<Endpoint>) -> Result<(), Fault> {
        let item = self.settle()?;
        if self.holders.is_empty() {
            self.holders = holders;
        }
        self.postpone(PendingRequest { lacking: true, ..item })
    }

    fn postpone(&mut self, item: PendingRequest) -> Result<(), Fault> {
        self.later.push_back(item);
        if self.later.len() >= MAX_DEFERRED { Err(self.deferred()) } else { Ok(()) }
    }

    /// Ends the connection for the deferred requests.
    pub(super) fn deferred(&mut self) -> Fault {
        // A request that is repeated after a bad answer must go to another server in any case.
        if self.later.iter().all(|item| item.lacking) {
            Fault::Elsewhere(std::mem::take(&mut self.holders))
        } else {
            Fault::Lost(std::mem::take(&mut self.later_why))
        }
    }

    /// Answers requests with `refusal`: those for missing contents, or the first one.
    pub(super) fn refuse(&mut self, refusal: &Refusal, lacking: bool) -> Result<(), TransferError> {
        let (refused, todo): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.todo)
            .into_iter()
            .enumerate()
            .partition(|(at, item)| if lacking { item.lacking } else { *at == 0 });
        self.todo = todo.into_iter().map(|(_, item)| item).collect();
        for (_, item) in refused {
            self.handler.answer(item.tag, PipelineReply::Refused(refusal.clone()))?;
        }
        Ok(())
    }

    /// Removes the first request from the window.
    pub(super) fn settle(&mut self) -> Result<PendingRequest, Fault> {
        let Some(item) = self.unanswered.pop_front() else {
            return Err(Fault::Violation("an answer came without a request".to_owned()));
        };
        self.frames = self.frames.saturating_sub(item.frames);
        self.data = self.data.saturating_sub(item.data());
        self.stats.bytes_out += item.content_sent(self.outbox.sent());
        self.answers = self.answers.saturating_add(1);
        (self.begun, self.progressed) = (None, true);
        Ok(item)
    }

    /// Records that the current server has answered. Its first answer counts as reaching it.
    pub(super) fn note_answer(&mut self) {
        self.progressed = true;
        let Some(server) = self.silent.take() else { return };
        if !self.stats.servers.contains(&server) {
            self.stats.servers.push(server);
        }
        if let Some(before) = self.failover.served_by(server) {
            self.handler.moved(before, server);
        }
    }
}
