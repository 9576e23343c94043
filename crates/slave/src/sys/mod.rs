//! The one place of the slave that needs `unsafe`: fork, shared memory, file leases, descriptors that nobody here owns, and a setting of SQLite.
//!
//! Each module wraps one call that has no safe form in the libraries, and
//! offers a safe one. Nothing else in the project may use `unsafe`.
#![allow(unsafe_code)]

pub mod descriptors;
pub mod fork;
pub mod lease;
pub mod memory;
pub mod sqlite;
