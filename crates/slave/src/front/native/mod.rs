//! The front end for the protocol of `docs/protocol.md`.

mod keep_alive;
pub mod login;
pub mod replies;
mod requests;
mod send;
pub mod session;
mod upload_receiver;
mod watch;
