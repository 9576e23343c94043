use super::*;
use crate::history_hash::HistoryHash;
use crate::message_budget::{LARGE, ReplicaPosition};
use crate::timeline::Timeline;
use crate::tree::TreeState;
use relais_proto::{Digest, Expect, FileTime, Mode, SlaveId, TreePath};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

fn folder(link: LinkId) -> FolderId {
    FolderId([u8::try_from(link.0 % 10).unwrap(); 16])
}

fn master() -> Coordinator {
    Coordinator::new(MasterState::new(HistoryHash([7; 32])), BTreeSet::new())
}

fn hear(order: &mut Coordinator, link: LinkId, message: ToMaster) -> Vec<Action> {
    order.on(Event::Received { link, message }, 0)
}

/// Joins with the first changes of the order's own.
fn join(order: &mut Coordinator, link: LinkId, number: u64) -> Vec<Action> {
    let applied = if number == 0 { Lsn::default() } else { version(number) };
    let chain = order
        .state()
        .kept()
        .take_while(|kept| kept.version <= applied)
        .fold(HistoryHash([7; 32]), crate::history_hash::next);
    join_as(order, link, ReplicaPosition { applied, chain, epoch: 1 })
}

fn join_as(order: &mut Coordinator, link: LinkId, position: ReplicaPosition) -> Vec<Action> {
    let folder = folder(link);
    hear(order, link, ToMaster::Join { slave: SlaveId(folder.0), folder, position })
}

