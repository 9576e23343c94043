//! Unfinished uploads: a table in shared memory with one row for each, and the limits on them.
//!
//! An upload has a row from its first byte until its change is answered. The rows say which staged
//! files an account has, how large they are and when they were last written, so that neither a limit
//! nor a look-up by id needs the folder listed. The folder is the truth: a process that dies leaves a
//! row without a file or a file without a row, and the sweeper puts that right.
//!
//! Where an upload would exceed a limit the oldest unfinished uploads go first: those of its account
//! where the account has too many, else those of the account with most. An upload that is being sent
//! is never evicted.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use log::{debug, info};
use relais_proto::{ChangeId, ErrorCode, Refusal};
use relais_tree::TreeError;

use crate::board::monotonic_ms;
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
/// Rows beyond the limit: uploads that begin at the same time do not know of each other.
const SPARE: usize = 1024;
/// Age in milliseconds from which a row without a file, and a complete upload without an answer, can go.
const SETTLED_MS: u64 = 10 * 60 * 1000;
/// The key of a row that is just being written.
const CLAIMED: u64 = u64::MAX;
/// Words of a row behind its key: the id in two halves, the binding, bytes, and when it was last written.
const ROW: usize = 5;
/// Words before the rows: behind which row none was ever used.
const TOP: usize = 0;
const KEYS: usize = 1;

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
    fn with(self, row: Row) -> Self {
        self.plus(Self { number: 1, bytes: row.bytes })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            number: self.number.saturating_add(other.number),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn without(self, row: Row) -> Self {
        Self { number: self.number.saturating_sub(1), bytes: self.bytes.saturating_sub(row.bytes) }
    }
}

/// One unfinished upload.
#[derive(Debug, Clone, Copy)]
struct Row {
    at: usize,
    id: [u64; 2],
    binding: u64,
    bytes: u64,
    touched_ms: u64,
}

