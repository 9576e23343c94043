use super::missing_content::lack_of;
use super::*;
use crate::history_hash::HistoryHash;
use crate::message_budget::ToSlave;
use crate::tree::Entry;
use relais_proto::{Change, Digest, Expect, FileTime, LogEntry, Mode, TreePath};

const HERE: FolderId = FolderId([1; 16]);
const OTHER: FolderId = FolderId([2; 16]);
const THIRD: FolderId = FolderId([3; 16]);

fn replica() -> Replica {
    Replica::new(SlaveId([1; 16]), HERE, ReplicaPosition::default(), Vec::new(), BTreeSet::new())
}

fn version(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn put_change(n: u8, name: &str, size: u64) -> Change {
    Change::Put {
        path: TreePath::new(name).unwrap(),
        size,
        digest: Digest([n; 32]),
        mtime: FileTime::default(),
        mode: Mode::new(0o644),
    }
}

fn committed(number: u64, change: Change, holders: &[FolderId]) -> CommittedEntry {
    let id = ChangeId([u8::try_from(number).unwrap(); 16]);
    CommittedEntry {
        entry: LogEntry { version: version(number), id, time_ms: 0, change },
        holders: holders.to_vec(),
        restored: Vec::new(),
    }
}

fn put(number: u64, holders: &[FolderId]) -> CommittedEntry {
    committed(number, put_change(u8::try_from(number).unwrap(), &format!("f{number}"), 1), holders)
}

fn hear(replica: &mut Replica, message: ToSlave) -> Vec<Action> {
    replica.on(Event::Received(message), Duration::ZERO)
}

fn tell(replica: &mut Replica, changes: &[CommittedEntry]) -> Vec<Action> {
    hear(replica, ToSlave::Commit { changes: changes.to_vec() })
}

fn following() -> Replica {
    let mut replica = replica();
    assert!(matches!(
        replica.on(Event::Linked, Duration::ZERO)[..],
        [Action::Send(ToMaster::Join { .. })]
    ));
    let actions = hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 1,
            lsn: Lsn::default(),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
    );
    assert!(matches!(
        actions[..],
        [
            Action::RaiseEpoch(1),
            Action::SetTimelines(_),
            Action::Send(ToMaster::MissingContents { last: true, .. })
        ]
    ));
    replica
}

fn carried(replica: &mut Replica, missing: &[u64]) -> Vec<Action> {
    replica.on(
        Event::Applied {
            missing: missing.iter().copied().map(version).collect(),
            failed: Vec::new(),
        },
        Duration::ZERO,
    )
}

fn carries(actions: &[Action]) -> Vec<u64> {
    let of = |action: &Action| match action {
        Action::Apply { changes, .. } => {
            changes.iter().map(|committed| committed.entry.version.number).collect()
        }
        _ => Vec::new(),
    };
    actions.iter().flat_map(of).collect()
}

