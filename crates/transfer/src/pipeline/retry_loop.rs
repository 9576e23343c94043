//! Retry loop of a pipeline: fills the window, sends, handles answers, and retries failures.
//!
//! Every retry is counted, so no server can keep the loop running forever.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use log::debug;
use relais_net::Connection;
use relais_proto::{Endpoint, limits};

use super::error::PipelineInterrupt;
use super::outbox::{self, BATCH, Outbox};
use super::queue::{Load, PendingRequest};
use super::{PipelineError, PipelineHandler, PipelineStats};
use crate::download::{Redirects, Sessions};
use crate::retry::Attempts;

/// Highest number of unanswered requests, and so of stored ones.
pub(super) const MAX_REQUESTS: usize = 1024;
/// Highest number of unanswered bytes of puts.
///
/// The server does not count them; they are stored here until it has answered.
pub(super) const MAX_DATA: usize = 4 * 1024 * 1024;
/// Answers to handle before the next requests, while further answers are ready. It groups the
/// requests.
const ANSWERS_TOGETHER: u32 = 8;

/// Counters that limit the retries.
#[derive(Debug, Default)]
pub(super) struct StatsBuilder {
    attempts: Attempts,
    /// Servers without space.
    pub full: Vec<SocketAddr>,
    /// Servers that were left because they accept no changes.
    pub no_changes: u32,
}

/// A pipeline with all its unanswered requests.
pub(super) struct PipelineLoop<'c> {
    pub handler: &'c mut dyn PipelineHandler,
    /// Requests to send before the handler is asked for more.
    pub todo: VecDeque<PendingRequest>,
    /// Requests that were sent on this connection, in order.
    pub unanswered: VecDeque<PendingRequest>,
    /// Requests for another server, after all others are answered, with the reason.
    pub later: VecDeque<PendingRequest>,
    pub later_why: String,
    /// Holders of the contents that the current server does not have yet.
    pub holders: Vec<Endpoint>,
    pub redirects: Redirects,
    /// Bytes of the unanswered requests.
    pub load: Load,
    pub outbox: Outbox,
    /// Content of the current answer.
    pub buffer: Vec<u8>,
    /// Whether more requests are available at once, and the answers since the last check.
    filling: bool,
    pub answers: u32,
    /// Start of the answer to the first unanswered request.
    pub begun: Option<Instant>,
    /// Whether the rest of a useless answer is in flight.
    pub answer_unfinished: bool,
    pub server: Option<SocketAddr>,
    /// Current server, until it has answered.
    pub silent: Option<SocketAddr>,
    /// Current server once it has answered; else the last one that did.
    pub answered_by: Option<SocketAddr>,
    pub stats: StatsBuilder,
    pub ran: PipelineStats,
}

/// Runs the pipeline; see [`super::run`].
pub(super) fn run(
    sessions: &mut dyn Sessions,
    handler: &mut dyn PipelineHandler,
) -> Result<PipelineStats, PipelineError> {
    let mut work = PipelineLoop::new(handler);
    while work.has_work()? {
        if let Err(stop) = work.round(sessions) {
            work.recover(sessions, stop)?;
        }
    }
    Ok(work.ran)
}

impl<'c> PipelineLoop<'c> {
    fn new(handler: &'c mut dyn PipelineHandler) -> Self {
        Self {
            handler,
            todo: VecDeque::new(),
            unanswered: VecDeque::new(),
            later: VecDeque::new(),
            later_why: String::new(),
            holders: Vec::new(),
            redirects: Redirects::new(),
            load: Load::default(),
            outbox: Outbox::default(),
            buffer: Vec::new(),
            filling: false,
            answers: 0,
            begun: None,
            answer_unfinished: false,
            server: None,
            silent: None,
            answered_by: None,
            stats: StatsBuilder::default(),
            ran: PipelineStats::default(),
        }
    }

    /// Returns whether there is a request. No connection is opened without one.
    fn has_work(&mut self) -> Result<bool, PipelineError> {
        if self.todo.is_empty() {
            let next = self.pull()?;
            self.todo.extend(next);
        }
        Ok(!self.todo.is_empty())
    }

    fn pull(&mut self) -> Result<Option<PendingRequest>, PipelineError> {
        self.handler.next().map(|(tag, ask)| PendingRequest::new(tag, ask)).transpose()
    }

    /// Sends requests on one connection until none is left, or it fails.
    fn round(&mut self, sessions: &mut dyn Sessions) -> Result<(), PipelineInterrupt> {
        if self.handler.interrupted() {
            return Err(PipelineError::Interrupted.into());
        }
        let connection = sessions.connection().map_err(PipelineError::from)?;
        (self.server, self.silent) = (Some(connection.peer()), Some(connection.peer()));
        self.filling = true;
        self.talk(connection)?;
        if connection.has_input() {
            // All answers are here, so the pipeline does not fail.
            sessions.failed("the server sent more answers than it was asked for");
        }
        if self.later.is_empty() {
            return Ok(());
        }
        // A request that is repeated after a bad answer must go to another server in any case.
        let all_lack = self.later.iter().all(|item| item.lacking);
        Err(if all_lack {
            self.redirect_deferred()
        } else {
            PipelineInterrupt::Elsewhere(std::mem::take(&mut self.later_why))
        })
    }

