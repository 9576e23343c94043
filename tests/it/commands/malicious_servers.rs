//! Servers that lie to recursive commands: bad names, endless listings, wrong kinds and content.
//!
//! The only result must be a clear error and the rest of the tree.

use std::process::Command;
use std::time::{Duration, Instant};

use relais_proto::{Digest, ErrorCode, Lsn, Refusal, Reply, Request};

use super::{assert_no_escapes, tree};
use crate::harness::{
    Client, FakeServer, FakeTree, Output, block, content_answer, header, leftovers, listing, pages,
    raw_entry, refused, whole,
};

/// The commands that run against each server.
const COMMANDS: [&str; 3] = ["get -r t", "mirror t t", "mirror --delete --checksum t t"];

/// A correct tree with a file before and one after the lie.
fn correct_tree() -> FakeTree {
    FakeTree::new().folder("t").file("t/a", b"good").file("t/z", b"good")
}

/// Runs a command; requires that it wrote only below `t` and printed no control characters.
#[track_caller]
fn run(server: &FakeServer, command: &str) -> (Client, Output) {
    let client = Client::new(server.addr);
    let output = client.run(&["--retry", "0", "--json", "-c", command]);
    assert_no_escapes(&output);
    assert!(output.status <= 5, "{command}: {output:?}");
    let all = leftovers(client.home(), &[]);
    let outside: Vec<_> = all
        .iter()
        .filter(|path| {
            !path.starts_with("local/t") && !path.starts_with("state") && !path.ends_with(".log")
        })
        .collect();
    assert!(outside.is_empty(), "{command} wrote {outside:?}: {output:?}");
    (client, output)
}

/// Runs a command without `--json`.
#[track_caller]
fn run_plain(server: &FakeServer, command: &str) -> Output {
    let client = Client::new(server.addr);
    let output = client.run(&["--retry", "0", "-c", command]);
    assert_no_escapes(&output);
    assert!(
        !output.stderr.contains('\u{202e}') && !output.stdout.contains('\u{202e}'),
        "{output:?}"
    );
    output
}

#[test]
fn names_that_lead_out_are_refused() {
    let long = [b'n'; 256];
    let names: [&[u8]; 17] = [
        b"..",
        b".",
        b"",
        b"../x",
        b"../../x",
        b"/etc/x",
        b"a/b",
        b"a/../../x",
        b"/",
        b"a\0b",
        b"a\nb",
        b"\x1b[2J",
        b"\x1b]0;x\x07",
        b"\x7f",
        b"\xff\xfe",
        b"\xc2\x9b31m",
        &long,
    ];
    for name in names {
        for kind in [0, 1] {
            let server = correct_tree().raw("t", name, kind, 4).lying(|request| match request {
                // Every requested file exists.
                Request::Get(get) => Some(whole(get, b"evil")),
                _ => None,
            });
            for command in COMMANDS {
                let (client, output) = run(&server, command);
                assert_ne!(output.status, 0, "{command} took the name {name:?}: {output:?}");
                let there = tree(&client.folder());
                assert!(
                    there.iter().all(|n| ["t/", "t/a", "t/z"].contains(&n.as_str())),
                    "{command}, {name:?}: {there:?}"
                );
            }
            run_plain(&server, "get -r t");
            run_plain(&server, "mget t/*");
        }
    }
}

#[test]
fn invalid_listings_are_refused() {
    let a = || raw_entry(b"a", 0, 4);
    let cases: [Vec<Vec<u8>>; 6] = [
        vec![raw_entry(b"b", 0, 4), a()],
        vec![a(), a()],
        vec![a(), raw_entry(b"b", 1, 0), raw_entry(b"b", 0, 4)],
        vec![a(), raw_entry(b"b", 2, 4)],
        vec![a(), raw_entry(b"b", 0, u64::MAX)],
        vec![a(), raw_entry(b"b", 1, 4)[..9].to_vec()],
    ];
    for entries in cases {
        let answer = listing(&entries);
        let server = correct_tree().lying(move |request| match request {
            Request::List { path, .. } if path.as_str() == "t" => Some(answer.clone()),
            Request::Get(get) => Some(whole(get, b"good")),
            _ => None,
        });
        for command in COMMANDS {
            let (_, output) = run(&server, command);
            assert_ne!(output.status, 0, "{command}: {output:?}");
        }
    }
}

