//! Connections that end anywhere, and servers that take over.

use super::server::{BLOCK, Manner, refused};
use super::*;

fn tree() -> Tree {
    Tree::new([
        ("a", bytes(10)),
        ("b", bytes(2500)),
        ("c", Vec::new()),
        ("d", bytes(1)),
        ("e", bytes(7)),
    ])
}

fn asks() -> Vec<PipelineRequest> {
    vec![
        get("a"),
        list(""),
        put(1, "p", bytes(20_000)),
        get("missing"),
        get("b"),
        make_folder(2, "q"),
        Request::Hash(path("b")).into(),
        put(3, "r", bytes(3)),
        get("c"),
    ]
}

/// All that a server sends in answer to [`asks`].
fn length_of_answers() -> usize {
    let server = Server::honest(&tree());
    Held::new(&[&server], asks()).ran();
    let tree = tree();
    server.requests().iter().map(|request| tree_answer(&tree, request)).sum()
}

fn tree_answer(tree: &Tree, request: &Request) -> usize {
    let data = if let Request::Put(put) = request {
        bytes(usize::try_from(put.size.unwrap()).unwrap())
    } else {
        Vec::new()
    };
    tree.answer(request, &data).len()
}

/// Checks that every answer arrived once, and every change was made once.
#[track_caller]
fn check(held: &Held, tree: &Tree, what: &str) {
    held.ran();
    let told = &held.asker;
    let names = ["a", "b", "c", "d", "e"];
    let mut listed: Vec<Told> = names.iter().map(|name| Told::Entry((*name).to_owned())).collect();
    let listing: Vec<Told> = told
        .of(1)
        .into_iter()
        .filter(|told| !matches!(told, Told::Entry(name) if name == "p" || name == "r"))
        .collect();
    listed.push(Told::Listed);
    assert_eq!(listing, listed, "{what}");
    let mut names: Vec<String> = told
        .of(1)
        .into_iter()
        .filter_map(|told| if let Told::Entry(name) = told { Some(name) } else { None })
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{what}");
    assert_eq!(told.of(0), [Told::Content(bytes(10))], "{what}");
    assert_eq!(told.of(2), [Told::Committed(1)], "{what}");
    assert_eq!(told.of(3), [Told::Refused(ErrorCode::NotFound)], "{what}");
    assert_eq!(told.of(4), [Told::Content(bytes(2500))], "{what}");
    assert_eq!(told.of(5), [Told::Committed(2)], "{what}");
    assert_eq!(
        told.of(6),
        [Told::Details("b".to_owned(), Some(digest_of(&bytes(2500))))],
        "{what}"
    );
    assert_eq!(told.of(7), [Told::Committed(3)], "{what}");
    assert_eq!(told.of(8), [Told::Content(Vec::new())], "{what}");
    assert_eq!(told.asked, 9);
    assert_eq!(tree.made(), ["put p", "mkdir q", "put r"], "{what}");
}

#[test]
fn a_cut_after_every_byte() {
    let length = length_of_answers();
    for cut in (0..length).filter(|n| n % 3 == 0 || *n < 500 || *n > length - 300) {
        let tree = tree();
        let (a, b) = (Server::cutting(&tree, [cut]), Server::honest(&tree));
        let held = Held::new(&[&a, &b], asks());
        check(&held, &tree, &format!("cut after {cut} bytes"));
        assert_eq!(held.sessions.failures.len(), 1);
        let moved: &[_] =
            if held.ran().servers.contains(&a.addr) { &[(a.addr, b.addr)] } else { &[] };
        assert_eq!(held.asker.moved, moved);
    }
}

#[test]
fn the_same_server_again_and_again() {
    // Each connection brings at least one answer or entry, and so it ends well however often it is
    // cut.
    for step in (2700..length_of_answers()).step_by(50) {
        let tree = tree();
        let server = Server::cutting(&tree, std::iter::repeat_n(step, 40));
        let held = Held::new(&[&server], asks());
        check(&held, &tree, &format!("cuts after {step} bytes each"));
        assert!(!held.sessions.failures.is_empty());
        assert_eq!(held.ran().servers, [server.addr]);
    }
}