fn fetches(actions: &[Action]) -> Vec<(u64, u8)> {
    let of = |action: &Action| match action {
        Action::Fetch { put, from, .. } => Some((put.number, from.0[0])),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn ask(replica: &mut Replica, n: u8, copies: u16) -> Vec<Action> {
    let request = ChangeRequest {
        id: ChangeId([n; 16]),
        change: put_change(n, &format!("f{n}"), 1),
        expect: Expect::Any,
        keep_mode: true,
        tokens: Vec::new(),
    };
    replica.on(
        Event::Proposed { session: Some(SessionId(u64::from(n))), request, copies },
        Duration::ZERO,
    )
}

fn answers(actions: &[Action]) -> Vec<(u64, &ProposalResult)> {
    let of = |action| match action {
        &Action::Reply { session, ref answer, .. } => Some((session.0, answer)),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn changes_are_applied_in_order_once_and_never_with_a_gap() {
    let mut replica = following();
    assert_eq!(carries(&tell(&mut replica, &[put(1, &[HERE]), put(2, &[HERE])])), [1, 2]);
    assert_eq!(
        carries(&tell(&mut replica, &[put(2, &[HERE]), put(3, &[HERE])])),
        [0u64; 0],
        "one after the other"
    );
    let actions = carried(&mut replica, &[]);
    assert_eq!((carries(&actions), replica.applied()), (vec![3], version(2)));
    let actions = tell(&mut replica, &[put(5, &[HERE])]);
    assert!(matches!(actions[..], [Action::Close(_)]) && !replica.is_linked());
    carried(&mut replica, &[]);
    assert_eq!(replica.applied(), version(3), "what was begun is finished");
}

#[test]
fn what_could_not_be_carried_out_is_tried_again() {
    let mut replica = following();
    tell(&mut replica, &[put(1, &[HERE])]);
    assert!(replica.on(Event::ApplyFailed, seconds(1)).is_empty());
    assert_eq!(carries(&replica.on(Event::Tick, seconds(1))), [0u64; 0]);
    assert_eq!(carries(&replica.on(Event::Tick, seconds(2))), [1]);
    assert_eq!(carries(&replica.on(Event::Tick, seconds(3))), [0u64; 0]);
    carried(&mut replica, &[]);
    assert_eq!(replica.applied(), version(1));
}

#[test]
fn sessions_are_answered_after_apply_and_repeat_after_a_cut() {
    let mut replica = following();
    assert!(matches!(
        ask(&mut replica, 1, 1)[..],
        [Action::Send(ToMaster::Propose { found: false, .. })]
    ));
    replica.on(Event::Unlinked, Duration::ZERO);
    assert!(matches!(
        answers(&ask(&mut replica, 9, 1))[..],
        [(9, ProposalResult::Refused(refusal))]
            if refusal.code == ErrorCode::NoChanges
    ));
    replica.on(Event::Linked, Duration::ZERO);
    let actions = hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 1,
            lsn: version(1),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
    );
    assert!(
        matches!(
            &actions[2],
            Action::Send(ToMaster::Propose { request, .. })
                if request.id == ChangeId([1; 16])
        ),
        "{actions:?}"
    );
    assert!(answers(&tell(&mut replica, &[put(1, &[HERE])])).is_empty(), "not on disk yet");
    let actions = carried(&mut replica, &[]);
    assert_eq!(answers(&actions), [(1, &ProposalResult::Done { version: version(1), copies: 1 })]);
    assert!(
        actions.contains(&Action::Discard(ChangeId([1; 16])))
            && actions.contains(&Action::Send(ToMaster::Holds { put: version(1), has: true }))
    );
}

#[test]
fn copies_are_waited_for_and_not_for_ever() {
    let done = ProposalResult::Done { version: version(1), copies: 2 };
    let few = ProposalResult::TooFewCopies { version: version(1), copies: 1 };
    for (copies, answer) in [(true, done), (false, few)] {
        let mut replica = following();
        ask(&mut replica, 1, 2);
        tell(&mut replica, &[put(1, &[HERE])]);
        assert!(answers(&carried(&mut replica, &[])).is_empty());
        let event = if copies {
            Event::Received(ToSlave::Copies { put: version(1), copies: 2 })
        } else {
            Event::Tick
        };
        assert_eq!(answers(&replica.on(event, seconds(30))), [(1, &answer)]);
    }
}

#[test]
fn what_is_known_by_its_id_is_placed_from_what_was_staged_again() {
    let mut replica = following();
    tell(&mut replica, &[put(1, &[OTHER])]);
    carried(&mut replica, &[1]);
    ask(&mut replica, 1, 1);
    let actions = hear(
        &mut replica,
        ToSlave::ProposalResult { id: ChangeId([1; 16]), answer: Ok(version(1)) },
    );
    assert_eq!(actions, [Action::Publish { id: ChangeId([1; 16]), put: version(1) }]);
    let actions = replica
        .on(Event::Published { id: ChangeId([1; 16]), put: version(1), ok: true }, Duration::ZERO);
    assert!(actions.contains(&Action::Send(ToMaster::Holds { put: version(1), has: true })));
    assert_eq!(answers(&actions).len(), 1);
}

#[test]
fn unpublishable_content_is_reported_then_fetched_or_withdrawn() {
    let mut replica = following();
    ask(&mut replica, 1, 1);
    tell(&mut replica, &[put(1, &[HERE])]);
    let actions = replica
        .on(Event::Applied { missing: vec![version(1)], failed: vec![version(1)] }, Duration::ZERO);
    assert!(actions.contains(&Action::Send(ToMaster::PublishFailed { of: version(1) })));
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Publish { .. })),
        "the same bytes are not tried again"
    );
    let mut withdraw = committed(2, Change::Withdraw { of: version(1) }, &[]);
    withdraw.restored.push((TreePath::new("f1").unwrap(), None));
    tell(&mut replica, &[withdraw]);
    let actions = carried(&mut replica, &[]);
    assert!(matches!(
        answers(&actions)[..],
        [(1, ProposalResult::Refused(refusal))]
            if refusal.code == ErrorCode::Storage
    ));
    assert!(replica.missing().is_empty());
}

