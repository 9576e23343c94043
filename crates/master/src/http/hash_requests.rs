//! Has slaves compute SHA-256 hashes that a client needs: one slave for all requests that wait.
//!
//! The slave has no answer for the master: it records the hashes by a change, and the requests look
//! for them in the tree.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;
use relais_cluster::LocatedEntry;
use relais_proto::{FolderId, LinkMessage, Lsn, TreePath};

use crate::core::Core;

/// Most contents that slaves hash at the same time.
const CONTENTS: usize = 256;
/// Time after which the slave is asked again, if a request still waits.
const ASK_EVERY: Duration = Duration::from_secs(20);

/// The contents that slaves hash, by the put that stored each.
#[derive(Default)]
pub(super) struct HashRequests(Mutex<BTreeMap<Lsn, HashRequest>>);

struct HashRequest {
    folder: FolderId,
    since: Instant,
}

impl HashRequests {
    /// Has a holder of a content hash it, unless one does so already.
    pub fn ask(&self, core: &Core, path: &TreePath, put: Lsn, found: &LocatedEntry) {
        let now = Instant::now();
        let mut requests = self.0.lock();
        requests.retain(|_, request| now.duration_since(request.since) < ASK_EVERY);
        let is_asked =
            requests.get(&put).is_some_and(|request| found.holders.contains(&request.folder));
        if is_asked || requests.len() >= CONTENTS {
            return;
        }
        let linked = core.slaves.all();
        let holder = linked.iter().find(|slave| found.holders.contains(&slave.folder));
        if let Some(holder) = holder {
            debug!("slave {} hashes {path}", holder.slave);
            holder.outbox.send(&LinkMessage::HashContent { path: path.clone() });
            requests.insert(put, HashRequest { folder: holder.folder, since: now });
        }
    }
}
