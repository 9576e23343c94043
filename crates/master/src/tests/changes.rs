//! Changes through real links: proposals, commits and restarts.

use relais_cluster::first_history_hash;
use relais_proto::{
    Change, ChangeId, ChangeRequest, Digest, ErrorCode, Expect, FileTime, HistoryHash, Lsn, Mode,
    ReplicaPosition, ToMaster, ToSlave, TreePath,
};

use super::*;

pub(super) fn version(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

pub(super) fn put(n: u8, name: &str) -> ChangeRequest {
    let change = Change::Put {
        path: TreePath::new(name).unwrap(),
        size: 3,
        digest: Digest([n; 32]),
        mtime: FileTime { seconds: 5, nanos: 0 },
        mode: Mode::new(0o644),
    };
    ChangeRequest {
        id: ChangeId([n; 16]),
        change,
        expect: Expect::Any,
        keep_mode: false,
        tokens: Vec::new(),
    }
}

pub(super) fn say(connection: &mut Connection, message: ToMaster) {
    connection.queue_link(&LinkMessage::ToMaster(message));
    connection.flush().unwrap();
}

/// Reads the next message of the master about changes.
pub(super) fn hear(connection: &mut Connection) -> ToSlave {
    loop {
        match next(connection).unwrap() {
            LinkMessage::ToSlave(message) => return message,
            LinkMessage::HeartbeatAck { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn join(connection: &mut Connection, n: u8, position: ReplicaPosition) -> ToSlave {
    say(
        connection,
        ToMaster::Join { slave: SlaveId([n; 16]), folder: FolderId([n; 16]), position },
    );
    hear(connection)
}

/// Reads the master's tree, which follows `Compare`.
fn take_tree(connection: &mut Connection) {
    loop {
        let message = hear(connection);
        say(connection, ToMaster::Ready);
        match message {
            ToSlave::Page { .. } => {}
            ToSlave::End { .. } => return,
            other => panic!("{other:?}"),
        }
    }
}

/// Joins a slave that has no changes and lacks none.
pub(super) fn joined(master: &Running, n: u8) -> Connection {
    let mut connection = slave(master, n);
    if matches!(join(&mut connection, n, ReplicaPosition::default()), ToSlave::Compare { .. }) {
        take_tree(&mut connection);
    }
    say(
        &mut connection,
        ToMaster::MissingContents { upto: Lsn::default(), puts: Vec::new(), last: true },
    );
    connection
}

pub(super) fn propose(connection: &mut Connection, asked: ChangeRequest) {
    say(connection, ToMaster::Propose { request: asked, found: false, copies: 1 });
}

/// Reads the numbers of the next committed changes; asks for more.
pub(super) fn committed(connection: &mut Connection) -> Vec<u64> {
    match hear(connection) {
        ToSlave::Commit { changes } => {
            say(connection, ToMaster::Ready);
            changes.iter().map(|change| change.entry.version.number).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Reads committed changes until `last`.
pub(super) fn committed_up_to(connection: &mut Connection, last: u64) -> Vec<u64> {
    let mut all = Vec::new();
    while all.last() != Some(&last) {
        all.extend(committed(connection));
    }
    all
}

#[test]
fn a_change_of_one_slave_is_committed_to_all() {
    let master = Running::start();
    let (mut one, mut two) = (joined(&master, 1), joined(&master, 2));
    say(&mut one, ToMaster::Ready);
    say(&mut two, ToMaster::Ready);
    propose(&mut one, put(1, "a"));
    assert_eq!((committed(&mut one), committed(&mut two)), (vec![1], vec![1]));
    propose(&mut two, put(2, "a/b"));
    assert!(matches!(
        hear(&mut two),
        ToSlave::ProposalResult { answer: Err(refusal), .. }
            if refusal.code == ErrorCode::NotFolder
    ));
    for n in 2..=50 {
        propose(&mut one, put(n, "b"));
    }
    let all: Vec<u64> = (2..=50).collect();
    assert_eq!(committed_up_to(&mut one, 50), all);
    assert_eq!(committed_up_to(&mut two, 50), all);
    let Reply::Redirect { lsn, .. } = master.login(Login::default()) else { panic!("no redirect") };
    assert_eq!(lsn, version(50), "clients hear of the last change");
}

#[test]
fn a_restarted_master_recognizes_change_ids() {
    let mut master = Running::start();
    {
        let mut one = joined(&master, 1);
        say(&mut one, ToMaster::Ready);
        propose(&mut one, put(1, "a"));
        propose(&mut one, put(2, "b"));
        committed_up_to(&mut one, 2);
    }
    master.end();
    let master = master.again();
    let mut one = slave(&master, 1);
    assert!(matches!(
        join(&mut one, 1, ReplicaPosition::default()),
        ToSlave::Compare { lsn, .. } if lsn == version(2)
    ));
    take_tree(&mut one);
    propose(&mut one, put(2, "b"));
    assert!(
        matches!(hear(&mut one), ToSlave::ProposalResult { answer: Ok(at), .. } if at == version(2))
    );
    propose(&mut one, put(3, "c"));
    assert_eq!(committed(&mut one), [3]);
}

#[test]
fn a_restarted_master_waits_for_known_folders() {
    let mut master = Running::start();
    drop((joined(&master, 1), joined(&master, 2)));
    master.end();
    let master = master.again();
    let mut one = joined(&master, 1);
    let begun = Instant::now();
    propose(&mut one, put(1, "a"));
    let mut two = joined(&master, 2);
    assert_eq!(committed(&mut two), [1]);
    assert!(begun.elapsed() < Duration::from_secs(4), "both are there");
    // One of them does not return.
    drop((one, two));
    let mut master = master;
    master.end();
    let master = master.again();
    let mut one = slave(&master, 1);
    join(&mut one, 1, ReplicaPosition::default());
    take_tree(&mut one);
    let begun = Instant::now();
    propose(&mut one, put(2, "a"));
    one.set_silence(PATIENCE);
    let number = loop {
        one.queue_link(&heartbeat());
        one.flush().unwrap();
        match next(&mut one).unwrap() {
            LinkMessage::ToSlave(ToSlave::Commit { changes }) => {
                break changes[0].entry.version.number;
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    assert_eq!(number, 2);
    assert!(begun.elapsed() > Duration::from_secs(3), "only {:?}", begun.elapsed());
}

#[test]
fn a_torn_batch_is_cut_off_and_damage_is_refused() {
    let mut master = Running::start();
    {
        let mut one = joined(&master, 1);
        for n in 1..=3 {
            propose(&mut one, put(n, "a"));
            committed(&mut one);
        }
    }
    master.end();
    let path = master.state.path().join("journal");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let mut master = master.again();
    let mut one = slave(&master, 1);
    assert!(matches!(
        join(&mut one, 1, ReplicaPosition::default()),
        ToSlave::Compare { lsn, .. } if lsn == version(2)
    ));
    drop(one);
    master.end();
    let mut bad = whole.clone();
    bad[100] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let error = open_store(master.state.path(), master.key.cluster_id()).unwrap_err().to_string();
    assert!(error.contains("journal is damaged at byte 60"), "{error}");
    std::fs::write(&path, &whole).unwrap();
    std::fs::write(master.state.path().join("folders"), "relais").unwrap();
    let error = open_store(master.state.path(), master.key.cluster_id()).unwrap_err().to_string();
    assert!(error.contains("folders is damaged in line 1"), "{error}");
}

#[test]
fn a_slave_that_is_ahead_halts_the_order_and_stays_linked() {
    let master = Running::start();
    let mut one = joined(&master, 1);
    let mut two = slave(&master, 2);
    let ahead = ReplicaPosition { applied: version(9), chain: HistoryHash([1; 32]), epoch: 1 };
    assert!(matches!(join(&mut two, 2, ahead), ToSlave::Refuse { .. }));
    beaten(&mut two);
    propose(&mut one, put(1, "a"));
    assert!(matches!(
        hear(&mut one),
        ToSlave::ProposalResult { answer: Err(refusal), .. }
            if refusal.code == ErrorCode::NoChanges
    ));
    assert_eq!(master.redirect().unwrap().len(), 2, "reads go on");
    let report = report(&master, &master.key).unwrap();
    assert!(report.halted.contains("ftpmaster recover"), "{report:?}");
}

#[test]
fn a_join_with_other_ids_is_refused() {
    let master = Running::start();
    for (id, folder) in [(2, 1), (1, 2)] {
        let mut one = slave(&master, 1);
        say(
            &mut one,
            ToMaster::Join {
                slave: SlaveId([id; 16]),
                folder: FolderId([folder; 16]),
                position: ReplicaPosition::default(),
            },
        );
        assert!(matches!(
            next(&mut one),
            Err(LinkError::Refused(refusal)) if refusal.code == ErrorCode::BadRequest
        ));
    }
    let seed = first_history_hash(master.key.cluster_id());
    let mut one = slave(&master, 1);
    assert!(matches!(
        join(&mut one, 1, ReplicaPosition::default()),
        ToSlave::Follow { chain, .. } if chain == seed
    ));
}

#[test]
fn every_slave_gets_the_addresses_of_all() {
    fn peers(connection: &mut Connection) -> Vec<(u8, u8, u16)> {
        loop {
            let header = connection.read_header().unwrap().unwrap();
            if let LinkMessage::Peers { peers, last } =
                decode_link_frame(header.kind, connection.read_payload(header).unwrap()).unwrap()
            {
                assert!(last);
                return peers
                    .iter()
                    .map(|peer| (peer.slave.0[0], peer.folder.0[0], peer.addrs[0].port()))
                    .collect();
            }
        }
    }
    let master = Running::start();
    let mut one = linked(&master, 1);
    one.queue_link(&LinkMessage::Register(registration(1)));
    one.flush().unwrap();
    assert_eq!(peers(&mut one), [(1, 1, 1001)]);
    let two = slave(&master, 2);
    assert_eq!(peers(&mut one), [(1, 1, 1001), (2, 2, 1002)]);
    drop(two);
    assert_eq!(peers(&mut one), [(1, 1, 1001)]);
}