#[test]
fn small_contents_do_not_wait_and_another_holder_is_asked() {
    let mut replica = following();
    let large =
        (1..=4).map(|n| committed(n, put_change(1, &format!("l{n}"), crate::LARGE), &[OTHER]));
    let small = (5..=14).map(|n| {
        let change = put_change(1, &format!("s{n}"), crate::PIPELINED + 1);
        committed(n, change, &[OTHER, THIRD])
    });
    let changes: Vec<CommittedEntry> = large.chain(small).collect();
    tell(&mut replica, &changes);
    let actions = carried(&mut replica, &(1..=14).collect::<Vec<_>>());
    let begun = fetches(&actions);
    assert_eq!(begun.iter().map(|(put, _)| *put).collect::<Vec<_>>(), [1, 2, 5, 6, 7, 8, 9, 10]);
    let from = |holder| begun.iter().filter(|(put, from)| *put > 4 && *from == holder).count();
    assert_eq!((from(2), from(3)), (2, 4), "the other one has two large ones to send already");
    let failed = Event::Fetched {
        put: version(5),
        from: FolderId([begun[2].1; 16]),
        fault: Some(FetchFault::Holder),
    };
    let again = fetches(&replica.on(failed, Duration::ZERO));
    assert!(matches!(again[..], [(5, from)] if from != begun[2].1));
    let failed = Event::Fetched {
        put: version(5),
        from: FolderId([again[0].1; 16]),
        fault: Some(FetchFault::Holder),
    };
    let actions = replica.on(failed, Duration::ZERO);
    assert!(actions.contains(&Action::Send(ToMaster::FindHolders { put: version(5) })));
    assert!(matches!(fetches(&actions)[..], [(11, _)]), "the next one has its place");
}

#[test]
fn content_refused_by_the_disk_waits_and_does_not_count() {
    let mut replica = following();
    let refused = |put, retry| Event::Refused { put: version(put), retry };
    // Said before the batch that brings it is.
    replica.on(refused(1, false), Duration::ZERO);
    tell(&mut replica, &[put(1, &[OTHER]), put(2, &[OTHER])]);
    assert_eq!(fetches(&carried(&mut replica, &[1, 2])), [(2, 2)]);
    // Said while it is fetched.
    replica.on(refused(2, false), Duration::ZERO);
    let failed = Event::Fetched { put: version(2), from: OTHER, fault: Some(FetchFault::Local) };
    let later = Duration::from_secs(3600);
    assert!(fetches(&replica.on(failed, Duration::ZERO)).is_empty());
    assert!(fetches(&replica.on(Event::Tick, later)).is_empty());
    let readiness = replica.readiness(later, 1000);
    assert!(readiness.old_missing_bytes == 0 && readiness.whole, "{readiness:?}");
    // Another try.
    assert_eq!(fetches(&replica.on(refused(1, true), later)), [(1, 2)]);
    assert_eq!(replica.readiness(later * 2, 1000).old_missing_bytes, 0, "the try counts no more");
    let came = Event::Fetched { put: version(1), from: OTHER, fault: None };
    let actions = replica.on(came, later);
    assert_eq!(actions, [Action::Send(ToMaster::Holds { put: version(1), has: true })]);
    assert!(!replica.missing().has(version(1)) && replica.missing().has(version(2)));
}

