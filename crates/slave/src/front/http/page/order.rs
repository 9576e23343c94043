//! The order of a listing: its key and direction, as the query of the page has them.

use std::cmp::Ordering;

use relais_proto::{Entry, Kind};

/// What a listing is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    /// The name, without regard to case.
    #[default]
    Name,
    /// The size; folders have none.
    Size,
    /// The time of modification.
    Time,
}

impl SortKey {
    /// All keys, in the order of the columns.
    pub const ALL: [Self; 3] = [Self::Name, Self::Size, Self::Time];

    /// Returns the value of `sort` in a query.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Time => "time",
        }
    }
}

/// The order of a listing. Folders always come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    pub key: SortKey,
    pub is_descending: bool,
}

impl Order {
    /// Reads the order from the values of `sort` and `order`; unknown ones have the default.
    pub fn parse(sort: Option<&str>, order: Option<&str>) -> Self {
        let key = SortKey::ALL.into_iter().find(|key| Some(key.name()) == sort);
        Self { key: key.unwrap_or_default(), is_descending: order == Some("desc") }
    }

    /// Returns the order that a click on the column of `key` asks for.
    pub fn toggled(self, key: SortKey) -> Self {
        Self { key, is_descending: self.key == key && !self.is_descending }
    }

    /// Returns the query that asks for this order.
    pub fn query(self) -> &'static str {
        match (self.key, self.is_descending) {
            (SortKey::Name, false) => "?sort=name",
            (SortKey::Name, true) => "?sort=name&order=desc",
            (SortKey::Size, false) => "?sort=size",
            (SortKey::Size, true) => "?sort=size&order=desc",
            (SortKey::Time, false) => "?sort=time",
            (SortKey::Time, true) => "?sort=time&order=desc",
        }
    }

    /// Sorts entries.
    pub fn sort(self, entries: &mut [Entry]) {
        entries.sort_by(|a, b| {
            let is_file = |entry: &Entry| entry.kind == Kind::File;
            is_file(a).cmp(&is_file(b)).then_with(|| {
                let by_key = self.compare(a, b);
                if self.is_descending { by_key.reverse() } else { by_key }
            })
        });
    }

    fn compare(self, a: &Entry, b: &Entry) -> Ordering {
        let by_name = || {
            let folded = a.name.to_lowercase().cmp(&b.name.to_lowercase());
            folded.then_with(|| a.name.cmp(&b.name))
        };
        match self.key {
            SortKey::Name => by_name(),
            SortKey::Size => a.size.cmp(&b.size).then_with(by_name),
            SortKey::Time => a.mtime.cmp(&b.mtime).then_with(by_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::{FileTime, Mode};

    use super::*;

    fn entry(name: &str, kind: Kind, size: u64, seconds: i64) -> Entry {
        let mtime = FileTime { seconds, nanos: 0 };
        Entry { name: name.to_owned(), kind, mode: Mode::new(0o644), size, mtime, version: None }
    }

    #[test]
    fn folders_come_first_in_every_order() {
        let all = [
            entry("b", Kind::File, 1, 30),
            entry("A", Kind::File, 2, 10),
            entry("z", Kind::Folder, 0, 20),
            entry("c", Kind::File, 3, 5),
        ];
        for (query, wanted) in [
            ((None, None), "zAbc"),
            ((Some("name"), Some("desc")), "zcbA"),
            ((Some("size"), None), "zbAc"),
            ((Some("size"), Some("desc")), "zcAb"),
            ((Some("time"), None), "zcAb"),
            ((Some("other"), Some("other")), "zAbc"),
        ] {
            let mut entries = all.clone();
            Order::parse(query.0, query.1).sort(&mut entries);
            let names: String = entries.iter().map(|entry| entry.name.as_str()).collect();
            assert_eq!(names, wanted, "{query:?}");
        }
    }

    #[test]
    fn a_second_click_reverses_the_order() {
        let first = Order::default().toggled(SortKey::Size);
        assert_eq!(first.query(), "?sort=size");
        assert_eq!(first.toggled(SortKey::Size).query(), "?sort=size&order=desc");
        assert_eq!(first.toggled(SortKey::Name).query(), "?sort=name");
    }
}
