//! Looking at the folder: one name, one folder, everything; and writing down what is there.
//!
//! A new or changed file is written down once nobody writes to it and it has been quiet; until
//! then it is left as it was and looked at again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use log::{debug, warn};
use relais_proto::{FileTime, Kind, TreePath, check_part};
use relais_tree::{Folder, Meta, MetaKind, TreeError};

use super::debounce::{Debounce, QUIET};
use super::store::{CatalogStore, SkipReason};
use super::watcher::FolderWatcher;
use super::{CatalogError, FOLDER};
use crate::sys::lease::{Writers, writers};

/// Rows written in one transaction.
const BATCH: usize = 1000;

/// What of a folder's names may be new to the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowLookup {
    /// All of them.
    Skip,
    /// Some.
    Needed,
}

/// What was found different from what changes have made: for whoever follows a cluster's tree. The catalogue keeps what the tree has.
#[derive(Debug, Default)]
pub struct DetectedChanges {
    /// Files and folders that are other than the tree's, or lie where its content is not here yet.
    pub edited: Vec<(TreePath, Meta)>,
    /// What is gone, or has something else in its place; whether it was seen to go.
    pub vanished: Vec<(TreePath, bool)>,
}

/// What looking needs: the folder, the database, the watches, and the names to look at again.
pub struct Scanner {
    pub root: Folder,
    pub store: CatalogStore,
    pub watch: Option<FolderWatcher>,
    pub debounce: Debounce,
    /// Set when the keeper shall end.
    pub stop: std::sync::Arc<AtomicBool>,
    written: usize,
    /// Folders that the scan of everything has still to read; none where no such scan is under way.
    open: Option<Vec<TreePath>>,
    /// Where what is numbered must not be written over; none where this slave stands alone.
    detected: Option<DetectedChanges>,
    /// Whether an event has led here, not a scan.
    by_event: bool,
}

impl Scanner {
    /// Looks at nothing yet.
    pub fn new(
        root: Folder,
        store: CatalogStore,
        watch: Option<FolderWatcher>,
        follows: bool,
        stop: std::sync::Arc<AtomicBool>,
    ) -> Self {
        let detected = follows.then(DetectedChanges::default);
        Self {
            root,
            store,
            watch,
            debounce: Debounce::default(),
            stop,
            written: 0,
            open: None,
            detected,
            by_event: false,
        }
    }

    /// What was found different since the last time this was asked.
    pub fn take_detected(&mut self) -> DetectedChanges {
        self.detected.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether changes have made what the catalogue has at a path, and others follow them too.
    fn is_tree(&self, path: &TreePath) -> Result<bool, CatalogError> {
        Ok(self.detected.is_some()
            && self.store.row(path)?.is_some_and(|row| row.entry.version.is_some()))
    }

    /// Names in a folder at which the disk is not as the tree says, as far as is known: nothing is concluded from what lies there.
    fn blocked_in(&self, folder: &TreePath) -> Result<HashSet<Vec<u8>>, CatalogError> {
        if self.detected.is_none() {
            return Ok(HashSet::new());
        }
        self.store.unapplied_in(folder)
    }

    fn is_blocked(&self, folder: &TreePath, name: &[u8]) -> Result<bool, CatalogError> {
        if self.detected.is_none() {
            return Ok(false);
        }
        match std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok()) {
            Some(path) => self.store.is_blocked(&path),
            None => self.store.is_blocked(folder),
        }
    }

