//! Unfinished uploads: a table in shared memory with one row for each, and the limits on them.
//!
//! An upload has a row from its first byte until its change is answered. The rows say which staged
//! files an account has, how large they are and when they were last written, so that neither a limit
//! nor a look-up by id needs the folder listed. The folder is the truth: a process that dies leaves a
//! row without a file or a file without a row, and the sweeper puts that right.
//!
//! The rows are a hash table: an upload lies in one of the [`WINDOW`] rows from the one that its id
//! hashes to. Counters for all uploads, and for groups of accounts, say at once that a limit holds;
//! only where they do not are the rows read.
//!
//! Where an upload would exceed a limit the oldest unfinished uploads go first: those of its account
//! where the account has too many, else those of the account with most. An upload that is being sent
//! is never evicted. A complete upload that waits for its change keeps no other upload out.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use log::{debug, info};
use relais_proto::{ChangeId, ErrorCode, Refusal};
use relais_tree::TreeError;

use crate::scoreboard::monotonic_ms;
use crate::staging::{StagedName, Staging};
use crate::sys::memory::SharedWords;

/// Most unfinished uploads where nothing else is asked for.
pub const UPLOADS: u64 = 10_000;
/// Most unfinished uploads that can be asked for.
pub const UPLOADS_MAX: u64 = 1_000_000;
/// The part of each limit that one account may use: a half.
pub const ACCOUNT_PART: u64 = 2;
/// The part of the disk that unfinished uploads may use where nothing else is asked for: a half.
pub const DISK_PART: u64 = 2;
/// Bytes of the disk that uploads leave for the journal and the catalogue.
pub const RESERVE: u64 = 16 * 1024 * 1024;
/// The part of a small disk that they leave.
pub const RESERVE_PART: u64 = 64;
/// Rows for each upload within the limit. With a quarter of them in use nearly no window is full.
const ROWS_PER_UPLOAD: usize = 4;
/// Rows beyond those: uploads that begin at the same time do not know of each other.
const SPARE: usize = 4096;
/// Rows in which an upload can lie.
const WINDOW: usize = 32;
/// Counters of groups of accounts.
const GROUPS: usize = 4096;
/// How much more than one upload needs is evicted at once, as a part of the limit, so that the rows are not read for each.
const EVICTED_PART: u64 = 32;
/// Time in milliseconds for which nothing is looked for again where nothing could be evicted.
const FUTILE_MS: u64 = 100;
/// Age in milliseconds from which a row without a file, and a complete upload without an answer, can go.
const SETTLED_MS: u64 = 10 * 60 * 1000;
/// The key of a row that is just being written.
const CLAIMED: u64 = u64::MAX;
/// Words of a row behind its key: the id in two halves, the binding, bytes, and when it was last written.
const ROW: usize = 5;
/// Words of a counter: uploads, their bytes, when nothing could be evicted, and what came of it.
const COUNTER: usize = 4;

/// How many unfinished uploads there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Their number.
    pub number: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl UploadLimits {
    /// What one account may use of it.
    #[must_use]
    pub fn of_account(self) -> Self {
        Self { number: (self.number / ACCOUNT_PART).max(1), bytes: self.bytes / ACCOUNT_PART }
    }

    fn hold(self, used: Usage) -> bool {
        used.number <= self.number && used.bytes <= self.bytes
    }
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { number: UPLOADS, bytes: u64::MAX }
    }
}

