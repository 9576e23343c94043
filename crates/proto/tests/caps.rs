//! Every length, count, offset and size field at 0, 1, its cap, one more, and
//! the powers of two behind it; and sums that wrap.

use std::io::{Read, repeat as repeat_byte};

use relais_proto::{
    Encoder, FrameHeader, FrameType, LinkMessage, Reply, Request, WireError, limits,
};

#[path = "common/fields_link.rs"]
mod fields_link;
#[path = "common/frames.rs"]
mod frames;
#[path = "common/mutate.rs"]
#[allow(dead_code)] // The tests share it; each uses a part.
mod mutate;
#[path = "common/samples.rs"]
#[allow(dead_code)] // The tests share it; each uses a part.
mod samples;

use frames::read_frame;

/// How many bytes a field has.
#[derive(Clone, Copy)]
enum Width {
    Two,
    Four,
    Eight,
}
use Width::{Eight, Four, Two};

/// One field of a message, with all other fields as small as they may be.
struct Field {
    name: &'static str,
    kind: FrameType,
    width: Width,
    /// The least and the most that is allowed.
    range: (u64, u64),
    /// What lies before the field.
    before: Vec<u8>,
    /// What must follow the field where it has this value.
    after: fn(usize) -> Vec<u8>,
}

/// More values than this are never sent: what follows the field is cut there.
const LONGEST: u64 = 70_000;

fn bytes(build: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut to = Vec::new();
    build(&mut Encoder::new(&mut to));
    to
}

/// `len` letters, and behind them zero bytes for the fields that follow.
fn text(len: usize, zeros: usize) -> Vec<u8> {
    [vec![b'x'; len], vec![0; zeros]].concat()
}

/// The text of a path of `len` bytes, and zero bytes for the fields that follow.
fn path(len: usize, zeros: usize) -> Vec<u8> {
    let valid = samples::path_of(len.min(limits::PATH)).as_str().as_bytes().to_vec();
    [valid, vec![b'x'; len.saturating_sub(limits::PATH)], vec![0; zeros]].concat()
}

fn repeat(one: &[u8], count: usize, zeros: usize) -> Vec<u8> {
    [one.repeat(count), vec![0; zeros]].concat()
}

const MARK: usize = 12;
/// How far a scrub has come.
const SCRUB: usize = 8 + 1 + 5 * 8;
/// A `StatusReport` up to the length of the name of its only metric.
const STATUS_METRIC: &[u8] = &{
    let mut bytes = [0; 16 + MARK + 2];
    bytes[16 + MARK + 1] = 1;
    bytes
};

/// Pairs with different names, and zeros after them.
fn metrics(count: usize, zeros: usize) -> Vec<u8> {
    let pair = |n: usize| {
        bytes(|to| {
            to.short_text(&format!("relais_{n:05}")).u64(1);
        })
    };
    (0..count).flat_map(pair).chain(vec![0; zeros]).collect()
}

/// An empty list of metrics.
const METRICS: usize = 2;
const V4: &[u8] = &[4, 127, 0, 0, 1, 8, 74];
/// An entry behind its name: kind, mode, size, time, no optional fields.
const ENTRY_REST: usize = 1 + 2 + 8 + 12 + 2;

/// An endpoint with one address.
fn endpoint() -> Vec<u8> {
    [[7; 16].as_slice(), &[0, 1], V4].concat()
}

