//! Streams of any size and range, and where their bytes come from.

use std::io::Write;
use std::net::SocketAddr;

use parking_lot::Mutex;

use super::holder::Fault;
use super::*;

#[test]
fn every_size_arrives_in_pieces() {
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 9 * MIB + 7] {
        let content = bytes(size);
        let holder = Holder::start(1, &content, Fault::None);
        let mut run = Run::whole(&content, &[&holder]);
        run.rest().unwrap();
        assert!(run.received == content, "{size}");
        let longest = holder.gets().iter().map(|(_, length)| *length).max();
        assert!(longest.unwrap_or(0) < relais_cluster::LARGE, "a request takes no slot");
    }
}

#[test]
fn a_range_begins_and_ends_at_its_pieces() {
    let content = bytes(7 * MIB + 5);
    let holder = Holder::start(1, &content, Fault::None);
    let mut run = Run::of(&content, &[&holder], (2, 4));
    assert!(run.next().unwrap());
    assert_eq!(run.reader.last().1, 2 * limits::PIECE);
    run.rest().unwrap();
    assert!(run.received == content[2 * MIB..4 * MIB]);
    assert_eq!(holder.gets(), [(2 * limits::PIECE, 2 * limits::PIECE)]);
}

#[test]
fn content_that_arrives_here_is_used() {
    let content = bytes(4 * MIB + 9);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let dying = Holder::start(1, &content, Fault::CutAfter(MIB + 5));
    let mut run = Run::whole(&content, &[&dying]);
    assert!(run.next().unwrap());
    dying.stop();
    run.catalogue.here = Some(file);
    run.rest().unwrap();
    assert!(run.received == content);
}

#[test]
fn a_damaged_file_here_is_not_used() {
    let content = bytes(4 * MIB + 9);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes(4 * MIB)).unwrap();
    let dying = Holder::start(1, &content, Fault::CutAfter(MIB + 5));
    let mut run = Run::whole(&content, &[&dying]);
    run.catalogue.here = Some(file);
    run.rest().unwrap();
    assert!(run.received == content);
}

#[test]
fn addresses_are_looked_up_again() {
    let content = bytes(2 * MIB);
    let gone = SocketAddr::from(([127, 0, 0, 1], 1));
    let moved = Holder::start(1, &content, Fault::None);
    let mut peer = moved.peer.clone();
    peer.addrs = vec![gone];
    /// A catalogue that learns the new address after the first look.
    struct Learns(Mutex<Vec<PeerSlave>>, PeerSlave);
    impl HolderLookup for Learns {
        fn holders(&self) -> Result<Vec<PeerSlave>, Refusal> {
            Ok(std::mem::replace(&mut *self.0.lock(), vec![self.1.clone()]))
        }
        fn is_current(&self) -> Result<bool, Refusal> {
            Ok(true)
        }
        fn open_here(&self, _: &mut dyn KeepAlive) -> Result<Option<File>, Refusal> {
            Ok(None)
        }
    }
    let learns = Learns(Mutex::new(vec![peer]), moved.peer.clone());
    let mut run = Run::whole(&content, &[]);
    assert!(run.reader.advance(&learns, &mut run.client).unwrap());
    assert!(run.reader.last().0 == &content[..MIB]);
}

#[test]
fn streams_of_a_worker_are_limited() {
    let dialer = Dialer::new(TlsMode::Never).unwrap();
    let dialer = Arc::new(ReplicaDialer::with_key(dialer, SlaveId([1; 16]), || None));
    let mut permits: Vec<_> = std::iter::from_fn(|| dialer.permit()).collect();
    assert_eq!(permits.len(), 16);
    permits.pop();
    assert!(dialer.permit().is_some());
}

#[test]
fn values_are_proved_once_for_all_ranges() {
    let content = bytes(5 * MIB);
    // Its values are wrong, so a range that asks for them fails.
    let holder = Holder::start(1, &content, Fault::DamagedAt(0));
    let good = Holder::start(2, &content, Fault::None);
    let mut first = Run::of(&content, &[&good], (4, 5));
    first.rest().unwrap();
    let mut second = Run::with_dialer(&content, &[&holder], (2, 4), first.dialer.clone());
    second.rest().unwrap();
    assert!(second.received == content[2 * MIB..4 * MIB]);
}
