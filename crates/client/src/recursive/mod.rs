//! Whole subtrees: `get -r`, `put -r`, `mirror`; and `mget` and `mput`, which find names by patterns.
//!
//! `walk` lists both sides, `plan` decides without touching anything, `run` carries the plan out: small
//! files through one pipeline, large ones one by one as `get` and `put` do. `expand` finds what a `pattern`
//! stands for, and `found` transfers it. Local names are reached through a pinned folder alone (`place`).
//! One name that fails keeps no other from being transferred.

mod carry_on;
mod digests;
mod expand;
mod found;
mod line;
mod mirror;
pub mod node;
mod pattern;
mod place;
mod plan;
pub mod progress;
mod room;
mod run;
mod talk;
mod tally;
mod trees;
mod walk;

pub use mirror::Mirror;
pub use pattern::Pattern;
pub use progress::Part;
