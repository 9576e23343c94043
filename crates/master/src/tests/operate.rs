//! Operators' operations, with slaves that answer queries for their trees.

use std::sync::mpsc::{Receiver, channel};

use relais_cluster::first_history_hash;
use relais_proto::{
    Annotations, ContentHashes, ErrorCode, HistoryHash, Lock, LockToken, Lsn, PathPage, Property,
    PropertyName, ReplicaPosition, Sha256, Timeline, ToMaster, ToSlave, TreeEntry, TreePage,
    TreePath, metric,
};

use super::changes::{committed, committed_up_to, hear, join, joined, propose, put, say, version};
use super::*;
use crate::Operation;

/// Runs an operation; returns its success and its lines.
fn done(master: &Running, operation: Operation) -> (bool, Vec<String>) {
    done_at(&master.addr.to_string(), &master.key, operation)
}

fn done_at(master: &str, key: &ClusterKey, operation: Operation) -> (bool, Vec<String>) {
    let mut lines = Vec::new();
    let mut operator = OperatorClient::connect(master, key, TlsMode::Remote).unwrap();
    let ok = operator.operate(operation, |line| lines.push(line.to_owned())).unwrap();
    (ok, lines)
}

fn id(n: u8) -> String {
    SlaveId([n; 16]).to_string()
}

