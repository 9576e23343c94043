//! One ask, as it is kept until its answer has come.

use std::rc::Rc;

use relais_proto::{Digest, GetRequest, IfMatch, PutRequest, Request, TreePath};

use super::{PipelineError, PipelineRequest, SMALL};

/// One ask, with all that is needed to ask it again.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub tag: u64,
    /// The first frame of it. For a listing it names the last entry that was handed out.
    pub request: Request,
    pub upload: Option<Upload>,
    /// Times that its answer was of no use.
    pub tries: u32,
    /// Whether a server has said that it does not have its content yet.
    pub lacking: bool,
    /// What it takes of the window.
    pub load: Load,
    /// Where its frames begin, where its content begins, and where all ends, in all that is sent on this connection.
    pub begins: u64,
    pub data_begins: u64,
    pub ends: u64,
}

/// Content that is put. The outbox shares it while it goes out.
#[derive(Debug)]
pub(super) struct Upload {
    pub content: Rc<Vec<u8>>,
    pub digest: Digest,
}

/// Bytes that are without an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Of frames, their headers included.
    pub frames: usize,
    /// Of content that is put.
    pub data: usize,
}

impl Load {
    pub fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.data += other.data;
    }

    pub fn remove(&mut self, other: Self) {
        self.frames = self.frames.saturating_sub(other.frames);
        self.data = self.data.saturating_sub(other.data);
    }
}

impl PendingRequest {
    /// Takes an ask over; content is hashed here, once.
    pub fn new(tag: u64, ask: PipelineRequest) -> Result<Self, PipelineError> {
        let mut upload = None;
        let request = match ask {
            PipelineRequest::List { path } => Request::List { path, after: String::new(), most: 0 },
            PipelineRequest::Stat(path) => Request::Stat(path),
            PipelineRequest::Hash(path) => Request::Hash(path),
            // No more than what is small: of larger content the rest would be sent for nothing.
            PipelineRequest::Get { path } => {
                Request::Get(GetRequest { path, offset: 0, length: SMALL, if_match: IfMatch::Any })
            }
            PipelineRequest::MakeFolder { id, path } => Request::MakeFolder { id, path },
            PipelineRequest::Remove { id, path, recursive } => {
                Request::Remove { id, path, recursive }
            }
            PipelineRequest::Put { request, content } => {
                let size = content.len() as u64;
                if size > SMALL {
                    return Err(PipelineError::stopped(format!(
                        "{}: {size} bytes are too many to be put at once",
                        request.path
                    )));
                }
                upload = Some(Upload {
                    digest: Digest(blake3::hash(&content).into()),
                    content: Rc::new(content),
                });
                Request::Put(PutRequest { size: Some(size), offset: 0, ..request })
            }
        };
        Ok(Self {
            tag,
            request,
            upload,
            tries: 0,
            lacking: false,
            load: Load::default(),
            begins: 0,
            data_begins: 0,
            ends: 0,
        })
    }

    /// The path that it is about.
    pub fn path(&self) -> Option<&TreePath> {
        match &self.request {
            Request::List { path, .. }
            | Request::MakeFolder { path, .. }
            | Request::Remove { path, .. } => Some(path),
            Request::Stat(path) | Request::Hash(path) => Some(path),
            Request::Get(get) => Some(&get.path),
            Request::Put(put) => Some(&put.path),
            _ => None,
        }
    }

    /// Whether it changes nothing, so that nothing asked later depends on it.
    pub fn only_reads(&self) -> bool {
        matches!(
            self.request,
            Request::List { .. } | Request::Stat(_) | Request::Hash(_) | Request::Get(_)
        )
    }

    /// Bytes of its content that are out once the connection has sent `sent` bytes.
    pub fn content_sent(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.data_begins).min(self.load.data as u64)
    }
}
