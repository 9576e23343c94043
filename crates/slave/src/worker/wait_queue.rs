//! Sessions that wait for a place, first come, first served.

use std::collections::VecDeque;
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use relais_net::{Socket, Stream};
use relais_proto::{Reply, WaitReason, limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use super::login::no_thread;
use crate::scoreboard::Scoreboard;
use crate::serving::Session;

/// Most reads of what somebody who is refused has sent already: an honest client sends no more ahead.
const MAX_UNREAD_READS: usize = 64;

/// A claim on a place in some worker, or on one in the queue. Given back when dropped.
pub struct SlotClaim {
    scoreboard: Arc<Scoreboard>,
    own: usize,
    /// Which client's; none for another slave, which has a place of another kind in worker `own`.
    addr: Option<IpAddr>,
    /// The worker in which a place is taken; none while it waits.
    place: Option<usize>,
    /// Whether it is still ours to give back.
    held: bool,
}

/// Why somebody has no claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// All places and the queue are taken.
    Full,
    /// This address has as many as it may.
    Address,
}

impl SlotClaim {
    /// Takes a free place for a client at `addr`, or else one in the queue of worker `own`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn of_client(
        scoreboard: Arc<Scoreboard>,
        own: usize,
        addr: IpAddr,
    ) -> Result<Self, ClaimError> {
        // Nobody overtakes those who wait.
        let place = if scoreboard.waiting() == 0 { scoreboard.take_any_slot(own) } else { None };
        if place.is_none() && !scoreboard.join_queue(own) {
            return Err(ClaimError::Full);
        }
        if !scoreboard.add_address_session(place.unwrap_or(own), addr) {
            match place {
                Some(worker) => scoreboard.free_slot(worker),
                None => scoreboard.leave_queue(own),
            }
            return Err(ClaimError::Address);
        }
        Ok(Self { scoreboard, own, addr: Some(addr), place, held: true })
    }

    /// Takes a place for another slave in worker `own`.
    ///
    /// # Errors
    /// That there is none.
    pub fn of_peer(scoreboard: Arc<Scoreboard>, own: usize) -> Result<Self, ClaimError> {
        let taken = scoreboard.take_peer_slot(own);
        if taken {
            Ok(Self { scoreboard, own, addr: None, place: Some(own), held: true })
        } else {
            Err(ClaimError::Full)
        }
    }

    /// Where the place is, once there is one.
    fn place(&mut self) -> Option<usize> {
        if self.place.is_none() {
            self.place = self.scoreboard.take_any_slot(self.own);
            if let (Some(worker), Some(addr)) = (self.place, self.addr) {
                self.scoreboard.move_address_session(worker, addr);
                self.scoreboard.remove_address_session(self.own, addr);
                self.scoreboard.leave_queue(self.own);
            }
        }
        self.place
    }

    /// From here on the place is the caller's to give back.
    fn hand_over(mut self) -> Option<usize> {
        let place = self.place?;
        self.held = false;
        Some(place)
    }
}

impl Drop for SlotClaim {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let Some(addr) = self.addr else { return self.scoreboard.free_peer_slot(self.own) };
        self.scoreboard.remove_address_session(self.place.unwrap_or(self.own), addr);
        match self.place {
            Some(worker) => self.scoreboard.free_slot(worker),
            None => self.scoreboard.leave_queue(self.own),
        }
    }
}

/// A session and its claim.
pub struct Admission {
    /// Whose session it is.
    pub session: Session,
    /// Its place, or its turn.
    pub claim: SlotClaim,
}

struct QueuedSession {
    stream: Stream,
    admission: Admission,
    /// When it was last told that it waits.
    told: Option<Instant>,
}

/// The queue of one worker. All workers together let no more wait than the scoreboard allows.
#[derive(Default)]
pub struct WaitQueue {
    sessions: VecDeque<QueuedSession>,
}

impl WaitQueue {
    /// Lets a session have its turn.
    pub fn join(&mut self, stream: Stream, admission: Admission) {
        self.sessions.push_back(QueuedSession { stream, admission, told: None });
    }

    /// The longest waiting session, once there is a place for it, and where that is. The
    /// place is the caller's to give back.
    pub fn next_with_place(&mut self) -> Option<(usize, Stream, Session)> {
        self.sessions.front_mut()?.admission.claim.place()?;
        let QueuedSession { stream, admission: Admission { session, claim }, .. } =
            self.sessions.pop_front()?;
        Some((claim.hand_over()?, stream, session))
    }

    /// Tells those who wait that they do, each second, and forgets those who have gone.
    pub fn send_keepalives(&mut self) {
        self.sessions.retain_mut(QueuedSession::send_keepalive);
    }
}

impl QueuedSession {
    /// False where the client has gone.
    fn send_keepalive(&mut self) -> bool {
        if has_gone(&self.stream.socket) {
            return false;
        }
        if self.told.is_some_and(|told| told.elapsed() < limits::WAIT_EVERY) {
            return true;
        }
        self.told = Some(Instant::now());
        let mut frame = Vec::new();
        Reply::Wait(WaitReason::Queue).encode(&mut frame);
        // A few bytes a second: where they do not fit into the socket, nobody reads them.
        matches!(send_now(&self.stream.socket, &frame), Ok(sent) if sent == frame.len())
    }
}

fn send_now(stream: &Socket, bytes: &[u8]) -> std::io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// Refuses a session for which there is no thread, as one for which there is no place. Whoever does not read it now does not hear it.
pub fn refuse_session(socket: &Socket) {
    let mut frame = Vec::new();
    Reply::Error(no_thread()).encode(&mut frame);
    let told = send_now(socket, &frame).and_then(|_| socket.shutdown(Shutdown::Write));
    if let Err(e) = told {
        debug!("a client left before it was refused: {e}");
    }
    // Where requests lie unread the end would overtake the refusal.
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
