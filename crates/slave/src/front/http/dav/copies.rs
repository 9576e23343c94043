//! COPY: copies a file, or a folder member by member.

use relais_dav::{DavError, Depth, Multistatus, depth};
use relais_engine::{CopyRequest, Located};
use relais_http::Status;
use relais_http::escape::uri_path;
use relais_proto::{
    Endpoint, Entry, ErrorCode, Expect, IfMatch, Kind, PutRequest, Refusal, TreePath,
};

use super::request::{DavAnswer, DavRequest, DavResult};
use super::targets::Target;
use crate::front::http::path::url_of;
use crate::front::http::refusals::status_of;
use crate::front::http::session::HttpSession;
use crate::front::replica_stream::ReplicaStream;

/// Members of a folder that are listed at once.
const PAGE: u32 = 256;
/// Most failed members that an answer names.
const FAILURES: usize = 1000;

/// COPY (RFC 4918, section 9.8): 207 if some members of a folder could not be copied.
pub fn copy(request: &mut DavRequest<'_>) -> DavResult {
    let depth = depth(request.header("Depth"))?;
    if depth == Depth::One {
        return Err(DavError::new(Status::BAD_REQUEST, "Depth is 0 or infinity").into());
    }
    let target = Target::of(request)?;
    target.clear(request)?;
    if target.source.kind == Kind::File {
        copy_file(request, &target.from, &target.to, target.expect)?;
        return Ok(DavAnswer::empty(target.done()));
    }
    copy_folder(request, &target.from, &target.to)?;
    if depth == Depth::Zero {
        return Ok(DavAnswer::empty(target.done()));
    }
    let failures = copy_members(request, &target)?;
    if failures.is_empty() {
        return Ok(DavAnswer::empty(target.done()));
    }
    let mut out = Multistatus::new();
    for (url, status) in failures {
        out.status(&url, status, None);
    }
    Ok(DavAnswer::xml(Status::MULTI_STATUS, out.finish()))
}

/// A member that could not be copied: its URL at the target, and why.
type FailedMember = (String, Status);

/// Copies what is in a folder. What cannot be copied is left out, with what is in it.
fn copy_members(
    request: &mut DavRequest<'_>,
    target: &Target,
) -> Result<Vec<FailedMember>, Refusal> {
    let mut folders = vec![(target.from.clone(), target.to.clone())];
    let mut failures = Vec::new();
    while let Some((from, to)) = folders.pop() {
        let mut after = String::new();
        loop {
            let entries = page(request, &from, &after)?;
            let Some(last) = entries.last() else { break };
            after.clone_from(&last.name);
            for Entry { name, kind, .. } in entries {
                // A path may become too long for its new place.
                let (Ok(inner), Ok(copied)) = (from.join(&name), to.join(&name)) else {
                    failures.push((url_in(&to, &name, kind), Status::CONFLICT));
                    continue;
                };
                let result = match kind {
                    Kind::File => copy_file(request, &inner, &copied, Expect::Any),
                    Kind::Folder => copy_folder(request, &inner, &copied),
                };
                match result {
                    Ok(()) if kind == Kind::Folder => folders.push((inner, copied)),
                    Ok(()) => {}
                    // What was removed meanwhile is not there to be copied.
                    Err(refusal) if refusal.code == ErrorCode::NotFound => {}
                    Err(refusal) if ends_copy(refusal.code) || failures.len() >= FAILURES => {
                        return Err(refusal);
                    }
                    Err(refusal) => {
                        failures.push((url_in(&to, &name, kind), status_of(refusal.code)));
                    }
                }
            }
        }
    }
    Ok(failures)
}

/// Returns the URL of a member of a folder. Its path may be longer than those of the tree.
fn url_in(folder: &TreePath, name: &str, kind: Kind) -> String {
    let member = uri_path(std::iter::once(name), kind == Kind::Folder);
    format!("{}{member}", url_of(folder, false).trim_end_matches('/'))
}

/// Whether no further member can be copied after this error.
fn ends_copy(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Cut
            | ErrorCode::BadTicket
            | ErrorCode::Draining
            | ErrorCode::NoSpace
            | ErrorCode::NoChanges
    )
}

fn page(
    request: &mut DavRequest<'_>,
    folder: &TreePath,
    after: &str,
) -> Result<Vec<Entry>, Refusal> {
    let mut listing =
        request.http.session.list(folder, after, Some(PAGE), &mut request.http.keepalive())?;
    let mut entries = Vec::new();
    while listing.next_page(&mut |entry| {
        entries.push(entry.clone());
        true
    })? {}
    Ok(entries)
}

/// Makes a folder with the properties of another one.
fn copy_folder(
    request: &mut DavRequest<'_>,
    from: &TreePath,
    to: &TreePath,
) -> Result<(), Refusal> {
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    let change = request.http.session.make_folder(id, to, keepalive)?;
    request.http.commit(change)?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    if let Some(change) = request.http.session.copy_properties(id, from, to, keepalive)? {
        request.http.commit(change)?;
    }
    Ok(())
}

/// Copies a file with its properties.
fn copy_file(
    request: &mut DavRequest<'_>,
    from: &TreePath,
    to: &TreePath,
    expect: Expect,
) -> Result<(), Refusal> {
    let copy = CopyRequest {
        id: HttpSession::change_id()?,
        from: from.clone(),
        to: to.clone(),
        if_match: IfMatch::Any,
        expect,
        copies: 0,
    };
    match request.http.session.copy(copy, &mut request.http.keepalive())? {
        Located::Here(change) => request.http.commit(change).map(drop),
        Located::Elsewhere(holders) => copy_from_holders(request, (from, to), expect, holders),
    }
}

/// Copies a file whose content other slaves have.
fn copy_from_holders(
    request: &mut DavRequest<'_>,
    (from, to): (&TreePath, &TreePath),
    expect: Expect,
    holders: Vec<Endpoint>,
) -> Result<(), Refusal> {
    let entry = request.http.entry(from)?.0;
    let content = request.http.session.describe_remote(from, holders)?;
    let put = PutRequest {
        id: HttpSession::change_id()?,
        path: to.clone(),
        offset: 0,
        size: Some(entry.size),
        mtime: Some(entry.mtime),
        mode: Some(entry.mode),
        expect,
        copies: 0,
    };
    let keepalive = &mut request.http.keepalive();
    let mut upload = request.http.session.begin_upload(put, keepalive)?;
    let range = (0, content.size());
    let mut stream =
        ReplicaStream::open(&request.http.context.replicas, content, range, keepalive)?;
    while let Some(piece) = stream.next_piece(keepalive)? {
        upload.write(piece)?;
    }
    stream.finish();
    let change = upload.finish(None, keepalive)?;
    request.http.commit(change)?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    if let Some(change) = request.http.session.copy_properties(id, from, to, keepalive)? {
        request.http.commit(change)?;
    }
    Ok(())
}
