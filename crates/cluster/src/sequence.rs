//! Sequencer: gives numbers to the changes that fit the tree, in their order of arrival.
//!
//! Pure. The numbered changes must be in a
//! journal before any effect. Several changes are checked together, each against the tree after the
//! ones before it. A change that moves or removes a folder is numbered alone, so the effects of the
//! others can be described path by path.

use std::collections::HashMap;

pub use relais_proto::{Attributes, ChangeRequest};
use relais_proto::{
    Change, ChangeId, Kind, Lock, LogEntry, Lsn, PropertyChange, Refusal, TreePath,
};

use crate::check::{RequestContext, check};
use crate::locks::LockTable;
use crate::properties::PathProperties;
use crate::tree_view::{TreeNode, TreeView};

/// Result of sequencing one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceResult {
    /// The change has a number now.
    Accepted(LogEntry),
    /// The change was committed before under this number, or has just been numbered.
    AlreadyCommitted(Lsn),
    /// The change does not fit.
    Refused(Refusal),
}

/// Assigns numbers to changes.
#[derive(Debug, Clone)]
pub struct Sequencer {
    last: Lsn,
}

impl Sequencer {
    /// Continues after `last`. An empty tree begins with epoch 1, number 0.
    #[must_use]
    pub fn new(last: Lsn) -> Self {
        Self { last: last.max(Lsn { epoch: 1, number: 0 }) }
    }

    /// Returns the last assigned number.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Sequences the first requests, as many as can be checked together, but at least one.
    ///
    /// Each comes with a flag: a local change. Returns one result for each of them.
    pub fn sequence<'a, V: TreeView>(
        &mut self,
        requests: impl IntoIterator<Item = (&'a ChangeRequest, bool)>,
        tree: &mut V,
        time_ms: u64,
    ) -> Vec<SequenceResult> {
        let (mut verdicts, mut ids) = (Vec::new(), HashMap::new());
        let mut draft = TreeOverlay::over(tree);
        let mut next = self.last;
        for (ask, is_local) in requests {
            if let Some(version) = ids.get(&ask.id).copied().or(draft.base.number_of(ask.id)) {
                verdicts.push(SequenceResult::AlreadyCommitted(version));
                continue;
            }
            let alone = draft.must_be_alone(&ask.change);
            if alone && !verdicts.is_empty() {
                break;
            }
            let context = RequestContext { is_local, now_ms: time_ms };
            match check(ask, context, &mut draft) {
                Err(refusal) => verdicts.push(SequenceResult::Refused(refusal)),
                Ok(()) => {
                    next.number += 1;
                    let change = draft.with_final_mode(ask);
                    let log_entry = LogEntry { version: next, id: ask.id, time_ms, change };
                    draft.accept(&log_entry);
                    ids.insert(ask.id, next);
                    verdicts.push(SequenceResult::Accepted(log_entry));
                }
            }
            if alone {
                break;
            }
        }
        self.last = next;
        verdicts
    }
}

/// The tree with the changes on top that were accepted in this batch.
struct TreeOverlay<'a, V> {
    base: &'a mut V,
    nodes: HashMap<TreePath, Option<TreeNode>>,
    /// All locks, once a change of the batch has changed some.
    locks: Option<LockTable>,
    properties: HashMap<TreePath, PathProperties>,
    property_bytes: usize,
}

impl<V: TreeView> TreeView for TreeOverlay<'_, V> {
    fn node(&mut self, path: &TreePath) -> Option<TreeNode> {
        match self.nodes.get(path) {
            Some(node) => *node,
            None => self.base.node(path),
        }
    }

    fn longest_below(&mut self, folder: &TreePath) -> usize {
        self.base.longest_below(folder)
    }

    fn number_of(&mut self, id: ChangeId) -> Option<Lsn> {
        self.base.number_of(id)
    }

    /// Called only for a change that is alone, so the overlay is empty then.
    fn is_empty(&mut self, folder: &TreePath) -> bool {
        self.base.is_empty(folder)
    }

    fn locks(&mut self) -> &LockTable {
        match &self.locks {
            Some(locks) => locks,
            None => self.base.locks(),
        }
    }

    fn properties(&mut self, path: &TreePath) -> Option<&PathProperties> {
        match self.properties.get(path) {
            Some(here) => Some(here),
            None => self.base.properties(path),
        }
    }

    fn property_bytes(&mut self) -> usize {
        self.property_bytes
    }

    /// A content that the batch replaces still counts; its hashes are forgotten with it.
    fn size_of(&mut self, put: Lsn) -> Option<u64> {
        self.base.size_of(put)
    }

    fn has_hashes(&mut self, put: Lsn) -> bool {
        self.base.has_hashes(put)
    }
}

