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
use crate::session::Session;

/// Bytes of names and their records that a server may list: some millions of names of usual length.
const MAX_LISTING: usize = 512 * 1024 * 1024;

/// A series of requests. Each has a number that its sender chooses.
pub trait Conversation {
    /// Returns the next request and its number.
    fn next(&mut self) -> Option<(usize, PipelineRequest)>;

    /// Takes an answer to the request with this number; returns false if its type is wrong.
    ///
    /// # Errors
    /// The failure that ends the conversation.
    fn answer(&mut self, at: usize, answer: PipelineReply<'_>) -> Result<bool>;
}

/// Runs a conversation to its end.
///
/// # Errors
/// No server answers, the user interrupted, or an answer ended the conversation.
pub fn converse(
    session: &mut Session,
    notices: &Notices,
    interrupt: &Interrupt,
    conversation: &mut dyn Conversation,
) -> Result<PipelineStats> {
    let ran = run(session, &mut Handler { conversation, notices, interrupt })?;
    // The conversation does not learn of a server that failed before its first answer.
    if let Some((now, _)) = session.server() {
        notices.report_failover(now);
    }
    Ok(ran)
}

struct Handler<'a> {
    conversation: &'a mut dyn Conversation,
    notices: &'a Notices,
    interrupt: &'a Interrupt,
}

impl PipelineHandler for Handler<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        self.conversation.next().map(|(at, request)| (at as u64, request))
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), TransferError> {
        let answered = match usize::try_from(tag) {
            Ok(at) => self.conversation.answer(at, answer),
            Err(_) => Ok(false),
        };
        let failure = match answered {
            Ok(true) => return Ok(()),
            Ok(false) => failure!(BadServer, "a request got a reply of another type"),
            Err(failure) => failure,
        };
        Err(failure.into())
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr) {
        let why = self.notices.take_lost_reason();
        say!(self.notices, "lost {from} ({why}); continuing with {to}");
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

/// A limit on the names of one listing, because a hostile server could list without end.
#[derive(Debug)]
pub struct ListingBudget(pub usize);

impl Default for ListingBudget {
    fn default() -> Self {
        Self(MAX_LISTING)
    }
}

impl ListingBudget {
    /// Takes the bytes of a `T` with a text of `len` bytes; returns false if too few are left.
    pub fn take<T>(&mut self, len: usize) -> bool {
        let left = self.0.checked_sub(len + size_of::<T>());
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Ids for many changes, derived from one random seed with a single system call.
pub struct ChangeIds {
    seed: [u8; 32],
    used: u64,
}

impl ChangeIds {
    /// Creates a new seed.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| failure!(Local, "no random numbers: {e}"))?;
        Ok(Self { seed, used: 0 })
    }

    /// Returns the next id.
    pub fn next(&mut self) -> ChangeId {
        self.used += 1;
        let mut id = [0; 16];
        blake3::Hasher::new_keyed(&self.seed)
            .update(&self.used.to_be_bytes())
            .finalize_xof()
            .fill(&mut id);
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