#[test]
fn a_listing_goes_on_behind_the_last_name() {
    let names: Vec<String> = (0..100).map(|n| format!("n{n:03}")).collect();
    let tree = Tree::new(names.iter().map(|name| (name.as_str(), Vec::new())));
    let server = Server::cutting(&tree, std::iter::repeat_n(400, 60));
    let held = Held::new(&[&server], [list("")]);
    held.ran();
    let told: Vec<Told> = names.iter().cloned().map(Told::Entry).chain([Told::Listed]).collect();
    assert_eq!(held.asker.of(0), told);
    let afters: Vec<String> = server
        .requests()
        .into_iter()
        .filter_map(|r| if let Request::List { after, .. } = r { Some(after) } else { None })
        .collect();
    assert!(afters.len() > 5 && afters.is_sorted(), "{afters:?}");
}

#[test]
fn the_order_stays() {
    // More than the window holds, so that there are asks that wait for room when the connection
    // ends.
    let name = "n".repeat(255);
    let tree = Tree::new([(name.as_str(), bytes(10))]);
    let server = Server::cutting(&tree, std::iter::repeat_n(10_000, 5));
    let held = Held::new(&[&server], std::iter::repeat_with(|| get(&name)).take(1000));
    held.ran();
    assert_eq!(held.sessions.failures.len(), 5);
    assert!(held.asker.told.iter().map(|(tag, _)| *tag).eq(0..1000));
}

#[test]
fn connections_without_an_answer_come_to_an_end() {
    let server = Server::cutting(&tree(), std::iter::repeat_n(3, 50));
    let held = Held::new(&[&server], asks());
    assert!(matches!(held.result, Err(TransferError::Unreachable(_))), "{:?}", held.result);
    assert_eq!(held.sessions.failures.len(), 16);
    assert!(held.asker.told.is_empty());
}

#[test]
fn nobody_is_there() {
    // A port that other tests never get.
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let held = Held::new(&[&Server { addr, seen: std::sync::Arc::default() }], asks());
    assert!(matches!(held.result, Err(TransferError::Unreachable(_))));
    assert_eq!(held.sessions.abandoned, 0);
}

#[test]
fn refusals_that_close_are_about_the_server() {
    use ErrorCode::{BadTicket, Busy, Draining, LoginNeeded, NoSlave, TimedOut};
    for code in [Draining, TimedOut, Busy, NoSlave, LoginNeeded, BadTicket] {
        let tree = tree();
        let (honest, mut answered) = (tree.clone(), 0);
        let a = Server::saying(move |request, data| {
            answered += 1;
            if answered > 4 { refused(code) } else { honest.answer(request, data) }
        });
        let b = Server::honest(&tree);
        let held = Held::new(&[&a, &b], asks());
        check(&held, &tree, code.text());
        assert_eq!(held.sessions.failures, [code.text()]);
        assert_eq!(held.ran().servers, [a.addr, b.addr]);
        assert_eq!(held.asker.moved, [(a.addr, b.addr)]);
        // Answered requests are not repeated.
        assert_eq!(b.requests().len(), 5);
    }
}

#[test]
fn a_refusal_that_closes_in_place_of_a_block() {
    let tree = Tree::new([("big", bytes(2_000_000)), ("small", bytes(2500))]);
    for name in ["big", "small"] {
        let honest = tree.clone();
        let a = Server::saying(move |request, data| {
            let mut out = honest.answer(request, data);
            // One block, and then the error.
            let header = encode(&[Reply::ContentHeader(Tree::header(&[], 0))]).len();
            out.truncate(header + relais_proto::HEADER_LEN + BLOCK);
            out.extend(refused(ErrorCode::Draining));
            out
        });
        let held = Held::new(&[&a, &Server::honest(&tree)], [get(name), get("small")]);
        held.ran();
        let first =
            if name == "big" { Told::TooLarge(2_000_000) } else { Told::Content(bytes(2500)) };
        assert_eq!(held.asker.told, [(0, first), (1, Told::Content(bytes(2500)))]);
        assert_eq!(held.sessions.failures, ["draining"]);
    }
}

#[test]
fn silence_counts_as_a_cut() {
    let tree = tree();
    // It never answers: its first answer waits until more has come than ever will.
    let a = Server::mannered(
        &tree,
        Manner { quiet: Some(Duration::from_secs(3600)), ..Manner::default() },
    );
    let b = Server::honest(&tree);
    let mut sessions = sessions(&[&a, &b]);
    sessions.silence = Duration::from_millis(700);
    let held = Held::over(sessions, Asker::new(asks()));
    check(&held, &tree, "silence");
    assert_eq!(held.sessions.failures.len(), 1);
    assert!(held.asker.moved.is_empty() && held.ran().servers == [b.addr]);
}