impl<'a, V: TreeView> TreeOverlay<'a, V> {
    fn over(base: &'a mut V) -> Self {
        let property_bytes = base.property_bytes();
        let (nodes, properties) = (HashMap::new(), HashMap::new());
        Self { base, nodes, locks: None, properties, property_bytes }
    }

    /// Returns whether the change affects more paths than its own.
    fn must_be_alone(&mut self, change: &Change) -> bool {
        match change {
            Change::Put { .. }
            | Change::MakeFolder { .. }
            | Change::SetAttributes { .. }
            | Change::SetProperties { .. }
            | Change::Lock { .. }
            | Change::Unlock { .. }
            | Change::RecordSha256 { .. } => false,
            Change::Remove { path, .. } => {
                self.node(path).is_some_and(|node| node.kind == Kind::Folder)
            }
            Change::Move { .. } | Change::Withdraw { .. } => true,
        }
    }

    /// Returns the change with its final mode.
    ///
    /// A put keeps the mode of the file that it replaces, unless it brings its own. Every entry
    /// keeps the owner bits that slaves need.
    fn with_final_mode(&mut self, ask: &ChangeRequest) -> Change {
        let mut change = ask.change.clone();
        if let Change::Put { path, mode, .. } = &mut change
            && ask.keep_mode
            && let Some(former) = self.node(path).filter(|node| node.kind == Kind::File)
        {
            *mode = former.mode;
        }
        if let Change::SetAttributes { path, attributes: Attributes { mode: Some(mode), .. } } =
            &mut change
            && let Some(there) = self.node(path)
        {
            *mode = mode.with_owner_access(there.kind);
        }
        change
    }

    fn accept(&mut self, log_entry: &LogEntry) {
        let node = |kind, mode| Some(TreeNode { kind, version: Some(log_entry.version), mode });
        let (path, node) = match &log_entry.change {
            Change::Put { path, mode, .. } => (path, node(Kind::File, *mode)),
            Change::MakeFolder { path, mode } => (path, node(Kind::Folder, *mode)),
            Change::Remove { path, .. } => {
                self.remove_annotations(path);
                (path, None)
            }
            Change::SetAttributes { path, attributes } => match self.node(path) {
                Some(there) => (path, node(there.kind, attributes.mode.unwrap_or(there.mode))),
                None => return,
            },
            Change::SetProperties { path, changes } => return self.set_properties(path, changes),
            Change::Lock { path, lock } => {
                let lock = Lock::granted(lock, log_entry.id, log_entry.time_ms);
                return self.own_locks().grant(path, lock, log_entry.time_ms);
            }
            Change::Unlock { path, token } => return self.own_locks().release(path, *token),
            Change::Move { .. } | Change::Withdraw { .. } | Change::RecordSha256 { .. } => return,
        };
        self.nodes.insert(path.clone(), node);
    }

    fn own_locks(&mut self) -> &mut LockTable {
        self.locks.get_or_insert_with(|| self.base.locks().clone())
    }

    fn set_properties(&mut self, path: &TreePath, changes: &[PropertyChange]) {
        let before = self.properties(path).cloned().unwrap_or_default();
        let after = before.with(changes);
        self.property_bytes = (self.property_bytes - before.memory(path)) + after.memory(path);
        self.properties.insert(path.clone(), after);
    }

