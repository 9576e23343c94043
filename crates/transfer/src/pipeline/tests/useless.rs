//! Answers that are of no use: damaged content, files that change, changes that are not possible
//! now.

use relais_proto::GetRequest;

use super::server::refused;
use super::*;

/// A server that changes its first answers about the file `bad` with `spoil`.
fn spoiling(
    tree: &Tree,
    mut times: usize,
    spoil: impl Fn(&mut Vec<u8>) + Send + 'static,
) -> Server {
    let tree = tree.clone();
    Server::saying(move |request, data| {
        let mut out = tree.answer(request, data);
        if matches!(request, Request::Get(GetRequest { path, .. }) if path.as_str() == "bad")
            && times > 0
        {
            times -= 1;
            spoil(&mut out);
        }
        out
    })
}

/// Flips a bit of the content.
fn rot(answer: &mut [u8]) {
    let at = answer.len() - 5 - 32 - 1;
    answer[at] ^= 1;
}

/// The error comes in place of the end.
fn change(answer: &mut Vec<u8>) {
    answer.truncate(answer.len() - 5 - 32);
    answer.extend(refused(ErrorCode::Changed));
}

fn tree() -> Tree {
    Tree::new([("a", bytes(10)), ("bad", bytes(1500)), ("c", bytes(20))])
}

fn others_are_fine(held: &Held) {
    held.ran();
    assert_eq!(held.asker.of(0), [Told::Content(bytes(10))]);
    assert_eq!(held.asker.of(2), [Told::Content(bytes(20))]);
}

fn asks() -> [PipelineRequest; 3] {
    [get("a"), get("bad"), get("c")]
}

#[test]
fn damaged_content_comes_from_another_server() {
    let tree = tree();
    let (a, b) = (spoiling(&tree, usize::MAX, |answer| rot(answer)), Server::honest(&tree));
    let held = Held::new(&[&a, &b], asks());
    others_are_fine(&held);
    assert_eq!(held.asker.of(1), [Told::Content(bytes(1500))]);
    // Everything else is answered first: one damaged file does not break up the session.
    assert_eq!((a.requests().len(), b.requests().len(), held.sessions.failures.len()), (3, 1, 1));
    assert_eq!(held.asker.moved, [(a.addr, b.addr)]);
}

#[test]
fn content_damaged_in_transit_is_fetched_from_the_same_server() {
    let tree = tree();
    let held = Held::new(&[&spoiling(&tree, 2, |answer| rot(answer))], asks());
    others_are_fine(&held);
    assert_eq!(held.asker.of(1), [Told::Content(bytes(1500))]);
}

#[test]
fn content_that_is_always_damaged_is_refused() {
    let tree = tree();
    let server = spoiling(&tree, usize::MAX, |answer| rot(answer));
    let held = Held::new(&[&server], asks());
    others_are_fine(&held);
    assert_eq!(held.asker.of(1), [Told::Refused(ErrorCode::Damaged)]);
    assert_eq!(server.requests().len(), 2 + 4);
    assert_eq!(held.ran().bytes_in, 30 + 4 * 1500);
}

#[test]
fn very_many_damaged_files_come_to_an_end() {
    let tree = tree();
    let server = spoiling(&tree, usize::MAX, |answer| rot(answer));
    let held = Held::new(&[&server], std::iter::repeat_with(|| get("bad")).take(2000));
    held.ran();
    assert!((0..2000).all(|tag| held.asker.of(tag) == [Told::Refused(ErrorCode::Damaged)]));
}

#[test]
fn a_file_that_changes_while_it_is_sent() {
    let tree = tree();
    let server = spoiling(&tree, 2, change);
    let held = Held::new(&[&server], asks());
    others_are_fine(&held);
    assert_eq!(held.asker.of(1), [Told::Content(bytes(1500))]);
    assert!(held.sessions.failures.is_empty());
    let server = spoiling(&tree, usize::MAX, change);
    let held = Held::new(&[&server], asks());
    others_are_fine(&held);
    assert_eq!(held.asker.of(1), [Told::Refused(ErrorCode::Changed)]);
    assert_eq!(server.requests().len(), 2 + 4);
}

