//! Several streams of one download: which of them fetches which bytes, and how many there are.
//!
//! The downloading thread is the first stream. It owns the session, and moves between servers as
//! the failover policy says. Further streams have a thread and a session each. They end at their
//! first failure, and their bytes go back to the others. So the download goes on as long as one
//! stream lives.
//!
//! It knows nothing of digests: the verification at the end finds damaged pieces.

mod claims;
mod control;
mod plan;
mod rate;
mod requests;
mod set;
mod worker;

pub(super) use claims::{STRIPED_FROM, StreamId};
pub(super) use control::StreamControl;
pub(super) use plan::{Line, streams_at_once};
pub(super) use rate::per_second;
pub(super) use requests::StreamRequests;
pub(super) use set::{NextClaim, ReceivedBytes, StreamSet};
