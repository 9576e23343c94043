//! Checks whether a change fits the tree, for master, slaves and simulator.
//!
//! The caller checks the change in the step that numbers it, against the tree at that number. A
//! change that does not fit gets an error and no number. A numbered change applies everywhere.

use relais_proto::{
    Attributes, Change, ChangeRequest, ErrorCode, Expect, Kind, Refusal, TreePath, limits,
};

use crate::check_annotations::{check_hashes, check_properties};
use crate::check_locks::{Holder, check_free};
use crate::tree_view::{TreeNode, TreeView};

/// Circumstances of a request that are not part of it.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext {
    /// Whether the change was found in a slave's folder.
    ///
    /// Locks do not count for it: it has happened. The slave's own replicator says so, never a
    /// session, and the ids of its changes have the account 0.
    pub is_local: bool,
    /// Time of the master in milliseconds since 1970 UTC, at which locks are alive or expired.
    pub now_ms: u64,
}

/// Checks a change against the tree.
///
/// The parent must be a folder, the kind must fit, a removed folder must be empty, the precondition
/// must hold, and no lock of another holder may protect what changes.
///
/// # Errors
/// The refusal.
pub fn check<V: TreeView>(
    request: &ChangeRequest,
    context: RequestContext,
    tree: &mut V,
) -> Result<(), Refusal> {
    let (account, tokens) = (request.id.account(), request.tokens.as_slice());
    let holder = Holder { account, tokens, now_ms: context.now_ms };
    check_kind(request, holder, tree)?;
    if context.is_local { Ok(()) } else { check_free(&request.change, holder, tree) }
}

fn check_kind<V: TreeView>(
    request: &ChangeRequest,
    holder: Holder<'_>,
    tree: &mut V,
) -> Result<(), Refusal> {
    let expect = request.expect;
    match &request.change {
        Change::Put { path, .. } => check_put(path, expect, tree),
        Change::MakeFolder { path, .. } => check_make_folder(path, tree),
        Change::Remove { path, recursive } => check_remove(path, *recursive, expect, tree),
        Change::Move { from, to } => check_move(from, to, expect, tree),
        Change::SetAttributes { path, attributes } => {
            check_attributes(path, attributes, expect, tree)
        }
        Change::SetProperties { path, changes } => {
            check_there(path, expect, tree)?;
            check_properties(path, changes, tree)
        }
        Change::Lock { path, lock } => {
            check_there(path, expect, tree)?;
            holder.check_lock(path, lock, tree.locks())
        }
        Change::Unlock { path, token } => holder.check_unlock(path, *token, tree.locks()),
        Change::RecordSha256 { put, hashes } => check_hashes(*put, hashes, tree),
        // Only the sequencer makes this change, and it always fits.
        Change::Withdraw { .. } => Ok(()),
    }
}

fn refuse_at(path: &TreePath, code: ErrorCode, message: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::at(path, code, message))
}

/// Checks that the parent of `path` is a folder.
fn check_parent<V: TreeView>(path: &TreePath, tree: &mut V) -> Result<(), Refusal> {
    let Some((parent, _)) = path.split_last().filter(|(parent, _)| !parent.is_root()) else {
        return Ok(());
    };
    match tree.node(&parent).map(|node| node.kind) {
        Some(Kind::Folder) => Ok(()),
        Some(Kind::File) => refuse_at(&parent, ErrorCode::NotFolder, "not a folder"),
        None => refuse_at(&parent, ErrorCode::NotFound, "no such folder; make it first"),
    }
}

/// Checks the precondition on the entry at `path`.
fn check_expected(path: &TreePath, expect: Expect, node: Option<TreeNode>) -> Result<(), Refusal> {
    if expect.fits(node.map(|node| node.version)) {
        return Ok(());
    }
    let found = match node.map(|node| node.version) {
        None => "nothing".to_owned(),
        Some(None) => "something that was never numbered".to_owned(),
        Some(Some(version)) => format!("version {version}"),
    };
    refuse_at(path, ErrorCode::Changed, format!("it has changed: {found} is there now"))
}

