//! Registry of slaves, and the selection of a slave for a client.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use relais_proto::{Endpoint, FolderId, Heartbeat, Lsn, SlaveId, SlaveReport, SlaveState, limits};
use thiserror::Error;

use crate::http_addresses::HttpAddresses;
use crate::round_robin::{Balance, RoundRobin};
use crate::slave::{KnownSlave, LinkId, RegisteredSlave};
use crate::slave_addresses::{ConnectionAddrs, SlaveAddresses, claims, collide, endpoints_for};

/// Highest number of known slaves. The slave that is gone longest is dropped above it.
pub const KNOWN_MAX: usize = 1024;

/// Request of a slave to join.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone)]
pub struct JoinRequest {
    pub id: SlaveId,
    /// Link of the request; the slave has proved the key on it.
    pub link: LinkId,
    pub place: SlaveAddresses,
    pub http: HttpAddresses,
    pub folder: FolderId,
    /// Latest change that the slave has applied.
    pub lsn: Lsn,
}

/// Reason why a slave cannot join.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Conflict {
    /// A live link has this id.
    #[error("a slave with the id {id} is linked already")]
    SameId {
        id: SlaveId,
        /// Link of the slave with this id.
        holder: LinkId,
    },
    /// Another live slave has this address.
    #[error("the slave {other} serves at this address already")]
    SameAddress {
        other: SlaveId,
        /// Link of the other slave.
        holder: LinkId,
    },
    /// The slave names no listening address.
    #[error("the slave names no address and port that it listens on")]
    Nowhere,
    /// The highest number of slaves is linked.
    #[error("{KNOWN_MAX} slaves are linked already")]
    Full,
}

impl Conflict {
    /// Returns the conflicting link.
    ///
    /// If that link is gone in fact, call [`Registry::closed`] and retry.
    #[must_use]
    pub fn holder(&self) -> Option<LinkId> {
        match self {
            Self::SameId { holder, .. } | Self::SameAddress { holder, .. } => Some(*holder),
            Self::Nowhere | Self::Full => None,
        }
    }
}

/// Reason why no slave can serve a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoSlave {
    /// No slave is in service.
    #[error("no slave is in service")]
    NoneInService,
    /// No slave in service has an address for this client.
    #[error(
        "no slave in service listens on an address that you can reach; \
         start the slaves with --listen"
    )]
    NoAddress,
    /// No slave in service serves HTTP to this client.
    #[error("no slave in service serves HTTP at an address that you can reach")]
    NoHttp,
}

/// Change of a slave's state.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlaveStateChange {
    pub id: SlaveId,
    /// An address of the slave, for people.
    pub addr: Option<SocketAddr>,
    /// Former state; `None` if the slave was not known.
    pub from: Option<SlaveState>,
    pub to: SlaveState,
}

/// The slaves in the order of their first registration, with the round-robin position.
///
/// Times are durations since any fixed moment; they never go back.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    balance: Balance,
    slaves: Vec<RegisteredSlave>,
    turn: RoundRobin,
    /// The turn of HTTP requests, of which one client sends many.
    http_turn: RoundRobin,
}

impl Registry {
    /// Makes an empty registry.
    #[must_use]
    pub fn new(balance: Balance) -> Self {
        Self { balance, ..Self::default() }
    }

    /// Adds the slaves that a former master knew. They are down until they register.
    #[must_use]
    pub fn with_known(mut self, known: &[KnownSlave]) -> Self {
        self.slaves.extend(known.iter().take(KNOWN_MAX).map(|slave| RegisteredSlave {
            seen_state: Some(SlaveState::Down),
            ..RegisteredSlave::new(slave.clone())
        }));
        self
    }

    /// Registers a slave.
    ///
    /// A known slave keeps its position in the list. The slave is in service from its first good
    /// heartbeat on.
    ///
    /// Returns the former link of the same slave; the caller must close it.
    ///
    /// # Errors
    /// The conflict; nothing has changed then.
    pub fn register(
        &mut self,
        joining: JoinRequest,
        now: Duration,
    ) -> Result<Option<LinkId>, Conflict> {
        self.check(&joining, now)?;
        let JoinRequest { id, link, place, http, folder, lsn } = joining;
        let (link, last_message) = (Some(link), Some(now));
        let known = KnownSlave { id, folder, place };
        let joined =
            RegisteredSlave { http, lsn, link, last_message, ..RegisteredSlave::new(known) };
        let Some(slave) = self.slaves.iter_mut().find(|slave| slave.id == id) else {
            self.make_room(now)?;
            self.slaves.push(joined);
            return Ok(None);
        };
        let replaced = slave.link.filter(|old| Some(*old) != link);
        *slave = RegisteredSlave { seen_state: slave.seen_state, ..joined };
        Ok(replaced)
    }

    /// Records a heartbeat. Returns false if the caller must close the link, because it is
    /// obsolete.
    pub fn record_heartbeat(&mut self, link: LinkId, heartbeat: Heartbeat, now: Duration) -> bool {
        let Some(slave) = self.slaves.iter_mut().find(|slave| slave.link == Some(link)) else {
            return false;
        };
        slave.lsn = heartbeat.lsn;
        slave.heartbeat = Some(heartbeat);
        slave.last_message = Some(now);
        slave.sent = 0;
        true
    }