/// How many unfinished uploads there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Their number.
    pub number: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Usage {
    fn with(self, row: UploadRow) -> Self {
        self.plus(Self { number: 1, bytes: row.bytes })
    }

    /// A counter may be below 0 for a moment, and by what a process that died did not count.
    fn counted(number: u64, bytes: u64) -> Self {
        let positive = |word: u64| word.cast_signed().max(0).cast_unsigned();
        Self { number: positive(number), bytes: positive(bytes) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            number: self.number.saturating_add(other.number),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn without(self, row: UploadRow) -> Self {
        Self { number: self.number.saturating_sub(1), bytes: self.bytes.saturating_sub(row.bytes) }
    }
}

/// One unfinished upload.
#[derive(Debug, Clone, Copy)]
struct UploadRow {
    at: usize,
    id: [u64; 2],
    binding: u64,
    bytes: u64,
    touched_ms: u64,
}

impl UploadRow {
    fn name(&self) -> StagedName {
        let [high, low] = self.id.map(u64::to_be_bytes);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high);
        id[8..].copy_from_slice(&low);
        StagedName::from_parts(ChangeId(id), self.binding)
    }

    fn account(&self) -> u32 {
        account_of(self.id)
    }
}

/// See the module.
#[derive(Debug)]
pub struct UploadTable {
    words: SharedWords,
    rows: usize,
    limits: UploadLimits,
    /// The same in every process, since it is made before they are. Clients choose ids, but not where their rows lie.
    hasher: RandomState,
}

/// What the uploads of a group of accounts, or all, come to.
struct UsageCounter<'a>(&'a [AtomicU64]);

impl UsageCounter<'_> {
    fn usage(&self) -> Usage {
        Usage::counted(self.0[0].load(SeqCst), self.0[1].load(SeqCst))
    }

    /// Both are differences, modulo 2^64.
    fn add(&self, number: u64, bytes: u64) {
        self.0[0].fetch_add(number, SeqCst);
        self.0[1].fetch_add(bytes, SeqCst);
    }

    /// What came of looking for uploads to evict a moment ago, where there were none.
    fn futile(&self) -> Option<NoEviction> {
        let recent = monotonic_ms().saturating_sub(self.0[2].load(SeqCst)) < FUTILE_MS;
        match self.0[3].load(SeqCst) {
            1 if recent => Some(NoEviction::Admit),
            2 if recent => Some(NoEviction::Refuse),
            _ => None,
        }
    }

    fn note_futile(&self, result: NoEviction) {
        self.0[3].store(result as u64, SeqCst);
        self.0[2].store(monotonic_ms(), SeqCst);
    }
}

/// What becomes of an upload for which nothing can be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoEviction {
    /// Complete uploads that wait for their changes have the room, or bytes alone are too many.
    Admit = 1,
    /// Too many uploads are being sent.
    Refuse = 2,
}

