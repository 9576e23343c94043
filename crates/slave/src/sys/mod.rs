//! System calls that need `unsafe`; no other module of the slave may use it.
//!
//! They are fork, shared memory, inherited descriptors and the state of TCP. Each module wraps
//! calls that have no safe form in the libraries, and offers safe ones.
#![allow(unsafe_code, reason = "these modules exist to wrap unsafe calls")]

pub mod descriptors;
pub mod fork;
pub mod memory;
pub mod tcp;
