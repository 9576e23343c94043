//! Hostile peers: raw clients against master and slave, raw servers against the client.
//!
//! No peer stops the service for others, exhausts memory or outlives its deadline.

mod clients;
pub mod limits;
mod other_protocols;
mod servers;