/// Answers queries and sends heartbeats; passes on other messages.
fn answering(mut connection: Connection, tree: TreePage) -> Receiver<LinkMessage> {
    let (to, heard) = channel();
    std::thread::spawn(move || {
        connection.set_silence(Duration::from_millis(50));
        loop {
            let message = match next(&mut connection) {
                Err(LinkError::Wire(relais_proto::WireError::Io(error)))
                    if error.kind() == std::io::ErrorKind::TimedOut =>
                {
                    connection.queue_link(&heartbeat());
                    if connection.flush().is_err() {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
                Ok(message) => message,
            };
            if answer(&mut connection, &message, &tree).is_err() || to.send(message).is_err() {
                return;
            }
        }
    });
    heard
}

/// Answers queries: the tree in two parts, and no refused paths.
fn answer(
    connection: &mut Connection,
    message: &LinkMessage,
    tree: &TreePage,
) -> std::io::Result<()> {
    match *message {
        LinkMessage::AskTree { query, ids } => {
            let mut entries = tree.entries.clone();
            let rest = entries.split_off(entries.len() / 2);
            let known = if ids { tree.ids.clone() } else { Vec::new() };
            let first = TreePage { query, entries, ids: known, last: false, ..tree.clone() };
            connection.queue_link(&LinkMessage::TreePage(first));
            let second = TreePage {
                query,
                entries: rest,
                ids: Vec::new(),
                annotations: Annotations::default(),
                position: tree.position,
                timelines: Vec::new(),
                last: true,
            };
            connection.queue_link(&LinkMessage::TreePage(second));
        }
        LinkMessage::AskPaths { query, .. } => {
            let none = PathPage { query, paths: Vec::new(), total: 0, last: true };
            connection.queue_link(&LinkMessage::PathPage(none));
        }
        _ => {}
    }
    connection.flush()
}

/// A property and a lock of a path, and hashes of the content of its put.
fn annotations_of(at: &str, put: Lsn) -> Annotations {
    let path = TreePath::new(at).unwrap();
    let name = PropertyName { namespace: "DAV:".into(), local: "p".into() };
    let lock = Lock {
        token: LockToken([1; 16]),
        account: 1,
        user: "ann".into(),
        owner: String::new(),
        exclusive: true,
        deep: false,
        expires_ms: u64::MAX,
    };
    let hashes = ContentHashes {
        sha256: Sha256([3; 32]),
        piece_size: relais_proto::limits::PIECE,
        pieces: Vec::new(),
    };
    Annotations {
        properties: vec![(path.clone(), Property { name, value: "v".into() })],
        locks: vec![(path, lock)],
        hashes: vec![(put, hashes)],
    }
}

/// Makes the tree of the first puts, with all contents.
fn tree_of(chain: HistoryHash, puts: &[(u8, &str)]) -> TreePage {
    let entry = |n: u8, name: &str| {
        let relais_proto::Change::Put { size, digest, mtime, mode, .. } = put(n, name).change
        else {
            panic!("no put")
        };
        let content = relais_proto::FileContent { put: version(n.into()), digest, size, mtime };
        (
            TreePath::new(name).unwrap(),
            TreeEntry { version: version(n.into()), mode, content: Some(content) },
            true,
        )
    };
    let applied = puts.last().map_or(Lsn::default(), |(n, _)| version((*n).into()));
    TreePage {
        query: 0,
        entries: puts.iter().map(|(n, name)| entry(*n, name)).collect(),
        ids: puts
            .iter()
            .map(|(n, _)| (relais_proto::ChangeId([*n; 16]), version((*n).into())))
            .collect(),
        annotations: Annotations::default(),
        position: ReplicaPosition { applied, chain, epoch: 1 },
        timelines: vec![Timeline { after: Lsn::default(), id: [7; 16] }],
        last: true,
    }
}

#[test]
fn a_drained_slave_gets_no_clients_even_after_a_reconnect() {
    let master = Running::start();
    let (mut one, _two) = (slave(&master, 1), slave(&master, 2));
    assert_eq!(master.redirect().unwrap().len(), 2);
    let idle = Metrics::default().with(metric::WORKERS, 1);
    let idle = LinkMessage::Heartbeat(Heartbeat {
        state: SlaveState::InService,
        lsn: Lsn::default(),
        metrics: idle,
        last_error: String::new(),
        disk: relais_proto::DiskSpace::default(),
        scrub: relais_proto::Scrub::default(),
    });
    let address = (master.addr.to_string(), master.key.clone());
    let drained = std::thread::spawn(move || {
        done_at(&address.0, &address.1, Operation::Drain(id(1)[..4].to_owned()))
    });
    // It gets the order with its next heartbeat, and has no sessions at the one after.
    let draining = |connection: &mut Connection| match next(connection).unwrap() {
        LinkMessage::HeartbeatAck { draining, .. } => draining,
        other => panic!("{other:?}"),
    };
    let begun = Instant::now();
    loop {
        one.queue_link(&heartbeat());
        one.flush().unwrap();
        if draining(&mut one) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(master.redirect().unwrap(), [2]);
    assert!(!drained.is_finished());
    one.queue_link(&idle);
    one.flush().unwrap();
    assert!(draining(&mut one));
    let (ok, lines) = drained.join().unwrap();
    assert!(ok && lines.last().unwrap().contains("no sessions"), "{lines:?}");
    let report = report(&master, &master.key).unwrap();
    assert_eq!(report.slaves[0].state, SlaveState::Draining);
    drop(one);
    let _one = slave(&master, 1);
    assert_eq!(master.redirect().unwrap(), [2], "also when it comes back");
    let (ok, lines) = done(&master, Operation::Ready("127.0.0.1:1001".to_owned()));
    assert!(ok, "{lines:?}");
    assert_eq!(master.redirect().unwrap().len(), 2, "at once");
    assert!(!done(&master, Operation::Drain("0101".repeat(9))).0);
}

#[test]
fn a_forgotten_slave_is_removed_with_its_folder() {
    let mut master = Running::start();
    let two = joined(&master, 2);
    let mut one = joined(&master, 1);
    let (ok, lines) = done(&master, Operation::Forget(id(2)));
    assert!(!ok && lines[0].contains("is linked"), "{lines:?}");
    propose(&mut one, put(1, "a"));
    committed(&mut one);
    drop(two);
    let begun = Instant::now();
    while !done(&master, Operation::Forget(id(2))).0 {
        assert!(begun.elapsed() < PATIENCE);
    }
    let report = report(&master, &master.key).unwrap();
    assert_eq!(report.slaves.iter().map(|slave| slave.id.0[0]).collect::<Vec<_>>(), [1]);
    drop(one);
    master.end();
    // A slave without a link since the start is forgotten by its folder.
    let folders = std::fs::read_to_string(master.state.path().join("folders")).unwrap();
    assert!(folders.contains(&id(1)) && !folders.contains(&id(2)), "{folders}");
    let master = master.again();
    let (ok, lines) = done(&master, Operation::Forget("zzzz".to_owned()));
    assert!(!ok && lines[0].contains(&id(1)), "{lines:?}");
    assert!(done(&master, Operation::Forget(id(1)[..6].to_owned())).0);
    let folders = std::fs::read_to_string(master.state.path().join("folders")).unwrap();
    assert!(folders.ends_with("\nend 0\n"), "{folders}");
}

#[test]
fn diff_names_each_difference() {
    let master = Running::start();
    let mut chain = first_history_hash(master.key.cluster_id());
    let mut one = joined(&master, 1);
    for (n, name) in [(1, "a"), (2, "b"), (3, "c")] {
        propose(&mut one, put(n, name));
        match hear(&mut one) {
            ToSlave::Commit { changes } => changes
                .iter()
                .for_each(|change| chain = relais_cluster::next_history_hash(chain, &change.entry)),
            other => panic!("{other:?}"),
        }
        say(&mut one, ToMaster::Ready);
    }
    let good = tree_of(chain, &[(1, "a"), (2, "b"), (3, "c")]);
    let mut bad = tree_of(chain, &[(1, "a"), (2, "x"), (3, "c")]);
    bad.entries[2].2 = false;
    let _one = answering(one, good.clone());
    let (ok, lines) = done(&master, Operation::Diff);
    assert!(ok, "{lines:?}");
    let _two = answering(joined(&master, 2), bad);
    let (ok, lines) = done(&master, Operation::Diff);
    let all = lines.join("\n");
    assert!(!ok, "{all}");
    for line in ["/b: missing", "/x: extra", "/c: content not there yet"] {
        assert!(lines.contains(&format!("{} {line}", id(2))), "{all}");
    }
    assert!(all.contains("the same at 1-3") && all.contains("1 of 2 slaves differ"), "{all}");
    // A slave that never reaches the master's number.
    let behind = tree_of(chain, &[(1, "a")]);
    let _three = answering(joined(&master, 3), behind);
    let (ok, lines) = done(&master, Operation::Diff);
    assert!(
        !ok && lines.join("\n").contains("cannot be compared: it is at 1-1 and the master at 1-3"),
        "{lines:?}"
    );
}

#[test]
fn the_journal_is_exported_in_order() {
    let mut master = Running::start();
    {
        let mut one = joined(&master, 1);
        for n in 1..=20 {
            propose(&mut one, put(n, "a"));
        }
        committed_up_to(&mut one, 20);
    }
    for _ in 0..2 {
        let (ok, lines) = done(&master, Operation::Export);
        assert!(ok);
        let numbers: Vec<String> = lines
            .iter()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["number"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(numbers, (1..=20).map(|n| format!("1-{n}")).collect::<Vec<_>>());
        master.end();
        master = master.again();
    }
}

#[test]
fn a_scrub_is_ordered_with_heartbeats() {
    let master = Running::start();
    let mut one = slave(&master, 1);
    assert!(done(&master, Operation::Scrub { wait: false }).0);
    one.queue_link(&heartbeat());
    one.flush().unwrap();
    assert!(matches!(
        next(&mut one).unwrap(),
        LinkMessage::HeartbeatAck { scrubs: 1, draining: false, .. }
    ));
}

#[test]
fn recovery_uses_the_slave_with_the_latest_change() {
    let mut master = Running::start();
    let (ok, lines) = done(&master, Operation::Recover { go: true });
    assert!(ok && lines.last().unwrap().contains("nothing to recover"), "{lines:?}");
    let (mut one, mut two) = (slave(&master, 1), slave(&master, 2));
    let mut ahead = tree_of(HistoryHash([5; 32]), &[(1, "a"), (2, "b"), (3, "c")]);
    ahead.annotations = annotations_of("a", version(1));
    let behind = ReplicaPosition { applied: version(2), chain: HistoryHash([4; 32]), epoch: 3 };
    assert!(matches!(join(&mut one, 1, ahead.position), ToSlave::Refuse { .. }));
    assert!(matches!(join(&mut two, 2, behind), ToSlave::Refuse { .. }));
    let (one, two) = (answering(one, ahead.clone()), answering(two, ahead.clone()));
    let (ok, lines) = done(&master, Operation::Recover { go: false });
    let all = lines.join("\n");
    assert!(ok && all.contains(&format!("slave {}: last change 1-3, epoch 1", id(1))), "{all}");
    assert!(all.contains(&format!("slave {}: last change 1-2, epoch 3", id(2))), "{all}");
    assert!(
        all.contains(&format!(
            "with --yes the tree of slave {}, at change 1-3, becomes that of all slaves, in epoch 4",
            id(1)
        )),
        "{all}"
    );

    let (ok, lines) = done(&master, Operation::Recover { go: true });
    assert!(ok, "{lines:?}");
    for heard in [one, two] {
        let heard: Vec<LinkMessage> = heard
            .iter()
            .filter(|message| !matches!(message, LinkMessage::HeartbeatAck { .. }))
            .collect();
        let fenced =
            heard.iter().position(|message| *message == LinkMessage::Recovering { epoch: 4 });
        let fenced = fenced.unwrap_or_else(|| panic!("{heard:?}"));
        // The tree is queried after all slaves have left the former epoch.
        assert!(
            !heard[..fenced]
                .iter()
                .any(|message| matches!(message, LinkMessage::AskTree { ids: true, .. })),
            "{heard:?}"
        );
        assert!(
            !heard.iter().any(|message| matches!(message, LinkMessage::ToSlave(_))),
            "its link ends: {heard:?}"
        );
    }
    // All locks end; clients of other slaves may have others.
    let kept = Annotations { locks: Vec::new(), ..ahead.annotations };
    // After a restart too, all compare, ids are known, and numbers have the new epoch.
    for again in [false, true] {
        if again {
            master.end();
            master = master.again();
        }
        let report = report(&master, &master.key).unwrap();
        assert_eq!((report.halted.as_str(), report.lsn.epoch), ("", 4));
        let mut one = slave(&master, 1);
        let position = ReplicaPosition { epoch: 4, ..ahead.position };
        assert!(matches!(join(&mut one, 1, position), ToSlave::Compare { epoch: 4, .. }));
        assert!(matches!(
            hear(&mut one),
            ToSlave::Page { entries, ids, annotations }
                if entries.len() == 3 + usize::from(again) && ids.len() == entries.len()
                    && annotations == kept
        ));
        say(&mut one, ToMaster::Ready);
        let ToSlave::End { timelines, .. } = hear(&mut one) else { panic!("no end") };
        assert_eq!(timelines[0].id, [7; 16], "it goes on from the slave's history");
        assert_eq!(timelines[1].after, version(3));
        say(&mut one, ToMaster::Ready);
        propose(&mut one, put(2, "b"));
        assert!(matches!(
            hear(&mut one),
            ToSlave::ProposalResult { answer: Ok(at), .. } if at == version(2)
        ));
        if !again {
            propose(&mut one, put(9, "d"));
            assert!(matches!(
                hear(&mut one),
                ToSlave::Commit { changes }
                    if changes[0].entry.version == Lsn { epoch: 4, number: 1 }
            ));
        }
    }
}

#[test]
fn a_failed_recovery_can_be_repeated() {
    let master = Running::start();
    let mut one = slave(&master, 1);
    let ahead = tree_of(HistoryHash([5; 32]), &[(1, "a")]);
    join(&mut one, 1, ahead.position);
    let address = (master.addr.to_string(), master.key.clone());
    let first = std::thread::spawn(move || {
        done_at(&address.0, &address.1, Operation::Recover { go: true }).0
    });
    // It answers queries before the recovery, and ends when its tree is queried.
    loop {
        match next(&mut one).unwrap() {
            LinkMessage::AskTree { ids: true, .. } => break,
            message => answer(&mut one, &message, &ahead).unwrap(),
        }
    }
    // A second operator gets the survey, and then an error because a recovery is in progress.
    std::thread::scope(|scope| {
        let second = scope.spawn(|| done(&master, Operation::Recover { go: true }));
        loop {
            let message = next(&mut one).unwrap();
            answer(&mut one, &message, &ahead).unwrap();
            if matches!(message, LinkMessage::AskTree { .. }) {
                break;
            }
        }
        let (ok, lines) = second.join().unwrap();
        assert!(
            !ok && lines.last().unwrap().contains("another recovery is in progress"),
            "{lines:?}"
        );
    });
    drop(one);
    assert!(!first.join().unwrap());
    let mut one = slave(&master, 1);
    let position = ReplicaPosition { epoch: 2, ..ahead.position };
    assert!(matches!(
        join(&mut one, 1, position),
        ToSlave::Refuse { why, .. } if why.code == ErrorCode::Conflict
    ));
    let _one = answering(one, TreePage { position, ..ahead });
    let (ok, lines) = done(&master, Operation::Recover { go: true });
    assert!(ok && lines.last().unwrap().contains("epoch 3"), "{lines:?}");
}
