//! Whatever is encoded decodes to the same again, for any values of all fields.

use std::str::FromStr;

use proptest::collection::vec;
use proptest::prelude::*;
use relais_proto::{
    Digest, ErrorCode, FrameType, LinkMessage, NameError, PageBuilder, Refusal, Reply, Request,
    SlaveId, TreePath, WireError, common_version, encode_frame, limits,
};

#[path = "common/any.rs"]
mod any;
#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)] // Paths and streams are checked here; messages have tests of their own.
mod checks;

use checks::frames::{read_frame, write_frame};

use any::link::link;
use any::{digest, entry, id16, part, path, reply, request};

/// One whole frame comes back as its type and payload, with nothing behind it.
fn open(frame: &[u8]) -> (FrameType, Vec<u8>) {
    let (mut from, mut payload) = (frame, Vec::new());
    let Ok(Some(kind)) = read_frame(&mut from, &mut payload) else {
        panic!("no frame was encoded")
    };
    assert!(from.is_empty() && payload.len() <= kind.cap() as usize);
    (kind, payload)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_come_back(message in request()) {
        let (mut frame, mut again) = (Vec::new(), Vec::new());
        message.encode(&mut frame);
        let (kind, payload) = open(&frame);
        prop_assert_eq!(kind, message.frame_type());
        let decoded = Request::decode(kind, &payload).unwrap();
        decoded.encode(&mut again);
        prop_assert_eq!(decoded, message);
        prop_assert_eq!(again, frame);
    }

    #[test]
    fn replies_come_back(message in reply()) {
        let (mut frame, mut again) = (Vec::new(), Vec::new());
        message.encode(&mut frame);
        let (kind, payload) = open(&frame);
        prop_assert_eq!(kind, message.frame_type());
        let decoded = Reply::decode(kind, &payload).unwrap();
        decoded.encode(&mut again);
        prop_assert_eq!(decoded, message);
        prop_assert_eq!(again, frame);
    }

    #[test]
    fn link_messages_come_back(message in link()) {
        let (mut frame, mut again) = (Vec::new(), Vec::new());
        message.encode(&mut frame);
        let (kind, payload) = open(&frame);
        prop_assert_eq!(kind, message.frame_type());
        let decoded = LinkMessage::decode(kind, &payload).unwrap();
        decoded.encode(&mut again);
        prop_assert_eq!(decoded, message);
        prop_assert_eq!(again, frame);
    }

    #[test]
    fn pages_hold_what_was_put_in(entries in vec(entry(), 0..600)) {
        let mut page = PageBuilder::new();
        let fitting = entries.iter().take_while(|entry| page.push(entry)).count();
        prop_assert_eq!(page.is_empty(), fitting == 0);
        let page = page.finish();
        prop_assert_eq!(page.iter().collect::<Vec<_>>(), &entries[..fitting]);
        let mut frame = Vec::new();
        Reply::Entries(page).encode(&mut frame);
        // Full only where the next entry, of at most 2 + 255 + 35 bytes, had no room.
        prop_assert!(fitting == entries.len() || frame.len() > limits::CONTROL_FRAME as usize - 292);
        let (kind, payload) = open(&frame);
        let Ok(Reply::Entries(again)) = Reply::decode(kind, &payload) else { panic!("the page does not decode") };
        prop_assert_eq!(again.iter().collect::<Vec<_>>(), &entries[..fitting]);
    }

    #[test]
    fn streams_of_frames_come_back(frames in vec((proptest::sample::select(FrameType::ALL), vec(any::<u8>(), 0..2000)), 0..8)) {
        let (mut encoded, mut written) = (Vec::new(), Vec::new());
        for (kind, payload) in &frames {
            encode_frame(&mut encoded, *kind, |to| to.extend_from_slice(payload));
            write_frame(&mut written, *kind, payload).unwrap();
        }
        prop_assert_eq!(&encoded, &written);
        checks::frame(&encoded);
        let (mut from, mut payload) = (encoded.as_slice(), vec![1, 2, 3]);
        for (kind, expected) in &frames {
            prop_assert_eq!(read_frame(&mut from, &mut payload).unwrap(), Some(*kind));
            prop_assert_eq!(&payload, expected);
        }
        prop_assert!(read_frame(&mut from, &mut payload).unwrap().is_none());
    }

    #[test]
    fn bytes_of_any_kind_meet_the_checks(kind in any::<u8>(), bytes in vec(any::<u8>(), 0..200)) {
        let message = [&[kind], bytes.as_slice()].concat();
        checks::request(&message);
        checks::reply(&message);
        checks::link(&message);
        checks::frame(&bytes);
        checks::path(&bytes);
    }

    #[test]
    fn texts_that_look_like_paths_meet_the_rules(text in "[a./ré\\x00\u{7f}\u{200d}]{0,12}", odd in ".{0,30}") {
        checks::path(text.as_bytes());
        checks::path(odd.as_bytes());
    }

    #[test]
    fn paths_join_and_split(folder in path(), part in part()) {
        checks::path(folder.as_str().as_bytes());
        match folder.join(&part) {
            Ok(longer) => {
                prop_assert_eq!(longer.split_last(), Some((folder.clone(), part.as_str())));
                prop_assert_eq!(longer.last(), Some(part.as_str()));
                prop_assert_eq!(longer.parts().count(), folder.parts().count() + 1);
                prop_assert_eq!(TreePath::new(longer.as_str()), Ok(longer));
            }
            Err(NameError::Reserved) => prop_assert!(folder.is_root()),
            Err(error) => prop_assert_eq!(error, NameError::PathTooLong),
        }
    }

    #[test]
    fn the_highest_common_version_is_spoken(ours in any::<(u8, u8)>(), theirs in any::<(u8, u8)>()) {
        let wide = |(low, high): (u8, u8)| (u16::from(low), u16::from(high));
        let both = |n: &u16| (wide(ours).0..=wide(ours).1).contains(n) && (wide(theirs).0..=wide(theirs).1).contains(n);
        let highest = (0..=u16::from(u8::MAX)).rev().find(both);
        match common_version(wide(ours), wide(theirs)) {
            Ok(version) => prop_assert_eq!(Some(version), highest),
            Err(WireError::NoCommonVersion { ours: a, theirs: b }) => {
                prop_assert_eq!((a, b, highest), (wide(ours), wide(theirs), None));
            }
            Err(error) => panic!("{error}"),
        }
        prop_assert_eq!(common_version(wide(theirs), wide(ours)).ok(), highest);
    }

    #[test]
    fn ids_come_back_from_their_text(id in id16(), digest in digest(), odd in "[+0-9a-f -]{32}") {
        prop_assert_eq!(SlaveId::from_str(&SlaveId(id).to_string()).unwrap(), SlaveId(id));
        prop_assert_eq!(Digest::from_str(&digest.to_string().to_uppercase()).unwrap(), digest);
        prop_assert_eq!(SlaveId::from_str(&odd).is_ok(), odd.bytes().all(|byte| byte.is_ascii_hexdigit()));
        prop_assert!(Digest::from_str(&odd).is_err());
    }
}

