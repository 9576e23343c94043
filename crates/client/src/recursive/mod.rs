//! Recursive transfers: `get -r`, `put -r`, `mirror`, and the patterns of `mget` and `mput`.
//!
//! `walk` lists both sides. `plan` decides without any effect. `run` executes the plan: small files
//! go through one pipeline, large files one by one as with `get` and `put`. `expand` finds the
//! names that match a `pattern`, and `matching` transfers them. Local names are reached through a
//! pinned folder only (`local_tree`). A failed name does not stop the others.

pub mod batch_progress;
mod batch_report;
mod conversation;
mod digests;
mod expand;
mod listing_budget;
mod local_tree;
mod log_entry;
mod matching;
mod mirror;
pub mod node;
mod pattern;
mod plan;
mod resume;
mod run;
mod trees;
mod walk;

pub use batch_progress::BatchBar;
pub use mirror::MirrorOptions;
pub use pattern::Pattern;
