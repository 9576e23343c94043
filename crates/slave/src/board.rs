//! The board: what the slave's processes tell each other all the time, in shared memory.
//!
//! One row a worker, and a few words for all. Every word is an atomic of its own; nothing here
//! blocks. The supervisor wipes the row of a worker that died.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relais_proto::{Confinement, Lsn};
use relais_state::FailedLogins;

use crate::addresses::Addresses;
use crate::sys::memory::SharedWords;
use crate::unfinished::{Unfinished, UploadLimits};

/// Most worker processes.
pub const MAX_WORKERS: usize = 256;
/// A worker that did not tick for this long does not count as alive.
const ALIVE: Duration = Duration::from_secs(2);
/// A slave whose changes stand still for so long is not in service.
const BUSY: Duration = Duration::from_secs(3);

/// Sessions of other slaves that one worker serves at a time. They have places of their own: who holds all places of clients must not keep
/// slaves from each other's contents, and slaves, which keep their sessions open, must not keep clients out.
pub const PEER_PLACES: u64 = 64;

/// Words of one worker's row: places taken by sessions and by connections on their way to
/// one; sessions that wait in this worker for a place anywhere; when the worker last
/// passed its loop by [`monotonic_ms`], 0 for not yet; what confines it; and sessions of other slaves, which take no client's place.
const TAKEN: usize = 0;
const WAITING: usize = 1;
const TICKED: usize = 2;
const CONFINED: usize = 3;
const PEERS: usize = 4;
const ROW: usize = 5;
/// Words for all, behind the rows: the master's time less [`monotonic_ms`] (two's complement, 0: never
/// heard), the accounts' generation, the latest change that is applied, the latest that readers may have met, since when
/// the master is not reached (0: it is), whether the slave is being drained, and which worker, counted from 1, sends large content to
/// another slave, how many copies the cluster asks for, and whether
/// somebody else has this slave's ids, when the
/// thread that makes changes last passed its loop (0: this slave's has none), and whether the folder's path leads to another
/// folder; and at the end the table of wrong passwords.
const MASTER_OFFSET: usize = MAX_WORKERS * ROW;
const GENERATION: usize = MASTER_OFFSET + 1;
const APPLIED: usize = MASTER_OFFSET + 2;
const MET: usize = APPLIED + MARK;
const ALONE: usize = MET + MARK;
const DRAINING: usize = ALONE + 1;
const LARGE_SENT: usize = ALONE + 2;
const COPIES: usize = ALONE + 3;
const CLONED: usize = ALONE + 4;
const KEEPER: usize = ALONE + 5;
const DISPLACED: usize = ALONE + 6;
const GUESSES: usize = ALONE + 7;
const WORDS: usize = GUESSES + FailedLogins::PLACES;

/// Words of a change's id: how often it was written, and two places of epoch and number, which are written in turn. The
/// place that counts is never written, so a reader gets no mixture of two ids, and a writer that dies holds up nobody.
const MARK: usize = 5;

/// What the processes of one slave share.
#[derive(Debug)]
pub struct Board {
    words: SharedWords,
    addresses: Option<Addresses>,
    uploads: Unfinished,
    workers: usize,
    places: u64,
    queue: u64,
}

