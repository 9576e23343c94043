use super::*;
use crate::history_hash::HistoryHash;
use crate::message_budget::{LARGE, ReplicaPosition};
use crate::timeline::Timeline;
use crate::tree::TreeState;
use relais_proto::{
    Digest, Expect, FileTime, Mode, PropertyChange, PropertyName, SlaveId, TreePath,
};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

fn folder(link: LinkId) -> FolderId {
    FolderId([u8::try_from(link.0 % 10).unwrap(); 16])
}

fn master() -> Coordinator {
    Coordinator::new(MasterState::new(HistoryHash([7; 32])), BTreeSet::new())
}

fn hear(coordinator: &mut Coordinator, link: LinkId, message: ToMaster) -> Vec<CoordinatorAction> {
    coordinator.on(CoordinatorEvent::Received { link, message }, 0)
}

/// Joins with the first changes of the order's own.
fn join(coordinator: &mut Coordinator, link: LinkId, number: u64) -> Vec<CoordinatorAction> {
    let applied = if number == 0 { Lsn::default() } else { version(number) };
    let chain = coordinator
        .state()
        .kept()
        .take_while(|kept| kept.version <= applied)
        .fold(HistoryHash([7; 32]), crate::history_hash::next);
    join_as(coordinator, link, ReplicaPosition { applied, chain, epoch: 1 })
}

fn join_as(
    coordinator: &mut Coordinator,
    link: LinkId,
    position: ReplicaPosition,
) -> Vec<CoordinatorAction> {
    let folder = folder(link);
    hear(coordinator, link, ToMaster::Join { slave: SlaveId(folder.0), folder, position })
}

fn lacks(
    coordinator: &mut Coordinator,
    link: LinkId,
    upto: u64,
    puts: &[u64],
) -> Vec<CoordinatorAction> {
    let upto = if upto == 0 { Lsn::default() } else { version(upto) };
    hear(
        coordinator,
        link,
        ToMaster::MissingContents {
            upto,
            puts: puts.iter().copied().map(version).collect(),
            last: true,
        },
    )
}

