//! Contents that were fetched, and get their names in batches.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use relais_proto::{Change, Mode};
use relais_storage::StagedName;

use crate::harness::{Replica, committed, fetches, lsn, path, put};

const MODE: Mode = Mode::new(0o644);

fn three() -> Vec<relais_proto::CommittedEntry> {
    vec![
        committed(1, put("a", "one")),
        committed(2, put("b", "two")),
        committed(3, put("c", "three")),
    ]
}

#[test]
fn contents_get_their_names_and_leave_nothing_staged() {
    let mut replica = Replica::new();
    replica.commit(three());
    // One of them has the mode of another slave, and needs more steps.
    replica.deliver_all(&[(1, "one"), (2, "two")], MODE);
    replica.deliver_all(&[(3, "three")], Mode::new(0o600));
    let read = ["a", "b", "c"].map(|name| replica.read(name));
    assert_eq!(read, ["one", "two", "three"]);
    for name in ["a", "b", "c"] {
        assert_eq!(fs::metadata(replica.host(name)).unwrap().permissions().mode() & 0o777, 0o644);
        let row = replica.scanner.store.row(&path(name)).unwrap().unwrap();
        assert!(row.here, "{name}");
    }
    assert_eq!((replica.staged(), replica.quarantined()), (0, 0));
    replica.scan();
    let detected = replica.scanner.take_detected();
    assert!(detected.edited.is_empty() && detected.vanished.is_empty(), "{detected:?}");
}

#[test]
fn file_that_a_user_puts_there_meanwhile_is_quarantined() {
    let mut replica = Replica::new();
    replica.commit(three());
    fs::write(replica.host("b"), "of a user").unwrap();
    fs::create_dir(replica.host("c")).unwrap();
    replica.deliver_all(&[(1, "one"), (2, "two"), (3, "three")], MODE);
    let read = ["a", "b", "c"].map(|name| replica.read(name));
    assert_eq!(read, ["one", "two", "three"]);
    assert_eq!((replica.staged(), replica.quarantined()), (0, 2));
}

#[test]
fn content_of_a_file_that_moved_or_went_is_not_published_at_its_old_path() {
    let mut replica = Replica::new();
    replica.commit(three());
    replica.commit(vec![
        committed(4, Change::Move { from: path("a"), to: path("moved") }),
        committed(5, Change::Remove { path: path("b"), recursive: false }),
        committed(6, put("c", "newer")),
    ]);
    replica.deliver_all(&[(1, "one"), (2, "two"), (3, "three")], MODE);
    assert_eq!((replica.read("moved"), replica.staged()), ("one".to_owned(), 0));
    assert!(["a", "b", "c"].iter().all(|name| !replica.host(name).exists()));
}

#[test]
fn scan_leaves_contents_alone_that_are_still_to_come() {
    let mut replica = Replica::new();
    replica.commit(three());
    replica.scan();
    let detected = replica.scanner.take_detected();
    assert!(detected.vanished.is_empty(), "{detected:?}");
    replica.deliver_all(&[(1, "one"), (2, "two"), (3, "three")], MODE);
    fs::remove_file(replica.host("b")).unwrap();
    replica.scan();
    let vanished = replica.scanner.take_detected().vanished;
    assert_eq!(vanished, [(path("b"), false)]);
}

#[test]
fn slave_killed_in_a_batch_finds_what_it_has_published() {
    for published in 0..=3 {
        let mut replica = Replica::new();
        replica.commit(three());
        // The batch is cut after any of its renames, before it is recorded.
        let mut replica = replica.reopen(lsn(3), |dir| {
            for (number, (name, content)) in
                [("a", "one"), ("b", "two"), ("c", "three")].into_iter().enumerate()
            {
                let staged = StagedName::for_attempt(lsn(number as u64 + 1), 9).to_string();
                let staged = dir.path().join(".relais/staging").join(staged);
                fs::write(&staged, content).unwrap();
                if number < published {
                    fs::rename(staged, dir.path().join(name)).unwrap();
                }
            }
        });
        assert_eq!(replica.staged(), 0, "files of an earlier process are of no use");
        replica.commit(Vec::new());
        replica.deliver_all(&[(1, "one"), (2, "two"), (3, "three")], MODE);
        let read = ["a", "b", "c"].map(|name| replica.read(name));
        assert_eq!(read, ["one", "two", "three"]);
        assert_eq!((replica.staged(), replica.quarantined()), (0, 0), "{published}");
        assert!(fetches(&replica.link(Vec::new())).is_empty());
    }
}
