//! `ftpmaster diff`: compares the slaves' trees with the master's, path by path.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use relais_proto::{
    Annotations, HistoryHash, ListedPath, Lsn, PathList, TreeEntry, TreePath, pluralize,
};

use super::paths;
use super::session::{OperationResult, OperatorSession, ask_order};
use super::slave_tree::{SlaveTree, ask};
use super::slaves::Slaves;
use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// Attempts to get both trees at the same change.
const ATTEMPTS: usize = 5;
/// Pause between two attempts. A slave usually applies a change within this time.
const PAUSE: Duration = Duration::from_millis(500);

/// The master's tree at one change.
struct MasterTree {
    last: Lsn,
    chain: HistoryHash,
    entries: BTreeMap<TreePath, TreeEntry>,
    annotations: Annotations,
}

/// Compares the tree of each linked slave with the master's, and names known slaves without a link.
pub(super) fn diff(session: &mut OperatorSession<'_>) -> OperationResult {
    let slaves = Slaves::choose(session)?;
    let results = slaves.check_each(session, |session, of| {
        let (wanted, tree) =
            compare(session.core, of).map_err(|why| format!("cannot be compared: {why}"))?;
        let (refused, unnamed) = paths::ask(session.core, of, PathList::Unapplied)?;
        let differences = differences(&wanted, &tree, refused);
        for (path, how) in &differences {
            session.line(format!("{} {path}: {}", of.slave, how.join(", ")));
        }
        if unnamed > 0 {
            session.line(format!(
                "{}: {unnamed} more changes are not applied there and not listed here",
                of.slave
            ));
        }
        let sum = match differences.len() {
            0 => "the same".to_owned(),
            n => pluralize(n, "difference"),
        };
        let paths = pluralize(wanted.entries.len(), "path");
        session.line_now(format!("slave {}: {sum} at {}, {paths}", of.slave, wanted.last));
        Ok(differences.is_empty())
    });
    let good = format!("the trees of {} are the master's", slaves.count());
    slaves.result(results, good, "differ", "could not be compared")
}

/// Gets both trees at the same change.
///
/// # Errors
/// The reason why that failed.
fn compare(core: &Core, of: &LinkedSlave) -> Result<(MasterTree, SlaveTree), String> {
    let mut why = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(PAUSE);
        }
        let tree = match ask(core, of, false) {
            Ok(tree) => tree,
            Err(error) => {
                why = error;
                continue;
            }
        };
        let applied = tree.position.applied;
        let wanted = ask_order(core, move |engine| {
            let order = engine.order();
            let state = order.state();
            if applied != state.last() {
                return Err(state.last());
            }
            Ok(MasterTree {
                last: applied,
                chain: state.chain(),
                entries: state.tree().iter().collect(),
                annotations: state.tree().annotations(),
            })
        });
        match wanted? {
            Ok(wanted) => return Ok((wanted, tree)),
            Err(last) => why = format!("it is at {applied} and the master at {last}"),
        }
    }
    Err(why)
}

/// Returns each path that differs, with its differences, and each that the slave's disk refuses.
fn differences(
    wanted: &MasterTree,
    tree: &SlaveTree,
    refused: Vec<ListedPath>,
) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |path: String, how: &str| found.entry(path).or_default().push(how.to_owned());
    if tree.position.chain != wanted.chain && wanted.last != Lsn::default() {
        add("all changes".to_owned(), "other changes under the same numbers");
    }
    for (path, entry) in &wanted.entries {
        let Some((there, here)) = tree.entries.get(path) else {
            add(path.to_string(), "missing");
            continue;
        };
        if entry.version != there.version {
            add(path.to_string(), "other number");
        }
        if entry.content != there.content {
            add(path.to_string(), "other content");
        } else if !here && there.content.is_some() {
            add(path.to_string(), "content not there yet");
        }
    }
    for path in tree.entries.keys().filter(|path| !wanted.entries.contains_key(*path)) {
        add(path.to_string(), "extra");
    }
    let (ours, theirs) = (&wanted.annotations, &tree.annotations);
    for path in other_paths(&ours.properties, &theirs.properties) {
        add(path.to_string(), "other properties");
    }
    for path in other_paths(&ours.locks, &theirs.locks) {
        add(path.to_string(), "other locks");
    }
    for note in refused {
        add(note.path, &note.reason);
    }
    found
}

