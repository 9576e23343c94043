//! The mailbox between the link to the coordinator and the catalogue writer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
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
            scoreboard.cloned.set(true);
        }
    }
}

/// The catalogue writer's side.
pub struct LinkMailbox {
    /// The events of the link.
    pub events: Mailbox<LinkEvent>,
    /// Takes the messages to be sent.
    pub outgoing: Arc<OutgoingMessages>,
    /// Events that arrived while another slave wrote the catalogue.
    pub backlog: Vec<LinkEvent>,
}

impl LinkMailbox {
    /// Makes both sides.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<(MailboxSender<LinkEvent>, Self)> {
        let (sender, events) = Mailbox::new()?;
        Ok((sender, Self { events, outgoing: Arc::default(), backlog: Vec::new() }))
    }

    /// Takes the backlog and the events that have come since.
    #[must_use]
    pub fn take(&mut self) -> Vec<LinkEvent> {
        let mut events = std::mem::take(&mut self.backlog);
        events.extend(self.events.take());
        events
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
    /// Begins a link, whose messages `sink` takes.
    pub fn begin(&self, link: u64, sink: impl Fn(Vec<LinkMessage>) + Send + 'static) {
        *self.current.lock() = Some((link, Box::new(sink)));
    }

    /// Returns whether there is a link.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.current.lock().is_some()
    }

    /// Ends the current link.
    pub fn end(&self) {
        *self.current.lock() = None;
    }

    /// Sends messages, each on the link with its number.
    ///
    /// Messages of a link that is down are dropped.
    pub fn send(&self, messages: Vec<(u64, LinkMessage)>) {
        if !messages.is_empty()
            && let Some((current, sink)) = self.current.lock().as_ref()
        {
            let messages = messages.into_iter().filter(|(link, _)| link == current);
            sink(messages.map(|(_, message)| message).collect());
        }
    }

    /// Sends a message on the current link; false if there is none.
    pub fn send_now(&self, message: LinkMessage) -> bool {
        match self.current.lock().as_ref() {
            Some((_, sink)) => {
                sink(vec![message]);
                true
            }
            None => false,
        }
    }

    /// Closes the link with this number.
    pub fn close(&self, link: u64) {
        self.current.lock().take_if(|(current, _)| *current == link);
    }
}
