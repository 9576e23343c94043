//! `ftpmaster diff`: compares the slaves' trees with the master's, path by path.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use relais_cluster::ConnectionAddrs;
use relais_proto::{HistoryHash, ListedPath, Lsn, PathList, TreeEntry, TreePath, pluralize};

use super::outcome::{OperationResult, OperatorOutput, ask_order};
use super::paths;
use super::slave_tree::{SlaveTree, ask};
use super::slaves::{self, Slaves};
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
}

/// Compares the tree of each linked slave with the master's, and names known slaves without a link.
pub(super) fn diff(
    core: &Core,
    asker: ConnectionAddrs,
    output: &mut OperatorOutput<'_>,
) -> OperationResult {
    let Slaves { linked, absent } = slaves::choose(core, asker, output)?;
    let (mut differing, mut failed) = (0, 0);
    for of in &linked {
        match compare(core, of)? {
            Ok((wanted, tree)) => {
                let mut differences = differences(&wanted, &tree);
                let refused = match paths::ask(core, of, PathList::Unapplied) {
                    Ok(refused) => refused,
                    Err(why) => {
                        failed += 1;
                        output.line_now(format!("slave {}: cannot be asked: {why}", of.slave));
                        continue;
                    }
                };
                add_refused(&mut differences, &refused.named);
                for (path, how) in &differences {
                    output.line(format!("{} {path}: {}", of.slave, how.join(", ")));
                }
                let unnamed = refused.total.saturating_sub(refused.named.len() as u64);
                if unnamed > 0 {
                    output.line(format!(
                        "{}: {unnamed} more changes are not applied there and not listed here",
                        of.slave
                    ));
                }
                differing += usize::from(!differences.is_empty());
                let sum = match differences.len() {
                    0 => "the same".to_owned(),
                    n => pluralize(n, "difference"),
                };
                output.line_now(format!(
                    "slave {}: {sum} at {}, {}",
                    of.slave,
                    wanted.last,
                    pluralize(wanted.entries.len(), "path")
                ));
            }
            Err(why) => {
                failed += 1;
                output.line_now(format!("slave {}: cannot be compared: {why}", of.slave));
            }
        }
        if output.is_gone() {
            break;
        }
    }
    let all = pluralize(linked.len() + absent, "slave");
    match (differing, failed + absent) {
        (0, 0) => Ok(format!("the trees of {all} are the master's")),
        (0, failed) => Err(format!("{failed} of {all} could not be compared")),
        (differing, 0) => Err(format!("{differing} of {all} differ")),
        (differing, failed) => {
            Err(format!("{differing} of {all} differ, and {failed} could not be compared"))
        }
    }
}

/// Gets both trees at the same change; the inner error is the reason why that failed.
fn compare(
    core: &Core,
    of: &LinkedSlave,
) -> Result<Result<(MasterTree, SlaveTree), String>, String> {
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
            let ledger = engine.order().state();
            let same = applied == ledger.last();
            same.then(|| MasterTree {
                last: ledger.last(),
                chain: ledger.chain(),
                entries: ledger.tree().iter().map(|(path, entry)| (path.clone(), *entry)).collect(),
            })
            .ok_or(ledger.last())
        });
        match wanted? {
            Ok(wanted) => return Ok(Ok((wanted, tree))),
            Err(last) => why = format!("it is at {applied} and the master at {last}"),
        }
    }
    Ok(Err(why))
}

/// PathListing with their differences.
type Differences = Vec<(String, Vec<String>)>;

/// Adds the changes that the slave's disk refuses, with the reasons.
fn add_refused(differences: &mut Differences, refused: &[ListedPath]) {
    let mut at: BTreeMap<String, usize> =
        differences.iter().enumerate().map(|(n, (path, _))| (path.clone(), n)).collect();
    for note in refused {
        let place = *at.entry(note.path.clone()).or_insert_with(|| {
            differences.push((note.path.clone(), Vec::new()));
            differences.len() - 1
        });
        if let Some((_, how)) = differences.get_mut(place) {
            how.push(note.reason.clone());
        }
    }
}

/// Compares the trees, and returns each path that differs.
fn differences(wanted: &MasterTree, tree: &SlaveTree) -> Differences {
    let mut found = Vec::new();
    if tree.position.chain != wanted.chain && wanted.last != Lsn::default() {
        found.push((
            "all changes".to_owned(),
            vec!["other changes under the same numbers".to_owned()],
        ));
    }
    for (path, entry) in &wanted.entries {
        let how = match tree.entries.get(path) {
            None => vec!["missing".to_owned()],
            Some((there, here)) => {
                let content = entry.content != there.content;
                let lacking = !content && !here && there.content.is_some();
                [
                    (entry.version != there.version, "other number"),
                    (content, "other content"),
                    (lacking, "content not there yet"),
                ]
                .into_iter()
                .filter(|(is, _)| *is)
                .map(|(_, how)| how.to_owned())
                .collect()
            }
        };
        if !how.is_empty() {
            found.push((path.to_string(), how));
        }
    }
    let extra = tree.entries.keys().filter(|path| !wanted.entries.contains_key(*path));
    found.extend(extra.map(|path| (path.to_string(), vec!["extra".to_owned()])));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::{Digest, FileContent, FileTime, Mode, ReplicaPosition};

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
        let wanted = MasterTree { last: version(9), chain: HistoryHash([1; 32]), entries };
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
        let mut tree = SlaveTree { entries: there, position, ..SlaveTree::default() };
        let found: Vec<String> = differences(&wanted, &tree)
            .iter()
            .map(|(path, how)| format!("{path} {}", how.join("+")))
            .collect();
        let all = [
            "/b other number",
            "/c other content",
            "/d other content",
            "/e content not there yet",
            "/f missing",
            "/g extra",
        ];
        assert_eq!(found, all);
        let note = |path: &str| ListedPath {
            path: path.to_owned(),
            reason: "not applied here: why".to_owned(),
            since_ms: 1,
        };
        let mut both = differences(&wanted, &tree);
        add_refused(&mut both, &[note("/e"), note("/left")]);
        assert_eq!(both.len(), all.len() + 1);
        assert_eq!(both[3].1, ["content not there yet", "not applied here: why"]);
        assert_eq!(both[6], ("/left".to_owned(), vec!["not applied here: why".to_owned()]));
        tree.position.chain = HistoryHash([2; 32]);
        assert_eq!(differences(&wanted, &tree).len(), all.len() + 1);
    }
}
