//! Changes to the tree, from the proposal of a session to the folder on the disk.
//!
//! A worker stages content, sends each proposal to the replicator over a channel, and waits for the
//! result. The replicator handles all waiting proposals together: it syncs the staged content, has
//! the changes numbered by the coordinator (`replication`), applies them in batches (`apply`),
//! records them in the catalogue, and answers. Only its catalogue writer does this, so no other
//! thread renames, removes or creates anything in the folder.

pub mod channel;
pub mod proposal_receiver;
