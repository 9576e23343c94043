//! Peers that lie: raw clients against master and slave, raw servers against
//! the client. None of them stops the service for others, takes memory, or
//! outlives its deadline.

mod clients;
mod foreign;
pub mod limits;
mod servers;
