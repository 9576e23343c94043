//! Path lists for operators: skipped names and unapplied paths.

use relais_proto::{ListedPath, PathList, PathPage, limits};

use super::columns::Values;
use super::skipped::{SkipReason, escape_path};
use super::store::CatalogStore;
use crate::error::Result;

/// Bytes of paths and reasons in one part. The frame has room for one more path and reason.
const PART: usize = 40 * 1024;

/// A list of paths, cut at a limit, and the total number of them.
#[derive(Debug, Default)]
pub struct PathListing {
    notes: Vec<ListedPath>,
    total: u64,
}

/// Unapplied paths, and files whose time the disk stores with another second.
///
/// A user's edit of the time is a change, so a different time is one that the disk cannot hold.
/// Sub-second differences do not count, nor the even seconds of FAT.
const UNAPPLIED: &str = "(SELECT folder, name, removal, since, why FROM unapplied
    UNION ALL SELECT folder, name, 0, 0, 'the disk cannot store the time of last modification, '
        || mtime_s || ' s since 1970, and has ' || disk_mtime_s || ' s'
    FROM entry WHERE kind = 0 AND here = 1 AND number IS NOT NULL AND disk_mtime_s <> mtime_s
        AND NOT (mtime_s % 2 <> 0 AND disk_mtime_s = mtime_s - 1))";

impl PathListing {
    /// Converts the list to the messages that answer `query`.
    pub fn into_parts(self, query: u64) -> Vec<PathPage> {
        let total = self.total;
        let part = || PathPage { query, paths: Vec::new(), total, last: false };
        let (mut parts, mut bytes) = (vec![part()], 0);
        for note in self.notes {
            let size = note.path.len() + note.reason.len() + 12;
            if bytes > 0 && bytes + size > PART {
                parts.push(part());
                bytes = 0;
            }
            bytes += size;
            parts.last_mut().into_iter().for_each(|part| part.paths.push(note.clone()));
        }
        parts.last_mut().into_iter().for_each(|part| part.last = true);
        parts
    }
}

impl CatalogStore {
    /// Reads a path list for an operator.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn path_listing(&self, list: PathList) -> Result<PathListing> {
        let (table, columns) = match list {
            PathList::Skipped => ("skipped", "why, 0, 0, ''"),
            PathList::Unapplied => (UNAPPLIED, "0, removal, since, why"),
        };
        let count = format!("SELECT count(*) FROM {table}");
        let total =
            self.first(&count, Values::default(), |from| from.unsigned())?.unwrap_or_default();
        let select = format!(
            "SELECT folder, CAST(name AS BLOB), {columns} FROM {table}
             ORDER BY folder, name LIMIT ?"
        );
        let most = Values::default().unsigned(limits::SHOWN_PATHS as u64);
        let notes = self.all(&select, most, |from| {
            let (folder, name): (String, Vec<u8>) = (from.get()?, from.get()?);
            let skipped = SkipReason::from_number(from.get()?);
            let (removal, since_ms): (bool, u64) = (from.get()?, from.unsigned()?);
            let reason: String = from.get()?;
            let reason = match list {
                PathList::Skipped => skipped.map_or("unknown", SkipReason::text).to_owned(),
                PathList::Unapplied if removal => format!("not removed here: {reason}"),
                PathList::Unapplied => format!("not applied here: {reason}"),
            };
            Ok(ListedPath { path: escape_path(&folder, &name), reason, since_ms })
        })?;
        Ok(PathListing { notes, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_split_into_frames() {
        let note = |n: usize| ListedPath {
            path: "p".repeat(n),
            reason: "r".repeat(limits::TEXT),
            since_ms: 1,
        };
        let notes = (0..100).map(|n| note(n * 150)).collect();
        let parts = PathListing { notes, total: 7000 }.into_parts(3);
        assert!(
            parts.len() > 10 && parts.iter().map(|part| part.paths.len()).sum::<usize>() == 100
        );
        for part in &parts {
            assert_eq!((part.query, part.total), (3, 7000));
            let bytes: usize = part.paths.iter().map(|note| note.path.len() + 1100).sum();
            assert!(bytes < limits::CONTROL_FRAME as usize);
        }
        let last: Vec<bool> = parts.iter().map(|part| part.last).collect();
        assert!(last[..last.len() - 1].iter().all(|last| !last) && last[last.len() - 1]);
        assert_eq!(PathListing::default().into_parts(1).len(), 1);
    }
}