fn fields_of_requests() -> Vec<Field> {
    use FrameType::{
        Copy, Get, Hash, Hello, List, Login, MakeFolder, Move, Pieces, Put, Remove, Resume,
        SetAttributes, Stat, StatMany, Ticket, Watch,
    };
    let field = |name, kind, width, cap: u64, before, after| Field {
        name,
        kind,
        width,
        range: (0, cap),
        before,
        after,
    };
    let hello = bytes(|to| {
        to.bytes(b"RELA").u8(0).u16(1).u16(1).u64(0);
    });
    let get_offset = bytes(|to| {
        to.short_text("a");
    });
    let get_length = [get_offset.as_slice(), &[0; 8]].concat();
    let piece = [get_offset.as_slice(), &[0]].concat();
    let piece_count = [piece.as_slice(), &[0; 8]].concat();
    let put_size = [&[0; 16], [0, 1, b'a', 1].as_slice()].concat();
    let put_offset = [put_size.as_slice(), &limits::FILE_SIZE.to_be_bytes()].concat();
    vec![
        field("agent", Hello, Two, 1024, hello, |n| text(n, 0)),
        field("user", Login, Two, 255, vec![], |n| text(n, 2 + MARK + 2 + 1)),
        field("password", Login, Two, 1024, vec![0; 2], |n| text(n, MARK + 2 + 1)),
        field("avoid", Login, Two, 64, vec![0; 2 + 2 + MARK], |n| repeat(&[9; 16], n, 1)),
        field("ticket", Ticket, Two, 5000, vec![], |n| text(n, MARK)),
        field("list path", List, Two, 4095, vec![], |n| path(n, 6)),
        field("after", List, Two, 255, vec![0; 2], |n| text(n, 4)),
        field("stat path", Stat, Two, 4095, vec![], |n| path(n, 0)),
        field("hash path", Hash, Two, 4095, vec![], |n| path(n, 0)),
        field("get path", Get, Two, 4095, vec![], |n| path(n, 17)),
        field("get offset", Get, Eight, u64::MAX, get_offset, |_| vec![0; 9]),
        field("get length", Get, Eight, u64::MAX, get_length, |_| vec![0]),
        field("pieces path", Pieces, Two, 4095, vec![], |n| path(n, 13)),
        field("first piece", Pieces, Eight, (1 << 43) - 1, piece, |_| vec![0, 0, 0, 1]),
        field("piece count", Pieces, Four, 1024, piece_count, |_| vec![]),
        field("put path", Put, Two, 4095, vec![0; 16], |n| path(n, 1 + 8 + 1 + 2 + 2)),
        field("put size", Put, Eight, limits::FILE_SIZE, put_size, |_| vec![0; 8 + 1 + 2 + 2]),
        field("put offset", Put, Eight, limits::FILE_SIZE, put_offset, |_| vec![0; 1 + 2 + 2]),
        field("resume path", Resume, Two, 4095, vec![0; 16], |n| path(n, 8)),
        field(
            "resume size",
            Resume,
            Eight,
            limits::FILE_SIZE,
            [&[0; 16], [0, 1, b'a'].as_slice()].concat(),
            |_| vec![],
        ),
        field("folder path", MakeFolder, Two, 4095, vec![0; 16], |n| path(n, 0)),
        field("remove path", Remove, Two, 4095, vec![0; 16], |n| path(n, 2)),
        field("move from", Move, Two, 4095, vec![0; 16], |n| path(n, 3)),
        field("move to", Move, Two, 4095, vec![0; 18], |n| path(n, 1)),
        field("paths", StatMany, Two, 1024, vec![], |n| vec![0; n * 2]),
        field("watch path", Watch, Two, 4095, vec![], |n| path(n, 1)),
        field("attributes path", SetAttributes, Two, 4095, vec![0; 16], |n| {
            [path(n, 1), vec![0, 5, 2, 0, 2, 0, 0]].concat()
        }),
        field("copy from", Copy, Two, 4095, vec![0; 16], |n| path(n, 2 + 1 + 1 + 2)),
        field("copy to", Copy, Two, 4095, vec![0; 18], |n| path(n, 1 + 1 + 2)),
    ]
}

