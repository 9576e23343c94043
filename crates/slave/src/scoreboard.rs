//! The scoreboard: counters and flags that the processes of one slave share in memory.
//!
//! Each worker has one row; a few more words belong to all processes. Every word is an atomic of
//! its own, so nothing here blocks. The supervisor clears the row of a worker that died.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relais_auth::{EndedTickets, FailedLogins};
use relais_proto::{Confinement, Metrics, metric};
use relais_storage::{
    ReplicaProgress, monotonic_ms,
    upload_table::{UploadLimits, UploadTable},
};

use crate::activity::WorkerActivity;
use crate::address_sessions::AddressSessions;
use crate::sys::memory::shared_words;
use crate::transfer_counters::TransferCounters;

/// A worker that did not tick for this long does not count as alive.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// A slave is not in service once its catalogue writer works on one thing for this long.
const WRITER_STALL: Duration = Duration::from_secs(3);

/// Sessions of other slaves that one worker serves at a time.
///
/// They have slots of their own. Clients that fill all client slots must not keep slaves from
/// each other's contents, and slaves, which keep their sessions open, must not keep clients out.
pub const PEER_SLOTS: u64 = 64;

// Words of one worker's row.
/// Sessions of clients that the worker serves.
const TAKEN: usize = 0;
/// Sessions that wait in this worker for a slot.
const WAITING: usize = 1;
/// When the worker last passed its loop; not set: not yet.
const TICKED: usize = 2;
/// What confines the worker.
const CONFINED: usize = 3;
/// Sessions of other slaves, which take no client slot.
const PEERS: usize = 4;
/// Words in a row.
const ROW: usize = 5;

