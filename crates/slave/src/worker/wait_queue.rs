//! Sessions that wait for a slot, first come, first served.

use std::collections::VecDeque;
use std::time::Instant;

use log::debug;
use relais_net::Stream;
use relais_proto::limits;
use rustix::net::SendFlags;

use crate::front::native::replies;
use crate::slots::{Admission, AdmittedFront};

struct QueuedSession {
    stream: Stream,
    admission: Admission,
    /// When the client was last sent a `Wait` frame.
    notified_at: Option<Instant>,
}

/// The queue of one worker; the scoreboard limits all queues together.
#[derive(Default)]
pub struct WaitQueue {
    sessions: VecDeque<QueuedSession>,
}

impl WaitQueue {
    /// Adds a session to the end of the queue.
    pub fn join(&mut self, stream: Stream, admission: Admission) {
        self.sessions.push_back(QueuedSession { stream, admission, notified_at: None });
    }

    /// Removes the session that waits longest, if there is a slot for it by now.
    pub fn next_with_slot(&mut self) -> Option<(Stream, Admission)> {
        if !self.sessions.front_mut()?.admission.claim.try_slot() {
            return None;
        }
        self.sessions.pop_front().map(|queued| (queued.stream, queued.admission))
    }

    /// Sends each waiting native client a `Wait` frame every second, and drops clients that have
    /// gone.
    pub fn send_keepalives(&mut self) {
        self.sessions.retain_mut(QueuedSession::send_keepalive);
    }
}

impl QueuedSession {
    /// Sends the client a `Wait` frame if it is due; false if the client has gone.
    fn send_keepalive(&mut self) -> bool {
        if self.stream.has_hung_up() {
            return false;
        }
        // FTP has no reply that could come before the one to PASS (RFC 959 section 5.4).
        if !matches!(self.admission.front, AdmittedFront::Native)
            || self.notified_at.is_some_and(|at| at.elapsed() < limits::WAIT_EVERY)
        {
            return true;
        }
        self.notified_at = Some(Instant::now());
        let frame = replies::queued();
        // If these few bytes a second do not fit into the socket, the client does not read.
        matches!(self.stream.send(&frame, SendFlags::DONTWAIT), Ok(sent) if sent == frame.len())
    }
}

/// Refuses a session for which there is no thread, like one for which there is no slot.
///
/// The refusal is lost if the client does not read.
pub fn refuse_session(stream: &Stream, refusal: &[u8]) {
    let flags = SendFlags::DONTWAIT;
    let result = stream.send(refusal, flags).and_then(|_| stream.end_sending(flags));
    if let Err(e) = result {
        debug!("a client disconnected before it was refused: {e}");
    }
    // Only the effect of reading counts.
    let _ = stream.discard_input();
}