fn fields_of_replies() -> Vec<Field> {
    use FrameType::{
        AskMaster, ContentHeader, Details, Elsewhere, Entries, EntryResults, Error, Events,
        PieceValues, Redirect, Staged, StatusReport, Welcome,
    };
    let field =
        |name, kind, width, range, before, after| Field { name, kind, width, range, before, after };
    let redirect_addrs = [[0; 2 + MARK].as_slice(), &[0, 1], &[7; 16]].concat();
    let entry = bytes(|to| {
        to.short_text("a").u8(0).u16(0);
    });
    let details = [&[0; 2 + ENTRY_REST], [0].as_slice()].concat();
    let holder = [details.as_slice(), &[0, 1], &[7; 16]].concat();
    let size = |n: u64| n.to_be_bytes().to_vec();
    let large = [size(limits::FILE_SIZE), size(0)].concat();
    let offset = size(limits::FILE_SIZE);
    const AFTER_BLOCK_SIZE: usize = 12 + 2 + 1 + 1 + 16;
    vec![
        field("agent", Welcome, Two, (0, 1024), vec![0; 2 + 1 + 16 + 8], |n| text(n, 0)),
        field("ticket", Redirect, Two, (0, 5000), vec![], |n| {
            [text(n, MARK), vec![0, 1], endpoint()].concat()
        }),
        field("slaves", Redirect, Two, (1, 17), vec![0; 2 + MARK], |n| repeat(&endpoint(), n, 0)),
        field("addresses", Redirect, Two, (1, 8), redirect_addrs, |n| repeat(V4, n, 0)),
        field("address", AskMaster, Two, (0, 1024), vec![], |n| text(n, 0)),
        field("error code", Error, Two, (1, 39), vec![], |_| vec![0; 4]),
        field("message", Error, Two, (0, 1024), vec![0, 1], |n| text(n, 2)),
        field("name", Entries, Two, (1, 255), vec![], |n| text(n, ENTRY_REST)),
        field("entry size", Entries, Eight, (0, limits::FILE_SIZE), entry, |_| vec![0; 12 + 2]),
        field("name", Details, Two, (0, 255), vec![], |n| text(n, ENTRY_REST + 1 + 2 + MARK)),
        field("holders", Details, Two, (0, 17), details, |n| repeat(&endpoint(), n, MARK)),
        field("holder's addresses", Details, Two, (0, 8), holder, |n| repeat(V4, n, MARK)),
        field("holders", Elsewhere, Two, (0, 17), vec![], |n| repeat(&endpoint(), n, 0)),
        field(
            "holder's addresses",
            Elsewhere,
            Two,
            (0, 8),
            [[0, 1].as_slice(), &[7; 16]].concat(),
            |n| repeat(V4, n, 0),
        ),
        field("size", ContentHeader, Eight, (0, limits::FILE_SIZE), vec![], |_| {
            [&[0; 16], [0, 0, 0, 1].as_slice(), &[0; AFTER_BLOCK_SIZE]].concat()
        }),
        field("offset", ContentHeader, Eight, (0, limits::FILE_SIZE), offset, |_| {
            [&[0; 8], [0, 0, 0, 1].as_slice(), &[0; AFTER_BLOCK_SIZE]].concat()
        }),
        field("length", ContentHeader, Eight, (0, limits::FILE_SIZE), large, |_| {
            [[0, 0, 0, 1].as_slice(), &[0; AFTER_BLOCK_SIZE]].concat()
        }),
        field("block size", ContentHeader, Four, (1, 4 << 20), vec![0; 24], |_| {
            vec![0; AFTER_BLOCK_SIZE]
        }),
        field(
            "nanoseconds",
            ContentHeader,
            Four,
            (0, 999_999_999),
            [&[0; 24], [0, 0, 0, 1].as_slice(), &[0; 8]].concat(),
            |_| vec![0; 20],
        ),
        field(
            "mode",
            ContentHeader,
            Two,
            (0, 0o777),
            [&[0; 24], [0, 0, 0, 1].as_slice(), &[0; 12]].concat(),
            |_| vec![0; 18],
        ),
        field("results", EntryResults, Two, (0, 1024), vec![], |n| {
            repeat(&[1, 0, 1, 0, 0, 0, 0], n, 0)
        }),
        field("events", Events, Two, (0, 1024), vec![0; MARK], |n| repeat(&[0; 16], n, 0)),
        field("first piece", PieceValues, Eight, (0, 1 << 43), vec![], |_| vec![0; 2]),
        field("piece values", PieceValues, Two, (0, 1024), vec![0; 8], |n| repeat(&[5; 32], n, 0)),
        field("staged offset", Staged, Eight, (0, limits::FILE_SIZE), vec![], |_| vec![0]),
        field("metrics", StatusReport, Two, (0, 64), vec![0; 16 + MARK], |n| metrics(n, 2)),
        field("name of a metric", StatusReport, Two, (8, 64), STATUS_METRIC.to_vec(), |n| {
            [b"relais_".as_slice(), &vec![b'a'; n.saturating_sub(7)], &[0; 8 + 2]].concat()
        }),
        field("last error", StatusReport, Two, (0, 1024), vec![0; 16 + MARK + METRICS], |n| {
            text(n, 0)
        }),
    ]
}

fn fields() -> Vec<Field> {
    [fields_of_requests(), fields_of_replies(), fields_link::fields()]
        .into_iter()
        .flatten()
        .collect()
}

fn decode(kind: FrameType, payload: &[u8]) -> Result<(), WireError> {
    match kind.number() {
        0x00..=0x3f => Request::decode(kind, payload).map(drop),
        0x80..=0xbf => Reply::decode(kind, payload).map(drop),
        _ => LinkMessage::decode(kind, payload).map(drop),
    }
}

/// The field with this value, and a message around it; none where the field cannot hold it.
fn message(field: &Field, value: u64) -> Option<Vec<u8>> {
    let mut payload = field.before.clone();
    match field.width {
        Two => payload.extend_from_slice(&u16::try_from(value).ok()?.to_be_bytes()),
        Four => payload.extend_from_slice(&u32::try_from(value).ok()?.to_be_bytes()),
        Eight => payload.extend_from_slice(&value.to_be_bytes()),
    }
    payload.extend((field.after)(usize::try_from(value.min(LONGEST)).ok()?));
    Some(payload)
}

