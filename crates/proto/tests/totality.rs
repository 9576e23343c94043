//! Every decoder is total: good messages cut, changed, grown and shrunk at
//! every byte, and read as every other type, give a value or an error.

use relais_proto::{FrameType, LinkMessage, Reply, Request, WireError};

#[path = "../fuzz/src/lib.rs"]
mod checks;
#[allow(dead_code)] // The tests share it; each uses a part.
#[path = "common/samples.rs"]
mod samples;

use checks::frames;
use frames::read_frame;

/// Positions of long messages that are looked at one by one: all at both ends, some between.
fn positions(len: usize) -> impl Iterator<Item = usize> {
    (0..=len).filter(move |at| *at < 400 || len - at < 100 || at % 97 == 0)
}

fn check_all(input: &[u8]) {
    checks::request(input);
    checks::reply(input);
    checks::link(input);
}

/// What the decoder that knows this type says.
fn decode(kind: FrameType, payload: &[u8]) -> Result<(), WireError> {
    match Request::decode(kind, payload).map(drop) {
        Err(WireError::Unexpected(_)) => {}
        known => return known,
    }
    match Reply::decode(kind, payload).map(drop) {
        Err(WireError::Unexpected(_)) => LinkMessage::decode(kind, payload).map(drop),
        known => known,
    }
}

fn samples_and_giants() -> Vec<samples::Sample> {
    let mut all = samples::all();
    all.extend(samples::giants());
    all
}

#[test]
fn the_samples_hold_every_type() {
    let there: Vec<_> = samples::all().iter().map(|(_, frame)| samples::open(frame).0).collect();
    assert!(
        FrameType::ALL
            .iter()
            .all(|kind| matches!(kind, FrameType::Block | FrameType::Data) || there.contains(kind))
    );
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    for (name, frame) in samples_and_giants() {
        let (kind, payload) = samples::open(&frame);
        for cut in positions(payload.len()).filter(|cut| *cut < payload.len()) {
            let result = decode(kind, &payload[..cut]);
            // A page may end behind any of its entries.
            let whole_entries = kind == FrameType::Entries && result.is_ok();
            assert!(
                matches!(result, Err(WireError::Short)) || whole_entries,
                "{name} cut at {cut}: {result:?}"
            );
            check_all(&samples::bare(kind, &payload[..cut]));
        }
        for cut in 1..frame.len().min(300) {
            let mut read = Vec::new();
            assert!(
                matches!(read_frame(&mut &frame[..cut], &mut read), Err(WireError::Truncated)),
                "{name} cut at {cut}"
            );
        }
    }
}

#[test]
fn a_byte_too_many_is_an_error() {
    for (name, frame) in samples::all() {
        let (kind, mut payload) = samples::open(&frame);
        payload.push(0);
        match decode(kind, &payload) {
            Err(WireError::Trailing(1)) => {}
            Err(WireError::Short) if kind == FrameType::Entries => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_byte_changed_put_in_or_taken_out_anywhere_never_panics() {
    for (_, frame) in samples::all() {
        let (kind, payload) = samples::open(&frame);
        let message = samples::bare(kind, &payload);
        for at in positions(message.len()) {
            for byte in [0, 1, 0x2f, 0x7f, 0x80, 0xff] {
                let mut grown = message.clone();
                grown.insert(at, byte);
                check_all(&grown);
            }
            let Some(&was) = message.get(at) else { continue };
            let mut changed = message.clone();
            for byte in [
                0,
                1,
                0x2f,
                0x7f,
                0x80,
                0xff,
                was ^ 1,
                was ^ 0x80,
                was.wrapping_add(1),
                was.wrapping_sub(1),
            ] {
                changed[at] = byte;
                check_all(&changed);
            }
            let mut shrunk = message.clone();
            shrunk.remove(at);
            check_all(&shrunk);
        }
    }
}

#[test]
fn a_single_byte_of_a_stream_changed_never_panics() {
    let stream: Vec<u8> = samples::all()
        .into_iter()
        .filter(|(_, frame)| frame.len() < 60)
        .flat_map(|(_, frame)| frame)
        .collect();
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut changed = stream.clone();
            changed[at] ^= 1 << bit;
            checks::frame(&changed);
        }
    }
}

#[test]
fn every_payload_read_as_every_other_type_never_panics() {
    let payloads: Vec<Vec<u8>> =
        samples_and_giants().iter().map(|(_, frame)| samples::open(frame).1).collect();
    for number in 0..=u8::MAX {
        for payload in &payloads {
            check_all(&[&[number], payload.as_slice()].concat());
        }
    }
}

#[test]
fn each_decoder_refuses_the_types_of_the_others() {
    for (name, frame) in samples::all() {
        let (kind, payload) = samples::open(&frame);
        let known = [
            Request::decode(kind, &payload).map(drop),
            Reply::decode(kind, &payload).map(drop),
            LinkMessage::decode(kind, &payload).map(drop),
        ];
        assert_eq!(known.iter().filter(|result| result.is_ok()).count(), 1, "{name}");
        assert_eq!(
            known
                .iter()
                .filter(
                    |result| matches!(result, Err(WireError::Unexpected(n)) if *n == kind.number())
                )
                .count(),
            2,
            "{name}"
        );
    }
    for result in [
        Request::decode(FrameType::Data, b"").map(drop),
        Request::decode(FrameType::Block, b"").map(drop),
        Reply::decode(FrameType::Block, b"").map(drop),
    ] {
        assert!(matches!(result, Err(WireError::Unexpected(0x94 | 0x21))));
    }
}
