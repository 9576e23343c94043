//! Checks changes against the locks of other holders (RFC 4918, sections 6 and 7).
//!
//! A change is free to affect a resource if no lock covers it, or if the change holds one of the
//! locks that do: at most one of them is exclusive. A lock protects content, attributes and
//! properties of its resource, and the list of members of a folder.

use std::collections::BTreeSet;

use relais_proto::{
    Change, ErrorCode, Lock, LockRequest, LockToken, Refusal, TreePath, limits, pluralize,
};

use crate::locks::LockTable;
use crate::tree_view::TreeView;

/// Holder of locks: what a change may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    /// Tag of the account.
    pub account: u32,
    /// Submitted tokens.
    pub tokens: &'a [LockToken],
    /// Time of the master in milliseconds since 1970 UTC.
    pub now_ms: u64,
}

/// Checks that no lock of another holder protects what the change affects.
///
/// # Errors
/// [`ErrorCode::Locked`] with the path of the lock.
pub(crate) fn check_free<V: TreeView>(
    change: &Change,
    by: Holder<'_>,
    tree: &mut V,
) -> Result<(), Refusal> {
    match change {
        Change::Put { path, .. } | Change::MakeFolder { path, .. } => check_place(path, by, tree),
        Change::SetAttributes { path, .. } | Change::SetProperties { path, .. } => {
            by.check_resource(path, tree.locks())
        }
        Change::Remove { path, .. } => check_removal(path, by, tree.locks()),
        Change::Move { from, to } if from == to => by.check_resource(from, tree.locks()),
        Change::Move { from, to } => {
            check_removal(from, by, tree.locks())?;
            check_place(to, by, tree)
        }
        // A lock has rules of its own, an unlock names its lock, and hashes change nothing.
        Change::Lock { .. }
        | Change::Unlock { .. }
        | Change::RecordSha256 { .. }
        | Change::Withdraw { .. } => Ok(()),
    }
}

/// Checks a path that gets an entry: a new one is a new member of its folder.
fn check_place<V: TreeView>(path: &TreePath, by: Holder<'_>, tree: &mut V) -> Result<(), Refusal> {
    let is_new = tree.node(path).is_none();
    by.check_resource(path, tree.locks())?;
    if is_new { by.check_members_above(path, tree.locks()) } else { Ok(()) }
}

/// Checks a path that goes with all below it.
fn check_removal(path: &TreePath, by: Holder<'_>, locks: &LockTable) -> Result<(), Refusal> {
    by.check_resource(path, locks)?;
    by.check_members_above(path, locks)?;
    let below: BTreeSet<&TreePath> = locks.below(path).map(|(below, _)| below).collect();
    below.into_iter().try_for_each(|below| by.check_resource(below, locks))
}

