//! Requests and answers of a pipeline, and the caller that makes and receives them.

use std::net::SocketAddr;

use relais_proto::{
    ChangeId, ContentHeader, Digest, Entry, Lsn, PutRequest, Refusal, TreePath, limits,
};

use crate::error::TransferError;

/// Largest content in bytes that goes through the pipeline, whole and in memory.
pub const SMALL: u64 = limits::PIECE;

/// A request. Changes carry their id, so repeating one is harmless.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineRequest {
    /// Lists all names in a folder.
    List { path: TreePath },
    /// Asks for one entry.
    Stat(TreePath),
    /// Asks for one file with its digest; the server computes it if necessary.
    Hash(TreePath),
    /// Asks for the content of a file.
    Get { path: TreePath },
    /// Makes a folder.
    MakeFolder {
        /// Id of the change; a repeated id is the same change.
        id: ChangeId,
        path: TreePath,
    },
    /// Removes a file or a folder.
    Remove {
        /// Id of the change; a repeated id is the same change.
        id: ChangeId,
        path: TreePath,
        /// Whether the entries below a folder are removed with it.
        recursive: bool,
    },
    /// Puts a file.
    Put {
        /// The upload. The whole content is sent, so size and offset are set from it.
        request: PutRequest,
        /// Content of at most [`SMALL`] bytes.
        content: Vec<u8>,
    },
}

/// A checked answer: names ascend, and content matches its digest.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug)]
pub enum PipelineReply<'a> {
    /// Next entry of a listing. After a lost connection the listing continues after the last one.
    Entry(Entry),
    /// The listing is complete.
    Listed,
    /// Answer to [`PipelineRequest::Stat`] and [`PipelineRequest::Hash`].
    Details {
        entry: Entry,
        /// Digest; always present for [`PipelineRequest::Hash`].
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
