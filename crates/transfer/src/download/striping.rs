//! When several sessions continue a stream in order.
//!
//! The first session brings one segment after the other. If the rest would take long at its rate,
//! the piece values are requested meanwhile. Once they are proved, other sessions fetch the rest.

use std::sync::Arc;
use std::time::Duration;

use relais_proto::{Digest, TreePath};

use super::ordered::ProvedValues;
use super::streams::{Line, STRIPED_FROM, streams_at_once};
use crate::error::TransferError;
use crate::progress::Resume;
use crate::sessions::StreamSource;

/// See the module.
pub(super) struct Striping {
    /// None if one session brings all.
    source: Option<Arc<dyn StreamSource>>,
    round_trip: Duration,
    values: Option<ProvedValues>,
}

/// The sessions that continue a stream.
pub(super) struct Continuation {
    pub source: Arc<dyn StreamSource>,
    pub streams: usize,
    /// Proved values of all pieces.
    pub values: Vec<Digest>,
}

impl Striping {
    /// Makes it for a line and the servers of `source`.
    pub fn new(source: Option<Arc<dyn StreamSource>>, round_trip: Duration) -> Self {
        let is_useful =
            |source: &Arc<dyn StreamSource>| Line::new(&**source, round_trip).may_carry_more();
        Self { source: source.filter(is_useful), round_trip, values: None }
    }

    /// Returns the length of the request for the next segment, from `offset` on.
    pub fn segment(&self, offset: u64, content: Option<&Resume>) -> u64 {
        // Without a digest, each request would make the server compute one.
        let has_digest = content.is_none_or(|content| content.digest.is_some());
        if self.source.is_some() && has_digest {
            STRIPED_FROM - offset % STRIPED_FROM
        } else {
            u64::MAX
        }
    }

    /// Decides after a segment that came at `rate` bytes a second, with `missing` bytes to come.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn after_segment(
        &mut self,
        path: &TreePath,
        content: &Resume,
        (rate, missing): (u64, u64),
    ) -> Result<Option<Continuation>, TransferError> {
        let (Some(source), Some(digest)) = (&self.source, content.digest) else { return Ok(None) };
        let line = Line::new(&**source, self.round_trip);
        let streams = streams_at_once(&line, rate, missing);
        if streams < 2 {
            return Ok(None);
        }
        let Some(values) = &self.values else {
            self.values = Some(ProvedValues::request(source, path, digest, content.size)?);
            return Ok(None);
        };
        match values.poll() {
            Ok(None) => Ok(None),
            // What the sessions leave is fetched by one.
            Ok(Some(values)) => {
                Ok(self.source.take().map(|source| Continuation { source, streams, values }))
            }
            Err(()) => {
                self.source = None;
                Ok(None)
            }
        }
    }
}