#[test]
fn frames_after_the_end_of_a_listing_are_refused() {
    let a = || raw_entry(b"a", 0, 4);
    let again = [pages(&[a(), raw_entry(b"b", 0, 4)]), listing(&[raw_entry(b"b", 0, 4)])].concat();
    let behind = [pages(&[a(), raw_entry(b"b", 0, 4)]), listing(&[a()])].concat();
    let twice = [listing(&[a()]), listing(&[raw_entry(b"b", 0, 4)])].concat();
    for (answer, told) in [(again, true), (behind, true), (twice, false)] {
        let server = correct_tree().lying(move |request| match request {
            Request::List { path, .. } if path.as_str() == "t" => Some(answer.clone()),
            _ => None,
        });
        for command in COMMANDS {
            let (client, output) = run(&server, command);
            // Unrequested frames make the connection useless; a new connection may succeed.
            assert!(!told || output.status != 0, "{command}: {output:?}");
            let there = tree(&client.folder());
            assert!(
                there.iter().all(|name| ["t/", "t/a"].contains(&name.as_str())),
                "{command}: {there:?}"
            );
        }
    }
}

/// Starts a server with endlessly nested folders.
fn bottomless(name: &'static str) -> FakeServer {
    FakeTree::new().folder("t").lying(move |request| match request {
        Request::List { path, .. } if path.as_str().starts_with('t') => {
            Some(listing(&[raw_entry(name.as_bytes(), 1, 0)]))
        }
        _ => None,
    })
}

#[test]
fn endlessly_nested_folders_end_with_an_error() {
    let long = "n".repeat(255).leak();
    for name in [&*long, "ddddddd", "d"] {
        let server = bottomless(name);
        for command in ["get -r t", "mirror --dry-run t t"] {
            let began = Instant::now();
            let (client, output) = run_deep(&server, command);
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{command}, {}: {:?}",
                name.len(),
                began.elapsed()
            );
            assert!(output.status <= 5, "{output:?}");
            // The test's own recursion could overflow the stack at this depth.
            let removed = Command::new("rm").arg("-rf").arg(client.folder()).status().unwrap();
            assert!(removed.success());
        }
    }
}

#[track_caller]
fn run_deep(server: &FakeServer, command: &str) -> (Client, Output) {
    let client = Client::new(server.addr);
    let output = client.run(&["--retry", "0", "--json", "-c", command]);
    assert_no_escapes(&output);
    (client, output)
}

#[test]
fn absurd_sizes_are_refused() {
    for size in [1_u64 << 40, 1 << 60, i64::MAX as u64] {
        // Announced by the listing, by the header, or by both.
        for (listed, sent) in [(size, 4), (4, size), (size, size)] {
            let server = FakeServer::start({
                let tree = correct_tree().raw("t", b"m", 0, listed);
                move |request| match request {
                    Request::Get(get) if get.path.as_str() == "t/m" && sent == 4 => {
                        (whole(get, b"good"), false)
                    }
                    Request::Get(get) if get.path.as_str() == "t/m" => {
                        let mut answer = FakeServer::encoded(&[Reply::ContentHeader(header(
                            sent,
                            get.offset.min(sent),
                            4096,
                        ))]);
                        answer.extend(block(&[7; 4096]));
                        (answer, true)
                    }
                    other => (tree.answer(other), false),
                }
            });
            let began = Instant::now();
            let (client, output) = run(&server, "get -r t");
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
            let there = tree(&client.folder());
            if sent != 4 {
                assert_ne!(output.status, 0, "{output:?}");
                assert!(!there.contains(&"t/m".to_owned()), "{there:?}");
            }
            let blocks: u64 = leftovers(&client.folder(), &[])
                .iter()
                .map(|name| {
                    std::os::unix::fs::MetadataExt::blocks(
                        &client.folder().join(name).metadata().unwrap(),
                    ) * 512
                })
                .sum();
            assert!(blocks < 1 << 20, "{blocks} bytes of disk were allocated for announced sizes");
        }
    }
}

