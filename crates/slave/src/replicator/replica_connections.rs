//! The connections of the replica: to sessions, to the coordinator and to other slaves.
//!
//! They carry what the replica receives and sends, and decide nothing. Only the thread of the
//! catalogue writer uses them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use relais_storage::{
    CatalogError, MetadataFolder, Output, ProposalResult, ReplicaDriver, Scanner, SessionRequests,
};

use super::fetch::FetchPool;
use super::mailbox::{IdConflict, LinkMailbox};
use crate::changes::channel::listen;
use crate::changes::proposal_receiver::ProposalReceiver;
use crate::scoreboard::Scoreboard;

/// The ends of all connections of the replica.
pub struct ReplicaConnections {
    receiver: ProposalReceiver,
    mailbox: LinkMailbox,
    /// Threads that fetch content from other slaves; `None` in a standalone slave.
    fetch_pool: Option<FetchPool>,
    /// Counters in shared memory.
    pub scoreboard: Arc<Scoreboard>,
    id_conflict: IdConflict,
}

impl ReplicaConnections {
    /// Listens for sessions, and takes over the other connections.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn new(
        own: &MetadataFolder,
        scoreboard: Arc<Scoreboard>,
        mailbox: LinkMailbox,
        fetch_pool: Option<FetchPool>,
    ) -> io::Result<Self> {
        Ok(Self {
            receiver: ProposalReceiver::new(listen(own)?),
            mailbox,
            fetch_pool,
            scoreboard,
            id_conflict: IdConflict::default(),
        })
    }

    /// Returns the descriptors to poll.
    pub fn fds<'a>(&'a self, driver: &ReplicaDriver) -> impl Iterator<Item = BorrowedFd<'a>> {
        self.receiver
            .fds(driver.proposal_capacity() > 0)
            .chain([self.mailbox.events.as_fd()])
            .chain(self.fetch_pool.iter().map(|pool| pool.results.as_fd()))
    }

    /// Passes all that has arrived to the replica, and sends what it returns.
    ///
    /// # Errors
    /// Those of the replica, which then must not be used any more.
    pub fn run_once(
        &mut self,
        driver: &mut ReplicaDriver,
        scanner: &mut Scanner,
    ) -> Result<(), CatalogError> {
        self.scoreboard.writer_ticked.set_now();
        let handled = driver.handle_link_events(self.mailbox.take(), &scanner.store);
        self.deliver(driver);
        handled?;
        let requests = self.take_requests(driver.proposal_capacity());
        let fetched = self.fetch_pool.as_ref().map(|pool| pool.results.take()).unwrap_or_default();
        let run = driver.run_once(requests, fetched, scanner);
        self.deliver(driver);
        run?;
        if let Some(pool) = &self.fetch_pool {
            pool.retain_partials(|put| driver.wants(put));
        }
        Ok(())
    }

    fn take_requests(&mut self, capacity: usize) -> SessionRequests {
        self.receiver.accept();
        let mut requests = self.receiver.gather(capacity);
        for (_, proposal) in &mut requests.proposals {
            if proposal.copies == 0 {
                proposal.copies = self.scoreboard.copies();
            }
        }
        requests
    }

    fn deliver(&mut self, driver: &mut ReplicaDriver) {
        // Sent together, the proposals of a round share a sync of the journal.
        let mut messages = Vec::new();
        let mut answers = BTreeMap::<u64, Vec<ProposalResult>>::new();
        for output in driver.take_outputs() {
            match output {
                Output::Send(link, message) => messages.push((link, message)),
                Output::CloseLink(link) => {
                    self.mailbox.outgoing.send(std::mem::take(&mut messages));
                    self.mailbox.outgoing.close(link);
                }
                Output::IdConflict(false) => self.id_conflict = IdConflict::default(),
                Output::IdConflict(true) => self.id_conflict.record(&self.scoreboard),
                Output::Answer(channel, answer) => {
                    answers.entry(channel).or_default().push(answer);
                }
                Output::Holders(channel, holders) => self.receiver.send_holders(channel, &holders),
                Output::PauseChannels(channels) => self.receiver.pause(channels),
                Output::Fetch { put, missing, from } => {
                    if let Some(pool) = &self.fetch_pool {
                        pool.order(put, missing, from);
                    }
                }
                Output::Peers(peers) => {
                    if let Some(pool) = &self.fetch_pool {
                        pool.set_peers(peers);
                    }
                }
            }
        }
        for (channel, answers) in answers {
            self.receiver.answer(channel, &answers);
        }
        self.mailbox.outgoing.send(messages);
    }
}