impl Holder<'_> {
    /// Checks the locks that cover a resource.
    fn check_resource(&self, path: &TreePath, locks: &LockTable) -> Result<(), Refusal> {
        let covering = locks.covering(path);
        let mut live = covering.iter().filter(|(_, lock)| !lock.has_expired(self.now_ms));
        let Some((at, first)) = live.clone().next() else { return Ok(()) };
        if live.any(|(_, lock)| lock.is_held_by(self.account, self.tokens)) {
            return Ok(());
        }
        Err(locked(at, first))
    }

    /// Checks the folder whose list of members changes (RFC 4918, section 7.4).
    fn check_members_above(&self, path: &TreePath, locks: &LockTable) -> Result<(), Refusal> {
        match path.split_last() {
            Some((parent, _)) => self.check_resource(&parent, locks),
            None => Ok(()),
        }
    }

    /// Checks a new lock against those that are there (RFC 4918, sections 6.2 and 9.10.5), and
    /// against the limits. A request for more time must come from the lock's account.
    ///
    /// # Errors
    /// [`ErrorCode::Locked`], or [`ErrorCode::Limit`].
    pub fn check_lock(
        &self,
        path: &TreePath,
        request: &LockRequest,
        locks: &LockTable,
    ) -> Result<(), Refusal> {
        let is_live = |lock: &Lock| !lock.has_expired(self.now_ms);
        let same = locks.at(path).iter().find(|lock| lock.token == request.token);
        if let Some(lock) = same.filter(|lock| is_live(lock)) {
            let is_held = lock.is_held_by(self.account, &[lock.token]);
            return if is_held { Ok(()) } else { Err(locked(path, lock)) };
        }
        let conflicts = |lock: &Lock| is_live(lock) && (request.exclusive || lock.exclusive);
        for (at, lock) in locks.covering(path) {
            if conflicts(&lock) {
                return Err(locked(&at, &lock));
            }
        }
        if request.deep
            && let Some((at, lock)) = locks.below(path).find(|(_, lock)| conflicts(lock))
        {
            return Err(locked(at, lock));
        }
        self.check_counts(path, locks)
    }

    fn check_counts(&self, path: &TreePath, locks: &LockTable) -> Result<(), Refusal> {
        let is_live = |lock: &Lock| !lock.has_expired(self.now_ms);
        let refuse = |what: &str, count: usize| {
            let message = format!("there are {}{what}", pluralize(count, "lock"));
            Err(Refusal::at(path, ErrorCode::Limit, message))
        };
        let here = locks.at(path).iter().filter(|lock| is_live(lock)).count();
        if here >= limits::SHARED_LOCKS {
            return refuse(" on it already", here);
        }
        let (mut all, mut own) = (0, 0);
        for (_, lock) in locks.iter().filter(|(_, lock)| is_live(lock)) {
            all += 1;
            own += usize::from(lock.account == self.account);
        }
        if own >= limits::LOCKS_PER_ACCOUNT {
            return refuse(" of this account already", own);
        }
        if all >= limits::LOCKS {
            return refuse(" in the tree already", all);
        }
        Ok(())
    }

    /// Checks that the account may end the lock with this token.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], or [`ErrorCode::Denied`] for a lock of another account.
    pub fn check_unlock(
        &self,
        path: &TreePath,
        token: LockToken,
        locks: &LockTable,
    ) -> Result<(), Refusal> {
        let lock = locks.at(path).iter().find(|lock| lock.token == token);
        match lock.filter(|lock| !lock.has_expired(self.now_ms)) {
            None => Err(Refusal::at(path, ErrorCode::NotFound, "it has no lock with this token")),
            Some(lock) if lock.is_held_by(self.account, &[token]) => Ok(()),
            Some(lock) => {
                let message = format!("the lock is {}", owner_of(lock));
                Err(Refusal::at(path, ErrorCode::Denied, message))
            }
        }
    }
}

fn owner_of(lock: &Lock) -> String {
    if lock.user.is_empty() {
        "of a client without an account".to_owned()
    } else {
        format!("of the user {}", lock.user)
    }
}