#[test]
fn content_that_differs_from_its_header_is_refused() {
    let wrong = Digest([1; 32]);
    // Of a small file and of a large one.
    for (name, size) in [("t/m", 4_usize), ("t/n", 3 << 20)] {
        let bytes = crate::harness::content(1, size);
        for command in COMMANDS {
            let (tree_there, content) = (correct_tree().file(name, &bytes), bytes.clone());
            let server = tree_there.lying(move |request| match request {
                Request::Get(get) if get.path.as_str() == name => {
                    Some(content_answer(get, &content, wrong))
                }
                _ => None,
            });
            let (client, output) = run(&server, command);
            assert_ne!(output.status, 0, "{command} {name}: {output:?}");
            let there = tree(&client.folder());
            assert!(!there.contains(&name.to_owned()), "{command} {name}: {there:?}");
            assert!(
                there.contains(&"t/a".to_owned()) && there.contains(&"t/z".to_owned()),
                "{command} {name}: other files are missing: {there:?}"
            );
        }
    }
}

#[test]
fn wrong_and_changing_kinds_are_refused() {
    for code in [
        ErrorCode::IsFolder,
        ErrorCode::NotFolder,
        ErrorCode::NotFound,
        ErrorCode::NotServed,
        ErrorCode::BadName,
    ] {
        // A file that turns out to be something else, and a folder.
        let server =
            correct_tree().raw("t", b"m", 0, 4).raw("t", b"n", 1, 0).lying(move |request| {
                match request {
                    Request::Get(get) if get.path.as_str() == "t/m" => {
                        Some(refused(code, "it is not what I said"))
                    }
                    Request::List { path, .. } if path.as_str() == "t/n" => {
                        Some(refused(code, "it is not what I said"))
                    }
                    _ => None,
                }
            });
        for command in COMMANDS {
            let (client, output) = run(&server, command);
            assert_ne!(output.status, 0, "{command}: {output:?}");
            let there = tree(&client.folder());
            assert!(
                there.contains(&"t/a".to_owned()) && there.contains(&"t/z".to_owned()),
                "{command}: {there:?}"
            );
            assert!(!there.contains(&"t/m".to_owned()), "{command}: {there:?}");
            let mut failed: Vec<_> = output.json()["failed"]
                .as_array()
                .unwrap()
                .iter()
                .map(|f| f["remote"].as_str().unwrap().to_owned())
                .collect();
            failed.sort();
            assert_eq!(failed, ["/t/m", "/t/n"], "{command}: {output:?}");
        }
    }
    // `Stat` says folder and the listing says file, and the other way round.
    let server = correct_tree().lying(|request| {
        matches!(request, Request::List { .. }).then(|| refused(ErrorCode::NotFolder, "no folder"))
    });
    for command in COMMANDS {
        assert_ne!(run(&server, command).1.status, 0);
    }
}

#[test]
fn reserved_names_are_never_fetched() {
    let ours = [
        ".log",
        ".LOG",
        ".relais-log.new",
        ".relais-0123456789abcdef.part",
        ".relais-0123456789abcdef.lock",
    ];
    let mut evil = correct_tree().file("t/d/.log", b"evil");
    for name in ours {
        evil = evil.file(&format!("t/{name}"), b"evil");
    }
    let server = evil.folder("t/d").lying(|_| None);
    for command in [
        "get -r t",
        "mirror t t",
        "mirror --delete t t",
        "mget t/.* -o t/",
        "get -r t -o ./t/../t/..",
    ] {
        let client = Client::new(server.addr);
        for name in &ours[1..] {
            super::write(&client.folder().join("t").join(name), b"ours");
        }
        let output = client.run(&["--retry", "0", "-c", command]);
        for name in &ours[1..] {
            assert_eq!(client.read(&format!("t/{name}")), b"ours", "{command}: {name}: {output:?}");
        }
        assert!(
            !client.folder().join("t/.log").exists() && !client.folder().join("t/d/.log").exists(),
            "{command}: {output:?}"
        );
        assert!(!client.folder().join(".log").exists(), "{command}: {output:?}");
        assert!(
            output.stderr.contains(".log") || output.stdout.contains("skipped"),
            "the skipped names are not reported: {output:?}"
        );
    }
}

