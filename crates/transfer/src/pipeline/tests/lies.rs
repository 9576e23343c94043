//! Servers that break the protocol.

use relais_proto::{ContentHeader, Entry, FrameType, Kind, Lsn, Mode, PageBuilder, encode_frame};

use super::server::{BLOCK, Manner};
use super::*;

/// A server that says `lie` to the first request of each connection.
fn liar(lie: Vec<u8>) -> Server {
    Server::saying(move |_, _| lie.clone())
}

/// The request `ask` detects the lie; an honest server then answers.
#[track_caller]
fn found(ask: &PipelineRequest, lie: &[u8], what: &str) {
    let tree = Tree::new([("a", bytes(2500)), ("b", bytes(1))]);
    let server = liar(lie.to_vec());
    let held = Held::new(&[&server], [ask.clone()]);
    assert!(matches!(held.result, Err(TransferError::BadServer(_))), "{what}: {:?}", held.result);
    assert_eq!(held.sessions.failures.len(), 3, "{what}");
    assert!(
        held.asker.told.iter().all(|(_, told)| matches!(told, Told::Entry(_))),
        "{what}: {:?}",
        held.asker.told
    );
    let held = Held::new(&[&server, &Server::honest(&tree)], [ask.clone(), get("b")]);
    held.ran();
    assert_eq!(held.asker.of(1), [Told::Content(bytes(1))], "{what}");
    assert_eq!(held.sessions.failures.len(), 1, "{what}");
}

#[test]
fn answers_of_another_kind() {
    let details = |name: &str, kind, digest| {
        let entry = Entry {
            name: name.to_owned(),
            kind,
            mode: Mode::new(0o644),
            size: 0,
            mtime: MTIME,
            version: None,
        };
        Reply::Details { entry, digest, holders: Vec::new(), lsn: Lsn::default() }
    };
    let committed = Reply::Committed {
        version: Lsn::default(),
        copies: 1,
        lsn: Lsn::default(),
        digest: None,
        current: true,
    };
    let header = Reply::ContentHeader(Tree::header(&[], 0));
    let done = Reply::Done { lsn: Lsn::default() };
    let page = Reply::Entries(PageBuilder::new().finish());
    let end = Reply::End { digest: Digest([0; 32]) };
    let right = details("a", Kind::File, Some(Digest([0; 32])));
    let staged = Reply::Staged { offset: 0, current: Expect::Any };
    let (put, folder) = (put(1, "a", bytes(10)), make_folder(2, "a"));
    for (ask, wrong) in [
        (list(""), vec![&committed, &header, &end, &right, &staged, &Reply::Pong]),
        (get("a"), vec![&committed, &done, &end, &right, &page, &staged]),
        (Request::Stat(path("a")).into(), vec![&committed, &done, &header]),
        (Request::Hash(path("a")).into(), vec![&committed, &done, &header]),
        (put, vec![&done, &end, &header, &right, &staged]),
        (folder, vec![&done, &end, &header, &right, &staged]),
    ] {
        for reply in wrong {
            found(&ask, &encode(std::slice::from_ref(reply)), &format!("{ask:?}, {reply:?}"));
        }
        let mut block = Vec::new();
        encode_frame(&mut block, FrameType::Block, |to| to.push(1));
        found(&ask, &block, &format!("{ask:?}, a block"));
    }
    found(
        &Request::Stat(path("a")).into(),
        &encode(&[details("b", Kind::File, None)]),
        "another name",
    );
    found(
        &Request::Hash(path("a")).into(),
        &encode(&[details("a", Kind::File, None)]),
        "no digest",
    );
    found(
        &Request::Hash(path("a")).into(),
        &encode(&[details("a", Kind::Folder, Some(Digest([0; 32])))]),
        "the digest of a folder",
    );
}

#[test]
fn errors_that_no_server_sends() {
    for code in [
        ErrorCode::Interrupted,
        ErrorCode::Local,
        ErrorCode::Cut,
        ErrorCode::BadServer,
        ErrorCode::BadRequest,
    ] {
        found(&get("a"), &server::refused(code), code.text());
    }
}

fn listing(names: &[&str]) -> Vec<u8> {
    let mut page = PageBuilder::new();
    for name in names {
        let entry = Entry {
            name: (*name).to_owned(),
            kind: Kind::File,
            mode: Mode::new(0o644),
            size: 0,
            mtime: MTIME,
            version: None,
        };
        assert!(page.push(&entry));
    }
    encode(&[Reply::Entries(page.finish()), Reply::Done { lsn: Lsn::default() }])
}

#[test]
fn names_that_do_not_rise_or_are_none() {
    for names in [
        ["b", "a"],
        ["a", "a"],
        [".relais", "a"],
        ["..", "a"],
        ["a/b", "c"],
        ["a\u{1b}", "b"],
        ["", "a"],
    ] {
        found(&list(""), &listing(&names), &format!("{names:?}"));
    }
    // Over frames, and over connections.
    let mut two = listing(&["a", "b"]);
    two.truncate(two.len() - encode(&[Reply::Done { lsn: Lsn::default() }]).len());
    two.extend(listing(&["b"]));
    let held = Held::new(&[&liar(two)], [list("")]);
    assert!(matches!(held.result, Err(TransferError::BadServer(_))));
    // No name is handed out twice.
    assert_eq!(held.asker.of(0), ["a", "b"].map(|name| Told::Entry(name.to_owned())));
}

