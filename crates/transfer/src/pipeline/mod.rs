//! Pipelines many small requests over one session, so none costs a round trip.
//!
//! [`run`] sends the requests of its [`PipelineHandler`], up to
//! [`AHEAD`](relais_proto::limits::AHEAD) bytes ahead of the answers. It checks each answer and
//! passes it on once. After a connection failure it repeats all unanswered requests at another
//! server.
//!
//! It never touches a local file and chooses no names. It allocates no memory for bytes that have
//! not arrived.

mod answers;
mod content;
mod handler;
mod outbox;
mod queue;
mod retry_loop;
#[cfg(test)]
mod tests;
mod window;

pub use handler::{PipelineHandler, PipelineReply, PipelineRequest, PipelineStats, SMALL};
pub use retry_loop::run;