/// Returns the paths that do not have the same in both lists, which may be in different orders.
fn other_paths<'a, T: PartialEq>(
    ours: &'a [(TreePath, T)],
    theirs: &'a [(TreePath, T)],
) -> BTreeSet<&'a TreePath> {
    let mut by_path = BTreeMap::<_, (Vec<&T>, Vec<&T>)>::new();
    for (path, value) in ours {
        by_path.entry(path).or_default().0.push(value);
    }
    for (path, value) in theirs {
        by_path.entry(path).or_default().1.push(value);
    }
    let is_other = |ours: &[&T], theirs: &[&T]| {
        ours.len() != theirs.len() || ours.iter().any(|value| !theirs.contains(value))
    };
    let others = by_path.into_iter().filter(|(_, (ours, theirs))| is_other(ours, theirs));
    others.map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::{
        Digest, FileContent, FileTime, Lock, LockToken, Mode, Property, PropertyName,
        ReplicaPosition,
    };

    #[test]
    fn each_difference_is_named() {
        let version = |number| Lsn { epoch: 1, number };
        let file = |number, digest| {
            let content = FileContent {
                put: version(1),
                digest: Digest([digest; 32]),
                size: 1,
                mtime: FileTime::default(),
            };
            TreeEntry { version: version(number), mode: Mode::new(0o644), content: Some(content) }
        };
        let folder = TreeEntry { version: version(3), mode: Mode::new(0o755), content: None };
        let path = |name: &str| TreePath::new(name).unwrap();
        let entries = [
            ("a", file(1, 1)),
            ("b", file(1, 1)),
            ("c", file(1, 1)),
            ("d", folder),
            ("e", file(1, 1)),
            ("f", folder),
        ];
        let entries = entries.map(|(name, entry)| (path(name), entry)).into();
        let property = |name: &str, value: &str| {
            let named = PropertyName { namespace: String::new(), local: "p".into() };
            (path(name), Property { name: named, value: value.into() })
        };
        let lock = |name: &str, expires_ms| {
            let (token, user) = (LockToken([1; 16]), "ann".to_owned());
            let (exclusive, deep, owner) = (true, false, String::new());
            (path(name), Lock { token, account: 1, user, owner, exclusive, deep, expires_ms })
        };
        let annotations = Annotations {
            properties: vec![property("a", "same"), property("b", "mine"), property("f", "gone")],
            locks: vec![lock("a", 1), lock("c", 2)],
            ..Annotations::default()
        };
        let wanted =
            MasterTree { last: version(9), chain: HistoryHash([1; 32]), entries, annotations };
        let there = [
            ("a", file(1, 1), true),
            ("b", file(2, 1), true),
            ("c", file(1, 2), false),
            ("d", file(3, 1), true),
        ];
        let more = [("e", file(1, 1), false), ("g", folder, false)];
        let there = there
            .into_iter()
            .chain(more)
            .map(|(name, entry, here)| (path(name), (entry, here)))
            .collect();
        let position =
            ReplicaPosition { applied: version(9), chain: HistoryHash([1; 32]), epoch: 1 };
        let annotations = Annotations {
            properties: vec![property("b", "theirs"), property("a", "same")],
            locks: vec![lock("a", 1), lock("c", 3)],
            ..Annotations::default()
        };
        let mut tree = SlaveTree { entries: there, position, annotations, ..SlaveTree::default() };
        let found: Vec<String> = differences(&wanted, &tree, Vec::new())
            .iter()
            .map(|(path, how)| format!("{path} {}", how.join("+")))
            .collect();
        let all = [
            "/b other number+other properties",
            "/c other content+other locks",
            "/d other content",
            "/e content not there yet",
            "/f missing+other properties",
            "/g extra",
        ];
        assert_eq!(found, all);
        let note = |path: &str| ListedPath {
            path: path.to_owned(),
            reason: "not applied here: why".to_owned(),
            since_ms: 1,
        };
        let both = differences(&wanted, &tree, vec![note("/e"), note("/left")]);
        assert_eq!(both.len(), all.len() + 1);
        assert_eq!(both["/e"], ["content not there yet", "not applied here: why"]);
        assert_eq!(both["/left"], ["not applied here: why"]);
        tree.position.chain = HistoryHash([2; 32]);
        assert_eq!(differences(&wanted, &tree, Vec::new()).len(), all.len() + 1);
    }
}
