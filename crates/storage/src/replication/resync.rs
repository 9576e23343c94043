//! Resync with the master's whole tree, if the log does not reach back far enough. Entries that
//! differ are removed, fetched, or kept for their user.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{CatalogError, CatalogRow, CatalogStore, RetainedContent, StagedName};
use log::{error, info, warn};
use relais_cluster::replica::{DivergentEntry, Event, ReceivedTree, compare};
use relais_cluster::{Entry, FileContent, ReplicaPosition, timeline};
use relais_proto::{Attributes, Digest, Expect, Kind, Lsn, TreePath};

use super::apply_batch::{check_not_source, remove_leftover};
use super::apply_error::ApplyError;
use super::disk_transaction::DiskTransaction;
use super::local_changes::DivergentOffer;
use super::state::{ReplicaDriver, roll_back_catalog};
use super::unapplied;
use super::unapplied::RefusedContents;

/// Why a file of a branch was quarantined.
const DIVERGENT: &str =
    "the cluster has a newer change at the path, and does not know the change that made this";
/// Why former content below a change of a branch was quarantined.
const DIVERGENT_FORMER: &str = "a change that the cluster does not know replaced this, \
    and the content of that change is missing";

/// Changes of this slave that are not part of the master's history.
struct Branch<'a> {
    /// Last change that both histories have.
    fork: Lsn,
    /// End of the slave's history.
    end: &'a ReplicaPosition,
}

impl Branch<'_> {
    /// Returns details about a content of the branch, for the quarantine note.
    fn details(&self, content: &FileContent) -> String {
        let ReplicaPosition { applied, chain, .. } = self.end;
        format!(
            "\ndigest: {}\nchange: {}\nbranch: {applied} {}",
            content.digest,
            content.put,
            Digest(chain.0)
        )
    }
}

impl ReplicaDriver {
    /// Compares the catalogue with the complete tree of the master and applies the difference.
    /// Reports the result to the replica.
    pub(super) fn resync(
        &mut self,
        listing: &ReceivedTree,
        position: &ReplicaPosition,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        info!("resync: comparing with the master's tree of {} entries", listing.entries.len());
        store.commit()?;
        store.begin()?;
        let end = self.replica.position();
        let fork =
            timeline::fork(&store.timelines()?, end.applied, &listing.timelines, listing.lsn);
        if fork < end.applied {
            warn!(
                "the cluster does not know the changes from {fork} to {}; \
                 their files are proposed or quarantined",
                end.applied
            );
        }
        let branch = Branch { fork, end: &end };
        let mut disk = DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
        let mut refused = RefusedContents::default();
        let result =
            take_over(&mut disk, store, listing, &branch, &mut refused).and_then(|offered| {
                disk.sync()?;
                self.progress.announce(position.applied);
                store.replace_ids(&listing.ids)?;
                store.set_timelines(&listing.timelines)?;
                store.set_position(position)?;
                store.record_break(position.applied)?;
                store.commit()?;
                Ok(offered)
            });
        let offered = match result {
            Ok(offered) => offered,
            Err(e) => {
                roll_back_catalog(store);
                disk.roll_back();
                error!("resync failed; retrying: {e}");
                store.set_last_error(&e.to_string())?;
                events.push_back(Event::AdoptFailed);
                return Ok(());
            }
        };
        self.litter |= disk.finish();
        self.note_history(store)?;
        self.progress.set_applied(position.applied);
        self.local_changes.add_branch(offered);
        events.extend(unapplied::refusals(store, &refused.puts)?);
        events.push_back(Event::Adopted { lacks: store.missing_content()? });
        Ok(())
    }
}

