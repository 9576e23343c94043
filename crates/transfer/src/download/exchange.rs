//! Requests with single answers, and checks of a server's statements about content.

use std::time::Instant;

use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, GetRequest, Identity, IfMatch, Reply, Request, TreePath, limits,
};

use super::Resume;
use super::error::DownloadInterrupt;
use crate::retry::PATIENCE;

/// Sends `request` and returns the first answer other than a keep-alive.
pub(super) fn ask(to: &mut Connection, request: &Request) -> Result<Reply, DownloadInterrupt> {
    to.queue(request);
    to.flush().map_err(|e| DownloadInterrupt::Lost(e.to_string()))?;
    match answer(to)? {
        Reply::Elsewhere { holders } => Err(DownloadInterrupt::Elsewhere(holders)),
        reply => Ok(reply),
    }
}

/// Reads the next answer other than a keep-alive; an error is a [`DownloadInterrupt::Refused`].
pub(super) fn answer(from: &mut Connection) -> Result<Reply, DownloadInterrupt> {
    let until = Instant::now() + PATIENCE;
    loop {
        match from.read_reply()? {
            None => return Err(DownloadInterrupt::Lost("the connection was closed".to_owned())),
            Some(Reply::Error(refusal)) => return Err(DownloadInterrupt::Refused(refusal)),
            Some(Reply::Wait(_) | Reply::MasterUnreachable { .. }) if Instant::now() < until => {}
            Some(Reply::Wait(_) | Reply::MasterUnreachable { .. }) => {
                return Err(DownloadInterrupt::Lost("no answer came in time".to_owned()));
            }
            Some(reply) => return Ok(reply),
        }
    }
}

/// Reports an answer that is not allowed here.
pub(super) fn unexpected(reply: &Reply) -> DownloadInterrupt {
    DownloadInterrupt::Violation(relais_proto::WireError::Unexpected(reply.frame_type().number()))
}

/// Requests content and returns its header. Blocks follow.
pub(super) fn ask_for_content(
    to: &mut Connection,
    get: &GetRequest,
) -> Result<ContentHeader, DownloadInterrupt> {
    match ask(to, &Request::Get(get.clone()))? {
        Reply::ContentHeader(header) => check_header(get, header),
        other => Err(unexpected(&other)),
    }
}

/// Checks that the header matches the request.
fn check_header(
    get: &GetRequest,
    header: ContentHeader,
) -> Result<ContentHeader, DownloadInterrupt> {
    let rest = header.size.saturating_sub(get.offset);
    if header.offset != get.offset {
        return Err(DownloadInterrupt::bad_value("offset", header.offset));
    }
    if header.length != rest.min(get.length) {
        return Err(DownloadInterrupt::bad_value("length", header.length));
    }
    if matches!((get.if_match, header.digest), (IfMatch::Digest(a), Some(b)) if a != b) {
        return Err(DownloadInterrupt::bad_value("digest", 0));
    }
    Ok(header)
}

/// Requests the current digest of the file, with its size.
pub(super) fn ask_for_digest(
    to: &mut Connection,
    path: &TreePath,
) -> Result<(u64, Option<Digest>), DownloadInterrupt> {
    match ask(to, &Request::Hash(path.clone()))? {
        Reply::Details { entry, digest, .. } => Ok((entry.size, digest)),
        other => Err(unexpected(&other)),
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
) -> Result<Vec<Digest>, DownloadInterrupt> {
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
                return Err(DownloadInterrupt::bad_value(
                    "number of piece values",
                    values.len() as u64,
                ));
            }
            other => return Err(unexpected(&other)),
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
pub(super) fn learn(
    known: Option<Resume>,
    header: &ContentHeader,
) -> Result<Resume, DownloadInterrupt> {
    let identity: Option<Identity> = Some(header.identity);
    let Some(known) = known else {
        return Ok(Resume {
            size: header.size,
            mtime: header.mtime,
            digest: header.digest,
            identity,
            version: header.version,
            good: crate::Ranges::new(),
        });
    };
    if known.size != header.size {
        return Err(DownloadInterrupt::Replaced(format!(
            "it has {} bytes and not {} any more",
            header.size, known.size
        )));
    }
    if let (Some(ours), Some(theirs)) = (known.digest, header.digest)
        && ours != theirs
    {
        return Err(DownloadInterrupt::Replaced("it has another digest".to_owned()));
    }
    let digest = known.digest.or(header.digest);
    Ok(Resume { mtime: header.mtime, digest, identity, version: header.version, ..known })
}
