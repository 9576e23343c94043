//! System calls that need `unsafe`; no other module of this crate may use it.
//!
//! They are file leases and a setting of SQLite. Each module wraps calls that have no safe form in
//! the libraries, and offers safe ones.
#![allow(unsafe_code, reason = "these modules exist to wrap unsafe calls")]

pub mod lease;
pub mod sqlite;
