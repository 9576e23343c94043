//! Requests about content, and checks of a server's statements about it.

use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, ErrorCode, GetRequest, IfMatch, Refusal, Reply, Request, TreePath,
    limits,
};

use crate::error::Fault;
use crate::exchange::{answer, ask, check_header};
use crate::progress::Resume;
use crate::ranges::Ranges;

/// Requests content and returns its header. Blocks follow.
pub(super) fn ask_for_content(
    to: &mut Connection,
    get: &GetRequest,
) -> Result<ContentHeader, Fault> {
    to.queue(&Request::Get(get.clone()));
    to.flush()?;
    read_header(to, get)
}

/// Reads the header of requested content. Blocks follow.
pub(super) fn read_header(from: &mut Connection, get: &GetRequest) -> Result<ContentHeader, Fault> {
    match answer(from)? {
        Reply::ContentHeader(header) => check_header(get, &header).map(|()| header),
        other => Err(Fault::unexpected(&other)),
    }
}

/// Finds out whether a server has the known content although it has another identity there.
///
/// The size must be equal, and the server's digest counts from then on. Bytes that differ are
/// found by the verification at the end.
///
/// # Errors
/// Code `changed` if it is another content.
pub(super) fn identify(
    server: &mut Connection,
    path: &TreePath,
    content: &mut Resume,
) -> Result<(), Fault> {
    match ask(server, &Request::Hash(path.clone()))? {
        Reply::Details { entry, digest: Some(digest), .. } if entry.size == content.size => {
            (content.digest, content.identity) = (Some(digest), None);
            Ok(())
        }
        Reply::Details { .. } => Err(replaced("the file was replaced".to_owned())),
        other => Err(Fault::unexpected(&other)),
    }
}

/// Requests all piece values of the content with this digest; `ask` returns the answer to each.
///
/// It takes as many answers as necessary and checks each before the next request, so it stores only
/// received values. They are not proved by that.
///
/// # Errors
/// Those of `ask`; an answer that does not fit its request.
pub fn ask_for_pieces(
    ask: &mut dyn FnMut(&Request) -> Result<Reply, Fault>,
    path: &TreePath,
    digest: Digest,
    count: u64,
) -> Result<Vec<Digest>, Fault> {
    let mut all: Vec<Digest> = Vec::new();
    loop {
        let first = all.len() as u64;
        let count = u32::try_from(count - first)
            .map_or(limits::PIECES_PER_PAGE, |rest| rest.min(limits::PIECES_PER_PAGE));
        if count == 0 {
            return Ok(all);
        }
        let if_match = IfMatch::Digest(digest);
        match ask(&Request::Pieces { path: path.clone(), if_match, first, count })? {
            Reply::PieceValues { first: from, values }
                if from == first && values.len() == count as usize =>
            {
                all.extend(values)
            }
            Reply::PieceValues { values, .. } => {
                return Err(Fault::bad_value("number of piece values", values.len() as u64));
            }
            other => return Err(Fault::unexpected(&other)),
        }
    }
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