impl UploadTable {
    /// An empty table.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new(limits: UploadLimits) -> io::Result<Self> {
        let limits = UploadLimits { number: limits.number.clamp(1, UPLOADS_MAX), ..limits };
        let rows = usize::try_from(limits.number).unwrap_or(SPARE) * ROWS_PER_UPLOAD + SPARE;
        let words = SharedWords::new((GROUPS + 1) * COUNTER + rows * (1 + ROW))?;
        Ok(Self { words, rows, limits, hasher: RandomState::new() })
    }

    fn counter(&self, index: usize) -> UsageCounter<'_> {
        UsageCounter(&self.words[index * COUNTER..(index + 1) * COUNTER])
    }

    fn total(&self) -> UsageCounter<'_> {
        self.counter(GROUPS)
    }

    fn group(&self, account: u32) -> usize {
        reduce(self.hasher.hash_one(account), GROUPS)
    }

    /// Counts for a row of this account; both are differences, modulo 2^64.
    fn count(&self, account: u32, number: u64, bytes: u64) {
        self.total().add(number, bytes);
        self.counter(self.group(account)).add(number, bytes);
    }

    fn key(&self, row: usize) -> &AtomicU64 {
        &self.words[(GROUPS + 1) * COUNTER + row]
    }

    fn word(&self, row: usize, word: usize) -> &AtomicU64 {
        &self.words[(GROUPS + 1) * COUNTER + self.rows + row * ROW + word]
    }

    /// The key of an id, which is neither 0 nor [`CLAIMED`], and the rows in which it can lie.
    fn place(&self, id: [u64; 2]) -> (u64, impl Iterator<Item = usize> + use<>) {
        let (hash, rows) = (self.hasher.hash_one(id), self.rows);
        let first = reduce(hash, rows);
        (hash.clamp(1, CLAIMED - 1), (0..WINDOW).map(move |n| (first + n) % rows))
    }

    fn find(&self, name: &StagedName) -> Option<usize> {
        let (id, binding) = halves(name);
        let (key, mut rows) = self.place(id);
        rows.find(|row| {
            self.key(*row).load(SeqCst) == key
                && [self.word(*row, 0), self.word(*row, 1), self.word(*row, 2)]
                    .map(|word| word.load(SeqCst))
                    == [id[0], id[1], binding]
        })
    }

    /// Makes a row for an upload that has none; its place. None where there is no room.
    fn insert(&self, name: &StagedName, bytes: u64, touched_ms: u64) -> Option<usize> {
        let (id, binding) = halves(name);
        let (key, mut rows) = self.place(id);
        let row = rows.find(|row| {
            self.key(*row).load(SeqCst) == 0
                && self.key(*row).compare_exchange(0, CLAIMED, SeqCst, SeqCst).is_ok()
        })?;
        for (word, value) in [id[0], id[1], binding, bytes, touched_ms].into_iter().enumerate() {
            self.word(row, word).store(value, SeqCst);
        }
        self.key(row).store(key, SeqCst);
        self.count(account_of(id), 1, bytes);
        Some(row)
    }

    /// Frees a row, once, whoever else does so too.
    fn free(&self, row: usize) {
        let key = self.key(row).load(SeqCst);
        let mine = !matches!(key, 0 | CLAIMED)
            && self.key(row).compare_exchange(key, CLAIMED, SeqCst, SeqCst).is_ok();
        if mine {
            let id = [self.word(row, 0), self.word(row, 1)].map(|word| word.load(SeqCst));
            let bytes = self.word(row, 3).load(SeqCst);
            self.count(account_of(id), 1_u64.wrapping_neg(), bytes.wrapping_neg());
            self.key(row).store(0, SeqCst);
        }
    }

    fn row(&self, at: usize) -> Option<UploadRow> {
        if matches!(self.key(at).load(SeqCst), 0 | CLAIMED) {
            return None;
        }
        let [high, low, binding, bytes, touched_ms] =
            [0, 1, 2, 3, 4].map(|word| self.word(at, word).load(SeqCst));
        Some(UploadRow { at, id: [high, low], binding, bytes, touched_ms })
    }

    /// The rows that are in use.
    fn all(&self) -> impl Iterator<Item = UploadRow> + '_ {
        (0..self.rows).filter_map(|at| self.row(at))
    }

    /// How many there are now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.total().usage()
    }

    /// The staged files of these changes.
    #[must_use]
    pub fn names_of(&self, ids: &HashSet<ChangeId>) -> Vec<StagedName> {
        let of_id = |id: &ChangeId| {
            let id = id_halves(id);
            let (_, rows) = self.place(id);
            rows.filter_map(move |at| self.row(at).filter(|row| row.id == id))
        };
        ids.iter().flat_map(of_id).map(|row| row.name()).collect()
    }

    /// Whether one more upload of this account would exceed a limit. A session hands in one upload at a time then.
    #[must_use]
    pub fn is_crowded(&self, account: u32) -> bool {
        !self.hold(account, Usage { number: 1, bytes: 0 })
    }

    /// Whether the counters say that the limits hold with this much more.
    fn hold(&self, account: u32, more: Usage) -> bool {
        let group = self.counter(self.group(account)).usage();
        self.limits.of_account().hold(group.plus(more)) && self.limits.hold(self.usage().plus(more))
    }

    /// An upload begins, or goes on: `more` bytes are announced beyond the `there` that are here. Older
    /// uploads are evicted where it needs their room.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] where too many are being sent, or there is no row for one more.
    pub fn begin(
        &self,
        name: &StagedName,
        there: u64,
        more: u64,
        staging: &Staging,
    ) -> Result<(), Refusal> {
        self.make_room(name, more, staging)?;
        if self.note(name, there) { Ok(()) } else { Err(too_many()) }
    }

    /// So many bytes of an upload are here now.
    pub fn record_bytes(&self, name: &StagedName, bytes: u64) {
        if !self.note(name, bytes) {
            debug!("an upload is not counted: the table is full");
        }
    }

    /// Whether there is a row for it.
    fn note(&self, name: &StagedName, bytes: u64) -> bool {
        let now = monotonic_ms();
        let Some(row) = self.find(name) else {
            return self.insert(name, bytes, now).is_some();
        };
        let before = self.word(row, 3).swap(bytes, SeqCst);
        self.word(row, 4).store(now, SeqCst);
        self.count(name.id().account(), 0, bytes.wrapping_sub(before));
        true
    }

    /// An upload is finished: it was made, refused or discarded.
    pub fn end(&self, name: &StagedName) {
        while let Some(row) = self.find(name) {
            self.free(row);
        }
    }

    /// An upload was answered. Its row goes, unless what was staged is here still.
    pub fn release(&self, name: &StagedName, staging: &Staging) {
        if !staging.has(&name.sealed()) && !staging.has(&name.unsealed()) {
            self.end(name);
        }
    }

    /// Evicts what has to go for one more upload, or more bytes of it.
    fn make_room(&self, name: &StagedName, more: u64, staging: &Staging) -> Result<(), Refusal> {
        let (account, own) = (name.id().account(), self.find(&name.unsealed()));
        let extra = Usage { number: u64::from(own.is_none()), bytes: more };
        if self.hold(account, extra) {
            return Ok(());
        }
        let counter = self.counter(self.group(account));
        let futile = match counter.futile() {
            Some(futile) => Some(futile),
            None => {
                let futile = self.evict_for(account, own, extra, staging);
                if let Some(futile) = futile {
                    counter.note_futile(futile);
                }
                futile
            }
        };
        match futile {
            Some(NoEviction::Refuse) if own.is_none() => Err(too_many()),
            _ => Ok(()),
        }
    }

    /// Evicts the oldest until there is room; else what becomes of the upload.
    fn evict_for(
        &self,
        account: u32,
        own: Option<usize>,
        extra: Usage,
        staging: &Staging,
    ) -> Option<NoEviction> {
        let mut rows: Vec<UploadRow> = self.all().collect();
        rows.sort_by_key(|row| row.touched_ms);
        let mut accounts = BTreeMap::from([(account, extra)]);
        let mut total = extra;
        for row in &rows {
            total = total.with(*row);
            let used = accounts.entry(row.account()).or_default();
            *used = used.with(*row);
        }
        let of_account = self.limits.of_account();
        let holds = |accounts: &BTreeMap<u32, Usage>, total| {
            let used = accounts.get(&account).copied().unwrap_or_default();
            (of_account.hold(used), self.limits.hold(total))
        };
        if holds(&accounts, total) == (true, true) {
            // The counter is of other accounts too.
            return None;
        }
        // Of an account with too many, some more are evicted than this one needs.
        let used = accounts.get(&account).map_or(0, |used| used.number);
        let part = if used > of_account.number { of_account.number / EVICTED_PART } else { 0 };
        let most = of_account.number - part;
        // For each account the oldest row that was not looked at.
        let mut next = BTreeMap::<u32, usize>::new();
        let mut waiting = 0;
        loop {
            let used = accounts.get(&account).copied().unwrap_or_default();
            let from = match holds(&accounts, total) {
                (false, _) => account,
                (true, false) => {
                    largest(&accounts, total.number > self.limits.number).unwrap_or(account)
                }
                (true, true) if part > 0 && waiting == 0 && used.number > most => account,
                (true, true) => return None,
            };
            let next = next.entry(from).or_default();
            let candidates = rows.get(*next..).unwrap_or_default().iter();
            let oldest = candidates
                .inspect(|_| *next += 1)
                .find(|row| row.account() == from && Some(row.at) != own)
                .copied();
            let Some(row) = oldest else {
                if from != account {
                    // All of its uploads are being sent. Those of others may make room.
                    accounts.remove(&from);
                    continue;
                }
                let (used, total) =
                    (used.number.saturating_sub(waiting), total.number.saturating_sub(waiting));
                let many = used > of_account.number || total > self.limits.number;
                // The bytes of what is being sent are limited by the disk alone.
                return Some(if many { NoEviction::Refuse } else { NoEviction::Admit });
            };
            match self.evict(row, staging) {
                EvictionResult::Gone => {
                    total = total.without(row);
                    accounts.entry(from).and_modify(|used| *used = used.without(row));
                }
                EvictionResult::Waits => waiting += 1,
                EvictionResult::IsSent => {}
            }
        }
    }

    /// Removes an upload that is not being sent and whose change is not under way.
    fn evict(&self, row: UploadRow, staging: &Staging) -> EvictionResult {
        let name = row.name();
        if staging.has(&name.sealed()) {
            if monotonic_ms().saturating_sub(row.touched_ms) < SETTLED_MS {
                return EvictionResult::Waits;
            }
            staging.discard(&name.sealed());
        } else {
            match staging.reopen(&name) {
                Ok(_locked) => staging.discard(&name),
                Err(TreeError::NotFound) => {}
                Err(_) => return EvictionResult::IsSent,
            }
        }
        debug!("an unfinished upload of {} bytes is evicted: there are too many", row.bytes);
        self.free(row.at);
        EvictionResult::Gone
    }

    /// Brings the table in order with the folder: `files` are all staged files, with their bytes and
    /// their ages in milliseconds. What exceeds the limits is evicted.
    pub fn reconcile(&self, mut files: Vec<(StagedName, u64, u64)>, staging: &Staging) {
        let now = monotonic_ms();
        let claimed = |row: &usize| self.key(*row).load(SeqCst) == CLAIMED;
        let being_written: Vec<usize> = (0..self.rows).filter(claimed).collect();
        for row in self.all() {
            if now.saturating_sub(row.touched_ms) >= SETTLED_MS {
                self.release(&row.name(), staging);
            }
        }
        // A process that writes a row is done at once; this one has died.
        being_written.iter().filter(|row| claimed(row)).for_each(|row| {
            self.key(*row).store(0, SeqCst);
        });
        self.recount();
        // The newest come first, so it is the oldest that find no room.
        files.sort_by_key(|(_, _, age_ms)| *age_ms);
        let mut total = self.usage();
        let mut accounts = BTreeMap::<u32, Usage>::new();
        let mut known = HashSet::new();
        for row in self.all() {
            known.insert((row.id, row.binding));
            let used = accounts.entry(row.account()).or_default();
            *used = used.with(row);
        }
        let mut evicted = 0_u64;
        for (name, bytes, age_ms) in files {
            if !known.insert(halves(&name)) {
                continue;
            }
            let more = Usage { number: 1, bytes };
            let used = accounts.entry(name.id().account()).or_default();
            if self.limits.hold(total.plus(more))
                && self.limits.of_account().hold(used.plus(more))
                && self.insert(&name.unsealed(), bytes, now.saturating_sub(age_ms)).is_some()
            {
                (total, *used) = (total.plus(more), used.plus(more));
            } else if name.is_sealed() {
                // Its change may be under way.
                debug!("a complete upload is not counted: there are too many");
            } else if staging.reopen(&name).map(|_locked| staging.discard(&name)).is_ok() {
                evicted += 1;
            }
        }
        if evicted > 0 {
            info!("{evicted} unfinished uploads are evicted: there were too many");
        }
    }
}