#[test]
fn fetched_content_is_reported_and_removed_content_not_fetched() {
    let mut replica = following();
    tell(&mut replica, &[put(1, &[OTHER]), put(2, &[OTHER])]);
    assert_eq!(fetches(&carried(&mut replica, &[1, 2])).len(), 2);
    let actions =
        replica.on(Event::Fetched { put: version(1), from: OTHER, fault: None }, Duration::ZERO);
    assert_eq!(actions, [Action::Send(ToMaster::Holds { put: version(1), has: true })]);
    tell(
        &mut replica,
        &[committed(
            3,
            Change::Remove { path: TreePath::new("f2").unwrap(), recursive: false },
            &[],
        )],
    );
    carried(&mut replica, &[]);
    assert!(replica.missing().is_empty());
}

#[test]
fn names_move_with_missing_contents() {
    let mut replica = following();
    let path = |text: &str| TreePath::new(text).unwrap();
    let made = committed(1, Change::MakeFolder { path: path("d"), mode: Mode::new(0o755) }, &[]);
    let moved = committed(3, Change::Move { from: path("d"), to: path("e") }, &[]);
    tell(&mut replica, &[made, committed(2, put_change(2, "d/x", 1), &[]), moved]);
    assert_eq!(carries(&carried(&mut replica, &[2])), [3], "what moves them is a batch of its own");
    carried(&mut replica, &[]);
    let actions = hear(&mut replica, ToSlave::Holders { put: version(2), holders: vec![OTHER] });
    assert!(
        matches!(&actions[..], [Action::Fetch { lack, .. }] if lack.path == path("e/x")),
        "{actions:?}"
    );
}

