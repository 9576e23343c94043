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
