//! The snapshot of a slave that stands alone: what the changes make that its journal does not hold any more.
//!
//! It says what a catalogue that is built anew cannot learn from the folder: numbers, digests and the ids
//! of changes. It is on the disk before the journal begins anew. Between the two the journal's changes are
//! in the snapshot already, and are left out.

use log::{error, info};
use relais_cluster::Entry;
use relais_journal::{Journal, Snapshot};
use relais_proto::{ChangeId, Decoder, Digest, Encoder, Kind, Lsn, TreePath, Wire, WireError};
use relais_storage::{CatalogError, CatalogStore, Commit};

use super::replay::{Memory, Remembered};

/// Name of the snapshot in the slave's own folder.
pub(super) const SNAPSHOT: &str = "snapshot";
/// Bytes from which the journal is shortened. A snapshot may be larger: then the journal may grow as large.
pub const JOURNAL_BYTES: u64 = 8 * 1024 * 1024;
/// Where its layout changes, so does this.
const LAYOUT: u8 = 1;

/// What the changes up to `last` have made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TreeSnapshot {
    pub last: Lsn,
    pub entries: Vec<(TreePath, Entry)>,
    pub ids: Vec<(ChangeId, Commit)>,
}

impl TreeSnapshot {
    /// What the catalogue has.
    fn of(store: &CatalogStore, last: Lsn) -> Result<Self, CatalogError> {
        let entries = store
            .committed_entries()?
            .into_iter()
            .filter_map(|(path, row)| Some((path, row.tree_entry()?)))
            .collect();
        Ok(Self { last, entries, ids: store.commits()? })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let to = &mut Encoder::new(&mut bytes);
        self.last.encode(to.u8(LAYOUT));
        to.u64(self.entries.len() as u64);
        self.entries.iter().for_each(|(path, entry)| entry.encode(to.path(path)));
        to.u64(self.ids.len() as u64);
        for (id, commit) in &self.ids {
            id.encode(to);
            commit.version.encode(to);
            to.option(commit.digest.as_ref(), Digest::encode);
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut decoder = Decoder::new(bytes);
        let from = &mut decoder;
        let layout = from.u8()?;
        if layout != LAYOUT {
            let (what, value) = ("layout of the snapshot", layout.into());
            return Err(WireError::BadValue { what, value });
        }
        let mut snapshot = Self { last: Lsn::decode(from)?, ..Self::default() };
        // Memory is taken as they come, not as they are announced.
        for _ in 0..from.u64()? {
            snapshot.entries.push((from.path()?, Entry::decode(from)?));
        }
        for _ in 0..from.u64()? {
            let (id, version) = (ChangeId::decode(from)?, Lsn::decode(from)?);
            snapshot.ids.push((id, Commit { version, digest: from.option()? }));
        }
        decoder.finish()?;
        Ok(snapshot)
    }

    /// The tree, for a catalogue that is built anew.
    pub fn memory(&self) -> Memory {
        let remembered = |entry: &Entry| Remembered {
            kind: if entry.content.is_some() { Kind::File } else { Kind::Folder },
            version: entry.version,
            mode: entry.mode,
            content: entry
                .content
                .map(|content| (content.put, content.size, content.mtime, content.digest)),
        };
        self.entries.iter().map(|(path, entry)| (path.clone(), remembered(entry))).collect()
    }
}

/// When the journal is shortened.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    /// Bytes of the journal from which it is shortened next.
    shorten_at: u64,
    least: u64,
}

impl SnapshotFile {
    pub fn new() -> Self {
        Self { shorten_at: JOURNAL_BYTES, least: JOURNAL_BYTES }
    }

    /// Shortens the journal from so many bytes on.
    #[cfg(test)]
    pub fn shorten_from(&mut self, bytes: u64) {
        (self.shorten_at, self.least) = (bytes, bytes);
    }

    /// Loads the snapshot; an empty one if there is none.
    pub fn load(&mut self, journal: &dyn Journal) -> Result<TreeSnapshot, CatalogError> {
        let Some(Snapshot { payload, .. }) = journal.snapshot()? else {
            return Ok(TreeSnapshot::default());
        };
        self.shorten_at = self.least.max(payload.len() as u64);
        TreeSnapshot::from_bytes(&payload).map_err(CatalogError::Snapshot)
    }

    /// Whether a journal of so many bytes is to be shortened.
    pub fn is_due(&self, bytes: u64) -> bool {
        bytes > self.shorten_at
    }

    /// Takes over what the catalogue has, which ends with `last`. It is on the disk once this returns true.
    pub fn save(
        &mut self,
        journal: &mut dyn Journal,
        store: &CatalogStore,
        last: Lsn,
        now_ms: u64,
    ) -> Result<bool, CatalogError> {
        store.commit()?;
        if store.applied()? != Some(last) {
            return Ok(false);
        }
        let payload = TreeSnapshot::of(store, last)?.to_bytes();
        let len = payload.len() as u64;
        let saved = journal.save_snapshot(&Snapshot { made_ms: now_ms, payload });
        match &saved {
            Ok(()) => {
                self.shorten_at = self.least.max(len);
                info!("change {last} is the last in the snapshot, and the journal begins anew");
            }
            Err(e) => {
                self.shorten_at = self.shorten_at.saturating_mul(2);
                error!("the journal grows on, for want of a snapshot: {e}");
            }
        }
        Ok(saved.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use relais_cluster::FileContent;
    use relais_proto::{FileTime, Mode};

    use super::*;

    #[test]
    fn a_snapshot_comes_back_and_a_cut_one_does_not() {
        let version = |number| Lsn { epoch: 1, number };
        let content = FileContent {
            put: version(2),
            digest: Digest([3; 32]),
            size: 4,
            mtime: FileTime::default(),
        };
        let path = |text| TreePath::new(text).unwrap();
        let snapshot = TreeSnapshot {
            last: version(9),
            entries: vec![
                (path("d"), Entry { version: version(1), mode: Mode::new(0o644), content: None }),
                (
                    path("d/f"),
                    Entry { version: version(5), mode: Mode::new(0o644), content: Some(content) },
                ),
            ],
            ids: vec![
                (ChangeId([1; 16]), Commit { version: version(1), digest: None }),
                (ChangeId([2; 16]), Commit { version: version(2), digest: Some(Digest([3; 32])) }),
            ],
        };
        let bytes = snapshot.to_bytes();
        assert_eq!(TreeSnapshot::from_bytes(&bytes).unwrap(), snapshot);
        for cut in 0..bytes.len() {
            assert!(TreeSnapshot::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(TreeSnapshot::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        let memory = snapshot.memory();
        assert_eq!(memory[&path("d")].kind, Kind::Folder);
        assert_eq!(memory[&path("d/f")].content.map(|(put, ..)| put), Some(version(2)));
    }
}
