//! Resync with the master's whole tree, if the log does not reach back far enough. Entries that
//! differ are removed, fetched, or kept for their user.

use std::collections::{HashMap, HashSet};

use crate::{CatalogError, CatalogStore, RetainedContent, StagedName};
use log::{error, info, warn};
use relais_cluster::replica::{DivergentEntry, Event, ReceivedTree, compare};
use relais_cluster::{Entry, FileContent, ReplicaPosition, timeline};
use relais_proto::{Digest, Expect, Lsn, TreePath};

use super::apply_error::ApplyError;
use super::disk_transaction::{DiskTransaction, next};
use super::driver::ReplicaDriver;
use super::known_entry::KnownEntry;
use super::local_changes::DivergentOffer;
use super::unapplied;

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
    ) -> Result<(), CatalogError> {
        info!("resync: comparing with the master's tree of {} entries", listing.entries.len());
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
        let mut disk = self.disk.begin(store, next(listing.lsn))?;
        let mut refused = Vec::new();
        let result = take_over(&mut disk, listing, &branch, &mut refused).and_then(|offered| {
            disk.sync()?;
            self.config.progress.announce(position.applied);
            store.replace_ids(&listing.ids)?;
            store.replace_annotations(&listing.annotations)?;
            store.set_timelines(&listing.timelines)?;
            store.set_position(position)?;
            store.record_break(position.applied)?;
            store.commit()?;
            Ok(offered)
        });
        let offered = match result {
            Ok(offered) => offered,
            Err(e) => {
                disk.roll_back();
                error!("resync failed; retrying: {e}");
                self.events.push_back(Event::AdoptFailed);
                return store.set_last_error(&e.to_string());
            }
        };
        self.litter |= disk.finish();
        self.note_history(store)?;
        self.config.progress.set_applied(position.applied);
        self.local_changes.add_branch(offered);
        self.events.extend(unapplied::refusals(store, &refused)?);
        self.events.push_back(Event::Adopted { missing: store.missing_content()? });
        Ok(())
    }
}

