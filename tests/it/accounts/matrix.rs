//! Each request by each kind of user: the result, and that a refusal changes nothing.

use std::time::Duration;

use relais_auth::Ticket;
use relais_proto::{ErrorCode, FrameType, HEADER_LEN, Refusal, Reply, Request, encode_frame};

use super::{
    TestServer, minted_ticket, now_ms, password, password_file, try_session, user, with_ticket,
};
use crate::harness::{
    RawClient, SOON, copy, encoded, eventually, get, hello, make_folder, path, put, remove, rename,
    resume, set_mode, upload,
};

/// Returns every request of a session by name; `top` is put before each path.
fn requests(top: &str) -> Vec<(&'static str, bool, Vec<u8>)> {
    let at = |name: &str| if top.is_empty() { name.to_owned() } else { format!("{top}/{name}") };
    let there = if top == "home" { at("x") } else { at("f") };
    let plain = |request: Request| {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        bytes
    };
    let put_request = put(&at("new"), 5);
    vec![
        ("list", false, plain(Request::List { path: path(top), after: String::new(), most: 0 })),
        ("stat", false, plain(Request::Stat(path(&there)))),
        ("stat-many", false, plain(Request::StatMany { paths: vec![path(&there)] })),
        ("watch", false, watch(top)),
        ("hash", false, plain(Request::Hash(path(&there)))),
        ("get", false, plain(get(&there))),
        ("status", false, plain(Request::Status)),
        ("ping", false, plain(Request::Ping)),
        ("resume", true, plain(resume(&put_request))),
        ("put", true, upload(&put_request, b"bytes", 5)),
        ("mkdir", true, plain(make_folder(&at("made")))),
        ("set-attributes", true, plain(set_mode(&there, 0o600))),
        ("cp", true, plain(copy(&there, &at("copy")))),
        ("mv", true, plain(rename(&there, &at("moved")))),
        ("rm", true, plain(remove(&at("moved"), true))),
    ]
}

/// Encodes a watch and the request that ends it.
fn watch(top: &str) -> Vec<u8> {
    encoded(&[Request::Watch { path: path(top), after: None }, Request::Ping])
}

/// Reads the whole answer to a request and returns the refusal, if it is one.
#[track_caller]
fn answer(wire: &mut RawClient, name: &str, bytes: &[u8]) -> Option<Refusal> {
    assert!(wire.raw(bytes), "{name}");
    if name == "get" {
        return wire.content().err();
    }
    loop {
        match wire.reply() {
            Reply::Error(refusal) => return Some(refusal),
            Reply::Entries(_) | Reply::EntryResults { .. } | Reply::Events { .. } => {}
            Reply::Done { .. } if name == "watch" => {}
            _ => return None,
        }
    }
}

/// Opens one session for each request.
fn one_each(open: impl Fn() -> RawClient) -> Vec<RawClient> {
    requests("").iter().map(|_| open()).collect()
}

/// Requires that each request is refused, changes nothing and ends its session.
#[track_caller]
fn all_refused(server: &TestServer, wires: Vec<RawClient>, code: ErrorCode) {
    let before = server.tree();
    for ((name, _, bytes), mut wire) in requests("").into_iter().zip(wires) {
        assert_eq!(
            answer(&mut wire, name, &bytes).map(|refusal| refusal.code),
            Some(code),
            "{name}"
        );
        wire.closed_within(SOON);
    }
    assert_eq!(server.tree(), before);
}

const USERS: [(&str, &str, &str); 3] =
    [("ann", "write", "/"), ("bob", "read", "/"), ("hom", "write", "/home")];

#[test]
fn the_table_has_every_request() {
    let sessionless = [
        FrameType::Hello,
        FrameType::Login,
        FrameType::Ticket,
        FrameType::Seen,
        FrameType::FailedOver,
        FrameType::Data,
        FrameType::PutEnd,
    ];
    let all = FrameType::ALL
        .iter()
        .filter(|kind| kind.number() < 0x40 && !sessionless.contains(kind))
        .count();
    // `Pieces` and `Hash` share a name in the table.
    assert_eq!(requests("").len() + 1, all);
}

#[test]
fn requests_without_an_account_are_refused() {
    for server in TestServer::both(&USERS) {
        let before = server.tree();
        for (name, _, bytes) in requests("") {
            for greeting in [vec![], vec![hello()]] {
                let mut wire = RawClient::connect(server.slave());
                wire.send(&greeting);
                if !greeting.is_empty() {
                    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
                }
                wire.raw(&bytes);
                let Ok(Some((kind, payload))) = wire.frame() else { continue };
                let reply = Reply::decode(kind, &payload).unwrap();
                assert!(
                    matches!(
                        &reply,
                        Reply::Error(refusal)
                            if refusal.code == ErrorCode::LoginNeeded
                    ),
                    "{name}: {reply:?}"
                );
                wire.closed_within(SOON);
            }
        }
        assert_eq!(server.log_in("", "").unwrap_err().code, ErrorCode::LoginNeeded);
        assert_eq!(server.log_in("", &password("ann")).unwrap_err().code, ErrorCode::LoginNeeded);
        assert_eq!(server.tree(), before);
    }
}

