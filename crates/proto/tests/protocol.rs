//! Holds docs/protocol.md to the code: its tables of frame types, error codes and
//! limits, and the bytes of its examples.
//!
//! `cargo test -p relais-proto --test protocol -- --ignored` writes the
//! examples into docs/protocol.md again after the protocol has changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use relais_proto::{ErrorCode, FrameType, LinkMessage, VERSIONS, WireError, limits};

#[path = "common/example.rs"]
mod example;
#[path = "common/frames.rs"]
mod frames;
#[allow(dead_code)] // The tests share it; each uses a part.
#[path = "common/samples.rs"]
mod samples;

use example::hex;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md")
}

fn protocol() -> String {
    fs::read_to_string(file()).unwrap_or_else(|error| panic!("docs/protocol.md: {error}"))
}

/// Reads the part for clients, followed by the part for the cluster's links.
fn both() -> String {
    let cluster = file().with_file_name("cluster-protocol.md");
    protocol()
        + &fs::read_to_string(cluster)
            .unwrap_or_else(|error| panic!("docs/cluster-protocol.md: {error}"))
}

/// The rows of the first table behind this heading, without its head; cells are trimmed, marks of
/// code taken off.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = both();
    let (_, section) =
        text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?} in the protocol"));
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    };
    rows.skip(2).map(cells).collect()
}

#[test]
fn the_table_of_frame_types_is_the_code_s() {
    let ours: Vec<_> = FrameType::ALL
        .iter()
        .map(|kind| (format!("{:02x}", kind.number()), format!("{kind:?}")))
        .collect();
    let theirs: Vec<_> =
        table("## 3. Types of frames").iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(theirs, ours);
}

#[test]
fn every_message_has_its_fields_described() {
    let tables = ["### From a client", "### From a server", "## Cluster links"].map(table).concat();
    let described: Vec<_> = tables.iter().map(|row| row[0].clone()).collect();
    for kind in FrameType::ALL {
        assert_eq!(
            described.iter().filter(|name| **name == format!("{kind:?}")).count(),
            1,
            "{kind:?}"
        );
    }
}

/// The tag of a link's message that has several kinds, and the name of its kind.
fn tagged(kind: FrameType, payload: &[u8]) -> Option<(String, String)> {
    let shown = match LinkMessage::decode(kind, payload) {
        Ok(LinkMessage::ToMaster(message)) => format!("{message:?}"),
        Ok(LinkMessage::ToSlave(message)) => format!("{message:?}"),
        Ok(LinkMessage::Operate(operation)) => format!("{operation:?}"),
        _ => return None,
    };
    let name: String = shown.chars().take_while(char::is_ascii_alphanumeric).collect();
    Some((payload[0].to_string(), name))
}

#[test]
fn the_tables_of_tags_are_the_code_s() {
    for (heading, kind) in [
        ("### From a slave", FrameType::ToMaster),
        ("### From the master", FrameType::ToSlave),
        ("### From an operator", FrameType::Operate),
    ] {
        let opened = samples::all()
            .into_iter()
            .map(|(_, frame)| samples::open(&frame))
            .filter(|(of, _)| *of == kind);
        let ours: BTreeSet<_> =
            opened.filter_map(|(kind, payload)| tagged(kind, &payload)).collect();
        let rows = table(heading);
        let theirs: BTreeSet<_> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        assert_eq!(theirs, ours, "{heading}");
        let tags: Vec<_> = rows.iter().map(|row| row[0].parse::<u8>().unwrap()).collect();
        let last = u8::try_from(rows.len()).unwrap() - 1;
        assert_eq!(tags, (0..=last).collect::<Vec<_>>(), "{heading}");
        // No tag is left out: the next one is not known.
        assert!(
            matches!(LinkMessage::decode(kind, &[last + 1]), Err(WireError::BadValue { .. })),
            "{heading}"
        );
    }
}

