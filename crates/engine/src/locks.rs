//! Locks of files and folders (RFC 4918, sections 6 and 7), as the session's user sees them.

use relais_proto::{
    Change, ChangeId, Encoder, ErrorCode, Expect, Lock, LockRequest, LockToken, Refusal, TreePath,
    Wire, limits,
};
use relais_storage::CatalogStore;

use crate::change::{PreparedChange, account_tag, bind_id};
use crate::context::SessionContext;
use crate::keep_alive::KeepAlive;
use crate::session::Session;
use crate::transfer_log::LoggedCommand;

/// A lock, with the path that was locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLock {
    /// The locked path; the user's root if that is below the locked folder.
    pub path: TreePath,
    /// The lock.
    pub lock: Lock,
    /// Seconds until it ends, unless it is refreshed.
    pub seconds: u64,
}

impl Session {
    /// Has the following changes use the locks with these tokens, instead of the former ones.
    ///
    /// # Errors
    /// [`ErrorCode::Limit`] for more than [`limits::LOCK_TOKENS`].
    pub fn set_lock_tokens(&mut self, tokens: Vec<LockToken>) -> Result<(), Refusal> {
        if tokens.len() > limits::LOCK_TOKENS {
            let message = format!("more than {} lock tokens in a request", limits::LOCK_TOKENS);
            return Err(Refusal::new(ErrorCode::Limit, message));
        }
        self.lock_tokens = tokens;
        Ok(())
    }

    /// Returns the locks that cover a path: those on it, and deep ones above it.
    ///
    /// With `below`, those on paths below it follow, ordered by path.
    ///
    /// # Errors
    /// Those of [`Session::check_ready`].
    pub fn locks(
        &self,
        path: &TreePath,
        below: bool,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Vec<FoundLock>, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            let mut found = covering(context, &path)?;
            if below {
                found.extend(unexpired(
                    context,
                    context.with_catalogue(|store| store.locks_below(&path))?,
                ));
            }
            let now_ms = context.host().now_ms();
            let seen = |(path, lock): (TreePath, Lock)| FoundLock {
                path: path.relative_to(&context.principal.root).unwrap_or_default(),
                seconds: lock.expires_ms.saturating_sub(now_ms).div_ceil(1000),
                lock,
            };
            Ok(found.into_iter().map(seen).collect())
        }))
    }

    /// Returns the paths of the locks that keep this session from changing a path.
    ///
    /// These are locks on the path, with `below` on all paths below it, and on its folder if the
    /// list of members changes. Of several locks on a path the session needs to hold only one.
    ///
    /// # Errors
    /// Those of [`Session::check_ready`].
    pub fn unheld_locks(
        &self,
        path: &TreePath,
        below: bool,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Vec<TreePath>, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            let mut protected = vec![path.clone()];
            if below || context.with_catalogue(|store| store.version_at(&path))?.is_none() {
                protected.extend(path.split_last().map(|(parent, _)| parent));
            }
            if below {
                let found = context.with_catalogue(|store| store.locks_below(&path))?;
                protected.extend(found.into_iter().map(|(path, _)| path));
            }
            let mut unheld = Vec::new();
            for path in &protected {
                unheld.extend(unheld_lock(context, path, &self.lock_tokens)?);
            }
            unheld.sort_unstable();
            unheld.dedup();
            let root = &context.principal.root;
            Ok(unheld.iter().map(|path| path.relative_to(root).unwrap_or_default()).collect())
        }))
    }

    /// Prepares to lock a file or folder. The session fills in the name of the user. A lock lasts
    /// for [`limits::LOCK_SECONDS`] at most.
    ///
    /// # Errors
    /// [`ErrorCode::Limit`] for an owner that is too long; as [`Session::make_folder`].
    pub fn lock(
        &self,
        id: ChangeId,
        path: &TreePath,
        lock: LockRequest,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        let command = LoggedCommand::Lock;
        self.prepare(command, (path, None), Expect::Any, keepalive, |principal| {
            let path = principal.resolve(path)?;
            if lock.owner.len() > limits::LOCK_OWNER {
                let message = format!("the owner has more than {} bytes", limits::LOCK_OWNER);
                return Err(Refusal::at(&path, ErrorCode::Limit, message));
            }
            let (user, seconds) = (principal.user.clone(), lock.seconds.min(limits::LOCK_SECONDS));
            let lock = LockRequest { user, seconds, ..lock };
            let mut kind = b"lock ".to_vec();
            lock.encode(&mut Encoder::new(&mut kind));
            let id = bind_id(principal, id, &kind, &[&path], None);
            Ok((id, Change::Lock { path, lock }))
        })
    }

    /// Prepares to extend a lock that covers a path, which may have been made above the path.
    ///
    /// # Errors
    /// [`ErrorCode::Changed`] if no lock of the user with this token covers the path; as
    /// [`Session::make_folder`].
    pub fn refresh_lock(
        &self,
        id: ChangeId,
        path: &TreePath,
        token: LockToken,
        seconds: u32,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        let command = LoggedCommand::Lock;
        self.prepare(command, (path, None), Expect::Any, keepalive, |principal| {
            let path = principal.resolve(path)?;
            let (path, Lock { owner, exclusive, deep, .. }) = self.own_lock(&path, token)?;
            let (user, seconds) = (principal.user.clone(), seconds.min(limits::LOCK_SECONDS));
            let lock = LockRequest { token, user, owner, exclusive, deep, seconds };
            let id = bind_id(principal, id, b"refresh", &[&path], Some(seconds.into()));
            Ok((id, Change::Lock { path, lock }))
        })
    }

    /// Prepares to end a lock that covers a path, which may have been made above the path.
    ///
    /// # Errors
    /// As [`Self::refresh_lock`].
    pub fn unlock(
        &self,
        id: ChangeId,
        path: &TreePath,
        token: LockToken,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        let command = LoggedCommand::Unlock;
        self.prepare(command, (path, None), Expect::Any, keepalive, |principal| {
            let path = principal.resolve(path)?;
            let (path, _) = self.own_lock(&path, token)?;
            let mut kind = b"unlock ".to_vec();
            token.encode(&mut Encoder::new(&mut kind));
            let id = bind_id(principal, id, &kind, &[&path], None);
            Ok((id, Change::Unlock { path, token }))
        })
    }

    /// Returns the lock of this user that has a token and covers a path, with the locked path.
    fn own_lock(&self, path: &TreePath, token: LockToken) -> Result<(TreePath, Lock), Refusal> {
        let account = account_tag(&self.context.principal.user);
        let found = covering(&self.context, path)?;
        found.into_iter().find(|(_, lock)| lock.is_held_by(account, &[token])).ok_or_else(|| {
            let message = "no lock of this user with this token covers it";
            Refusal::at(path, ErrorCode::Changed, message)
        })
    }
}

