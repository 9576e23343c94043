//! Requests about content, and checks of a server's statements about it.

use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, ErrorCode, GetRequest, IfMatch, Refusal, Reply, Request, TreePath,
    limits,
};

use super::content::Resume;
use crate::error::Fault;
use crate::exchange::ask;
use crate::ranges::Ranges;

/// Requests content and returns its header. Blocks follow.
pub(super) fn ask_for_content(
    to: &mut Connection,
    get: &GetRequest,
) -> Result<ContentHeader, Fault> {
    match ask(to, &Request::Get(get.clone()))? {
        Reply::ContentHeader(header) => check_header(get, header),
        other => Err(Fault::unexpected(&other)),
    }
}

/// Checks that the header matches the request.
fn check_header(get: &GetRequest, header: ContentHeader) -> Result<ContentHeader, Fault> {
    let rest = header.size.saturating_sub(get.offset);
    if header.offset != get.offset {
        return Err(Fault::bad_value("offset", header.offset));
    }
    if header.length != rest.min(get.length) {
        return Err(Fault::bad_value("length", header.length));
    }
    if matches!((get.if_match, header.digest), (IfMatch::Digest(a), Some(b)) if a != b) {
        return Err(Fault::bad_value("digest", 0));
    }
    Ok(header)
}

/// Requests the current digest of the file, with its size.
pub(super) fn ask_for_digest(
    to: &mut Connection,
    path: &TreePath,
) -> Result<(u64, Option<Digest>), Fault> {
    match ask(to, &Request::Hash(path.clone()))? {
        Reply::Details { entry, digest, .. } => Ok((entry.size, digest)),
        other => Err(Fault::unexpected(&other)),
    }
}

/// Requests the values of `count` pieces from number `begin` on.
///
/// It takes as many answers as necessary and checks each before the next request, so it stores only
/// received values.
pub(super) fn ask_for_pieces(
    to: &mut Connection,
    path: &TreePath,
    if_match: IfMatch,
    begin: u64,
    count: u64,
) -> Result<Vec<Digest>, Fault> {
    let mut all: Vec<Digest> = Vec::new();
    while (all.len() as u64) < count {
        let first = begin + all.len() as u64;
        let page = u32::try_from(count - all.len() as u64)
            .map_or(limits::PIECES_PER_PAGE, |rest| rest.min(limits::PIECES_PER_PAGE));
        let request = Request::Pieces { path: path.clone(), if_match, first, count: page };
        match ask(to, &request)? {
            Reply::PieceValues { first: from, values }
                if from == first && values.len() == page as usize =>
            {
                all.extend(values)
            }
            Reply::PieceValues { values, .. } => {
                return Err(Fault::bad_value("number of piece values", values.len() as u64));
            }
            other => return Err(Fault::unexpected(&other)),
        }
    }
    Ok(all)
}

/// Returns the condition for a request about the known content.
pub(super) fn if_match(content: Option<&Resume>) -> IfMatch {
    match content {
        Some(Resume { digest: Some(digest), .. }) => IfMatch::Digest(*digest),
        Some(Resume { identity: Some(identity), .. }) => IfMatch::Identity(*identity),
        _ => IfMatch::Any,
    }
}

/// Returns the facts about the content after a server has accepted the request for it.
pub(super) fn learn(known: Option<Resume>, header: &ContentHeader) -> Result<Resume, Fault> {
    let identity = Some(header.identity);
    let Some(known) = known else {
        return Ok(Resume {
            size: header.size,
            mtime: header.mtime,
            digest: header.digest,
            identity,
            version: header.version,
            good: Ranges::new(),
        });
    };
    if known.size != header.size {
        return Err(replaced(format!(
            "it has {} bytes and not {} any more",
            header.size, known.size
        )));
    }
    if let (Some(ours), Some(theirs)) = (known.digest, header.digest)
        && ours != theirs
    {
        return Err(replaced("it has another digest".to_owned()));
    }
    let digest = known.digest.or(header.digest);
    Ok(Resume { mtime: header.mtime, digest, identity, version: header.version, ..known })
}

/// Reports content that was replaced; blocks may be in flight.
fn replaced(why: String) -> Fault {
    Fault::Refused(Refusal::new(ErrorCode::Changed, why))
}
