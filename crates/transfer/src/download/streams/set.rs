//! What the streams of a download share: their claims, sockets and servers.

use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use relais_net::Stream;

use super::claims::{ClaimTable, StreamId};
use crate::ranges::Ranges;

/// Interval at which a stream without work looks for some.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the streams ask about the download.
pub trait ReceivedBytes {
    /// Returns the bytes that are in the part file, and the size, if the content is known.
    fn good_of_size(&self) -> Option<(Ranges, u64)>;

    /// Returns whether the user has interrupted.
    fn is_interrupted(&self) -> bool;
}

/// The next work of a stream.
#[derive(Debug)]
pub enum NextClaim<T> {
    Bytes(T),
    /// All bytes are here, or the stream is to end.
    Nothing,
}

/// A further stream.
#[derive(Debug)]
pub struct Worker {
    pub stream: StreamId,
    /// Index of its server.
    pub server: usize,
    pub is_receiving: bool,
    /// Whether it ends after its present claim.
    pub is_dismissed: bool,
}

#[derive(Debug, Default)]
pub struct StreamTable {
    pub claims: ClaimTable,
    pub workers: Vec<Worker>,
    /// Addresses of the servers of further streams.
    pub addresses: Vec<Vec<SocketAddr>>,
    /// When each server may be used again; `None` for never.
    pub usable_from: Vec<Option<Instant>>,
    /// Server of the first stream.
    pub first: Option<SocketAddr>,
    /// Whether a thread opens streams.
    pub is_controlled: bool,
    /// Whether all further streams have to end.
    is_stopped: bool,
    sockets: Vec<(StreamId, Arc<Stream>)>,
    /// Servers that sent content, in the order of their first byte.
    servers: Vec<SocketAddr>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct StreamSet {
    table: Mutex<StreamTable>,
    changed: Condvar,
    /// Whether claims are kept small, so that several streams can share the work.
    many: AtomicBool,
}

impl StreamSet {
    pub fn lock(&self) -> MutexGuard<'_, StreamTable> {
        self.table.lock()
    }

    /// Whether there may be several streams.
    pub fn are_many(&self) -> bool {
        self.many.load(Ordering::Relaxed)
    }

    pub fn set_many(&self, many: bool) {
        self.many.store(many, Ordering::Relaxed);
    }

    /// Claims `range` for the first stream, before the size of the content is known.
    pub fn claim_first(&self, range: Range<u64>) {
        let (mut table, now) = (self.lock(), Instant::now());
        table.claims.add(StreamId::FIRST, now);
        table.claims.insert(StreamId::FIRST, range, now);
    }

    /// Claims bytes for a stream, and waits while others have claimed all that are missing.
    pub fn wait_for_claim(
        &self,
        state: &dyn ReceivedBytes,
        stream: StreamId,
    ) -> NextClaim<Range<u64>> {
        let mut table = self.lock();
        table.claims.add(stream, Instant::now());
        loop {
            // The claims are locked first: bytes that leave them are good by then.
            let now = Instant::now();
            let Some((good, size)) = state.good_of_size() else { return NextClaim::Nothing };
            let is_whole = good.first_gap(size).is_none();
            if is_whole || stream != StreamId::FIRST && table.has_ended(stream) {
                return NextClaim::Nothing;
            }
            let claims = &mut table.claims;
            let range = claims.claim(stream, (&good, size), !self.are_many(), now);
            if let Some(range) = range.or_else(|| claims.steal(stream, now)) {
                return NextClaim::Bytes(range);
            }
            self.changed.wait_for(&mut table, LOOK_EVERY);
            if stream == StreamId::FIRST && state.is_interrupted() {
                return NextClaim::Nothing;
            }
        }
    }

    /// Claims bytes for a stream whose claims will have arrived within `before_end`.
    pub fn claim_ahead(
        &self,
        state: &dyn ReceivedBytes,
        stream: StreamId,
        before_end: Duration,
        now: Instant,
    ) -> Option<Range<u64>> {
        let mut table = self.lock();
        if stream != StreamId::FIRST && table.has_ended(stream)
            || !table.claims.ends_within(stream, before_end, now)
        {
            return None;
        }
        let (good, size) = state.good_of_size()?;
        table.claims.claim(stream, (&good, size), false, now)
    }

    /// Records received bytes; returns where the claim ends now.
    pub fn advance(&self, stream: StreamId, start: u64, bytes: u64, now: Instant) -> u64 {
        self.lock().claims.advance(stream, start, bytes, now)
    }

    /// Ends a claim that has arrived; the last one ends all streams that still receive.
    pub fn finish(&self, state: &dyn ReceivedBytes, stream: StreamId, start: u64) {
        let mut table = self.lock();
        table.claims.finish(stream, start);
        if state.good_of_size().is_some_and(|(good, size)| good.first_gap(size).is_none()) {
            table.close_sockets(|table, id| id != stream && table.claims.has_claim(id));
        }
        drop(table);
        self.changed.notify_all();
    }

