//! What a client of a later version sends to a slave of this one.

use relais_proto::{Capabilities, ErrorCode, Login, Reply, Request};

use super::stat;
use crate::harness::{
    Cluster, RawClient, SOON, Standalone, data, encoded, hello, put, put_end, sessions,
};

/// A frame of a type that this version does not know.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], &[kind], payload].concat()
}

/// Encodes a `Put` without optional fields, followed by these.
fn put_with(name: &str, size: usize, optional: &[u8]) -> Vec<u8> {
    let mut frame = encoded(&[Request::Put(put(name, size))]);
    let end = frame.len() - 2;
    assert_eq!(frame[end..], [0, 0], "an empty list of optional fields");
    frame.truncate(end);
    frame.extend(u16::try_from(optional.len()).unwrap().to_be_bytes());
    frame.extend(optional);
    let length = u32::try_from(frame.len() - 5).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

#[test]
fn ignorable_frames_are_skipped_inside_an_upload() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    // 30 is known, and belongs between requests.
    let (first, last) = (frame(0x31, b""), frame(0x3f, &[7; 8448]));
    wire.raw(&[&first[..], &encoded(&[Request::Put(put("f", 6))]), &last].concat());
    wire.raw(&[data(b"abc"), first.clone(), last.clone(), data(b"def"), first, last].concat());
    wire.send(&[put_end(b"abcdef")]);
    wire.committed().unwrap();
    assert_eq!(wire.fetch("f").unwrap(), b"abcdef");
}

#[test]
fn unknown_optional_fields_are_skipped() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    // Tag 2 is the mode; tags 0 and 99 are unknown.
    wire.raw(&put_with("f", 1, &[0, 0, 0, 2, 0, 2, 0x01, 0x80, 99, 0, 3, 1, 2, 3]));
    wire.raw(&data(b"x"));
    wire.send(&[put_end(b"x")]);
    wire.committed().unwrap();
    assert_eq!(stat(&mut wire, "f").unwrap().0.mode, relais_proto::Mode::new(0o600));
    // Descending and repeated tags, and a length beyond the end.
    for malformed in [&[99, 0, 0, 98, 0, 0][..], &[99, 0, 0, 99, 0, 0], &[99, 0, 1]] {
        let mut wire = sessions(slave.addr, 1).remove(0);
        wire.raw(&put_with("g", 1, malformed));
        let reply = wire.reply();
        assert!(
            matches!(&reply, Reply::Error(r) if r.code == ErrorCode::BadRequest),
            "{malformed:?}: {reply:?}"
        );
        wire.closed_within(SOON);
    }
}

#[test]
fn unknown_capabilities_are_ignored() {
    let (slave, cluster) = (Standalone::start(&[], &[]), Cluster::of(1).start());
    let mut greeting = encoded(&[hello()]);
    // Role and versions precede the capabilities.
    greeting[5 + 9..5 + 17].fill(0xff);
    for addr in [slave.addr, cluster.addr] {
        let mut wire = RawClient::connect(addr);
        wire.raw(&greeting);
        wire.send(&[Request::Login(Login::default())]);
        let reply = wire.reply();
        assert!(
            matches!(&reply, Reply::Welcome { capabilities, .. }
                if *capabilities == Capabilities::default()),
            "{reply:?}"
        );
        let reply = wire.reply();
        assert!(matches!(reply, Reply::Opened { .. } | Reply::Redirect { .. }), "{reply:?}");
    }
}
