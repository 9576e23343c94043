//! What a file of the tree costs a master, by the resident pages of this process.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::fs;

use relais_cluster::{Entry, FileContent, Holders, Tree};
use relais_proto::{Digest, FileTime, FolderId, Lsn, Mode, TreePath};

const FILES: u64 = 100_000;
/// Most bytes of a file with a path of 27 bytes, with its holders. Its digest has 32.
const MOST: u64 = 130;

fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn file(number: u64) -> (TreePath, Entry) {
    let path = format!("many/d{:04}/file-{number:08}.bin", number / 200);
    let put = Lsn { epoch: 1, number: 1_000_000 + number };
    let mut digest = Digest([0; 32]);
    digest.0[..8].copy_from_slice(&number.to_be_bytes());
    let mtime = FileTime { seconds: 1_790_000_000, nanos: 123_456_789 };
    let content = FileContent { put, digest, size: 1024 + number, mtime };
    let entry = Entry { version: put, mode: Mode::new(0o644), content: Some(content) };
    (TreePath::new(path).unwrap(), entry)
}

#[test]
fn a_file_costs_a_master_little_memory() {
    let before = resident();
    let tree = Tree::listed((0..FILES).map(file), Lsn { epoch: 1, number: 2_000_000 });
    let mut holders = Holders::default();
    for (put, _) in tree.puts() {
        holders.add(put, FolderId([1; 16]));
        holders.add(put, FolderId([2; 16]));
    }
    let used = resident() - before;
    assert_eq!(
        (tree.len() as u64, holders.copies(Lsn { epoch: 1, number: 1_000_000 })),
        (FILES, 2)
    );
    assert!(used / FILES <= MOST, "{} bytes a file", used / FILES);
}
