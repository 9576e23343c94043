//! What replies reveal beside their content: the LSN, and servers that have lost their master.
//!
//! Each connection passes its replies here, whichever code reads them: a request, a transfer or a
//! stream. Clones share their state, also across connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use relais_net::Connection;
use relais_proto::{Lsn, Reply, SlaveId};

use crate::notices::Notices;

/// Minimum gap between two outages; shorter gaps are clock or network jitter.
const MIN_GAP: Duration = Duration::from_secs(2);

/// How long the isolation of a server is mentioned in messages.
const RECENT: Duration = Duration::from_secs(10);

/// The highest LSN of one connection.
pub type SharedLsn = Arc<Mutex<Lsn>>;

/// A server that cannot reach its master.
#[derive(Debug, Clone, Copy)]
struct IsolatedServer {
    addr: SocketAddr,
    ms: u64,
    heard: Instant,
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Observations {
    lsn: Lsn,
    /// The slave that was connected last.
    slave: Option<SlaveId>,
    /// The server that reported last.
    isolated: Option<IsolatedServer>,
}

/// What all servers have reported.
#[derive(Debug, Clone, Default)]
pub struct ObservedState(Arc<Mutex<Observations>>);

impl ObservedState {
    /// Returns the highest LSN seen.
    pub fn lsn(&self) -> Lsn {
        self.0.lock().lsn
    }

    /// Returns the slave that was connected last.
    ///
    /// Progress callbacks ask while a transfer borrows the session.
    pub fn slave(&self) -> Option<SlaveId> {
        self.0.lock().slave
    }

    /// Records the slave that is connected now.
    pub fn set_slave(&self, slave: SlaveId) {
        self.0.lock().slave = Some(slave);
    }

    /// Records an LSN that was seen.
    pub fn record_lsn(&self, lsn: Lsn) {
        let mut state = self.0.lock();
        state.lsn = state.lsn.max(lsn);
    }

    /// Lowers the highest LSN seen to at most `lsn`.
    pub fn lower_lsn(&self, lsn: Lsn) {
        let mut state = self.0.lock();
        state.lsn = state.lsn.min(lsn);
    }

    /// Forgets everything, because the cluster is another one.
    pub fn reset(&self) {
        *self.0.lock() = Observations::default();
    }

    /// Returns the latest server without its master and the outage; none after [`RECENT`].
    pub fn isolated_server(&self) -> Option<(SocketAddr, Duration)> {
        let server = self.0.lock().isolated?;
        (server.heard.elapsed() < RECENT).then_some((server.addr, Duration::from_millis(server.ms)))
    }

    /// Watches a connection; for an open session also raises `server_lsn` to the LSNs of replies.
    ///
    /// Before, the cluster is not known, so an LSN means nothing.
    pub fn watch(
        &self,
        connection: &mut Connection,
        notices: &Notices,
        server_lsn: Option<SharedLsn>,
    ) {
        let (observed, notices, addr) = (self.clone(), notices.clone(), connection.peer());
        connection.observe_replies(Box::new(move |reply| {
            observed.record_isolation(addr, reply, &notices);
            if let (Some(server_lsn), Some(lsn)) = (&server_lsn, reply_lsn(reply)) {
                observed.record_lsn(lsn);
                let mut server_lsn = server_lsn.lock();
                *server_lsn = lsn.max(*server_lsn);
            }
        }));
    }

    /// Tells the user once for each outage between a server and its master.
    fn record_isolation(&self, addr: SocketAddr, reply: &Reply, notices: &Notices) {
        let Reply::MasterUnreachable { ms } = *reply else { return };
        // A server may claim any duration. A start before this host's clock began counts as none.
        let heard = Instant::now();
        let since = heard.checked_sub(Duration::from_millis(ms));
        let new = IsolatedServer { addr, ms, heard, since };
        let old = self.0.lock().isolated.replace(new).filter(|old| old.addr == addr);
        let is_new =
            old.is_none_or(|old| ms < old.ms || since > old.since.map(|since| since + MIN_GAP));
        if is_new {
            say!(
                notices,
                "{addr} has not reached its master for {} s; its data may be old",
                ms / 1000
            );
        }
    }
}

/// Returns the LSN that a reply carries.
fn reply_lsn(reply: &Reply) -> Option<Lsn> {
    match reply {
        Reply::Done { lsn } | Reply::Details { lsn, .. } | Reply::StatusReport { lsn, .. } => {
            Some(*lsn)
        }
        Reply::Committed { version, lsn, .. } => Some((*version).max(*lsn)),
        Reply::ContentHeader(header) => header.version,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outage_is_reported_once() {
        let observed = ObservedState::default();
        let notices = Notices::collecting();
        let (one, other) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        for (addr, ms, lines) in [
            (one, 3000, 1),
            (one, 3500, 1),
            (one, 4900, 1),
            (other, 100, 2),
            (one, 4000, 3),
            (one, u64::MAX, 3),
            (one, 0, 4),
        ] {
            observed.record_isolation(addr, &Reply::MasterUnreachable { ms }, &notices);
            assert_eq!(notices.collected().len(), lines, "{ms}");
        }
        assert_eq!(
            notices.collected()[0],
            "127.0.0.1:1 has not reached its master for 3 s; its data may be old"
        );
        assert_eq!(
            (observed.isolated_server(), ObservedState::default().isolated_server()),
            (Some((one, Duration::ZERO)), None)
        );
    }
}
