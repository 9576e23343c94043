//! The slaves that the master knows, and to which of them a client goes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use relais_proto::{Endpoint, FolderId, Heartbeat, Lsn, SlaveId, SlaveReport, SlaveState, limits};
use thiserror::Error;

use crate::round_robin::{Balance, RoundRobin};
use crate::slave::{LinkId, RegisteredSlave};
use crate::slave_addresses::{ConnectionAddrs, SlaveAddresses, claims, collide, endpoints_for};

/// Most slaves that are remembered. Above it the one that is gone longest is forgotten.
pub const KNOWN_MAX: usize = 1024;

/// A slave that wants to join.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// Which slave.
    pub id: SlaveId,
    /// The link it asks on; proof of the key has been given there.
    pub link: LinkId,
    /// Where it is.
    pub place: SlaveAddresses,
    /// The folder that it serves.
    pub folder: FolderId,
    /// The latest change that it has.
    pub lsn: Lsn,
}

/// What is remembered of a slave while no master runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSlave {
    /// Which slave.
    pub id: SlaveId,
    /// The folder that it served last.
    pub folder: FolderId,
    /// Where it was last.
    pub place: SlaveAddresses,
}

/// What a registration led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// A link of the same slave that counts no longer and is to be closed.
    pub replaced: Option<LinkId>,
}

/// Why a slave cannot join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Conflict {
    /// A living link has this id.
    #[error("a slave with the id {id} is linked already")]
    SameId {
        /// The id.
        id: SlaveId,
        /// The link that has it.
        holder: LinkId,
    },
    /// Another living slave has this address.
    #[error("the slave {other} serves at this address already")]
    SameAddress {
        /// The other slave.
        other: SlaveId,
        /// Its link.
        holder: LinkId,
    },
    /// It listens nowhere.
    #[error("the slave names no address and port that it listens on")]
    Nowhere,
    /// As many slaves as can be known are linked.
    #[error("{KNOWN_MAX} slaves are linked already")]
    Full,
}

impl Conflict {
    /// The link that is in the way. Where it is in fact gone, say so with
    /// [`Registry::closed`] and try again.
    #[must_use]
    pub fn holder(&self) -> Option<LinkId> {
        match self {
            Self::SameId { holder, .. } | Self::SameAddress { holder, .. } => Some(*holder),
            Self::Nowhere | Self::Full => None,
        }
    }
}

/// Why a client cannot be sent anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoSlave {
    /// None is in service.
    #[error("no slave is in service")]
    NoneInService,
    /// None of those in service has an address for this client.
    #[error(
        "no slave in service listens on an address that you can reach; start the slaves with --listen"
    )]
    NoAddress,
}

/// A slave's state has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlaveStateChange {
    /// Which slave.
    pub id: SlaveId,
    /// An address of it, for people.
    pub addr: Option<SocketAddr>,
    /// Its state before; none where it was not known.
    pub from: Option<SlaveState>,
    /// Its state now.
    pub to: SlaveState,
}

/// The slaves in the order of their first registration, and whose turn it is.
///
/// Times are what has gone by since any fixed moment; they never go back.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    balance: Balance,
    slaves: Vec<RegisteredSlave>,
    turn: RoundRobin,
}

impl Registry {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(balance: Balance) -> Self {
        Self { balance, ..Self::default() }
    }

    /// Slaves that a former master knew. They are down until they register.
    #[must_use]
    pub fn with_known(mut self, known: &[KnownSlave]) -> Self {
        self.slaves.extend(known.iter().take(KNOWN_MAX).map(|slave| RegisteredSlave {
            id: slave.id,
            folder: slave.folder,
            place: slave.place.clone(),
            lsn: Lsn::default(),
            link: None,
            heard: None,
            beat: None,
            sent: 0,
            told: Some(SlaveState::Down),
        }));
        self
    }