    /// Removes locks and properties of a file that is removed; a folder is removed alone.
    fn remove_annotations(&mut self, path: &TreePath) {
        if !self.locks().at(path).is_empty() {
            self.own_locks().remove_tree(path);
        }
        if let Some(before) = self.properties(path).map(|here| here.memory(path)) {
            self.property_bytes -= before;
            self.properties.insert(path.clone(), PathProperties::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::properties::PropertyTable;
    use relais_proto::{
        Digest, ErrorCode, Expect, FileTime, LockRequest, LockToken, Mode, PropertyName, limits,
    };

    #[derive(Default)]
    struct Tree {
        nodes: BTreeMap<String, TreeNode>,
        made: HashMap<ChangeId, Lsn>,
        locks: LockTable,
        properties: PropertyTable,
    }

    impl TreeView for Tree {
        fn node(&mut self, path: &TreePath) -> Option<TreeNode> {
            self.nodes.get(path.as_str()).copied()
        }
        fn is_empty(&mut self, folder: &TreePath) -> bool {
            let inside = format!("{}/", folder.as_str());
            !self.nodes.keys().any(|path| path.starts_with(&inside))
        }
        fn longest_below(&mut self, _: &TreePath) -> usize {
            0
        }
        fn number_of(&mut self, id: ChangeId) -> Option<Lsn> {
            self.made.get(&id).copied()
        }
        fn locks(&mut self) -> &LockTable {
            &self.locks
        }
        fn properties(&mut self, path: &TreePath) -> Option<&PathProperties> {
            self.properties.at(path)
        }
        fn property_bytes(&mut self) -> usize {
            self.properties.memory()
        }
        fn size_of(&mut self, _: Lsn) -> Option<u64> {
            None
        }
        fn has_hashes(&mut self, _: Lsn) -> bool {
            false
        }
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn request(n: u8, change: Change) -> ChangeRequest {
        ChangeRequest {
            id: ChangeId([n; 16]),
            change,
            expect: Expect::Any,
            keep_mode: false,
            tokens: Vec::new(),
        }
    }

    fn put(text: &str) -> Change {
        Change::Put {
            path: path(text),
            size: 1,
            digest: Digest([0; 32]),
            mtime: FileTime::default(),
            mode: Mode::new(0o644),
        }
    }

    fn folder(text: &str) -> Change {
        Change::MakeFolder { path: path(text), mode: Mode::new(0o755) }
    }

    fn remove(text: &str) -> Change {
        Change::Remove { path: path(text), recursive: false }
    }

    fn run(tree: &mut Tree, request: &[ChangeRequest]) -> Vec<Result<u64, Option<ErrorCode>>> {
        let requests = request.iter().map(|request| (request, false));
        let verdicts = Sequencer::new(Lsn { epoch: 1, number: 10 }).sequence(requests, tree, 0);
        verdicts
            .into_iter()
            .map(|verdict| match verdict {
                SequenceResult::Accepted(log_entry) => Ok(log_entry.version.number),
                SequenceResult::AlreadyCommitted(_) => Err(None),
                SequenceResult::Refused(refusal) => Err(Some(refusal.code)),
            })
            .collect()
    }

    #[test]
    fn a_put_keeps_the_mode_of_what_it_replaces() {
        let mut all = Vec::new();
        for (n, bits, keep_mode) in
            [(1, 0o600, true), (2, 0o644, true), (3, 0o640, false), (4, 0o666, true)]
        {
            let mut change = put("f");
            if let Change::Put { mode, .. } = &mut change {
                *mode = Mode::new(bits);
            }
            all.push(ChangeRequest { keep_mode, ..request(n, change) });
        }
        let requests = all.iter().map(|request| (request, false));
        let verdicts = Sequencer::new(Lsn::default()).sequence(requests, &mut Tree::default(), 0);
        let modes: Vec<_> = verdicts
            .iter()
            .map(|verdict| match verdict {
                SequenceResult::Accepted(LogEntry { change: Change::Put { mode, .. }, .. }) => {
                    mode.bits()
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(modes, [0o600, 0o600, 0o640, 0o640]);
    }

    #[test]
    fn each_sees_what_those_before_it_have_done() {
        let request = [
            request(1, put("a/b")),
            request(2, folder("a")),
            request(3, put("a/b")),
            request(4, folder("a/b")),
            request(5, remove("a/b")),
            request(6, remove("a/b")),
            request(7, folder("a/b")),
        ];
        use ErrorCode::{NotFolder, NotFound};
        let wanted = vec![
            Err(Some(NotFound)),
            Ok(11),
            Ok(12),
            Err(Some(NotFolder)),
            Ok(13),
            Err(Some(NotFound)),
            Ok(14),
        ];
        assert_eq!(run(&mut Tree::default(), &request), wanted);
    }

    #[test]
    fn what_concerns_a_subtree_is_decided_alone() {
        let mut tree = Tree::default();
        tree.nodes.insert(
            "d".into(),
            TreeNode { kind: Kind::Folder, version: None, mode: Mode::new(0o755) },
        );
        let several = [request(1, put("x")), request(2, remove("d")), request(3, put("d/x"))];
        assert_eq!(run(&mut tree, &several), [Ok(11)]);
        assert_eq!(run(&mut tree, &several[1..]), [Ok(11)], "the next sees the tree without it");
        let moved = request(4, Change::Move { from: path("d"), to: path("e") });
        assert_eq!(run(&mut tree, &[moved, request(5, put("e/x"))]), [Ok(11)]);
    }

    fn lock(text: &str, token: u8) -> Change {
        let lock = LockRequest {
            token: LockToken([token; 16]),
            user: "ann".into(),
            owner: String::new(),
            exclusive: true,
            deep: false,
            seconds: 60,
        };
        Change::Lock { path: path(text), lock }
    }

    fn set(text: &str, names: std::ops::Range<usize>, len: usize) -> Change {
        let change = |n: usize| PropertyChange {
            name: PropertyName { namespace: String::new(), local: n.to_string() },
            value: Some("v".repeat(len)),
        };
        Change::SetProperties { path: path(text), changes: names.map(change).collect() }
    }

    #[test]
    fn locks_of_one_batch_count_for_the_changes_after_them() {
        let unlock = Change::Unlock { path: path("a"), token: LockToken([1; 16]) };
        let with_token =
            |n, change| ChangeRequest { tokens: vec![LockToken([1; 16])], ..request(n, change) };
        let by_ann = |n: u8, change| {
            let mut it = with_token(n, change);
            it.id.0[..4].copy_from_slice(&[1; 4]);
            it
        };
        let requests = [
            request(2, put("a")),
            by_ann(3, lock("a", 1)),
            request(4, put("a")),
            with_token(5, put("a")),
            by_ann(6, put("a")),
            request(7, lock("a", 2)),
            by_ann(8, unlock.clone()),
            request(9, put("a")),
            by_ann(10, lock("a", 1)),
            by_ann(11, remove("a")),
            request(12, put("a")),
            by_ann(13, unlock),
        ];
        let locked = || Err(Some(ErrorCode::Locked));
        let wanted = vec![
            Ok(11),
            Ok(12),
            locked(),
            locked(),
            Ok(13),
            locked(),
            Ok(14),
            Ok(15),
            Ok(16),
            Ok(17),
            Ok(18),
            Err(Some(ErrorCode::NotFound)),
        ];
        assert_eq!(run(&mut Tree::default(), &requests), wanted);
    }

    #[test]
    fn properties_of_one_batch_are_counted_together() {
        let mut tree = Tree::default();
        let of_path = limits::PROPERTIES_OF_PATH / limits::PROPERTY_VALUE;
        let each = |n: usize| set("a", n..n + 1, limits::PROPERTY_VALUE - 1);
        let mut requests = vec![request(1, put("a"))];
        requests.extend((0..=of_path).map(|n| request(2 + u8::try_from(n).unwrap(), each(n))));
        requests.push(request(20, remove("a")));
        requests.push(request(21, put("a")));
        requests.push(request(22, set("a", 0..limits::PROPERTIES, 1)));
        requests.push(request(23, set("a", 1..limits::PROPERTIES + 1, 1)));
        requests.push(request(24, set("none", 0..1, 1)));
        let results = run(&mut tree, &requests);
        let codes: Vec<_> = results.into_iter().map(Result::err).collect();
        let limit = Some(Some(ErrorCode::Limit));
        let wanted = [None, None, None, None, None, limit, None, None, None, limit];
        assert_eq!(codes[..10], wanted);
        assert_eq!(codes[10], Some(Some(ErrorCode::NotFound)));
    }

    #[test]
    fn a_change_is_made_once() {
        let mut tree = Tree::default();
        tree.made.insert(ChangeId([9; 16]), Lsn { epoch: 1, number: 3 });
        assert_eq!(
            run(&mut tree, &[request(9, put("a")), request(1, put("b")), request(1, put("b"))]),
            [Err(None), Ok(11), Err(None)]
        );
    }
}