/// A flag in shared memory.
#[derive(Debug, Clone, Copy)]
pub struct Flag(&'static AtomicU64);

impl Flag {
    /// Sets the flag.
    pub fn set(self, value: bool) {
        self.0.store(value.into(), SeqCst);
    }

    /// Returns the last value; false at the start.
    #[must_use]
    pub fn get(self) -> bool {
        self.0.load(SeqCst) != 0
    }
}

/// A moment in shared memory, by [`monotonic_ms`].
#[derive(Debug, Clone, Copy)]
pub struct Moment(&'static AtomicU64);

impl Moment {
    /// Sets the moment to the present.
    pub fn set_now(self) {
        self.0.store(monotonic_ms().max(1), SeqCst);
    }

    /// Unsets the moment.
    pub fn clear(self) {
        self.0.store(0, SeqCst);
    }

    /// Returns the time since the moment; none if it is not set.
    #[must_use]
    pub fn elapsed(self) -> Option<Duration> {
        let at = self.0.load(SeqCst);
        (at != 0).then(|| Duration::from_millis(monotonic_ms().saturating_sub(at)))
    }
}

/// What the processes of one slave share in memory.
#[derive(Debug)]
pub struct Scoreboard {
    rows: &'static [AtomicU64],
    addresses: Option<AddressSessions>,
    workers: usize,
    /// Each worker's share of the client slots.
    pub slots: u64,
    /// Sessions that may wait, in all workers together.
    pub queue: u64,
    /// The unfinished uploads.
    pub uploads: Arc<UploadTable>,
    /// How far the replica is.
    pub progress: Arc<ReplicaProgress>,
    /// The table of failed logins.
    pub failed_logins: &'static [AtomicU64],
    /// The table of tickets whose users have logged out.
    pub ended_tickets: &'static [AtomicU64],
    /// The master's time less [`monotonic_ms`], in two's complement; 0: the master was never heard.
    master_offset: &'static AtomicU64,
    generation: &'static AtomicU64,
    /// Copies of new content that the cluster asks for.
    copies: &'static AtomicU64,
    /// The worker, counted from 1, that sends large content to another slave; 0: none.
    large_sender: &'static AtomicU64,
    /// Since when the slave has no link to its master; not set: it has one, or never had one.
    pub disconnected: Moment,
    /// When the catalogue writer last passed its loop; not set: this slave has none.
    pub writer_ticked: Moment,
    /// Whether the slave is being drained.
    pub draining: Flag,
    /// Whether another slave has the ids of this one.
    pub cloned: Flag,
    /// Whether the folder's path no longer leads to the served folder.
    pub displaced: Flag,
    /// Whether the journal of this standalone slave takes no changes until a restart.
    pub halted: Flag,
    /// Counters of transfers.
    pub transfers: TransferCounters,
    /// What the workers do now.
    pub activity: WorkerActivity,
    /// End of the certificate's validity, in seconds since 1970 UTC; 0 without a certificate.
    pub certificate_expiry: &'static AtomicU64,
}

impl Scoreboard {
    /// Maps a scoreboard for `workers` processes of `slots` sessions, and `queue` waiting sessions.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new(
        workers: usize,
        slots: u32,
        queue: u32,
        sessions_per_address: Option<u32>,
        uploads: UploadLimits,
    ) -> io::Result<Self> {
        let share = usize::try_from(slots.saturating_add(queue)).unwrap_or(usize::MAX);
        let words = shared_words(11)?;
        let addresses = sessions_per_address.map(|most| {
            AddressSessions::new(workers, share, usize::try_from(most).unwrap_or(usize::MAX))
        });
        Ok(Self {
            rows: shared_words(workers * ROW)?,
            addresses: addresses.transpose()?,
            workers,
            slots: slots.into(),
            queue: queue.into(),
            uploads: Arc::new(UploadTable::new(uploads, shared_words)?),
            progress: Arc::new(ReplicaProgress::new(shared_words)?),
            failed_logins: shared_words(FailedLogins::SLOTS)?,
            ended_tickets: shared_words(EndedTickets::WORDS)?,
            master_offset: &words[0],
            generation: &words[1],
            copies: &words[2],
            large_sender: &words[3],
            disconnected: Moment(&words[4]),
            writer_ticked: Moment(&words[5]),
            draining: Flag(&words[6]),
            cloned: Flag(&words[7]),
            displaced: Flag(&words[8]),
            halted: Flag(&words[9]),
            transfers: TransferCounters::new()?,
            activity: WorkerActivity::new(workers)?,
            certificate_expiry: &words[10],
        })
    }

    /// Adds a session of `addr` in `worker`, served or waiting; false if `addr` is at its limit.
    pub fn add_address_session(&self, worker: usize, addr: IpAddr) -> bool {
        self.addresses.as_ref().is_none_or(|addresses| addresses.try_add(worker, addr))
    }

    /// Removes a session of `addr` from `worker`.
    pub fn remove_address_session(&self, worker: usize, addr: IpAddr) {
        self.addresses.iter().for_each(|addresses| addresses.remove(worker, addr));
    }

    fn word(&self, worker: usize, word: usize) -> &'static AtomicU64 {
        &self.rows[worker * ROW + word]
    }

    fn sum(&self, word: usize) -> u64 {
        (0..self.workers).map(|worker| self.word(worker, word).load(SeqCst)).sum()
    }

    /// Subtracts 1 from a word, unless the row was cleared since 1 was added.
    fn decrement(&self, worker: usize, word: usize) {
        let _ = self.word(worker, word).fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    }

    /// Takes one of the client slots of all workers for a session in `worker`; false if all are
    /// taken.
    pub fn take_slot(&self, worker: usize) -> bool {
        let all = self.slots.saturating_mul(self.workers as u64);
        // Count first and look then, so that two workers at once see each other's session. The
        // last one that undoes its count finds the free slot again.
        while self.sessions() < all {
            self.word(worker, TAKEN).fetch_add(1, SeqCst);
            if self.sessions() <= all {
                return true;
            }
            self.free_slot(worker);
        }
        false
    }

    /// Whether `worker` serves at least its share of the client slots.
    #[must_use]
    pub fn has_full_share(&self, worker: usize) -> bool {
        self.word(worker, TAKEN).load(SeqCst) >= self.slots
    }

    /// Whether `worker` accepts connections: it has less than its share of the sessions, or all
    /// live workers have theirs.
    #[must_use]
    pub fn may_accept(&self, worker: usize) -> bool {
        !self.has_full_share(worker)
            || (0..self.workers).all(|other| self.has_full_share(other) || !self.is_alive(other))
    }

    /// Frees a client slot of `worker`.
    pub fn free_slot(&self, worker: usize) {
        self.decrement(worker, TAKEN);
    }

    /// Takes a slot for another slave in `worker`; false if all are taken.
    pub fn take_peer_slot(&self, worker: usize) -> bool {
        self.word(worker, PEERS)
            .fetch_update(SeqCst, SeqCst, |n| (n < PEER_SLOTS).then_some(n + 1))
            .is_ok()
    }

    /// Frees a slot for another slave in `worker`.
    pub fn free_peer_slot(&self, worker: usize) {
        self.decrement(worker, PEERS);
    }

    /// Adds a waiting session to the queue of `worker`; false if the slave's queue is full.
    pub fn join_queue(&self, worker: usize) -> bool {
        self.word(worker, WAITING).fetch_add(1, SeqCst);
        let fits = self.waiting() <= self.queue;
        if !fits {
            self.leave_queue(worker);
        }
        fits
    }

    /// Removes a waiting session from the queue of `worker`.
    pub fn leave_queue(&self, worker: usize) {
        self.decrement(worker, WAITING);
    }

    /// Returns the workers in which sessions wait.
    pub fn workers_with_queue(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.workers).filter(|worker| self.word(*worker, WAITING).load(SeqCst) > 0)
    }

    /// Returns the number of waiting sessions.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.sum(WAITING)
    }

    /// Returns the number of client slots that are taken.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sum(TAKEN)
    }

    /// Records that `worker` is alive.
    pub fn tick(&self, worker: usize) {
        Moment(self.word(worker, TICKED)).set_now();
    }

    fn is_alive(&self, worker: usize) -> bool {
        Moment(self.word(worker, TICKED)).elapsed().is_some_and(|time| time < ALIVE_TIMEOUT)
    }

    /// Records what confines `worker`.
    pub fn set_confinement(&self, worker: usize, confinement: Confinement) {
        self.word(worker, CONFINED).store(confinement.0.into(), SeqCst);
    }

    /// Returns what confines every worker that is alive.
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        let each = (0..self.workers)
            .filter(|worker| self.is_alive(*worker))
            .map(|worker| self.word(worker, CONFINED).load(SeqCst));
        Confinement(
            each.reduce(|all, one| all & one)
                .and_then(|bits| u32::try_from(bits).ok())
                .unwrap_or(0),
        )
    }

    /// Adds the metrics of the pool to those of the folder.
    #[must_use]
    pub fn with_pool_metrics(&self, metrics: Metrics) -> Metrics {
        let uploads = self.uploads.usage();
        let [sent, received] = self.transfers.bytes();
        self.activity
            .with_metrics(metrics)
            .with(metric::UPLOADS, uploads.number)
            .with(metric::UPLOAD_BYTES, uploads.bytes)
            .with(metric::SENT_BYTES, sent)
            .with(metric::RECEIVED_BYTES, received)
            .with(metric::CERTIFICATE_EXPIRY, self.certificate_expiry.load(SeqCst))
            .with(metric::SESSIONS, self.sessions())
            .with(metric::WAITING, self.waiting())
            .with(metric::WORKERS, self.alive_workers())
            .with(metric::CONFINEMENT, self.confinement().0.into())
    }

    /// Returns the number of workers that are alive.
    #[must_use]
    pub fn alive_workers(&self) -> u64 {
        (0..self.workers).map(|worker| u64::from(self.is_alive(worker))).sum()
    }

    /// Clears what a dead worker held.
    pub fn clear(&self, worker: usize) {
        self.end_large_transfer(worker);
        self.activity.clear(worker);
        self.addresses.iter().for_each(|addresses| addresses.clear(worker));
        for word in 0..ROW {
            self.word(worker, word).store(0, SeqCst);
        }
    }

    /// Records the master's time and the generation of its accounts.
    pub fn record_master(&self, time_ms: u64, generation: u64) {
        let offset = i64::try_from(time_ms)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(monotonic_ms()).unwrap_or(i64::MAX));
        self.master_offset.store(offset.cast_unsigned(), SeqCst);
        self.generation.store(generation, SeqCst);
    }

    /// Raises the generation of the accounts; a lower value has no effect.
    pub fn raise_generation(&self, generation: u64) {
        self.generation.fetch_max(generation, SeqCst);
    }

    /// Sets how many disks must hold the content of a put that names no number itself.
    pub fn set_copies(&self, copies: u16) {
        self.copies.store(copies.into(), SeqCst);
    }

    /// Returns how many disks must hold the content of a put that names no number itself.
    #[must_use]
    pub fn copies(&self) -> u16 {
        u16::try_from(self.copies.load(SeqCst)).unwrap_or(u16::MAX)
    }

    /// Whether the catalogue writer has been at work on one thing for too long.
    ///
    /// Until it is done the slave applies no further change.
    #[must_use]
    pub fn is_catalog_writer_stalled(&self) -> bool {
        self.writer_ticked.elapsed().is_some_and(|time| time > WRITER_STALL)
    }

    /// Takes the slave's only slot for sending large content to a slave; false if it is taken.
    pub fn begin_large_transfer(&self, worker: usize) -> bool {
        self.large_sender.compare_exchange(0, worker as u64 + 1, SeqCst, SeqCst).is_ok()
    }

    /// Frees the slot for sending large content, if `worker` has it.
    pub fn end_large_transfer(&self, worker: usize) {
        // Another worker may have it by now.
        let _ = self.large_sender.compare_exchange(worker as u64 + 1, 0, SeqCst, SeqCst);
    }

    /// Returns the master's time in milliseconds since 1970.
    ///
    /// The monotonic clock counts on from the master's last message. Before the first message
    /// this is the time of this host's clock.
    #[must_use]
    pub fn master_ms(&self) -> u64 {
        match self.master_offset.load(SeqCst).cast_signed() {
            0 => wall_ms(),
            offset => monotonic_ms().saturating_add_signed(offset),
        }
    }

    /// Returns the generation of the accounts.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }
}

