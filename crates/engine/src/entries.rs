//! One entry of the tree, with or without its digest.

use relais_proto::{Digest, Endpoint, Entry, ErrorCode, Kind, Lsn, Refusal, TreePath, WaitReason};
use relais_storage::{EntryFacts, refuse};
use relais_tree::Meta;

use crate::content::{self, Located, digest_of};
use crate::context::SessionContext;
use crate::keep_alive::{KeepAlive, keep_waiting};
use crate::session::Session;

/// What a slave knows of a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The entry; the user's root has no name.
    pub entry: Entry,
    /// Digest of a file, if it is known.
    pub digest: Option<Digest>,
    /// Slaves that have the content; this slave has no address.
    pub holders: Vec<Endpoint>,
    /// The latest change that is part of the answer.
    pub lsn: Lsn,
}

/// What a slave knows of several files and folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryList {
    /// The entries in the order of the requested paths, each with its digest, if it is known.
    pub results: Vec<Result<(Entry, Option<Digest>), Refusal>>,
    /// The latest change that is part of the answer.
    pub lsn: Lsn,
}

impl Session {
    /// Returns the file or folder at a path.
    ///
    /// # Errors
    /// Those of the folder and of [`Session::check_ready`].
    pub fn stat(&self, path: &TreePath, keepalive: &mut dyn KeepAlive) -> Result<Details, Refusal> {
        self.check_ready(keepalive)?;
        self.look(path, true)
    }

    /// Returns the files and folders at several paths.
    ///
    /// # Errors
    /// Those of [`Session::check_ready`].
    pub fn stat_many(
        &self,
        paths: &[TreePath],
        keepalive: &mut dyn KeepAlive,
    ) -> Result<EntryList, Refusal> {
        self.check_ready(keepalive)?;
        let lsn = self.context.visible_lsn();
        let mut results = Vec::with_capacity(paths.len());
        for path in paths {
            let details = self.look(path, false);
            results.push(details.map(|details| (details.entry, details.digest)));
            keep_waiting(keepalive, WaitReason::Scanning)?;
        }
        Ok(EntryList { results, lsn })
    }

    fn look(&self, path: &TreePath, with_holders: bool) -> Result<Details, Refusal> {
        let details = self.context.principal.resolve(path).and_then(|path| {
            if let Some(details) = from_tree(&self.context, &path, with_holders)? {
                return Ok(details);
            }
            let folder = &self.context.settings.folder;
            let meta = content::retry_while_moving(&self.context, &path, || folder.stat(&path))?;
            let facts = if path.is_root() {
                EntryFacts::default()
            } else {
                self.context.facts(&path, &meta)?
            };
            from_disk(&self.context, &path, &meta, &facts)
        });
        self.context.visible(details).map(|details| details.seen_as(path))
    }

    /// Returns the file at a path with its digest, which is computed if it is not known.
    ///
    /// # Errors
    /// As [`Self::stat`].
    pub fn hash(
        &self,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Located<Details>, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        let located = context.principal.resolve(path).and_then(|path| {
            if let Some(details) = from_tree(context, &path, true)?
                && details.digest.is_some()
            {
                return Ok(Located::Here(details));
            }
            content::open(context, &path, keepalive)?.and_then(|found| {
                let (mut facts, file) = (found.facts(context, &path)?, found.file);
                facts.digest = Some(digest_of(context, &facts, &path, &file, keepalive)?);
                from_disk(context, &path, &file.meta, &facts)
            })
        });
        context.visible(located)?.and_then(|details| Ok(details.seen_as(path)))
    }
}

impl Details {
    /// Clears the name of the user's root, whose real name the user may not see.
    fn seen_as(mut self, path: &TreePath) -> Self {
        if path.is_root() {
            self.entry.name.clear();
        }
        self
    }
}

/// Returns the tree's entry at a path.
///
/// There is none if the slave is standalone, or if the entry has no change id yet.
fn from_tree(
    context: &SessionContext,
    path: &TreePath,
    with_holders: bool,
) -> Result<Option<Details>, Refusal> {
    if !context.settings.is_cluster_member || path.is_root() {
        return Ok(None);
    }
    let Some((row, mut folders)) = context.with_catalogue(|store| store.at(path))? else {
        // A file that is no part of the tree is not shown. The disk's error tells best why there is
        // nothing.
        context.settings.folder.stat(path).map_err(|e| refuse(path, &e))?;
        return Err(Refusal::at(path, ErrorCode::NotFound, "not published yet"));
    };
    if row.entry.version.is_none() {
        return Ok(None);
    }
    let lsn = context.visible_lsn();
    let mut holders = Vec::new();
    if let Some(put) = row.content.filter(|_| with_holders && row.entry.kind == Kind::File) {
        folders.extend(context.ask_holders(put, &context.principal.owner));
        holders = context.slaves_of(|folder| folders.contains(folder))?;
        if row.here {
            holders.extend(context.as_holder());
        }
    }
    Ok(Some(Details { entry: row.entry, digest: row.digest, holders, lsn }))
}

/// Returns the details of a file or folder as it is on the disk.
fn from_disk(
    context: &SessionContext,
    path: &TreePath,
    meta: &Meta,
    facts: &EntryFacts,
) -> Result<Details, Refusal> {
    let Some(kind) = meta.served_kind() else {
        return Err(Refusal::at(path, ErrorCode::NotServed, "neither a file nor a folder"));
    };
    let file = kind == Kind::File;
    let (mode, mtime) = facts.attributes.unwrap_or((meta.mode.with_owner_access(kind), meta.mtime));
    let entry = Entry {
        name: path.last().unwrap_or_default().to_owned(),
        kind,
        mode,
        size: if file { meta.size } else { 0 },
        mtime: if file { mtime } else { meta.mtime },
        version: facts.version,
    };
    let (holders, lsn) = (context.as_holder(), context.visible_lsn());
    Ok(Details { entry, digest: facts.digest, holders, lsn })
}
