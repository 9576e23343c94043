//! Table of unfinished uploads in shared memory, with one row for each, and the limits on them.
//!
//! An upload has a row from its first byte until its change is answered. The rows have the name,
//! size and last write of each staged file, so limits and look-ups need no listing of the folder.
//! The folder is authoritative: a process that dies may leave a row without a file or a file
//! without a row. The sweeper repairs that.
//!
//! The rows are a hash table: an upload is in one of the `WINDOW` rows from the one that its id
//! hashes to. Counters for all uploads and for groups of accounts show at once that the limits
//! hold. The rows are only read if the counters exceed a limit.
//!
//! If an upload would exceed a limit, the oldest unfinished uploads are evicted: those of its own
//! account if that exceeds its part, otherwise those of the largest account. An upload that is
//! being sent is never evicted. A complete upload that waits for its change does not block other
//! uploads.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use log::{debug, info};
use relais_proto::{ChangeId, ErrorCode, Refusal};
use relais_tree::TreeError;

use crate::clock::monotonic_ms;
use crate::staging::{StagedName, Staging, UnfinishedUpload};

/// Default for the most unfinished uploads.
pub const UPLOADS: u64 = 10_000;
/// Highest configurable number of unfinished uploads.
pub const UPLOADS_MAX: u64 = 1_000_000;
/// Divisor of each limit for one account: a half.
pub const ACCOUNT_PART: u64 = 2;
/// Divisor of the disk size for the default limit in bytes: a half.
pub const DISK_PART: u64 = 2;
/// Disk space in bytes that uploads leave for the journal and the catalogue.
pub const RESERVE: u64 = 16 * 1024 * 1024;
/// Divisor of the size of a small disk for this reserve.
pub const RESERVE_PART: u64 = 64;
/// Rows for each upload within the limit. With a quarter of the rows in use, a window is hardly
/// ever full.
const ROWS_PER_UPLOAD: usize = 4;
/// Extra rows, because uploads that begin at the same time do not see each other.
const SPARE: usize = 4096;
/// Number of rows in which an upload can be.
const WINDOW: usize = 32;
/// Number of counters for groups of accounts.
const GROUPS: usize = 4096;
/// Divisor of the limit for the uploads that are evicted in advance. So the rows are not read for
/// each upload.
const EVICTED_PART: u64 = 32;
/// Time in milliseconds without another search after one that could evict nothing.
const FUTILE_MS: u64 = 100;
/// Age in milliseconds from which a stale row can be dropped. A stale row has no file, or is of a
/// complete upload without an answer.
const SETTLED_MS: u64 = 10 * 60 * 1000;
/// Key of a row that is being written.
const CLAIMED: u64 = u64::MAX;
/// Words of a row besides its key. They hold the id in two halves, the binding, the bytes, and the
/// time of the last write.
const ROW: usize = 5;
/// Words of a counter. They hold the uploads, the bytes, and the time and result of the last search
/// that could evict nothing.
const COUNTER: usize = 4;

/// Limits on unfinished uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Number of uploads.
    pub number: u64,
    /// Total size in bytes.
    pub bytes: u64,
}

impl UploadLimits {
    /// Returns the part of one account.
    #[must_use]
    pub fn of_account(self) -> Self {
        Self { number: (self.number / ACCOUNT_PART).max(1), bytes: self.bytes / ACCOUNT_PART }
    }

    fn allow(self, used: Usage) -> bool {
        used.number <= self.number && used.bytes <= self.bytes
    }
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { number: UPLOADS, bytes: u64::MAX }
    }
}

/// Number and size of unfinished uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Number of uploads.
    pub number: u64,
    /// Total size in bytes.
    pub bytes: u64,
}

impl Usage {
    fn with(self, row: UploadRow) -> Self {
        self.plus(Self { number: 1, bytes: row.bytes })
    }