impl Board {
    /// A board for `workers` processes of `places` sessions each, and `queue` sessions that wait.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new(workers: usize, places: u64, queue: u64) -> io::Result<Self> {
        Ok(Self {
            words: SharedWords::new(WORDS)?,
            addresses: None,
            uploads: Unfinished::new(UploadLimits::default())?,
            workers: workers.min(MAX_WORKERS),
            places,
            queue,
        })
    }

    /// Lets each address have so many sessions and no more.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn limit_addresses(mut self, most: u32) -> io::Result<Self> {
        let sessions =
            usize::try_from(self.places.saturating_add(self.queue)).unwrap_or(usize::MAX);
        self.addresses = Some(Addresses::new(
            self.workers,
            sessions,
            usize::try_from(most).unwrap_or(usize::MAX),
        )?);
        Ok(self)
    }

    /// Lets there be so many unfinished uploads and no more.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn limit_uploads(mut self, limits: UploadLimits) -> io::Result<Self> {
        self.uploads = Unfinished::new(limits)?;
        Ok(self)
    }

    /// The unfinished uploads.
    #[must_use]
    pub fn uploads(&self) -> &Unfinished {
        &self.uploads
    }

    /// One more session of `addr` with `worker`, served or waiting; false where it has as many as it may.
    pub fn take_address(&self, worker: usize, addr: IpAddr) -> bool {
        self.addresses.as_ref().is_none_or(|addresses| addresses.take(worker, addr))
    }

    /// A session of `addr` that counts already is with `worker` now.
    pub fn keep_address(&self, worker: usize, addr: IpAddr) {
        self.addresses.iter().for_each(|addresses| addresses.keep(worker, addr));
    }

    /// A session of `addr` with `worker` has ended, or is with another one now.
    pub fn leave_address(&self, worker: usize, addr: IpAddr) {
        self.addresses.iter().for_each(|addresses| addresses.leave(worker, addr));
    }

    /// Sessions that one worker serves at a time.
    #[must_use]
    pub fn places(&self) -> u64 {
        self.places
    }

    /// Sessions that may wait.
    #[must_use]
    pub fn queue(&self) -> u64 {
        self.queue
    }

    fn word(&self, worker: usize, word: usize) -> &AtomicU64 {
        &self.words[worker * ROW + word]
    }

    fn sum(&self, word: usize) -> u64 {
        (0..self.workers).map(|worker| self.word(worker, word).load(SeqCst)).sum()
    }

    /// Takes a place in `worker`; false where all are taken.
    pub fn take_place(&self, worker: usize) -> bool {
        self.word(worker, TAKEN)
            .fetch_update(SeqCst, SeqCst, |n| (n < self.places).then_some(n + 1))
            .is_ok()
    }

    /// Takes a place in `own`, or else in any other worker that is alive; says where.
    pub fn take_any_place(&self, own: usize) -> Option<usize> {
        let others =
            (1..self.workers).map(|step| (own + step) % self.workers).filter(|w| self.is_alive(*w));
        std::iter::once(own).chain(others).find(|worker| self.take_place(*worker))
    }

    /// Gives a place in `worker` back.
    pub fn leave_place(&self, worker: usize) {
        // A wiped row may hold fewer than were given out.
        let _ = self.word(worker, TAKEN).fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    }

    /// Takes one of the places that `worker` has for other slaves; false where all are taken.
    pub fn take_peer(&self, worker: usize) -> bool {
        self.word(worker, PEERS)
            .fetch_update(SeqCst, SeqCst, |n| (n < PEER_PLACES).then_some(n + 1))
            .is_ok()
    }

    /// Gives it back.
    pub fn leave_peer(&self, worker: usize) {
        let _ = self.word(worker, PEERS).fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    }

    /// Takes a place in the queue for `worker`; false where it is full.
    pub fn join_queue(&self, worker: usize) -> bool {
        self.word(worker, WAITING).fetch_add(1, SeqCst);
        let fits = self.waiting() <= self.queue;
        if !fits {
            self.leave_queue(worker);
        }
        fits
    }

    /// Gives a place in the queue back.
    pub fn leave_queue(&self, worker: usize) {
        let _ = self.word(worker, WAITING).fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    }

    /// Workers in which somebody waits.
    pub fn with_waiters(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.workers).filter(|worker| self.word(*worker, WAITING).load(SeqCst) > 0)
    }

    /// All sessions that wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.sum(WAITING)
    }

    /// All places taken.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sum(TAKEN)
    }

    /// `worker` is alive now.
    pub fn tick(&self, worker: usize) {
        self.word(worker, TICKED).store(monotonic_ms(), SeqCst);
    }

    fn is_alive(&self, worker: usize) -> bool {
        let ticked = self.word(worker, TICKED).load(SeqCst);
        ticked != 0 && u128::from(monotonic_ms().saturating_sub(ticked)) < ALIVE.as_millis()
    }

    /// Notes what confines `worker`.
    pub fn confined(&self, worker: usize, how: Confinement) {
        self.word(worker, CONFINED).store(how.0.into(), SeqCst);
    }

    /// What confines every worker that is alive.
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

    /// Workers that ticked lately.
    #[must_use]
    pub fn alive(&self) -> u32 {
        (0..self.workers).map(|worker| u32::from(self.is_alive(worker))).sum()
    }

    /// Forgets what a dead worker held.
    pub fn wipe(&self, worker: usize) {
        self.end_large(worker);
        self.addresses.iter().for_each(|addresses| addresses.wipe(worker));
        for word in 0..ROW {
            self.word(worker, word).store(0, SeqCst);
        }
    }

    /// Notes what the master said.
    pub fn heard_master(&self, time_ms: u64, generation: u64) {
        let offset = i64::try_from(time_ms)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(monotonic_ms()).unwrap_or(i64::MAX));
        self.words[MASTER_OFFSET].store(offset.cast_unsigned(), SeqCst);
        self.words[GENERATION].store(generation, SeqCst);
    }

    /// Notes a generation of the accounts that is known here; a lower one counts no more.
    pub fn raise_generation(&self, generation: u64) {
        self.words[GENERATION].fetch_max(generation, SeqCst);
    }

    /// The table of wrong passwords.
    #[must_use]
    pub fn guesses(&self) -> &[AtomicU64] {
        &self.words[GUESSES..]
    }

    /// Notes up to which change all is about to be applied. From the moment that it is, readers may meet it, and say so.
    pub fn announce(&self, mark: Lsn) {
        self.write_mark(MET, mark);
    }

    /// The latest change that a reader may have met in what it has read before it asks.
    #[must_use]
    pub fn met(&self) -> Lsn {
        self.read_mark(MET).max(self.mark())
    }

    /// Writes an id. Only one thread of the slave does at a time.
    fn write_mark(&self, at: usize, mark: Lsn) {
        let next = self.words[at].load(SeqCst).wrapping_add(1);
        let place = Self::place_of(at, next);
        self.words[place].store(mark.epoch.into(), SeqCst);
        self.words[place + 1].store(mark.number, SeqCst);
        self.words[at].store(next, SeqCst);
    }

    fn read_mark(&self, at: usize) -> Lsn {
        loop {
            let count = self.words[at].load(SeqCst);
            let place = Self::place_of(at, count);
            let epoch = u32::try_from(self.words[place].load(SeqCst)).unwrap_or(u32::MAX);
            let number = self.words[place + 1].load(SeqCst);
            // This place is written again only after the count has gone on.
            if self.words[at].load(SeqCst) == count {
                return Lsn { epoch, number };
            }
        }
    }

    fn place_of(at: usize, count: u64) -> usize {
        if count.is_multiple_of(2) { at + 1 } else { at + 3 }
    }

    /// Notes whether there is a link to the master.
    pub fn set_linked(&self, linked: bool) {
        let alone = if linked { 0 } else { monotonic_ms().max(1) };
        self.words[ALONE].store(alone, SeqCst);
    }

    /// For how long the master has not been reached; none where it is, or never was.
    #[must_use]
    pub fn alone(&self) -> Option<Duration> {
        let since = self.words[ALONE].load(SeqCst);
        (since != 0).then(|| Duration::from_millis(monotonic_ms().saturating_sub(since)))
    }

    /// Notes how many disks must hold the content of a put whose client does not say.
    pub fn set_copies(&self, copies: u16) {
        self.words[COPIES].store(copies.into(), SeqCst);
    }

    /// How many disks must hold the content of a put whose client does not say.
    #[must_use]
    pub fn copies(&self) -> u16 {
        u16::try_from(self.words[COPIES].load(SeqCst)).unwrap_or(u16::MAX)
    }

    /// The thread that makes changes is alive now.
    pub fn tick_keeper(&self) {
        self.words[KEEPER].store(monotonic_ms().max(1), SeqCst);
    }

    /// Whether the thread that makes changes is at work on one thing for long: then nothing else is followed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let ticked = self.words[KEEPER].load(SeqCst);
        ticked != 0 && u128::from(monotonic_ms().saturating_sub(ticked)) > BUSY.as_millis()
    }

    /// Notes whether another slave has the ids of this one.
    pub fn set_cloned(&self, cloned: bool) {
        self.words[CLONED].store(cloned.into(), SeqCst);
    }

    /// Whether another slave has the ids of this one.
    #[must_use]
    pub fn is_cloned(&self) -> bool {
        self.words[CLONED].load(SeqCst) != 0
    }

    /// Notes whether the folder's path does not lead to the served folder any more.
    pub fn set_displaced(&self, displaced: bool) {
        self.words[DISPLACED].store(displaced.into(), SeqCst);
    }

    /// Whether the folder's path does not lead to the served folder any more.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.words[DISPLACED].load(SeqCst) != 0
    }

    /// Notes whether the slave is being drained.
    pub fn set_draining(&self, draining: bool) {
        self.words[DRAINING].store(draining.into(), SeqCst);
    }

    /// Whether the slave is being drained.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.words[DRAINING].load(SeqCst) != 0
    }

    /// Takes the one place for sending large content to another slave, for `worker`; false where it is taken.
    pub fn begin_large(&self, worker: usize) -> bool {
        self.words[LARGE_SENT].compare_exchange(0, worker as u64 + 1, SeqCst, SeqCst).is_ok()
    }

    /// Gives it back, where `worker` has it.
    pub fn end_large(&self, worker: usize) {
        // Somebody else may have it by now.
        let _ = self.words[LARGE_SENT].compare_exchange(worker as u64 + 1, 0, SeqCst, SeqCst);
    }

    /// Notes the latest change that is applied here.
    pub fn set_mark(&self, mark: Lsn) {
        self.write_mark(APPLIED, mark);
    }

    /// The master's time in milliseconds since 1970, counted on by our monotonic clock; our own
    /// clock's where no master was heard since the start.
    #[must_use]
    pub fn master_ms(&self) -> u64 {
        match self.words[MASTER_OFFSET].load(SeqCst).cast_signed() {
            0 => wall_ms(),
            offset => monotonic_ms().saturating_add_signed(offset),
        }
    }

    /// The generation of the accounts that the master last named.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.words[GENERATION].load(SeqCst)
    }

    /// The latest change that this slave has.
    #[must_use]
    pub fn mark(&self) -> Lsn {
        self.read_mark(APPLIED)
    }
}

