//! Content that has come gets its name: from a session's staged file, or from another slave.

use std::collections::VecDeque;

use log::{error, warn};
use relais_cluster::replica::{Blame, Event};
use relais_cluster::{Content, Entry};
use relais_proto::{ChangeId, TreePath, Version};
use relais_tree::Meta;

use super::disk::Steps;
use super::{Failed, Follower, rolled_back};
use crate::catalogue::{CatalogueError, Store};
use crate::replicator::fetch::Part;
use crate::staging::StagedName;

/// What became of content that was to get its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// It has it, or its place is another's by now.
    Settled,
    /// It was given up meanwhile.
    Unwanted,
    /// It could not be stored.
    Failed,
}

impl Follower {
    /// Takes what was fetched.
    pub(super) fn take_fetched(
        &mut self,
        store: &Store,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogueError> {
        let done = self.fetchers.take();
        let mut whole = Vec::new();
        for fetched in done {
            match fetched.result {
                Ok(part) => whole.push((fetched.put, fetched.from, part)),
                Err(blame) => {
                    if blame == Blame::Here {
                        self.cannot_store = true;
                        store.set_meta(
                            "last-error",
                            "content of other slaves cannot be stored here; the log says why",
                        )?;
                    }
                    events.push_back(Event::Fetched {
                        put: fetched.put,
                        from: fetched.from,
                        result: Err(blame),
                    });
                }
            }
        }
        if whole.is_empty() {
            return Ok(());
        }
        let wanted: Vec<(Version, StagedName)> =
            whole.iter().map(|(put, _, part)| (*put, part.name.clone())).collect();
        let placed = self.place(&wanted, store)?;
        if placed.contains(&Placed::Settled) && std::mem::take(&mut self.cannot_store) {
            store.set_meta("last-error", "")?;
        }
        for ((put, from, Part { name, file }), placed) in whole.into_iter().zip(placed) {
            self.staging.discard(&name);
            // Only now may somebody else begin such a file.
            drop(file);
            let result = if placed == Placed::Settled { Ok(()) } else { Err(Blame::Here) };
            events.push_back(Event::Fetched { put, from, result });
        }
        Ok(())
    }

    /// Gives what is staged for changes the place of the contents of their puts.
    pub(super) fn place_staged(
        &mut self,
        all: &[(ChangeId, Version)],
        store: &Store,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogueError> {
        let mut wanted = Vec::new();
        for (id, put) in all {
            let content = store
                .of_put(*put)?
                .and_then(|(_, row)| row.tree_entry())
                .and_then(|entry| entry.content);
            match content.and_then(|content| self.staged_for(*id, &content)) {
                Some(name) => wanted.push((*id, *put, name)),
                None => {
                    let here = store.of_put(*put)?.is_none_or(|(_, row)| row.here);
                    events.push_back(Event::Placed { id: *id, put: *put, ok: here });
                }
            }
        }
        let names: Vec<(Version, StagedName)> =
            wanted.iter().map(|(_, put, name)| (*put, name.clone())).collect();
        let placed = self.place(&names, store)?;
        for ((id, put, _), placed) in wanted.into_iter().zip(placed) {
            events.push_back(Event::Placed { id, put, ok: placed == Placed::Settled });
        }
        Ok(())
    }

    /// Brings contents to their places, all of them with one wait for the disk.
    fn place(
        &mut self,
        all: &[(Version, StagedName)],
        store: &Store,
    ) -> Result<Vec<Placed>, CatalogueError> {
        let mut steps = Steps::new(&self.root, store, &self.staging, &mut self.aside);
        let (mut results, mut rows) = (Vec::new(), Vec::new());
        for (put, name) in all {
            let Some((path, row)) = store.of_put(*put)? else {
                results.push(Placed::Settled);
                continue;
            };
            let entry = row.tree_entry().and_then(|entry| Some((entry, entry.content?)));
            results.push(match entry {
                _ if row.here => Placed::Settled,
                _ if !self.replica.wants(*put) => Placed::Unwanted,
                None => Placed::Failed,
                Some((entry, content)) => {
                    match place_one(&mut steps, store, &path, (&entry, &content), name) {
                        Ok(meta) => {
                            rows.push((path, entry, meta));
                            Placed::Settled
                        }
                        Err(Failed::Catalogue(e)) => return Err(e),
                        Err(e) => {
                            warn!("content of {path} cannot be stored: {e}");
                            store.set_meta("last-error", e.to_string())?;
                            Placed::Failed
                        }
                    }
                }
            });
        }
        let noted = steps.sync().and_then(|()| Ok(note(store, &rows)?));
        if let Err(e) = noted {
            error!("contents cannot be stored: {e}");
            rolled_back(store);
            steps.take_back();
            return Ok(vec![Placed::Failed; all.len()]);
        }
        self.litter |= steps.settle();
        Ok(results)
    }
}

fn place_one(
    steps: &mut Steps<'_>,
    store: &Store,
    path: &TreePath,
    (entry, content): (&Entry, &Content),
    name: &StagedName,
) -> Result<Meta, Failed> {
    let (row, kept) = steps.rows(store, path)?;
    steps.conform(content, entry.mode, name)?;
    steps.clear(path, row.as_ref(), kept.as_ref())?;
    steps.put(path, content, entry.mode, name)
}

fn note(store: &Store, rows: &[(TreePath, Entry, Meta)]) -> Result<(), CatalogueError> {
    if rows.is_empty() {
        return Ok(());
    }
    store.commit()?;
    store.begin()?;
    for (path, entry, meta) in rows {
        store.keep(path, None)?;
        store.put_entry(path, entry, Some(meta), &[])?;
    }
    store.commit()
}