fn version(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

fn put_of(n: u8, name: &str, size: u64) -> ChangeRequest {
    let path = TreePath::new(name).unwrap();
    let change = Change::Put {
        path,
        size,
        digest: Digest([n; 32]),
        mtime: FileTime::default(),
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

fn put(n: u8, name: &str) -> ChangeRequest {
    put_of(n, name, 1)
}

fn remove(n: u8, name: &str) -> ChangeRequest {
    let change = Change::Remove { path: TreePath::new(name).unwrap(), recursive: false };
    ChangeRequest {
        id: ChangeId([n; 16]),
        change,
        expect: Expect::Any,
        keep_mode: false,
        tokens: Vec::new(),
    }
}

fn propose(
    coordinator: &mut Coordinator,
    link: LinkId,
    request: ChangeRequest,
) -> Vec<CoordinatorAction> {
    hear(coordinator, link, ToMaster::Propose { request, found: false, copies: 1 })
}

/// A change is asked for and written; what came of the writing.
fn make(
    coordinator: &mut Coordinator,
    link: LinkId,
    request: ChangeRequest,
) -> Vec<CoordinatorAction> {
    assert_eq!(written(&propose(coordinator, link, request)).len(), 1);
    coordinator.on(CoordinatorEvent::Written, 0)
}

fn recover(state: &mut MasterState, number: u64, request: ChangeRequest) {
    state.apply(LogEntry {
        version: version(number),
        id: request.id,
        time_ms: 0,
        change: request.change,
    });
}

/// All that are asked to give up a put do so.
fn give_up(coordinator: &mut Coordinator, actions: &[CoordinatorAction]) -> Vec<CoordinatorAction> {
    let request = actions.iter().filter_map(|action| match action {
        CoordinatorAction::Send { link, message: ToSlave::GiveUp { put } } => Some((*link, *put)),
        _ => None,
    });
    request.flat_map(|(link, put)| hear(coordinator, link, ToMaster::GivenUp { put })).collect()
}

/// Numbers of the changes that are written, or sent to a link.
fn written(actions: &[CoordinatorAction]) -> Vec<u64> {
    let of = |action: &CoordinatorAction| match action {
        CoordinatorAction::Write(batch) => {
            batch.iter().map(|log_entry| log_entry.version.number).collect()
        }
        _ => Vec::new(),
    };
    actions.iter().flat_map(of).collect()
}

fn sent(actions: &[CoordinatorAction], to: LinkId) -> Vec<&ToSlave> {
    let of = |action| match action {
        &CoordinatorAction::Send { link, ref message } if link == to => Some(message),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn committed(actions: &[CoordinatorAction], to: LinkId) -> Vec<u64> {
    let of = |message: &ToSlave| match message {
        ToSlave::Commit { changes } => {
            changes.iter().map(|committed| committed.entry.version.number).collect()
        }
        _ => Vec::new(),
    };
    sent(actions, to).into_iter().flat_map(of).collect()
}

fn answers(actions: &[CoordinatorAction], to: LinkId) -> Vec<(u8, Option<ErrorCode>)> {
    let of = |message: &ToSlave| match message {
        ToSlave::ProposalResult { id, answer } => {
            Some((id.0[0], answer.as_ref().err().map(|refusal| refusal.code)))
        }
        _ => None,
    };
    sent(actions, to).into_iter().filter_map(of).collect()
}

fn names(coordinator: &Coordinator) -> Vec<String> {
    coordinator.tree().iter().map(|(path, entry)| format!("{path} {}", entry.version)).collect()
}

#[test]
fn changes_are_sent_in_order_and_only_after_the_write() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    join(&mut coordinator, B, 0);
    assert_eq!(written(&propose(&mut coordinator, A, put(1, "a"))), [1]);
    assert!(
        propose(&mut coordinator, B, put(2, "b")).is_empty(),
        "it waits for the write that is under way"
    );
    assert!(propose(&mut coordinator, A, put(3, "c")).is_empty());
    let actions = coordinator.on(CoordinatorEvent::Written, 0);
    assert_eq!(
        (written(&actions), committed(&actions, A), committed(&actions, B)),
        (vec![2, 3], vec![1], vec![1])
    );
    assert!(
        coordinator.on(CoordinatorEvent::Written, 0).is_empty(),
        "they have not taken the first yet"
    );
    let actions = hear(&mut coordinator, B, ToMaster::Ready);
    assert_eq!((committed(&actions, A), committed(&actions, B)), (vec![], vec![2, 3]));
    assert_eq!(coordinator.holders().of(version(2)).collect::<Vec<_>>(), [folder(B)]);
}

#[test]
fn repeated_proposals_keep_their_number_and_misfits_get_none() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    propose(&mut coordinator, A, put(1, "a"));
    assert!(propose(&mut coordinator, A, put(1, "a")).is_empty());
    let actions = coordinator.on(CoordinatorEvent::Written, 0);
    assert_eq!((answers(&actions, A), committed(&actions, A)), (vec![(1, None)], vec![1]));
    assert_eq!(
        answers(&propose(&mut coordinator, A, put(2, "a/b")), A),
        [(2, Some(ErrorCode::NotFolder))]
    );
    assert_eq!(coordinator.last(), version(1));
}

#[test]
fn a_slave_that_was_away_is_told_what_it_missed() {
    let mut state = MasterState::new(HistoryHash([7; 32]));
    (1..=5).for_each(|number| recover(&mut state, number, put(u8::try_from(number).unwrap(), "a")));
    let mut coordinator = Coordinator::new(state, BTreeSet::new());
    assert_eq!(committed(&join(&mut coordinator, A, 3), A), [4, 5]);
    assert_eq!(committed(&join(&mut coordinator, B, 1), B), [2, 3, 4, 5]);
    assert_eq!(
        written(&propose(&mut coordinator, A, put(9, "b"))),
        [6],
        "numbers go on behind the journal"
    );
}

#[test]
fn who_knows_more_or_other_changes_stops_all_numbering() {
    let odd = ReplicaPosition { applied: version(1), chain: HistoryHash([1; 32]), epoch: 1 };
    for (position, halt) in [
        (ReplicaPosition { applied: version(9), ..odd }, HaltReason::Behind),
        (odd, HaltReason::Differs),
        (
            ReplicaPosition { applied: Lsn { epoch: 2, number: 3 }, epoch: 2, ..odd },
            HaltReason::Superseded,
        ),
        (ReplicaPosition { epoch: 2, ..odd }, HaltReason::Superseded),
    ] {
        let mut coordinator = master();
        join(&mut coordinator, A, 0);
        make(&mut coordinator, A, put(1, "a"));
        let actions = join_as(&mut coordinator, B, position);
        assert!(actions.contains(&CoordinatorAction::Halted(halt)), "{position:?}");
        assert!(matches!(sent(&actions, B)[..], [ToSlave::Refuse { epoch: 1, .. }]));
        assert_eq!(
            answers(&propose(&mut coordinator, A, put(2, "b")), A),
            [(2, Some(ErrorCode::NoChanges))]
        );
        assert_eq!(
            answers(&propose(&mut coordinator, A, put(1, "a")), A),
            [(1, None)],
            "what has a number keeps it"
        );
    }
}

#[test]
fn start_numbers_nothing_until_all_folders_joined_or_timed_out() {
    let known = BTreeSet::from([folder(A), folder(B)]);
    for opened in [false, true] {
        let mut coordinator =
            Coordinator::new(MasterState::new(HistoryHash([7; 32])), known.clone());
        join(&mut coordinator, A, 0);
        assert!(coordinator.is_opening() && propose(&mut coordinator, A, put(1, "a")).is_empty());
        let actions = if opened {
            coordinator.on(CoordinatorEvent::GraceEnded, 0)
        } else {
            join(&mut coordinator, B, 0)
        };
        assert_eq!(written(&actions), [1]);
    }
}

#[test]
fn a_slave_that_knows_nothing_is_told_the_whole_tree() {
    let mut coordinator = master();
    assert!(matches!(sent(&join(&mut coordinator, A, 0), A)[..], [ToSlave::Follow { .. }]));
    (1..=3).for_each(|n| drop(make(&mut coordinator, A, put(n, "f"))));
    let actions = join(&mut coordinator, B, 0);
    assert!(matches!(
        sent(&actions, B)[..],
        [ToSlave::Compare { lsn, .. }, ToSlave::Page { entries, .. }]
            if *lsn == version(3) && entries.len() == 1
    ));
}

#[test]
fn a_slave_that_was_away_too_long_is_told_the_whole_tree() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    (1..=3).for_each(|n| drop(make(&mut coordinator, A, put(n, &format!("f{n}")))));
    coordinator.on(CoordinatorEvent::Trim(Trimmed::Changes(version(2))), 0);
    let actions = join(&mut coordinator, B, 1);
    assert!(matches!(
        sent(&actions, B)[..],
        [ToSlave::Compare { .. }, ToSlave::Page { entries, ids, .. }]
            if entries.len() == 3 && ids.len() == 3
    ));
    make(&mut coordinator, A, put(4, "f4"));
    let actions = hear(&mut coordinator, B, ToMaster::Ready);
    assert!(matches!(
        sent(&actions, B)[..],
        [ToSlave::End { lsn, entries: 3, .. }]
            if *lsn == version(3)
    ));
    assert_eq!(
        committed(&hear(&mut coordinator, B, ToMaster::Ready), B),
        [4],
        "and continues behind it"
    );
    // If the changes after the listing are also gone, the comparison begins again.
    join(&mut coordinator, LinkId(12), 1);
    coordinator.on(CoordinatorEvent::Trim(Trimmed::Changes(version(4))), 0);
    hear(&mut coordinator, LinkId(12), ToMaster::Ready);
    make(&mut coordinator, A, put(5, "f5"));
    coordinator.on(CoordinatorEvent::Trim(Trimmed::Changes(version(5))), 0);
    assert_eq!(
        hear(&mut coordinator, LinkId(12), ToMaster::Ready),
        [CoordinatorAction::Close { link: LinkId(12) }]
    );
    assert_eq!(coordinator.applied(LinkId(12)), None);
}

#[test]
fn a_journal_that_cannot_be_written_takes_no_number() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    propose(&mut coordinator, A, put(1, "a"));
    propose(&mut coordinator, A, put(2, "b"));
    let refusal = Refusal::new(ErrorCode::NoSpace, "full");
    let actions = coordinator
        .on(CoordinatorEvent::WriteFailed { for_good: false, refusal: refusal.clone() }, 0);
    assert_eq!(
        (answers(&actions, A), written(&actions)),
        (vec![(1, Some(ErrorCode::NoSpace))], vec![1]),
        "the next one gets the number"
    );
    let version = actions.iter().find_map(|action| {
        if let CoordinatorAction::Write(batch) = action { Some(batch[0].version) } else { None }
    });
    assert_eq!(version, Some(Lsn { epoch: 1, number: 1 }));
    let actions = coordinator.on(CoordinatorEvent::WriteFailed { for_good: true, refusal }, 0);
    assert_eq!(answers(&actions, A), [(2, Some(ErrorCode::NoSpace))]);
    assert_eq!(
        answers(&propose(&mut coordinator, A, put(3, "c")), A),
        [(3, Some(ErrorCode::NoChanges))]
    );
    assert!(coordinator.tree().is_empty());
}

#[test]
fn content_is_given_up_only_if_all_folders_miss_it() {
    let mut coordinator = master();
    for link in [A, B] {
        join(&mut coordinator, link, 0);
        lacks(&mut coordinator, link, 0, &[]);
    }
    make(&mut coordinator, A, put(1, "a"));
    make(&mut coordinator, A, put(2, "a"));
    hear(&mut coordinator, A, ToMaster::Applied { upto: version(2) });
    assert_eq!(
        written(&hear(&mut coordinator, A, ToMaster::PublishFailed { of: version(2) })),
        [0u64; 0],
        "B has not heard of it"
    );
    let actions = hear(&mut coordinator, B, ToMaster::Applied { upto: version(2) });
    assert_eq!(written(&actions), [0u64; 0], "and may come by it until it has given it up");
    assert_eq!(written(&give_up(&mut coordinator, &actions)), [3]);
    let actions = coordinator.on(CoordinatorEvent::Written, 0);
    assert_eq!(names(&coordinator), ["/a 1-3"]);
    assert_eq!(actions.len(), 0, "A and B take more later");
    let actions = hear(&mut coordinator, A, ToMaster::Ready);
    assert!(
        matches!(
            sent(&actions, A)[..],
            [ToSlave::Commit { changes }]
                if changes.iter().any(|committed| committed.restored.len() == 1)
        ),
        "{actions:?}"
    );
    // Both say that they do not have the former content either: it is lost.
    for link in [A, B] {
        hear(&mut coordinator, link, ToMaster::Applied { upto: version(3) });
        hear(&mut coordinator, link, ToMaster::Holds { put: version(1), has: false });
    }
    assert_eq!(
        (coordinator.lost().collect::<Vec<_>>(), names(&coordinator)),
        (vec![version(1)], vec!["/a 1-3".to_owned()])
    );
    // What was never there before goes, where its slave has said that it could not place it.
    make(&mut coordinator, A, put(4, "b"));
    for link in [A, B] {
        hear(&mut coordinator, link, ToMaster::Applied { upto: version(4) });
    }
    let actions = hear(&mut coordinator, A, ToMaster::PublishFailed { of: version(4) });
    assert_eq!(written(&give_up(&mut coordinator, &actions)), [5]);
    assert!(matches!(
        sent(&join(&mut coordinator, LinkId(11), 4), LinkId(11))[0],
        ToSlave::Follow { given_up, .. }
            if *given_up == [version(4)]
    ));
    coordinator.on(CoordinatorEvent::Written, 0);
    assert_eq!(names(&coordinator), ["/a 1-3"]);
    // A repeated request for a withdrawn put gets no success, also from a master that starts with a
    // snapshot.
    let again = Coordinator::new(
        MasterState::from_bytes(&coordinator.state().to_bytes()).unwrap(),
        BTreeSet::new(),
    );
    for mut coordinator in [coordinator, again] {
        join(&mut coordinator, LinkId(13), 5);
        assert_eq!(
            answers(&propose(&mut coordinator, LinkId(13), put(4, "b")), LinkId(13)),
            [(4, Some(ErrorCode::Storage))]
        );
    }
}

#[test]
fn held_content_and_absent_folders_prevent_a_withdrawal() {
    let mut coordinator = master();
    for link in [A, B] {
        join(&mut coordinator, link, 0);
        lacks(&mut coordinator, link, 0, &[]);
    }
    make(&mut coordinator, A, put(1, "a"));
    hear(&mut coordinator, A, ToMaster::Applied { upto: version(1) });
    hear(&mut coordinator, B, ToMaster::Applied { upto: version(1) });
    hear(&mut coordinator, B, ToMaster::Holds { put: version(1), has: true });
    assert!(
        hear(&mut coordinator, A, ToMaster::PublishFailed { of: version(1) }).is_empty(),
        "B has it"
    );
    coordinator.on(CoordinatorEvent::LinkClosed { link: B }, 0);
    assert!(
        hear(&mut coordinator, A, ToMaster::Holds { put: version(1), has: false }).is_empty(),
        "B is away, and has it"
    );
    // It comes back without: only B's word was missing. Two had it, so what it replaced is not
    // known any more.
    join(&mut coordinator, LinkId(12), 1);
    assert_eq!(
        lacks(&mut coordinator, LinkId(12), 1, &[1]),
        [CoordinatorAction::Lost { put: version(1) }]
    );
    assert_eq!(coordinator.lost().collect::<Vec<_>>(), [version(1)]);
    hear(&mut coordinator, A, ToMaster::Holds { put: version(1), has: true });
    assert_eq!(coordinator.lost().count(), 0);
}

#[test]
fn a_folder_that_is_forgotten_is_not_waited_for() {
    let mut coordinator = master();
    for link in [A, B] {
        join(&mut coordinator, link, 0);
        lacks(&mut coordinator, link, 0, &[]);
    }
    make(&mut coordinator, B, put(1, "a"));
    coordinator.on(CoordinatorEvent::LinkClosed { link: B }, 0);
    hear(&mut coordinator, A, ToMaster::Applied { upto: version(1) });
    let actions = coordinator.on(CoordinatorEvent::Forget { folder: folder(B) }, 0);
    assert_eq!(
        actions,
        [CoordinatorAction::Lost { put: version(1) }],
        "no replica holds it now, and it may have been confirmed"
    );
}

#[test]
fn who_wants_copies_hears_when_they_are_there() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    join(&mut coordinator, B, 0);
    hear(&mut coordinator, A, ToMaster::Propose { request: put(1, "a"), found: false, copies: 2 });
    coordinator.on(CoordinatorEvent::Written, 0);
    let actions = hear(&mut coordinator, B, ToMaster::Holds { put: version(1), has: true });
    assert_eq!(sent(&actions, A), [&ToSlave::Copies { put: version(1), copies: 2 }]);
    let actions = hear(
        &mut coordinator,
        B,
        ToMaster::Propose { request: put(1, "a"), found: false, copies: 2 },
    );
    assert!(
        sent(&actions, B).contains(&&ToSlave::Copies { put: version(1), copies: 2 }),
        "asked again, they are there"
    );
}

