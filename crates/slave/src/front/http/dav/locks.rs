//! LOCK and UNLOCK.

use std::io;

use relais_dav::{
    Condition, DavError, Depth, IfHeader, LockInfo, LockScope, Multistatus, PropFind, depth,
    lock_response, lock_token, timeout,
};
use relais_http::Status;
use relais_proto::{
    ErrorCode, Expect, LockRequest, LockToken, Lsn, PutRequest, Refusal, TreePath, limits,
};

use super::failure::DavFailure;
use super::locked::url_of_entry;
use super::properties::{Asked, Resource};
use super::request::{DavAnswer, DavRequest, DavResult};
use super::tokens;
use crate::front::http::path::url_of;
use crate::front::http::session::HttpSession;

/// LOCK (RFC 4918, section 9.10): with a body a new lock, without one more time for a lock.
pub fn lock(request: &mut DavRequest<'_>) -> DavResult {
    let seconds = timeout(request.header("Timeout"), limits::LOCK_SECONDS);
    let Some(info) = LockInfo::parse(&request.body)? else {
        // A refresh has no depth (RFC 4918, section 9.10.3).
        return refresh(request, seconds);
    };
    match depth(request.header("Depth"))? {
        Depth::Zero => lock_anew(request, info, false, seconds),
        Depth::Infinity => lock_anew(request, info, true, seconds),
        Depth::One => Err(DavError::new(Status::BAD_REQUEST, "Depth is 0 or infinity").into()),
    }
}

/// Returns a new token: a random UUID (RFC 9562, section 5.4), as `urn:uuid` URLs have them.
fn new_token() -> Result<LockToken, Refusal> {
    let random: io::Result<[u8; 16]> = relais_os::random();
    let mut bytes =
        random.map_err(|e| Refusal::new(ErrorCode::Storage, format!("no random bytes: {e}")))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(LockToken(bytes))
}

/// Locks a resource. If there is none, an empty file is made (RFC 4918, section 7.3).
fn lock_anew(request: &mut DavRequest<'_>, info: LockInfo, deep: bool, seconds: u32) -> DavResult {
    let path = request.path.clone();
    let made = match request.find(&path)? {
        Some(_) => None,
        None => Some(make_empty(request, &path)?),
    };
    let token = new_token()?;
    let exclusive = info.scope == LockScope::Exclusive;
    let lock =
        LockRequest { token, user: String::new(), owner: info.owner, exclusive, deep, seconds };
    if let Err(refusal) = set(request, &path, lock) {
        if let Some(version) = made {
            remove(request, &path, version)?;
        }
        return conflict(request, &path, (exclusive, deep), refusal);
    }
    let status = if made.is_some() { Status::CREATED } else { Status::OK };
    let mut answer = shown(request, token, status)?;
    answer.headers.push(("Lock-Token", format!("<{}>", tokens::to_uri(token))));
    Ok(answer)
}

fn set(request: &mut DavRequest<'_>, path: &TreePath, lock: LockRequest) -> Result<(), Refusal> {
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    let change = request.http.session.lock(id, path, lock, keepalive)?;
    request.http.commit(change).map(drop)
}

/// Makes an empty file; returns its version.
fn make_empty(request: &mut DavRequest<'_>, path: &TreePath) -> Result<Lsn, DavFailure> {
    request.check_parent(path)?;
    let put = PutRequest {
        id: HttpSession::change_id()?,
        path: path.clone(),
        offset: 0,
        size: Some(0),
        mtime: None,
        mode: None,
        expect: Expect::Absent,
        copies: 0,
    };
    let keepalive = &mut request.http.keepalive();
    let upload = request.http.session.begin_upload(put, keepalive)?;
    let change = upload.finish(None, keepalive)?;
    Ok(request.http.commit(change)?.version)
}

/// Removes the empty file of a lock that was not granted.
fn remove(request: &mut DavRequest<'_>, path: &TreePath, version: Lsn) -> Result<(), Refusal> {
    let (id, expect) = (HttpSession::change_id()?, Expect::Lsn(version));
    let change =
        request.http.session.remove(id, path, false, expect, &mut request.http.keepalive())?;
    request.http.commit(change).map(drop)
}

