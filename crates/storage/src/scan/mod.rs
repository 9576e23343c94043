//! Scans of the folder, and what tells that a scan is needed: events, quiet times, mounts.

pub mod debounce;
pub mod mounts;
pub mod scanner;
pub mod watcher;
