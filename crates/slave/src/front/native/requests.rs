//! What the engine does for each request of the protocol.

use relais_engine::{
    Content, CopyRequest, Details, EntryList, KeepAlive, Listing, Located, PreparedChange, Session,
    Upload, UploadProgress, Watch,
};
use relais_proto::{ContentHeader, FrameType, GetRequest, Refusal, Reply, Request};

use super::replies::committed;

/// What a request leads to.
pub enum Outcome {
    /// One message.
    Reply(Reply),
    /// The names in a folder, page by page.
    Listing(Listing),
    /// Entries of several paths.
    Entries(EntryList),
    /// Events to send until the next request.
    Watch(Box<Watch>),
    /// Content to send, behind its header.
    Content(Box<Content>, ContentHeader),
    /// An upload, whose content is about to come.
    Upload(Box<Upload>),
    /// A change to hand in.
    Change(Box<PreparedChange>),
    /// The request belongs to the login, or to an upload.
    Unexpected(FrameType),
}

/// Has the engine do what a request asks for.
///
/// # Errors
/// The refusal for the client.
pub fn perform(
    session: &Session,
    request: Request,
    block_size: u32,
    keepalive: &mut dyn KeepAlive,
) -> Result<Outcome, Refusal> {
    let change = |change| Outcome::Change(Box::new(change));
    Ok(match request {
        Request::List { path, after, most } => {
            let most = (most > 0).then_some(most);
            Outcome::Listing(session.list(&path, &after, most, keepalive)?)
        }
        Request::Stat(path) => Outcome::Reply(details(session.stat(&path, keepalive)?)),
        Request::StatMany { paths } => Outcome::Entries(session.stat_many(&paths, keepalive)?),
        Request::Watch { path, after } => {
            Outcome::Watch(Box::new(session.watch(&path, after, keepalive)?))
        }
        Request::Hash(path) => Outcome::Reply(located(session.hash(&path, keepalive)?, details)),
        Request::Get(get) => content(session, &get, block_size, keepalive)?,
        Request::Pieces { path, if_match, first, count } => {
            let values = session.pieces(&path, if_match, (first, count), keepalive)?;
            Outcome::Reply(located(values, |values| Reply::PieceValues { first, values }))
        }
        Request::Status => {
            let status = session.status(keepalive)?;
            Outcome::Reply(Reply::StatusReport {
                slave: session.engine().slave_id(),
                lsn: status.lsn,
                metrics: status.metrics,
                last_error: status.last_error,
            })
        }
        Request::Ping => {
            session.check_ready(keepalive)?;
            Outcome::Reply(Reply::Pong)
        }
        Request::Put(put) => Outcome::Upload(Box::new(session.begin_upload(put, keepalive)?)),
        Request::Resume { id, path, size } => {
            Outcome::Reply(match session.find_upload(id, &path, size, keepalive)? {
                UploadProgress::Committed(change) => committed(change),
                UploadProgress::Staged { offset, current, .. } => Reply::Staged { offset, current },
            })
        }
        Request::MakeFolder { id, path } => change(session.make_folder(id, &path, keepalive)?),
        Request::Remove { id, path, recursive, expect } => {
            change(session.remove(id, &path, recursive, expect, keepalive)?)
        }
        Request::Move { id, from, to, expect } => {
            change(session.rename(id, &from, &to, expect, keepalive)?)
        }
        Request::SetAttributes { id, path, expect, attributes } => {
            change(session.set_attributes(id, &path, attributes, expect, keepalive)?)
        }
        Request::Copy { id, from, to, if_match, expect, copies } => {
            let request = CopyRequest { id, from, to, if_match, expect, copies };
            match session.copy(request, keepalive)? {
                Located::Here(copy) => change(copy),
                Located::Elsewhere(holders) => Outcome::Reply(Reply::Elsewhere { holders }),
            }
        }
        Request::Hello(_)
        | Request::Login(_)
        | Request::Ticket { .. }
        | Request::Seen { .. }
        | Request::FailedOver
        | Request::PutEnd { .. } => Outcome::Unexpected(request.frame_type()),
    })
}

fn content(
    session: &Session,
    get: &GetRequest,
    block_size: u32,
    keepalive: &mut dyn KeepAlive,
) -> Result<Outcome, Refusal> {
    let mut content = match session.open(&get.path, get.if_match, keepalive)? {
        Located::Here(content) => content,
        Located::Elsewhere(holders) => return Ok(Outcome::Reply(Reply::Elsewhere { holders })),
    };
    let length = content.range(get.offset, get.length)?;
    let (mode, mtime) = content.attributes();
    let header = ContentHeader {
        size: content.size(),
        offset: get.offset,
        length,
        block_size,
        mtime,
        mode,
        version: content.version(),
        digest: content.known_digest(),
        identity: content.identity(),
    };
    Ok(Outcome::Content(Box::new(content), header))
}

fn located<T>(found: Located<T>, reply: impl FnOnce(T) -> Reply) -> Reply {
    match found {
        Located::Here(found) => reply(found),
        Located::Elsewhere(holders) => Reply::Elsewhere { holders },
    }
}

fn details(Details { entry, digest, holders, lsn }: Details) -> Reply {
    Reply::Details { entry, digest, holders, lsn }
}
