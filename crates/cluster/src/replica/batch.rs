//! Selects the changes of one batch.
//!
//! A slave that is killed during a batch applies the whole batch again. It recognises its own
//! earlier effects by the state of each path. So no path has more than one state in a batch that a
//! crash could leave.

use std::collections::HashSet;

use relais_proto::Change;

use crate::message_budget::CommittedEntry;

/// Paths that the changes of a batch affect.
#[derive(Debug, Default)]
struct AffectedPaths<'a> {
    /// Paths with a new content or location, and removed paths.
    placed: HashSet<&'a str>,
    /// Folders that are made.
    made: HashSet<&'a str>,
    /// Parent folders of all these paths.
    above: HashSet<&'a str>,
    /// Removed or moved paths; the entries below them are affected too.
    cleared: HashSet<&'a str>,
}

impl<'a> AffectedPaths<'a> {
    /// Adds a change if no earlier change affects its paths; returns whether it did.
    fn take(&mut self, change: &'a Change) -> bool {
        match change {
            Change::Put { path, .. } | Change::SetAttributes { path, .. } => {
                let path = path.as_str();
                let free = !self.placed.contains(path)
                    && !self.made.contains(path)
                    && !self.is_in_cleared(path);
                if free {
                    self.place(path);
                }
                free
            }
            Change::MakeFolder { path, .. } => {
                let path = path.as_str();
                let free = !self.placed.contains(path) && !self.is_in_cleared(path);
                if free {
                    self.made.insert(path);
                    self.above.extend(folders_above(path));
                }
                free
            }
            Change::Remove { path, .. } => self.clear(&[path.as_str()]),
            Change::Move { from, to } => self.clear(&[from.as_str(), to.as_str()]),
            // They change nothing on the disk, and the catalogue keeps their order.
            Change::SetProperties { .. }
            | Change::Lock { .. }
            | Change::Unlock { .. }
            | Change::RecordSha256 { .. } => true,
            // A withdrawal does not name the paths that it restores.
            Change::Withdraw { .. } => false,
        }
    }

    fn place(&mut self, path: &'a str) {
        self.placed.insert(path);
        self.above.extend(folders_above(path));
    }

    fn clear(&mut self, paths: &[&'a str]) -> bool {
        let is_free = |path: &str| {
            let here =
                self.placed.contains(path) || self.made.contains(path) || self.above.contains(path);
            !here
                && !folders_above(path).any(|above| self.made.contains(above))
                && !self.is_in_cleared(path)
        };
        let free = paths.iter().all(|path| is_free(path));
        if free {
            for path in paths {
                self.place(path);
                self.cleared.insert(path);
            }
        }
        free
    }

    fn is_in_cleared(&self, path: &str) -> bool {
        !self.cleared.is_empty() && folders_above(path).any(|above| self.cleared.contains(above))
    }
}

/// Iterates over the parent folders of a path, from the bottom, without the root.
fn folders_above(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}

/// Returns the length of the next batch: at most `most` changes, but at least one.
pub(super) fn length<'a>(changes: impl Iterator<Item = &'a CommittedEntry>, most: usize) -> usize {
    let mut touched = AffectedPaths::default();
    let fitting =
        changes.take(most).take_while(|committed| touched.take(&committed.entry.change)).count();
    fitting.max(1)
}

#[cfg(test)]
mod tests {
    use relais_proto::{ChangeId, Digest, FileTime, LogEntry, Lsn, Mode, TreePath};

    use super::*;
    use relais_proto::Attributes;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn change(line: &str) -> Change {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["put", to] => Change::Put {
                path: path(to),
                size: 0,
                digest: Digest([0; 32]),
                mtime: FileTime::default(),
                mode: Mode::new(0o644),
            },
            ["mkdir", at] => Change::MakeFolder { path: path(at), mode: Mode::new(0o755) },
            ["chmod", at] => Change::SetAttributes {
                path: path(at),
                attributes: Attributes::mode(Mode::new(0o700)),
            },
            ["rm", at] => Change::Remove { path: path(at), recursive: true },
            ["mv", from, to] => Change::Move { from: path(from), to: path(to) },
            ["withdraw"] => Change::Withdraw { of: Lsn::default() },
            _ => panic!("{line}"),
        }
    }

    fn batches(lines: &[&str]) -> Vec<usize> {
        let committed = |line: &&str| CommittedEntry {
            entry: LogEntry {
                version: Lsn::default(),
                id: ChangeId([1; 16]),
                time_ms: 0,
                change: change(line),
            },
            holders: Vec::new(),
            restored: Vec::new(),
        };
        let all: Vec<CommittedEntry> = lines.iter().map(committed).collect();
        let (mut rest, mut lengths) = (&all[..], Vec::new());
        while !rest.is_empty() {
            let length = length(rest.iter(), 100);
            lengths.push(length);
            rest = &rest[length..];
        }
        lengths
    }

    #[test]
    fn what_has_nothing_to_do_with_each_other_goes_together() {
        assert_eq!(
            batches(&[
                "mkdir a",
                "mkdir a/b",
                "put a/b/f",
                "put a/g",
                "put h",
                "rm i/j",
                "rm i/k",
                "mv l m",
                "mkdir a"
            ]),
            [9]
        );
        assert_eq!(batches(&[]), [0; 0]);
    }

    #[test]
    fn no_path_is_changed_twice() {
        for again in [
            "put a/f",
            "chmod a/f",
            "mkdir a/f",
            "rm a/f",
            "rm a",
            "mv a/f b",
            "mv b a/f",
            "mv a b",
            "withdraw",
        ] {
            assert_eq!(batches(&["put a/f", again]), [1, 1], "{again}");
        }
        for again in [
            "put a/b/c",
            "mkdir a/b/c",
            "rm a/b/c",
            "mv x a/b/c",
            "mv a/b/c x",
            "put a/b",
            "mkdir a/b",
            "rm a",
            "mv a x",
        ] {
            assert_eq!(batches(&["rm a/b", again]), [1, 1], "{again}");
            assert_eq!(batches(&["mv a/b y", again]), [1, 1], "{again}");
            assert_eq!(batches(&["mv y a/b", again]), [1, 1], "{again}");
        }
        assert_eq!(
            batches(&["mkdir a", "rm a/b", "mkdir c", "put c", "rm c", "withdraw", "withdraw"]),
            [1, 2, 1, 1, 1, 1]
        );
        assert_eq!(
            batches(&["put ab", "rm a", "put ac/d"]),
            [3],
            "names that begin alike are others"
        );
    }

    #[test]
    fn a_batch_has_an_end() {
        let lines: Vec<String> = (0..7).map(|n| format!("put {n}")).collect();
        let all: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(batches(&all), [7]);
    }
}
