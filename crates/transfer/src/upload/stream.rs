//! Uploads content of unknown length.
//!
//! The content can be read only once, so bytes that left the memory are lost with the connection.

use std::io::Read;

use super::body::Body;
use super::content::{CompletedUpload, UploadTarget};
use super::retry_loop::put_body;
use super::send::{STREAM_BUFFER, read_some};
use crate::error::TransferError;
use crate::progress::Progress;
use crate::sessions::Sessions;

/// Uploads content of unknown length.
///
/// Up to 1 MiB is read before the first request: content that ends there is sent again as often as
/// by [`put`](super::put). Longer content is lost with its connection.
///
/// # Errors
/// See [`TransferError`]. The upload cannot be resumed.
pub fn put_stream(
    sessions: &mut dyn Sessions,
    from: &mut dyn Read,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, TransferError> {
    let mut first = vec![0; STREAM_BUFFER];
    let mut filled = 0;
    while filled < first.len() {
        match read_some(from, &mut first[filled..], progress)? {
            0 => {
                let body = Body::in_memory(&first[..filled]);
                return put_body(sessions, &body, None, target, progress);
            }
            got => filled += got,
        }
    }
    put_body(sessions, &Body::in_memory(&first), Some(from), target, progress)
}
