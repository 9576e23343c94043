//! Tests of recording and replay: each event comes back, and each damage is found.

use std::collections::BTreeSet;
use std::time::Duration;

use relais_proto::{
    Change, ChangeId, Digest, ErrorCode, Expect, FileTime, FolderId, LogEntry, Lsn, Mode, Refusal,
    SlaveId, ToMaster, ToSlave, TreeEntry, TreePath, Wire,
};

use relais_cluster::record::{ACTIONS, EVENT, MAGIC, Recorder};
use relais_cluster::replica::{self, FetchFault, MissingContent, Replica, SessionId};
use relais_cluster::{
    ChangeRequest, CommittedEntry, Coordinator, CoordinatorEvent, LinkId, MasterState,
    ReplicaPosition, Trimmed,
};

use crate::replay::{
    Machine, Reader, RecordError, Replayed, read, replay_coordinator, replay_replica,
};

const PUT: Lsn = Lsn { epoch: 1, number: 3 };
const FOLDER: FolderId = FolderId([4; 16]);
const ID: ChangeId = ChangeId([5; 16]);

fn path() -> TreePath {
    TreePath::new("a/b").unwrap()
}

fn change() -> Change {
    Change::Put {
        path: path(),
        size: 7,
        digest: Digest([1; 32]),
        mtime: FileTime { seconds: -1, nanos: 2 },
        mode: Mode::new(0o755),
    }
}

fn request() -> ChangeRequest {
    ChangeRequest {
        id: ID,
        change: change(),
        expect: Expect::Lsn(PUT),
        keep_mode: true,
        tokens: Vec::new(),
    }
}

fn lack() -> MissingContent {
    MissingContent {
        put: PUT,
        path: path(),
        size: u64::MAX,
        digest: Digest([2; 32]),
        holders: vec![FOLDER, FolderId([9; 16])],
    }
}

fn refusal() -> Refusal {
    Refusal { retry_after: 8, ..Refusal::new(ErrorCode::NoSpace, "é".repeat(500)) }
}

fn of_master() -> Vec<CoordinatorEvent> {
    let link = LinkId(u64::MAX);
    vec![
        CoordinatorEvent::Received {
            link,
            message: ToMaster::Propose { request: request(), found: true, copies: 3 },
        },
        CoordinatorEvent::LinkClosed { link },
        CoordinatorEvent::Written,
        CoordinatorEvent::WriteFailed { for_good: true, refusal: refusal() },
        CoordinatorEvent::GraceEnded,
        CoordinatorEvent::Forget { folder: FOLDER },
        CoordinatorEvent::Trim(Trimmed::RemovalRecords(5)),
        CoordinatorEvent::Trim(Trimmed::Ids(PUT)),
        CoordinatorEvent::Trim(Trimmed::Changes(PUT)),
    ]
}

fn of_slave() -> Vec<replica::Event> {
    use replica::Event;
    let (session, log_entry) =
        (SessionId(6), LogEntry { version: PUT, id: ID, time_ms: 1, change: change() });
    let committed = CommittedEntry {
        entry: log_entry,
        holders: vec![FOLDER],
        restored: vec![(
            path(),
            Some(TreeEntry { version: PUT, mode: Mode::new(0o750), content: None }),
        )],
    };
    let fetched = |fault| Event::Fetched { put: PUT, from: FOLDER, fault };
    vec![
        Event::Linked,
        Event::Unlinked,
        Event::Received(ToSlave::Commit { changes: vec![committed] }),
        Event::MasterLsn(PUT),
        Event::Proposed { session: Some(session), request: request(), copies: 2 },
        Event::Proposed { session: None, request: request(), copies: 1 },
        Event::SessionClosed(session),
        Event::Applied { missing: vec![PUT; 3], failed: vec![PUT] },
        Event::ApplyFailed,
        Event::Adopted { missing: vec![lack(); 2] },
        Event::AdoptFailed,
        fetched(None),
        fetched(Some(FetchFault::Holder)),
        fetched(Some(FetchFault::Local)),
        Event::Published { id: ID, put: PUT, ok: true },
        Event::Missing(lack()),
        Event::Refused { put: PUT, retry: true },
        Event::Refused { put: PUT, retry: false },
        Event::Hidden { put: PUT },
        Event::Recovering(7),
        Event::Tick,
    ]
}

/// A recording of these events, as a slave that has just started deals with them.
fn recorded(events: &[replica::Event]) -> Vec<u8> {
    let (slave, position) = (
        SlaveId([3; 16]),
        ReplicaPosition { applied: PUT, epoch: 2, ..ReplicaPosition::default() },
    );
    let (missing, staged) = (vec![lack()], BTreeSet::from([ID]));
    let mut bytes = Vec::new();
    let mut recorder =
        Recorder::replica(slave, FOLDER, &position, &missing, &staged, &mut bytes).unwrap();
    let mut replica = Replica::new(slave, FOLDER, position, missing, staged);
    for (n, event) in (0..).zip(events) {
        let now = Duration::from_nanos(n * 1_000_000_007);
        recorder.event(event, now.as_nanos(), &mut bytes).unwrap();
        recorder.actions(&replica.on(event.clone(), now), &mut bytes).unwrap();
    }
    bytes
}

/// The events of a recording.
fn decoded<M: Machine>(bytes: &[u8]) -> Vec<M::Event> {
    let mut reader = Reader::new(bytes).unwrap();
    let mut events = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if record[0] == EVENT {
            let (_, event): (u64, _) = read(record, 0, |_, from| Wire::decode(from)).unwrap();
            events.push(event);
        }
    }
    events
}

