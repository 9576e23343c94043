//! Sessions that wait for a slot, first come, first served.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::time::Instant;

use log::debug;
use relais_net::{Socket, Stream};
use relais_proto::limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use crate::front::native::replies;
use crate::slots::Admission;

/// Most reads of unread requests of a refused client; an honest client sends no more ahead.
const MAX_UNREAD_READS: usize = 64;

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

    /// Sends each waiting client a `Wait` frame every second, and drops those that have gone.
    pub fn send_keepalives(&mut self) {
        self.sessions.retain_mut(QueuedSession::send_keepalive);
    }
}

impl QueuedSession {
    /// Sends the client a `Wait` frame if it is due; false if the client has gone.
    fn send_keepalive(&mut self) -> bool {
        if has_gone(&self.stream.socket) {
            return false;
        }
        if self.notified_at.is_some_and(|notified_at| notified_at.elapsed() < limits::WAIT_EVERY) {
            return true;
        }
        self.notified_at = Some(Instant::now());
        let frame = replies::queued();
        // If these few bytes a second do not fit into the socket, the client does not read.
        matches!(send_now(&self.stream.socket, &frame), Ok(sent) if sent == frame.len())
    }
}

fn send_now(stream: &Socket, bytes: &[u8]) -> std::io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// Refuses a session for which there is no thread, like one for which there is no slot.
///
/// The refusal is lost if the client does not read.
pub fn refuse_session(socket: &Socket) {
    let result = send_now(socket, &replies::busy()).and_then(|_| socket.shutdown(Shutdown::Write));
    if let Err(e) = result {
        debug!("a client disconnected before it was refused: {e}");
    }
    // Unread requests would make the kernel reset the connection before the refusal arrives.
    let mut unread = [0; 4096];
    for _ in 0..MAX_UNREAD_READS {
        if !rustix::net::recv(socket, &mut unread[..], RecvFlags::DONTWAIT)
            .is_ok_and(|(n, _)| n > 0)
        {
            break;
        }
    }
}

fn has_gone(stream: &Socket) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR),
        Err(_) => false,
    }
}
