//! Shared state of the threads of one download: the content, the part file and [`Progress`].
//!
//! The receiving thread never waits here for a disk. The thread of [`DownloadState::keep_saving`]
//! syncs the bytes and reports checkpoints.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use log::warn;
use parking_lot::{Mutex, MutexGuard};
use relais_proto::Digest;

use super::streams::{ReceivedBytes, StreamSet};
use crate::error::TransferError;
use crate::progress::{Progress, Resume};
use crate::ranges::Ranges;

/// Time between two checkpoints.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Known facts about the content.
struct KnownContent {
    /// `None` before the first header, and after a restart.
    content: Option<Resume>,
    /// Number of restarts. Checkpoints of an older content are not reported.
    generation: u64,
    /// Generation and bytes of the last checkpoint.
    saved: Option<(u64, Ranges)>,
    /// First error of a sync.
    ///
    /// The part file is not synced again after it. The system may have dropped the unwritten bytes,
    /// and a second sync would not report that.
    sync_failed: Option<io::Error>,
    /// Whether `sync_failed` was ever set.
    unsyncable: bool,
}

/// Shared state; see the module.
pub(super) struct DownloadState<'a> {
    /// File that receives the content.
    pub(super) part: &'a File,
    progress: Mutex<&'a mut dyn Progress>,
    book: Mutex<KnownContent>,
    /// Known piece values by number. The table grows with received bytes, not with announced ones.
    pieces: Mutex<Vec<Option<Digest>>>,
    /// Number of the server that sent the last bytes of each piece; 0 if it is not known.
    senders: Mutex<Vec<u8>>,
    /// The streams that fetch the content.
    pub(super) streams: StreamSet,
}

impl<'a> DownloadState<'a> {
    /// Starts from `resume`, as far as the part file is long enough.
    ///
    /// A killed process has written more than it had recorded. Those bytes count as well, until
    /// the verification at the end.
    pub(super) fn new(
        part: &'a File,
        resume: Option<Resume>,
        progress: &'a mut dyn Progress,
    ) -> Result<Self, TransferError> {
        let length =
            part.metadata().map_err(TransferError::local("looking at the part file"))?.len();
        let content = resume.map(|resume| resume.with_part_of(part));
        let content =
            content.transpose().map_err(TransferError::local("looking at the part file"))?;
        if content.is_none() && length > 0 {
            part.set_len(0).map_err(TransferError::local("emptying the part file"))?;
        }
        let saved = content.as_ref().map(|content| (0, content.good.clone()));
        let book =
            KnownContent { content, generation: 0, saved, sync_failed: None, unsyncable: false };
        let (progress, book) = (Mutex::new(progress), Mutex::new(book));
        let (pieces, senders, streams) = Default::default();
        Ok(Self { part, progress, book, pieces, senders, streams })
    }

    /// Records which server sent the last bytes of a piece.
    pub(super) fn set_sender(&self, index: u64, server: usize) {
        let (Ok(index), server) = (usize::try_from(index), u8::try_from(server).unwrap_or(0))
        else {
            return;
        };
        let mut senders = self.senders.lock();
        if senders.len() <= index {
            senders.resize(index + 1, 0);
        }
        senders[index] = server;
    }

    /// Returns which server sent the last bytes of a piece, if that is known.
    pub(super) fn sender(&self, index: u64) -> Option<SocketAddr> {
        let index = usize::try_from(index).ok()?;
        let server = self.senders.lock().get(index).copied().filter(|server| *server > 0)?;
        self.streams.servers().get(usize::from(server) - 1).copied()
    }

