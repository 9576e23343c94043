//! The way of messages to a slave, which the crate's users implement.

use relais_proto::LinkMessage;

/// The outgoing side of a link. Neither function waits.
pub trait LinkSender: Send + Sync {
    /// Queues a message. After the end of the link it is dropped.
    fn send(&self, message: LinkMessage);

    /// Ends the link at once.
    fn close(&self);
}