    /// Gives the claims of a stream back.
    pub fn release(&self, stream: StreamId) {
        self.lock().claims.release(stream);
        self.changed.notify_all();
    }

    /// Records the connection on which a stream receives.
    pub fn connected(&self, stream: StreamId, socket: &Arc<Stream>) {
        let mut table = self.lock();
        table.sockets.retain(|(id, _)| *id != stream);
        table.sockets.push((stream, Arc::clone(socket)));
        if stream != StreamId::FIRST && table.is_stopped {
            table.close_sockets(|_, id| id == stream);
        }
    }

    /// Records a server that has sent content; returns its number, from 1.
    pub fn served_by(&self, server: SocketAddr) -> usize {
        let mut table = self.lock();
        let known = table.servers.iter().position(|known| *known == server);
        known.map_or_else(
            || {
                table.servers.push(server);
                table.servers.len()
            },
            |at| at + 1,
        )
    }

    /// Returns the servers that have sent content, in the order of their first byte.
    pub fn servers(&self) -> Vec<SocketAddr> {
        self.lock().servers.clone()
    }

    /// Adds a further stream with this server.
    pub fn add_worker(&self, server: usize) -> StreamId {
        let mut table = self.lock();
        let stream = StreamId(table.workers.iter().map(|w| w.stream.0).max().unwrap_or(0) + 1);
        let (is_receiving, is_dismissed) = (false, false);
        table.workers.push(Worker { stream, server, is_receiving, is_dismissed });
        stream
    }

    /// Removes a further stream; its server is not used before `usable_from`.
    pub fn remove_worker(&self, stream: StreamId, usable_from: Option<Instant>) {
        let mut table = self.lock();
        table.claims.remove(stream);
        table.sockets.retain(|(id, _)| *id != stream);
        let at = table.workers.iter().position(|worker| worker.stream == stream);
        if let Some(worker) = at.map(|at| table.workers.swap_remove(at))
            && let Some(usable) = table.usable_from.get_mut(worker.server)
        {
            *usable = usable_from.filter(|_| usable.is_some());
        }
        drop(table);
        self.changed.notify_all();
    }

    /// Uses a server for no further stream, because its bytes were damaged.
    pub fn bar(&self, server: SocketAddr) {
        let mut table = self.lock();
        let at = table.addresses.iter().position(|addrs| addrs.contains(&server));
        if let Some(usable) = at.and_then(|at| table.usable_from.get_mut(at)) {
            *usable = None;
        }
        let of_server = |worker: &&mut Worker| Some(worker.server) == at;
        table.workers.iter_mut().filter(of_server).for_each(|worker| worker.is_dismissed = true);
    }

    /// Waits for `time`; returns whether all further streams have to end.
    pub fn pause(&self, time: Duration) -> bool {
        let mut table = self.lock();
        let until = Instant::now() + time;
        while !table.is_stopped && !self.changed.wait_until(&mut table, until).timed_out() {}
        table.is_stopped
    }

    /// Waits until no further stream is left, or `give_up` says so.
    pub fn wait_for_workers(&self, give_up: &dyn Fn() -> bool) {
        let mut table = self.lock();
        while !table.workers.is_empty() && !give_up() {
            self.changed.wait_for(&mut table, LOOK_EVERY);
        }
    }

    /// Records that the thread that opens streams has ended.
    pub fn control_ended(&self) {
        self.lock().is_controlled = false;
        self.changed.notify_all();
    }

    /// Ends all further streams, and waits until they have ended.
    pub fn stop(&self) {
        let mut table = self.lock();
        table.is_stopped = true;
        table.close_sockets(|_, id| id != StreamId::FIRST);
        self.changed.notify_all();
        while table.is_controlled || !table.workers.is_empty() {
            self.changed.wait(&mut table);
        }
        table.claims.release(StreamId::FIRST);
        table.is_stopped = false;
    }
}

impl StreamTable {
    /// Whether a further stream has to end.
    pub fn has_ended(&self, stream: StreamId) -> bool {
        let worker = self.workers.iter().find(|worker| worker.stream == stream);
        self.is_stopped || worker.is_none_or(|worker| worker.is_dismissed)
    }

    /// Records that a further stream has a header.
    pub fn set_receiving(&mut self, stream: StreamId) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.stream == stream) {
            worker.is_receiving = true;
        }
    }

    /// Shuts the sockets of some streams down, so that their reads end.
    fn close_sockets(&mut self, which: impl Fn(&Self, StreamId) -> bool) {
        for (id, socket) in &self.sockets {
            if which(self, *id)
                && let Err(e) = socket.shutdown(Shutdown::Both)
            {
                // The peer has closed it.
                log::debug!("stream {} is closed already: {e}", id.0);
            }
        }
    }
}
