//! Several sessions that fetch one content, which is passed on in order.
//!
//! Each session fetches runs of pieces, not far ahead of the next piece in order, so the memory is
//! bounded. Each piece is compared with its value before it is passed on, and the values are proved
//! by the digest. The session that has brought a damaged piece ends, and another one fetches it.
//!
//! A session ends at its first failure. When the last one has ended, the caller fetches the rest.

mod fetcher;
mod job;
mod shared;
mod values;
mod window;

use std::net::SocketAddr;
use std::sync::Arc;

use self::fetcher::start_fetcher;
pub(super) use self::job::OrderedJob;
use self::shared::{Ordered, OrderedFetch};
pub(super) use self::values::ProvedValues;
use crate::error::TransferError;
use crate::progress::Progress;
use crate::sessions::StreamSource;

/// Passes the pieces on that so many sessions fetch; returns the servers that sent some.
///
/// Returns early when all sessions have ended.
///
/// # Errors
/// Those of `sink`; [`TransferError::Interrupted`].
pub(super) fn pass_on(
    job: OrderedJob,
    source: &Arc<dyn StreamSource>,
    streams: usize,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), TransferError>,
    progress: &mut dyn Progress,
) -> Result<Vec<SocketAddr>, TransferError> {
    let servers = source.servers().len().max(1);
    let fetch = OrderedFetch(Arc::new(Ordered::new(job)));
    for stream in 0..streams {
        start_fetcher(&fetch.0, source, stream % servers)?;
    }
    while let Some(piece) = fetch.0.next_piece(progress)? {
        sink(&piece)?;
    }
    Ok(fetch.0.servers())
}
