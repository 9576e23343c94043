//! Listing of a local subtree through a pinned folder.
//!
//! The walk follows no link and crosses no mount point, whatever is renamed meanwhile. Besides the
//! top, one folder is open at a time.

use relais_proto::TreePath;
use relais_tree::{Folder, TreeError};

use crate::interrupt::Interrupt;
use crate::recursive::node::{Node, SkipReason, TreeListing};
use crate::transfer_log::is_reserved;
use crate::{Failure, Result};

/// Lists everything below `top`; failures are in the result.
///
/// # Errors
/// The user interrupted.
pub fn local(top: &Folder, interrupt: &Interrupt) -> Result<TreeListing> {
    let mut listing = TreeListing::default();
    enter(top, &TreePath::root(), &mut listing);
    // New folders are appended to the list, so the loop reaches all of them.
    let mut at = 0;
    while at < listing.nodes.len() {
        if interrupt.is_raised() {
            return Err(Failure::interrupted());
        }
        if listing.nodes[at].is_folder() {
            let path = listing.nodes[at].path.clone();
            match top.open_folder(&path) {
                Ok(folder) => enter(&folder, &path, &mut listing),
                Err(error) => listing.not_listed(&path, failure(&error)),
            }
        }
        at += 1;
    }
    listing.sort();
    Ok(listing)
}

/// Adds the entries directly in one folder.
fn enter(folder: &Folder, path: &TreePath, listing: &mut TreeListing) {
    let names = match folder.list() {
        Ok(names) => names,
        Err(error) => return listing.not_listed(path, failure(&error)),
    };
    for name in names {
        match name {
            Ok(name) => take(folder, path, name.name(), listing),
            Err(error) => listing.not_listed(path, failure(&error)),
        }
    }
}

fn take(folder: &Folder, path: &TreePath, bytes: &[u8], listing: &mut TreeListing) {
    let found =
        std::str::from_utf8(bytes).ok().and_then(|name| Some((name, path.join(name).ok()?)));
    let Some((name, whole)) = found else {
        return listing.skip(path, String::from_utf8_lossy(bytes), SkipReason::Name);
    };
    if is_reserved(name) {
        return listing.skip(path, name, SkipReason::Reserved);
    }
    match folder.survey(bytes) {
        Ok(survey) if survey.mount_point => listing.skip(path, name, SkipReason::Mount),
        Ok(survey) => match Node::local(whole, &survey.meta) {
            Ok(node) => listing.nodes.push(node),
            Err(reason) => listing.skip(path, name, reason),
        },
        // The entry vanished since the folder was read.
        Err(TreeError::NotFound) => {}
        Err(error) => {
            listing.skip(path, name, SkipReason::Unreadable);
            listing.failed.push((whole, failure(&error)));
        }
    }
}

fn failure(error: &TreeError) -> Failure {
    failure!(Local, "{error}")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn walk_lists_files_and_folders_and_skips_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("a/b/empty")).unwrap();
        fs::create_dir(top.join(".relais")).unwrap();
        fs::write(top.join("a/b/f"), "four").unwrap();
        fs::set_permissions(top.join("a/b/f"), fs::Permissions::from_mode(0o755)).unwrap();
        for ours in [".log", ".relais-0.part", ".LOG"] {
            fs::write(top.join("a").join(ours), "").unwrap();
        }
        fs::write(top.join("a-"), "").unwrap();
        fs::write(top.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        fs::write(top.join("new\nline"), "").unwrap();
        symlink(dir.path(), top.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
        let listing = local(&Folder::open(&top).unwrap(), &Interrupt::default()).unwrap();
        let nodes: Vec<_> =
            listing.nodes.iter().map(|n| (n.path.as_str(), n.is_folder(), n.size)).collect();
        assert_eq!(
            nodes,
            [
                ("a", true, 0),
                ("a/b", true, 0),
                ("a/b/empty", true, 0),
                ("a/b/f", false, 4),
                ("a-", false, 0)
            ]
        );
        let mut skipped: Vec<_> = listing.skipped.iter().map(|k| (k.shown(), k.reason)).collect();
        skipped.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            skipped,
            [
                (".relais".to_owned(), SkipReason::Name),
                ("a/.LOG".to_owned(), SkipReason::Reserved),
                ("a/.log".to_owned(), SkipReason::Reserved),
                ("a/.relais-0.part".to_owned(), SkipReason::Reserved),
                ("link".to_owned(), SkipReason::Link),
                ("new\nline".to_owned(), SkipReason::Name),
                ("socket".to_owned(), SkipReason::Special),
                ("\u{fffd}".to_owned(), SkipReason::Name),
            ]
        );
        assert!(listing.is_whole());
    }

    #[test]
    fn interruption_ends_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let interrupt = Interrupt::default();
        assert!(!interrupt.raise());
        assert_eq!(
            local(&Folder::open(dir.path()).unwrap(), &interrupt).unwrap_err().status(),
            130
        );
    }
}
