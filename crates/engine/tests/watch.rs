//! Watches over a host in the same process.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod host;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use relais_engine::{Principal, Session, Watch, WatchUpdate};
use relais_proto::{ChangeId, ErrorCode, EventKind, Lsn, PathEvent, TreePath, limits};

use self::host::{Fixture, Waiting};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn patient() -> Waiting {
    Waiting::at_most(Duration::from_secs(30))
}

fn make_folder(session: &mut Session, name: &str, id: u8) -> Lsn {
    let change = session.make_folder(ChangeId([id; 16]), &path(name), &mut patient()).unwrap();
    session.commit(change, &mut patient()).unwrap().version
}

fn next(watch: &mut Watch) -> (Lsn, Vec<PathEvent>) {
    match watch.poll().unwrap() {
        WatchUpdate::Events { lsn, events, .. } => (lsn, events),
        lost => panic!("{lost:?}"),
    }
}

#[test]
fn watch_shows_changes_below_the_root_of_its_user() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut writer = fixture.session("ann");
        make_folder(&mut writer, "home", 1);
        let principal = Principal::new("ben", "192.0.2.1".parse().unwrap());
        let ben = fixture.session_of(Principal { root: path("home"), ..principal });
        let mut watch = ben.watch(&TreePath::root(), None, &mut patient()).unwrap();
        let (start, events) = next(&mut watch);
        assert_eq!((start.number, events), (2, Vec::new()));
        make_folder(&mut writer, "other", 2);
        let made = make_folder(&mut writer, "home/d", 3);
        let (lsn, events) = next(&mut watch);
        assert_eq!((lsn, events.len()), (made, 1));
        assert_eq!((&events[0].kind, &events[0].path), (&EventKind::Created, &path("d")));
        assert_eq!(events[0].entry.as_ref().unwrap().name, "d");
        assert_eq!(next(&mut watch), (made, Vec::new()));
        // The watch of another session continues after what the first one has seen.
        let mut again = ben.watch(&path("d"), Some(start), &mut patient()).unwrap();
        assert_eq!(next(&mut again), (made, events));
    });
}

#[test]
fn slow_or_old_watches_are_told_that_events_are_lost() {
    let fixture = Fixture::new();
    let store = fixture.complete_catalogue();
    let record = |from: u64, to: u64| {
        store.begin().unwrap();
        for number in from..=to {
            let version = Lsn { epoch: 1, number };
            store.record_event(version, &EventKind::Removed, &path("f")).unwrap();
            store.set_applied(version).unwrap();
        }
        store.commit().unwrap();
        fixture.state.applied.store(to, SeqCst);
    };
    record(1, 9);
    let session = fixture.session("ann");
    let mut slow = session.watch(&path("f"), None, &mut patient()).unwrap();
    assert_eq!(next(&mut slow).1, []);
    let last = 9 + limits::EVENTS as u64 + 128;
    record(10, last);
    let lost = WatchUpdate::Lost { lsn: Lsn { epoch: 1, number: last } };
    assert_eq!(slow.poll().unwrap(), lost);
    assert_eq!(slow.poll().unwrap(), lost);
    let old = Some(Lsn { epoch: 1, number: 9 });
    let mut old = session.watch(&path("f"), old, &mut patient()).unwrap();
    assert_eq!(old.poll().unwrap(), lost);
    // All pages together have each change once.
    let from = Some(Lsn { epoch: 1, number: last - 5000 });
    let mut watch = session.watch(&path("f"), from, &mut patient()).unwrap();
    let mut numbers = Vec::new();
    loop {
        let WatchUpdate::Events { lsn, events, more } = watch.poll().unwrap() else { panic!() };
        numbers.extend(events.iter().map(|event| event.lsn.number));
        assert_eq!(numbers.last(), Some(&lsn.number));
        if !more {
            break;
        }
    }
    assert!(numbers.into_iter().eq(last - 4999..=last));
}

#[test]
fn watch_waits_for_its_position_and_ends_with_the_engine() {
    let fixture = Fixture::new();
    fixture.complete_catalogue();
    let session = fixture.session("ann");
    let after = Some(Lsn { epoch: 1, number: 5 });
    let mut waiting = Waiting::at_most(Duration::from_millis(50));
    let refused = session.watch(&TreePath::root(), after, &mut waiting).err().unwrap();
    assert_eq!(refused.code, ErrorCode::Cut);
    let mut watch = session.watch(&TreePath::root(), None, &mut patient()).unwrap();
    assert_eq!(next(&mut watch).1, []);
    fixture.engine.begin_stop();
    assert_eq!(watch.poll().unwrap_err().code, ErrorCode::Draining);
}
