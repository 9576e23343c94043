//! Paths that the disk refuses are tried again: after a growing pause, at a start, and when an operator says so.

use std::collections::{HashMap, VecDeque};

use log::{info, warn};
use relais_cluster::replica::Event;
use relais_cluster::{Content, Entry};
use relais_proto::{Change, Lsn, TreePath};
use relais_tree::Folder;

use super::apply_batch::{check_free, take_away};
use super::disk_transaction::DiskTransaction;
use super::publish::place_one;
use super::{ApplyError, ReplicaDriver, rolled_back, unapplied};
use crate::catalogue::{CatalogError, CatalogStore, Scanner, UnappliedPath};
use crate::staging::StagedName;

/// Most paths that are tried in one round.
const MOST: u32 = 64;

/// Contents that came whole and whose path refused them: they wait in staging and are not fetched a second time.
#[derive(Debug, Default)]
pub(super) struct ParkedContents {
    parked: HashMap<Lsn, StagedName>,
}

impl ParkedContents {
    /// Keeps content that has come, for the next try.
    pub fn park(&mut self, put: Lsn, name: StagedName) {
        self.parked.insert(put, name);
    }

    /// The contents that are kept and that nothing needs any more.
    pub fn take_useless(&mut self, wanted: impl Fn(Lsn) -> bool) -> Vec<StagedName> {
        self.parked.extract_if(|put, _| !wanted(*put)).map(|(_, name)| name).collect()
    }
}

/// What came of a try.
enum RetryResult {
    /// The disk is as the tree says; the content that is here from now on.
    InPlace(Option<Lsn>),
    /// The path takes content, which has to be fetched.
    Fetch(Lsn),
}

impl ReplicaDriver {
    /// What is said of contents that the disk refused before this process began, or before the tree was taken over.
    pub(super) fn refused_before(store: &CatalogStore) -> Result<Vec<Event>, CatalogError> {
        let mut events = Vec::new();
        for lack in store.lacking()? {
            if store.unapplied(&lack.path)?.is_some() {
                events.push(Event::Refused { put: lack.put, retry: false });
            }
        }
        Ok(events)
    }

