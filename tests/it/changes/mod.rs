//! Uploads and changes, proven from outside: whatever dies, is cut, fills up or
//! fails, a name has its old content or the new, whole; and what was
//! acknowledged is there.

mod batches;
mod by_hand;
mod died;
mod done;
mod full;
mod ids;
mod injected;
mod journal;
mod matrix;
mod modes;
mod obstacles;
mod order;
mod races;
mod rights;
mod scarce;
mod staged;
mod targets;
mod unfinished;

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use relais_proto::{FrameHeader, FrameType, HEADER_LEN};

use crate::harness::{Call, SOON, Standalone, Wire, children, eventually, make_folder, sessions};

/// Opens one session.
#[track_caller]
fn open(slave: &Standalone) -> Wire {
    sessions(slave.addr, 1).remove(0)
}

/// Starts a slave that stands alone, and puts these files there, with their folders. What is laid
/// into the folder by hand would be published only a second later.
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

/// Waits until so many files that were laid into the folder by hand are published.
#[track_caller]
fn wait_published(slave: &Standalone, files: u64) {
    let mut wire = open(slave);
    eventually(SOON, "the files are published", || (wire.status().1.files == files).then_some(()));
}

/// What is in a folder on the disk, without the slave's own: names with `/` behind folders, and contents.
fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(top: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            if name == ".relais" {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                found.push((format!("{name}/"), Vec::new()));
                walk(top, &path, found);
            } else {
                // What is no file is only named: nobody may be at the other end of a FIFO.
                let is_file = fs::symlink_metadata(&path).unwrap().is_file();
                found.push((name, if is_file { fs::read(&path).unwrap() } else { Vec::new() }));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// All processes of a slave but its supervisor.
#[track_caller]
fn processes(slave: &Standalone) -> Vec<Pid> {
    // Once it answers they are all there.
    open(slave).ping();
    children(slave.program.pid())
}

/// The file in which a slave that stands alone writes down its changes.
#[track_caller]
fn journal_of(slave: &Standalone) -> PathBuf {
    let found = [slave.root.join(".relais/journal"), slave.dir.path().join("state/journal")];
    eventually(SOON, "a journal", || found.iter().find(|path| path.is_file()).cloned())
}

/// Whether a call is on a TCP connection. Where many come and go strace may not find out what a socket is.
fn is_tcp(call: &Call) -> bool {
    ["<TCP:[", "<TCPv6:[", "<socket:["].iter().any(|kind| call.text.contains(kind))
}

/// The types of frames that lie one behind the other, whole.
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
