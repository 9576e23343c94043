//! The committer: what it makes, refuses and withdraws.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn each_kind_of_change_is_on_the_disk_and_in_the_catalogue() {
    let mut rig = Rig::new();
    let first = [
        mkdir(1, "d"),
        mkdir(2, "d/e"),
        rig.put(3, "d/e/f", "one"),
        rig.put(4, "d/g", "two"),
        rig.put(5, "h", "three"),
    ];
    assert_eq!(rig.made(&first), [1, 2, 3, 4, 5]);
    rig.check_folder("d", 1);
    rig.check_folder("d/e", 2);
    rig.check_file("d/e/f", "one", 3, 3);
    rig.check_file("d/g", "two", 4, 4);
    assert_eq!(rig.staged(), 0);

    let second = [
        rig.put(6, "d/g", "new"),
        rig.put(7, "d/g", "newer"),
        rm(8, "h", false),
        mkdir(9, "h"),
        mv(10, "d", "h/d"),
    ];
    assert_eq!(rig.made(&second), [6, 7, 8, 9, 10]);
    rig.check_gone("d");
    rig.check_folder("h", 9);
    for (at, content, put) in [("h/d/g", "newer", 7), ("h/d/e/f", "one", 3)] {
        rig.check_file(at, content, 10, put);
    }
    rig.check_folder("h/d/e", 10);

    let third = [
        rig.put(11, "i", "file"),
        mv(12, "i", "h/d/g"),
        mv(13, "h/d/g", "h/d/g"),
        rm(14, "h/d/e", true),
        rm(15, "h/d/g", false),
    ];
    assert_eq!(rig.made(&third[..3]), [11, 12, 13]);
    rig.check_file("h/d/g", "file", 13, 11);
    assert_eq!(
        rig.made(&[third[3].clone(), third[4].clone(), rm(16, "h/d", false), rm(17, "h", true)]),
        [14, 15, 16, 17]
    );
    rig.check_gone("h");
    assert_eq!(rig.staged(), 0);
    assert_eq!(rig.scoreboard.applied_lsn(), version(17));
    assert_eq!(rig.store().applied().unwrap(), Some(version(17)));
}

#[test]
fn an_id_asked_twice_is_made_once() {
    let mut rig = Rig::new();
    let put = rig.put(1, "f", "one");
    assert_eq!(rig.made(&[put.clone(), put.clone(), mkdir(2, "d")]), [1, 1, 2]);
    rig.check_file("f", "one", 1, 1);
    // It comes again, with all its bytes, when something else is there already.
    assert_eq!(rig.made(&[rig.put(3, "f", "two")]), [3]);
    assert_eq!(rig.made(&[rig.put(1, "f", "one"), mkdir(2, "d")]), [1, 2]);
    rig.check_file("f", "two", 3, 3);
    assert_eq!(rig.staged(), 0);
    rig.start();
    assert_eq!(rig.made(&[mkdir(2, "d"), mkdir(4, "e")]), [2, 4]);
}

#[test]
fn what_does_not_fit_is_refused_without_a_number() {
    use ErrorCode::{Changed, Exists, IsFolder, NotEmpty, NotFolder, NotFound};
    let mut rig = Rig::new();
    let expecting = |mut proposal: Proposal, expect| {
        proposal.expect = expect;
        proposal
    };
    rig.made(&[mkdir(1, "d"), rig.put(2, "d/f", "x"), mkdir(3, "empty")]);
    let asked = [
        rig.put(10, "none/f", "x"),
        rig.put(11, "d", "x"),
        rig.put(12, "d/f/g", "x"),
        mkdir(13, "d"),
        rm(14, "d", false),
        rm(15, "none", true),
        mv(16, "d/f", "empty"),
        mv(17, "none", "new"),
        expecting(rig.put(18, "d/f", "y"), Expect::Absent),
        expecting(rig.put(19, "d/f", "y"), Expect::Lsn(version(1))),
        expecting(rig.put(20, "d/f", "y"), Expect::Lsn(version(2))),
    ];
    let answers = rig.ask(&asked);
    let wanted = [
        NotFound, IsFolder, NotFolder, Exists, NotEmpty, NotFound, Exists, NotFound, Changed,
        Changed,
    ];
    assert_eq!(answers.iter().filter_map(code).collect::<Vec<_>>(), wanted);
    let last = answers.last().unwrap().as_ref().unwrap();
    assert_eq!(
        (last.version, last.digest),
        (version(4), Some(digest("y"))),
        "refusals take no number"
    );
    rig.check_file("d/f", "y", 4, 4);
    assert_eq!(rig.staged(), 0, "the space is given back");
}

