//! Content that has come gets its name: from a session's staged file, or from another slave.

use std::collections::VecDeque;

use log::{error, warn};
use relais_cluster::replica::{Blame, Event};
use relais_cluster::{Content, Entry};
use relais_proto::{ChangeId, Lsn, TreePath};
use relais_tree::Meta;

use super::carry::check_free;
use super::disk::Steps;
use super::{Failed, Follower, rolled_back};
use crate::catalogue::{CatalogueError, Store};
use crate::replicator::fetch::FetchedFile;
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
    /// The path refuses it.
    Refused,
}

impl Follower {
    /// Takes what was fetched.
    pub(super) fn take_fetched(
        &mut self,
        store: &Store,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogueError> {
        let done = self.fetch_pool.take();
        let mut whole = Vec::new();
        for fetched in done {
            match fetched.result {
                // What a branch has there is decided first.
                Ok(part) if self.is_pending(fetched.put, store)? => {
                    self.staging.discard(&part.name);
                    events.push_back(Event::Fetched {
                        put: fetched.put,
                        from: fetched.from,
                        result: Err(Blame::Here),
                    });
                }
                Ok(part) => whole.push((fetched.put, fetched.from, part)),
                Err(failure) => {
                    let blame = failure.blame;
                    let path = store.of_put(fetched.put)?.map(|(path, _)| path);
                    if let (Some(why), Some(path)) = (failure.lasting, path) {
                        store.begin()?;
                        store.note_unapplied(&path, fetched.put, false, &why, None)?;
                        store.commit()?;
                        events.push_back(Event::Refused { put: fetched.put, retry: false });
                    } else if blame == Blame::Here {
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
        let wanted: Vec<(Lsn, StagedName)> =
            whole.iter().map(|(put, _, part)| (*put, part.name.clone())).collect();
        let placed = self.place(&wanted, store)?;
        if placed.contains(&Placed::Settled) && std::mem::take(&mut self.cannot_store) {
            store.set_meta("last-error", "")?;
        }
        for ((put, from, FetchedFile { name, file }), placed) in whole.into_iter().zip(placed) {
            if placed == Placed::Refused {
                self.retries.park(put, name);
                events.push_back(Event::Refused { put, retry: false });
            } else {
                self.staging.discard(&name);
            }
            // Only now may somebody else begin such a file.
            drop(file);
            let result = if placed == Placed::Settled { Ok(()) } else { Err(Blame::Here) };
            events.push_back(Event::Fetched { put, from, result });
        }
        Ok(())
    }

    fn is_pending(&self, put: Lsn, store: &Store) -> Result<bool, CatalogueError> {
        Ok(store.of_put(put)?.is_some_and(|(path, _)| self.finds.is_pending(&path)))
    }

    /// Gives what is staged for changes the place of the contents of their puts.
    pub(super) fn place_staged(
        &mut self,
        all: &[(ChangeId, Lsn)],
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
        let names: Vec<(Lsn, StagedName)> =
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
        all: &[(Lsn, StagedName)],
        store: &Store,
    ) -> Result<Vec<Placed>, CatalogueError> {
        store.commit()?;
        store.begin()?;
        let mut steps = Steps::new(&self.root, store, &self.staging, &mut self.aside);
        let (mut results, mut rows, mut refused) = (Vec::new(), Vec::new(), Vec::new());
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
                    let placed = steps.attempt(store, &path, |steps| {
                        place_one(steps, store, &path, (&entry, &content), name)
                    });
                    match placed {
                        Ok(Ok(meta)) => {
                            rows.push((path, entry, meta));
                            Placed::Settled
                        }
                        Ok(Err(why)) => {
                            warn!("content of {path} cannot be stored: {why}; it is tried again");
                            refused.push((path, *put, why));
                            Placed::Refused
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
            rolled_back(store);
            steps.take_back();
            // Which of them it is shows only on its own.
            if let [one, rest @ ..] = all
                && !rest.is_empty()
            {
                let mut placed = self.place(std::slice::from_ref(one), store)?;
                placed.extend(self.place(rest, store)?);
                return Ok(placed);
            }
            error!("contents cannot be stored: {e}");
            let Some((path, put)) = rows.first().and_then(|(path, entry, _)| {
                Some((path, entry.content?.put)).filter(|_| e.lies_in_path())
            }) else {
                return Ok(vec![Placed::Failed; all.len()]);
            };
            refused = vec![(path.clone(), put, e.reason(path))];
            results = vec![Placed::Refused];
            store.begin()?;
        } else {
            self.litter |= steps.settle();
        }
        for (path, put, why) in &refused {
            store.note_unapplied(path, *put, false, why, None)?;
        }
        store.commit()?;
        Ok(results)
    }
}

/// Gives content its name; what lies there before is kept by the catalogue, or set aside.
pub(super) fn place_one(
    steps: &mut Steps<'_>,
    store: &Store,
    path: &TreePath,
    (entry, content): (&Entry, &Content),
    name: &StagedName,
) -> Result<Meta, Failed> {
    check_free(store, path)?;
    let (row, kept) = steps.rows(store, path)?;
    steps.conform(content, entry.mode, name)?;
    steps.clear(path, row.as_ref(), kept.as_ref())?;
    steps.put(path, content, entry.mode, name)
}

fn note(store: &Store, rows: &[(TreePath, Entry, Meta)]) -> Result<(), CatalogueError> {
    if rows.is_empty() {
        return Ok(());
    }
    for (path, entry, meta) in rows {
        store.note_in_place(path)?;
        store.keep(path, None)?;
        store.put_entry(path, entry, Some(meta), &[])?;
    }
    store.commit()?;
    store.begin()
}
