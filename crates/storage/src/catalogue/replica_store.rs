//! Catalogue data that only a slave of a cluster has. These are committed entries with or without
//! their content, retained content, and the replica position.

use relais_cluster::replica::MissingContent;
use relais_cluster::{Entry, FileContent, HistoryHash, ReplicaPosition};
use relais_proto::{
    ChangeId, ClusterId, Digest, FileTime, FolderId, Kind, Lsn, PeerSlave, Scrub, Timeline,
    TreePath,
};
use relais_tree::Meta;
use rusqlite::{OptionalExtension, Row, params};

use super::CatalogError;
use super::database::{COLUMNS, CatalogRow, failed, read_row};
use super::reader::{meta, scrub_text};
use super::store::CatalogStore;
use crate::proposal::Commit;

/// Former content that stays at a path until the new content arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct RetainedContent {
    pub content: FileContent,
    /// Change time of the inode.
    pub ctime: FileTime,
    /// Modification time on the disk.
    pub mtime: FileTime,
    /// Device of the file.
    pub dev: u64,
    /// Inode of the file.
    pub ino: u64,
}

impl RetainedContent {
    /// Returns whether `meta` is of this file, unchanged.
    #[must_use]
    pub fn matches(&self, meta: &Meta) -> bool {
        self.matches_except_ctime(meta) && self.ctime == meta.ctime
    }

    /// Returns whether `meta` is of this file, also after a rename. Its content may have changed.
    #[must_use]
    pub fn matches_except_ctime(&self, meta: &Meta) -> bool {
        (self.dev, self.ino) == (meta.dev, meta.ino)
            && meta.served_kind() == Some(Kind::File)
            && (self.content.size, self.mtime) == (meta.size, meta.mtime)
    }
}

impl CatalogRow {
    /// Returns the row as an entry of the tree; `None` if it was never committed.
    #[must_use]
    pub fn tree_entry(&self) -> Option<Entry> {
        let version = self.entry.version?;
        let content = match self.entry.kind {
            Kind::Folder => None,
            Kind::File => Some(FileContent {
                put: self.content?,
                digest: self.digest?,
                size: self.entry.size,
                mtime: self.entry.mtime,
            }),
        };
        Some(Entry { version, mode: self.entry.mode, content })
    }

    /// Returns the content as retained content, if it is on this disk.
    #[must_use]
    pub fn to_retained(&self) -> Option<RetainedContent> {
        let content = self.tree_entry()?.content.filter(|_| self.here)?;
        Some(RetainedContent {
            content,
            ctime: self.ctime,
            mtime: self.on_disk.mtime,
            dev: self.dev,
            ino: self.ino,
        })
    }
}

fn path_of(folder: &str, name: &str) -> Option<TreePath> {
    TreePath::new(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }).ok()
}

/// Reads a row and its path; the folder follows [`COLUMNS`].
fn read_placed(row: &Row<'_>) -> rusqlite::Result<Option<(TreePath, CatalogRow)>> {
    let (folder, stored): (String, _) = (row.get(19)?, read_row(row)?);
    Ok(path_of(&folder, &stored.entry.name).map(|path| (path, stored)))
}

impl CatalogStore {
    fn rows(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<(TreePath, CatalogRow)>, CatalogError> {
        let read = || {
            let mut statement = self.database.prepare_cached(&format!(
                "SELECT {COLUMNS}, folder FROM entry WHERE {condition}"
            ))?;
            statement.query_map(values, read_placed)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        Ok(read().map_err(failed(&self.file))?.into_iter().flatten().collect())
    }

    /// Returns all committed entries, ordered by path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn committed_entries(&self) -> Result<Vec<(TreePath, CatalogRow)>, CatalogError> {
        let mut rows = self.rows("epoch IS NOT NULL", [])?;
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(rows)
    }

    /// Returns all rows below a path, ordered by path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn below(&self, path: &TreePath) -> Result<Vec<(TreePath, CatalogRow)>, CatalogError> {
        let mut rows = self
            .rows("folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')", [path.as_str()])?;
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(rows)
    }