#[test]
fn messages_have_no_control_characters() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}";
    // Each request is refused in turn; all others are answered correctly.
    type RequestFilter = fn(&Request) -> bool;
    let whiches: [RequestFilter; 8] = [
        |r| matches!(r, Request::List { .. }),
        |r| matches!(r, Request::Stat(_)),
        |r| matches!(r, Request::Get(_)),
        |r| matches!(r, Request::Put(_) | Request::PutEnd { .. }),
        |r| matches!(r, Request::MakeFolder { .. }),
        |r| matches!(r, Request::Remove { .. }),
        |r| matches!(r, Request::Move { .. }),
        |r| matches!(r, Request::Resume { .. }),
    ];
    for which in whiches {
        // An allowed name that looks like another one.
        let server = correct_tree().file("t/\u{202e}txt.exe", b"good").lying(move |request| {
            which(request).then(|| {
                if matches!(request, Request::Put(_)) {
                    Vec::new()
                } else {
                    FakeServer::encoded(&[Reply::Error(Refusal::new(ErrorCode::Storage, evil))])
                }
            })
        });
        let client = Client::new(server.addr);
        super::write(&client.folder().join("u/x"), b"1");
        for command in [
            "get -r t",
            "put -r u",
            "mirror t m",
            "mirror -R u t",
            "mirror --dry-run t m",
            "mkdir x",
            "mkdir -p x/y",
            "rm x",
            "rm -r x",
            "mv a b",
            "put u/x",
            "cat t/a",
            "mget t/*",
            "mput u/*",
            "ls -l t",
            "ls t",
            "get t/a -o -",
        ] {
            for json in [&[][..], &["--json"]] {
                let args: Vec<&str> =
                    [&["--retry", "0", "--no-resume", "-c", command], json].concat();
                let output = client.run(&args);
                assert_no_escapes(&output);
                assert!(
                    !output.stderr.contains('\u{202e}') && !output.stdout.contains('\u{202e}'),
                    "{command}: {output:?}"
                );
            }
        }
    }
}

#[test]
fn a_client_recovers_from_a_server_that_closes_at_any_step() {
    use std::sync::atomic::{AtomicU32, Ordering};
    for step in 0..14_u32 {
        let (seen, tree_there) =
            (AtomicU32::new(0), correct_tree().file("t/d/x", b"good").folder("t/d"));
        let server = FakeServer::start(move |request| {
            let n = seen.fetch_add(1, Ordering::SeqCst);
            let answer = tree_there.answer(request);
            // Once, in the middle of the answer.
            if n == step { (answer[..answer.len() / 2].to_vec(), true) } else { (answer, false) }
        });
        let client = Client::new(server.addr);
        let output = client.command("get -r t");
        assert_eq!(output.status, 0, "closed at {step}: {output:?}");
        assert_eq!(
            tree(&client.folder()),
            ["t/", "t/a", "t/d/", "t/d/x", "t/z"],
            "closed at {step}"
        );
        assert_eq!(client.read("t/d/x"), b"good");
    }
}

#[test]
fn a_wrong_answer_at_any_step_does_no_harm() {
    let replies = [
        FakeServer::encoded(&[Reply::Pong]),
        FakeServer::encoded(&[Reply::Done { lsn: Lsn::default() }]),
        FakeServer::encoded(&[Reply::Redirect {
            ticket: vec![1; 40],
            lsn: Lsn::default(),
            slaves: Vec::new(),
        }]),
        FakeServer::encoded(&[Reply::AskMaster("127.0.0.1:1".to_owned())]),
        FakeServer::encoded(&[Reply::Committed {
            version: Lsn::default(),
            copies: 1,
            lsn: Lsn::default(),
            digest: None,
            current: true,
        }]),
        FakeServer::encoded(&[Reply::End { digest: Digest([1; 32]) }]),
        vec![0xff; 64],
    ];
    for reply in replies {
        for step in ["list", "get"] {
            let answer = reply.clone();
            let server = correct_tree().lying(move |request| match request {
                Request::List { .. } if step == "list" => Some(answer.clone()),
                Request::Get(_) if step == "get" => Some(answer.clone()),
                _ => None,
            });
            let began = Instant::now();
            let (client, output) = run(&server, "get -r t");
            // An immediate end of a listing is an empty folder and no lie.
            let done = output.status == 0 && tree(&client.folder()) == ["t/"];
            assert!(done || output.status != 0, "{step}: {output:?}");
            assert!(
                began.elapsed() < Duration::from_secs(15),
                "{step} with {reply:?}: {:?}",
                began.elapsed()
            );
            assert!(!client.folder().join("t/a").exists());
        }
    }
}
