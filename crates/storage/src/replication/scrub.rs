//! The scrub: reads contents and compares them with their digests.
//!
//! An operator orders it for all contents. A reader that notices damage has one content checked.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use log::{error, info};
use relais_cluster::Entry;
use relais_proto::{Digest, Kind, Lsn, Scrub, TreePath};
use relais_tree::Folder;

use crate::{CatalogError, CatalogStore, FileIdentity, UnhashedFile};

/// Time in which a file is not checked again after a report of damage proved wrong.
const CLEARED_TIME: Duration = Duration::from_secs(10 * 60);
/// Interval between two records of the scrub's progress.
const RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// Most reported files that wait for their check.
const MOST_REPORTED: usize = 256;

/// The files that are being checked.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    /// Files that the scrub has still to read; `None` if no scrub is running.
    queue: Option<VecDeque<UnhashedFile>>,
    /// Files that are being read, and whether they were reported. The scrub counts only the others.
    reading: HashMap<TreePath, (FileIdentity, bool)>,
    progress: Scrub,
    /// Damaged contents that are being fetched again.
    repairing: Vec<Lsn>,
    /// Progress that was recorded last, and when.
    recorded: Option<(Instant, Scrub)>,
    /// Files that readers reported as damaged, to be checked soon.
    reported: Vec<UnhashedFile>,
    /// Reported files that were checked recently and are intact.
    cleared: HashMap<TreePath, (FileIdentity, Instant)>,
}

impl Scrubber {
    /// Starts a scrub of all contents, by the order with this number.
    pub fn begin(&mut self, order: u64, store: &CatalogStore) -> Result<(), CatalogError> {
        info!("scrub started");
        let rows = store.committed_entries()?;
        let files = rows.into_iter().filter(|(_, row)| row.here && row.entry.kind == Kind::File);
        let files: VecDeque<UnhashedFile> =
            files.map(|(path, row)| UnhashedFile { meta: row.disk, path }).collect();
        self.repairing.clear();
        self.progress = Scrub { order, files: files.len() as u64, ..Scrub::default() };
        self.queue = Some(files);
        Ok(())
    }

    /// Clears the number of the order. A new link does not report orders of an earlier master.
    pub fn clear_order(&mut self) {
        self.progress.order = 0;
    }

    /// Returns files that have to be read: reported ones first.
    pub fn take_files(&mut self, most: usize) -> Vec<UnhashedFile> {
        let is_reported = !self.reported.is_empty();
        let files: Vec<UnhashedFile> = match &mut self.queue {
            _ if is_reported => std::mem::take(&mut self.reported),
            Some(queue) => queue.drain(..queue.len().min(most)).collect(),
            None => return Vec::new(),
        };
        let reading = files.iter().map(|file| (file.path.clone(), (file.meta, is_reported)));
        self.reading.extend(reading);
        if self.reading.is_empty() {
            info!("scrub finished; {} contents were damaged", self.progress.damaged);
            self.queue = None;
            self.progress.done = true;
        }
        files
    }

    /// Returns whether a file is read for a check.
    pub fn is_reading(&self, file: &UnhashedFile) -> bool {
        self.reading.get(&file.path).is_some_and(|(meta, _)| *meta == file.meta)
    }

    /// Compares the digest of a file with its row; `None` if the file changed meanwhile. Returns
    /// the entry of a damaged file.
    pub fn check(
        &mut self,
        of: &UnhashedFile,
        digest: Option<Digest>,
        root: &Folder,
        store: &CatalogStore,
    ) -> Result<Option<Entry>, CatalogError> {
        let is_reported = self.reading.remove(&of.path).is_some_and(|(_, reported)| reported);
        let counted = u64::from(!is_reported);
        self.progress.read += counted;
        let row = store.row(&of.path)?.filter(|row| row.disk == of.meta && row.here);
        // The file is unchanged and still could not be read.
        if digest.is_none() && row.is_some() && root.open_file(&of.path).is_err() {
            self.progress.unreadable += counted;
        }
        let (Some(digest), Some(row)) = (digest, row) else { return Ok(None) };
        let Some(entry) = row.tree_entry().filter(|_| row.digest != Some(digest)) else {
            self.cleared.insert(of.path.clone(), (of.meta, Instant::now()));
            return Ok(None);
        };
        error!("{} is damaged on the disk; it is fetched again", of.path);
        self.progress.damaged += counted;
        self.repairing.extend(row.content.filter(|_| counted > 0));
        Ok(Some(entry))
    }

    /// Schedules a check of a file that a reader reported as damaged.
    pub fn check_reported(
        &mut self,
        path: &TreePath,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let Some(row) = store.row(path)? else { return Ok(()) };
        if !row.here || row.entry.kind != Kind::File || row.entry.version.is_none() {
            return Ok(());
        }
        let meta = row.disk;
        self.cleared.retain(|_, (_, at)| at.elapsed() < CLEARED_TIME);
        let known = self.cleared.get(path).is_some_and(|(known, _)| *known == meta)
            || self.reading.contains_key(path)
            || self.reported.iter().any(|file| file.path == *path);
        if !known && self.reported.len() < MOST_REPORTED {
            self.reported.push(UnhashedFile { path: path.clone(), meta });
        }
        Ok(())
    }

    /// Returns whether the end has to be recorded, for which an operator waits.
    pub fn has_unrecorded_end(&self) -> bool {
        let is_recorded = |(_, recorded): (Instant, Scrub)| {
            recorded.done && recorded.order == self.progress.order
        };
        self.progress.done && !self.recorded.is_some_and(is_recorded)
    }

    /// Records the progress for the heartbeats.
    pub fn record(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        let is_early = self.recorded.is_some_and(|(at, _)| at.elapsed() < RECORD_INTERVAL);
        if is_early && !self.has_unrecorded_end() {
            return Ok(());
        }
        for put in std::mem::take(&mut self.repairing) {
            match store.row_of_put(put)? {
                Some((_, row)) if !row.here => self.repairing.push(put),
                _ => self.progress.repaired += 1,
            }
        }
        if self.recorded.is_none_or(|(_, recorded)| recorded != self.progress) {
            store.set_scrub(&self.progress)?;
        }
        self.recorded = Some((Instant::now(), self.progress));
        Ok(())
    }
}
