//! Tests against real folders in a temporary place.

mod hashing;
mod local;
mod races;
mod tricks;
