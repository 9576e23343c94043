//! Front ends: each speaks one protocol with the clients, and turns outcomes into its bytes.

pub mod ftp;
pub mod native;
#[allow(dead_code, reason = "the front end for HTTP is about to use the attributes")]
pub mod replica_stream;