    /// Returns the path and row whose content a put stored.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn row_of_put(&self, put: Lsn) -> Result<Option<(TreePath, CatalogRow)>, CatalogError> {
        let rows = self.rows(
            "content_epoch = ? AND content_number = ? LIMIT 1",
            params![put.epoch, put.number.cast_signed()],
        )?;
        Ok(rows.into_iter().next())
    }

    /// Returns uncommitted entries after a path: folders, and files with a digest. A folder comes
    /// before its entries.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn uncommitted(
        &self,
        after: &TreePath,
        most: u32,
    ) -> Result<Vec<(TreePath, CatalogRow)>, CatalogError> {
        let (folder, name) = after
            .split_last()
            .map_or((String::new(), ""), |(folder, name)| (folder.as_str().to_owned(), name));
        self.rows(
            "epoch IS NULL AND (kind = 1 OR digest IS NOT NULL) AND (folder, name) > (?, ?)
             ORDER BY folder, name LIMIT ?",
            params![folder, name, most],
        )
    }

    /// Returns the contents that are not on this disk.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn missing_content(&self) -> Result<Vec<MissingContent>, CatalogError> {
        let rows = self.rows("here = 0", [])?;
        Ok(rows.iter().filter_map(|(path, row)| missing_content_of(path, row)).collect())
    }

    /// Writes an entry of the tree. `meta` describes the file on the disk; without it the content
    /// is missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn put_entry(
        &self,
        path: &TreePath,
        entry: &Entry,
        meta: Option<&Meta>,
        holders: &[FolderId],
    ) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        self.remove_row(folder.as_str(), name)?;
        let content = entry.content;
        let here = meta.is_some() || content.is_none();
        let mtime = content
            .map(|content| content.mtime)
            .or(meta.map(|meta| meta.mtime))
            .unwrap_or_default();
        let holders: Vec<u8> = holders.iter().flat_map(|folder| folder.0).collect();
        self.run(
            "INSERT INTO entry (folder, name, kind, mode, size, mtime_s, mtime_ns, ctime_s,
             ctime_ns, disk_mode, disk_mtime_s, disk_mtime_ns,
                 dev, ino, found, digest, epoch, number, content_epoch, content_number, here,
                 holders)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                folder.as_str(),
                name,
                i64::from(content.is_none()),
                entry.mode.bits(),
                content.map_or(0, |content| content.size.cast_signed()),
                mtime.seconds,
                mtime.nanos,
                meta.map_or(0, |meta| meta.ctime.seconds),
                meta.map_or(0, |meta| meta.ctime.nanos),
                meta.map_or(0, |meta| meta.mode.bits()),
                meta.map_or(0, |meta| meta.mtime.seconds),
                meta.map_or(0, |meta| meta.mtime.nanos),
                meta.map_or(0, |meta| meta.dev.cast_signed()),
                meta.map_or(0, |meta| meta.ino.cast_signed()),
                crate::clock::monotonic_ms().cast_signed(),
                content.map(|content| content.digest.0),
                entry.version.epoch,
                entry.version.number.cast_signed(),
                content.map(|content| content.put.epoch),
                content.map(|content| content.put.number.cast_signed()),
                here,
                (!here).then_some(holders),
            ],
        )
        .map(drop)
    }

    /// Clears the LSNs of an entry, which is then like a newly found one.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn clear_lsn(&self, path: &TreePath) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let unset = "epoch = NULL, number = NULL, content_epoch = NULL, content_number = NULL";
        self.run(
            &format!("UPDATE entry SET {unset} WHERE folder = ? AND name = ?"),
            [folder.as_str(), name],
        )
        .map(drop)
    }

    /// Marks the missing content of an entry as damaged. The mark goes with the row.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn mark_damaged(&self, path: &TreePath) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE entry SET damaged = 1 WHERE folder = ? AND name = ? AND here = 0",
            [folder.as_str(), name],
        )
        .map(drop)
    }

    /// Records the holders of a missing content.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_holders(&self, put: Lsn, holders: &[FolderId]) -> Result<(), CatalogError> {
        let holders: Vec<u8> = holders.iter().flat_map(|folder| folder.0).collect();
        let values = params![holders, put.epoch, put.number.cast_signed()];
        self.run(
            "UPDATE entry SET holders = ? WHERE content_epoch = ? AND content_number = ?
                  AND here = 0",
            values,
        )
        .map(drop)
    }

    /// Moves the rows at and below `from` to `to`, where no row is. Committed rows get the LSN of
    /// the move.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn relocate(
        &self,
        from: &TreePath,
        to: &TreePath,
        version: Lsn,
    ) -> Result<(), CatalogError> {
        self.relocate_entries(from, to, version)?;
        self.relocate_tables(&["skipped", "kept"], from, to)
    }

    /// Same as [`Self::relocate`], but retained content and skipped names stay at the old path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn relocate_entries(
        &self,
        from: &TreePath,
        to: &TreePath,
        version: Lsn,
    ) -> Result<(), CatalogError> {
        let (Some((old_folder, old_name)), Some((folder, name))) =
            (from.split_last(), to.split_last())
        else {
            return Ok(());
        };
        self.unskip(folder.as_str(), name.as_bytes())?;
        let (epoch, number) = (version.epoch, version.number.cast_signed());
        let lsn_columns =
            "epoch = iif(epoch IS NULL, NULL, ?3), number = iif(epoch IS NULL, NULL, ?4)";
        self.run(
            &format!(
                "UPDATE entry SET folder = ?1, name = ?2, {lsn_columns} WHERE folder = ?5
                      AND name = ?6"
            ),
            params![folder.as_str(), name, epoch, number, old_folder.as_str(), old_name],
        )?;
        let moved = "folder = ?2 || substr(folder, length(?1) + 1)";
        let below = "WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')";
        self.run(
            &format!("UPDATE entry SET {moved}, {lsn_columns} {below}"),
            params![from.as_str(), to.as_str(), epoch, number],
        )?;
        self.relocate_tables(&["unapplied"], from, to)?;
        // The disk may accept at the new path what it refused at the old one.
        self.run(
            "UPDATE unapplied SET due = 0 WHERE folder = ?1
             OR (folder > ?1 || '/' AND folder < ?1 || '0') OR folder = ?2 AND name = ?3",
            params![to.as_str(), folder.as_str(), name],
        )
        .map(drop)
    }

    fn relocate_tables(
        &self,
        tables: &[&str],
        from: &TreePath,
        to: &TreePath,
    ) -> Result<(), CatalogError> {
        let (Some((old_folder, old_name)), Some((folder, name))) =
            (from.split_last(), to.split_last())
        else {
            return Ok(());
        };
        for table in tables {
            let below = format!(
                "UPDATE {table} SET folder = ?2 || substr(folder, length(?1) + 1)
                 WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')"
            );
            self.run(&below, [from.as_str(), to.as_str()])?;
            let names = [folder.as_str(), name, old_folder.as_str(), old_name];
            let at =
                format!("UPDATE {table} SET folder = ?, name = ? WHERE folder = ? AND name = ?");
            // A skipped name has no entry that could be moved.
            if *table != "skipped" {
                self.run(&at, names)?;
            }
        }
        Ok(())
    }

    /// Returns the retained content of a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn retained(&self, path: &TreePath) -> Result<Option<RetainedContent>, CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(None) };
        let ask = || {
            let select = "SELECT epoch, number, digest, size, mtime_s, mtime_ns, ctime_s, ctime_ns,
                          disk_mtime_s, disk_mtime_ns, dev, ino
                 FROM kept WHERE folder = ? AND name = ?";
            self.database
                .prepare_cached(select)?
                .query_row([folder.as_str(), name], read_retained)
                .optional()
        };
        ask().map_err(failed(&self.file))
    }

    /// Sets or clears the retained content of a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_retained(
        &self,
        path: &TreePath,
        retained: Option<&RetainedContent>,
    ) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let Some(RetainedContent { content, ctime, mtime, dev, ino }) = retained else {
            return self
                .run("DELETE FROM kept WHERE folder = ? AND name = ?", [folder.as_str(), name])
                .map(drop);
        };
        self.run(
            "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                folder.as_str(),
                name,
                content.put.epoch,
                content.put.number.cast_signed(),
                content.digest.0,
                content.size.cast_signed(),
                content.mtime.seconds,
                content.mtime.nanos,
                ctime.seconds,
                ctime.nanos,
                mtime.seconds,
                mtime.nanos,
                dev.cast_signed(),
                ino.cast_signed(),
            ],
        )
        .map(drop)
    }

    /// Returns the position of the replica.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn position(&self) -> Result<ReplicaPosition, CatalogError> {
        let applied = self.applied()?.unwrap_or_default();
        let chain = meta::<[u8; 32]>(&self.database, "chain").map_err(failed(&self.file))?;
        let epoch = meta::<u32>(&self.database, "epoch").map_err(failed(&self.file))?;
        Ok(ReplicaPosition {
            applied,
            chain: HistoryHash(chain.unwrap_or_default()),
            epoch: epoch.unwrap_or_default().max(applied.epoch),
        })
    }

    /// Records the position of the replica. The epoch never decreases.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_position(&self, position: &ReplicaPosition) -> Result<(), CatalogError> {
        self.set_applied(position.applied)?;
        self.set_meta("chain", position.chain.0)?;
        self.raise_epoch(position.epoch)
    }

    /// Raises the highest known epoch.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn raise_epoch(&self, epoch: u32) -> Result<(), CatalogError> {
        self.run(
            "INSERT INTO meta VALUES ('epoch', ?) ON CONFLICT (what)
                  DO UPDATE SET value = max(value, excluded.value)",
            [epoch],
        )
        .map(drop)
    }

    /// Returns the timelines of the folder's history, oldest first.
    ///
    /// # Errors
    /// Returns database errors, or an error for a malformed list.
    pub fn timelines(&self) -> Result<Vec<Timeline>, CatalogError> {
        let text: Option<String> = meta(&self.database, "timelines").map_err(failed(&self.file))?;
        let parse = |timeline: &str| {
            let (after, id) = timeline.split_once(':')?;
            let (epoch, number) = after.split_once('-')?;
            let after = Lsn { epoch: epoch.parse().ok()?, number: number.parse().ok()? };
            let id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
            Some(Timeline { after, id })
        };
        let timelines: Option<Vec<Timeline>> =
            text.unwrap_or_default().split_whitespace().map(parse).collect();
        timelines.ok_or_else(|| CatalogError::Damaged {
            file: self.file.display().to_string(),
            what: "the list of timelines".to_owned(),
        })
    }

    /// Records the timelines of the folder's history.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_timelines(&self, timelines: &[Timeline]) -> Result<(), CatalogError> {
        let one = |timeline: &Timeline| {
            format!("{}:{:032x}", timeline.after, u128::from_be_bytes(timeline.id))
        };
        self.set_meta("timelines", timelines.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    /// Returns which server numbered the changes of the catalogue, if that is known.
    ///
    /// # Errors
    /// Those of the database.
    pub fn history(&self) -> Result<Option<History>, CatalogError> {
        let text: Option<String> = meta(&self.database, "history").map_err(failed(&self.file))?;
        Ok(text.and_then(|text| History::parse(&text)))
    }

    /// Notes which server numbers the changes of the catalogue.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_history(&self, history: History) -> Result<(), CatalogError> {
        self.set_meta("history", history.to_string())
    }

    /// Forgets all change numbers, because they mean nothing in the cluster that the slave joins.
    ///
    /// Names, contents and digests stay. The files count as local files, so the slave compares
    /// them with the tree: equal content is adopted, new files are proposed, and files that differ
    /// are quarantined.
    ///
    /// # Errors
    /// Those of the database.
    pub fn forget_history(&self) -> Result<(), CatalogError> {
        self.commit()?;
        let forget = "BEGIN;
            DELETE FROM entry WHERE here = 0;
            UPDATE entry SET epoch = NULL, number = NULL, content_epoch = NULL, content_number = NULL, holders = NULL;
            DELETE FROM kept; DELETE FROM unapplied; DELETE FROM change; DELETE FROM peer;
            DELETE FROM meta WHERE what IN ('applied-epoch', 'applied-number', 'chain', 'epoch', 'timelines', 'fit', 'history');
            COMMIT;";
        self.database.execute_batch(forget).map_err(failed(&self.file))
    }

    /// Returns all committed changes by id.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn ids(&self) -> Result<Vec<(ChangeId, Lsn)>, CatalogError> {
        let read = || {
            let mut statement =
                self.database.prepare_cached("SELECT id, epoch, number FROM change")?;
            let rows = statement.query_map([], |row| {
                Ok((
                    ChangeId(row.get(0)?),
                    Lsn { epoch: row.get(1)?, number: row.get::<_, i64>(2)?.cast_unsigned() },
                ))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(failed(&self.file))
    }

    /// Returns all committed changes by id, with the digests of their puts.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commits(&self) -> Result<Vec<(ChangeId, Commit)>, CatalogError> {
        let read = || {
            let mut statement =
                self.database.prepare_cached("SELECT id, epoch, number, digest FROM change")?;
            let rows = statement.query_map([], |row| {
                let number = row.get::<_, i64>(2)?.cast_unsigned();
                let version = Lsn { epoch: row.get(1)?, number };
                let digest = row.get::<_, Option<[u8; 32]>>(3)?.map(Digest);
                Ok((ChangeId(row.get(0)?), Commit { version, digest }))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(failed(&self.file))
    }

    /// Deletes the id of a withdrawn change. The same id then counts as a new change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn forget_change(&self, version: Lsn) -> Result<(), CatalogError> {
        self.run(
            "DELETE FROM change WHERE epoch = ? AND number = ?",
            params![version.epoch, version.number.cast_signed()],
        )
        .map(drop)
    }

    /// Replaces the ids of all changes with those of the master's tree.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn replace_ids(&self, ids: &[(ChangeId, Lsn)]) -> Result<(), CatalogError> {
        self.run("DELETE FROM change", [])?;
        // The master does not send the digest of each put; the entries of the tree have it.
        ids.iter().try_for_each(|(id, version)| {
            self.record_change(*id, Commit { version: *version, digest: None })
        })
    }

    /// Records the progress of the scrub.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_scrub(&self, scrub: &Scrub) -> Result<(), CatalogError> {
        self.set_meta("scrub", scrub_text(scrub))
    }

    /// Records the slaves of the cluster.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_peers(&self, peers: &[PeerSlave]) -> Result<(), CatalogError> {
        self.run("DELETE FROM peer", [])?;
        for peer in peers {
            self.run(
                "INSERT OR REPLACE INTO peer VALUES (?, ?)",
                params![peer.slave.0, peer.folder.0],
            )?;
        }
        Ok(())
    }

    /// Returns the total size of all contents in bytes.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn total_bytes(&self) -> Result<u64, CatalogError> {
        self.total("bytes")
    }

    /// Returns the number of files.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn file_count(&self) -> Result<u64, CatalogError> {
        self.total("files")
    }

    fn total(&self, what: &str) -> Result<u64, CatalogError> {
        let ask = || {
            self.database
                .prepare_cached("SELECT n FROM total WHERE what = ?")?
                .query_row([what], |row| row.get::<_, i64>(0))
        };
        ask().map(i64::cast_unsigned).map_err(failed(&self.file))
    }

    /// Adds `n` to a total.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn add_to_total(&self, what: &str, n: i64) -> Result<(), CatalogError> {
        self.run("UPDATE total SET n = n + ? WHERE what = ?", params![n, what]).map(drop)
    }
}