    /// Tries what has become due.
    pub(super) fn retry_unapplied(
        &mut self,
        scanner: &mut Scanner,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        for name in self.retries.take_useless(|put| self.replica.wants(put)) {
            self.staging.discard(&name);
        }
        // What a crash has left half done is told again first.
        if !self.told || !self.replica.is_caught_up() {
            return Ok(());
        }
        let store = &scanner.store;
        let due = store.due_unapplied(MOST)?;
        if due.is_empty() {
            return Ok(());
        }
        store.commit()?;
        store.begin()?;
        let mut steps = DiskTransaction::new(&self.root, store, &self.staging, &mut self.aside);
        let mut done = Vec::new();
        let mut result = Ok(());
        // What is removed may have to get its place back: the sweeper must not take it for something that is settled.
        let applied = self.replica.applied();
        let unsettled = Lsn { number: applied.number + 1, ..applied };
        for record in &due {
            match again(&mut steps, store, &self.root, &self.retries.parked, record, unsettled) {
                Ok(Some(tried)) => done.push((record, tried)),
                Ok(None) => {}
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        let result = result.and_then(|()| steps.sync()).and_then(|()| Ok(store.commit()?));
        if let Err(e) = result {
            rolled_back(store);
            steps.take_back();
            warn!("what the disk refused cannot be tried again now: {e}");
            store.begin()?;
            due.iter().try_for_each(|record| store.postpone_unapplied(&record.path, false))?;
            return store.commit();
        }
        self.litter |= steps.settle();
        for (record, tried) in done {
            match tried {
                RetryResult::InPlace(put) => {
                    info!("{} is as the tree says again", record.path);
                    // What has come there by hand meanwhile was left alone.
                    scanner.debounce.again(record.path.clone(), std::time::Instant::now());
                    if let Some(put) = put {
                        self.retries.parked.remove(&put);
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

/// Tries one path; none where nothing came of it.
fn again(
    steps: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    root: &Folder,
    parked: &HashMap<Lsn, StagedName>,
    record: &UnappliedPath,
    unsettled: Lsn,
) -> Result<Option<RetryResult>, ApplyError> {
    let (path, version) = (&record.path, record.version);
    // An earlier one of this round may have settled it.
    if store.unapplied(path)?.is_none() {
        return Ok(None);
    }
    let tried = if record.removal {
        if store.is_source(path)? {
            store.postpone_unapplied(path, false)?;
            return Ok(None);
        }
        let tried = steps.attempt(store, path, |steps| take_away(steps, store, path, unsettled))?;
        tried.map(|()| RetryResult::InPlace(None))
    } else {
        // Its turn comes with the folder.
        if store.unapplied_above(path)?.is_some() {
            store.postpone_unapplied(path, true)?;
            return Ok(None);
        }
        let entry = store.row(path)?.and_then(|row| Some((row.tree_entry()?, row.here)));
        match entry {
            None => Ok(RetryResult::InPlace(None)),
            Some((entry @ Entry { content: None, .. }, _)) => steps
                .attempt(store, path, |steps| make_folder(steps, store, path, &entry, unsettled))?
                .map(|()| RetryResult::InPlace(None)),
            // Only its mode was refused.
            Some((entry, true)) => steps
                .attempt(store, path, |steps| {
                    let row = store.row(path)?;
                    let is_same = |meta: &relais_tree::Meta| {
                        row.as_ref().is_some_and(|row| row.is_former(meta))
                    };
                    if steps.look(path)?.as_ref().is_some_and(is_same)
                        && let Some(meta) = steps.set_mode(path, entry.mode)?.filter(is_same)
                    {
                        store.touch(path, &meta)?;
                    }
                    Ok(())
                })?
                .map(|()| RetryResult::InPlace(None)),
            Some((entry @ Entry { content: Some(content), .. }, false)) => {
                let staged = parked.get(&content.put);
                steps.attempt(store, path, |steps| {
                    bring(steps, store, root, &entry, &content, record, staged)
                })?
            }
        }
    };
    match tried {
        Ok(tried) => {
            match tried {
                RetryResult::InPlace(_) if record.removal => store.remove(path)?,
                RetryResult::InPlace(_) => store.note_in_place(path)?,
                RetryResult::Fetch(_) => store.postpone_unapplied(path, true)?,
            }
            Ok(Some(tried))
        }
        Err(why) => {
            store.note_unapplied(path, version, record.removal, &why, None)?;
            Ok(None)
        }
    }
}

fn make_folder(
    steps: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    path: &TreePath,
    entry: &Entry,
    unsettled: Lsn,
) -> Result<(), ApplyError> {
    check_free(store, path)?;
    // A former file that has still to make room for the folder.
    if let Some(kept) = store.kept(path)? {
        if steps.clear(path, None, Some(&kept))? {
            steps.remove(path, unsettled)?;
        }
        store.keep(path, None)?;
    }
    steps.ensure_folder_as(path, entry.mode)?;
    if let Some(meta) = steps.set_mode(path, entry.mode)? {
        store.touch(path, &meta)?;
    }
    Ok(unapplied::left_below(store, path, entry.version, "it was removed")?)
}

/// Brings content to its place that lies there, elsewhere in the folder, or in staging.
fn bring(
    steps: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    root: &Folder,
    entry: &Entry,
    content: &Content,
    record: &UnappliedPath,
    staged: Option<&StagedName>,
) -> Result<RetryResult, ApplyError> {
    let path = &record.path;
    let parent = path.split_last().map(|(parent, _)| parent).unwrap_or_else(TreePath::root);
    steps.ensure_folder(&parent)?;
    let source = record.source.as_ref().filter(|source| *source != path);
    if source.is_none() {
        check_free(store, path).or_else(|e| match record.source {
            // It lies where it belongs.
            Some(_) => Ok(()),
            None => Err(e),
        })?;
    }
    let (row, kept) = (store.row(path)?, store.kept(path)?);
    if let Some(source) = source
        && let Some(lies) = store.kept(source)?.filter(|lies| lies.content.put == content.put)
        && steps.look(source)?.is_some_and(|meta| lies.is(&meta))
    {
        steps.clear(path, row.as_ref(), kept.as_ref())?;
        let change = Change::Move { from: source.clone(), to: path.clone() };
        let moved = steps.apply(&change, record.version, None).map_err(ApplyError::at(path))?;
        store.keep(source, None)?;
        store.keep(path, None)?;
        store.put_entry(path, entry, moved.as_ref(), &[])?;
        return Ok(RetryResult::InPlace(Some(content.put)));
    }
    if let Some(meta) = steps.adopt(path, content, entry.mode, row.as_ref(), kept.as_ref())? {
        store.keep(path, None)?;
        store.put_entry(path, entry, Some(&meta), &[])?;
        return Ok(RetryResult::InPlace(Some(content.put)));
    }
    if let Some(staged) = staged.filter(|name| steps.staging.has(name)) {
        let meta = place_one(steps, store, path, (entry, content), staged)?;
        store.keep(path, None)?;
        store.put_entry(path, entry, Some(&meta), &[])?;
        return Ok(RetryResult::InPlace(Some(content.put)));
    }
    // Nothing is fetched for a place that will not take it.
    steps.look(path)?;
    let folder = root.open_folder(&parent).map_err(ApplyError::at(&parent))?;
    folder.check_writable().map_err(ApplyError::at(&parent))?;
    let disk = rustix::fs::fstatvfs(root).map_err(std::io::Error::from);
    let disk = disk.map_err(|e| ApplyError::Refused(format!("the disk cannot be asked: {e}")))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < content.size {
        let size = content.size;
        return Err(ApplyError::Refused(format!(
            "no space left: {size} bytes are needed, and {free} are free"
        )));
    }
    Ok(RetryResult::Fetch(content.put))
}
