//! The loop of a conversation: fill the window, send, take answers in; and after a failure ask again
//! elsewhere or give up. Every way round is counted, so that no server can keep it going for ever.

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

/// Most asks without an answer, and so most that are kept here.
pub(super) const MOST_ASKS: usize = 1024;
/// Most bytes of puts without an answer. The server does not count them; they are kept here until it has answered.
pub(super) const MOST_DATA: usize = 4 * 1024 * 1024;
/// Answers that are taken in before more is asked, while further ones lie ready: asks go out together.
const ANSWERS_TOGETHER: u32 = 8;

/// What is counted against running for ever.
#[derive(Debug, Default)]
pub(super) struct StatsBuilder {
    attempts: Attempts,
    /// Servers that have no room.
    pub full: Vec<SocketAddr>,
    /// Servers left because they could make no changes.
    pub no_changes: u32,
}

/// A conversation, and all that is asked and not answered.
pub(super) struct PipelineLoop<'c> {
    pub handler: &'c mut dyn PipelineHandler,
    /// To be asked before the conversation is asked for more.
    pub todo: VecDeque<PendingRequest>,
    /// Asked on this connection, in order.
    pub unanswered: VecDeque<PendingRequest>,
    /// To be asked at another server once all else is answered, and why.
    pub later: VecDeque<PendingRequest>,
    pub later_why: String,
    /// Who has the content of those whose server does not have it yet.
    pub holders: Vec<Endpoint>,
    pub redirects: Redirects,
    /// What the unanswered asks take of the window.
    pub load: Load,
    pub outbox: Outbox,
    /// The content of the answer that is coming in.
    pub buffer: Vec<u8>,
    /// Whether there is more to ask at once, and answers since it was looked for.
    filling: bool,
    pub answers: u32,
    /// Since when the answer to the first unanswered ask has been coming.
    pub begun: Option<Instant>,
    /// Whether the rest of an answer is under way that nobody waits for.
    pub midway: bool,
    /// The current server.
    pub server: Option<SocketAddr>,
    /// The current server until it has answered.
    pub silent: Option<SocketAddr>,
    /// The current server once it has answered; else the one that answered last.
    pub answered_by: Option<SocketAddr>,
    pub stats: StatsBuilder,
    pub ran: PipelineStats,
}

/// See [`super::run`].
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
            midway: false,
            server: None,
            silent: None,
            answered_by: None,
            stats: StatsBuilder::default(),
            ran: PipelineStats::default(),
        }
    }

    /// Whether there is anything to ask. Without, no connection is opened.
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

    /// Asks on one connection until nothing is left to ask, or it fails.
    fn round(&mut self, sessions: &mut dyn Sessions) -> Result<(), PipelineInterrupt> {
        if self.handler.interrupted() {
            return Err(PipelineError::Interrupted.into());
        }
        let connection = sessions.connection().map_err(PipelineError::from)?;
        (self.server, self.silent) = (Some(connection.peer()), Some(connection.peer()));
        self.filling = true;
        self.talk(connection)?;
        if connection.has_input() {
            // All answers are here, so it is no error of this conversation.
            sessions.failed("the server sent more answers than it was asked for");
        }
        if self.later.is_empty() {
            return Ok(());
        }
        // One that is asked again because its answer was bad has to go to another server in any case.
        let all_lack = self.later.iter().all(|item| item.lacking);
        Err(if all_lack {
            self.lacks()
        } else {
            PipelineInterrupt::Elsewhere(std::mem::take(&mut self.later_why))
        })
    }

    fn talk(&mut self, connection: &mut Connection) -> Result<(), PipelineInterrupt> {
        loop {
            if self.handler.interrupted() {
                return Err(PipelineError::Interrupted.into());
            }
            if self.should_fill(connection.has_input()) {
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
                // The rest of a put that was refused before its end. The session can be used on once it is out.
                outbox::wait(connection.stream(), false)?;
            } else if !pending || connection.has_input() || outbox::wait(connection.stream(), true)?
            {
                self.step(connection)?;
            }
        }
    }

    /// Whether more should be asked now. Half of the window is answered first, so that asks go out many at a time,
    /// and the other half keeps the server busy meanwhile.
    fn should_fill(&self, has_input: bool) -> bool {
        let half_empty = self.load.frames <= limits::AHEAD / 2
            && self.load.data <= MOST_DATA / 2
            && self.unanswered.len() <= MOST_ASKS / 2;
        let asks_together =
            !has_input || self.answers >= ANSWERS_TOGETHER || self.unanswered.is_empty();
        self.filling || self.answers > 0 && half_empty && asks_together
    }

    /// Queues what there is to ask, until the window or a batch is full.
    fn fill(&mut self) -> Result<(), PipelineInterrupt> {
        (self.filling, self.answers) = (false, 0);
        while self.unanswered.len() < MOST_ASKS {
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
            if self.load.data + data > MOST_DATA
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

    /// What follows from a failure: an error where everything ends.
    fn recover(
        &mut self,
        sessions: &mut dyn Sessions,
        stop: PipelineInterrupt,
    ) -> Result<(), PipelineError> {
        let outstanding = self.requeue();
        // A socket that was shut down to end it looks like a lost one.
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
            PipelineInterrupt::Aside(why) => {
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
        // Each answer is a step forward, however small.
        let gained = if self.silent.is_some() { 0 } else { u64::MAX };
        if self.stats.attempts.lost(gained) { Ok(()) } else { Err(PipelineError::Unreachable(why)) }
    }

    /// The next server that answers takes over from none that was lost.
    fn leave_quietly(&mut self) {
        self.answered_by = None;
    }

    /// Everything without an answer is to be asked again, in its order. Whether an answer is outstanding, so that
    /// the connection is of no use to anybody else.
    fn requeue(&mut self) -> bool {
        let outstanding = self.midway || !self.unanswered.is_empty() || self.outbox.pending() > 0;
        for item in self.unanswered.iter() {
            self.ran.bytes_out += item.content_sent(self.outbox.sent());
        }
        self.unanswered.append(&mut self.later);
        self.unanswered.append(&mut self.todo);
        std::mem::swap(&mut self.unanswered, &mut self.todo);
        self.load = Load::default();
        self.outbox.reset();
        (self.begun, self.midway, self.answers) = (None, false, 0);
        outstanding
    }
}