#[test]
fn the_table_of_errors_is_the_code_s() {
    let ours: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let retry = format!("{:?}", code.retry()).to_lowercase();
            (code.number().to_string(), code.text().to_owned(), retry)
        })
        .collect();
    let theirs: Vec<_> = table("## 8. Errors")
        .iter()
        .map(|row| (row[0].clone(), row[1].clone(), row[3].clone()))
        .collect();
    assert_eq!(theirs, ours);
    assert!(ErrorCode::ALL.iter().all(|code| ErrorCode::from_number(code.number()) == Some(*code)));
    for row in table("## 8. Errors") {
        assert!(
            ["stays", "closes", "may close", "client's own"].contains(&row[2].as_str()),
            "{row:?}"
        );
    }
}

#[test]
fn the_table_of_limits_is_the_code_s() {
    let seconds = [
        limits::LOGIN_TIME,
        limits::FRAME_TIME,
        limits::RATE_WINDOW,
        limits::IDLE_TIME,
        limits::WAIT_EVERY,
        limits::SILENCE,
        limits::BEAT_EVERY,
        limits::TICKET_TIME,
        limits::STAGED_TIME,
        limits::CONNECT_TIME,
    ]
    .map(|time| time.as_secs());
    let [login, frame, window, idle, wait, silence, beat, ticket, staged, connect] = seconds;
    let names = [
        limits::NAME_PART,
        limits::PATH,
        limits::USER,
        limits::PASSWORD,
        limits::TICKET,
        limits::TEXT,
    ];
    let counts = [
        limits::REDIRECT_SLAVES,
        limits::ADDRESSES,
        limits::STAT_PATHS,
        limits::EVENTS,
        limits::EVENTS_PER_FRAME,
        limits::AVOID,
    ];
    let links = [
        limits::LINK_LIST,
        limits::HOLDERS,
        limits::GIVEN_UP,
        limits::PEERS,
        limits::LINE,
        limits::SHOWN_PATH,
        limits::SHOWN_PATHS,
    ];
    let mut ours = vec![
        limits::CONTROL_FRAME.into(),
        limits::REQUEST_FRAME.into(),
        limits::TICKET_FRAME.into(),
        limits::GREETING_FRAME.into(),
        limits::BLOCK_MAX.into(),
        limits::PIECE,
        limits::FILE_SIZE,
        limits::PIECES,
    ];
    ours.push(limits::PIECES_PER_PAGE.into());
    ours.extend(names.into_iter().chain(counts).chain(links).map(|n| n as u64));
    ours.push(limits::IGNORED_FRAMES.into());
    ours.push(limits::AHEAD as u64);
    ours.push(limits::DISCARD);
    ours.extend([
        login,
        frame,
        window,
        limits::RATE_FLOOR,
        idle,
        wait,
        silence,
        beat,
        limits::BEATS_MISSED.into(),
        ticket,
        staged,
        connect,
        limits::LOGIN_TRIES.into(),
        limits::HANDSHAKES.into(),
        limits::HANDSHAKE as u64,
        limits::POINT as u64,
        limits::CERTIFICATE as u64,
        limits::FORWARDED_LOGINS as u64,
    ]);
    let annotations = [
        limits::PROPERTY_NAMESPACE,
        limits::PROPERTY_LOCAL,
        limits::PROPERTY_VALUE,
        limits::PROPERTIES,
        limits::PROPERTY_CHANGE,
        limits::PROPERTIES_OF_PATH,
        limits::PROPERTIES_OF_TREE,
        limits::LOCK_OWNER,
    ];
    let locks = [
        limits::LOCKS,
        limits::LOCKS_PER_ACCOUNT,
        limits::SHARED_LOCKS,
        limits::LOCK_TOKENS,
        limits::SHA256_PIECES,
        limits::SHA256_OF_TREE,
    ];
    ours.extend(annotations.map(|n| n as u64));
    ours.push(limits::LOCK_SECONDS.into());
    ours.extend(locks.map(|n| n as u64));
    let theirs: Vec<u64> =
        table("## 9. Limits").iter().map(|row| row[1].parse().unwrap()).collect();
    assert_eq!(theirs, ours);
    assert_eq!(VERSIONS, (1, 1));
    assert!(protocol().contains("its range of versions, 1 to 1"));
}

