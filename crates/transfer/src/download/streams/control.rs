//! The thread that opens and ends streams, as the plan wants.

use std::sync::Arc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::TreePath;

use super::plan::{Line, Observation, StreamPlan};
use super::set::StreamTable;
use super::worker::StreamWorker;
use crate::download::state::DownloadState;
use crate::error::TransferError;
use crate::sessions::StreamSource;

/// Interval of decisions.
const TICK: Duration = Duration::from_millis(25);

/// The thread that opens streams; see the module.
pub struct StreamControl<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    state: &'env DownloadState<'env>,
    path: &'env TreePath,
    source: Arc<dyn StreamSource>,
    line: Line,
    plan: StreamPlan,
}

impl<'scope, 'env> StreamControl<'scope, 'env> {
    /// Whether more streams may help.
    pub fn is_useful(source: &dyn StreamSource, round_trip: Duration) -> bool {
        Line::new(source, round_trip).may_carry_more()
    }

    /// Starts the thread.
    pub fn start(
        scope: &'scope Scope<'scope, 'env>,
        state: &'env DownloadState<'env>,
        path: &'env TreePath,
        source: &Arc<dyn StreamSource>,
        round_trip: Duration,
    ) -> Result<(), TransferError> {
        let (source, addresses) = (Arc::clone(source), source.servers());
        let (line, now) = (Line::new(&*source, round_trip), Instant::now());
        let mut table = state.streams.lock();
        table.is_controlled = true;
        table.claims.longest = source.longest_request();
        table.usable_from = vec![Some(now); addresses.len()];
        table.addresses = addresses;
        let plan = StreamPlan::new(line, now, table.claims.moved);
        drop(table);
        let control = Self { scope, state, path, source, line, plan };
        let spawned = std::thread::Builder::new()
            .name("streams".to_owned())
            .spawn_scoped(scope, move || control.run());
        spawned.map(drop).map_err(|error| {
            state.streams.control_ended();
            TransferError::local("starting a thread")(error)
        })
    }

    fn run(mut self) {
        let _end = ControlEnd(self.state);
        loop {
            if let Err(error) = self.open_missing() {
                debug!("{}: no further stream: {error}", self.path);
                break;
            }
            if self.state.streams.pause(TICK) {
                break;
            }
            let missing = self.state.with(|content| content.size - content.good.total());
            let Some(missing) = missing.filter(|missing| *missing > 0) else { break };
            self.observe(missing, Instant::now());
        }
    }

    /// Tells the plan what was received, and ends streams that it does not want any more.
    fn observe(&mut self, missing: u64, now: Instant) {
        let table = self.state.streams.lock();
        let (moved, streams) = (table.claims.moved, table.workers.len() + 1);
        let wanted = self.plan.target();
        let are_all = streams >= wanted || self.choose_server(&table, now).is_none();
        let are_receiving = table.workers.iter().all(|worker| worker.is_receiving);
        drop(table);
        let is_settled = are_all && are_receiving && streams <= wanted;
        self.plan.observe(&Observation { now, moved, missing, streams, is_settled });
        if self.plan.target() < wanted {
            self.dismiss(self.plan.target());
        }
    }

    /// Ends the newest streams after their present claims.
    fn dismiss(&self, keep: usize) {
        let mut table = self.state.streams.lock();
        table.workers.sort_by_key(|worker| worker.stream);
        for worker in table.workers.iter_mut().skip(keep - 1) {
            worker.is_dismissed = true;
        }
    }

    /// Opens streams until there are as many as wanted, or no server can be used.
    fn open_missing(&self) -> Result<(), TransferError> {
        loop {
            let table = self.state.streams.lock();
            let has_room = table.workers.len() + 1 < self.plan.target();
            let server = self.choose_server(&table, Instant::now());
            drop(table);
            let Some(server) = server.filter(|_| has_room) else { return Ok(()) };
            let stream = self.state.streams.add_worker(server);
            let (scope, state, path) = (self.scope, self.state, self.path);
            let source = Arc::clone(&self.source);
            let worker = StreamWorker { scope, state, path, source, stream, server };
            let spawned = std::thread::Builder::new()
                .name("stream".to_owned())
                .spawn_scoped(self.scope, move || worker.run());
            if let Err(error) = spawned {
                state.streams.remove_worker(stream, None);
                return Err(TransferError::local("starting a thread")(error));
            }
        }
    }

    /// Returns the usable server with the fewest streams; on a short line one without a stream.
    fn choose_server(&self, table: &StreamTable, now: Instant) -> Option<usize> {
        let streams = |server: usize| {
            let is_first = table.first.is_some_and(|addr| table.addresses[server].contains(&addr));
            let further = table.workers.iter().filter(|worker| worker.server == server);
            further.count() + usize::from(is_first)
        };
        let is_usable = |server: &usize| {
            let from = table.usable_from.get(*server).copied().flatten();
            from.is_some_and(|from| from <= now) && (self.line.is_long() || streams(*server) == 0)
        };
        (0..table.addresses.len()).filter(is_usable).min_by_key(|server| streams(*server))
    }
}

/// Records the end of the thread, also by a panic: the download waits for that.
struct ControlEnd<'env>(&'env DownloadState<'env>);

impl Drop for ControlEnd<'_> {
    fn drop(&mut self) {
        self.0.streams.control_ended();
    }
}
