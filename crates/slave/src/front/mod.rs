//! Front ends: each speaks one protocol with the clients, and turns outcomes into its bytes.

pub mod ftp;
pub mod http;
pub mod native;
pub mod replica_stream;
