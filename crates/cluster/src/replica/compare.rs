//! Comparing a slave's tree with the master's, told whole: what goes, what comes, and what nobody else knows.
//!
//! Nothing goes unless a change that the master knows has taken it: what a slave has from changes that never came into the
//! master's tree is handed back as a stray, to be offered again, and is not destroyed.

use relais_proto::{ChangeId, Expect, TreePath, Version};

use crate::tree::Entry;

/// A tree that is told in pages. Nobody may act on it before it is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of the paths.
    pub entries: Vec<(TreePath, Entry)>,
    /// Changes by their ids.
    pub ids: Vec<(ChangeId, Version)>,
    /// The tree is as after this change.
    pub mark: Version,
    /// The last change of each earlier epoch that went into it.
    pub ends: Vec<Version>,
}

impl Listing {
    /// Takes a page; false where it does not come behind the last.
    pub(super) fn add(
        &mut self,
        entries: Vec<(TreePath, Entry)>,
        ids: Vec<(ChangeId, Version)>,
    ) -> bool {
        let before = self.entries.len().saturating_sub(1);
        self.entries.extend(entries);
        self.ids.extend(ids);
        self.entries[before.min(self.entries.len())..].is_sorted_by(|a, b| a.0 < b.0)
    }

    pub(super) fn is_whole(&self, entries: u64) -> bool {
        u64::try_from(self.entries.len()) == Ok(entries)
    }
}

/// What a slave has and the master never knew of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where it is.
    pub path: TreePath,
    /// What it is.
    pub entry: Entry,
    /// What has to be at the path for it to be offered as a put; none where something newer is there: then it is set aside.
    pub expect: Option<Expect>,
}

/// What has to be done for a slave's tree to be the master's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Entries that a change has taken away or replaced since; below a folder first.
    pub gone: Vec<(TreePath, Entry)>,
    /// Entries that come, or have something new; folders first. Where a file takes the place of another, that one stays until the new
    /// content is there, as with every change: it may have to come back.
    pub come: Vec<(TreePath, Entry)>,
    /// Entries that are kept aside, below a folder first.
    pub strays: Vec<Stray>,
}

/// Whether a change went into the tree that `mark` and `ends` describe.
#[must_use]
pub fn covered(version: Version, mark: Version, ends: &[Version]) -> bool {
    if version.epoch == mark.epoch {
        return version <= mark;
    }
    ends.iter().any(|end| end.epoch == version.epoch && version <= *end)
}

/// Compares a slave's entries, in the order of the paths, with a listing.
pub fn compare<'a>(
    own: impl IntoIterator<Item = (&'a TreePath, &'a Entry)>,
    listing: &Listing,
) -> Differences {
    let mut found = Differences::default();
    let mut theirs = listing.entries.iter().peekable();
    for (path, entry) in own {
        while let Some(next) = theirs.next_if(|(other, _)| other < path) {
            found.come.push(next.clone());
        }
        let there = theirs.next_if(|(other, _)| other == path).map(|(_, entry)| entry);
        if there == Some(entry) {
            continue;
        }
        found.come.extend(there.map(|there| (path.clone(), *there)));
        let same = there.is_some_and(|there| match (&there.content, &entry.content) {
            (None, None) => true,
            (Some(theirs), Some(ours)) => theirs.put == ours.put,
            _ => false,
        });
        if same {
            continue;
        }
        if covered(entry.version, listing.mark, &listing.ends) {
            found.gone.push((path.clone(), *entry));
        } else {
            found.strays.push(Stray {
                path: path.clone(),
                entry: *entry,
                expect: base(there, listing),
            });
        }
    }
    found.come.extend(theirs.cloned());
    found.gone.reverse();
    found.strays.reverse();
    found
}

/// A stray was based on what the master's tree still has from before the present epoch, or on nothing.
fn base(there: Option<&Entry>, listing: &Listing) -> Option<Expect> {
    match there {
        None => Some(Expect::Absent),
        Some(there) if there.version.epoch < listing.mark.epoch && there.content.is_some() => {
            Some(Expect::Version(there.version))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;
    use relais_proto::{Digest, FileTime, Mode};

    fn version(epoch: u32, number: u64) -> Version {
        Version { epoch, number }
    }

    fn file(path: &str, put: Version) -> (TreePath, Entry) {
        let content = Content { put, digest: Digest([0; 32]), size: 1, mtime: FileTime::default() };
        (
            TreePath::new(path).unwrap(),
            Entry { version: put, mode: Mode::new(0o644), content: Some(content) },
        )
    }

    fn names<'a>(entries: impl IntoIterator<Item = &'a TreePath>) -> Vec<&'a str> {
        entries.into_iter().map(TreePath::as_str).collect()
    }

    #[test]
    fn only_what_a_known_change_took_goes() {
        let own = [
            file("a", version(1, 1)),
            file("b", version(1, 2)),
            file("c", version(1, 9)),
            file("d", version(1, 8)),
            file("e", version(1, 7)),
        ];
        let (mark, ends) = (version(2, 1), vec![version(1, 5)]);
        let entries = vec![
            file("a", version(1, 1)),
            file("d", version(1, 3)),
            file("e", version(2, 1)),
            file("f", version(1, 4)),
        ];
        let listing = Listing { entries, mark, ends, ..Listing::default() };
        let found = compare(own.iter().map(|(path, entry)| (path, entry)), &listing);
        assert_eq!(
            names(found.gone.iter().map(|(path, _)| path)),
            ["b"],
            "the master had its number, and has it no more"
        );
        assert_eq!(names(found.come.iter().map(|(path, _)| path)), ["d", "e", "f"]);
        let strays: Vec<_> =
            found.strays.iter().map(|stray| (stray.path.as_str(), stray.expect)).collect();
        assert_eq!(
            strays,
            [("e", None), ("d", Some(Expect::Version(version(1, 3)))), ("c", Some(Expect::Absent))]
        );
    }

    #[test]
    fn moved_content_is_not_lost() {
        let listing = Listing {
            entries: vec![file("b", version(1, 1))],
            mark: version(1, 5),
            ..Listing::default()
        };
        let own = [file("a", version(1, 1))];
        let found = compare(own.iter().map(|(path, entry)| (path, entry)), &listing);
        assert_eq!((found.gone.len(), found.come.len(), found.strays.len()), (1, 1, 0));
    }

    #[test]
    fn a_listing_counts_only_in_order_and_whole() {
        let mut listing = Listing::default();
        assert!(listing.add(vec![file("a", version(1, 1)), file("b", version(1, 1))], vec![]));
        assert!(listing.add(vec![], vec![]) && !listing.is_whole(3) && listing.is_whole(2));
        assert!(listing.clone().add(vec![file("c", version(1, 1))], vec![]));
        assert!(!listing.add(vec![file("b", version(1, 1))], vec![]));
    }
}