    /// Reads a counter, which may be negative for a moment, or after a process died.
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

#[derive(Debug, Clone, Copy)]
struct UploadRow {
    at: usize,
    name: StagedName,
    bytes: u64,
    touched_ms: u64,
}

impl UploadRow {
    fn account(&self) -> u32 {
        self.name.id.account()
    }
}

/// Table of unfinished uploads. See the module.
#[derive(Debug)]
pub struct UploadTable {
    /// Counters for groups of accounts, and the last one for all uploads.
    counters: &'static [[AtomicU64; COUNTER]],
    keys: &'static [AtomicU64],
    /// The row of each key.
    rows: &'static [[AtomicU64; ROW]],
    limits: UploadLimits,
    /// Created before the fork, so all processes have the same. Clients choose ids, but not the
    /// rows they hash to.
    hasher: RandomState,
}

/// Counter for all uploads or for those of a group of accounts.
struct UsageCounter<'a>(&'a [AtomicU64; COUNTER]);

impl UsageCounter<'_> {
    fn usage(&self) -> Usage {
        Usage::counted(self.0[0].load(SeqCst), self.0[1].load(SeqCst))
    }

    /// Adds two differences, modulo 2^64.
    fn add(&self, number: u64, bytes: u64) {
        self.0[0].fetch_add(number, SeqCst);
        self.0[1].fetch_add(bytes, SeqCst);
    }

    /// Returns the result of a recent search that could evict nothing.
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

/// What happens to an upload if nothing can be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoEviction {
    /// Complete uploads that wait for their changes use the space, or only the bytes exceed a
    /// limit.
    Admit = 1,
    /// Too many uploads are being sent.
    Refuse = 2,
}

impl UploadTable {
    /// Creates an empty table.
    ///
    /// `map` returns that many words, all 0, which the processes that use the table share.
    ///
    /// # Errors
    /// Returns the error of `map`.
    pub fn new(
        limits: UploadLimits,
        map: impl FnOnce(usize) -> io::Result<&'static [AtomicU64]>,
    ) -> io::Result<Self> {
        let limits = UploadLimits { number: limits.number.clamp(1, UPLOADS_MAX), ..limits };
        let rows = usize::try_from(limits.number).unwrap_or(SPARE) * ROWS_PER_UPLOAD + SPARE;
        let words = map((GROUPS + 1) * COUNTER + rows * (1 + ROW))?;
        let (counters, words) = words.split_at((GROUPS + 1) * COUNTER);
        let (keys, words) = words.split_at(rows);
        let (counters, rows) = (counters.as_chunks().0, words.as_chunks().0);
        Ok(Self { counters, keys, rows, limits, hasher: RandomState::new() })
    }

