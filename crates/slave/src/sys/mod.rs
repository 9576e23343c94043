//! System calls that need `unsafe`; no other module of the slave may use it.
//!
//! They are fork, shared memory, file leases, inherited descriptors and a setting of SQLite. Each
//! module wraps one call that has no safe form in the libraries, and offers a safe one.
#![allow(unsafe_code, reason = "these modules exist to wrap unsafe calls")]

pub mod descriptors;
pub mod fork;
pub mod lease;
pub mod memory;
pub mod sqlite;
