//! What servers tell besides their answers: which changes they have, and that they do not reach their master.
//!
//! Each connection shows its replies here, so it does not matter who reads them: a request, a transfer or a stream. Clones share
//! what they know, also across several connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{Lsn, Reply};

use crate::notices::Notices;

/// Servers whose time alone is remembered.
const MAX_ISOLATED: usize = 64;
/// How far apart two times alone begin at least; less is the clocks' and the line's.
const MIN_GAP: Duration = Duration::from_secs(2);

/// How long it is worth telling that a server was alone.
const RECENT: Duration = Duration::from_secs(10);

/// The highest change that one side of something has told of.
pub type SharedLsn = Arc<Mutex<Lsn>>;

/// A server that does not reach its master.
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
    isolated: Vec<IsolatedServer>,
}

/// What all servers have told.
#[derive(Debug, Clone, Default)]
pub struct ObservedState(Arc<Mutex<Observations>>);

impl ObservedState {
    /// The highest change that was seen.
    pub fn lsn(&self) -> Lsn {
        self.state().lsn
    }

    /// A change with this number was seen.
    pub fn record_lsn(&self, lsn: Lsn) {
        let mut state = self.state();
        state.lsn = state.lsn.max(lsn);
    }

    /// Nothing above `lsn` was seen after all.
    pub fn lower_lsn(&self, lsn: Lsn) {
        let mut state = self.state();
        state.lsn = state.lsn.min(lsn);
    }

    /// Another cluster: what was seen counts no more.
    pub fn reset(&self) {
        *self.state() = Observations::default();
    }

    /// The server that has said last that it does not reach its master, and for how long; none where that is a while ago.
    pub fn isolated_server(&self) -> Option<(SocketAddr, Duration)> {
        let server = self.state().isolated.iter().copied().max_by_key(|server| server.heard)?;
        (server.heard.elapsed() < RECENT).then_some((server.addr, Duration::from_millis(server.ms)))
    }

    /// Listens to a connection that has not shown yet whose it is: only that it is alone is taken from it.
    pub fn watch_handshake(&self, connection: &mut Connection, notices: &Notices) {
        let (observed, notices, addr) = (self.clone(), notices.clone(), connection.peer());
        connection.observe_replies(Box::new(move |reply| {
            observed.record_isolation(addr, reply, &notices)
        }));
    }

    /// Listens to an open session; what it has told or been told goes into `heard` as well.
    pub fn watch_session(
        &self,
        connection: &mut Connection,
        notices: &Notices,
        server_lsn: SharedLsn,
    ) {
        let (observed, notices, addr) = (self.clone(), notices.clone(), connection.peer());
        connection.observe_replies(Box::new(move |reply| {
            observed.record_isolation(addr, reply, &notices);
            if let Some(lsn) = reply_lsn(reply) {
                observed.record_lsn(lsn);
                raise_lsn(&server_lsn, lsn);
            }
        }));
    }

    /// Tells the user once for each time that a server is alone.
    fn record_isolation(&self, addr: SocketAddr, reply: &Reply, notices: &Notices) {
        let Reply::MasterUnreachable { ms } = *reply else { return };
        // A server may claim any time; one before this host's clock began is as good as none.
        let heard = Instant::now();
        let since = heard.checked_sub(Duration::from_millis(ms));
        if self.state().record(IsolatedServer { addr, ms, heard, since }) {
            notices.say(&format!(
                "{addr} has not reached its master since {} s; what it shows may be old",
                ms / 1000
            ));
        }
    }

    /// A panic elsewhere leaves these few fields whole.
    fn state(&self) -> MutexGuard<'_, Observations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observations {
    /// Whether this is a time alone that was not heard of.
    fn record(&mut self, new: IsolatedServer) -> bool {
        let Some(at) = self.isolated.iter().position(|server| server.addr == new.addr) else {
            if self.isolated.len() >= MAX_ISOLATED {
                self.isolated.remove(0);
            }
            self.isolated.push(new);
            return true;
        };
        let old = std::mem::replace(&mut self.isolated[at], new);
        let later = matches!((old.since, new.since), (Some(old), Some(new)) if new.saturating_duration_since(old) > MIN_GAP);
        new.ms < old.ms || later
    }
}

/// Raises what was heard.
pub fn raise_lsn(shared: &SharedLsn, seen: Lsn) {
    let mut lsn = shared.lock().unwrap_or_else(PoisonError::into_inner);
    *lsn = (*lsn).max(seen);
}

/// What was heard.
pub fn current_lsn(shared: &SharedLsn) -> Lsn {
    *shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The change that an answer goes up to.
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
    fn each_time_alone_is_told_once() {
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
            "127.0.0.1:1 has not reached its master since 3 s; what it shows may be old"
        );
        assert_eq!(
            (observed.isolated_server(), ObservedState::default().isolated_server()),
            (Some((one, Duration::ZERO)), None)
        );
        for port in 1000..2000 {
            observed.record_isolation(
                SocketAddr::from(([127, 0, 0, 1], port)),
                &Reply::MasterUnreachable { ms: 1 },
                &notices,
            );
        }
        assert_eq!(observed.state().isolated.len(), MAX_ISOLATED);
    }
}