impl UploadTable {
    /// Sets the counters right: a process that died may not have counted what it did. What others count meanwhile may be counted
    /// twice until the next time.
    fn recount(&self) {
        let counted: Vec<Usage> = (0..=GROUPS).map(|index| self.counter(index).usage()).collect();
        let mut there = vec![Usage::default(); GROUPS + 1];
        for row in self.all() {
            for index in [self.group(row.account()), GROUPS] {
                there[index] = there[index].with(row);
            }
        }
        for (index, (counted, there)) in counted.into_iter().zip(there).enumerate() {
            self.counter(index).add(
                there.number.wrapping_sub(counted.number),
                there.bytes.wrapping_sub(counted.bytes),
            );
        }
    }
}

/// What became of an upload that was to be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EvictionResult {
    Gone,
    /// It is complete and waits for its change.
    Waits,
    IsSent,
}

fn too_many() -> Refusal {
    Refusal::new(
        ErrorCode::Busy,
        "too many uploads are under way; try again when one of them has ended",
    )
}

/// The first four bytes of an id.
fn account_of(id: [u64; 2]) -> u32 {
    u32::try_from(id[0] >> 32).unwrap_or(0)
}

/// A number below `many` from a hash, without a division.
fn reduce(hash: u64, many: usize) -> usize {
    usize::try_from((u128::from(hash) * many as u128) >> 64).unwrap_or(0)
}