    /// Records that the link is closed; its slave is out of service at once.
    pub fn closed(&mut self, link: LinkId) {
        if let Some(slave) = self.slaves.iter_mut().find(|slave| slave.link == Some(link)) {
            slave.link = None;
        }
    }

    /// Returns the state changes since the last call, caused by events or by time.
    pub fn notices(&mut self, now: Duration) -> Vec<SlaveStateChange> {
        let mut notices = Vec::new();
        for slave in &mut self.slaves {
            let to = slave.state(now);
            let from = slave.seen_state.replace(to);
            if from != Some(to) {
                notices.push(SlaveStateChange {
                    id: slave.id,
                    addr: claims(&slave.place).first().copied(),
                    from,
                    to,
                });
            }
        }
        notices
    }

    /// Selects the slaves for a client: the one whose turn it is, and up to 16 alternatives.
    ///
    /// Slaves in `avoid` are left out while others are in service. `prefer` comes first if it is in
    /// service, and does not use up a turn. For a client that `writes`, slaves with a nearly full
    /// disk come last.
    ///
    /// # Errors
    /// The reason why there is no slave.
    pub fn redirect(
        &mut self,
        client: ConnectionAddrs,
        avoid: &[SlaveId],
        prefer: Option<SlaveId>,
        writes: bool,
        now: Duration,
    ) -> Result<Vec<Endpoint>, NoSlave> {
        let mut due = self.reachable(client, now)?;
        let avoid: HashSet<&SlaveId> = avoid.iter().collect();
        if due.iter().any(|place| !avoid.contains(&self.slaves[*place].id)) {
            due.retain(|place| !avoid.contains(&self.slaves[*place].id));
        }
        self.turn.sort_by_load(&mut due, self.slaves.len(), |place| match self.balance {
            Balance::RoundRobin => 0,
            Balance::LeastSessions => self.slaves[place].load(),
        });
        if writes {
            due.sort_by_key(|place| self.slaves[*place].is_low_on_space());
        }
        match prefer.and_then(|id| due.iter().position(|place| self.slaves[*place].id == id)) {
            Some(preferred) => due[..=preferred].rotate_right(1),
            None => due.first().iter().for_each(|first| self.turn.advance_past(**first)),
        }
        due.truncate(limits::REDIRECT_SLAVES);
        if let Some(first) = due.first() {
            self.slaves[*first].sent += 1;
        }
        Ok(due.into_iter().map(|place| self.endpoint(place, client)).collect())
    }

    /// Reports all slaves, in the order of the list, as the client sees them.
    #[must_use]
    pub fn reports(&self, asker: ConnectionAddrs, now: Duration) -> Vec<SlaveReport> {
        self.slaves.iter().map(|slave| slave.report(asker, now)).collect()
    }

    /// Returns the positions of the slaves that this client can reach.
    fn reachable(&self, client: ConnectionAddrs, now: Duration) -> Result<Vec<usize>, NoSlave> {
        let in_service: Vec<usize> =
            (0..self.slaves.len()).filter(|place| self.slaves[*place].in_service(now)).collect();
        if in_service.is_empty() {
            return Err(NoSlave::NoneInService);
        }
        let with_address: Vec<usize> = in_service
            .into_iter()
            .filter(|place| !endpoints_for(&self.slaves[*place].place, client).is_empty())
            .collect();
        if with_address.is_empty() { Err(NoSlave::NoAddress) } else { Ok(with_address) }
    }

    fn endpoint(&self, place: usize, client: ConnectionAddrs) -> Endpoint {
        let slave = &self.slaves[place];
        Endpoint { id: slave.id, addrs: endpoints_for(&slave.place, client) }
    }

    fn check(&self, joining: &JoinRequest, now: Duration) -> Result<(), Conflict> {
        let place = &joining.place;
        if !place.advertised.iter().chain(&place.listen).any(|addr| addr.port() != 0) {
            return Err(Conflict::Nowhere);
        }
        for slave in self.slaves.iter().filter(|slave| slave.is_alive(now)) {
            let Some(holder) = slave.link.filter(|link| *link != joining.link) else { continue };
            if slave.id == joining.id {
                return Err(Conflict::SameId { id: slave.id, holder });
            }
            if collide(&slave.place, place) {
                return Err(Conflict::SameAddress { other: slave.id, holder });
            }
        }
        Ok(())
    }

    /// Drops the slave that is gone longest if there are too many.
    fn make_room(&mut self, now: Duration) -> Result<(), Conflict> {
        if self.slaves.len() < KNOWN_MAX {
            return Ok(());
        }
        let gone = (0..self.slaves.len()).filter(|place| !self.slaves[*place].is_alive(now));
        let oldest =
            gone.min_by_key(|place| self.slaves[*place].last_message).ok_or(Conflict::Full)?;
        self.slaves.remove(oldest);
        self.turn.removed(oldest);
        self.http_turn.removed(oldest);
        Ok(())
    }
}

mod http;

#[cfg(test)]
mod tests;