fn locked(at: &TreePath, lock: &Lock) -> Refusal {
    Refusal::at(at, ErrorCode::Locked, format!("it is locked; the lock is {}", owner_of(lock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{RequestContext, check};
    use crate::tree::{Tree, TreeState};
    use relais_proto::{
        Annotations, Attributes, ChangeId, ChangeRequest, Digest, Expect, FileTime, Lsn, Mode,
        PropertyChange, PropertyName, TreeEntry,
    };

    const NOW: u64 = 1000;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn token(n: u8) -> LockToken {
        LockToken([n; 16])
    }

    /// A lock with this token: of ann (1), of bob (2), without an account (3) or expired (4).
    fn lock(at: &str, n: u8, exclusive: bool, deep: bool) -> (TreePath, Lock) {
        let (account, user) = [(1, "ann"), (2, "bob"), (3, ""), (1, "ann")][usize::from(n) - 1];
        let expires_ms = if n == 4 { NOW } else { NOW + 1 };
        let (token, user, owner) = (token(n), user.into(), String::new());
        (path(at), Lock { token, account, user, owner, exclusive, deep, expires_ms })
    }

    /// The folders `a`, `a/b` and `e`, and the files `a/f`, `a/b/g` and `h`, with these locks.
    fn tree(locks: Vec<(TreePath, Lock)>) -> TreeState {
        let (mode, version) = (Mode::new(0o755), Lsn { epoch: 1, number: 1 });
        let folder = |at: &str| (path(at), TreeEntry { version, mode, content: None });
        let file = |at: &str, number| {
            let (put, digest) = (Lsn { epoch: 1, number }, Digest([0; 32]));
            let mtime = FileTime::default();
            let content = relais_proto::FileContent { put, digest, size: 1, mtime };
            (path(at), TreeEntry { version, mode, content: Some(content) })
        };
        let entries = [
            folder("a"),
            folder("a/b"),
            file("a/b/g", 2),
            file("a/f", 3),
            folder("e"),
            file("h", 4),
        ];
        let tree = Tree::listed(entries, Lsn { epoch: 1, number: 9 });
        let annotations = Annotations { locks, ..Annotations::default() };
        TreeState { tree: tree.annotated(annotations), ..TreeState::default() }
    }

    fn change(line: &str) -> Change {
        let words: Vec<&str> = line.split(' ').collect();
        let mode = Mode::new(0o755);
        match words[..] {
            ["put", at] => Change::Put {
                path: path(at),
                size: 1,
                digest: Digest([1; 32]),
                mtime: FileTime::default(),
                mode,
            },
            ["mkdir", at] => Change::MakeFolder { path: path(at), mode },
            ["chmod", at] => {
                Change::SetAttributes { path: path(at), attributes: Attributes::mode(mode) }
            }
            ["set", at] => {
                let name = PropertyName { namespace: String::new(), local: "p".into() };
                let changes = vec![PropertyChange { name, value: None }];
                Change::SetProperties { path: path(at.trim_start_matches('/')), changes }
            }
            ["rm", at] => Change::Remove { path: path(at), recursive: true },
            ["mv", from, to] => Change::Move { from: path(from), to: path(to) },
            _ => panic!("{line}"),
        }
    }

    /// Asks for a change of this account with these tokens.
    fn ask(
        change: Change,
        account: u8,
        tokens: &[u8],
        is_local: bool,
        tree: &mut TreeState,
    ) -> Result<(), Refusal> {
        let mut id = [9; 16];
        id[..4].copy_from_slice(&[0, 0, 0, account]);
        let tokens = tokens.iter().map(|n| token(*n)).collect();
        let (id, expect) = (ChangeId(id), Expect::Any);
        let request = ChangeRequest { id, change, expect, keep_mode: false, tokens };
        check(&request, RequestContext { is_local, now_ms: NOW }, tree)
    }

    #[test]
    fn a_lock_protects_its_resource_and_the_members_of_a_folder() {
        let all = [
            "put a/f",
            "put a/new",
            "mkdir a/new",
            "chmod a/f",
            "set a/f",
            "rm a/f",
            "mv a/f h",
            "mv h a/new",
            "mv h a/f",
            "chmod a",
            "set a",
            "rm a",
            "mv a new",
            "put a/b/g",
            "put a/b/new",
            "rm a/b/g",
            "put h",
            "chmod h",
            "mv h e/new",
            "set /",
            "put new",
            "mkdir e/new",
        ];
        let table: [(&str, bool, &[&str]); 7] = [
            // A file.
            (
                "a/f",
                false,
                &[
                    "put a/f",
                    "chmod a/f",
                    "set a/f",
                    "rm a/f",
                    "mv a/f h",
                    "mv h a/f",
                    "rm a",
                    "mv a new",
                ],
            ),
            // A folder alone: its properties and attributes, and its list of members.
            (
                "a",
                false,
                &[
                    "put a/new",
                    "mkdir a/new",
                    "rm a/f",
                    "mv a/f h",
                    "mv h a/new",
                    "chmod a",
                    "set a",
                    "rm a",
                    "mv a new",
                ],
            ),
            // A folder with everything below.
            (
                "a",
                true,
                &[
                    "put a/f",
                    "put a/new",
                    "mkdir a/new",
                    "chmod a/f",
                    "set a/f",
                    "rm a/f",
                    "mv a/f h",
                    "mv h a/new",
                    "mv h a/f",
                    "chmod a",
                    "set a",
                    "rm a",
                    "mv a new",
                    "put a/b/g",
                    "put a/b/new",
                    "rm a/b/g",
                ],
            ),
            // A folder below.
            ("a/b", false, &["rm a", "mv a new", "put a/b/new", "rm a/b/g"]),
            ("a/b", true, &["rm a", "mv a new", "put a/b/g", "put a/b/new", "rm a/b/g"]),
            // The root alone.
            (
                "",
                false,
                &["rm a", "mv a new", "mv h a/new", "mv h a/f", "mv h e/new", "set /", "put new"],
            ),
            ("", true, &all),
        ];
        for (at, deep, protected) in table {
            for exclusive in [true, false] {
                let mut tree = tree(vec![lock(at, 1, exclusive, deep)]);
                for line in all {
                    let refused = protected.contains(&line).then_some(ErrorCode::Locked);
                    let what = format!("{line:?} with a lock on {at:?}, deep {deep}");
                    let mut code = |account, tokens: &[u8], is_local| {
                        let asked = ask(change(line), account, tokens, is_local, &mut tree);
                        asked.err().map(|why| (why.code, why.path)).map(|(code, path)| {
                            assert_eq!(path.unwrap().as_str(), at, "{what}");
                            code
                        })
                    };
                    assert_eq!(code(2, &[], false), refused, "another account: {what}");
                    assert_eq!(code(2, &[1], false), refused, "with a token of ann: {what}");
                    assert_eq!(code(1, &[], false), refused, "ann without a token: {what}");
                    assert_eq!(code(1, &[2, 1], false), None, "ann: {what}");
                    assert_eq!(code(0, &[], true), None, "a local change: {what}");
                }
            }
        }
    }

    #[test]
    fn each_of_several_locks_must_be_held() {
        let table: [(&str, &[u8], u8, Option<ErrorCode>); 9] = [
            // Shared locks of ann and bob: one of them is enough.
            ("put a/f", &[1], 1, None),
            ("put a/f", &[2], 2, None),
            ("put a/f", &[3], 2, Some(ErrorCode::Locked)),
            // Its folder holds a lock without an account, whose token is enough.
            ("rm a/b/g", &[3], 1, None),
            ("rm a/b/g", &[1], 1, Some(ErrorCode::Locked)),
            // A folder goes only if all locks below it are held.
            ("rm a", &[1, 3], 1, None),
            ("rm a", &[1], 1, Some(ErrorCode::Locked)),
            ("mv a new", &[3], 1, Some(ErrorCode::Locked)),
            // An expired lock counts for nothing.
            ("put h", &[], 2, None),
        ];
        for (line, tokens, account, wanted) in table {
            let mut tree = tree(vec![
                lock("a/f", 1, false, false),
                lock("a/f", 2, false, false),
                lock("a/b", 3, true, false),
                lock("h", 4, true, false),
            ]);
            let code = ask(change(line), account, tokens, false, &mut tree).err();
            assert_eq!(code.map(|why| why.code), wanted, "{line} {tokens:?}");
        }
    }

    #[test]
    fn the_refusal_names_path_and_user() {
        let mut ann = tree(vec![lock("a", 1, true, true)]);
        let why = ask(change("put a/f"), 2, &[], false, &mut ann).unwrap_err();
        assert_eq!(why.to_string(), "/a: it is locked; the lock is of the user ann");
        let mut none = tree(vec![lock("h", 3, true, true)]);
        let why = ask(change("put h"), 2, &[], false, &mut none).unwrap_err();
        assert_eq!(why.to_string(), "/h: it is locked; the lock is of a client without an account");
    }

    #[test]
    fn locks_conflict_unless_all_are_shared() {
        let ask_lock = |at: &str, n: u8, exclusive: bool, deep: bool, tree: &mut TreeState| {
            let (path, lock) = lock(at, n, exclusive, deep);
            let Lock { token, user, owner, exclusive, deep, .. } = lock;
            let request = LockRequest { token, user, owner, exclusive, deep, seconds: 60 };
            let account = u8::try_from(lock.account).unwrap();
            let asked = ask(Change::Lock { path, lock: request }, account, &[], false, tree);
            asked.err().map(|why| why.code)
        };
        use ErrorCode::{Locked, NotFound};
        // What is there (path, exclusive, deep), what is wanted, and the result.
        type Row = (&'static str, bool, bool, &'static str, bool, bool, Option<ErrorCode>);
        let table: [Row; 17] = [
            ("a/f", true, false, "a/f", true, false, Some(Locked)),
            ("a/f", true, false, "a/f", false, false, Some(Locked)),
            ("a/f", false, false, "a/f", true, false, Some(Locked)),
            ("a/f", false, false, "a/f", false, false, None),
            ("a", true, true, "a/b/g", false, false, Some(Locked)),
            ("a", false, true, "a/b/g", false, false, None),
            ("a", false, true, "a/b/g", true, false, Some(Locked)),
            ("a", true, false, "a/b/g", true, false, None),
            ("a/b/g", true, false, "a", false, true, Some(Locked)),
            ("a/b/g", false, false, "a", false, true, None),
            ("a/b/g", false, false, "a", true, true, Some(Locked)),
            ("a/b/g", true, false, "a", true, false, None),
            ("", true, true, "h", true, false, Some(Locked)),
            ("h", true, false, "", true, true, Some(Locked)),
            ("h", true, false, "", true, false, None),
            ("h", true, false, "a", true, true, None),
            ("h", true, false, "none", true, false, Some(NotFound)),
        ];
        for (there, exclusive, deep, at, wants_exclusive, wants_deep, wanted) in table {
            let mut tree = tree(vec![lock(there, 1, exclusive, deep)]);
            let code = ask_lock(at, 2, wants_exclusive, wants_deep, &mut tree);
            assert_eq!(code, wanted, "{there:?} {exclusive} {deep}, {at:?} {wants_exclusive}");
        }
        let mut tree = tree(vec![lock("a", 1, true, true), lock("h", 4, true, false)]);
        assert_eq!(ask_lock("a", 1, true, true, &mut tree), None, "a refresh");
        assert_eq!(ask_lock("a/f", 1, true, true, &mut tree), Some(Locked), "elsewhere");
        assert_eq!(ask_lock("h", 2, true, false, &mut tree), None, "it has expired");
    }

    #[test]
    fn an_account_refreshes_and_ends_its_own_locks() {
        let mut tree = tree(vec![
            lock("a", 1, true, false),
            lock("a/f", 3, true, false),
            lock("h", 4, true, false),
        ]);
        use ErrorCode::{Denied, Locked, NotFound};
        for (at, n, account, refreshed, unlocked) in [
            ("a", 1, 1, None, None),
            ("a", 1, 2, Some(Locked), Some(Denied)),
            ("a", 2, 2, Some(Locked), Some(NotFound)),
            ("a/f", 3, 2, None, None),
            ("h", 4, 1, None, Some(NotFound)),
            ("none", 1, 1, Some(NotFound), Some(NotFound)),
        ] {
            let (path, token) = (path(at), token(n));
            let lock = LockRequest {
                token,
                user: String::new(),
                owner: String::new(),
                exclusive: true,
                deep: false,
                seconds: 1,
            };
            let changes =
                [Change::Lock { path: path.clone(), lock }, Change::Unlock { path, token }];
            let codes = changes.map(|change| {
                ask(change, account, &[], false, &mut tree).err().map(|why| why.code)
            });
            assert_eq!(codes, [refreshed, unlocked], "{at} {n} {account}");
        }
    }

    #[test]
    fn the_number_of_locks_is_limited() {
        let with = |at: &str, account: u32, count: usize| {
            let locks = (0..count).map(move |n| {
                let (_, lock) = lock("a", 1, false, false);
                let mut token = [0; 16];
                token[..8].copy_from_slice(&n.to_be_bytes());
                Lock { account, token: LockToken(token), ..lock }
            });
            locks.map(|lock| (path(at), lock)).collect::<Vec<_>>()
        };
        let request = |at: &str| Change::Lock {
            path: path(at),
            lock: LockRequest {
                token: token(9),
                user: "bob".into(),
                owner: String::new(),
                exclusive: false,
                deep: false,
                seconds: 1,
            },
        };
        for (locks, wanted) in [
            (with("h", 1, limits::SHARED_LOCKS - 1), None),
            (with("h", 1, limits::SHARED_LOCKS), Some(ErrorCode::Limit)),
            (with("e", 2, limits::LOCKS_PER_ACCOUNT - 1), None),
            (with("e", 2, limits::LOCKS_PER_ACCOUNT), Some(ErrorCode::Limit)),
            (with("e", 1, limits::LOCKS - 1), None),
            (with("e", 1, limits::LOCKS), Some(ErrorCode::Limit)),
        ] {
            let code = ask(request("h"), 2, &[], false, &mut tree(locks)).err();
            assert_eq!(code.map(|why| why.code), wanted);
        }
    }
}