#[test]
fn a_common_version_of_ranges_that_are_none() {
    for (ours, theirs, common) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 3), (2, 9), Some(3)),
        ((1, 1), (0, 0), None),
        ((1, 1), (2, u16::MAX), None),
        ((1, 1), (1, 0), None),
        ((1, 1), (u16::MAX, 0), None),
        ((0, u16::MAX), (0, u16::MAX), Some(u16::MAX)),
    ] {
        assert_eq!(common_version(ours, theirs).ok(), common, "{ours:?} {theirs:?}");
    }
    let message = common_version((1, 2), (7, 9)).unwrap_err().to_string();
    assert!(["1 to 2", "7 to 9"].iter().all(|range| message.contains(range)), "{message}");
}

#[test]
fn a_text_for_people_is_cut_between_letters() {
    for (text, left) in [
        ("é".repeat(600), 1024),
        ("x".to_owned() + &"é".repeat(600), 1023),
        ("x".repeat(70_000), 1024),
    ] {
        let mut frame = Vec::new();
        Reply::Error(Refusal::new(ErrorCode::Storage, text.clone())).encode(&mut frame);
        let (kind, payload) = open(&frame);
        let Ok(Reply::Error(refusal)) = Reply::decode(kind, &payload) else {
            panic!("the error does not decode")
        };
        assert_eq!(refusal.message, text[..left]);
    }
}
