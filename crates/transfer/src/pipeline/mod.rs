//! Many small requests over one session: they are sent ahead, so that none costs a round trip.
//!
//! [`run`] asks what its [`PipelineHandler`] wants to ask, up to [`limits::AHEAD`] bytes ahead of the
//! answers, and hands the answers back, each checked and each once. Where a connection fails, all that
//! is unanswered is asked again at another server.
//!
//! It never touches a local file, chooses no names, and never makes room for bytes that have not come.

mod answers;
mod content;
mod error;
mod outbox;
mod queue;
mod retry_loop;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use relais_proto::{
    ChangeId, ContentHeader, Digest, Entry, Lsn, PutRequest, Refusal, TreePath, limits,
};

use crate::download::Sessions;
pub use error::PipelineError;

/// Content of up to so many bytes goes through the pipeline whole, in memory.
pub const SMALL: u64 = limits::PIECE;

/// What is asked. Changes carry their id, so that asking again is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineRequest {
    /// All names in a folder.
    List {
        /// Which folder.
        path: TreePath,
    },
    /// One entry.
    Stat(TreePath),
    /// One file with its digest, computed first if need be.
    Hash(TreePath),
    /// A file's content.
    Get {
        /// Which file.
        path: TreePath,
    },
    /// Makes a folder.
    MakeFolder {
        /// Asked again it is the same change.
        id: ChangeId,
        /// Which folder.
        path: TreePath,
    },
    /// Removes a file or a folder.
    Remove {
        /// Asked again it is the same change.
        id: ChangeId,
        /// Which path.
        path: TreePath,
        /// Whether what is below a folder goes with it.
        recursive: bool,
    },
    /// Puts a file.
    Put {
        /// What is put. The whole content is sent: size and offset are set from it.
        request: PutRequest,
        /// The content, of at most [`SMALL`] bytes.
        content: Vec<u8>,
    },
}

/// What came back. It was checked: names rise, content has its digest.
#[derive(Debug)]
pub enum PipelineReply<'a> {
    /// The next entry of a listing. After a lost connection the listing goes on behind the last one.
    Entry(Entry),
    /// The listing is complete.
    Listed,
    /// Answer to [`PipelineRequest::Stat`] and [`PipelineRequest::Hash`].
    Details {
        /// The entry.
        entry: Entry,
        /// Its digest; always there for [`PipelineRequest::Hash`].
        digest: Option<Digest>,
    },
    /// The whole content of a file.
    Content {
        /// What the server said of it.
        header: &'a ContentHeader,
        /// The content.
        bytes: &'a [u8],
        /// Its digest.
        digest: Digest,
    },
    /// The file has more than [`SMALL`] bytes: fetch it on its own.
    TooLarge {
        /// What the server said of it.
        header: &'a ContentHeader,
    },
    /// The change is made.
    Committed {
        /// Its number.
        version: Lsn,
        /// How many slaves' disks hold it.
        copies: u16,
    },
    /// The server refused this one; or, after some tries, its content is damaged or changes all the time.
    Refused(Refusal),
}

/// Whoever asks.
pub trait PipelineHandler {
    /// The next thing to ask, with a tag that its answer brings back; none where there is nothing
    /// now. It is called again after answers, which may have brought more to ask.
    fn next(&mut self) -> Option<(u64, PipelineRequest)>;

    /// An answer. Answers come in the order of the asks, but for those that had to be asked again.
    ///
    /// # Errors
    /// Any error ends everything; [`run`] hands it out.
    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError>;

    /// The connection to `from` was lost, and `to` has answered. Both are the same where the same
    /// server was reached again.
    fn moved(&mut self, from: SocketAddr, to: SocketAddr) {
        let _ = (from, to);
    }

    /// Whether the user wants it to end. Whoever makes this true also shuts the socket down.
    fn interrupted(&self) -> bool {
        false
    }
}

/// A conversation that ended well: everything was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipelineStats {
    /// Bytes of content that came in, also those of tries that failed.
    pub bytes_in: u64,
    /// Bytes of content that went out, also those of tries that failed.
    pub bytes_out: u64,
    /// The servers that answered, in order of their first answer.
    pub servers: Vec<SocketAddr>,
}

/// Asks everything, until `handler` has nothing more and nothing is unanswered.
///
/// # Errors
/// See [`PipelineError`]. A refusal of one ask is an [`PipelineReply`] and ends nothing.
pub fn run(
    sessions: &mut dyn Sessions,
    handler: &mut dyn PipelineHandler,
) -> Result<PipelineStats, PipelineError> {
    retry_loop::run(sessions, handler)
}
