//! Replies that more than one part of the front end sends.

use relais_engine::{Committed, Session};
use relais_net::Connection;
use relais_proto::{ErrorCode, Refusal, Reply, WaitReason};

use super::keep_alive::ConnectionKeepAlive;

/// Seconds after which a client that found no slot may try again.
pub const RETRY_AFTER: u16 = 1;

/// Returns the answer to a change that was made.
pub fn committed(change: Committed) -> Reply {
    let Committed { version, copies, lsn, digest, is_current } = change;
    Reply::Committed { version, copies, lsn, digest, current: is_current }
}

/// Returns the bytes that tell a client that it waits in the queue.
pub fn queued() -> Vec<u8> {
    encoded(&Reply::Wait(WaitReason::Queue))
}

/// Returns the bytes that refuse a session for which there is no thread.
pub fn busy() -> Vec<u8> {
    let message = format!("the slave cannot start another session; try again in {RETRY_AFTER} s");
    let refusal = Refusal::new(ErrorCode::Busy, message);
    encoded(&Reply::Error(Refusal { retry_after: RETRY_AFTER, ..refusal }))
}

/// Returns the bytes of a reply.
pub fn encoded(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes);
    bytes
}

/// Queues the answers to changes that have come.
pub fn queue_answers(connection: &mut Connection, session: &mut Session) {
    while let Some(answer) = session.answer(&mut ConnectionKeepAlive::new(connection)) {
        connection.queue_reply(&answer.map_or_else(Reply::Error, committed));
    }
}