#[test]
fn a_lower_epoch_is_refused_also_after_a_restart() {
    let mut replica = replica();
    replica.on(Event::Linked, Duration::ZERO);
    let compare = ToSlave::Compare { epoch: 3, lsn: version(1), given_up: Vec::new() };
    assert_eq!(hear(&mut replica, compare)[..], [Action::RaiseEpoch(3)]);
    replica.on(Event::Unlinked, Duration::ZERO);
    let position = replica.position();
    assert_eq!((position.epoch, position.applied), (3, Lsn::default()));
    let mut again = Replica::new(SlaveId([1; 16]), HERE, position, Vec::new(), BTreeSet::new());
    for message in [
        ToSlave::Follow {
            epoch: 2,
            lsn: version(1),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
        ToSlave::Compare { epoch: 2, lsn: version(1), given_up: Vec::new() },
        ToSlave::Refuse { epoch: 2, why: Refusal::new(ErrorCode::Conflict, "") },
    ] {
        again.on(Event::Linked, Duration::ZERO);
        assert!(matches!(hear(&mut again, message)[..], [Action::Close(_)]) && !again.is_linked());
    }
}

#[test]
fn only_a_tree_that_arrived_whole_is_taken_over() {
    let page = || ToSlave::Page {
        annotations: relais_proto::Annotations::default(),
        entries: vec![(
            TreePath::new("a").unwrap(),
            Entry { version: version(1), mode: Mode::new(0o755), content: None },
        )],
        ids: Vec::new(),
    };
    let end = |entries| ToSlave::End {
        lsn: version(4),
        chain: HistoryHash([4; 32]),
        timelines: Vec::new(),
        entries,
    };
    for (cut, entries) in [(true, 1), (false, 2)] {
        let mut replica = replica();
        replica.on(Event::Linked, Duration::ZERO);
        hear(&mut replica, ToSlave::Compare { epoch: 1, lsn: version(4), given_up: Vec::new() });
        hear(&mut replica, page());
        if cut {
            replica.on(Event::Unlinked, Duration::ZERO);
            replica.on(Event::Linked, Duration::ZERO);
        }
        let actions = hear(&mut replica, end(entries));
        assert!(matches!(actions[..], [Action::Close(_)]), "{actions:?}");
    }
    let mut replica = replica();
    replica.on(Event::Linked, Duration::ZERO);
    hear(&mut replica, ToSlave::Compare { epoch: 1, lsn: version(4), given_up: Vec::new() });
    assert_eq!(hear(&mut replica, page()), [Action::Send(ToMaster::Ready)]);
    assert!(matches!(hear(&mut replica, end(1))[..], [Action::Adopt { .. }]));
    let lack = lack_of(&TreePath::new("f").unwrap(), version(2), 1, Digest([2; 32]), vec![OTHER]);
    let actions = replica.on(Event::Adopted { missing: vec![lack] }, Duration::ZERO);
    let missing =
        ToMaster::MissingContents { upto: version(4), puts: vec![version(2)], last: true };
    let wanted =
        [ToMaster::Applied { upto: version(4) }, missing, ToMaster::Ready].map(Action::Send);
    assert_eq!((&actions[..3], fetches(&actions)), (&wanted[..], vec![(2, 2)]));
    assert_eq!((replica.applied(), replica.position().chain), (version(4), HistoryHash([4; 32])));
    assert!(!in_service(&replica.readiness(Duration::ZERO, 1)));
    replica.on(Event::Fetched { put: version(2), from: OTHER, fault: None }, Duration::ZERO);
    assert!(in_service(&replica.readiness(Duration::ZERO, 1)));
}

#[test]
fn a_link_during_an_adoption_begins_with_a_join() {
    for ok in [true, false] {
        let mut replica = replica();
        replica.on(Event::Linked, Duration::ZERO);
        hear(&mut replica, ToSlave::Compare { epoch: 1, lsn: version(4), given_up: Vec::new() });
        hear(
            &mut replica,
            ToSlave::End {
                lsn: version(4),
                chain: HistoryHash([4; 32]),
                timelines: Vec::new(),
                entries: 0,
            },
        );
        replica.on(Event::Unlinked, Duration::ZERO);
        assert!(
            replica.on(Event::Linked, Duration::ZERO).is_empty(),
            "not before it is settled where it stands"
        );
        let event = if ok { Event::Adopted { missing: Vec::new() } } else { Event::AdoptFailed };
        let actions = replica.on(event, Duration::ZERO);
        let applied = if ok { version(4) } else { Lsn::default() };
        assert!(
            matches!(
                actions[..],
                [Action::Send(ToMaster::Join { position, .. })]
                    if position.applied == applied
            ),
            "{actions:?}"
        );
    }
}

#[test]
fn the_join_waits_for_what_is_being_carried_out() {
    for done in [true, false] {
        let mut replica = following();
        tell(&mut replica, &[put(1, &[HERE])]);
        replica.on(Event::Unlinked, Duration::ZERO);
        assert!(replica.on(Event::Linked, Duration::ZERO).is_empty());
        let event = if done {
            Event::Applied { missing: Vec::new(), failed: Vec::new() }
        } else {
            Event::ApplyFailed
        };
        let actions = replica.on(event, Duration::ZERO);
        let applied = if done { version(1) } else { Lsn::default() };
        assert!(
            matches!(
                actions[..],
                [Action::Send(ToMaster::Join { position, .. })]
                    if position.applied == applied
            ),
            "{actions:?}"
        );
        assert!(
            replica.on(Event::Tick, seconds(9)).is_empty(),
            "what was not carried out is told again"
        );
    }
}

#[test]
fn orphaned_uploads_are_queried_once_the_slave_has_caught_up() {
    let staged = BTreeSet::from([ChangeId([1; 16]), ChangeId([2; 16]), ChangeId([3; 16])]);
    let mut replica =
        Replica::new(SlaveId([1; 16]), HERE, ReplicaPosition::default(), Vec::new(), staged);
    replica.on(Event::Linked, Duration::ZERO);
    let actions = hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 1,
            lsn: version(1),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
    );
    let sought = |actions: &[Action]| {
        actions
            .iter()
            .filter(|action| matches!(action, Action::Send(ToMaster::QueryChange { .. })))
            .count()
    };
    assert_eq!(sought(&actions), 0);
    tell(&mut replica, &[put(1, &[HERE])]);
    let actions = carried(&mut replica, &[]);
    assert_eq!(sought(&actions), 2, "the first one was placed");
    assert!(actions.contains(&Action::Discard(ChangeId([1; 16]))));
    let unknown = Err(Refusal::new(ErrorCode::NotFound, ""));
    assert_eq!(
        hear(&mut replica, ToSlave::ProposalResult { id: ChangeId([2; 16]), answer: unknown }),
        [Action::Discard(ChangeId([2; 16]))]
    );
    tell(&mut replica, &[put(2, &[OTHER])]);
    carried(&mut replica, &[2]);
    let actions = hear(
        &mut replica,
        ToSlave::ProposalResult { id: ChangeId([3; 16]), answer: Ok(version(2)) },
    );
    assert_eq!(actions, [Action::Publish { id: ChangeId([3; 16]), put: version(2) }]);
}