    /// Begins to read the whole folder, and to forget what is not there any more.
    pub fn begin_scan(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.clear();
        }
        self.debounce.clear();
        self.open = Some(vec![TreePath::root()]);
    }

    /// Whether a scan of everything is under way.
    pub fn is_scanning(&self) -> bool {
        self.open.is_some()
    }

    /// Goes on with the scan of everything until `until`; true where it has ended.
    ///
    /// # Errors
    /// Those of the database, or of the top. The scan has to begin again then.
    pub fn continue_scan(&mut self, until: Instant) -> Result<bool, CatalogError> {
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

    fn scan_one(&mut self, path: &TreePath, below: &mut Vec<TreePath>) -> Result<(), CatalogError> {
        match self.scan_folder(path, below) {
            Err(CatalogError::Tree(e)) if !path.is_root() => self.folder_failed(path, &e),
            other => other,
        }
    }

    /// Reads a folder that has come, and everything below it.
    fn scan_below(&mut self, top: TreePath) -> Result<(), CatalogError> {
        let mut open = vec![top];
        while let Some(path) = open.pop().filter(|_| !self.stop.load(Ordering::Relaxed)) {
            self.scan_one(&path, &mut open)?;
        }
        self.store.commit()
    }

    fn folder_failed(&mut self, path: &TreePath, error: &TreeError) -> Result<(), CatalogError> {
        debug!("{path} cannot be read: {error}");
        match (path.split_last(), error) {
            // A file may have come in its place, which the catalogue has already.
            (Some((parent, name)), TreeError::NotFolder) => match self.open_for_refresh(&parent)? {
                Some(opened) => {
                    self.scan_name(&opened, &parent, name.as_bytes(), RowLookup::Needed).map(drop)
                }
                None => Ok(()),
            },
            (Some((parent, name)), TreeError::NotFound | TreeError::NotServed(_)) => {
                self.forget(&parent, name.as_bytes())
            }
            // What the tree has there stays known, and is read elsewhere.
            (Some((parent, name)), _) => {
                self.skip(&parent, name.as_bytes(), SkipReason::Unreadable).map(drop)
            }
            (None, _) => Ok(()),
        }
    }

    /// Reads one folder; folders found in it are appended to `below`.
    fn scan_folder(
        &mut self,
        path: &TreePath,
        below: &mut Vec<TreePath>,
    ) -> Result<(), CatalogError> {
        let folder = self.root.open_folder(path)?;
        // Watched first: whatever comes while the names are read leaves an event.
        if let Some(watch) = &mut self.watch {
            watch.add(&folder, path);
        }
        let blocked = self.blocked_in(path)?;
        let known = self.store.names(path)?;
        // Of a folder that is new nothing has to be looked up: half the time of a first scan.
        let lookup = if known.is_empty() { RowLookup::Skip } else { RowLookup::Needed };
        let mut seen = HashSet::new();
        for listed in folder.list()? {
            let name = listed?.name().to_vec();
            if path.is_root() && name == FOLDER.as_bytes() || blocked.contains(&name) {
                continue;
            }
            if let Some(found) = self.scan_name(&folder, path, &name, lookup)? {
                below.push(found);
            }
            seen.insert(name);
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        // The listing arrived whole, so what it lacks is gone.
        for name in known {
            if !seen.contains(&name) && !blocked.contains(&name) {
                self.forget(path, &name)?;
            }
        }
        Ok(())
    }

    /// Looks at one name after an event. A folder is read with everything below it.
    ///
    /// # Errors
    /// Those of the database.
    pub fn refresh(&mut self, folder: &TreePath, name: &[u8]) -> Result<(), CatalogError> {
        match self.open_for_refresh(folder)? {
            Some(opened) => self.refresh_in(&opened, folder, name),
            None => Ok(()),
        }
    }

    /// The folder that an event is about; none where it is gone, of which its own event tells.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open_for_refresh(&self, folder: &TreePath) -> Result<Option<Folder>, CatalogError> {
        match self.root.open_folder(folder) {
            Ok(opened) => Ok(Some(opened)),
            Err(e @ (TreeError::NotFound | TreeError::NotFolder | TreeError::NotServed(_))) => {
                debug!("{folder} is gone: {e}");
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// As [`Self::refresh`], in the folder that is open already.
    ///
    /// # Errors
    /// Those of the database.
    pub fn refresh_in(
        &mut self,
        opened: &Folder,
        folder: &TreePath,
        name: &[u8],
    ) -> Result<(), CatalogError> {
        if folder.is_root() && name == FOLDER.as_bytes() || self.is_blocked(folder, name)? {
            return Ok(());
        }
        self.by_event = true;
        match self.scan_name(opened, folder, name, RowLookup::Needed) {
            Ok(Some(below)) => self.scan_below(below),
            other => other.map(drop),
        }
    }

    /// Looks at one name and writes down what it is; its path where it is a folder.
    fn scan_name(
        &mut self,
        folder: &Folder,
        path: &TreePath,
        name: &[u8],
        lookup: RowLookup,
    ) -> Result<Option<TreePath>, CatalogError> {
        let meta = match folder.survey(name) {
            Ok(survey) if survey.mount_point => return self.skip(path, name, SkipReason::Mount),
            Ok(survey) => survey.meta,
            Err(TreeError::NotFound) => return self.forget(path, name).map(|()| None),
            Err(e) => {
                debug!("a name in {path} cannot be looked at: {e}");
                return self.skip(path, name, SkipReason::Unreadable);
            }
        };
        let valid = std::str::from_utf8(name).ok().filter(|name| check_part(name).is_ok());
        let Some(full) = valid.and_then(|name| path.join(name).ok()) else {
            return self.skip(path, name, SkipReason::Name);
        };
        match meta.kind {
            MetaKind::Link => self.skip(path, name, SkipReason::Link),
            MetaKind::Special => self.skip(path, name, SkipReason::Special),
            MetaKind::Folder => {
                self.write(&full, Kind::Folder, &meta, lookup)?;
                Ok(Some(full))
            }
            MetaKind::File => self.scan_file(full, &meta, lookup).map(|()| None),
        }
    }

    fn scan_file(
        &mut self,
        path: TreePath,
        meta: &Meta,
        lookup: RowLookup,
    ) -> Result<(), CatalogError> {
        if lookup == RowLookup::Needed
            && self
                .store
                .row(&path)?
                .is_some_and(|row| row.matches(meta) && row.on_disk.mode == meta.mode)
        {
            return Ok(());
        }
        let file = match self.root.open_file(&path) {
            Ok(file) => file,
            Err(TreeError::NotFound | TreeError::IsFolder | TreeError::NotFolder) => return Ok(()),
            Err(e) => {
                warn!("{path} cannot be read: {e}");
                let Some((folder, name)) = path.split_last() else { return Ok(()) };
                return self.skip(&folder, name.as_bytes(), SkipReason::Unreadable).map(drop);
            }
        };
        let quiet = is_quiet(file.meta.ctime, SystemTime::now());
        if !quiet || writers(&file.file) == Writers::Some {
            self.debounce.restart(path, Instant::now());
            return Ok(());
        }
        self.write(&path, Kind::File, &file.meta, lookup)
    }

    fn skip(
        &mut self,
        folder: &TreePath,
        name: &[u8],
        why: SkipReason,
    ) -> Result<Option<TreePath>, CatalogError> {
        self.batch()?;
        self.unwatch(folder, name);
        if let Some(path) = std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok())
            && self.is_tree(&path)?
        {
            return self.report_vanished(path).map(|()| None);
        }
        self.store.skip(folder, name, why).map(|()| None)
    }

    fn write(
        &mut self,
        path: &TreePath,
        kind: Kind,
        meta: &Meta,
        lookup: RowLookup,
    ) -> Result<(), CatalogError> {
        self.batch()?;
        if lookup == RowLookup::Needed && self.is_tree(path)? {
            return self.report_edited(path, kind, meta);
        }
        match lookup {
            RowLookup::Skip => self.store.insert(path, kind, meta),
            RowLookup::Needed => self.store.put(path, kind, meta),
        }
    }

    fn forget(&mut self, folder: &TreePath, name: &[u8]) -> Result<(), CatalogError> {
        self.batch()?;
        self.unwatch(folder, name);
        match std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok()) {
            Some(path) if self.is_tree(&path)? => self.report_vanished(path),
            Some(path) => self.store.remove(&path),
            None => self.store.forget_skipped(folder, name),
        }
    }

    /// Something lies where the tree has an entry.
    fn report_edited(
        &mut self,
        path: &TreePath,
        kind: Kind,
        meta: &Meta,
    ) -> Result<(), CatalogError> {
        let Some(row) = self.store.row(path)? else { return Ok(()) };
        match (row.entry.kind, kind) {
            (Kind::Folder, Kind::Folder) if row.on_disk.mode == meta.mode => {
                self.store.update_disk_meta(path, meta)
            }
            (Kind::File, Kind::File) if row.matches(meta) && row.on_disk.mode == meta.mode => {
                Ok(())
            }
            // What is to be replaced when the content comes.
            (Kind::File, Kind::File)
                if self.store.retained(path)?.is_some_and(|retained| retained.matches(meta)) =>
            {
                Ok(())
            }
            (Kind::File, Kind::File) | (Kind::Folder, Kind::Folder) => {
                self.detected
                    .iter_mut()
                    .for_each(|detected| detected.edited.push((path.clone(), *meta)));
                Ok(())
            }
            _ => self.report_vanished(path.clone()),
        }
    }

    fn report_vanished(&mut self, path: TreePath) -> Result<(), CatalogError> {
        let seen = self.by_event;
        self.detected.iter_mut().for_each(|detected| detected.vanished.push((path.clone(), seen)));
        Ok(())
    }

    fn unwatch(&mut self, folder: &TreePath, name: &[u8]) {
        if let (Some(watch), Some(path)) = (
            &mut self.watch,
            std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok()),
        ) {
            watch.remove(&path);
        }
    }

    /// Many rows share a transaction; not too many, so that it does not get in readers' way.
    fn batch(&mut self) -> Result<(), CatalogError> {
        self.written += 1;
        if self.written.is_multiple_of(BATCH) {
            self.store.commit()?;
        }
        self.store.begin()
    }
}

/// Whether a file changed long enough ago. One from the future is taken as it is: the lease still tells whether somebody writes.
fn is_quiet(ctime: FileTime, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = u64::try_from(ctime.seconds)
        .map(|seconds| std::time::Duration::new(seconds, ctime.nanos))
        .unwrap_or_default();
    changed > now || now - changed >= QUIET
}