    fn counter(&self, index: usize) -> UsageCounter<'_> {
        UsageCounter(&self.counters[index])
    }

    fn total(&self) -> UsageCounter<'_> {
        self.counter(GROUPS)
    }

    fn group(&self, account: u32) -> usize {
        scale(self.hasher.hash_one(account), GROUPS)
    }

    /// Adds two differences, modulo 2^64, to the counters of an account.
    fn count(&self, account: u32, number: u64, bytes: u64) {
        self.total().add(number, bytes);
        self.counter(self.group(account)).add(number, bytes);
    }

    /// Returns the key of an id, which is neither 0 nor [`CLAIMED`], and its rows.
    fn slots(&self, id: ChangeId) -> (u64, impl Iterator<Item = usize> + use<>) {
        let (hash, rows) = (self.hasher.hash_one(id), self.rows.len());
        let first = scale(hash, rows);
        (hash.clamp(1, CLAIMED - 1), (0..WINDOW).map(move |n| (first + n) % rows))
    }

    fn find(&self, name: &StagedName) -> Option<usize> {
        let (name, (key, mut rows)) = (name.unsealed(), self.slots(name.id));
        rows.find(|at| {
            self.keys[*at].load(SeqCst) == key && self.row(*at).is_some_and(|row| row.name == name)
        })
    }

    /// Inserts a row and returns its index; `None` if all rows of the id are in use.
    fn insert(&self, name: &StagedName, bytes: u64, touched_ms: u64) -> Option<usize> {
        let (key, mut rows) = self.slots(name.id);
        let at = rows.find(|at| self.keys[*at].load(SeqCst) == 0 && self.claim(*at, 0))?;
        let [high, low] = id_words(name.id);
        let values = [high, low, name.binding, bytes, touched_ms];
        self.rows[at].iter().zip(values).for_each(|(word, value)| word.store(value, SeqCst));
        self.keys[at].store(key, SeqCst);
        self.count(name.id.account(), 1, bytes);
        Some(at)
    }

    /// Claims a row that has this key. Only one process succeeds.
    fn claim(&self, at: usize, key: u64) -> bool {
        self.keys[at].compare_exchange(key, CLAIMED, SeqCst, SeqCst).is_ok()
    }

    /// Frees a row. If several processes free it, one of them counts it.
    fn free(&self, at: usize) {
        let key = self.keys[at].load(SeqCst);
        if !matches!(key, 0 | CLAIMED) && self.claim(at, key) {
            let row = self.read(at);
            self.count(row.account(), 1_u64.wrapping_neg(), row.bytes.wrapping_neg());
            self.keys[at].store(0, SeqCst);
        }
    }

    fn row(&self, at: usize) -> Option<UploadRow> {
        (!matches!(self.keys[at].load(SeqCst), 0 | CLAIMED)).then(|| self.read(at))
    }

    fn read(&self, at: usize) -> UploadRow {
        let [high, low, binding, bytes, touched_ms] =
            self.rows[at].each_ref().map(|word| word.load(SeqCst));
        let id = ChangeId((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
        let name = StagedName { id, binding, is_sealed: false };
        UploadRow { at, name, bytes, touched_ms }
    }

    /// Returns the rows that are in use.
    fn all(&self) -> impl Iterator<Item = UploadRow> + '_ {
        (0..self.rows.len()).filter_map(|at| self.row(at))
    }

    /// Returns the number and size of all uploads.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.total().usage()
    }

    /// Returns the staged files of these changes.
    #[must_use]
    pub fn names_of(&self, ids: &HashSet<ChangeId>) -> Vec<StagedName> {
        let of_id = |id: &ChangeId| {
            let id = *id;
            let rows = self.slots(id).1.filter_map(move |at| self.row(at));
            rows.map(|row| row.name).filter(move |name| name.id == id)
        };
        ids.iter().flat_map(of_id).collect()
    }

    /// Returns the staged files of all uploads by path that are not complete.
    #[must_use]
    pub fn path_uploads(&self) -> Vec<StagedName> {
        self.all().map(|row| row.name).filter(StagedName::is_by_path).collect()
    }

    /// Returns whether one more upload of this account would exceed a limit. A session then
    /// proposes one upload at a time.
    #[must_use]
    pub fn is_crowded(&self, account: u32) -> bool {
        !self.allows(account, Usage { number: 1, bytes: 0 })
    }

    /// Returns whether the counters allow this much more.
    fn allows(&self, account: u32, more: Usage) -> bool {
        let group = self.counter(self.group(account)).usage();
        self.limits.of_account().allow(group.plus(more))
            && self.limits.allow(self.usage().plus(more))
    }

    /// Registers an upload that begins or resumes, with `there` bytes here and `more` bytes
    /// announced. Evicts older uploads if needed.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`] if too many uploads are being sent, or no row is free.
    pub fn begin(
        &self,
        name: &StagedName,
        there: u64,
        more: u64,
        staging: &Staging,
    ) -> Result<(), Refusal> {
        self.make_room(name, more, staging)?;
        if self.record(name, there) { Ok(()) } else { Err(too_many()) }
    }

    /// Records the number of bytes of an upload that are here.
    pub fn record_bytes(&self, name: &StagedName, bytes: u64) {
        if !self.record(name, bytes) {
            debug!("the upload table is full; an upload is not counted");
        }
    }

    /// Updates or inserts a row. Returns whether there is one.
    fn record(&self, name: &StagedName, bytes: u64) -> bool {
        let now = monotonic_ms();
        let Some(row) = self.find(name) else {
            return self.insert(name, bytes, now).is_some();
        };
        let [.., there, touched_ms] = &self.rows[row];
        let before = there.swap(bytes, SeqCst);
        touched_ms.store(now, SeqCst);
        self.count(name.id.account(), 0, bytes.wrapping_sub(before));
        true
    }

    /// Removes the row of an upload that was committed, refused or discarded.
    pub fn end(&self, name: &StagedName) {
        while let Some(row) = self.find(name) {
            self.free(row);
        }
    }

    /// Removes the row of an answered upload, unless its staged file still exists.
    pub fn release(&self, name: &StagedName, staging: &Staging) {
        // The catalogue writer has removed the rows of most changes.
        if self.find(name).is_none() {
            return;
        }
        if !staging.contains(&name.sealed()) && !staging.contains(&name.unsealed()) {
            self.end(name);
        }
    }

    /// Evicts older uploads for one more upload, or more bytes of one.
    fn make_room(&self, name: &StagedName, more: u64, staging: &Staging) -> Result<(), Refusal> {
        let (account, own) = (name.id.account(), self.find(name));
        let extra = Usage { number: u64::from(own.is_none()), bytes: more };
        if self.allows(account, extra) {
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

    /// Evicts the oldest uploads until there is room. Otherwise returns what happens to the upload.
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
            (of_account.allow(used), self.limits.allow(total))
        };
        if holds(&accounts, total) == (true, true) {
            // The counter includes other accounts.
            return None;
        }
        // If the account exceeds its part, more uploads are evicted than this one needs.
        let used = accounts.get(&account).map_or(0, |used| used.number);
        let part = if used > of_account.number { of_account.number / EVICTED_PART } else { 0 };
        let most = of_account.number - part;
        // Index of the next row to check for each account.
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
                    // All uploads of that account are being sent. Others may make room.
                    accounts.remove(&from);
                    continue;
                }
                let (used, total) =
                    (used.number.saturating_sub(waiting), total.number.saturating_sub(waiting));
                let many = used > of_account.number || total > self.limits.number;
                // Only the disk limits the bytes of uploads that are being sent.
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

    /// Deletes an upload that is not being sent and whose change is not pending.
    fn evict(&self, row: UploadRow, staging: &Staging) -> EvictionResult {
        let name = row.name;
        if staging.contains(&name.sealed()) {
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
        debug!("evicting an unfinished upload of {} bytes: too many uploads", row.bytes);
        self.free(row.at);
        EvictionResult::Gone
    }

    /// Reconciles the table with the folder, in which `files` are all unfinished uploads. Evicts
    /// uploads that exceed the limits.
    pub fn reconcile(&self, mut files: Vec<UnfinishedUpload>, staging: &Staging) {
        let now = monotonic_ms();
        let claimed = |key: &&AtomicU64| key.load(SeqCst) == CLAIMED;
        let being_written: Vec<&AtomicU64> = self.keys.iter().filter(claimed).collect();
        for row in self.all() {
            if now.saturating_sub(row.touched_ms) >= SETTLED_MS {
                self.release(&row.name, staging);
            }
        }
        // A live process finishes a row at once, so this one has died.
        being_written.into_iter().filter(claimed).for_each(|key| key.store(0, SeqCst));
        self.recount();
        // The newest files come first, so that the oldest exceed the limits.
        files.sort_by_key(|file| file.age_ms);
        let mut total = self.usage();
        let mut accounts = BTreeMap::<u32, Usage>::new();
        let mut known = HashSet::new();
        for row in self.all() {
            known.insert(row.name);
            let used = accounts.entry(row.account()).or_default();
            *used = used.with(row);
        }
        let mut evicted = 0_u64;
        for UnfinishedUpload { name, bytes, age_ms } in files {
            if !known.insert(name.unsealed()) {
                continue;
            }
            let more = Usage { number: 1, bytes };
            let used = accounts.entry(name.id.account()).or_default();
            if self.limits.allow(total.plus(more))
                && self.limits.of_account().allow(used.plus(more))
                && self.insert(&name, bytes, now.saturating_sub(age_ms)).is_some()
            {
                (total, *used) = (total.plus(more), used.plus(more));
            } else if name.is_sealed {
                // Its change may be pending.
                debug!("a complete upload is not counted: too many uploads");
            } else if staging.discard_unlocked(&name) {
                evicted += 1;
            }
        }
        if evicted > 0 {
            info!("evicted {evicted} unfinished uploads: too many uploads");
        }
    }

    /// Corrects the counters after a process died. Concurrent changes may be counted twice until
    /// the next time.
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

/// Result of evicting an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EvictionResult {
    Gone,
    /// The upload is complete and waits for its change.
    Waits,
    IsSent,
}

