//! System calls that need `unsafe`; no other module of the slave may use it.
//!
//! They are fork, shared memory and inherited descriptors. Each module wraps calls that have no
//! safe form in the libraries, and offers safe ones.
#![allow(unsafe_code, reason = "these modules exist to wrap unsafe calls")]

pub mod descriptors;
pub mod fork;
pub mod memory;