/// Returns milliseconds since 1970 UTC.
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use relais_proto::Lsn;

    use super::*;

    impl Scoreboard {
        /// Maps a scoreboard for `workers` of `slots` sessions, and `queue` waiting sessions.
        pub(crate) fn of(workers: usize, slots: u32, queue: u32) -> Self {
            let uploads = UploadLimits::default();
            Self::new(workers, slots, queue, None, uploads).unwrap()
        }
    }

    #[test]
    fn slots_and_queue_are_never_overdrawn() {
        let scoreboard = Scoreboard::of(2, 2, 1);
        scoreboard.tick(1);
        // A login may take a slot beyond the share of its worker.
        assert_eq!(
            [0, 0, 0, 1, 1, 0].map(|worker| scoreboard.take_slot(worker)),
            [true, true, true, true, false, false]
        );
        assert!(scoreboard.join_queue(0));
        assert!(!scoreboard.join_queue(1));
        assert_eq!(
            (
                scoreboard.sessions(),
                scoreboard.waiting(),
                scoreboard.workers_with_queue().collect::<Vec<_>>()
            ),
            (4, 1, vec![0])
        );
        scoreboard.free_slot(0);
        assert!(scoreboard.take_slot(1) && !scoreboard.take_slot(1));
        scoreboard.clear(1);
        assert!(scoreboard.take_slot(0) && scoreboard.take_slot(0) && !scoreboard.take_slot(0));
        scoreboard.free_slot(1);
        assert_eq!(scoreboard.sessions(), 4);
    }

    #[test]
    fn last_slot_goes_to_one_of_many_workers() {
        let scoreboard = Scoreboard::of(4, 1, 0);
        assert!((0..3).all(|worker| scoreboard.take_slot(worker)));
        let taken = AtomicU64::new(0);
        for round in 1..=2000 {
            std::thread::scope(|scope| {
                for worker in 0..4 {
                    let (scoreboard, taken) = (&scoreboard, &taken);
                    scope.spawn(move || {
                        if scoreboard.take_slot(worker) {
                            taken.fetch_add(1, SeqCst);
                        }
                    });
                }
            });
            assert_eq!((taken.load(SeqCst), scoreboard.sessions()), (round, 4));
            let last = (0..4).max_by_key(|w| scoreboard.word(*w, TAKEN).load(SeqCst)).unwrap();
            scoreboard.free_slot(last);
        }
    }

    #[test]
    fn workers_accept_up_to_their_share_while_others_have_room() {
        let scoreboard = Scoreboard::of(2, 1, 1);
        (0..2).for_each(|worker| scoreboard.tick(worker));
        assert!(scoreboard.may_accept(0) && scoreboard.take_slot(0));
        assert!(!scoreboard.may_accept(0) && scoreboard.may_accept(1));
        // A dead worker takes no connection.
        scoreboard.clear(1);
        assert!(scoreboard.may_accept(0));
        scoreboard.tick(1);
        // When all slots are taken, both accept: for the queue, or to refuse.
        assert!(scoreboard.take_slot(1) && scoreboard.may_accept(0) && scoreboard.may_accept(1));
        scoreboard.free_slot(0);
        assert!(scoreboard.may_accept(0) && !scoreboard.may_accept(1));
    }

    #[test]
    fn peers_and_clients_have_separate_slots() {
        let scoreboard = Scoreboard::of(1, 1, 0);
        assert_eq!((0..100).filter(|_| scoreboard.take_peer_slot(0)).count() as u64, PEER_SLOTS);
        assert!(scoreboard.take_slot(0) && !scoreboard.take_slot(0));
        assert_eq!(scoreboard.sessions(), 1);
        scoreboard.free_peer_slot(0);
        assert!(scoreboard.take_peer_slot(0) && !scoreboard.take_peer_slot(0));
    }

    #[test]
    fn master_time_continues_without_master() {
        let scoreboard = Scoreboard::of(1, 1, 1);
        assert!(scoreboard.master_ms().abs_diff(wall_ms()) < 1000);
        scoreboard.record_master(5_000_000, 3);
        scoreboard.progress.set_applied(Lsn { epoch: 1, number: 7 });
        assert!(scoreboard.master_ms().abs_diff(5_000_000) < 1000);
        assert_eq!((scoreboard.progress.applied().number, scoreboard.generation()), (7, 3));
    }
}