fn lacks(order: &mut Coordinator, link: LinkId, upto: u64, puts: &[u64]) -> Vec<Action> {
    let upto = if upto == 0 { Lsn::default() } else { version(upto) };
    hear(
        order,
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
    ChangeRequest { id: ChangeId([n; 16]), change, expect: Expect::Any, keep_mode: false }
}

fn put(n: u8, name: &str) -> ChangeRequest {
    put_of(n, name, 1)
}

fn remove(n: u8, name: &str) -> ChangeRequest {
    let change = Change::Remove { path: TreePath::new(name).unwrap(), recursive: false };
    ChangeRequest { id: ChangeId([n; 16]), change, expect: Expect::Any, keep_mode: false }
}

fn propose(order: &mut Coordinator, link: LinkId, request: ChangeRequest) -> Vec<Action> {
    hear(order, link, ToMaster::Propose { request, found: false, copies: 1 })
}

/// A change is asked for and written; what came of the writing.
fn make(order: &mut Coordinator, link: LinkId, request: ChangeRequest) -> Vec<Action> {
    assert_eq!(written(&propose(order, link, request)).len(), 1);
    order.on(Event::Written, 0)
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
fn give_up(order: &mut Coordinator, actions: &[Action]) -> Vec<Action> {
    let request = actions.iter().filter_map(|action| match action {
        Action::Send { link, message: ToSlave::GiveUp { put } } => Some((*link, *put)),
        _ => None,
    });
    request.flat_map(|(link, put)| hear(order, link, ToMaster::GivenUp { put })).collect()
}

/// Numbers that are to be written, or that a link is told.
fn written(actions: &[Action]) -> Vec<u64> {
    let of = |action: &Action| match action {
        Action::Write(batch) => batch.iter().map(|log_entry| log_entry.version.number).collect(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(of).collect()
}

fn sent(actions: &[Action], to: LinkId) -> Vec<&ToSlave> {
    let of = |action| match action {
        &Action::Send { link, ref message } if link == to => Some(message),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn told(actions: &[Action], to: LinkId) -> Vec<u64> {
    let of = |message: &ToSlave| match message {
        ToSlave::Commit { changes } => {
            changes.iter().map(|told| told.entry.version.number).collect()
        }
        _ => Vec::new(),
    };
    sent(actions, to).into_iter().flat_map(of).collect()
}

fn answers(actions: &[Action], to: LinkId) -> Vec<(u8, Option<ErrorCode>)> {
    let of = |message: &ToSlave| match message {
        ToSlave::ProposalResult { id, answer } => {
            Some((id.0[0], answer.as_ref().err().map(|refusal| refusal.code)))
        }
        _ => None,
    };
    sent(actions, to).into_iter().filter_map(of).collect()
}

fn names(order: &Coordinator) -> Vec<String> {
    order.tree().iter().map(|(path, entry)| format!("{path} {}", entry.version)).collect()
}

#[test]
fn nobody_is_told_before_it_is_written_and_then_everybody_in_order() {
    let mut order = master();
    join(&mut order, A, 0);
    join(&mut order, B, 0);
    assert_eq!(written(&propose(&mut order, A, put(1, "a"))), [1]);
    assert!(
        propose(&mut order, B, put(2, "b")).is_empty(),
        "it waits for the write that is under way"
    );
    assert!(propose(&mut order, A, put(3, "c")).is_empty());
    let actions = order.on(Event::Written, 0);
    assert_eq!(
        (written(&actions), told(&actions, A), told(&actions, B)),
        (vec![2, 3], vec![1], vec![1])
    );
    assert!(order.on(Event::Written, 0).is_empty(), "they have not taken the first yet");
    let actions = hear(&mut order, B, ToMaster::Ready);
    assert_eq!((told(&actions, A), told(&actions, B)), (vec![], vec![2, 3]));
    assert_eq!(order.holders().of(version(2)).collect::<Vec<_>>(), [folder(B)]);
}

#[test]
fn what_is_asked_again_has_its_number_and_what_does_not_fit_has_none() {
    let mut order = master();
    join(&mut order, A, 0);
    propose(&mut order, A, put(1, "a"));
    assert!(propose(&mut order, A, put(1, "a")).is_empty());
    let actions = order.on(Event::Written, 0);
    assert_eq!((answers(&actions, A), told(&actions, A)), (vec![(1, None)], vec![1]));
    assert_eq!(
        answers(&propose(&mut order, A, put(2, "a/b")), A),
        [(2, Some(ErrorCode::NotFolder))]
    );
    assert_eq!(order.last(), version(1));
}

#[test]
fn a_slave_that_was_away_is_told_what_it_missed() {
    let mut state = MasterState::new(HistoryHash([7; 32]));
    (1..=5).for_each(|number| recover(&mut state, number, put(u8::try_from(number).unwrap(), "a")));
    let mut order = Coordinator::new(state, BTreeSet::new());
    assert_eq!(told(&join(&mut order, A, 3), A), [4, 5]);
    assert_eq!(told(&join(&mut order, B, 1), B), [2, 3, 4, 5]);
    assert_eq!(
        written(&propose(&mut order, A, put(9, "b"))),
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
        let mut order = master();
        join(&mut order, A, 0);
        make(&mut order, A, put(1, "a"));
        let actions = join_as(&mut order, B, position);
        assert!(actions.contains(&Action::Halted(halt)), "{position:?}");
        assert!(matches!(sent(&actions, B)[..], [ToSlave::Refuse { epoch: 1, .. }]));
        assert_eq!(
            answers(&propose(&mut order, A, put(2, "b")), A),
            [(2, Some(ErrorCode::NoChanges))]
        );
        assert_eq!(
            answers(&propose(&mut order, A, put(1, "a")), A),
            [(1, None)],
            "what has a number keeps it"
        );
    }
}

#[test]
fn after_a_start_nothing_is_numbered_until_all_folders_had_their_chance() {
    let known = BTreeSet::from([folder(A), folder(B)]);
    for opened in [false, true] {
        let mut order = Coordinator::new(MasterState::new(HistoryHash([7; 32])), known.clone());
        join(&mut order, A, 0);
        assert!(order.is_opening() && propose(&mut order, A, put(1, "a")).is_empty());
        let actions = if opened { order.on(Event::GraceEnded, 0) } else { join(&mut order, B, 0) };
        assert_eq!(written(&actions), [1]);
    }
}

#[test]
fn a_slave_that_knows_nothing_is_told_the_whole_tree() {
    let mut order = master();
    assert!(matches!(sent(&join(&mut order, A, 0), A)[..], [ToSlave::Follow { .. }]));
    (1..=3).for_each(|n| drop(make(&mut order, A, put(n, "f"))));
    let actions = join(&mut order, B, 0);
    assert!(
        matches!(sent(&actions, B)[..], [ToSlave::Compare { lsn, .. }, ToSlave::Page { entries, .. }] if *lsn == version(3) && entries.len() == 1)
    );
}

#[test]
fn a_slave_that_was_away_too_long_is_told_the_whole_tree() {
    let mut order = master();
    join(&mut order, A, 0);
    (1..=3).for_each(|n| drop(make(&mut order, A, put(n, &format!("f{n}")))));
    order.state_mut().shorten(version(2));
    let actions = join(&mut order, B, 1);
    assert!(
        matches!(sent(&actions, B)[..], [ToSlave::Compare { .. }, ToSlave::Page { entries, ids }] if entries.len() == 3 && ids.len() == 3)
    );
    make(&mut order, A, put(4, "f4"));
    let actions = hear(&mut order, B, ToMaster::Ready);
    assert!(
        matches!(sent(&actions, B)[..], [ToSlave::End { lsn, entries: 3, .. }] if *lsn == version(3))
    );
    assert_eq!(told(&hear(&mut order, B, ToMaster::Ready), B), [4], "and goes on behind it");
    // Where the changes behind the listing are gone too, it begins anew.
    join(&mut order, LinkId(12), 1);
    order.state_mut().shorten(version(4));
    hear(&mut order, LinkId(12), ToMaster::Ready);
    make(&mut order, A, put(5, "f5"));
    order.state_mut().shorten(version(5));
    assert_eq!(hear(&mut order, LinkId(12), ToMaster::Ready), [Action::Close { link: LinkId(12) }]);
    assert_eq!(order.applied(LinkId(12)), None);
}

#[test]
fn a_journal_that_cannot_be_written_takes_no_number() {
    let mut order = master();
    join(&mut order, A, 0);
    propose(&mut order, A, put(1, "a"));
    propose(&mut order, A, put(2, "b"));
    let refusal = Refusal::new(ErrorCode::NoSpace, "full");
    let actions = order.on(Event::WriteFailed { for_good: false, refusal: refusal.clone() }, 0);
    assert_eq!(
        (answers(&actions, A), written(&actions)),
        (vec![(1, Some(ErrorCode::NoSpace))], vec![1]),
        "the next one gets the number"
    );
    let version = actions.iter().find_map(|action| {
        if let Action::Write(batch) = action { Some(batch[0].version) } else { None }
    });
    assert_eq!(version, Some(Lsn { epoch: 1, number: 1 }));
    let actions = order.on(Event::WriteFailed { for_good: true, refusal }, 0);
    assert_eq!(answers(&actions, A), [(2, Some(ErrorCode::NoSpace))]);
    assert_eq!(answers(&propose(&mut order, A, put(3, "c")), A), [(3, Some(ErrorCode::NoChanges))]);
    assert!(order.tree().is_empty());
}

#[test]
fn content_is_given_up_only_when_all_folders_have_said_that_they_lack_it() {
    let mut order = master();
    for link in [A, B] {
        join(&mut order, link, 0);
        lacks(&mut order, link, 0, &[]);
    }
    make(&mut order, A, put(1, "a"));
    make(&mut order, A, put(2, "a"));
    hear(&mut order, A, ToMaster::Applied { upto: version(2) });
    assert_eq!(
        written(&hear(&mut order, A, ToMaster::PublishFailed { of: version(2) })),
        [0u64; 0],
        "B has not heard of it"
    );
    let actions = hear(&mut order, B, ToMaster::Applied { upto: version(2) });
    assert_eq!(written(&actions), [0u64; 0], "and may come by it until it has given it up");
    assert_eq!(written(&give_up(&mut order, &actions)), [3]);
    let actions = order.on(Event::Written, 0);
    assert_eq!(names(&order), ["/a 1-3"]);
    assert_eq!(actions.len(), 0, "A and B take more later");
    let actions = hear(&mut order, A, ToMaster::Ready);
    assert!(
        matches!(sent(&actions, A)[..], [ToSlave::Commit { changes }] if changes.iter().any(|told| told.restored.len() == 1)),
        "{actions:?}"
    );
    // Both say that they do not have the former content either: it is lost.
    for link in [A, B] {
        hear(&mut order, link, ToMaster::Applied { upto: version(3) });
        hear(&mut order, link, ToMaster::Holds { put: version(1), has: false });
    }
    assert_eq!(
        (order.lost().collect::<Vec<_>>(), names(&order)),
        (vec![version(1)], vec!["/a 1-3".to_owned()])
    );
    // What was never there before goes, where its slave has said that it could not place it.
    make(&mut order, A, put(4, "b"));
    for link in [A, B] {
        hear(&mut order, link, ToMaster::Applied { upto: version(4) });
    }
    let actions = hear(&mut order, A, ToMaster::PublishFailed { of: version(4) });
    assert_eq!(written(&give_up(&mut order, &actions)), [5]);
    assert!(
        matches!(sent(&join(&mut order, LinkId(11), 4), LinkId(11))[0], ToSlave::Follow { given_up, .. } if *given_up == [version(4)])
    );
    order.on(Event::Written, 0);
    assert_eq!(names(&order), ["/a 1-3"]);
    // Who asks for a withdrawn put again is not told that it is done, also by a master that begins with a snapshot.
    let again = Coordinator::new(
        MasterState::from_bytes(&order.state().to_bytes()).unwrap(),
        BTreeSet::new(),
    );
    for mut order in [order, again] {
        join(&mut order, LinkId(13), 5);
        assert_eq!(
            answers(&propose(&mut order, LinkId(13), put(4, "b")), LinkId(13)),
            [(4, Some(ErrorCode::Storage))]
        );
    }
}

#[test]
fn what_somebody_holds_is_not_withdrawn_and_a_folder_that_is_away_may_hold_it() {
    let mut order = master();
    for link in [A, B] {
        join(&mut order, link, 0);
        lacks(&mut order, link, 0, &[]);
    }
    make(&mut order, A, put(1, "a"));
    hear(&mut order, A, ToMaster::Applied { upto: version(1) });
    hear(&mut order, B, ToMaster::Applied { upto: version(1) });
    hear(&mut order, B, ToMaster::Holds { put: version(1), has: true });
    assert!(hear(&mut order, A, ToMaster::PublishFailed { of: version(1) }).is_empty(), "B has it");
    order.on(Event::LinkClosed { link: B }, 0);
    assert!(
        hear(&mut order, A, ToMaster::Holds { put: version(1), has: false }).is_empty(),
        "B is away, and has it"
    );
    // It comes back without: only B's word was missing. Two had it, so what it replaced is not known any more.
    join(&mut order, LinkId(12), 1);
    assert_eq!(lacks(&mut order, LinkId(12), 1, &[1]), [Action::Lost { put: version(1) }]);
    assert_eq!(order.lost().collect::<Vec<_>>(), [version(1)]);
    hear(&mut order, A, ToMaster::Holds { put: version(1), has: true });
    assert_eq!(order.lost().count(), 0);
}

#[test]
fn a_folder_that_is_forgotten_is_not_waited_for() {
    let mut order = master();
    for link in [A, B] {
        join(&mut order, link, 0);
        lacks(&mut order, link, 0, &[]);
    }
    make(&mut order, B, put(1, "a"));
    order.on(Event::LinkClosed { link: B }, 0);
    hear(&mut order, A, ToMaster::Applied { upto: version(1) });
    let actions = order.on(Event::Forget { folder: folder(B) }, 0);
    assert_eq!(
        actions,
        [Action::Lost { put: version(1) }],
        "nobody has it now, and it may have been answered"
    );
}

#[test]
fn who_wants_copies_hears_when_they_are_there() {
    let mut order = master();
    join(&mut order, A, 0);
    join(&mut order, B, 0);
    hear(&mut order, A, ToMaster::Propose { request: put(1, "a"), found: false, copies: 2 });
    order.on(Event::Written, 0);
    let actions = hear(&mut order, B, ToMaster::Holds { put: version(1), has: true });
    assert_eq!(sent(&actions, A), [&ToSlave::Copies { put: version(1), copies: 2 }]);
    let actions =
        hear(&mut order, B, ToMaster::Propose { request: put(1, "a"), found: false, copies: 2 });
    assert!(
        sent(&actions, B).contains(&&ToSlave::Copies { put: version(1), copies: 2 }),
        "asked again, they are there"
    );
}

#[test]
fn who_fetches_large_content_hears_of_each_new_holder() {
    let mut order = master();
    for link in [A, B, LinkId(3)] {
        join(&mut order, link, 0);
        lacks(&mut order, link, 0, &[]);
    }
    make(&mut order, A, put_of(1, "a", LARGE));
    let actions = hear(&mut order, B, ToMaster::Holds { put: version(1), has: true });
    let holders = vec![folder(A), folder(B)];
    assert_eq!(
        sent(&actions, LinkId(3)),
        [&ToSlave::Holders { put: version(1), holders: holders.clone() }]
    );
    assert!(sent(&actions, B).is_empty());
    let actions = hear(&mut order, LinkId(3), ToMaster::FindHolders { put: version(1) });
    assert_eq!(sent(&actions, LinkId(3)), [&ToSlave::Holders { put: version(1), holders }]);
}

#[test]
fn removed_files_that_turn_up_again_are_refused() {
    let mut order = master();
    join(&mut order, A, 0);
    make(&mut order, A, put(1, "a"));
    make(&mut order, A, put(2, "a"));
    make(&mut order, A, remove(3, "a"));
    for n in [1, 2] {
        let request = ChangeRequest { id: ChangeId([n + 10; 16]), ..put(n, "a") };
        let actions = hear(
            &mut order,
            A,
            ToMaster::Propose { request: request.clone(), found: true, copies: 1 },
        );
        assert_eq!(answers(&actions, A), [(n + 10, Some(ErrorCode::Changed))]);
    }
    assert_eq!(
        written(&propose(&mut order, A, ChangeRequest { id: ChangeId([5; 16]), ..put(1, "a") })),
        [4],
        "a session may put it again"
    );
    order.on(Event::Written, 0);
    order.state_mut().forget_removed(1);
    let request = ChangeRequest { id: ChangeId([6; 16]), ..put(2, "a") };
    assert_eq!(
        written(&hear(&mut order, A, ToMaster::Propose { request, found: true, copies: 1 })),
        [5]
    );
}

#[test]
fn what_was_found_is_decided_behind_what_takes_content_away() {
    let mut order = master();
    join(&mut order, A, 0);
    make(&mut order, A, put(1, "a"));
    let found = |order: &mut Coordinator, n, of: u8| {
        let request = ChangeRequest { id: ChangeId([n; 16]), ..put(of, "a") };
        hear(order, A, ToMaster::Propose { request, found: true, copies: 1 })
    };
    assert_eq!(written(&propose(&mut order, A, put(2, "b"))), [2]);
    propose(&mut order, A, remove(3, "a"));
    found(&mut order, 4, 1);
    assert_eq!(written(&order.on(Event::Written, 0)), [3]);
    assert_eq!(
        answers(&order.on(Event::Written, 0), A),
        [(4, Some(ErrorCode::Changed))],
        "it went with the change before"
    );
    assert_eq!(written(&propose(&mut order, A, put(5, "b"))), [4]);
    found(&mut order, 6, 7);
    propose(&mut order, A, put(8, "a"));
    found(&mut order, 9, 7);
    assert_eq!(written(&order.on(Event::Written, 0)), [5, 6]);
    assert_eq!(
        answers(&order.on(Event::Written, 0), A),
        [(9, Some(ErrorCode::Changed))],
        "it was replaced"
    );
}

#[test]
fn what_is_asked_about_is_answered_once_it_is_decided() {
    let mut order = master();
    join(&mut order, A, 0);
    join(&mut order, B, 0);
    propose(&mut order, A, put(1, "a"));
    assert!(hear(&mut order, B, ToMaster::QueryChange { id: ChangeId([1; 16]) }).is_empty());
    assert_eq!(
        answers(&hear(&mut order, B, ToMaster::QueryChange { id: ChangeId([2; 16]) }), B),
        [(2, Some(ErrorCode::NotFound))]
    );
    assert_eq!(answers(&order.on(Event::Written, 0), B), [(1, None)]);
}

#[test]
fn a_link_that_is_gone_is_told_nothing_and_what_it_waited_for_is_forgotten() {
    let mut order = master();
    join(&mut order, A, 0);
    propose(&mut order, A, put(1, "a"));
    propose(&mut order, A, put(2, "b"));
    order.on(Event::LinkClosed { link: A }, 0);
    assert!(order.on(Event::Written, 0).is_empty());
    assert_eq!(order.last(), version(1), "what was being written counts");
    assert_eq!(told(&join(&mut order, A, 1), A), [0; 0]);
    let actions = join(&mut order, LinkId(11), 1);
    assert_eq!(actions.first(), Some(&Action::Close { link: A }), "a slave has one link");
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
    let mut order = Coordinator::new(
        MasterState::recovered(known, vec![], 2, HistoryHash([9; 32]), [5; 16]),
        BTreeSet::new(),
    );
    let begun = Timeline { after: version(2), id: [5; 16] };
    assert_eq!((order.state().epoch(), order.state().timelines()), (2, &[begun][..]));
    assert_eq!(names(&order), ["/a 1-1", "/b 1-2"]);
    let actions = join_as(
        &mut order,
        A,
        ReplicaPosition { applied: version(2), chain: HistoryHash([3; 32]), epoch: 1 },
    );
    assert!(matches!(
        sent(&actions, A)[..],
        [ToSlave::Compare { epoch: 2, .. }, ToSlave::Page { .. }]
    ));
    let actions = propose(&mut order, A, put(1, "a"));
    assert_eq!(answers(&actions, A), [(1, None)], "ids are known still");
    let actions = propose(&mut order, A, put(3, "c"));
    let first = actions.iter().find_map(|action| {
        if let Action::Write(batch) = action { Some(batch[0].version) } else { None }
    });
    assert_eq!(first, Some(Lsn { epoch: 2, number: 1 }));
}

#[test]
fn a_master_that_was_shortened_withdraws_as_before() {
    let mut order = master();
    join(&mut order, A, 0);
    make(&mut order, A, put(1, "a"));
    make(&mut order, A, put(2, "a"));
    let state = MasterState::from_bytes(&order.state().to_bytes()).unwrap();
    let mut order = Coordinator::new(state, BTreeSet::from([folder(A)]));
    join(&mut order, A, 2);
    assert!(
        lacks(&mut order, A, 2, &[2])
            .contains(&Action::Send { link: A, message: ToSlave::GiveUp { put: version(2) } })
    );
    assert_eq!(written(&hear(&mut order, A, ToMaster::GivenUp { put: version(2) })), [3]);
    order.on(Event::Written, 0);
    assert_eq!(names(&order), ["/a 1-3"]);
    assert_eq!(
        order
            .tree()
            .get(&TreePath::new("a").unwrap())
            .and_then(|entry| entry.content)
            .map(|content| content.put),
        Some(version(1))
    );
}