    fn talk(&mut self, connection: &mut Connection) -> Result<(), PipelineInterrupt> {
        loop {
            if self.handler.interrupted() {
                return Err(PipelineError::Interrupted.into());
            }
            if self.is_fill_due(connection.has_input()) {
                self.fill()?;
            }
            self.outbox.send(connection.stream())?;
            let pending = self.outbox.pending() > 0;
            if self.filling && !pending {
                continue;
            }
            if self.unanswered.is_empty() {
                if !pending {
                    return Ok(());
                }
                // The rest of a refused put. The session is usable again once it is sent.
                outbox::wait(connection.stream(), false)?;
            } else if !pending || connection.has_input() || outbox::wait(connection.stream(), true)?
            {
                self.step(connection)?;
            }
        }
    }

    /// Returns whether to send more requests now.
    ///
    /// Half of the window is answered first, so requests are sent in groups. The other half keeps
    /// the server busy meanwhile.
    fn is_fill_due(&self, has_input: bool) -> bool {
        let half_empty = self.load.frames <= limits::AHEAD / 2
            && self.load.data <= MAX_DATA / 2
            && self.unanswered.len() <= MAX_REQUESTS / 2;
        let asks_together =
            !has_input || self.answers >= ANSWERS_TOGETHER || self.unanswered.is_empty();
        self.filling || self.answers > 0 && half_empty && asks_together
    }

    /// Queues requests until the window or a batch is full.
    fn fill(&mut self) -> Result<(), PipelineInterrupt> {
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
            let data = item.upload.as_ref().map_or(0, |upload| upload.content.len());
            if self.load.data + data > MAX_DATA
                || !self.outbox.append(&mut item, limits::AHEAD - self.load.frames)
            {
                self.todo.push_front(item);
                break;
            }
            self.load.add(item.load);
            self.unanswered.push_back(item);
        }
        Ok(())
    }

    /// Handles a failure; returns an error if the pipeline ends.
    fn recover(
        &mut self,
        sessions: &mut dyn Sessions,
        stop: PipelineInterrupt,
    ) -> Result<(), PipelineError> {
        let outstanding = self.requeue();
        // A socket that was shut down by an interruption looks like a lost one.
        let stop =
            if self.handler.interrupted() { PipelineError::Interrupted.into() } else { stop };
        let why = match stop {
            PipelineInterrupt::Fatal(error) => {
                if outstanding {
                    sessions.abandon();
                }
                return Err(error);
            }
            PipelineInterrupt::Elsewhere(why) => {
                sessions.failed(&why);
                return Ok(());
            }
            PipelineInterrupt::NoChanges(why) => {
                self.leave_quietly();
                sessions.leave(&why);
                return Ok(());
            }
            PipelineInterrupt::Full(why) => {
                if !sessions.full(&why) && outstanding {
                    sessions.abandon();
                }
                return Ok(());
            }
            PipelineInterrupt::Behind(refusal) => {
                self.leave_quietly();
                let handler = &*self.handler;
                let goes_on =
                    self.redirects.behind(sessions, &refusal.message, &|| handler.interrupted());
                return if goes_on { Ok(()) } else { Err(PipelineError::Refused(refusal)) };
            }
            PipelineInterrupt::Lacking(holders) => {
                if outstanding {
                    sessions.abandon();
                }
                self.leave_quietly();
                let handler = &*self.handler;
                return match self.redirects.elsewhere(sessions, &holders, &|| handler.interrupted())
                {
                    Ok(()) => Ok(()),
                    Err(refusal) => self.give_up_lacking(&refusal),
                };
            }
            PipelineInterrupt::Violation(why) => {
                if !self.stats.attempts.violated() {
                    sessions.failed(&why);
                    return Err(PipelineError::BadServer(why));
                }
                why
            }
            PipelineInterrupt::Lost(why) => why,
        };
        debug!("a connection with requests under way failed: {why}");
        sessions.failed(&why);
        // Each answer is progress, however small.
        let gained = if self.silent.is_some() { 0 } else { u64::MAX };
        if self.stats.attempts.lost(gained) { Ok(()) } else { Err(PipelineError::Unreachable(why)) }
    }

    /// Makes the next server take over without a report of a lost one.
    fn leave_quietly(&mut self) {
        self.answered_by = None;
    }

    /// Requeues all unanswered requests in their order.
    ///
    /// Returns whether an answer is outstanding, so the connection is unusable for other requests.
    fn requeue(&mut self) -> bool {
        let outstanding =
            self.answer_unfinished || !self.unanswered.is_empty() || self.outbox.pending() > 0;
        for item in self.unanswered.iter() {
            self.ran.bytes_out += item.content_sent(self.outbox.sent());
        }
        self.unanswered.append(&mut self.later);
        self.unanswered.append(&mut self.todo);
        std::mem::swap(&mut self.unanswered, &mut self.todo);
        self.load = Load::default();
        self.outbox.reset();
        (self.begun, self.answer_unfinished, self.answers) = (None, false, 0);
        outstanding
    }
}
