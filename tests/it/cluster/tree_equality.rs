//! Requires that all slaves have equal folders.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::helpers::wait_settled;
use crate::harness::{Cluster, SOON, digest, staged_files};

/// An entry: a folder, or a file with digest and time; and the permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeEntry {
    Folder { mode: u32 },
    File { digest: String, modified: SystemTime, mode: u32 },
}

/// All entries of a folder, by path.
pub type TreeEntries = BTreeMap<String, TreeEntry>;

/// Reads a folder, except `.relais` and `.log`; fails if an entry moves meanwhile.
fn look(root: &Path) -> std::io::Result<TreeEntries> {
    let (mut found, mut open) = (TreeEntries::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if [".relais", ".log"].contains(&name.as_str()) {
                continue;
            }
            let meta = fs::symlink_metadata(&path)?;
            let mode = meta.permissions().mode() & 0o777;
            let node = if meta.is_dir() {
                open.push(path);
                TreeEntry::Folder { mode }
            } else {
                TreeEntry::File {
                    digest: digest(&fs::read(&path)?),
                    modified: meta.modified()?,
                    mode,
                }
            };
            found.insert(name, node);
        }
    }
    Ok(found)
}

/// Reads a folder that does not change.
#[track_caller]
pub fn nodes(root: &Path) -> TreeEntries {
    look(root).unwrap_or_else(|e| panic!("{}: {e}", root.display()))
}

/// Describes the differences of two folders, for the message of a failed test.
fn differences(one: &TreeEntries, other: &TreeEntries) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differing = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    differing
        .take(12)
        .map(|name| format!("{name}: {:?} and {:?}", one.get(name), other.get(name)))
        .collect()
}

/// Files that may be left in a staging folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leftovers {
    Nothing,
    /// Interrupted uploads, which a client may resume for a day.
    Uploads,
}

/// Waits until all slaves are in service with all changes; requires equal folders and empty staging
/// folders.
///
/// Returns the common tree.
#[track_caller]
pub fn wait_equal(cluster: &Cluster) -> TreeEntries {
    wait_for(cluster, Leftovers::Nothing)
}

/// Like [`wait_equal`], but interrupted uploads may be left.
#[track_caller]
pub fn wait_equal_but_uploads(cluster: &Cluster) -> TreeEntries {
    wait_for(cluster, Leftovers::Uploads)
}

#[track_caller]
fn wait_for(cluster: &Cluster, may_be_left: Leftovers) -> TreeEntries {
    wait_settled(cluster);
    let began = Instant::now();
    loop {
        let all: Vec<_> =
            cluster.slaves.iter().map(|slave| look(&slave.root).unwrap_or_default()).collect();
        let mut left: Vec<_> =
            cluster.slaves.iter().flat_map(|slave| staged_files(&slave.root)).collect();
        left.retain(|path| may_be_left == Leftovers::Nothing || is_fetched(path));
        let odd = all.iter().position(|nodes| *nodes != all[0]);
        if odd.is_none() && left.is_empty() {
            return all.into_iter().next().unwrap();
        }
        let differ = odd.map_or_else(Vec::new, |odd| differences(&all[0], &all[odd]));
        let left: Vec<_> = left.iter().map(|path| (path, whose(path, &all[0]))).collect();
        assert!(
            began.elapsed() < SOON,
            "slaves 0 and {odd:?} differ: {differ:#?}; still staged: {left:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns whether a staged file comes from another slave. No slave needs it once all content is
/// here.
fn is_fetched(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-0000000000000000")
}

/// Returns the path that has the content of a staged file.
fn whose(staged: &Path, nodes: &TreeEntries) -> Option<String> {
    let content = digest(&fs::read(staged).ok()?);
    nodes
        .iter()
        .find(|(_, node)| matches!(node, TreeEntry::File { digest, .. } if *digest == content))
        .map(|(name, _)| name.clone())
}

/// Requires that a folder equals a local one, except for the times of folders.
#[track_caller]
pub fn same_as(nodes: &TreeEntries, local: &Path) {
    let wanted = self::nodes(local);
    assert!(*nodes == wanted, "{:#?}", differences(nodes, &wanted));
}
