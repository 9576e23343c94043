//! Servers that keep to the protocol.

use super::*;
use crate::Sessions;

#[test]
fn every_ask_gets_its_answer_in_order() {
    let tree =
        Tree::new([("a", bytes(10)), ("b", bytes(5000)), ("c", Vec::new()), ("d", bytes(1))]);
    let server = Server::honest(&tree);
    let held = Held::new(
        &[&server],
        [
            list(""),
            get("a"),
            Request::Stat(path("b")).into(),
            Request::Hash(path("b")).into(),
            get("b"),
            get("c"),
            put(1, "e", bytes(70_000)),
            make_folder(2, "f"),
            get("e"),
            put(3, "g", Vec::new()),
            get("g"),
            Request::Remove {
                id: ChangeId([4; 16]),
                path: path("d"),
                recursive: false,
                expect: Expect::Any,
            }
            .into(),
            get("d"),
        ],
    );
    let ran = held.ran();
    assert_eq!(ran.servers, [server.addr]);
    assert_eq!((ran.bytes_in, ran.bytes_out), (10 + 5000 + 70_000, 70_000));
    let entry = |name: &str| Told::Entry(name.to_owned());
    let expected = vec![
        (0, entry("a")),
        (0, entry("b")),
        (0, entry("c")),
        (0, entry("d")),
        (0, Told::Listed),
        (1, Told::Content(bytes(10))),
        (2, Told::Details("b".to_owned(), None)),
        (3, Told::Details("b".to_owned(), Some(digest_of(&bytes(5000))))),
        (4, Told::Content(bytes(5000))),
        (5, Told::Content(Vec::new())),
        (6, Told::Committed(1)),
        (7, Told::Committed(2)),
        (8, Told::Content(bytes(70_000))),
        (9, Told::Committed(3)),
        (10, Told::Content(Vec::new())),
        (11, Told::Committed(4)),
        (12, Told::Refused(ErrorCode::NotFound)),
    ];
    assert_eq!(held.asker.told, expected);
    assert_eq!(tree.made(), ["put e", "mkdir f", "put g", "rm d"]);
    assert!(
        held.asker.moved.is_empty()
            && held.sessions.failures.is_empty()
            && held.sessions.abandoned == 0
    );
}

#[test]
fn without_an_ask_no_connection_is_opened() {
    let server = Server::honest(&Tree::default());
    let held = Held::new(&[&server], []);
    assert_eq!(*held.ran(), PipelineStats::default());
    assert!(held.sessions.open.is_none());
}

#[test]
fn answers_bring_more_to_ask() {
    let tree = Tree::new([("a", bytes(10)), ("b", bytes(20)), ("c", bytes(30)), ("d", bytes(40))]);
    let server = Server::honest(&tree);
    let held = Held::with(&[&server], Asker { walks: true, ..Asker::new([list("")]) });
    held.ran();
    let contents: Vec<_> = (1..5).map(|tag| held.asker.of(tag)).collect();
    assert_eq!(contents, [10, 20, 30, 40].map(|len| vec![Told::Content(bytes(len))]));
}

#[test]
fn a_session_is_used_again() {
    let tree = Tree::new([("a", bytes(10))]);
    let server = Server::honest(&tree);
    let mut sessions = sessions(&[&server]);
    for _ in 0..3 {
        let held = Held::over(sessions, Asker::new([get("a"), get("missing")]));
        assert_eq!(
            held.asker.told,
            [(0, Told::Content(bytes(10))), (1, Told::Refused(ErrorCode::NotFound))]
        );
        sessions = held.sessions;
    }
    assert_eq!(server.seen.lock().unwrap().connections, 1);
}

#[test]
fn a_refusal_leaves_the_others() {
    let tree = Tree::new([("a", bytes(10)), ("b", bytes(20))]);
    for code in [
        ErrorCode::NotFound,
        ErrorCode::IsFolder,
        ErrorCode::Denied,
        ErrorCode::BadName,
        ErrorCode::Exists,
        ErrorCode::NoSpace,
    ] {
        let honest = tree.clone();
        let server = Server::saying(move |request, data| match request {
            Request::Get(get) if get.path.as_str() == "bad" => server::refused(code),
            other => honest.answer(other, data),
        });
        let held = Held::new(&[&server], [get("a"), get("bad"), get("b")]);
        held.ran();
        assert_eq!(
            held.asker.told,
            [
                (0, Told::Content(bytes(10))),
                (1, Told::Refused(code)),
                (2, Told::Content(bytes(20)))
            ]
        );
        assert!(held.sessions.failures.is_empty());
    }
}

#[test]
fn a_listing_that_breaks_off_is_refused() {
    let tree = Tree::new([("a", bytes(1)), ("b", bytes(1)), ("c", bytes(1)), ("d", bytes(1))]);
    let honest = tree.clone();
    let server = Server::saying(move |request, data| {
        let mut out = honest.answer(request, data);
        if matches!(request, Request::List { .. }) {
            out.truncate(
                out.len() - encode(&[Reply::Done { lsn: relais_proto::Lsn::default() }]).len(),
            );
            out.extend(server::refused(ErrorCode::NotFolder));
        }
        out
    });
    let held = Held::new(&[&server], [list(""), get("a")]);
    held.ran();
    assert_eq!(held.asker.of(0).len(), 5);
    assert_eq!(held.asker.of(0).last(), Some(&Told::Refused(ErrorCode::NotFolder)));
    assert_eq!(held.asker.of(1), [Told::Content(bytes(1))]);
}