/// Milliseconds by a clock that all processes of the host share and nobody sets.
#[must_use]
pub fn monotonic_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1000 + nanos / 1_000_000
}

fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_queue_are_never_overdrawn() {
        let board = Board::new(2, 2, 1).unwrap();
        board.tick(1);
        assert_eq!(
            [(); 5].map(|()| board.take_any_place(0)),
            [Some(0), Some(0), Some(1), Some(1), None]
        );
        assert!(board.join_queue(0));
        assert!(!board.join_queue(1));
        assert_eq!(
            (board.sessions(), board.waiting(), board.with_waiters().collect::<Vec<_>>()),
            (4, 1, vec![0])
        );
        board.leave_place(1);
        assert_eq!(board.take_any_place(0), Some(1));
        board.wipe(1);
        assert_eq!(board.take_any_place(0), None, "a worker that does not tick gets nobody");
        board.leave_place(1);
        assert_eq!(board.sessions(), 2);
    }

    #[test]
    fn other_slaves_and_clients_do_not_take_each_others_places() {
        let board = Board::new(1, 1, 0).unwrap();
        assert_eq!((0..100).filter(|_| board.take_peer(0)).count() as u64, PEER_PLACES);
        assert!(board.take_any_place(0) == Some(0) && board.take_any_place(0).is_none());
        assert_eq!(board.sessions(), 1);
        board.leave_peer(0);
        assert!(board.take_peer(0) && !board.take_peer(0));
    }

    #[test]
    fn a_reader_never_sees_epoch_and_number_of_two_changes() {
        let board = Board::new(1, 1, 1).unwrap();
        let marks =
            [Lsn { epoch: 1, number: u64::MAX }, Lsn { epoch: 2, number: 1 }, Lsn::default()];
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0_u64;
                while !ended.load(SeqCst) {
                    for mark in [board.mark(), board.met()] {
                        assert!(marks.contains(&mark), "{mark:?}");
                        seen += 1;
                    }
                }
                seen
            });
            for n in 0..400_000 {
                board.announce(marks[n % 2]);
                board.set_mark(marks[n % 2]);
            }
            ended.store(true, SeqCst);
            assert!(reader.join().unwrap() > 0);
        });
    }

    #[test]
    fn the_masters_time_goes_on_without_it() {
        let board = Board::new(1, 1, 1).unwrap();
        assert!(board.master_ms().abs_diff(wall_ms()) < 1000);
        board.heard_master(5_000_000, 3);
        board.set_mark(Lsn { epoch: 1, number: 7 });
        assert!(board.master_ms().abs_diff(5_000_000) < 1000);
        assert_eq!((board.mark().number, board.generation()), (7, 3));
    }
}
