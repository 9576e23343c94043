//! Every request on every kind of target, as `tests/TARGETS.md` lists it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use relais_proto::{EntryResult, ErrorCode, Expect, FrameType, IfMatch, Reply, Request, TreePath};

use super::{open, tree, wait_published};
use crate::harness::{
    RawClient, Standalone, copy, encoded, get, make_folder, new_id, path, put, remove, rename,
    resume, set_mode, upload, wait_unstaged,
};

/// Parses the table: the names of the columns, and for each row its name and cells.
fn table() -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/TARGETS.md")).unwrap();
    let mut rows = text.lines().filter(|line| line.starts_with("| ")).map(|line| {
        let mut cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        (cells.remove(0), cells)
    });
    let (first, columns) = rows.next().unwrap();
    assert_eq!(first, "request");
    (columns, rows.collect())
}

/// Returns the path of a kind of target in the folder `at`.
fn target(column: &str, at: &str) -> String {
    match column {
        "file" => format!("{at}/file"),
        "empty folder" => format!("{at}/empty"),
        "full folder" => format!("{at}/full"),
        "missing" => format!("{at}/missing"),
        "missing parent" => format!("{at}/missing/x"),
        "below a file" => format!("{at}/file/x"),
        // As long as the reserved name; see [`RESERVED`].
        "reserved" => RESERVED_STAND_IN.to_owned(),
        "top" => String::new(),
        other => panic!("no target {other:?}"),
    }
}

const RESERVED_STAND_IN: &str = "XrelaisX";

/// Encodes a request on a target in the folder `at`.
fn request(row: &str, target: &str, at: &str) -> Vec<u8> {
    let on: TreePath = path(target);
    let other = |name: &str| format!("{at}/{name}");
    encoded(&[match row {
        "List" => Request::List { path: on, after: String::new(), most: 0 },
        "Stat" => Request::Stat(on),
        "StatMany" => Request::StatMany { paths: vec![on] },
        "Watch" => return encoded(&[Request::Watch { path: on, after: None }, Request::Ping]),
        "Hash" => Request::Hash(on),
        "Get" => get(target),
        "Pieces" => Request::Pieces { path: on, if_match: IfMatch::Any, first: 0, count: 1 },
        "Put" => return upload(&put(target, 3), b"new", 3),
        "Resume" => resume(&put(target, 3)),
        "MakeFolder" => make_folder(target),
        "Remove" => remove(target, false),
        "Remove with all below" => remove(target, true),
        "Move from" => rename(target, &other("moved")),
        "Move a file to" => rename(&other("full/inside"), target),
        "Move a folder to" => {
            Request::Move { id: new_id(), from: path(&other("mover")), to: on, expect: Expect::Any }
        }
        "SetAttributes" => set_mode(target, 0o640),
        "Copy from" => copy(target, &other("copied")),
        "Copy to" => copy(&other("full/inside"), target),
        unknown => panic!("no request {unknown:?}"),
    }])
}

/// Replaces the stand-in by the reserved name, which `TreePath` would reject.
fn with_name(frames: &[u8], name: &[u8; 8]) -> Vec<u8> {
    let mut frames = frames.to_vec();
    let at = frames.windows(8).position(|bytes| bytes == RESERVED_STAND_IN.as_bytes()).unwrap();
    frames[at..at + 8].copy_from_slice(name);
    frames
}

const RESERVED: [&[u8; 8]; 5] = [b".relais.", b".RELAIS.", b".relais/", b".relais ", b".ReLaIs."];

