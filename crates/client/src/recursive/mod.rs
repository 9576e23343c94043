//! Recursive transfers: `get -r`, `put -r`, `mirror`, and the patterns of `mget` and `mput`.
//!
//! `walk` lists both sides. `plan` decides without any effect. `run` executes the plan: small files
//! go through one pipeline, large files one by one as with `get` and `put`. `expand` finds the
//! names that match a `pattern`, and `matching` transfers them. Local names are reached through a
//! pinned folder only (`local_tree`). A failed name does not stop the others.

mod batch;
mod batch_report;
mod changes;
mod conversation;
mod digests;
mod expand;
mod files;
mod local_tree;
mod matching;
mod mirror;
mod node;
mod pattern;
mod plan;
mod run;
mod trees;
mod walk;

pub use batch_report::is_resumable;
pub use local_tree::LocalTree;
pub use matching::{get_matching, put_matching};
pub use mirror::{MirrorOptions, mirror};
pub use node::SkippedName;
pub use pattern::Pattern;
pub use trees::{fetch_tree, get_tree, put_tree, remote_top, send_tree};
pub use walk::local as list_local;
