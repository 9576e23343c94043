//! Peers of later versions: what a receiver skips, and what it rejects.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

use relais_proto::{
    Capabilities, Entry, FileTime, FrameType, Hello, Kind, LinkMessage, Lsn, Mode, PageBuilder,
    Reply, Request, Role, WireError,
};

#[path = "common/frames.rs"]
mod frames;
#[path = "common/samples.rs"]
#[allow(dead_code)] // The tests share it; each uses a part.
mod samples;

fn sample(name: &str) -> (FrameType, Vec<u8>) {
    let (_, frame) = samples::all().into_iter().find(|(of, _)| of == name).unwrap();
    samples::open(&frame)
}

/// The payload of a message without optional fields, with these bytes as its optional fields.
fn with_optional(name: &str, optional: &[u8]) -> (FrameType, Vec<u8>) {
    let (kind, mut payload) = sample(name);
    assert_eq!(payload.split_off(payload.len() - 2), [0, 0], "{name} ends in no optional fields");
    payload.extend_from_slice(&u16::try_from(optional.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(optional);
    (kind, payload)
}

#[test]
fn unknown_optional_fields_are_skipped() {
    let unknown: &[u8] = &[9, 0, 3, b'n', b'e', b'w', 200, 0, 0];
    let mode: &[u8] = &[2, 0, 2, 0o1, 0o244];
    let (kind, payload) = with_optional("put-min", &[mode, unknown].concat());
    let Ok(Request::Put(put)) = Request::decode(kind, &payload) else { panic!("no put") };
    assert_eq!((put.mode, put.mtime), (Some(Mode::new(0o644)), None));
    let (kind, payload) = with_optional("beat-min", unknown);
    let (_, plain) = sample("beat-min");
    assert_eq!(
        LinkMessage::decode(kind, &payload).unwrap(),
        LinkMessage::decode(kind, &plain).unwrap()
    );
    // A known tag stands between unknown ones; the next entry follows.
    let version = [[0].as_slice(), &[0, 1, 7], &[1, 0, 12], &[0; 11], &[5], unknown].concat();
    let (kind, mut payload) = with_optional("entries-one", &version);
    let next = Entry {
        name: "b".into(),
        kind: Kind::Folder,
        mode: Mode::new(0o755),
        size: 0,
        mtime: FileTime::default(),
        version: None,
    };
    let mut page = PageBuilder::new();
    assert!(page.push(&next));
    let mut frame = Vec::new();
    Reply::Entries(page.finish()).encode(&mut frame);
    payload.extend_from_slice(&samples::open(&frame).1);
    let Ok(Reply::Entries(page)) = Reply::decode(kind, &payload) else { panic!("no entries") };
    let entries: Vec<_> = page.iter().collect();
    assert_eq!(entries[0].version, Some(Lsn { epoch: 0, number: 5 }));
    assert_eq!(entries[1], next);
}

#[test]
fn malformed_optional_fields_are_errors() {
    for (what, optional) in [
        ("a tag without a length", [9].as_slice()),
        ("half a length", &[9, 0]),
        ("a value that is too short", &[9, 0, 3, 1, 2]),
        ("a known value that is too short", &[2, 0, 1, 0]),
        ("a known value that is too long", &[2, 0, 3, 0, 0, 0]),
        ("an invalid value", &[2, 0, 2, 0xff, 0xff]),
        ("a repeated tag", &[9, 0, 0, 9, 0, 0]),
        ("descending tags", &[9, 0, 0, 8, 0, 0]),
    ] {
        let (kind, payload) = with_optional("put-min", optional);
        assert!(Request::decode(kind, &payload).is_err(), "{what}");
    }
    let (kind, payload) = with_optional("beat-min", &[9, 0, 3, 1, 2]);
    assert!(matches!(LinkMessage::decode(kind, &payload), Err(WireError::Short)));
    let (kind, payload) = with_optional("entries-one", &[1, 0, 11]);
    assert!(matches!(Reply::decode(kind, &payload), Err(WireError::Short)));
}

#[test]
fn optional_lists_have_their_caps() {
    let listeners = |count: u8| {
        let addrs = [4, 127, 0, 0, 1, 0, 80].repeat(count.into());
        let value = [[0, count].as_slice(), &addrs, &[0, 0]].concat();
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        let (kind, payload) = with_optional("register-min", &[&[1], &length[..], &value].concat());
        LinkMessage::decode(kind, &payload)
    };
    assert!(listeners(8).is_ok());
    assert!(matches!(listeners(9), Err(WireError::OverCap { .. })));
}

#[test]
fn attributes_name_one_at_least() {
    let (kind, mut payload) = sample("set-attributes-min");
    assert_eq!(payload.split_off(payload.len() - 7), [0, 5, 2, 0, 2, 0, 0]);
    payload.extend_from_slice(&[0, 0]);
    assert!(matches!(Request::decode(kind, &payload), Err(WireError::BadValue { .. })));
}

#[test]
fn unknown_capabilities_are_kept_and_harmless() {
    let hello = Hello { capabilities: Capabilities(u64::MAX), ..Hello::new(Role::Client, "new") };
    let mut frame = Vec::new();
    Request::Hello(hello.clone()).encode(&mut frame);
    let (kind, payload) = samples::open(&frame);
    assert_eq!(Request::decode(kind, &payload).unwrap(), Request::Hello(hello));
}

#[test]
fn only_types_without_an_answer_are_ignorable() {
    let ignorable = |kind: &&FrameType| FrameType::is_ignorable(kind.number());
    let known: Vec<_> = FrameType::ALL.iter().filter(ignorable).collect();
    assert_eq!(known, [&FrameType::FailedOver]);
    let ignorable: Vec<u8> = (0..=u8::MAX).filter(|n| FrameType::is_ignorable(*n)).collect();
    let ranges = [0x30..=0x3f, 0x70..=0x7f, 0xb0..=0xbf, 0xf0..=0xff];
    assert_eq!(ignorable, ranges.into_iter().flatten().collect::<Vec<u8>>());
}
