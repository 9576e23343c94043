//! Claims on session slots and on places in the queue, which the scoreboard counts.

use std::net::IpAddr;
use std::sync::Arc;

use relais_engine::{Principal, Protocol};
use relais_ftp::LineBuffer;

use crate::front::ftp::state::LoginSettings;
use crate::front::http::request::AdmittedRequest;
use crate::scoreboard::Scoreboard;

/// A claim on a slot, or on a place in the queue. It is released when dropped.
pub struct SlotClaim {
    scoreboard: Arc<Scoreboard>,
    worker: usize,
    /// Address of the client; none for another slave, which has a peer slot.
    addr: Option<IpAddr>,
    /// Whether it is a slot; otherwise the session waits.
    has_slot: bool,
    /// Protocol of the session that is served in the slot.
    protocol: Option<Protocol>,
}

impl SlotClaim {
    /// Takes a slot in `worker` for a client at `addr`, or a place in the queue; without an
    /// address a slot for another slave.
    ///
    /// # Errors
    /// The reason why there is neither.
    pub fn take(
        scoreboard: Arc<Scoreboard>,
        worker: usize,
        addr: Option<IpAddr>,
    ) -> Result<Self, &'static str> {
        let has_slot = match addr {
            None => scoreboard.take_peer_slot(worker),
            // A new session must not overtake waiting ones.
            Some(_) => scoreboard.waiting() == 0 && scoreboard.take_slot(worker),
        };
        if !has_slot && (addr.is_none() || !scoreboard.join_queue(worker)) {
            return Err("all session slots are taken");
        }
        if addr.is_some_and(|addr| !scoreboard.add_address_session(worker, addr)) {
            if has_slot {
                scoreboard.free_slot(worker)
            } else {
                scoreboard.leave_queue(worker)
            }
            return Err("your address has as many sessions here as it may have");
        }
        Ok(Self { scoreboard, worker, addr, has_slot, protocol: None })
    }

    /// Counts the session of a client that is served in the slot from now on.
    pub fn begin_session(&mut self, protocol: Protocol) {
        if self.addr.is_some() && self.protocol.replace(protocol).is_none() {
            self.scoreboard.activity.begin_session(self.worker, protocol);
        }
    }

    /// Takes a slot if there is one by now; false if there is none.
    pub fn try_slot(&mut self) -> bool {
        if !self.has_slot && self.scoreboard.take_slot(self.worker) {
            self.scoreboard.leave_queue(self.worker);
            self.has_slot = true;
        }
        self.has_slot
    }
}

impl Drop for SlotClaim {
    fn drop(&mut self) {
        if let Some(protocol) = self.protocol {
            self.scoreboard.activity.end_session(self.worker, protocol);
        }
        let Some(addr) = self.addr else { return self.scoreboard.free_peer_slot(self.worker) };
        self.scoreboard.remove_address_session(self.worker, addr);
        if self.has_slot {
            self.scoreboard.free_slot(self.worker);
        } else {
            self.scoreboard.leave_queue(self.worker);
        }
    }
}

/// A user that has logged in, and the claim of the session.
pub struct Admission {
    /// The user.
    pub principal: Principal,
    /// The slot, or the place in the queue.
    pub claim: SlotClaim,
    /// What the front end takes over from the login.
    pub front: AdmittedFront,
}

/// The front end of an admitted client, with what came before its session.
pub enum AdmittedFront {
    /// The native one.
    Native,
    /// That of FTP: what was read after the login, and what the client has set.
    Ftp { protocol: Protocol, input: LineBuffer, settings: LoginSettings },
    /// That of HTTP: the request that the session begins with.
    Http(Box<AdmittedRequest>),
}

impl AdmittedFront {
    /// Returns the protocol of the session.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Native => Protocol::Native,
            Self::Ftp { protocol, .. } => *protocol,
            Self::Http(request) => request.protocol,
        }
    }
}
