//! Scans a name, a folder or the whole tree, and records it in the catalogue.
//!
//! A new or changed file is recorded once it is quiet and no process has it open for writing. Until
//! then its row stays as it was, and the file is scanned again later.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use log::{debug, warn};
use relais_proto::{FileTime, Kind, TreePath};
use relais_tree::{EntryInfo, Folder, Meta, MetaKind, TreeError};

use super::debounce::{Debounce, QUIET};
use super::watcher::FolderWatcher;
use crate::catalogue::row::CatalogRow;
use crate::catalogue::skipped::SkipReason;
use crate::catalogue::store::CatalogStore;
use crate::error::{CatalogError, Result};
use crate::metadata_folder::FOLDER;
use crate::sys::lease::has_writer;

/// Rows written in one transaction.
const BATCH: usize = 1000;

/// Most published files whose events have not come yet.
const MOST_PUBLISHED: usize = 16_384;

/// Differences between the folder and the committed tree. The catalogue keeps the entries of the
/// tree.
#[derive(Debug, Default)]
pub struct DetectedChanges {
    /// Entries that differ from the tree, or lie where its content is missing.
    pub edited: Vec<(TreePath, Meta)>,
    /// Entries that are gone or replaced, and whether an event has reported it.
    pub vanished: Vec<(TreePath, bool)>,
}

/// Scans the folder into the database. Owns the watches and the names to scan again.
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct Scanner {
    pub root: Folder,
    pub store: CatalogStore,
    pub watch: Option<FolderWatcher>,
    pub debounce: Debounce,
    /// Set when the catalogue writer must end.
    pub stop: std::sync::Arc<AtomicBool>,
    written: usize,
    /// Folders that the full scan has still to read; `None` if no full scan is running.
    open: Option<Vec<TreePath>>,
    /// Differences of committed entries, which a scan must not overwrite.
    detected: DetectedChanges,
    /// Whether an event caused this scan, instead of a full scan.
    by_event: bool,
    /// Files that this program has just given their names, as the catalogue has them.
    published: HashMap<TreePath, Meta>,
}

impl Scanner {
    /// Creates a scanner; it reads nothing yet.
    pub fn new(
        root: Folder,
        store: CatalogStore,
        watch: Option<FolderWatcher>,
        stop: std::sync::Arc<AtomicBool>,
    ) -> Self {
        Self {
            root,
            store,
            watch,
            debounce: Debounce::default(),
            stop,
            written: 0,
            open: None,
            detected: DetectedChanges::default(),
            by_event: false,
            published: HashMap::new(),
        }
    }

    /// Records files that this program has just given their names, as the catalogue has them. The
    /// events of their names then need no look into the catalogue.
    pub fn note_published(&mut self, files: Vec<(TreePath, Meta)>) {
        if self.published.len() + files.len() > MOST_PUBLISHED {
            self.published.clear();
        }
        if self.watch.is_some() && files.len() <= MOST_PUBLISHED {
            self.published.extend(files);
        }
    }

    /// Returns whether an event is of a file that this program has published, and that is unchanged
    /// since.
    fn is_just_published(&mut self, folder: &Folder, path: &TreePath, name: &[u8]) -> bool {
        self.published.remove(path).is_some_and(|meta| {
            folder.survey(name).is_ok_and(|found| !found.mount_point && found.meta == meta)
        })
    }

    /// Returns the differences that were found since the last call.
    pub fn take_detected(&mut self) -> DetectedChanges {
        std::mem::take(&mut self.detected)
    }

    /// Returns the row of a path if it is a committed entry of the cluster's tree.
    fn tree_row(&self, path: &TreePath) -> Result<Option<CatalogRow>> {
        Ok(self.store.row(path)?.filter(|row| row.entry.version.is_some()))
    }

