//! The table of requests: for each its code, its name, its handler and its needs.
//!
//! A handler turns a request into a [`RequestOutcome`] or a refusal. It never sends anything: only
//! a front end does, and a second front end can use the same table.

use std::io;

pub use super::change_ids::account_tag;
pub(crate) use super::content::content_changed;
pub use super::listing::SCAN_WAIT;
pub use super::uploads::{SMALL, Upload};

use super::{changes, content, entry, listing, pieces, status, uploads};
use log::trace;
use relais_proto::{
    ContentHeader, Digest, Entry, ErrorCode, FrameType, Refusal, Reply, Request, TreePath,
    WaitReason,
};
use relais_storage::{EntryFacts, Proposal};
use relais_tree::{Meta, OpenFile, TreeError};

use crate::engine::serving::{ServingContext, Session};

/// The result of a handler.
pub enum RequestOutcome {
    /// One message.
    Reply(Reply),
    /// The names in a folder, page by page.
    Listing(listing::ListingPages),
    /// Content of a file to send.
    Content(Box<FileContent>),
    /// An upload, whose content is about to come.
    Upload(Box<Upload>),
    /// A change to hand to the replicator.
    Change(Box<Proposal>),
}

/// Content that is about to be sent.
pub struct FileContent {
    /// The file, which was opened before anything was decided about it.
    pub file: OpenFile,
    /// Path of the file, for the catalogue and the log.
    pub path: TreePath,
    /// The header in front of the blocks.
    pub header: ContentHeader,
}

/// Keeps the connection alive while an answer takes its time.
pub trait KeepAlive {
    /// Sends the peer a `Wait` frame if one is due.
    ///
    /// Work that takes its time calls it regularly.
    ///
    /// # Errors
    /// The connection's: the peer has gone, and the work can end.
    fn send_keepalive(&mut self, reason: WaitReason) -> io::Result<()>;
}

/// What a handler gets beside the request.
pub struct RequestContext<'a> {
    /// Folder, catalogue and settings of the worker.
    pub serving: &'a ServingContext,
    /// The session that has sent the request.
    pub session: &'a Session,
    /// Keeps the session's connection alive.
    pub keepalive: &'a mut dyn KeepAlive,
}

/// What a handler returns.
pub type HandlerResult = Result<RequestOutcome, Refusal>;

/// A row of the table of requests.
pub struct RequestSpec {
    /// The request's code on the wire.
    pub kind: FrameType,
    /// Name for logs and for a second front end.
    pub name: &'static str,
    /// Whether the request changes the tree.
    pub writes: bool,
    handler: fn(&mut RequestContext<'_>, Request) -> HandlerResult,
}

/// All requests of an open session.
pub const TABLE: &[RequestSpec] = &[
    RequestSpec { kind: FrameType::List, name: "list", writes: false, handler: listing::list },
    RequestSpec { kind: FrameType::Stat, name: "stat", writes: false, handler: entry::stat },
    RequestSpec { kind: FrameType::Hash, name: "hash", writes: false, handler: entry::hash },
    RequestSpec { kind: FrameType::Get, name: "get", writes: false, handler: content::get },
    RequestSpec { kind: FrameType::Pieces, name: "pieces", writes: false, handler: pieces::pieces },
    RequestSpec { kind: FrameType::Status, name: "status", writes: false, handler: status::status },
    RequestSpec { kind: FrameType::Ping, name: "ping", writes: false, handler: status::ping },
    RequestSpec { kind: FrameType::Put, name: "put", writes: true, handler: uploads::put },
    RequestSpec { kind: FrameType::Resume, name: "resume", writes: true, handler: uploads::resume },
    RequestSpec {
        kind: FrameType::MakeFolder,
        name: "mkdir",
        writes: true,
        handler: changes::make_folder,
    },
    RequestSpec { kind: FrameType::Remove, name: "rm", writes: true, handler: changes::remove },
    RequestSpec { kind: FrameType::Move, name: "mv", writes: true, handler: changes::move_to },
];

/// Handles one request.
///
/// # Errors
/// The refusal for the client.
pub fn handle(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let kind = request.frame_type();
    let Some(spec) = TABLE.iter().find(|spec| spec.kind == kind) else {
        return Err(Refusal::new(ErrorCode::BadRequest, "an open session takes no such request"));
    };
    trace!("{}: {}", context.session.name(), spec.name);
    if spec.writes && !context.session.writable {
        let why = context
            .serving
            .read_only
            .filter(|_| context.session.user.is_empty())
            .unwrap_or("this user may only read");
        return Err(Refusal::new(
            ErrorCode::Denied,
            format!("changes are not allowed here: {why}"),
        ));
    }
    (spec.handler)(context, request)
}

/// Returns the refusal of a request that the table sent to the wrong handler, which a test rules
/// out.
pub(super) fn misrouted() -> Refusal {
    Refusal::new(ErrorCode::Unsupported, "this server does not know the request")
}

/// Returns the refusal for an error in the folder.
///
/// Details that the client may not see go to the log.
pub(crate) fn refuse(path: &TreePath, error: &TreeError) -> Refusal {
    let code = error.code();
    if matches!(code, ErrorCode::Storage | ErrorCode::NoSpace) {
        ServingContext::log_failure(path, error);
    }
    Refusal::at(path, code, error.public_text().to_string())
}

/// Returns the entry of a file or folder as it is on the disk.
pub(super) fn entry_of(path: &TreePath, meta: &Meta, facts: &EntryFacts) -> Result<Entry, Refusal> {
    let Some(kind) = meta.served_kind() else {
        return Err(Refusal::at(path, ErrorCode::NotServed, "neither a file nor a folder"));
    };
    let file = kind == relais_proto::Kind::File;
    let (mode, mtime) = facts.attributes.unwrap_or((meta.mode.with_owner_access(kind), meta.mtime));
    Ok(Entry {
        name: path.last().unwrap_or_default().to_owned(),
        kind,
        mode,
        size: if file { meta.size } else { 0 },
        mtime: if file { mtime } else { meta.mtime },
        version: facts.version,
    })
}

/// Returns the digest of an open file: from the catalogue's `facts`, or computed now.
///
/// # Errors
/// [`ErrorCode::Changed`] if the file changes meanwhile, and those of reading it.
pub fn digest_of(
    facts: &EntryFacts,
    path: &TreePath,
    file: &OpenFile,
    keepalive: &mut dyn KeepAlive,
) -> Result<Digest, Refusal> {
    match facts.digest {
        Some(digest) => Ok(digest),
        None => content::compute(path, file, keepalive).map(|(digest, _)| digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_each_session_request_once() {
        let no_requests = [
            FrameType::Hello,
            FrameType::Login,
            FrameType::Ticket,
            FrameType::Seen,
            FrameType::Data,
            FrameType::PutEnd,
        ];
        let requests = FrameType::ALL
            .iter()
            .filter(|kind| kind.number() < 0x40 && !no_requests.contains(kind));
        for kind in requests {
            assert_eq!(TABLE.iter().filter(|spec| spec.kind == *kind).count(), 1, "{kind:?}");
        }
    }
}