#[test]
fn who_fetches_large_content_hears_of_each_new_holder() {
    let mut coordinator = master();
    for link in [A, B, LinkId(3)] {
        join(&mut coordinator, link, 0);
        lacks(&mut coordinator, link, 0, &[]);
    }
    make(&mut coordinator, A, put_of(1, "a", LARGE));
    let actions = hear(&mut coordinator, B, ToMaster::Holds { put: version(1), has: true });
    let holders = vec![folder(A), folder(B)];
    assert_eq!(
        sent(&actions, LinkId(3)),
        [&ToSlave::Holders { put: version(1), holders: holders.clone() }]
    );
    assert!(sent(&actions, B).is_empty());
    let actions = hear(&mut coordinator, LinkId(3), ToMaster::FindHolders { put: version(1) });
    assert_eq!(sent(&actions, LinkId(3)), [&ToSlave::Holders { put: version(1), holders }]);
}

#[test]
fn removed_files_that_turn_up_again_are_refused() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    make(&mut coordinator, A, put(1, "a"));
    make(&mut coordinator, A, put(2, "a"));
    make(&mut coordinator, A, remove(3, "a"));
    for n in [1, 2] {
        let request = ChangeRequest { id: ChangeId([n + 10; 16]), ..put(n, "a") };
        let actions = hear(
            &mut coordinator,
            A,
            ToMaster::Propose { request: request.clone(), found: true, copies: 1 },
        );
        assert_eq!(answers(&actions, A), [(n + 10, Some(ErrorCode::Changed))]);
    }
    assert_eq!(
        written(&propose(
            &mut coordinator,
            A,
            ChangeRequest { id: ChangeId([5; 16]), ..put(1, "a") }
        )),
        [4],
        "a session may put it again"
    );
    coordinator.on(CoordinatorEvent::Written, 0);
    coordinator.on(CoordinatorEvent::Trim(Trimmed::RemovalRecords(1)), 0);
    let request = ChangeRequest { id: ChangeId([6; 16]), ..put(2, "a") };
    assert_eq!(
        written(&hear(&mut coordinator, A, ToMaster::Propose { request, found: true, copies: 1 })),
        [5]
    );
}

