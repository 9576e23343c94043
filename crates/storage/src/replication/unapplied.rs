//! Records changes that the disk refuses for a reason that concerns the path. The catalogue gets
//! the entry of the tree, and a record for each path where the disk differs. This module does no
//! disk operations.

use crate::{CatalogError, CatalogRow, CatalogStore, RetainedContent};
use relais_cluster::Entry;
use relais_cluster::replica::{Event, MissingContent, lack_of_entry};
use relais_proto::{FolderId, Kind, Lsn, TreePath};

use super::known_entry::KnownEntry;

/// Returns the event for a content that the disk refuses at a path.
///
/// Content that the catalogue retains for its own entry is on the disk, behind the obstacle.
pub(super) fn refusal(
    store: &CatalogStore,
    put: Lsn,
    path: &TreePath,
) -> Result<Event, CatalogError> {
    let source = store.unapplied(path)?.and_then(|found| found.source);
    let retained = store.retained(source.as_ref().unwrap_or(path))?;
    Ok(match retained.is_some_and(|retained| retained.content.put == put) {
        true => Event::Hidden { put },
        false => Event::Refused { put, retry: false },
    })
}

/// Returns whether an obstacle hides the content of a row, which is on the disk at a path.
fn is_hidden(
    store: &CatalogStore,
    path: &TreePath,
    row: &CatalogRow,
) -> Result<bool, CatalogError> {
    let Some(content) = row.tree_entry().and_then(|entry| entry.content) else { return Ok(false) };
    let own = store.unapplied(path)?.is_some_and(|found| found.source.is_none());
    let retained = store.retained(path)?;
    Ok(own && !row.here && retained.is_some_and(|retained| retained.content.put == content.put))
}

/// Returns why an entry cannot be moved if an obstacle hides content at or below its path.
pub(super) fn hidden_below(
    store: &CatalogStore,
    path: &TreePath,
) -> Result<Option<String>, CatalogError> {
    for found in store.unapplied_at_and_below(path)? {
        if let Some(row) = store.row(&found.path)?
            && is_hidden(store, &found.path, &row)?
        {
            return Ok(Some(found.reason));
        }
    }
    Ok(None)
}

/// Returns the events for contents that the disk refuses.
pub(super) fn refusals(store: &CatalogStore, puts: &[Lsn]) -> Result<Vec<Event>, CatalogError> {
    let mut events = Vec::new();
    for put in puts {
        events.push(match store.row_of_put(*put)? {
            Some((path, _)) => refusal(store, *put, &path)?,
            None => Event::Refused { put: *put, retry: false },
        });
    }
    Ok(events)
}

/// Records an entry of the tree that the disk refuses. The present file stays.
pub(super) fn entry(
    store: &CatalogStore,
    path: &TreePath,
    entry: &Entry,
    holders: &[FolderId],
    reason: &str,
) -> Result<(), CatalogError> {
    let known = KnownEntry::load(store, path)?;
    let is_left =
        entry.content.is_none() && store.unapplied(path)?.is_some_and(|found| found.removal);
    let row = known.row.as_ref().filter(|row| row.entry.version.is_some());
    if entry.content.is_none() && row.is_some_and(|row| row.entry.kind == Kind::Folder) {
        // The disk columns of the folder stay.
        store.set_lsn(path, entry.version)?;
        store.set_mode(path, entry.mode)?;
    } else {
        let replaced = if entry.content.is_some() { Kind::Folder } else { Kind::File };
        if known.is(replaced) {
            store.remove(path)?;
        }
        store.put_entry(path, entry, None, holders)?;
    }
    store.set_retained(path, known.content().as_ref())?;
    if is_left {
        record_leftovers(store, path, entry.version, reason)?;
    }
    store.record_unapplied(path, entry.version, false, reason, None)
}

/// Records leftovers of a removed folder at a path that has a folder again. Each is removed on its
/// own.
pub(super) fn record_leftovers(
    store: &CatalogStore,
    path: &TreePath,
    version: Lsn,
    reason: &str,
) -> Result<(), CatalogError> {
    for (mut at, _) in store.retained_below(path)? {
        while at.is_below(path) && store.row(&at)?.is_none() {
            store.record_unapplied(&at, version, true, reason, None)?;
            let Some((above, _)) = at.split_last() else { break };
            at = above;
        }
    }
    Ok(())
}

/// Records an entry that cannot be removed: it is gone from the tree, and stays on the disk.
pub(super) fn removal(
    store: &CatalogStore,
    path: &TreePath,
    version: Lsn,
    reason: &str,
) -> Result<(), CatalogError> {
    let (files, left) = known_files_at(store, path)?;
    store.remove(path)?;
    for (path, retained) in &files {
        store.set_retained(path, Some(retained))?;
    }
    if left {
        store.record_unapplied(path, version, true, reason, None)?;
    }
    Ok(())
}

/// Records an entry that cannot be moved: the tree has it at `to`, and the disk at `from`.
///
/// Adds its contents to `refused`, and those that were here at their former path to `lost`.
pub(super) fn move_to(
    store: &CatalogStore,
    from: &TreePath,
    to: &TreePath,
    version: Lsn,
    reason: &str,
    refused: &mut Vec<Lsn>,
    lost: &mut Vec<MissingContent>,
) -> Result<(), CatalogError> {
    let (files, left) = known_files_at(store, from)?;
    let over = KnownEntry::load(store, to)?.content();
    let moved = store.at_and_below(from)?;
    let hidden = moved.iter().map(|(path, row)| is_hidden(store, path, row));
    let hidden = hidden.collect::<Result<Vec<_>, _>>()?;
    store.remove(to)?;
    store.relocate_entries(from, to, version)?;
    for ((old, row), is_hidden) in moved.into_iter().zip(hidden) {
        let Some(path) = old.moved(from, to) else { continue };
        let Some(entry) = store.row(&path)?.as_ref().and_then(CatalogRow::tree_entry) else {
            // A local entry without an LSN is found again at its present path.
            store.remove(&path)?;
            continue;
        };
        let is_file_here = row.here && entry.content.is_some();
        let source = (is_file_here || is_hidden).then_some(&old);
        if row.here {
            store.put_entry(&path, &entry, None, &[])?;
            lost.extend(lack_of_entry(&path, &entry));
        }
        refused.extend(entry.content.map(|content| content.put));
        store.record_unapplied(&path, version, false, reason, source)?;
        store.clear_leftover(&path)?;
    }
    for (path, retained) in &files {
        store.set_retained(path, Some(retained))?;
    }
    store.set_retained(to, over.as_ref())?;
    if left {
        store.record_unapplied(from, version, true, reason, None)?;
    }
    Ok(())
}

/// Returns the known contents on the disk at and below a path, and whether anything is there.
fn known_files_at(
    store: &CatalogStore,
    path: &TreePath,
) -> Result<(Vec<(TreePath, RetainedContent)>, bool), CatalogError> {
    let mut files = store.retained_below(path)?;
    let mut left = store.unapplied_at_and_below(path)?.iter().any(|found| found.is_leftover);
    for (path, row) in store.at_and_below(path)? {
        // A folder that was never created here has no inode.
        left |= row.entry.kind == Kind::Folder && row.disk.ino != 0;
        files.extend(row.to_retained().map(|retained| (path, retained)));
    }
    left |= !files.is_empty();
    Ok((files, left))
}