fn take_over(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    listing: &ReceivedTree,
    branch: &Branch<'_>,
    refused: &mut RefusedContents,
) -> Result<Vec<DivergentOffer>, ApplyError> {
    let own: Vec<(TreePath, CatalogRow)> = store.committed_entries()?;
    let entries: Vec<(TreePath, Entry)> =
        own.iter().filter_map(|(path, row)| Some((path.clone(), row.tree_entry()?))).collect();
    let found = compare(entries.iter().map(|(path, entry)| (path, entry)), branch.fork, listing);
    let wanted: HashMap<Lsn, Digest> = found
        .come
        .iter()
        .filter_map(|(_, entry)| entry.content)
        .map(|content| (content.put, content.digest))
        .collect();
    let coming: HashMap<&TreePath, &Entry> =
        found.come.iter().map(|(path, entry)| (path, entry)).collect();
    // Removed files get a future LSN as their name, so that the sweeper keeps them until this
    // transaction has ended.
    let unsettled = Lsn { number: listing.lsn.number + 1, ..listing.lsn };
    let mut offered = Vec::new();
    for stray in &found.strays {
        let there = coming.get(&stray.path).copied();
        let path = &stray.path;
        let taken = disk.attempt(store, path, |disk| {
            handle_divergent(disk, store, stray, there, unsettled, branch)
        })?;
        match taken {
            Ok(offer) => offered.extend(offer),
            // The file blocks the entry of the tree, which is then recorded as unapplied.
            Err(reason) => {
                warn!("cannot quarantine {path}: {reason}");
                store.remove(path)?;
            }
        }
    }
    let edited: HashSet<TreePath> = offered
        .iter()
        .filter(|offered| offered.edit.is_some())
        .map(|offered| offered.path.clone())
        .collect();
    let mut held = HashMap::new();
    for (path, entry) in &found.gone {
        let stays = coming.get(path).is_some_and(|there| there.content.is_some());
        let gone = disk.attempt(store, path, |disk| {
            remove_entry(disk, store, path, entry.content.as_ref(), &wanted, stays, unsettled)
        })?;
        match gone {
            Ok(name) => held.extend(entry.content.map(|content| content.put).zip(name)),
            // The entry of the tree at this path is then recorded as unapplied.
            Err(_) if stays => {}
            Err(reason) => {
                warn!("cannot remove {path} here: {reason}; it is retried");
                unapplied::removal(store, path, listing.lsn, &reason)?;
            }
        }
    }
    for (path, entry) in &found.come {
        let came = disk.attempt(store, path, |disk| {
            check_not_source(store, path)?;
            match entry.content {
                None => create_folder(disk, store, path, entry, unsettled),
                // The file of the branch stays until its proposal is decided.
                Some(_) if edited.contains(path) => {
                    store.put_entry(path, entry, None, &[])?;
                    Ok(store.set_retained(path, None)?)
                }
                Some(content) => {
                    install_file(disk, store, path, entry, &content, held.get(&content.put))
                }
            }
        })?;
        let Err(reason) = came else { continue };
        warn!("cannot install {path} here: {reason}; it is retried");
        match entry.content {
            None => unapplied::folder(store, path, entry.version, entry.mode, &reason)?,
            Some(_) => unapplied::put(store, path, entry, &[], &reason, refused)?,
        }
    }
    Ok(offered)
}

/// Proposes an entry of a branch as a new change, or quarantines it.
fn handle_divergent(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    stray: &DivergentEntry,
    there: Option<&Entry>,
    lsn: Lsn,
    branch: &Branch<'_>,
) -> Result<Option<DivergentOffer>, ApplyError> {
    let path = &stray.path;
    let (row, retained) = disk.load_rows(store, path)?;
    let Some(content) = stray.entry.content else {
        store.clear_lsn(path)?;
        return Ok(None);
    };
    let details = branch.details(&content);
    match (stray.expect, row.filter(|row| row.here)) {
        (Some(Expect::Absent), Some(_)) => {
            store.clear_lsn(path)?;
            return Ok(Some(DivergentOffer { path: path.clone(), edit: None, details }));
        }
        (Some(Expect::Lsn(base)), Some(row)) => {
            if disk.stat(path)?.is_some_and(|meta| row.matches_except_ctime(&meta)) {
                let edit = Some((row, base));
                return Ok(Some(DivergentOffer { path: path.clone(), edit, details }));
            }
        }
        (_, Some(_)) => {
            disk.quarantine
                .take_with_details(path, DIVERGENT, &details)
                .map_err(ApplyError::at(path))?;
            store.remove(path)?;
            return Ok(None);
        }
        // Other slaves of the branch have the content, and propose it.
        (_, None) => {}
    }
    let lies =
        |disk: &mut DiskTransaction<'_>, retained: &RetainedContent| -> Result<bool, ApplyError> {
            Ok(disk.stat(path)?.is_some_and(|meta| retained.matches_except_ctime(&meta)))
        };
    let same = |retained: &RetainedContent| {
        there
            .and_then(|there| there.content)
            .is_some_and(|content| content.digest == retained.content.digest)
    };
    let file_comes = there.is_some_and(|there| there.content.is_some());
    if let Some(retained) = retained.filter(|retained| !same(retained))
        && lies(disk, &retained)?
    {
        if retained.content.put > branch.fork {
            let details = branch.details(&retained.content);
            disk.quarantine
                .take_with_details(path, DIVERGENT_FORMER, &details)
                .map_err(ApplyError::at(path))?;
            store.set_retained(path, None)?;
        } else if !file_comes {
            disk.remove(path, lsn)?;
        }
    }
    if !file_comes {
        store.remove(path)?;
    }
    Ok(None)
}