#[test]
fn what_was_found_is_decided_behind_what_takes_content_away() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    make(&mut coordinator, A, put(1, "a"));
    let found = |coordinator: &mut Coordinator, n, of: u8| {
        let request = ChangeRequest { id: ChangeId([n; 16]), ..put(of, "a") };
        hear(coordinator, A, ToMaster::Propose { request, found: true, copies: 1 })
    };
    assert_eq!(written(&propose(&mut coordinator, A, put(2, "b"))), [2]);
    propose(&mut coordinator, A, remove(3, "a"));
    found(&mut coordinator, 4, 1);
    assert_eq!(written(&coordinator.on(CoordinatorEvent::Written, 0)), [3]);
    assert_eq!(
        answers(&coordinator.on(CoordinatorEvent::Written, 0), A),
        [(4, Some(ErrorCode::Changed))],
        "it went with the change before"
    );
    assert_eq!(written(&propose(&mut coordinator, A, put(5, "b"))), [4]);
    found(&mut coordinator, 6, 7);
    propose(&mut coordinator, A, put(8, "a"));
    found(&mut coordinator, 9, 7);
    assert_eq!(written(&coordinator.on(CoordinatorEvent::Written, 0)), [5, 6]);
    assert_eq!(
        answers(&coordinator.on(CoordinatorEvent::Written, 0), A),
        [(9, Some(ErrorCode::Changed))],
        "it was replaced"
    );
}

