//! How many streams there are: another one is added only if all together become faster.
//!
//! A thread measures the rate of all streams. If the rest would take long, it tries as many streams
//! again. If they make the download faster, they stay, and it tries more. If not, they end, and
//! their number is final. A second connection to one server helps only on a long line, where the
//! buffers of the system limit a connection to some MiB in a round trip.

use std::sync::Arc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::TreePath;

use super::claims::time_of;
use super::rate::per_second;
use super::set::StreamTable;
use super::worker::StreamWorker;
use crate::download::state::DownloadState;
use crate::error::TransferError;
use crate::sessions::StreamSource;

/// Interval of decisions.
const TICK: Duration = Duration::from_millis(25);
/// Least time of a measurement.
const MEASURE: Duration = Duration::from_millis(200);
/// Round trips of a measurement: a new connection needs so many to become fast.
const MEASURE_TRIPS: u32 = 6;
/// The rest must take as long for another stream to be tried.
const WORTHWHILE: Duration = Duration::from_secs(1);
/// Round trip from which a line is long: below it one connection carries some Gbit/s.
const LONG_LINE: Duration = Duration::from_millis(10);
/// Streams of the first try on a long line.
const FIRST_ON_LONG: usize = 4;
/// Rate in percent of the one before that more streams must reach to stay.
const GAIN: u64 = 115;

/// More streams that are tried.
struct Trial {
    /// Number of streams and their rate before.
    before: (usize, u64),
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Some streams do not receive yet.
    Opening,
    /// New connections become fast.
    Warming,
    Measuring,
}

/// The thread that opens streams; see the module.
pub struct StreamControl<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    state: &'env DownloadState<'env>,
    path: &'env TreePath,
    source: Arc<dyn StreamSource>,
    /// Number of servers.
    servers: usize,
    round_trip: Duration,
    /// Wanted number of streams, with the first one.
    target: usize,
    /// Whether no more streams are tried.
    is_final: bool,
    trial: Option<Trial>,
    /// Start of the measurement, and the bytes that had been received.
    since: (Instant, u64),
}

impl<'scope, 'env> StreamControl<'scope, 'env> {
    /// Whether more streams may help: there is another server, or the line is long.
    pub fn is_useful(source: &dyn StreamSource, round_trip: Duration) -> bool {
        source.limit() > 1 && (round_trip >= LONG_LINE || source.servers().len() > 1)
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
        let servers = addresses.len();
        let mut table = state.streams.lock();
        table.is_controlled = true;
        table.usable_from = vec![Some(Instant::now()); servers];
        table.addresses = addresses;
        let since = (Instant::now(), table.claims.moved);
        drop(table);
        let (target, is_final, trial) = (1, false, None);
        let control = Self {
            scope,
            state,
            path,
            source,
            servers,
            round_trip,
            target,
            is_final,
            trial,
            since,
        };
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
        while !self.state.streams.pause(TICK) {
            let Some(missing) = self.state.with(|content| content.size - content.good.total())
            else {
                break;
            };
            if missing == 0 {
                break;
            }
            self.decide(missing, Instant::now());
            if let Err(error) = self.open_missing() {
                debug!("{}: no further stream: {error}", self.path);
                break;
            }
        }
    }

    /// Changes the wanted number of streams after a measurement.
    fn decide(&mut self, missing: u64, now: Instant) {
        let table = self.state.streams.lock();
        let (moved, streams) = (table.claims.moved, table.workers.len() + 1);
        let are_all = streams >= self.target || self.choose_server(&table, now).is_none();
        let are_open = are_all && table.workers.iter().all(|worker| worker.is_receiving);
        drop(table);
        let time = now.duration_since(self.since.0);
        let is_over = time >= MEASURE.max(MEASURE_TRIPS * self.round_trip);
        if let Some(trial) = &mut self.trial
            && trial.stage != Stage::Measuring
        {
            trial.stage = match trial.stage {
                Stage::Opening if !are_open => return,
                Stage::Opening => Stage::Warming,
                _ if !is_over => return,
                _ => Stage::Measuring,
            };
            self.since = (now, moved);
            return;
        }
        if self.is_final || !is_over {
            return;
        }
        let rate = per_second(moved - self.since.1, time);
        self.since = (now, moved);
        if let Some(Trial { before: (before, slower), .. }) = self.trial.take()
            && rate < slower.saturating_mul(GAIN) / 100
        {
            debug!("{}: {streams} streams: {rate} B/s, {before}: {slower} B/s", self.path);
            (self.target, self.is_final) = (before, true);
            self.dismiss(before);
        } else if time_of(missing, rate) >= WORTHWHILE {
            self.try_more(streams, rate);
        }
    }

    /// Tries twice as many streams, if there may be more.
    fn try_more(&mut self, streams: usize, rate: u64) {
        let most = if self.is_long() { usize::MAX } else { self.servers };
        let first = if self.is_long() { FIRST_ON_LONG } else { 2 };
        let target = first.max(2 * streams).min(self.source.limit()).min(most);
        if target <= streams {
            self.is_final = target <= self.target;
            return;
        }
        debug!("{}: {streams} streams: {rate} B/s; trying {target}", self.path);
        self.target = target;
        self.trial = Some(Trial { before: (streams, rate), stage: Stage::Opening });
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
            let has_room = table.workers.len() + 1 < self.target;
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
            from.is_some_and(|from| from <= now) && (self.is_long() || streams(*server) == 0)
        };
        (0..table.addresses.len()).filter(is_usable).min_by_key(|server| streams(*server))
    }

    /// Whether more connections to one server may help.
    fn is_long(&self) -> bool {
        self.round_trip >= LONG_LINE
    }
}

/// Records the end of the thread, also by a panic: the download waits for that.
struct ControlEnd<'env>(&'env DownloadState<'env>);

impl Drop for ControlEnd<'_> {
    fn drop(&mut self) {
        self.0.streams.control_ended();
    }
}
