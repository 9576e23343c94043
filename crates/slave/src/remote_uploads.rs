//! The unfinished uploads by path of other slaves, in memory that all processes of a slave share.
//!
//! One thread of the replicator writes it, and workers look keys up. It keeps 64 bits of a key,
//! which is a hash.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use relais_os::Waker;
use relais_proto::limits;

use crate::sys::memory::shared_words;

/// The key of an upload by path.
pub type UploadKey = [u8; 16];

/// Words of a bucket. With half of all words in use, a bucket is hardly ever full.
const BUCKET: usize = 32;
/// Number of buckets.
const BUCKETS: usize = 2 * limits::PATH_UPLOADS / BUCKET;

/// The keys of other slaves, and what wakes the thread that reports this slave's.
#[derive(Debug)]
pub struct RemoteUploads {
    words: &'static [AtomicU64],
    /// 1: the set is known.
    is_known: &'static AtomicU64,
    /// Wakes the thread that reports the uploads of this slave, after one has begun or ended.
    pub changed: Waker,
}

impl RemoteUploads {
    /// Makes an unknown set, before the first fork.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new() -> io::Result<Self> {
        let is_known = &shared_words(1)?[0];
        Ok(Self { words: shared_words(BUCKETS * BUCKET)?, is_known, changed: Waker::new()? })
    }

    /// Whether an upload is pending on another slave; none if that is not known.
    #[must_use]
    pub fn contains(&self, key: &UploadKey) -> Option<bool> {
        let (mark, bucket) = self.find(key);
        let found = bucket.iter().any(|word| word.load(SeqCst) == mark);
        self.is_known().then_some(found)
    }

    /// Whether the set is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known.load(SeqCst) != 0
    }

    /// Marks the set as unknown.
    pub fn forget(&self) {
        self.is_known.store(0, SeqCst);
    }

    /// Replaces all keys.
    pub fn replace(&self, keys: &HashSet<UploadKey>) {
        self.forget();
        for word in self.words.iter().filter(|word| word.load(SeqCst) != 0) {
            word.store(0, SeqCst);
        }
        self.is_known.store(1, SeqCst);
        keys.iter().for_each(|key| self.insert(key));
    }

    /// Adds a key. If there is no room, nothing is known until the next list.
    pub fn insert(&self, key: &UploadKey) {
        let (mark, bucket) = self.find(key);
        if bucket.iter().any(|word| word.load(SeqCst) == mark) {
            return;
        }
        match bucket.iter().find(|word| word.load(SeqCst) == 0) {
            Some(word) => word.store(mark, SeqCst),
            None => self.forget(),
        }
    }

    /// Removes a key.
    pub fn remove(&self, key: &UploadKey) {
        let (mark, bucket) = self.find(key);
        bucket
            .iter()
            .filter(|word| word.load(SeqCst) == mark)
            .for_each(|word| word.store(0, SeqCst));
    }

    /// Returns the mark of a key, which is not 0, and its bucket.
    fn find(&self, key: &UploadKey) -> (u64, &[AtomicU64]) {
        // The first four bytes are those of the account.
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let bucket = usize::try_from(number(&key[12..]) % BUCKETS as u64).unwrap_or(0);
        (number(&key[4..12]).max(1), &self.words[bucket * BUCKET..][..BUCKET])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> UploadKey {
        *blake3::hash(&n.to_be_bytes()).as_bytes().first_chunk().unwrap()
    }

    #[test]
    fn keys_are_found_until_they_are_removed() {
        let uploads = RemoteUploads::new().unwrap();
        assert_eq!(uploads.contains(&key(1)), None);
        uploads.replace(&HashSet::from([key(1), key(2)]));
        uploads.insert(&key(3));
        uploads.insert(&key(3));
        uploads.remove(&key(2));
        let found = |n| uploads.contains(&key(n)).unwrap();
        assert_eq!([1, 2, 3, 4].map(found), [true, false, true, false]);
        uploads.remove(&key(3));
        assert!(!found(3));
        uploads.replace(&HashSet::new());
        assert!(!found(1));
        uploads.forget();
        assert_eq!(uploads.contains(&key(1)), None);
    }

    #[test]
    fn as_many_keys_fit_as_a_master_knows() {
        let uploads = RemoteUploads::new().unwrap();
        uploads.replace(&(0..limits::PATH_UPLOADS as u64).map(key).collect());
        assert!((0..limits::PATH_UPLOADS as u64).all(|n| uploads.contains(&key(n)) == Some(true)));
        // In a full bucket a key might be missing, so nothing is known.
        let in_one_bucket = |n: u64| {
            let mut key = [0; 16];
            key[4..12].copy_from_slice(&(n + 1).to_be_bytes());
            key
        };
        uploads.replace(&(0..=BUCKET as u64).map(in_one_bucket).collect());
        assert_eq!(uploads.contains(&key(0)), None);
    }
}
