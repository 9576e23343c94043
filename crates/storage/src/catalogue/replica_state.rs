//! Catalogue data that only a replica has: its position, histories, change ids and peers.

use relais_cluster::replica::{MissingContent, lack_of_entry};
use relais_cluster::{HistoryHash, ReplicaPosition};
use relais_proto::{ChangeId, ClusterId, Lsn, PeerSlave, Scrub, Timeline, TreePath};

use super::columns::{AT, AT_OR_BELOW, Values, split};
use super::row::CatalogRow;
use super::store::CatalogStore;
use crate::error::Result;
use crate::proposal::Commit;

impl CatalogStore {
    /// Returns all committed entries, ordered by path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn committed_entries(&self) -> Result<Vec<(TreePath, CatalogRow)>> {
        let mut rows = self.rows("epoch IS NOT NULL", Values::default())?;
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(rows)
    }

    /// Returns the path and row whose content a put stored.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn row_of_put(&self, put: Lsn) -> Result<Option<(TreePath, CatalogRow)>> {
        let condition = "content_epoch = ? AND content_number = ? LIMIT 1";
        Ok(self.rows(condition, Values::default().lsn(put))?.into_iter().next())
    }

    /// Returns uncommitted entries after a path: folders, and files with a digest. A folder comes
    /// before its entries.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn uncommitted(&self, after: &TreePath, most: u32) -> Result<Vec<(TreePath, CatalogRow)>> {
        self.rows(
            "epoch IS NULL AND (kind = 1 OR digest IS NOT NULL) AND (folder, name) > (?1, ?2)
             ORDER BY folder, name LIMIT ?3",
            Values::at(after).add(most),
        )
    }

    /// Returns the contents that are not on this disk.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn missing_content(&self) -> Result<Vec<MissingContent>> {
        let rows = self.rows("here = 0", Values::default())?;
        Ok(rows.iter().filter_map(|(path, row)| lack_of_entry(path, &row.tree_entry()?)).collect())
    }

    /// Moves the rows at and below `from` to `to`, where no row is. Committed rows get the LSN of
    /// the move.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn relocate(&self, from: &TreePath, to: &TreePath, version: Lsn) -> Result<()> {
        self.relocate_entries(from, to, version)?;
        // A skipped name has no entry that could be moved.
        self.relocate_rows("skipped", from, to)?;
        self.relocate_rows("kept", from, to)
    }

    /// Same as [`Self::relocate`], but retained content and skipped names stay at the old path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn relocate_entries(&self, from: &TreePath, to: &TreePath, version: Lsn) -> Result<()> {
        self.unskip(to)?;
        let set = "UPDATE entry SET epoch = ?4, number = ?5 WHERE epoch IS NOT NULL AND";
        self.run(&format!("{set} {AT_OR_BELOW}"), Values::tree(from).lsn(version))?;
        self.relocate_rows("entry", from, to)?;
        self.relocate_rows("unapplied", from, to)?;
        // The disk may accept at the new path what it refused at the old one.
        let due = format!("UPDATE unapplied SET due = 0 WHERE {AT_OR_BELOW}");
        self.run(&due, Values::tree(to))
    }

    pub(super) fn relocate_rows(&self, table: &str, from: &TreePath, to: &TreePath) -> Result<()> {
        let (folder, name) = split(to);
        let update = format!(
            "UPDATE {table} SET name = iif({AT}, ?5, name),
             folder = iif({AT}, ?4, ?6 || substr(folder, length(?3) + 1)) WHERE {AT_OR_BELOW}"
        );
        self.run(&update, Values::tree(from).add(folder).add(name).add(to.as_str()))
    }

    /// Returns the position of the replica.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn position(&self) -> Result<ReplicaPosition> {
        let applied = self.applied()?.unwrap_or_default();
        let chain: Option<[u8; 32]> = self.meta("chain")?;
        let epoch: Option<u32> = self.meta("epoch")?;
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
    pub fn set_position(&self, position: &ReplicaPosition) -> Result<()> {
        self.set_applied(position.applied)?;
        self.set_chain(position.chain)?;
        self.raise_epoch(position.epoch)
    }

    /// Records the hash over the history up to the last applied change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_chain(&self, chain: HistoryHash) -> Result<()> {
        self.set_meta("chain", &chain.0[..])
    }

    /// Raises the highest known epoch.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn raise_epoch(&self, epoch: u32) -> Result<()> {
        let known: Option<u32> = self.meta("epoch")?;
        self.set_meta("epoch", known.unwrap_or_default().max(epoch))
    }

    /// Returns the timelines of the folder's history, oldest first.
    ///
    /// # Errors
    /// Returns database errors, or an error for a malformed list.
    pub fn timelines(&self) -> Result<Vec<Timeline>> {
        let text: Option<String> = self.meta("timelines")?;
        let parse = |timeline: &str| {
            let (after, id) = timeline.split_once(':')?;
            let id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
            Some(Timeline { after: after.parse().ok()?, id })
        };
        let timelines: Option<Vec<Timeline>> =
            text.unwrap_or_default().split_whitespace().map(parse).collect();
        timelines.ok_or_else(|| self.damaged("the list of timelines"))
    }

    /// Records the timelines of the folder's history.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_timelines(&self, timelines: &[Timeline]) -> Result<()> {
        let one = |timeline: &Timeline| {
            format!("{}:{:032x}", timeline.after, u128::from_be_bytes(timeline.id))
        };
        self.set_meta("timelines", timelines.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    /// Returns the cluster in which the changes of the catalogue were numbered, if it is known.
    ///
    /// A standalone slave is a cluster with the id of its folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn history(&self) -> Result<Option<ClusterId>> {
        Ok(self.meta("history")?.and_then(|text: String| text.parse().ok()))
    }

    /// Records the cluster in which the changes of the catalogue are numbered.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_history(&self, cluster: ClusterId) -> Result<()> {
        self.set_meta("history", cluster.to_string())
    }

    /// Forgets all change numbers, because they mean nothing in the cluster that the slave joins.
    ///
    /// Names, contents and digests stay. The files count as local files, so the slave compares
    /// them with the tree: equal content is adopted, new files are proposed, and files that differ
    /// are quarantined. Properties, locks and hashes belong to the former tree.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn forget_history(&self) -> Result<()> {
        self.commit()?;
        self.ask(|database| {
            database.execute_batch(
                "BEGIN;
                 DELETE FROM entry WHERE here = 0;
                 UPDATE entry SET epoch = NULL, number = NULL, content_epoch = NULL,
                     content_number = NULL, holders = NULL;
                 DELETE FROM kept; DELETE FROM unapplied; DELETE FROM change; DELETE FROM peer;
                 DELETE FROM property; DELETE FROM lock; DELETE FROM sha256;
                 INSERT INTO event (epoch, number, kind, path, source) VALUES (0, 0, 4, '', '');
                 DELETE FROM meta WHERE what IN ('applied-epoch', 'applied-number', 'chain',
                     'epoch', 'timelines', 'fit', 'history');
                 COMMIT;",
            )
        })
    }

    /// Returns all committed changes by id.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn ids(&self) -> Result<Vec<(ChangeId, Lsn)>> {
        self.all("SELECT id, epoch, number FROM change", Values::default(), |from| {
            Ok((ChangeId(from.get()?), from.lsn()?))
        })
    }

    /// Deletes the id of a withdrawn change. The same id then counts as a new change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn forget_change(&self, version: Lsn) -> Result<()> {
        let delete = "DELETE FROM change WHERE epoch = ? AND number = ?";
        self.run(delete, Values::default().lsn(version))
    }

    /// Replaces the ids of all changes with those of the master's tree.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn replace_ids(&self, ids: &[(ChangeId, Lsn)]) -> Result<()> {
        self.run("DELETE FROM change", Values::default())?;
        // The master does not send the digest of each put; the entries of the tree have it.
        ids.iter().try_for_each(|(id, version)| {
            self.record_change(*id, Commit { version: *version, digest: None })
        })
    }

    /// Records the progress of the scrub.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_scrub(&self, scrub: &Scrub) -> Result<()> {
        let Scrub { order, done, files, read, damaged, repaired, unreadable } = scrub;
        let done = u8::from(*done);
        let text = format!("{order} {done} {files} {read} {damaged} {repaired} {unreadable}");
        self.set_meta("scrub", text)
    }

    /// Returns the progress of the scrub.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn scrub(&self) -> Result<Scrub> {
        let text: String = self.meta("scrub")?.unwrap_or_default();
        let numbers: Vec<u64> = text.split(' ').map_while(|word| word.parse().ok()).collect();
        Ok(match numbers[..] {
            [order, done, files, read, damaged, repaired, unreadable] => {
                Scrub { order, done: done == 1, files, read, damaged, repaired, unreadable }
            }
            _ => Scrub::default(),
        })
    }

    /// Records the slaves of the cluster.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_peers(&self, peers: &[PeerSlave]) -> Result<()> {
        self.run("DELETE FROM peer", Values::default())?;
        for peer in peers {
            let addrs: Vec<String> = peer.addrs.iter().map(ToString::to_string).collect();
            let values = Values::of(&peer.slave.0[..]).add(&peer.folder.0[..]).add(addrs.join(" "));
            self.run("INSERT OR REPLACE INTO peer VALUES (?, ?, ?)", values)?;
        }
        Ok(())
    }
}