fn take_over(
    disk: &mut DiskTransaction<'_>,
    listing: &ReceivedTree,
    branch: &Branch<'_>,
    refused: &mut Vec<Lsn>,
) -> Result<Vec<DivergentOffer>, ApplyError> {
    let store = disk.store;
    let own = store.committed_entries()?.into_iter();
    let entries: Vec<(TreePath, Entry)> =
        own.filter_map(|(path, row)| Some((path, row.tree_entry()?))).collect();
    let found = compare(entries.iter().map(|(path, entry)| (path, entry)), branch.fork, listing);
    let content_of =
        |(_, entry): &(TreePath, Entry)| Some((entry.content?.put, entry.content?.digest));
    let wanted: HashSet<(Lsn, Digest)> = found.come.iter().filter_map(content_of).collect();
    let coming: HashMap<&TreePath, &Entry> =
        found.come.iter().map(|(path, entry)| (path, entry)).collect();
    let mut offered = Vec::new();
    for stray in &found.strays {
        let there = coming.get(&stray.path).copied();
        let path = &stray.path;
        let taken = disk.attempt(path, |disk| handle_divergent(disk, stray, there, branch))?;
        match taken {
            Ok(offer) => offered.extend(offer),
            // The file blocks the entry of the tree, which is then recorded as unapplied.
            Err(reason) => {
                warn!("cannot quarantine {path}: {reason}");
                store.remove(path)?;
            }
        }
    }
    let edits = offered.iter().filter(|offer| offer.edit.is_some());
    let edited: HashSet<TreePath> = edits.map(|offer| offer.path.clone()).collect();
    let mut held = HashMap::new();
    for (path, entry) in &found.gone {
        let stays = coming.get(path).is_some_and(|there| there.content.is_some());
        let gone = disk.attempt(path, |disk| {
            remove_entry(disk, path, entry.content.as_ref(), &wanted, stays)
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
        let is_held = entry.content.is_some_and(|content| held.contains_key(&content.put));
        if !is_held && !edited.contains(path) && disk.record_new_file(path, entry)? {
            continue;
        }
        let came = disk.attempt(path, |disk| match entry.content {
            None => disk.add_folder(path, entry),
            // The file of the branch stays until its proposal is decided.
            Some(_) if edited.contains(path) => {
                disk.check_not_source(path)?;
                store.put_entry(path, entry, None, &[])?;
                Ok(store.set_retained(path, None)?)
            }
            Some(content) => install_file(disk, path, entry, held.get(&content.put)),
        })?;
        if let Err(reason) = came {
            warn!("cannot install {path} here: {reason}; it is retried");
            refused.extend(entry.content.map(|content| content.put));
            unapplied::entry(store, path, entry, &[], &reason)?;
        }
    }
    Ok(offered)
}

/// Proposes an entry of a branch as a new change, or quarantines it.
fn handle_divergent(
    disk: &mut DiskTransaction<'_>,
    stray: &DivergentEntry,
    there: Option<&Entry>,
    branch: &Branch<'_>,
) -> Result<Option<DivergentOffer>, ApplyError> {
    let (store, path) = (disk.store, &stray.path);
    let KnownEntry { row, retained } = disk.load(path)?;
    let Some(content) = stray.entry.content else {
        store.clear_lsn(path)?;
        return Ok(None);
    };
    let details = branch.details(&content);
    let offer = |edit| DivergentOffer { path: path.clone(), edit, details: details.clone() };
    match (stray.expect, row.filter(|row| row.here)) {
        (Some(Expect::Absent), Some(_)) => {
            store.clear_lsn(path)?;
            return Ok(Some(offer(None)));
        }
        (Some(Expect::Lsn(base)), Some(row)) => {
            if disk.stat(path)?.is_some_and(|meta| row.matches_except_ctime(&meta)) {
                return Ok(Some(offer(Some((row, base)))));
            }
        }
        (_, Some(_)) => {
            disk.quarantine(path, DIVERGENT, &details)?;
            store.remove(path)?;
            return Ok(None);
        }
        // Other slaves of the branch have the content, and propose it.
        (_, None) => {}
    }
    let coming = there.and_then(|there| there.content);
    let is_coming = |retained: &RetainedContent| {
        coming.is_some_and(|content| content.digest == retained.content.digest)
    };
    if let Some(retained) = retained.filter(|retained| !is_coming(retained))
        && disk.stat(path)?.is_some_and(|meta| retained.matches_except_ctime(&meta))
    {
        if retained.content.put > branch.fork {
            let details = branch.details(&retained.content);
            disk.quarantine(path, DIVERGENT_FORMER, &details)?;
            store.set_retained(path, None)?;
        } else if coming.is_none() {
            disk.remove(path)?;
        }
    }
    if coming.is_none() {
        store.remove(path)?;
    }
    Ok(None)
}

/// Removes an entry that the tree lacks. Returns the staged name if another path needs its content.
fn remove_entry(
    disk: &mut DiskTransaction<'_>,
    path: &TreePath,
    content: Option<&FileContent>,
    wanted: &HashSet<(Lsn, Digest)>,
    stays: bool,
) -> Result<Option<StagedName>, ApplyError> {
    let Some(content) = content else {
        disk.check_not_source(path)?;
        disk.remove_folder(path)?;
        disk.store.remove(path)?;
        return Ok(None);
    };
    let is_wanted = wanted.contains(&(content.put, content.digest));
    // Content that another path needs is held, even if this path gets new content.
    if stays && !is_wanted {
        return Ok(None);
    }
    disk.check_not_source(path)?;
    let mut held = None;
    let known = disk.load(path)?;
    if disk.quarantine_unknown(path, &known)? {
        if is_wanted && known.is_here() {
            let name = StagedName::for_put(content.put);
            held = disk.hold(path, &name)?.then_some(name);
        } else if !stays {
            disk.remove(path)?;
        }
    }
    if !stays || held.is_some() {
        disk.store.remove(path)?;
    }
    Ok(held)
}

/// Installs a file of the tree that is new, or has new content or another LSN.
fn install_file(
    disk: &mut DiskTransaction<'_>,
    path: &TreePath,
    entry: &Entry,
    held: Option<&StagedName>,
) -> Result<(), ApplyError> {
    disk.check_not_source(path)?;
    let known = disk.load_for_file(path)?;
    if let Some(held) = held {
        disk.quarantine_unknown(path, &known)?;
        return disk.publish(path, entry, held, &known);
    }
    if disk.adopt_existing(path, entry, &known)? {
        return Ok(());
    }
    disk.ensure_unblocked(path)?;
    disk.await_content(path, entry, &[], &known)
}
