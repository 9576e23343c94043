//! Names in the folder that are not served, each with its reason.

use relais_proto::TreePath;

use super::columns::{AT, BELOW, Values, split};
use super::store::CatalogStore;
use crate::error::CatalogError;

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
    /// Returns the number of skipped names at or below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_below(&self, path: &TreePath) -> Result<u64, CatalogError> {
        let select = format!("SELECT count(*) FROM skipped WHERE {BELOW}");
        let count =
            self.first(&select, Values::default().add(path.as_str()), |from| from.unsigned())?;
        Ok(count.unwrap_or_default())
    }

    /// Returns the first skipped name below a folder, escaped, and what it is.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn first_skipped_below(
        &self,
        path: &TreePath,
    ) -> Result<Option<(String, &'static str)>, CatalogError> {
        let select = format!(
            "SELECT folder, name, why FROM skipped WHERE {BELOW} ORDER BY folder, name LIMIT 1"
        );
        self.first(&select, Values::default().add(path.as_str()), |from| {
            let (folder, name): (String, Vec<u8>) = (from.get()?, from.get()?);
            let reason = SkipReason::from_number(from.get()?);
            Ok((escape_path(&folder, &name), reason.map_or("not served", SkipReason::text)))
        })
    }

    /// Returns why a name is skipped; `None` if it is served or missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_at(&self, path: &TreePath) -> Result<Option<SkipReason>, CatalogError> {
        let (folder, name) = split(path);
        let select = format!("SELECT why FROM skipped WHERE {AT}");
        let values = Values::default().add(folder).add(name.as_bytes());
        Ok(self.first(&select, values, |from| from.get())?.and_then(SkipReason::from_number))
    }

    /// Records that a name in a folder is not served, and removes its entry.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skip(
        &self,
        folder: &TreePath,
        name: &[u8],
        reason: SkipReason,
    ) -> Result<(), CatalogError> {
        if let Some(path) = std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok()) {
            self.remove(&path)?;
        }
        // A replacement would run no trigger for the old row, and the total would be wrong.
        self.unskip_name(folder.as_str(), name)?;
        self.run(
            "INSERT INTO skipped VALUES (?, ?, ?)",
            Values::default().add(folder.as_str()).add(name).add(reason as i64),
        )
        .map(drop)
    }

    /// Removes the skip record of a name, given as bytes.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn forget_skipped(&self, folder: &TreePath, name: &[u8]) -> Result<(), CatalogError> {
        self.unskip_name(folder.as_str(), name)
    }

    /// Removes the skip record of a path.
    pub(super) fn unskip(&self, path: &TreePath) -> Result<(), CatalogError> {
        let (folder, name) = split(path);
        self.unskip_name(folder, name.as_bytes())
    }

    fn unskip_name(&self, folder: &str, name: &[u8]) -> Result<(), CatalogError> {
        let values = Values::default().add(folder).add(name);
        self.run(&format!("DELETE FROM skipped WHERE {AT}"), values).map(drop)
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
