//! What the tests share: the three programs started for real, a line that can
//! be cut, raw peers, folders and content.
//!
//! Nothing here sleeps to give something time: it polls for what shall hold,
//! with a deadline far behind what is expected, because both cores may be busy.

mod changes;
mod client;
mod cluster;
mod content;
mod delay;
mod net;
mod process;
mod procs;
mod proxy;
mod pty;
mod said;
mod strace;
mod tls;
mod volume;
mod wire;

use std::time::{Duration, Instant};

pub use changes::{
    Reader, bound, data, make_folder, new_id, path, process_of, put, put_end, remove, rename,
    resume, staged_bytes, staged_files, stop, upload, wait_unstaged,
};
pub use client::{Client, Output, quote};
pub use cluster::{Cluster, Standalone};
pub use content::{TestDir, content, digest, leftovers, write_old};
pub use delay::LongLine;
pub use net::Network;
pub use process::{Program, Setup};
pub use procs::{alive, anonymous_memory, children, exists, group_memory, group_of, socket_owner};
pub use proxy::{Fault, Proxy};
pub use pty::Pty;
pub use said::{FakeTree, content as content_answer, listing, pages, raw_entry, refused, whole};
pub use strace::{Call, Strace};
pub use tls::{encrypted, is_over_tls, over_tls};
pub use volume::Volume;
pub use wire::{
    FakeServer, Wire, block, encoded, get, header, hello, polite, session, session_with, sessions,
    ticket,
};

/// How long anything may take that is expected within a second or two.
pub const SOON: Duration = Duration::from_secs(30);

/// Polls until `probe` gives a value, and fails the test when that takes longer than `deadline`.
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