/// Returns the missing content of a row.
#[must_use]
pub fn missing_content_of(path: &TreePath, row: &CatalogRow) -> Option<MissingContent> {
    row.tree_entry().and_then(|entry| relais_cluster::replica::lack_of_entry(path, &entry))
}

pub(super) fn read_retained(row: &Row<'_>) -> rusqlite::Result<RetainedContent> {
    let time = |s, ns| -> rusqlite::Result<FileTime> {
        Ok(FileTime { seconds: row.get(s)?, nanos: row.get(ns)? })
    };
    let unsigned = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let content = FileContent {
        put: Lsn { epoch: row.get(0)?, number: unsigned(1)? },
        digest: Digest(row.get(2)?),
        size: unsigned(3)?,
        mtime: time(4, 5)?,
    };
    Ok(RetainedContent {
        content,
        ctime: time(6, 7)?,
        mtime: time(8, 9)?,
        dev: unsigned(10)?,
        ino: unsigned(11)?,
    })
}

/// The server that numbered the changes of a catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// The slave itself, without a master.
    Standalone,
    /// The master of this cluster.
    Cluster(ClusterId),
}

impl History {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "standalone" => Some(Self::Standalone),
            cluster => cluster.parse().ok().map(Self::Cluster),
        }
    }
}

impl std::fmt::Display for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standalone => f.write_str("standalone"),
            Self::Cluster(cluster) => cluster.fmt(f),
        }
    }
}
