//! A local subtree, seen through a pinned folder: no link is followed and no mount point crossed,
//! whatever is renamed meanwhile. One folder is open at a time besides the top.

use relais_proto::{ErrorCode, TreePath};
use relais_tree::{Folder, Listed, Meta, MetaKind, TreeError};

use crate::Failure;
use crate::interrupt::Interrupt;
use crate::log::is_ours;
use crate::recursive::node::{Kept, Listing, Node, Odd};

/// Lists all below `top`. What fails is in the result.
///
/// # Errors
/// Only that the user interrupted.
pub fn local(top: &Folder, interrupt: &Interrupt) -> Result<Listing, Failure> {
    let mut listing = Listing::default();
    enter(top, &TreePath::root(), &mut listing);
    // Folders are found behind the one that is looked into, so this comes to all of them.
    let mut at = 0;
    while at < listing.nodes.len() {
        if interrupt.is_raised() {
            return Err(Failure::interrupted());
        }
        if listing.nodes[at].is_folder() {
            let path = listing.nodes[at].path.clone();
            match top.open_folder(&path) {
                Ok(folder) => enter(&folder, &path, &mut listing),
                Err(error) => not_listed(&path, &error, &mut listing),
            }
        }
        at += 1;
    }
    listing.sort();
    Ok(listing)
}

/// Takes in what lies right in one folder.
fn enter(folder: &Folder, path: &TreePath, listing: &mut Listing) {
    let names = match folder.list() {
        Ok(names) => names,
        Err(error) => return not_listed(path, &error, listing),
    };
    for name in names {
        match name {
            Ok(name) => take(folder, path, &name, listing),
            Err(error) => not_listed(path, &error, listing),
        }
    }
}

fn take(folder: &Folder, path: &TreePath, listed: &Listed, listing: &mut Listing) {
    let found = std::str::from_utf8(listed.name())
        .ok()
        .and_then(|name| Some((name, path.join(name).ok()?)));
    let Some((name, whole)) = found else {
        let shown = String::from_utf8_lossy(listed.name()).into_owned();
        listing.kept.push(Kept::new(path, shown, Odd::Name));
        return;
    };
    if is_ours(name) {
        listing.kept.push(Kept::new(path, name, Odd::Ours));
        return;
    }
    if let Some(odd) = listed.kind().and_then(odd_kind) {
        listing.kept.push(Kept::new(path, name, odd));
        return;
    }
    match folder.survey(listed.name()) {
        Ok(survey) if survey.mount_point => listing.kept.push(Kept::new(path, name, Odd::Mount)),
        Ok(survey) => match odd_kind(survey.meta.kind) {
            Some(odd) => listing.kept.push(Kept::new(path, name, odd)),
            None => listing.nodes.extend(node(whole, &survey.meta)),
        },
        // It went away since it was listed.
        Err(TreeError::NotFound) => {}
        Err(error) => {
            listing.kept.push(Kept::new(path, name, Odd::Unreadable));
            listing.failed.push((whole, failure(&error)));
        }
    }
}

fn odd_kind(kind: MetaKind) -> Option<Odd> {
    match kind {
        MetaKind::File | MetaKind::Folder => None,
        MetaKind::Link => Some(Odd::Link),
        MetaKind::Special => Some(Odd::Special),
    }
}

fn node(path: TreePath, meta: &Meta) -> Option<Node> {
    let kind = meta.served_kind()?;
    let is_file = meta.kind == MetaKind::File;
    Some(Node {
        path,
        kind,
        size: if is_file { meta.size } else { 0 },
        mtime: meta.mtime,
        version: None,
    })
}

/// What else the folder holds is not known, so nobody may remove it.
fn not_listed(path: &TreePath, error: &TreeError, listing: &mut Listing) {
    listing.kept.push(Kept {
        folder: path.clone(),
        name: String::new(),
        path: None,
        odd: Odd::Unreadable,
    });
    listing.failed.push((path.clone(), failure(error)));
}

fn failure(error: &TreeError) -> Failure {
    Failure::new(ErrorCode::Local, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn files_and_folders_are_listed_and_the_rest_is_left_alone() {
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
        let listing = local(&Folder::open(&top).unwrap(), &Interrupt::new()).unwrap();
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
        let mut kept: Vec<_> = listing.kept.iter().map(|k| (k.shown(), k.odd)).collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            kept,
            [
                (".relais".to_owned(), Odd::Name),
                ("a/.LOG".to_owned(), Odd::Ours),
                ("a/.log".to_owned(), Odd::Ours),
                ("a/.relais-0.part".to_owned(), Odd::Ours),
                ("link".to_owned(), Odd::Link),
                ("new\nline".to_owned(), Odd::Name),
                ("socket".to_owned(), Odd::Special),
                ("\u{fffd}".to_owned(), Odd::Name),
            ]
        );
        assert!(listing.is_whole());
    }

    #[test]
    fn an_interruption_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let interrupt = Interrupt::new();
        assert!(!interrupt.raise());
        assert_eq!(
            local(&Folder::open(dir.path()).unwrap(), &interrupt).unwrap_err().status(),
            130
        );
    }
}
