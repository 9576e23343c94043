//! A slave as the master knows it, and its state.

use std::net::IpAddr;
use std::time::Duration;

use relais_proto::{
    FolderId, Heartbeat, Lsn, SESSIONS_BY_PROTOCOL, SlaveId, SlaveReport, SlaveState, limits,
    metric, wire_newtypes,
};

use crate::http_addresses::HttpAddresses;
use crate::slave_addresses::{ConnectionAddrs, SlaveAddresses, endpoints_for};

/// Identifies a connection of a slave to the master. No number is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

wire_newtypes!(LinkId);

/// Persistent record of a slave, for the next start of the master.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSlave {
    pub id: SlaveId,
    /// Last folder that the slave served.
    pub folder: FolderId,
    /// Last addresses of the slave.
    pub place: SlaveAddresses,
}

/// Silence after which a slave is out of service.
pub(crate) fn max_silence() -> Duration {
    limits::BEAT_EVERY * limits::BEATS_MISSED
}

#[derive(Debug, Clone)]
pub(crate) struct RegisteredSlave {
    pub id: SlaveId,
    pub folder: FolderId,
    pub place: SlaveAddresses,
    /// Addresses for HTTP clients, of its last registration.
    pub http: HttpAddresses,
    pub lsn: Lsn,
    /// Current connection of the slave.
    pub link: Option<LinkId>,
    /// Time of its last message; `None` since the start of the master.
    pub last_message: Option<Duration>,
    /// Last heartbeat on this link.
    pub heartbeat: Option<Heartbeat>,
    /// Clients that were sent to the slave since that heartbeat.
    pub sent: u64,
    /// Last state that the caller has seen.
    pub seen_state: Option<SlaveState>,
}

impl RegisteredSlave {
    /// A slave without a link.
    pub fn new(KnownSlave { id, folder, place }: KnownSlave) -> Self {
        let (lsn, link, last_message, heartbeat) = (Lsn::default(), None, None, None);
        let (http, seen_state) = (HttpAddresses::default(), None);
        Self { id, folder, place, http, lsn, link, last_message, heartbeat, sent: 0, seen_state }
    }

    /// Returns whether the link is open and recently active.
    pub fn is_alive(&self, now: Duration) -> bool {
        self.link.is_some() && self.silence(now).is_some_and(|silence| silence < max_silence())
    }

    fn silence(&self, now: Duration) -> Option<Duration> {
        self.last_message.map(|last_message| now.saturating_sub(last_message))
    }

    pub fn state(&self, now: Duration) -> SlaveState {
        match &self.heartbeat {
            _ if !self.is_alive(now) => SlaveState::Down,
            None => SlaveState::CatchingUp,
            Some(heartbeat) if heartbeat.metrics.get(metric::WORKERS) == 0 => SlaveState::Down,
            Some(heartbeat) => heartbeat.state,
        }
    }

    pub fn in_service(&self, now: Duration) -> bool {
        self.state(now) == SlaveState::InService
    }

    /// Returns whether the disk is nearly full.
    pub fn is_low_on_space(&self) -> bool {
        self.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.disk.is_low())
    }

    /// Returns the sessions of the slave, including clients that are on their way.
    pub fn load(&self) -> u64 {
        self.heartbeat
            .as_ref()
            .map_or(0, |heartbeat| heartbeat.metrics.get(metric::SESSIONS))
            .saturating_add(self.sent)
    }

    pub fn report(&self, asker: ConnectionAddrs, now: Duration) -> SlaveReport {
        let (mut metrics, last_error) = self
            .heartbeat
            .as_ref()
            .map(|heartbeat| (heartbeat.metrics.clone(), heartbeat.last_error.clone()))
            .unwrap_or_default();
        // The last metrics of a pool that is gone are no longer valid.
        if self.state(now) == SlaveState::Down {
            let sessions = SESSIONS_BY_PROTOCOL.map(|(_, sessions)| sessions);
            [metric::SESSIONS, metric::TRANSFERS, metric::WAITING, metric::WORKERS]
                .iter()
                .chain(&sessions)
                .for_each(|gone| metrics.set(gone, 0));
        }
        SlaveReport {
            id: self.id,
            folder: self.folder,
            addrs: self.seen_from(asker),
            state: self.state(now),
            lsn: self.lsn,
            metrics,
            last_error,
            silent_ms: self
                .silence(now)
                .and_then(|silence| u64::try_from(silence.as_millis()).ok())
                .unwrap_or(SlaveReport::NOT_HEARD),
        }
    }

    /// Returns the addresses for the client; if it can use none, the claimed ones.
    fn seen_from(&self, asker: ConnectionAddrs) -> Vec<std::net::SocketAddr> {
        let found = endpoints_for(&self.place, asker);
        if !found.is_empty() {
            return found;
        }
        let own: IpAddr = self.place.peer.to_canonical();
        endpoints_for(&self.place, ConnectionAddrs { peer: own, local: own })
    }
}