/// Checks that a file, a folder or the root is there as expected.
fn check_there<V: TreeView>(path: &TreePath, expect: Expect, tree: &mut V) -> Result<(), Refusal> {
    if path.is_root() && expect == Expect::Any {
        return Ok(());
    }
    match tree.node(path) {
        None if !path.is_root() => refuse_at(path, ErrorCode::NotFound, "no such file or folder"),
        node => check_expected(path, expect, node),
    }
}

fn check_put<V: TreeView>(path: &TreePath, expect: Expect, tree: &mut V) -> Result<(), Refusal> {
    check_parent(path, tree)?;
    let node = tree.node(path);
    if path.is_root() || node.is_some_and(|node| node.kind == Kind::Folder) {
        return refuse_at(path, ErrorCode::IsFolder, "a folder has that name");
    }
    check_expected(path, expect, node)
}

fn check_make_folder<V: TreeView>(path: &TreePath, tree: &mut V) -> Result<(), Refusal> {
    check_parent(path, tree)?;
    match tree.node(path).map(|node| node.kind) {
        None if !path.is_root() => Ok(()),
        None | Some(Kind::Folder) => {
            refuse_at(path, ErrorCode::Exists, "the folder is there already")
        }
        Some(Kind::File) => refuse_at(path, ErrorCode::NotFolder, "a file has that name"),
    }
}

fn check_remove<V: TreeView>(
    path: &TreePath,
    recursive: bool,
    expect: Expect,
    tree: &mut V,
) -> Result<(), Refusal> {
    if path.is_root() {
        return refuse_at(path, ErrorCode::Denied, "the root folder cannot be removed");
    }
    let node = tree.node(path);
    let Some(TreeNode { kind, .. }) = node else {
        return refuse_at(path, ErrorCode::NotFound, "no such file or folder");
    };
    check_expected(path, expect, node)?;
    if kind == Kind::Folder && !recursive && !tree.is_empty(path) {
        return refuse_at(path, ErrorCode::NotEmpty, "the folder is not empty");
    }
    Ok(())
}

fn check_attributes<V: TreeView>(
    path: &TreePath,
    attributes: &Attributes,
    expect: Expect,
    tree: &mut V,
) -> Result<(), Refusal> {
    if path.is_root() {
        return refuse_at(
            path,
            ErrorCode::Denied,
            "the attributes of the root folder are each server's own",
        );
    }
    match tree.node(path) {
        None => refuse_at(path, ErrorCode::NotFound, "no such file or folder"),
        Some(TreeNode { kind: Kind::Folder, .. }) if attributes.mtime.is_some() => {
            refuse_at(path, ErrorCode::IsFolder, "the time of a folder is each server's own")
        }
        node => check_expected(path, expect, node),
    }
}