#[test]
fn every_field_is_held_to_its_cap() {
    for field in &fields() {
        let (least, most) = field.range;
        let near = [
            least.saturating_sub(1),
            least,
            least + 1,
            most.saturating_sub(1),
            most,
            most.saturating_add(1),
        ];
        for value in near.into_iter().chain(mutate::EDGES.iter().copied()) {
            let Some(payload) = message(field, value) else { continue };
            let result = decode(field.kind, &payload);
            let allowed = (least..=most).contains(&value);
            assert_eq!(
                result.is_ok(),
                allowed,
                "{} of {:?} = {value}: {result:?}",
                field.name,
                field.kind
            );
            let named = matches!(
                result,
                Err(WireError::OverCap { .. } | WireError::BadValue { .. } | WireError::Name(_))
            );
            assert!(allowed || named, "{} of {:?} = {value}: {result:?}", field.name, field.kind);
        }
    }
}

#[test]
fn a_length_or_count_with_nothing_behind_it_is_too_short() {
    for field in fields().iter().filter(|field| matches!(field.width, Two)) {
        for value in [field.range.0.max(1), field.range.1] {
            let Some(mut payload) = message(field, value) else { continue };
            payload.truncate(field.before.len() + 2);
            let result = decode(field.kind, &payload);
            assert!(
                matches!(result, Err(WireError::Short)),
                "{} of {:?}: {result:?}",
                field.name,
                field.kind
            );
        }
    }
}

#[test]
fn every_frame_length_is_held_to_its_cap() {
    for kind in FrameType::ALL {
        let cap = match kind {
            FrameType::Block | FrameType::Data => 4 << 20,
            FrameType::Hello | FrameType::Login | FrameType::LinkOpen | FrameType::LinkProof => {
                2560
            }
            FrameType::Ticket => 5120,
            FrameType::ToMaster | FrameType::TreePage | FrameType::PathPage => 64 << 10,
            kind if kind.number() < 0x80 => (8 << 10) + 256,
            _ => 64 << 10,
        };
        for len in [0, 1, cap, cap + 1, 1 << 31, u32::MAX] {
            let header = FrameHeader { kind: *kind, len }.to_bytes();
            let mut payload = Vec::new();
            let result =
                read_frame(&mut header.chain(repeat_byte(0).take(len.into())), &mut payload);
            if len <= cap {
                assert!(
                    matches!(result, Ok(Some(read)) if read == *kind),
                    "{kind:?} of {len}: {result:?}"
                );
                assert_eq!(payload.len(), len as usize);
            } else {
                assert!(
                    matches!(result, Err(WireError::FrameTooLong { .. })),
                    "{kind:?} of {len}: {result:?}"
                );
                assert_eq!(payload.capacity(), 0);
            }
        }
    }
}