/// Removes an entry that the tree lacks. Returns the staged name if another path needs its content.
fn remove_entry(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    path: &TreePath,
    content: Option<&FileContent>,
    wanted: &HashMap<Lsn, Digest>,
    stays: bool,
    lsn: Lsn,
) -> Result<Option<StagedName>, ApplyError> {
    let Some(content) = content else {
        check_not_source(store, path)?;
        disk.remove_folder(path, lsn)?;
        store.remove(path)?;
        return Ok(None);
    };
    let is_wanted = wanted.get(&content.put) == Some(&content.digest);
    // Content that another path needs is held, even if this path gets new content.
    if stays && !is_wanted {
        return Ok(None);
    }
    check_not_source(store, path)?;
    let mut held = None;
    let (row, retained) = disk.load_rows(store, path)?;
    if disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())? {
        if is_wanted && row.as_ref().is_some_and(|row| row.here) {
            let name = StagedName::for_put(content.put);
            held = disk.hold(path, &name)?.then_some(name);
        } else if !stays {
            disk.remove(path, lsn)?;
        }
    }
    if !stays || held.is_some() {
        store.remove(path)?;
    }
    Ok(held)
}

/// Creates a folder of the tree.
fn create_folder(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    path: &TreePath,
    entry: &Entry,
    lsn: Lsn,
) -> Result<(), ApplyError> {
    let row = store.row(path)?;
    if row.is_some_and(|row| row.entry.kind == Kind::File) {
        disk.quarantine_unknown(path, None, None)?;
        store.remove(path)?;
    }
    if store.unapplied(path)?.is_some_and(|found| found.removal) {
        remove_leftover(disk, store, path, lsn)?;
        store.remove(path)?;
    }
    disk.ensure_folder_as(path, entry.mode)?;
    let meta = disk.set_attributes(path, &Attributes::mode(entry.mode))?;
    store.clear_unapplied(path)?;
    Ok(store.put_entry(path, entry, meta.as_ref(), &[])?)
}

/// Installs a file of the tree that is new, or has new content or another LSN.
fn install_file(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    path: &TreePath,
    entry: &Entry,
    content: &FileContent,
    held: Option<&StagedName>,
) -> Result<(), ApplyError> {
    let (mut row, mut retained) = disk.load_rows(store, path)?;
    if row.as_ref().is_some_and(|row| row.entry.kind == Kind::Folder) {
        disk.quarantine_unknown(path, None, None)?;
        store.remove(path)?;
        (row, retained) = (None, None);
    }
    if let Some(held) = held {
        disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
        let meta = disk.put(path, entry.mode, held)?;
        return Ok(store.settle_entry(path, entry, Some(&meta))?);
    }
    if let Some(meta) =
        disk.claim_existing(path, content, entry.mode, row.as_ref(), retained.as_ref())?
    {
        return Ok(store.settle_entry(path, entry, Some(&meta))?);
    }
    if store.unapplied_above(path)?.is_some()
        && let Some((parent, _)) = path.split_last()
    {
        disk.ensure_folder(&parent)?;
    }
    let there = disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
    store.clear_unapplied(path)?;
    let former = row.as_ref().and_then(CatalogRow::to_retained).or(retained).filter(|_| there);
    store.put_entry(path, entry, None, &[])?;
    Ok(store.set_retained(path, former.as_ref())?)
}