    /// The known piece values by number.
    pub(super) fn pieces(&self) -> MutexGuard<'_, Vec<Option<Digest>>> {
        self.pieces.lock()
    }

    /// Sets or drops the value of a piece that was received.
    pub(super) fn set_piece(&self, index: u64, value: Option<Digest>) {
        let Ok(index) = usize::try_from(index) else { return };
        let mut pieces = self.pieces();
        if pieces.len() <= index {
            pieces.resize(index + 1, None);
        }
        pieces[index] = value;
    }

    /// Returns the known facts about the content.
    pub(super) fn content(&self) -> Option<Resume> {
        self.book.lock().content.clone()
    }

    /// Replaces the known facts but the good bytes; cuts the part file to the content's size.
    pub(super) fn know(&self, content: Resume) -> Result<(), TransferError> {
        let length =
            self.part.metadata().map_err(TransferError::local("looking at the part file"))?.len();
        if length > content.size {
            self.part
                .set_len(content.size)
                .map_err(TransferError::local("cutting the part file"))?;
        }
        let known = &mut self.book.lock().content;
        // Other streams may have written since the caller took its copy.
        let good = known.take().map_or_else(|| content.good.clone(), |known| known.good);
        *known = Some(Resume { good, ..content });
        Ok(())
    }

    /// Calls `change` with the content, if it is known.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Resume) -> T) -> Option<T> {
        self.book.lock().content.as_mut().map(change)
    }

    /// Returns the first missing bytes; `None` if the content is unknown or complete.
    pub(super) fn first_gap(&self) -> Option<Range<u64>> {
        self.with(|content| content.good.first_gap(content.size)).flatten()
    }

    /// Returns whether the part file contains all bytes of `range`.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.with(|content| content.good.contains(range)).unwrap_or(false)
    }

    /// Writes `bytes` to the part file, records them as good and reports progress.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<(), TransferError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.part.write_all_at(bytes, at).map_err(TransferError::local("writing the part file"))?;
        let mut book = self.book.lock();
        if let Some(error) = book.sync_failed.take() {
            return Err(TransferError::Local { error, what: "syncing the part file" });
        }
        let good = book.content.as_mut().map(|content| {
            content.good.insert(at..at + bytes.len() as u64);
            content.good.total()
        });
        drop(book);
        // The count covers all bytes, so a skipped report during a checkpoint does no harm.
        if let (Some(good), Some(mut progress)) = (good, self.progress.try_lock()) {
            progress.advanced(good);
        }
        Ok(())
    }

    /// Reports a progress event.
    pub(super) fn tell(&self, what: impl FnOnce(&mut dyn Progress)) {
        what(&mut **self.progress.lock());
    }

    /// Returns whether the user has interrupted; false during a checkpoint. The caller asks again
    /// soon.
    pub(super) fn is_interrupted_now(&self) -> bool {
        self.progress.try_lock().is_some_and(|progress| progress.interrupted())
    }

    /// Returns whether the user has interrupted.
    pub(super) fn interrupted(&self) -> bool {
        self.progress.lock().interrupted()
    }

    /// Forgets the content and all its bytes.
    pub(super) fn restart(&self, why: &str) -> Result<(), TransferError> {
        // Held to the end, so a checkpoint of the old content cannot follow the start of the new
        // one.
        let mut progress = self.progress.lock();
        let mut book = self.book.lock();
        book.generation += 1;
        book.content = None;
        drop(book);
        self.part.set_len(0).map_err(TransferError::local("emptying the part file"))?;
        progress.restarted(why);
        Ok(())
    }

    /// Syncs the part file and reports a checkpoint if there are new bytes on disk.
    pub(super) fn save(&self) {
        let book = self.book.lock();
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
            let mut book = self.book.lock();
            (book.sync_failed, book.unsyncable) = (Some(error), true);
            return;
        }
        let mut progress = self.progress.lock();
        let mut book = self.book.lock();
        if book.generation == generation {
            book.saved = Some((generation, content.good.clone()));
            drop(book);
            progress.checkpoint(&content);
        }
    }

    /// Saves once a second until the other end of `stop` is dropped.
    pub(super) fn keep_saving(&self, stop: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(SAVE_EVERY) {
            self.save();
        }
    }
}

impl ReceivedBytes for DownloadState<'_> {
    fn good_of_size(&self) -> Option<(Ranges, u64)> {
        self.with(|content| (content.good.clone(), content.size))
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted()
    }
}