/// Returns the locks that cover a path of the tree.
fn covering(context: &SessionContext, path: &TreePath) -> Result<Vec<(TreePath, Lock)>, Refusal> {
    Ok(unexpired(context, context.with_catalogue(|store| store.locks_covering(path))?))
}

fn unexpired(context: &SessionContext, mut found: Vec<(TreePath, Lock)>) -> Vec<(TreePath, Lock)> {
    let now_ms = context.host().now_ms();
    found.retain(|(_, lock)| !lock.has_expired(now_ms));
    found
}

/// Refuses a put at a path that is locked, before the client sends the content.
///
/// A new file also needs the lock of its folder (RFC 4918, section 7.4). The check that counts is
/// made with the change itself.
pub(crate) fn check_unlocked(
    context: &SessionContext,
    path: &TreePath,
    tokens: &[LockToken],
) -> Result<(), Refusal> {
    if !context.with_catalogue(CatalogStore::has_locks)? {
        return Ok(());
    }
    let is_new = context.with_catalogue(|store| store.version_at(path))?.is_none();
    let parent = path.split_last().map(|(parent, _)| parent).filter(|_| is_new);
    for protected in [Some(path), parent.as_ref()].into_iter().flatten() {
        if let Some(at) = unheld_lock(context, protected, tokens)? {
            return Err(Refusal::at(&at, ErrorCode::Locked, "it is locked"));
        }
    }
    Ok(())
}

/// Returns the path of a lock that covers a path, if none of these locks is held.
fn unheld_lock(
    context: &SessionContext,
    path: &TreePath,
    tokens: &[LockToken],
) -> Result<Option<TreePath>, Refusal> {
    let account = account_tag(&context.principal.user);
    let found = covering(context, path)?;
    if found.iter().any(|(_, lock)| lock.is_held_by(account, tokens)) {
        return Ok(None);
    }
    Ok(found.into_iter().next().map(|(at, _)| at))
}