/// Reads an answer to its end and returns the result.
#[track_caller]
fn answer(wire: &mut RawClient, row: &str) -> Result<(), ErrorCode> {
    let mut result = Ok(());
    loop {
        let (kind, payload) = wire.frame().unwrap().expect("the server closed the connection");
        let last = match row {
            "List" | "StatMany" => FrameType::Done,
            "Stat" | "Hash" => FrameType::Details,
            "Get" => FrameType::End,
            "Pieces" => FrameType::PieceValues,
            "Watch" => FrameType::Pong,
            "Resume" => FrameType::Staged,
            _ => FrameType::Committed,
        };
        match kind {
            kind if kind == last => return result,
            FrameType::Entries | FrameType::ContentHeader | FrameType::Block | FrameType::Wait => {}
            _ => match Reply::decode(kind, &payload).unwrap() {
                Reply::Events { .. } | Reply::Done { .. } if row == "Watch" => {}
                Reply::Error(refusal) if row == "Watch" => result = Err(refusal.code),
                Reply::Error(refusal) => return Err(refusal.code),
                Reply::EntryResults { results } => {
                    if let [EntryResult::Refused(refusal)] = &results[..] {
                        result = Err(refusal.code);
                    }
                }
                other => panic!("{row}: {other:?}"),
            },
        }
    }
}

fn text(answer: Result<(), ErrorCode>) -> &'static str {
    answer.err().map_or("ok", ErrorCode::text)
}

/// Creates a folder for each cell with one target of each kind.
fn fill(root: &Path, cells: usize) {
    for cell in 0..cells {
        let at = root.join(format!("c{cell}"));
        for folder in ["empty", "full", "mover"] {
            fs::create_dir_all(at.join(folder)).unwrap();
        }
        fs::write(at.join("file"), "1").unwrap();
        fs::write(at.join("full/inside"), "2").unwrap();
    }
}

#[test]
fn each_request_at_each_kind_of_target() {
    let (columns, rows) = table();
    let dir = crate::harness::TestDir::new();
    let root = dir.folder("root");
    fill(&root, rows.len() * columns.len());
    let slave = Standalone::start_in(dir, root, &[], &[]);
    wait_published(&slave, 2 * (rows.len() * columns.len()) as u64);
    let mut wire = open(&slave);
    let mut wrong = Vec::new();
    for (r, (row, cells)) in rows.iter().enumerate() {
        assert_eq!(cells.len(), columns.len(), "{row}");
        for (c, (column, wanted)) in columns.iter().zip(cells).enumerate() {
            let at = format!("c{}", r * columns.len() + c);
            let on = target(column, &at);
            let frames = request(row, &on, &at);
            let state = || {
                let mode = fs::symlink_metadata(slave.root.join(&on)).map(|meta| meta.mode());
                (tree(&slave.root.join(&at)), mode.ok())
            };
            let all = if column == "reserved" {
                RESERVED.map(|name| with_name(&frames, name)).to_vec()
            } else {
                vec![frames]
            };
            let before = state();
            for frames in all {
                wire.raw(&frames);
                let found = text(answer(&mut wire, row));
                if found != wanted {
                    wrong.push(format!("{row} at {column}: {found}, not {wanted}"));
                }
                let changes = found == "ok"
                    && !matches!(
                        row.as_str(),
                        "Watch"
                            | "List"
                            | "Stat"
                            | "StatMany"
                            | "Hash"
                            | "Get"
                            | "Pieces"
                            | "Resume"
                    );
                if changes == (state() == before) {
                    wrong.push(format!(
                        "{row} at {column}: {found}, and changed on the disk: {}",
                        !changes
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The session continues after all of them, and nothing stays staged.
    wire.ping();
    wait_unstaged(&slave.root);
}

#[test]
fn the_table_has_every_request_of_a_session() {
    let (_, rows) = table();
    let named: BTreeSet<String> =
        rows.iter().map(|(row, _)| row.split(' ').next().unwrap().to_owned()).collect();
    // These requests have no target or belong to an upload.
    let none = [
        FrameType::Status,
        FrameType::Ping,
        FrameType::Seen,
        FrameType::FailedOver,
        FrameType::Data,
        FrameType::PutEnd,
    ];
    let of_a_session = FrameType::ALL
        .iter()
        .filter(|kind| (0x10..0x40).contains(&kind.number()) && !none.contains(kind));
    assert_eq!(named, of_a_session.map(|kind| format!("{kind:?}")).collect());
}