fn check_move<V: TreeView>(
    from: &TreePath,
    to: &TreePath,
    expect: Expect,
    tree: &mut V,
) -> Result<(), Refusal> {
    if from.is_root() || to.is_root() {
        return Err(Refusal::new(ErrorCode::Denied, "the root folder cannot be moved or replaced"));
    }
    let Some(node) = tree.node(from) else {
        return refuse_at(from, ErrorCode::NotFound, "no such file or folder");
    };
    check_expected(from, expect, Some(node))?;
    if from == to {
        return Ok(());
    }
    if to.is_below(from) {
        return refuse_at(from, ErrorCode::Denied, "it cannot be moved into itself");
    }
    check_parent(to, tree)?;
    let longer = to.as_str().len().saturating_sub(from.as_str().len());
    if node.kind == Kind::Folder && longer > 0 && tree.longest_below(from) + longer > limits::PATH {
        return refuse_at(
            to,
            ErrorCode::BadName,
            format!("paths below it would become longer than {} bytes", limits::PATH),
        );
    }
    match (tree.node(to).map(|node| node.kind), node.kind) {
        (None, _) | (Some(Kind::File), Kind::File) => Ok(()),
        (Some(Kind::File), Kind::Folder) => {
            refuse_at(to, ErrorCode::NotFolder, "a file has that name")
        }
        (Some(Kind::Folder), _) => refuse_at(
            to,
            ErrorCode::Exists,
            "a folder has that name; move into it by its whole new name",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::locks::LockTable;
    use crate::properties::PathProperties;
    use relais_proto::{ChangeId, Digest, FileTime, Lsn, Mode};

    struct Tree(BTreeMap<&'static str, TreeNode>, LockTable);

    impl TreeView for Tree {
        fn node(&mut self, path: &TreePath) -> Option<TreeNode> {
            self.0.get(path.as_str()).copied()
        }
        fn is_empty(&mut self, folder: &TreePath) -> bool {
            !self.0.keys().any(|path| path.starts_with(&format!("{folder}/")[1..]))
        }
        fn longest_below(&mut self, folder: &TreePath) -> usize {
            let below =
                self.0.keys().filter(|path| TreePath::new(**path).unwrap().is_below(folder));
            below.map(|path| path.len()).max().unwrap_or(0)
        }
        fn number_of(&mut self, _: ChangeId) -> Option<Lsn> {
            None
        }
        fn locks(&mut self) -> &LockTable {
            &self.1
        }
        fn properties(&mut self, _: &TreePath) -> Option<&PathProperties> {
            None
        }
        fn property_bytes(&mut self) -> usize {
            0
        }
        fn size_of(&mut self, _: Lsn) -> Option<u64> {
            None
        }
        fn has_hashes(&mut self, _: Lsn) -> bool {
            false
        }
    }

    fn checked(change: &Change, expect: Expect, tree: &mut Tree) -> Option<ErrorCode> {
        let request = ChangeRequest {
            id: ChangeId([1; 16]),
            change: change.clone(),
            expect,
            keep_mode: false,
            tokens: Vec::new(),
        };
        let context = RequestContext { is_local: false, now_ms: 0 };
        check(&request, context, tree).err().map(|refusal| refusal.code)
    }

    fn tree() -> Tree {
        let node = |kind, number| TreeNode {
            kind,
            version: Some(Lsn { epoch: 1, number }),
            mode: Mode::new(0o644),
        };
        let nodes = BTreeMap::from([
            ("file", node(Kind::File, 1)),
            ("old", TreeNode { kind: Kind::File, version: None, mode: Mode::new(0o644) }),
            ("empty", node(Kind::Folder, 2)),
            ("full", node(Kind::Folder, 3)),
            ("full/inside", node(Kind::File, 4)),
        ]);
        Tree(nodes, LockTable::default())
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn ask(change: &Change, expect: Expect) -> Option<ErrorCode> {
        checked(change, expect, &mut tree())
    }

    fn put(text: &str) -> Change {
        Change::Put {
            path: path(text),
            size: 0,
            digest: Digest([0; 32]),
            mtime: FileTime::default(),
            mode: Mode::new(0o644),
        }
    }

    fn chmod(text: &str) -> Change {
        let attributes = Attributes::mode(Mode::new(0o600));
        Change::SetAttributes { path: path(text), attributes }
    }

    #[test]
    fn only_files_get_a_time() {
        use ErrorCode::{Denied, IsFolder, NotFound};
        for (at, chmod_code, touch_code) in [
            ("file", None, None),
            ("empty", None, Some(IsFolder)),
            ("none", Some(NotFound), Some(NotFound)),
            ("", Some(Denied), Some(Denied)),
        ] {
            assert_eq!(ask(&chmod(at), Expect::Any), chmod_code, "{at:?}");
            let attributes = Attributes { mtime: Some(FileTime::default()), mode: None };
            let touch = Change::SetAttributes { path: path(at), attributes };
            assert_eq!(ask(&touch, Expect::Any), touch_code, "{at:?}");
        }
    }

    #[test]
    fn every_change_at_every_kind_of_path() {
        use ErrorCode::{Denied, Exists, IsFolder, NotEmpty, NotFolder, NotFound};
        let remove = |text, recursive| Change::Remove { path: path(text), recursive };
        let table: [(&str, [Option<ErrorCode>; 4]); 7] = [
            ("file", [None, Some(NotFolder), None, None]),
            ("empty", [Some(IsFolder), Some(Exists), None, None]),
            ("full", [Some(IsFolder), Some(Exists), Some(NotEmpty), None]),
            ("none", [None, None, Some(NotFound), Some(NotFound)]),
            ("", [Some(IsFolder), Some(Exists), Some(Denied), Some(Denied)]),
            ("file/x", [Some(NotFolder), Some(NotFolder), Some(NotFound), Some(NotFound)]),
            ("none/x", [Some(NotFound), Some(NotFound), Some(NotFound), Some(NotFound)]),
        ];
        for (at, wanted) in table {
            let changes = [
                put(at),
                Change::MakeFolder { path: path(at), mode: Mode::new(0o755) },
                remove(at, false),
                remove(at, true),
            ];
            assert_eq!(changes.map(|change| ask(&change, Expect::Any)), wanted, "{at:?}");
        }
    }

    #[test]
    fn moves_are_as_rename_but_never_onto_a_folder() {
        use ErrorCode::{Denied, Exists, NotFolder, NotFound};
        for (from, to, wanted) in [
            ("file", "new", None),
            ("file", "old", None),
            ("file", "file", None),
            ("file", "full/new", None),
            ("full", "new", None),
            ("full", "file", Some(NotFolder)),
            ("full", "empty", Some(Exists)),
            ("file", "empty", Some(Exists)),
            ("full", "full/sub", Some(Denied)),
            ("full", "fullest", None),
            ("none", "new", Some(NotFound)),
            ("file", "none/new", Some(NotFound)),
            ("file", "old/new", Some(NotFolder)),
            ("", "new", Some(Denied)),
            ("file", "", Some(Denied)),
        ] {
            assert_eq!(
                ask(&Change::Move { from: path(from), to: path(to) }, Expect::Any),
                wanted,
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn no_path_below_becomes_too_long() {
        let deep = |len: usize| ["x".repeat(250).as_str()].repeat(len / 251).join("/");
        let short = deep(4095 - 300);
        let (fits, long) = ("y".repeat(200), deep(600));
        let mut tree = tree();
        tree.0
            .insert("far", TreeNode { kind: Kind::Folder, version: None, mode: Mode::new(0o755) });
        let below: &'static str = Box::leak(format!("far/{short}").into_boxed_str());
        tree.0.insert(below, TreeNode { kind: Kind::File, version: None, mode: Mode::new(0o644) });
        let mut parent = String::new();
        for part in long.split('/') {
            parent = if parent.is_empty() { part.to_owned() } else { format!("{parent}/{part}") };
            tree.0.insert(
                Box::leak(parent.clone().into_boxed_str()),
                TreeNode { kind: Kind::Folder, version: None, mode: Mode::new(0o755) },
            );
        }
        let mut ask = |to: &str| {
            checked(&Change::Move { from: path("far"), to: path(to) }, Expect::Any, &mut tree)
        };
        assert_eq!(ask(&fits), None);
        assert_eq!(ask(&format!("{long}/z")), Some(ErrorCode::BadName));
    }

    #[test]
    fn a_change_finds_what_it_expects_or_is_refused() {
        let version = |number| Expect::Lsn(Lsn { epoch: 1, number });
        for (at, expect, fits) in [
            ("file", version(1), true),
            ("file", version(2), false),
            ("file", Expect::Absent, false),
            ("file", Expect::Unnumbered, false),
            ("old", Expect::Unnumbered, true),
            ("old", version(1), false),
            ("empty", version(2), true),
            ("empty", version(1), false),
            ("none", Expect::Absent, true),
            ("none", version(1), false),
        ] {
            let wanted = (!fits).then_some(ErrorCode::Changed);
            let move_away = Change::Move { from: path(at), to: path("new") };
            let (found, file) = (at != "none", at != "empty");
            for (change, is_checked) in [
                (put(at), file),
                (Change::Remove { path: path(at), recursive: false }, found),
                (move_away, found),
                (chmod(at), found),
            ] {
                if is_checked {
                    assert_eq!(ask(&change, expect), wanted, "{change:?} {expect:?}");
                }
            }
        }
    }
}
