use super::*;
use relais_proto::{Digest, Expect, FileTime, TreePath};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

fn slave(link: LinkId) -> (SlaveId, FolderId) {
    let n = u8::try_from(link.0).unwrap();
    (SlaveId([n; 16]), FolderId([n; 16]))
}

fn join(order: &mut Order, link: LinkId, number: u64) -> Vec<Action> {
    let (slave, folder) = slave(link);
    let applied = if number == 0 { Version::default() } else { version(number) };
    order.on(Event::Joined { slave, link, folder, applied }, 0)
}

fn version(number: u64) -> Version {
    Version { epoch: 1, number }
}

fn put(n: u8, name: &str) -> Asked {
    let path = TreePath::new(name).unwrap();
    let change = Change::Put { path, size: 1, digest: Digest([n; 32]), mtime: FileTime::default(), executable: false };
    Asked { id: ChangeId([n; 16]), change, expect: Expect::Any }
}

fn propose(order: &mut Order, link: LinkId, asked: Asked) -> Vec<Action> {
    order.on(Event::Proposed { link, asked }, 0)
}

/// Numbers that an action is about: those to be written, or told to a link.
fn written(actions: &[Action]) -> Vec<u64> {
    let of = |action: &Action| match action {
        Action::Write(batch) => batch.iter().map(|numbered| numbered.version.number).collect(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(of).collect()
}

fn told(actions: &[Action], to: LinkId) -> Vec<u64> {
    let of = |action: &Action| match action {
        Action::Tell { link, changes } if *link == to => changes.iter().map(|told| told.numbered.version.number).collect(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(of).collect()
}

fn answers(actions: &[Action]) -> Vec<(LinkId, u8, Option<ErrorCode>)> {
    let of = |action: &Action| match action {
        Action::Answer { link, id, answer } => Some((*link, id.0[0], answer.as_ref().err().map(|refusal| refusal.code))),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn nobody_is_told_before_it_is_written_and_then_everybody_in_order() {
    let mut order = Order::default();
    assert!(join(&mut order, A, 0).is_empty() && join(&mut order, B, 0).is_empty());
    assert_eq!(written(&propose(&mut order, A, put(1, "a"))), [1]);
    assert!(propose(&mut order, B, put(2, "b")).is_empty(), "it waits for the write that is under way");
    assert!(propose(&mut order, A, put(3, "c")).is_empty());
    let actions = order.on(Event::Written, 0);
    assert_eq!((written(&actions), told(&actions, A), told(&actions, B)), (vec![2, 3], vec![1], vec![1]));
    let actions = order.on(Event::Written, 0);
    assert!(actions.is_empty(), "they have not taken the first yet");
    let actions = order.on(Event::Ready { link: B }, 0);
    assert_eq!((told(&actions, A), told(&actions, B)), (vec![], vec![2, 3]));
    assert_eq!(order.holders().of(version(2)).collect::<Vec<_>>(), [slave(B).1]);
}

#[test]
fn what_is_asked_again_has_its_number_and_what_does_not_fit_has_none() {
    let mut order = Order::default();
    join(&mut order, A, 0);
    propose(&mut order, A, put(1, "a"));
    assert!(propose(&mut order, A, put(1, "a")).is_empty());
    let actions = order.on(Event::Written, 0);
    assert_eq!((answers(&actions), told(&actions, A)), (vec![(A, 1, None)], vec![1]));
    assert_eq!(answers(&propose(&mut order, A, put(2, "a/b"))), [(A, 2, Some(ErrorCode::NotFolder))]);
    assert_eq!(order.last(), version(1));
}

#[test]
fn a_slave_that_was_away_is_told_what_it_missed() {
    let mut order = Order::default();
    for number in 1..=5 {
        let asked = put(u8::try_from(number).unwrap(), "a");
        order.recover(Numbered { version: version(number), id: asked.id, time_ms: 0, change: asked.change });
    }
    assert_eq!(told(&join(&mut order, A, 3), A), [4, 5]);
    assert_eq!(told(&join(&mut order, B, 0), B), [1, 2, 3, 4, 5]);
    assert_eq!(join(&mut order, LinkId(3), 9), [Action::Compare { link: LinkId(3) }], "it knows changes that nobody here has made");
    assert_eq!(written(&propose(&mut order, A, put(9, "b"))), [6], "numbers go on behind the journal");
}

#[test]
fn a_slave_that_was_away_too_long_compares() {
    let mut order = Order::default();
    for number in 1..=u64::try_from(TAIL).unwrap() + 2 {
        let asked = put(7, "a");
        order.recover(Numbered { version: version(number), id: asked.id, time_ms: 0, change: asked.change });
    }
    assert_eq!(join(&mut order, A, 1), [Action::Compare { link: A }]);
    assert_eq!(told(&join(&mut order, B, 2), B).first(), Some(&3));
}

#[test]
fn a_journal_that_cannot_be_written_takes_no_number() {
    let mut order = Order::default();
    join(&mut order, A, 0);
    propose(&mut order, A, put(1, "a"));
    propose(&mut order, A, put(2, "b"));
    let refusal = Refusal::new(ErrorCode::NoSpace, "full");
    let actions = order.on(Event::NotWritten { for_good: false, refusal: refusal.clone() }, 0);
    assert_eq!((answers(&actions), written(&actions)), (vec![(A, 1, Some(ErrorCode::NoSpace))], vec![1]), "the next one gets the number");
    let actions = order.on(Event::NotWritten { for_good: true, refusal }, 0);
    assert_eq!(answers(&actions), [(A, 2, Some(ErrorCode::NoSpace))]);
    assert_eq!(answers(&propose(&mut order, A, put(3, "c"))), [(A, 3, Some(ErrorCode::NoChanges))]);
    assert!(order.tree().is_empty());
}

#[test]
fn what_cannot_be_carried_out_is_withdrawn_unless_somebody_else_has_it() {
    let mut order = Order::default();
    join(&mut order, A, 0);
    join(&mut order, B, 0);
    for (n, name) in [(1, "a"), (2, "b")] {
        propose(&mut order, A, put(n, name));
        order.on(Event::Written, 0);
    }
    order.on(Event::Holds { link: B, put: version(2), has: true }, 0);
    assert!(order.on(Event::Failed { link: A, of: version(2), id: ChangeId([8; 16]) }, 0).is_empty(), "B has it");
    let actions = order.on(Event::Failed { link: A, of: version(1), id: ChangeId([9; 16]) }, 0);
    assert_eq!(written(&actions), [3]);
    order.on(Event::Written, 0);
    assert_eq!(order.tree().iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["/b"]);
}

#[test]
fn a_link_that_is_gone_is_told_nothing_and_what_it_waited_for_is_forgotten() {
    let mut order = Order::default();
    join(&mut order, A, 0);
    propose(&mut order, A, put(1, "a"));
    propose(&mut order, A, put(2, "b"));
    order.on(Event::Left { link: A }, 0);
    assert!(order.on(Event::Written, 0).is_empty());
    assert_eq!(order.last(), version(1), "what was being written counts");
    assert_eq!(told(&join(&mut order, A, 0), A), [1]);
}
