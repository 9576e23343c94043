//! `cat` and `get -o -`: what goes to standard output, and that nothing else does.

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
fn content_goes_out_and_nothing_else() {
    for json in [false, true] {
        let mut bench = TestClient::new(&[big()], json);
        bench.run(0, &["cat big.bin"]);
        assert_eq!(bench.printed.take_bytes(), content(10_007));
        bench.run(0, &["cat docs/x empty big.bin"]);
        assert_eq!(bench.printed.take_bytes(), [vec![1], content(10_007)].concat());
        bench.run(0, &["get big.bin -o -"]);
        assert_eq!(bench.printed.take_bytes(), content(10_007));
        assert!(bench.names().is_empty());
        let told = bench.told();
        if json {
            let objects: Vec<serde_json::Value> =
                told.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
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
                told.len() == 1 && told[0].starts_with("/big.bin -> -: 10007 bytes in "),
                "{told:?}"
            );
        }
    }
}

#[test]
fn what_fails_is_told_on_standard_error() {
    let mut bench = TestClient::new(&[big()], true);
    bench.run(1, &["cat nothing", "cat docs", "cat /", "cat docs/x nothing docs/x"]);
    bench.run(2, &["cat", "cat -x"]);
    assert_eq!(bench.printed.take_bytes(), [1, 1]);
    let told = bench.told();
    let codes: Vec<String> = told
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
fn another_slave_goes_on_with_the_next_byte() {
    let mut bench = TestClient::new(&[big().cut_after(4), big()], false);
    bench.run(0, &["cat big.bin"]);
    assert_eq!(bench.printed.take_bytes(), content(10_007));
    assert!(
        bench.told()[0].contains("); resuming at byte 4000 from 127.0.0.1:"),
        "{:?}",
        bench.told()
    );
}

#[test]
fn another_slave_goes_on_where_no_digest_was_known() {
    let first = big().cut_after(4);
    let second = big();
    for tree in [&first, &second] {
        tree.unhashed.store(true, Ordering::SeqCst);
    }
    let mut bench = TestClient::new(&[first, second], false);
    bench.run(0, &["cat big.bin"]);
    assert_eq!(bench.printed.take_bytes(), content(10_007));
}

#[test]
fn content_that_was_replaced_is_never_claimed_to_be_whole() {
    let other: Vec<u8> = content(10_007).into_iter().rev().collect();
    for unhashed in [false, true] {
        let (first, second) = (big().cut_after(4), Tree::new(&[("big.bin", other.clone())]));
        first.unhashed.store(unhashed, Ordering::SeqCst);
        second.unhashed.store(unhashed, Ordering::SeqCst);
        let mut bench = TestClient::new(&[first, second], true);
        let status = bench.shell.execute("cat big.bin").status;
        let object: serde_json::Value = serde_json::from_str(bench.told().last().unwrap()).unwrap();
        let wanted = if unhashed { (5, "damaged") } else { (1, "changed") };
        assert_eq!(
            (status, object["error"]["code"].as_str()),
            (wanted.0, Some(wanted.1)),
            "{object}"
        );
        assert!(bench.printed.take_bytes().starts_with(&content(4000)));
    }
}

#[test]
fn with_no_server_left_it_says_how_far_it_came() {
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
