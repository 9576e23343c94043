//! No decoder takes more memory than a small multiple of what it received.
//!
//! The allocator counts for the whole process, so this file holds one test
//! and nothing runs beside it.

use peak_alloc::PeakAlloc;
use relais_proto::{Endpoint, FrameHeader, FrameType, LinkMessage, Reply, Request, limits};

#[path = "common/frames.rs"]
mod frames;
#[path = "common/mutate.rs"]
mod mutate;
#[allow(dead_code)] // The tests share it; each uses a part.
#[path = "common/samples.rs"]
mod samples;

use frames::{read_frame, write_frame};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes for each byte received: an address of 7 bytes takes 32 in memory, a list
/// that grows holds its old and its new place for a moment, and begins with room for four.
const FACTOR: usize = 8;
/// The same where a tree is told, by one who has proved the key of the cluster: an entry takes 120
/// bytes in memory and may come without its content, in 15 bytes, or as one that is not there any
/// more, in 3.
const TREE_FACTOR: usize = 128;
/// Bytes for any message, however short: first steps of buffers and lists.
const BASE: usize = 4096;
const SEED: u64 = 7;

/// The most memory that `work` held at once, beyond what was held before.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = work();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    drop(result);
    peak
}

fn check(what: &str, kind: FrameType, payload: &[u8]) {
    let factor =
        if matches!(kind, FrameType::ToSlave | FrameType::TreePage) { TREE_FACTOR } else { FACTOR };
    let most = factor * payload.len() + BASE;
    for (decoder, peak) in [
        ("request", peak_of(|| Request::decode(kind, payload))),
        ("reply", peak_of(|| Reply::decode(kind, payload))),
        ("link", peak_of(|| LinkMessage::decode(kind, payload))),
    ] {
        assert!(
            peak <= most,
            "{what}: the {decoder} decoder took {peak} bytes for {}",
            payload.len()
        );
    }
    if let Ok(Reply::Entries(page)) = Reply::decode(kind, payload) {
        let peak = peak_of(|| page.iter().count());
        assert!(peak <= BASE, "{what}: entries are decoded one by one, and took {peak} bytes");
    }
}

fn check_stream(what: &str, bytes: &[u8]) {
    let peak = peak_of(|| {
        let mut from = bytes;
        let mut payload = Vec::new();
        while let Ok(Some(_)) = read_frame(&mut from, &mut payload) {}
        payload
    });
    assert!(
        peak <= FACTOR * bytes.len() + BASE,
        "{what}: reading {} bytes took {peak}",
        bytes.len()
    );
}

/// Redirects made of the shortest slaves, which grow the most in memory.
fn short_slaves() -> Vec<(String, Vec<u8>)> {
    let redirect = |slaves: Vec<Endpoint>| {
        let mut frame = Vec::new();
        Reply::Redirect { ticket: Vec::new(), lsn: samples::LOW, slaves }.encode(&mut frame);
        frame
    };
    let v4_only = |count| {
        let mut slaves = samples::slaves(count, 1);
        slaves.iter_mut().for_each(|slave| slave.addrs = samples::addrs(1));
        slaves
    };
    (1..=limits::REDIRECT_SLAVES)
        .map(|count| (format!("{count} slaves"), redirect(v4_only(count))))
        .collect()
}

/// Lists of the shortest entries, just when they grow.
fn short_entries() -> Vec<(String, Vec<u8>)> {
    let restored = |count: usize| {
        [
            [4, 0, 1].as_slice(),
            &[0; 36],
            &[1, 0, 0, 0, 0],
            &[0; 2],
            &count.to_be_bytes()[6..],
            &vec![0; count * 3],
        ]
        .concat()
    };
    let entries = |count: usize| {
        [[2].as_slice(), &count.to_be_bytes()[6..], &vec![0; count * 17 + 2 + 6]].concat()
    };
    let mut frames = Vec::new();
    for count in [1, 4, 5, 9, 129, 1025, 2049, limits::LINK_LIST] {
        // More do not fit into a frame.
        let placed = count.min((limits::CONTROL_FRAME as usize - 11) / 17);
        for (what, payload) in [("restored", restored(count)), ("entries", entries(placed))] {
            assert!(LinkMessage::decode(FrameType::ToSlave, &payload).is_ok(), "{count} {what}");
            let mut frame = Vec::new();
            assert!(write_frame(&mut frame, FrameType::ToSlave, &payload).is_ok());
            frames.push((format!("{count} {what}"), frame));
        }
    }
    frames
}

/// Frames that announce the most and hold next to nothing.
fn empty_promises() -> Vec<(FrameType, Vec<u8>)> {
    let mut promises = Vec::new();
    for (_, frame) in samples::all() {
        let (kind, payload) = samples::open(&frame);
        for at in 0..payload.len().min(64) {
            for edge in mutate::EDGES {
                for width in [2, 4, 8] {
                    let mut promise = payload[..at].to_vec();
                    promise.extend_from_slice(&edge.to_be_bytes()[8 - width..]);
                    promises.push((kind, promise));
                }
            }
        }
    }
    promises
}

#[test]
fn memory_follows_what_was_received() {
    assert!(peak_of(|| vec![1_u8; 100_000]) >= 100_000, "the allocator counts");
    let mut frames = samples::all();
    frames.extend(samples::giants());
    frames.extend(short_slaves());
    frames.extend(short_entries());
    for (name, frame) in &frames {
        let (kind, payload) = samples::open(frame);
        check(name, kind, &payload);
        check_stream(name, frame);
    }
    for (kind, payload) in empty_promises() {
        check("an empty promise", kind, &payload);
    }
    for kind in FrameType::ALL {
        for sent in [0, 1, 511, 512, 513, 5000] {
            let mut stream = FrameHeader { kind: *kind, len: kind.cap() }.to_bytes().to_vec();
            stream.resize(stream.len() + sent, 0);
            check_stream(&format!("{kind:?} of which {sent} bytes came"), &stream);
        }
    }
    let inputs: Vec<Vec<u8>> = frames.iter().map(|(_, frame)| frame.clone()).collect();
    let mut chance = mutate::Chance::new(SEED);
    for turn in 0..50_000 {
        let mut input = chance.pick(&inputs).clone();
        mutate::mutate(&mut input, &inputs, &mut chance);
        check_stream(&format!("input {turn}"), &input);
        if let Some((number, payload)) = input.get(4..).and_then(<[u8]>::split_first)
            && let Ok(kind) = FrameType::from_number(*number)
        {
            check(&format!("input {turn}"), kind, payload);
        }
    }
}
