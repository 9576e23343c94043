//! The unfinished uploads by path of other slaves, in memory that all processes of a slave share.
//!
//! One thread of the replicator adds keys, and workers look them up. A worker removes a key when
//! the upload begins there. The memory has 64 bits of a key, which is a hash.

use std::collections::HashSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use log::warn;
use relais_os::{ProcessMailbox, ProcessMessage, Waker};
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
    /// Uploads that have begun here and were, or may have been, pending on another slave.
    pub taken_over: ProcessMailbox<TakenOver>,
}

/// The key of an upload that this slave has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenOver(pub UploadKey);

impl ProcessMessage for TakenOver {
    const MAX_LEN: usize = 16;

    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
        (self.0.to_vec(), None)
    }

    fn decode(bytes: &[u8], _fd: Option<OwnedFd>) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl RemoteUploads {
    /// Makes an unknown set, before the first fork.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            words: shared_words(BUCKETS * BUCKET)?,
            is_known: &shared_words(1)?[0],
            changed: Waker::new()?,
            taken_over: ProcessMailbox::new()?,
        })
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

    /// Notes that an upload has begun on this slave, so that it is not pending on another one.
    ///
    /// It is reported even if it ends at once.
    pub fn began_here(&self, key: UploadKey) {
        if self.contains(&key) != Some(false) {
            self.remove(&key);
            if let Err(e) = self.taken_over.send(&TakenOver(key)) {
                warn!("other slaves do not learn that an upload has begun again here: {e}");
            }
        }
        self.changed.wake();
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
        for word in bucket {
            // Another key may be there by now.
            let _ = word.compare_exchange(mark, 0, SeqCst, SeqCst);
        }
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
        // An upload that begins here is reported if it was pending elsewhere, or may be.
        for n in [1, 5] {
            uploads.began_here(key(n));
        }
        assert_eq!(uploads.taken_over.take().collect::<Vec<_>>(), [TakenOver(key(1))]);
        assert!(!found(1));
        uploads.replace(&HashSet::new());
        assert!(!found(1));
        uploads.forget();
        assert_eq!(uploads.contains(&key(1)), None);
        uploads.began_here(key(6));
        assert_eq!(uploads.taken_over.take().next(), Some(TakenOver(key(6))));
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
