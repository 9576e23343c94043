//! What the threads of one fetch share: what is known of the content, which bytes are in the part
//! file, and the caller's [`Progress`].
//!
//! The receiving thread never waits here for a disk: bytes are synced, and told to the caller, by
//! the thread that runs [`DownloadState::keep_saving`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::warn;

use super::{DownloadError, Progress, Resume};
use crate::Ranges;

/// Time between two save points.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What is known of the content.
struct Book {
    /// None before the first header, and after a restart.
    content: Option<Resume>,
    /// Counts restarts: a save point of an older content is not told any more.
    generation: u64,
    /// Generation and good bytes of the last save point.
    saved: Option<(u64, Ranges)>,
    /// The first failure to sync. After it the part file is not synced again: the system may
    /// have dropped what it could not write, and a second sync would not tell.
    sync_failed: Option<io::Error>,
    /// Whether `sync_failed` was ever set.
    unsyncable: bool,
}

/// See the module.
pub(super) struct DownloadState<'a> {
    /// Bytes that the part file had at the start.
    pub(super) found: u64,
    /// The file that the content goes to.
    pub(super) part: &'a File,
    progress: Mutex<&'a mut dyn Progress>,
    book: Mutex<Book>,
}

/// A panic in another thread leaves plain values behind the lock, so they are usable after it;
/// the panic itself comes out where the threads are joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> DownloadState<'a> {
    /// Takes over what `resume` says, as far as the part file is long enough for it.
    pub(super) fn new(
        part: &'a File,
        resume: Option<Resume>,
        progress: &'a mut dyn Progress,
    ) -> Result<Self, DownloadError> {
        let length =
            part.metadata().map_err(DownloadError::local("looking at the part file"))?.len();
        let content = resume.map(|mut resume| {
            resume.good.clip(length.min(resume.size));
            resume
        });
        if content.is_none() && length > 0 {
            part.set_len(0).map_err(DownloadError::local("emptying the part file"))?;
        }
        let saved = content.as_ref().map(|content| (0, content.good.clone()));
        let book = Book { content, generation: 0, saved, sync_failed: None, unsyncable: false };
        Ok(Self { found: length, part, progress: Mutex::new(progress), book: Mutex::new(book) })
    }

    /// What is known of the content.
    pub(super) fn content(&self) -> Option<Resume> {
        lock(&self.book).content.clone()
    }

    /// Replaces what is known of the content, and cuts off what the part file holds behind its end.
    pub(super) fn know(&self, content: Resume) -> Result<(), DownloadError> {
        let length =
            self.part.metadata().map_err(DownloadError::local("looking at the part file"))?.len();
        if length > content.size {
            self.part
                .set_len(content.size)
                .map_err(DownloadError::local("cutting the part file"))?;
        }
        lock(&self.book).content = Some(content);
        Ok(())
    }

    /// Lets `change` look at the content, or change it, where there is one.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Resume) -> T) -> Option<T> {
        lock(&self.book).content.as_mut().map(change)
    }

    /// The first missing bytes; none where the content is not known or nothing is missing.
    pub(super) fn first_gap(&self) -> Option<Range<u64>> {
        self.with(|content| content.good.first_gap(content.size)).flatten()
    }

    /// Whether all bytes of `range` are in the part file.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.with(|content| content.good.contains(range)).unwrap_or(false)
    }

    /// Writes `bytes` to the part file, counts them as good and tells the caller.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<(), DownloadError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.part.write_all_at(bytes, at).map_err(DownloadError::local("writing the part file"))?;
        let mut book = lock(&self.book);
        if let Some(error) = book.sync_failed.take() {
            return Err(DownloadError::Local { error, what: "syncing the part file" });
        }
        let good = book.content.as_mut().map(|content| {
            content.good.insert(at..at + bytes.len() as u64);
            content.good.total()
        });
        drop(book);
        // The count is of all bytes, so one that is left out while a save point is told does no harm.
        if let (Some(good), Ok(mut progress)) = (good, self.progress.try_lock()) {
            progress.advanced(good);
        }
        Ok(())
    }

    /// Tells the caller something.
    pub(super) fn tell(&self, what: impl FnOnce(&mut dyn Progress)) {
        what(&mut **lock(&self.progress));
    }

    /// Whether the user wants it to end. While a save point is told the answer is no; it is asked again soon.
    pub(super) fn glance_interrupted(&self) -> bool {
        self.progress.try_lock().is_ok_and(|progress| progress.interrupted())
    }

    /// Whether the user wants it to end.
    pub(super) fn interrupted(&self) -> bool {
        lock(&self.progress).interrupted()
    }

    /// Forgets the content and all bytes of it.
    pub(super) fn restart(&self, why: &str) -> Result<(), DownloadError> {
        // Held to the end, so that no save point of the old content is told behind the new one's start.
        let mut progress = lock(&self.progress);
        let mut book = lock(&self.book);
        book.generation += 1;
        book.content = None;
        drop(book);
        self.part.set_len(0).map_err(DownloadError::local("emptying the part file"))?;
        progress.restarted(why);
        Ok(())
    }

    /// Syncs the part file and tells the caller what is on the disk, where that is news.
    pub(super) fn save(&self) {
        let book = lock(&self.book);
        let generation = book.generation;
        let Some(content) = book.content.clone() else { return };
        let is_news =
            book.saved.as_ref().is_none_or(|(of, good)| *of != generation || *good != content.good);
        if !is_news || book.unsyncable {
            return;
        }
        drop(book);
        if let Err(error) = self.part.sync_data() {
            warn!("the part file cannot be synced: {error}");
            let mut book = lock(&self.book);
            (book.sync_failed, book.unsyncable) = (Some(error), true);
            return;
        }
        let mut progress = lock(&self.progress);
        let mut book = lock(&self.book);
        if book.generation == generation {
            book.saved = Some((generation, content.good.clone()));
            drop(book);
            progress.checkpoint(&content);
        }
    }

    /// Saves once a second, until the other end of `stop` is dropped.
    pub(super) fn keep_saving(&self, stop: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(SAVE_EVERY) {
            self.save();
        }
    }
}
