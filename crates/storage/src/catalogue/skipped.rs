//! Names in the folder that are not served, each with its reason.

use relais_proto::TreePath;

use super::columns::{AT, BELOW, Values, split};
use super::empty_tables::RareTable;
use super::store::CatalogStore;
use crate::error::Result;

/// Why a name is not served. The number is stored in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A symbolic link.
    Link = 0,
    /// A device, a FIFO or a socket.
    Special = 1,
    /// A mount point.
    Mount = 2,
    /// The name is not UTF-8, or violates the rules for names.
    Name = 3,
    /// The file or folder cannot be read.
    Unreadable = 4,
}

impl SkipReason {
    /// Returns the reason with this database number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Link, Self::Special, Self::Mount, Self::Name, Self::Unreadable]
            .into_iter()
            .find(|skip| *skip as i64 == number)
    }

    /// Describes the reason for operators.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Link => "a symbolic link",
            Self::Special => "a device, FIFO or socket",
            Self::Mount => "a mount point",
            Self::Name => "a name that cannot be served",
            Self::Unreadable => "the server may not read it",
        }
    }
}

impl CatalogStore {
    /// Returns the first skipped name below a folder, escaped, what it is, and the number of such
    /// names.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_below(&self, path: &TreePath) -> Result<Option<(String, &'static str, u64)>> {
        let select = format!(
            "SELECT folder, name, why, count(*) OVER () FROM skipped WHERE {BELOW}
             ORDER BY folder, name LIMIT 1"
        );
        self.first(&select, Values::tree(path), |from| {
            let (folder, name): (String, Vec<u8>) = (from.get()?, from.get()?);
            let reason = SkipReason::from_number(from.get()?);
            let what = reason.map_or("not served", SkipReason::text);
            Ok((escape_path(&folder, &name), what, from.unsigned()?))
        })
    }

    /// Returns why a name is skipped; `None` if it is served or missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_at(&self, path: &TreePath) -> Result<Option<SkipReason>> {
        let (folder, name) = split(path);
        let select = format!("SELECT why FROM skipped WHERE {AT}");
        let values = Values::of(folder).add(name.as_bytes());
        Ok(self.first(&select, values, |from| from.get())?.and_then(SkipReason::from_number))
    }

    /// Records that a name in a folder is not served, and removes its entry.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skip(&self, folder: &TreePath, name: &[u8], reason: SkipReason) -> Result<()> {
        if let Some(path) = folder.join_bytes(name) {
            self.remove(&path)?;
        }
        // A replacement would run no trigger for the old row, and the total would be wrong.
        self.forget_skipped(folder.as_str(), name)?;
        self.empty_tables.will_fill(RareTable::Skipped);
        let values = Values::of(folder.as_str()).add(name).add(reason as i64);
        self.run("INSERT INTO skipped VALUES (?, ?, ?)", values)
    }

    /// Removes the skip record of a path.
    pub(super) fn unskip(&self, path: &TreePath) -> Result<()> {
        let (folder, name) = split(path);
        self.forget_skipped(folder, name.as_bytes())
    }

    /// Removes the skip record of a name, given as bytes, in a folder.
    pub(crate) fn forget_skipped(&self, folder: &str, name: &[u8]) -> Result<()> {
        if self.is_empty(RareTable::Skipped)? {
            return Ok(());
        }
        let delete = format!("DELETE FROM skipped WHERE {AT}");
        self.run(&delete, Values::of(folder).add(name))
    }
}

/// Formats a path and escapes all bytes that are unsafe on a terminal.
pub(super) fn escape_path(folder: &str, name: &[u8]) -> String {
    let mut text = if folder.is_empty() { String::from("/") } else { format!("/{folder}/") };
    for chunk in name.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(|c| {
            let escapes = c.is_control() || c == '\\' || relais_proto::is_unsafe_char(c);
            let escaped: Vec<char> = if escapes { c.escape_default().collect() } else { vec![c] };
            escaped
        }));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_bytes_are_escaped() {
        assert_eq!(escape_path("", "é b".as_bytes()), "/é b");
        assert_eq!(escape_path("d/e", b"a\xff\n\\"), "/d/e/a\\xff\\n\\\\");
    }
}
