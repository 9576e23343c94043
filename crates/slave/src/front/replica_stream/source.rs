//! Content for a client that cannot be sent to another slave: the file here, or a stream.

use std::sync::Arc;

use relais_engine::{Content, FoundContent, KeepAlive, ReadFailure, Session};
use relais_proto::{ErrorCode, Refusal, TreePath};

use super::dialer::ReplicaDialer;
use super::stream::ReplicaStream;

/// How often content is looked for that is replaced meanwhile.
const MAX_SEARCHES: u32 = 4;

/// Content to send, wherever it is.
pub enum ContentSource {
    /// The file is here. The front end sends it as it likes, also with sendfile.
    Local(Box<Content>),
    /// The content comes from other slaves, piece by piece.
    Replica(Box<ReplicaStream>),
}

impl ContentSource {
    /// Finds `length` bytes of a file from `offset` on; the range may go beyond the end.
    ///
    /// A stream has its first piece then, so its slave works.
    ///
    /// # Errors
    /// As [`Session::find_content`] and [`ReplicaStream::open`].
    pub fn open(
        session: &Session,
        dialer: &Arc<ReplicaDialer>,
        path: &TreePath,
        (offset, length): (u64, u64),
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Self, Refusal> {
        let mut searches = 0;
        loop {
            let content = match session.find_content(path, keepalive)? {
                FoundContent::Here(mut content) => {
                    content.range(offset, length)?;
                    return Ok(Self::Local(content));
                }
                FoundContent::Remote(content) => content,
            };
            searches += 1;
            match ReplicaStream::open(dialer, *content, (offset, length), keepalive) {
                Err(e) if e.code == ErrorCode::Changed && searches < MAX_SEARCHES => {}
                result => return Ok(Self::Replica(Box::new(result?))),
            }
        }
    }

    /// Has other slaves continue at `offset`, after the local file could not be read further.
    ///
    /// # Errors
    /// As [`Content::into_remote`] and [`ReplicaStream::open`].
    pub fn continue_elsewhere(
        self,
        dialer: &Arc<ReplicaDialer>,
        failure: &ReadFailure,
        (offset, length): (u64, u64),
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Self, Refusal> {
        match self {
            Self::Local(content) => {
                let content = content.into_remote(failure)?;
                let stream = ReplicaStream::open(dialer, content, (offset, length), keepalive)?;
                Ok(Self::Replica(Box::new(stream)))
            }
            stream @ Self::Replica(_) => Ok(stream),
        }
    }

    /// Returns the size of the whole content in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Local(content) => content.size(),
            Self::Replica(stream) => stream.size(),
        }
    }

    /// Counts bytes that were sent, for the transfer log and the metrics.
    pub fn add_sent(&mut self, bytes: u64) {
        match self {
            Self::Local(content) => content.add_sent(bytes),
            Self::Replica(stream) => stream.add_sent(bytes),
        }
    }

    /// Ends a transfer whose last byte was sent.
    ///
    /// # Errors
    /// [`ErrorCode::Changed`] if the local file was changed meanwhile: what was sent may be a
    /// mixture.
    pub fn finish(self) -> Result<(), Refusal> {
        match self {
            Self::Local(content) => content.finish(),
            Self::Replica(stream) => {
                stream.finish();
                Ok(())
            }
        }
    }
}
