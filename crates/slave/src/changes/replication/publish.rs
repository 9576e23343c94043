//! Content that has come gets its name: from a session's staged file, or from another slave.

use std::collections::VecDeque;

use log::{error, warn};
use relais_cluster::replica::{Blame, Event};
use relais_cluster::{Content, Entry};
use relais_proto::{ChangeId, Lsn, TreePath};
use relais_tree::Meta;

use super::apply_batch::check_free;
use super::disk_transaction::DiskTransaction;
use super::{ApplyError, ReplicaDriver, rolled_back};
use crate::catalogue::{CatalogError, CatalogStore};
use crate::replicator::fetch::FetchedFile;
use crate::staging::StagedName;

/// What became of content that was to get its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishResult {
    /// It has it, or its place is another's by now.
    Settled,
    /// It was given up meanwhile.
    Unwanted,
    /// It could not be stored.
    Failed,
    /// The path refuses it.
    Refused,
}

impl ReplicaDriver {
    /// Takes what was fetched.
    pub(super) fn take_fetched(
        &mut self,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
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
        if placed.contains(&PublishResult::Settled) && std::mem::take(&mut self.cannot_store) {
            store.set_meta("last-error", "")?;
        }
        for ((put, from, FetchedFile { name, file }), placed) in whole.into_iter().zip(placed) {
            if placed == PublishResult::Refused {
                self.retries.park(put, name);
                events.push_back(Event::Refused { put, retry: false });
            } else {
                self.staging.discard(&name);
            }
            // Only now may somebody else begin such a file.
            drop(file);
            let result = if placed == PublishResult::Settled { Ok(()) } else { Err(Blame::Here) };
            events.push_back(Event::Fetched { put, from, result });
        }
        Ok(())
    }

    fn is_pending(&self, put: Lsn, store: &CatalogStore) -> Result<bool, CatalogError> {
        Ok(store.of_put(put)?.is_some_and(|(path, _)| self.finds.is_pending(&path)))
    }

    /// Gives what is staged for changes the place of the contents of their puts.
    pub(super) fn place_staged(
        &mut self,
        all: &[(ChangeId, Lsn)],
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
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
            events.push_back(Event::Placed { id, put, ok: placed == PublishResult::Settled });
        }
        Ok(())
    }

    /// Brings contents to their places, all of them with one wait for the disk.
    fn place(
        &mut self,
        all: &[(Lsn, StagedName)],
        store: &CatalogStore,
    ) -> Result<Vec<PublishResult>, CatalogError> {
        store.commit()?;
        store.begin()?;
        let mut steps = DiskTransaction::new(&self.root, store, &self.staging, &mut self.aside);
        let (mut results, mut rows, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (put, name) in all {
            let Some((path, row)) = store.of_put(*put)? else {
                results.push(PublishResult::Settled);
                continue;
            };
            let entry = row.tree_entry().and_then(|entry| Some((entry, entry.content?)));
            results.push(match entry {
                _ if row.here => PublishResult::Settled,
                _ if !self.replica.wants(*put) => PublishResult::Unwanted,
                None => PublishResult::Failed,
                Some((entry, content)) => {
                    let placed = steps.attempt(store, &path, |steps| {
                        place_one(steps, store, &path, (&entry, &content), name)
                    });
                    match placed {
                        Ok(Ok(meta)) => {
                            rows.push((path, entry, meta));
                            PublishResult::Settled
                        }
                        Ok(Err(why)) => {
                            warn!("content of {path} cannot be stored: {why}; it is tried again");
                            refused.push((path, *put, why));
                            PublishResult::Refused
                        }
                        Err(ApplyError::Catalogue(e)) => return Err(e),
                        Err(e) => {
                            warn!("content of {path} cannot be stored: {e}");
                            store.set_meta("last-error", e.to_string())?;
                            PublishResult::Failed
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
                return Ok(vec![PublishResult::Failed; all.len()]);
            };
            refused = vec![(path.clone(), put, e.reason(path))];
            results = vec![PublishResult::Refused];
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
    steps: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    path: &TreePath,
    (entry, content): (&Entry, &Content),
    name: &StagedName,
) -> Result<Meta, ApplyError> {
    check_free(store, path)?;
    let (row, kept) = steps.rows(store, path)?;
    steps.conform(content, entry.mode, name)?;
    steps.clear(path, row.as_ref(), kept.as_ref())?;
    steps.put(path, content, entry.mode, name)
}

fn note(store: &CatalogStore, rows: &[(TreePath, Entry, Meta)]) -> Result<(), CatalogError> {
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
