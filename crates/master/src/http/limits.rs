//! Limits on what viewers of the status page may take of the master.

use std::time::Duration;

/// Most event streams at a time.
pub(super) const STREAMS: usize = 32;
/// Most bytes of one message of a stream. The page is loaded again in place of a longer one.
pub(super) const STREAM_MESSAGE: usize = 256 * 1024;
/// Time between two messages of a stream.
pub(super) const STREAM_EVERY: Duration = Duration::from_secs(1);
/// Time after which a stream without news has a comment, so that both ends notice its end.
pub(super) const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a viewer may take to read a message.
pub(super) const STREAM_TIME: Duration = Duration::from_secs(40);
/// Time between two points of a curve.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Points of a curve: those of an hour.
pub(super) const SAMPLES: usize = 360;