fn too_many() -> Refusal {
    Refusal::new(
        ErrorCode::Busy,
        "too many uploads are running; try again when another upload has ended",
    )
}

/// Maps a hash to a number below `many` without a division.
fn scale(hash: u64, many: usize) -> usize {
    usize::try_from((u128::from(hash) * many as u128) >> 64).unwrap_or(0)
}

fn id_words(id: ChangeId) -> [u64; 2] {
    let (high, low) = id.0.split_at(8);
    [high, low].map(|half| half.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Returns the largest account.
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

    fn leak_words(count: usize) -> io::Result<&'static [AtomicU64]> {
        Ok(Vec::leak((0..count).map(|_| AtomicU64::new(0)).collect()))
    }

    struct Fixture {
        _dir: tempfile::TempDir,
        staging: Staging,
        table: UploadTable,
    }

    fn fixture(number: u64, bytes: u64) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(crate::metadata_folder::FOLDER)).unwrap();
        let staging = Staging::open(&Folder::open(dir.path()).unwrap()).unwrap();
        let table = UploadTable::new(UploadLimits { number, bytes }, leak_words).unwrap();
        Fixture { _dir: dir, staging, table }
    }

    fn name(account: u8, n: u8) -> StagedName {
        let mut id = [n; 16];
        id[..4].copy_from_slice(&[account; 4]);
        StagedName::new(ChangeId(id), "", &TreePath::new("f").unwrap(), None)
    }

    impl Fixture {
        /// Leaves an upload that was interrupted.
        fn leave(&self, account: u8, n: u8, bytes: u64) -> Result<(), Refusal> {
            let name = name(account, n);
            self.table.begin(&name, 0, 0, &self.staging)?;
            self.staging.claim(&name).unwrap().set_len(bytes).unwrap();
            let row = self.table.find(&name).unwrap();
            self.table.record_bytes(&name, bytes);
            // The order must not depend on the resolution of the clock.
            self.table.rows[row][4].store(u64::from(n), SeqCst);
            Ok(())
        }

        fn left(&self, account: u8) -> Vec<u8> {
            (0..=255).filter(|n| self.staging.contains(&name(account, *n))).collect()
        }
    }

    #[test]
    fn oldest_upload_of_an_account_over_its_part_is_evicted() {
        let fixture = fixture(8, u64::MAX);
        for n in 1..=6 {
            fixture.leave(1, n, 10).unwrap();
        }
        assert_eq!(fixture.left(1), [3, 4, 5, 6], "half of all");
        assert_eq!(fixture.table.usage(), Usage { number: 4, bytes: 40 });
        // A resumed upload does not count twice.
        fixture.table.begin(&name(1, 3), 10, 0, &fixture.staging).unwrap();
        assert_eq!(fixture.left(1), [3, 4, 5, 6]);
        fixture.table.end(&name(1, 4));
        assert_eq!(fixture.table.usage().number, 3);
    }

    #[test]
    fn flood_of_one_account_evicts_none_of_another() {
        let fixture = fixture(8, 100);
        fixture.leave(2, 1, 20).unwrap();
        fixture.leave(2, 2, 20).unwrap();
        for n in 3..=40 {
            fixture.leave(1, n, 10).unwrap();
        }
        assert_eq!(fixture.left(2), [1, 2]);
        assert_eq!(fixture.left(1), [37, 38, 39, 40]);
        // Over the total limit the largest account is evicted.
        fixture.leave(3, 1, 1).unwrap();
        fixture.leave(3, 2, 1).unwrap();
        fixture.leave(3, 3, 1).unwrap();
        assert_eq!((fixture.left(1), fixture.left(2)), (vec![38, 39, 40], vec![1, 2]));
        fixture.leave(3, 4, 1).unwrap();
        assert_eq!((fixture.left(3), fixture.left(1)), (vec![2, 3, 4], vec![38, 39, 40]));
        // Announced bytes count before they arrive.
        fixture.table.begin(&name(1, 38), 10, 25, &fixture.staging).unwrap();
        assert_eq!((fixture.left(1), fixture.left(2)), (vec![38, 40], vec![1, 2]));
    }

    #[test]
    fn upload_that_is_being_sent_is_not_evicted() {
        let fixture = fixture(4, 100);
        let sent = fixture.staging.claim(&name(1, 1)).unwrap();
        fixture.table.begin(&name(1, 1), 0, 0, &fixture.staging).unwrap();
        let other = fixture.staging.claim(&name(1, 2)).unwrap();
        fixture.table.begin(&name(1, 2), 0, 0, &fixture.staging).unwrap();
        let refusal = fixture.table.begin(&name(1, 3), 0, 0, &fixture.staging).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Busy);
        // Bytes alone do not block an upload.
        fixture.table.record_bytes(&name(1, 1), 1000);
        fixture.table.begin(&name(1, 2), 0, 1000, &fixture.staging).unwrap();
        drop((sent, other));
        // The next search is delayed.
        assert!(fixture.table.begin(&name(1, 3), 0, 0, &fixture.staging).is_err());
        std::thread::sleep(std::time::Duration::from_millis(2 * FUTILE_MS));
        fixture.table.begin(&name(1, 3), 0, 0, &fixture.staging).unwrap();
        assert!(!fixture.staging.contains(&name(1, 1)));
    }

    #[test]
    fn complete_uploads_do_not_block_others() {
        let fixture = fixture(4, u64::MAX);
        for n in 1..=3 {
            assert_eq!(fixture.table.is_crowded(name(1, n).id.account()), n == 3);
            fixture.table.begin(&name(1, n), 0, 0, &fixture.staging).unwrap();
            fixture.staging.claim(&name(1, n)).unwrap();
            fixture.staging.seal(&name(1, n), &name(1, n).sealed()).unwrap();
        }
        assert_eq!(fixture.table.usage().number, 3);
        assert!((1..=3).all(|n| fixture.staging.contains(&name(1, n).sealed())), "none is evicted");
    }

    #[test]
    fn many_rows_are_found_and_counted() {
        const MANY: u32 = 20_000;
        let fixture = fixture(u64::from(MANY), u64::MAX);
        let name = |n: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&(n % 3).to_be_bytes());
            id[12..].copy_from_slice(&n.to_be_bytes());
            StagedName::new(ChangeId(id), "", &TreePath::new("f").unwrap(), None)
        };
        (0..MANY).for_each(|n| fixture.table.record_bytes(&name(n), 1));
        assert_eq!(
            fixture.table.usage(),
            Usage { number: u64::from(MANY), bytes: u64::from(MANY) }
        );
        fixture.table.record_bytes(&name(7), 11);
        assert_eq!(fixture.table.usage().bytes, u64::from(MANY) + 10);
        fixture.table.recount();
        assert_eq!(fixture.table.usage().bytes, u64::from(MANY) + 10);
        (0..MANY).for_each(|n| {
            assert_eq!(fixture.table.names_of(&HashSet::from([name(n).id])), [name(n)]);
            fixture.table.end(&name(n));
        });
        assert_eq!(fixture.table.usage(), Usage::default());
        assert!(!fixture.table.is_crowded(1));
    }

    #[test]
    fn reconcile_adopts_the_files_of_the_folder() {
        let fixture = fixture(6, u64::MAX);
        for n in 1..=9 {
            fixture.staging.claim(&name(1, n)).unwrap().set_len(7).unwrap();
        }
        let file = |n| UnfinishedUpload { name: name(1, n), bytes: 7, age_ms: 1000 - u64::from(n) };
        let files = (1..=9).map(file).collect();
        fixture.table.reconcile(files, &fixture.staging);
        assert_eq!(fixture.left(1), [7, 8, 9], "the newest stay");
        assert_eq!(fixture.table.usage(), Usage { number: 3, bytes: 21 });
        let ids = HashSet::from([name(1, 8).id, name(1, 1).id]);
        assert_eq!(fixture.table.names_of(&ids), [name(1, 8)]);
        // A row without a file is removed.
        fixture.staging.discard(&name(1, 8));
        fixture.table.release(&name(1, 8), &fixture.staging);
        fixture.table.release(&name(1, 9), &fixture.staging);
        assert_eq!(fixture.table.usage().number, 2);
    }
}
