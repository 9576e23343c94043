//! Missing content, servers that are behind, and servers that can make no changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use relais_proto::{Endpoint, GetRequest, SlaveId};

use super::server::refused;
use super::*;

fn elsewhere(addrs: &[SocketAddr]) -> Vec<u8> {
    let holders =
        addrs.iter().map(|addr| Endpoint { id: SlaveId([1; 16]), addrs: vec![*addr] }).collect();
    encode(&[Reply::Elsewhere { holders }])
}

/// A server that lacks these files; each has the address of its holder, if there is one.
fn lacking(tree: &Tree, files: &[(&str, Option<SocketAddr>)]) -> Server {
    let files: HashMap<String, Vec<SocketAddr>> = files
        .iter()
        .map(|(name, addr)| ((*name).to_owned(), addr.iter().copied().collect()))
        .collect();
    let tree = tree.clone();
    Server::saying(move |request, data| {
        let name = match request {
            Request::Get(GetRequest { path, .. }) | Request::Hash(path) => path.as_str(),
            _ => "",
        };
        files.get(name).map_or_else(|| tree.answer(request, data), |holders| elsewhere(holders))
    })
}

fn tree() -> Tree {
    Tree::new([("a", bytes(10)), ("b", bytes(1500)), ("c", bytes(20))])
}

#[test]
fn missing_content_comes_from_a_holder_after_other_answers() {
    let tree = tree();
    let b = Server::honest(&tree);
    let a = lacking(&tree, &[("b", Some(b.addr))]);
    let held =
        Held::new(&[&a, &b], [get("a"), get("b"), get("c"), Request::Hash(path("b")).into()]);
    assert_eq!(held.ran().servers, [a.addr, b.addr]);
    assert_eq!(
        (held.asker.of(0), held.asker.of(1)),
        (vec![Told::Content(bytes(10))], vec![Told::Content(bytes(1500))])
    );
    assert_eq!(held.asker.of(3), [Told::Details("b".into(), Some(digest_of(&bytes(1500))))]);
    assert_eq!((a.requests().len(), b.requests().len()), (4, 2));
    // Nothing has failed, so no lost server is reported.
    assert!(
        held.sessions.failures.is_empty()
            && held.asker.moved.is_empty()
            && held.sessions.abandoned == 0
    );
}

#[test]
fn holders_are_followed_from_one_to_the_next() {
    let tree = tree();
    let c = Server::honest(&tree);
    let b = lacking(&tree, &[("c", Some(c.addr))]);
    let a = lacking(&tree, &[("b", Some(b.addr)), ("c", None)]);
    let held = Held::new(&[&a, &b, &c], [get("a"), get("b"), get("c")]);
    held.ran();
    assert_eq!(
        (held.asker.of(1), held.asker.of(2)),
        (vec![Told::Content(bytes(1500))], vec![Told::Content(bytes(20))])
    );
}

#[test]
fn what_nobody_has_is_refused_and_the_rest_is_there() {
    let tree = tree();
    let circle: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let server = |other: usize| {
        let (tree, circle) = (tree.clone(), Arc::clone(&circle));
        Server::saying(move |request, data| match request {
            Request::Get(get) if get.path.as_str() == "b" => {
                elsewhere(&[circle.lock().unwrap()[other]])
            }
            _ => tree.answer(request, data),
        })
    };
    let (a, b) = (server(1), server(0));
    circle.lock().unwrap().extend([a.addr, b.addr]);
    let alone = lacking(&tree, &[("b", None)]);
    for servers in [&[&a, &b][..], &[&alone]] {
        let begun = Instant::now();
        let held = Held::new(servers, [get("a"), get("b"), get("c")]);
        held.ran();
        assert_eq!(held.asker.of(1), [Told::Refused(ErrorCode::NoContent)]);
        assert_eq!(
            (held.asker.of(0), held.asker.of(2)),
            (vec![Told::Content(bytes(10))], vec![Told::Content(bytes(20))])
        );
        assert!(
            begun.elapsed() >= Duration::from_secs(5) && begun.elapsed() < Duration::from_secs(9)
        );
        assert!(held.sessions.failures.is_empty());
    }
    assert!(a.requests().len() + b.requests().len() < 40);
}

#[test]
fn very_many_files_that_are_not_there_yet() {
    let tree = tree();
    let b = Server::honest(&tree);
    let a = lacking(&tree, &[("b", Some(b.addr))]);
    let held = Held::new(&[&a, &b], std::iter::repeat_with(|| get("b")).take(1500));
    held.ran();
    assert!((0..1500).all(|tag| held.asker.of(tag) == [Told::Content(bytes(1500))]));
    assert!(held.sessions.failures.is_empty());
}

#[test]
fn an_answer_elsewhere_to_anything_else_breaks_the_protocol() {
    let server = Server::saying(|_, _| elsewhere(&[]));
    for ask in [list(""), Request::Stat(path("a")).into(), make_folder(1, "x")] {
        let held = Held::new(&[&server], [ask]);
        assert!(matches!(held.result, Err(TransferError::BadServer(_))), "{:?}", held.result);
    }
}

#[test]
fn a_server_that_is_behind_is_left_and_requests_repeat_in_order() {
    let tree = tree();
    let behind = Server::saying(|_, _| refused(ErrorCode::Behind));
    let held = Held::new(
        &[&behind, &Server::honest(&tree)],
        [make_folder(1, "x"), get("a"), make_folder(2, "y")],
    );
    held.ran();
    assert_eq!(tree.made(), ["mkdir x", "mkdir y"]);
    assert_eq!(held.sessions.left, ["behind"]);
    assert!(held.sessions.failures.is_empty() && held.asker.moved.is_empty());

    let held = Held::new(&[&behind], [get("a")]);
    assert!(
        matches!(
            &held.result,
            Err(TransferError::Refused(refusal))
                if refusal.code == ErrorCode::Behind
        ),
        "{:?}",
        held.result
    );
}

#[test]
fn a_server_that_can_make_no_changes_is_no_failed_one() {
    let tree = tree();
    let cut_off = Server::saying(|_, _| refused(ErrorCode::NoChanges));
    let held = Held::new(&[&cut_off, &Server::honest(&tree)], [make_folder(1, "x")]);
    held.ran();
    assert_eq!((held.asker.of(0), held.sessions.left.len()), (vec![Told::Committed(1)], 1));
    assert!(held.sessions.failures.is_empty() && held.asker.moved.is_empty());
}

#[test]
fn a_server_that_is_alone_says_so_before_any_answer() {
    let tree = tree();
    let honest = tree.clone();
    let server = Server::saying(move |request, data| {
        let mut out = encode(&[Reply::MasterUnreachable { ms: 5 }]);
        let mut answer = honest.answer(request, data);
        if matches!(request, Request::Get(_)) {
            // Also between the content and its end.
            let end = answer.split_off(answer.len() - 5 - 32);
            answer.extend(encode(&[Reply::MasterUnreachable { ms: 6 }]));
            answer.extend(end);
        }
        out.extend(answer);
        out
    });
    let held = Held::new(
        &[&server],
        [
            list(""),
            get("b"),
            make_folder(1, "x"),
            put(2, "d", bytes(5)),
            Request::Hash(path("a")).into(),
        ],
    );
    held.ran();
    assert_eq!(
        (held.asker.of(1), held.asker.of(3)),
        (vec![Told::Content(bytes(1500))], vec![Told::Committed(2)])
    );
    assert!(held.sessions.failures.is_empty());
}