#[test]
fn the_examples_are_what_the_code_encodes() {
    let text = protocol();
    for (name, example) in examples() {
        let (_, _, there) = cut_out(&text, name);
        assert!(
            there == example,
            "the example {name:?} in docs/protocol.md is old: run this test with --ignored. It must be:\n{example}"
        );
    }
}

#[test]
#[ignore = "writes the examples into docs/protocol.md"]
fn write_examples() {
    let mut text = protocol();
    for (name, example) in examples() {
        let (before, after, _) = cut_out(&text, name);
        text = format!("{before}{example}{after}");
    }
    fs::write(file(), text).unwrap();
}

/// The text before and behind an example, and the example.
fn cut_out<'a>(text: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let lsn = format!("<!-- example: {name} -->\n```text\n");
    let start =
        text.find(&lsn).unwrap_or_else(|| panic!("no {lsn:?} in docs/protocol.md")) + lsn.len();
    let end = start
        + text[start..].find("```\n").unwrap_or_else(|| panic!("the example {name:?} has no end"));
    (&text[..start], &text[end..], &text[start..end])
}

fn examples() -> [(&'static str, String); 3] {
    [("session", example::session()), ("changes", example::changes()), ("values", values())]
}

/// Proofs and piece values for known input.
fn values() -> String {
    let key: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap_or_default());
    let cluster = blake3::keyed_hash(&key, b"relais cluster id");
    let cluster = &cluster.as_bytes()[..16];
    let mut text = format!("cluster id         {}\n", hex(cluster));
    for (role, name) in
        [(0, "master"), (1, "slave"), (2, "operator"), (3, "holder"), (4, "fetcher")]
    {
        let proved =
            [b"relais link 1".as_slice(), &[role], &[0xa1; 16], cluster, &[0xb2; 32], &[0xc3; 32]]
                .concat();
        text += &format!("proof, {name:10}  {}\n", blake3::keyed_hash(&key, &proved));
    }
    for size in [0, 1_048_576, 1_048_577, 3_145_828] {
        let content = counted(size);
        text += &format!("\ncontent of {size} bytes\n");
        for (n, value) in piece_values(&content).iter().enumerate() {
            text += &format!("piece {n}            {}\n", hex(value));
        }
        text += &format!("digest             {}\n", blake3::hash(&content));
    }
    text
}

fn counted(size: usize) -> Vec<u8> {
    (0..251_u8).cycle().take(size).collect()
}

/// The unit of section 6, as a length.
const PIECE: usize = 1 << 20;

fn piece_values(content: &[u8]) -> Vec<ChainingValue> {
    if content.len() <= PIECE {
        return vec![blake3::hash(content).into()];
    }
    let value = |(n, piece): (usize, &[u8])| {
        Hasher::new().set_input_offset(n as u64 * limits::PIECE).update(piece).finalize_non_root()
    };
    content.chunks(PIECE).enumerate().map(value).collect()
}

/// The value over several pieces, joined as docs/protocol.md says.
fn join(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [one] => *one,
        more => {
            let (left, right) = halves(more);
            merge_subtrees_non_root(&join(left), &join(right), Mode::Hash)
        }
    }
}

/// The left half has the largest power of two of pieces that is less than their number.
fn halves(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().next_power_of_two() / 2)
}

#[test]
fn piece_values_join_to_the_digest() {
    assert_eq!(PIECE as u64, limits::PIECE);
    for pieces in 1..=9 {
        for size in [pieces * 1_048_576 - 1_048_575, pieces * 1_048_576 - 1, pieces * 1_048_576] {
            let content = counted(size);
            let values = piece_values(&content);
            assert_eq!(values.len(), pieces);
            let digest = blake3::hash(&content);
            match values.as_slice() {
                [one] => assert_eq!(digest, *one),
                more => {
                    let (left, right) = halves(more);
                    assert_eq!(left.len() as u64 * limits::PIECE, left_subtree_len(size as u64));
                    assert_eq!(merge_subtrees_root(&join(left), &join(right), Mode::Hash), digest);
                }
            }
        }
    }
}
