//! Front ends: each speaks one protocol with the clients, and turns outcomes into its bytes.

#[allow(dead_code, reason = "the worker starts its sessions once it has FTP listeners")]
pub mod ftp;
pub mod native;
#[allow(dead_code, unused_imports, reason = "the front end for FTP is about to use it")]
pub mod replica_stream;
