//! Records of removed, replaced or moved content, to recognise old copies.
//!
//! Content that reappears in a folder and has a record is an old copy, not a new file. A record has
//! a fixed size, whatever the length of its path. The number of records is limited for each account
//! and in total. So no account can exhaust the master's memory or displace the records of others:
//! above the total limit the account with most records loses its oldest.

use std::collections::{BTreeMap, HashMap};

use relais_proto::{Digest, Lsn, TreePath};

/// Highest number of removal records.
pub const REMOVALS: usize = 400_000;
/// Highest number of removal records of one account.
pub const REMOVALS_PER_ACCOUNT: usize = 200_000;

/// Domain of the hash of a removal record.
const DOMAIN: &str = "relais 2026-11 removal record 1";

/// Hash of path and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RemovalKey(pub [u8; 16]);

impl RemovalKey {
    fn new(path: &TreePath, digest: Digest) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&digest.0).update(path.as_str().as_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }
}

/// Record of one removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemovalRecord {
    pub key: RemovalKey,
    /// Change that removed the content.
    pub version: Lsn,
    /// Time of the change in milliseconds since 1970 UTC.
    pub time_ms: u64,
}

/// All removal records.
#[derive(Debug, Clone)]
pub struct RemovalRecords {
    /// The newest record of each key: its change and account.
    by_key: HashMap<RemovalKey, (Lsn, u32)>,
    /// Times of the records by account, oldest first. An account has one record for each key.
    by_account: BTreeMap<u32, BTreeMap<(Lsn, RemovalKey), u64>>,
    len: usize,
    cap: usize,
    account_cap: usize,
}

impl Default for RemovalRecords {
    fn default() -> Self {
        Self::with_caps(REMOVALS, REMOVALS_PER_ACCOUNT)
    }
}

impl RemovalRecords {
    /// Makes an empty set with limits for all records and for one account.
    #[must_use]
    pub fn with_caps(cap: usize, account_cap: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            by_account: BTreeMap::new(),
            len: 0,
            cap,
            account_cap: account_cap.min(cap),
        }
    }

    /// Records that a change of this account removed the content from the path.
    pub fn note(
        &mut self,
        account: u32,
        path: &TreePath,
        digest: Digest,
        version: Lsn,
        time_ms: u64,
    ) {
        self.add(account, RemovalRecord { key: RemovalKey::new(path, digest), version, time_ms });
    }

    pub(super) fn add(&mut self, account: u32, removal: RemovalRecord) {
        let RemovalRecord { key, version, time_ms } = removal;
        let records = self.by_account.entry(account).or_default();
        let former = self.by_key.get(&key).copied();
        // Moves back and forth would fill the records with old ones of the same key.
        if let Some((former, of)) = former
            && of == account
            && records.remove(&(former, key)).is_some()
        {
            self.len -= 1;
        }
        if former.is_none_or(|(former, _)| former <= version) {
            self.by_key.insert(key, (version, account));
        }
        if records.insert((version, key), time_ms).is_none() {
            self.len += 1;
        }
        if records.len() > self.account_cap {
            self.drop_oldest(account);
        }
        if self.len > self.cap
            && let Some(largest) = self.largest()
        {
            self.drop_oldest(largest);
        }
    }

    /// Returns the account with most records.
    fn largest(&self) -> Option<u32> {
        self.by_account.iter().max_by_key(|(_, records)| records.len()).map(|(account, _)| *account)
    }

    fn drop_oldest(&mut self, account: u32) {
        let Some(records) = self.by_account.get_mut(&account) else { return };
        if let Some(((version, key), _)) = records.pop_first() {
            self.len -= 1;
            // The map may refer to a later record of another account.
            if self.by_key.get(&key) == Some(&(version, account)) {
                self.by_key.remove(&key);
            }
        }
        if records.is_empty() {
            self.by_account.remove(&account);
        }
    }

    /// Returns the change that removed this content from this path.
    #[must_use]
    pub fn find(&self, path: &TreePath, digest: Digest) -> Option<Lsn> {
        self.by_key.get(&RemovalKey::new(path, digest)).map(|(version, _)| *version)
    }

    /// Iterates over all records with their accounts, oldest first within an account.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, RemovalRecord)> + '_ {
        self.by_account.iter().flat_map(|(account, records)| {
            records.iter().map(|((version, key), time_ms)| {
                (*account, RemovalRecord { key: *key, version: *version, time_ms: *time_ms })
            })
        })
    }

    /// Drops the records from before a time.
    pub fn forget(&mut self, before_ms: u64) {
        let accounts: Vec<u32> = self.by_account.keys().copied().collect();
        for account in accounts {
            while self
                .by_account
                .get(&account)
                .and_then(BTreeMap::first_key_value)
                .is_some_and(|(_, time_ms)| *time_ms < before_ms)
            {
                self.drop_oldest(account);
            }
        }
    }

    /// Returns the number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the limit on the number of records.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(n: u64) -> TreePath {
        TreePath::new(format!("f{n}")).unwrap()
    }

    fn note(removed: &mut RemovalRecords, account: u32, n: u64) {
        let version = Lsn { epoch: 1, number: n };
        removed.note(account, &path(n), Digest([1; 32]), version, n);
    }

    fn kept(removed: &RemovalRecords, numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        numbers.filter(|n| removed.find(&path(*n), Digest([1; 32])).is_some()).collect()
    }

    #[test]
    fn the_oldest_of_the_largest_account_goes_first() {
        let mut removed = RemovalRecords::with_caps(10, 8);
        (1..=3).for_each(|n| note(&mut removed, 7, n));
        (11..=40).for_each(|n| note(&mut removed, 8, n));
        assert_eq!((removed.len(), removed.cap()), (10, 10));
        assert_eq!(kept(&removed, 1..=3), [1, 2, 3], "another account's flood takes none of these");
        assert_eq!(kept(&removed, 11..=40), (34..=40).collect::<Vec<_>>());
        removed.forget(38);
        assert_eq!((removed.len(), kept(&removed, 1..=40)), (3, vec![38, 39, 40]));
        removed.forget(u64::MAX);
        assert!(removed.is_empty() && removed.by_key.is_empty() && removed.by_account.is_empty());
    }

    #[test]
    fn what_goes_again_has_one_record_of_each_account() {
        let mut removed = RemovalRecords::with_caps(3, 3);
        let again = |removed: &mut RemovalRecords, n| {
            removed.note(1, &path(0), Digest([1; 32]), Lsn { epoch: 1, number: n }, n);
        };
        again(&mut removed, 1);
        again(&mut removed, 2);
        removed.forget(2);
        let found = removed.find(&path(0), Digest([1; 32]));
        assert_eq!(found, Some(Lsn { epoch: 1, number: 2 }));
        (3..=100).for_each(|n| again(&mut removed, n));
        assert_eq!((removed.len(), removed.by_key.len()), (1, 1));
        // Another account has its own record, and the older one counts when that is gone.
        removed.note(2, &path(0), Digest([1; 32]), Lsn { epoch: 1, number: 101 }, 1);
        assert_eq!((removed.len(), removed.by_key.len()), (2, 1));
    }
}