#[test]
fn all_events_come_back() {
    let events = of_slave();
    let bytes = recorded(&events);
    assert_eq!(replay_replica(&bytes).unwrap(), Replayed { events: 21, torn: false });
    assert_eq!(decoded::<Replica>(&bytes), events);

    let (mut bytes, folders) = (Vec::new(), BTreeSet::from([FOLDER]));
    let mut recorder =
        Recorder::coordinator(&MasterState::default(), &folders, &mut bytes).unwrap();
    let mut order = Coordinator::new(MasterState::default(), folders);
    for event in of_master() {
        recorder.event(&event, 77_u64, &mut bytes).unwrap();
        recorder.actions(&order.on(event, 77), &mut bytes).unwrap();
    }
    assert_eq!(replay_coordinator(&bytes).unwrap(), Replayed { events: 9, torn: false });
    assert_eq!(decoded::<Coordinator>(&bytes), of_master());
}

#[test]
fn a_torn_end_is_seen() {
    let bytes = recorded(&of_slave());
    let whole = replay_replica(&bytes).unwrap();
    let mut reader = Reader::new(&bytes).unwrap();
    let mut ends = BTreeSet::new();
    while reader.next().unwrap().is_some() {
        ends.insert(reader.at);
    }
    let mut last = 0;
    for cut in 0..bytes.len() {
        match replay_replica(&bytes[..cut]) {
            Ok(shorter) => {
                // Behind the actions that followed from an event there is nothing that would miss.
                assert!(
                    shorter.events <= whole.events && (shorter.torn || ends.contains(&cut)),
                    "cut at {cut}: {shorter:?}"
                );
                assert!(shorter.events >= last);
                last = shorter.events;
            }
            Err(error) => assert!(cut < *ends.first().unwrap(), "cut at {cut}: {error:?}"),
        }
    }
    assert_eq!(last, whole.events);
}

#[test]
fn a_byte_that_was_altered_is_seen() {
    let bytes = recorded(&of_slave());
    for at in 0..bytes.len() {
        for bit in [1, 128] {
            let mut altered = bytes.clone();
            altered[at] ^= bit;
            assert!(replay_replica(&altered).is_err(), "byte {at}");
        }
    }
}

#[test]
fn nonsense_is_refused() {
    assert!(matches!(replay_replica(b""), Err(RecordError::Foreign)));
    assert!(matches!(replay_replica(&MAGIC), Err(RecordError::NoStart)));
    let of = |records: &[&[u8]]| {
        let mut bytes = Vec::new();
        let (first, rest) = records.split_first().unwrap();
        let mut recorder = Recorder::begin(&mut bytes, |to| _ = to.bytes(first)).unwrap();
        for record in rest {
            recorder.add(&mut bytes, |to| _ = to.bytes(record)).unwrap();
        }
        replay_replica(&bytes)
    };
    assert!(matches!(of(&[&[9]]), Err(RecordError::Kind(9))));
    assert!(matches!(of(&[&[]]), Err(RecordError::Record(..))));
    let bytes = recorded(&[]);
    let start = Reader::new(&bytes).unwrap().next().unwrap().unwrap();
    assert_eq!(of(&[start]).unwrap(), Replayed { events: 0, torn: false });
    assert!(matches!(replay_coordinator(&bytes), Err(RecordError::Kind(2))));
    let tick = [EVENT, 0, 0, 0, 0, 0, 0, 0, 0, 15];
    assert_eq!(of(&[start, &tick]).unwrap(), Replayed { events: 1, torn: true });
    for wrong in [
        &[ACTIONS, 0][..],
        &[2, 0],
        &[EVENT, 0],
        &[EVENT, 0, 0, 0, 0, 0, 0, 0, 0, 99],
        &[EVENT, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0],
    ] {
        assert!(of(&[start, wrong]).is_err(), "{wrong:?}");
    }
    assert!(matches!(of(&[start, &tick, &tick]), Err(RecordError::Damaged(..))));
    // A list that says that it is endless takes no memory.
    let endless = [&[EVENT, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[255; 8]].concat();
    assert!(matches!(of(&[start, &endless]), Err(RecordError::Record(..))));
}

#[test]
fn what_follows_otherwise_is_told() {
    let (slave, position) = (SlaveId([3; 16]), ReplicaPosition::default());
    let mut bytes = Vec::new();
    let mut recorder =
        Recorder::replica(slave, FOLDER, &position, &[], &BTreeSet::new(), &mut bytes).unwrap();
    let mut replica = Replica::new(slave, FOLDER, position, Vec::new(), BTreeSet::new());
    for event in [replica::Event::Tick, replica::Event::Linked] {
        recorder.event(&event, 0_u64, &mut bytes).unwrap();
        let mut actions = replica.on(event, Duration::ZERO);
        if let Some(replica::Action::Send(ToMaster::Join { position, .. })) = actions.first_mut() {
            position.epoch = 1;
        }
        recorder.actions(&actions, &mut bytes).unwrap();
    }
    let Err(RecordError::Differs(found)) = replay_replica(&bytes) else {
        panic!("it is not noticed")
    };
    assert_eq!((found.index, found.event.as_str()), (1, "Linked"));
    assert!(found.recorded != found.replayed && found.actions.contains("Join"));
}