#[test]
fn what_the_catalogue_does_not_have_is_never_replaced_or_removed() {
    use ErrorCode::{NoChanges, NotServed};
    let mut rig = Rig::new();
    rig.made(&[
        mkdir(1, "d"),
        rig.put(2, "edited", "x"),
        rig.put(3, "gone", "x"),
        rig.put(4, "f", "x"),
    ]);
    symlink("f", rig.host("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        rig.host("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    fs::write(rig.host("new"), "theirs").unwrap();
    fs::write(rig.host("edited"), "edited by somebody").unwrap();
    fs::remove_file(rig.host("gone")).unwrap();
    fs::write(rig.host("d/new"), "theirs").unwrap();
    let before = rig.staged();
    for (n, at, wanted) in [
        (10, "link", NotServed),
        (11, "fifo", NotServed),
        (12, "new", NoChanges),
        (13, "edited", NoChanges),
    ] {
        let answers = rig.ask(&[
            rig.put(n, at, "ours"),
            rm(n + 10, at, false),
            mv(n + 20, "f", at),
            mv(n + 30, at, "elsewhere"),
        ]);
        assert_eq!(answers.iter().map(code).collect::<Vec<_>>(), [Some(wanted); 4], "{at}");
    }
    assert_eq!(
        code(&rig.ask(&[rm(60, "gone", false)])[0]),
        Some(NoChanges),
        "the keeper has still to see that it is gone"
    );
    assert_eq!(code(&rig.ask(&[rm(61, "d", false)])[0]), Some(ErrorCode::NotEmpty));
    assert_eq!(rig.content("new").as_deref(), Some("theirs"));
    assert_eq!(rig.content("edited").as_deref(), Some("edited by somebody"));
    assert_eq!(rig.staged() - before, 2, "only what can be asked for again stays staged");
    // It comes to rest, is written down, and can be replaced.
    rig.publish("new", "theirs");
    assert_eq!(rig.made(&[rig.put(70, "new", "ours")]), [5]);
    rig.check_file("new", "ours", 5, 5);
}

#[test]
fn a_folder_with_something_unknown_in_it_is_not_removed() {
    let mut rig = Rig::new();
    rig.made(&[mkdir(1, "d"), mkdir(2, "d/e"), rig.put(3, "d/e/f", "x"), rig.put(4, "d/e/g", "x")]);
    fs::remove_file(rig.host("d/e/g")).unwrap();
    type HandoffClient<'a> = (&'a str, &'a dyn Fn(&Rig));
    let ways: [HandoffClient<'_>; 5] = [
        ("a new file", &|rig| fs::write(rig.host("d/e/new"), "theirs").unwrap()),
        ("a new folder", &|rig| fs::create_dir(rig.host("d/e/new")).unwrap()),
        ("a link", &|rig| symlink("f", rig.host("d/e/new")).unwrap()),
        ("an edited file", &|rig| fs::write(rig.host("d/e/f"), "edited").unwrap()),
        ("another file", &|rig| {
            fs::remove_file(rig.host("d/e/f")).unwrap();
            fs::write(rig.host("d/e/f"), "x").unwrap();
        }),
    ];
    for (n, (what, make)) in (10..).zip(ways) {
        make(&rig);
        assert_eq!(code(&rig.ask(&[rm(n, "d", true)])[0]), Some(ErrorCode::NoChanges), "{what}");
        let new = rig.host("d/e/new");
        let _ = fs::remove_file(&new).or_else(|_| fs::remove_dir(&new));
        rig.publish("d/e/f", "x");
    }
    assert_eq!(rig.made(&[rm(30, "d", true)]), [5]);
    rig.check_gone("d");
    rig.check_gone("d/e/f");
}

#[test]
fn what_fails_on_the_disk_is_withdrawn_and_the_others_are_made() {
    let mut rig = Rig::new();
    rig.made(&[mkdir(1, "d"), rig.put(2, "f", "old")]);
    // The catalogue does not know yet that the folder is gone.
    fs::remove_dir(rig.host("d")).unwrap();
    let failing = rig.put(3, "d/x", "x");
    let asked =
        [rig.put(4, "g", "g"), failing.clone(), failing, rig.put(5, "f", "new"), mkdir(6, "d/y")];
    let answers = rig.ask(&asked);
    let wanted = [
        None,
        Some(ErrorCode::NotFound),
        Some(ErrorCode::NotFound),
        None,
        Some(ErrorCode::NotFound),
    ];
    assert_eq!(
        answers.iter().map(code).collect::<Vec<_>>(),
        wanted,
        "what was asked for twice has one fate"
    );
    rig.check_file("f", "new", 5, 5);
    assert_eq!(rig.staged(), 0);
    assert_eq!(
        rig.scoreboard.applied_lsn(),
        version(8),
        "two of the four are withdrawn by numbers of their own"
    );
    assert_eq!(rig.store().commit_of(id(3)).unwrap(), None);
    rig.start();
    fs::create_dir(rig.host("d")).unwrap();
    assert_eq!(rig.content("d/x"), None, "what was withdrawn is not made at a start");
    assert_eq!(rig.made(&[rig.put(3, "d/x", "x")]), [9], "asked again it is a new change");
    rig.check_file("d/x", "x", 9, 9);
}

#[test]
fn a_change_that_cannot_be_noted_has_no_answer_until_the_journal_was_followed() {
    let mut rig = Rig::new();
    rig.made(&[rig.put(1, "f", "one")]);
    let other = rusqlite::Connection::open(rig.host(".relais/catalogue.db")).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'no room'); END",
        )
        .unwrap();
    let asked = [mkdir(2, "d"), rig.put(3, "f", "two")];
    rig.connect();
    assert!(asked.iter().all(|proposal| rig.session.propose(proposal).unwrap()));
    assert!(matches!(rig.serve(), Err(CatalogError::NotRecorded(_))));
    assert_eq!(rig.session.read_greeting().unwrap(), Received::Message(()));
    assert_eq!(rig.session.read_result().unwrap(), Received::Gone);
    assert_eq!(rig.store().applied().unwrap(), Some(version(1)));
    other.execute_batch("DROP TRIGGER full").unwrap();
    drop(other);
    rig.start();
    rig.check_folder("d", 2);
    rig.check_file("f", "two", 3, 3);
    assert_eq!(rig.made(&asked), [2, 3], "the session hands them in again");
    assert_eq!(rig.staged(), 0);
}