#[test]
fn a_reader_reads_and_changes_nothing() {
    for server in TestServer::both(&USERS) {
        let (mut wire, before) = (server.open("bob").unwrap(), server.tree());
        for (name, writes, bytes) in requests("") {
            let refused = answer(&mut wire, name, &bytes).map(|refusal| refusal.code);
            assert_eq!(refused, writes.then_some(ErrorCode::Denied), "{name}");
        }
        assert_eq!(server.tree(), before);
    }
}

#[test]
fn a_writer_may_make_every_request() {
    for server in TestServer::both(&USERS) {
        let mut wire = server.open("ann").unwrap();
        for (name, _, bytes) in requests("") {
            assert_eq!(answer(&mut wire, name, &bytes), None, "{name}");
        }
        let tree = server.tree();
        assert_eq!(tree.get(&server.root().join("new")).map(Vec::as_slice), Some(&b"bytes"[..]));
        assert!(
            tree.contains_key(&server.root().join("made"))
                && !tree.contains_key(&server.root().join("f"))
        );
    }
}

#[test]
fn a_user_with_a_root_sees_only_that_folder() {
    for server in TestServer::both(&USERS) {
        let (mut wire, before) = (server.open("hom").unwrap(), server.tree());
        // Paths outside of the root do not exist, by any name.
        for outside in ["f", "home/x", "other/y", "other"] {
            for (name, bytes) in [
                ("stat", Request::Stat(path(outside))),
                ("hash", Request::Hash(path(outside))),
                ("get", get(outside)),
            ]
            .map(|(name, request)| (name, encoded(&[request])))
            {
                assert_eq!(
                    answer(&mut wire, name, &bytes).map(|refusal| refusal.code),
                    Some(ErrorCode::NotFound),
                    "{name} {outside}"
                );
            }
            for (name, request) in [
                ("rm", remove(outside, true)),
                ("mv", rename(outside, "stolen")),
                ("cp", copy(outside, "stolen")),
                ("set-attributes", set_mode(outside, 0o600)),
            ] {
                let bytes = encoded(&[request]);
                assert_eq!(
                    answer(&mut wire, name, &bytes).map(|refusal| refusal.code),
                    Some(ErrorCode::NotFound),
                    "{name} {outside}"
                );
            }
        }
        // No path leads upwards: the decoder rejects such a frame.
        for up in ["..", "../f", "x/../../f", "/f", ""] {
            let request = encoded(&[remove("AAAAAAAA", true)]);
            let payload = &request[HEADER_LEN..];
            let at = payload.windows(8).position(|bytes| bytes == b"AAAAAAAA").unwrap();
            let mut bytes = Vec::new();
            encode_frame(&mut bytes, FrameType::Remove, |to| {
                to.extend_from_slice(&payload[..at - 2]);
                to.extend_from_slice(&u16::try_from(up.len()).unwrap().to_be_bytes());
                to.extend_from_slice(up.as_bytes());
                to.extend_from_slice(&payload[at + 8..]);
            });
            let mut wire = server.open("hom").unwrap();
            wire.raw(&bytes);
            let answered = wire
                .frame()
                .ok()
                .flatten()
                .map(|(kind, payload)| Reply::decode(kind, &payload).unwrap());
            assert!(matches!(answered, None | Some(Reply::Error(_))), "{up:?}: {answered:?}");
        }
        assert_eq!(server.tree(), before);
        // The user's root is shown as `/`, and no message reveals its path.
        match wire.ask(&Request::Stat(path(""))) {
            Reply::Details { entry, .. } => assert_eq!(entry.name, ""),
            other => panic!("{other:?}"),
        }
        let refusal = wire.change(&remove("nothing here", true)).unwrap_err();
        assert!(refusal.message.starts_with("/nothing here"), "{refusal:?}");
        let client = server.client();
        let file = password_file(server.dir(), &password("hom"));
        let login = ["-u", "hom", "--password-file", file.to_str().unwrap(), "-c"];
        client.run(&[&login[..], &["stat /"]].concat()).ok();
        client.run(&[&login[..], &["get -r / -o all"]].concat()).ok();
        assert_eq!(client.read("all/x"), b"home");
        // The user may change everything in the root folder, but not the folder itself.
        assert_eq!(wire.change(&remove("", true)).unwrap_err().code, ErrorCode::Denied);
        let mut watcher = server.open("hom").unwrap();
        watcher.send(&[Request::Watch { path: path(""), after: None }]);
        assert!(matches!(watcher.reply(), Reply::Events { events, .. } if events.is_empty()));
        server.open("ann").unwrap().change(&make_folder("other/z")).unwrap();
        let lsn = wire.put("mine", b"bytes").unwrap();
        let event = eventually(SOON, "an event", || match watcher.reply() {
            Reply::Events { events, .. } => events.into_iter().next(),
            other => panic!("{other:?}"),
        });
        assert_eq!((event.lsn, event.path), (lsn, path("mine")));
        wire.change(&rename("x", "z")).unwrap();
        let tree = server.tree();
        assert!(
            ["home/mine", "home/z"].iter().all(|name| tree.contains_key(&server.root().join(name)))
        );
        assert_eq!(tree.len(), before.len() + 2);
    }
}

