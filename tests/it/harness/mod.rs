//! Shared test harness: the three real programs, a faulty proxy, raw peers, folders and content.
//!
//! No helper sleeps to give a program time. Helpers poll for a condition with a deadline far above
//! the expected time, because both cores may be busy.

mod changes;
mod client;
mod cluster;
mod content;
mod delayed_link;
mod fake_tree;
#[path = "../../../crates/proto/tests/common/frames.rs"]
pub mod frames;
mod network;
mod proc_fs;
mod process;
mod proposals;
mod proxy;
mod pty;
mod raw_peers;
mod strace;
mod tls;
mod volume;

use std::time::{Duration, Instant};

pub use changes::{
    ContentReader, bound, copy, data, make_folder, new_id, path, process_of, put, put_end, remove,
    rename, resume, set_attributes, set_mode, staged_bytes, staged_files, stop, upload,
    wait_unstaged,
};
pub use client::{Client, Output, quote};
pub use cluster::{Cluster, ClusterBuilder, Slave, Standalone};
pub use content::{TestDir, content, digest, leftovers, write_old};
pub use delayed_link::DelayedLink;
pub use fake_tree::{
    FakeTree, content as content_answer, listing, pages, raw_entry, refused, whole,
};
pub use network::Network;
pub use proc_fs::{
    alive, anonymous_memory, children, exists, group_memory, group_of, read_bytes, socket_owner,
};
pub use process::{Program, ProgramBuilder};
pub use proposals::propose;
pub use proxy::{Fault, Proxy};
pub use pty::Pty;
pub use raw_peers::{
    FakeServer, RawClient, block, encoded, get, header, hello, polite, session, session_with,
    sessions, ticket,
};
pub use strace::{Call, Strace};
pub use tls::{encrypted, is_over_tls, over_tls};
pub use volume::Volume;

/// Deadline for a condition that is expected within one or two seconds.
pub const SOON: Duration = Duration::from_secs(30);

/// Polls until `probe` returns a value; fails the test after `deadline`.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
