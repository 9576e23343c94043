//! Sessions that wait for a slot, first come, first served.

use std::collections::VecDeque;
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use relais_net::{Socket, Stream};
use relais_proto::{Reply, WaitReason, limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use crate::engine::serving::Session;
use crate::front::native::login::no_thread_refusal;
use crate::scoreboard::Scoreboard;

/// Most reads of unread requests of a refused client; an honest client sends no more ahead.
const MAX_UNREAD_READS: usize = 64;

/// A claim on a slot, or on a place in the queue. It is released when dropped.
pub struct SlotClaim {
    scoreboard: Arc<Scoreboard>,
    worker: usize,
    /// Address of the client; none for another slave, which has a peer slot.
    addr: Option<IpAddr>,
    /// Whether it is a slot; otherwise the session waits.
    has_slot: bool,
}

/// Reasons for refusing a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// All slots and the queue are full.
    Full,
    /// The address has as many sessions as it may have.
    Address,
}

impl SlotClaim {
    /// Takes a slot for a client at `addr`, or a place in the queue of `worker`.
    ///
    /// # Errors
    /// The reason why there is neither.
    pub fn for_client(
        scoreboard: Arc<Scoreboard>,
        worker: usize,
        addr: IpAddr,
    ) -> Result<Self, ClaimError> {
        // A new session must not overtake waiting ones.
        let has_slot = scoreboard.waiting() == 0 && scoreboard.take_slot(worker);
        if !has_slot && !scoreboard.join_queue(worker) {
            return Err(ClaimError::Full);
        }
        if !scoreboard.add_address_session(worker, addr) {
            if has_slot {
                scoreboard.free_slot(worker)
            } else {
                scoreboard.leave_queue(worker)
            }
            return Err(ClaimError::Address);
        }
        Ok(Self { scoreboard, worker, addr: Some(addr), has_slot })
    }

    /// Takes a peer slot for another slave in `worker`.
    ///
    /// # Errors
    /// [`ClaimError::Full`] if there is none.
    pub fn for_peer(scoreboard: Arc<Scoreboard>, worker: usize) -> Result<Self, ClaimError> {
        if scoreboard.take_peer_slot(worker) {
            Ok(Self { scoreboard, worker, addr: None, has_slot: true })
        } else {
            Err(ClaimError::Full)
        }
    }

    /// Takes a slot if there is one by now; false if there is none.
    fn try_slot(&mut self) -> bool {
        if !self.has_slot && self.scoreboard.take_slot(self.worker) {
            self.scoreboard.leave_queue(self.worker);
            self.has_slot = true;
        }
        self.has_slot
    }
}

impl Drop for SlotClaim {
    fn drop(&mut self) {
        let Some(addr) = self.addr else { return self.scoreboard.free_peer_slot(self.worker) };
        self.scoreboard.remove_address_session(self.worker, addr);
        if self.has_slot {
            self.scoreboard.free_slot(self.worker);
        } else {
            self.scoreboard.leave_queue(self.worker);
        }
    }
}

/// A session and its claim.
pub struct Admission {
    /// The session.
    pub session: Session,
    /// Its slot, or its place in the queue.
    pub claim: SlotClaim,
}

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
        let mut frame = Vec::new();
        Reply::Wait(WaitReason::Queue).encode(&mut frame);
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
    let mut frame = Vec::new();
    Reply::Error(no_thread_refusal()).encode(&mut frame);
    let result = send_now(socket, &frame).and_then(|_| socket.shutdown(Shutdown::Write));
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
