//! Retries unapplied paths: after a growing pause, at the start, and on the order of an operator.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::{CatalogError, CatalogStore, Scanner, StagedName, UnappliedPath};
use log::{info, warn};
use relais_cluster::replica::Event;
use relais_cluster::{Entry, FileContent};
use relais_proto::{Attributes, Lsn, TreePath};
use relais_tree::Folder;

use super::apply_batch::{check_not_source, remove_leftover};
use super::apply_error::ApplyError;
use super::disk_transaction::DiskTransaction;
use super::driver::TICK;
use super::publish::publish_one;
use super::state::{ReplicaDriver, roll_back_catalog};
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
    /// Returns events for the contents that the disk refused before the start or before a resync.
    pub(super) fn refusals_at_start(store: &CatalogStore) -> Result<Vec<Event>, CatalogError> {
        let mut events = Vec::new();
        for lack in store.missing_content()? {
            if store.unapplied(&lack.path)?.is_some() {
                events.push(unapplied::refusal(store, lack.put, &lack.path)?);
            }
        }
        Ok(events)
    }

    /// Retries the paths that are due.
    pub(super) fn retry_unapplied(
        &mut self,
        scanner: &mut Scanner,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        for (_, name) in self.parked.extract_if(|put, _| !self.replica.wants(*put)) {
            self.staging.discard(&name);
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
        store.commit()?;
        store.begin()?;
        let mut disk = DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
        let mut done = Vec::new();
        let mut result = Ok(());
        // Removed files get a future LSN as their name, so that the sweeper keeps them until this
        // transaction has ended.
        let applied = self.replica.applied();
        let unsettled = Lsn { number: applied.number + 1, ..applied };
        for record in &due {
            match retry_path(&mut disk, store, &self.root, &self.parked, record, unsettled) {
                Ok(Some(tried)) => done.push((record, tried)),
                Ok(None) => {}
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        let result = result.and_then(|()| disk.sync()).and_then(|()| Ok(store.commit()?));
        if let Err(e) = result {
            roll_back_catalog(store);
            disk.roll_back();
            warn!("cannot retry unapplied paths now: {e}");
            store.begin()?;
            due.iter().try_for_each(|record| store.postpone_unapplied(&record.path, false))?;
            return store.commit();
        }
        self.litter |= disk.finish();
        for (record, tried) in done {
            match tried {
                RetryResult::InPlace(put) => {
                    info!("{} matches the tree again", record.path);
                    // A scan of the path finds local changes that were ignored meanwhile.
                    scanner.debounce.add(record.path.clone(), std::time::Instant::now());
                    if let Some(put) = put {
                        self.parked.remove(&put);
                        let from = self.folder;
                        events.push_back(Event::Fetched { put, from, result: Ok(()) });
                    }
                }
                RetryResult::Fetch(put) => events.push_back(Event::Refused { put, retry: true }),
            }
        }
        Ok(())
    }
}

/// Retries one path. Returns `None` if nothing has changed.
fn retry_path(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    root: &Folder,
    parked: &HashMap<Lsn, StagedName>,
    record: &UnappliedPath,
    unsettled: Lsn,
) -> Result<Option<RetryResult>, ApplyError> {
    let (path, version) = (&record.path, record.version);
    // An earlier retry of this iteration may have settled the path.
    if store.unapplied(path)?.is_none() {
        return Ok(None);
    }
    let tried = if record.removal {
        if store.is_source(path)? {
            store.postpone_unapplied(path, false)?;
            return Ok(None);
        }
        let tried =
            disk.attempt(store, path, |disk| remove_leftover(disk, store, path, unsettled))?;
        tried.map(|()| RetryResult::InPlace(None))
    } else {
        // The path waits for the folder above it.
        if store.unapplied_above(path)?.is_some() {
            store.postpone_unapplied(path, true)?;
            return Ok(None);
        }
        let entry = store.row(path)?.and_then(|row| Some((row.tree_entry()?, row.here)));
        match entry {
            None => Ok(RetryResult::InPlace(None)),
            Some((entry @ Entry { content: None, .. }, _)) => disk
                .attempt(store, path, |disk| make_folder(disk, store, record, &entry, unsettled))?
                .map(|()| RetryResult::InPlace(None)),
            // Only the mode was refused.
            Some((entry, true)) => disk
                .attempt(store, path, |disk| {
                    let row = store.row(path)?;
                    let is_same = |meta: &relais_tree::Meta| {
                        row.as_ref().is_some_and(|row| row.matches_except_ctime(meta))
                    };
                    if disk.stat(path)?.as_ref().is_some_and(is_same)
                        && let Some(meta) = disk
                            .set_attributes(path, &Attributes::mode(entry.mode))?
                            .filter(is_same)
                    {
                        store.update_disk_meta(path, &meta)?;
                    }
                    Ok(())
                })?
                .map(|()| RetryResult::InPlace(None)),
            Some((entry @ Entry { content: Some(content), .. }, false)) => {
                let staged = parked.get(&content.put);
                disk.attempt(store, path, |disk| {
                    install_content(disk, store, root, &entry, &content, record, staged)
                })?
            }
        }
    };
    match tried {
        Ok(tried) => {
            match tried {
                RetryResult::InPlace(_) if record.removal => store.remove(path)?,
                RetryResult::InPlace(_) => store.clear_unapplied(path)?,
                RetryResult::Fetch(_) => store.postpone_unapplied(path, true)?,
            }
            Ok(Some(tried))
        }
        Err(reason) => {
            store.record_unapplied(path, version, record.removal, &reason, None)?;
            Ok(None)
        }
    }
}

fn make_folder(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    record: &UnappliedPath,
    entry: &Entry,
    unsettled: Lsn,
) -> Result<(), ApplyError> {
    let path = &record.path;
    // Files of a former folder at this path are moved before it is replaced. The files of this
    // folder wait for it.
    if record.is_leftover {
        check_not_source(store, path)?;
    }
    // Retained content must make room for the folder.
    if let Some(retained) = store.retained(path)? {
        if disk.quarantine_unknown(path, None, Some(&retained))? {
            disk.remove(path, unsettled)?;
        }
        store.set_retained(path, None)?;
    }
    disk.ensure_folder_as(path, entry.mode)?;
    if let Some(meta) = disk.set_attributes(path, &Attributes::mode(entry.mode))? {
        store.update_disk_meta(path, &meta)?;
    }
    Ok(unapplied::record_leftovers(store, path, entry.version, "it was removed")?)
}

/// Publishes content that is already at the path, elsewhere in the folder, or in staging.
fn install_content(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    root: &Folder,
    entry: &Entry,
    content: &FileContent,
    record: &UnappliedPath,
    staged: Option<&StagedName>,
) -> Result<RetryResult, ApplyError> {
    let path = &record.path;
    let parent = path.split_last().map(|(parent, _)| parent).unwrap_or_else(TreePath::root);
    disk.ensure_folder(&parent)?;
    let source = record.source.as_ref().filter(|source| *source != path);
    if source.is_none() {
        check_not_source(store, path).or_else(|e| match record.source {
            // The content is at its path already.
            Some(_) => Ok(()),
            None => Err(e),
        })?;
    }
    let (row, retained) = (store.row(path)?, store.retained(path)?);
    if let Some(source) = source
        && let Some(lies) = store.retained(source)?.filter(|lies| lies.content.put == content.put)
        && disk.stat(source)?.is_some_and(|meta| lies.matches_except_ctime(&meta))
    {
        disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
        let moved = disk.move_to(source, path, record.version)?;
        store.set_retained(source, None)?;
        store.set_retained(path, None)?;
        store.put_entry(path, entry, moved.as_ref(), &[])?;
        return Ok(RetryResult::InPlace(Some(content.put)));
    }
    if let Some(meta) =
        disk.claim_existing(path, content, entry.mode, row.as_ref(), retained.as_ref())?
    {
        store.set_retained(path, None)?;
        store.put_entry(path, entry, Some(&meta), &[])?;
        return Ok(RetryResult::InPlace(Some(content.put)));
    }
    if let Some(staged) = staged.filter(|name| disk.staging.contains(name)) {
        let meta = publish_one(disk, store, path, (entry, content), staged)?;
        store.set_retained(path, None)?;
        store.put_entry(path, entry, Some(&meta), &[])?;
        return Ok(RetryResult::InPlace(Some(content.put)));
    }
    // Content is only fetched if the path can accept it.
    disk.stat(path)?;
    let folder = root.open_folder(&parent).map_err(ApplyError::at(&parent))?;
    folder.check_writable().map_err(ApplyError::at(&parent))?;
    let disk = rustix::fs::fstatvfs(root).map_err(std::io::Error::from);
    let disk =
        disk.map_err(|e| ApplyError::Refused(format!("cannot read the free disk space: {e}")))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < content.size {
        let size = content.size;
        return Err(ApplyError::Refused(format!(
            "no space left: {size} bytes are needed, and {free} are free"
        )));
    }
    Ok(RetryResult::Fetch(content.put))
}