#[test]
fn what_is_asked_about_is_answered_once_it_is_decided() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    join(&mut coordinator, B, 0);
    propose(&mut coordinator, A, put(1, "a"));
    assert!(hear(&mut coordinator, B, ToMaster::QueryChange { id: ChangeId([1; 16]) }).is_empty());
    assert_eq!(
        answers(&hear(&mut coordinator, B, ToMaster::QueryChange { id: ChangeId([2; 16]) }), B),
        [(2, Some(ErrorCode::NotFound))]
    );
    assert_eq!(answers(&coordinator.on(CoordinatorEvent::Written, 0), B), [(1, None)]);
}

#[test]
fn closed_links_get_nothing_and_their_waits_are_dropped() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    propose(&mut coordinator, A, put(1, "a"));
    propose(&mut coordinator, A, put(2, "b"));
    coordinator.on(CoordinatorEvent::LinkClosed { link: A }, 0);
    assert!(coordinator.on(CoordinatorEvent::Written, 0).is_empty());
    assert_eq!(coordinator.last(), version(1), "what was being written counts");
    assert_eq!(committed(&join(&mut coordinator, A, 1), A), [0; 0]);
    let actions = join(&mut coordinator, LinkId(11), 1);
    assert_eq!(
        actions.first(),
        Some(&CoordinatorAction::Close { link: A }),
        "a slave has one link"
    );
}