#[test]
fn an_old_query_answer_does_not_refuse_a_repeated_proposal() {
    let staged = BTreeSet::from([ChangeId([2; 16])]);
    let mut replica =
        Replica::new(SlaveId([1; 16]), HERE, ReplicaPosition::default(), Vec::new(), staged);
    replica.on(Event::Linked, Duration::ZERO);
    hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 1,
            lsn: version(1),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
    );
    tell(&mut replica, &[put(1, &[OTHER])]);
    assert!(
        carried(&mut replica, &[])
            .contains(&Action::Send(ToMaster::QueryChange { id: ChangeId([2; 16]) }))
    );
    ask(&mut replica, 2, 0);
    let unknown = || ToSlave::ProposalResult {
        id: ChangeId([2; 16]),
        answer: Err(Refusal::new(ErrorCode::NotFound, "")),
    };
    assert_eq!(hear(&mut replica, unknown()), [], "that was the answer to the question");
    let actions = hear(&mut replica, unknown());
    assert!(matches!(answers(&actions)[..], [(2, ProposalResult::Refused(_))]), "{actions:?}");
}

#[test]
fn refused_local_changes_are_quarantined_unless_retryable() {
    for (code, aside) in [(ErrorCode::Changed, true), (ErrorCode::NoChanges, false)] {
        let mut replica = following();
        let request = ChangeRequest {
            id: ChangeId([1; 16]),
            change: put_change(1, "f", 1),
            expect: Expect::Absent,
            keep_mode: false,
            tokens: Vec::new(),
        };
        let actions =
            replica.on(Event::Proposed { session: None, request, copies: 1 }, Duration::ZERO);
        assert!(matches!(actions[..], [Action::Send(ToMaster::Propose { found: true, .. })]));
        let answer =
            ToSlave::ProposalResult { id: ChangeId([1; 16]), answer: Err(Refusal::new(code, "")) };
        assert_eq!(matches!(hear(&mut replica, answer)[..], [Action::Quarantine { .. }]), aside);
    }
}

#[test]
fn content_that_is_missing_is_reported_and_fetched_again() {
    let mut replica = following();
    tell(&mut replica, &[put(1, &[HERE])]);
    carried(&mut replica, &[]);
    let lack = lack_of(&TreePath::new("f1").unwrap(), version(1), 1, Digest([1; 32]), Vec::new());
    let actions = replica.on(Event::Missing(lack), Duration::ZERO);
    assert_eq!(
        actions,
        [
            ToMaster::Holds { put: version(1), has: false },
            ToMaster::FindHolders { put: version(1) }
        ]
        .map(Action::Send)
    );
    let actions = hear(&mut replica, ToSlave::Holders { put: version(1), holders: vec![OTHER] });
    assert_eq!(fetches(&actions), [(1, 2)]);
}

