//! Retries unapplied paths: after a growing pause, at the start, and on the order of an operator.

use std::collections::HashMap;
use std::time::Instant;

use crate::{CatalogError, Scanner, StagedName, UnappliedPath};
use log::{info, warn};
use relais_cluster::Entry;
use relais_cluster::replica::Event;
use relais_proto::{Lsn, TreePath};

use super::apply_error::{ApplyError, At};
use super::disk_transaction::{DiskTransaction, next};
use super::driver::{ReplicaDriver, TICK};
use super::known_entry::KnownEntry;
use super::unapplied;

/// Most paths that are tried in one iteration.
const MOST_RETRIES: u32 = 64;

/// Result of a retry.
enum RetryResult {
    /// The disk matches the tree. Holds the put whose content is now here.
    InPlace(Option<Lsn>),
    /// The path accepts the content, which must be fetched.
    Fetch(Lsn),
}

impl ReplicaDriver {
    /// Retries the paths that are due.
    pub(super) fn retry_unapplied(&mut self, scanner: &mut Scanner) -> Result<(), CatalogError> {
        for (_, name) in self.parked.extract_if(|put, _| !self.replica.wants(*put)) {
            self.disk.staging.discard(&name);
        }
        // The master first repeats a batch that a crash interrupted.
        if !self.link_announced || !self.replica.is_caught_up() || Instant::now() < self.next_retry
        {
            return Ok(());
        }
        self.next_retry = Instant::now() + TICK;
        let store = &scanner.store;
        let due = store.due_unapplied(MOST_RETRIES)?;
        if due.is_empty() {
            return Ok(());
        }
        let mut disk = self.disk.begin(store, next(self.replica.applied()))?;
        let tried = due
            .iter()
            .map(|record| retry_path(&mut disk, &self.parked, record))
            .collect::<Result<Vec<_>, _>>();
        let result = tried.and_then(|tried| {
            disk.sync()?;
            store.commit()?;
            Ok(tried)
        });
        let tried = match result {
            Ok(tried) => tried,
            Err(e) => {
                disk.roll_back();
                warn!("cannot retry unapplied paths now: {e}");
                store.begin()?;
                due.iter().try_for_each(|record| store.postpone_unapplied(&record.path, false))?;
                return store.commit();
            }
        };
        self.litter |= disk.finish();
        for (record, tried) in due.into_iter().zip(tried) {
            match tried {
                None => {}
                Some(RetryResult::InPlace(put)) => {
                    info!("{} matches the tree again", record.path);
                    // A scan of the path finds local changes that were ignored meanwhile.
                    scanner.debounce.add(record.path, Instant::now());
                    if let Some(put) = put {
                        self.parked.remove(&put);
                        let from = self.config.folder;
                        self.events.push_back(Event::Fetched { put, from, fault: None });
                    }
                }
                Some(RetryResult::Fetch(put)) => {
                    self.events.push_back(Event::Refused { put, retry: true })
                }
            }
        }
        Ok(())
    }
}

/// Retries one path. Returns `None` if nothing has changed.
fn retry_path(
    disk: &mut DiskTransaction<'_>,
    parked: &HashMap<Lsn, StagedName>,
    record: &UnappliedPath,
) -> Result<Option<RetryResult>, ApplyError> {
    let (store, path) = (disk.store, &record.path);
    // An earlier retry of this iteration may have settled the path.
    if store.unapplied(path)?.is_none() {
        return Ok(None);
    }
    // A removal waits for an entry that must be moved first, other paths for the folder above.
    let waits = match record.removal {
        true => store.is_source(path)?,
        false => store.unapplied_above(path)?.is_some(),
    };
    if waits {
        store.postpone_unapplied(path, !record.removal)?;
        return Ok(None);
    }
    let tried = disk.attempt(path, |disk| {
        if record.removal {
            disk.remove_leftover(path)?;
            return Ok(RetryResult::InPlace(None));
        }
        let row = store.row(path)?;
        match row.as_ref().and_then(|row| Some((row.tree_entry()?, row.here))) {
            None => {}
            Some((entry @ Entry { content: None, .. }, _)) => {
                make_folder(disk, record, &entry)?;
            }
            // Only the mode was refused.
            Some((entry, true)) => {
                let known = KnownEntry { row, retained: None };
                if let Some(meta) = disk.set_known_mode(path, entry.mode, &known)? {
                    store.update_disk_meta(path, &meta)?;
                }
            }
            Some((entry, false)) => return install_content(disk, parked, &entry, record),
        }
        Ok(RetryResult::InPlace(None))
    })?;
    match &tried {
        Ok(RetryResult::InPlace(_)) if record.removal => store.remove(path)?,
        Ok(RetryResult::InPlace(_)) => store.clear_unapplied(path)?,
        Ok(RetryResult::Fetch(_)) => store.postpone_unapplied(path, true)?,
        Err(reason) => {
            store.record_unapplied(path, record.version, record.removal, reason, None)?;
        }
    }
    Ok(tried.ok())
}

