//! A request of the pipeline, kept until its answer arrives.

use relais_proto::{Digest, Request};

use super::handler::{PipelineRequest, SMALL};
use crate::action::Purpose;
use crate::error::TransferError;

/// A request with all data to repeat it.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub tag: u64,
    /// First frame. For a listing it names the last entry that was passed on.
    pub request: Request,
    pub upload: Option<Upload>,
    /// Number of useless answers.
    pub tries: u32,
    /// Whether a server has reported that it does not have the content yet.
    pub lacking: bool,
    /// Bytes of its frames, headers included, without the content of a put.
    pub frames: usize,
    /// Positions of its frames, its content and its end in the bytes of this connection.
    pub begins: u64,
    pub data_begins: u64,
    pub ends: u64,
}

/// Content of a put.
#[derive(Debug)]
pub(super) struct Upload {
    pub content: Vec<u8>,
    pub digest: Digest,
}

impl PendingRequest {
    /// Takes a request; hashes its content once.
    pub fn new(tag: u64, ask: PipelineRequest) -> Result<Self, TransferError> {
        let PipelineRequest { request, content } = ask;
        if let Some(size) = content.as_ref().map(Vec::len).filter(|size| *size as u64 > SMALL) {
            let why = format!("a content of {size} bytes is too large to be put at once");
            return Err(TransferError::stopped(why));
        }
        let upload = content
            .map(|content| Upload { digest: Digest(blake3::hash(&content).into()), content });
        Ok(Self {
            tag,
            request,
            upload,
            tries: 0,
            lacking: false,
            frames: 0,
            begins: 0,
            data_begins: 0,
            ends: 0,
        })
    }

    /// Returns whether the request changes the tree, so later requests may depend on it.
    pub fn purpose(&self) -> Purpose {
        match self.request {
            Request::Put(_) | Request::MakeFolder { .. } | Request::Remove { .. } => {
                Purpose::Change
            }
            _ => Purpose::Read,
        }
    }

    /// Returns the number of content bytes of a put.
    pub fn data(&self) -> usize {
        self.upload.as_ref().map_or(0, |upload| upload.content.len())
    }

    /// Returns the content bytes that are sent once the connection has sent `sent` bytes.
    pub fn content_sent(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.data_begins).min(self.data() as u64)
    }
}