impl Row {
    fn name(&self) -> StagedName {
        let [high, low] = self.id.map(u64::to_be_bytes);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high);
        id[8..].copy_from_slice(&low);
        StagedName::from_parts(ChangeId(id), self.binding)
    }

    fn account(&self) -> u32 {
        // The first four bytes of the id.
        u32::try_from(self.id[0] >> 32).unwrap_or(0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Unfinished {
    words: SharedWords,
    rows: usize,
    limits: UploadLimits,
}

impl Unfinished {
    /// An empty table.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new(limits: UploadLimits) -> io::Result<Self> {
        let limits = UploadLimits { number: limits.number.clamp(1, UPLOADS_MAX), ..limits };
        let rows = usize::try_from(limits.number).unwrap_or(SPARE) + SPARE;
        Ok(Self { words: SharedWords::new(KEYS + rows * (1 + ROW))?, rows, limits })
    }

    fn key(&self, row: usize) -> &AtomicU64 {
        &self.words[KEYS + row]
    }

    fn word(&self, row: usize, word: usize) -> &AtomicU64 {
        &self.words[KEYS + self.rows + row * ROW + word]
    }

    /// Rows that may be used.
    fn top(&self) -> usize {
        usize::try_from(self.words[TOP].load(SeqCst)).unwrap_or(self.rows).min(self.rows)
    }

    fn find(&self, name: &StagedName) -> Option<usize> {
        let (id, binding) = halves(name);
        let key = key_of(id, binding);
        (0..self.top()).find(|row| {
            self.key(*row).load(SeqCst) == key
                && [self.word(*row, 0), self.word(*row, 1), self.word(*row, 2)]
                    .map(|word| word.load(SeqCst))
                    == [id[0], id[1], binding]
        })
    }

    /// Makes a row for an upload, where it has none; its place. None where there is no room.
    fn insert(&self, name: &StagedName, bytes: u64, touched_ms: u64) -> Option<usize> {
        if let Some(row) = self.find(name) {
            return Some(row);
        }
        let (id, binding) = halves(name);
        let row = (0..self.rows).find(|row| {
            self.key(*row).load(SeqCst) == 0
                && self.key(*row).compare_exchange(0, CLAIMED, SeqCst, SeqCst).is_ok()
        })?;
        self.words[TOP].fetch_max(row as u64 + 1, SeqCst);
        for (word, value) in [id[0], id[1], binding, bytes, touched_ms].into_iter().enumerate() {
            self.word(row, word).store(value, SeqCst);
        }
        self.key(row).store(key_of(id, binding), SeqCst);
        Some(row)
    }

    fn free(&self, row: usize) {
        self.key(row).store(0, SeqCst);
    }

    /// The rows that are in use.
    fn all(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.top()).filter(|row| !matches!(self.key(*row).load(SeqCst), 0 | CLAIMED)).map(
            |at| {
                let [high, low, binding, bytes, touched_ms] =
                    [0, 1, 2, 3, 4].map(|word| self.word(at, word).load(SeqCst));
                Row { at, id: [high, low], binding, bytes, touched_ms }
            },
        )
    }

    /// How many there are now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.all().fold(Usage::default(), Usage::with)
    }

    fn usage_of(&self, account: u32) -> Usage {
        self.all().filter(|row| row.account() == account).fold(Usage::default(), Usage::with)
    }

    /// The staged files of these changes.
    #[must_use]
    pub fn of_ids(&self, ids: &HashSet<ChangeId>) -> Vec<StagedName> {
        let ids: HashSet<[u64; 2]> = ids.iter().map(id_halves).collect();
        self.all().filter(|row| ids.contains(&row.id)).map(|row| row.name()).collect()
    }

    /// An upload begins, or goes on: `more` bytes are announced beyond the `there` that are here. Older
    /// uploads are evicted where it needs their room.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] where there is no room for one more, and none can be evicted.
    pub fn begin(
        &self,
        name: &StagedName,
        there: u64,
        more: u64,
        staging: &Staging,
    ) -> Result<(), Refusal> {
        self.make_room(name, more, staging)?;
        self.wrote(name, there);
        Ok(())
    }

    /// So many bytes of an upload are here now.
    pub fn wrote(&self, name: &StagedName, bytes: u64) {
        let now = monotonic_ms();
        match self.insert(name, bytes, now) {
            Some(row) => {
                self.word(row, 3).store(bytes, SeqCst);
                self.word(row, 4).store(now, SeqCst);
            }
            None => debug!("an upload is not counted: the table is full"),
        }
    }

    /// An upload is finished: it was made, refused or discarded.
    pub fn end(&self, name: &StagedName) {
        while let Some(row) = self.find(name) {
            self.free(row);
        }
    }

    /// An upload was answered. Its row goes, unless what was staged is here still.
    pub fn settle(&self, name: &StagedName, staging: &Staging) {
        if !staging.has(&name.sealed()) && !staging.has(&name.unsealed()) {
            self.end(name);
        }
    }

    /// Evicts what has to go for one more upload, or more bytes of it.
    fn make_room(&self, name: &StagedName, more: u64, staging: &Staging) -> Result<(), Refusal> {
        let (account, own) = (name.id().account(), self.find(&name.unsealed()));
        let extra = Usage { number: u64::from(own.is_none()), bytes: more };
        let of_account = self.limits.of_account();
        if of_account.hold(self.usage_of(account).plus(extra))
            && self.limits.hold(self.usage().plus(extra))
        {
            return Ok(());
        }
        let mut rows: Vec<Row> = self.all().collect();
        rows.sort_by_key(|row| row.touched_ms);
        let mut accounts = BTreeMap::from([(account, extra)]);
        let mut total = extra;
        for row in &rows {
            total = total.with(*row);
            let used = accounts.entry(row.account()).or_default();
            *used = used.with(*row);
        }
        let mut kept: HashSet<usize> = own.into_iter().collect();
        loop {
            let used = accounts.get(&account).copied().unwrap_or_default();
            let from = if !of_account.hold(used) {
                account
            } else if !self.limits.hold(total) {
                largest(&accounts, total.number > self.limits.number).unwrap_or(account)
            } else {
                return Ok(());
            };
            let oldest =
                rows.iter().find(|row| row.account() == from && !kept.contains(&row.at)).copied();
            let Some(row) = oldest else {
                if from != account {
                    // All of its uploads are being sent. Those of others may make room.
                    accounts.remove(&from);
                    continue;
                }
                if used.number > of_account.number || total.number > self.limits.number {
                    return Err(Refusal::new(
                        ErrorCode::Busy,
                        "too many uploads are under way; try again when one of them has ended",
                    ));
                }
                // The bytes of what is being sent are limited by the disk alone.
                return Ok(());
            };
            kept.insert(row.at);
            if self.evict(row, staging) {
                total = total.without(row);
                accounts.entry(from).and_modify(|used| *used = used.without(row));
            }
        }
    }

    /// Removes an upload that is not being sent; false where it is, or where its change may be under way.
    fn evict(&self, row: Row, staging: &Staging) -> bool {
        let name = row.name();
        if staging.has(&name.sealed()) {
            if monotonic_ms().saturating_sub(row.touched_ms) < SETTLED_MS {
                return false;
            }
            staging.discard(&name.sealed());
        } else {
            match staging.reopen(&name) {
                Ok(_locked) => staging.discard(&name),
                Err(TreeError::NotFound) => {}
                Err(_) => return false,
            }
        }
        debug!("an unfinished upload of {} bytes is evicted: there are too many", row.bytes);
        self.free(row.at);
        true
    }

    /// Brings the table in order with the folder: `files` are all staged files, with their bytes and
    /// their ages in milliseconds. What exceeds the limits is evicted.
    pub fn reconcile(&self, mut files: Vec<(StagedName, u64, u64)>, staging: &Staging) {
        let now = monotonic_ms();
        for row in 0..self.top() {
            let old = now.saturating_sub(self.word(row, 4).load(SeqCst)) >= SETTLED_MS;
            if old && self.key(row).load(SeqCst) == CLAIMED {
                self.free(row);
            }
        }
        for row in self.all() {
            if now.saturating_sub(row.touched_ms) >= SETTLED_MS {
                self.settle(&row.name(), staging);
            }
        }
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

fn halves(name: &StagedName) -> ([u64; 2], u64) {
    (id_halves(&name.id()), name.binding())
}

fn id_halves(id: &ChangeId) -> [u64; 2] {
    let half = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let (high, low) = id.0.split_at(8);
    [half(high), half(low)]
}

/// Never 0 and never [`CLAIMED`].
fn key_of(id: [u64; 2], binding: u64) -> u64 {
    (id[0].rotate_left(17) ^ id[1] ^ binding.rotate_left(31)).clamp(1, CLAIMED - 1)
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
        table: Unfinished,
    }

    fn lab(number: u64, bytes: u64) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(crate::catalogue::FOLDER)).unwrap();
        let staging = Staging::open(&Folder::open(dir.path()).unwrap()).unwrap();
        let table = Unfinished::new(UploadLimits { number, bytes }).unwrap();
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
            self.table.wrote(&name, bytes);
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
        lab.table.wrote(&name(1, 1), 1000);
        lab.table.begin(&name(1, 2), 0, 1000, &lab.staging).unwrap();
        drop((sent, other));
        lab.table.begin(&name(1, 3), 0, 0, &lab.staging).unwrap();
        assert!(!lab.staging.has(&name(1, 1)));
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
        assert_eq!(lab.table.of_ids(&ids), [name(1, 8)]);
        // A row whose file is gone is settled.
        lab.staging.discard(&name(1, 8));
        lab.table.settle(&name(1, 8), &lab.staging);
        lab.table.settle(&name(1, 9), &lab.staging);
        assert_eq!(lab.table.usage().number, 2);
    }
}
