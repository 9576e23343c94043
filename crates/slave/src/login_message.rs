//! The messages about logins between workers and replicator.
//!
//! A worker cannot reach the master itself. It sends a login to the replicator, which has the link
//! of this slave, also while another slave writes the catalogue. The messages are those of the
//! link. Their number names the worker that gets the answer.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use relais_os::{ProcessMailbox, ProcessMessage};
use relais_proto::{ForwardedLogin, FrameHeader, HEADER_LEN, LinkMessage, TicketRenewal, limits};

/// Bits of a query's number below the index of its worker.
const WORKER_SHIFT: u32 = 48;

/// A question about a login, or its answer.
#[derive(Debug, PartialEq, Eq)]
pub struct LoginMessage {
    /// The number of the query.
    pub query: u64,
    /// The message of the link.
    pub message: LinkMessage,
}

impl LoginMessage {
    /// Takes a message of the link that is about a login; none for another one.
    #[must_use]
    pub fn new(message: LinkMessage) -> Option<Self> {
        let query = match &message {
            LinkMessage::ForwardedLogin(ForwardedLogin { query, .. })
            | LinkMessage::TicketRenewal(TicketRenewal { query, .. })
            | LinkMessage::TicketIssued { query, .. }
            | LinkMessage::LoginRefused { query, .. } => *query,
            _ => return None,
        };
        Some(Self { query, message })
    }
}

impl ProcessMessage for LoginMessage {
    // The longest message has a ticket, a number, and either an address and a flag or a change.
    const MAX_LEN: usize = limits::TICKET + 128;

    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
        let mut bytes = Vec::with_capacity(Self::MAX_LEN);
        self.message.encode(&mut bytes);
        (bytes, None)
    }

    fn decode(bytes: &[u8], _fd: Option<OwnedFd>) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let kind = FrameHeader::parse(*header).ok()?.kind;
        Self::new(LinkMessage::decode(kind, payload).ok()?)
    }
}

/// The mailboxes for logins of all processes.
pub struct LoginMailboxes {
    /// What the workers ask the master.
    pub to_master: ProcessMailbox<LoginMessage>,
    to_workers: Vec<ProcessMailbox<LoginMessage>>,
}

impl LoginMailboxes {
    /// Makes the mailboxes, before the first fork.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(workers: usize) -> io::Result<Self> {
        let to_workers = (0..workers).map(|_| ProcessMailbox::new()).collect::<io::Result<_>>()?;
        Ok(Self { to_master: ProcessMailbox::new()?, to_workers })
    }

    /// The mailbox for the answers to a worker.
    #[must_use]
    pub fn of_worker(&self, worker: usize) -> &ProcessMailbox<LoginMessage> {
        &self.to_workers[worker]
    }

    /// The mailbox for the answer to a query; none if no worker has asked it.
    #[must_use]
    pub fn for_query(&self, query: u64) -> Option<&ProcessMailbox<LoginMessage>> {
        self.to_workers.get(usize::try_from(query >> WORKER_SHIFT).ok()?)
    }
}

/// Makes the number of a query from the index of a worker and a count, whose high bits are cut.
#[must_use]
pub fn query_number(worker: usize, count: u64) -> u64 {
    (worker as u64) << WORKER_SHIFT | count & ((1 << WORKER_SHIFT) - 1)
}

#[cfg(test)]
mod tests {
    use relais_proto::{ErrorCode, Lsn, Refusal};

    use super::*;

    #[test]
    fn longest_messages_arrive_at_the_worker_that_asked() {
        let mailboxes = LoginMailboxes::new(3).unwrap();
        let query = query_number(2, u64::MAX);
        let client = "[2001:db8::1]:65535".parse().unwrap();
        let (user, password) = ("u".repeat(limits::USER), [7; limits::PASSWORD]);
        let ticket = vec![7; limits::TICKET];
        let why = Refusal::new(ErrorCode::Busy, "m".repeat(limits::TEXT));
        for message in [
            LinkMessage::ForwardedLogin(ForwardedLogin {
                query,
                client,
                local: true,
                user,
                password: password.as_slice().into(),
            }),
            LinkMessage::TicketRenewal(TicketRenewal {
                query,
                client,
                local: true,
                ticket: ticket.clone(),
            }),
            LinkMessage::TicketIssued { query, lsn: Lsn::default(), ticket },
            LinkMessage::LoginRefused { query, why },
        ] {
            let mailbox = mailboxes.for_query(query).unwrap();
            mailbox.send(&LoginMessage::new(message.clone()).unwrap()).unwrap();
            let got = mailboxes.of_worker(2).take().next().unwrap();
            assert_eq!((got.query, got.message), (query, message));
        }
        assert!(mailboxes.for_query(query_number(3, 0)).is_none());
        assert!(LoginMessage::new(LinkMessage::AskReport).is_none());
        assert_ne!(query_number(1, 0), query_number(2, 0));
    }
}