    /// Starts a full scan. It also removes rows of entries that are gone.
    pub fn begin_scan(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.clear();
        }
        self.debounce.clear();
        self.open = Some(vec![TreePath::root()]);
    }

    /// Returns whether a full scan is running.
    pub fn is_scanning(&self) -> bool {
        self.open.is_some()
    }

    /// Continues the full scan until `until`. Returns `true` when it has ended.
    ///
    /// # Errors
    /// Returns the errors of the database and of the served folder. After an error the scan must
    /// start again.
    pub fn continue_scan(&mut self, until: Instant) -> Result<bool> {
        let Some(mut open) = self.open.take() else { return Ok(false) };
        self.by_event = false;
        while let Some(path) = open.pop() {
            self.scan_one(&path, &mut open)?;
            if self.stop.load(Ordering::Relaxed) || Instant::now() >= until {
                break;
            }
        }
        self.store.commit()?;
        if open.is_empty() && !self.stop.load(Ordering::Relaxed) {
            return Ok(true);
        }
        self.open = Some(open);
        Ok(false)
    }

    fn scan_one(&mut self, path: &TreePath, below: &mut Vec<TreePath>) -> Result<()> {
        match self.scan_folder(path, below) {
            Err(CatalogError::Tree(e)) if path.is_root() => {
                Err(CatalogError::Path(path.clone(), e))
            }
            Err(CatalogError::Tree(e)) => self.folder_failed(path, &e),
            other => other,
        }
    }

    /// Scans a new folder and everything below it.
    fn scan_below(&mut self, top: TreePath) -> Result<()> {
        let mut open = vec![top];
        while let Some(path) = open.pop().filter(|_| !self.stop.load(Ordering::Relaxed)) {
            self.scan_one(&path, &mut open)?;
        }
        self.store.commit()
    }

    fn folder_failed(&mut self, path: &TreePath, error: &TreeError) -> Result<()> {
        debug!("cannot read {path}: {error}");
        let Some((parent, name)) = path.split_last() else { return Ok(()) };
        let name = name.as_bytes();
        match error {
            // A file may have replaced the folder, and the catalogue may have its row already.
            TreeError::NotFolder => match self.open_for_refresh(&parent)? {
                Some(opened) => self.scan_name(&opened, &parent, name, true).map(drop),
                None => Ok(()),
            },
            TreeError::NotFound | TreeError::NotServed(_) => self.forget(&parent, name),
            // The entries of the tree stay known; other slaves serve their content.
            _ => self.skip(&parent, name, SkipReason::Unreadable),
        }
    }

    /// Scans one folder and appends the folders in it to `below`.
    fn scan_folder(&mut self, path: &TreePath, below: &mut Vec<TreePath>) -> Result<()> {
        let folder = self.root.open_folder(path)?;
        // The watch comes first, so that each change during the listing leaves an event.
        if let Some(watch) = &mut self.watch {
            watch.add(&folder, path);
        }
        // The scan draws no conclusions from the files of unapplied names.
        let blocked = self.store.unapplied_in(path)?;
        let known = self.store.names(path)?;
        // A new folder needs no look-ups, which halves the time of a first scan.
        let may_have_rows = !known.is_empty();
        let mut seen = HashSet::new();
        for listed in folder.list()? {
            let name = listed?.name().to_vec();
            if path.is_root() && name == FOLDER.as_bytes() || blocked.contains(&name) {
                continue;
            }
            if let Some(found) = self.scan_name(&folder, path, &name, may_have_rows)? {
                below.push(found);
            }
            seen.insert(name);
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        // The listing is complete, so a name that it lacks is gone, unless its content is still to
        // come.
        for (name, is_awaited) in known {
            if !is_awaited && !seen.contains(&name) && !blocked.contains(&name) {
                self.forget(path, &name)?;
            }
        }
        Ok(())
    }

    /// Scans one name after an event. A folder is scanned with everything below it.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn refresh(&mut self, folder: &TreePath, name: &[u8]) -> Result<()> {
        if let Some(opened) = self.open_for_refresh(folder)? {
            return self.refresh_in(&opened, folder, name);
        }
        // A mount point hides the folder and leaves no event.
        if let Err(TreeError::NotServed(_)) = self.root.open_folder(folder)
            && let Some((parent, name)) = folder.split_last()
        {
            return self.refresh(&parent, name.as_bytes());
        }
        Ok(())
    }

    /// Opens the folder of an event. Returns `None` if it is gone, because its own event reports
    /// that.
    ///
    /// # Errors
    /// Returns the error of opening the folder.
    pub fn open_for_refresh(&self, folder: &TreePath) -> Result<Option<Folder>> {
        match self.root.open_folder(folder) {
            Ok(opened) => Ok(Some(opened)),
            Err(e @ (TreeError::NotFound | TreeError::NotFolder | TreeError::NotServed(_))) => {
                debug!("{folder} is gone: {e}");
                Ok(None)
            }
            Err(e) => Err(CatalogError::Path(folder.clone(), e)),
        }
    }

    /// Same as [`Self::refresh`], in a folder that is open already.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn refresh_in(&mut self, opened: &Folder, folder: &TreePath, name: &[u8]) -> Result<()> {
        let path = folder.join_bytes(name);
        if folder.is_root() && name == FOLDER.as_bytes()
            || self.store.is_blocked(path.as_ref().unwrap_or(folder))?
        {
            return Ok(());
        }
        if path.is_some_and(|path| self.is_just_published(opened, &path, name)) {
            return Ok(());
        }
        self.by_event = true;
        match self.scan_name(opened, folder, name, true)? {
            Some(below) => self.scan_below(below),
            None => Ok(()),
        }
    }

    /// Scans one name and records it. Returns the path of a folder.
    fn scan_name(
        &mut self,
        folder: &Folder,
        path: &TreePath,
        name: &[u8],
        may_have_row: bool,
    ) -> Result<Option<TreePath>> {
        let reason = match folder.survey(name) {
            Ok(survey) if survey.mount_point => SkipReason::Mount,
            Ok(EntryInfo { meta, .. }) => match (meta.kind, path.join_bytes(name)) {
                (_, None) => SkipReason::Name,
                (MetaKind::Link, _) => SkipReason::Link,
                (MetaKind::Special, _) => SkipReason::Special,
                (MetaKind::Folder, Some(full)) => {
                    self.write(&full, Kind::Folder, &meta, may_have_row)?;
                    return Ok(Some(full));
                }
                (MetaKind::File, Some(full)) => {
                    return self.scan_file(full, &meta, may_have_row).map(|()| None);
                }
            },
            Err(TreeError::NotFound) => return self.forget(path, name).map(|()| None),
            Err(e) => {
                debug!("cannot read the metadata of a name in {path}: {e}");
                SkipReason::Unreadable
            }
        };
        self.skip(path, name, reason).map(|()| None)
    }

    fn scan_file(&mut self, path: TreePath, meta: &Meta, may_have_row: bool) -> Result<()> {
        if may_have_row && self.store.row(&path)?.is_some_and(|row| row.is_current(meta)) {
            return Ok(());
        }
        let file = match self.root.open_file(&path) {
            Ok(file) => file,
            Err(TreeError::NotFound | TreeError::IsFolder | TreeError::NotFolder) => return Ok(()),
            Err(e) => {
                warn!("{path} cannot be read: {e}");
                let Some((folder, name)) = path.split_last() else { return Ok(()) };
                return self.skip(&folder, name.as_bytes(), SkipReason::Unreadable);
            }
        };
        let quiet = is_quiet(file.meta.ctime, SystemTime::now());
        if !quiet || has_writer(&file.file) {
            self.debounce.restart(path, Instant::now());
            return Ok(());
        }
        self.write(&path, Kind::File, &file.meta, may_have_row)
    }

    fn skip(&mut self, folder: &TreePath, name: &[u8], reason: SkipReason) -> Result<()> {
        match self.leave(folder, name)? {
            Some(path) if self.tree_row(&path)?.is_some() => self.report_vanished(path),
            _ => self.store.skip(folder, name, reason)?,
        }
        Ok(())
    }

    fn forget(&mut self, folder: &TreePath, name: &[u8]) -> Result<()> {
        match self.leave(folder, name)? {
            Some(path) if self.tree_row(&path)?.is_some() => self.report_vanished(path),
            Some(path) => self.store.remove(&path)?,
            None => self.store.forget_skipped(folder.as_str(), name)?,
        }
        Ok(())
    }

    /// Begins to record a name that is not served, and stops watching it. Returns its path.
    fn leave(&mut self, folder: &TreePath, name: &[u8]) -> Result<Option<TreePath>> {
        self.batch()?;
        let path = folder.join_bytes(name);
        if let (Some(watch), Some(path)) = (&mut self.watch, &path) {
            watch.remove(path);
        }
        Ok(path)
    }

    fn write(
        &mut self,
        path: &TreePath,
        kind: Kind,
        meta: &Meta,
        may_have_row: bool,
    ) -> Result<()> {
        self.batch()?;
        if !may_have_row {
            return self.store.insert(path, kind, meta);
        }
        match self.tree_row(path)? {
            Some(row) => self.compare(path, &row, kind, meta),
            None => self.store.put(path, kind, meta),
        }
    }

    /// Compares a file or folder with the committed entry at its path.
    fn compare(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        kind: Kind,
        meta: &Meta,
    ) -> Result<()> {
        if row.entry.kind != kind {
            self.report_vanished(path.clone());
            return Ok(());
        }
        if kind == Kind::Folder && row.disk_mode == meta.mode {
            return self.store.update_disk_meta(path, meta);
        }
        // The retained content stays until the new content arrives.
        let is_known = kind == Kind::File
            && (row.is_current(meta)
                || self.store.retained(path)?.is_some_and(|retained| retained.matches(meta)));
        if !is_known {
            self.detected.edited.push((path.clone(), *meta));
        }
        Ok(())
    }

    fn report_vanished(&mut self, path: TreePath) {
        self.detected.vanished.push((path, self.by_event));
    }

    /// Groups rows into transactions that are short enough not to block readers.
    fn batch(&mut self) -> Result<()> {
        self.written += 1;
        if self.written.is_multiple_of(BATCH) {
            self.store.commit()?;
        }
        self.store.begin()
    }
}

/// Returns whether a file changed long enough ago. A time in the future counts as quiet, because
/// the lease still detects writers.
fn is_quiet(ctime: FileTime, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = u64::try_from(ctime.seconds)
        .map(|seconds| std::time::Duration::new(seconds, ctime.nanos))
        .unwrap_or_default();
    changed > now || now - changed >= QUIET
}