#[test]
fn sums_in_a_header_do_not_wrap() {
    let values = [
        0,
        1,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        limits::FILE_SIZE - 1,
        limits::FILE_SIZE,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    for size in values {
        for offset in values {
            for length in values {
                let payload = bytes(|to| {
                    to.u64(size).u64(offset).u64(length).u32(1).bytes(&[0; 12 + 2 + 1 + 1 + 16]);
                });
                let fits = size <= limits::FILE_SIZE
                    && u128::from(offset) + u128::from(length) <= u128::from(size);
                let result = Reply::decode(FrameType::ContentHeader, &payload);
                assert_eq!(result.is_ok(), fits, "{size} {offset} {length}: {result:?}");
                assert!(
                    fits || matches!(result, Err(WireError::OverCap { .. })),
                    "{size} {offset} {length}: {result:?}"
                );
            }
        }
    }
}

#[test]
fn sums_of_piece_numbers_do_not_wrap() {
    for first in
        [0, (1 << 43) - 1024, (1 << 43) - 1023, 1 << 43, 1 << 63, u64::MAX - 1023, u64::MAX]
    {
        for count in [0_u32, 1, 1023, 1024] {
            let fits = u128::from(first) + u128::from(count) <= 1 << 43;
            let request = bytes(|to| {
                to.short_text("a").u8(0).u64(first).u32(count);
            });
            assert_eq!(
                Request::decode(FrameType::Pieces, &request).is_ok(),
                fits,
                "{first} {count}"
            );
            let reply = [
                first.to_be_bytes().as_slice(),
                &count.to_be_bytes()[2..],
                &vec![0; count as usize * 32],
            ]
            .concat();
            assert_eq!(
                Reply::decode(FrameType::PieceValues, &reply).is_ok(),
                fits,
                "{first} {count}"
            );
        }
    }
}

#[test]
fn flags_and_small_numbers_have_no_undefined_values() {
    // The higher byte of the mode.
    let header =
        |mode: u8| [[0; 24].as_slice(), &[0, 0, 0, 1], &[0; 12], &[mode, 0], &[0; 18]].concat();
    let if_match = |tag: u8| {
        [
            &[0, 1, b'a'],
            [0; 16].as_slice(),
            &[tag],
            &[0; 32][..[0, 32, 16][usize::from(tag.min(2))]],
        ]
        .concat()
    };
    for value in 0..=u8::MAX {
        assert_eq!(decode(FrameType::ContentHeader, &header(value)).is_ok(), value <= 1);
        assert_eq!(decode(FrameType::Wait, &[value]).is_ok(), value <= 4);
        assert_eq!(decode(FrameType::Get, &if_match(value)).is_ok(), value <= 2);
        let staged =
            [[0; 8].as_slice(), &[value], &[0; MARK][..if value == 3 { MARK } else { 0 }]].concat();
        assert_eq!(decode(FrameType::Staged, &staged).is_ok(), value <= 3);
        let welcome = [&[0, 1, value], [0; 26].as_slice()].concat();
        assert_eq!(decode(FrameType::Welcome, &welcome).is_ok(), value <= 2);
        let hello = [b"RELA".as_slice(), &[value, 0, 1, 0, 1], &[0; 10]].concat();
        assert_eq!(decode(FrameType::Hello, &hello).is_ok(), value <= 3);
        let kind = [&[0, 1, b'a', value], [0; ENTRY_REST - 1].as_slice()].concat();
        assert_eq!(decode(FrameType::Entries, &kind).is_ok(), value <= 1);
        let beat = [&[value], [0; MARK + METRICS + 2 + 16 + SCRUB + 2].as_slice()].concat();
        assert_eq!(decode(FrameType::Heartbeat, &beat).is_ok(), value <= 3);
        let register = [
            [0; 16].as_slice(),
            &[0, 1, value],
            &[0; 18 + 2 + MARK + 2][..if value == 6 { 18 } else { 6 } + 2 + MARK + 2],
        ]
        .concat();
        assert_eq!(decode(FrameType::Register, &register).is_ok(), value == 4 || value == 6);
    }
}

#[test]
fn tags_have_no_undefined_values() {
    let empty = |what, kind: FrameType, payload: &[u8], most: u8| {
        let (value, result) = (*payload.last().unwrap(), decode(kind, payload));
        // Behind a good tag a field is missing, or nothing.
        let undefined = matches!(result, Err(WireError::BadValue { .. }));
        assert_eq!(undefined, value > most, "{what} {value}: {result:?}");
    };
    for value in 0..=u8::MAX {
        empty("message of a slave", FrameType::ToMaster, &[value], 9);
        empty("message of a master", FrameType::ToSlave, &[value], 9);
        empty("operation", FrameType::Operate, &[value], 7);
        empty("list of paths", FrameType::AskPaths, &[[0; 8].as_slice(), &[value]].concat(), 1);
        empty("change", FrameType::ToMaster, &[[2].as_slice(), &[0; 16], &[value]].concat(), 9);
        empty(
            "expectation",
            FrameType::ToMaster,
            &[[2].as_slice(), &[0; 16], &[1, 0, 0, 0, 0], &[value]].concat(),
            3,
        );
        empty(
            "option of content",
            FrameType::ToSlave,
            &[[2, 0, 1].as_slice(), &[0; 2 + MARK + 2], &[value]].concat(),
            1,
        );
        empty(
            "kind of answer",
            FrameType::ToSlave,
            &[[5].as_slice(), &[0; 16], &[value]].concat(),
            1,
        );
        for (kind, before) in [
            (FrameType::LineEnd, 0),
            (FrameType::Peers, 2),
            (FrameType::AskTree, 8),
            (FrameType::HeartbeatAck, MARK + 16),
        ] {
            empty("flag", kind, &[vec![0; before], vec![value]].concat(), 1);
        }
    }
}

#[test]
fn another_protocol_is_told_apart() {
    for first in [b"GET ".as_slice(), b"USER", b"SSH-", b"\x16\x03\x01\x02", b"RELB"] {
        let hello = [first, &[0, 0, 1, 0, 1, 0, 0]].concat();
        assert!(matches!(Request::decode(FrameType::Hello, &hello), Err(WireError::NotRelais)));
    }
}
