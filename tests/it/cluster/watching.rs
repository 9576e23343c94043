//! Watches of a path: what a session sees of the changes of others, as they happen.

use relais_proto::{ErrorCode, EventKind, Kind, Lsn, PathEvent, Reply, Request};

use super::helpers::{open, operator, report};
use crate::harness::{
    Client, Cluster, RawClient, SOON, Standalone, eventually, make_folder, path, remove, rename,
    sessions,
};

/// Begins a watch; returns where it begins.
#[track_caller]
fn watch(wire: &mut RawClient, at: &str, after: Option<Lsn>) -> (Lsn, Vec<PathEvent>) {
    match wire.ask(&Request::Watch { path: path(at), after }) {
        Reply::Events { lsn, events } => (lsn, events),
        other => panic!("{other:?}"),
    }
}

/// Reads until the watch is at `lsn`.
#[track_caller]
fn until(wire: &mut RawClient, lsn: Lsn) -> Vec<PathEvent> {
    let mut all = Vec::new();
    loop {
        match wire.reply() {
            Reply::Events { lsn: at, events } => {
                all.extend(events);
                if at >= lsn {
                    return all;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

fn kinds(events: &[PathEvent]) -> Vec<(EventKind, &str)> {
    events.iter().map(|event| (event.kind.clone(), event.path.as_str())).collect()
}

/// Ends a watch by a ping; returns where it was.
#[track_caller]
fn cancel(wire: &mut RawClient) -> Lsn {
    wire.send(&[Request::Ping]);
    let lsn = loop {
        match wire.reply() {
            Reply::Events { .. } => {}
            Reply::Done { lsn } => break lsn,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wire.reply(), Reply::Pong);
    lsn
}

#[test]
fn a_watch_sees_changes_through_another_slave() {
    let cluster = Cluster::of(2).start();
    let (mut writer, mut watcher) = (open(&cluster, 0), open(&cluster, 1));
    let made = writer.change(&make_folder("d")).unwrap();
    watcher.send(&[Request::Seen { lsn: made }]);
    let (start, _) = watch(&mut watcher, "d", None);
    assert!(start >= made, "{start}");
    writer.change(&make_folder("elsewhere")).unwrap();
    writer.put("d/f", b"one").unwrap();
    let last = writer.put("d/f", b"three").unwrap();
    let events = until(&mut watcher, last);
    assert_eq!(kinds(&events), [(EventKind::Created, "d/f"), (EventKind::Changed, "d/f")]);
    let entry = events[1].entry.as_ref().unwrap();
    assert_eq!((&*entry.name, entry.kind, entry.size), ("f", Kind::File, 5));
    assert_eq!((events[1].lsn, entry.version), (last, Some(last)));
    writer.change(&rename("d/f", "d/g")).unwrap();
    writer.change(&rename("d/g", "elsewhere/g")).unwrap();
    writer.change(&rename("elsewhere/g", "d/h")).unwrap();
    writer.change(&remove("d/h", false)).unwrap();
    writer.change(&make_folder("d/sub")).unwrap();
    writer.put("d/sub/x", b"x").unwrap();
    let last = writer.change(&remove("d", true)).unwrap();
    let events = until(&mut watcher, last);
    let wanted = [
        (EventKind::Moved(path("d/f")), "d/g"),
        (EventKind::Removed, "d/g"),
        (EventKind::Created, "d/h"),
        (EventKind::Removed, "d/h"),
        (EventKind::Created, "d/sub"),
        (EventKind::Created, "d/sub/x"),
        (EventKind::Removed, "d"),
    ];
    assert_eq!(kinds(&events), wanted);
    assert_eq!(cancel(&mut watcher), last);
    // It continues at another slave, and misses nothing.
    let mut other = open(&cluster, 0);
    let (lsn, first) = watch(&mut other, "", Some(start));
    assert_eq!((lsn, first.len()), (last, 10));
    // A client that reads nothing for a while gets everything.
    for n in 0..200 {
        writer.change(&make_folder(&format!("many{n}"))).unwrap();
    }
    let last = writer.change(&make_folder("end")).unwrap();
    let events = until(&mut other, last);
    assert_eq!(events.len(), 201);
    assert!(events.is_sorted_by_key(|event| event.lsn));
}

#[test]
fn a_watch_of_an_unknown_position_is_told_where_to_go_on() {
    let slave = Standalone::start(&["--workers", "2"], &[]);
    let mut wires = sessions(slave.addr, 2);
    let (mut watcher, mut writer) = (wires.pop().unwrap(), wires.pop().unwrap());
    let last = writer.change(&make_folder("d")).unwrap();
    let unknown = Some(Lsn { epoch: 0, number: 1 });
    let reply = watcher.ask(&Request::Watch { path: path(""), after: unknown });
    assert_eq!(reply, Reply::EventsLost { lsn: last });
    watcher.ping();
    assert_eq!(watch(&mut watcher, "", Some(last)), (last, Vec::new()));
    let last = writer.change(&remove("d", false)).unwrap();
    assert_eq!(kinds(&until(&mut watcher, last)), [(EventKind::Removed, "d")]);
}

#[test]
fn draining_ends_a_watch() {
    let cluster = Cluster::of(2).start();
    let mut watcher = open(&cluster, 0);
    watch(&mut watcher, "", None);
    let id = report(&cluster, 0)["id"].as_str().unwrap().to_owned();
    let mut drain = operator(&cluster, &["drain", &id[..8]]).start();
    loop {
        match watcher.reply() {
            Reply::Events { .. } => {}
            Reply::Error(refusal) => break assert_eq!(refusal.code, ErrorCode::Draining),
            other => panic!("{other:?}"),
        }
    }
    drop(watcher);
    eventually(SOON, "the slave has no sessions", || {
        (report(&cluster, 0)["sessions"] == 0).then_some(())
    });
    assert_eq!(Client::finish(&mut drain).status, 0);
}
