//! Uploads and changes: a name has its old or its new content, whole, and acknowledged changes
//! stay.
//!
//! This holds for kills, cuts, full disks and failing system calls.

mod acknowledged;
mod batches;
mod blocked_paths;
mod full_disk;
mod ids;
mod journal;
mod local_edits;
mod matrix;
mod modes;
mod permissions;
mod races;
mod replicator_crashes;
mod resource_limits;
mod staged;
mod syscall_faults;
mod syscall_order;
mod targets;
mod unfinished;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use relais_proto::{FrameHeader, FrameType, HEADER_LEN, metric};

use crate::harness::{
    Call, RawClient, SOON, Standalone, children, eventually, make_folder, sessions,
};

/// Opens one session.
#[track_caller]
fn open(slave: &Standalone) -> RawClient {
    sessions(slave.addr, 1).remove(0)
}

/// Starts a standalone slave and uploads these files with their folders.
///
/// Files that are created locally would be published only a second later.
#[track_caller]
fn with_files(args: &[&str], files: &[(&str, &[u8])]) -> Standalone {
    let slave = Standalone::start(args, &[]);
    let mut wire = open(&slave);
    for (name, bytes) in files {
        let parents: Vec<usize> = name.match_indices('/').map(|(at, _)| at).collect();
        for at in parents {
            if !slave.root.join(&name[..at]).exists() {
                wire.change(&make_folder(&name[..at])).unwrap();
            }
        }
        wire.put(name, bytes).unwrap();
    }
    slave
}

/// Waits until this many local files are published.
#[track_caller]
fn wait_published(slave: &Standalone, files: u64) {
    let mut wire = open(slave);
    eventually(SOON, "the files are published", || {
        (wire.status().1.get(metric::FILES) == files).then_some(())
    });
}

/// Lists a folder on the disk without `.relais`: folder names end with `/`; files have their
/// content. A name that goes meanwhile is left out.
fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    fn there<T>(found: io::Result<T>) -> Option<T> {
        match found {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            found => Some(found.unwrap()),
        }
    }
    fn walk(top: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in there(fs::read_dir(folder)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            if name == ".relais" {
                continue;
            }
            let Some(meta) = there(fs::symlink_metadata(&path)) else { continue };
            if meta.is_dir() {
                found.push((format!("{name}/"), Vec::new()));
                walk(top, &path, found);
            } else if !meta.is_file() {
                // Other entries are only named, because opening a FIFO would block.
                found.push((name, Vec::new()));
            } else if let Some(content) = there(fs::read(&path)) {
                found.push((name, content));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// Returns all processes of a slave except its supervisor.
#[track_caller]
fn processes(slave: &Standalone) -> Vec<Pid> {
    // Once the slave answers, all processes have started.
    open(slave).ping();
    children(slave.program.pid())
}

/// Returns the process of a standalone slave that writes its journal.
#[track_caller]
fn journal_writer(slave: &Standalone) -> Pid {
    let writes = |pid: &Pid| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let mut names = threads
            .flatten()
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        names.any(|name| name.trim() == "order").then_some(*pid)
    };
    eventually(SOON, "the journal's writer", || processes(slave).iter().find_map(writes))
}

/// Returns the path of a standalone slave's journal.
#[track_caller]
fn journal_of(slave: &Standalone) -> PathBuf {
    let found = [slave.root.join(".relais/journal"), slave.dir.path().join("state/journal")];
    eventually(SOON, "a journal", || found.iter().find(|path| path.is_file()).cloned())
}

/// Returns whether a call is on a TCP connection.
///
/// With many short connections `strace` may fail to resolve the socket.
fn is_tcp(call: &Call) -> bool {
    ["<TCP:[", "<TCPv6:[", "<socket:["].iter().any(|kind| call.text.contains(kind))
}

/// Returns the types of concatenated, complete frames.
fn frames(mut bytes: &[u8]) -> Vec<FrameType> {
    let mut kinds = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        let Ok(head) = FrameHeader::parse(*head) else { break };
        let Some(rest) = rest.get(head.len as usize..) else { break };
        kinds.push(head.kind);
        bytes = rest;
    }
    kinds
}