#[test]
fn whoever_takes_no_answers_loses_the_channel_and_not_one_of_them() {
    let mut rig = Rig::new();
    rig.connect();
    let long = ["x".repeat(250), "y".repeat(250), "z".repeat(250), "w".repeat(250)].join("/");
    // So many refusals do not fit into a socket.
    for n in 0..128 {
        assert!(rig.session.propose(&mkdir(n, &long)).unwrap(), "proposal {n}");
        if n % 64 == 63 {
            assert!(rig.serve().unwrap());
        }
    }
    let mut answers = 0;
    assert_eq!(rig.session.read_greeting().unwrap(), Received::Message(()));
    loop {
        match rig.session.read_result().unwrap() {
            Received::Message(answer) => assert_eq!(code(&answer), Some(ErrorCode::NotFound)),
            Received::Gone => break,
            Received::Nothing => panic!("after {answers} answers the channel is still open"),
        }
        answers += 1;
    }
    assert!((64..128).contains(&answers), "{answers}");
}

#[test]
fn sessions_are_served_together_and_those_that_left_are_forgotten() {
    let mut rig = Rig::new();
    let sessions: Vec<SessionEnd> = (0..5)
        .map(|_| rig.proposal_socket.open(&relais_engine::Owner::from_text("ann")).unwrap())
        .collect();
    for (n, session) in (0_u8..).zip(&sessions) {
        for k in 0..60 {
            let mut mkdir = mkdir(n, &format!("s{n}-{k}"));
            mkdir.id.0[0] = 100 + k;
            assert!(session.propose(&mkdir).unwrap());
        }
    }
    let left = rig.proposal_socket.open(&relais_engine::Owner::from_text("ann")).unwrap();
    drop(left);
    while rig.serve().unwrap() {}
    for session in &sessions {
        assert_eq!(session.read_greeting().unwrap(), Received::Message(()));
        let mut last = 0;
        for _ in 0..60 {
            let Received::Message(Ok(version)) = session.read_result().unwrap() else {
                panic!("an answer is missing")
            };
            assert!(version.version.number > last, "answers come in the order of the changes");
            last = version.version.number;
        }
        assert_eq!(session.read_result().unwrap(), Received::Nothing);
    }
    assert_eq!(rig.scoreboard.applied_lsn(), version(300));
    let before = rig.running.as_ref().unwrap().1.fds().count();
    drop(sessions);
    assert!(!rig.serve().unwrap());
    assert_eq!((before, rig.running.as_ref().unwrap().1.fds().count()), (8, 3));
}
