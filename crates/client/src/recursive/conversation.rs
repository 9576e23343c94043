//! Pipelined requests to a server: what all series of them have in common.

use std::net::SocketAddr;

use relais_proto::ChangeId;
use relais_transfer::TransferError;
use relais_transfer::pipeline::{
    PipelineHandler, PipelineReply, PipelineRequest, PipelineStats, run,
};

use crate::Result;
use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::output::Output;
use crate::shell::Shell;

/// A series of requests. Each has a number that its sender chooses.
pub trait Conversation {
    /// Returns the next request and its number; failures are printed to `output`.
    fn next(&mut self, output: &mut Output) -> Option<(usize, PipelineRequest)>;

    /// Takes an answer to the request with this number; the pipeline has checked its type.
    ///
    /// # Errors
    /// The failure that ends the conversation.
    fn answer(&mut self, output: &mut Output, at: usize, answer: PipelineReply<'_>) -> Result<()>;
}

/// Runs a conversation to its end.
///
/// # Errors
/// No server answers, the user interrupted, or an answer ended the conversation.
pub fn converse(shell: &mut Shell, conversation: &mut dyn Conversation) -> Result<PipelineStats> {
    let Shell { session, output, notices, interrupt, .. } = shell;
    let ran = run(session, &mut Handler { conversation, output, notices, interrupt })?;
    // The conversation does not learn of a server that failed before its first answer.
    if let Some((now, _)) = session.server() {
        notices.report_failover(now);
    }
    Ok(ran)
}

struct Handler<'a> {
    conversation: &'a mut dyn Conversation,
    output: &'a mut Output,
    notices: &'a Notices,
    interrupt: &'a Interrupt,
}

impl PipelineHandler for Handler<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        self.conversation.next(self.output).map(|(at, request)| (at as u64, request))
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), TransferError> {
        // Only numbers that `next` returned come back.
        let at = usize::try_from(tag).unwrap_or(usize::MAX);
        Ok(self.conversation.answer(self.output, at, answer)?)
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr) {
        let why = self.notices.take_lost_reason();
        say!(self.notices, "lost {from} ({why}); continuing with {to}");
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

/// A limit in bytes on the names of one listing and their records, because a hostile server could
/// list without end.
#[derive(Debug)]
pub struct ListingBudget(pub usize);

impl ListingBudget {
    /// The limit for a server: some millions of names of usual length.
    pub const FULL: Self = Self(512 * 1024 * 1024);

    /// Takes the bytes of a `T` with a text of `len` bytes; returns false if too few are left.
    pub fn take<T>(&mut self, len: usize) -> bool {
        let left = self.0.checked_sub(len + size_of::<T>());
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Ids for many changes, derived from one random seed with a single system call.
pub struct ChangeIds(blake3::OutputReader);

impl ChangeIds {
    /// Creates a new seed.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| failure!(Local, "no random numbers: {e}"))?;
        Ok(Self(blake3::Hasher::new_keyed(&seed).finalize_xof()))
    }

    /// Returns the next id.
    pub fn next(&mut self) -> ChangeId {
        let mut id = [0; 16];
        self.0.fill(&mut id);
        ChangeId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_ids_differ() {
        let (mut one, mut other) = (ChangeIds::new().unwrap(), ChangeIds::new().unwrap());
        let ids =
            std::collections::HashSet::from([one.next(), one.next(), other.next(), other.next()]);
        assert_eq!(ids.len(), 4);
    }
}
