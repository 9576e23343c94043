//! Front ends: each speaks one protocol with the clients, and turns outcomes into its bytes.

#[allow(dead_code, reason = "the worker starts its sessions once it has FTP listeners")]
pub mod ftp;
pub mod native;