fn halves(name: &StagedName) -> ([u64; 2], u64) {
    (id_halves(&name.id()), name.binding())
}

fn id_halves(id: &ChangeId) -> [u64; 2] {
    let half = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let (high, low) = id.0.split_at(8);
    [half(high), half(low)]
}

/// The account that has most.
fn largest(accounts: &BTreeMap<u32, Usage>, by_number: bool) -> Option<u32> {
    accounts
        .iter()
        .max_by_key(|(_, used)| if by_number { used.number } else { used.bytes })
        .map(|(account, _)| *account)
}

#[cfg(test)]
mod tests {
    use relais_proto::TreePath;
    use relais_tree::Folder;

    use super::*;

    struct Lab {
        _dir: tempfile::TempDir,
        staging: Staging,
        table: UploadTable,
    }

    fn lab(number: u64, bytes: u64) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(crate::catalogue::FOLDER)).unwrap();
        let staging = Staging::open(&Folder::open(dir.path()).unwrap()).unwrap();
        let table = UploadTable::new(UploadLimits { number, bytes }).unwrap();
        Lab { _dir: dir, staging, table }
    }

    fn name(account: u8, n: u8) -> StagedName {
        let mut id = [n; 16];
        id[..4].copy_from_slice(&[account; 4]);
        StagedName::new(ChangeId(id), "", &TreePath::new("f").unwrap(), None)
    }

    impl Lab {
        /// An upload that was cut off.
        fn leave(&self, account: u8, n: u8, bytes: u64) -> Result<(), Refusal> {
            let name = name(account, n);
            self.table.begin(&name, 0, 0, &self.staging)?;
            self.staging.claim(&name).unwrap().set_len(bytes).unwrap();
            let row = self.table.find(&name).unwrap();
            self.table.record_bytes(&name, bytes);
            // The order counts, whatever the clock's grain.
            self.table.word(row, 4).store(u64::from(n), SeqCst);
            Ok(())
        }

        fn left(&self, account: u8) -> Vec<u8> {
            (0..=255).filter(|n| self.staging.has(&name(account, *n))).collect()
        }
    }

    #[test]
    fn the_oldest_upload_of_an_account_over_its_part_goes() {
        let lab = lab(8, u64::MAX);
        for n in 1..=6 {
            lab.leave(1, n, 10).unwrap();
        }
        assert_eq!(lab.left(1), [3, 4, 5, 6], "half of all");
        assert_eq!(lab.table.usage(), Usage { number: 4, bytes: 40 });
        // One that goes on is not one more.
        lab.table.begin(&name(1, 3), 10, 0, &lab.staging).unwrap();
        assert_eq!(lab.left(1), [3, 4, 5, 6]);
        lab.table.end(&name(1, 4));
        assert_eq!(lab.table.usage().number, 3);
    }

    #[test]
    fn a_flood_of_one_account_takes_nothing_of_another_below_its_part() {
        let lab = lab(8, 100);
        lab.leave(2, 1, 20).unwrap();
        lab.leave(2, 2, 20).unwrap();
        for n in 3..=40 {
            lab.leave(1, n, 10).unwrap();
        }
        assert_eq!(lab.left(2), [1, 2]);
        assert_eq!(lab.left(1), [37, 38, 39, 40]);
        // In total it is the account with most that gives way.
        lab.leave(3, 1, 1).unwrap();
        lab.leave(3, 2, 1).unwrap();
        lab.leave(3, 3, 1).unwrap();
        assert_eq!((lab.left(1), lab.left(2)), (vec![38, 39, 40], vec![1, 2]));
        lab.leave(3, 4, 1).unwrap();
        assert_eq!((lab.left(3), lab.left(1)), (vec![2, 3, 4], vec![38, 39, 40]));
        // Bytes count as well, before they come.
        lab.table.begin(&name(1, 38), 10, 25, &lab.staging).unwrap();
        assert_eq!((lab.left(1), lab.left(2)), (vec![38, 40], vec![1, 2]));
    }

    #[test]
    fn what_is_being_sent_is_not_evicted() {
        let lab = lab(4, 100);
        let sent = lab.staging.claim(&name(1, 1)).unwrap();
        lab.table.begin(&name(1, 1), 0, 0, &lab.staging).unwrap();
        let other = lab.staging.claim(&name(1, 2)).unwrap();
        lab.table.begin(&name(1, 2), 0, 0, &lab.staging).unwrap();
        let refusal = lab.table.begin(&name(1, 3), 0, 0, &lab.staging).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Busy);
        // Bytes alone do not keep an upload out.
        lab.table.record_bytes(&name(1, 1), 1000);
        lab.table.begin(&name(1, 2), 0, 1000, &lab.staging).unwrap();
        drop((sent, other));
        // For a moment nothing is looked for again.
        assert!(lab.table.begin(&name(1, 3), 0, 0, &lab.staging).is_err());
        std::thread::sleep(std::time::Duration::from_millis(2 * FUTILE_MS));
        lab.table.begin(&name(1, 3), 0, 0, &lab.staging).unwrap();
        assert!(!lab.staging.has(&name(1, 1)));
    }

    #[test]
    fn complete_uploads_that_wait_keep_no_other_out() {
        let lab = lab(4, u64::MAX);
        for n in 1..=3 {
            assert_eq!(lab.table.is_crowded(name(1, n).id().account()), n == 3);
            lab.table.begin(&name(1, n), 0, 0, &lab.staging).unwrap();
            lab.staging.claim(&name(1, n)).unwrap();
            lab.staging.seal(&name(1, n)).unwrap();
        }
        assert_eq!(lab.table.usage().number, 3);
        assert!((1..=3).all(|n| lab.staging.has(&name(1, n).sealed())), "none is evicted");
    }

    #[test]
    fn many_rows_are_found_and_counted() {
        const MANY: u32 = 20_000;
        let lab = lab(u64::from(MANY), u64::MAX);
        let name = |n: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&(n % 3).to_be_bytes());
            id[12..].copy_from_slice(&n.to_be_bytes());
            StagedName::new(ChangeId(id), "", &TreePath::new("f").unwrap(), None)
        };
        (0..MANY).for_each(|n| lab.table.record_bytes(&name(n), 1));
        assert_eq!(lab.table.usage(), Usage { number: u64::from(MANY), bytes: u64::from(MANY) });
        lab.table.record_bytes(&name(7), 11);
        assert_eq!(lab.table.usage().bytes, u64::from(MANY) + 10);
        lab.table.recount();
        assert_eq!(lab.table.usage().bytes, u64::from(MANY) + 10);
        (0..MANY).for_each(|n| {
            assert_eq!(lab.table.names_of(&HashSet::from([name(n).id()])), [name(n)]);
            lab.table.end(&name(n));
        });
        assert_eq!(lab.table.usage(), Usage::default());
        assert!(!lab.table.is_crowded(1));
    }

    #[test]
    fn the_table_follows_the_folder() {
        let lab = lab(6, u64::MAX);
        for n in 1..=9 {
            lab.staging.claim(&name(1, n)).unwrap().set_len(7).unwrap();
        }
        let files = (1..=9).map(|n| (name(1, n), 7, 1000 - u64::from(n))).collect();
        lab.table.reconcile(files, &lab.staging);
        assert_eq!(lab.left(1), [7, 8, 9], "the newest stay");
        assert_eq!(lab.table.usage(), Usage { number: 3, bytes: 21 });
        let ids = HashSet::from([name(1, 8).id(), name(1, 1).id()]);
        assert_eq!(lab.table.names_of(&ids), [name(1, 8)]);
        // A row whose file is gone is settled.
        lab.staging.discard(&name(1, 8));
        lab.table.release(&name(1, 8), &lab.staging);
        lab.table.release(&name(1, 9), &lab.staging);
        assert_eq!(lab.table.usage().number, 2);
    }
}
