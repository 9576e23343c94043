//! The front end for the protocol of `docs/protocol.md`.

pub mod login;
mod send;
pub mod session;
mod upload_receiver;