#[test]
fn given_up_content_is_not_fetched_until_a_holder_appears() {
    let mut replica = following();
    tell(&mut replica, &[put(1, &[OTHER]), put(2, &[])]);
    carried(&mut replica, &[1, 2]);
    replica.on(Event::Unlinked, Duration::ZERO);
    replica.on(Event::Linked, Duration::ZERO);
    hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 1,
            lsn: version(3),
            chain: HistoryHash::default(),
            given_up: vec![version(2)],
            timelines: Vec::new(),
        },
    );
    assert_eq!(
        hear(&mut replica, ToSlave::GiveUp { put: version(1) }),
        [Action::Send(ToMaster::GivenUp { put: version(1) })]
    );
    assert!(!replica.wants(version(1)) && !replica.wants(version(2)), "also what is on its way");
    ask(&mut replica, 2, 1);
    let actions = hear(
        &mut replica,
        ToSlave::ProposalResult { id: ChangeId([2; 16]), answer: Ok(version(2)) },
    );
    assert!(actions.is_empty(), "nor from what a session has staged: {actions:?}");
    replica.on(Event::Unlinked, Duration::ZERO);
    replica.on(Event::Linked, Duration::ZERO);
    hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 1,
            lsn: version(3),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
    );
    assert!(!replica.wants(version(2)), "the withdrawal may be among what comes now");
    tell(&mut replica, &[put(3, &[HERE])]);
    assert!(
        carried(&mut replica, &[])
            .contains(&Action::Publish { id: ChangeId([2; 16]), put: version(2) })
    );
    assert_eq!(
        hear(&mut replica, ToSlave::GiveUp { put: version(3) }),
        [Action::Send(ToMaster::Holds { put: version(3), has: true })]
    );
    hear(&mut replica, ToSlave::GiveUp { put: version(1) });
    hear(&mut replica, ToSlave::Holders { put: version(1), holders: vec![THIRD] });
    assert!(replica.wants(version(1)));
}

#[test]
fn hidden_content_is_not_given_up() {
    let mut replica = following();
    let hide = |replica: &mut Replica, n| {
        replica.on(Event::Hidden { put: version(n) }, Duration::ZERO);
        let lack = lack_of(&TreePath::new("f").unwrap(), version(n), 1, Digest([1; 32]), vec![]);
        replica.on(Event::Missing(lack), Duration::ZERO)
    };
    let actions = hide(&mut replica, 1);
    assert_eq!(actions, [Action::Send(ToMaster::Holds { put: version(1), has: false })]);
    assert_eq!(hear(&mut replica, ToSlave::GiveUp { put: version(1) }), []);
    let came = Event::Fetched { put: version(1), from: HERE, fault: None };
    let actions = replica.on(came, Duration::ZERO);
    assert_eq!(actions, [Action::Send(ToMaster::Holds { put: version(1), has: true })]);
    // The obstacle is gone, and the content was not behind it.
    hide(&mut replica, 2);
    hear(&mut replica, ToSlave::GiveUp { put: version(2) });
    let actions = replica.on(Event::Refused { put: version(2), retry: true }, Duration::ZERO);
    assert_eq!(actions, [Action::Send(ToMaster::GivenUp { put: version(2) })]);
}

#[test]
fn content_that_every_slave_must_give_up_does_not_count() {
    let mut replica = following();
    tell(&mut replica, &[put(1, &[])]);
    carried(&mut replica, &[1]);
    let later = Duration::from_secs(3600);
    assert!(replica.readiness(later, 1).old_missing_bytes > 0);
    hear(&mut replica, ToSlave::GiveUp { put: version(1) });
    assert_eq!(replica.readiness(later, 1).old_missing_bytes, 0);
}