#[test]
fn a_file_that_one_server_cannot_read() {
    let tree = tree();
    let a = spoiling(&tree, usize::MAX, |answer| *answer = refused(ErrorCode::Storage));
    let held = Held::new(&[&a, &Server::honest(&tree)], asks());
    others_are_fine(&held);
    assert_eq!(held.asker.of(1), [Told::Content(bytes(1500))]);
    let held = Held::new(&[&a], asks());
    others_are_fine(&held);
    assert_eq!(held.asker.of(1), [Told::Refused(ErrorCode::Storage)]);
}

#[test]
fn a_put_that_was_damaged_on_the_way_is_sent_again() {
    let tree = Tree::default();
    let (honest, mut first) = (tree.clone(), true);
    let server = Server::saying(move |request, data| {
        if std::mem::take(&mut first) {
            refused(ErrorCode::Damaged)
        } else {
            honest.answer(request, data)
        }
    });
    let held = Held::new(&[&server], [put(1, "x", bytes(100_000)), make_folder(2, "y")]);
    held.ran();
    assert_eq!(held.asker.told, [(1, Told::Committed(1)), (0, Told::Committed(2))]);
    assert_eq!(tree.content("x"), Some(bytes(100_000)));
    assert_eq!(held.ran().bytes_out, 200_000);
}

#[test]
fn a_change_that_does_not_fit_is_refused_at_once() {
    for code in [ErrorCode::Changed, ErrorCode::Conflict, ErrorCode::Exists, ErrorCode::Denied] {
        let server = Server::saying(move |_, _| refused(code));
        let held = Held::new(&[&server], [put(1, "x", bytes(10)), make_folder(2, "y")]);
        held.ran();
        assert_eq!(held.asker.told, [(0, Told::Refused(code)), (1, Told::Refused(code))]);
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn a_change_that_one_server_cannot_store_is_stored_by_another() {
    let tree = Tree::default();
    let a = Server::saying(|_, _| refused(ErrorCode::Storage));
    let asks = || [put(1, "x", bytes(10)), make_folder(2, "y")];
    let held = Held::new(&[&a, &Server::honest(&tree)], asks());
    held.ran();
    assert_eq!(tree.made(), ["put x", "mkdir y"]);
    let held = Held::new(&[&a], asks());
    held.ran();
    let refused = Told::Refused(ErrorCode::Storage);
    assert_eq!(held.asker.told, [(0, refused.clone()), (1, refused)]);
}

#[test]
fn a_full_server_is_asked_again_once_and_then_refuses() {
    let server = Server::saying(move |_, _| refused(ErrorCode::NoSpace));
    let held = Held::new(&[&server], [put(1, "x", bytes(10)), make_folder(2, "y")]);
    held.ran();
    // There is no other: each ask is answered, and asked at most twice.
    let if_match = ErrorCode::NoSpace;
    assert_eq!(held.asker.told, [(0, Told::Refused(if_match)), (1, Told::Refused(if_match))]);
    assert!(server.requests().len() <= 4);
}

#[test]
fn a_server_that_makes_no_changes_is_left() {
    let tree = Tree::default();
    let (a, b) = (Server::saying(|_, _| refused(ErrorCode::NoChanges)), Server::honest(&tree));
    let asks = || [make_folder(1, "x"), put(2, "y", bytes(10)), make_folder(3, "z")];
    let held = Held::new(&[&a, &b], asks());
    held.ran();
    assert_eq!(
        held.asker.told,
        [(0, Told::Committed(1)), (1, Told::Committed(2)), (2, Told::Committed(3))]
    );
    // In their order, because one may need the other.
    assert_eq!(tree.made(), ["mkdir x", "put y", "mkdir z"]);
    // Where none makes changes each one is refused, and no server is left for each anew.
    let held = Held::new(&[&a], asks());
    held.ran();
    assert_eq!(held.asker.told.len(), 3);
    assert!(held.asker.told.iter().all(|(_, told)| *told == Told::Refused(ErrorCode::NoChanges)));
    assert_eq!((held.sessions.left.len(), held.sessions.failures.len()), (1, 0));
}
