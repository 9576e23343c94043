//! What the sessions of an ordered fetch share with the thread that passes the pieces on.

use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use relais_net::Stream;

use super::job::OrderedJob;
use super::window::PieceWindow;
use crate::error::{Fault, TransferError};
use crate::progress::Progress;

/// Interval at which the receiver looks for an interruption.
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct OrderedState {
    window: PieceWindow,
    /// Number of sessions that fetch, or are being opened.
    fetchers: usize,
    is_stopped: bool,
    sockets: Vec<Arc<Stream>>,
    /// Senders of damaged pieces that were not reported yet.
    damaged: Vec<SocketAddr>,
    /// Servers that sent pieces, in the order of their first one.
    servers: Vec<SocketAddr>,
}

/// See the module.
pub(super) struct Ordered {
    pub job: OrderedJob,
    state: Mutex<OrderedState>,
    changed: Condvar,
}

impl Ordered {
    pub fn new(job: OrderedJob) -> Self {
        let window = PieceWindow::new(job.first..relais_tree::piece_count(job.size));
        let (fetchers, is_stopped) = (0, false);
        let (sockets, damaged, servers) = Default::default();
        let state = OrderedState { window, fetchers, is_stopped, sockets, damaged, servers };
        Self { job, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Counts one more session.
    pub fn begin_fetcher(&self) {
        self.state.lock().fetchers += 1;
    }

    /// Records the connection of a session; false if nothing more is wanted.
    pub fn connected(&self, socket: &Arc<Stream>) -> bool {
        let mut state = self.state.lock();
        state.sockets.push(Arc::clone(socket));
        !state.is_stopped
    }

    /// Claims pieces, if there are some now.
    pub fn claim(&self) -> Option<Range<u64>> {
        let mut state = self.state.lock();
        if state.is_stopped { None } else { state.window.claim() }
    }

    /// Claims pieces, and waits until there are some; none when all are claimed.
    ///
    /// It waits for claimed pieces as well, because their session may give them back.
    pub fn wait_for_claim(&self) -> Option<Range<u64>> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopped || state.window.is_complete() {
                return None;
            }
            if let Some(run) = state.window.claim() {
                return Some(run);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Adds a piece from a server if it has its value.
    ///
    /// # Errors
    /// [`Fault::Violation`] if the piece is damaged.
    pub fn put(&self, index: u64, piece: Vec<u8>, from: SocketAddr) -> Result<(), Fault> {
        let value = relais_tree::piece_value(self.job.size, index, &piece);
        let known = usize::try_from(index).ok().and_then(|at| self.job.values.get(at));
        let mut state = self.state.lock();
        if value.as_ref() != known {
            state.damaged.push(from);
            return Err(Fault::bad_value("piece", index));
        }
        if !state.servers.contains(&from) {
            state.servers.push(from);
        }
        state.window.put(index, piece);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Ends a session, whose claims others fetch.
    pub fn end_fetcher(&self, claims: impl IntoIterator<Item = Range<u64>>) {
        let mut state = self.state.lock();
        claims.into_iter().for_each(|claim| state.window.give_back(claim));
        state.fetchers -= 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the next piece in order; none at the end, or when no session is left.
    pub fn next_piece(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<Option<Vec<u8>>, TransferError> {
        let mut state = self.state.lock();
        loop {
            for server in std::mem::take(&mut state.damaged) {
                progress.damaged(server, 1);
            }
            if let Some(piece) = state.window.take() {
                drop(state);
                self.changed.notify_all();
                return Ok(Some(piece));
            }
            if state.window.is_complete() || state.fetchers == 0 {
                return Ok(None);
            }
            if progress.interrupted() {
                return Err(TransferError::Interrupted);
            }
            self.changed.wait_for(&mut state, LOOK_EVERY);
        }
    }

    /// Returns the servers that sent pieces, in the order of their first one.
    pub fn servers(&self) -> Vec<SocketAddr> {
        self.state.lock().servers.clone()
    }

    fn stop(&self) {
        let mut state = self.state.lock();
        state.is_stopped = true;
        for socket in &state.sockets {
            if let Err(e) = socket.shutdown(Shutdown::Both) {
                // The peer has closed it.
                log::debug!("a stream is closed already: {e}");
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Ends all sessions when it is dropped. It does not wait for those that are being opened.
pub(super) struct OrderedFetch(pub Arc<Ordered>);

impl Drop for OrderedFetch {
    fn drop(&mut self) {
        self.0.stop();
    }
}
