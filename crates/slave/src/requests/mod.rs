//! The table of requests: for each its code, its name, its handler, and what it needs.
//!
//! A handler turns a request into an [`Outcome`] or a refusal. It never sends anything: only a
//! front door does, and a second front door can use the same table.

mod content;
mod entry;
mod listing;
mod pieces;
mod status;

use std::io;

pub(crate) use self::content::changed;

use log::{trace, warn};
use relais_proto::{Digest, Entry, ErrorCode, FrameType, Header, Refusal, Reply, Request, TreePath, WaitReason};
use relais_tree::{Meta, OpenFile, TreeError};

use crate::serving::{Serving, Session};

/// What a handler answers.
pub enum Outcome {
    /// One message.
    Reply(Reply),
    /// The names in a folder, page by page.
    Listing(listing::Pages),
    /// Content of a file.
    Content(Box<Content>),
}

/// Content that is about to go out.
pub struct Content {
    /// The file, opened before anything was decided about it.
    pub file: OpenFile,
    /// Which file, for the catalogue and the log.
    pub path: TreePath,
    /// What precedes the blocks.
    pub header: Header,
}

/// Told by work that takes its time.
pub trait Patience {
    /// The work goes on; tells whoever waits from time to time.
    ///
    /// # Errors
    /// The connection's: nobody waits any more, and the work can end.
    fn still(&mut self, reason: WaitReason) -> io::Result<()>;
}

/// What a handler is given.
pub struct Context<'a> {
    /// The folder, its catalogue and the settings.
    pub serving: &'a Serving,
    /// Whose request it is.
    pub session: &'a Session,
    /// Who waits for the answer.
    pub patience: &'a mut dyn Patience,
}

/// A handler's result.
pub type Handled = Result<Outcome, Refusal>;

/// A row of the table.
pub struct Row {
    /// The request's code on the wire.
    pub kind: FrameType,
    /// Its name, for logs and for a second front door.
    pub name: &'static str,
    /// Whether it changes anything.
    pub writes: bool,
    handler: fn(&mut Context<'_>, Request) -> Handled,
}

/// Every request that a session can make.
pub const TABLE: &[Row] = &[
    Row { kind: FrameType::List, name: "list", writes: false, handler: listing::list },
    Row { kind: FrameType::Stat, name: "stat", writes: false, handler: entry::stat },
    Row { kind: FrameType::Hash, name: "hash", writes: false, handler: entry::hash },
    Row { kind: FrameType::Get, name: "get", writes: false, handler: content::get },
    Row { kind: FrameType::Pieces, name: "pieces", writes: false, handler: pieces::pieces },
    Row { kind: FrameType::Status, name: "status", writes: false, handler: status::status },
    Row { kind: FrameType::Ping, name: "ping", writes: false, handler: status::ping },
];

/// Answers one request.
///
/// # Errors
/// A refusal for the client.
pub fn handle(context: &mut Context<'_>, request: Request) -> Handled {
    let kind = request.frame_type();
    let Some(row) = TABLE.iter().find(|row| row.kind == kind) else {
        return Err(Refusal::new(ErrorCode::BadRequest, "this is not a request for an open session"));
    };
    trace!("{}: {}", context.session.name(), row.name);
    if row.writes && !context.session.writable {
        return Err(Refusal::new(ErrorCode::Denied, "this session may only read"));
    }
    (row.handler)(context, request)
}

/// A request that the table sent to the wrong handler; the table's test keeps it from happening.
fn misrouted() -> Refusal {
    Refusal::new(ErrorCode::Unsupported, "this server does not know the request")
}

/// The refusal for what went wrong in the folder. What it may tell goes to the client, the rest to the log.
pub(crate) fn refuse(path: &TreePath, error: &TreeError) -> Refusal {
    let code = error.code();
    if code == ErrorCode::Storage {
        warn!("{path}: {error}");
    }
    Refusal::new(code, format!("{path}: {}", error.public_text()))
}

/// The entry of a file or folder as it is on the disk.
fn entry_of(path: &TreePath, meta: &Meta) -> Result<Entry, Refusal> {
    let Some(kind) = meta.served_kind() else {
        return Err(Refusal::new(ErrorCode::NotServed, format!("{path}: neither a file nor a folder")));
    };
    let file = kind == relais_proto::Kind::File;
    Ok(Entry {
        name: path.last().unwrap_or_default().to_owned(),
        kind,
        executable: file && meta.executable,
        size: if file { meta.size } else { 0 },
        mtime: meta.mtime,
        version: None,
    })
}

/// The digest of an open file: from the catalogue, or else computed now.
///
/// # Errors
/// [`ErrorCode::Changed`] where the file changes meanwhile, and those of reading it.
pub fn digest_of(serving: &Serving, path: &TreePath, file: &OpenFile, patience: &mut dyn Patience) -> Result<Digest, Refusal> {
    match serving.known_digest(path, &file.meta)? {
        Some(digest) => Ok(digest),
        None => content::compute(path, file, patience).map(|(digest, _)| digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_of_a_session_is_in_the_table_once() {
        let before_the_session = [FrameType::Hello, FrameType::Login, FrameType::Ticket];
        let of_a_client = FrameType::ALL.iter().filter(|kind| kind.number() < 0x20 && !before_the_session.contains(kind));
        for kind in of_a_client {
            assert_eq!(TABLE.iter().filter(|row| row.kind == *kind).count(), 1, "{kind:?}");
        }
    }
}