fn make_folder(
    disk: &mut DiskTransaction<'_>,
    record: &UnappliedPath,
    entry: &Entry,
) -> Result<(), ApplyError> {
    let (store, path) = (disk.store, &record.path);
    // Files of a former folder at this path are moved before it is replaced. The files of this
    // folder wait for it.
    if record.is_leftover {
        disk.check_not_source(path)?;
    }
    // Retained content must make room for the folder.
    let known = KnownEntry { row: None, retained: store.retained(path)? };
    if known.retained.is_some() {
        disk.remove_known(path, &known)?;
        store.set_retained(path, None)?;
    }
    if let Some(meta) = disk.create_folder(path, entry.mode)? {
        store.update_disk_meta(path, &meta)?;
    }
    Ok(unapplied::record_leftovers(store, path, entry.version, "it was removed")?)
}

/// Publishes content that is already at the path, elsewhere in the folder, or in staging.
fn install_content(
    disk: &mut DiskTransaction<'_>,
    parked: &HashMap<Lsn, StagedName>,
    entry: &Entry,
    record: &UnappliedPath,
) -> Result<RetryResult, ApplyError> {
    let (store, path) = (disk.store, &record.path);
    let Some(content) = entry.content else { return Ok(RetryResult::InPlace(None)) };
    let in_place = RetryResult::InPlace(Some(content.put));
    disk.ensure_parent(path)?;
    // Content whose source is its own path is there already.
    if record.source.is_none() {
        disk.check_not_source(path)?;
    }
    let known = KnownEntry::load(store, path)?;
    if let Some(source) = record.source.as_ref().filter(|source| *source != path)
        && let Some(lies) = store.retained(source)?.filter(|lies| lies.content.put == content.put)
        && disk.stat(source)?.is_some_and(|meta| lies.matches_except_ctime(&meta))
    {
        disk.quarantine_unknown(path, &known)?;
        let moved = disk.move_to(source, path)?;
        store.set_retained(source, None)?;
        store.settle_entry(path, entry, moved.as_ref())?;
        return Ok(in_place);
    }
    if disk.adopt_existing(path, entry, &known)? {
        return Ok(in_place);
    }
    if let Some(staged) = parked.get(&content.put).filter(|name| disk.staging.contains(name)) {
        disk.publish_fetched(path, entry, staged, known)?;
        return Ok(in_place);
    }
    // Content is only fetched if the path can accept it.
    disk.stat(path)?;
    let parent = path.split_last().map(|(parent, _)| parent).unwrap_or_else(TreePath::root);
    disk.root.open_folder(&parent).and_then(|folder| folder.check_writable()).at(&parent)?;
    let usage = rustix::fs::fstatvfs(disk.root).map_err(|e| {
        let e = std::io::Error::from(e);
        ApplyError::Refused(format!("cannot read the free disk space: {e}"))
    })?;
    let (size, free) = (content.size, usage.f_bavail.saturating_mul(usage.f_frsize));
    if free < size {
        return Err(ApplyError::Refused(format!(
            "no space left: {size} bytes are needed, and {free} are free"
        )));
    }
    Ok(RetryResult::Fetch(content.put))
}