#[test]
fn a_recovered_order_begins_in_a_higher_epoch_and_all_compare() {
    let mut known = TreeState::default();
    for (number, name) in [(1, "a"), (2, "b")] {
        let request = put(u8::try_from(number).unwrap(), name);
        known.apply(&LogEntry {
            version: version(number),
            id: request.id,
            time_ms: 0,
            change: request.change,
        });
    }
    let mut coordinator = Coordinator::new(
        MasterState::recovered(known, vec![], 2, HistoryHash([9; 32]), [5; 16]),
        BTreeSet::new(),
    );
    let begun = Timeline { after: version(2), id: [5; 16] };
    assert_eq!((coordinator.state().epoch(), coordinator.state().timelines()), (2, &[begun][..]));
    assert_eq!(names(&coordinator), ["/a 1-1", "/b 1-2"]);
    let actions = join_as(
        &mut coordinator,
        A,
        ReplicaPosition { applied: version(2), chain: HistoryHash([3; 32]), epoch: 1 },
    );
    assert!(matches!(
        sent(&actions, A)[..],
        [ToSlave::Compare { epoch: 2, .. }, ToSlave::Page { .. }]
    ));
    let actions = propose(&mut coordinator, A, put(1, "a"));
    assert_eq!(answers(&actions, A), [(1, None)], "ids are known still");
    let actions = propose(&mut coordinator, A, put(3, "c"));
    let first = actions.iter().find_map(|action| {
        if let CoordinatorAction::Write(batch) = action { Some(batch[0].version) } else { None }
    });
    assert_eq!(first, Some(Lsn { epoch: 2, number: 1 }));
}

