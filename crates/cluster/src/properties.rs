//! Dead properties by path (RFC 4918, section 4).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use relais_proto::{Property, PropertyChange, PropertyName, TreePath};

/// Bytes that a path or a property takes beside its text, about.
const OVERHEAD: usize = 64;

/// The properties of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathProperties(BTreeMap<PropertyName, String>);

impl PathProperties {
    /// Returns the properties after these changes.
    #[must_use]
    pub fn with(&self, changes: &[PropertyChange]) -> Self {
        let mut after = self.clone();
        for PropertyChange { name, value } in changes {
            match value {
                Some(value) => after.0.insert(name.clone(), value.clone()),
                None => after.0.remove(name),
            };
        }
        after
    }

    /// Returns the number of properties.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no properties.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.bytes() + value.len()).sum()
    }

    /// Returns the bytes of memory, about, at this path.
    #[must_use]
    pub fn memory(&self, path: &TreePath) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.bytes() + path.as_str().len() + OVERHEAD * (1 + self.len())
    }

    /// Iterates over the properties, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = Property> + '_ {
        self.iter_from(0)
    }

    /// Iterates over the properties without the first ones.
    pub(crate) fn iter_from(&self, first: usize) -> impl Iterator<Item = Property> + '_ {
        let rest = self.0.iter().skip(first);
        rest.map(|(name, value)| Property { name: name.clone(), value: value.clone() })
    }
}

/// The properties of all paths that have some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyTable {
    by_path: BTreeMap<TreePath, Arc<PathProperties>>,
    memory: usize,
}

impl PropertyTable {
    /// Makes a table of these properties.
    #[must_use]
    pub fn listed(properties: impl IntoIterator<Item = (TreePath, Property)>) -> Self {
        let mut by_path = BTreeMap::<TreePath, PathProperties>::new();
        for (path, Property { name, value }) in properties {
            by_path.entry(path).or_default().0.insert(name, value);
        }
        let mut table = Self::default();
        by_path.into_iter().for_each(|(path, properties)| table.put_in(path, Arc::new(properties)));
        table
    }

    /// Returns the properties of a path; `None` if it has none.
    #[must_use]
    pub fn at(&self, path: &TreePath) -> Option<&PathProperties> {
        self.by_path.get(path).map(Arc::as_ref)
    }

    /// Iterates over the paths with properties, ordered by path.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&TreePath, &Arc<PathProperties>)> {
        self.by_path.iter()
    }

    /// Returns the bytes of memory of all properties, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Sets or removes properties of a path.
    pub fn set(&mut self, path: &TreePath, changes: &[PropertyChange]) {
        let before = self.take_out(path).unwrap_or_default();
        self.put_in(path.clone(), Arc::new(before.with(changes)));
    }

    /// Removes the properties of a path and of all below it.
    pub fn remove_tree(&mut self, path: &TreePath) {
        for gone in self.subtree(path) {
            self.take_out(&gone);
        }
    }

    /// Moves the properties of a path and of all below it.
    pub fn move_tree(&mut self, from: &TreePath, to: &TreePath) {
        for old in self.subtree(from) {
            if let (Some(properties), Some(new)) = (self.take_out(&old), old.moved(from, to)) {
                self.put_in(new, properties);
            }
        }
    }

    /// Returns the paths with properties that are this one or below it.
    fn subtree(&self, path: &TreePath) -> Vec<TreePath> {
        self.by_path
            .range((Bound::Included(path), Bound::Unbounded))
            .map(|(below, _)| below)
            .take_while(|below| below.as_str().starts_with(path.as_str()))
            .filter(|below| *below == path || below.is_below(path))
            .cloned()
            .collect()
    }

    fn put_in(&mut self, path: TreePath, properties: Arc<PathProperties>) {
        if !properties.is_empty() {
            self.memory += properties.memory(&path);
            self.by_path.insert(path, properties);
        }
    }

    fn take_out(&mut self, path: &TreePath) -> Option<Arc<PathProperties>> {
        let properties = self.by_path.remove(path)?;
        self.memory -= properties.memory(path);
        Some(properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn change(local: &str, value: Option<&str>) -> PropertyChange {
        let name = PropertyName { namespace: "DAV:".into(), local: local.into() };
        PropertyChange { name, value: value.map(str::to_owned) }
    }

    fn shown(table: &PropertyTable) -> Vec<String> {
        let of = |(path, all): (&TreePath, &Arc<PathProperties>)| -> Vec<String> {
            all.iter().map(|p| format!("{path} {}={}", p.name.local, p.value)).collect()
        };
        table.iter().flat_map(of).collect()
    }

    #[test]
    fn properties_follow_their_path() {
        let mut table = PropertyTable::default();
        table.set(&path("a/b"), &[change("x", Some("1")), change("y", Some("2"))]);
        table.set(&path("a/b"), &[change("x", None), change("z", None)]);
        table.set(&path("a"), &[change("x", Some("3"))]);
        table.set(&path("a-b"), &[change("x", Some("4"))]);
        table.set(&path("c"), &[change("x", None)]);
        table.move_tree(&path("a"), &path("d/e"));
        assert_eq!(shown(&table), ["/a-b x=4", "/d/e x=3", "/d/e/b y=2"]);
        let listed = table
            .iter()
            .flat_map(|(path, all)| all.iter().map(|property| (path.clone(), property)));
        assert_eq!(PropertyTable::listed(listed.collect::<Vec<_>>()), table);
        table.remove_tree(&path("d/e"));
        assert_eq!(shown(&table), ["/a-b x=4"]);
        table.remove_tree(&TreePath::root());
        assert_eq!(table, PropertyTable::default(), "the count of bytes is 0 again");
    }
}
