//! Retained contents: former content that stays at a path until the new content arrives.

use relais_proto::TreePath;

use super::columns::{AT, BELOW, Values};
use super::row::{RETAINED, RetainedContent};
use super::store::CatalogStore;
use crate::error::CatalogError;

impl CatalogStore {
    fn retained_where(
        &self,
        condition: &str,
        values: Values<'_>,
    ) -> Result<Vec<(TreePath, RetainedContent)>, CatalogError> {
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
    pub fn retained(&self, path: &TreePath) -> Result<Option<RetainedContent>, CatalogError> {
        let found = self.retained_where(AT, Values::at(path))?;
        Ok(found.into_iter().next().map(|(_, retained)| retained))
    }

    /// Returns the retained contents at and below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn retained_below(
        &self,
        path: &TreePath,
    ) -> Result<Vec<(TreePath, RetainedContent)>, CatalogError> {
        let mut found = self.retained_where(AT, Values::at(path))?;
        found.extend(self.retained_where(BELOW, Values::default().add(path.as_str()))?);
        Ok(found)
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
        let run = match retained {
            None => self.run(&format!("DELETE FROM kept WHERE {AT}"), Values::at(path)),
            Some(_) if path.is_root() => Ok(0),
            Some(retained) => {
                let marks = ", ?".repeat(13);
                let insert = format!("INSERT OR REPLACE INTO kept VALUES (?{marks})");
                self.run(&insert, retained.values(Values::at(path)))
            }
        };
        run.map(drop)
    }
}