/// Returns why a lock is not granted (RFC 4918, sections 9.10.5 and 9.10.6).
///
/// Locks below the folder are named in a 207, in which the folder depends on them.
fn conflict(
    request: &mut DavRequest<'_>,
    path: &TreePath,
    (exclusive, deep): (bool, bool),
    refusal: Refusal,
) -> DavResult {
    if refusal.code != ErrorCode::Locked {
        return Err(refusal.into());
    }
    let mut locks = request.http.session.locks(path, deep, &mut request.http.keepalive())?;
    locks.retain(|found| exclusive || found.lock.exclusive);
    let mut paths: Vec<TreePath> = locks.into_iter().map(|found| found.path).collect();
    paths.dedup();
    let condition = Condition::NoConflictingLock;
    if paths.is_empty() || paths.iter().any(|at| !at.is_below(path)) {
        paths.retain(|at| !at.is_below(path));
        let error = DavError::with_condition(Status::LOCKED, condition, "another lock holds");
        let urls = paths.iter().map(|path| url_of_entry(request.http, path)).collect();
        return Err(DavFailure::Dav(error, urls));
    }
    let mut out = Multistatus::new();
    for below in paths {
        out.status(&url_of_entry(request.http, &below), Status::LOCKED, Some(condition));
    }
    out.status(&url_of(path, true), Status::FAILED_DEPENDENCY, None);
    Ok(DavAnswer::xml(Status::MULTI_STATUS, out.finish()))
}

/// Gives a lock more time: the one that the header If names (RFC 4918, section 9.10.2).
fn refresh(request: &mut DavRequest<'_>, seconds: u32) -> DavResult {
    let path = request.path.clone();
    let header = request.header("If").ok_or_else(|| {
        DavError::new(Status::BAD_REQUEST, "a LOCK without a body names a lock in the header If")
    })?;
    let header = IfHeader::parse(header)?;
    let failed = || DavError::new(Status::PRECONDITION_FAILED, "the header If names no lock here");
    let token = header.submitted_tokens().find_map(tokens::from_uri).ok_or_else(failed)?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    match request.http.session.refresh_lock(id, &path, token, seconds, keepalive) {
        Err(refusal) if refusal.code == ErrorCode::Changed => return Err(failed().into()),
        change => request.http.commit(change?)?,
    };
    shown(request, token, Status::OK)
}

/// Returns the answer that shows a lock.
fn shown(request: &mut DavRequest<'_>, token: LockToken, status: Status) -> DavResult {
    let path = request.path.clone();
    let locks = request.http.session.locks(&path, false, &mut request.http.keepalive())?;
    let found = locks
        .iter()
        .find(|found| found.lock.token == token)
        .ok_or_else(|| Refusal::at(&path, ErrorCode::Changed, "the lock has ended"))?;
    let entry = request.http.entry(&path)?.0;
    let asked = Asked {
        propfind: PropFind::Names,
        quota: None,
        user: request.http.session.principal().user.clone(),
    };
    let resource =
        Resource { path: &path, entry: &entry, digest: None, dead: &[], locks: Vec::new() };
    Ok(DavAnswer::xml(status, lock_response(&asked.active_lock(found, &resource))))
}

/// UNLOCK (RFC 4918, section 9.11).
pub fn unlock(request: &mut DavRequest<'_>) -> DavResult {
    let path = request.path.clone();
    let token = tokens::from_uri(lock_token(request.header("Lock-Token"))?);
    let no_lock = || {
        let condition = Condition::LockTokenMatchesRequestUri;
        DavError::with_condition(Status::CONFLICT, condition, "no lock here has this token")
    };
    let token = token.ok_or_else(no_lock)?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    match request.http.session.unlock(id, &path, token, keepalive) {
        Err(refusal) if refusal.code == ErrorCode::Changed => return Err(no_lock().into()),
        change => request.http.commit(change?)?,
    };
    Ok(DavAnswer::empty(Status::NO_CONTENT))
}