fn minted(server: &TestServer, change: impl FnOnce(&mut Ticket)) -> Vec<u8> {
    let TestServer::Cluster(cluster) = server else {
        panic!("a standalone slave takes no tickets")
    };
    minted_ticket(cluster, change)
}

#[test]
fn a_ticket_ends_also_in_an_open_session() {
    let [server, _] = TestServer::both(&USERS);
    with_ticket(server.slave(), &minted(&server, |_| {})).ping();
    assert_eq!(
        try_session(server.slave(), &minted(&server, |ticket| ticket.ends_ms = now_ms() - 3000))
            .unwrap_err()
            .code,
        ErrorCode::BadTicket
    );
    let short = minted(&server, |ticket| ticket.ends_ms = now_ms() + 3000);
    let wires = one_each(|| with_ticket(server.slave(), &short));
    // An upload in progress when the ticket expires is not stored.
    let (before, request) = (server.tree(), put("late", 10));
    let frames = upload(&request, b"0123456789", 5);
    let mut uploading = with_ticket(server.slave(), &short);
    uploading.raw(&frames[..frames.len() - 3]);
    let mut other = with_ticket(server.slave(), &short);
    eventually(SOON, "the ticket has ended", || {
        other.send(&[Request::Ping]);
        matches!(other.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::BadTicket)
            .then_some(())
    });
    uploading.raw(&frames[frames.len() - 3..]);
    assert_eq!(uploading.committed().unwrap_err().code, ErrorCode::BadTicket);
    assert_eq!(server.tree(), before);
    all_refused(&server, wires, ErrorCode::BadTicket);
}

#[test]
fn sessions_end_with_the_account_or_a_new_password() {
    for server in TestServer::both(&USERS) {
        let (mut bob, mut hom) = (server.open("bob").unwrap(), server.open("hom").unwrap());
        bob.ping();
        let of_bob = one_each(|| server.open("bob").unwrap());
        user(server.dir(), &server.state(), &["remove", "bob"]).ok();
        let ended = |wire: &mut RawClient| {
            wire.send(&[Request::Ping]);
            matches!(wire.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::BadTicket)
                .then_some(())
        };
        eventually(Duration::from_secs(5), "the session of the removed user ends", || {
            ended(&mut bob)
        });
        all_refused(&server, of_bob, ErrorCode::BadTicket);
        assert_eq!(server.open("bob").unwrap_err().code, ErrorCode::LoginRefused);
        // The other users log in again.
        eventually(Duration::from_secs(5), "all log in again", || ended(&mut hom));
        let mut hom = server.open("hom").unwrap();
        let file = password_file(server.dir(), "another one");
        user(
            server.dir(),
            &server.state(),
            &["passwd", "hom", "--password-file", file.to_str().unwrap()],
        )
        .ok();
        eventually(Duration::from_secs(5), "the sessions of the former password end", || {
            ended(&mut hom)
        });
        assert_eq!(server.open("hom").unwrap_err().code, ErrorCode::LoginRefused);
        server.log_in("hom", "another one").unwrap().ping();
    }
}

#[test]
fn the_first_account_ends_anonymous_access() {
    for server in TestServer::both(&[]) {
        let mut anybody = server.log_in("", "").unwrap();
        anybody.ping();
        assert_eq!(
            server.open("ann").unwrap_err().code,
            ErrorCode::LoginRefused,
            "there are no accounts"
        );
        super::add(server.dir(), &server.state(), "ann", "write", "/");
        eventually(Duration::from_secs(5), "the session without an account ends", || {
            anybody.send(&[Request::Ping]);
            matches!(anybody.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::BadTicket)
                .then_some(())
        });
        assert_eq!(server.log_in("", "").unwrap_err().code, ErrorCode::LoginNeeded);
        server.open("ann").unwrap().ping();
        // Without the last account no login succeeds, unlike before the first one.
        user(server.dir(), &server.state(), &["remove", "ann"]).ok();
        eventually(Duration::from_secs(5), "logins are refused", || {
            (server.open("ann").err()?.code == ErrorCode::LoginRefused
                && server.log_in("", "").err()?.code == ErrorCode::LoginNeeded)
                .then_some(())
        });
    }
}