#[test]
fn a_master_that_was_shortened_withdraws_as_before() {
    let mut coordinator = master();
    join(&mut coordinator, A, 0);
    make(&mut coordinator, A, put(1, "a"));
    make(&mut coordinator, A, put(2, "a"));
    let state = MasterState::from_bytes(&coordinator.state().to_bytes()).unwrap();
    let mut coordinator = Coordinator::new(state, BTreeSet::from([folder(A)]));
    join(&mut coordinator, A, 2);
    assert!(lacks(&mut coordinator, A, 2, &[2]).contains(&CoordinatorAction::Send {
        link: A,
        message: ToSlave::GiveUp { put: version(2) }
    }));
    assert_eq!(written(&hear(&mut coordinator, A, ToMaster::GivenUp { put: version(2) })), [3]);
    coordinator.on(CoordinatorEvent::Written, 0);
    assert_eq!(names(&coordinator), ["/a 1-3"]);
    assert_eq!(
        coordinator
            .tree()
            .get(&TreePath::new("a").unwrap())
            .and_then(|entry| entry.content)
            .map(|content| content.put),
        Some(version(1))
    );
}

#[test]
fn a_batch_of_large_properties_fits_into_the_journal() {
    let mut master = master();
    join(&mut master, A, 0);
    make(&mut master, A, put(1, "f"));
    let set = |n: u8| {
        let name = |local: &str| PropertyName { namespace: String::new(), local: local.into() };
        let change = |local| PropertyChange { name: name(local), value: Some("v".repeat(23_000)) };
        let changes = vec![change("a"), change("b")];
        let path = TreePath::new("f").unwrap();
        ChangeRequest { change: Change::SetProperties { path, changes }, ..put(n, "f") }
    };
    // The first is written alone; the others wait.
    assert_eq!(written(&propose(&mut master, A, set(2))), [2]);
    for n in 3..200 {
        assert!(written(&propose(&mut master, A, set(n))).is_empty());
    }
    let batch = written(&master.on(CoordinatorEvent::Written, 0));
    assert_eq!(batch.len(), BATCH_EXTRA / (46_000 + 2 * 9));
    let rest = written(&master.on(CoordinatorEvent::Written, 0));
    assert_eq!(rest.first(), batch.last().map(|last| last + 1).as_ref());
}