#[test]
fn former_epochs_are_confirmed_only_by_the_new_master() {
    let mut replica = following();
    ask(&mut replica, 1, 1);
    tell(&mut replica, &[put(1, &[HERE])]);
    let actions = replica.on(Event::Recovering(2), Duration::ZERO);
    assert!(matches!(actions[..], [Action::RaiseEpoch(2), Action::Close(_)]));
    assert!(answers(&carried(&mut replica, &[])).is_empty());
    replica.on(Event::Linked, Duration::ZERO);
    hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 2,
            lsn: version(1),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
    );
    assert_eq!(replica.applied(), version(1));
    let actions = hear(
        &mut replica,
        ToSlave::ProposalResult { id: ChangeId([1; 16]), answer: Ok(version(1)) },
    );
    assert_eq!(answers(&actions).len(), 1);
    assert!(
        replica
            .on(Event::Recovering(1), Duration::ZERO)
            .iter()
            .any(|action| matches!(action, Action::Close(_))),
        "it is an old one"
    );
}

#[test]
fn a_slave_that_missed_nothing_is_in_service_at_once() {
    let mut replica = following();
    assert!(in_service(&replica.readiness(Duration::ZERO, 0)));
    tell(&mut replica, &[put(1, &[HERE]), put(2, &[HERE])]);
    assert!(
        in_service(&replica.readiness(seconds(1), 0))
            && !in_service(&replica.readiness(seconds(2), 0)),
        "it does not get on"
    );
    carried(&mut replica, &[2]);
    assert!(
        in_service(&replica.readiness(seconds(9), 1))
            && !in_service(&replica.readiness(seconds(10), 1)),
        "it lacks all there is"
    );
    replica.on(Event::Unlinked, seconds(10));
    assert!(!in_service(&replica.readiness(seconds(10), 1000)), "on its own");
    replica.on(Event::Linked, seconds(10));
    hear(
        &mut replica,
        ToSlave::Follow {
            epoch: 1,
            lsn: version(2),
            chain: HistoryHash::default(),
            given_up: Vec::new(),
            timelines: Vec::new(),
        },
    );
    assert!(
        !in_service(&replica.readiness(seconds(10), 1000)),
        "it lacks what was there when it came back"
    );
    replica.on(Event::Fetched { put: version(2), from: OTHER, fault: None }, seconds(10));
    assert!(in_service(&replica.readiness(seconds(10), 1000)));
}

#[test]
fn holders_of_compared_contents_are_not_asked_for_one_by_one() {
    let mut replica = replica();
    replica.on(Event::Linked, Duration::ZERO);
    hear(&mut replica, ToSlave::Compare { epoch: 1, lsn: version(1), given_up: Vec::new() });
    let end = ToSlave::End {
        lsn: version(200),
        chain: HistoryHash::default(),
        timelines: Vec::new(),
        entries: 0,
    };
    hear(&mut replica, end);
    let lack = |n: u64| {
        let path = TreePath::new(format!("f{n}")).unwrap();
        lack_of(&path, version(n), 1, Digest([1; 32]), Vec::new())
    };
    let actions =
        replica.on(Event::Adopted { missing: (1..=200).map(lack).collect() }, Duration::ZERO);
    let asked = |actions: &[Action]| {
        let is_question =
            |action: &&Action| matches!(action, Action::Send(ToMaster::FindHolders { .. }));
        actions.iter().filter(is_question).count()
    };
    assert_eq!((asked(&actions), fetches(&actions).len()), (64, 0));
    // One answer is enough for those that have not been asked for.
    let holders = |n| ToSlave::Holders { put: version(n), holders: vec![OTHER] };
    let actions = hear(&mut replica, holders(1));
    assert_eq!((asked(&actions), fetches(&actions).len()), (0, 137));
    // A wrong guess is followed by a question.
    let failed = Event::Fetched { put: version(200), from: OTHER, fault: Some(FetchFault::Holder) };
    let actions = replica.on(failed, Duration::ZERO);
    assert_eq!((asked(&actions), fetches(&actions).len()), (1, 0));
    let third = ToSlave::Holders { put: version(200), holders: vec![THIRD] };
    assert_eq!(fetches(&hear(&mut replica, third)), [(200, 3)]);
}
