//! Noting in the catalogue what was done to the folder.

use relais_proto::{Change, Kind, LogEntry, Lsn, TreePath};
use relais_storage::{AppliedEntry, CatalogError, CatalogStore, Commit};

use super::apply::Applied;

/// Writes what was made into the catalogue, and up to which change the folder has all. What was not made has a withdrawal instead.
///
/// # Errors
/// Those of the database; what was begun is not taken back.
pub fn note(
    store: &CatalogStore,
    made: &[(&LogEntry, Option<&Applied>)],
    withdrawn: &[LogEntry],
    last: Option<Lsn>,
) -> Result<(), CatalogError> {
    store.begin()?;
    for (numbered, applied) in made {
        let LogEntry { id, version, change, .. } = numbered;
        if let Some(applied) = applied {
            record_change(store, change, *version, applied)?;
            store.record_change(*id, Commit::from(*numbered))?;
        }
    }
    for numbered in withdrawn {
        let Change::Withdraw { of } = &numbered.change else { continue };
        for path in made
            .iter()
            .filter(|(made, _)| made.version == *of)
            .flat_map(|(made, _)| paths(&made.change))
        {
            store.set_lsn(path, numbered.version)?;
        }
    }
    if let Some(last) = withdrawn.last().map(|numbered| numbered.version).or(last) {
        store.set_applied(last)?;
    }
    store.commit()
}

/// The paths that a change is about.
#[must_use]
pub fn paths(change: &Change) -> Vec<&TreePath> {
    match change {
        Change::Put { path, .. }
        | Change::MakeFolder { path, .. }
        | Change::Remove { path, .. }
        | Change::SetMode { path, .. } => vec![path],
        Change::Move { from, to } => vec![from, to],
        Change::Withdraw { .. } => Vec::new(),
    }
}

/// Writes one change into the catalogue.
///
/// # Errors
/// Those of the database.
pub fn record_change(
    store: &CatalogStore,
    change: &Change,
    version: Lsn,
    applied: &Applied,
) -> Result<(), CatalogError> {
    match (change, &applied.meta) {
        (Change::Put { path, digest, .. }, Some(meta)) => {
            // Nobody but us has written it: the digest was computed on the way in, and its time is the client's.
            store.put_committed(
                path,
                &AppliedEntry {
                    kind: Kind::File,
                    meta,
                    version,
                    content: Some(version),
                    digest: Some(*digest),
                },
            )
        }
        (Change::MakeFolder { path, .. }, Some(meta)) => store.put_committed(
            path,
            &AppliedEntry { kind: Kind::Folder, meta, version, content: None, digest: None },
        ),
        (Change::SetMode { path, mode }, Some(meta)) => {
            store.set_lsn(path, version)?;
            store.set_mode(path, *mode)?;
            store.update_disk_meta(path, meta)
        }
        (Change::Remove { path, .. }, _) => store.remove(path),
        (Change::Move { from, to }, Some(_)) if from == to => store.set_lsn(to, version),
        (Change::Move { from, to }, Some(meta)) => {
            store.remove(to)?;
            store.move_committed(from, to, version, meta)
        }
        _ => Ok(()),
    }
}
