//! One slave as the master knows it, and the state that follows from that.

use std::net::IpAddr;
use std::time::Duration;

use relais_proto::{Counters, FolderId, Heartbeat, Lsn, SlaveId, SlaveReport, SlaveState, limits};

use crate::slave_addresses::{ConnectionAddrs, SlaveAddresses, endpoints_for};

/// A connection of a slave to the master; no two ever have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Silence after which a slave is out of service.
pub(crate) fn patience() -> Duration {
    limits::BEAT_EVERY * limits::BEATS_MISSED
}

#[derive(Debug, Clone)]
pub(crate) struct RegisteredSlave {
    pub id: SlaveId,
    pub folder: FolderId,
    pub place: SlaveAddresses,
    pub lsn: Lsn,
    /// The connection it has, if any.
    pub link: Option<LinkId>,
    /// When it was last heard of; none: not since the start.
    pub heard: Option<Duration>,
    /// Its last heartbeat on this link.
    pub beat: Option<Heartbeat>,
    /// Clients sent to it since then.
    pub sent: u64,
    /// The state that was last told to the caller.
    pub told: Option<SlaveState>,
}

impl RegisteredSlave {
    /// Whether its link is there and was heard of lately.
    pub fn is_alive(&self, now: Duration) -> bool {
        self.link.is_some() && self.silence(now).is_some_and(|silence| silence < patience())
    }

    fn silence(&self, now: Duration) -> Option<Duration> {
        self.heard.map(|heard| now.saturating_sub(heard))
    }

    pub fn state(&self, now: Duration) -> SlaveState {
        match &self.beat {
            _ if !self.is_alive(now) => SlaveState::Down,
            None => SlaveState::CatchingUp,
            Some(beat) if beat.counters.workers == 0 => SlaveState::Down,
            Some(beat) => beat.state,
        }
    }

    pub fn in_service(&self, now: Duration) -> bool {
        self.state(now) == SlaveState::InService
    }

    /// Whether its disk has hardly any room left for files.
    pub fn is_low_on_space(&self) -> bool {
        self.beat.as_ref().is_some_and(|beat| beat.disk.is_low())
    }

    /// Sessions that it has, with those that it will hear of in a moment.
    pub fn load(&self) -> u64 {
        self.beat
            .as_ref()
            .map_or(0, |beat| u64::from(beat.counters.sessions))
            .saturating_add(self.sent)
    }

    pub fn report(&self, asker: ConnectionAddrs, now: Duration) -> SlaveReport {
        let (counters, last_error) =
            self.beat.as_ref().map_or((Counters::default(), String::new()), |beat| {
                let counters = match self.state(now) {
                    // What a slave that is gone last said of its pool holds no longer.
                    SlaveState::Down => {
                        Counters { sessions: 0, waiting: 0, workers: 0, ..beat.counters.clone() }
                    }
                    _ => beat.counters.clone(),
                };
                (counters, beat.last_error.clone())
            });
        SlaveReport {
            id: self.id,
            folder: self.folder,
            addrs: self.seen_from(asker),
            state: self.state(now),
            lsn: self.lsn,
            counters,
            last_error,
            silent_ms: self
                .silence(now)
                .and_then(|silence| u64::try_from(silence.as_millis()).ok())
                .unwrap_or(SlaveReport::NOT_HEARD),
        }
    }

    /// Its addresses for the asker; for one that can use none of them, those that it claims.
    fn seen_from(&self, asker: ConnectionAddrs) -> Vec<std::net::SocketAddr> {
        let found = endpoints_for(&self.place, asker);
        if !found.is_empty() {
            return found;
        }
        let own: IpAddr = self.place.peer.to_canonical();
        endpoints_for(&self.place, ConnectionAddrs { peer: own, local: own })
    }
}