    /// A slave registers. It keeps its place in the order if it was known, and is
    /// in service from its first good heartbeat on.
    ///
    /// # Errors
    /// Who is in the way; nothing has changed then.
    pub fn register(
        &mut self,
        joining: JoinRequest,
        now: Duration,
    ) -> Result<Registered, Conflict> {
        self.check(&joining, now)?;
        let JoinRequest { id, link, place, folder, lsn } = joining;
        if let Some(slave) = self.slaves.iter_mut().find(|slave| slave.id == id) {
            let replaced = slave.link.replace(link).filter(|old| *old != link);
            *slave = RegisteredSlave {
                folder,
                place,
                lsn,
                heard: Some(now),
                beat: None,
                sent: 0,
                ..slave.clone()
            };
            return Ok(Registered { replaced });
        }
        self.make_room(now)?;
        self.slaves.push(RegisteredSlave {
            id,
            folder,
            place,
            lsn,
            link: Some(link),
            heard: Some(now),
            beat: None,
            sent: 0,
            told: None,
        });
        Ok(Registered { replaced: None })
    }

    /// A heartbeat came on `link`. False where that link counts no longer, and is to be closed.
    pub fn beat(&mut self, link: LinkId, beat: Heartbeat, now: Duration) -> bool {
        let Some(slave) = self.slaves.iter_mut().find(|slave| slave.link == Some(link)) else {
            return false;
        };
        slave.lsn = beat.lsn;
        slave.beat = Some(beat);
        slave.heard = Some(now);
        slave.sent = 0;
        true
    }

    /// The link is closed; its slave is out of service at once.
    pub fn closed(&mut self, link: LinkId) {
        if let Some(slave) = self.slaves.iter_mut().find(|slave| slave.link == Some(link)) {
            slave.link = None;
        }
    }

    /// What has changed since the last call, by events or by time alone.
    pub fn notices(&mut self, now: Duration) -> Vec<SlaveStateChange> {
        let mut notices = Vec::new();
        for slave in &mut self.slaves {
            let to = slave.state(now);
            let from = slave.told.replace(to);
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

    /// Where a client goes: first to the one whose turn it is, then to up to 16
    /// that follow. Slaves in `avoid` are left out while others are in service.
    /// `prefer` comes first if it is in service, and that counts as nobody's turn. For a client that `writes`, slaves
    /// with hardly any room come last.
    ///
    /// # Errors
    /// Why there is none.
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
        match self.balance {
            Balance::RoundRobin => self.turn.sort(&mut due, self.slaves.len()),
            Balance::LeastSessions => {
                self.turn
                    .sort_by_load(&mut due, self.slaves.len(), |place| self.slaves[place].load())
            }
        }
        if writes {
            due.sort_by_key(|place| self.slaves[*place].is_low_on_space());
        }
        match prefer.and_then(|id| due.iter().position(|place| self.slaves[*place].id == id)) {
            Some(preferred) => due[..=preferred].rotate_right(1),
            None => due.first().iter().for_each(|first| self.turn.took(**first)),
        }
        due.truncate(limits::REDIRECT_SLAVES);
        if let Some(first) = due.first() {
            self.slaves[*first].sent += 1;
        }
        Ok(due.into_iter().map(|place| self.endpoint(place, client)).collect())
    }

    /// All slaves, in the order of the turn's list, as the asker sees them.
    #[must_use]
    pub fn reports(&self, asker: ConnectionAddrs, now: Duration) -> Vec<SlaveReport> {
        self.slaves.iter().map(|slave| slave.report(asker, now)).collect()
    }

    /// The places of the slaves that this client can be sent to.
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

    /// Forgets the slave that is gone longest where there are too many.
    fn make_room(&mut self, now: Duration) -> Result<(), Conflict> {
        if self.slaves.len() < KNOWN_MAX {
            return Ok(());
        }
        let gone = (0..self.slaves.len()).filter(|place| !self.slaves[*place].is_alive(now));
        let oldest = gone.min_by_key(|place| self.slaves[*place].heard).ok_or(Conflict::Full)?;
        self.slaves.remove(oldest);
        self.turn.removed(oldest);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
