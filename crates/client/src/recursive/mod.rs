//! Whole subtrees: `get -r`, `put -r`, `mirror`; and `mget` and `mput`, which find names by patterns.
//!
//! `walk` lists both sides, `plan` decides without touching anything, `run` carries the plan out: small
//! files through one pipeline, large ones one by one as `get` and `put` do. `expand` finds what a `pattern`
//! stands for, and `found` transfers it. Local names are reached through a pinned folder alone (`tree`).
//! One name that fails keeps no other from being transferred.

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
