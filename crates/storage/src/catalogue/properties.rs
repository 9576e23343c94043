//! Dead properties of paths: a row for each property.

use relais_proto::{Property, PropertyChange, PropertyName, TreePath};

use super::columns::{AT, Columns, Values};
use super::store::CatalogStore;
use crate::error::Result;

/// Columns of a property.
const COLUMNS: &str = "namespace, local, value";

fn read(from: &mut Columns<'_>) -> rusqlite::Result<Property> {
    let name = PropertyName { namespace: from.get()?, local: from.get()? };
    Ok(Property { name, value: from.get()? })
}

impl CatalogStore {
    /// Returns the properties of a path, ordered by name.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn properties(&self, path: &TreePath) -> Result<Vec<Property>> {
        let select = format!("SELECT {COLUMNS} FROM property WHERE {AT} ORDER BY namespace, local");
        self.all(&select, Values::at(path), read)
    }

    /// Returns the properties of several paths, in the order of the paths.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn properties_of(&self, paths: &[TreePath]) -> Result<Vec<Vec<Property>>> {
        self.ask_together(|store| {
            if !store.exists("property", "1", Values::default())? {
                return Ok(vec![Vec::new(); paths.len()]);
            }
            paths.iter().map(|path| store.properties(path)).collect()
        })
    }

    /// Sets and removes properties of a path; the others stay.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_properties(&self, path: &TreePath, changes: &[PropertyChange]) -> Result<()> {
        changes.iter().try_for_each(|PropertyChange { name, value }| {
            let at = Values::at(path).add(&*name.namespace).add(&*name.local);
            match value {
                Some(value) => self.run(
                    "INSERT OR REPLACE INTO property VALUES (?, ?, ?, ?, ?)",
                    at.add(&**value),
                ),
                None => self.run(
                    &format!("DELETE FROM property WHERE {AT} AND namespace = ?3 AND local = ?4"),
                    at,
                ),
            }
        })
    }

    /// Returns all properties with their paths.
    pub(super) fn all_properties(&self) -> Result<Vec<(TreePath, Property)>> {
        let select = format!("SELECT folder, name, {COLUMNS} FROM property");
        let found = self.all(&select, Values::default(), |from| {
            let path = from.path()?;
            Ok(path.zip(Some(read(from)?)))
        })?;
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_unstable_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
        Ok(found)
    }
}
