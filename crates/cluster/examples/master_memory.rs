//! Applies many changes to the state of a master, and prints its memory.
//!
//! `cargo run --release -p relais-cluster --example master_memory -- [FILES]...`

#![allow(missing_docs, clippy::unwrap_used, reason = "an example")]
#![allow(clippy::print_stdout, reason = "its output")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use relais_cluster::{
    Coordinator, CoordinatorEvent, LinkId, MasterState, ReplicaPosition, ToMaster,
};
use relais_proto::{
    Change, ChangeId, Digest, FileTime, FolderId, LogEntry, Lsn, Mode, SlaveId, TreePath,
};

/// Returns the resident memory of this process in MB.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096 / 1_000_000
}

fn put(number: u64) -> LogEntry {
    let path = format!("many/d{:06}/file-{number:08}.bin", number / 1000);
    let mut digest = Digest([0; 32]);
    digest.0[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    let mtime = FileTime { seconds: 1_790_000_000, nanos: 123_456_789 };
    let path = TreePath::new(path).unwrap();
    let change = Change::Put { path, size: 1024, digest, mtime, mode: Mode::new(0o644) };
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    let version = Lsn { epoch: 1, number };
    LogEntry { version, id: ChangeId(id), time_ms: number, change }
}

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).map(|n| n.parse().unwrap()).collect();
    let (mut state, mut number) = (MasterState::default(), 0);
    for files in sizes {
        let begun = Instant::now();
        while number < files {
            number += 1;
            state.apply(put(number));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let folders: BTreeSet<FolderId> = (1..=2).map(|n| FolderId([n; 16])).collect();
        let mut coordinator = Coordinator::new(state, folders.clone());
        for folder in folders {
            let link = LinkId(folder.0[0].into());
            let state = coordinator.state();
            let (applied, chain) = (state.last(), state.chain());
            let position = ReplicaPosition { applied, chain, epoch: 1 };
            let join = ToMaster::Join { slave: SlaveId(folder.0), folder, position };
            let stated = ToMaster::MissingContents { upto: applied, puts: Vec::new(), last: true };
            for message in [join, stated] {
                coordinator.on(CoordinatorEvent::Received { link, message }, 0);
            }
        }
        println!("{files} files: {} MB resident, applied in {seconds:.1} s", resident());
        state = coordinator.state().clone();
    }
}