#[test]
fn names_that_make_the_path_too_long() {
    let folder = ["f".repeat(250).as_str(); 16].join("/");
    let name = "n".repeat(255);
    let server = liar(listing(&["a", &name]));
    let held = Held::new(&[&server], [list(&folder)]);
    assert!(matches!(held.result, Err(TransferError::BadServer(_))), "{:?}", held.result);
}

#[test]
fn headers_that_answer_another_question() {
    let content = bytes(2500);
    let changes: [fn(&mut ContentHeader); 5] = [
        |header| header.length = 2499,
        |header| (header.offset, header.length) = (1, 2499),
        |header| header.size = 2501,
        |header| (header.size, header.length) = (1 << 60, 1 << 60),
        |header| header.block_size = 999,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut header = Tree::header(&content, u64::MAX);
        change(&mut header);
        let mut lie = encode(&[Reply::ContentHeader(header)]);
        encode_frame(&mut lie, FrameType::Block, |to| to.extend_from_slice(&content[..BLOCK]));
        found(&get("a"), &lie, &format!("header {number}"));
    }
    let mut header = Tree::header(&[], 0);
    header.digest = Some(Digest([9; 32]));
    found(
        &get("a"),
        &encode(&[Reply::ContentHeader(header), Reply::End { digest: digest_of(&[]) }]),
        "another digest at the end",
    );
}

#[test]
fn blocks_of_other_lengths() {
    let content = bytes(2500);
    for lengths in [
        &[999][..],
        &[1001],
        &[0],
        &[2500],
        &[],
        &[1000],
        &[1000, 1000, 501],
        &[1000, 1000, 499],
        &[1000, 1000, 500, 0],
        &[1000, 1000, 500, 1000],
    ] {
        let mut lie = encode(&[Reply::ContentHeader(Tree::header(&content, u64::MAX))]);
        for length in lengths {
            encode_frame(&mut lie, FrameType::Block, |to| to.resize(to.len() + length, 7));
        }
        Reply::End { digest: digest_of(&content) }.encode(&mut lie);
        found(&get("a"), &lie, &format!("{lengths:?}"));
    }
}

#[test]
fn content_that_was_only_announced_takes_no_memory() {
    // One block of 1 MiB is announced, and then the connection ends.
    let mut header = Tree::header(&vec![0; usize::try_from(SMALL).unwrap()], u64::MAX);
    header.block_size = u32::try_from(SMALL).unwrap();
    let mut from = encode(&[Reply::ContentHeader(header.clone())]);
    from.extend(
        relais_proto::FrameHeader { kind: FrameType::Block, len: header.block_size }.to_bytes(),
    );
    from.extend(bytes(100_000));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let sender = std::thread::spawn(move || {
        std::io::Write::write_all(&mut listener.accept().unwrap().0, &from).unwrap()
    });
    let mut connection = Connection::connect(addr, Duration::from_secs(5)).unwrap();
    assert!(matches!(connection.read_reply(), Ok(Some(Reply::ContentHeader(_)))));
    let (mut buffer, mut came) = (Vec::new(), 0);
    let result = super::super::content::take_in(&mut connection, &header, &mut buffer, &mut came);
    assert!(result.is_err());
    assert!(
        buffer.capacity() <= 256 * 1024 && came <= 100_000,
        "{} bytes of room",
        buffer.capacity()
    );
    sender.join().unwrap();
}

#[test]
fn answers_that_nobody_asked_for() {
    let tree = Tree::new([("a", bytes(10))]);
    // Behind the last answer: everything is answered, and the connection is not used any more.
    let honest = tree.clone();
    let server = Server::saying(move |request, data| {
        let mut out = honest.answer(request, data);
        out.extend(encode(&[Reply::Pong]));
        out
    });
    let held = Held::new(&[&server], [get("a")]);
    held.ran();
    assert_eq!(held.asker.told, [(0, Told::Content(bytes(10)))]);
    assert_eq!(held.sessions.failures.len(), 1);
    // In between.
    let held = Held::new(&[&server, &Server::honest(&tree)], [get("a"), get("a"), get("a")]);
    held.ran();
    assert_eq!(held.asker.told.len(), 3);
}

#[test]
fn any_flip_of_an_answer_ends() {
    // For each flipped bit of an answer, the reported result is right or there is an error.
    let tree = Tree::new([("a", bytes(40)), ("b", bytes(3))]);
    let asks = || [get("a"), Request::Hash(path("b")).into(), get("b")];
    let length: usize = {
        let server = Server::honest(&tree);
        Held::new(&[&server], asks()).ran();
        server.requests().iter().map(|request| tree.answer(request, &[]).len()).sum()
    };
    for at in 0..length {
        let (honest, mut passed) = (tree.clone(), 0);
        let flip = move |request: &Request, data: &[u8]| {
            let mut out = honest.answer(request, data);
            if let Some(byte) = at.checked_sub(passed).and_then(|at| out.get_mut(at)) {
                *byte ^= 0x10;
            }
            passed += out.len();
            out
        };
        // It closes the connection after its answers, so the client waits for no more.
        let a =
            Server::start(Manner { cuts: [length].into(), ..Manner::default() }, Box::new(flip));
        let held = Held::new(&[&a, &Server::honest(&tree)], asks());
        held.ran();
        for (tag, content) in [(0, 40), (2, 3)] {
            match &held.asker.of(tag)[..] {
                [Told::Content(told)] => assert!(*told == bytes(content), "byte {at}"),
                // A type of frame can become the type of an error, and a size a larger one.
                [Told::Refused(_) | Told::TooLarge(_)] => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}