#[test]
fn large_content_is_told_and_not_taken() {
    let small = usize::try_from(SMALL).unwrap();
    let tree = Tree::new([
        ("just", bytes(small)),
        ("over", bytes(small + 1)),
        ("much", bytes(3 * small)),
        ("z", bytes(3)),
    ]);
    let server = Server::honest(&tree);
    let held = Held::new(&[&server], [get("over"), get("just"), get("much"), get("z")]);
    held.ran();
    assert_eq!(
        held.asker.told,
        [
            (0, Told::TooLarge(SMALL + 1)),
            (1, Told::Content(bytes(small))),
            (2, Told::TooLarge(3 * SMALL)),
            (3, Told::Content(bytes(3)))
        ]
    );
    assert_eq!(held.ran().bytes_in, 3 * SMALL + 3);
}

#[test]
fn content_that_is_too_large_to_put_ends_it() {
    let server = Server::honest(&Tree::default());
    let held = Held::new(&[&server], [put(1, "a", vec![0; usize::try_from(SMALL).unwrap() + 1])]);
    assert!(matches!(held.result, Err(TransferError::Stopped(_))), "{:?}", held.result);
    assert!(server.requests().is_empty());
}

#[test]
fn the_caller_stops_it() {
    let tree = Tree::new([("a", bytes(10))]);
    let server = Server::honest(&tree);
    let held = Held::with(
        &[&server],
        Asker { stop_at: Some(3), ..Asker::new(std::iter::repeat_with(|| get("a")).take(20)) },
    );
    assert!(matches!(&held.result, Err(TransferError::Stopped(e)) if e.to_string() == "enough"));
    // Answers are outstanding, so the connection is unusable for others.
    assert_eq!(
        (held.asker.told.len(), held.sessions.abandoned, held.sessions.failures.len()),
        (3, 1, 0)
    );
    // With nothing outstanding it stays.
    let held = Held::with(
        &[&server],
        Asker { stop_at: Some(3), ..Asker::new([get("a"), get("a"), get("a")]) },
    );
    assert!(held.result.is_err());
    assert_eq!((held.sessions.abandoned, held.sessions.failures.len()), (0, 0));
}

#[test]
fn the_caller_stops_it_before_large_content_has_passed() {
    let tree = Tree::new([("big", bytes(2_000_000))]);
    let held = Held::with(
        &[&Server::honest(&tree)],
        Asker { stop_at: Some(1), ..Asker::new([get("big")]) },
    );
    assert!(matches!(held.result, Err(TransferError::Stopped(_))));
    assert_eq!(held.sessions.abandoned, 1);
}

#[test]
fn the_user_interrupts() {
    let tree = Tree::new([("a", bytes(10))]);
    let server = Server::honest(&tree);
    let held = Held::with(
        &[&server],
        Asker { interrupt_at: Some(3), ..Asker::new(std::iter::repeat_with(|| get("a")).take(20)) },
    );
    assert!(matches!(held.result, Err(TransferError::Interrupted)));
    assert_eq!(
        (held.asker.told.len(), held.sessions.abandoned, held.sessions.failures.len()),
        (3, 1, 0)
    );
    // Before the first: nothing is asked.
    let held = Held::with(&[&server], Asker { interrupt_at: Some(0), ..Asker::new([get("a")]) });
    assert!(matches!(held.result, Err(TransferError::Interrupted)) && held.sessions.open.is_none());
}

/// Interrupted from another thread, which shuts the socket down.
struct Waiting(std::sync::Arc<std::sync::atomic::AtomicBool>, bool);

impl PipelineHandler for Waiting {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        (!std::mem::replace(&mut self.1, true)).then(|| (0, get("a")))
    }

    fn answer(&mut self, _: u64, _: PipelineReply<'_>) -> Result<(), TransferError> {
        panic!("nothing was answered")
    }

    fn interrupted(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn the_user_interrupts_while_a_server_is_silent() {
    let server = Server::mannered(
        &Tree::default(),
        server::Manner { quiet: Some(Duration::from_secs(3600)), ..Default::default() },
    );
    let mut sessions = sessions(&[&server]);
    let stream = std::sync::Arc::clone(sessions.connection().unwrap().stream());
    let interrupted = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&interrupted);
    let presses = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        flag.store(true, std::sync::atomic::Ordering::SeqCst);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let result = run(&mut sessions, &mut Waiting(interrupted, false));
    assert!(matches!(result, Err(TransferError::Interrupted)), "{result:?}");
    assert_eq!((sessions.abandoned, sessions.failures.len()), (1, 0));
    presses.join().unwrap();
}
