//! Front ends: each speaks one protocol with the clients, and turns outcomes into its bytes.

pub mod native;
#[allow(dead_code, unused_imports, reason = "the front end for FTP is about to use it")]
pub mod replica_stream;
