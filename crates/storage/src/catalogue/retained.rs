//! Retained contents: former content that stays at a path until the new content arrives.

use relais_proto::TreePath;

use super::columns::{AT, AT_OR_BELOW, Values};
use super::empty_tables::RareTable;
use super::row::{RETAINED, RetainedContent};
use super::store::CatalogStore;
use crate::error::Result;

impl CatalogStore {
    fn retained_where(
        &self,
        condition: &str,
        values: Values<'_>,
    ) -> Result<Vec<(TreePath, RetainedContent)>> {
        if self.is_empty(RareTable::Kept)? {
            return Ok(Vec::new());
        }
        let select = format!("SELECT folder, name, {RETAINED} FROM kept WHERE {condition}");
        let found = self.all(&select, values, |from| {
            let path = from.path()?;
            Ok(path.zip(Some(RetainedContent::read(from)?)))
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Returns the retained content of a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn retained(&self, path: &TreePath) -> Result<Option<RetainedContent>> {
        let found = self.retained_where(AT, Values::at(path))?;
        Ok(found.into_iter().next().map(|(_, retained)| retained))
    }

    /// Returns the retained contents at and below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn retained_below(&self, path: &TreePath) -> Result<Vec<(TreePath, RetainedContent)>> {
        self.retained_where(AT_OR_BELOW, Values::tree(path))
    }

    /// Sets or clears the retained content of a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_retained(&self, path: &TreePath, retained: Option<&RetainedContent>) -> Result<()> {
        match retained {
            None if self.is_empty(RareTable::Kept)? => Ok(()),
            None => self.run(&format!("DELETE FROM kept WHERE {AT}"), Values::at(path)),
            Some(_) if path.is_root() => Ok(()),
            Some(retained) => {
                self.empty_tables.will_fill(RareTable::Kept);
                let marks = ", ?".repeat(13);
                let insert = format!("INSERT OR REPLACE INTO kept VALUES (?{marks})");
                self.run(&insert, retained.values(Values::at(path)))
            }
        }
    }
}
