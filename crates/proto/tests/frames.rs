//! Frames over a stream: ends, cuts, caps and memory.

use relais_proto::{FrameHeader, FrameType, WireError, encode_frame, limits};

#[path = "common/frames.rs"]
mod frames;

use frames::read_frame;

#[test]
fn a_clean_end_is_none_and_a_cut_is_an_error() {
    let mut frame = Vec::new();
    encode_frame(&mut frame, FrameType::Ping, |to| to.extend_from_slice(&[7; 2000]));
    let mut payload = Vec::new();
    for cut in 0..frame.len() {
        let result = read_frame(&mut &frame[..cut], &mut payload);
        match cut {
            0 => assert!(matches!(result, Ok(None))),
            _ => assert!(matches!(result, Err(WireError::Truncated)), "cut at {cut}"),
        }
    }
    assert_eq!(read_frame(&mut frame.as_slice(), &mut payload).unwrap(), Some(FrameType::Ping));
    assert_eq!(payload, [7; 2000]);
}

#[test]
fn lengths_over_the_cap_are_refused_before_allocation() {
    for (kind, len) in [
        (FrameType::Ping, 64 * 1024 + 1),
        (FrameType::Block, 4 * 1024 * 1024 + 1),
        (FrameType::Get, 1 << 31),
        (FrameType::Block, u32::MAX),
    ] {
        let header = FrameHeader { kind, len }.to_bytes();
        let mut payload = Vec::new();
        assert!(matches!(
            read_frame(&mut header.as_slice(), &mut payload),
            Err(WireError::FrameTooLong { .. })
        ));
        assert_eq!(payload.capacity(), 0);
    }
}

#[test]
fn an_announced_payload_that_does_not_come_takes_no_memory() {
    let header = FrameHeader { kind: FrameType::Block, len: limits::BLOCK_MAX }.to_bytes();
    let mut payload = Vec::new();
    assert!(matches!(read_frame(&mut header.as_slice(), &mut payload), Err(WireError::Truncated)));
    assert!(payload.capacity() <= 512);
}

#[test]
fn unknown_types_are_named() {
    let mut payload = Vec::new();
    assert!(matches!(
        read_frame(&mut [0, 0, 0, 0, 0xee].as_slice(), &mut payload),
        Err(WireError::UnknownType(0xee))
    ));
}
