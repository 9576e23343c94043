//! `cat` and `get -o -`: only content goes to standard output.

use std::sync::atomic::Ordering;

use super::tree::{BLOCK, Tree};
use super::{TestClient, content};

fn big() -> Tree {
    Tree::new(&[
        ("big.bin", content(10 * BLOCK as usize + 7)),
        ("empty", vec![]),
        ("docs/x", vec![1]),
    ])
}

#[test]
fn stdout_gets_only_content() {
    for json in [false, true] {
        let mut client = TestClient::new(&[big()], json);
        client.run(0, &["cat big.bin"]);
        assert_eq!(client.printed.take_bytes(), content(10_007));
        client.run(0, &["cat docs/x empty big.bin"]);
        assert_eq!(client.printed.take_bytes(), [vec![1], content(10_007)].concat());
        client.run(0, &["get big.bin -o -"]);
        assert_eq!(client.printed.take_bytes(), content(10_007));
        assert!(client.names().is_empty());
        let messages = client.messages();
        if json {
            let objects: Vec<serde_json::Value> =
                messages.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(
                (&objects[0]["command"], &objects[0]["bytes"], &objects[0]["verified"]),
                (&"cat".into(), &10_007.into(), &true.into())
            );
            assert_eq!(
                (&objects[1]["files"], &objects[2]["command"], &objects[2]["local"]),
                (&3.into(), &"get".into(), &"-".into())
            );
        } else {
            assert!(
                messages.len() == 1 && messages[0].starts_with("/big.bin -> -: 10007 bytes in "),
                "{messages:?}"
            );
        }
    }
}

#[test]
fn failures_go_to_stderr() {
    let mut client = TestClient::new(&[big()], true);
    client.run(1, &["cat nothing", "cat docs", "cat /", "cat docs/x nothing docs/x"]);
    client.run(2, &["cat", "cat -x"]);
    assert_eq!(client.printed.take_bytes(), [1, 1]);
    let messages = client.messages();
    let codes: Vec<String> = messages
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["error"]["code"].to_string()
        })
        .collect();
    assert_eq!(
        codes,
        [
            "\"not-found\"",
            "\"is-folder\"",
            "\"is-folder\"",
            "\"not-found\"",
            "\"usage\"",
            "\"usage\""
        ]
    );
}

#[test]
fn another_slave_continues_with_the_next_byte() {
    let mut client = TestClient::new(&[big().cut_after(4), big()], false);
    client.run(0, &["cat big.bin"]);
    assert_eq!(client.printed.take_bytes(), content(10_007));
    assert!(
        client.messages()[0].contains("); resuming at byte 4000 with 127.0.0.1:"),
        "{:?}",
        client.messages()
    );
}

#[test]
fn another_slave_continues_without_known_digest() {
    let first = big().cut_after(4);
    let second = big();
    for tree in [&first, &second] {
        tree.unhashed.store(true, Ordering::SeqCst);
    }
    let mut client = TestClient::new(&[first, second], false);
    client.run(0, &["cat big.bin"]);
    assert_eq!(client.printed.take_bytes(), content(10_007));
}

#[test]
fn replaced_content_is_never_reported_complete() {
    let other: Vec<u8> = content(10_007).into_iter().rev().collect();
    for unhashed in [false, true] {
        let (first, second) = (big().cut_after(4), Tree::new(&[("big.bin", other.clone())]));
        first.unhashed.store(unhashed, Ordering::SeqCst);
        second.unhashed.store(unhashed, Ordering::SeqCst);
        let mut client = TestClient::new(&[first, second], true);
        let status = client.shell.execute("cat big.bin").status;
        let object: serde_json::Value =
            serde_json::from_str(client.messages().last().unwrap()).unwrap();
        let wanted = if unhashed { (5, "damaged") } else { (1, "changed") };
        assert_eq!(
            (status, object["error"]["code"].as_str()),
            (wanted.0, Some(wanted.1)),
            "{object}"
        );
        assert!(client.printed.take_bytes().starts_with(&content(4000)));
    }
}

#[test]
fn cut_stream_reports_its_offset() {
    let tree = big().cut_after(4);
    let (mut shell, printed) =
        super::shell(super::get::once(tree.slave(1)), tempfile::tempdir().unwrap().keep(), false);
    assert_eq!(shell.execute("cat big.bin").status, 5);
    assert_eq!(printed.take_bytes(), content(4000));
    assert!(
        shell.notices.collected()[0].contains("cut at byte 4000"),
        "{:?}",
        shell.notices.collected()
    );
}
