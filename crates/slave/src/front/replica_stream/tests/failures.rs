//! Slaves that die, lie, refuse and are silent during a stream, and clients that go.

use relais_proto::ErrorCode;

use super::holder::{BLOCK, Fault};
use super::*;

#[test]
fn another_slave_continues_at_the_same_piece() {
    let content = bytes(6 * MIB + 1);
    for cut in [1, BLOCK, MIB, MIB + 1, 3 * MIB - 1, 4 * MIB, 6 * MIB] {
        let dying = Holder::start(1, &content, Fault::CutAfter(cut));
        let other = Holder::start(2, &content, Fault::None);
        let mut run = Run::whole(&content, &[&dying, &other]);
        run.rest().unwrap();
        assert!(run.received == content, "cut after {cut}");
        let piece = u64::try_from(cut / MIB).unwrap();
        assert_eq!(other.gets()[0].0, piece * limits::PIECE, "cut after {cut}");
        assert_eq!(dying.gets()[0].0, 0);
    }
}

#[test]
fn slaves_that_die_in_turn_are_used_in_turn() {
    let content = bytes(9 * MIB);
    let dying = [1, 2].map(|n| Holder::start(n, &content, Fault::CutAfter(2 * MIB + 10)));
    let mut run = Run::whole(&content, &[&dying[0], &dying[1]]);
    run.rest().unwrap();
    assert!(run.received == content);
    assert!(dying.iter().all(|holder| holder.gets().len() >= 2));
}

#[test]
fn a_damaged_copy_is_left_for_good() {
    let content = bytes(5 * MIB);
    for fault in [Fault::DamagedAt(3 * MIB + 9), Fault::LiesAt(3 * MIB + 9)] {
        let damaged = Holder::start(1, &content, fault);
        // The damaged one would be asked again after this one has died.
        let dying = Holder::start(2, &content, Fault::CutAfter(MIB + 3));
        let mut run = Run::whole(&content, &[&damaged, &dying]);
        run.rest().unwrap();
        assert!(run.received == content, "{fault:?}");
        assert!(damaged.gets().len() <= 1, "{fault:?}: {:?}", damaged.gets());
    }
}

#[test]
fn damage_of_small_content_is_found() {
    let content = bytes(1000);
    let damaged = Holder::start(1, &content, Fault::DamagedAt(999));
    let mut run = Run::whole(&content, &[&damaged]);
    let refusal = run.rest().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Damaged, "{refusal}");
    assert!(run.received.is_empty());
    let good = Holder::start(2, &content, Fault::None);
    let mut run = Run::whole(&content, &[&damaged, &good]);
    run.rest().unwrap();
    assert!(run.received == content);
}

#[test]
fn a_slave_that_refuses_is_left() {
    let content = bytes(2 * MIB);
    for code in ErrorCode::ALL {
        let refusing = Holder::start(1, &content, Fault::Refuses(*code));
        let other = Holder::start(2, &content, Fault::None);
        let mut run = Run::whole(&content, &[&refusing, &other]);
        run.rest().unwrap_or_else(|e| panic!("{code}: {e}"));
        assert!(run.received == content, "{code}");
    }
}

#[test]
fn a_silent_slave_is_left() {
    let content = bytes(3 * MIB);
    let silent = Holder::start(1, &content, Fault::StallAfter(MIB + 100));
    let other = Holder::start(2, &content, Fault::None);
    let mut run = Run::whole(&content, &[&silent, &other]);
    let began = Instant::now();
    run.rest().unwrap();
    assert!(run.received == content);
    assert!(began.elapsed() >= limits::SILENCE);
}

#[test]
fn without_a_slave_the_stream_ends() {
    let content = bytes(3 * MIB);
    let holder = Holder::start(1, &content, Fault::CutAfter(MIB + 100));
    let mut run = Run::whole(&content, &[&holder]);
    assert!(run.next().unwrap());
    holder.stop();
    let refusal = run.rest().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::NoContent, "{refusal}");
    // The addresses of slaves are none of the client's business.
    assert!(!refusal.message.contains("127.0.0.1"), "{refusal}");
    assert!(run.received == content[..MIB]);
    let mut run = Run::whole(&content, &[]);
    assert_eq!(run.rest().unwrap_err().code, ErrorCode::NoContent);
}

#[test]
fn a_client_that_goes_ends_the_wait() {
    let content = bytes(3 * MIB);
    let silent = Holder::start(1, &content, Fault::StallAfter(100));
    let mut run = Run::whole(&content, &[&silent]);
    let began = Instant::now();
    run.client = Client(Some(began + Duration::from_millis(200)));
    assert_eq!(run.rest().unwrap_err().code, ErrorCode::Cut);
    assert!(began.elapsed() < limits::SILENCE / 2, "{:?}", began.elapsed());
}

#[test]
fn replaced_content_is_not_joined_to_other_content() {
    let content = bytes(3 * MIB);
    let dying = Holder::start(1, &content, Fault::CutAfter(MIB + 5));
    let changed = Holder::start(2, &content, Fault::Refuses(ErrorCode::Changed));
    let mut run = Run::whole(&content, &[&dying, &changed]);
    assert!(run.next().unwrap());
    run.catalogue.is_replaced = true;
    assert_eq!(run.rest().unwrap_err().code, ErrorCode::Changed);
    assert!(run.received == content[..MIB]);
}
