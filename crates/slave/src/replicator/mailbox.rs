//! The mailbox between the link to the coordinator and the catalogue writer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use relais_os::{Mailbox, MailboxSender};
use relais_proto::LinkMessage;
use relais_storage::LinkEvent;

use crate::scoreboard::Scoreboard;

/// Time after which an id conflict is certain.
///
/// Until then the other link may be an old one of this slave, whose end the master has not seen.
const CONFLICT_CONFIRMED: Duration = Duration::from_secs(10);

/// Since when the master reports that another slave has ids of this one.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdConflict(Option<Instant>);

impl IdConflict {
    /// Records that the master reports the conflict.
    pub fn record(&mut self, scoreboard: &Scoreboard) {
        if self.0.get_or_insert_with(Instant::now).elapsed() >= CONFLICT_CONFIRMED {
            scoreboard.set_cloned(true);
        }
    }
}

/// The catalogue writer's side: receives events, and sends messages to the master.
pub struct LinkMailbox {
    events: Mailbox<LinkEvent>,
    outgoing: Arc<OutgoingMessages>,
}

impl LinkMailbox {
    /// Makes both sides, and the queue of messages that the link's thread sends.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<(MailboxSender<LinkEvent>, Self, Arc<OutgoingMessages>)> {
        let (sender, events) = Mailbox::new()?;
        let outgoing = Arc::new(OutgoingMessages::default());
        Ok((sender, Self { events, outgoing: outgoing.clone() }, outgoing))
    }

    /// Returns the events that have come.
    #[must_use]
    pub fn receive(&self) -> Vec<LinkEvent> {
        self.events.take()
    }

    /// Returns the descriptor that is readable when events have come.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Sends messages, each on the link with its number, and empties `messages`.
    ///
    /// Messages of a link that is down are dropped.
    pub fn send(&self, messages: &mut Vec<(u64, LinkMessage)>) {
        if !messages.is_empty() {
            self.outgoing.send(std::mem::take(messages));
        }
    }

    /// Closes the link with this number.
    pub fn close(&self, link: u64) {
        self.outgoing.close(link);
    }
}

/// Takes the messages of one link. That of a local coordinator waits while its queue is full.
type MessageSink = Box<dyn Fn(Vec<LinkMessage>) + Send>;

/// The messages to be sent on the current link.
#[derive(Default)]
pub struct OutgoingMessages {
    current: Mutex<Option<(u64, MessageSink)>>,
}

impl OutgoingMessages {
    fn lock(&self) -> MutexGuard<'_, Option<(u64, MessageSink)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a link, whose messages `sink` takes.
    pub fn begin(&self, link: u64, sink: impl Fn(Vec<LinkMessage>) + Send + 'static) {
        *self.lock() = Some((link, Box::new(sink)));
    }

    /// Returns whether there is a link.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// Ends the current link.
    pub fn end(&self) {
        *self.lock() = None;
    }

    fn send(&self, messages: Vec<(u64, LinkMessage)>) {
        if let Some((current, sink)) = self.lock().as_ref() {
            let messages = messages.into_iter().filter(|(link, _)| link == current);
            sink(messages.map(|(_, message)| message).collect());
        }
    }

    fn close(&self, link: u64) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|(number, _)| *number == link) {
            *current = None;
        }
    }
}
