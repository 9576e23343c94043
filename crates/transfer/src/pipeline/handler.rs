//! Requests and answers of a pipeline, and the caller that makes and receives them.

use std::net::SocketAddr;

use relais_proto::{
    ContentHeader, Digest, Entry, GetRequest, IfMatch, Lsn, Refusal, Request, TreePath, limits,
};

use crate::error::TransferError;

/// Largest content in bytes that goes through the pipeline, whole and in memory.
pub const SMALL: u64 = limits::PIECE;

/// A request. Changes carry their id, so repeating one is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineRequest {
    /// A read of one entry or folder, a read of content with [`Self::get`], or a change.
    pub request: Request,
    /// Whole content of a put, at most [`SMALL`] bytes.
    pub content: Option<Vec<u8>>,
}

impl From<Request> for PipelineRequest {
    fn from(request: Request) -> Self {
        Self { request, content: None }
    }
}

impl PipelineRequest {
    /// Asks for all names in a folder.
    #[must_use]
    pub fn list(path: TreePath) -> Self {
        Request::List { path, after: String::new(), most: 0 }.into()
    }

    /// Asks for the content of a file.
    ///
    /// Requests only a small part: the rest of a larger content would be sent for nothing.
    #[must_use]
    pub fn get(path: TreePath) -> Self {
        let if_match = IfMatch::Any;
        Request::Get(GetRequest { path, offset: 0, length: SMALL, if_match }).into()
    }
}

/// A checked answer: names ascend, and content matches its digest.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug)]
pub enum PipelineReply<'a> {
    /// Next entry of a listing. After a lost connection the listing continues after the last one.
    Entry(Entry),
    /// The listing is complete.
    Listed,
    /// Answer to [`Request::Stat`] and [`Request::Hash`].
    Details {
        entry: Entry,
        /// Digest; always present for [`Request::Hash`].
        digest: Option<Digest>,
    },
    /// The whole content of a file.
    Content { header: &'a ContentHeader, bytes: &'a [u8], digest: Digest },
    /// The file has more than [`SMALL`] bytes and needs its own download.
    TooLarge { header: &'a ContentHeader },
    /// The change is committed.
    Committed {
        /// Number of the change.
        version: Lsn,
        /// Number of disks that hold the content.
        copies: u16,
    },
    /// The server refused the request, or its content stayed damaged or changing after several
    /// tries.
    Refused(Refusal),
}

/// Source of requests and receiver of answers.
pub trait PipelineHandler {
    /// Returns the next request, with a tag for its answer; `None` if there is none now.
    ///
    /// It is called again after answers, which may lead to more requests.
    fn next(&mut self) -> Option<(u64, PipelineRequest)>;

    /// Handles an answer. Answers come in the order of the requests, except for repeated ones.
    ///
    /// # Errors
    /// Any error ends the pipeline; [`run`](super::run) returns it.
    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), TransferError>;

    /// The connection to `from` was lost, and `to` has answered.
    ///
    /// Both are the same if the same server was reached again.
    fn moved(&mut self, from: SocketAddr, to: SocketAddr) {
        let _ = (from, to);
    }

    /// Returns whether the user has interrupted. The interrupter also shuts the socket down.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Totals of a completed pipeline: everything was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipelineStats {
    /// Received content bytes, including those of failed tries.
    pub bytes_in: u64,
    /// Sent content bytes, including those of failed tries.
    pub bytes_out: u64,
    /// Servers that answered, in the order of their first answer.
    pub servers: Vec<SocketAddr>,
}
